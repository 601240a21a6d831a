"""What a scikit-learn user relies on: any input, predictions, pipelines, clones, pickles, seeds."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import objective
from scipy.special import expit, log_softmax, softmax
from shared import assert_pickles_load_in_a_fresh_process, models_for, read_only
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgd import GDClassifier, GDRegressor

MODES = {
    "full batch": {},
    "explicit rate": {"learning_rate": 0.05, "solver": "adam"},
    "stochastic": {"batch_size": 1, "max_iter": 5, "tol": None},
    "mini-batch": {
        "batch_size": 16,
        "max_iter": 5,
        "tol": None,
        "solver": "momentum",
        "learning_rate": 0.01,
    },
}
modes = pytest.mark.parametrize("mode", MODES)


def both(data, **params):
    return models_for(data, **{"random_state": 0, **params})


def assert_same(a, b):
    assert_array_equal(a.coef_, b.coef_)
    assert_array_equal(a.intercept_, b.intercept_)
    assert a.n_iter_ == b.n_iter_ and a.t_ == b.t_


# --- input


@modes
@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.tolist(),
        read_only,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X.astype(X.dtype.newbyteorder()),
    ],
    ids=["list", "read-only", "strided rows", "strided columns", "foreign byte order"],
)
def test_every_kind_of_input_gives_the_same_fit(data, convert, mode):
    for model, y in both(data, **MODES[mode]):
        before = data.X.copy(), y.copy()
        other = clone(model).fit(convert(data.X), y)
        assert_same(other, model.fit(data.X, y))
        assert_array_equal(data.X, before[0])
        assert_array_equal(y, before[1])
        if y.dtype.kind == "f":
            assert_allclose(other.predict(convert(data.X)), model.predict(data.X), rtol=1e-9)
        else:
            assert_array_equal(other.predict(convert(data.X)), model.predict(data.X))


@modes
def test_other_orders_and_types_give_the_same_fit_up_to_rounding(data, mode):
    integers = np.rint(3 * data.X).astype(int)
    for X, same in (
        (np.asfortranarray(data.X), data.X),
        (pd.DataFrame(data.X), data.X),
        (integers, integers.astype(float)),
    ):
        for model, y in both(data, **MODES[mode]):
            assert_allclose(clone(model).fit(X, y).coef_, model.fit(same, y).coef_, rtol=1e-9, atol=1e-12)


@modes
def test_float32_in_float32_out(data, mode):
    for model, y in both(data, **MODES[mode]):
        exact = clone(model).fit(data.X, y)
        model.fit(data.X.astype(np.float32), y)
        assert model.coef_.dtype == model.intercept_.dtype == np.float32
        assert_allclose(model.coef_, exact.coef_, rtol=1e-2, atol=1e-2)


@modes
def test_learned_attributes_have_the_shapes_of_sgd(data, mode):
    d = data.X.shape[1]
    for (model, y), shape in zip(both(data, **MODES[mode]), [(d,), (2, d), (1, d), (3, d)], strict=True):
        model.fit(data.X, y)
        assert model.coef_.shape == shape
        assert model.intercept_.shape == (shape[0] if len(shape) > 1 else 1,)
        assert model.n_features_in_ == d
        assert model.predict(data.X).shape == y.shape
        assert len(model.loss_curve_) == model.n_iter_
        assert np.isfinite(model.loss_curve_).all()
        assert model.learning_rate_ > 0


def test_loss_curve_ends_at_the_objective(data):
    for model, y in both(data, alpha=0.1):
        model.fit(data.X, y)
        assert_allclose(model.loss_curve_[-1], objective(model, data.X, y), rtol=1e-4)


def test_one_output_column_is_one_output(data):
    column, flat = GDRegressor().fit(data.X, data.Y[:, :1]), GDRegressor().fit(data.X, data.Y[:, 0])
    assert column.coef_.shape == (1, 6) and column.predict(data.X).shape == (150, 1)
    assert_array_equal(column.coef_[0], flat.coef_)
    two = GDRegressor().fit(data.X, data.Y)
    assert_allclose(two.coef_[0], flat.coef_, rtol=1e-3, atol=1e-3)


# --- prediction


def test_regressors_predict_through_their_link(data):
    for loss, y in (("squared_error", data.y), ("poisson", data.counts), ("gamma", data.positive)):
        model = GDRegressor(loss=loss).fit(data.X, y)
        z = data.X @ model.coef_ + model.intercept_
        assert_allclose(model.predict(data.X), z if loss == "squared_error" else np.exp(z), rtol=1e-12)


def test_classifiers_predict_the_largest_score(data):
    for loss in ("log_loss", "hinge", "brier_score"):
        model = GDClassifier(loss=loss).fit(data.X, data.three)
        Z = data.X @ model.coef_.T + model.intercept_
        assert_allclose(model.decision_function(data.X), Z, rtol=1e-12)
        assert_array_equal(model.predict(data.X), model.classes_[Z.argmax(1)])
    model.fit(data.X, data.binary)
    z = data.X @ model.coef_[0] + model.intercept_
    assert_allclose(model.decision_function(data.X), z, rtol=1e-12)
    assert_array_equal(model.predict(data.X), np.where(z > 0, "yes", "no"))


def test_probabilities_are_those_of_the_loss(data):
    for loss in ("log_loss", "brier_score"):
        model = GDClassifier(loss=loss).fit(data.X, data.three)
        Z = model.decision_function(data.X)
        assert_allclose(model.predict_proba(data.X), softmax(Z, axis=1), rtol=1e-12)
        assert_allclose(
            model.predict_log_proba(1e3 * data.X),
            log_softmax(model.decision_function(1e3 * data.X), axis=1),
            rtol=1e-10,
            atol=1e-12,
        )
        model.fit(data.X, data.binary)
        assert_allclose(model.predict_proba(data.X)[:, 1], expit(model.decision_function(data.X)), rtol=1e-12)
        assert_allclose(model.predict_proba(data.X).sum(1), 1)
    for y in (data.binary, data.three):
        model = GDClassifier(loss="modified_huber").fit(data.X, y)
        theirs = SGDClassifier(loss="modified_huber").fit(data.X, y)
        theirs.coef_, theirs.intercept_ = model.coef_, model.intercept_
        assert_allclose(model.predict_proba(data.X), theirs.predict_proba(data.X), rtol=1e-12)
    for loss in ("hinge", "squared_error"):
        assert not hasattr(GDClassifier(loss=loss), "predict_proba")
        assert not hasattr(GDClassifier(loss=loss), "predict_log_proba")


def test_predict_before_fit_says_so(data):
    for model, _ in both(data):
        with pytest.raises(NotFittedError):
            model.predict(data.X)


# --- the rest of scikit-learn


def test_feature_names_travel_through_pipelines(data):
    X = pd.DataFrame(data.X, columns=list("abcdef"))
    for model, y in both(data):
        pipe = make_pipeline(StandardScaler(), model).set_output(transform="pandas").fit(X, y)
        assert_array_equal(pipe[-1].feature_names_in_, X.columns)
        with pytest.raises(ValueError, match="feature names"):
            pipe.predict(X[list("bacdef")])
        plain = make_pipeline(StandardScaler(), clone(model)).fit(data.X, y)
        assert_allclose(plain[-1].coef_, pipe[-1].coef_, rtol=1e-9)


def test_a_grid_of_learning_rates_survives_those_that_diverge(data):
    pipe = make_pipeline(StandardScaler(), GDRegressor(solver="gd", tol=None, max_iter=200))
    search = GridSearchCV(pipe, {"gdregressor__learning_rate": [1e-3, 0.1, 1e3]}, cv=3)
    with pytest.warns(FitFailedWarning):
        search.fit(data.X, data.y)
    assert search.best_params_ == {"gdregressor__learning_rate": 0.1}
    assert np.isnan(search.cv_results_["mean_test_score"][2])
    assert cross_val_score(GDClassifier(), data.X, data.three).mean() > 0.4


@modes
def test_clones_and_pickles_are_the_same_estimator(data, mode):
    for model, y in both(data, **MODES[mode]):
        model.fit(data.X, y)
        copy = clone(model)
        assert copy.get_params() == model.get_params()
        assert not hasattr(copy, "coef_")
        assert_same(copy.fit(data.X, y), model)
        loaded = pickle.loads(pickle.dumps(model))
        assert_same(loaded, model)
        assert_same(loaded.partial_fit(data.X, y), model.partial_fit(data.X, y))  # optimizer state included


def test_pickles_load_in_a_fresh_process(data, tmp_path):
    models = [
        model.fit(data.X, y).partial_fit(data.X, y)
        for model, y in both(data, solver="adam", learning_rate=0.01)
    ]
    assert_pickles_load_in_a_fresh_process(models, data.X, tmp_path)


@modes
def test_a_seed_fixes_the_result(data, mode):
    for model, y in both(data, **MODES[mode]):
        assert_same(clone(model).fit(data.X, y), model.fit(data.X, y))
        if "batch_size" in MODES[mode]:
            other = clone(model).set_params(random_state=1).fit(data.X, y)
            assert np.any(other.coef_ != model.coef_), "another seed, the same order of rows"


@modes
def test_one_job_and_two_give_the_same_bits(data, mode):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 20))  # enough rows for two threads
    z = X[:, 0] + rng.normal(size=len(X))
    for model, y in (
        (GDRegressor(), z),
        (GDClassifier(), z > 0),
        (GDClassifier(), np.digitize(z, [-1, 1])),
    ):
        model.set_params(**MODES[mode], random_state=0)
        if mode != "full batch":
            model.set_params(max_iter=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, two = (clone(model).set_params(n_jobs=n).fit(X, y) for n in (1, 2))
        assert_same(one, two)


def test_verbose_prints_a_line_per_epoch(data, capsys):
    GDRegressor(batch_size=10, max_iter=3, tol=None, verbose=1).fit(data.X, data.y)
    assert len(capsys.readouterr().out.strip().splitlines()) >= 3
    GDRegressor(batch_size=10, max_iter=3, tol=None).fit(data.X, data.y)
    assert capsys.readouterr().out == ""


def test_auto_says_what_it_chose(data):
    model = GDRegressor().fit(data.X, data.y)
    assert (model.solver_, model.batch_size_, model.preconditioner_) == (
        "nesterov",
        len(data.X),
        "gram",
    )
    model = GDRegressor(penalty="l1").fit(data.X, data.y)
    assert (model.solver_, model.preconditioner_) == ("nesterov", "diag")
    model = GDRegressor(solver="gd", learning_rate=0.01, max_iter=2, tol=None).fit(data.X, data.y)
    assert (model.solver_, model.preconditioner_, model.learning_rate_) == ("gd", None, 0.01)
    model = GDRegressor(batch_size=10, max_iter=2, tol=None).fit(data.X, data.y)
    assert (model.solver_, model.batch_size_, model.preconditioner_) == ("gd", 10, "diag")


@pytest.mark.parametrize("loss", ["log_loss", "brier_score", "squared_hinge"])
def test_a_class_without_weight_is_not_predicted(data, loss):
    model = GDClassifier(loss=loss, class_weight={0: 1, 1: 0, 2: 1}).fit(data.X, data.three)
    assert set(model.predict(data.X)) == {0, 2}
    others = data.three != 1
    alone = GDClassifier(loss=loss).fit(data.X[others], data.three[others])
    assert np.mean(model.predict(data.X) == alone.predict(data.X)) > 0.97


def test_weights_set_by_hand_make_predictions_and_none_make_none(data):
    model = GDRegressor()
    with pytest.raises(NotFittedError):
        model.predict(data.X)
    model.coef_, model.intercept_ = np.arange(6.0), np.array([2.0])
    assert_allclose(model.predict(data.X), data.X @ np.arange(6.0) + 2)
