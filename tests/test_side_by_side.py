"""Passes of many models over the parts of a table, against NumPy model by model."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import LOSSES, softmax_loss

from fastgd._compiled import grid, linear

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
NO_PARAMS = np.array([0.1, 0.1, 0.0, 0.0])


def table(m, d, k, dtype, loss, order="C"):
    """X (m, d), Y (k, m) or (1, m) of labels, weights (m,), some of them 0."""
    rng = np.random.default_rng(m + d + k)
    X = np.asarray(rng.normal(size=(m, d)) / np.sqrt(d), dtype=dtype, order=order)
    if loss == "softmax_log_loss":
        Y = rng.integers(k, size=(1, m))
    else:
        Y = np.where(rng.normal(size=(k, m)) > 0, 1, -1)
    weight = np.where(np.arange(m) % 5 == 2, 0.0, rng.uniform(0.5, 2, size=m))
    return X, Y.astype(dtype), weight.astype(dtype)


def twin(X, Y, weight, w, loss):
    """Sums over rows of weighted losses per output, and their gradient, of one model (k, d + 1)."""
    X, Y, weight = (np.asarray(a, dtype=np.float64) for a in (X, Y, weight))
    Z = X @ w[:, :-1].T + w[:, -1]  # (m, k)
    if loss == "softmax_log_loss":
        values, slopes = softmax_loss("log_loss", Y[0].astype(int), Z)
        total = np.full(len(w), weight @ values)
    else:
        total = weight @ LOSSES[loss].value(Y.T, Z, 0.1, 0.5)
        slopes = LOSSES[loss].slope(Y.T, Z, 0.1, 0.5)
    return total, (slopes * weight[:, None]).T @ np.column_stack([X, np.ones(len(X))])


def check(m, d, k, n, dtype, loss="log_loss", weighted=False, order="C", ends=None, seed=0, size=1.0):
    """n models of random weights, random members of the parts, of rows in random order."""
    X, Y, weight = table(m, d, k, dtype, loss, order)
    rng = np.random.default_rng(seed)
    rows, ends = rng.permutation(m), [m] if ends is None else ends
    members = (rng.uniform(size=(n, len(ends))) < 0.7).astype(float)
    W = (size * rng.normal(size=(n, k, d + 1))).astype(dtype)
    shares = weight[rows] if weighted else None
    passes = grid.Pass(X, Y, shares, rows, ends, k, 2)
    sums = [passes.run(W, members, linear.LOSS_IDS[loss], NO_PARAMS, n_threads) for n_threads in (1, 2, 5)]
    for other in sums[1:]:
        assert_array_equal(other[0], sums[0][0])
        assert_array_equal(other[1], sums[0][1])
    part = np.searchsorted(ends, np.arange(m), side="right")
    for w, member, total, gradient in zip(W, members, *sums[0], strict=True):
        mine = np.where(member[part] > 0, weight[rows] if weighted else 1, 0)
        expected = twin(X[rows], Y[:, rows], mine, w.astype(float), loss)
        tol = TOLERANCE[dtype]
        assert_allclose(total, expected[0], rtol=tol, atol=tol * np.abs(total).max())
        assert_allclose(gradient, expected[1], rtol=tol, atol=tol * np.abs(mine).sum())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss, k", [("log_loss", 1), ("squared_hinge", 2), ("softmax_log_loss", 3)])
def test_every_model_gets_the_sums_over_its_parts(loss, k, weighted, dtype):
    for d in (1, 2, 3, 7, 50):
        check(157, d, k, 5, dtype, loss, weighted, ends=[40, 41, 97, 157])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_any_number_of_models_and_outputs_fills_the_tiles(dtype):
    for n in range(1, 20):
        check(60, 4, 1, n, dtype, seed=n)
    for k in (1, 2, 3, 5, 8, 9, 17):
        check(60, 4, k, 3, dtype, seed=k)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", "CF")
def test_many_rows_are_cut_into_blocks_and_chunks(order, dtype):
    check(5003, 6, 1, 12, dtype, order=order, ends=[1, 2500, 2533, 5003])
    check(5003, 6, 1, 12, dtype, weighted=True, order=order, ends=[1, 2500, 2533, 5003])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("loss, k", [("log_loss", 1), ("softmax_log_loss", 11)])
def test_many_columns_are_read_in_strips(loss, k, dtype):
    check(600, 1201, k, 9, dtype, loss, ends=[301, 600])


def test_margins_of_any_size_have_the_log_loss_of_numpy():
    for size in (1e-200, 1e-12, 1e-5, 30.0, 700.0, 1e5):
        check(300, 3, 1, 4, np.float64, size=size)


def test_a_model_that_overflowed_harms_no_other():
    X, Y, _ = table(130, 5, 1, np.float64, "log_loss")
    W = np.ones((3, 1, 6))
    W[1] = np.inf
    passes = grid.Pass(X, Y, None, np.arange(130), [130], 1, 1)
    total, gradient = passes.run(W, np.ones((3, 1)), linear.LOSS_IDS["log_loss"], NO_PARAMS, 1)
    assert not np.isfinite(total[1, 0])
    for i in (0, 2):
        expected = twin(X, Y, np.ones(130), W[i], "log_loss")
        assert_allclose(total[i], expected[0], rtol=1e-12)
        assert_allclose(gradient[i], expected[1], rtol=1e-12)


def test_arrays_that_do_not_fit_are_refused():
    X, Y, _ = table(30, 5, 1, np.float64, "log_loss")
    passes = grid.Pass(X, Y, None, np.arange(30), [10, 30], 1, 1)
    for W, members in [((2, 1, 5), (2, 2)), ((2, 2, 6), (2, 2)), ((2, 1, 6), (2, 1)), ((2, 1, 6), (3, 2))]:
        with pytest.raises(ValueError, match="shape"):
            passes.run(np.zeros(W), np.ones(members), linear.LOSS_IDS["log_loss"], NO_PARAMS, 1)
