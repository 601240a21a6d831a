"""Squared error on every fold of a table from one reading of it.

Rows that are in the training sets of the same folds form a part: five folds have five. One Gram matrix per
part is computed, and that of a fold is the sum of those of its parts: the table is read once, however many
folds there are, and nothing is subtracted, so an outlier that is held out leaves no trace.
"""

from dataclasses import dataclass

import numpy as np

from ._compiled import grid

MAX_PARTS = 4  # times the number of folds


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

    @classmethod
    def of_parts(cls, member, sums, total, fit_intercept=True):
        """From the moments of the parts that `member` is not 0 for, and their weight."""
        squares, products, hessian = (np.tensordot(member, of_parts, 1) / total for of_parts in sums)
        if not fit_intercept:
            hessian[-1] = hessian[:, -1] = products[:, -1] = 0
        return cls(squares / 2, -products, hessian)

    def with_ridge(self, l2):
        """The Hessian with the L2 penalty, which leaves the intercept alone."""
        hessian = self.hessian.copy()
        hessian.flat[: -1 : len(hessian) + 1] += l2
        return hessian


def quadratics_of_folds(X, Y, weights, trains, tests, *, fit_intercept, n_threads, shift=None):
    """The squared error of every fold on its training rows, and on those that it holds out.

    Parameters
    ----------
    X : ndarray of shape (m, d), float32 or float64, C- or Fortran-ordered
    Y : ndarray of shape (k, m)
    weights : list of ndarrays of shape (m_f,) or None
        Weights of the training rows of each fold.
    trains : list of ndarrays of row indices, of shape (m_f,)
    tests : list of ndarrays
        Of row indices, where the test rows are in the table.
    shift : ndarray of shape (d,) or None
        What to subtract from the columns first.

    Returns
    -------
    trained : list of Quadratic
    held_out : list of Quadratic or None
        Of the test rows, intercept and all. None where they are no parts of the table.
    """
    shares = np.empty((len(trains), len(X)))
    for share, *pair in zip(shares, trains, weights, strict=True):
        share[:] = np.bincount(*pair, minlength=len(X))
    rows, weight, ends, members = _parts(shares)
    shift = np.zeros(X.shape[1]) if shift is None else shift
    Y = np.ascontiguousarray(Y, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = grid.moments_of_parts(X, Y, rows, weight, ends, shift, n_threads)
    every = shares.max(axis=0)
    apart = len(rows) == np.count_nonzero(every)  # no row is in two parts
    trained, held_out = [], []
    for share, member, test in zip(shares, members, tests, strict=True):
        trained.append(Quadratic.of_parts(member, sums, share.sum(), fit_intercept))
        others = None
        if apart and test.ndim == 1 and np.array_equal(np.bincount(test, minlength=len(X)), every - share):
            others = Quadratic.of_parts(1 - member, sums, len(test))
        held_out.append(others)
    return trained, held_out


def _parts(shares):
    """Parts of the table, and which of them make up each fold.

    Parameters
    ----------
    shares : ndarray of shape (folds, m)
        Weight of every row of the table in a fold: 0 where it is held out, doubled where it is there twice.

    Returns
    -------
    rows : ndarray of int
        Part after part.
    weight : ndarray
        Of these rows.
    ends : list of int
        Where in `rows` each part ends.
    members : ndarray of shape (folds, parts)
        1 where a part belongs to a fold, else 0.
    """
    weight, present = shares.max(axis=0), shares > 0
    # one number for each way to be in some folds and not in others, 0 in none: short ones sort faster
    dtype = np.uint16 if len(shares) <= 16 else np.uint64
    keys = 1 << np.arange(16)
    if len(shares) > 16:
        keys = np.random.default_rng(0).integers(2**63, size=len(shares))
    code = np.zeros(len(weight), dtype)
    for mask, key in zip(present, keys, strict=False):
        code += mask * dtype(key)
    rows = np.argsort(code, kind="stable")
    rows = rows[np.count_nonzero(code == 0) :]
    ends = [*(np.flatnonzero(np.diff(code[rows])) + 1), len(rows)]
    alike = all(
        np.array_equal(share[mask], weight[mask]) for share, mask in zip(shares, present, strict=True)
    )
    if alike and len(ends) <= MAX_PARTS * len(shares):
        members = present[:, rows[np.array(ends) - 1]].astype(np.float64)
        return rows, weight[rows], ends, members
    # rows drawn twice, weights that differ by fold
    by_fold = [np.flatnonzero(mask) for mask in present]
    weight = np.concatenate([share[rows] for share, rows in zip(shares, by_fold, strict=True)])
    return np.concatenate(by_fold), weight, list(np.cumsum(list(map(len, by_fold)))), np.eye(len(shares))


def take_rows(X, rows):
    """X[rows], without a copy where they lie one after the other."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return X[rows[0] : rows[-1] + 1]
    return X[rows]
