"""Descent in standardised coordinates, without touching the data or the objective.

The prediction x . w + b is written with the columns shifted and scaled, ((x - shift) * scale) . u
+ u_b. Gradients and parameters are carried over between theta = (w, b) and u; X stays as it is.
Descent in u is descent in the diagonal metric 1 / scale^2 of w: the scale and the offset of a column
no longer matter.
"""

import warnings

import numpy as np

from ._compiled import moments
from ._sparse import is_sparse

ROWS_AT_A_TIME = 4096
LEAST_SQUARE = 1e-290  # below it, squares lose digits and then are none
NOISE = 10 * np.finfo(np.float64).eps


class Coordinates:
    """theta (k, d + 1) <-> u (k, d + 1), the last column being the intercept.

    Parameters
    ----------
    shift, scale : ndarrays of shape (d,), or both None for theta itself

    Attributes
    ----------
    factors : ndarray of shape (d + 1,)
        What u is multiplied by: scale, and 1 for the intercept.
    offsets : ndarray of shape (d,)
        What of the intercept's gradient belongs to the columns': shift * scale.
    """

    def __init__(self, shift=None, scale=None):
        self.shift, self.scale = shift, scale
        self.identity = scale is None
        if not self.identity:
            self.factors, self.offsets = np.concatenate((scale, [1.0])), shift * scale

    def of_columns(self, columns):
        """Those of some columns."""
        return self if self.identity else Coordinates(self.shift[columns], self.scale[columns])

    def to_theta(self, u, held=None):
        """held (k, d + 1), if given: has the weights of columns of scale 0, which u does not."""
        if self.identity:
            return u
        theta = u * self.factors
        if held is not None:
            np.copyto(theta, held, where=self.factors == 0)
        theta[:, -1] -= theta[:, :-1] @ self.shift
        return theta

    def from_theta(self, theta):
        if self.identity:
            return np.array(theta)
        u = np.divide(theta, self.factors, out=np.zeros_like(theta), where=self.factors != 0)
        u[:, -1] += theta[:, :-1] @ self.shift
        return u

    def pull_back(self, gradient):
        """Gradient with respect to u from that with respect to theta."""
        if self.identity:
            return gradient
        out = gradient * self.factors
        out[:, :-1] -= self.offsets * gradient[:, -1:]
        return out

    def kernel_arrays(self, dtype):
        empty = np.empty(0)
        scale, shift = (empty, empty) if self.identity else (self.scale, self.shift)
        return scale.astype(dtype), shift.astype(dtype)


def column_means_and_variances(X, weight, n_threads, names=None):
    """Weighted mean and variance of every column, each of shape (d,); a constant column has variance 0.

    names : what errors call the columns, shape (d,); None: their numbers
    """
    total = X.shape[0] if weight is None else float(weight.sum(dtype=np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        start, first, second = moments.column_moments(X, weight, n_threads)
        offset = first / total
        variance = second / total - offset**2
        mean = start + offset
        size = np.abs(mean) + np.abs(start)
        # what is left of a constant column is rounding: it must not be blown up to variance one
        noise = (NOISE * size) ** 2
    refuse_overflow(variance, names)
    if variance.min() < LEAST_SQUARE:
        variance = _without_underflow(variance, size, X, weight, names)
    return mean, np.where(variance > noise, variance, 0.0)


def refuse_overflow(squares, names=None):
    """An error that names the columns whose squares are not finite."""
    if not np.isfinite(squares).all():
        columns = _named(np.flatnonzero(~np.isfinite(squares)), names)
        raise ValueError(
            f"The squares of column(s) {columns[:10].tolist()} of X overflow. Divide them by a "
            "constant, or scale X with sklearn.preprocessing.StandardScaler."
        )


def _named(columns, names):
    return columns if names is None else names[columns]


def _without_underflow(variance, size, X, weight, names):
    """Variances with zeros for columns whose squares underflow; an error if nothing else varies."""
    tiny = (variance < LEAST_SQUARE) & (0 < size) & (size < 1e5 * LEAST_SQUARE**0.5)
    if not tiny.any():
        return variance
    least, most = column_ranges(X, weight)
    columns = np.flatnonzero(tiny & (least < most))
    if not len(columns):
        return variance
    message = f"The squares of column(s) {_named(columns, names)[:10].tolist()} of X underflow"
    if variance.max() < LEAST_SQUARE:
        raise ValueError(f"{message}. Multiply them by a constant.")
    warnings.warn(f"{message}: they count as constant. Multiply them by a constant.", stacklevel=3)
    return np.where(tiny, 0.0, variance)


def merged_moments(a, b):
    """Weight, mean and sum of squares about the mean of the rows of two sets (Chan et al. 1983).

    The third may be squares of shape (d,) or products of shape (d, d).
    """
    if not a[0] or not b[0]:
        return a if a[0] else b
    n, delta = a[0] + b[0], b[1] - a[1]
    between = delta**2 if a[2].ndim == 1 else np.outer(delta, delta)
    return n, a[1] + delta * (b[0] / n), a[2] + b[2] + between * (a[0] * b[0] / n)


def column_ranges(X, weight):
    """Least and largest entry of every column among the rows that have a weight, each of shape (d,)."""
    if is_sparse(X):
        matrix = X.matrix if weight is None else X[weight > 0].matrix
        return matrix.min(axis=0).toarray().ravel(), matrix.max(axis=0).toarray().ravel()
    if weight is None or weight.all():
        return X.min(axis=0), X.max(axis=0)
    least, most = np.full(X.shape[1], np.inf, X.dtype), np.full(X.shape[1], -np.inf, X.dtype)
    for first in range(0, X.shape[0], ROWS_AT_A_TIME):  # X may be larger than the memory
        rows = slice(first, first + ROWS_AT_A_TIME)
        part = X[rows][weight[rows] > 0]
        if len(part):
            np.minimum(least, part.min(axis=0), out=least)
            np.maximum(most, part.max(axis=0), out=most)
    return least, most


def standardised(mean, variance, *, ridge, fit_intercept):
    """Coordinates in which a loss of curvature 1 plus ridge / 2 |w|^2 has unit curvature per column.

    A constant column gets scale 0: beside an intercept its weight is none.
    """
    shift = mean if fit_intercept else np.zeros_like(variance)
    power = variance if fit_intercept else variance + mean**2
    scale = np.divide(1.0, np.sqrt(power + ridge), out=np.zeros(len(power)), where=power > 0)
    return Coordinates(shift, scale)
