"""``python -m fastgd``: both estimators on real data, beside scikit-learn's, in under a minute.

In: the data sets that scikit-learn ships. Out: progress, then one table of cross-validated scores
and times. Every row is treated alike: a pipeline of StandardScaler and the estimator, scored with
its defaults and after a GridSearchCV over the same learning rates, on the same five folds.
"""

import argparse
import sys
import warnings
from time import perf_counter
from typing import NamedTuple

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from . import GDClassifier, GDRegressor, __version__

FOLDS = 5
RATES = [0.001, 0.01, 0.1, 1.0]
GD_GRID = {"learning_rate": RATES}
SGD_GRID = {"learning_rate": ["constant"], "eta0": RATES}
NETWORK_RATES = [0.0001, 0.001, 0.01]


class Entry(NamedTuple):
    """One row of a data set: an estimator and the grid that tunes its learning rate."""

    name: str
    estimator: BaseEstimator
    grid: dict


REGRESSORS = [
    Entry("GDRegressor", GDRegressor(), GD_GRID),
    Entry("SGDRegressor", SGDRegressor(random_state=0), SGD_GRID),
]
CLASSIFIERS = [
    Entry("GDClassifier", GDClassifier(), GD_GRID),
    Entry("SGDClassifier", SGDClassifier(loss="log_loss", random_state=0), SGD_GRID),
]
NETWORKS = [  # one hidden layer of 100 tanh units, Adam
    Entry(
        "GDClassifier (100)",
        GDClassifier(hidden_layer_sizes=(100,), random_state=0),
        {"learning_rate": NETWORK_RATES},
    ),
    Entry(
        "MLPClassifier (100)",
        MLPClassifier(hidden_layer_sizes=(100,), activation="tanh", random_state=0),
        {"learning_rate_init": NETWORK_RATES},
    ),
]
CONTESTS = {
    "diabetes": (load_diabetes, REGRESSORS),
    "breast cancer": (load_breast_cancer, CLASSIFIERS),
    "digits": (load_digits, [*CLASSIFIERS, *NETWORKS]),
}
HEADER = ["data", "estimator", "defaults", "time", "tuned", "best rate", "worst rate", "time"]
DESCRIPTION = """Train both estimators in pipelines on real data that scikit-learn ships, tune their learning
rates, and print accuracy and time beside scikit-learn's own SGD and MLP."""
NOTE = f"""
Means over {FOLDS} held-out folds: R^2 for diabetes, accuracy of log-loss models for the others.
(100): a network with one hidden layer of 100 tanh units; the others are linear.
defaults: the estimator as it is. tuned: the best of {len(RATES)} learning rates, and which it is; of
{len(NETWORK_RATES)} for the networks.
worst rate: the lowest score in that search; "error" where a rate made the fit raise one.
"""


def run(entry, X, y):
    """Cells of one row: mean scores, and the time of all the fits behind each."""
    pipeline = Pipeline([("scale", StandardScaler()), ("model", entry.estimator)])
    start = perf_counter()
    score = cross_val_score(pipeline, X, y, cv=FOLDS).mean()
    score_time = perf_counter() - start

    grid = {f"model__{name}": values for name, values in entry.grid.items()}
    search = GridSearchCV(pipeline, grid, cv=FOLDS)
    if bar := progress_bar():
        search.set_callbacks(bar)
    start = perf_counter()
    search.fit(X, y)
    search_time = perf_counter() - start

    rate = next(value for value in search.best_params_.values() if isinstance(value, float))
    worst = np.min(search.cv_results_["mean_test_score"])  # NaN where a rate raised
    lowest = "error" if np.isnan(worst) else f"{worst:.4g}"
    tuned = [f"{search.best_score_:.4f}", f"{rate:g}", lowest, f"{search_time:.2f} s"]
    return [f"{score:.4f}", f"{score_time:.2f} s", *tuned]


def progress_bar():
    """scikit-learn's bar (1.9 or later, with rich) for a search that is watched on a terminal."""
    if not sys.stdout.isatty():
        return None
    try:
        from sklearn.callback import ProgressBar

        return ProgressBar(max_propagation_depth=0)
    except ImportError:
        return None


def print_table(rows):
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    for row in (HEADER, ["-" * width for width in widths], *rows):
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m fastgd", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"fastgd {__version__}")
    parser.parse_args(arguments)
    print(f"fastgd {__version__} beside scikit-learn {sklearn.__version__}\n")
    rows = []
    for number, (data, (load, entries)) in enumerate(CONTESTS.items(), start=1):
        X, y = load(return_X_y=True)
        for entry in entries:
            shape = f"{len(X):,} x {X.shape[1]}"
            print(f"[{number}/{len(CONTESTS)}] {data}, {shape}: {entry.name}", flush=True)
            rows.append([data, entry.name, *run(entry, X, y)])
    print(NOTE)
    print_table(rows)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a search over rates meets some that do not converge
        main()
