"""A chunk of wide sparse rows of a stream, as a problem of the columns that it has entries in.

The weights of all others change by the penalty alone. Plain descent in scaled columns applies it in
continuous time (`epochs.scaled_epoch`), so that what becomes of them follows from the sum of the steps. A
chunk costs its entries, and one look at every weight that is not zero.
"""

from dataclasses import replace

import numpy as np

from ._coordinates import Coordinates, column_means_and_variances, standardised
from ._descent import one_epoch, set_scales, typical_curvature
from ._linear import LinearProblem
from ._penalties import soft_threshold

COLUMNS_AT_A_TIME = 8192  # what a second-level cache holds some arrays of


def is_wide_chunk(problem, plan):
    return plan.in_scaled_columns and problem.wide_and_sparse


def epoch_of_columns(problem, plan, theta, training, rows_before):
    """`one_epoch` over the rows of a problem, where `is_wide_chunk`.

    Parameters
    ----------
    theta : ndarray of shape (k, d + 1)
    training : dict
        Its moments are brought up to date; those about zero are all that is known of wide columns.

    Returns
    -------
    state : EpochState
        In the coordinates of theta.
    step, loss : float
    """
    columns, X = problem.X.packed()
    few = LinearProblem(
        X, problem.Y, problem.weight, problem.loss, problem.penalty, k=problem.k,
        fit_intercept=problem.fit_intercept, n_threads=problem.n_threads,
    )  # fmt: skip
    few.wide_and_sparse = True
    n, square = _squares(training.get("moments"), few, columns, problem.d)
    set_scales(few, plan, moments=(np.zeros(few.d), square[columns] / n))
    places, before = np.append(columns, problem.d), training["state"]
    state = before and _of_places(before, places)
    start = np.take(theta, places, axis=1)
    state, step, loss = one_epoch(few, plan, start, state, training["rng"], rows_before)
    u, mean = _after_penalty(few, theta, before, state, square, n)
    to_theta = few.coordinates.to_theta
    u[:, places] = to_theta(state.u.astype(np.float64))
    if mean.size:
        mean[:, places] = to_theta(state.mean.astype(np.float64))
    training["moments"] = n, 0.0, square
    return replace(state, u=u, mean=mean, coordinates=Coordinates()), step, loss


def _squares(seen, few, columns, d):
    """Weight and sums of squares of all columns, with those of a chunk."""
    n, mean, square = seen or (0.0, 0.0, np.zeros(d))
    square = square + n * mean**2  # those about the mean, if rows before were seen as dense ones are
    mean, variance = column_means_and_variances(few.X, few.weight, few.n_threads, names=columns)
    square[columns] += few.total_weight * (variance + mean**2)
    return n + few.total_weight, square


def _of_places(state, places):
    """The same for some of the parameters, in the coordinates of theta."""
    to_theta, mean = state.coordinates.to_theta, state.mean
    mean = np.take(to_theta(mean), places, axis=1) if mean.size else mean
    u = np.take(to_theta(state.u), places, axis=1)
    return replace(state, u=u, mean=mean, coordinates=Coordinates())


def _after_penalty(few, theta, before, state, square, n):
    """theta and, where there is one, its average, after the time of an epoch without rows."""
    l2, l1, averaging = few.penalty.l2, few.penalty.l1, state.mean.size > 0
    ridge, count, counted = l2 / typical_curvature(few), state.mean_count[0], 0.0
    u, mean = theta.copy(), theta.copy() if averaging else state.mean
    if averaging and before and before.mean.size:
        counted, last_mean = before.mean_count[0], before.coordinates.to_theta(before.mean)
    seen = np.flatnonzero(square > 0)  # the weights of others stay where they are
    for first in range(0, len(seen) if l2 or l1 or averaging else 0, COLUMNS_AT_A_TIME):
        part = seen[first : first + COLUMNS_AT_A_TIME]
        w, coordinates = theta[:, part], standardised(0.0, square[part] / n, ridge=ridge, fit_intercept=False)
        elapsed = state.time * coordinates.scale**2
        after = w * np.exp(-l2 * elapsed)
        if l1:
            after = soft_threshold(after, l1 * elapsed)
        u[:, part] = after
        if averaging and count:
            met = (count - counted) * (w + after) / 2
            if counted:
                met += counted * last_mean[:, part]
            mean[:, part] = met / count
    return u, mean
