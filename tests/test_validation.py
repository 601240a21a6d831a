"""Small plain arrays and default parameters do without scikit-learn's validation: nobody may notice."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import validate_data

from fastgd import GDClassifier, GDGridSearchCV, GDRegressor, _validation

RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=(12, 3))
TARGETS = {
    "floats": RNG.normal(size=12),
    "float32": RNG.normal(size=12).astype(np.float32),
    "classes": np.arange(12) % 2,
    "three classes": (np.arange(12) % 3).astype(np.uint8),
    "booleans": np.arange(12) % 2 == 0,
    "strings": np.array(["a", "b"] * 6),
    "objects": (np.arange(12) % 2).astype(object),
    "big-endian": (np.arange(12) % 2).astype(">f8"),
    "big-endian integers": (np.arange(12) % 2).astype(">i4"),
    "column": np.arange(12)[:, None] % 2,
    "two columns": RNG.normal(size=(12, 2)),
    "list": [0, 1] * 6,
    "Series": pd.Series(np.arange(12) % 2),
    "too few": np.arange(11) % 2,
    "one class": np.zeros(12),
    "NaN": np.where(np.arange(12) == 3, np.nan, 1.0),
    "complex": np.arange(12) % 2 + 0j,
    "none": None,
}
TABLES = {
    "plain": PLAIN,
    "float32": PLAIN.astype(np.float32),
    "Fortran": np.asfortranarray(PLAIN),
    "strided": np.repeat(PLAIN, 2, axis=1)[:, ::2],
    "reversed": PLAIN[::-1],
    "integers": np.arange(36).reshape(12, 3),
    "booleans": PLAIN > 0,
    "float16": PLAIN.astype(np.float16),
    "big-endian": PLAIN.astype(">f8"),
    "objects": PLAIN.astype(object),
    "complex": PLAIN + 0j,
    "strings": PLAIN.astype(str),
    "NaN": np.where(PLAIN == PLAIN[4, 1], np.nan, PLAIN),
    "infinity": np.where(PLAIN == PLAIN[4, 1], -np.inf, PLAIN),
    "masked": np.ma.masked_array(PLAIN, PLAIN > 1),
    "one column": PLAIN[:, :1],
    "four columns": np.hstack([PLAIN, PLAIN[:, :1]]),
    "no columns": PLAIN[:, :0],
    "no rows": PLAIN[:0],
    "flat": PLAIN[:, 0],
    "a number": np.float64(1.0),
    "three axes": PLAIN[None],
    "list": PLAIN.tolist(),
    "DataFrame": pd.DataFrame(PLAIN, columns=["a", "b", "c"]),
    "sparse": csr_array(PLAIN),
}
CASES = [("plain", y) for y in TARGETS] + [(X, y) for X in TABLES for y in ("floats", "classes")]


def outcome(call):
    """What a call returns or raises, and of what it warns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except (ValueError, TypeError, AttributeError) as error:
            result = type(error), str(error)
    return result, [(warning.category, str(warning.message)) for warning in caught]


def assert_identical(a, b):
    assert_array_equal(a, b, strict=True)


def assert_as_scikit_learn_alone(call, monkeypatch):
    """`call` makes a model, and returns it with whatever else it found."""
    found, warned = outcome(call)
    monkeypatch.setattr(_validation, "FEW", 0)
    expected, expected_warnings = outcome(call)
    assert warned == expected_warnings
    if not isinstance(expected[0], (GDRegressor, GDClassifier)):
        assert found == expected
        return
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert_identical(ours, theirs)
    for name in ("coef_", "intercept_", "n_features_in_", "feature_names_in_", "classes_"):
        assert hasattr(found[0], name) == hasattr(expected[0], name)
        if hasattr(found[0], name):
            assert_identical(getattr(found[0], name), getattr(expected[0], name))


@pytest.mark.parametrize("Model", [GDRegressor, GDClassifier])
@pytest.mark.parametrize("X, y", CASES)
def test_a_fit_is_what_scikit_learn_s_validation_makes_of_it(X, y, Model, monkeypatch):
    def fit():
        model = Model().fit(TABLES[X], TARGETS[y])
        return model, model.predict(TABLES[X])

    assert_as_scikit_learn_alone(fit, monkeypatch)


@pytest.mark.parametrize("seen", ["plain", "DataFrame"])
@pytest.mark.parametrize("X", TABLES)
def test_a_prediction_too(X, seen, monkeypatch):
    def predict():
        model = GDRegressor().fit(TABLES[seen], TARGETS["floats"])
        return model, model.predict(TABLES[X])

    assert_as_scikit_learn_alone(predict, monkeypatch)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("second", ["plain", "four columns", "DataFrame"])
@pytest.mark.parametrize("first", ["plain", "DataFrame"])
def test_names_and_numbers_of_columns_are_forgotten_or_kept_as_elsewhere(first, second, method, monkeypatch):
    def fit_twice():
        model = GDRegressor(random_state=0)
        for X in (first, second):
            getattr(model, method)(TABLES[X], TARGETS["floats"])
        return (model,)

    assert_as_scikit_learn_alone(fit_twice, monkeypatch)


@pytest.mark.parametrize("X", ["plain", "four columns", "NaN", "DataFrame", "no rows"])
@pytest.mark.parametrize("y", ["floats", "too few", "column"])
def test_a_validation_set_too(X, y, monkeypatch):
    def fit():
        model = GDRegressor(learning_rate=0.01, max_iter=3, tol=None)
        model.fit(PLAIN, TARGETS["floats"], X_val=TABLES[X], y_val=TARGETS[y])
        return model, model.validation_scores_

    assert_as_scikit_learn_alone(fit, monkeypatch)


@pytest.mark.parametrize("X", ["plain", "one column", "infinity", "DataFrame", "sparse"])
def test_chunks_of_a_classifier_too(X, monkeypatch):
    def learn():
        model = GDClassifier(random_state=0).partial_fit(PLAIN, TARGETS["classes"], classes=[0, 1, 2])
        model.partial_fit(TABLES[X], TARGETS["three classes"])
        return model, model.predict_proba(PLAIN)

    assert_as_scikit_learn_alone(learn, monkeypatch)


@pytest.mark.parametrize("X", ["plain", "four columns", "NaN"])
def test_what_was_set_by_hand_and_assumed_is_respected(X, monkeypatch):
    def predict():
        model = GDRegressor()
        model.coef_, model.intercept_, model._flat = np.ones(3), np.zeros(1), True
        with config_context(assume_finite=True):
            return model, model.predict(TABLES[X])

    assert_as_scikit_learn_alone(predict, monkeypatch)


@pytest.mark.parametrize("X", ["plain", "DataFrame", "infinity", "Fortran"])
@pytest.mark.parametrize("y", ["floats", "NaN", "list"])
def test_a_search_too(X, y, monkeypatch):
    def search():
        found = GDGridSearchCV(GDRegressor(), {"alpha": [0.1, 1.0]}, cv=3).fit(TABLES[X], TARGETS[y])
        return found.best_estimator_, found.cv_results_["mean_test_score"], found.predict(TABLES[X])

    assert_as_scikit_learn_alone(search, monkeypatch)


@pytest.mark.parametrize("X", ["plain", "float32", "Fortran", "strided"])
def test_plain_arrays_go_another_way(X, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("scikit-learn's validation was called")

    monkeypatch.setattr(_validation, "validate_data", refuse)
    for model, y in ((GDRegressor(), "floats"), (GDClassifier(), "three classes")):
        model.fit(TABLES[X], TARGETS[y]).predict(TABLES[X])
    with pytest.raises(AssertionError, match="was called"):
        model.fit(TABLES["list"], TARGETS[y])


def test_many_numbers_are_left_to_scikit_learn(monkeypatch):
    called = []

    def spy(*args, **kwargs):
        called.append(True)
        return validate_data(*args, **kwargs)

    monkeypatch.setattr(_validation, "validate_data", spy)
    X = np.ones((_validation.FEW // 10 + 1, 10))
    GDRegressor(max_iter=1, tol=None).fit(X, X[:, 0])
    assert called


class WrongDefault(GDRegressor):
    def __init__(self, alpha=-1.0):
        super().__init__(alpha=alpha)


class Replaced(GDRegressor):
    def __init__(self, alpha=None):
        super().__init__(alpha=0.5 if alpha is None else alpha)


class OneMore(GDRegressor):
    _parameter_constraints = {**GDRegressor._parameter_constraints, "needed": [int]}

    def __init__(self, needed, alpha=1):
        super().__init__(alpha=alpha)
        self.needed = needed


def test_defaults_are_valid_and_a_subclass_s_own_are_looked_at():
    y = TARGETS["floats"]
    for Model in (GDRegressor, GDClassifier):
        validate_parameter_constraints(Model._parameter_constraints, Model().get_params(), Model.__name__)
    with pytest.raises(ValueError, match="alpha"):
        WrongDefault().fit(PLAIN, y)
    for model in (WrongDefault(alpha=0.5), Replaced(), OneMore(3, alpha=0.5)):
        assert_array_equal(model.fit(PLAIN, y).coef_, GDRegressor(alpha=0.5).fit(PLAIN, y).coef_)
    with pytest.raises(ValueError, match="needed"):
        OneMore("three").fit(PLAIN, y)
    with pytest.raises(ValueError, match="fit_intercept"):  # equal to the default, and not valid
        GDRegressor(fit_intercept=1.0).fit(PLAIN, y)
