"""What a search works on: the model's parts, the data as scikit-learn routes them, and the splits.

A `Split` has the rows of a fold as an ordinary fit or scorer is given them; the arrays that candidates share
are those of `_folds.py`.
"""

from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from ._estimators import GDClassifier, GDRegressor

OURS = (GDRegressor, GDClassifier)


class Model:
    """A GD estimator, by itself or as the last step of a Pipeline.

    Attributes
    ----------
    whole : estimator
    final : GDRegressor or GDClassifier
    steps : list of str
        Names of a pipeline's steps; empty without one.
    prefix : str
        Of the final step's parameters.
    parts : list of estimators
    """

    def __init__(self, whole, final, steps=(), parts=()):
        self.whole, self.final, self.steps = whole, final, list(steps)
        self.prefix = f"{self.steps[-1]}__" if steps else ""
        self.parts = [whole, *parts]
        self.known = set(final.get_params(deep=False)) if type(final) in OURS else set()

    @classmethod
    def of(cls, estimator):
        """None for what is not ours."""
        if type(estimator) in OURS:
            return cls(estimator, estimator)
        if type(estimator) is Pipeline and estimator.steps and type(estimator.steps[-1][1]) in OURS:
            names, parts = zip(*estimator.steps, strict=True)
            return cls(estimator, parts[-1], names, parts)
        return None

    @classmethod
    def opaque(cls, whole):
        """A model that is not looked into."""
        return cls(whole, whole)

    def share_out(self, setting):
        """Parameters of the steps before the last and of the last: two dicts. None if there are others."""
        before, own = {}, {}
        for name, value in setting.items():
            if name.startswith(self.prefix) and name.removeprefix(self.prefix) in self.known:
                own[name.removeprefix(self.prefix)] = value
            elif name.partition("__")[0] in self.steps[:-1]:
                before[name] = value
            else:
                return None
        return before, own

    def front(self, before):
        """The steps before the last, not fitted; None where there are none."""
        if len(self.steps) < 2:
            return None
        return clone(self.whole).set_params(**clone(before, safe=False))[:-1]

    def candidate(self, setting, own):
        """What is to be fitted on the rows of a `Split`."""
        if self.steps:
            return clone(self.final).set_params(**clone(own, safe=False))
        return clone(self.whole).set_params(**clone(setting, safe=False))

    def joined(self, front, final):
        """The fitted model of its fitted parts."""
        if not self.steps:
            return final
        return Pipeline([*(front.steps if front is not None else []), (self.steps[-1], final)])


@dataclass
class Data:
    """What `fit` was given, split and routed by scikit-learn's rules."""

    X: object
    y: object
    splits: list
    fit_params: dict
    score_params: dict

    @classmethod
    def make(cls, search, X, y, params):
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = search._get_routed_params_for_fit(params)
        cv = check_cv(search.cv, y, classifier=is_classifier(search.estimator))
        splits = [tuple(map(np.asarray, pair)) for pair in cv.split(X, y, **routed.splitter.split)]
        expected = cv.get_n_splits(X, y, **routed.splitter.split)
        if len(splits) != expected:
            raise ValueError(
                f"cv.split and cv.get_n_splits return inconsistent results. Expected {expected} splits, "
                f"got {len(splits)}"
            )
        return cls(X, y, splits, routed.estimator.fit, routed.scorer.score)

    def params_of(self, params, rows):
        return _check_method_params(self.X, params=params, indices=rows)


class Split:
    """One split as fits and scorers that know nothing of ours want it: rows as they are, or transformed.

    Raises whatever the steps before the last raise when they are fitted.
    """

    def __init__(self, data, model, number, before=None):
        self.data, self.model, self.number = data, model, number
        self.train, self.test = data.splits[number]
        self.front = model.front(before or {})
        self.score_params = [data.params_of(data.score_params, rows) for rows in (self.test, self.train)]
        params = data.params_of(data.fit_params, self.train)
        self.fit_params = {name.removeprefix(model.prefix): value for name, value in params.items()}
        if self.front is not None:
            start = perf_counter()
            transformed = (
                self.front.fit_transform(*self.given_train),
                self.front.transform(self.given_test[0]),
            )
            self.final_train = transformed[0], self.given_train[1]
            self.final_test = transformed[1], self.given_test[1]
            self.seconds = perf_counter() - start

    seconds = 0.0

    @cached_property
    def given_train(self):
        """(X, y) as they are."""
        return _safe_split(self.model.whole, self.data.X, self.data.y, self.train)

    @cached_property
    def given_test(self):
        return _safe_split(self.model.whole, self.data.X, self.data.y, self.test, self.train)

    @cached_property
    def final_train(self):
        """(X, y) as the last step sees them."""
        return self.given_train

    @cached_property
    def final_test(self):
        return self.given_test

    def rows(self, plain, parts):
        """Rows and parameters for scorers; `plain` ones see no more of a model than its predictions."""
        stage, params = (
            "final" if plain else "given",
            dict(zip(("test", "train"), self.score_params, strict=True)),
        )
        return {part: (*getattr(self, f"{stage}_{part}"), params[part]) for part in parts}

    @property
    def weight(self):
        """Sample weights of the training rows, or None."""
        return self.fit_params.get("sample_weight")

    def scored_as(self, final, plain):
        return final if plain else self.model.joined(self.front, final)

    def close(self):
        """Let go of copies."""
        for name in ("given_train", "given_test", "final_train", "final_test"):
            if self.front is None:
                vars(self).pop(name, None)
