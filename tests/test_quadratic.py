"""Iterations on a quadratic model run in compiled code where nobody watches; the iterates are the same."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from fastgd import DivergenceError, GDClassifier, GDRegressor
from fastgd._monitor import Monitor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SOLVERS = ["auto", "gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
CASES = {
    **{f"{name}, {rate}": dict(solver=name, learning_rate=rate) for name in SOLVERS for rate in (0.02, 0.1)},
    "all iterations": dict(learning_rate=0.02, tol=None, max_iter=70),
    "no intercept": dict(learning_rate=0.02, fit_intercept=False),
    "decaying": dict(learning_rate="invscaling", eta0=0.1),
    "clipped": dict(learning_rate=0.02, solver="gd", clip_norm=0.5),
    "lasso": dict(penalty="l1", alpha=0.1),
    "lasso at a rate": dict(penalty="l1", alpha=0.1, learning_rate=0.02),
    "elastic net of a robust loss": dict(loss="huber", penalty="elasticnet", alpha=0.05),
    "l1 of a kinked loss": dict(loss="absolute_error", penalty="l1", alpha=0.01),
}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)) * [1, 2, 0.5, 1, 1, 3] + [0, 1, 0, -1, 0, 0]
    return X, X @ rng.normal(size=(6, 2)) + rng.normal(size=(200, 2)) + 3


@pytest.fixture
def watched(monkeypatch):
    """Makes every monitor look at single iterations, which then run in Python."""

    def watch():
        monkeypatch.setattr(Monitor, "quiet", property(lambda self: False))

    return watch


def assert_same_descent(a, b, rtol=1e-9):
    assert (a.n_iter_, a.stop_reason_, a.t_, a.learning_rate_) == (
        b.n_iter_, b.stop_reason_, b.t_, b.learning_rate_,
    )  # fmt: skip
    scale = np.abs(b.coef_).max()
    assert_allclose(a.coef_, b.coef_, rtol=rtol, atol=rtol * scale)
    assert_allclose(a.intercept_, b.intercept_, rtol=rtol, atol=rtol * scale)
    assert_allclose(a.loss_curve_, b.loss_curve_, rtol=rtol)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_compiled_iterations_are_those_in_python(table, watched, case, n_outputs):
    X, Y = table
    y = Y[:, 0] if n_outputs == 1 else Y
    compiled = GDRegressor(**CASES[case]).fit(X, y)
    watched()
    assert_same_descent(compiled, GDRegressor(**CASES[case]).fit(X, y))


@pytest.mark.parametrize(
    "kwargs", [{"solver": "gd", "learning_rate": 0.05}, {"penalty": "l1", "alpha": 0.01}]
)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "squared_hinge"])
def test_compiled_iterations_of_a_classifier_are_those_in_python(table, watched, loss, kwargs):
    X, Y = table
    y = Y[:, 0] > 3
    compiled = GDClassifier(loss=loss, **kwargs).fit(X, y)
    watched()
    assert_same_descent(compiled, GDClassifier(loss=loss, **kwargs).fit(X, y))


@pytest.mark.parametrize("solver", ["auto", "gd", "adam"])
def test_compiled_iterations_of_float32_data_are_those_in_python(table, watched, solver):
    X, y = table[0].astype(np.float32), table[1][:, 0].astype(np.float32)
    compiled = GDRegressor(solver=solver, learning_rate=0.02).fit(X, y)
    watched()
    assert_same_descent(compiled, GDRegressor(solver=solver, learning_rate=0.02).fit(X, y), rtol=1e-5)


@pytest.mark.parametrize("solver", ["auto", "gd", "momentum", "nesterov"])
def test_compiled_iterations_tell_of_divergence(table, solver):
    X, Y = table
    with pytest.raises(DivergenceError, match="learning rate"):
        GDRegressor(solver=solver, learning_rate=1.0).fit(X, Y)


def test_compiled_iterations_go_on_from_a_warm_start(table):
    X, Y = table
    settings = dict(solver="momentum", learning_rate=0.01, tol=None)
    whole = GDRegressor(**settings, max_iter=40).fit(X, Y)
    halves = GDRegressor(**settings, max_iter=20, warm_start=True).fit(X, Y).fit(X, Y)
    assert_allclose(halves.coef_, whole.coef_, rtol=1e-10)
    assert halves.t_ == whole.t_


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_compiled_iterations_reach_the_minimum_that_scipy_finds(table, alpha):
    X, Y = table
    y = Y[:, 0]

    def objective(theta):
        residual = X @ theta[:-1] + theta[-1] - y
        gradient = np.append(X.T @ residual / len(X) + alpha * theta[:-1], residual.mean())
        return residual @ residual / 2 / len(X) + alpha / 2 * theta[:-1] @ theta[:-1], gradient

    expected = minimize(objective, np.zeros(7), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    model = GDRegressor(alpha=alpha, learning_rate=0.1, tol=1e-8, max_iter=5000).fit(X, y)
    assert_allclose(model.coef_, expected[:-1], rtol=1e-6)
    assert_allclose(model.intercept_, expected[-1:], rtol=1e-6)
