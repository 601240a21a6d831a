"""Squared error on every fold of a table from one reading of it.

Rows that are in the training sets of the same folds form a part: five folds have five. One Gram matrix per
part is computed, and that of a fold is the sum of those of its parts: the table is read once, however many
folds there are, and nothing is subtracted, so an outlier that is held out leaves no trace.
"""

from dataclasses import dataclass

import numpy as np

from ._compiled import linear

MAX_PARTS = 4  # times the number of folds
ROWS_AT_A_TIME = 8192


@dataclass
class Quadratic:
    """Mean of (x . w + b - y)^2 / 2 as value + gradient . u + u^T hessian u / 2, without penalty.

    Attributes
    ----------
    value : ndarray of shape (k,)
    gradient : ndarray of shape (k, d + 1)
    hessian : ndarray of shape (d + 1, d + 1)
    """

    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray

    def with_ridge(self, l2):
        """The Hessian with the L2 penalty, which leaves the intercept alone."""
        hessian = self.hessian.copy()
        hessian.flat[: -1 : len(hessian) + 1] += l2
        return hessian


def quadratics_of_folds(X, Y, weights, trains, *, fit_intercept, n_threads):
    """The squared error of every fold.

    Parameters
    ----------
    X : ndarray of shape (m, d), float32 or float64, C- or Fortran-ordered
    Y : ndarray of shape (k, m)
    weights : list of ndarrays of shape (m_f,) or None
        Weights of the training rows of each fold.
    trains : list of ndarrays of row indices, of shape (m_f,)

    Returns
    -------
    quadratics : list of Quadratic
    """
    shares = [_weight_of_rows(len(X), *pair) for pair in zip(trains, weights, strict=True)]
    parts, multiples = _parts(shares)
    sums = [_sums(X, Y, *part, n_threads) for part in parts]
    values, gradients, hessians = (np.stack(of_parts) for of_parts in zip(*sums, strict=True))
    quadratics = []
    for share, multiple in zip(shares, multiples, strict=True):
        total = share.sum()
        hessian = np.tensordot(multiple, hessians, 1) / total
        gradient = np.tensordot(multiple, gradients, 1) / total
        if not fit_intercept:
            hessian[-1] = hessian[:, -1] = gradient[:, -1] = 0
        quadratics.append(Quadratic(multiple @ values / total, gradient, hessian))
    return quadratics


def _weight_of_rows(m, train, weight):
    """Weight of every row of the table in a fold: 0 where it is held out, doubled where it is there twice."""
    return np.bincount(train, weight, minlength=m).astype(np.float64)


def _parts(shares):
    """Parts of the table, and the folds as sums of them.

    Returns
    -------
    parts : list of (rows, weights of these rows)
    multiples : ndarray of shape (folds, parts)
    """
    weight, code = np.max(shares, axis=0), np.zeros(len(shares[0]))
    with np.errstate(invalid="ignore"):
        relative = [share / weight for share in shares]  # 0 or 1, but for rows drawn twice
    for f, multiple in enumerate(relative):
        code += multiple * 2.0**-f
    _, first, number = np.unique(code, return_index=True, return_inverse=True)  # NaN: rows without weight
    multiples = np.array(relative)[:, first]
    known = np.isfinite(multiples[0])
    same = np.array_equal(multiples[:, number], relative, equal_nan=True)
    if not same or len(first) > MAX_PARTS * len(
        shares
    ):  # weights that differ by fold, or too many ways to be held out
        rows = [np.flatnonzero(share) for share in shares]
        return [(r, share[r]) for r, share in zip(rows, shares, strict=True)], np.eye(len(shares))
    rows = [np.flatnonzero(number == c) for c in np.flatnonzero(known)]
    return [(r, weight[r]) for r in rows], multiples[:, known]


def _sums(X, Y, rows, weight, n_threads):
    """Value, gradient and Hessian at zero of the squared error of some rows, not divided by their weight."""
    (m, d), k = X.shape, len(Y)
    h = np.zeros(m)
    h[rows] = weight
    hessian = linear.weighted_gram(X, h, np.zeros(d), n_threads)
    value, gradient = np.zeros(k), np.zeros((k, d + 1))
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        part = rows[first : first + ROWS_AT_A_TIME]
        y = Y[:, part].astype(np.float64)
        weighted = y * weight[first : first + ROWS_AT_A_TIME]
        value += (weighted * y).sum(axis=1) / 2
        gradient[:, :-1] -= weighted @ take_rows(X, part).astype(np.float64, copy=False)
        gradient[:, -1] -= weighted.sum(axis=1)
    return value, gradient, hessian


def take_rows(X, rows):
    """X[rows], without a copy where they lie one after the other."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return X[rows[0] : rows[-1] + 1]
    return X[rows]
