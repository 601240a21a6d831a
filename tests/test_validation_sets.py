"""A validation set of one's own, early stopping that keeps the best weights, metadata routing."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgd import GDClassifier, GDRegressor

MODES = {
    "full batch": {"solver": "gd", "learning_rate": 0.05},
    "automatic": {"penalty": None},
    "mini-batch": {"batch_size": 10, "learning_rate": 0.01, "solver": "adam"},
    "averaged": {"batch_size": 1, "learning_rate": 0.005, "average": True},
}
modes = pytest.mark.parametrize("mode", MODES)


@modes
@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_a_validation_set_is_scored_and_changes_nothing(noisy, Ours, mode):
    X, y, X_val, y_val = noisy[Ours]
    model = Ours(**MODES[mode], max_iter=20, tol=None, random_state=0)
    alone = clone(model).fit(X, y)
    s = np.linspace(0, 2, len(y_val))
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=s)
    assert_array_equal(model.coef_, alone.coef_)
    assert model.stop_reason_ == "max_iter"
    assert len(model.validation_scores_) == model.n_iter_ == 20
    assert_allclose(model.validation_scores_[-1], model.score(X_val, y_val, s), rtol=1e-9)


@pytest.mark.parametrize("mode", [m for m in MODES if m != "automatic"])  # it is at the optimum too soon
@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_early_stopping_keeps_the_best_weights(noisy, Ours, mode):
    X, y, X_val, y_val = noisy[Ours]
    model = Ours(
        **MODES[mode],
        early_stopping=True,
        max_iter=500,
        tol=0.0,
        n_iter_no_change=4,
        random_state=0,
    )
    model.fit(X, y, X_val=X_val, y_val=y_val)
    scores = np.array(model.validation_scores_)
    assert model.stop_reason_ == "early_stopping"
    assert len(scores) == model.n_iter_ < 500
    assert scores[:-4].max() >= scores[-4:].max(), "it did not improve for four epochs"
    assert_allclose(model.score(X_val, y_val), scores.max(), rtol=1e-9)


@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_the_best_weights_are_kept_even_when_all_epochs_are_run(noisy, Ours):
    X, y, X_val, y_val = noisy[Ours]
    model = Ours(batch_size=5, learning_rate=0.02, early_stopping=True, tol=None, max_iter=60, random_state=0)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    assert model.n_iter_ == 60 and model.stop_reason_ == "max_iter"
    assert max(model.validation_scores_) > model.validation_scores_[-1]
    assert_allclose(model.score(X_val, y_val), max(model.validation_scores_), rtol=1e-9)


@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_early_stopping_without_a_set_holds_rows_out(noisy, Ours):
    X, y, *_ = noisy[Ours]
    params = {
        "early_stopping": True,
        "batch_size": 5,
        "learning_rate": 0.01,
        "random_state": 0,
        "shuffle": False,
    }
    few, many = (Ours(**params, validation_fraction=f, max_iter=2, tol=None).fit(X, y) for f in (0.2, 0.5))
    assert (few.t_, many.t_) == (
        1 + 2 * 10,
        1 + 2 * 6,
    )  # 48 and 30 of 60 rows are trained on, five at a time
    again = Ours(**params, validation_fraction=0.2, max_iter=2, tol=None).fit(X, y)
    assert_array_equal(again.coef_, few.coef_)


def test_hold_out_of_a_classifier_has_every_class():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [80, 10, 10])
    X = rng.normal(size=(100, 3)) + np.eye(3)[y] * 4
    for seed in range(5):
        model = GDClassifier(
            early_stopping=True, validation_fraction=0.2, random_state=seed, max_iter=50
        ).fit(X, y)
        assert max(model.validation_scores_) > 0.85


@pytest.mark.parametrize(
    "named, change",
    [
        ("y_val", {"y_val": None}),
        ("X_val", {"X_val": None}),
        ("X_val", {"X_val": None, "y_val": None, "sample_weight_val": np.ones(60)}),
        ("feature", {"X_val": np.ones((60, 3))}),
        ("inconsistent", {"y_val": np.ones(59)}),
        ("NaN", {"X_val": np.full((60, 40), np.nan)}),
        ("sample_weight", {"sample_weight_val": np.ones(3)}),
    ],
)
def test_a_validation_set_is_checked_like_the_training_set(noisy, named, change):
    X, y, X_val, y_val = noisy[GDClassifier]
    with pytest.raises(ValueError, match=named):
        GDClassifier(max_iter=2).fit(X, y, **{"X_val": X_val, "y_val": y_val, **change})


@pytest.mark.parametrize("Ours", [GDRegressor, GDClassifier])
def test_metadata_is_routed_through_a_pipeline_that_scales_the_validation_set(noisy, Ours):
    X, y, X_val, y_val = noisy[Ours]
    X, X_val = 100 * X + 3, 100 * X_val + 3
    s, s_val = np.linspace(0.5, 2, len(y)), np.linspace(0, 1, len(y_val))
    params = {
        "batch_size": 10,
        "learning_rate": 0.01,
        "max_iter": 5,
        "tol": None,
        "random_state": 0,
    }
    with sklearn.config_context(enable_metadata_routing=True):
        model = Ours(**params).set_fit_request(
            sample_weight=True, X_val=True, y_val=True, sample_weight_val=True
        )
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipe = make_pipeline(scaler, model, transform_input=["X_val"])
        pipe.fit(X, y, X_val=X_val, y_val=y_val, sample_weight=s, sample_weight_val=s_val)
    scaler = StandardScaler().fit(X)
    by_hand = Ours(**params).fit(
        scaler.transform(X),
        y,
        sample_weight=s,
        X_val=scaler.transform(X_val),
        y_val=y_val,
        sample_weight_val=s_val,
    )
    assert_array_equal(pipe[-1].coef_, by_hand.coef_)
    assert_array_equal(pipe[-1].validation_scores_, by_hand.validation_scores_)
