"""Small plain arrays and default parameters do without scikit-learn's validation: nobody may notice."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import validate_data

from fastgd import GDClassifier, GDRegressor, _validation

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
    return result, [str(warning.message) for warning in caught]


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
        assert_array_equal(ours, theirs)
    for name in ("coef_", "intercept_", "n_features_in_", "feature_names_in_", "classes_"):
        assert hasattr(found[0], name) == hasattr(expected[0], name)
        assert_array_equal(getattr(found[0], name, None), getattr(expected[0], name, None))


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
    def __init__(self, alpha=-1.0, needed=None):
        super().__init__(alpha=alpha)
        self.needed = needed


class NewDefault(GDRegressor):
    _parameter_constraints = {**GDRegressor._parameter_constraints, "needed": [int]}

    def __init__(self, needed, alpha=1):
        super().__init__(alpha=alpha)
        self.needed = needed


def test_defaults_are_valid_and_a_subclass_s_own_are_looked_at():
    for Model in (GDRegressor, GDClassifier):
        validate_parameter_constraints(Model._parameter_constraints, Model().get_params(), Model.__name__)
    with pytest.raises(ValueError, match="alpha"):
        WrongDefault().fit(PLAIN, TARGETS["floats"])
    assert NewDefault(3).fit(PLAIN, TARGETS["floats"]).alpha == 1
    with pytest.raises(ValueError, match="needed"):
        NewDefault("three").fit(PLAIN, TARGETS["floats"])
    with pytest.raises(ValueError, match="fit_intercept"):  # equal to the default, and not valid
        GDRegressor(fit_intercept=1.0).fit(PLAIN, TARGETS["floats"])
