"""A problem of squared error that is known by its moments: the rows are not there any more.

Means, Gram matrix and products with the targets are all that a descent asks of the rows, whatever its metric
and its rate. They are taken about a point amid the rows, for as raw sums they would lose the digits that a
column with a large offset has its information in.
"""

from dataclasses import dataclass

import numpy as np

from ._coordinates import Coordinates
from ._linear import LinearProblem

SAMPLE = 101  # rows; an odd number, whose medians are entries: a constant column is shifted to zero


@dataclass
class Centre:
    """A point amid the rows, (d,) and (k,); zero where no intercept could make up for it."""

    shift: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, problem):
        X, Y = problem.X, problem.Y
        if not problem.fit_intercept:
            return cls(np.zeros(problem.d), np.zeros(problem.k))
        rows = np.linspace(0, len(X) - 1, min(SAMPLE, len(X) - (len(X) + 1) % 2)).astype(int)
        return cls(np.median(X[rows].astype(np.float64), axis=0), Y.mean(axis=1, dtype=np.float64))

    def targets(self, Y):
        return Y.astype(np.float64) - self.target[:, None]

    def zero(self):
        """In the shifted problem, where those of the rows as they are would be zero."""
        theta = np.zeros((len(self.target), len(self.shift) + 1))
        theta[:, -1] = -self.target
        return theta

    def back(self, theta):
        """theta (k, d + 1) of the shifted problem as that of the rows as they are."""
        theta = theta.copy()
        theta[:, -1] += self.target - theta[:, :-1] @ self.shift
        return theta


class MomentProblem(LinearProblem):
    """The interface of `LinearProblem` from moments.

    Parameters
    ----------
    problem : LinearProblem
        Of squared error; lends loss, shapes and dtype.
    quadratic : Quadratic
        The squared error at zero.
    penalty : Penalty
    """

    def __init__(self, problem, quadratic, penalty):
        vars(self).update(vars(problem))
        self.quadratic, self.penalty, self.coordinates = quadratic, penalty, Coordinates()

    def _loss_and_grad(self, theta, curvature):
        q = self.quadratic
        H_theta = theta @ q.hessian
        return q.value + ((q.gradient + 0.5 * H_theta) * theta).sum(axis=1), q.gradient + H_theta

    def hessian_bound(self, curvature):
        A = curvature * self.quadratic.hessian
        if not self.coordinates.identity:
            scale, shift = self.coordinates.scale, self.coordinates.shift
            T = np.diag(np.append(scale, 1.0))
            T[-1, :-1] = -scale * shift
            A = T.T @ A @ T
        return self._add_ridge(A)

    def means_and_variances(self):
        H = self.quadratic.hessian
        mean, power = H[-1, :-1], np.diagonal(H)[:-1]  # without an intercept, the mean counts as none
        variance = power - mean**2
        variance[variance <= 1e-13 * power] = 0.0  # rounding is all that varies
        return mean, variance

    def baseline(self):
        return -self.quadratic.gradient[:, -1]
