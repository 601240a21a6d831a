"""How much the batches of a descent are curved, which bounds the steps that they bear.

The curvature of a loss times the squared length of a row, in the coordinates of the descent, is that of the
row's loss; its mean over a batch is never exceeded by the batch, whatever its rows are. Rows drawn at random
hardly ever point the same way, and are curved less than that (Gower et al. 2019).
"""

import numpy as np

from ._metrics import largest_eigenvalue
from ._row_sample import GOLDEN

ROWS_PER_COLUMN = 8  # that tell how far rows point the same way
GRAM_COLUMNS = 256  # up to which their Gram matrix costs less than to multiply by them some times
SMALL_COPY = 20  # times as many rows: then those that are looked at may be copied


def bounds_of_steps(problem, plan, curvature, drawn):
    """A number for each row, shape (m,), whose mean over a batch bounds the curvature of its loss.

    drawn : whether batches are drawn at random from all rows
    """
    lengths = problem.row_norms(plan.batch_size if plan.by_entries else 1)
    lengths += 1
    if problem.weight is not None:  # momentum may carry a small weight's long row on into the next batch
        lengths *= np.maximum(problem.weight, 1)
    if drawn and plan.batch_size > 1 and not plan.by_entries:
        lengths = _of_drawn_rows(problem, lengths, plan.batch_size, curvature)
    if plan.rule.name != "gd":  # momentum lengthens a step by 1 / (1 - mu)
        lengths /= 1 - plan.hyper[0]
    lengths *= curvature
    return lengths


def _of_drawn_rows(problem, lengths, n, curvature):
    """What to take for the squared lengths of rows where batches of n are drawn from them at random.

    The mean curvature of a batch is on average at most an n-th of the longest row's and n - 1 n-ths of the
    largest of all rows together, and steps are safe up to the inverse of twice that (Gower, Loizou, Qian,
    Sailanbayev, Shulgin & Richtarik 2019). Some rows may be far longer than others: what they have beyond the
    length that one row of a batch exceeds counts in full, as if they all pointed the same way.
    """
    usual = np.quantile(lengths, 1 - 1 / n)
    together = _largest_curvature(problem, lengths, usual, curvature)
    shared = 2 * (usual + (n - 1) * together) / n
    excess = np.maximum(lengths - usual, 0.0)
    if excess.mean() + shared >= lengths.mean():
        return lengths
    excess += shared
    return excess


def _largest_curvature(problem, lengths, usual, curvature):
    """Of all rows up to their usual length together, in units of the loss's, as some of them tell it."""
    m, d = problem.X.shape
    size = ROWS_PER_COLUMN * (d + 100)
    rows = slice(None)
    if size * (1 if d < GRAM_COLUMNS else SMALL_COPY) < m:  # spread evenly, over every n-th row too
        rows = np.unique((m * (GOLDEN * np.arange(1, size + 1) % 1.0)).astype(np.intp))
    shares = np.minimum(1.0, usual / lengths[rows])
    if problem.weight is not None:
        shares *= problem.weight[rows]
    if d >= GRAM_COLUMNS:
        return problem.some_rows(rows, shares).lipschitz(curvature, affordable=False, steps=8) / curvature
    h = np.zeros(m)
    h[rows] = shares * (curvature * problem.total_weight / len(shares))
    return largest_eigenvalue(problem.hessian_of(h), exact=64, steps=20) / curvature
