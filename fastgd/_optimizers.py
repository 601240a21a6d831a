"""Update rules by name: the arrays of state that each needs, and the largest rate that it bears.

The rules themselves are in src/updates.pxd.
"""

from dataclasses import dataclass

import numpy as np

from ._compiled import epochs


@dataclass(frozen=True)
class Rule:
    """An update rule: how a gradient becomes a step.

    Attributes
    ----------
    name : str
    slots : int
        Arrays of state, each of the size of the parameters, zero at the start.
    limit : callable or None
        momentum -> largest learning rate on a quadratic of curvature 1; None where a step does not
        grow with the gradient.
    """

    name: str
    slots: int
    limit: object = None

    @property
    def id(self):
        return epochs.RULE_IDS[self.name]

    def init(self, n_parameters, dtype=np.float64):
        return np.zeros((self.slots, n_parameters), dtype)


RULES = {
    rule.name: rule
    for rule in (
        Rule("gd", 0, lambda mu: 2.0),
        Rule("momentum", 1, lambda mu: 2.0 * (1 + mu)),
        Rule("nesterov", 1, lambda mu: 2.0 * (1 + mu) / (1 + 2 * mu)),
        Rule("adagrad", 1),
        Rule("rmsprop", 1),
        Rule("adam", 2),
        Rule("adamw", 2),
    )
}
ACCELERATED_LIMIT = 4.0 / 3.0  # Nesterov's rule as its momentum tends to 1
