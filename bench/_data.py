"""The tables that the benchmarks run on: seeded, made or read here.

X : ndarray of shape (n_samples, n_features), y : ndarray of shape (n_samples,).
"""

from pathlib import Path

import numpy as np

MNIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist.npz"
LEVELS = (3, 7, 12, 20, 33, 60)  # sizes of the categorical columns of `realistic`


def dense(m, d, dtype=np.float64, order="C", seed=0):
    """Standard normal X of shape (m, d), filled in place: no second array of its size exists."""
    X = np.empty((m, d) if order == "C" else (d, m), dtype)
    np.random.default_rng(seed).standard_normal(out=X, dtype=X.dtype)
    return X if order == "C" else X.T


def linear_target(X, seed=1):
    """Noisy linear y of unit scale, in the dtype of X."""
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal(X.shape[1]) / np.sqrt(X.shape[1])).astype(X.dtype)
    return X @ w + rng.standard_normal(len(X)).astype(X.dtype)


def realistic(m, d, seed=0):
    """A wide table as they come: one-hot categories beside correlated numbers, standardised.

    Ill-conditioned for the reasons that real tables are: a rare category of probability p becomes
    a column with entries near sqrt(1 / p), the dummies of one category sum to a constant, and the
    numbers are correlated and heavy-tailed.
    Returns X, y for a regression, and labels of two classes, about one in four positive.
    """
    rng = np.random.default_rng(seed)
    X = np.zeros((m, d))
    start = 0
    for n_levels in LEVELS:
        if start + n_levels > 0.85 * d:
            break
        weight = np.arange(1, n_levels + 1) ** -2.5
        level = rng.choice(n_levels, size=m, p=weight / weight.sum())
        X[np.arange(m), start + level] = 1.0
        start += n_levels
    numbers = X[:, start:]
    numbers[:] = rng.standard_t(3, numbers.shape)
    numbers += rng.standard_t(3, (m, 6)) @ rng.standard_normal((6, d - start))
    numbers[:, ::3] = np.exp(np.clip(numbers[:, ::3] / 4, -8, 8))
    X -= X.mean(axis=0)
    scale = X.std(axis=0)
    X /= np.where(scale > 0, scale, 1.0)
    z = X @ rng.standard_normal(d)
    z /= z.std()
    return X, z + rng.standard_t(3, m), (z + rng.logistic(size=m) > 1.25).astype(int)


def mnist(test=False):
    """The 60,000 training digits, or the 10,000 test digits, as float32 in [0, 1], and their labels.

    None where the file is missing.
    """
    if not MNIST.exists():
        return None
    part = "test" if test else "train"
    with np.load(MNIST) as arrays:
        return arrays[f"X_{part}"].astype(np.float32) / 255, arrays[f"y_{part}"].astype(int)
