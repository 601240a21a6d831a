"""The parameters of a problem as what an estimator has learned, and back.

theta is (k, d + 1) of a linear model, (p,) of a network; `coef_`, `intercept_`, `coefs_` and `intercepts_`
have the shapes that scikit-learn gives them.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_random_state
from sklearn.utils.extmath import safe_sparse_dot

from ._linear import LinearProblem
from ._network import Architecture
from ._threads import blas_between_fits, effective_n_threads

LEARNED = ("coef_", "intercept_", "coefs_", "intercepts_", "batch_norms_", "gradient_norms_", "_flat")


def learned_attributes(problem, theta, flat):
    """Weights and intercepts as attributes, of X's dtype.

    flat : whether y was, so that `coef_` and predictions are
    """
    dtype = problem.X.dtype
    if isinstance(problem, LinearProblem):
        coef, intercept = np.array(theta[:, :-1], dtype, order="C"), np.array(theta[:, -1], dtype)
        return {"coef_": coef[0] if flat else coef, "intercept_": intercept, "_flat": flat}
    layers = problem.architecture.layers(theta)
    learned = {
        "coefs_": [np.array(layer.coef, dtype) for layer in layers],
        "intercepts_": [np.array(layer.intercept, dtype) for layer in layers],
        "gradient_norms_": np.array(problem.gradient_norms),
        "_flat": flat,
    }
    if problem.architecture.batch_norm:
        learned["batch_norms_"] = [np.array(layer.norm, dtype) for layer in layers[:-1]]
    return learned


def predictor(estimator, X):
    """The predictor of the loss: (m,) where `coef_` is flat, else (m, k)."""
    if hasattr(estimator, "coef_"):
        coef, intercept = estimator.coef_, estimator.intercept_
        with blas_between_fits(X.size * intercept.size):
            Z = safe_sparse_dot(X, coef.T, dense_output=True)
        if issparse(coef) and estimator._flat:  # always a matrix
            Z = Z[:, 0]
        return Z + (intercept if Z.ndim == 2 else intercept[0])
    coefs, norms = estimator.coefs_, getattr(estimator, "batch_norms_", None)
    sizes = [len(coefs[0]), *(coef.shape[1] for coef in coefs)]
    architecture = Architecture(sizes, estimator.activation, norms is not None, True)
    theta = architecture.join(coefs, estimator.intercepts_, norms, dtype=coefs[0].dtype)
    Z = architecture.predict(X, theta, effective_n_threads(estimator.n_jobs))
    return Z[:, 0] if estimator._flat else Z


def initial_theta(estimator, problem, warm, coef_init, intercept_init):
    """Where to start: as given, else, if warm, as learned; None where there is neither."""
    if not isinstance(problem, LinearProblem):
        return _initial_network(estimator, problem.architecture, warm, coef_init, intercept_init)
    names = "coef_init", "intercept_init"
    if warm and hasattr(estimator, "coef_"):
        names = _names_of_start(coef_init, intercept_init, "coef_", "intercept_")
        coef_init = estimator.coef_ if coef_init is None else coef_init
        intercept_init = estimator.intercept_ if intercept_init is None else intercept_init
    if coef_init is None and intercept_init is None:
        return None
    coef_init = coef_init.toarray() if issparse(coef_init) else coef_init
    theta = np.zeros((problem.k, problem.d + 1))
    _take(names[0], coef_init, theta[:, :-1])
    _take(names[1], intercept_init, theta[:, -1])
    if not estimator.fit_intercept:
        theta[:, -1] = 0
    return theta


def _initial_network(estimator, architecture, warm, coef_init, intercept_init):
    """Weights and intercepts of all layers from lists of arrays; what is not given is drawn."""
    norms, names = [], ("coef_init", "intercept_init")
    if warm and hasattr(estimator, "coefs_"):
        names = _names_of_start(coef_init, intercept_init, "coefs_", "intercepts_")
        coef_init = estimator.coefs_ if coef_init is None else coef_init
        intercept_init = estimator.intercepts_ if intercept_init is None else intercept_init
        norms = getattr(estimator, "batch_norms_", norms)
    if coef_init is None and intercept_init is None:
        return None
    theta = architecture.initial(check_random_state(estimator.random_state))
    layers = architecture.layers(theta)
    if architecture.batch_norm:
        for layer, norm in zip(layers[:-1], norms, strict=False):
            for part, value in zip(layer.norm, norm, strict=True):
                _take("batch_norms_", value, part)
    _take_layers(names[0], coef_init, [layer.coef for layer in layers])
    _take_layers(names[1], intercept_init, [layer.intercept for layer in layers])
    if not estimator.fit_intercept:
        for layer in layers:
            layer.intercept[...] = 0
    return theta


def _names_of_start(coef_init, intercept_init, coef, intercept):
    """What errors call the parameters of a warm start: the user's, or those of the last fit."""
    last = "warm_start=True: the last fit's"
    return (
        "coef_init" if coef_init is not None else f"{last} {coef}",
        "intercept_init" if intercept_init is not None else f"{last} {intercept}",
    )


def _take_layers(name, values, parts):
    if values is None:
        return
    if np.isscalar(values) or len(values) != len(parts):
        given = repr(values) if np.isscalar(values) else f"{len(values)} arrays"
        raise ValueError(f"{name} has {given}, expected one for each of {len(parts)} layers.")
    for number, (value, part) in enumerate(zip(values, parts, strict=True)):
        _take(f"{name}[{number}]", value, part)


def _take(name, value, part):
    """Fill a part of theta by what the user gave."""
    if value is None:
        return
    value = np.asarray(value, dtype=np.float64)
    if value.shape != part.shape and not (len(part) == 1 and value.size == part.size):
        raise ValueError(f"{name} has shape {value.shape}, expected {part.shape}.")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    part[...] = value.reshape(part.shape)


def check_same_model(estimator, problem, theta):
    """partial_fit goes on with what it has learned: outputs and layers must be the same.

    theta : None if no chunk so far had any weight
    """
    if theta is None:
        return
    if isinstance(problem, LinearProblem):
        if theta.ndim == 2 and len(theta) != problem.k:
            raise ValueError(f"y has {problem.k} outputs, {len(theta)} were seen before.")
        fits = theta.ndim == 2
    else:
        fits = theta.ndim == 1 and [c.shape for c in estimator.coefs_] == problem.architecture.shapes
        fits = fits and hasattr(estimator, "batch_norms_") == problem.architecture.batch_norm
    if not fits:
        raise ValueError(
            "partial_fit cannot go on with another architecture: hidden_layer_sizes, batch_norm or the "
            "number of outputs changed. Use fit, or a new estimator."
        )
