"""Small data shared by all tests: well-behaved, noisy (no class separable), always the same."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window


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
