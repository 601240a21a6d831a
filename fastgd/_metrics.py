"""The metric of a descent: what the gradient is divided by.

A metric P turns the gradient into the step -P^-1 gradient. Where P is at least the Hessian, that step
never overshoots (the majorisation of a proximal gradient step). In the problem's coordinates:

- `Diagonal`: P = L I, one number;
- `Gram`: P = sum_i h_i x_i x_i^T / m + l2, with h a bound of the loss's curvature (Bohning 1992) or
  the curvature where the descent stands. One matrix for all outputs, or one for each.
"""

import numpy as np
from scipy.linalg import lapack

GRAM_LIMIT = 2048  # columns up to which a d x d matrix and its factorisation are cheap beside X
TINY = np.finfo(float).tiny


class Diagonal:
    """P = lipschitz * I; not `certified` where it is an estimate of the bound only."""

    def __init__(self, lipschitz, certified=True):
        self.lipschitz, self.certified = float(lipschitz), certified

    def solve(self, gradient):
        return gradient / self.lipschitz

    def apply(self, step):
        return step * self.lipschitz

    def tightened(self, factor):
        return Diagonal(self.lipschitz * factor, self.certified)


class Gram:
    """P and its Cholesky factors.

    Parameters
    ----------
    matrices : list of ndarrays of shape (p, p)
        One for all outputs, one per output, or one of size k p over all outputs at once; diagonals of
        size one by the choice of coordinates.
    ridge : float
        Added to the diagonals, relative to their largest entry.
    """

    # Relative to unit diagonals: far below what the data say, far above what Cholesky rounds off.
    RIDGE = 1e-11

    certified = True
    lipschitz = 1.0  # P itself is the bound

    def __init__(self, matrices, ridge=RIDGE):
        self.matrices, self.ridge = matrices, ridge
        self.factors = [self._factor(P) for P in matrices]

    def _factor(self, P):
        scale = max(float(P.diagonal().max()), TINY)
        ridge = self.ridge * scale
        while True:
            damped = P.copy()
            damped.reshape(-1)[:: len(P) + 1] += ridge
            factor, failed = lapack.dpotrf(damped.T, lower=1, overwrite_a=1)
            if not failed:
                return factor
            ridge *= 100

    def solve(self, gradient):
        if len(self.factors) == 1:
            rows = gradient.reshape(-1, len(self.factors[0]))
            return lapack.dpotrs(self.factors[0], rows.T, lower=1)[0].T.reshape(gradient.shape)
        return np.stack(
            [lapack.dpotrs(f, g, lower=1)[0] for f, g in zip(self.factors, gradient, strict=True)]
        )

    def apply(self, step):
        return times(self.matrices, step)

    def tightened(self, factor):
        return Gram([P * factor for P in self.matrices], self.ridge)


def times(matrices, u):
    """u (k, p) by symmetric matrices: one for all rows, one for each row, or one for all of u."""
    if len(matrices) == 1:
        return (u.reshape(-1, len(matrices[0])) @ matrices[0]).reshape(u.shape)
    return np.stack([P @ row for P, row in zip(matrices, u, strict=True)])


def largest_eigenvalue(P, exact=256, steps=200):
    """Exact for small P; else by power iteration, the residual added so that it is no lower bound."""
    if len(P) <= exact:
        return float(max(np.linalg.eigvalsh(P)[-1], 0.0))
    v = np.linspace(1.0, 2.0, len(P))
    value = 0.0
    for _ in range(steps):
        v /= np.linalg.norm(v)
        Pv = P @ v
        last, value = value, float(v @ Pv)
        residual = float(np.linalg.norm(Pv - value * v))
        if value <= 0 or abs(value - last) <= 1e-9 * value:
            break
        v = Pv
    return value + residual
