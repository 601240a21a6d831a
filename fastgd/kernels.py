"""The compiled kernels as plain functions.

They take float32 or float64 arrays in C order, and `gradient_descent` and `loss_gradient` in Fortran order
too, without a copy (anything else is converted to float64), release the GIL, and use as many threads as
OpenMP may.
"""

import numpy as np

from ._compiled import linear
from ._dense_kernels import (
    dense_backward,
    dense_forward,
    elu_backward,
    elu_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    logistic_backward,
    logistic_forward,
    relu_backward,
    relu_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from ._losses import COUPLED, MARGIN, REGRESSION, Loss, classification_loss, regression_loss
from ._threads import effective_n_threads

__all__ = [
    "dense_backward",
    "dense_forward",
    "elu_backward",
    "elu_forward",
    "gradient_descent",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "logistic_backward",
    "logistic_forward",
    "loss_gradient",
    "relu_backward",
    "relu_forward",
    "softmax_backward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
]

LOSSES = sorted({*REGRESSION, *MARGIN})


def gradient_descent(X, y, w, learning_rate, n_iter, *, out=None):
    """Gradient descent for least squares in matrix form.

    ``n_iter`` times ``w <- w - learning_rate * X.T @ (X @ w - y) / m``, each in one pass over X.

    Parameters
    ----------
    X : array-like of shape (m, d)
    y : array-like of shape (m,) or (m, k)
    w : array-like of shape (d,) or (d, k)
        Where to start; unchanged unless it is `out`.
    learning_rate : float
        At most 2 over the largest eigenvalue of ``X.T @ X / m`` to converge.
    n_iter : int
    out : ndarray of the shape of `w` or None, default=None

    Returns
    -------
    w : ndarray of shape (d,) or (d, k), of X's dtype

    Examples
    --------
    The line through (1, 2) and (3, 4) is y = 1 + x:

    >>> import numpy as np
    >>> from fastgd.kernels import gradient_descent
    >>> X = np.array([[1.0, 1.0], [3.0, 1.0]])
    >>> gradient_descent(X, [2.0, 4.0], [0.0, 0.0], learning_rate=0.3, n_iter=1000).round(6)
    array([1., 1.])
    """
    X, Y, w, theta = _arrays(X, y, w)
    if n_iter < 0:
        raise ValueError(f"n_iter must not be negative, got {n_iter}.")
    linear.gradient_descent(X, Y, theta, learning_rate, n_iter, effective_n_threads(None))
    return _into(out, theta[:, :-1].T.reshape(w.shape).astype(X.dtype), "w")


def loss_gradient(X, y, w, loss="squared_error", sample_weight=None, *, epsilon=0.1, quantile=0.5, out=None):
    """Mean loss of the predictions ``X @ w`` and its gradient, X read once.

    Parameters
    ----------
    X : array-like of shape (m, d)
    y : array-like of shape (m,) or (m, k)
        Targets; -1 and 1 for classification losses. With ``w`` of several columns and ``"log_loss"``
        or ``"brier_score"``, class indices of shape (m,): the loss is that of the softmax.
    w : array-like of shape (d,) or (d, k)
    loss : str, default="squared_error"
        A loss of `fastgd.GDRegressor` or `fastgd.GDClassifier`.
    sample_weight : array-like of shape (m,) or None, default=None
        The mean is a weighted one.
    epsilon, quantile : float
        Parameters of the losses that have them.
    out : ndarray of the shape of `w` or None, default=None
        Receives the gradient.

    Returns
    -------
    loss : float
        Summed over outputs.
    gradient : ndarray of shape (d,) or (d, k), of X's dtype

    Raises
    ------
    ValueError
        For an unknown loss, shapes that do not fit together, labels that the loss does not know, or weights
        that sum to zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import loss_gradient
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> loss, gradient = loss_gradient(X, [1.0, 1.0], [0.0, 0.0])
    >>> loss, gradient
    (0.5, array([-2., -3.]))
    """
    coupled = np.ndim(w) == 2 and np.shape(w)[1] > 1 and np.ndim(y) == 1 and loss in COUPLED
    X, Y, w, theta = _arrays(X, y, w, labels=coupled)
    loss = _find_loss(loss, coupled, epsilon, quantile)
    n_threads = effective_n_threads(None)
    if loss.target == "margin" and not linear.are_margins(Y, n_threads):
        raise ValueError(f"y must be -1 or 1 with the loss {loss.name!r}.")
    weight, n = None, len(X)
    if sample_weight is not None:
        weight = np.ascontiguousarray(_real(sample_weight, "sample_weight"), dtype=X.dtype)
        if weight.shape != (len(X),):
            raise ValueError(f"sample_weight has shape {weight.shape}, expected ({len(X)},).")
        n = weight.sum(dtype=np.float64)
        if n == 0:
            raise ValueError("sample_weight sums to zero: there is nothing to take the mean of.")
    total, gradient = linear.Pass(X, len(theta)).run(X, Y, weight, theta, loss.id, loss.array, n_threads)
    value = total[0] if loss.coupled else total.sum()
    gradient = (gradient[:, :-1] / n).T.reshape(w.shape).astype(X.dtype)
    return float(value / n), _into(out, gradient, "w")


def _find_loss(name, coupled, epsilon, quantile) -> Loss:
    if name in REGRESSION:
        return regression_loss(name, epsilon, quantile)
    if name in MARGIN:
        return classification_loss(name, 3 if coupled else 2, epsilon)
    raise ValueError(f"Unknown loss {name!r}; known are {', '.join(LOSSES)}.")


def _real(values, name):
    """As an array; the imaginary parts of complex numbers are not dropped in silence."""
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers.")
    return array


def _arrays(X, y, w, labels=False):
    """X as it is where possible, Y (k, m), w, and theta (k, d + 1) in double with a zero intercept."""
    X, y, w = _real(X, "X"), _real(y, "y"), _real(w, "w")
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must have rows and columns, got shape {X.shape}.")
    if X.itemsize not in X.strides and 1 not in X.shape:
        X = np.ascontiguousarray(X)
    y, w = np.asarray(y, dtype=X.dtype), np.asarray(w, dtype=np.float64)
    m, d = X.shape
    if y.shape[:1] != (m,) or w.shape[:1] != (d,) or not labels and y.shape[1:] != w.shape[1:]:
        raise ValueError(
            f"Shapes do not fit together: X {X.shape}, y {y.shape}, w {w.shape}; expected "
            f"y ({m},) and w ({d},), or y ({m}, k) and w ({d}, k)."
        )
    columns = w.reshape(d, -1)
    if labels and not np.isin(y, np.arange(columns.shape[1])).all():
        raise ValueError(f"y must be class indices in 0 .. {columns.shape[1] - 1}.")
    theta = np.zeros((columns.shape[1], d + 1))
    theta[:, :-1] = columns.T
    return X, np.ascontiguousarray(y.reshape(m, -1).T), w, theta


def _into(out, result, name):
    if out is None:
        return result
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray or None, got {type(out).__name__}.")
    if out.shape != result.shape:
        raise ValueError(f"out has shape {out.shape}, expected that of {name}, {result.shape}.")
    np.copyto(out, result)  # which refuses to make integers of them
    return out
