"""The landscape of DescentPathDisplay.from_estimator: the objective of a linear model, and paths of fits."""

import warnings

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from ._path_of_fit import objective_at, path_of_fit
from ._surface import make_grid, until_infinite

LOSSES_EVALUATED = 2e8  # in about two seconds


def linear_landscape(estimators, X, y, fit_params, *, names, bounds, resolution):
    """What a DescentPathDisplay stores, as a dict; parameters as in its `from_estimator`."""
    if not estimators:
        raise ValueError("There is no estimator to draw.")
    if names is not None and len(names) != len(estimators):
        raise ValueError(f"names has {len(names)} entries for {len(estimators)} estimators.")
    inputs = [_last_step(estimator, X, y) for estimator in estimators]
    for last, table in inputs:
        _check_two_parameters(last, table)
    fits = [path_of_fit(last, table, y, **fit_params) for last, table in inputs]
    problem = fits[0].problem
    names = _unique([_batches(fit) for fit in fits]) if names is None else list(names)
    ways = [until_infinite(np.array(fit.points)[:, :2]) for fit in fits]
    minimum = _minimum(*inputs[0], y, fit_params)
    if bounds is None:
        seen = [way if fit.model is not None else way[:1] for way, fit in zip(ways, fits, strict=True)]
        bounds = _room_for(np.concatenate(seen if minimum is None else [*seen, minimum[None]]))
    if resolution is None:
        resolution = _resolution(problem)
    axes = make_grid(bounds, resolution)
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    thetas = grid if problem.fit_intercept else np.column_stack([grid, np.zeros(len(grid))])
    _check_same_surface([fit.problem for fit in fits], thetas)
    return {
        "x": axes[0],
        "y": axes[1],
        "values": objective_at(problem, thetas).reshape(resolution, resolution),
        "paths": {name: [way] for name, way in zip(names, ways, strict=True)},
        "times": {name: [np.array(fit.epochs)] for name, fit in zip(names, fits, strict=True)},
        "diverged": {name: [fit.model is None] for name, fit in zip(names, fits, strict=True)},
        "minimum": minimum,
        "axis_names": _parameter_names(inputs[0][1], problem),
        "value_name": "objective",
    }


def _resolution(problem):
    """100 points each way, fewer where that takes more than some seconds; contours bear it."""
    if problem.loss.kernel == "squared_error":  # its surface costs one pass over the data
        return 100
    return int(np.clip((LOSSES_EVALUATED / len(problem.X)) ** 0.5, 30, 100))


def _last_step(estimator, X, y):
    """The estimator that descends, and X as it receives it."""
    if isinstance(estimator, Pipeline):
        transformers = estimator[:-1]
        return estimator[-1], clone(transformers).fit_transform(X, y) if len(transformers.steps) else X
    return estimator, X


def _check_two_parameters(estimator, X):
    shape = getattr(X, "shape", None) or np.shape(X)
    n_coefficients = shape[1] if len(shape) == 2 else 0
    intercept = getattr(estimator, "fit_intercept", True)
    if n_coefficients + bool(intercept) != 2:
        raise ValueError(
            f"A surface has two parameters: X of shape {shape} with fit_intercept={intercept} is none. "
            "Give X one column, or two and fit_intercept=False."
        )


def _check_same_surface(problems, thetas):
    """Different losses, penalties or rows are different landscapes."""
    probes = thetas[:: max(1, len(thetas) // 7)]
    reference = objective_at(problems[0], probes)
    for number, problem in enumerate(problems[1:], start=1):
        if not np.allclose(objective_at(problem, probes), reference, rtol=1e-6, equal_nan=True):
            raise ValueError(
                f"Estimator {number} has another objective than the first one (loss, penalty, alpha, "
                "transformers, or rows held out): they descend on different surfaces. Draw each by itself."
            )


def _minimum(estimator, X, y, fit_params):
    """Where the objective is least, shape (2,), or None where that is not known."""
    exact = clone(estimator).set_params(
        solver="auto", batch_size="auto", learning_rate="auto", preconditioner="auto", average=False,
        clip_norm=None, max_iter=10_000, tol=1e-6, early_stopping=False, verbose=0,
    )  # fmt: skip
    if estimator.loss == "perceptron" or estimator.early_stopping:
        return None
    weight = {"sample_weight": fit_params["sample_weight"]} if "sample_weight" in fit_params else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # then no minimum is marked
        path = path_of_fit(exact, X, y, **weight)
    return None if path.model is None or path.model.stop_reason_ != "converged" else path.points[-1][:2]


def _batches(path):
    if not path.by_batches or path.batch_size == len(path.problem.X):
        return "batch"
    return "stochastic" if path.batch_size == 1 else f"mini-batches of {path.batch_size}"


def _unique(names):
    names = list(names)
    return [f"{n} {names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _room_for(points):
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, 0.12 * (high - low), np.maximum(np.abs(high), 1.0))
    return np.column_stack([low - room, high + room])


def _parameter_names(X, problem):
    columns = getattr(X, "columns", None)
    names = ["weight"] if problem.fit_intercept else ["weight 1", "weight 2"]
    if columns is not None:
        names = [f"weight of {column}" for column in columns]
    return (names[0], "intercept") if problem.fit_intercept else tuple(names)
