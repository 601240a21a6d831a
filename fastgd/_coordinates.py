"""Descent in standardised coordinates, without touching the data or the objective.

The prediction x . w + b is written with the columns shifted and scaled, ((x - shift) * scale) . u
+ u_b. Gradients and parameters are carried over between theta = (w, b) and u; X stays as it is.
Descent in u is descent in the diagonal metric 1 / scale^2 of w: the scale and the offset of a column
no longer matter.
"""

import numpy as np

from ._compiled import linear


class Coordinates:
    """theta (k, d + 1) <-> u (k, d + 1), the last column being the intercept.

    Parameters
    ----------
    shift, scale : ndarrays of shape (d,), or both None for theta itself
    """

    def __init__(self, shift=None, scale=None):
        self.shift, self.scale = shift, scale
        self.identity = scale is None

    def to_theta(self, u):
        if self.identity:
            return u
        theta = u * np.append(self.scale, 1.0)
        theta[:, -1] -= theta[:, :-1] @ self.shift
        return theta

    def from_theta(self, theta):
        if self.identity:
            return np.array(theta)
        scale = np.append(self.scale, 1.0)
        u = np.divide(theta, scale, out=np.zeros_like(theta), where=scale != 0)
        u[:, -1] += theta[:, :-1] @ self.shift
        return u

    def pull_back(self, gradient):
        """Gradient with respect to u from that with respect to theta."""
        if self.identity:
            return gradient
        out = gradient * np.append(self.scale, 1.0)
        out[:, :-1] -= (self.shift * self.scale) * gradient[:, -1:]
        return out

    def kernel_arrays(self, dtype):
        empty = np.empty(0)
        scale, shift = (empty, empty) if self.identity else (self.scale, self.shift)
        return scale.astype(dtype), shift.astype(dtype)


def column_means_and_variances(X, weight, n_threads):
    """Weighted mean and variance of every column, each of shape (d,); a constant column has variance 0."""
    total = X.shape[0] if weight is None else float(weight.sum(dtype=np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        start, first, second = linear.column_moments(X, weight, n_threads)
        offset = first / total
        variance = np.maximum(second / total - offset**2, 0.0)
        mean = start + offset
    if not np.isfinite(variance).all():
        columns = np.flatnonzero(~np.isfinite(variance))
        raise ValueError(
            f"The squares of column(s) {columns[:10].tolist()} of X overflow. Divide them by a "
            "constant, or scale X with sklearn.preprocessing.StandardScaler."
        )
    # what is left of a constant column is rounding: it must not be blown up to variance one
    noise = 10 * np.finfo(np.float64).eps * (np.abs(mean) + np.abs(start))
    variance[variance <= noise**2] = 0.0
    return mean, variance


def standardised(mean, variance, *, ridge, fit_intercept):
    """Coordinates in which a loss of curvature 1 plus ridge / 2 |w|^2 has unit curvature per column.

    A constant column gets scale 0: beside an intercept its weight is none.
    """
    shift = mean if fit_intercept else np.zeros_like(mean)
    power = variance if fit_intercept else variance + mean**2
    curvature = power + ridge
    scale = np.zeros_like(power)
    np.divide(1.0, np.sqrt(curvature), out=scale, where=power > 0)
    return Coordinates(shift, scale)
