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


def quadratics_of_folds(X, Y, weights, trains, *, fit_intercept, n_threads, shift=None):
    """The squared error of every fold.

    Parameters
    ----------
    X : ndarray of shape (m, d), float32 or float64, C- or Fortran-ordered
    Y : ndarray of shape (k, m)
    weights : list of ndarrays of shape (m_f,) or None
        Weights of the training rows of each fold.
    trains : list of ndarrays of row indices, of shape (m_f,)
    shift : ndarray of shape (d,) or None
        What to subtract from the columns first.

    Returns
    -------
    quadratics : list of Quadratic
    """
    shares = [_weight_of_rows(len(X), *pair) for pair in zip(trains, weights, strict=True)]
    parts, members = _parts(shares)
    shift = np.zeros(X.shape[1]) if shift is None else shift
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [_sums(X, Y, *part, shift, n_threads) for part in parts]
    values, gradients, hessians = (np.stack(of_parts) for of_parts in zip(*sums, strict=True))
    quadratics = []
    for share, member in zip(shares, members, strict=True):
        total = share.sum()
        hessian = np.tensordot(member, hessians, 1) / total
        gradient = np.tensordot(member, gradients, 1) / total
        if not fit_intercept:
            hessian[-1] = hessian[:, -1] = gradient[:, -1] = 0
        quadratics.append(Quadratic(member @ values / total, gradient, hessian))
    return quadratics


def _weight_of_rows(m, train, weight):
    """Weight of every row of the table in a fold: 0 where it is held out, doubled where it is there twice."""
    return np.bincount(train, weight, minlength=m).astype(np.float64)


def _parts(shares):
    """Parts of the table, and which of them make up each fold.

    Returns
    -------
    parts : list of (rows, weights of these rows)
    members : ndarray of shape (folds, parts)
        1 where a part belongs to a fold, else 0.
    """
    weight = np.max(shares, axis=0)
    present = [share > 0 for share in shares]
    # one number for each way to be in some folds and not in others: short ones are sorted faster
    dtype = np.uint16 if len(shares) <= 16 else np.uint64
    keys = 1 << np.arange(16)
    if len(shares) > 16:
        keys = np.random.default_rng(0).integers(2**63, size=len(shares))
    code = np.zeros(len(weight), dtype)
    for rows, key in zip(present, keys, strict=False):
        code += rows * dtype(key)
    _, first, number = np.unique(code, return_index=True, return_inverse=True)
    members = np.array([rows[first] for rows in present], dtype=np.float64)
    alike = all(
        np.array_equal(share, np.where(member[number], weight, 0.0))
        for share, member in zip(shares, members > 0, strict=True)
    )
    if not alike or len(first) > MAX_PARTS * len(shares):  # rows drawn twice, weights that differ by fold
        rows = [np.flatnonzero(share) for share in shares]
        return [(r, share[r]) for r, share in zip(rows, shares, strict=True)], np.eye(len(shares))
    used = members.any(axis=0)
    rows = [np.flatnonzero(number == c) for c in np.flatnonzero(used)]
    return [(r, weight[r]) for r in rows], members[:, used]


def _sums(X, Y, rows, weight, shift, n_threads):
    """Value, gradient and Hessian at zero of the squared error of some rows, not divided by their weight."""
    (m, d), k = X.shape, len(Y)
    h = np.zeros(m)
    h[rows] = weight
    hessian = linear.weighted_gram(X, h, shift, n_threads)
    value, gradient = np.zeros(k), np.zeros((k, d + 1))
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        part = rows[first : first + ROWS_AT_A_TIME]
        y = Y[:, part].astype(np.float64)
        weighted = y * weight[first : first + ROWS_AT_A_TIME]
        value += (weighted * y).sum(axis=1) / 2
        x = take_rows(X, part).astype(np.float64, copy=False)
        gradient[:, :-1] -= weighted @ (x - shift if shift.any() else x)
        gradient[:, -1] -= weighted.sum(axis=1)
    return value, gradient, hessian


def take_rows(X, rows):
    """X[rows], without a copy where they lie one after the other."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return X[rows[0] : rows[-1] + 1]
    return X[rows]
