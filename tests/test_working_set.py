"""L1 penalties on many columns: few of them at a time end where all of them together do, or lower."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from reference import objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet
from test_lasso import largest_alpha

from fastgd import GDClassifier, GDRegressor, _descent, _working_set
from fastgd._linear import LinearProblem

D = 2_100  # more than a Gram matrix is formed of
MODELS = [
    GDRegressor(penalty="l1", alpha=0.1),
    GDRegressor(penalty="l1", alpha=0.02, fit_intercept=False),
    GDRegressor(penalty="elasticnet", alpha=0.2, l1_ratio=0.5),
    GDRegressor(penalty="l1", alpha=0.03, loss="huber", epsilon=0.5),
    GDRegressor(penalty="l1", alpha=0.03, loss="poisson"),
    GDRegressor(penalty="l1", alpha=0.05, loss="absolute_error"),
    GDClassifier(penalty="l1", alpha=0.02),
    GDClassifier(penalty="elasticnet", alpha=0.02, l1_ratio=0.8, loss="squared_hinge"),
    GDClassifier(penalty="l1", alpha=0.02, loss="hinge"),
    GDClassifier(penalty="l1", alpha=0.02, loss="modified_huber"),
]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, D)) * (rng.random((120, D)) < 0.3) + rng.normal(size=D) * (np.arange(D) < 40)
    X[:, 7] = 1.0
    return X, X[:, :8] @ np.array([2.0, -1, 1, 0.5, -2, 1, 0.3, 0]) + 0.5 * rng.normal(size=120)


def target(model, z):
    if isinstance(model, GDClassifier):
        return (z > np.median(z)).astype(int)
    return np.random.default_rng(1).poisson(np.exp(z / 4)) if model.loss == "poisson" else z


@pytest.mark.filterwarnings("ignore:max_iter:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("form", ["dense", "fortran", "sparse", "weighted"])
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_optimum_is_no_higher_than_that_of_all_columns_together(model, form, table, monkeypatch):
    X, z = table
    y, few = target(model, z), type(model)(**model.get_params() | {"tol": 1e-6})
    rows = {"fortran": np.asfortranarray, "sparse": sp.csr_array}.get(form, np.asarray)(X)
    s = np.random.default_rng(2).integers(0, 3, size=120).astype(float) if form == "weighted" else None
    seen = []

    def counted(self, columns, of_columns=LinearProblem.of_columns):
        seen.append(len(columns))
        return of_columns(self, columns)

    monkeypatch.setattr(LinearProblem, "of_columns", counted)
    few.fit(rows, y, sample_weight=s)
    assert seen
    assert max(seen) < 1_100
    assert few.coef_.shape[-1] == D
    assert np.count_nonzero(few.coef_) < 300
    monkeypatch.setattr(_descent, "working_sets", lambda *args, **kwargs: False)
    whole = type(model)(**few.get_params() | {"max_iter": 2_000}).fit(rows, y, sample_weight=s)
    ends = [objective(m, X, y, sample_weight=s) for m in (few, whole)]
    assert ends[0] < ends[1] + 1e-6 * abs(ends[1])


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_the_optimum_is_that_of_coordinate_descent(share, table):
    X, y = table
    for ratio in (1.0, 0.7):
        alpha = share * largest_alpha(X, y, ratio)
        ours = GDRegressor(penalty="elasticnet", alpha=alpha, l1_ratio=ratio, tol=1e-6).fit(X, y)
        exact = ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-12, max_iter=100_000).fit(X, y)
        assert_allclose(ours.coef_, exact.coef_, atol=1e-4 * np.abs(exact.coef_).max())


def test_a_penalty_that_leaves_no_weight_leaves_none(table):
    X, y = table
    model = GDRegressor(penalty="l1", alpha=1.01 * largest_alpha(X, y)).fit(X, y)
    assert_array_equal(model.coef_, 0)
    assert_allclose(model.intercept_, y.mean())


def test_outputs_share_the_columns_that_either_needs(table):
    X, y = table
    Y = np.column_stack([y, X[:, 100:104].sum(axis=1)])
    both = GDRegressor(penalty="l1", alpha=0.1, tol=1e-6).fit(X, Y)
    for c in range(2):
        alone = GDRegressor(penalty="l1", alpha=0.1, tol=1e-6).fit(X, Y[:, c])
        assert_allclose(both.coef_[c], alone.coef_, atol=1e-5)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[6]], ids=str)
def test_every_iteration_counts_lowers_the_objective_and_is_seen_in_all_columns(model, table):
    X, z = table
    y = target(model, z)
    model = type(model)(**model.get_params()).fit(X, y, X_val=X, y_val=y)
    curve = np.array(model.loss_curve_)
    assert len(curve) == len(model.validation_scores_) == model.n_iter_
    assert (np.diff(curve) <= 1e-12 * curve[0]).all()
    assert_allclose(model.validation_scores_[-1], model.score(X, y), atol=0.02)
    alone = type(model)(**model.get_params()).fit(X, y)
    assert_allclose(alone.coef_, model.coef_)
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        cut = type(model)(**model.get_params() | {"max_iter": 5}).fit(X, y)
    assert_allclose(cut.loss_curve_, curve[:5])
    again = type(model)(**model.get_params() | {"warm_start": True}).fit(X, y)
    first = again.n_iter_
    assert again.fit(X, y).n_iter_ < first
    assert_allclose(again.coef_, model.coef_, atol=1e-2 * np.abs(model.coef_).max())


def test_many_weights_are_left_to_the_descent_of_all_columns(table, monkeypatch):
    X, y = table
    monkeypatch.setattr(_working_set, "LARGEST", 3)
    model = GDRegressor(penalty="l1", alpha=0.02, tol=1e-6, max_iter=20_000).fit(X, y)
    exact = ElasticNet(alpha=0.02, l1_ratio=1.0, tol=1e-12, max_iter=100_000).fit(X, y)
    assert_allclose(model.coef_, exact.coef_, atol=1e-3 * np.abs(exact.coef_).max())


def test_a_descent_that_others_end_has_their_reason():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 2_300))
    y = X @ rng.normal(size=2_300)
    with pytest.warns(ConvergenceWarning, match="max_iter=25"):
        model = GDRegressor(penalty="l1", alpha=0.1, max_iter=25).fit(X, y)
    assert (model.n_iter_, model.stop_reason_) == (25, "max_iter")


@pytest.mark.parametrize("d", [1_500, 2_300])
def test_more_weights_than_are_worth_factorising_end_a_smoothed_loss_too(d):
    """A model of a loss may be below the least value of the loss, from where nothing seems to lead down."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, d))
    y = X @ rng.normal(size=d)
    model = GDRegressor(loss="huber", penalty="l1", alpha=1e-3, max_iter=30, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("loss", ["huber", "absolute_error"])
def test_outputs_with_scales_of_their_own_are_watched_in_all_columns(loss, table):
    X, y = table
    Y = np.column_stack([y, X[:, 100:104].sum(axis=1)])
    model = GDRegressor(loss=loss, penalty="l1", alpha=0.1, max_iter=10, tol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y, X_val=X, y_val=Y)
    assert len(model.validation_scores_) == model.n_iter_
    assert model.coef_.shape == (2, D)
