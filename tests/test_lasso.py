"""Least squares with an L1 penalty end at the optimum, wide tables and small penalties included.

Oracle: scikit-learn's coordinate descent run to a duality gap of 1e-12, and the conditions of optimality.
"""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference import objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from fastgd import GDRegressor, _active_set

SHAPES = [(60, 20), (20, 20), (20, 60), (3, 40), (1, 5)]
SHARES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]  # of the penalty that leaves no weight


def table(m, d, seed=0):
    """Correlated columns with offsets, and a target that some of them make up."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, d)) + 0.5 * rng.normal(size=(m, 1)) + rng.normal(size=d)
    return X, X[:, ::4] @ rng.normal(size=len(range(0, d, 4))) + rng.normal(size=m) + 3


def largest_alpha(X, y, l1_ratio=1.0, fit_intercept=True):
    if fit_intercept:
        X, y = X - X.mean(axis=0), y - y.mean()
    return np.abs(X.T @ y).max() / len(X) / l1_ratio


def least(model, X, y, sample_weight=None):
    """The objective of coordinate descent, which leaves the intercept to the means."""
    p = model.get_params()
    ratio = 1.0 if p["penalty"] == "l1" else p["l1_ratio"]
    exact = ElasticNet(
        alpha=p["alpha"], l1_ratio=ratio, fit_intercept=p["fit_intercept"], tol=1e-12, max_iter=100_000
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is a bound still
        exact.fit(X, y, sample_weight=sample_weight)
    copy = GDRegressor(**p).fit(X, y)
    copy.coef_, copy.intercept_ = exact.coef_, np.atleast_1d(exact.intercept_)
    return objective(copy, X, y, sample_weight)


def assert_optimal(model, X, y, sample_weight=None):
    best = least(model, X, y, sample_weight)
    assert model.stop_reason_ == "converged"
    assert objective(model, X, y, sample_weight) <= best * (1 + 1e-6) + 1e-14 * np.mean(y**2)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("m, d", SHAPES)
def test_the_optimum_is_that_of_coordinate_descent(m, d, share, penalty, fit_intercept):
    X, y = table(m, d)
    ratio = 1.0 if penalty == "l1" else 0.5
    alpha = share * largest_alpha(X, y, ratio, fit_intercept) or 0.1  # zero for one row and an intercept
    model = GDRegressor(penalty=penalty, l1_ratio=ratio, alpha=alpha, fit_intercept=fit_intercept).fit(X, y)
    assert_optimal(model, X, y)


@pytest.mark.parametrize("share", SHARES)
def test_weights_at_zero_have_gradients_within_the_penalty_and_others_at_it(share):
    X, y = table(30, 80)
    alpha = share * largest_alpha(X, y)
    model = GDRegressor(penalty="l1", alpha=alpha, tol=1e-7).fit(X, y)
    gradient = X.T @ (y - model.predict(X)) / len(X)
    active = model.coef_ != 0
    assert 0 < active.sum() < 30, "with fewer weights than rows the optimum is one point"
    assert_allclose(gradient[active], alpha * np.sign(model.coef_[active]), rtol=1e-5)
    assert np.abs(gradient).max() <= alpha * (1 + 1e-5)


HARD = {
    "twice the same columns": lambda X: np.hstack([X, X]),
    "columns and their negatives": lambda X: np.hstack([X, -X[:, :10]]),
    "a column and its multiple": lambda X: np.hstack([X, 1e3 * X[:, :5], 1e-3 * X[:, 5:10]]),
    "sums of columns": lambda X: np.hstack([X, X[:, :20] + X[:, 1:21]]),
    "nearly the same columns": lambda X: np.hstack([X, X + 1e-7 * np.sin(1e3 * X)]),
    "columns of zeros": lambda X: np.hstack([X, np.zeros((len(X), 3))]),
    "constant columns": lambda X: np.hstack([X, np.full((len(X), 2), 7.0)]),
    "rows twice": lambda X: X[np.arange(len(X)) // 2],
    "a column with an outlier": lambda X: X + 1e3 * (np.arange(X.size).reshape(X.shape) == 7),
}


@pytest.mark.parametrize("share", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("hard", HARD)
def test_hard_columns_have_the_same_optimum(hard, share):
    X, y = table(30, 25)
    X = HARD[hard](X)
    model = GDRegressor(penalty="l1", alpha=share * largest_alpha(X, y)).fit(X, y)
    assert_optimal(model, X, y)


@pytest.mark.parametrize("hard", HARD)
def test_rounding_does_not_keep_a_descent_without_tolerance_going(hard):
    X, y = table(30, 25)
    X = HARD[hard](X)
    model = GDRegressor(penalty="l1", alpha=1e-3 * largest_alpha(X, y), tol=0).fit(X, y)
    assert model.stop_reason_ == "converged" and model.n_iter_ < 300


@pytest.mark.parametrize("share", [1e-1, 1e-3])
def test_outputs_end_at_their_own_optima_with_weights(share):
    X, y = table(30, 40)
    Y = np.column_stack([y, np.cos(y), 100 * y[::-1]])
    s = np.random.default_rng(1).uniform(0.1, 2, size=len(X))
    alpha = share * largest_alpha(X, y)
    together = GDRegressor(penalty="l1", alpha=alpha).fit(X, Y, sample_weight=s)
    for c in range(3):
        alone = GDRegressor(penalty="l1", alpha=alpha).fit(X, Y[:, c], sample_weight=s)
        assert_optimal(alone, X, Y[:, c], s)
        assert_allclose(
            together.predict(X)[:, c], alone.predict(X), rtol=1e-4, atol=1e-4 * np.abs(Y[:, c]).max()
        )


@pytest.mark.parametrize("m, d", [(60, 20), (20, 60)])
def test_every_step_lowers_the_objective(m, d):
    X, y = table(m, d)
    curve = GDRegressor(penalty="l1", alpha=1e-4 * largest_alpha(X, y), tol=1e-8).fit(X, y).loss_curve_
    assert len(curve) > 3 and np.all(np.diff(curve) <= 1e-14 * curve[0])


@pytest.mark.parametrize("largest", [0, 3, 15])
def test_more_weights_than_are_worth_factorising_are_left_to_accelerated_descent(largest, monkeypatch):
    X, y = table(60, 20)
    monkeypatch.setattr(_active_set, "LARGEST", largest)
    model = GDRegressor(penalty="l1", alpha=1e-3 * largest_alpha(X, y)).fit(X, y)
    assert np.count_nonzero(model.coef_) > largest
    assert_optimal(model, X, y)


@pytest.mark.parametrize("start", ["another penalty", "a dense point"])
def test_the_optimum_does_not_depend_on_the_start(start):
    X, y = table(20, 60)
    model = GDRegressor(penalty="l1", alpha=0.01 * largest_alpha(X, y), warm_start=True).fit(X, y)
    if start == "a dense point":
        model.set_params(warm_start=False).fit(X, y, coef_init=np.ones(60), intercept_init=[-5.0])
    else:
        model.set_params(alpha=0.1 * model.alpha).fit(X, y)
    assert_optimal(model, X, y)


def test_a_validation_set_changes_nothing_but_what_is_recorded():
    X, y = table(20, 60)
    model = GDRegressor(penalty="l1", alpha=0.01 * largest_alpha(X, y)).fit(X, y)
    watched = GDRegressor(**model.get_params()).fit(X, y, X_val=X[:5], y_val=y[:5])
    np.testing.assert_array_equal(watched.coef_, model.coef_)
    assert len(watched.validation_scores_) == watched.n_iter_ == model.n_iter_


def test_float32_ends_at_the_optimum_to_its_precision():
    X, y = table(30, 40)
    model = GDRegressor(penalty="l1", alpha=0.01 * largest_alpha(X, y)).fit(X, y)
    single = GDRegressor(**model.get_params()).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32
    assert objective(single, X, y) <= objective(model, X, y) * (1 + 1e-4)
