"""NumPy and SciPy twins of what fastgd computes, written from the formulas, without fastgd.

In: data and the name of a loss. Out: its value and slope per row, the objective of a fitted
estimator, and the smallest objective there is. Every function takes the raw prediction
z = X w + b; classes are coded -1 / +1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog, minimize
from scipy.special import expit, log_softmax, softmax


class Loss(NamedTuple):
    value: Callable  # (y, z, epsilon, quantile) -> loss of each row
    slope: Callable  # its derivative in z
    curvature: Callable | None = None  # its second derivative in z, or None where it has kinks


def _clip(r, eps):
    return np.clip(r, -eps, eps)


def _excess(r, eps):
    return np.sign(r) * np.maximum(np.abs(r) - eps, 0)


LOSSES = {
    "squared_error": Loss(
        lambda y, z, e, q: (z - y) ** 2 / 2, lambda y, z, e, q: z - y, lambda y, z, e, q: 1 + 0 * z
    ),
    "huber": Loss(
        lambda y, z, e, q: np.where(np.abs(z - y) <= e, (z - y) ** 2 / 2, e * np.abs(z - y) - e**2 / 2),
        lambda y, z, e, q: _clip(z - y, e),
        lambda y, z, e, q: 1.0 * (np.abs(z - y) <= e),
    ),
    "squared_epsilon_insensitive": Loss(
        lambda y, z, e, q: _excess(z - y, e) ** 2,
        lambda y, z, e, q: 2 * _excess(z - y, e),
        lambda y, z, e, q: 2.0 * (np.abs(z - y) > e),
    ),
    "poisson": Loss(
        lambda y, z, e, q: np.exp(z) - y * z,
        lambda y, z, e, q: np.exp(z) - y,
        lambda y, z, e, q: np.exp(z),
    ),
    "gamma": Loss(
        lambda y, z, e, q: z + y * np.exp(-z),
        lambda y, z, e, q: 1 - y * np.exp(-z),
        lambda y, z, e, q: y * np.exp(-z),
    ),
    "log_loss": Loss(
        lambda y, z, e, q: np.logaddexp(0, -y * z),
        lambda y, z, e, q: -y * expit(-y * z),
        lambda y, z, e, q: expit(z) * expit(-z),
    ),
    "squared_hinge": Loss(
        lambda y, z, e, q: np.maximum(1 - y * z, 0) ** 2,
        lambda y, z, e, q: -2 * y * np.maximum(1 - y * z, 0),
        lambda y, z, e, q: 2.0 * (y * z < 1),
    ),
    "modified_huber": Loss(
        lambda y, z, e, q: np.where(y * z >= -1, np.maximum(1 - y * z, 0) ** 2, -4 * y * z),
        lambda y, z, e, q: np.where(y * z >= -1, -2 * y * np.maximum(1 - y * z, 0), -4 * y),
        lambda y, z, e, q: 2.0 * ((y * z < 1) & (y * z >= -1)),
    ),
    "brier_score": Loss(
        lambda y, z, e, q: 2 * expit(-y * z) ** 2,
        lambda y, z, e, q: -4 * y * expit(-y * z) * expit(z) * expit(-z),
    ),
    "absolute_error": Loss(lambda y, z, e, q: np.abs(z - y), lambda y, z, e, q: np.sign(z - y)),
    "quantile": Loss(
        lambda y, z, e, q: np.where(y >= z, q * (y - z), (1 - q) * (z - y)),
        lambda y, z, e, q: np.where(y > z, -q, 1 - q),
    ),
    "epsilon_insensitive": Loss(
        lambda y, z, e, q: np.maximum(np.abs(z - y) - e, 0),
        lambda y, z, e, q: np.sign(z - y) * (np.abs(z - y) > e),
    ),
    "hinge": Loss(lambda y, z, e, q: np.maximum(1 - y * z, 0), lambda y, z, e, q: -y * (y * z <= 1)),
    "perceptron": Loss(lambda y, z, e, q: np.maximum(-y * z, 0), lambda y, z, e, q: -y * (y * z <= 0)),
}

# A loss with kinks is a sum of slope * max(0, sign * z + offset): (slope, sign, offset) given y.
PIECES = {
    "absolute_error": lambda y, e, q: [(1, 1, -y), (1, -1, y)],
    "quantile": lambda y, e, q: [(1 - q, 1, -y), (q, -1, y)],
    "epsilon_insensitive": lambda y, e, q: [(1, 1, -y - e), (1, -1, y - e)],
    "hinge": lambda y, e, q: [(1, -y, np.ones_like(y))],
}

REGRESSION = [
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
    "absolute_error",
    "quantile",
    "poisson",
    "gamma",
]
CLASSIFICATION = [
    "log_loss",
    "hinge",
    "squared_hinge",
    "modified_huber",
    "perceptron",
    "brier_score",
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
]
SOFTMAX = ("log_loss", "brier_score")  # multinomial beyond two classes


def softmax_loss(loss, codes, Z):
    """Loss of each row for scores Z (m, k) and class numbers `codes` (m,), and its slope (m, k)."""
    one_hot = np.eye(Z.shape[1])[codes]
    P = softmax(Z, axis=1)
    if loss == "log_loss":
        return -np.sum(one_hot * log_softmax(Z, axis=1), axis=1), P - one_hot
    error = P - one_hot
    return np.sum(error**2, axis=1), 2 * P * (error - np.sum(error * P, axis=1, keepdims=True))


def mean_loss(loss, y, z, sample_weight=None, epsilon=0.1, quantile=0.5):
    return np.average(LOSSES[loss].value(y, z, epsilon, quantile), weights=sample_weight, axis=0)


def penalty_parts(penalty, alpha, l1_ratio):
    """(weight of the sum of absolute values, weight of half the squared norm)."""
    share = {None: (0, 0), "l2": (0, 1), "l1": (1, 0), "elasticnet": (l1_ratio, 1 - l1_ratio)}[penalty]
    return alpha * share[0], alpha * share[1]


def objective(estimator, X, y, sample_weight=None):
    """Weighted mean loss + alpha R(w) of a fitted estimator, in float64; a sum over its outputs."""
    p = estimator.get_params()
    X = np.asarray(X, float)
    W = np.atleast_2d(np.asarray(estimator.coef_, float))
    Z = X @ W.T + np.atleast_1d(np.asarray(estimator.intercept_, float))
    l1, l2 = penalty_parts(p["penalty"], p["alpha"], p["l1_ratio"])
    penalty = l1 * np.abs(W).sum() + l2 / 2 * (W**2).sum()
    if hasattr(estimator, "classes_"):
        codes = np.searchsorted(estimator.classes_, y)
        if len(W) > 1 and p["loss"] in SOFTMAX:
            return np.average(softmax_loss(p["loss"], codes, Z)[0], weights=sample_weight) + penalty
        y = signs(codes, len(W))
    y = np.reshape(np.asarray(y, float), Z.shape)
    return np.sum(mean_loss(p["loss"], y, Z, sample_weight, p["epsilon"], p.get("quantile", 0.5))) + penalty


def shuffled(m, rng):
    """An order of m rows (Fisher & Yates), by SplitMix64 from a seed that the RandomState rng draws."""
    bits, state, order = 2**64 - 1, int(rng.randint(2**63, dtype=np.uint64)), list(range(m))
    for i in range(m - 1, 0, -1):
        state = (state + 0x9E3779B97F4A7C15) & bits
        x = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & bits
        x = (x ^ x >> 27) * 0x94D049BB133111EB & bits
        j = (i + 1) * (x ^ x >> 31) >> 64
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.intp)


def signs(codes, n_rows):
    """Class numbers as -1 / +1, one column for each row of coef_."""
    return np.where(codes[:, None] == (np.arange(n_rows) if n_rows > 1 else [1]), 1.0, -1.0)


# The smallest objective, found in standardised coordinates, where no column's scale can hurt.


def _standardised(X, fit_intercept=True):
    """A (m, d + 1) and scales s (d,) with X w + b = A v and w = v[:-1] / s."""
    X = np.asarray(X, float)
    scale = X.std(axis=0) if fit_intercept else np.sqrt((X**2).mean(axis=0))
    scale = np.where(
        scale > 1e-12 * np.abs(X).max(axis=0, initial=0), scale, np.inf
    )  # a constant column: no coordinate
    A = (X - X.mean(axis=0) * fit_intercept) / scale
    return np.hstack([A, np.full((len(X), 1), float(fit_intercept))]), scale


def _newton(fun, v, iterations=300):
    """Minimise fun(v) -> (value, gradient, Hessian) by Newton, damped where that fails."""
    f, g, H = fun(v)
    damping = 0.0
    for _ in range(iterations):
        scale = np.sqrt(np.maximum(np.diag(H), 1e-12))
        scaled = H / np.outer(scale, scale) + damping * np.diag(1 + 1 / scale**2)
        direction = -np.linalg.lstsq(scaled, g / scale, rcond=1e-14)[0] / scale
        decrease = -g @ direction
        if decrease <= 1e-14 * abs(f) and damping < 1e-3:
            break
        with np.errstate(over="ignore", invalid="ignore"):
            trial = fun(v + direction)
        if trial[0] <= f - 1e-3 * decrease:
            v, (f, g, H) = v + direction, trial
            damping = damping / 10 if damping > 1e-9 else 0.0
        elif damping > 1e12:
            break
        else:
            damping = max(8 * damping, 1e-9)
    return v, f


def smallest_objective(
    loss, X, y, *, l1=0.0, l2=0.0, sample_weight=None, epsilon=0.1, quantile=0.5, fit_intercept=True
):
    """min over (w, b) of the weighted mean loss + l1 |w|_1 + l2 / 2 |w|^2, for one output.

    Newton's method where the loss is smooth; L-BFGS-B on positive and negative parts with L1. With
    kinks, a linear program without L2, else Newton on the loss with its kinks rounded, ever less.
    """
    A, scale = _standardised(X, fit_intercept)
    m, n = A.shape
    s = (
        np.full(m, 1 / m)
        if sample_weight is None
        else np.asarray(sample_weight, float) / np.sum(sample_weight)
    )
    y = np.asarray(y, float)
    l1, l2 = np.append(l1 / scale, 0), np.append(l2 / scale**2, 0)
    value, slope, curvature = LOSSES[loss]
    args = (epsilon, quantile)

    def full(v):
        with np.errstate(over="ignore", invalid="ignore"):
            return s @ value(y, A @ v, *args) + l1 @ np.abs(v) + l2 @ v**2 / 2

    def smooth(v):
        z = A @ v
        return (
            s @ value(y, z, *args) + l2 @ v**2 / 2,
            A.T @ (s * slope(y, z, *args)) + l2 * v,
            (A.T * (s * curvature(y, z, *args))) @ A + np.diag(l2),
        )

    start = np.zeros(n)
    if loss in ("poisson", "gamma"):
        start[-1] = np.log(s @ y)
    if curvature is not None and l1.any():
        return full(_with_l1(smooth, start, l1))
    if curvature is not None and loss != "huber":
        return _newton(smooth, start)[1]
    # solve for y / unit: programs dislike targets of size 1e9
    unit = np.abs(y).max() if loss != "hinge" else 1.0
    if loss == "huber":
        return full(unit * _huber(A, s, y / unit, unit * l2, epsilon, unit))
    pieces = [(a, sign, offset / unit) for a, sign, offset in PIECES[loss](y, *args)]
    if l2.any():
        return full(unit * _rounded(A, s, unit * l2, pieces))
    return full(unit * _linear_program(A, s, l1, pieces))


def _with_l1(smooth, start, l1):
    """Minimum of a smooth function plus l1 |v|: L-BFGS-B on positive and negative parts."""
    n = len(start)

    def split(u):
        f, g, _ = smooth(u[:n] - u[n:])
        return f + l1 @ (u[:n] + u[n:]), np.concatenate([g + l1, l1 - g])

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-14, "maxcor": 30}
    bounds = [(0, None)] * (2 * n)
    u = np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)])
    for _ in range(3):  # restarts forget a poor curvature memory
        u = minimize(split, u, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return u[:n] - u[n:]


def _huber(A, s, y, l2, epsilon, unit):
    """Newton's method; the kinks, as wide as epsilon, come closer step by step."""
    value, slope, curvature = LOSSES["huber"]
    v = np.zeros(A.shape[1])
    for width in np.geomspace(max(1.0, epsilon / unit), epsilon / unit, 12):
        factor = epsilon / width

        def huber(v, width=width, factor=factor):
            r = A @ v - y
            return (
                factor * (s @ value(0, r, width, None)) + l2 @ v**2 / 2,
                factor * (A.T @ (s * slope(0, r, width, None))) + l2 * v,
                factor * (A.T * (s * curvature(0, r, width, None))) @ A + np.diag(l2),
            )

        v = _newton(huber, v)[0]
    return v


def _linear_program(A, s, l1, pieces):
    """min sum s a xi + l1 (p + q)  subject to  xi >= sign z + offset, xi >= 0, z = A (p - q)"""
    (m, n), k = A.shape, len(pieces)
    rows = np.vstack([np.reshape(sign * np.ones(m), (m, 1)) * A for _, sign, _ in pieces])
    cost = np.where(l1 > 1e-9, l1, 0)  # less than what the program can see
    program = linprog(
        np.concatenate([cost, cost] + [a * s for a, _, _ in pieces]),
        A_ub=np.hstack([rows, -rows, -np.eye(k * m)]),
        b_ub=-np.concatenate([offset for _, _, offset in pieces]),
    )
    return program.x[:n] - program.x[n : 2 * n]


def _rounded(A, s, l2, pieces):
    """Newton's method on pieces whose kinks are rounded, ever less."""
    v = np.zeros(A.shape[1])
    for width in 10.0 ** -np.arange(0, 8):

        def rounded(v, width=width):
            f, g, H = l2 @ v**2 / 2, l2 * v, np.diag(l2)
            for a, sign, offset in pieces:
                u = (sign * (A @ v) + offset) / width
                p = expit(u)
                f = f + s @ (a * width * np.logaddexp(0, u))
                g = g + A.T @ (s * a * sign * p)
                H = H + (A.T * (s * a * p * (1 - p) / width)) @ A
            return f, g, H

        v = _newton(rounded, v, 60)[0]
    return v


def smallest_softmax_objective(X, codes, *, l2=0.0, sample_weight=None):
    """The same for softmax cross-entropy."""
    A, scale = _standardised(X)
    (m, n), k = A.shape, codes.max() + 1
    s = (
        np.full(m, 1 / m)
        if sample_weight is None
        else np.asarray(sample_weight, float) / np.sum(sample_weight)
    )
    l2 = np.tile(np.append(l2 / scale**2, 0), k)

    def fun(v):  # v is W of shape (k, n), flattened
        Z = A @ v.reshape(k, n).T
        P = softmax(Z, axis=1)
        value, slope = softmax_loss("log_loss", codes, Z)
        H = np.zeros((k, n, k, n))
        for i in range(k):
            for j in range(k):
                H[i, :, j] = (A.T * (s * P[:, i] * ((i == j) - P[:, j]))) @ A
        return (
            s @ value + l2 @ v**2 / 2,
            ((slope.T * s) @ A).ravel() + l2 * v,
            H.reshape(k * n, k * n) + np.diag(l2),
        )

    return _newton(fun, np.zeros(k * n))[1]
