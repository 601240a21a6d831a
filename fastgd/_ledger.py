"""scikit-learn's search over fits that are done already.

Results, ranks, the choice of the best candidate and its refit are scikit-learn's code: `Ledger` is its
GridSearchCV, whose loop over candidates and splits meets a single stand-in (at 0.3 ms a fit the loop would
cost more than the descents), and whose results are made from the scores that it was given.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection._search import _insert_error_scores, _warn_or_raise_about_fit_failures

FITTED = (
    "multimetric_", "best_index_", "best_score_", "best_params_", "refit_time_", "cv_results_", "n_splits_",
)  # fmt: skip


class _StandIn(BaseEstimator):
    """Is fitted on a fold in no time; on the whole, it fits the real thing."""

    def __init__(self, refit):
        self.refit, self.params = refit, {}

    def __sklearn_clone__(self):
        return _StandIn(self.refit)

    def set_params(self, **params):
        self.params = params
        return self

    def fit(self, X, y=None):
        if len(X) > 1:
            self.model = self.refit(self.params)
        return self


class Ledger(GridSearchCV):
    """The rest of a search, once every candidate has been trained and scored."""

    @classmethod
    def close(cls, search, *, candidates, outs, more_results, n_splits, refit_metric, refit):
        """Set the learned attributes of `search`.

        Parameters
        ----------
        search : GridSearchCV or RandomizedSearchCV
        candidates : list of dict
            Settings of parameters.
        outs : list of dict
            What `_fit_and_score` would have returned, for every candidate and split.
        more_results : dict of str to list
            Further keys of `cv_results_`, one value for each candidate.
        n_splits : int
        refit_metric : str
        refit : callable (params) -> fitted estimator
        """
        _warn_or_raise_about_fit_failures(outs, search.error_score)
        if callable(search.scoring):
            _insert_error_scores(outs, search.error_score)
        ledger = cls(
            _StandIn(refit), {}, scoring=search.scoring, refit=search.refit, cv=[([0], [0])],
            error_score=search.error_score, return_train_score=search.return_train_score,
        )  # fmt: skip
        ledger._book = candidates, outs, more_results, n_splits, refit_metric
        ledger.fit(np.arange(2))
        ledger.n_splits_ = n_splits
        vars(search).update({name: value for name, value in vars(ledger).items() if name in FITTED})
        if search.refit:
            search.best_estimator_ = ledger.best_estimator_.model
            if hasattr(search.best_estimator_, "feature_names_in_"):
                search.feature_names_in_ = search.best_estimator_.feature_names_in_

    def _run_search(self, evaluate_candidates):
        evaluate_candidates([{}])

    def _get_scorers(self):
        _, outs, *_, refit_metric = self._book
        score = outs[0]["test_scores"]
        return (lambda estimator, X: dict(score) if isinstance(score, dict) else score), refit_metric

    def _format_results(self, candidate_params, n_splits, out, more_results=None):
        candidates, outs, more, n_splits, _ = self._book
        return super()._format_results(candidates, n_splits, outs, more)
