"""Chunks of wide sparse rows: learned from in their own columns, as if all columns had been looked at."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from shared import assert_same_weights

from fastgd import GDClassifier, GDRegressor, _base
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
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.loss}-{m.penalty}-{m.average}")
def test_columns_that_a_chunk_lacks_end_where_they_would_had_they_been_looked_at(
    model, weighted, monkeypatch
):
    def learn():
        return stream(type(model)(**model.get_params() | {"random_state": 0}), weighted)

    few = learn()
    monkeypatch.setattr(_base, "is_wide_chunk", lambda problem, plan: False)
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
    model = stream(GDRegressor(alpha=0.0, penalty=None))
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
