"""Dask estimators: the coefficients are those of the same rows in memory, wherever the rows are."""

import gc
import os
import pickle
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits

from fastgd import GDClassifier, GDRegressor

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")

from dask.sizeof import sizeof  # noqa: E402

from fastgd import _chunks, _plan  # noqa: E402
from fastgd._distributed import DistributedProblem  # noqa: E402
from fastgd._linear import LinearProblem  # noqa: E402
from fastgd._on_workers import Targets  # noqa: E402
from fastgd._sparse import SparseRows  # noqa: E402
from fastgd.dask import DaskGDClassifier, DaskGDRegressor  # noqa: E402

UNEVEN = (70, 0, 1, 49, 30)
DASK = {GDRegressor: DaskGDRegressor, GDClassifier: DaskGDClassifier}


@pytest.fixture(scope="module")
def client():
    """Two workers, which are threads of this process."""
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def chunked(values, rows=UNEVEN):
    return da.from_array(values, chunks=(rows, *values.shape[1:]))


def assert_same_model(ours, theirs, tol=1e-6):
    assert_allclose(ours.coef_, theirs.coef_, rtol=tol, atol=tol)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=tol, atol=tol)
    assert ours.coef_.shape == theirs.coef_.shape and ours.coef_.dtype == theirs.coef_.dtype


CASES = {
    "squares": (GDRegressor(), "y"),
    "squares-outputs": (GDRegressor(alpha=0.1), "Y"),
    "squares-no-intercept": (GDRegressor(fit_intercept=False), "y"),
    "lasso": (GDRegressor(penalty="l1", alpha=0.03), "y"),
    "huber": (GDRegressor(loss="huber", epsilon=0.5), "y"),
    "huber-outputs": (GDRegressor(loss="huber", epsilon=0.5), "Y"),
    "poisson": (GDRegressor(loss="poisson"), "counts"),
    "poisson-l1": (GDRegressor(loss="poisson", penalty="l1", alpha=0.03), "counts"),
    "gamma": (GDRegressor(loss="gamma"), "positive"),
    "logistic": (GDClassifier(), "binary"),
    "logistic-l1": (GDClassifier(penalty="elasticnet", alpha=0.03), "binary"),
    "multinomial": (GDClassifier(), "three"),
    "multinomial-l1": (GDClassifier(penalty="l1", alpha=0.03), "three"),
    "squared-hinge": (GDClassifier(loss="squared_hinge"), "three"),
    "brier": (GDClassifier(loss="brier_score", alpha=0.03), "three"),
    "labels-squared": (GDClassifier(loss="squared_error"), "three"),
    "balanced": (GDClassifier(class_weight="balanced"), "three"),
    "class-weights": (GDClassifier(class_weight={0: 2, 1: 0.1, 2: 0.5}), "three"),
    "gd": (GDRegressor(loss="huber", solver="gd", learning_rate=0.1, max_iter=20, tol=None), "y"),
    "adam": (
        GDClassifier(solver="adam", batch_size="full", learning_rate=0.1, max_iter=9, tol=None),
        "three",
    ),
    "nesterov-auto": (GDClassifier(solver="nesterov", preconditioner="diag"), "binary"),
}


@pytest.mark.parametrize(
    ("case", "weighted"),
    [(case, True) for case in CASES] + [(case, False) for case in ("squares", "logistic", "balanced")],
)
def test_coefficients_are_those_of_the_rows_in_memory(client, data, case, weighted):
    model, target = CASES[case]
    y, s = getattr(data, target), data.s if weighted else None
    ours = DASK[type(model)](**model.get_params())
    ours.fit(chunked(data.X), chunked(y), sample_weight=chunked(s) if weighted else None)
    theirs = clone(model).fit(data.X, y, sample_weight=s)
    assert_same_path(ours, theirs)


def assert_same_path(ours, theirs, tol=1e-6):
    """Not the minimum alone: every step that led there."""
    assert_same_model(ours, theirs, tol)
    assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tol)
    assert ours.solver_ == theirs.solver_ and ours.stop_reason_ == theirs.stop_reason_
    assert ours.preconditioner_ == theirs.preconditioner_


def test_a_kinked_loss_has_its_path_in_memory(client, data):
    ours = DaskGDRegressor(loss="absolute_error", alpha=0.01).fit(chunked(data.X), chunked(data.y))
    assert_same_path(ours, GDRegressor(loss="absolute_error", alpha=0.01).fit(data.X, data.y))


WIDER = {
    "logistic": (GDClassifier(), "labels"),
    "one-vs-rest": (GDClassifier(loss="squared_hinge"), "classes"),
    "poisson": (GDRegressor(loss="poisson"), "counts"),
    "huber": (GDRegressor(loss="huber", epsilon=0.5), "values"),
    "hinge": (GDClassifier(loss="hinge", alpha=1e-2), "labels"),
    "gd": (GDClassifier(solver="gd"), "labels"),
}


@pytest.fixture(scope="module")
def wider():
    """5,000 rows of 40 columns, some of them rare categories."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(5000, 40))
    X[:, 20:] = rng.random((5000, 20)) < np.logspace(-2.5, -0.3, 20)
    z = X @ rng.normal(size=40) / 3
    noisy = z + rng.logistic(size=5000)
    return dict(
        X=X, s=rng.uniform(0.1, 2.0, 5000) * (rng.random(5000) < 0.9), values=z + rng.standard_t(3, 5000),
        labels=(noisy > 0).astype(int), classes=np.digitize(noisy, [-1.0, 1.0]),
        counts=rng.poisson(np.exp(0.3 * z)).astype(float),
    )  # fmt: skip


@pytest.mark.parametrize(("case", "weighted"), [("logistic", False), *((case, True) for case in WIDER)])
def test_metrics_of_some_rows_are_those_in_memory(client, wider, case, weighted, passes):
    model, target = WIDER[case]
    X, y, s, rows = wider["X"], wider[target], wider["s"].copy(), (1500, 0, 10, 1490, 2000)
    s[1500:1510] = 0  # a chunk without weight, which counts among the rows
    ours = DASK[type(model)](**model.get_params())
    ours.fit(chunked(X, rows), chunked(y, rows), sample_weight=chunked(s, rows) if weighted else None)
    assert "sampled_hessians" in passes
    assert_same_path(ours, clone(model).fit(X, y, sample_weight=s if weighted else None))


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_the_rows_that_matter_to_a_softmax_are_those_in_memory(
    client, weighted, passes, monkeypatch
):
    X, y = load_digits(return_X_y=True)
    s = np.random.default_rng(0).uniform(0.1, 2.0, len(y)) if weighted else None
    params, rows = dict(alpha=1e-3, max_iter=60, tol=None), (800, 0, 1, 996)
    shares = {}
    for Problem in (LinearProblem, DistributedProblem):

        def noted(self, curvature, Problem=Problem, share=Problem._share_of_main_rows):
            shares[Problem] = [*shares.get(Problem, []), share(self, curvature)]
            return shares[Problem][-1]

        monkeypatch.setattr(Problem, "_share_of_main_rows", noted)
    ours = DaskGDClassifier(**params)
    ours.fit(chunked(X, rows), chunked(y, rows), sample_weight=chunked(s, rows) if weighted else None)
    assert "main_grams" in passes
    assert_same_path(ours, GDClassifier(**params).fit(X, y, sample_weight=s))
    assert 0 < shares[DistributedProblem][0] < 1
    assert_allclose(shares[DistributedProblem], shares[LinearProblem], atol=1e-3)


@pytest.mark.parametrize("case", ["squares", "huber", "logistic", "multinomial"])
def test_single_precision_stays_single(client, data, case):
    model, target = CASES[case]
    X, y, s = data.X.astype(np.float32), getattr(data, target), data.s
    ours = DASK[type(model)](**model.get_params()).fit(chunked(X), chunked(y), sample_weight=chunked(s))
    theirs = clone(model).fit(X, y, sample_weight=s)
    assert ours.coef_.dtype == np.float32
    assert_same_model(ours, theirs, tol=5e-3 if case == "multinomial" else 2e-4)
    assert ours.predict(chunked(X)).dtype == theirs.predict(X).dtype


@pytest.mark.parametrize("order", ["columns", "strided", "fortran", "integers", "rows elsewhere"])
def test_chunks_may_lie_in_memory_as_they_like(client, data, order):
    X, y = data.X, chunked(data.y)
    given = chunked(X)
    if order == "columns":
        given = da.from_array(X, chunks=(40, 4))
    elif order == "strided":
        given = chunked(np.repeat(X, 2, axis=1)).map_blocks(lambda x: x[:, ::2], chunks=(UNEVEN, 6))
    elif order == "fortran":
        given = given.map_blocks(np.asfortranarray)
    elif order == "integers":
        X = (100 * X).astype(int)
        given = chunked(X)
    else:
        y = da.from_array(data.y, chunks=37)
    assert_same_path(DaskGDRegressor(loss="huber").fit(given, y), GDRegressor(loss="huber").fit(X, data.y))


@pytest.mark.parametrize("order", ["as they come", "sorted"])
def test_columns_far_from_zero_lose_no_digits(client, data, order):
    rows = np.arange(150) if order == "as they come" else np.argsort(data.X[:, 0])
    X, y = data.X[rows] * 10.0 ** np.arange(-3, 3) + 1e5, data.y[rows] - 1e4
    ours = DaskGDRegressor(alpha=0).fit(chunked(X), chunked(y))
    centred = np.column_stack([X - X.mean(axis=0), np.ones(150)])  # an oracle without offsets
    w = np.linalg.lstsq(centred, y, rcond=None)[0]
    assert_allclose(ours.coef_, w[:-1], rtol=1e-6)
    assert_allclose(ours.intercept_[0], w[-1] - X.mean(axis=0) @ w[:-1], rtol=1e-6)


# ------------------------------------------------------------------------------------------------
# in the space of the rows
# ------------------------------------------------------------------------------------------------

WIDE = {name: CASES[name] for name in CASES if "l1" not in name and name not in ("lasso", "gd", "adam")} | {
    "kinked": (GDRegressor(loss="absolute_error", alpha=0.01), "y"),
    "logistic-no-intercept": (GDClassifier(fit_intercept=False), "binary"),
    "multinomial-no-intercept": (GDClassifier(fit_intercept=False), "three"),
    "gd": (GDClassifier(solver="gd"), "binary"),
    "momentum": (GDClassifier(solver="momentum", max_iter=50, tol=None), "binary"),
}
del WIDE["nesterov-auto"]  # a metric of the columns


@pytest.fixture(scope="module")
def wide(data):
    """The targets of `data`, and 2,100 columns that tell them; the weights of a chunk are zero."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(150, 2100)) * rng.uniform(0.1, 3, 2100) + rng.normal(size=2100)
    X[:, :6] = data.X
    wide = SimpleNamespace(**vars(data) | {"X": X, "s": data.s.copy()})
    wide.s[71:120] = 0
    return wide


def assert_same_path_of_wide_rows(ours, theirs):
    """Relative to the largest coefficient: all of them are small."""
    assert_same_path(ours, theirs)
    assert ours.n_iter_ == theirs.n_iter_
    assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-6 * np.abs(theirs.coef_).max())


@pytest.mark.parametrize("case", WIDE)
@pytest.mark.parametrize("form", ["dense", "sparse", "float32"])
def test_far_more_columns_than_rows_have_their_path_in_memory(client, wide, case, form):
    model, target = WIDE[case]
    X, y, s = wide.X, getattr(wide, target), None if case == "logistic" else wide.s
    if form == "float32":
        X = X.astype(np.float32)
    given, X = (
        (sparse_chunks(with_zeros(X)), sparse.csr_array(with_zeros(X)))
        if form == "sparse"
        else (chunked(X), X)
    )
    ours = DASK[type(model)](**model.get_params())
    ours.fit(given, chunked(y), sample_weight=None if s is None else chunked(s))
    assert_same_path_of_wide_rows(ours, clone(model).fit(X, y, sample_weight=s))
    assert ours.preconditioner_ == "gram" and ours.coef_.dtype == X.dtype


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("case", ["lasso", "logistic-l1", "huber-l1"])
def test_an_l1_penalty_on_many_columns_looks_at_the_same_few(client, wide, case, form):
    model, target, s = {
        "lasso": (GDRegressor(penalty="l1", alpha=0.1), "y", None),
        "logistic-l1": (GDClassifier(penalty="l1", alpha=0.03), "binary", wide.s),
        "huber-l1": (GDRegressor(penalty="elasticnet", alpha=0.1, loss="huber"), "y", None),
    }[case]
    X, y = with_zeros(wide.X), getattr(wide, target)
    given, X = (sparse_chunks(X), sparse.csr_array(X)) if form == "sparse" else (chunked(X), X)
    ours = DASK[type(model)](**model.get_params())
    ours.fit(given, chunked(y), sample_weight=None if s is None else chunked(s))
    theirs = clone(model).fit(X, y, sample_weight=s)
    assert_same_path_of_wide_rows(ours, theirs)
    assert_array_equal(ours.coef_ != 0, theirs.coef_ != 0)


def test_who_watches_a_descent_in_the_space_of_the_rows_sees_all_columns(client, wide):
    params = dict(early_stopping=True, n_iter_no_change=2)
    val = dict(X_val=wide.X[::2], y_val=wide.three[::2])
    ours = DaskGDClassifier(**params).fit(chunked(wide.X), chunked(wide.three), **val)
    theirs = GDClassifier(**params).fit(wide.X, wide.three, **val)
    assert_same_path_of_wide_rows(ours, theirs)
    assert_array_equal(ours.validation_scores_, theirs.validation_scores_)


def test_a_given_start_need_not_lie_in_the_space_of_the_rows(client, wide):
    params, start = dict(max_iter=20, tol=None), dict(coef_init=np.full((1, 2100), 1e-3))
    ours = DaskGDClassifier(**params).fit(chunked(wide.X), chunked(wide.binary), **start)
    assert_same_path_of_wide_rows(ours, GDClassifier(**params).fit(wide.X, wide.binary, **start))


def test_wide_rows_travel_once(client):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 20_000))
    given = client.persist(placed(client, np.split(X, 6)))
    distributed.wait(given)
    keys = distributed.futures_of(given)
    before, sent = client.who_has(keys), bytes_sent(client)
    model = DaskGDClassifier(client=client).fit(given, chunked(np.arange(120) % 2, 20))
    assert (
        bytes_sent(client) - sent < 0.6 * X.nbytes + 20 * X[0].nbytes
    )  # half of each slice is there already
    assert client.who_has(keys) == before and model.n_iter_ > 3


# ------------------------------------------------------------------------------------------------
# what travels
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1], ids=["y beside X", "y elsewhere"])
def test_chunks_stay_where_they_are(client, order, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 20))
    y = (X[:, 0] + rng.logistic(size=100_000) > 0).astype(int)
    workers = sorted(client.nthreads())[::order]
    X, y = client.persist([placed(client, np.split(X, 10)), placed(client, np.split(y, 10), workers)])
    distributed.wait([X, y])
    keys = distributed.futures_of(X)
    over_groups = _chunks.Chunks.over_groups

    def tidied(*args):
        result = over_groups(*args)
        client.amm.run_once()  # as every two seconds: second copies of a chunk are dropped
        return result

    monkeypatch.setattr(_chunks.Chunks, "over_groups", tidied)
    before, sent = client.who_has(keys), bytes_sent(client)
    model = DaskGDClassifier(tol=1e-6).fit(X, y)
    assert model.n_iter_ > 3
    assert client.who_has(keys) == before
    assert bytes_sent(client) - sent < 0.01 * X.nbytes + y.nbytes * (order == -1)


def bytes_sent(client):
    """Bytes that workers have sent, to each other or to the client, so far."""
    return sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())


@pytest.fixture
def passes(monkeypatch):
    """Names of the sums over all rows, in turn."""
    names, over_groups = [], _chunks.Chunks.over_groups

    def counted(self, task, parameters, arguments=None):
        first = parameters[0]
        names.append(getattr(first, "__name__", task.__name__))
        return over_groups(self, task, parameters, arguments)

    monkeypatch.setattr(_chunks.Chunks, "over_groups", counted)
    return names


@pytest.mark.parametrize(
    "params", [{}, {"penalty": "l1", "alpha": 0.01}, {"solver": "adam", "learning_rate": 0.1}]
)
def test_least_squares_read_the_rows_once(client, data, passes, params):
    DaskGDRegressor(batch_size="full", **params).fit(chunked(data.X), chunked(data.y))
    assert passes == ["_facts_of_group", "summary", "moments_of_all"]


def test_a_logistic_regression_takes_some_ten_passes_and_few_matrices(client, passes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 40)) @ rng.normal(size=(40, 40))
    y = (X[:, 0] + 5 * rng.logistic(size=3000) > 0).astype(int)
    DaskGDClassifier().fit(chunked(X, 1000), chunked(y, 1000))
    assert passes.count("loss_and_curvature_sums") <= 15
    assert 1 <= passes.count("sampled_hessians") <= 5
    assert "plain_gram" not in passes and "local_hessians" not in passes
    assert len(passes) <= 25


def test_many_workers_are_added_up_in_a_tree(client, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.integers(2, size=200)
    expected = GDClassifier().fit(X, y)
    monkeypatch.setattr(  # every chunk a worker's own
        _chunks.Chunks, "groups", lambda self: [(None, [i]) for i in range(len(self.X))]
    )
    assert_same_path(DaskGDClassifier().fit(chunked(X, 10), chunked(y, 10)), expected)


@pytest.mark.slow
def test_a_worker_that_dies_in_the_middle_of_a_fit_is_survived(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 10))
    y = np.digitize(X[:, 0] + rng.logistic(size=6000), [-0.5, 0.5])
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        pids = client.run(os.getpid)
        assert len(pids) == 2 and os.getpid() not in pids.values()
        victim, calls, over_groups = list(pids.items())[0], [], _chunks.Chunks.over_groups

        def deadly(self, task, parameters, arguments=None):
            calls.append([address for address, _ in self.groups()])
            if len(calls) == 5:
                os.kill(victim[1], signal.SIGKILL)
            return over_groups(self, task, parameters, arguments)

        monkeypatch.setattr(_chunks.Chunks, "over_groups", deadly)
        model = DaskGDClassifier(client=client).fit(chunked(X, 1000), chunked(y, 1000))
        assert victim[0] in calls[4] and victim[0] not in calls[-1]
        assert len(calls) > 8
    assert_same_path(model, GDClassifier().fit(X, y))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["over_columns", "over_groups"])
def test_a_worker_that_dies_while_rows_travel_or_weights_come_back_is_survived(wide, method, monkeypatch):
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        pid, original, killed = (
            next(iter(client.run(os.getpid).values())),
            getattr(_chunks.Chunks, method),
            [],
        )

        def deadly(self, task, *args):
            if task.__name__ in ("inner_products_of_chunks", "combination_of_chunks") and not killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(task)
            return original(self, task, *args)

        monkeypatch.setattr(_chunks.Chunks, method, deadly)
        model = DaskGDClassifier(client=client).fit(chunked(wide.X), chunked(wide.three))
        assert killed
    assert_same_path_of_wide_rows(model, GDClassifier().fit(wide.X, wide.three))


# ------------------------------------------------------------------------------------------------
# collections
# ------------------------------------------------------------------------------------------------


def frame(data, **columns):
    X = pd.DataFrame(data.X, columns=list("abcdef"))
    return dd.from_pandas(X.assign(**columns), npartitions=4, sort=False)


def test_data_frames_have_chunks_of_unknown_size_and_names(client, data):
    table = frame(data, y=data.y, s=data.s)
    table = table[table["a"] > -100]  # as far as Dask knows, any number of rows is left
    X, y, s = table[list("abcdef")], table["y"], table["s"]
    model = DaskGDRegressor(loss="huber").fit(X, y, sample_weight=s)
    expected = GDRegressor(loss="huber").fit(X.compute(), data.y, sample_weight=data.s)
    assert_same_path(model, expected)
    assert_array_equal(model.feature_names_in_, expected.feature_names_in_)
    predicted = model.predict(X)
    assert isinstance(predicted, da.Array) and np.isnan(predicted.shape[0])
    assert_allclose(predicted.compute(), expected.predict(X.compute()), atol=1e-6)
    assert_allclose(model.score(X, y, s), expected.score(X.compute(), data.y, data.s), rtol=1e-6)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[list("fedcba")])
    with pytest.raises(ValueError, match="features"):
        model.predict(chunked(data.X[:, :4]))


def test_a_frame_of_targets_has_several_outputs(client, data):
    table = frame(data, u=data.Y[:, 0], v=data.Y[:, 1])
    model = DaskGDRegressor().fit(table[list("abcdef")], table[["u", "v"]])
    assert_same_model(model, GDRegressor().fit(data.X, data.Y), tol=1e-9)
    assert_allclose(model.predict(table[list("abcdef")]).compute(), data.X @ model.coef_.T + model.intercept_)
    assert_allclose(
        model.score(chunked(data.X), chunked(data.Y)), model.to_local().score(data.X, data.Y), rtol=1e-9
    )


@pytest.mark.parametrize("target", ["binary", "three"])
def test_a_chunk_may_lack_classes(client, data, target):
    y = getattr(data, target)
    order = np.argsort(y, kind="stable")
    X, y = data.X[order], y[order]
    model = DaskGDClassifier().fit(chunked(X, 20), chunked(y, 20))
    expected = GDClassifier().fit(X, y)
    assert_same_path(model, expected)
    assert_array_equal(model.classes_, expected.classes_)


@pytest.mark.parametrize("target", ["binary", "three"])
def test_predictions_are_lazy_and_those_of_the_local_estimator(client, data, target):
    y = getattr(data, target)
    X = chunked(data.X)
    model = DaskGDClassifier().fit(X, chunked(y))
    local = model.to_local()
    assert type(local) is GDClassifier and "client" not in local.get_params()
    for name in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        lazy = getattr(model, name)(X)
        expected = getattr(local, name)(data.X)
        assert isinstance(lazy, da.Array) and lazy.chunks[0] == UNEVEN
        assert lazy.shape == expected.shape and lazy.dtype == expected.dtype
        if name == "predict":
            assert_array_equal(lazy.compute(), expected)
        else:
            assert_allclose(lazy.compute(), expected, rtol=1e-12)
        assert_array_equal(getattr(model, name)(data.X), expected)  # rows in memory: an array at once
    assert_allclose(model.score(X, chunked(y), chunked(data.s)), local.score(data.X, y, data.s))
    assert not hasattr(DaskGDClassifier(loss="hinge"), "predict_proba")


# ------------------------------------------------------------------------------------------------
# mini-batches
# ------------------------------------------------------------------------------------------------


def placed(client, parts, workers=None):
    """A Dask array whose chunks lie on the workers in turn."""
    workers = workers or sorted(client.nthreads())
    futures = [
        client.scatter(part, workers=[workers[i % len(workers)]], hash=False) for i, part in enumerate(parts)
    ]
    arrays = [da.from_delayed(f, part.shape, part.dtype) for f, part in zip(futures, parts, strict=True)]
    return da.concatenate(arrays)


@pytest.mark.parametrize("target", ["y", "three"])
def test_mini_batches_are_local_epochs_with_averaged_parameters(client, data, target):
    y, edges = getattr(data, target), [0, 50, 80, 150]
    rows = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    params = {"batch_size": 10, "solver": "gd", "learning_rate": 0.05, "shuffle": False, "tol": None}
    Local = GDRegressor if target == "y" else GDClassifier
    kwargs = {"classes": [0, 1, 2]} if target == "three" else {}
    model = DASK[Local](**params, max_iter=3)
    model.fit(placed(client, [data.X[r] for r in rows]), placed(client, [y[r] for r in rows]))
    coef, intercept = np.zeros_like(model.coef_), np.zeros_like(model.intercept_)
    for _ in range(3):
        ends = []
        for of_worker in (rows[0::2], rows[1::2]):
            local = Local(**params, warm_start=True, max_iter=1).partial_fit(data.X[:1], y[:1], **kwargs)
            local.coef_, local.intercept_ = coef, intercept
            local._training["theta"] = np.column_stack([np.atleast_2d(coef), intercept])
            for r in of_worker:
                local.partial_fit(data.X[r], y[r])
            ends.append((local.coef_, local.intercept_))
        shares = [120 / 150, 30 / 150]
        coef = sum(share * end[0] for share, end in zip(shares, ends, strict=True))
        intercept = sum(share * end[1] for share, end in zip(shares, ends, strict=True))
    assert_allclose(model.coef_, coef, rtol=1e-9)
    assert_allclose(model.intercept_, intercept, rtol=1e-9)


@pytest.mark.parametrize("solver", ["gd", "momentum", "adagrad", "adam"])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_mini_batches_of_one_worker_are_those_of_memory(client, data, solver, penalty):
    params = dict(batch_size=10, solver=solver, penalty=penalty, alpha=0.01, learning_rate="invscaling")
    model = DaskGDClassifier(**params, eta0=0.1, shuffle=False, tol=None, max_iter=3)
    first = sorted(client.nthreads())[:1]
    X = placed(client, [data.X[:80], data.X[80:]], first)
    y = placed(client, [data.binary[:80], data.binary[80:]], first)
    model.fit(X, y)
    expected = model.to_local().set_params(warm_start=False).fit(data.X, data.binary)
    assert_same_model(model, expected, tol=1e-10)
    assert model.t_ == expected.t_


@pytest.mark.parametrize("batch_size", [1, 10])
def test_epochs_over_columns_that_lie_together_are_those_over_rows(client, data, batch_size):
    params = dict(batch_size=batch_size, learning_rate=0.01, max_iter=2, tol=None, random_state=0)
    y = placed(client, [data.y[:80], data.y[80:]])
    coefs = []
    for lay in (np.ascontiguousarray, np.asfortranarray):
        X = placed(client, [lay(data.X[:80]), lay(data.X[80:])])
        coefs.append(DaskGDRegressor(**params).fit(X, y).coef_)
    assert_array_equal(*coefs)


@pytest.mark.parametrize("params", [{}, {"solver": "adam"}, {"average": True}, {"loss": "poisson"}])
def test_mini_batches_with_automatic_steps_learn(client, params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 5)) * [1e-3, 1, 1, 1, 1e3] + 1
    z = (X - 1) @ [500, 0.5, -0.5, 0.2, 5e-4]
    y = rng.poisson(np.exp(z)).astype(float) if params.get("loss") else z + 0.1 * rng.normal(size=3000)
    X_all, y_all = chunked(X, (1000, 200, 1800)), chunked(y, (1000, 200, 1800))
    batches = {"batch_size": 1 if "average" in params else 20}
    model = DaskGDRegressor(**batches, random_state=0, **params).fit(X_all, y_all)
    best = GDRegressor(loss=model.loss).fit(X, y).score(X, y)
    assert model.score(X_all, y_all) > best - 0.05
    again = clone(model).fit(X_all, y_all)
    assert_allclose(again.coef_, model.coef_, rtol=0.2, atol=0.1 * np.abs(model.coef_).max())


@pytest.mark.parametrize("target", ["y", "three"])
def test_the_size_of_weights_is_of_no_consequence_with_automatic_steps(client, data, target):
    y, Model = chunked(getattr(data, target)), DaskGDRegressor if target == "y" else DaskGDClassifier
    one = Model(batch_size=10, shuffle=False, max_iter=3, tol=None)
    X = client.persist(placed(client, np.split(data.X, 3)))  # what workers descend over must not differ
    coefs = [clone(one).fit(X, y, sample_weight=chunked(c * data.s)).coef_ for c in (1, 100)]
    assert_allclose(coefs[0], coefs[1], rtol=1e-9)


# ------------------------------------------------------------------------------------------------
# sparse rows
# ------------------------------------------------------------------------------------------------


def with_zeros(X):
    """X without about half of its entries."""
    return X * (np.random.default_rng(1).random(X.shape) < 0.5)


def sparse_chunks(X, form=sparse.csr_matrix, rows=UNEVEN):
    return chunked(X, rows).map_blocks(form)


@pytest.mark.parametrize("case", CASES)
def test_sparse_chunks_have_the_coefficients_of_sparse_rows_in_memory(client, data, case):
    model, target = CASES[case]
    X, y = with_zeros(data.X), getattr(data, target)
    ours = DASK[type(model)](**model.get_params())
    ours.fit(sparse_chunks(X), chunked(y), sample_weight=chunked(data.s))
    assert_same_path(ours, clone(model).fit(sparse.csr_array(X), y, sample_weight=data.s))


def test_metrics_of_some_sparse_rows_are_those_in_memory(client, wider, passes):
    X, y, rows = with_zeros(wider["X"]), wider["labels"], (1500, 0, 10, 1490, 2000)
    ours = DaskGDClassifier().fit(sparse_chunks(X, rows=rows), chunked(y, rows))
    assert "sampled_hessians" in passes
    assert_same_path(ours, GDClassifier().fit(sparse.csr_array(X), y))


def unsorted(x):
    """CSR with 64-bit indices, columns in falling order, and every entry in two halves."""
    x = sparse.csr_array(x)
    rows = [np.repeat(np.arange(a, b)[::-1], 2) for a, b in zip(x.indptr, x.indptr[1:], strict=False)]
    order = np.concatenate([np.empty(0, int), *rows])
    halves = sparse.csr_array((x.data[order] / 2, x.indices[order], 2 * x.indptr), shape=x.shape)
    halves.indices, halves.indptr = halves.indices.astype(np.int64), halves.indptr.astype(np.int64)
    return halves


FORMS = [sparse.csr_array, sparse.csc_matrix, sparse.coo_array, unsorted, "columns", "integers", "float32"]


@pytest.mark.parametrize("form", FORMS)
def test_sparse_chunks_may_have_any_form_that_scipy_knows(client, data, form):
    X, tol = with_zeros(data.X), 1e-6
    if form == "columns":
        given = da.from_array(X, chunks=(40, 4)).map_blocks(sparse.csr_matrix)
    elif form == "integers":
        X = (100 * X).astype(int)
        given = sparse_chunks(X)
    elif form == "float32":
        X, tol = X.astype(np.float32), 1e-4
        given = sparse_chunks(X)
    else:
        given = sparse_chunks(X, form)
    ours = DaskGDRegressor(loss="huber").fit(given, chunked(data.y))
    assert_same_path(ours, GDRegressor(loss="huber").fit(sparse.csr_matrix(X), data.y), tol)


def test_sparse_chunks_are_predicted_and_scored_where_they_are(client, data):
    X = with_zeros(data.X)
    model = DaskGDClassifier().fit(sparse_chunks(X), chunked(data.three))
    local = model.to_local()
    for name in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        lazy = getattr(model, name)(sparse_chunks(X))
        assert lazy.chunks[0] == UNEVEN
        assert_array_equal(lazy.compute(), getattr(local, name)(sparse.csr_matrix(X)))
    assert_allclose(model.score(sparse_chunks(X), chunked(data.three)), local.score(X, data.three))


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("rate", ["auto", 0.05])
def test_epochs_over_sparse_chunks_are_those_of_memory(client, data, batch_size, rate):
    X = with_zeros(data.X)
    params = dict(batch_size=batch_size, learning_rate=rate, shuffle=False, tol=None, max_iter=3)
    model = DaskGDClassifier(**params).fit(sparse_chunks(X, rows=(150,)), chunked(data.binary, (150,)))
    expected = model.to_local().set_params(warm_start=False).fit(sparse.csr_matrix(X), data.binary)
    assert_same_model(model, expected, tol=1e-10)
    assert_allclose(model.learning_rate_, expected.learning_rate_)


def test_dask_is_told_how_much_memory_sparse_rows_and_targets_take(data):
    rows = SparseRows.of(sparse.csr_array(with_zeros(data.X)))
    parts = rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes
    assert parts <= sizeof(rows) < parts + 200
    targets = Targets(data.Y.T, data.s)
    assert data.Y.nbytes + data.s.nbytes <= sizeof(targets) < data.Y.nbytes + data.s.nbytes + 200


def test_automatic_steps_are_those_of_the_batches_that_a_chunk_has(client, data, monkeypatch):
    """Lengths of sparse rows depend on how many share a batch, no more than the chunk has; told once."""
    batches, bounds = [], LinearProblem.bounds_of_steps
    monkeypatch.setattr(_plan, "FEW_COLUMNS", 0)
    monkeypatch.setattr(_plan, "FEW_WEIGHTS", 0)
    monkeypatch.setattr(_plan, "mostly_zeros", lambda X: True)

    def noted(problem, plan, *args):
        batches.append((len(problem.X), plan.batch_size))
        return bounds(problem, plan, *args)

    monkeypatch.setattr(LinearProblem, "bounds_of_steps", noted)
    DaskGDClassifier(batch_size=60, max_iter=3, tol=None).fit(
        sparse_chunks(with_zeros(data.X)), chunked(data.binary)
    )
    assert sorted(batches) == [(1, 1), (30, 30), (49, 49), (70, 60)]


@pytest.mark.filterwarnings("ignore:max_iter:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", [{}, {"penalty": "l1", "max_iter": 20}, {"batch_size": 1, "max_iter": 3}])
def test_many_sparse_columns_stay_sparse(client, params, monkeypatch):
    """Dense they would take 2.6 GB."""

    def densified(self, *args, **kwargs):
        raise AssertionError("a sparse chunk was made dense")

    for form in (sparse.csr_array, sparse.csr_matrix):
        monkeypatch.setattr(form, "toarray", densified)
    rng, rows = np.random.default_rng(0), (1100, 900, 1200)
    parts = [
        sparse.csr_matrix(
            (rng.normal(size=30 * m), rng.integers(100_000, size=30 * m), 30 * np.arange(m + 1)), (m, 100_000)
        )
        for m in rows
    ]
    w = rng.normal(size=100_000)
    y = np.concatenate([(part @ w + 0.1 * rng.normal(size=part.shape[0]) > 0) for part in parts]).astype(int)
    X = da.concatenate([
        da.from_delayed(
            client.scatter(part, hash=False), part.shape, part.dtype, meta=sparse.csr_matrix((0, 0))
        )
        for part in parts
    ])  # fmt: skip
    model = DaskGDClassifier(tol=1e-6, **params).fit(X, chunked(y, rows))
    local = GDClassifier(tol=1e-6, **params).fit(sparse.vstack(parts, "csr"), y)
    if model.batch_size == "auto":
        assert_same_model(model, local, tol=1e-5)
    assert model.score(X, chunked(y, rows)) > 0.9 * local.score(sparse.vstack(parts, "csr"), y)


# ------------------------------------------------------------------------------------------------
# conventions, errors
# ------------------------------------------------------------------------------------------------


def test_the_client_is_a_parameter_that_clones_share_and_pickles_leave(client, data):
    model = DaskGDRegressor("huber", alpha=0.5, client=client)
    assert model.client_ is client and model.get_params()["client"] is client
    assert clone(model).client is client and clone(model).loss == "huber"
    model.fit(chunked(data.X), chunked(data.y))
    thawed = pickle.loads(pickle.dumps(model))
    assert thawed.client is None and thawed.client_ is client  # the one last started
    assert_array_equal(thawed.predict(data.X), model.predict(data.X))
    with pytest.raises(TypeError, match="unexpected"):
        DaskGDRegressor(alhpa=1)
    assert set(DaskGDRegressor().get_params()) == {*GDRegressor().get_params(), "client"}
    assert set(DaskGDClassifier().get_params()) == {*GDClassifier().get_params(), "client"}


def test_training_goes_on_in_memory(client, data):
    model = DaskGDClassifier(batch_size=10, learning_rate=0.01, random_state=0, max_iter=3, tol=None)
    model.fit(chunked(data.X), chunked(data.three))
    local, before = model.to_local(), model.coef_.copy()
    local.partial_fit(data.X, data.three)
    assert local.t_ == model.t_ + 15
    assert_array_equal(model.coef_, before)
    assert np.any(local.coef_ != before)


def test_sparsified_coefficients_predict_chunks(client, data):
    X = chunked(data.X)
    model = DaskGDRegressor(penalty="l1", alpha=0.1).fit(X, chunked(data.y))
    dense = model.predict(data.X)
    assert_allclose(model.sparsify().predict(X).compute(), dense)


def test_a_warm_start_begins_where_the_last_fit_ended(client, data):
    X, y = chunked(data.X), chunked(data.binary)
    model = DaskGDClassifier(warm_start=True, tol=1e-6).fit(X, y)
    cold = model.n_iter_
    assert model.fit(X, y).n_iter_ < cold


def test_a_validation_set_in_memory_stops_a_fit(client, data):
    model = DaskGDClassifier(batch_size=10, early_stopping=True, random_state=0)
    model.fit(chunked(data.X), chunked(data.three), X_val=data.X, y_val=data.three)
    assert len(model.validation_scores_) == model.n_iter_
    assert_allclose(model.to_local().score(data.X, data.three), max(model.validation_scores_))
    with pytest.raises(ValueError, match="X_val"):
        DaskGDClassifier(early_stopping=True).fit(chunked(data.X), chunked(data.three))


def spoiled(values, position, value):
    values = np.array(values)
    values[position] = value
    return chunked(values)


def test_predicting_nothing_costs_what_it_costs_in_memory(client, data, monkeypatch):
    """A descent is measured by it; on a log scale it is what is above the floor."""
    costs = []

    def watch(Problem, own):
        def watched(self):
            costs.append(own(self))
            return costs[-1]

        monkeypatch.setattr(Problem, "loss_of_nothing", watched)

    watch(LinearProblem, LinearProblem.loss_of_nothing)
    watch(DistributedProblem, DistributedProblem.loss_of_nothing)
    params = dict(loss="poisson", batch_size=10, random_state=0, max_iter=2, tol=None)
    y = 300 * data.counts + 2
    for s in (None, data.s):
        del costs[:]
        GDRegressor(**params).fit(data.X, y, sample_weight=s)
        local = costs[0]
        del costs[:]
        lazy = None if s is None else chunked(s)
        DaskGDRegressor(**params).fit(chunked(data.X), chunked(y), sample_weight=lazy)
        assert_allclose(costs[-1], local)


def test_a_fit_that_is_refused_leaves_nothing_on_the_workers(client, data):
    X, y = da.from_array(data.X + 0.5, chunks=30).persist(), spoiled(data.y, 149, np.nan)
    distributed.wait(X)
    before = set(client.futures)  # an earlier test's may be on their way out
    with pytest.raises(ValueError, match="Chunk 4.*NaN"):
        DaskGDRegressor().fit(X + 1, y)
    end = time.monotonic() + 5  # the client's thread has to hear of it
    while not set(client.futures) <= before and time.monotonic() < end:
        time.sleep(0.01)
        gc.collect()
    assert set(client.futures) <= before


def test_data_that_cannot_be_learned_from_is_refused_and_nothing_changes(client, data):
    X, y, c = chunked(data.X), chunked(data.y), chunked(data.three)
    of_unknown = frame(data)[list("abcdef")]
    mislabelled = X.map_blocks(sparse.csr_array, meta=X._meta)
    spoilt = with_zeros(data.X)
    spoilt[100, np.flatnonzero(spoilt[100])[0]] = np.nan
    for Model, error, message, args, kwargs in (
        (DaskGDRegressor, ValueError, "Chunk 3.*NaN", (spoiled(data.X, (100, 2), np.nan), y), {}),
        (DaskGDRegressor, ValueError, "(?i)chunk 0.*infinity", (spoiled(data.X, (5, 2), np.inf), y), {}),
        (DaskGDRegressor, ValueError, "Chunk 4.*NaN", (X, spoiled(data.y, 149, np.nan)), {}),
        (DaskGDRegressor, ValueError, "NaN", (X, y), {"sample_weight": spoiled(data.s, 7, np.nan)}),
        (DaskGDRegressor, ValueError, "Negative", (X, y), {"sample_weight": spoiled(data.s, 7, -1)}),
        (DaskGDRegressor, ValueError, "zero", (X, y), {"sample_weight": chunked(0 * data.s)}),
        (DaskGDRegressor, ValueError, "inconsistent", (X, y[:-1]), {}),
        (DaskGDRegressor, ValueError, "chunk", (of_unknown, y), {}),
        (DaskGDRegressor, ValueError, "2D", (y, y), {}),
        (DaskGDRegressor, ValueError, "0 sample", (X[:0], y[:0]), {}),
        (DaskGDRegressor, ValueError, "could not convert", (chunked(np.full((150, 2), "a")), y), {}),
        (DaskGDRegressor, TypeError, "Dask array or DataFrame, got ndarray", (data.X, data.y), {}),
        (DaskGDRegressor, TypeError, "ndarrays", (X, y[:, None].map_blocks(sparse.csr_matrix)), {}),
        (DaskGDRegressor, ValueError, "Chunk 3.*NaN", (sparse_chunks(spoilt), y), {}),
        (DaskGDRegressor, ValueError, "Chunk .*promises", (mislabelled, y), {}),
        (DaskGDRegressor, ValueError, "partial_fit", (X, y), {"hidden_layer_sizes": (3,)}),
        (DaskGDRegressor, ValueError, "non-negative", (X, y), {"loss": "poisson"}),
        (DaskGDRegressor, ValueError, "alpha", (X, y), {"alpha": -1}),
        (DaskGDClassifier, ValueError, "greater than one", (X, chunked(0 * data.three)), {}),
        (DaskGDClassifier, ValueError, "continuous", (X, y), {}),
        (DaskGDClassifier, ValueError, "1d", (X, da.stack([c, c], axis=1)), {}),
        (DaskGDClassifier, ValueError, "not negative", (X, c), {"class_weight": {0: -1, 1: 1, 2: 1}}),
    ):
        model = Model().fit(X, c)
        before = {name: value for name, value in vars(model).items()}
        fit_params = {name: kwargs.pop(name) for name in ("sample_weight",) if name in kwargs}
        model.set_params(**kwargs)
        with pytest.raises(error, match=message):
            model.fit(*args, **fit_params)
        assert model.coef_ is before["coef_"] and model.n_features_in_ == 6
    with pytest.raises(TypeError, match="memory"):
        DaskGDRegressor().partial_fit(X, y)


def test_a_rate_that_is_too_large_names_the_largest_stable_one(client, data):
    from fastgd import DivergenceError

    messages = []
    for Model, X, y in ((DaskGDRegressor, chunked(data.X), chunked(data.y)), (GDRegressor, data.X, data.y)):
        with pytest.raises(DivergenceError, match="largest stable rate") as caught:
            Model(solver="gd", learning_rate=10.0).fit(X, y)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_arrays_of_known_chunks_take_targets_in_memory(client, data):
    model = DaskGDRegressor().fit(chunked(data.X), data.y, sample_weight=data.s)
    assert_same_model(model, GDRegressor().fit(data.X, data.y, sample_weight=data.s), tol=1e-9)


def test_without_a_client_the_error_says_what_to_start(data, monkeypatch):
    import fastgd.dask

    def nobody():
        raise ValueError("No clients found")

    monkeypatch.setattr(fastgd.dask, "default_client", nobody)
    with pytest.raises(ValueError, match="Client()"):
        DaskGDRegressor().fit(chunked(data.X), chunked(data.y))
