"""Default estimators end at the optimum of their objective, also on data that breaks SGD.

Smooth losses to 1e-6 of the objective, losses with kinks to 1e-4; poisson and gamma are measured as
deviances. Oracles: scikit-learn, and on hard data SciPy in standardised coordinates (reference.py).
"""

import copy
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    CLASSIFICATION,
    LOSSES,
    REGRESSION,
    objective,
    penalty_parts,
    signs,
    smallest_objective,
    smallest_softmax_objective,
)
from scipy.optimize import lsq_linear
from scipy.special import xlogy
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
)
from sklearn.svm import SVC, SVR, LinearSVC

from fastgd import GDClassifier, GDRegressor

pytestmark = pytest.mark.slow

SMOOTH = [name for name, loss in LOSSES.items() if loss.curvature is not None]


def saturated(loss, y):
    """The loss that no prediction can undercut: the zero of the deviance."""
    if loss not in ("poisson", "gamma"):
        return 0.0
    return np.mean(y - xlogy(y, y)) if loss == "poisson" else np.mean(1 + np.log(y))


def assert_optimal(model, X, y, best, tol=None):
    loss = model.get_params()["loss"]
    tol = tol or (1e-6 if loss in SMOOTH else 1e-4)
    assert np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all()
    zero = saturated(loss, y)
    excess = (objective(model, X, y) - best) / (best - zero)
    assert excess <= tol, f"objective {excess:.1e} above the optimum, stopped as {model.stop_reason_!r}"


# --- scikit-learn's solvers, on friendly data

A = 0.02  # alpha
M = 150  # rows of the shared data
EXACT = {"tol": 1e-10, "max_iter": 100_000}
PEERS = {
    "ridge": (GDRegressor, "squared_error", "y", {}, Ridge(alpha=A * M)),
    "ridge, two outputs": (GDRegressor, "squared_error", "Y", {}, Ridge(alpha=A * M)),
    "lasso": (GDRegressor, "squared_error", "y", {"penalty": "l1"}, Lasso(alpha=A, **EXACT)),
    "lasso, two outputs": (
        GDRegressor,
        "squared_error",
        "Y",
        {"penalty": "l1"},
        Lasso(alpha=A, **EXACT),
    ),
    "elastic net": (
        GDRegressor,
        "squared_error",
        "y",
        {"penalty": "elasticnet", "l1_ratio": 0.3},
        ElasticNet(alpha=A, l1_ratio=0.3, **EXACT),
    ),
    "poisson": (GDRegressor, "poisson", "counts", {}, PoissonRegressor(alpha=A, **EXACT)),
    "gamma": (GDRegressor, "gamma", "positive", {}, GammaRegressor(alpha=A, **EXACT)),
    "median": (GDRegressor, "quantile", "y", {"penalty": None}, QuantileRegressor(alpha=0)),
    "upper quantile": (
        GDRegressor,
        "quantile",
        "y",
        {"penalty": None, "quantile": 0.8},
        QuantileRegressor(quantile=0.8, alpha=0),
    ),
    "quantile, l1": (
        GDRegressor,
        "quantile",
        "y",
        {"penalty": "l1", "quantile": 0.3},
        QuantileRegressor(quantile=0.3, alpha=A),
    ),
    "svr": (
        GDRegressor,
        "epsilon_insensitive",
        "y",
        {},
        SVR(kernel="linear", C=1 / (A * M), tol=1e-8),
    ),
    "absolute error": (
        GDRegressor,
        "absolute_error",
        "y",
        {},
        SVR(kernel="linear", C=1 / (A * M), epsilon=0, tol=1e-8),
    ),
    "logistic": (
        GDClassifier,
        "log_loss",
        "binary",
        {},
        LogisticRegression(C=1 / (A * M), **EXACT),
    ),
    "logistic, no penalty": (
        GDClassifier,
        "log_loss",
        "binary",
        {"penalty": None},
        LogisticRegression(C=1e15, **EXACT),
    ),
    "logistic, l1": (
        GDClassifier,
        "log_loss",
        "binary",
        {"penalty": "l1"},
        LogisticRegression(C=1 / (A * M), l1_ratio=1, penalty="l1", solver="saga", **EXACT),
    ),
    "multinomial": (
        GDClassifier,
        "log_loss",
        "three",
        {},
        LogisticRegression(C=1 / (A * M), **EXACT),
    ),
    "multinomial, l1": (
        GDClassifier,
        "log_loss",
        "three",
        {"penalty": "l1"},
        LogisticRegression(C=1 / (A * M), l1_ratio=1, penalty="l1", solver="saga", **EXACT),
    ),
    "svc": (GDClassifier, "hinge", "binary", {}, SVC(kernel="linear", C=1 / (A * M), tol=1e-8)),
    "linear svc": (
        GDClassifier,
        "hinge",
        "binary",
        {"fit_intercept": False},
        LinearSVC(loss="hinge", C=1 / (A * M), fit_intercept=False, **EXACT),
    ),
    "linear svc, three classes": (
        GDClassifier,
        "hinge",
        "three",
        {"fit_intercept": False},
        LinearSVC(loss="hinge", C=1 / (A * M), fit_intercept=False, **EXACT),
    ),
    "linear svc, squared hinge": (
        GDClassifier,
        "squared_hinge",
        "binary",
        {"fit_intercept": False},
        LinearSVC(C=1 / (A * M), fit_intercept=False, **EXACT),
    ),
    "linear svc, squared hinge, l1": (
        GDClassifier,
        "squared_hinge",
        "binary",
        {"penalty": "l1", "fit_intercept": False},
        LinearSVC(C=1 / (A * M), penalty="l1", dual=False, fit_intercept=False, **EXACT),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_optimum_is_that_of_scikit_learn(data, name):
    Ours, loss, target, params, peer = PEERS[name]
    y = getattr(data, target)
    ours = Ours(loss=loss, alpha=A, **params).fit(data.X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = peer.fit(data.X, y)
    theirs = copy.copy(ours)
    theirs.coef_, theirs.intercept_ = (
        peer.coef_,
        np.broadcast_to(peer.intercept_, ours.intercept_.shape),
    )
    assert_optimal(ours, data.X, y, objective(theirs, data.X, y))
    if params.get("penalty") == "l1" and loss in SMOOTH:
        assert_array_equal(np.ravel(ours.coef_) == 0, np.abs(np.ravel(peer.coef_)) < 1e-9)


def test_optimum_is_that_of_huber_regressor_at_its_scale(data):
    # Its objective at its own scale s is 2 m / s times ours with epsilon s and alpha s / m.
    peer = HuberRegressor(alpha=A * M, tol=1e-10, max_iter=100_000).fit(data.X, data.y)
    params = {"epsilon": peer.epsilon * peer.scale_, "alpha": A * peer.scale_}
    ours = GDRegressor(loss="huber", **params).fit(data.X, data.y)
    theirs = copy.copy(ours)
    theirs.coef_, theirs.intercept_ = peer.coef_, np.atleast_1d(peer.intercept_)
    assert_optimal(ours, data.X, data.y, objective(theirs, data.X, data.y))


# --- hard data


def plain(rng):
    return rng.normal(size=(300, 6))


def unscaled(rng):
    return plain(rng) * 10.0 ** np.array([-6, -3, -1, 1, 3, 6])


def far_from_the_origin(rng):
    return plain(rng) + 10.0 ** np.array([0, 1, 2, 3, 4, 5])


def heavy_tails(rng):
    return rng.standard_t(1.2, size=(300, 6))


def rare_one_hot(rng):
    categories = rng.choice(8, size=1000, p=[0.5, 0.3, 0.14, 0.03, 0.015, 0.008, 0.005, 0.002])
    X = np.hstack([np.eye(8)[categories], rng.normal(size=(1000, 2))])
    return (X - X.mean(0)) / X.std(0)


def constant_columns(rng):
    X = plain(rng)
    X[:, 1], X[:, 3], X[:, 4] = 3.0, 0.0, 1e6
    return X


def collinear(rng):
    X = plain(rng)
    X[:, 3], X[:, 4], X[:, 5] = X[:, 0], X[:, 0] + X[:, 1], X[:, 2] + 1e-2 * X[:, 5]
    return X


def more_columns_than_rows(rng):
    return rng.normal(size=(30, 45))


def scale_of_everything(factor):
    def scaled(rng):
        return plain(rng) * factor

    scaled.__name__ = f"X_times_{factor:g}"
    return scaled


HARD = [
    plain,
    unscaled,
    far_from_the_origin,
    heavy_tails,
    rare_one_hot,
    constant_columns,
    collinear,
    more_columns_than_rows,
    scale_of_everything(1e-8),
    scale_of_everything(1e8),
]
hard_data = pytest.mark.parametrize("columns", HARD, ids=lambda f: f.__name__)


def problem(columns, loss, classes=2, seed=1):
    """X and a noisy target for the loss; the signal is made of standardised columns."""
    rng = np.random.default_rng(seed)
    X = columns(rng)
    m = len(X)
    spread = X.std(0)
    Z = np.clip((X - X.mean(0)) / np.where(spread > 0, spread, 1), -3, 3)
    z = Z @ rng.normal(size=X.shape[1])
    z = z / z.std()
    if loss == "poisson":
        return X, rng.poisson(np.exp(z / 2)).astype(float)
    if loss == "gamma":
        return X, np.exp(z / 2) * rng.gamma(2, size=m)
    if loss in REGRESSION:
        return X, z + rng.standard_t(3, size=m) / 2
    noisy = z + rng.logistic(size=m)
    return X, (noisy > 0).astype(int) if classes == 2 else np.digitize(noisy, [-0.7, 0.7])


def best_of(model, X, y):
    """The smallest objective of a fitted model's problem (one output or two classes)."""
    p = model.get_params()
    l1, l2 = penalty_parts(p["penalty"], p["alpha"], p["l1_ratio"])
    if hasattr(model, "classes_"):
        y = signs(np.searchsorted(model.classes_, y), 1)[:, 0]
    return smallest_objective(
        p["loss"],
        X,
        y,
        l1=l1,
        l2=l2,
        epsilon=p["epsilon"],
        quantile=p.get("quantile", 0.5),
        fit_intercept=p["fit_intercept"],
    )


@hard_data
@pytest.mark.parametrize("loss", REGRESSION)
def test_default_regressor_reaches_the_optimum(columns, loss):
    X, y = problem(columns, loss)
    model = GDRegressor(loss=loss).fit(X, y)
    assert_optimal(model, X, y, best_of(model, X, y))


@pytest.mark.parametrize("noise", ["exponential", "uniform", "standard_t", "vertex"])
@pytest.mark.parametrize(
    "loss, params",
    [
        ("absolute_error", {}),
        ("quantile", {"quantile": 0.5}),
        ("quantile", {"quantile": 0.2}),
        ("epsilon_insensitive", {"epsilon": 1e-3}),
    ],
    ids=["absolute", "median", "quantile", "epsilon"],
)
def test_kinked_losses_without_outliers_are_not_left_at_least_squares(loss, params, noise):
    """Where all residuals are within the first corners, a sharper one changes nothing."""
    for seed, (m, d) in enumerate([(150, 3), (400, 20), (40, 30), (9, 1)]):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(m, d))
        y = X @ rng.normal(size=d)
        if noise == "vertex":
            y[: m // 10] += 1
        else:
            y += getattr(rng, noise)(*[3] * (noise == "standard_t"), size=m)
        best = smallest_objective(loss, X, y, **params)
        for penalty in ({"penalty": None}, {"alpha": 1e-10}):
            model = GDRegressor(loss, max_iter=20_000, **penalty, **params).fit(X, y)
            assert objective(model, X, y) <= best * (1 + 1e-4) + 1e-8, (m, d, penalty)


@pytest.mark.parametrize("d", [20, 120])
def test_rows_told_apart_by_far_are_no_reason_to_go_on(d):
    """All are within the corner of the hinge, hardly: their slopes are next to none."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, d))
    y = X[:, :5].sum(axis=1) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = GDClassifier("hinge").fit(X, y)
    best = smallest_objective("hinge", X, np.where(y, 1.0, -1.0), l2=1e-4)
    assert objective(model, X, y) <= best * (1 + 1e-4) + 1e-9


def test_ctrl_c_between_outputs_keeps_those_that_were_fitted(data, monkeypatch):
    from fastgd import _descent

    fit_one, calls = _descent._smoothing, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        fit_one(*args)

    monkeypatch.setattr(_descent, "_smoothing", interrupted)
    Y = np.column_stack([data.Y, data.y])
    with pytest.warns(UserWarning, match="interrupted"):
        model = GDRegressor("huber").fit(data.X, Y)
    assert model.stop_reason_ == "interrupted"
    assert_allclose(model.coef_[0], GDRegressor("huber").fit(data.X, Y[:, 0]).coef_)
    assert not model.coef_[1:].any()
    assert_allclose(model.loss_curve_[-1], objective(model, data.X, Y))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_order_of_few_wide_rows_is_of_no_consequence(dtype):
    """Rows without weight, and what float32 rounds off, would be blown up from iteration to iteration."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(300, 2100)) * rng.uniform(0.1, 3, 2100) + rng.normal(size=2100)).astype(dtype)
    y = np.digitize(X[:, :300].mean(axis=1) + rng.logistic(size=300), [-1.0, 1.0])
    s, order = rng.uniform(0.1, 2, 300) * (rng.random(300) < 0.6), rng.permutation(300)
    one, other = (GDClassifier().fit(X[i], y[i], sample_weight=s[i]) for i in (slice(None), order))
    assert one.n_iter_ == other.n_iter_
    assert_allclose(one.coef_, other.coef_, rtol=0, atol=1e-7 * np.abs(one.coef_).max())


@pytest.mark.parametrize("loss", ["huber", "absolute_error", "quantile", "epsilon_insensitive"])
@pytest.mark.parametrize("d", [4, 2100])  # 2100: in the space of the rows
def test_outputs_of_kinked_losses_are_those_of_each_by_itself(loss, d):
    """With a budget of their own; iteration t is the t-th of all, whoever watches."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, d))
    Y = X[:, :4] @ rng.normal(size=(4, 4)) * [1e-3, 1, 1e3, 1e8] + rng.standard_t(2, size=(30, 4))
    settings = [{}, {"tol": None, "max_iter": 30}]
    settings += [{"preconditioner": "diag", "max_iter": 100}] * (d == 4)
    for params in settings:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            each = [GDRegressor(loss, **params).fit(X, y) for y in Y.T]
            model = GDRegressor(loss, **params).fit(X, Y)
            watched = GDRegressor(loss, **params).fit(X, Y, X_val=X, y_val=Y)
        longest = max(one.n_iter_ for one in each)
        curve = sum(np.pad(one.loss_curve_, (0, longest - one.n_iter_), mode="edge") for one in each)
        for y, coef, intercept, one in zip(Y.T, model.coef_, model.intercept_, each, strict=True):
            output = SimpleNamespace(coef_=coef, intercept_=intercept, get_params=model.get_params)
            assert_allclose(objective(output, X, y), objective(one, X, y), rtol=1e-3)
        assert abs(model.n_iter_ - longest) <= 3
        assert_allclose(model.loss_curve_[:4], curve[:4], rtol=1e-6)
        assert_allclose(model.loss_curve_[-1], curve[-1], rtol=1e-5)
        assert_array_equal(watched.coef_, model.coef_)
        assert_array_equal(watched.loss_curve_, model.loss_curve_)
        assert_allclose(watched.validation_scores_[-1], model.score(X, Y))
    stopped = GDRegressor(loss, early_stopping=True).fit(X, Y, X_val=X[:9], y_val=Y[:9])
    assert_allclose(stopped.score(X[:9], Y[:9]), max(stopped.validation_scores_))


@pytest.mark.parametrize("model", [
    GDRegressor("huber"), GDRegressor("absolute_error"), GDRegressor("huber", preconditioner="diag"),
    GDRegressor("quantile", penalty="l1", alpha=0.01), GDClassifier("hinge"),
])  # fmt: skip
def test_the_loss_curve_is_the_objective_of_a_loss_that_is_smoothed(data, model):
    y = data.y if isinstance(model, GDRegressor) else data.three
    for n in (1, 2, 5, 10, 1000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(max_iter=n).fit(data.X, y, sample_weight=data.s if n == 5 else None)
        expected = objective(model, data.X, y, data.s if n == 5 else None)
        assert_allclose(model.loss_curve_[-1], expected, rtol=1e-3 if n < 1000 else 1e-6)


@hard_data
@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_hinge", "modified_huber"])
def test_default_classifier_reaches_the_optimum(columns, loss):
    X, y = problem(columns, loss)
    model = GDClassifier(loss=loss).fit(X, y)
    assert_optimal(model, X, y, best_of(model, X, y))


@hard_data
def test_default_softmax_reaches_the_optimum(columns):
    X, y = problem(columns, "log_loss", classes=3)
    model = GDClassifier().fit(X, y)
    assert_optimal(model, X, y, smallest_softmax_objective(X, y, l2=1e-4))


OTHER_PENALTIES = [
    (columns, loss, penalty)
    for columns in HARD
    for loss in ("squared_error", "log_loss", "poisson", "absolute_error")
    for penalty in (None, "l1", "elasticnet")
    if penalty or columns is not more_columns_than_rows  # their optimum is zero, or infinitely far
    if penalty != "elasticnet" or loss != "absolute_error"  # no oracle
]


@pytest.mark.parametrize("columns, loss, penalty", OTHER_PENALTIES)
def test_other_penalties_reach_the_optimum(columns, loss, penalty):
    X, y = problem(columns, loss)
    Ours = GDClassifier if loss == "log_loss" else GDRegressor
    model = Ours(loss=loss, penalty=penalty, alpha=0.01).fit(X, y)
    assert_optimal(model, X, y, best_of(model, X, y))


@pytest.mark.parametrize("loss", [name for name in REGRESSION if name != "gamma"])
def test_targets_of_any_size_and_offset(loss):
    X, y = problem(plain, loss)
    rng = np.random.default_rng(0)
    sizes = {"1e9": 1e9 * y, "1e-9": 1e-9 * y, "1e9 + noise": 1e9 + y}
    if loss == "poisson":
        sizes = {"1e9": 1e9 * np.exp(X[:, 0]) * rng.gamma(2, size=len(X)), "1e-6": 1e-6 * y}
    for name, target in sizes.items():
        if name == "1e-9" and loss.endswith("epsilon_insensitive"):
            continue  # every target lies within epsilon: the optimum is zero
        model = GDRegressor(loss=loss).fit(X, target)
        assert_optimal(model, X, target, best_of(model, X, target))


@pytest.mark.parametrize("offset, spread", [(0.0, 1.0), (10.0, 1.0), (1000.0, 1.0), (10.0, 1e-2)])
@pytest.mark.parametrize("model", [GDRegressor(), GDRegressor("huber"), GDClassifier()], ids=repr)
def test_what_rounds_off_float32_is_not_taken_for_a_slope(model, offset, spread):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 70)) * rng.choice([1, spread], 70) + rng.choice([0, offset], 70)
    z = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=70)
    y = z if isinstance(model, GDRegressor) else (z + rng.normal(size=60) > 0).astype(int)
    X = X.astype(np.float32)
    model = clone(model).set_params(penalty=None)  # ten directions in which the data say nothing
    double = clone(model).fit(X.astype(float), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = model.fit(X, y)
    of_nothing = np.abs(y - np.median(y)).mean() if isinstance(model, GDRegressor) else 0.5
    assert objective(single, X, y) < 1e-4 * of_nothing
    assert np.abs(single.coef_).max() < 2 * np.abs(double.coef_).max()


@pytest.mark.parametrize("loss", ["log_loss", "brier_score"])
def test_a_softmax_does_not_drift_where_its_loss_is_flat(loss):
    for seed in range(8):  # one constant added to all intercepts changes no probability
        rng = np.random.default_rng(seed)
        X = (rng.normal(size=(150, 6)) + 0.3).astype(np.float32)
        y = np.digitize(X @ rng.normal(size=6) / 2 + rng.logistic(size=150), [-0.7, 0.7])
        model = GDClassifier(loss, alpha=0.01).fit(X, y)
        assert abs(model.intercept_.mean()) < 2e-3
        assert np.abs(model.coef_.mean(axis=0)).max() < 1e-6


def test_newton_ends_where_float32_has_no_more_to_say():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 20))
    y = 2 * X @ rng.normal(size=20) + 0.1 * rng.normal(size=200) + 50
    X = (X + rng.choice([0, 1000], 20)).astype(np.float32)
    model = GDRegressor(penalty=None).fit(X, y)
    assert model.stop_reason_ == "converged" and model.n_iter_ < 20
    assert objective(model, X, y) < 1.001 * objective(GDRegressor(penalty=None).fit(X.astype(float), y), X, y)


@hard_data
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "absolute_error"])
def test_float32_reaches_the_optimum_to_its_precision(columns, loss):
    # The bar is the rounded optimum: coefficients cannot lie between two float32 numbers.
    X, y = problem(columns, loss)
    X = X.astype(np.float32)
    Ours = GDClassifier if loss == "log_loss" else GDRegressor
    rounded = Ours(loss=loss).fit(X.astype(float), y)
    rounded.coef_ = rounded.coef_.astype(np.float32)
    rounded.intercept_ = rounded.intercept_.astype(np.float32)
    model = Ours(loss=loss).fit(X, y)
    assert model.coef_.dtype == np.float32
    best = max(best_of(model, X, y), objective(rounded, X, y))
    # x . w + b in float32 keeps four digits less where columns lie 1e5 times their spread from zero,
    # and a near-interpolating fit has an objective of 1e-4 of the size of y
    kinked = 1e-2 if columns in (far_from_the_origin, more_columns_than_rows) else 1e-3
    assert_optimal(model, X, y, best, tol=1e-4 if loss in SMOOTH else kinked)


@pytest.mark.parametrize("classes", [2, 3])
def test_brier_score_ends_where_its_gradient_vanishes(classes):
    # Not convex: a stationary point, and better than the constant probabilities it started from.
    X, y = problem(plain, "brier_score", classes)
    model = GDClassifier(loss="brier_score", tol=1e-8).fit(X, y)
    best = objective(model, X, y)
    assert best < 1 - 1 / classes - 0.05
    for attribute in ("coef_", "intercept_"):
        for index in np.ndindex(getattr(model, attribute).shape):
            for step in (1e-3, -1e-3):
                moved = copy.deepcopy(model)
                getattr(moved, attribute)[index] += step
                assert objective(moved, X, y) > best - 1e-9


# --- one optimum, however it is reached


@pytest.mark.parametrize("preconditioner", [None, "diag", "gram"])
@pytest.mark.parametrize("solver", ["auto", "gd", "nesterov"])
@pytest.mark.parametrize(
    "loss, classes", [("squared_error", 0), ("log_loss", 2), ("log_loss", 3), ("poisson", 0)]
)
def test_every_metric_and_solver_has_the_same_optimum(loss, classes, solver, preconditioner):
    X, y = problem(plain, loss, classes)
    Ours = GDClassifier if classes else GDRegressor
    model = Ours(loss=loss, preconditioner=preconditioner, solver=solver).fit(X, y)
    best = smallest_softmax_objective(X, y, l2=1e-4) if classes == 3 else best_of(model, X, y)
    assert_optimal(model, X, y, best)


@pytest.mark.parametrize("m, d", [(2000, 4), (40, 60)])  # the Gram matrix pays; it does not
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_an_explicit_rate_gives_the_textbook_iterates(m, d, alpha):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(m, d)), rng.normal(size=m)
    ours = GDRegressor(learning_rate=0.05, solver="gd", alpha=alpha, max_iter=25, tol=None).fit(X, y)
    w, b = np.zeros(d), 0.0
    for _ in range(25):
        residual = X @ w + b - y
        w, b = w - 0.05 * (X.T @ residual / m + alpha * w), b - 0.05 * residual.mean()
    assert_allclose(ours.coef_, w, rtol=1e-10, atol=1e-12)
    assert_allclose(ours.intercept_, [b], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    ["squared_error", "absolute_error", "poisson", "log_loss", "three", "hinge", "squared_hinge"],
)
def test_full_batch_weights_are_multiplicities(loss):
    X, y = problem(plain, loss if loss != "three" else "log_loss", 3 if loss == "three" else 2)
    Ours = GDRegressor if loss in REGRESSION else GDClassifier
    model = Ours(loss=loss.replace("three", "log_loss"), alpha=0.01)
    s = np.random.default_rng(0).integers(0, 4, size=len(X))
    repeated = copy.copy(model).fit(np.repeat(X, s, axis=0), np.repeat(y, s))
    tol = 1e-6 if model.loss in SMOOTH else 1e-4
    for scale in (1, 1e-6, 1e6):
        weighted = copy.copy(model).fit(X, y, sample_weight=s * scale)
        assert_allclose(objective(weighted, X, y, s), objective(repeated, X, y, s), rtol=tol)
        if model.loss in SMOOTH:
            assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 2: 0.2}])
def test_class_weights_multiply_the_weights_of_their_rows(class_weight):
    X, y = problem(plain, "log_loss", 3)
    table = class_weight if isinstance(class_weight, dict) else dict(enumerate(len(y) / (3 * np.bincount(y))))
    s = np.vectorize(lambda c: table.get(c, 1.0))(y)
    model = GDClassifier(class_weight=class_weight).fit(X, y)
    best = smallest_softmax_objective(X, y, l2=1e-4, sample_weight=s)
    assert objective(model, X, y, s) <= best * (1 + 1e-6)


# --- mini-batches with the automatic step


@hard_data
@pytest.mark.parametrize("batch_size", [1, 32])
def test_automatic_mini_batch_steps_end_below_their_start(columns, batch_size):
    for loss in ("squared_error", "log_loss", "poisson", "squared_hinge", "absolute_error"):
        X, y = problem(columns, loss)
        Ours = GDRegressor if loss in REGRESSION else GDClassifier
        # with a log link, single rows a hundred times as long as others lift these before they are met again:
        # of some seeds, most descents end above their start
        lifted = loss == "poisson" and columns is heavy_tails and batch_size == 1
        for seed in range(5 if lifted else 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = Ours(loss=loss, batch_size=batch_size, random_state=seed).fit(X, y)
            assert np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all()
            untrained = copy.copy(model)
            untrained.coef_, untrained.intercept_ = 0 * model.coef_, 0 * model.intercept_
            assert objective(model, X, y) < (4 if lifted else 1) * objective(untrained, X, y)


@pytest.mark.parametrize("batch_size", [1, 20])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_automatic_mini_batch_steps_do_not_see_the_scale_of_a_column(loss, batch_size):
    X, y = problem(plain, loss)
    Ours = GDRegressor if loss in REGRESSION else GDClassifier
    scale = 10.0 ** np.array([-6, -3, 0, 1, 3, 6])
    params = {
        "penalty": None,
        "batch_size": batch_size,
        "max_iter": 10,
        "tol": None,
        "random_state": 0,
        "loss": loss,
    }
    plainly, scaled = (Ours(**params).fit(x, y) for x in (X, X * scale))
    assert_allclose(scaled.coef_ * scale, plainly.coef_, rtol=1e-5, atol=1e-7)


def test_the_tables_of_losses_are_complete():
    assert set(REGRESSION) | set(CLASSIFICATION) == set(LOSSES)


@pytest.mark.parametrize("penalty", [None, "l2", "l1", "elasticnet"])
def test_an_optimum_at_infinity_is_not_chased_for_long(penalty):
    # All rows that weigh are of one class: the intercept has no finite optimum.
    X, y = problem(plain, "log_loss")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GDClassifier(penalty=penalty).fit(X, y, sample_weight=y)
    assert time.perf_counter() - start < 5
    assert model.predict_proba(X)[:, 1].min() > 0.99


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_far_more_columns_than_rows_are_solved_in_the_space_of_the_rows(fit_intercept):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2500)) * np.exp(rng.normal(size=2500)) + 3
    y, three = X[:, :20] @ rng.normal(size=20), rng.integers(0, 3, 60)
    model = GDRegressor(fit_intercept=fit_intercept).fit(X, y, X_val=X[:20], y_val=y[:20])
    ridge = Ridge(alpha=1e-4 * 60, fit_intercept=fit_intercept).fit(X, y)
    assert_allclose(model.coef_, ridge.coef_, rtol=1e-6, atol=1e-8)
    assert_allclose(model.validation_scores_[-1], model.score(X[:20], y[:20]), rtol=1e-9)
    softmax = GDClassifier(fit_intercept=fit_intercept).fit(X, three)
    peer = LogisticRegression(C=1e4 / 60, fit_intercept=fit_intercept, tol=1e-9, max_iter=10000)
    peer.fit(X, three)
    assert objective(softmax, X, three) <= objective_at(softmax, peer, X, three) * (1 + 1e-6)
    warm = GDClassifier(fit_intercept=fit_intercept, max_iter=3, tol=None)
    warm.fit(X, three, coef_init=softmax.coef_, intercept_init=softmax.intercept_)
    assert_allclose(warm.loss_curve_[0], softmax.loss_curve_[-1], rtol=1e-6)


def objective_at(model, peer, X, y):
    """Objective of `model` at the coefficients of a peer."""
    model = copy.copy(model)
    model.coef_, model.intercept_ = peer.coef_, np.broadcast_to(peer.intercept_, len(peer.coef_))
    return objective(model, X, y)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "poisson", "absolute_error", "log_loss", "hinge"])
@pytest.mark.parametrize("solver", ["gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("columns", [plain, unscaled, collinear])
def test_every_update_rule_with_automatic_rate_comes_near_the_optimum(columns, solver, loss):
    X, y = problem(columns, loss)
    Ours = GDClassifier if loss in ("log_loss", "hinge") else GDRegressor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Ours(loss=loss, solver=solver).fit(X, y)
    exact = solver in ("gd", "momentum", "nesterov") and loss in ("squared_error", "log_loss")
    assert_optimal(model, X, y, best_of(model, X, y), tol=1e-6 if exact else 0.02)


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize(
    "loss", ["squared_error", "huber", "absolute_error", "epsilon_insensitive", "quantile"]
)
def test_without_tol_all_iterations_are_run_and_end_at_the_optimum(loss, penalty):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = X @ rng.normal(size=4) + rng.standard_t(2, size=200)
    settings = dict(loss=loss, penalty=penalty, alpha=0.01)
    optimum = GDRegressor(**settings, tol=1e-8).fit(X, y)
    model = GDRegressor(**settings, tol=None, max_iter=250).fit(X, y)
    assert (model.n_iter_, model.stop_reason_) == (250, "max_iter")
    assert_allclose(model.loss_curve_[-1], optimum.loss_curve_[-1], rtol=1e-9)
    assert_allclose(model.coef_, optimum.coef_, rtol=1e-4, atol=1e-5)


def least_possible(model, X, y):
    """A lower bound of the objective: that of Fenchel's dual, at slopes which explain the weights.

    Slopes of rows away from the kinks are known; those of rows on a kink are whatever between them fits best.
    """
    p, m, bounds = model.get_params(), len(y), []
    epsilon = p["epsilon"] if p["loss"] == "epsilon_insensitive" else 0.0
    residual = y - X @ model.coef_ - model.intercept_
    A = np.column_stack([X, np.full(m, 1e3)]).T / m  # the slopes of all rows add up to zero
    for width in (1e-8, 1e-7, 1e-6):
        kinked = np.abs(np.abs(residual) - epsilon) < width * np.abs(y).max()
        slope = np.where(np.abs(residual) > epsilon, np.sign(residual), 0.0)
        rest = np.append(p["alpha"] * model.coef_, 0.0) - A @ np.where(kinked, 0.0, slope)
        side = np.sign(residual[kinked])
        low, high = (np.minimum(side, 0), np.maximum(side, 0)) if epsilon else (-np.abs(side), np.abs(side))
        slope[kinked] = lsq_linear(A[:, kinked], rest, (low, high), tol=1e-14).x
        if abs(slope.sum()) < 1e-6 * m:
            explained = X.T @ slope / m
            gain = (slope @ y - epsilon * np.abs(slope).sum()) / m
            bounds.append(gain - explained @ explained / (2 * p["alpha"]))
    return max(bounds)


@pytest.mark.parametrize(
    ("loss", "seed"), [("absolute_error", 40), ("absolute_error", 23), ("epsilon_insensitive", 56)]
)
def test_a_whole_step_that_leads_up_does_not_begin_the_end_anew(loss, seed):
    rng = np.random.default_rng(seed)
    X = (rng.random((2000, 40)) < np.logspace(-2.8, -0.3, 40)).astype(float)
    X = (X - X.mean(0)) / (X.std(0) + 1e-12)
    y = np.exp(X @ rng.standard_normal(40) * 0.3 + rng.standard_normal(2000))
    y = (y - y.mean()) / y.std()
    model = GDRegressor(loss=loss, alpha=1e-4).fit(X, y)
    assert model.stop_reason_ == "converged"
    finer = clone(model).set_params(tol=1e-6, max_iter=5000).fit(X, y)
    assert_optimal(model, X, y, least_possible(finer, X, y))
