"""Searches whose candidates train together score what scikit-learn's do with the same estimator."""

import pickle
import tracemalloc
import warnings
from functools import partial
from threading import get_ident

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from reference import CLASSIFICATION, REGRESSION
from scipy.sparse import csr_array, csr_matrix, issparse
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, mean_absolute_error, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from fastgd import DivergenceError, GDClassifier, GDGridSearchCV, GDRandomizedSearchCV, GDRegressor
from fastgd import _candidates as candidates_module
from fastgd import _fold_moments as fold_moments
from fastgd import _shared_epochs as shared_epochs
from fastgd._evaluation import Evaluation
from fastgd._linear import LinearProblem
from fastgd._search import _SharedTraining

LOG_LINK = ("poisson", "gamma")
RATES = [0.03, 0.2]
TOO_LARGE = 100.0  # beyond the stable rates a descent is chaos, if it does not diverge: nothing to compare
RULES = ["gd", "auto", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
PENALTIES = [None, "l2", "l1", "elasticnet"]
SHORT = {"max_iter": 30}
OURS = ("divergence", "n_iter", "final_loss")

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning"),
    pytest.mark.filterwarnings("ignore:One or more of the:UserWarning"),
    pytest.mark.filterwarnings("ignore:The scoring <function parameters:UserWarning"),
]


@pytest.fixture
def no_fallback(monkeypatch):
    """Fits one by one, or by scikit-learn's search, are failures."""

    def fit_on_splits(*args):
        raise AssertionError("this search shares nothing")

    def alone(self, split, numbers):
        raise AssertionError(f"candidates {numbers} are by themselves")

    monkeypatch.setattr(_SharedTraining, "_fit_on_splits", fit_on_splits)
    monkeypatch.setattr("fastgd._evaluation.Evaluation._evaluate_alone", alone)


@pytest.fixture(params=["one at a time", "in step"])
def quadratics(request, monkeypatch):
    """Textbook descents on Gram matrices, as of few columns and as of many."""
    if request.param == "in step":
        monkeypatch.setattr("fastgd._training.FEW_COLUMNS", 0)


def same(
    estimator, grid, X, y, fit_params=None, tolerance=1e-6, search=(GDGridSearchCV, GridSearchCV), **params
):
    """Fit both searches and compare all they have learned; returns ours."""
    fit_params = fit_params or {}
    params = {"return_train_score": True, "cv": 2} | params
    ours, theirs = (kind(clone(estimator), grid, **params).fit(X, y, **fit_params) for kind in search)
    a, b = ours.cv_results_, theirs.cv_results_
    assert {key for key in a if not key.endswith(OURS)} == set(b)
    assert a["params"] == b["params"]
    for key, value in b.items():
        if key.startswith("param_"):
            assert_array_equal(a[key].mask, value.mask)
            assert a[key].tolist() == value.tolist()
        elif "score" in key and "time" not in key or "_test_" in key or "_train_" in key:
            if key.startswith("rank"):
                means = b[key.replace("rank", "mean")]
                in_our_order = means[np.argsort(a[key], kind="stable")]
                in_our_order = in_our_order[np.isfinite(in_our_order)]
                assert np.all(np.diff(in_our_order) <= tolerance)
            else:
                assert_allclose(a[key], value, rtol=tolerance, atol=tolerance, err_msg=key)
    for name in ("n_splits_", "multimetric_"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert hasattr(ours, "best_estimator_") == hasattr(theirs, "best_estimator_")
    if hasattr(theirs, "best_score_"):
        assert_allclose(ours.best_score_, theirs.best_score_, rtol=tolerance, atol=tolerance)
    assert str(ours.scorer_) == str(theirs.scorer_)
    return ours


# ---- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("solver", RULES)
def test_every_rule_and_penalty_scores_as_its_own_fits_do(no_fallback, quadratics, data, solver, penalty):
    model = GDRegressor(solver=solver, penalty=penalty, **SHORT)
    grid = {"learning_rate": RATES, "alpha": [0.0, 0.1]}
    same(model, [grid, {"learning_rate": [TOO_LARGE]}], data.X, data.y)
    same(model.set_params(loss="huber"), grid, data.X, data.y)


@pytest.mark.parametrize("solver", ["gd", "auto", "adam"])
@pytest.mark.parametrize("loss", [loss for loss in REGRESSION if loss not in LOG_LINK])
def test_every_loss_of_regressors(no_fallback, data, loss, solver):
    model = GDRegressor(loss=loss, solver=solver, **SHORT)
    same(model, {"learning_rate": RATES}, data.X, data.y)
    same(model, {"learning_rate": RATES}, data.X, data.Y)


@pytest.mark.parametrize("solver", ["gd", "auto"])
def test_losses_with_a_log_link(no_fallback, data, solver):
    grid = {"learning_rate": [*RATES, TOO_LARGE]}
    for loss, y in zip(LOG_LINK, (data.counts, data.positive), strict=True):
        same(GDRegressor(loss=loss, solver=solver, **SHORT), grid, data.X, y)


@pytest.mark.parametrize("solver", ["gd", "auto", "momentum"])
@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_every_loss_of_classifiers(no_fallback, data, loss, solver):
    model = GDClassifier(loss=loss, solver=solver, batch_size="full", **SHORT)
    if loss == "perceptron" and solver == "auto":
        return  # begins at a loss of zero: to the accelerated descent everything above it is divergence
    for y in (data.binary, data.three):
        same(model, {"learning_rate": RATES, "alpha": [0.0, 0.1]}, data.X, y)


@pytest.mark.parametrize("model", [GDRegressor(), GDRegressor(loss="huber"), GDClassifier()])
def test_schedules_clipping_and_numbers_of_iterations(no_fallback, quadratics, data, model):
    y = data.binary if isinstance(model, GDClassifier) else data.y
    grid = [
        {"solver": ["gd"], "learning_rate": ["constant", "invscaling", "optimal"], "eta0": [0.01, 0.3]},
        {"solver": ["gd"], "learning_rate": ["adaptive"], "eta0": [0.1, 1.0], "n_iter_no_change": [2, 5]},
        {"solver": ["gd", "adam"], "learning_rate": [0.1], "clip_norm": [None, 0.1], "max_iter": [3, 30]},
        {"solver": ["gd", "auto"], "learning_rate": [0.1], "tol": [None, 0.3, 1e-2, 1e-9]},
        {"solver": ["momentum"], "learning_rate": [0.1], "momentum": [0.0, 0.5, 0.95]},
        {"solver": ["adam"], "learning_rate": [0.1], "beta_1": [0.5, 0.9], "beta_2": [0.9, 0.99]},
    ]
    same(model.set_params(max_iter=60), grid, data.X, y)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "convert", [partial(np.asarray, order="F"), np.float32, lambda X: (10 * X).astype(int)]
)
def test_every_layout_and_dtype(no_fallback, quadratics, data, convert, fit_intercept):
    X = convert(data.X)
    X.flags.writeable = False
    grid = {"learning_rate": [1e-4, 0.01], "alpha": [0.0, 0.1]}
    tolerance = 1e-5 if X.dtype == np.float32 else 1e-6  # the scores themselves are float32 sums
    for model, y in [
        (GDRegressor(), data.y),
        (GDRegressor(loss="huber"), data.y),
        (GDClassifier(), data.three),
    ]:
        for solver in ("gd", "auto"):
            model.set_params(solver=solver, fit_intercept=fit_intercept, **SHORT)
            same(model, grid, X, y, tolerance=tolerance)
    same(GDRegressor(solver="gd", **SHORT), grid, X[::2, ::-1], data.y[::2], tolerance=tolerance)


def test_lists_and_data_frames(no_fallback, data):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data.X, columns=list("abcdef"))
    grid = {"learning_rate": RATES}
    same(GDRegressor(solver="gd"), grid, data.X.tolist(), data.y.tolist())
    search = same(GDClassifier(), grid, frame, pandas.Series(data.binary), scoring="neg_log_loss")
    assert_array_equal(search.feature_names_in_, list("abcdef"))
    assert_array_equal(search.predict(frame), search.best_estimator_.predict(frame))


def test_constant_columns_one_column_and_more_columns_than_rows(no_fallback, data):
    grid = {"learning_rate": [0.01, 0.1], "alpha": [0.0, 0.1]}
    rng = np.random.default_rng(0)
    tables = [
        data.X[:, :1],
        np.column_stack([data.X, np.ones(150), np.zeros(150)]),
        rng.normal(size=(150, 200)),
    ]
    for X in tables:
        for model in (GDRegressor(solver="gd", **SHORT), GDRegressor(**SHORT), GDClassifier(**SHORT)):
            y = data.three if isinstance(model, GDClassifier) else data.y
            same(model, grid, X, y)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"penalty": None},
        {"penalty": "l1"},
        {"penalty": "elasticnet"},
        {"solver": "gd"},
        {"solver": "momentum"},
        {"preconditioner": "diag"},
        {"preconditioner": "diag", "solver": "gd", "learning_rate": 0.1},
        {"preconditioner": "gram", "solver": "momentum", "learning_rate": 0.1},
        {"preconditioner": "diag", "solver": "adam", "learning_rate": 0.1},
    ],
    ids=str,
)
def test_squared_error_with_automatic_rates_and_metrics(no_fallback, data, params, fit_intercept):
    offset = 1e10 if fit_intercept and "learning_rate" not in params else 1e3
    # columns of any size and offset, one that is constant, one that is so in the first half
    X = np.column_stack(
        [data.X * 1e3 + offset, np.full(150, 0.3), np.where(np.arange(150) < 50, 7.7, data.X[:, 0])]
    )
    if not fit_intercept:  # constant columns would be multiples of each other, their weights anyone's choice
        X = X[:, :6]
    model = GDRegressor(fit_intercept=fit_intercept, max_iter=300, **params)
    cv = [(np.arange(50), np.arange(100, 150)), (np.arange(100), np.arange(100, 150))]
    if params.get("preconditioner") == "gram":  # whose explicit rates see the columns as they are
        X = data.X
    for rows, y in [(X, data.y + 1e4), (data.X, data.Y), (np.asfortranarray(data.X, np.float32), data.y)]:
        tolerance = 1e-5 if rows.dtype == np.float32 else 1e-6
        same(model, {"alpha": [1e-4, 0.1]}, rows, y, {"sample_weight": data.s}, cv=cv, tolerance=tolerance)
    classifier = GDClassifier(loss="squared_error", fit_intercept=fit_intercept, max_iter=300, **params)
    same(classifier, {"alpha": [0.1, 1.0]}, data.X, data.three)


@pytest.mark.parametrize(
    "model",
    [
        GDRegressor(solver="adam", **SHORT),
        GDRegressor(loss="huber", penalty="l1"),
        GDRegressor(loss="quantile", quantile=0.3),
        GDRegressor(loss="huber", preconditioner="diag", solver="gd", learning_rate=0.2, **SHORT),
        GDRegressor(loss="huber", preconditioner="gram", solver="momentum", learning_rate=0.2, **SHORT),
        GDClassifier(),
        GDClassifier(penalty="l1"),
        GDClassifier(loss="hinge", class_weight="balanced"),
        GDClassifier(loss="brier_score"),
    ],
    ids=str,
)
def test_other_losses_with_automatic_rates_and_metrics(no_fallback, data, model):
    X = np.column_stack([data.X, np.ones(150)])
    for y in (data.binary, data.three) if isinstance(model, GDClassifier) else (data.y, data.Y):
        same(model, {"alpha": [1e-3, 0.1], "fit_intercept": [True, False]}, X, y, {"sample_weight": data.s})


def test_more_columns_than_a_gram_matrix_is_for(no_fallback):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2100))
    y = X[:, 0] + rng.normal(size=40)
    for grid in ({"alpha": [0.1, 1.0]}, {"learning_rate": [1e-4, 3e-4], "solver": ["gd", "auto"]}):
        same(GDRegressor(max_iter=20), grid, X, y)
        same(GDClassifier(max_iter=20), grid, X, y > 0)


def test_means_and_gram_matrices_are_taken_once_for_each_fold(monkeypatch, data):
    calls = []
    weighted_gram = candidates_module.moments.weighted_gram

    class Counting:
        def __getattr__(self, name):
            return getattr(kernels, name)

        def weighted_gram(self, *args):
            calls.append(len(args[0]))
            return weighted_gram(*args)

    kernels = candidates_module.moments
    monkeypatch.setattr(candidates_module, "moments", Counting())
    model = GDClassifier(preconditioner="diag", solver="momentum")
    GDGridSearchCV(model, {"alpha": np.logspace(-3, 0, 8)}, cv=3, refit=False).fit(data.X, data.binary)
    assert calls == [100, 100, 100]


# ---- the same course of every descent --------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        GDRegressor(solver="gd"),
        GDRegressor(),
        GDRegressor(solver="adam"),
        GDRegressor(loss="huber", penalty="l1", solver="gd"),
        GDRegressor(loss="absolute_error"),
        GDClassifier(),
        GDClassifier(solver="gd"),
        GDClassifier(loss="squared_error", solver="gd"),
    ],
)
def test_number_of_iterations_and_final_loss_are_those_of_a_fit(no_fallback, quadratics, data, model):
    y = data.three if isinstance(model, GDClassifier) else data.y
    squared = model.loss == "squared_error"
    grid = {"learning_rate": [0.01, 0.1, TOO_LARGE if squared else 0.3], "tol": [1e-1, 1e-3, None]}
    model.set_params(max_iter=200)
    search = GDGridSearchCV(model, grid, cv=KFold(3)).fit(data.X, y)
    results = search.cv_results_
    for f, (train, _) in enumerate(KFold(3).split(data.X)):
        for i, params in enumerate(results["params"]):
            fit = clone(model).set_params(**params)
            try:
                fit.fit(data.X[train], y[train])
            except DivergenceError as error:
                assert np.isnan(results[f"split{f}_test_score"][i])
                if f == 0:
                    assert results["divergence"][i] == str(error)
                continue
            assert results[f"split{f}_n_iter"][i] == fit.n_iter_
            assert_allclose(results[f"split{f}_final_loss"][i], fit.loss_curve_[-1], rtol=1e-9)


@pytest.mark.parametrize("max_iter", [1, 2, 7, 1000])
def test_closed_form_sees_rates_around_the_largest_stable_one_as_a_descent_does(no_fallback, data, max_iter):
    X = data.X[:100] @ np.diag([1, 1, 1, 1, 1, 3.0])
    A = np.hstack([X, np.ones((100, 1))])
    stable = 2 / np.linalg.eigvalsh(A.T @ A / 100)[-1]  # without the penalty, of all rows
    rates = stable * np.array([0.5, 0.8, 0.95, 1.05, 1.2, 2, 50])
    model = GDRegressor(solver="gd", max_iter=max_iter, tol=None, alpha=0)
    search = same(model, {"learning_rate": rates, "tol": [None, 1e-3]}, X, data.y[:100], error_score=-9.0)
    assert search.cv_results_["divergence"][-1] and not search.cv_results_["divergence"][0]


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_a_rate_just_above_the_stable_one_is_found_out_before_it_explodes(no_fallback, data, max_iter):
    X, y = data.X[:, :1], data.X[:, 0] + 0.1 * data.y
    halves = [X[part].T @ X[part] / 75 for part in (slice(75), slice(75, None))]
    rates = 2 / max(halves).item() * np.array([0.5, 0.9, 1.02, 1.5])
    model = GDRegressor(solver="gd", fit_intercept=False, alpha=0, max_iter=max_iter, tol=None)
    search = same(model, {"learning_rate": rates}, X, y, cv=KFold(2))
    assert [bool(reason) for reason in search.cv_results_["divergence"]] == [False, False, True, True]


def test_closed_form_stops_wherever_a_descent_stops(no_fallback, data):
    split = [(np.arange(100), np.arange(100, 150))]
    grid = {"tol": np.geomspace(5.5e-4, 7e-4, 30)}
    search = GDGridSearchCV(GDRegressor(solver="gd", learning_rate=0.045), grid, cv=split).fit(data.X, data.y)
    fits = [GDRegressor(solver="gd", learning_rate=0.045, tol=tol) for tol in grid["tol"]]
    n_iter = [fit.fit(data.X[:100], data.y[:100]).n_iter_ for fit in fits]
    assert_array_equal(search.cv_results_["split0_n_iter"], n_iter)
    assert min(n_iter) < 257 < max(n_iter) and 257 in n_iter  # the first of another stretch


def test_an_outlier_that_is_held_out_leaves_no_trace(no_fallback, data):
    X, y = data.X.copy(), data.y.copy()
    X[0], y[0] = 1e7, -1e9
    search = GDGridSearchCV(
        GDRegressor(solver="gd", max_iter=20), {"learning_rate": [0.1]}, cv=KFold(3), refit=False
    )
    search.set_params(param_grid={"learning_rate": [0.1, 0.2]}, scoring="neg_mean_absolute_error")
    search.set_params(cv=[(np.arange(50, 150), np.arange(40, 50)), (np.arange(100), np.arange(100, 150))])
    search.fit(X, y)
    alone = GDRegressor(solver="gd", max_iter=20, learning_rate=0.1).fit(X[50:], y[50:])
    expected = -mean_absolute_error(y[40:50], alone.predict(X[40:50]))
    assert_allclose(search.cv_results_["split0_test_score"][0], expected, rtol=1e-12)
    assert np.isnan(search.cv_results_["split1_test_score"]).all()


# ---- the same interface ----------------------------------------------------------------------------


def bootstrap(m):
    rng = np.random.default_rng(0)
    return [(rng.integers(m, size=m), rng.permutation(m)[:30]) for _ in range(3)]


@pytest.mark.parametrize(
    "cv",
    [
        4,
        KFold(3, shuffle=True, random_state=0),
        ShuffleSplit(4, test_size=0.2, random_state=0),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        TimeSeriesSplit(3),
        KFold(20),
        bootstrap(150),
        [(np.arange(100), np.arange(50, 100)), (np.arange(50, 150), np.repeat(np.arange(25), 2))],
    ],
    ids=str,
)
def test_every_splitter(no_fallback, data, cv):
    for model, y in [
        (GDRegressor(solver="gd"), data.y),
        (GDRegressor(loss="huber"), data.y),
        (GDClassifier(), data.three),
    ]:
        same(model.set_params(max_iter=20), {"learning_rate": [0.03, 0.3]}, data.X, y, cv=cv)


def test_groups_and_generators_of_splits(no_fallback, data):
    groups = np.arange(150) // 10
    same(
        GDRegressor(solver="gd"),
        {"learning_rate": [0.03, 0.3]},
        data.X,
        data.y,
        {"groups": groups},
        cv=GroupKFold(3),
    )
    splits = list(KFold(3).split(data.X))
    ours = GDGridSearchCV(GDRegressor(solver="gd"), {"learning_rate": [0.03, 0.3]}, cv=iter(splits)).fit(
        data.X, data.y
    )
    theirs = GridSearchCV(GDRegressor(solver="gd"), {"learning_rate": [0.03, 0.3]}, cv=iter(splits)).fit(
        data.X, data.y
    )
    assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9)


def test_splits_by_masks_and_from_the_end(data):
    mask = np.arange(150) % 3 == 0
    for cv in ([(~mask, mask)], [(np.arange(100), np.arange(-50, 0))]):
        same(GDRegressor(solver="gd"), {"learning_rate": [0.1, 0.2]}, data.X, data.y, cv=cv)


def test_a_generator_of_splits_survives_the_fallback(data):
    splits = KFold(3).split(data.X)
    model = GDClassifier(early_stopping=True, random_state=0, **SHORT)
    search = GDGridSearchCV(model, {"alpha": [0.1, 1.0]}, cv=splits).fit(data.X, data.binary)
    assert search.n_splits_ == 3 and search.cv is splits


def test_weights_of_training_rows_are_none_of_test_rows(no_fallback, data):
    with sklearn.config_context(enable_metadata_routing=True):
        model = GDRegressor(solver="gd").set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=False)
        for weight in (data.s, np.full(150, 2.0)):
            same(model, {"learning_rate": [0.03, 0.3]}, data.X, data.y, {"sample_weight": weight})


def test_sample_weights_and_class_weights(no_fallback, data):
    weights = {"sample_weight": data.s}
    grid = {"learning_rate": [0.03, 0.3], "alpha": [0.0, 0.1]}
    for model in (GDRegressor(solver="gd"), GDRegressor(), GDRegressor(loss="huber")):
        same(model.set_params(**SHORT), grid, data.X, data.y, weights)
        same(model.set_params(**SHORT), grid, data.X, data.y, weights, scoring="neg_mean_absolute_error")
    balanced = {"class_weight": [None, "balanced", {"no": 1, "yes": 3}], "learning_rate": [0.03, 0.3]}
    for loss in ("log_loss", "squared_error"):
        same(GDClassifier(loss=loss, solver="gd", **SHORT), balanced, data.X, data.binary, weights)


def test_metadata_routing(no_fallback, data):
    with sklearn.config_context(enable_metadata_routing=True):
        model = (
            GDRegressor(solver="gd").set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        scorer = make_scorer(r2_score).set_score_request(sample_weight=False)
        for scoring in (None, scorer, {"one": scorer}):
            same(
                model, {"learning_rate": [0.03, 0.3]}, data.X, data.y,
                {"sample_weight": data.s, "groups": np.arange(150) % 5}, cv=GroupKFold(3), scoring=scoring,
                refit="one" if isinstance(scoring, dict) else True,
            )  # fmt: skip


def test_weighted_scores_of_equal_candidates_are_equal(no_fallback, data):
    """Sums of weights in another order than scikit-learn's would break the tie, and the rank."""
    with sklearn.config_context(enable_metadata_routing=True):
        model = GDClassifier(solver="gd", max_iter=5).set_score_request(sample_weight=True)
        model.set_fit_request(sample_weight=False)
        weight = np.random.default_rng(0).uniform(size=150)
        grid = {"learning_rate": [1e-3, 0.01, 0.03, 0.1, 0.3], "alpha": [0.0, 1e-4]}
        for y in (data.binary, data.three):
            searches = [
                kind(model, grid, return_train_score=True).fit(data.X, y, sample_weight=weight).cv_results_
                for kind in (GDGridSearchCV, GridSearchCV)
            ]
            for key in ("split0_test_score", "mean_test_score", "mean_train_score", "rank_test_score"):
                assert_array_equal(*(results[key] for results in searches), err_msg=key)


def largest_rate(results):
    return int(np.nanargmax(results["param_learning_rate"].data * np.isfinite(results["mean_test_score"])))


def two_numbers(estimator, X, y):
    return {"first": estimator.score(X, y), "second": float(np.abs(estimator.coef_).sum())}


@pytest.mark.parametrize(
    "params",
    [
        {"scoring": "neg_mean_squared_error"},
        {"scoring": "r2", "refit": False},
        {"scoring": ["r2", "neg_mean_absolute_error"], "refit": "neg_mean_absolute_error"},
        {"scoring": ["r2", "explained_variance"], "refit": False},
        {"scoring": {"a": "r2", "b": make_scorer(mean_absolute_error)}, "refit": "a"},
        {"scoring": lambda estimator, X, y: -float(np.abs(estimator.predict(X) - y).max())},
        {"scoring": two_numbers, "refit": "second"},
        {"refit": largest_rate},
        {"return_train_score": False},
        {"error_score": 0.5},
    ],
    ids=str,
)
def test_every_way_to_score_and_refit(no_fallback, data, params):
    model = GDRegressor(solver="gd")
    same(model, {"learning_rate": [*RATES, TOO_LARGE]}, data.X, data.y, **params)
    same(model.set_params(loss="huber"), {"learning_rate": RATES}, data.X, data.y, **params)


def test_scores_of_probabilities(no_fallback, data):
    for y in (data.binary, data.three):
        same(
            GDClassifier(),
            {"learning_rate": RATES},
            data.X,
            y,
            scoring=["neg_log_loss", "roc_auc_ovr"],
            refit="neg_log_loss",
        )


def test_a_constant_target_in_the_test_rows(no_fallback, data):
    y = np.where(np.arange(150) < 50, 1.0, data.y)
    same(GDRegressor(solver="gd"), {"learning_rate": [0.03, 0.3]}, data.X, y, cv=KFold(3))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_predictions_beyond_all_numbers_fail_where_they_are(no_fallback):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = rng.poisson(np.exp(X[:, 0])).astype(float)
    X[99] = [900, 0]
    params = {"cv": [(range(80), range(80, 100))], "refit": False, "return_train_score": False}
    grid = {"alpha": [1e-3, 1e-2, 1.0, 10.0]}
    with pytest.warns(UserWarning, match="Scoring failed"):
        search = same(GDRegressor("poisson"), grid, X, y, **params)
    # infinite predictions, then squares that overflow
    assert_array_equal(search.cv_results_["mean_test_score"][:3], [np.nan, np.nan, -np.inf])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_predictions_beyond_all_numbers_are_an_error_where_one_is_wanted():
    X, y = np.linspace(-1, 1, 100)[:, None], np.arange(100.0)
    X[99] = 1e4
    params = {"cv": [(range(80), range(80, 100))], "error_score": "raise"}
    for kind in (GDGridSearchCV, GridSearchCV):
        with pytest.raises(ValueError, match="infinity"):
            kind(GDRegressor("poisson"), {"alpha": [1e-3, 1e-2]}, **params).fit(X, y)


def test_a_scorer_that_fails(data):
    def scorer(estimator, X, y):
        raise RuntimeError("no score")

    for scoring in (scorer, {"bad": scorer, "good": "r2"}):
        refit = "good" if isinstance(scoring, dict) else False
        with pytest.warns(UserWarning, match="Scoring failed"):
            same(
                GDRegressor(solver="gd"),
                {"learning_rate": [0.1, 0.3]},
                data.X,
                data.y,
                scoring=scoring,
                refit=refit,
            )
        search = GDGridSearchCV(
            GDRegressor(solver="gd"), {"learning_rate": [0.1, 0.3]}, scoring=scoring, refit=refit,
            error_score="raise",
        )  # fmt: skip
        with pytest.raises(RuntimeError, match="no score"):
            search.fit(data.X, data.y)


def final(estimator):
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def with_updates(estimator, X, y):
    return estimator.score(X, y) - 1e-6 * final(estimator).t_


def with_loss(estimator, X, y):
    return estimator.score(X, y) - final(estimator).loss_curve_[-1]


def of_long_descents(estimator, X, y):
    return with_loss(estimator, X, y) if final(estimator).n_iter_ > 15 else estimator.score(X, y)


@pytest.mark.parametrize(
    "scoring",
    [with_updates, with_loss, of_long_descents, {"plain": "neg_mean_squared_error", "own": with_updates}],
    ids=["t_", "loss_curve_", "some", "several"],
)
@pytest.mark.parametrize("params", [{}, {"batch_size": 30, "random_state": 0}], ids=["full", "mini-batch"])
@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_a_scorer_that_reads_what_only_a_fit_by_itself_learns(data, Ours, params, scoring):
    y = data.binary == data.binary[0] if Ours is GDClassifier else data.y
    model, search = Ours(solver="gd", **params), {"scoring": scoring, "error_score": "raise"}
    search["refit"] = "own" if isinstance(scoring, dict) else True
    grid = {"learning_rate": RATES, "max_iter": [10, 20]}
    same(model, grid, data.X, y.astype(float), **search)
    grid = {f"gd__{name}": values for name, values in grid.items()}
    same(Pipeline([("scale", StandardScaler()), ("gd", model)]), grid, data.X, y.astype(float), **search)


def test_a_scorer_that_reads_what_auto_chose(no_fallback, data):
    def scorer(estimator, X, y):
        chosen = estimator.solver_, estimator.batch_size_, estimator.preconditioner_
        return float(sum(map(ord, str(chosen))))

    grid = {"solver": ["auto", "momentum"], "learning_rate": ["auto", 0.1]}
    same(GDRegressor(), grid, data.X, data.y, scoring=scorer)
    same(GDClassifier(), grid, data.X, data.three, scoring=scorer)


def test_best_estimator_is_a_fit_of_its_own(data):
    model = GDRegressor(solver="gd", alpha=0.3)
    search = GDGridSearchCV(model, {"learning_rate": [0.01, 0.1]}).fit(data.X, data.y)
    expected = clone(model).set_params(**search.best_params_).fit(data.X, data.y)
    assert_array_equal(search.best_estimator_.coef_, expected.coef_)
    assert search.best_estimator_.loss_curve_ == expected.loss_curve_
    assert not hasattr(model, "coef_") and search.refit_time_ > 0
    assert_array_equal(search.predict(data.X), expected.predict(data.X))
    assert search.score(data.X, data.y) == expected.score(data.X, data.y)
    again = pickle.loads(pickle.dumps(search))
    assert_array_equal(again.predict(data.X), expected.predict(data.X))
    assert clone(search).get_params()["param_grid"] == {"learning_rate": [0.01, 0.1]}


def test_times_add_up(data):
    search = GDGridSearchCV(GDRegressor(solver="gd"), {"learning_rate": [0.01, 0.1]}, return_train_score=True)
    results = search.fit(data.X, data.y).cv_results_
    assert (results["mean_fit_time"] > 0).all() and (results["mean_score_time"] > 0).all()


def test_verbose_search_says_what_it_does(data, capsys):
    GDGridSearchCV(GDRegressor(solver="gd"), {"learning_rate": [0.1, 0.2]}, cv=2, verbose=2).fit(
        data.X, data.y
    )
    printed = capsys.readouterr().out
    assert "Fitting 2 folds for each of 2 candidates, totalling 4 fits" in printed
    assert printed.count("END learning_rate=0.1; score=") == 2


# ---- mini-batches: the very steps of a fit -----------------------------------------------------------


HALVES = KFold(2)


def parameters(estimator, X, y):
    """A scorer that shows all that a fit has learned, to the bit."""
    theta = np.column_stack([np.atleast_2d(estimator.coef_), estimator.intercept_])
    return {f"theta{i}": float(value) for i, value in enumerate(theta.ravel())}


def each_is_its_own_fit(model, grid, X, y, s=None, cv=HALVES):
    """Parameters, iterations, objective and error of every candidate are those of a fit, bit for bit."""
    weights = {} if s is None else {"sample_weight": s}
    search = GDGridSearchCV(model, grid, cv=cv, scoring=parameters, refit=False).fit(X, y, **weights)
    results = search.cv_results_
    for f, (train, _) in enumerate(cv.split(X, y)):
        for i, params in enumerate(results["params"]):
            fit = clone(model).set_params(**params)
            of_fit = {name: values[i] for name, values in results.items() if name.startswith(f"split{f}_")}
            try:
                fit.fit(X[train], y[train], **{name: weight[train] for name, weight in weights.items()})
            except DivergenceError as error:
                assert all(np.isnan(value) for value in of_fit.values())
                if f == 0:
                    assert results["divergence"][i] == str(error)
                continue
            expected = {f"split{f}_test_{name}": value for name, value in parameters(fit, X, y).items()}
            expected |= {f"split{f}_n_iter": fit.n_iter_, f"split{f}_final_loss": fit.loss_curve_[-1]}
            assert of_fit == expected, params
    return search


EPOCHS = {"max_iter": 6, "tol": 0.05, "n_iter_no_change": 1, "random_state": 0}


@pytest.mark.parametrize(
    "grid",
    [
        {"learning_rate": [1e-3, 0.03, 1e3], "batch_size": [1, 7, 1000]},
        {"loss": [loss for loss in REGRESSION if loss not in LOG_LINK], "batch_size": [1, 16]},
        {"penalty": PENALTIES, "alpha": [0.01, 1.0], "batch_size": [1, 16]},
        {"penalty": PENALTIES, "average": [True, 20], "batch_size": [1, 16]},
        {"solver": RULES, "penalty": ["l2", "l1"], "batch_size": [1, 16]},
        {"solver": ["gd", "adam"], "clip_norm": [0.1], "batch_size": [16], "fit_intercept": [True, False]},
        {"learning_rate": ["constant", "invscaling", "optimal", "adaptive"], "batch_size": [1, 16]},
        {"learning_rate": ["pa1", "pa2"], "loss": ["epsilon_insensitive"], "batch_size": ["auto"]},
        {"learning_rate": ["auto"], "solver": RULES, "alpha": [1e-3, 0.1], "batch_size": [1, 16]},
        {"learning_rate": ["auto"], "loss": ["huber", "quantile"], "batch_size": [1, 16]},
        {"preconditioner": ["diag"], "solver": ["gd", "momentum"], "batch_size": [16]},
        {"random_state": [0, 1], "max_iter": [2, 5], "batch_size": [16], "tol": [None, 0.1]},
        {"shuffle": [False], "random_state": [None, 3], "batch_size": [16]},
    ],
    ids=str,
)
def test_mini_batches_of_regressors_take_the_steps_of_their_own_fits(no_fallback, data, grid):
    model = GDRegressor(learning_rate=0.02, **EPOCHS)
    each_is_its_own_fit(model, grid, data.X, data.y)
    each_is_its_own_fit(model, grid, data.X, data.Y, data.s)


@pytest.mark.parametrize("learning_rate", [0.02, "auto"])
def test_mini_batches_of_losses_with_a_log_link(no_fallback, data, learning_rate):
    for loss, y in zip(LOG_LINK, (data.counts, data.positive), strict=True):
        model = GDRegressor(loss=loss, learning_rate=learning_rate, **EPOCHS)
        each_is_its_own_fit(model, {"batch_size": [1, 16], "alpha": [0.0, 0.1]}, data.X, y, data.s)


@pytest.mark.parametrize(
    "grid",
    [
        {"loss": CLASSIFICATION, "batch_size": [1, 16]},
        {"learning_rate": [0.03, 1e4], "penalty": PENALTIES, "alpha": [0.1], "batch_size": [1, 16]},
        {"solver": RULES, "class_weight": [None, "balanced"], "batch_size": [16]},
        {"average": [True, 20], "loss": ["log_loss", "hinge"]},
        {"learning_rate": ["auto"], "loss": ["log_loss", "hinge"], "batch_size": [1, 16]},
        {"loss": ["perceptron"], "learning_rate": ["auto"], "batch_size": ["auto"]},
    ],
    ids=str,
)
def test_mini_batches_of_classifiers_take_the_steps_of_their_own_fits(no_fallback, data, grid):
    model = GDClassifier(learning_rate=0.02, **EPOCHS)
    for y in (data.binary, data.three):
        each_is_its_own_fit(model, grid, data.X, y)
        each_is_its_own_fit(model, grid, data.X, y, data.s)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.asfortranarray,
        csr_array,
        lambda X: csr_array(np.where(np.abs(X) < 1, 0, X)),
        lambda X: csr_matrix(np.where(np.abs(X) < 1, 0, X)),
    ],
)
def test_mini_batches_of_every_layout_and_dtype(no_fallback, data, convert, dtype):
    X = convert(data.X.astype(dtype))
    (X.data if issparse(X) else X).flags.writeable = False
    grid = [
        {
            "solver": ["gd", "adam"],
            "penalty": ["l2", "l1"],
            "batch_size": [1, 16],
            "learning_rate": [0.01, 0.1],
        },
        {"average": [True], "batch_size": [1, 16], "alpha": [0.0, 0.1]},
        {"learning_rate": ["auto"], "batch_size": [1, 16]},
    ]
    cv = ShuffleSplit(2, random_state=0)
    each_is_its_own_fit(GDRegressor(**EPOCHS), grid, X, data.y, cv=cv)
    each_is_its_own_fit(GDClassifier(**EPOCHS), grid, X, data.three, data.s, cv=cv)


def test_mini_batches_score_as_in_scikit_learns_search(no_fallback, data):
    grid = {"learning_rate": [1e-3, 0.03, 1e3], "batch_size": [1, 16], "alpha": [1e-3, 0.1]}
    sparse = csr_matrix(np.where(np.abs(data.X) < 1, 0, data.X))
    for X in (data.X, data.X.astype(np.float32), sparse):
        tolerance = 1e-6 if X.dtype == np.float32 else 1e-12  # the scores themselves are float32 sums
        for scoring in (None, "neg_mean_absolute_error"):
            same(GDRegressor(**EPOCHS), grid, X, data.y, tolerance=tolerance, scoring=scoring)
        for scoring in (None, "neg_log_loss"):
            model = GDClassifier(**EPOCHS)
            same(model, grid, X, data.three, {"sample_weight": data.s}, tolerance=tolerance, scoring=scoring)


@pytest.mark.parametrize("cv", [TimeSeriesSplit(3), RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)])
def test_mini_batches_over_every_splitter(no_fallback, data, cv):
    each_is_its_own_fit(GDRegressor(batch_size=8, **EPOCHS), {"learning_rate": RATES}, data.X, data.y, cv=cv)
    model, resampled = GDRegressor(batch_size=8, **EPOCHS), bootstrap(150)
    same(model, {"learning_rate": RATES}, data.X, data.y, cv=resampled, tolerance=1e-12)


def test_mini_batches_in_a_pipeline(no_fallback, data):
    grid = {"gdclassifier__learning_rate": RATES, "gdclassifier__batch_size": [1, 16]}
    model = make_pipeline(StandardScaler(), GDClassifier(**EPOCHS))
    same(model, grid, data.X, data.three, tolerance=1e-12)
    words = np.array(["red blue", "green", "blue blue green", "red", "green red red"] * 30, dtype=object)
    model = make_pipeline(TfidfVectorizer(), GDClassifier(**EPOCHS))
    grid = {"gdclassifier__batch_size": [1, 16], "tfidfvectorizer__sublinear_tf": [True, False]}
    same(model, grid, words, data.three, tolerance=1e-12)


def test_full_batches_beside_mini_batches(no_fallback, data):
    grid = [{"batch_size": [1, 16]}, {"batch_size": ["full"]}]
    for learning_rate in (0.1, "auto"):
        same(GDClassifier(learning_rate=learning_rate, **EPOCHS), grid, data.X, data.three)


@pytest.fixture(scope="module")
def larger():
    """A table that is worth more than one thread."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6_000, 20))
    return X, X[:, 0] + rng.normal(size=6_000)


def test_number_of_threads_is_of_no_consequence_for_mini_batches(no_fallback, monkeypatch, larger):
    X, y = larger
    model = GDRegressor(**EPOCHS)
    grid = [
        {"batch_size": [1, 32], "solver": ["gd", "adam"], "learning_rate": [1e-3, 1e-2, 1e3]},
        {"batch_size": [32], "learning_rate": ["auto"], "alpha": [1e-3, 0.1], "loss": ["huber", "quantile"]},
    ]
    results, threads = [], []
    run_epoch = LinearProblem.run_epoch

    def told(*args):
        threads[-1].add(get_ident())
        return run_epoch(*args)

    monkeypatch.setattr(LinearProblem, "run_epoch", told)
    for n_jobs in (1, 2, 5):
        threads.append(set())
        model.set_params(n_jobs=n_jobs)
        results.append(each_numbers(GDGridSearchCV(model, grid, cv=3, refit=False).fit(X, y)))
    assert threads[0] == {get_ident()} and not threads[0] & threads[1]
    assert results[0] == results[1] == results[2]


def each_numbers(search):
    """All of `cv_results_` but the times, as text in which NaN equals itself."""
    return {name: str(list(v)) for name, v in search.cv_results_.items() if "time" not in name}


def test_an_order_of_rows_is_drawn_once_and_what_has_converged_is_not_carried_along(
    no_fallback, monkeypatch, data
):
    orders, epochs = [], []
    draw, run_epoch = shared_epochs.order_of_rows, shared_epochs.run_epoch
    monkeypatch.setattr(shared_epochs, "order_of_rows", lambda *args: orders.append(args) or draw(*args))
    monkeypatch.setattr(shared_epochs, "run_epoch", lambda *args: epochs.append(args) or run_epoch(*args))
    grid = {"learning_rate": [1e-3, 1e-2, 0.1], "batch_size": [1, 16], "loss": ["huber", "squared_error"]}
    model = GDRegressor(max_iter=50, tol=0.02, n_iter_no_change=1, random_state=0)
    search = GDGridSearchCV(model, grid, cv=3, refit=False).fit(data.X, data.y)
    n_iter = np.array([search.cv_results_[f"split{f}_n_iter"] for f in range(3)])
    assert n_iter.min() < n_iter.max()
    assert len(orders) == n_iter.max(axis=1).sum()
    assert len(epochs) == n_iter.sum()


def test_an_interrupt_ends_a_search_over_mini_batches(monkeypatch, data):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(LinearProblem, "run_epoch", interrupted)
    model = GDRegressor(batch_size=8, **EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        GDGridSearchCV(model, {"learning_rate": RATES}, cv=3).fit(data.X, data.y)
    with pytest.warns(UserWarning, match="interrupted after 0 iterations"):  # a fit keeps what it has
        assert model.fit(data.X, data.y).stop_reason_ == "interrupted"


def test_states_that_are_too_many_to_be_kept_take_turns(no_fallback, monkeypatch, data):
    numbers = []
    monkeypatch.setattr("fastgd._training.STATES", 100)  # of 7 weights, each with up to 6 numbers
    monkeypatch.setattr(
        "fastgd._training.together", lambda *args: numbers.append(len(args[0])) or together(*args)
    )
    together = shared_epochs.together
    grid = {"learning_rate": [1e-3, 0.03, 1e3], "batch_size": [1, 16], "solver": ["gd", "adam"]}
    each_is_its_own_fit(GDRegressor(**EPOCHS), grid, data.X, data.y)
    assert numbers == 2 * [2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("convert", [np.ascontiguousarray, np.asfortranarray, csr_array])
def test_mini_batches_hold_the_rows_of_a_fold_once(no_fallback, convert):
    rng = np.random.default_rng(0)
    X = convert(rng.normal(size=(5_000, 100)))
    y = rng.normal(size=5_000)
    grid = {"loss": ["squared_error", "huber"], "learning_rate": [1e-4, 1e-3], "alpha": [0.1, 0.2, 0.3, 0.4]}
    model = GDRegressor(batch_size=1, max_iter=2, random_state=0)
    search = GDGridSearchCV(model, grid, cv=KFold(4, shuffle=True, random_state=0), refit=False)
    fold = 0.75 * X.size * (12 if issparse(X) else 8)
    tracemalloc.start()
    try:
        search.fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    copies = 2 if convert is np.asfortranarray else 1  # rows taken from columns are then made contiguous
    assert peak < (copies + 0.5) * fold


@pytest.mark.parametrize(
    "params",
    [
        {"random_state": None},
        {"random_state": np.random.RandomState(0)},
        {"early_stopping": True},
        {"verbose": 1},
    ],
    ids=str,
)
def test_mini_batches_whose_order_or_rows_are_their_own_are_by_themselves(monkeypatch, data, params):
    alone = []
    evaluate_alone = Evaluation._evaluate_alone
    monkeypatch.setattr(
        Evaluation, "_evaluate_alone",
        lambda self, split, numbers: alone.extend(numbers) or evaluate_alone(self, split, numbers),
    )  # fmt: skip
    model = GDRegressor(batch_size=8, **EPOCHS | params)
    shared = {"random_state": [0], "early_stopping": [False], "verbose": [0], "learning_rate": RATES}
    GDGridSearchCV(model, [{"alpha": [0.1, 0.2]}, shared], cv=3).fit(data.X, data.y)
    assert sorted(set(alone)) == [0, 1]


def test_full_batches_of_sparse_rows_are_by_themselves(data):
    X = csr_array(data.X)
    for model, y in [(GDRegressor(**EPOCHS), data.y), (GDClassifier(**EPOCHS), data.three)]:
        for grid in ({"alpha": [0.1, 1.0]}, {"learning_rate": RATES}):
            same(model, grid, X, y)
            same(model, grid | {"batch_size": ["full", 16]}, X, y)


def test_no_threads_fail_where_they_are(data):
    search = same(GDRegressor(solver="gd"), {"n_jobs": [0, 1, 2]}, data.X, data.y)
    assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), [True, False, False])


# ---- divergence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [GDRegressor(solver="gd"), GDRegressor(), GDRegressor(loss="squared_epsilon_insensitive")]
)
def test_a_rate_that_diverges_is_named_and_costs_the_others_nothing(no_fallback, quadratics, data, model):
    with pytest.warns(FitFailedWarning, match="Descent diverged with learning rate 1000"):
        both = GDGridSearchCV(model, {"learning_rate": [0.01, 0.1, 1000.0]}).fit(data.X, data.y)
    alone = GDGridSearchCV(model, {"learning_rate": [0.01, 0.1]}).fit(data.X, data.y)
    assert_allclose(both.cv_results_["mean_test_score"][:2], alone.cv_results_["mean_test_score"], rtol=1e-12)
    assert np.isnan(both.cv_results_["mean_test_score"][2]) and both.cv_results_["rank_test_score"][2] == 3
    assert list(both.cv_results_["divergence"][:2]) == ["", ""]
    assert "largest stable rate is" in both.cv_results_["divergence"][2]
    assert np.isnan(both.cv_results_["mean_final_loss"][2])


def test_error_score_raise_raises_the_first_divergence(data):
    search = GDGridSearchCV(
        GDRegressor(solver="gd"), {"learning_rate": [0.1, 100.0, 10.0]}, error_score="raise"
    )
    with pytest.raises(DivergenceError, match="rate 100 "):
        search.fit(data.X, data.y)


def test_a_search_whose_fits_all_fail_is_an_error(data):
    search = GDGridSearchCV(GDRegressor(solver="gd"), {"learning_rate": [10.0, 100.0]})
    with pytest.raises(ValueError, match="All the 10 fits failed"):
        search.fit(data.X, data.y)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_descents_that_max_iter_ended_are_one_warning(data):
    model = GDRegressor(solver="gd", max_iter=100)
    search = GDGridSearchCV(model, {"learning_rate": [1e-5, 0.3, 1e-4]}, refit=False)
    with pytest.warns(
        ConvergenceWarning, match=r"in 10 of 15 fits: those of \{'learning_rate': 1e-05\}"
    ) as record:
        search.fit(data.X, data.y)
    assert len(record) == 1
    search.set_params(estimator__tol=None).fit(data.X, data.y)


# ---- sharing ---------------------------------------------------------------------------------------


def test_passes_over_the_rows_do_not_grow_with_the_candidates(monkeypatch, data):
    calls = []
    run = candidates_module.PassCandidates._loss_and_grad
    monkeypatch.setattr(
        candidates_module.PassCandidates,
        "_loss_and_grad",
        lambda self, u, which: calls.append(len(which)) or run(self, u, which),
    )
    rates = np.logspace(-3, 0, 30)
    search = GDGridSearchCV(GDClassifier(max_iter=50), {"learning_rate": rates}, cv=3).fit(
        data.X, data.binary
    )
    n_iter = np.array([search.cv_results_[f"split{f}_n_iter"] for f in range(3)])
    assert len(calls) == n_iter.max()  # nor with the folds
    assert sum(calls) == n_iter.sum()  # what has converged is not carried along


@pytest.mark.parametrize("cv, gram_matrices", [(KFold(5), 5), (TimeSeriesSplit(4), 4), (KFold(80), 80)])
def test_squared_error_reads_the_rows_once_for_all_folds_and_candidates(monkeypatch, data, cv, gram_matrices):
    calls = []
    moments_of_parts = fold_moments.moments.moments_of_parts

    class Counting:
        @staticmethod
        def moments_of_parts(X, Y, rows, weight, ends, *rest):
            calls.append((len(ends), len(rows)))
            return moments_of_parts(X, Y, rows, weight, ends, *rest)

    monkeypatch.setattr(fold_moments, "moments", Counting())
    grid = {"learning_rate": [0.01, 0.1], "alpha": [0.1, 1.0], "solver": ["gd", "momentum", "auto"]}
    GDGridSearchCV(GDRegressor(max_iter=10), grid, cv=cv, refit=False).fit(data.X, data.y)
    [(parts, rows)] = calls
    assert parts == gram_matrices
    assert rows <= 150


def test_r2_of_rows_that_are_held_out_needs_no_look_at_them(no_fallback, monkeypatch, data):
    grid = {"learning_rate": [0.01, 0.1], "solver": ["gd", "momentum"]}
    params = {"cv": KFold(4, shuffle=True, random_state=0), "return_train_score": False}
    same(GDRegressor(max_iter=20), grid, data.X, data.Y, **params)
    monkeypatch.setattr("fastgd._folds.Fold.X_test", lambda self: pytest.fail("the rows were read"))
    GDGridSearchCV(GDRegressor(max_iter=20), grid, **params).fit(data.X, data.Y)


def test_r2_is_not_taken_from_moments_in_which_rounding_would_hide_it(no_fallback, data):
    model = GDRegressor(solver="gd", max_iter=300, tol=None)
    same(model, {"learning_rate": [0.2, 0.3]}, data.X, data.y + 1e7, cv=KFold(4))


class CountingScaler(TransformerMixin, BaseEstimator):
    fits = 0

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y=None):
        CountingScaler.fits += 1
        self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X):
        return (X - self.mean_) / self.scale


def test_transformers_are_fitted_once_for_every_fold_and_setting_of_theirs(no_fallback, data):
    model = make_pipeline(CountingScaler(), GDRegressor(solver="gd", **SHORT))
    grid = {"gdregressor__learning_rate": RATES, "gdregressor__alpha": [0.0, 1.0]}
    CountingScaler.fits = 0
    GDGridSearchCV(model, grid, cv=3, refit=False).fit(data.X, data.y)
    assert CountingScaler.fits == 3
    CountingScaler.fits = 0
    GDGridSearchCV(model, grid | {"countingscaler__scale": [1.0, 2.0]}, cv=3, refit=False).fit(data.X, data.y)
    assert CountingScaler.fits == 6
    same(model, grid | {"countingscaler__scale": [1.0, 2.0]}, data.X, data.y)


# ---- pipelines -------------------------------------------------------------------------------------


def test_pipelines_score_as_their_own_fits_do(no_fallback, data):
    regressor = make_pipeline(StandardScaler(), PolynomialFeatures(2), GDRegressor(solver="gd", **SHORT))
    grid = [
        {"gdregressor__learning_rate": RATES, "gdregressor__loss": ["squared_error", "huber"]},
        {"gdregressor__learning_rate": [0.01], "polynomialfeatures__degree": [1, 3]},
        {
            "gdregressor__learning_rate": [0.01],
            "standardscaler": [StandardScaler(with_std=False), "passthrough"],
        },
    ]
    same(regressor, grid, data.X, data.y)
    classifier = make_pipeline(StandardScaler(), GDClassifier(**SHORT))
    grid = {"gdclassifier__learning_rate": RATES, "gdclassifier__alpha": [0.0, 0.1]}
    same(classifier, grid, data.X, data.three, scoring=["accuracy", "neg_log_loss"], refit="accuracy")
    same(Pipeline([("gd", GDClassifier(**SHORT))]), {"gd__learning_rate": RATES}, data.X, data.three)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data.X, columns=list("abcdef"))
    scaled = make_pipeline(StandardScaler().set_output(transform="pandas"), GDClassifier(**SHORT))
    same(scaled, grid, frame, data.binary)


def test_pipelines_with_weights_of_the_last_step(no_fallback, data):
    model = make_pipeline(StandardScaler(), GDRegressor(solver="gd"))
    weights = {"gdregressor__sample_weight": data.s}
    same(model, {"gdregressor__learning_rate": [0.03, 0.3]}, data.X, data.y, weights)


def test_a_callable_scorer_is_given_the_whole_pipeline(no_fallback, data):
    def scorer(estimator, X, y):
        assert list(estimator.named_steps) == ["standardscaler", "gdregressor"]
        return float(np.abs(X).sum()) + estimator.score(X, y)

    model = make_pipeline(StandardScaler(), GDRegressor(solver="gd"))
    same(model, {"gdregressor__learning_rate": [0.03, 0.3]}, data.X, data.y, scoring=scorer)


class FailingTransformer(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        if X[0, 0] != FailingTransformer.first:
            raise RuntimeError("not these rows")
        return self

    def transform(self, X):
        return X


def test_a_transformer_that_fails_in_one_fold(data):
    FailingTransformer.first = data.X[0, 0]
    model = make_pipeline(FailingTransformer(), GDRegressor(solver="gd"))
    grid = {"gdregressor__learning_rate": [0.03, 0.3]}
    same(model, grid, data.X, data.y, cv=KFold(3))
    with pytest.warns(FitFailedWarning, match="not these rows"):
        GDGridSearchCV(model, grid, cv=KFold(3)).fit(data.X, data.y)
    with pytest.raises(RuntimeError, match="not these rows"):
        GDGridSearchCV(model, grid, cv=KFold(3), error_score="raise").fit(data.X, data.y)


def test_columns_whose_squares_overflow_fail_as_fits_by_themselves_do(data):
    X = data.X.copy()
    X[:, 0] *= 1e160
    for model in (GDRegressor(solver="gd"), GDRegressor(), GDRegressor(loss="huber"), GDClassifier()):
        y = data.binary if isinstance(model, GDClassifier) else data.y
        for params in ({"learning_rate": [0.1, 0.2, "auto"]}, {"alpha": [0.1, 1.0]}):
            errors = []
            for kind in (GDGridSearchCV, GridSearchCV):
                try:
                    kind(clone(model), params).fit(X, y)
                except ValueError as error:
                    errors.append(str(error).splitlines()[1])
            assert len(errors) != 1 and len(set(errors)) <= 1


# ---- what cannot be shared ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, grid",
    [
        (GDClassifier(batch_size=16, random_state=0, **SHORT), {"learning_rate": [0.01, 0.1]}),
        (
            GDClassifier(batch_size=1, random_state=0, average=10, **SHORT),
            {"learning_rate": ["optimal", 0.1]},
        ),
        (GDClassifier(hidden_layer_sizes=4, random_state=0, **SHORT), {"learning_rate": [0.01, 0.1]}),
        (GDRegressor(early_stopping=True, random_state=0, **SHORT), {"learning_rate": [0.01, 0.1]}),
        (
            GDRegressor(loss="huber", preconditioner="diag", solver="gd", **SHORT),
            {"learning_rate": [0.1, 0.2]},
        ),
    ],
    ids=str,
)
def test_what_cannot_be_shared_is_as_it_is_in_scikit_learn(data, model, grid):
    y = data.binary if isinstance(model, GDClassifier) else data.y
    same(model, grid, data.X, y)
    shareable = {"learning_rate": [0.02, 0.1], "batch_size": ["full"], "hidden_layer_sizes": [()]}
    shareable |= {"early_stopping": [False], "preconditioner": [None], "average": [False]}
    mixed = same(model, [grid, shareable], data.X, y, n_jobs=1)
    assert np.isfinite(mixed.cv_results_["mean_final_loss"]).all()
    piped = {f"gd__{name}": values for name, values in grid.items()}
    same(Pipeline([("scale", StandardScaler()), ("gd", model)]), piped, data.X, y)


def test_fits_by_themselves_may_have_processes_of_their_own(data):
    grid = [{"learning_rate": [0.1, 0.2]}, {"early_stopping": [True], "random_state": [0, 1]}]
    same(GDRegressor(solver="gd", **SHORT), grid, data.X, data.y, n_jobs=2)


def test_other_estimators_and_sparse_rows_are_searched_as_scikit_learn_does(data):
    same(Ridge(), {"alpha": [0.1, 1.0]}, data.X, data.y)
    same(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0]}, data.X, data.y)
    grid = {"gdregressor": [GDRegressor(), Ridge()]}
    same(make_pipeline(StandardScaler(), GDRegressor()), grid, data.X, data.y)
    same(
        make_pipeline(StandardScaler(with_mean=False), Ridge()),
        {"ridge__alpha": [1.0]},
        csr_array(data.X),
        data.y,
    )


@pytest.mark.parametrize("values", [[0.1, -1.0], [0.1, "none"]])
def test_an_invalid_value_fails_where_it_is(data, values):
    search = same(GDRegressor(solver="gd"), {"learning_rate": [*values, 0.2]}, data.X, data.y)
    assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), [False, True, False])


def test_errors_are_those_of_scikit_learn(data):
    for params, X, y in [
        ({"param_grid": {"learning_speed": [0.1]}}, data.X, data.y),
        ({"param_grid": {"learning_rate": []}}, data.X, data.y),
        (
            {"param_grid": {"learning_rate": [0.1, 0.2]}, "scoring": ["r2", "explained_variance"]},
            data.X,
            data.y,
        ),
        ({"param_grid": {"learning_rate": [0.1, 0.2]}, "error_score": "rise"}, data.X, data.y),
        ({"param_grid": {"learning_rate": [0.1, 0.2]}}, np.full_like(data.X, np.nan), data.y),
        ({"param_grid": {"learning_rate": [0.1, 0.2]}}, data.X[:, :0], data.y),
        ({"param_grid": {"learning_rate": [0.1, 0.2]}}, data.X, data.y[:-1]),
        ({"param_grid": {"learning_rate": [0.1, 0.2]}}, data.X[:3], data.y[:3]),
        ({"param_grid": {"learning_rate": [0.1, 0.2]}, "refit": lambda results: 99}, data.X, data.y),
    ]:
        raised = []
        for kind in (GDGridSearchCV, GridSearchCV):
            with pytest.raises((ValueError, TypeError, IndexError)) as info:
                kind(GDRegressor(solver="gd"), **params).fit(X, y)
            message = str(info.value).replace("GDGridSearchCV", "GridSearchCV")
            raised.append((type(info.value), message[:80]))
        assert raised[0] == raised[1]


def test_a_class_that_some_folds_do_not_see(data):
    y = data.three.copy()
    y[:] = y > 0
    y[:2] = 2
    same(GDClassifier(**SHORT), {"learning_rate": [0.1, 0.3]}, data.X, y, cv=KFold(50))


def test_one_candidate_and_one_split(no_fallback, data):
    split = [(np.arange(100), np.arange(100, 150))]
    same(GDRegressor(solver="gd"), {"learning_rate": [0.1, 0.3]}, data.X, data.y, cv=split)
    same(GDRegressor(solver="gd"), {"learning_rate": [0.1]}, data.X, data.y)


def test_callbacks_see_every_fit(data):
    callback = pytest.importorskip("sklearn.callback")
    for kind in (GDRegressor(solver="gd"), make_pipeline(StandardScaler(), GDRegressor(solver="gd"))):
        prefix = "gdregressor__" if isinstance(kind, Pipeline) else ""
        monitor = callback.ProgressBar() if hasattr(callback, "ProgressBar") else None
        search = GDGridSearchCV(kind, {f"{prefix}learning_rate": [0.1, 0.2]}, cv=2).set_callbacks(monitor)
        search.fit(data.X, data.y)
        assert "divergence" not in search.cv_results_  # scikit-learn's own search, fit by fit


def test_randomized_search_draws_what_scikit_learn_draws(no_fallback, data):
    draws = {"learning_rate": loguniform(1e-3, 1), "alpha": [0.0, 0.1, 1.0]}
    kinds = (GDRandomizedSearchCV, RandomizedSearchCV)
    same(GDRegressor(solver="gd"), draws, data.X, data.y, search=kinds, n_iter=6, random_state=3)


def test_randomized_search_with_a_generator_as_random_state(data):
    draws = {"learning_rate": loguniform(1e-3, 1)}
    rates = [
        kind(GDRegressor(solver="gd"), draws, n_iter=3, random_state=np.random.RandomState(0))
        .fit(data.X, data.y)
        .cv_results_["params"]
        for kind in (GDRandomizedSearchCV, RandomizedSearchCV)
    ]
    assert rates[0] == rates[1]


def test_no_warning_of_a_search_in_which_all_goes_well(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = GDGridSearchCV(GDClassifier(), {"learning_rate": [0.5, 1.0]}, cv=StratifiedKFold(3))
        search.fit(data.X, data.binary)
