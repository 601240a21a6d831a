"""Sparse rows as the kernels take them: CSR with 32-bit columns, each column once in a row.

In: what scikit-learn's validation lets through (csr_matrix, csr_array). Out: `SparseRows`, which a problem
holds in the place of an ndarray. Rows with repeated columns are summed first, as every product sees them.
"""

import numpy as np
from scipy.sparse import csr_array, issparse

MOST_COLUMNS = np.iinfo(np.int32).max
MOSTLY_ZEROS = 0.05  # share of entries up to which rows as sparse ones take a tenth of X's memory or so
ROWS_AT_A_TIME = 64  # of dense rows, in a cache


class SparseRows:
    """The rows of a CSR matrix; the arrays are the matrix's own where they fit.

    Parameters
    ----------
    data : ndarray of shape (nnz,), float32 or float64
    indices : ndarray of shape (nnz,), int32
    indptr : ndarray of shape (m + 1,), intp
    shape : tuple (m, d)
    """

    ndim = 2

    def __init__(self, data, indices, indptr, shape):
        self.data, self.indices, self.indptr, self.shape = data, indices, indptr, shape
        self.dtype, self.itemsize, self.size = data.dtype, data.itemsize, data.size

    @classmethod
    def of(cls, X):
        """From a CSR matrix or array of floats.

        Raises
        ------
        ValueError
            For more columns than 32-bit indices reach, or indices that point outside of X.
        """
        m, d = X.shape
        if d > MOST_COLUMNS:
            raise ValueError(f"X has {d} columns; sparse rows may have {MOST_COLUMNS} at most.")
        nnz = int(X.indptr[-1])
        outside = nnz and (X.indices[:nnz].min() < 0 or X.indices[:nnz].max() >= d)
        if outside or X.indptr[0] != 0 or nnz > len(X.indices) or (np.diff(X.indptr) < 0).any():
            raise ValueError("X is no valid CSR matrix: its indices point outside of it.")
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
            nnz = int(X.indptr[-1])
        return cls(
            np.ascontiguousarray(X.data[:nnz]), np.ascontiguousarray(X.indices[:nnz], dtype=np.int32),
            np.ascontiguousarray(X.indptr, dtype=np.intp), (m, d),
        )  # fmt: skip

    @classmethod
    def of_dense(cls, X):
        """From an ndarray of floats, without its zeros."""
        m, d = X.shape
        indptr = np.zeros(m + 1, dtype=np.intp)
        for rows, part in _parts(X):
            indptr[1:][rows] = np.count_nonzero(part, axis=1)
        np.cumsum(indptr, out=indptr)
        data, indices = np.empty(indptr[-1], X.dtype), np.empty(indptr[-1], np.int32)
        for rows, part in _parts(X):
            entries, places = slice(indptr[rows.start], indptr[rows.stop]), np.nonzero(part)
            data[entries], indices[entries] = part[places], places[1]
        return cls(data, indices, indptr, (m, d))

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return SparseRows.of(self.matrix[rows])

    @property
    def matrix(self):
        """The same numbers as SciPy knows them."""
        return csr_array((self.data, self.indices, self.indptr), shape=self.shape)

    def packed(self):
        """The columns that have entries, ascending, and the rows without all others; one column at least."""
        present = np.zeros(self.shape[1], dtype=bool)
        present[self.indices] = True
        present[0] |= not self.size
        columns = np.flatnonzero(present)
        place = np.empty(self.shape[1], dtype=np.int32)
        place[columns] = np.arange(len(columns))
        shape = self.shape[0], len(columns)
        return columns, SparseRows(self.data, place[self.indices], self.indptr, shape)

    def without_zeros(self):
        """The rows without zeros that are stored as entries."""
        if self.data.all():
            return self
        X = self.matrix.copy()
        X.eliminate_zeros()
        return SparseRows.of(X)

    def column_counts(self):
        """Entries of each column, shape (d,)."""
        return np.bincount(self.indices, minlength=self.shape[1])

    def __sizeof__(self):
        """Bytes, as Dask asks for them."""
        return self.data.nbytes + self.indices.nbytes + self.indptr.nbytes

    @property
    def row_length(self):
        """Entries of a row, on average."""
        return self.size / self.shape[0]


def _parts(X):
    """Some rows of X after the other: their slice and themselves."""
    for first in range(0, len(X), ROWS_AT_A_TIME):
        rows = slice(first, min(first + ROWS_AT_A_TIME, len(X)))
        yield rows, X[rows]


def mostly_zeros(X):
    """Whether hardly any entry of X (m, d) is other than zero, however X is stored."""
    most, entries = MOSTLY_ZEROS * X.shape[0] * X.shape[1], 0
    if not isinstance(X, np.ndarray):
        return (np.count_nonzero(X.data) if is_sparse(X) else X.size) <= most
    for _, part in _parts(X):
        entries += np.count_nonzero(part)
        if entries > most:
            return False
    return True


def is_sparse(X):
    """Whether X is sparse: as a user gives it, or as the kernels take it."""
    return isinstance(X, SparseRows) or issparse(X)
