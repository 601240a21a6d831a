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
    start = float(quadratic.value.sum())

    sums = np.vstack([(g * g).sum(axis=0), (g * g).sum(axis=0) * curvature, g * g * inverse / 2])
    n_iter, objective = limits.copy(), np.full(len(plans), np.nan)
    done, diverged = np.zeros(len(plans), bool), np.zeros(len(plans), bool)
    final = np.full(len(plans), np.nan)
    previous = np.full((len(plans), 1), np.nan)  # curvature met at the end of the stretch before
    with np.errstate(all="ignore"):
        for first, series in _stretches(factor**2, sums, limits.max() + 1):
            i = np.arange(first, first + series.shape[1])
            norm, value = series[..., 0], least + series[..., 2:]  # (n, iterations), (n, iterations, k)
            met = series[..., 1] / norm
            before = np.hstack([previous, met[:, :-1]])
            previous = met[:, -1:]
            gap = np.where(before > 0, norm / (2 * before), np.inf)
            gap = np.where(norm == 0, 0.0, gap)
            total = value.sum(axis=2) - problem.floor.sum()
            target = target_gap(problem, value, start, tol[:, None, None]).sum(axis=2)
            within = i < limits[:, None]
            lost = ~(total <= MAX_GROWTH * start + 1e-300) & within
            stop = (lost | ((gap <= target) & np.isfinite(tol)[:, None])) & within & ~done[:, None]
            at = np.argmax(stop, axis=1)
            for j in np.flatnonzero(stop.any(axis=1)):
                done[j], diverged[j], n_iter[j] = True, lost[j, at[j]], first + at[j] + 1
                objective[j] = final[j] = total[j, at[j]]
            for j in np.flatnonzero(~done & (first <= limits) & (limits <= i[-1])):
                final[j] = total[j, limits[j] - first]
            for j in np.flatnonzero(~done & (first < limits) & (limits <= i[-1] + 1)):
                objective[j] = total[j, limits[j] - 1 - first]
            if done.all():
                break
        diverged |= ~(final <= MAX_RISE * start + 1e-300)
        diverged |= (final > start) & (rates * largest > plans[0].rule.limit(0.0))

        updates = np.where(done, n_iter - 1, limits)[:, None]
        moved = np.where(flat, rates[:, None] * updates, (1 - factor**updates) * inverse)
        u = -(moved[:, None, :] * g) @ basis.T
    reasons = np.where(done, "converged", "max_iter")
    return [
        Descent(*each)
        for each in zip(u, n_iter, reasons, objective + problem.floor.sum(), rates, diverged, strict=True)
    ]


def _stretches(square, sums, n):
    """Sums of square^i over the spectrum, i = 0 ... n - 1, some iterations at a time.

    Yields
    ------
    first : int
    series : ndarray of shape (candidates, iterations, rows of sums)
    """
    (candidates, p), q = square.shape, len(sums)
    baby = max(1, int(np.sqrt(n)))
    giants = max(1, AT_A_TIME // (candidates * max(p * q, baby * q)))
    small = np.cumprod(np.stack([np.ones_like(square)] + [square] * (baby - 1), axis=1), axis=1)
    stride, leap = small[:, -1] * square, np.ones_like(square)
    for first in range(0, n, baby * giants):
        wanted = min(giants, -(-(n - first) // baby))
        large = np.cumprod(np.stack([leap] + [stride] * wanted, axis=1), axis=1)
        leap = large[:, -1]
        weighted = large[:, :-1, None, :] * sums  # (candidates, giants, q, p)
        series = small @ weighted.reshape(candidates, wanted * q, p).transpose(0, 2, 1)
        series = series.reshape(candidates, baby, wanted, q).transpose(0, 2, 1, 3)
        yield first, series.reshape(candidates, wanted * baby, q)[:, : n - first]
