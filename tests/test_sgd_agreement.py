"""One row at a time with scikit-learn's schedules: the coefficients of its SGD*, to 1e-7.

Rows come in the given order (shuffle=False), so that equal updates give equal coefficients.
"""

import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from reference import objective
from sklearn.base import clone
from sklearn.linear_model import (
    PassiveAggressiveClassifier,
    PassiveAggressiveRegressor,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.utils.fixes import parse_version

from fastgd import GDClassifier, GDRegressor

SGD_HAS_PASSIVE_AGGRESSIVE = parse_version(sklearn.__version__) >= parse_version("1.8")
EPOCHS = 5
REGRESSION = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
MARGIN = ["hinge", "squared_hinge", "modified_huber", "perceptron"]
PENALTIES = [{"penalty": None}, {"penalty": "l2", "alpha": 0.01}]
SCHEDULES = [
    {"learning_rate": "constant", "eta0": 0.01},
    {"learning_rate": "optimal", "alpha": 3.0},  # with less, SGD* runs away before it returns
    {"learning_rate": "invscaling", "eta0": 0.05, "power_t": 0.4},
    {"learning_rate": "adaptive", "eta0": 0.02},
]
AVERAGES = [
    {"average": True},
    {"average": 200},
    {"average": 10_000},
]  # from the first row; the 200th; never


def fit_both(Ours, Theirs, X, y, sample_weight=None, **params):
    params = {"tol": None, "max_iter": EPOCHS, "shuffle": False, **params}
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = Ours(batch_size=1, solver="gd", preconditioner=None, **params)
        return ours.fit(X, y, **weights), Theirs(**params).fit(X, y, **weights)


def assert_same_model(ours, theirs, tol=1e-7):
    assert ours.coef_.shape == theirs.coef_.shape and ours.intercept_.shape == theirs.intercept_.shape
    assert ours.coef_.dtype == theirs.coef_.dtype
    assert np.abs(theirs.coef_).max() > 1e-3, "the oracle has learned nothing"
    assert_allclose(ours.coef_, theirs.coef_, rtol=tol, atol=tol)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=tol, atol=tol)
    assert ours.t_ == theirs.t_
    assert ours.n_iter_ == theirs.n_iter_


def label(value):
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items() if k in ("penalty", "learning_rate", "average"))


def table(**column):
    return pytest.mark.parametrize(*next(iter(column.items())), ids=label)


@table(schedule=SCHEDULES)
@table(penalty=PENALTIES)
@table(loss=REGRESSION)
def test_regressor_takes_the_steps_of_sgd_regressor(data, loss, penalty, schedule):
    params = {"loss": loss, "epsilon": 0.3, **penalty, **schedule}
    assert_same_model(*fit_both(GDRegressor, SGDRegressor, data.X, data.y, **params))


@table(schedule=SCHEDULES)
@table(penalty=PENALTIES)
@table(loss=MARGIN + ["log_loss"] + REGRESSION)
def test_classifier_takes_the_steps_of_sgd_classifier(data, loss, penalty, schedule):
    params = {"loss": loss, "epsilon": 0.3, **penalty, **schedule}
    assert_same_model(*fit_both(GDClassifier, SGDClassifier, data.X, data.binary, **params))


@table(dtype=[np.float64, np.float32])
@table(loss=["squared_error", "log_loss", "hinge", "modified_huber"])
def test_rows_of_every_length_are_taken_alike(loss, dtype):
    rng = np.random.default_rng(3)
    for d in [*range(1, 41), *range(41, 80, 3), 100, 127, 128, 129, 250, 256, 257, 300, 1003]:
        X = rng.normal(size=(60, d)).astype(dtype)
        y = np.where(rng.random(60) < 0.5, 1, -1)
        s = np.where(np.arange(60) % 7 == 4, 0.0, rng.uniform(0.2, 2, size=60))
        # a penalty that lets the weights' scale sink below its smallest value
        params = {"loss": loss, "penalty": "l2", "learning_rate": "constant", "eta0": min(0.1, 8 / d)}
        params["alpha"] = 0.5 / params["eta0"]
        pair = fit_both(GDClassifier, SGDClassifier, X, y, s, **params)
        assert_same_model(*pair, tol=1e-7 if dtype is np.float64 else 1e-4)


@table(dtype=[np.float64, np.float32])
@table(loss=["huber", "log_loss", "squared_error"])
def test_rows_without_weight_may_be_so_long_that_products_overflow(loss, dtype):
    rng = np.random.default_rng(3)
    for d in (3, 10, 50, 100, 200, 400):
        X, s = rng.normal(size=(60, d)).astype(dtype), np.ones(60)
        y, s[::5] = np.where(X[:, 0] > 0, 1, 0), 0.0
        Estimator = GDClassifier if loss == "log_loss" else GDRegressor
        model = Estimator(
            loss=loss, batch_size=1, learning_rate=1e-3, solver="gd", max_iter=3, tol=None, shuffle=False
        )
        plain = clone(model).fit(X, y, sample_weight=s)
        X[::5] = np.finfo(dtype).max / 4
        huge = clone(model).fit(X, y, sample_weight=s)
        assert_same_model(huge, plain, tol=1e-12 if dtype is np.float64 else 1e-5)


@table(penalty=PENALTIES)
@table(loss=MARGIN + REGRESSION)
def test_three_classes_are_one_against_the_rest(data, loss, penalty):
    params = {"loss": loss, "learning_rate": "invscaling", "eta0": 0.05, **penalty}
    assert_same_model(*fit_both(GDClassifier, SGDClassifier, data.X, data.three, data.s, **params))


@table(average=[{}] + AVERAGES)
@table(penalty=PENALTIES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_sample_weights_and_averaging_act_as_in_sgd(data, penalty, average, fit_intercept):
    params = {
        "learning_rate": "constant",
        "eta0": 0.02,
        "fit_intercept": fit_intercept,
        **penalty,
        **average,
    }
    assert_same_model(*fit_both(GDRegressor, SGDRegressor, data.X, data.y, data.s, **params))
    for target in (data.binary, data.three):
        params["loss"] = "hinge"
        assert_same_model(*fit_both(GDClassifier, SGDClassifier, data.X, target, data.s, **params))


@pytest.mark.parametrize("class_weight", ["balanced", {"no": 0.25, "yes": 3.0}])
@table(loss=["log_loss", "hinge", "squared_error"])
def test_class_weights_multiply_sample_weights(data, loss, class_weight):
    params = {"loss": loss, "learning_rate": "constant", "eta0": 0.02, "class_weight": class_weight}
    for s in (None, data.s):
        assert_same_model(*fit_both(GDClassifier, SGDClassifier, data.X, data.binary, s, **params))


def passive_aggressive(Ours, params):
    """The peer for pa1 and pa2: SGD* from scikit-learn 1.8 on, PassiveAggressive* before."""
    regressor = Ours is GDRegressor
    if SGD_HAS_PASSIVE_AGGRESSIVE:
        return (SGDRegressor if regressor else SGDClassifier)(**params)
    squared = "squared_" * (params["learning_rate"] == "pa2")
    params = {k: v for k, v in params.items() if k not in ("penalty", "learning_rate", "eta0", "alpha")} | {
        "C": params["eta0"],
        "loss": squared + params["loss"],
    }
    return (PassiveAggressiveRegressor if regressor else PassiveAggressiveClassifier)(**params)


@table(penalty=PENALTIES if SGD_HAS_PASSIVE_AGGRESSIVE else PENALTIES[:1])
@pytest.mark.parametrize("schedule", ["pa1", "pa2"])
@pytest.mark.parametrize("target", ["y", "binary", "three"])
def test_passive_aggressive_steps(data, target, schedule, penalty):
    Ours, loss = (GDRegressor, "epsilon_insensitive") if target == "y" else (GDClassifier, "hinge")
    params = {"loss": loss, "learning_rate": schedule, "eta0": 0.1, **penalty}
    X, y = data.X.copy(), getattr(data, target)
    X[7] = 0  # a row without length takes no step
    assert_same_model(*fit_both(Ours, lambda **p: passive_aggressive(Ours, p), X, y, **params))


@pytest.mark.parametrize("learning_rate", ["adaptive", "constant"])
def test_a_tolerance_that_no_epoch_meets_stops_both_at_the_same_epoch(data, learning_rate):
    # No epoch after the first improves: `adaptive` divides its rate by 5 every other epoch and ends
    # once it is below 1e-6, `constant` ends at once.
    params = {
        "learning_rate": learning_rate,
        "eta0": 0.02,
        "tol": 0.999,
        "n_iter_no_change": 2,
        "max_iter": 100,
    }
    ours, theirs = fit_both(GDRegressor, SGDRegressor, data.X, data.y, **params)
    assert 2 < theirs.n_iter_ < 50
    assert ours.stop_reason_ == "converged"
    assert_same_model(ours, theirs)


@table(average=[{}] + AVERAGES[:2])
@pytest.mark.parametrize("learning_rate", ["optimal", "invscaling"])
def test_partial_fit_is_sgd_partial_fit_call_by_call(data, learning_rate, average):
    # Blocks of different length: schedule and average go on where the last call ended.
    params = {"learning_rate": learning_rate, "eta0": 0.05, "shuffle": False, **average}
    params |= {"loss": "huber", "alpha": 0.1}
    ours = GDRegressor(batch_size=1, solver="gd", preconditioner=None, **params)
    theirs = SGDRegressor(**params)
    for rows in (slice(0, 40), slice(40, 41), slice(41, 150), slice(0, 150)):
        for model in (ours, theirs):
            model.partial_fit(data.X[rows], data.y[rows], sample_weight=data.s[rows] + 0.1)
        assert_same_model(ours, theirs)

    # SGDClassifier mixes up the intercept and its average between calls (the regressor does not).
    params |= {"loss": "modified_huber", "fit_intercept": not average}
    ours = GDClassifier(batch_size=1, solver="gd", preconditioner=None, **params)
    theirs = SGDClassifier(**params)
    for rows in (
        slice(0, 40),
        slice(40, 41),
        slice(41, 150),
    ):  # the second call sees one class only
        for model in (ours, theirs):
            model.partial_fit(data.X[rows], data.three[rows], classes=[0, 1, 2])
        assert_same_model(ours, theirs)


def test_initial_coefficients_are_the_first_iterate(data):
    params = {
        "learning_rate": "constant",
        "eta0": 0.01,
        "tol": None,
        "max_iter": 2,
        "shuffle": False,
    }
    ours = GDRegressor(batch_size=1, solver="gd", preconditioner=None, **params)
    theirs = SGDRegressor(**params)
    for model in (ours, theirs):
        model.fit(data.X, data.y, coef_init=np.arange(6.0), intercept_init=[2.0])
    assert_same_model(ours, theirs)


def test_float32_data_keeps_its_type_and_agrees_to_its_precision(data):
    X = data.X.astype(np.float32)
    params = {"learning_rate": "invscaling", "eta0": 0.05}
    ours, theirs = fit_both(GDRegressor, SGDRegressor, X, data.y.astype(np.float32), **params)
    assert ours.coef_.dtype == np.float32
    assert_same_model(ours, theirs, tol=1e-4)


@table(penalty=[{"penalty": "l1"}, {"penalty": "elasticnet", "l1_ratio": 0.4}])
@table(schedule=[SCHEDULES[0], SCHEDULES[2]])
@table(loss=["squared_error", "log_loss", "hinge"])
def test_l1_takes_the_cumulative_steps_of_sgd(data, loss, schedule, penalty):
    # Tsuruoka et al. 2009: what a coefficient still owes is collected when its row comes by.
    params = {"loss": loss, **schedule, **penalty, "alpha": 0.05}
    Ours, Theirs, y = (
        (GDRegressor, SGDRegressor, data.y)
        if loss == "squared_error"
        else (GDClassifier, SGDClassifier, data.binary)
    )
    ours, theirs = fit_both(Ours, Theirs, data.X, y, **params)
    assert objective(ours, data.X, y) <= objective(theirs, data.X, y) * (1 + 1e-7)
    assert_same_model(ours, theirs)


@pytest.mark.parametrize("eta0", [1, np.float32(0.5)], ids=repr)
@pytest.mark.parametrize("learning_rate", ["constant", "adaptive", "invscaling"])
def test_the_first_rate_may_be_any_number(data, learning_rate, eta0):
    params = {"loss": "perceptron", "penalty": None, "learning_rate": learning_rate, "eta0": eta0}
    assert_same_model(*fit_both(GDClassifier, SGDClassifier, data.X, data.binary, **params))
