"""Scores of the candidates of a fold: R^2 and accuracy of all at once, any other scorer one by one."""

from time import perf_counter
from typing import NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _score

from ._threads import blas_threads

PREDICTORS = 2**16  # numbers
ROUNDING = 1e-13  # of a sum over rows, as a share of its terms' sizes
NEGLIGIBLE = 1e-9  # of a score


class Rows(NamedTuple):
    """What candidates are scored on.

    X : callable () -> ndarray or CSR matrix of shape (m, d)
    y : ndarray of shape (m,) or (m, k)
    weight : array-like of shape (m,) or None
    quadratic : Quadratic or None
        The squared error on these rows.
    """

    X: object
    y: np.ndarray
    weight: object = None
    quadratic: object = None


class Scoring:
    """How a search scores.

    Parameters
    ----------
    scorers : callable
        As `_get_scorers` of the search returns them.
    scoring : str, callable, ... or None
        As the user gave it.
    error_score : "raise" or number
    return_train_score : bool

    Attributes
    ----------
    parts : tuple of str
        "test", and "train" where it is scored too.
    plain : bool
        Whether the scorers see no more of a model than its predictions.
    """

    def __init__(self, scorers, scoring, error_score, return_train_score):
        self.scorers, self.scoring, self.error_score = scorers, scoring, error_score
        self.parts = ("test", "train") if return_train_score else ("test",)
        each = getattr(scorers, "_scorers", {"score": scorers}).values()
        self.plain = all(isinstance(scorer, (_BaseScorer, _PassthroughScorer)) for scorer in each)

    def failed(self):
        """Scores of a candidate that was not trained."""
        names = getattr(self.scorers, "_scorers", None)
        score = dict.fromkeys(names, self.error_score) if names else self.error_score
        return {f"{part}_scores": score for part in self.parts}

    def one(self, model, rows, strict=False):
        """Scores of a fitted model.

        Parameters
        ----------
        rows : dict of "test" and "train" to (X, y, params of the scorers)
        strict : bool
            Whether to raise what scorers raise, whatever `error_score` is.
        """
        scorers, error_score, scores = self.scorers, self.error_score, {}
        if strict:
            names = getattr(scorers, "_scorers", None)
            scorers, error_score = _MultimetricScorer(scorers=names) if names else scorers, "raise"
        for part in self.parts:
            X, y, params = rows[part]
            scores[f"{part}_scores"] = _score(model, X, y, scorers, params, error_score)
        return scores

    def together(self, estimator, thetas, classes, rows, loss):
        """Scores of linear models by their parameters, or None where only their scorer knows.

        Parameters
        ----------
        estimator : GDRegressor or GDClassifier
            Any of them.
        thetas : ndarray of shape (n, k, d + 1)
        rows : dict of "test" and "train" to Rows, validated

        Returns
        -------
        scores : list of (scores, seconds), or None of a candidate whose score is not finite
        """
        metric = "accuracy" if is_classifier(estimator) else "r2"
        if self.scoring not in (None, metric):
            return None
        start, scores = perf_counter(), {}
        with blas_threads(1):  # other descents follow: see `blas_between_fits`
            for part in self.parts:
                if metric == "r2":
                    scores[part] = _r2(rows[part], thetas, loss.inverse_link)
                else:
                    scores[part] = _accuracy(rows[part], thetas, classes)
                if scores[part] is None:
                    return None
        columns = [[float(s) for s in scores[part]] for part in self.parts]
        names = [f"{part}_scores" for part in self.parts]
        seconds = (perf_counter() - start) / len(thetas)
        return [
            (dict(zip(names, row, strict=True)), seconds) if np.isfinite(row).all() else None
            for row in zip(*columns, strict=True)
        ]


def _predictors(X, thetas):
    """(rows, X theta) of every model in X's dtype, (n, k, rows), as many rows at a time as a cache holds."""
    n, k, p = thetas.shape
    thetas = thetas.reshape(n * k, p).astype(X.dtype)
    at_a_time = max(256, PREDICTORS // (n * k))
    for first in range(0, X.shape[0], at_a_time):
        rows = slice(first, first + at_a_time)
        Z = thetas[:, :-1] @ X[rows].T
        Z += thetas[:, -1:]
        yield rows, Z.reshape(n, k, -1)


def _r2(rows, thetas, inverse_link):
    """`sklearn.metrics.r2_score` of every model, (n,); None where that would not be a plain quotient."""
    y, m = rows.y, len(rows.y)
    if y.dtype.kind not in "fiu" or m < 2:
        return None
    y = np.ascontiguousarray(y.reshape(m, -1).T, dtype=np.float64)  # (k, m)
    weight = np.ones(1) if rows.weight is None else np.asarray(rows.weight, dtype=np.float64)
    if not np.sum(weight) > 0:
        return None
    weight = np.broadcast_to(weight, m)
    total = _squares(y - np.average(y, axis=1, weights=weight)[:, None], weight)
    if not total.all():
        return None
    left = None
    if rows.quadratic is not None and rows.weight is None:
        left = m * _mean_squares(rows.quadratic, thetas, total / m)
    if left is None or not np.isfinite(left).all():
        left = np.zeros(thetas.shape[:2])
        for part, Z in _predictors(rows.X(), thetas):
            left += _squares(y[:, part] - inverse_link(Z), weight[part])
    return (1 - left / total).mean(axis=-1)


def _mean_squares(quadratic, thetas, total):
    """Mean squared residuals (n, k) without a look at the rows; NaN where rounding might show in a score.

    total : ndarray of shape (k,)
        Mean squares that a score compares them with.
    """

    def value(value, gradient, hessian, u):
        return 2 * value + ((2 * gradient + u @ hessian) * u).sum(axis=-1)

    squares = value(quadratic.value, quadratic.gradient, quadratic.hessian, thetas)
    terms = value(quadratic.value, abs(quadratic.gradient), abs(quadratic.hessian), abs(thetas))
    return np.where(ROUNDING * terms <= NEGLIGIBLE * np.maximum(squares, total), squares, np.nan)


def _squares(residual, weight):
    """Weighted sums of squares over the last axis."""
    return np.einsum("m,...m,...m->...", weight, residual, residual)


def _accuracy(rows, thetas, classes):
    """`sklearn.metrics.accuracy_score` of every model; None where there is no weight."""
    y = rows.y
    if rows.weight is not None and not np.sum(rows.weight) > 0:
        return None
    labels = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    labels[classes[labels] != y] = -1  # a class that was not trained on
    right = np.empty((len(thetas), len(y)), dtype=bool)
    for part, Z in _predictors(rows.X(), thetas):
        index = Z[:, 0] > 0 if Z.shape[1] == 1 else Z.argmax(axis=1)
        right[:, part] = index == labels[part]
    # sums in the order of scikit-learn's: in any other, equal scores may differ
    return [np.average(each, weights=rows.weight) for each in right]
