"""More columns than rows: the same problem in as many dimensions as there are rows.

With an L2 penalty, and from a start at zero in any case, the weights are combinations of the centred rows. In
the eigenbasis of the rows' inner products, X - mean = Z V^T with Z (m, r) and V (d, r) orthonormal,
they are w = V v with |w| = |v|: a problem in Z, whose Gram matrix is small where that of X is not.
"""

import numpy as np

from ._sparse import is_sparse

COLUMNS_AT_A_TIME = 2048


class RowSpace:
    """Z (m, r) and the way back from v to w.

    Parameters
    ----------
    X : ndarray or SparseRows of shape (m, d)
    mean : ndarray of shape (d,)
        What to centre the columns at; zeros without an intercept.
    """

    def __init__(self, X, mean):
        self.X, self.mean = X, mean
        K = np.zeros((len(X), len(X)))
        if is_sparse(X):
            part = X.matrix.astype(np.float64)
            along = part @ mean
            K += (part @ part.T).toarray() + (mean @ mean - along - along[:, None])
        else:
            for columns in self._slices():
                part = X[:, columns].astype(np.float64) - mean[columns]
                K += part @ part.T
        values, vectors = np.linalg.eigh(K)
        kept = values > 1e-13 * max(values[-1], np.finfo(float).tiny)
        self.roots, self.vectors = np.sqrt(values[kept]), vectors[:, kept]
        if not kept.any():  # all rows are the same
            self.roots, self.vectors = np.ones(1), np.zeros((len(X), 1))
        self.Z = np.ascontiguousarray(self.vectors * self.roots, dtype=X.dtype)

    def _slices(self):
        d = self.X.shape[1]
        return [slice(j, min(j + COLUMNS_AT_A_TIME, d)) for j in range(0, d, COLUMNS_AT_A_TIME)]

    def to_columns(self, theta):
        """theta (k, r + 1) of the problem in Z as theta (k, d + 1) of that in X."""
        a = (theta[:, :-1] / self.roots) @ self.vectors.T
        out = np.empty((len(theta), self.X.shape[1] + 1))
        if is_sparse(self.X):
            out[:, :-1] = (self.X.matrix.T @ a.T).T - a.sum(axis=1, keepdims=True) * self.mean
        else:
            for columns in self._slices():
                part = self.X[:, columns].astype(np.float64) - self.mean[columns]
                out[:, columns] = a @ part
        out[:, -1] = theta[:, -1] - out[:, :-1] @ self.mean
        return out
