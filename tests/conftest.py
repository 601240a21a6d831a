"""Small data shared by all tests: well-behaved, noisy (no class separable), always the same."""

import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastgd import GDClassifier, GDRegressor

os.environ["MPLBACKEND"] = "Agg"  # no test opens a window
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def data():
    """X (150, 6), weights s; targets y, Y (two outputs), binary, three (classes), counts, ..."""
    rng = np.random.default_rng(0)
    m, d = 150, 6
    X = rng.normal(size=(m, d)) + 0.3
    z = X @ rng.normal(size=d) / 2
    return SimpleNamespace(
        X=X,
        y=z + rng.standard_t(4, size=m) / 2,
        Y=np.column_stack([z + rng.normal(size=m), rng.normal(size=m) - z / 2]),
        binary=np.where(z + rng.logistic(size=m) > 0, "yes", "no"),
        three=np.digitize(z + rng.logistic(size=m), [-0.7, 0.7]),
        counts=rng.poisson(np.exp(z / 2)).astype(float),
        positive=np.exp(z / 2) * rng.gamma(2, size=m) / 2,
        s=np.where(np.arange(m) % 10 == 0, 0.0, rng.uniform(0.3, 2, size=m)),
    )


@pytest.fixture(scope="session")
def noisy():
    """By estimator, X and y to train on and held out: so noisy that scores rise, and fall again."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 40))
    z = X[:, 0] + X[:, 1]
    y, c = z + 2 * rng.normal(size=120), np.digitize(z + 2 * rng.normal(size=120), [-0.5, 0.5])
    train, held = slice(0, 60), slice(60, 120)
    return {
        GDRegressor: (X[train], y[train], X[held], y[held]),
        GDClassifier: (X[train], c[train], X[held], c[held]),
    }
