"""A fit reads X where it lies: beyond it, some vectors of rows and matrices of columns are all it needs."""

import tracemalloc

import numpy as np
import pytest

from fastgd import GDClassifier, GDRegressor

M, D = 20_000, 200
FULL_BATCH = {
    "least squares": (GDRegressor, {}),
    "lasso": (GDRegressor, {"penalty": "l1", "alpha": 0.1}),
    "a given rate": (GDRegressor, {"solver": "gd", "learning_rate": 0.1, "max_iter": 20}),
    "huber": (GDRegressor, {"loss": "huber"}),
    "median": (GDRegressor, {"loss": "absolute_error", "max_iter": 50}),
    "logistic": (GDClassifier, {}),
    "hinge": (GDClassifier, {"loss": "hinge", "max_iter": 50}),
}
MINI_BATCH = {
    "single rows": (GDRegressor, {"batch_size": 1, "max_iter": 2}),
    "single rows, averaged, L1": (
        GDClassifier,
        {"batch_size": 1, "max_iter": 2, "penalty": "l1", "average": True},
    ),
    "adam": (GDClassifier, {"batch_size": 32, "solver": "adam", "max_iter": 2}),
    "network": (GDClassifier, {"hidden_layer_sizes": (16,), "max_iter": 2}),
}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((M, D))
    y = X[:, :5].sum(axis=1) + rng.standard_normal(M)
    X.flags.writeable = False
    return X, y


def peak_of_fit(Estimator, settings, X, y):
    """Bytes allocated at most while fitting."""
    y = y > 0 if Estimator is GDClassifier else y
    tracemalloc.start()
    try:
        Estimator(**settings).fit(X, y)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("case", FULL_BATCH)
def test_full_batch_copies_neither_rows_nor_columns(table, case, order):
    X = np.asarray(table[0], order=order)
    matrices = 12 * 8 * (D + 1) ** 2
    assert peak_of_fit(*FULL_BATCH[case], X, table[1]) < 0.1 * X.nbytes + matrices


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", MINI_BATCH)
def test_mini_batches_copy_no_rows(table, case):
    X = table[0]
    assert peak_of_fit(*MINI_BATCH[case], X, table[1]) < 0.1 * X.nbytes + 12 * 8 * (D + 1) ** 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", ["least squares", "logistic", "single rows", "huber", "hinge"])
def test_many_rows_in_single_precision_need_little_beside_them(case):
    """Of 400 bytes a row: what is kept per row counts twice as much as beside float64."""
    X = np.random.default_rng(0).standard_normal((200_000, 100), dtype=np.float32)
    settings = (FULL_BATCH | MINI_BATCH)[case]
    assert peak_of_fit(*settings, X, X[:, 0]) < 0.1 * X.nbytes
