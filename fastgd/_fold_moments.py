"""Squared error on every fold of a table from one reading of it.

One Gram matrix per part is computed (`_parts.py`), and that of a fold is the sum of those of its parts: the
table is read once, however many folds there are, and nothing is subtracted, so an outlier that is held out
leaves no trace.
"""

from dataclasses import dataclass

import numpy as np

from ._compiled import moments


@dataclass
class Quadratic:
    """Mean of (x . w + b - y)^2 / 2 as value + gradient . u + u^T hessian u / 2, without penalty.

    Attributes
    ----------
    value : ndarray of shape (k,)
    gradient : ndarray of shape (k, d + 1)
    hessian : ndarray of shape (d + 1, d + 1)
    """

    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray

    @classmethod
    def of_parts(cls, member, sums, total, fit_intercept=True):
        """From the moments of the parts that `member` is not 0 for, and their weight."""
        squares, products, hessian = (np.tensordot(member, of_parts, 1) / total for of_parts in sums)
        if not fit_intercept:
            hessian[-1] = hessian[:, -1] = products[:, -1] = 0
        return cls(squares / 2, -products, hessian)

    def with_ridge(self, l2):
        """The Hessian with the L2 penalty, which leaves the intercept alone."""
        hessian = self.hessian.copy()
        hessian.flat[: -1 : len(hessian) + 1] += l2
        return hessian


def quadratics_of_folds(X, Y, parts, tests, *, fit_intercept, n_threads, shift=None):
    """The squared error of every fold on its training rows, and on those that it holds out.

    Parameters
    ----------
    X : ndarray of shape (m, d), float32 or float64, C- or Fortran-ordered
    Y : ndarray of shape (k, m)
    parts : Parts
        Of X.
    tests : list of ndarrays
        Of row indices, where the test rows are in the table.
    shift : ndarray of shape (d,) or None
        What to subtract from the columns first.

    Returns
    -------
    trained : list of Quadratic
    held_out : list of Quadratic or None
        Of the test rows, intercept and all. None where they are no parts of the table.
    """
    shift = np.zeros(X.shape[1]) if shift is None else shift
    Y = np.ascontiguousarray(Y, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = moments.moments_of_parts(X, Y, parts.rows, parts.weight, parts.ends, shift, n_threads)
    trained, held_out = [], []
    for f, (member, total, test) in enumerate(zip(parts.members, parts.total_weight, tests, strict=True)):
        trained.append(Quadratic.of_parts(member, sums, total, fit_intercept))
        complete = parts.holds_out(f, test)
        held_out.append(Quadratic.of_parts(1 - member, sums, len(test)) if complete else None)
    return trained, held_out
