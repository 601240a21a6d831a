"""Sparse rows: the numbers decide, not how they lie in memory; and a row costs no more than its entries."""

import pickle
import time
import warnings
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from reference import CLASSIFICATION, REGRESSION, objective
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV

from fastgd import DivergenceError, GDClassifier, GDGridSearchCV, GDRegressor, _plan
from fastgd._compiled import epochs, linear, moments
from fastgd._linear import LinearProblem
from fastgd._losses import regression_loss
from fastgd._penalties import Penalty
from fastgd._sparse import SparseRows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PENALTIES = [
    {"penalty": None},
    {"penalty": "l2", "alpha": 0.05},
    {"penalty": "l1", "alpha": 0.02},
    {"penalty": "elasticnet", "alpha": 0.1, "l1_ratio": 0.4},
]
AVERAGES = [{}, {"average": True}, {"average": 150}]


@pytest.fixture(scope="module")
def table():
    """D dense and X sparse, the same numbers: an empty row, a column of zeros, a constant and a rare one."""
    rng = np.random.default_rng(0)
    m, d = 120, 14
    D = rng.normal(size=(m, d)) * (rng.random((m, d)) < 0.25)
    D[:, 3], D[:, 9], D[:, 8] = 0.0, 2.0, 0.7 * (rng.random(m) < 0.05)
    D[5] = 0.0
    z = D @ rng.normal(size=d)
    return SimpleNamespace(
        D=D,
        X=sp.csr_array(D),
        y=z + rng.standard_t(4, size=m),
        Y=np.column_stack([z + rng.normal(size=m), rng.normal(size=m) - z]),
        positive=np.exp(z / 4) * rng.gamma(2, size=m),
        binary=np.where(z + rng.logistic(size=m) > 0, "yes", "no"),
        three=np.digitize(z + rng.logistic(size=m), [-1, 1]),
        s=np.where(np.arange(m) % 7 == 0, 0.0, rng.uniform(0.3, 2, size=m)),
    )


def targets(table, Estimator, loss):
    if Estimator is GDClassifier:
        return table.binary, table.three
    return (table.positive,) if loss in ("poisson", "gamma") else (table.y, table.Y)


def random_rows(m, d, density, rng):
    """Normal entries in random places."""
    return sp.csr_array(sp.random(m, d, density, random_state=rng, data_rvs=rng.standard_normal))


def label(value):
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "defaults"


def fits(estimator, X_dense, X_sparse, *args, **kwargs):
    """The same estimator fitted to both, or None twice where it diverges on both."""
    both = []
    for X in (X_dense, X_sparse):
        try:
            both.append(pickle.loads(pickle.dumps(estimator)).fit(X, *args, **kwargs))
        except DivergenceError:
            both.append(None)
    assert (both[0] is None) == (both[1] is None)
    return both


def assert_same(dense, sparse, tol=1e-8):
    if dense is None:
        return
    assert dense.coef_.shape == sparse.coef_.shape and dense.coef_.dtype == sparse.coef_.dtype
    scale = max(1.0, np.abs(dense.coef_).max())
    assert_allclose(sparse.coef_, dense.coef_, rtol=tol, atol=tol * scale)
    assert_allclose(sparse.intercept_, dense.intercept_, rtol=tol, atol=tol * scale)


EVERY_LOSS = [(GDRegressor, loss) for loss in REGRESSION] + [(GDClassifier, loss) for loss in CLASSIFICATION]
every_loss = pytest.mark.parametrize(
    ("Estimator", "loss"), EVERY_LOSS, ids=[f"{E.__name__}-{loss}" for E, loss in EVERY_LOSS]
)


# ---- the same coefficients -----------------------------------------------------------------------


KINKED = ("absolute_error", "quantile", "epsilon_insensitive", "hinge", "perceptron")


@every_loss
def test_full_batch_reaches_the_optimum_of_dense_rows(table, Estimator, loss):
    penalties = PENALTIES[1:2] if loss in KINKED else PENALTIES
    for y, penalty in product(targets(table, Estimator, loss), penalties):
        for weight in (None, table.s):
            model = Estimator(loss=loss, max_iter=200, random_state=0, **penalty)
            dense, sparse = fits(model, table.D, table.X, y, sample_weight=weight)
            if dense.stop_reason_ == sparse.stop_reason_ == "converged":
                a, b = (objective(m, table.D, y, weight) for m in (dense, sparse))
                assert_allclose(b, a, rtol=1e-6)
                if loss == "squared_error" or (loss == "log_loss" and penalty["penalty"] is not None):
                    assert_same(dense, sparse, 1e-6)


@pytest.mark.parametrize("preconditioner", [None, "diag", "gram"])
@pytest.mark.parametrize("solver", ["gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
def test_full_batch_takes_the_steps_of_dense_rows(table, solver, preconditioner):
    for penalty in PENALTIES:
        if preconditioner == "gram" and penalty["penalty"] in ("l1", "elasticnet"):
            continue
        model = GDClassifier(
            solver=solver, preconditioner=preconditioner, learning_rate=0.02, max_iter=30, tol=None, **penalty
        )
        for y in (table.binary, table.three):
            assert_same(*fits(model, table.D, table.X, y, sample_weight=table.s))


@pytest.mark.parametrize("average", AVERAGES, ids=label)
@pytest.mark.parametrize("penalty", PENALTIES, ids=label)
@pytest.mark.parametrize("batch_size", [1, 7])
@every_loss
def test_plain_epochs_take_the_steps_of_dense_rows(table, Estimator, loss, batch_size, penalty, average):
    model = Estimator(
        loss=loss, solver="gd", batch_size=batch_size, learning_rate="invscaling", eta0=0.03, max_iter=4,
        tol=None, random_state=0, **penalty, **average,
    )  # fmt: skip
    for y in targets(table, Estimator, loss):
        for weight in (None, table.s):
            assert_same(*fits(model, table.D, table.X, y, sample_weight=weight))


@pytest.mark.parametrize("average", AVERAGES, ids=label)
@pytest.mark.parametrize("penalty", PENALTIES, ids=label)
@pytest.mark.parametrize("solver", ["momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
def test_epochs_by_rule_take_the_steps_of_dense_rows(table, solver, penalty, average):
    model = GDClassifier(
        solver=solver, batch_size=8, learning_rate=0.02, clip_norm=2.0, max_iter=3, tol=None, random_state=0,
        **penalty, **average,
    )  # fmt: skip
    for y in (table.binary, table.three):
        assert_same(*fits(model, table.D, table.X, y, sample_weight=table.s))


@pytest.mark.parametrize(
    "params",
    [
        {"penalty": "l2", "alpha": 3.0, "max_iter": 9},  # the scale of the weights runs out of digits
        {"penalty": "elasticnet", "alpha": 3.0, "l1_ratio": 1e-4, "max_iter": 9},
        {"penalty": "elasticnet", "alpha": 3.0, "l1_ratio": 1e-4, "max_iter": 9, "average": True},
        {"penalty": "l2", "alpha": 3.0, "max_iter": 9, "average": True},
        {"penalty": "l1", "alpha": 0.5, "max_iter": 20, "average": True},  # nearly every weight comes to rest
        {"penalty": "l2", "alpha": 3.0, "learning_rate": 0.5, "max_iter": 3},  # w shrinks to nothing
    ],
    ids=label,
)
def test_strong_penalties_act_as_on_dense_rows(table, params):
    for batch_size in (1, 30):
        model = GDRegressor("huber", solver="gd", batch_size=batch_size, tol=None, random_state=0)
        model.set_params(**{"learning_rate": 0.1, **params})
        for y in (table.y, table.Y):
            assert_same(*fits(model, table.D, table.X, y))


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("passes", [1, 20])  # 20: more updates than the history of an elastic net holds
@pytest.mark.parametrize("first_averaged", [0, 20, 10_000])
@pytest.mark.parametrize("k", [1, 3])
def test_an_epoch_goes_on_from_any_state(table, k, first_averaged, passes, l2):
    """Warm starts move the weights away from the state of the L1 penalty."""
    rng = np.random.default_rng(0)
    m, d = table.D.shape
    Y = rng.choice([-1.0, 1.0], size=(k, m))
    order, steps = np.tile(rng.permutation(m), passes), np.full(m * passes, 0.05)
    loss = linear.LOSS_IDS["hinge"]
    params, weight = np.array([1.0, 0, 0, 0]), table.s
    state = rng.normal(size=(k, d + 1)), 0.1 * rng.normal(size=(k, d)), rng.normal(size=(k, d + 1))
    results = []
    for X in (table.D, SparseRows.of(table.X)):
        theta, owed, mean = (a.copy() for a in state)
        owed_total, count = np.array([0.3]), np.array([5.0])
        total = epochs.sgd_epoch(
            X, Y, weight, theta, order, 1, steps, loss, params, l2, 0.02, True, 0, owed, owed_total,
            mean, count, first_averaged,
        )  # fmt: skip
        results.append([total, theta, owed, owed_total, mean, count])
    for a, b in zip(*results, strict=True):
        assert_allclose(b, a, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_a_weight_at_rest_stays_where_rounding_has_moved_it_too_far(table, l2):
    """In float32 a weight may have been moved by a little more than is owed."""
    m, d = table.D.shape
    theta, owed, owed_total = np.zeros((1, d + 1)), np.full((1, d), -0.3 - 1e-9), np.array([0.3])
    epochs.sgd_epoch(
        SparseRows.of(table.X), np.ones((1, m)), np.zeros(m), theta, np.arange(m), 1, np.full(m, 1e-12),
        linear.LOSS_IDS["hinge"], np.array([1.0, 0, 0, 0]), l2, 0.02, True, 0, owed, owed_total,
        np.empty((0, 0)), np.zeros(1), m,
    )  # fmt: skip
    assert_array_equal(theta, 0)


@pytest.mark.parametrize("schedule", ["constant", "optimal", "adaptive", "pa1", "pa2"])
def test_schedules_and_early_stopping_are_those_of_dense_rows(table, schedule):
    loss = "hinge" if schedule.startswith("pa") else "log_loss"
    for penalty in PENALTIES[1:3]:
        model = GDClassifier(
            loss, batch_size=1, learning_rate=schedule, eta0=0.05, early_stopping=True, max_iter=15,
            random_state=0, class_weight="balanced", **penalty,
        )  # fmt: skip
        for y in (table.binary, table.three):
            dense, sparse = fits(model, table.D, table.X, y)
            assert_same(dense, sparse)
            assert_allclose(sparse.validation_scores_, dense.validation_scores_)
            dense.fit(table.D, y, X_val=table.D[:40], y_val=y[:40])
            sparse.fit(table.X, y, X_val=table.X[:40], y_val=y[:40])
            assert_same(dense, sparse)


@pytest.mark.parametrize("average", AVERAGES[:2], ids=label)
@pytest.mark.parametrize("penalty", PENALTIES, ids=label)
@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_partial_fit_and_warm_start_go_on_as_on_dense_rows(table, solver, penalty, average):
    model = GDClassifier(
        solver=solver, batch_size=5, learning_rate=0.05, random_state=0, warm_start=True, max_iter=2,
        tol=None, **penalty, **average,
    )  # fmt: skip
    chunks = np.array_split(np.arange(120), [30, 31, 90])
    for y in (table.binary, table.three):
        dense, sparse = fits(model, table.D, table.X, y)
        for rows in chunks * 2:
            dense.partial_fit(table.D[rows], y[rows], sample_weight=table.s[rows])
            sparse.partial_fit(table.X[rows], y[rows], sample_weight=table.s[rows])
        assert_same(dense, sparse)
        assert_same(dense.fit(table.D, y), sparse.fit(table.X, y))
        # layouts may alternate
        dense.partial_fit(table.D, y)
        sparse.partial_fit(table.D, y)
        assert_same(dense, sparse)


def test_float32_agrees_to_its_own_precision(table):
    D, X = table.D.astype(np.float32), table.X.astype(np.float32)
    common = dict(max_iter=5, tol=None, learning_rate=0.02, random_state=0)
    for params in ({"batch_size": 1, "solver": "gd"}, {"batch_size": 1, "solver": "gd", "average": True}, {}):
        for penalty in PENALTIES:
            for y in (table.binary, table.three):
                dense, sparse = fits(GDClassifier(**params, **penalty, **common), D, X, y)
                assert sparse.coef_.dtype == np.float32
                assert_same(dense, sparse, 2e-5)
    assert_same(*fits(GDRegressor(), D, X, table.y), 1e-4)


def test_no_special_decay_of_the_intercept(table):
    """SGDRegressor moves the intercept of sparse rows by a hundredth; without an intercept it agrees."""
    common = dict(learning_rate="constant", eta0=0.02, max_iter=3, tol=None, shuffle=False)
    for params in ({"alpha": 0.05}, {"alpha": 0.05, "average": True}, {"penalty": None}):
        ours = GDRegressor(batch_size=1, solver="gd", **params, **common)
        theirs = SGDRegressor(fit_intercept=False, **params, **common).fit(table.X, table.y)
        assert_same(theirs, ours.set_params(fit_intercept=False).fit(table.X, table.y), 1e-7)
        ours = GDClassifier("hinge", batch_size=1, solver="gd", **params, **common)
        theirs = SGDClassifier(fit_intercept=False, **params, **common).fit(table.X, table.binary)
        assert_same(theirs, ours.set_params(fit_intercept=False).fit(table.X, table.binary), 1e-7)
        theirs = SGDClassifier(**params, **common).fit(table.D, table.binary)
        assert_same(theirs, ours.set_params(fit_intercept=True).fit(table.X, table.binary), 1e-7)


# ---- optima, by others' solvers --------------------------------------------------------------------


def test_the_default_is_ridge_and_logistic_regression(table):
    m = len(table.y)
    ridge = Ridge(alpha=1e-2 * m, solver="cholesky").fit(table.D, table.y)
    ours = GDRegressor(alpha=1e-2, tol=1e-8).fit(table.X, table.y)
    assert_allclose(ours.coef_, ridge.coef_, atol=1e-7)
    assert_allclose(ours.intercept_, ridge.intercept_, atol=1e-7)
    logistic = LogisticRegression(C=1 / (1e-2 * m), tol=1e-10, max_iter=10_000).fit(table.X, table.three)
    ours = GDClassifier(alpha=1e-2, tol=1e-8).fit(table.X, table.three)
    assert_allclose(ours.coef_, logistic.coef_, atol=1e-5)


@pytest.mark.parametrize("shape", [(2200, 2100), (60, 3000)], ids=["L-BFGS", "row space"])
def test_many_columns_need_no_gram_matrix(shape):
    rng = np.random.default_rng(0)
    X = random_rows(*shape, 8 / shape[1], rng)
    X = X @ sp.diags(10.0 ** rng.uniform(-1, 1, shape[1]))
    y = (X @ rng.normal(size=shape[1]) + rng.logistic(size=shape[0]) > 0).astype(int)
    theirs = LogisticRegression(C=1 / (1e-3 * shape[0]), tol=1e-8, max_iter=10_000, solver="newton-cg").fit(
        X, y
    )
    ours = GDClassifier(alpha=1e-3).fit(X, y)
    best, reached = (objective(m.set_params(**{}), X.toarray(), y) for m in (as_ours(theirs, 1e-3), ours))
    assert reached <= best * (1 + 1e-6)
    assert ours.stop_reason_ == "converged" and ours.n_iter_ < 200


def as_ours(theirs, alpha):
    """An estimator of ours with the coefficients of another."""
    model = GDClassifier(alpha=alpha)
    model.coef_, model.intercept_, model.classes_ = theirs.coef_, theirs.intercept_, theirs.classes_
    return model


AUTOMATIC = [
    {"batch_size": 1},
    {"batch_size": 16},
    {"batch_size": 16, "solver": "momentum", "penalty": "l1", "alpha": 1e-3},
    {"batch_size": 16, "solver": "adam", "fit_intercept": False},
    {"batch_size": 50, "penalty": "elasticnet", "average": 5, "clip_norm": 1.0},
    {"batch_size": 16, "preconditioner": "diag", "learning_rate": 0.05},
    {"hidden_layer_sizes": (6,)},
    {"hidden_layer_sizes": (9, 4), "activation": "relu", "batch_norm": True, "batch_size": 40},
    {"hidden_layer_sizes": 5, "solver": "gd", "penalty": "l1", "alpha": 1e-3, "clip_norm": 0.5},
    {"hidden_layer_sizes": 300, "batch_size": 400, "n_jobs": 2},  # in chunks and pieces
    {"hidden_layer_sizes": 5, "solver": "momentum", "fit_intercept": False},
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("params", AUTOMATIC, ids=label)
@pytest.mark.parametrize("Estimator", [GDRegressor, GDClassifier])
def test_automatic_mini_batches_are_those_of_dense_rows(Estimator, params, weighted):
    """Means of the columns and all: few columns are centred, and any number by a network."""
    rng = np.random.default_rng(0)
    X = random_rows(500, 30, 0.4, rng) @ sp.diags(10.0 ** rng.integers(-2, 3, 30))
    D = X.toarray()
    D[:, 0], D[:, 1], D[:, 2] = 5.0 * (rng.random(500) < 0.9), 3.0, 0.0  # far from zero, constant, empty
    X, z = sp.csr_array(D), (D / np.abs(D).max(axis=0).clip(1e-9)) @ rng.normal(size=30)
    y = z if Estimator is GDRegressor else np.digitize(z, np.quantile(z, [0.3, 0.6]))
    s = rng.uniform(0, 2, 500) * (rng.random(500) < 0.8) if weighted else None
    model = Estimator(max_iter=3, tol=None, random_state=0, **params)
    dense, sparse = (clone(model).fit(rows, y, sample_weight=s) for rows in (D, X))
    assert_weights_agree(sparse, dense)
    classes = {} if Estimator is GDRegressor else {"classes": [0, 1, 2]}
    for part in np.array_split(np.arange(500), 4):
        weight = s[part] if weighted else None
        for stream, rows in ((dense, D), (sparse, X)):
            stream.partial_fit(rows[part], y[part], sample_weight=weight, **classes)
    assert_weights_agree(sparse, dense)


WIDE = [
    {},
    {"batch_size": 1},
    {"penalty": "l1", "alpha": 1e-3},
    {"average": 5, "penalty": "elasticnet"},
    {"solver": "momentum"},
    {"solver": "adam", "clip_norm": 1.0},
    {"preconditioner": None},
    {"preconditioner": "diag", "learning_rate": 0.05},
]


@pytest.mark.parametrize("params", WIDE, ids=label)
@pytest.mark.parametrize(
    ("d", "k", "share", "by_entries"),
    [
        (1024, 1, 0.03, False), (1025, 1, 0.03, True), (1025, 1, 0.08, False),
        (256, 5, 0.03, False), (257, 4, 0.03, True), (257, 4, 0.08, False),
    ],
)  # fmt: skip
def test_wide_rows_of_hardly_any_entries_are_learned_from_by_entries_however_stored(
    d, k, share, by_entries, params
):
    rng = np.random.default_rng(0)
    X = abs(random_rows(300, d, share, rng))
    X.data[:5] = 0.0  # stored, and yet none
    Y = X @ rng.normal(size=(d, k))
    y = Y[:, 0] if k == 1 else Y
    model = GDRegressor(max_iter=2, tol=None, random_state=0, **{"batch_size": 30} | params)
    dense, sparse = (clone(model).fit(rows, y) for rows in (X.toarray(), X))
    assert sparse._training["by_entries"] == dense._training["by_entries"] == by_entries
    assert_weights_agree(sparse, dense)
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):  # a stream, after the fit and by itself
        for stream, rows in ((dense, X.toarray()), (sparse, X)):
            stream.partial_fit(rows[part], y[part])
    assert_weights_agree(sparse, dense)
    dense, sparse = clone(model), clone(model)
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):
        for stream, rows in ((dense, np.asfortranarray(X.toarray())), (sparse, X)):
            stream.partial_fit(rows[part], y[part])
    assert sparse._training["by_entries"] == dense._training["by_entries"] == by_entries
    assert_weights_agree(sparse, dense)


def test_a_stream_goes_on_as_its_first_rows_had_it():
    rng = np.random.default_rng(0)
    chunks = [random_rows(40, 1100, share, rng) for share in (0.02, 0.5, 0.02)]
    for order in (chunks, chunks[::-1], chunks[1:]):
        model = GDRegressor()
        for X in order:
            model.partial_fit(X, np.arange(40.0))
        assert model._training["by_entries"] == (order[0].nnz < 0.05 * 40 * 1100)
    assert "by_entries" not in GDRegressor(learning_rate=0.01).partial_fit(X, np.arange(40.0))._training


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 64, 150])
def test_dense_rows_without_their_zeros_are_those_that_scipy_makes(m, dtype):
    X = random_rows(m, 30, 0.2, np.random.default_rng(0)).toarray().astype(dtype)
    X[0] = 0.0
    for table in (X, np.asfortranarray(X), np.zeros_like(X)):
        rows, expected = SparseRows.of_dense(table), sp.csr_array(table)
        assert rows.dtype == dtype
        assert rows.indices.dtype == np.int32
        for name in ("data", "indices", "indptr"):
            assert_array_equal(getattr(rows, name), getattr(expected, name))


def test_a_search_learns_from_wide_rows_as_separate_fits_do():
    rng = np.random.default_rng(0)
    X = random_rows(200, 1100, 0.03, rng)
    y = X @ rng.normal(size=1100)
    X, scores = X.toarray(), []
    grid = [{"alpha": [1e-3, 1e-2]}, {"solver": ["momentum"]}, {"learning_rate": [0.01]}]
    for Search in (GridSearchCV, GDGridSearchCV):
        search = Search(GDRegressor(batch_size=20, max_iter=3, tol=None, random_state=0), grid, cv=3)
        scores.append(search.fit(X, y).cv_results_["mean_test_score"])
    assert_allclose(scores[0], scores[1], atol=1e-9)


def assert_weights_agree(a, b):
    assert_allclose(weights_of(a), weights_of(b), rtol=0, atol=1e-8 * np.abs(weights_of(b)).max())


def weights_of(model):
    """All that was learned, in one array."""
    if hasattr(model, "coefs_"):
        return np.concatenate([np.ravel(part) for part in (*model.coefs_, *model.intercepts_)])
    return np.concatenate([model.coef_.ravel(), model.intercept_])


@pytest.mark.parametrize("params", [{}, {"average": True}, {"penalty": "l1", "alpha": 1e-3}], ids=label)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_automatic_rates_of_many_columns_come_as_near_to_the_optimum(params, batch_size, monkeypatch):
    """Columns are scaled and not centred, penalties act from visit to visit: other steps, the same end."""
    monkeypatch.setattr(_plan, "FEW_COLUMNS", 0)
    monkeypatch.setattr(_plan, "FEW_WEIGHTS", 0)
    monkeypatch.setattr(_plan, "mostly_zeros", sp.issparse)
    rng = np.random.default_rng(1)
    X = abs(random_rows(3000, 40, 0.15, rng))  # columns with means
    z = X @ rng.normal(size=40) * 2
    X = X @ sp.diags(10.0 ** rng.uniform(-3, 3, 40))
    D = X.toarray()
    labels = (z + rng.logistic(size=3000) > 0).astype(int)
    for Estimator, y in ((GDRegressor, z + rng.normal(size=3000)), (GDClassifier, labels)):
        exact = Estimator(penalty=params.get("penalty", "l2"), alpha=params.get("alpha", 1e-4)).fit(X, y)
        best = objective(exact, D, y)
        model = Estimator(batch_size=batch_size, random_state=0, **params)
        dense, sparse = (objective(m, D, y) for m in fits(model, D, X, y))
        assert sparse < best * 1.02 and sparse < dense * 1.002
        streams = [Estimator(batch_size=batch_size, random_state=0, **params) for _ in range(2)]
        for rows in np.array_split(np.arange(3000), 4) * 5:
            for stream, data in zip(streams, (D, X), strict=True):
                stream.partial_fit(data[rows], y[rows])
        dense, sparse = (objective(m, D, y) for m in streams)
        assert sparse < best * 1.2 and sparse < dense * 1.05


def test_batches_of_rows_that_hardly_overlap_learn_as_fast_as_single_rows():
    rng = np.random.default_rng(0)
    X = random_rows(3000, 1100, 0.01, rng)
    y = (X @ rng.normal(size=1100) + rng.logistic(size=3000) > 0).astype(int)
    one, sixteen = (GDClassifier(batch_size=n, max_iter=3, tol=None, random_state=0) for n in (1, 16))
    one, sixteen = (objective(m.fit(X, y), X.toarray(), y) for m in (one, sixteen))
    assert sixteen < one * 1.1


# ---- a row costs its entries -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"penalty": "l2", "learning_rate": 0.01},
        {"penalty": "l1", "learning_rate": 0.01},
        {"penalty": "elasticnet", "learning_rate": 0.01, "average": True},
        {"average": True, "learning_rate": 0.01},
        {"penalty": "elasticnet"},
        {"average": True},
    ],
    ids=label,
)
def test_a_row_costs_its_entries_not_its_columns(params):
    rng = np.random.default_rng(0)
    m, d = 3000, 1_000_000  # touching every weight for every row: 3e9 multiplications an epoch
    columns = rng.integers(0, d, (m, 5)).ravel()
    X = sp.csr_array((rng.standard_normal(5 * m), columns, np.arange(0, 5 * m + 1, 5)), shape=(m, d))
    model = GDClassifier(batch_size=1, solver="gd", max_iter=2, tol=None, **params)
    start = time.process_time()
    model.fit(X, rng.integers(0, 2, m))
    assert time.process_time() - start < 1.5


def test_full_batches_take_little_memory_beside_their_rows():
    """No column x column matrix, and no sums of every column for every block of rows."""
    rng = np.random.default_rng(0)
    X = random_rows(20_000, 5_000, 5e-3, rng)
    chunks = linear.Pass(SparseRows.of(X), 1).chunks
    assert 1 < chunks and 16 * chunks * X.shape[1] <= X.nnz
    X = random_rows(3000, 60_000, 3e-4, rng)
    model = GDClassifier(alpha=1e-3).fit(X, rng.integers(0, 2, 3000))
    assert model.stop_reason_ == "converged" and model.preconditioner_ == "diag"


def test_results_do_not_depend_on_threads():
    rng = np.random.default_rng(0)
    X = random_rows(20_000, 50, 0.3, rng)
    y = rng.integers(0, 3, 20_000)
    one, two = (GDClassifier(n_jobs=n).fit(X, y) for n in (1, 2))
    assert_array_equal(one.coef_, two.coef_)


# ---- kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("density", [0.02, 0.7])  # entry by entry; by BLAS
def test_second_moments_are_those_of_dense_rows(density, dtype):
    rng = np.random.default_rng(0)
    D = (rng.random((400, 90)) < density) * rng.normal(size=(400, 90)) + (np.arange(90) == 4) * 3.0
    D[:, 7], D[:, 8] = 0.1, 0.0
    D = D.astype(dtype)
    X, h, shift = (
        SparseRows.of(sp.csr_array(D)),
        rng.uniform(size=400) * (rng.random(400) < 0.9),
        rng.normal(size=90),
    )
    A = np.hstack([D - shift, np.ones((400, 1))])
    expected = (A.T * h) @ A
    assert_allclose(moments.weighted_gram(X, h, shift, 1), expected, atol=1e-11 * np.abs(expected).max())
    assert_allclose(moments.weighted_gram(D, h, shift, 1), expected, atol=1e-11 * np.abs(expected).max())
    weight = h.astype(dtype)
    for rows in (X, D):
        start, first, second = moments.column_moments(rows, weight, 2)
        assert_array_equal(start, D[0])
        centred = D.astype(float) - D[0]
        assert_allclose(first, weight.astype(float) @ centred, atol=1e-11)
        assert_allclose(second, weight.astype(float) @ centred**2, atol=1e-11)
        assert first[7] == second[7] == first[8] == 0  # constant columns to the last bit
        scale = np.linspace(0, 2, 90)
        norms = (((D - shift) * scale) ** 2).sum(axis=1)
        assert_allclose(moments.row_norms(rows, shift, scale, 2), norms, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_lengths_of_rows_count_a_column_by_how_many_rows_of_a_batch_have_it(batch_size):
    """Richtarik & Takac 2016: the others of a batch have it with its share of all rows."""
    X = sp.random(40, 6, density=0.3, format="csr", random_state=0)
    problem = LinearProblem(
        SparseRows.of(X), np.zeros((1, 40)), None, regression_loss("squared_error"), Penalty(), k=1,
        fit_intercept=True, n_threads=1,
    )  # fmt: skip
    D = X.toarray()
    met = 1 + (batch_size - 1) * (D != 0).mean(axis=0)
    assert_allclose(problem.row_norms(batch_size), D**2 @ met / batch_size)


# ---- formats and edges -----------------------------------------------------------------------------


def shuffled_within_rows(X):
    """The same matrix, its columns in no order."""
    X, rng = X.copy(), np.random.default_rng(0)
    for lo, hi in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        order = lo + rng.permutation(hi - lo)
        X.indices[lo:hi], X.data[lo:hi] = X.indices[order], X.data[order]
    X.has_sorted_indices = X.has_canonical_format = False
    return X


def doubled(X):
    """The same matrix, each entry as two halves."""
    X = sp.csr_array(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape, copy=True
    )
    return X


def with_64_bit_indices(X):
    X = X.copy()
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def read_only(X):
    X = X.copy()
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    return X


VARIANTS = {
    "csr_matrix": sp.csr_matrix,
    "unsorted": shuffled_within_rows,
    "doubled": doubled,
    "64-bit indices": with_64_bit_indices,
    "read-only": read_only,
    "explicit zeros": lambda X: sp.csr_array((X + doubled(X)) - X),
    **{
        name: getattr(sp, name) for name in ("csc_array", "coo_array", "lil_matrix", "bsr_array", "dok_array")
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_format_means_the_same_numbers(table, variant):
    X = VARIANTS[variant](table.X)
    before = X.copy()
    for model in (
        GDClassifier(),
        GDClassifier(
            batch_size=1, learning_rate=0.05, penalty="l1", average=True, max_iter=3, random_state=0
        ),
        GDClassifier(batch_size=4, random_state=0, max_iter=3),
        GDClassifier(hidden_layer_sizes=5, random_state=0, max_iter=3),
    ):
        reference = pickle.loads(pickle.dumps(model)).fit(table.X, table.three)
        model.fit(X, table.three)
        assert_allclose(model.predict_proba(X), reference.predict_proba(table.X), atol=1e-9)
        assert_allclose(model.predict_proba(X), model.predict_proba(table.D), atol=1e-12)
    assert (before != X).nnz == 0 and before.nnz == X.nnz


def test_integers_become_floats(table):
    X = sp.csr_array((3 * table.D).astype(int))
    assert_same(*fits(GDRegressor(), X.toarray(), X, table.y), 1e-7)


@pytest.mark.parametrize(
    "params", [{}, {"batch_size": 1}, {"batch_size": 1, "average": True}, {"solver": "adam"}]
)
def test_little_data_is_no_special_case(params):
    rng = np.random.default_rng(0)
    cases = [np.zeros((6, 4)), rng.normal(size=(1, 4)), rng.normal(size=(6, 1)), np.zeros((6, 1)), np.eye(6)]
    for D in cases:
        y = rng.normal(size=len(D))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = GDRegressor(random_state=0, **params).fit(sp.csr_array(D), y)
        assert np.isfinite(model.coef_).all() and model.predict(sp.csr_array(D)).shape == y.shape
        assert_array_equal(model.coef_[~D.any(axis=0)], 0.0)
        if not D.any() and not params:
            assert_allclose(model.intercept_, y.mean())


def test_an_invalid_matrix_is_an_error_not_a_crash(table):
    def broken(**parts):
        X = table.X.copy()
        for name, (position, value) in parts.items():
            getattr(X, name)[position] = value
        return X

    with pytest.raises(ValueError, match="point outside"):
        GDRegressor().fit(broken(indices=(3, 14)), table.y)
    with pytest.raises(ValueError, match="point outside"):
        GDRegressor().fit(broken(indices=(3, -1)), table.y)
    with pytest.raises(ValueError, match="point outside"):
        GDRegressor().fit(broken(indptr=(3, 10_000)), table.y)
    with pytest.raises(ValueError, match="NaN"):
        GDRegressor().fit(broken(data=(3, np.nan)), table.y)
    with pytest.raises(ValueError, match="infinity"):
        GDRegressor().fit(table.X, table.y).predict(broken(data=(3, np.inf)))
    with pytest.raises(ValueError, match="columns"):
        SparseRows.of(sp.csr_array((1, 2**31)))


# ---- networks --------------------------------------------------------------------------------------

NETWORKS = [
    {},
    {"solver": "gd", "hidden_layer_sizes": (9, 7), "activation": "relu"},
    {"penalty": "l1", "alpha": 0.01, "average": True},
    {"clip_norm": 0.5, "solver": "momentum"},
    {"batch_norm": True, "solver": "gd"},
    {"batch_size": 1},
    {"batch_size": "full"},
    {"early_stopping": True},
    {"hidden_layer_sizes": (2600,), "n_jobs": 2, "max_iter": 2, "batch_size": 64},  # pieces and threads
]


@pytest.mark.parametrize("params", NETWORKS, ids=label)
def test_networks_take_the_steps_of_dense_rows(table, params):
    common = {"hidden_layer_sizes": (8,), "batch_size": 16, "learning_rate": 0.01, "max_iter": 4}
    common |= {"tol": None, "random_state": 0, **params}
    for Estimator, y in ((GDRegressor, table.Y), (GDClassifier, table.binary), (GDClassifier, table.three)):
        D, X = np.tile(table.D, (1, 5)), sp.csr_array(np.tile(table.D, (1, 5)))
        dense, sparse = fits(Estimator(**common), D, X, y, sample_weight=table.s)
        for a, b in zip(dense.coefs_ + dense.intercepts_, sparse.coefs_ + sparse.intercepts_, strict=True):
            assert_allclose(b, a, atol=1e-8)
        assert_allclose(sparse.predict(X), dense.predict(D), atol=1e-8) if y.ndim == 2 else None
        assert sparse.score(X, y) == pytest.approx(dense.score(D, y))
        dense.partial_fit(D[:50], y[:50])
        sparse.partial_fit(X[:50], y[:50])
        assert_allclose(sparse.coefs_[0], dense.coefs_[0], atol=1e-8)


def test_networks_learn_sparse_columns_of_any_scale():
    rng = np.random.default_rng(0)
    X = random_rows(1000, 30, 0.2, rng)
    y = np.sin(0.3 * (X @ rng.normal(size=30)))
    X = X @ sp.diags(10.0 ** rng.uniform(-3, 3, 30))
    model = GDRegressor(hidden_layer_sizes=(30,), random_state=0, max_iter=200)
    dense, sparse = (m.score(X, y) for m in fits(model, X.toarray(), X, y))
    assert sparse > 0.6 and sparse > dense - 0.02


def test_a_networks_first_layer_is_not_densified():
    """A batch of 200 rows would be 1.6 GB."""
    rng = np.random.default_rng(0)
    X = random_rows(400, 1_000_000, 1e-5, rng)
    start = time.process_time()
    model = GDClassifier(hidden_layer_sizes=(2,), max_iter=2, tol=None, random_state=0)
    model.fit(X, rng.integers(0, 2, 400)).predict(X)
    assert time.process_time() - start < 4


# ---- sparse coefficients ---------------------------------------------------------------------------


def test_sparsified_coefficients_predict_and_go_on_training(table):
    for Estimator, y in ((GDRegressor, table.y), (GDRegressor, table.Y), (GDClassifier, table.three)):
        model = Estimator(penalty="l1", alpha=0.05, warm_start=True).fit(table.X, y)
        predictions, coef = model.predict(table.D), model.coef_
        assert model.sparsify() is model and sp.issparse(model.coef_) and model.coef_.nnz < coef.size
        model.sparsify()
        model = pickle.loads(pickle.dumps(model))
        for X in (table.D, table.X):
            assert_allclose(model.predict(X), predictions)
        assert_array_equal(model.densify().coef_, coef)
        assert_array_equal(model.densify().coef_, coef)
        model.sparsify().fit(table.X, y)
        assert isinstance(model.coef_, np.ndarray)
        assert_allclose(model.coef_, coef, atol=1e-4)
        model.sparsify().partial_fit(table.X, y)
        assert model.coef_.shape == coef.shape


def test_networks_have_no_sparse_coefficients(table):
    network = GDClassifier(hidden_layer_sizes=3, max_iter=2).fit(table.X, table.binary)
    assert not hasattr(network, "sparsify") and not hasattr(network, "densify")
