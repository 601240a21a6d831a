"""Hessians of some of the rows: close to that of all, with the rows that nothing else stands for, and no
change of where a fit ends.
"""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import objective
from scipy.linalg import eigvalsh
from sklearn.linear_model import LogisticRegression

from fastgd import GDClassifier
from fastgd._row_sample import PER_COLUMN, RowSample

ALPHA = 1e-4


def rare_categories(rng, m, d):
    """Standardised indicators; the rarest category has about m / 2000 rows."""
    X = (rng.random((m, d)) < np.logspace(-3.3, -0.3, d)).astype(float)
    return (X - X.mean(0)) / X.std(0)


@pytest.fixture(scope="module")
def table():
    return rare_categories(np.random.default_rng(0), 30_000, 60)


def sample_of(X):
    return RowSample(*X.shape, 1 + np.einsum("ij,ij->i", X, X))


def test_hessian_of_a_sample_is_close_to_that_of_all_rows_in_every_direction(table):
    h = np.random.default_rng(1).random(len(table))
    sample = sample_of(table)
    exact, error = (table.T * h) @ table, []
    while sample.share < 1:
        rows = sample.of_curvature(h)
        assert np.count_nonzero(rows) <= 1.1 * sample.size
        ratios = eigvalsh((table.T * rows) @ table, exact)
        error.append(max(ratios[-1] - 1, 1 - ratios[0]))
        sample.grow()
    assert len(error) >= 3
    assert error[0] < 0.7
    assert error[-1] < 0.7 * error[0]


def test_a_row_that_has_a_category_alone_is_always_in_the_sample(table):
    X = table.copy()
    X[:, 0] = 0.0
    X[17, 0] = np.sqrt(len(X))
    rows = sample_of(X).of_curvature(np.ones(len(X)))
    assert rows[17] == 1.0


def test_rows_without_curvature_stay_out_and_a_larger_sample_holds_the_smaller(table):
    h = np.ones(len(table))
    h[::2] = 0.0
    sample = sample_of(table)
    small = sample.of_curvature(h)
    sample.grow()
    large = sample.of_curvature(h)
    assert not small[::2].any()
    assert small.any()
    assert (large[small > 0] > 0).all()
    assert_array_equal(sample.of_curvature(np.zeros(len(table))), 0.0)


def test_a_sample_of_half_the_rows_is_all_of_them():
    X = np.ones((3 * PER_COLUMN, 1))
    sample = sample_of(X)
    assert sample.share < 1
    sample.grow()
    h = np.ones(len(X), np.float32)
    assert sample.share == 1
    assert sample.of_curvature(h) is h


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_on_many_rows_ends_at_the_optimum_of_logistic_regression(table, dtype, order, weighted):
    rng = np.random.default_rng(2)
    z = table @ rng.standard_normal(table.shape[1]) * 0.3
    y = (z + rng.logistic(size=len(z)) > 0).astype(int)
    weight = rng.integers(0, 3, len(y)) if weighted else None
    total = weight.sum() if weighted else len(y)
    ours = GDClassifier(alpha=ALPHA).fit(np.asarray(table, dtype, order=order), y, sample_weight=weight)
    peer = LogisticRegression(C=1 / (ALPHA * total), solver="newton-cholesky", tol=1e-10)
    peer.fit(table, y, sample_weight=weight)
    assert ours.stop_reason_ == "converged"
    found = objective(ours, table, y, weight)
    at_peer = copy.copy(ours)
    at_peer.coef_, at_peer.intercept_ = peer.coef_, peer.intercept_
    best = objective(at_peer, table, y, weight)
    assert found <= best * (1 + (1e-7 if dtype == np.float64 else 1e-6))
    if dtype == np.float64:
        assert_allclose(ours.coef_, peer.coef_, atol=2e-3)
