"""Fits that go on where another ended: partial_fit, warm_start, initial coefficients, averages."""

import copy
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from shared import SOLVERS, assert_same_weights
from sklearn.base import clone

from fastgd import GDClassifier, GDRegressor

solvers = pytest.mark.parametrize("solver", SOLVERS)
BATCHES = pytest.mark.parametrize("batch_size", [1, 7, "full"])
STEADY = {"learning_rate": 0.01, "shuffle": False, "tol": None}
CASES = {
    "y": (GDRegressor, {}),
    "Y": (GDRegressor, {}),
    "binary": (GDClassifier, {"loss": "hinge"}),
    "three": (GDClassifier, {"penalty": "l1", "alpha": 0.01}),
}
cases = pytest.mark.parametrize("target", CASES)


def make(target, **params):
    Ours, own = CASES[target]
    return Ours(**own, **params)


def first_call(target, data):
    return {"classes": np.unique(getattr(data, target))} if target in ("binary", "three") else {}


@cases
@BATCHES
@solvers
def test_k_calls_of_partial_fit_are_k_epochs(data, solver, batch_size, target):
    y = getattr(data, target)
    model = make(target, solver=solver, batch_size=batch_size, **STEADY)
    calls = clone(model)
    for _ in range(4):
        calls.partial_fit(data.X, y, **first_call(target, data))
    epochs = model.set_params(max_iter=4).fit(data.X, y)
    assert_same_weights(calls, epochs)
    assert calls.t_ == epochs.t_


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": "invscaling", "eta0": 0.1},
        {"learning_rate": "optimal", "alpha": 0.1},
        {"average": True},
        {"average": 200},
        {"learning_rate": "invscaling", "solver": "adam"},
    ],
)
@cases
def test_schedules_and_averages_go_on_over_calls_of_partial_fit(data, target, params):
    y = getattr(data, target)
    model = make(target, batch_size=1, max_iter=3).set_params(**{**STEADY, **params})
    calls = clone(model)
    for _ in range(3):
        calls.partial_fit(data.X, y, **first_call(target, data))
    assert_same_weights(calls, model.fit(data.X, y))


@cases
@BATCHES
@solvers
def test_a_warm_start_goes_on_with_the_state_of_the_optimizer(data, solver, batch_size, target):
    y = getattr(data, target)
    model = make(target, solver=solver, batch_size=batch_size, warm_start=True, **STEADY)
    twice = clone(model).set_params(max_iter=2).fit(data.X, y).set_params(max_iter=3).fit(data.X, y)
    assert_same_weights(twice, model.set_params(max_iter=5).fit(data.X, y))


@cases
def test_a_warm_start_at_the_optimum_stays_there(data, target):
    y = getattr(data, target)
    model = make(target, warm_start=True, max_iter=5000).fit(data.X, y)
    cold, coef = model.n_iter_, model.coef_.copy()
    model.fit(data.X, y)
    smooth = model.get_params()["loss"] != "hinge"
    assert model.n_iter_ <= (max(2, cold // 2) if smooth else cold)
    assert_allclose(model.coef_, coef, rtol=0.02, atol=0.02)


def test_without_warm_start_a_second_fit_is_the_first(data):
    for batch_size in (1, "full"):
        model = GDRegressor(
            solver="adam",
            batch_size=batch_size,
            learning_rate=0.01,
            random_state=0,
            max_iter=3,
            tol=None,
        )
        first = clone(model).fit(data.X, data.y)
        again = model.fit(data.X, -data.y).partial_fit(data.X, data.y).fit(data.X, data.y)
        assert_array_equal(again.coef_, first.coef_)
        assert again.t_ == first.t_


@cases
@pytest.mark.parametrize("batch_size", [1, "full"])
def test_initial_coefficients_are_the_first_iterate(data, batch_size, target):
    y = getattr(data, target)
    model = make(target, solver="gd", batch_size=batch_size, **STEADY)
    half = clone(model).set_params(max_iter=2).fit(data.X, y)
    before = half.coef_.copy()
    whole = clone(model).set_params(max_iter=4).fit(data.X, y)
    if target != "three":  # the cumulative L1 penalty has a memory of its own
        rest = clone(model).set_params(max_iter=2).fit(data.X, y, half.coef_, half.intercept_)
        assert_same_weights(rest, whole)
    assert_array_equal(half.coef_, before)


def test_initial_coefficients_of_the_wrong_shape_are_refused(data):
    for model, y, shapes in (
        (GDRegressor(), data.y, [(5,), (2, 6)]),
        (GDRegressor(), data.Y, [(6, 2), (6,)]),
        (GDClassifier(), data.binary, [(2, 6)]),
        (GDClassifier(), data.three, [(1, 6), (6, 3)]),
    ):
        for shape in shapes:
            with pytest.raises(ValueError, match="coef_init"):
                model.fit(data.X, y, coef_init=np.zeros(shape))
        with pytest.raises(ValueError, match="intercept_init"):
            model.fit(data.X, y, intercept_init=np.zeros(7))
        with pytest.raises(ValueError, match="coef_init|NaN"):
            model.fit(data.X, y, coef_init=np.full(model.fit(data.X, y).coef_.shape, np.nan))


def test_partial_fit_learns_classes_it_has_not_seen(data):
    model = GDClassifier(batch_size=10, random_state=0)
    model.partial_fit(data.X[data.three < 2], data.three[data.three < 2], classes=[0, 1, 2])
    assert_array_equal(model.classes_, [0, 1, 2])
    for _ in range(20):
        model.partial_fit(data.X, data.three)
    assert set(model.predict(data.X)) == {0, 1, 2}


def test_partial_fit_with_automatic_steps_learns_from_a_stream():
    rng = np.random.default_rng(0)
    w = rng.normal(size=5)
    scale = 10.0 ** np.array([-4, -2, 0, 2, 4])
    for batch_size in (1, 32, "auto"):
        model = GDRegressor(batch_size=batch_size, penalty=None)
        for _ in range(100):
            X = rng.normal(size=(50, 5))
            model.partial_fit(X * scale, X @ w + 1 + 0.1 * rng.normal(size=50))
        assert_allclose(model.coef_ * scale, w, atol=0.1)
        assert_allclose(model.intercept_, [1], atol=0.1)


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_the_average_is_the_mean_of_the_iterates(data, solver, batch_size):
    # One call per batch shows every iterate; the average starts with the given update.
    params = {**STEADY, "solver": solver, "batch_size": batch_size}
    walker, iterates = GDRegressor(**params), []
    for start in list(range(0, len(data.X), batch_size)) * 2:
        rows = slice(start, start + batch_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the last batch is shorter than batch_size
            walker.partial_fit(data.X[rows], data.y[rows])
        iterates.append(np.append(walker.coef_, walker.intercept_))
    for start in (1, 10):
        model = GDRegressor(**params, average=start if start > 1 else True, max_iter=2).fit(data.X, data.y)
        expected = np.mean(iterates[start - 1 :], axis=0)
        assert_allclose(np.append(model.coef_, model.intercept_), expected, rtol=1e-9, atol=1e-12)


def small_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, X[:, 0] + 0.1 * rng.normal(size=60)


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
@pytest.mark.parametrize("before", ["gd", "momentum", "adagrad", "adam"])
@pytest.mark.parametrize("after", ["gd", "nesterov", "rmsprop", "adamw"])
def test_another_rule_begins_anew_from_the_weights_learned(hidden, before, after):
    X, y = small_regression()
    common = dict(hidden_layer_sizes=hidden, batch_size=10, learning_rate=1e-3, shuffle=False, random_state=0)
    model = GDRegressor(solver=before, **common).partial_fit(X, y)
    if hidden:
        init = dict(coef_init=model.coefs_, intercept_init=model.intercepts_)
    else:
        init = dict(coef_init=model.coef_, intercept_init=model.intercept_)
    expected = GDRegressor(solver=after, max_iter=1, tol=None, **common).fit(X, y, **init).predict(X)
    model.set_params(solver=after).partial_fit(X, y)
    assert_allclose(model.predict(X), expected, rtol=1e-10)


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
@pytest.mark.parametrize(
    "change", [{"average": True}, {"average": False}, {"penalty": "l1"}, {"penalty": None}]
)
@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_parameters_may_change_between_calls(hidden, change, solver):
    X, y = small_regression()
    model = GDRegressor(
        hidden_layer_sizes=hidden, solver=solver, batch_size=10, learning_rate=0.01, random_state=0,
        average=not change.get("average", True),
    )  # fmt: skip
    for _ in range(3):
        model.partial_fit(X, y)
    before = model.score(X, y)
    model.set_params(**change)
    for _ in range(20):
        model.partial_fit(X, y)
    assert model.score(X, y) > before


@pytest.mark.parametrize("hidden", [(), (5,)], ids=["linear", "network"])
@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_chunks_may_change_their_precision(hidden, solver):
    X, y = small_regression()
    model = GDRegressor(
        hidden_layer_sizes=hidden, solver=solver, batch_size=10, learning_rate=0.01, random_state=0
    )
    double = clone(model).partial_fit(X, y).partial_fit(X, y)
    mixed = model.partial_fit(X, y).partial_fit(X.astype(np.float32), y)
    assert_allclose(mixed.predict(X), double.predict(X), rtol=1e-3, atol=1e-4)


def test_a_warm_start_goes_on_from_the_weights_whatever_the_coordinates_were():
    X, y = small_regression()
    X = 50 * X + 300
    model = GDRegressor(hidden_layer_sizes=(5,), random_state=0, warm_start=True, max_iter=100)
    before = model.fit(X, y).predict(X)
    model.set_params(learning_rate=1e-12, solver="gd", max_iter=1, tol=None)
    assert_allclose(model.fit(X, y).predict(X), before, rtol=1e-6, atol=1e-6)


def test_a_warm_start_at_the_end_is_no_divergence():
    X, y = small_regression()
    model = GDRegressor(hidden_layer_sizes=(5,), alpha=0, random_state=0, warm_start=True, max_iter=30)
    target = model.fit(X, y).predict(X)
    assert_allclose(model.fit(X, target).predict(X), target, atol=0.5)


@pytest.mark.parametrize("hidden, name", [((), "coef_"), ((3,), "coefs_")])
def test_a_warm_start_that_does_not_fit_names_what_it_begins_at(data, hidden, name):
    model = GDClassifier(hidden_layer_sizes=hidden, warm_start=True, max_iter=2, tol=None, random_state=0)
    model.fit(data.X, data.binary)
    with pytest.raises(ValueError, match=f"warm_start=True: the last fit's {name}.* has shape"):
        model.fit(data.X, data.three)
    model.fit(data.X, data.binary)  # as it was
    with pytest.raises(ValueError, match="^coef_init"):
        model.fit(data.X, data.binary, coef_init=np.zeros((1, 1)))


def test_partial_fit_holds_no_rows_out_and_keeps_no_scores_of_a_fit(data):
    model = GDRegressor(early_stopping=True, learning_rate=0.01, random_state=0)
    assert_array_equal(
        clone(model).partial_fit(data.X, data.y).coef_,
        clone(model).set_params(early_stopping=False).partial_fit(data.X, data.y).coef_,
    )
    model.fit(data.X, data.y)
    assert len(model.validation_scores_) == model.n_iter_
    assert not hasattr(model.partial_fit(data.X, data.y), "validation_scores_")


def test_weights_of_validation_rows_are_not_negative_either(data):
    with pytest.raises(ValueError, match="[Nn]egative"):
        GDRegressor().fit(data.X, data.y, X_val=data.X, y_val=data.y, sample_weight_val=-data.s)


AFTER_A_FIT = [
    {},
    {"loss": "huber"},
    {"loss": "poisson"},
    {"penalty": "l1", "alpha": 1e-3},
    {"solver": "momentum"},
    {"batch_size": 32},
    {"batch_size": 1, "average": True},
    {"solver": "momentum", "batch_size": 32},
    {"preconditioner": None},
    {"hidden_layer_sizes": (10,)},
]


@pytest.mark.parametrize("shape", [(2_000, 20), (300, 1_000)], ids=["tall", "wide"])
@pytest.mark.parametrize("params", AFTER_A_FIT, ids=str)
def test_single_rows_after_a_fit_leave_what_it_learned(params, shape):
    """Scales and steps go on from the rows of the fit: one row says nothing about either."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * np.exp(rng.normal(size=shape[1])) + 3
    z = X @ np.sin(np.arange(shape[1]))
    z = (z - z.mean()) / z.std() + 0.1 * rng.normal(size=shape[0])
    y = np.exp(z / 2) if params.get("loss") == "poisson" else z
    model = GDRegressor(random_state=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = model.fit(X, y).score(X, y)
    for i in range(5):
        model.partial_fit(X[i : i + 1], y[i : i + 1])
        assert model.score(X, y) > score - 0.03


def test_a_column_that_does_not_vary_in_a_stream_keeps_its_weight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = X @ [1.0, 2.0, 3.0]
    model = GDRegressor(learning_rate=0.1).fit(X, y)  # which asks for no scales
    model.set_params(learning_rate="auto").partial_fit(X[:1], y[:1])
    assert_allclose(model.coef_, [1, 2, 3], rtol=1e-2)
    model.partial_fit([[0.5, 1.0, -1.0]] * 10, [0.5 + 2.0 - 3.0] * 10)
    assert_allclose(model.coef_, [1, 2, 3], rtol=5e-2)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_state_of_a_rule_in_the_space_of_rows_is_not_that_of_columns(solver):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2_100))
    y = X[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GDRegressor(solver=solver).fit(X, y)
    left = model._training["state"]
    assert left is None or left.u.shape == (1, 2_101)
    for _ in range(3):
        model.partial_fit(X, y)
        state = model._training["state"]
        assert state.u.shape == (1, 2_101)
        assert state.slots.shape[1] == 2_101


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"average": True, "penalty": "l1", "alpha": 0.01},
        {"solver": "adam"},
        {"solver": "momentum", "learning_rate": 0.01},
        {"batch_size": 1, "learning_rate": 0.01, "penalty": "l1", "alpha": 0.01, "average": 10},
        {"hidden_layer_sizes": (4,), "batch_norm": True, "solver": "adam"},
        {"hidden_layer_sizes": (4,), "learning_rate": 0.01},
    ],
    ids=str,
)
def test_partial_fit_changes_no_array_that_another_may_hold(data, params):
    """A shallow copy shares arrays, and a call that fails leaves them to the next."""
    model = GDRegressor(random_state=0, **params).partial_fit(data.X, data.y)
    held, deep = copy.copy(model), copy.deepcopy(model)
    model.partial_fit(data.X, data.y)
    assert_same_weights(held, deep, 0.0)
    held.partial_fit(data.X, data.y)
    deep.partial_fit(data.X, data.y)
    assert_same_weights(held, deep, 0.0)
    assert_same_weights(held, model, 0.0)


def test_coefficients_belong_to_the_user(data):
    """Who changes `coef_` in place changes no state of the descent."""
    model = GDRegressor(random_state=0).partial_fit(data.X, data.y)
    other = copy.deepcopy(model)
    model.coef_[:] = 7.0
    assert_same_weights(model.partial_fit(data.X, data.y), other.partial_fit(data.X, data.y), 0.0)


def test_automatic_steps_of_adam_shorten_with_the_width_of_a_stream():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3_200, 1_000))
    y = X @ rng.normal(size=1_000)
    model = GDRegressor(solver="adam", random_state=0)
    for i in range(0, len(X), 32):
        model.partial_fit(X[i : i + 32], y[i : i + 32])
    assert model.score(X, y) > 0.5
