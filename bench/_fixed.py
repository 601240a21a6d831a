"""What fit, predict and a search cost when there is next to nothing to compute, and the floor below.

The floor is an estimator with the same parameters that validates all of them and the data by scikit-learn's
own functions, and does nothing else.
"""

import numpy as np
from _data import dense, linear_target
from _measure import alternate, print_table, show_seconds
from sklearn.base import BaseEstimator, is_classifier
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import validate_data

import fastgd
from fastgd import GDClassifier, GDRegressor


def floor_of(cls):
    """A class with the parameters of `cls` whose fit and predict do nothing but validate."""

    class Floor(cls):
        def fit(self, X, y):
            BaseEstimator._validate_params(self)
            _, y = validate_data(self, X, y)
            self.answer_ = y[:1]
            return self

        def predict(self, X):
            return np.repeat(self.answer_, len(validate_data(self, X, reset=False)))

    Floor.__name__ = f"floor of {cls.__name__}"
    return Floor()


def fixed(quick):
    """fit of 100 x 5 and predict of one row; then a search over 20 learning rates."""
    X = dense(100, 5)
    y = linear_target(X)
    number = 20 if quick else 200
    rows = []
    for estimators in (
        [GDRegressor(), SGDRegressor(), LinearRegression()],
        [GDClassifier(), SGDClassifier(loss="log_loss"), LogisticRegression()],
    ):
        target = (y > 0).astype(int) if is_classifier(estimators[0]) else y
        estimators += [floor_of(type(estimator)) for estimator in estimators]
        fits = alternate(*(lambda e=e, t=target: e.fit(X, t) for e in estimators), number=number)
        predictions = alternate(*(lambda e=e: e.predict(X[:1]) for e in estimators), number=number)
        for estimator, fit, predict in zip(estimators, fits, predictions, strict=True):
            cells = [f"{1e6 * fit:.0f}", f"{fits[0] / fit:.2f}"]
            cells += [f"{1e6 * predict:.0f}", f"{predictions[0] / predict:.2f}"]
            score = "" if "floor" in type(estimator).__name__ else f"{estimator.score(X, target):.3f}"
            rows.append([type(estimator).__name__, *cells, score])
    header = "|fit, us|fastgd / this|predict, us|fastgd / this|training score".split("|")
    note = "floor: validation of parameters and data by scikit-learn's functions, and nothing else."
    print_table("Fixed cost: fit of 100 x 5, predict of one row", header, rows, note)
    grid_search()


def grid_search():
    """20 learning rates, the same for all: SGDRegressor, the same updates, full batches, and the floor."""
    X = dense(1_000, 20)
    y = linear_target(X)
    rates = np.logspace(-4, -1.5, 20)
    same = dict(learning_rate="constant", shuffle=False, tol=None, max_iter=20)
    twin = GDRegressor(batch_size=1, solver="gd", preconditioner=None, **same)
    searches = {
        "SGDRegressor()": GridSearchCV(SGDRegressor(random_state=0), {"eta0": rates}),
        "GDRegressor()": GridSearchCV(GDRegressor(), {"learning_rate": rates}),
        "SGDRegressor, 20 epochs": GridSearchCV(SGDRegressor(**same), {"eta0": rates}),
        "GDRegressor, the same updates": GridSearchCV(twin, {"eta0": rates}),
        "floor": GridSearchCV(floor_of(GDRegressor), {"learning_rate": rates}),
    }
    if hasattr(fastgd, "GDGridSearchCV"):
        together = fastgd.GDGridSearchCV(GDRegressor(), {"learning_rate": rates})
        searches["GDGridSearchCV(GDRegressor())"] = together
    times = alternate(*(lambda s=s: s.fit(X, y) for s in searches.values()), rounds=3)
    rows = []
    for (name, search), time in zip(searches.items(), times, strict=True):
        ((parameter, rate),) = search.best_params_.items()
        cells = [show_seconds(time), f"{time / times[0]:.2f}"]
        cells += ["", ""] if name == "floor" else [f"{search.best_score_:.6f}", f"{parameter}={rate:.2g}"]
        rows.append([name, *cells])
    header = ["", "time", "/ SGDRegressor()", "best R^2", "best rate"]
    print_table("GridSearchCV, 20 learning rates x 5 folds, 1,000 x 20", header, rows)
