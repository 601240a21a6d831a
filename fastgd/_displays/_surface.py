"""A function of two variables on a grid, and the levels at which contours show its shape."""

import numpy as np


def make_grid(bounds, resolution):
    """The axes of a grid, shapes (resolution,) each, within ((x_low, x_high), (y_low, y_high))."""
    bounds = np.asarray(bounds, dtype=float)
    if bounds.shape != (2, 2) or not np.isfinite(bounds).all() or np.any(bounds[:, 0] >= bounds[:, 1]):
        raise ValueError(
            f"bounds must be ((x_low, x_high), (y_low, y_high)) with low < high, got {bounds.tolist()}."
        )
    return [np.linspace(*pair, resolution) for pair in bounds]


def values_on_grid(fun, x, y):
    """fun at every point of a grid, shape (len(y), len(x)): in one call where fun is written for arrays.

    A function written for one point may do something else with arrays (a norm, a matrix product, a sum over
    all): the one call counts only if it has the right shape and agrees with single points.
    """
    points = np.stack(np.meshgrid(x, y))  # (2, len(y), len(x))
    with np.errstate(all="ignore"):
        try:
            values = np.asarray(fun(points.copy()), dtype=float)
        except Exception:  # whatever a function of one point says to arrays
            values = None
        if values is not None and values.shape == points.shape[1:]:
            probes = np.random.default_rng(0).integers(len(x) * len(y), size=8)
            rows, columns = np.unravel_index([0, len(x) * len(y) - 1, *probes], values.shape)
            alone = [values_at(fun, points[:, r, c][None])[0] for r, c in zip(rows, columns, strict=True)]
            if np.allclose(values[rows, columns], alone, rtol=1e-9, atol=1e-12, equal_nan=True):
                return values
        return values_at(fun, points.reshape(2, -1).T).reshape(points.shape[1:])


def values_at(fun, points):
    """fun at points (n, 2), one after the other, shape (n,)."""
    values = np.empty(len(points))
    with np.errstate(all="ignore"):
        for i, point in enumerate(points):
            value = np.asarray(fun(np.array(point)), dtype=float)
            if value.size != 1:
                raise ValueError(f"fun must return a number, it returned shape {value.shape} at {point}.")
            values[i] = value.item()
    return values


def contour_levels(values, n=20):
    """Ascending levels, dense in the valleys: at shares (i / n)^2 of the surface's area."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("fun is nowhere finite within the bounds.")
    levels = np.quantile(finite, np.linspace(0, 1, n + 1) ** 2)
    return np.unique(levels)


def until_infinite(path):
    """A path up to where it ceases to be finite."""
    path = np.asarray(path, dtype=float)
    bad = ~np.isfinite(path).all(axis=1)
    return path[: max(int(np.argmax(bad)), 1)] if bad.any() else path
