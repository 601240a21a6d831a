"""How fits end, with a reason, a warning or an error; a failure leaves the estimator as it was."""

import copy
import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import CLASSIFICATION, REGRESSION, objective, smallest_objective
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.utils.multiclass import check_classification_targets

from fastgd import DivergenceError, GDClassifier, GDGridSearchCV, GDRegressor


def numbers(message):
    return [float(n) for n in re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?", str(message))]


def snapshot(model):
    return copy.deepcopy(vars(model))


def assert_unchanged(model, before):
    after = vars(model)
    assert after.keys() == before.keys()
    for name, value in before.items():
        if isinstance(value, (np.ndarray, list, int, float, str, type(None))):
            assert_array_equal(after[name], value, err_msg=name)


# --- how a fit ends


def test_stop_reasons(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for params, reason in (
            ({}, "converged"),
            ({"max_iter": 2, "preconditioner": None}, "max_iter"),
            ({"tol": None, "max_iter": 5}, "max_iter"),
            ({"batch_size": 5, "tol": 10.0}, "converged"),
            ({"batch_size": 5, "tol": 1e-12, "max_iter": 3}, "max_iter"),
            ({"batch_size": 5, "tol": 10.0, "early_stopping": True}, "early_stopping"),
        ):
            for model, y in ((GDRegressor(**params), data.y), (GDClassifier(**params), data.three)):
                assert model.fit(data.X, y).stop_reason_ == reason, params


def test_a_fit_that_converges_or_runs_without_tolerance_warns_of_nothing(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for params in (
            {},
            {"batch_size": 10, "tol": None, "max_iter": 3},
            {"tol": None, "max_iter": 2},
        ):
            GDRegressor(**params).fit(data.X, data.y)
            GDClassifier(**params).fit(data.X, data.three)


@pytest.mark.parametrize("rate", [1e-3, 1e-6])
def test_a_rate_that_is_too_small_ends_with_the_distance_to_the_optimum(data, rate):
    model = GDRegressor(learning_rate=rate, solver="gd", max_iter=100)
    with pytest.warns(ConvergenceWarning, match="(?s)learning_rate|max_iter") as caught:
        model.fit(data.X, data.y)
    assert model.stop_reason_ == "max_iter"
    best = smallest_objective("squared_error", data.X, data.y, l2=1e-4)
    above = objective(model, data.X, data.y) - best
    named = numbers(caught[0].message)
    targets = (above, above / best, 100 * above / best)  # absolute, relative, in per cent
    assert any(t / 3 < n < 3 * t for n in named for t in targets), (str(caught[0].message), targets)


def test_every_unfinished_fit_warns(data):
    for params in (
        {"preconditioner": None, "max_iter": 2},
        {"batch_size": 10, "max_iter": 2},
        {"solver": "adam", "learning_rate": 1e-5, "max_iter": 3},
    ):
        for model, y in ((GDRegressor(**params), data.y), (GDClassifier(**params), data.binary)):
            with pytest.warns(ConvergenceWarning, match="max_iter"):
                model.fit(data.X, y)


# --- divergence


def largest_stable_rate(X, alpha, s=None, fit_intercept=True):
    """2 / L, L the largest eigenvalue of the Hessian of the least-squares objective."""
    A = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    s = np.full(len(X), 1 / len(X)) if s is None else s / s.sum()
    penalty = np.append(np.full(X.shape[1], alpha), [0] * fit_intercept)
    return 2 / np.linalg.eigvalsh((A.T * s) @ A + np.diag(penalty))[-1]


def test_a_rate_just_above_the_stable_one_is_not_to_be_raised_further(data):
    stable = largest_stable_rate(data.X, 0.0)
    model = GDRegressor(solver="gd", alpha=0.0, max_iter=20, tol=1e-12)
    with pytest.warns(ConvergenceWarning, match="above the largest stable one") as caught:
        model.set_params(learning_rate=1.001 * stable).fit(data.X, data.y)
    assert any(abs(n / stable - 1) < 1e-4 for n in numbers(caught[0].message))
    with pytest.warns(ConvergenceWarning, match="Increase max_iter, or the learning rate"):
        model.set_params(learning_rate=0.999 * stable).fit(data.X, data.y)


@pytest.mark.parametrize(
    "remedy, params",
    [
        ("Set a smaller learning_rate, or", {"learning_rate": 1e3}),
        ("Set a smaller eta0, or", {"learning_rate": "invscaling", "eta0": 1e3}),
        ("Set a smaller eta0, or", {"learning_rate": "constant", "eta0": 1e3, "batch_size": 1}),
        ("Set a larger alpha, or", {"learning_rate": "optimal"}),
        ("Set a smaller eta0, clip", {"learning_rate": "constant", "eta0": 1e3, "hidden_layer_sizes": (4,)}),
    ],
)
def test_divergence_names_the_parameter_that_the_rate_came_from(data, remedy, params):
    with pytest.raises(DivergenceError, match=remedy):
        GDRegressor(random_state=0, **{"activation": "relu", "solver": "gd"} | params).fit(data.X, data.y)


@pytest.mark.parametrize(
    "remedy, params",
    [
        (r"max_iter, or the learning rate \(0.001; largest", {"learning_rate": 0.001}),
        (r"max_iter, or eta0 \(last rate 0.001; largest", {"learning_rate": "constant", "eta0": 0.001}),
        (
            r"max_iter, or eta0 \(last rate 5e-05\), or set",
            {"learning_rate": "invscaling", "batch_size": 150},
        ),
        ("Increase max_iter, or set learning_rate", {"learning_rate": "optimal", "alpha": 10}),
        ("Increase max_iter, or raise tol", {"loss": "perceptron", "penalty": None}),
    ],
)
def test_an_unfinished_fit_names_the_parameter_that_the_rate_came_from(data, remedy, params):
    given = {"max_iter": 2, "power_t": 1.0, "eta0": 1e-4, "tol": 1e-9} | params
    with pytest.warns(ConvergenceWarning, match=remedy):
        GDClassifier(**given).fit(data.X, data.binary)


@pytest.mark.parametrize("params", [{}, {"penalty": "l1"}, {"loss": "huber"}, {"batch_size": 10}], ids=str)
@pytest.mark.parametrize("dtype, within, beyond", [
    (np.float64, (1e-140, 1e152), (1e-165, 1e154, 1e200)), (np.float32, (1e-16, 1e16), (1e-25, 1e19, 1e30)),
])  # fmt: skip
def test_targets_whose_squares_leave_their_dtype_are_refused(data, dtype, within, beyond, params):
    X = data.X.astype(dtype)
    expected = GDRegressor().fit(X, data.y).score(X, data.y)
    for size in (*within, *beyond):
        y = data.y * size
        settings = {"alpha": 0, "epsilon": 1.35 * size, "random_state": 0} | params
        if size in within:
            assert GDRegressor(**settings).fit(X, y).score(X, y) > 0.9 * expected
        elif size > 1 or "batch_size" not in params:
            with pytest.raises(ValueError, match=f"y is too (large|small) for {np.dtype(dtype).name}"):
                GDRegressor(**settings).fit(X, y)
    assert GDRegressor().fit(X, 0 * data.y).score(X, 0 * data.y) == 1


@pytest.mark.parametrize("form", [np.asarray, csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("size", [1e-146, 1e-160, 1e-300])
def test_columns_whose_squares_underflow_are_named(data, form, size):
    X = data.X * [1, size, 1, 1, 0, 1]
    X[:, 2] = size  # constant
    for model, y in ((GDRegressor(), data.y), (GDClassifier(), data.three)):
        with pytest.warns(UserWarning, match=r"column\(s\) \[1\] of X underflow: they count as constant"):
            model.fit(form(X), y)
        assert not model.coef_[..., 1].any()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(form(np.delete(X, 1, axis=1)), y)
        with pytest.raises(ValueError, match=r"column\(s\) \[0, 1\] of X underflow. Multiply"):
            model.fit(form(X[:, [1, 1, 2, 4]]), y)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_divergence_names_the_largest_stable_rate(data, scale, weighted, fit_intercept):
    X, s = data.X * scale, data.s if weighted else None
    stable = largest_stable_rate(X, 0.1, s, fit_intercept)
    model = GDRegressor(solver="gd", alpha=0.1, fit_intercept=fit_intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(learning_rate=0.9 * stable).fit(X, data.y, sample_weight=s)
        assert np.isfinite(model.coef_).all()
        model.set_params(learning_rate=1.1 * stable)
        with pytest.raises(DivergenceError) as error:
            model.fit(X, data.y, sample_weight=s)
    named = numbers(error.value)
    assert any(abs(n / stable - 1) < 0.02 for n in named), (str(error.value), stable)
    assert any(abs(n / (1.1 * stable) - 1) < 0.02 for n in named), "it names the rate in use"
    assert isinstance(error.value, FloatingPointError)


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": 50.0},
        {"learning_rate": 50.0, "solver": "momentum"},
        {"learning_rate": 50.0, "solver": "nesterov"},
        {"learning_rate": 5.0, "batch_size": 1},
        {"learning_rate": 5.0, "batch_size": 20},
        {"learning_rate": "constant", "eta0": 5.0, "batch_size": 1},
        {"learning_rate": 5.0, "batch_size": 20, "max_iter": 1},
        {"learning_rate": "invscaling", "eta0": 1e3, "power_t": 0.01, "batch_size": 3},
        {"learning_rate": 50.0, "loss": "poisson"},
        {"learning_rate": 1e200},
        {"learning_rate": 1e200, "batch_size": 150},
    ],
)
def test_divergence_is_an_error_and_never_a_result(data, params):
    model = GDRegressor(**{"solver": "gd", **params})
    y = data.counts if params.get("loss") == "poisson" else data.y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DivergenceError, match="(?i)learning_rate|eta0|smaller"):
            model.fit(3 * data.X, y)
        assert not hasattr(model, "coef_")
        float32 = clone(model)
        with pytest.raises(DivergenceError):
            float32.fit((3 * data.X).astype(np.float32), y)


def test_divergence_of_several_outputs_and_classes_is_seen(data):
    X = 1e3 * data.X
    for model, y in ((GDRegressor(), data.Y), (GDClassifier(loss="squared_hinge"), data.three)):
        with pytest.raises(DivergenceError):
            model.set_params(solver="gd", learning_rate=1.0).fit(X, y)


# --- a failure changes nothing


def diverge(model, data, y):
    model.set_params(learning_rate=1e6, batch_size=10, solver="gd", loss="squared_error")
    return lambda method: getattr(model, method)(1e3 * data.X, y), FloatingPointError


def bad_input(model, data, y):
    return lambda method: getattr(model, method)(np.where(data.X > 2, np.nan, data.X), y), ValueError


def bad_parameter(model, data, y):
    model.set_params(learning_rate="pa1")  # which is for other losses
    return lambda method: getattr(model, method)(data.X, y), ValueError


def bad_weights(model, data, y):
    s = np.full(len(y), np.nan)
    return lambda method: getattr(model, method)(data.X, y, sample_weight=s), ValueError


@pytest.mark.parametrize("failure", [diverge, bad_input, bad_parameter, bad_weights])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_a_failure_leaves_the_estimator_as_it_was(data, solver, method, failure):
    for Ours, y in ((GDRegressor, data.y), (GDRegressor, data.Y), (GDClassifier, data.three)):
        model = Ours(batch_size=10, learning_rate=0.01, solver=solver, warm_start=True, max_iter=2, tol=None)
        model.fit(data.X, y).partial_fit(data.X, y)
        call, error = failure(model, data, y)
        before = snapshot(model)
        with pytest.raises(error):
            call(method)
        assert_unchanged(model, before)


def test_a_failed_first_fit_leaves_nothing_behind(data):
    for method in ("fit", "partial_fit"):
        model = GDRegressor(learning_rate=1e6, batch_size=1)
        before = snapshot(model)
        with pytest.raises(DivergenceError):
            getattr(model, method)(1e3 * data.X, data.y)
        assert_unchanged(model, before)


def test_partial_fit_goes_on_after_a_failure_as_if_it_had_not_been(data):
    models = [GDRegressor(batch_size=10, learning_rate=0.01, solver="adam", shuffle=False) for _ in range(2)]
    for model in models:
        model.partial_fit(data.X, data.y)
    with pytest.raises(ValueError):
        models[0].partial_fit(data.X[:, :3], data.y)
    for model in models:
        model.partial_fit(data.X, data.y)
    assert_array_equal(models[0].coef_, models[1].coef_)


# --- input that means nothing

NAMES = {
    "loss": None,
    "penalty": ["l2", "l1", "elasticnet"],
    "solver": ["gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"],
    "learning_rate": ["auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2"],
    "preconditioner": ["auto", "diag", "gram"],
    "batch_size": ["auto", "full"],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_an_unknown_name_lists_the_known_ones(data, Ours, name):
    known = NAMES[name] or (REGRESSION if Ours is GDRegressor else CLASSIFICATION)
    with pytest.raises(ValueError, match=name) as error:
        Ours(**{name: "no such"}).fit(data.X, data.three)
    for word in known:
        assert f"'{word}'" in str(error.value)


OUT_OF_RANGE = [
    ("alpha", -1),
    ("l1_ratio", 1.5),
    ("l1_ratio", -0.1),
    ("batch_size", 0),
    ("batch_size", 2.5),
    ("learning_rate", 0.0),
    ("learning_rate", -1.0),
    ("learning_rate", np.nan),
    ("learning_rate", np.inf),
    ("eta0", 0),
    ("power_t", "big"),
    ("momentum", -0.1),
    ("momentum", 1.0),
    ("beta_1", 1.0),
    ("beta_2", -0.1),
    ("clip_norm", 0.0),
    ("max_iter", 0),
    ("tol", -1.0),
    ("n_iter_no_change", 0),
    ("validation_fraction", 0.0),
    ("validation_fraction", 1.0),
    ("epsilon", -1.0),
    ("average", -1),
    ("fit_intercept", "yes"),
    ("n_jobs", 1.5),
    ("alpha", np.nan),
]


@pytest.mark.parametrize("name, value", OUT_OF_RANGE, ids=str)
def test_a_parameter_out_of_range_is_named(data, name, value):
    for model in (GDRegressor(**{name: value}), GDClassifier(**{name: value})):
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=name):
                getattr(model, method)(data.X, data.three)


@pytest.mark.parametrize(
    "message, params",
    [
        ("quantile", {"loss": "quantile", "quantile": 0.0}),
        ("quantile", {"loss": "quantile", "quantile": 1.0}),
        ("alpha", {"learning_rate": "optimal", "alpha": 0.0, "batch_size": 1}),
        ("pa1", {"learning_rate": "pa1", "batch_size": 1}),
        ("pa2", {"learning_rate": "pa2", "loss": "huber", "batch_size": 1}),
    ],
)
def test_parameters_that_exclude_each_other_are_named(data, message, params):
    with pytest.raises(ValueError, match=message):
        GDRegressor(**params).fit(data.X, data.y)


def test_what_partial_fit_cannot_do_is_refused(data):
    with pytest.raises(ValueError, match="balanced"):
        GDClassifier(class_weight="balanced").partial_fit(data.X, data.three, classes=[0, 1, 2])
    model = GDClassifier(learning_rate=0.01, batch_size=10).partial_fit(data.X, data.three, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes|label"):
        model.partial_fit(data.X, data.three + 1)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(data.X, data.three, classes=[0, 1])
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(data.X[:, :4], data.three)
    model = GDRegressor(learning_rate=0.01, batch_size=10).partial_fit(data.X, data.Y)
    with pytest.raises(ValueError, match="output|shape"):
        model.partial_fit(data.X, data.y)


@pytest.mark.parametrize("params", [{}, {"batch_size": 10}])
def test_data_that_cannot_be_learned_from_is_refused(data, params):
    X, y, c = data.X, data.y, data.three
    with_nan, with_inf, negative = X.copy(), X.copy(), data.s.copy()
    with_nan[5, 2], with_inf[5, 2], negative[3] = np.nan, np.inf, -1.0
    R, C = GDRegressor(**params), GDClassifier(**params)
    for model, message, args, kwargs in (
        (R, "NaN", (with_nan, y), {}),
        (R, "infinity|inf", (with_inf, y), {}),
        (R, "NaN", (X, with_nan[:, 2]), {}),
        (R, "inf", (X, with_inf[:, 2]), {}),
        (R, "inconsistent", (X, y[:-1]), {}),
        (R, "2D", (X[0], y), {}),
        (R, "sample", (X[:0], y[:0]), {}),
        (R, "feature", (X[:, :0], y), {}),
        (R, "convert|numeric|float", (np.full(X.shape, "a"), y), {}),
        (R, "(?i)complex", (X + 1j, y), {}),
        (R, "sample_weight", (X, y), {"sample_weight": data.s[:-1]}),
        (R, "zero", (X, y), {"sample_weight": 0 * data.s}),
        (R, "(?i)negative", (X, y), {"sample_weight": negative}),
        (R, "NaN", (X, y), {"sample_weight": np.where(data.s == 0, np.nan, 1)}),
        (C, "class", (X, 0 * c), {}),
        (C, "(?i)unknown label type|continuous", (X, y), {}),
        (C, "sample_weight", (X, c), {"sample_weight": data.s[:-1]}),
        (C, "zero", (X, c), {"sample_weight": 0 * data.s}),
        (C, "1d|multilabel|shape", (X, np.column_stack([c, c])), {}),
    ):
        for tried in (clone(model), clone(model).fit(X, c)):
            with pytest.raises(ValueError, match=message):
                tried.fit(*args, **kwargs)


@pytest.mark.parametrize("form", [csr_matrix, csr_array])
def test_sparse_targets_are_refused(data, form):
    y, c = form(data.y[:, None]), form(data.three[:, None])
    for model, target in ((GDRegressor(), y), (GDRegressor(hidden_layer_sizes=3), y), (GDClassifier(), c)):
        for method in (model.fit, model.partial_fit):
            with pytest.raises(TypeError, match="Sparse data was passed for y, but dense data is required"):
                method(data.X, target)
    with pytest.raises(TypeError, match="for y"):
        GDRegressor().fit(data.X, data.Y, X_val=data.X, y_val=form(data.Y))
    with pytest.raises(ValueError, match="Sparse data was passed for y"):  # all fits failed
        GDGridSearchCV(GDRegressor(), {"alpha": [0.1, 1.0]}).fit(data.X, y)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1, -1e-300])
@pytest.mark.parametrize("params", [{}, {"batch_size": 10}, {"hidden_layer_sizes": 3}], ids=str)
def test_class_weights_that_are_no_weights_are_named(data, params, weight):
    model = GDClassifier(class_weight={0: 1, 1: weight, 2: 1}, **params)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="class_weight must be finite numbers, and not negative"):
            getattr(clone(model), method)(data.X, data.three)


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_a_class_weight_that_is_no_weight_fails_where_it_is(data):
    weights = [None, {0: -1, 1: 1, 2: 1}, {0: 2, 1: 1, 2: 1}]
    with pytest.warns(FitFailedWarning, match="class_weight must be finite"):
        search = GDGridSearchCV(GDClassifier(), {"class_weight": weights}).fit(data.X, data.three)
    assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), [False, True, False])


def test_log_links_refuse_targets_without_a_logarithm(data):
    for loss, y in (
        ("poisson", data.counts - 1),
        ("gamma", data.positive - data.positive.min()),
    ):
        with pytest.raises(ValueError, match="y"):
            GDRegressor(loss=loss).fit(data.X, y)
        with pytest.raises(ValueError, match="y"):
            GDRegressor(loss=loss, batch_size=10).partial_fit(data.X, y)


def test_a_batch_larger_than_the_data_is_clipped_with_a_warning(data):
    with pytest.warns(UserWarning, match="batch_size"):
        model = GDRegressor(batch_size=1000, learning_rate=0.01, max_iter=3, tol=None).fit(data.X, data.y)
    assert model.batch_size_ == len(data.X)


LABELS = {
    "few integers": np.arange(42) % 3,
    "many integers": np.arange(42) % 22,
    "just not many": np.arange(43) % 21,
    "many strings": (np.arange(42) % 40).astype(str),
    "booleans": np.arange(42) % 2 == 0,
    "whole floats": np.arange(42) % 30 + 0.0,
    "floats": np.arange(42) % 3 + 0.5,
    "objects": (np.arange(42) % 3).astype(object),
    "string objects": (np.arange(42) % 30).astype(str).astype(object),
}


@pytest.mark.parametrize("labels", LABELS)
def test_what_is_a_class_and_what_looks_like_a_regression_is_scikit_learn_s_judgement(labels):
    def judgement(judge):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                judge()
            except ValueError as error:
                return str(error)
        return [str(w.message) for w in caught if w.category is UserWarning]

    y = LABELS[labels]
    X = np.random.default_rng(0).normal(size=(len(y), 2))
    verdict = judgement(lambda: GDClassifier(max_iter=2).fit(X, y))
    assert verdict == judgement(lambda: check_classification_targets(y))


def test_a_column_of_y_warns_like_scikit_learn(data):
    with pytest.warns(UserWarning, match="column-vector|ravel"):
        GDClassifier().fit(data.X, data.three[:, None])
