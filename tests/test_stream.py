"""Linear models and streams: what goes on from a fit, columns that do not vary, wide sparse chunks."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from shared import assert_same_weights

from fastgd import GDClassifier, GDRegressor, _stream
from fastgd._linear import LinearProblem
from fastgd._sparse import SparseRows

D = 3_000
SIZES = (1, 50, 7, 200, 1, 60)


def rows(n, seed, dtype=np.float64):
    """X of n rows, and a signal."""
    rng = np.random.default_rng(seed)
    X = sp.random(n, D, 0.01, format="csr", random_state=seed, dtype=np.float64)
    X.data = rng.normal(size=X.nnz) + 0.5
    return X.astype(dtype), X @ np.sin(np.arange(D))


def stream(model, weighted=False, dtype=np.float64, sizes=SIZES):
    for seed, n in enumerate(sizes):
        X, z = rows(n, seed, dtype)
        rng = np.random.default_rng(seed)
        weight = rng.integers(0, 4, size=n) + (0.0 if n > 1 else 1.0) if weighted else None
        if isinstance(model, GDClassifier):
            model.partial_fit(X, np.digitize(z, [-0.5, 0.5]), classes=[0, 1, 2], sample_weight=weight)
        elif model.loss == "poisson":
            model.partial_fit(X, rng.poisson(np.exp(np.clip(z / 3, -2, 2))), sample_weight=weight)
        else:
            model.partial_fit(X, z, sample_weight=weight)
    return model


MODELS = [
    GDRegressor(),
    GDRegressor(loss="huber", batch_size=7, alpha=0.1),
    GDRegressor(loss="poisson"),
    GDRegressor(penalty=None, fit_intercept=False),
    GDRegressor(penalty="l1", alpha=1e-3, batch_size=1),
    GDRegressor(penalty="elasticnet", alpha=1e-2, l1_ratio=0.3, average=50),
    GDClassifier(average=True),
    GDClassifier(loss="hinge"),
    GDClassifier(loss="log_loss", penalty="elasticnet", alpha=1e-3),
    GDRegressor(preconditioner=None, penalty="l1", alpha=0.1),
    GDRegressor(preconditioner="gram", alpha=0.1),
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_columns_that_a_chunk_lacks_end_where_they_would_had_they_been_looked_at(
    model, weighted, monkeypatch
):
    def learn():
        return stream(type(model)(**model.get_params() | {"random_state": 0}), weighted)

    few = learn()
    monkeypatch.setattr(_stream, "_epoch_in_its_columns", _stream._epoch_in_all_columns)
    whole = learn()
    assert_same_weights(few, whole, 1e-9)
    assert_allclose(few.loss_curve_, whole.loss_curve_, rtol=1e-9)
    assert_allclose(few.learning_rate_, whole.learning_rate_, rtol=1e-9)
    assert few.t_ == whole.t_


def test_float32_agrees_to_its_own_precision():
    narrow, wide = stream(GDRegressor(random_state=0), dtype=np.float32), stream(GDRegressor(random_state=0))
    assert narrow.coef_.dtype == np.float32
    assert_allclose(narrow.coef_, wide.coef_, atol=1e-5 * np.abs(wide.coef_).max())


def test_an_epoch_sees_the_columns_of_its_chunk_alone(monkeypatch):
    seen, run_epoch = [], LinearProblem.run_epoch

    def observed(problem, *args):
        seen.append(problem.d)
        return run_epoch(problem, *args)

    monkeypatch.setattr(LinearProblem, "run_epoch", observed)
    stream(GDClassifier())
    assert seen == [len(np.unique(rows(n, seed)[0].indices)) for seed, n in enumerate(SIZES)]


def test_packed_rows_are_the_same_without_columns_of_zeros():
    X = rows(20, 0)[0]
    columns, packed = SparseRows.of(X).packed()
    assert_array_equal(columns, np.unique(X.indices))
    assert_array_equal(packed.matrix.toarray(), X[:, columns].toarray())
    columns, packed = SparseRows.of(sp.csr_array((4, D))).packed()
    assert columns.tolist() == [0]
    assert packed.shape == (4, 1)


def test_a_chunk_of_empty_rows_moves_the_intercept_alone():
    for seed in range(
        5
    ):  # a weight that were divided by its scale and multiplied again may come back exactly
        model = stream(GDRegressor(alpha=0.0, penalty=None, random_state=seed))
        coef, intercept = model.coef_.copy(), model.intercept_.copy()
        model.partial_fit(sp.csr_array((5, D)), np.full(5, 10.0))
        assert_array_equal(model.coef_, coef)
        assert model.intercept_[0] > intercept[0]


def test_a_column_whose_squares_overflow_is_called_by_its_number():
    X = rows(5, 0)[0].tolil()
    X[2, 1234] = 1e200
    with pytest.raises(ValueError, match=r"squares of column\(s\) \[1234\] of X overflow"):
        GDRegressor().partial_fit(X.tocsr(), np.arange(5.0))


@pytest.mark.parametrize("first", ["dense", "sparse"])
def test_dense_and_sparse_chunks_may_alternate(first):
    model, turn = GDRegressor(random_state=0), ["dense", "sparse"]
    if first == "sparse":
        turn.reverse()
    chunks = [rows(100, seed) for seed in range(20)]
    for i, (X, z) in enumerate(3 * chunks):
        model.partial_fit(X.toarray() if turn[i % 2] == "dense" else X, z)
    X, z = zip(*chunks, strict=True)
    assert model.score(sp.vstack(X), np.concatenate(z)) > 0.3


def test_a_stream_goes_on_from_a_fit_and_keeps_what_it_learned():
    X, z = rows(2_000, 0)
    model = GDRegressor(random_state=0).fit(X, z)
    score = model.score(X, z)
    for n in (1, 10):
        model.partial_fit(X[:n], z[:n])
        assert model.score(X, z) > score - 1e-3


def noisy(m, d, noise=3.0):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(m, d))
    return X, X @ np.sin(np.arange(d)) + noise * rng.normal(size=m)


@pytest.mark.parametrize("first", ["rows", "no weight", "a chunk"])
@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "momentum"}, {"momentum": 0.5, "solver": "momentum"}, {"batch_size": 32}],
    ids=str,
)
def test_the_rows_of_a_fit_count_in_the_steps_of_a_stream(params, first):
    """Whatever its descent has left behind, and whatever comes first."""
    X, y = noisy(20_000, 20)
    model = GDRegressor(random_state=0, **params).fit(X, y)
    score = model.score(X, y)
    if first == "no weight":
        model.partial_fit(X[:1], y[:1], sample_weight=[0.0])
    elif first == "a chunk":
        model.partial_fit(X[:320], y[:320])
    for i in range(300):
        model.partial_fit(X[i : i + 1], y[i : i + 1])
    assert model.score(X, y) > score - 0.06


@pytest.mark.parametrize("constant", [5.0, 1.7e18, 1e20, 1e25])
@pytest.mark.parametrize("solver", ["gd", "momentum", "adam"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_column_has_no_weight_however_large_it_is(constant, solver, dtype):
    X, y = noisy(1_600, 3, 0.0)
    X = np.column_stack([X, np.full(1_600, constant)]).astype(dtype)
    model = GDRegressor(solver=solver, random_state=0)
    for i in range(0, 1_600, 32):
        model.partial_fit(X[i : i + 32], y[i : i + 32])
    assert model.coef_[3] == 0
    assert model.score(X, y) > 0.7


def test_an_averaged_fit_goes_on_from_the_iterate_behind_the_average():
    X, _ = rows(400, 0)
    y = 3 * (X @ np.sin(np.arange(D))) + np.random.default_rng(0).normal(size=400)
    model = GDRegressor(random_state=0, average=True, penalty=None, max_iter=5, tol=None).fit(X, y)
    iterate = model._training["state"].coordinates.to_theta(model._training["state"].u)
    model.partial_fit(X[:2], y[:2])
    others = np.setdiff1d(np.arange(D), X[:2].indices)
    assert_allclose(model._training["theta"][:, others], iterate[:, others], atol=1e-12)


def test_columns_that_the_steps_do_not_know_keep_their_average():
    """Those of chunks with an explicit rate, which asks for no scales."""
    left, right = (sp.random(200, D // 2, 0.02, format="csr", random_state=seed) for seed in (0, 1))
    nothing = sp.csr_array((200, D // 2))
    y = np.asarray(left.sum(axis=1)).ravel()
    model = GDRegressor(average=True, learning_rate=0.05, penalty=None, random_state=0)
    for _ in range(5):
        model.partial_fit(sp.hstack([left, nothing], format="csr"), y)
    before, iterate = model.coef_.copy(), model._training["theta"][0, :-1].copy()
    model.set_params(learning_rate="auto").partial_fit(sp.hstack([nothing, right], format="csr"), y)
    share = 1000 / 1200  # of the updates
    expected = share * before[: D // 2] + (1 - share) * iterate[: D // 2]
    assert_allclose(model.coef_[: D // 2], expected, rtol=1e-10)


def test_a_state_of_other_parameters_is_left_behind():
    """As of pickles of descents in the space of the rows."""
    X, y = noisy(20, 300)
    model = GDRegressor().partial_fit(X, y)
    model._training["state"].u = np.zeros((1, 20))
    with np.errstate(all="raise"):
        model.partial_fit(X, y)
    assert model._training["state"].u.shape == (1, 301)
    assert model.t_ == 2  # its updates do not count either


@pytest.mark.parametrize("size", [1e-200, 1e-158, 1e-155])
@pytest.mark.parametrize("penalty", [None, "l1", "l2"])
def test_entries_whose_squares_underflow_are_none(size, penalty):
    X, z = rows(1, 0)
    X[0, X.indices[0]] = size
    model = GDRegressor(penalty=penalty, average=True).partial_fit(X, z)
    assert np.isfinite(model.coef_).all()
    assert model.coef_[X.indices[0]] == 0


def test_a_single_row_whose_squares_overflow_is_an_error_that_names_the_column():
    X, z = rows(1, 0)
    column = X.indices[3]
    X[0, column] = 1e200
    with pytest.raises(ValueError, match=rf"\[{column}\] of X overflow"):
        GDRegressor().partial_fit(X, z)
