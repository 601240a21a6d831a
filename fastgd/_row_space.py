"""More columns than rows: the same problem in as many dimensions as there are rows.

With an L2 penalty, and from a start at zero in any case, the weights are combinations of the centred rows. In
the eigenbasis of the rows' inner products, X - mean = Z V^T with Z (m, r) and V (d, r) orthonormal,
they are w = V v with |w| = |v|: a problem in Z, whose Gram matrix is small where that of X is not. Rows
without weight have no say: they are zero in Z.

The columns of X are asked for twice, by `inner_products` and by `combination`. Both are sums over pieces, the
one of columns, the other of rows, which may lie anywhere.
"""

import numpy as np
from scipy import sparse

from ._sparse import is_sparse

COLUMNS_AT_A_TIME = 2048


class RowSpace:
    """Z (m, r), float64 whatever X is, and the way back from v to w.

    Parameters
    ----------
    K : ndarray of shape (m, m)
        `inner_products` of the rows.
    weight : ndarray of shape (m,) or None
    combination : callable
        From a (k, m) to `combination` of the rows, (k, d).
    mean : ndarray of shape (d,)
        What the columns are centred at; zeros without an intercept.
    """

    def __init__(self, K, weight, combination, mean):
        self.combination, self.mean = combination, mean
        if weight is not None:
            K = np.where(np.outer(weight > 0, weight > 0), K, 0.0)
        values, vectors = np.linalg.eigh(K)
        kept = values > 1e-13 * max(values[-1], np.finfo(float).tiny)
        self.roots, self.vectors = np.sqrt(values[kept]), vectors[:, kept]
        if not kept.any():  # all rows with weight are the same
            self.roots, self.vectors = np.ones(1), np.zeros((len(K), 1))
        self.Z = np.ascontiguousarray(self.vectors * self.roots)

    def to_columns(self, theta):
        """theta (k, r + 1) of the problem in Z as theta (k, d + 1) of that in X."""
        w = self.combination((theta[:, :-1] / self.roots) @ self.vectors.T)
        return np.column_stack([w, theta[:, -1] - w @ self.mean])


def inner_products(pieces, mean):
    """K (m, m) of the rows of all pieces, one below the other, less mean.

    pieces : list of ndarrays or of SparseRows, of as many columns each as mean has
    """
    if is_sparse(pieces[0]):
        X = sparse.vstack([rows.matrix for rows in pieces], "csr", np.float64)
        along = X @ mean
        return (X @ X.T).toarray() + (mean @ mean - along - along[:, None])
    m = sum(len(rows) for rows in pieces)
    K = np.zeros((m, m))
    for columns in _slices(len(mean)):
        X = np.concatenate([rows[:, columns] for rows in pieces], dtype=np.float64)
        X -= mean[columns]
        K += X @ X.T
    return K


def combination(X, mean, a):
    """a (k, m) times the rows of X less mean, (k, d)."""
    if is_sparse(X):
        return (X.matrix.T @ a.T).T - a.sum(axis=1, keepdims=True) * mean
    out = np.empty((len(a), X.shape[1]))
    for columns in _slices(X.shape[1]):
        out[:, columns] = a @ (X[:, columns].astype(np.float64) - mean[columns])
    return out


def _slices(d):
    return [slice(j, min(j + COLUMNS_AT_A_TIME, d)) for j in range(0, d, COLUMNS_AT_A_TIME)]
