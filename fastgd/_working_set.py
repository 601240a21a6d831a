"""An L1 penalty on more columns than a Gram matrix is worth: the descent of few of them at a time.

Most weights are zero in the end. The columns whose weights are not, and those that would lower the objective
most by themselves, are a problem of their own, which an ordinary descent minimises. One pass over all columns
then tells which others would still lower it (Massias, Gramfort & Salmon 2018).
"""

import numpy as np

from ._active_set import LARGEST
from ._solvers import Result, target_gap, tolerances

FEWEST = 100  # columns that enter at a time, or as many as have weights


def working_sets(problem, result, monitor, solve, curvature, *, tol):
    """Minimise a smooth loss with an L1 penalty by solve(problem of some columns, Result).

    curvature : bound, or typical value, of the loss's, by which gains of single columns are told

    Returns
    -------
    finished : bool
        False where more weights than `LARGEST` are not zero, or will not be: the rest is for another solver.
    """
    thresholds = problem.l1_thresholds()
    most = problem.d if problem.penalty.l2 else problem.k * len(problem.X)  # of weights that are not zero
    limits, lowest = None, np.inf
    while True:
        value, gradient = problem.value_and_grad(result.u)
        objective = value + problem.l1_value(result.u)
        with_weights = (result.u[:, :-1] != 0).any(axis=0)
        gains = np.maximum(np.abs(gradient) - thresholds, 0.0)[:, :-1] ** 2 / (2 * curvature)
        gains[:, with_weights] = 0.0
        expected = np.count_nonzero(with_weights)
        if limits is None:
            limits = tolerances(problem, objective, tol)
        else:
            settled = (gains.sum(axis=1) <= target_gap(problem, objective, limits)).all()
            if settled or not objective.sum() < lowest:  # rounding is all that is left
                result.gap += float(gains.sum())
                return True
            expected += np.count_nonzero(gains.any(axis=0))
        if np.count_nonzero(with_weights) > LARGEST or min(expected, most) > LARGEST:
            result.reason, result.gap = Result.reason, Result.gap  # those of a part say nothing of all
            return False
        lowest = objective.sum()
        columns = _columns(with_weights, gains.sum(axis=0))
        if not _minimise(problem, columns, result, monitor, solve):
            return True


def _columns(with_weights, gains):
    """Columns of the next problem, ascending; one at least."""
    n = max(FEWEST, np.count_nonzero(with_weights))
    worst = np.argsort(-gains)[:n]
    chosen = with_weights.copy()
    chosen[worst[gains[worst] > 0]] = True
    chosen[worst[0]] = True
    return np.flatnonzero(chosen)


def _minimise(problem, columns, result, monitor, solve):
    """The problem of some columns; whether it converged, so that there is more to do."""
    places = np.append(columns, problem.d)
    part, inner = problem.of_columns(columns), Result(np.take(result.u, places, axis=1))
    to_theta, value_of = monitor.to_theta, monitor.objective

    def among_all(few):
        all_ = np.zeros((problem.k, problem.d + 1))
        all_[:, places] = few
        return all_

    monitor.to_theta = lambda theta: to_theta(among_all(theta))
    monitor.objective = value_of and (lambda theta: value_of(among_all(theta)))
    try:
        solve(part, inner)
    finally:
        monitor.to_theta, monitor.objective = to_theta, value_of
        result.u, result.reason, result.gap = among_all(inner.u), inner.reason, inner.gap
    return inner.reason == "converged"
