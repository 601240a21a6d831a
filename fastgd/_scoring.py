"""Scores of the candidates of a fold: R^2 and accuracy of all at once, any other scorer one by one."""

from time import perf_counter

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics._scorer import _BaseScorer, _PassthroughScorer
from sklearn.model_selection._validation import _score


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

    def one(self, model, rows):
        """Scores of a fitted model.

        Parameters
        ----------
        rows : dict of "test" and "train" to (X, y, params of the scorers)
        """
        scores = {}
        for part in self.parts:
            X, y, params = rows[part]
            scores[f"{part}_scores"] = _score(model, X, y, self.scorers, params, self.error_score)
        return scores

    def together(self, estimator, thetas, classes, rows, loss):
        """Scores of linear models by their parameters, or None where only their scorer knows.

        Parameters
        ----------
        estimator : GDRegressor or GDClassifier
            Any of them.
        thetas : ndarray of shape (n, k, d + 1)
        rows : dict of "test" and "train" to (X, y, sample_weight or None), validated

        Returns
        -------
        scores : list of (scores, seconds)
        """
        metric = "accuracy" if is_classifier(estimator) else "r2"
        if self.scoring not in (None, metric):
            return None
        start, scores = perf_counter(), {}
        for part in self.parts:
            X, y, weight = rows[part]
            Z = _predictors(X, thetas)
            if metric == "r2":
                scores[part] = _r2(y, loss.inverse_link(Z), weight)
            else:
                scores[part] = _accuracy(y, classes, Z, weight)
            if scores[part] is None:
                return None
        columns = [[float(s) for s in scores[part]] for part in self.parts]
        names = [f"{part}_scores" for part in self.parts]
        seconds = (perf_counter() - start) / len(thetas)
        return [(dict(zip(names, row, strict=True)), seconds) for row in zip(*columns, strict=True)]


def _predictors(X, thetas):
    """X theta of every model in X's dtype, (n, k, m)."""
    n, k, p = thetas.shape
    thetas = thetas.reshape(n * k, p).astype(X.dtype)
    Z = thetas[:, :-1] @ X.T
    Z += thetas[:, -1:]
    return Z.reshape(n, k, len(X))


def _r2(y, predictions, weight):
    """`sklearn.metrics.r2_score` of every model, (n,); None where that would not be a plain quotient."""
    if y.dtype.kind not in "fiu" or len(y) < 2:
        return None
    y = np.ascontiguousarray(y.reshape(len(y), -1).T, dtype=np.float64)  # (k, m)
    weight = 1.0 if weight is None else np.asarray(weight, dtype=np.float64)
    if not np.sum(weight) > 0:
        return None
    total = _squares(y - _mean(y, weight), weight)
    if not total.all():
        return None
    return (1 - _squares(y - predictions, weight) / total).mean(axis=-1)


def _mean(y, weight):
    return np.average(y, axis=1, weights=None if np.isscalar(weight) else weight)[:, None]


def _squares(residual, weight):
    """Weighted sums of squares over the last axis."""
    return np.einsum("...m,...m->...", residual if np.isscalar(weight) else residual * weight, residual)


def _accuracy(y, classes, Z, weight):
    """`sklearn.metrics.accuracy_score` of every model, (n,)."""
    if weight is not None and not np.sum(weight) > 0:
        return None
    labels = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    labels[classes[labels] != y] = -1  # a class that was not trained on
    index = Z[:, 0] > 0 if Z.shape[1] == 1 else Z.argmax(axis=1)
    return np.average(index == labels, axis=1, weights=weight)
