"""R(w): the penalties of SGDRegressor, as one pair of numbers.

alpha * R(w) = l2 / 2 |w|^2 + l1 |w|_1, the intercept left out. In coordinates w = scale * u the
formulas keep their form with a coefficient per column.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Penalty:
    l2: float = 0.0
    l1: float = 0.0

    @classmethod
    def make(cls, name, alpha, l1_ratio):
        share = {None: None, "l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[name]
        if share is None:
            return cls()
        return cls(l2=alpha * (1 - share), l1=alpha * share)

    def value(self, theta):
        """alpha R(w) of every output, shape (k,)."""
        w = theta[:, :-1].astype(np.float64, copy=False)
        value = np.zeros(len(w))
        if self.l2:
            value += self.l2 / 2 * np.einsum("kj,kj->k", w, w)
        if self.l1:
            value += self.l1 * np.abs(w).sum(axis=1)
        return value


def soft_threshold(u, threshold):
    """Proximal operator of threshold * |u|."""
    return np.sign(u) * np.maximum(np.abs(u) - threshold, 0.0)
