"""The way that `fit` took through the weights of a linear model, one point for every update.

The fit is repeated with a clone whose problem and iterations are listened to: full-batch descents tell of
each iteration, mini-batch descents go through their epochs batch by batch. Nothing is computed a second
way, so the path ends where the fit ends, whatever the solver, schedule, metric or average.
"""

from dataclasses import dataclass, field

import numpy as np
from sklearn.base import clone

from .._base import BaseGD
from .._exceptions import DivergenceError
from .._linear import LinearProblem
from .._plan import hidden_layers
from .._quadratic import QuadraticModel

COLUMNS_AT_ONCE, NUMBERS_AT_ONCE = 200, 2_000_000  # points of a surface per pass over the data


@dataclass
class PathOfFit:
    """What was seen of one fit.

    Attributes
    ----------
    points : list of ndarray of shape (d + 1,)
        Weights and intercept at the start and after every update.
    epochs : list of float
        Passes over the data at each point; a full-batch iteration counts as one.
    problem : LinearProblem
    model : fitted estimator, or None where the descent diverged
    """

    make_problem: object
    points: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    problem: LinearProblem | None = None
    model: object = None
    by_batches: bool = False
    batch_size: int = 0

    def add(self, theta, rows=0):
        """A point reached after `rows` more rows."""
        done = self.epochs[-1] if self.epochs else 0.0
        self.points.append(np.array(theta[0], dtype=np.float64))
        self.epochs.append(done + rows / len(self.problem.X))

    # what an estimator asks for in place of its own `_problem`, and tells in place of callbacks

    def watched_problem(self, *args):
        problem = self.make_problem(*args)
        if problem.k != 1:
            raise ValueError(f"A path has one output, y has {problem.k}: a surface has two parameters.")
        problem.__class__ = type(type(problem).__name__, (_Watched, type(problem)), {})
        problem.path, self.problem = self, problem
        return problem

    def begin(self):
        pass

    def end(self, theta):
        if not self.by_batches:
            self.add(theta(), rows=len(self.problem.X))
        return False

    def close(self, theta):
        if not np.array_equal(theta[0], self.points[-1]):  # early stopping goes back to the best weights
            self.add(theta)


class _Watched:
    """A problem that tells where it is asked to begin, and where each batch leads."""

    def value_and_grad(self, u, curvature=None):
        if not self.path.points:  # every descent begins by looking at where it stands
            self.path.add(self.coordinates.to_theta(np.asarray(u, dtype=np.float64)))
        return super().value_and_grad(u, curvature)

    def run_epoch(self, state, order, steps, plan):
        self.path.by_batches, self.path.batch_size = True, plan.batch_size
        total = 0.0
        for number in range(len(steps)):
            rows = order[number * plan.batch_size : (number + 1) * plan.batch_size]
            total += super().run_epoch(state, rows, steps[number : number + 1], plan)
            self.path.add(self.coordinates.to_theta(state.solution.astype(np.float64)), len(rows))
        return total


def path_of_fit(estimator, X, y, **fit_params):
    """Fit a clone of a linear estimator and tell its path.

    Parameters
    ----------
    estimator : GDRegressor or GDClassifier
        With one output and no hidden layer.
    X : array-like of shape (m, d)
    y : array-like of shape (m,)
    **fit_params : dict
        Of `fit`.

    Returns
    -------
    path : PathOfFit
        Also of a descent that diverges, up to where it did.
    """
    if not isinstance(estimator, BaseGD):
        raise TypeError(f"Expected a GDRegressor or GDClassifier, got {type(estimator).__name__}.")
    if hidden_layers(estimator):
        raise ValueError(
            f"The path of a network with hidden_layer_sizes={estimator.hidden_layer_sizes} has too many "
            "dimensions: take a linear model, hidden_layer_sizes=()."
        )
    model = clone(estimator)
    path = PathOfFit(model._problem)
    model._problem, model._observer = path.watched_problem, path
    try:
        path.model = model.fit(X, y, **fit_params)
    except DivergenceError:
        if path.problem is None or not path.points:
            raise
    del model._problem, model._observer
    return path


def objective_at(problem, thetas):
    """Mean loss + penalty of a linear model with one output at many points.

    Parameters
    ----------
    problem : LinearProblem
    thetas : ndarray of shape (n_points, d + 1)

    Returns
    -------
    values : ndarray of shape (n_points,)
    """
    thetas = np.ascontiguousarray(thetas, dtype=np.float64)
    if problem.loss.kernel == "squared_error":
        plain = _with_outputs(problem, 1)
        model = QuadraticModel.gram_form(plain, np.zeros((1, problem.d + 1)))
        return model.value_and_grad(thetas)[0] + problem.penalty.l1 * np.abs(thetas[:, :-1]).sum(axis=1)
    together = int(np.clip(NUMBERS_AT_ONCE // len(problem.X), 1, COLUMNS_AT_ONCE))
    values = []
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(thetas), together):
            points = thetas[first : first + together]
            values.append(_with_outputs(problem, len(points)).objective(points))
    return np.concatenate(values)


def _with_outputs(problem, k):
    """The same data and objective k times, in the columns as they are: X is read once for all outputs."""
    return LinearProblem(
        problem.X, np.repeat(problem.Y, k, axis=0), problem.weight, problem.loss, problem.penalty, k=k,
        fit_intercept=problem.fit_intercept, n_threads=problem.n_threads,
    )  # fmt: skip
