"""Gradient descent on a quadratic without descending: every iterate, for many rates, from one eigenbasis.

Along an eigenvector of the Hessian with eigenvalue l, a step of length a multiplies the gradient by 1 - a l.
With g the gradient at zero in the eigenbasis, iterate i has

    u_i = -g (1 - (1 - a l)^i) / l    and the gradient    g (1 - a l)^i,
    at    g^2 (1 - a l)^(2 i) / (2 l)    above the minimum.

So what `by_rule` looks at in every iteration to stop, or to find that it diverges, is known for all of them
at once; the powers of (1 - a l)^2 are products of small and large powers (baby steps, giant steps).
"""

from dataclasses import dataclass

import numpy as np

from ._lockstep import MAX_GROWTH, MAX_RISE, Descent
from ._solvers import target_gap, tolerances

AT_A_TIME = 2_000_000  # numbers
BABY_STEPS = 32


@dataclass
class Spectrum:
    """Squared error and ridge in the eigenbasis of their Hessian.

    Attributes
    ----------
    value : ndarray of shape (k,)
        At zero.
    gradient : ndarray of shape (k, p)
        At zero, along the eigenvectors.
    curvature : ndarray of shape (p,)
    basis : ndarray of shape (p, p), an eigenvector per column
    """

    value: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, quadratic, l2):
        curvature, basis = np.linalg.eigh(quadratic.with_ridge(l2))
        return cls(quadratic.value, quadratic.gradient @ basis, curvature, basis)


def gd_on_quadratics(problem, spectra, which, plans):
    """The textbook descents from zero at constant learning rates.

    Parameters
    ----------
    problem : object with X, loss and floor, as `target_gap` needs them
    spectra : list of Spectrum
    which : list of int, the spectrum of every plan
    plans : list of Plan, alike but for learning rate, tol and max_iter

    Returns
    -------
    descents : list of Descent
    """
    at_a_time = max(1, AT_A_TIME // (BABY_STEPS * len(spectra[0].curvature)))
    descents = []
    for first in range(0, len(plans), at_a_time):
        some = slice(first, first + at_a_time)
        descents += _descents(problem, spectra, np.array(which[some]), plans[some])
    return descents


def _descents(problem, spectra, which, plans):
    curvature = np.stack([s.curvature for s in spectra])[which]  # (n, p)
    g = np.stack([s.gradient for s in spectra])[which]  # (n, k, p)
    largest = np.maximum(curvature[:, -1:], 0.0)
    flat = curvature <= 1e-14 * largest  # directions in which nothing is to be found
    inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=~flat)

    rates = np.array([plan.schedule.eta for plan in plans])
    limits = np.array([plan.max_iter for plan in plans])
    tol = np.array([np.nan if plan.tol is None else plan.tol for plan in plans])
    factor = np.where(g.any(axis=1), 1 - rates[:, None] * curvature, 0.0)  # (n, p)
    value = np.stack([s.value for s in spectra])[which]  # (n, k)
    least = value - (g * g / 2 * inverse[:, None]).sum(axis=2)
    floor = problem.floor.sum()
    start = value.sum(axis=1) - floor

    norms = (g * g).sum(axis=1)
    sums = np.concatenate(
        [np.stack([norms, norms * curvature], axis=1), g * g / 2 * inverse[:, None]], axis=1
    )
    n_iter, reasons = limits.copy(), np.full(len(plans), "max_iter", dtype=object)
    objective, final = np.full(len(plans), np.nan), np.full(len(plans), np.nan)
    diverged = np.zeros(len(plans), bool)
    last_met = np.full((len(plans), 1), np.nan)  # curvature met at the end of the stretch before
    powers = _Powers(factor**2, sums, limits.max() + 1)
    with np.errstate(all="ignore"):
        while len(powers.id):
            first, series = powers.sums()
            id, i = powers.id, np.arange(first, first + series.shape[1])
            norm, value = series[..., 0], least[id, None] + series[..., 2:]  # (n, iterations), (.., k)
            met = series[..., 1] / norm
            before = np.hstack([last_met[id], met[:, :-1]])
            last_met[id] = met[:, -1:]
            gap = np.where(before > 0, norm / (2 * before), np.inf)
            gap = np.where(norm == 0, 0.0, gap)
            total = value.sum(axis=2) - floor
            near = tolerances(problem, start[id, None, None], tol[id, None, None])
            target = target_gap(problem, value, near).sum(axis=2)
            lost = ~(total <= MAX_GROWTH * start[id, None] + 1e-300)
            stop = (lost | ((gap <= target) & np.isfinite(tol[id, None]))) & (i < limits[id, None])
            ended, at = stop.any(axis=1), np.argmax(stop, axis=1)
            j = id[ended]
            diverged[j], n_iter[j] = lost[ended, at[ended]], first + at[ended] + 1
            objective[j] = final[j] = total[ended, at[ended]]
            reasons[j] = "converged"
            for limit, where in ((limits[id] - 1, objective), (limits[id], final)):
                here = np.flatnonzero(~ended & (first <= limit) & (limit <= i[-1]))
                where[id[here]] = total[here, limit[here] - first]
            powers.keep(~ended & (i[-1] < limits[id]))
        diverged |= ~(final <= MAX_RISE * start + 1e-300)
        diverged |= (final > start) & (rates * largest[:, 0] > plans[0].rule.limit(0.0))

        updates = np.where(reasons == "converged", n_iter - 1, limits)[:, None]
        moved = np.where(flat, rates[:, None] * updates, (1 - factor**updates) * inverse)
        steps = moved[:, None, :] * g
        u = np.stack([-step @ spectra[s].basis.T for step, s in zip(steps, which, strict=True)])
    each = zip(u, n_iter, reasons, objective + floor, rates, diverged, strict=True)
    return [Descent(*descent) for descent in each]


class _Powers:
    """Sums of square^i over the spectrum, i = 0, 1, ..., a stretch of iterations at a time.

    Parameters
    ----------
    square : ndarray of shape (n, p)
    sums : ndarray of shape (n, q, p)
        What the powers are multiplied with.
    n_powers : int

    Attributes
    ----------
    id : ndarray of int
        Rows that are still wanted.
    """

    def __init__(self, square, sums, n_powers):
        n, p = square.shape
        self.baby = max(1, min(BABY_STEPS, n_powers))
        self.giants = max(1, min(8, AT_A_TIME // (n * self.baby * p)))
        self.first, self.id, self.weighted = 0, np.arange(n), sums
        self.small = np.ones((n, self.baby, p))
        for i in range(1, self.baby):
            np.multiply(self.small[:, i - 1], square, out=self.small[:, i])
        self.stride = self.small[:, -1] * square

    def keep(self, mask):
        for name in ("id", "small", "stride", "weighted"):
            setattr(self, name, getattr(self, name)[mask])

    def sums(self):
        """The next stretch.

        Returns
        -------
        first : int
        series : ndarray of shape (n, iterations, q)
        """
        (n, q, p), first = self.weighted.shape, self.first
        weighted = np.empty((n, self.giants, q, p))
        for giant in range(self.giants):
            weighted[:, giant] = self.weighted
            self.weighted = self.weighted * self.stride[:, None]
        series = self.small @ weighted.reshape(n, self.giants * q, p).transpose(0, 2, 1)
        series = series.reshape(n, self.baby, self.giants, q).transpose(0, 2, 1, 3)
        self.first += self.baby * self.giants
        return first, series.reshape(n, -1, q)
