"""Automatic steps of mini-batches, as an array for an epoch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import objective
from scipy.linalg import eigvalsh

from fastgd import GDClassifier, GDRegressor, _schedules, _step_bounds
from fastgd._linear import LinearProblem
from fastgd._losses import regression_loss
from fastgd._penalties import Penalty
from fastgd._schedules import CappedSteps


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("m", [1, 7, 100, 1001])
def test_automatic_steps_fall_and_are_capped_by_the_rows_of_their_batch(m, batch_size, monkeypatch):
    rng = np.random.default_rng(0)
    bounds, order, t = rng.exponential(size=m) + 0.01, rng.permutation(m), 12
    schedule = CappedSteps(bounds, 500.0)
    batches = [order[i : i + batch_size] for i in range(0, m, batch_size)]
    age = (t - 1 + np.arange(len(batches))) * batch_size / 500
    expected = np.minimum(schedule.eta / (1 + age) ** 0.75, [1 / bounds[rows].mean() for rows in batches])
    steps = schedule.steps(t, order, batch_size)
    assert_allclose(steps, expected, rtol=1e-13)
    monkeypatch.setattr(_schedules, "BATCHES_AT_A_TIME", 5)
    assert_array_equal(schedule.steps(t, order, batch_size), steps)


ROWS = {
    "gaussian": lambda rng: rng.normal(size=(2000, 30)),
    "rare categories": lambda rng: (rng.random((2000, 30)) < np.logspace(-2.5, -0.3, 30)).astype(float),
    "long rows": lambda rng: rng.standard_t(1.5, size=(2000, 30)),
    "all alike": lambda rng: np.ones((2000, 1)) + 0.01 * rng.normal(size=(2000, 30)),
    "same long row": lambda rng: np.where(
        np.arange(2000)[:, None] % 90 == 0, 40.0, rng.normal(size=(2000, 30))
    ),
}


@pytest.mark.parametrize("whole", [False, True], ids=["some rows", "all rows"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [2, 16, 256])
@pytest.mark.parametrize("rows", ROWS)
def test_no_batch_drawn_at_random_is_curved_more_than_its_rows_are_taken_for(
    rows, batch_size, weighted, whole, monkeypatch
):
    rng = np.random.default_rng(0)
    X = ROWS[rows](rng)
    s = rng.exponential(size=2000) * (rng.random(2000) < 0.8) if weighted else np.ones(2000)
    problem = LinearProblem(
        X, np.zeros((1, 2000)), 3 * s if weighted else None, regression_loss("squared_error"),
        Penalty(), k=1, fit_intercept=True, n_threads=1,
    )  # fmt: skip
    s = 3 * s if weighted else s
    A = np.hstack([X, np.ones((2000, 1))]) * np.sqrt(s)[:, None]
    lengths = (A**2).sum(axis=1)
    lengths = np.maximum(lengths, (X**2).sum(axis=1) + 1)
    monkeypatch.setattr(_step_bounds, "ROWS_PER_COLUMN", 8 if whole else 2)
    bounds = _step_bounds._of_drawn_rows(problem, lengths, batch_size, 1.0)
    assert bounds.mean() <= lengths.mean()
    for _ in range(100):
        batch = rng.choice(2000, batch_size, replace=False)
        assert eigvalsh(A[batch].T @ A[batch])[-1] / batch_size <= 1.001 * bounds[batch].mean()


def test_rows_of_large_weights_make_up_what_is_curved():
    rng = np.random.default_rng(0)
    X, s = rng.normal(size=(2000, 30)), np.where(np.arange(2000) % 10, 0.1, 9.1)
    X[::10] = np.sqrt(30) * np.eye(30)[0]  # of usual length, and nine tenths of all weight
    problem = LinearProblem(
        X, np.zeros((1, 2000)), s, regression_loss("squared_error"), Penalty(), k=1, fit_intercept=True,
        n_threads=1,
    )  # fmt: skip
    A = np.hstack([X, np.ones((2000, 1))]) * np.sqrt(s)[:, None]
    bounds = _step_bounds._of_drawn_rows(problem, (A**2).sum(axis=1), 500, 1.0)
    assert bounds.mean() > eigvalsh(A.T @ A)[-1] / 2000


def test_batches_that_are_not_drawn_at_random_may_be_all_alike():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 40)), 64, axis=0)
    y = X @ rng.normal(size=40) + 0.1 * rng.normal(size=len(X))
    model = GDRegressor(batch_size=64, shuffle=False, max_iter=200).fit(X, y)
    assert objective(model, X, y) < 0.1 * objective(GDRegressor(alpha=1e9).fit(X, y), X, y)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("batch_size", [32, 256, 1024])
def test_large_batches_learn_no_slower_than_small_ones(batch_size, streaming):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 200))
    y = (X @ rng.normal(size=200) / 5 + rng.logistic(size=10_000) > 0).astype(int)
    best = objective(GDClassifier().fit(X, y), X, y)
    model = GDClassifier(batch_size=batch_size, max_iter=20, tol=None, random_state=0)
    if streaming:
        for _ in range(20):
            model.partial_fit(X, y, classes=[0, 1])
    else:
        model.fit(X, y)
    assert objective(model, X, y) < (1.15 if streaming else 1.02) * best


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("weights", ["every other", "one", "a class"])
def test_rows_without_weight_tell_nothing(weights, wide, monkeypatch):
    if wide:
        monkeypatch.setattr(_step_bounds, "GRAM_COLUMNS", 0)
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(3400, 5)), np.arange(3400) % 2
    y = X @ rng.normal(size=5) + 0.1 * rng.normal(size=3400)
    if weights == "a class":
        model = GDClassifier(batch_size=32, class_weight={0: 0.0, 1: 1.0}, max_iter=5, tol=None)
        assert (model.fit(X, labels).predict(X) == 1).all()
        return
    s = labels if weights == "every other" else np.eye(1, 3400)[0]
    model = GDRegressor(batch_size=32, random_state=0).fit(X, y, sample_weight=s)
    best = objective(GDRegressor().fit(X, y, sample_weight=s), X, y, s)
    assert objective(model, X, y, s) < 1.05 * best + 1e-4


@pytest.mark.parametrize("m", [10_500, 21_000])
@pytest.mark.parametrize("batch_size", [16, 64, 256])
def test_rows_with_a_period_are_seen_at_every_hour(m, batch_size):
    """Sensors with a daily cycle: those at its zero say nothing of what they have in common."""
    rng = np.random.default_rng(0)
    s = np.sin(2 * np.pi * np.arange(m) / 24)[:, None]
    X = s + 0.1 * s * rng.normal(size=(m, 7)) + 0.02 * rng.normal(size=(m, 7))
    y = X @ rng.normal(size=7) + 0.1 * rng.normal(size=m)
    model = GDRegressor(batch_size=batch_size, random_state=0).fit(X, y)
    assert objective(model, X, y) < 1.5 * objective(GDRegressor().fit(X, y), X, y)


@pytest.mark.parametrize("weight", [0.01, 1.0, 50.0, 1e4])
def test_weights_of_a_stream_that_are_all_large_do_not_overshoot(weight):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 1)) + 0.3 * rng.normal(size=(6000, 5))
    y = X.mean(axis=1) + 0.1 * rng.normal(size=6000)
    model = GDRegressor(batch_size=256, random_state=0)
    for _ in range(6):
        model.partial_fit(X, y, sample_weight=np.full(6000, weight))
    assert model.score(X, y) > (0.9 if weight >= 1 else 0.0)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
@pytest.mark.parametrize("spread", [2.0, 3.0])
def test_weights_of_any_size_do_not_overshoot(batch_size, spread):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 20))
    y, s = X @ rng.normal(size=20) + rng.normal(size=5000), np.exp(spread * rng.normal(size=5000))
    best = objective(GDRegressor().fit(X, y, sample_weight=s), X, y, s)
    model = GDRegressor(batch_size=batch_size, random_state=0).fit(X, y, sample_weight=s)
    assert objective(model, X, y, s) < 1.01 * best
    streamed = GDRegressor(batch_size=batch_size, random_state=0)
    for _ in range(20):
        for part in np.array_split(np.arange(5000), 10):
            streamed.partial_fit(X[part], y[part], sample_weight=s[part])
    assert objective(streamed, X, y, s) < 1.5 * best
