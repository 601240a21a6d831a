"""A table cut into parts: rows that are in the training sets of the same folds.

Five folds have five parts. What is a sum over rows is computed once for each part, or for all folds that have
it, and added up by folds.
"""

from dataclasses import dataclass

import numpy as np

MAX_PARTS = 4  # times the number of folds


@dataclass
class Parts:
    """Parts of the table, and which of them make up each fold.

    Attributes
    ----------
    rows : ndarray of int
        Part after part.
    weight : ndarray of float64
        Of these rows.
    ends : list of int
        Where in `rows` each part ends.
    members : ndarray of shape (folds, parts)
        1 where a part belongs to a fold, else 0.
    apart : bool
        Whether no row is in two parts.
    """

    rows: np.ndarray
    weight: np.ndarray
    ends: list
    members: np.ndarray
    apart: bool

    @classmethod
    def of(cls, m, trains, weights):
        """
        Parameters
        ----------
        m : int
            Rows of the table.
        trains : list of ndarrays of row indices, of shape (m_f,)
        weights : list of ndarrays of shape (m_f,) or None
            Weights of the training rows of each fold.
        """
        # weight of every row of the table in a fold: 0 where it is held out, doubled where it is there twice
        shares = np.empty((len(trains), m))
        for share, *pair in zip(shares, trains, weights, strict=True):
            share[:] = np.bincount(*pair, minlength=m)
        weight, present = shares.max(axis=0), shares > 0
        # one number for each way to be in some folds and not in others, 0 in none: short ones sort faster
        dtype = np.uint16 if len(shares) <= 16 else np.uint64
        keys = 1 << np.arange(16)
        if len(shares) > 16:
            keys = np.random.default_rng(0).integers(2**63, size=len(shares))
        code = np.zeros(m, dtype)
        for mask, key in zip(present, keys, strict=False):
            code += mask * dtype(key)
        rows = np.argsort(code, kind="stable")
        rows = rows[np.count_nonzero(code == 0) :]
        ends = [*(np.flatnonzero(np.diff(code[rows])) + 1), len(rows)]
        alike = all(w is None for w in weights) and (weight <= 1).all()
        if not alike:
            pairs = zip(shares, present, strict=True)
            alike = all(np.array_equal(share, mask * weight) for share, mask in pairs)
        if alike and len(ends) <= MAX_PARTS * len(shares):
            members = present[:, rows[np.array(ends) - 1]].astype(np.float64)
            return cls(rows, weight[rows], ends, members, apart=True)
        # rows drawn twice, weights that differ by fold
        by_fold = [np.flatnonzero(mask) for mask in present]
        weight = np.concatenate([share[rows] for share, rows in zip(shares, by_fold, strict=True)])
        ends = list(np.cumsum([len(rows) for rows in by_fold]))
        apart = ends[-1] == np.count_nonzero(code)
        return cls(np.concatenate(by_fold), weight, ends, np.eye(len(shares)), apart)

    @property
    def total_weight(self):
        """Of the rows of each fold, (folds,)."""
        return self.members @ [self.weight[part].sum() for part in self.slices()]

    def slices(self):
        """Where in `rows` each part is."""
        return [slice(first, end) for first, end in zip([0, *self.ends], self.ends, strict=False)]

    def holds_out(self, f, test):
        """Whether the test rows of fold f are those of all parts that it has not, each once."""
        if test.ndim != 1 or not len(test) or not self.apart:
            return False
        parts = [part for part, member in zip(self.slices(), self.members[f], strict=True) if not member]
        if len(test) != sum(part.stop - part.start for part in parts):
            return False
        rows = [self.rows[part] for part in parts]
        once = all((self.weight[part] == 1).all() for part in parts)
        return once and np.array_equal(np.sort(test), np.sort(np.concatenate(rows)))


def take_rows(X, rows):
    """X[rows], without a copy where they lie one after the other."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return X[rows[0] : rows[-1] + 1]
    return X[rows]
