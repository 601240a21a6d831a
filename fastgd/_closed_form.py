"""Gradient descent on a quadratic without descending: every iterate, for many rates, from one eigenbasis.

Along an eigenvector of the Hessian with eigenvalue l, a step of length a multiplies the gradient by 1 - a l.
With g the gradient at zero in the eigenbasis, iterate i has

    u_i = -g (1 - (1 - a l)^i) / l    and the gradient    g (1 - a l)^i,
    at    g^2 (1 - a l)^(2 i) / (2 l)    above the minimum.

So what `by_rule` looks at in every iteration to stop, or to find that it diverges, is known for all of them
at once; the powers of (1 - a l)^2 are products of small and large powers (baby steps, giant steps).
"""

import numpy as np

from ._lockstep import MAX_GROWTH, MAX_RISE, Descent
from ._solvers import target_gap

AT_A_TIME = 2_000_000  # numbers


def gd_on_quadratic(problem, quadratic, plans):
    """The textbook descent from zero at every plan's constant learning rate.

    Parameters
    ----------
    problem : object with X, loss and floor, as `target_gap` needs them
    quadratic : Quadratic
    plans : list of Plan, alike but for learning rate, tol and max_iter

    Returns
    -------
    descents : list of Descent
    """
    hessian = quadratic.with_ridge(plans[0].penalty.l2)
    curvature, basis = np.linalg.eigh(hessian)
    g = quadratic.gradient @ basis  # (k, p)
    largest = max(curvature[-1], 0.0)
    flat = curvature <= 1e-14 * largest  # directions in which nothing is to be found
    inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=~flat)

    rates = np.array([plan.schedule.eta for plan in plans])
    limits = np.array([plan.max_iter for plan in plans])
    tol = np.array([np.nan if plan.tol is None else plan.tol for plan in plans])
    factor = np.where(g.any(axis=0), 1 - rates[:, None] * curvature, 0.0)  # (n, p)
    least = quadratic.value - (g * g / 2) @ inverse
    floor = problem.floor.sum()
    start = float(quadratic.value.sum()) - floor

    sums = np.vstack([(g * g).sum(axis=0), (g * g).sum(axis=0) * curvature, g * g * inverse / 2])
    n_iter, reasons = limits.copy(), ["max_iter"] * len(plans)
    objective, final = np.full(len(plans), np.nan), np.full(len(plans), np.nan)
    diverged = np.zeros(len(plans), bool)
    last_met = np.full((len(plans), 1), np.nan)  # curvature met at the end of the stretch before
    powers = _Powers(factor**2, limits.max() + 1)
    with np.errstate(all="ignore"):
        while len(powers.id):
            first, series = powers.sums(sums)
            id, i = powers.id, np.arange(first, first + series.shape[1])
            norm, value = series[..., 0], least + series[..., 2:]  # (n, iterations), (n, iterations, k)
            met = series[..., 1] / norm
            before = np.hstack([last_met[id], met[:, :-1]])
            last_met[id] = met[:, -1:]
            gap = np.where(before > 0, norm / (2 * before), np.inf)
            gap = np.where(norm == 0, 0.0, gap)
            total = value.sum(axis=2) - floor
            target = target_gap(problem, value, start, tol[id, None, None]).sum(axis=2)
            lost = ~(total <= MAX_GROWTH * start + 1e-300)
            stop = (lost | ((gap <= target) & np.isfinite(tol[id, None]))) & (i < limits[id, None])
            at = np.argmax(stop, axis=1)
            for row, j in enumerate(id):
                if stop[row].any():
                    diverged[j], n_iter[j] = lost[row, at[row]], first + at[row] + 1
                    objective[j] = final[j] = total[row, at[row]]
                    reasons[j] = "converged"
                    continue
                for limit, where in ((limits[j] - 1, objective), (limits[j], final)):
                    if first <= limit <= i[-1]:
                        where[j] = total[row, limit - first]
            powers.keep(~stop.any(axis=1) & (i[-1] < limits[id]))
        diverged |= ~(final <= MAX_RISE * start + 1e-300)
        diverged |= (final > start) & (rates * largest > plans[0].rule.limit(0.0))

        updates = np.where(np.array(reasons) == "converged", n_iter - 1, limits)[:, None]
        moved = np.where(flat, rates[:, None] * updates, (1 - factor**updates) * inverse)
        u = -(moved[:, None, :] * g) @ basis.T
    return [
        Descent(*each) for each in zip(u, n_iter, reasons, objective + floor, rates, diverged, strict=True)
    ]


class _Powers:
    """Sums of square^i over the spectrum, i = 0, 1, ..., a stretch of iterations at a time.

    Parameters
    ----------
    square : ndarray of shape (n, p)
    n_powers : int

    Attributes
    ----------
    id : ndarray of int
        Rows that are still wanted.
    """

    def __init__(self, square, n_powers):
        n, p = square.shape
        self.baby = max(1, min(32, n_powers))
        self.giants = max(1, min(8, AT_A_TIME // (n * self.baby * p)))
        self.first, self.id = 0, np.arange(n)
        steps = np.stack([np.ones_like(square)] + [square] * (self.baby - 1), axis=1)
        self.small = np.cumprod(steps, axis=1)
        self.stride, self.leap = self.small[:, -1] * square, np.ones_like(square)

    def keep(self, mask):
        for name in ("id", "small", "stride", "leap"):
            setattr(self, name, getattr(self, name)[mask])

    def sums(self, sums):
        """The next stretch.

        Returns
        -------
        first : int
        series : ndarray of shape (n, iterations, rows of sums)
        """
        n, p = self.leap.shape
        first, q = self.first, len(sums)
        large = np.cumprod(np.stack([self.leap] + [self.stride] * self.giants, axis=1), axis=1)
        self.leap = large[:, -1]
        weighted = large[:, :-1, None, :] * sums  # (n, giants, q, p)
        series = self.small @ weighted.reshape(n, self.giants * q, p).transpose(0, 2, 1)
        series = series.reshape(n, self.baby, self.giants, q).transpose(0, 2, 1, 3)
        self.first += self.baby * self.giants
        return first, series.reshape(n, -1, q)
