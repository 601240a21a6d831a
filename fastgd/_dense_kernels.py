"""The layers of a network as plain functions: dense, elementwise activations, softmax.

Each has a forward and a backward function; the backward one takes the derivative of the loss by what the
forward one returned, and returns the derivatives by what it was given. `fastgd.kernels` is where users
find them.
"""

import numpy as np

from ._compiled import dense
from ._threads import effective_n_threads

FLOATS = {np.dtype(np.float32), np.dtype(np.float64)}


def dense_forward(X, W, b, *, out=None):
    """Dense layer: Z = X W + b.

    Parameters
    ----------
    X : array-like of shape (m, d)
    W : array-like of shape (d, k)
    b : array-like of shape (k,)
    out : ndarray of shape (m, k) or None, default=None

    Returns
    -------
    Z : ndarray of shape (m, k)

    Raises
    ------
    ValueError
        For shapes that do not fit together, or float32 beside float64.

    Examples
    --------
    >>> from fastgd.kernels import dense_forward
    >>> dense_forward([[1.0, 2.0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [0.0, 0.0, 10.0])
    array([[ 1.,  2., 13.]])
    """
    X, W, b = arrays = _arrays(X=X, W=W, b=b)
    _check_shapes(arrays, X="md", W="dk", b="k")
    Z = _target(out, "out", (X.shape[0], W.shape[1]), arrays)
    dense.dense_forward(X, W, b, Z)
    return _delivered(Z, out)


def dense_backward(X, W, dZ, *, out=None):
    """Derivatives of a loss by X, W and b, from dZ, that by Z = X W + b.

    dX = dZ W^T, dW = X^T dZ, and db is the sum of the rows of dZ.

    Parameters
    ----------
    X : array-like of shape (m, d)
    W : array-like of shape (d, k)
    dZ : array-like of shape (m, k)
    out : tuple of three ndarrays or None, default=None
        Receive dX, dW and db.

    Returns
    -------
    dX : ndarray of shape (m, d)
    dW : ndarray of shape (d, k)
    db : ndarray of shape (k,)

    Raises
    ------
    ValueError
        For shapes that do not fit together, or float32 beside float64.

    Examples
    --------
    >>> from fastgd.kernels import dense_backward
    >>> dX, dW, db = dense_backward([[1.0, 2.0], [3.0, 4.0]], [[5.0], [6.0]], [[1.0], [1.0]])
    >>> dX
    array([[5., 6.],
           [5., 6.]])
    >>> dW
    array([[4.],
           [6.]])
    >>> db
    array([2.])
    """
    X, W, dZ = arrays = _arrays(X=X, W=W, dZ=dZ)
    _check_shapes(arrays, X="md", W="dk", dZ="mk")
    if out is None:
        out = (None, None, None)
    elif not isinstance(out, tuple | list) or len(out) != 3:
        raise TypeError("out must be a tuple of three arrays, for dX, dW and db, or None.")
    shapes = {"dX": X.shape, "dW": W.shape, "db": W.shape[1:]}
    targets = [
        _target(array, f"out's {name}", shape, arrays)
        for (name, shape), array in zip(shapes.items(), out, strict=True)
    ]
    dense.dense_backward(X, W, dZ, *targets)
    return tuple(_delivered(target, array) for target, array in zip(targets, out, strict=True))


def softmax_forward(Z, *, out=None):
    """Softmax of each row: p_i = exp(z_i) / sum_j exp(z_j).

    The maximum of a row is subtracted first, which changes nothing but keeps exp from overflowing. A row with
    nan or inf becomes nan; -inf is the logit of probability 0.

    Parameters
    ----------
    Z : array-like of shape (m, k)
    out : ndarray of shape (m, k) or None, default=None
        May be `Z`.

    Returns
    -------
    P : ndarray of shape (m, k)

    Examples
    --------
    >>> from fastgd.kernels import softmax_forward
    >>> softmax_forward([[0.0, 0.0], [10000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    (Z,) = arrays = _arrays(Z=Z)
    _check_shapes(arrays, Z="mk")
    P = _target(out, "out", Z.shape, arrays, in_place=True)
    dense.softmax_forward(Z, P, effective_n_threads(None))
    return _delivered(P, out)


def softmax_backward(P, dP, *, out=None):
    """Derivative of a loss by Z from dP, that by P = softmax(Z).

    Every probability of a row depends on every logit of it, dp_i / dz_j = p_i (delta_ij - p_j). A row of
    the result is the full Jacobian diag(p) - p p^T times that of dP: dz = p * (dp - sum_j p_j dp_j).

    Parameters
    ----------
    P : array-like of shape (m, k)
        What `softmax_forward` returned.
    dP : array-like of shape (m, k)
    out : ndarray of shape (m, k) or None, default=None
        May be `P` or `dP`.

    Returns
    -------
    dZ : ndarray of shape (m, k)

    Examples
    --------
    >>> from fastgd.kernels import softmax_backward
    >>> softmax_backward([[0.5, 0.25, 0.25]], [[1.0, 0.0, 0.0]])
    array([[ 0.25 , -0.125, -0.125]])
    """
    P, dP = arrays = _arrays(P=P, dP=dP)
    _check_shapes(arrays, P="mk", dP="mk")
    dZ = _target(out, "out", P.shape, arrays, in_place=True)
    dense.softmax_backward(P, dP, dZ, effective_n_threads(None))
    return _delivered(dZ, out)


FORWARD_DOC = """A = {formula}, for every element.
{note}
    Parameters
    ----------
    Z : array-like of any shape
    out : ndarray of the shape of `Z` or None, default=None
        May be `Z`.

    Returns
    -------
    A : ndarray of the shape of `Z`

    Examples
    --------
    >>> from fastgd.kernels import {name}_forward
    >>> {name}_forward([-1.0, 0.0, 1.0]).round(4)
    {example}
    """

BACKWARD_DOC = """Derivative of a loss by Z from dA, that by A = {formula}.

    dZ = dA * {derivative}: the derivative of the activation is a function of A, so that no Z need be kept.

    Parameters
    ----------
    A : array-like of any shape
        What `{name}_forward` returned.
    dA : array-like of the shape of `A`
    out : ndarray of the shape of `A` or None, default=None
        May be `A` or `dA`.

    Returns
    -------
    dZ : ndarray of the shape of `A`

    Examples
    --------
    >>> from fastgd.kernels import {name}_backward, {name}_forward
    >>> A = {name}_forward([-1.0, 0.0, 1.0])
    >>> {name}_backward(A, [1.0, 1.0, 1.0]).round(4)
    {slope_example}
    """

# What differs between the docstrings. Errors are the largest found against extended precision, on dense grids
# and random bit patterns over the whole range, for both kinds of processor.
ACTIVATIONS = {
    "tanh": dict(
        formula="tanh(Z)",
        derivative="(1 - A) * (1 + A)",
        example="array([-0.7616,  0.    ,  0.7616])",
        slope_example="array([0.42, 1.  , 0.42])",
        note="The error is below 2.7 ulp in float64 and 2.5 ulp in float32; tiny Z and -0 are kept.",
    ),
    "logistic": dict(
        formula="1 / (1 + exp(-Z))",
        derivative="A * (1 - A)",
        example="array([0.2689, 0.5   , 0.7311])",
        slope_example="array([0.1966, 0.25  , 0.1966])",
        note="The error is below 2.4 ulp in both precisions, also where the result is tiny.",
    ),
    "relu": dict(
        formula="max(Z, 0)",
        derivative="(A > 0)",
        example="array([0., 0., 1.])",
        slope_example="array([0., 0., 1.])",
    ),
    "leaky_relu": dict(
        formula="(Z if Z > 0 else Z / 100)",
        derivative="(1 if A > 0 else 1 / 100)",
        example="array([-0.01,  0.  ,  1.  ])",
        slope_example="array([0.01, 0.01, 1.  ])",
    ),
    "elu": dict(
        formula="(Z if Z > 0 else exp(Z) - 1)",
        derivative="(1 if A > 0 else 1 + A)",
        example="array([-0.6321,  0.    ,  1.    ])",
        slope_example="array([0.3679, 1.    , 1.    ])",
        note="The error is below 1.3 ulp in float64 and 1 ulp in float32, also for tiny Z.",
    ),
}


def _activation(name, formula, derivative, example, slope_example, note=""):
    """The functions <name>_forward and <name>_backward."""
    activation = dense.ACTIVATION_IDS[name]

    def forward(Z, *, out=None):
        A = dense.activated(activation, Z, out)
        if A is not None:
            return A
        (Z,) = arrays = _arrays(Z=Z)
        A = _target(out, "out", Z.shape, arrays, in_place=True)
        dense.activation_forward(activation, Z.reshape(-1), A.reshape(-1), effective_n_threads(None))
        return _delivered(A, out)

    def backward(A, dA, *, out=None):
        A, dA = arrays = _arrays(A=A, dA=dA)
        if A.shape != dA.shape:
            raise ValueError(f"A has shape {A.shape}, dA has shape {dA.shape}; expected equal shapes.")
        dZ = _target(out, "out", A.shape, arrays, in_place=True)
        views = (array.reshape(-1) for array in (A, dA, dZ))
        dense.activation_backward(activation, *views, effective_n_threads(None))
        return _delivered(dZ, out)

    note = f"\n    {note}\n" if note else ""
    facts = dict(name=name, formula=formula, derivative=derivative, note=note)
    forward.__doc__ = FORWARD_DOC.format(example=example, **facts)
    backward.__doc__ = BACKWARD_DOC.format(slope_example=slope_example, **facts)
    for function, suffix in ((forward, "forward"), (backward, "backward")):
        function.__name__ = function.__qualname__ = f"{name}_{suffix}"
    return forward, backward


tanh_forward, tanh_backward = _activation("tanh", **ACTIVATIONS["tanh"])
logistic_forward, logistic_backward = _activation("logistic", **ACTIVATIONS["logistic"])
relu_forward, relu_backward = _activation("relu", **ACTIVATIONS["relu"])
leaky_relu_forward, leaky_relu_backward = _activation("leaky_relu", **ACTIVATIONS["leaky_relu"])
elu_forward, elu_backward = _activation("elu", **ACTIVATIONS["elu"])


def _arrays(**given):
    """All as C-ordered arrays of one dtype: that of the float32 or float64 arrays among them, else float64.

    Numbers in lists take the precision of the arrays beside them.
    """
    if all(map(_ready, given.values())) and len({a.dtype for a in given.values()}) == 1:
        return tuple(given.values())
    arrays = {name: np.asarray(a) for name, a in given.items()}
    for name, a in arrays.items():
        if a.dtype.kind not in "biufO":
            raise ValueError(f"{name} has dtype {a.dtype}, expected real numbers.")
    precisions = {
        name: a.dtype
        for name, a in arrays.items()
        if a.dtype in FLOATS and not isinstance(given[name], list | tuple | float)
    }
    if len(set(precisions.values())) > 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in precisions.items())
        raise ValueError(f"Precisions do not fit together: {found}; expected one dtype for all.")
    dtype = next(iter(precisions.values()), np.dtype(np.float64))
    arrays = (np.asarray(a, dtype, order="C") for a in arrays.values())
    return tuple(a if a.flags.aligned else a.copy() for a in arrays)


def _ready(a):
    """Whether kernels can read `a` as it is."""
    return type(a) is np.ndarray and a.dtype in FLOATS and a.flags.c_contiguous and a.flags.aligned


def _check_shapes(arrays, **axes):
    """Letters name the axes: X="md", W="dk" asks for shapes (m, d) and (d, k) with the same d."""
    sizes = {}
    for letters, array in zip(axes.values(), arrays, strict=True):
        if array.ndim != len(letters) or any(
            sizes.setdefault(letter, size) != size for letter, size in zip(letters, array.shape, strict=True)
        ):
            found = ", ".join(f"{name} {a.shape}" for name, a in zip(axes, arrays, strict=True))
            wanted = ", ".join(f"{n} ({', '.join(a)}{',' * (len(a) == 1)})" for n, a in axes.items())
            raise ValueError(f"Shapes do not fit together: {found}; expected {wanted}.")


def _target(out, name, shape, inputs, in_place=False):
    """Where a kernel may write: `out` if it is C-ordered and no input is changed before it is read."""
    dtype = inputs[0].dtype
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name} must be an ndarray or None, got {type(out).__name__}.")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"{name} has shape {out.shape} and dtype {out.dtype}, expected shape {shape} and dtype {dtype}."
        )
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only.")
    if not (out.flags.c_contiguous and out.flags.aligned):
        return np.empty(shape, dtype)
    for a in inputs:
        if np.may_share_memory(a, out) and not (in_place and a.ctypes.data == out.ctypes.data):
            return np.empty(shape, dtype)
    return out


def _delivered(result, out):
    """`result`, in `out` if there is one."""
    if out is None or out is result:
        return result
    out[...] = result
    return out
