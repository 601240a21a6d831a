"""A chunk of a stream, as a linear model learns from it: one epoch, in scales that all chunks have told.

A chunk of wide sparse rows is a problem of the columns that it has entries in. The weights of all others
change by the penalty alone. Plain descent in scaled columns applies it in continuous time
(`epochs.scaled_epoch`), so that what becomes of them follows from the sum of the steps.

`training` is what an estimator keeps between calls: the state of the epochs in the coordinates of theta,
theta, the random numbers, the moments of the columns (by entries about zero), the number of rows, and whether
its chunks are learned from by entries.
"""

from dataclasses import replace

import numpy as np

from ._coordinates import (
    LEAST_SQUARE,
    Coordinates,
    column_means_and_variances,
    merged_moments,
    refuse_overflow,
    standardised,
)
from ._descent import one_epoch, set_scales, typical_curvature
from ._linear import LinearProblem
from ._penalties import soft_threshold

COLUMNS_AT_A_TIME = 8192  # what a second-level cache holds some arrays of


def learn_from_chunk(problem, plan, theta, training):
    """One epoch, after which training is up to date.

    Parameters
    ----------
    theta : ndarray of shape (k, d + 1)
        Where to start.

    Returns
    -------
    solution : ndarray of shape (k, d + 1)
        The average where there is one, else the last iterate.
    step, objective : float
    """
    before = training["state"] and _in_columns(training["state"])
    if before and plan.average and before.averaged:
        theta = before.u
    epoch = _epoch_in_its_columns if plan.in_scaled_columns else _epoch_in_all_columns
    state, step, loss, moments = epoch(problem, plan, theta, before, training)
    rows = training.get("rows", 0) + len(problem.X)
    training |= {"state": state, "theta": state.u, "moments": moments, "rows": rows}
    if plan.looks_at_columns:
        training["by_entries"] = plan.by_entries
    return state.solution, step, loss + float(problem.penalty.value(state.u).sum())


def _epoch_in_all_columns(problem, plan, theta, before, training):
    """State, step, mean loss and moments."""
    moments = training.get("moments")
    if plan.auto_rate or plan.preconditioner == "diag":
        new = problem.column_moments()
        moments = n, mean, square = merged_moments(moments, new) if moments else new
        set_scales(problem, plan, moments=(mean, square / n), rows_before=training.get("rows", 0))
    state, step, loss = one_epoch(problem, plan, theta, before, training["rng"])
    return _in_columns(state, theta, before), step, loss, moments


def _epoch_in_its_columns(problem, plan, theta, before, training):
    """The same, where no column but those that the chunk has entries in is looked at."""
    columns, X = problem.X.packed()
    part = LinearProblem(
        X, problem.Y, problem.weight, problem.loss, problem.penalty, k=problem.k,
        fit_intercept=problem.fit_intercept, n_threads=problem.n_threads,
    )  # fmt: skip
    n, square = _squares(training.get("moments"), part, columns, problem.d)
    moments = np.zeros(part.d), square[columns] / n
    set_scales(part, plan, moments=moments, rows_before=training.get("rows", 0))
    places = np.append(columns, problem.d)
    start, last = np.take(theta, places, axis=1), before and _of_places(before, places)
    state, step, loss = one_epoch(part, plan, start, last, training["rng"])
    u, mean = _after_penalty(part, theta, before, state, square, n)
    state = _in_columns(state, start, last)
    met = slice(None) if X.size else slice(-1, None)  # of rows without entries, one column stands in
    u[:, places[met]] = state.u[:, met]
    if mean.size:
        mean[:, places[met]] = state.mean[:, met]
    return replace(state, u=u, mean=mean), step, loss, (n, 0.0, square)


def _in_columns(state, theta=None, before=None):
    """A state in the coordinates of theta, in double.

    theta, before : what the epoch began with, whose weights of columns of scale 0 stay
    """

    def moved(u, held):
        return state.coordinates.to_theta(u.astype(np.float64, copy=False), held)

    mean = state.mean
    if mean.size:
        mean = moved(mean, before.mean if before and before.averaged else theta)
    return replace(state, u=moved(state.u, theta), mean=mean, coordinates=Coordinates())


def _of_places(state, places):
    """The same for some of the parameters."""
    mean = np.take(state.mean, places, axis=1) if state.mean.size else state.mean
    return replace(state, u=np.take(state.u, places, axis=1), mean=mean)


def _squares(seen, part, columns, d):
    """Weight and sums of squares of all columns, with those of a chunk."""
    n, mean, square = seen or (0.0, 0.0, np.zeros(d))
    square = square + n * mean**2  # those about the mean, if rows before were seen as dense ones are
    mean, variance = column_means_and_variances(part.X, part.weight, part.n_threads, names=columns)
    with np.errstate(over="ignore"):
        new = variance + mean**2
    refuse_overflow(new, columns)
    square[columns] += part.total_weight * np.where(new > LEAST_SQUARE, new, 0.0)
    return n + part.total_weight, square


def _after_penalty(part, theta, before, state, square, n):
    """theta and, where there is one, its average, after the time of an epoch without rows."""
    l2, l1, averaging = part.penalty.l2, part.penalty.l1, state.averaged
    ridge, u, mean = l2 / typical_curvature(part), theta.copy(), state.mean
    if averaging:
        share = before.mean_count[0] / state.mean_count[0] if before and before.averaged else 0.0
        last = share * before.mean if share else 0.0
        mean = last + (1 - share) * theta
    elif mean.size:
        mean = np.zeros_like(theta)
    seen = np.flatnonzero(square > 0)  # the weights of others stay where they are
    for first in range(0, len(seen) if l2 or l1 else 0, COLUMNS_AT_A_TIME):
        some = seen[first : first + COLUMNS_AT_A_TIME]
        w, coordinates = theta[:, some], standardised(0.0, square[some] / n, ridge=ridge, fit_intercept=False)
        elapsed = state.time * coordinates.scale**2
        after = w * np.exp(-l2 * elapsed)
        if l1:
            after = soft_threshold(after, l1 * elapsed)
        u[:, some] = after
        if averaging:
            mean[:, some] += (1 - share) * (after - w) / 2
    return u, mean
