"""GDGridSearchCV, GDRandomizedSearchCV: scikit-learn's searches, whose candidates are trained together.

Splitters, routing, scorers, results and refit are scikit-learn's. What can be shared is trained and scored
in `_evaluation.py`, and its scores are handed over to scikit-learn's own search (`_ledger.py`). Where nothing
can be shared, it is that search from the start.
"""

from numbers import Integral

from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, RandomizedSearchCV

from ._evaluation import Evaluation
from ._ledger import Ledger
from ._scoring import Scoring
from ._splits import Data, Model


class _SharedTraining:
    """What the searches have in common; they differ in the settings of parameters that they try."""

    def fit(self, X, y=None, **params):
        """Train and score every candidate on every fold, then refit the best.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        **params : dict
            ``sample_weight``, ``groups``, and what else estimator, scorers and splitter take.

        Returns
        -------
        self

        Raises
        ------
        DivergenceError
            With ``error_score="raise"``, if a candidate diverges.
        ValueError
            If every fit fails.
        """
        self._validate_params()
        model = Model.of(self.estimator)
        if model is None or y is None or _watched([self, *model.parts]):
            return super().fit(X, y, **params)
        settings = self._settings()
        shares = [model.share_out(setting) for setting in settings]
        if not settings or None in shares:
            return super().fit(X, y, **params)

        scorers, refit_metric = self._get_scorers()
        data = Data.make(self, X, y, params)
        scoring = Scoring(scorers, self.scoring, self.error_score, self.return_train_score)
        evaluation = Evaluation(model, settings, shares, data, scoring, self.n_jobs, self.verbose)
        if not evaluation.run():
            return self._fit_on_splits(data.splits, X, y, params)

        def refit(best):
            with config_context(assume_finite=True if evaluation.seen_all else None):  # None: as it is
                return clone(self.estimator).set_params(**best).fit(X, y, **data.fit_params)

        Ledger.close(
            self, candidates=settings, outs=evaluation.outs, more_results=evaluation.more_results(),
            n_splits=len(data.splits), refit_metric=refit_metric,
            refit=refit,
        )  # fmt: skip
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        return self

    def _fit_on_splits(self, splits, X, y, params):
        """scikit-learn's way; splits that are drawn are not drawn again."""
        cv, self.cv = self.cv, splits
        try:
            return super().fit(X, y, **params)
        finally:
            self.cv = cv


_DOC = """{title}

    Same interface and same results as {peer}. Linear models that see the full batch are trained
    together. Squared error needs one Gram matrix per fold, from one reading of the rows: every rate of plain
    gradient descent then follows in closed form, any other method iterates on that matrix. With other losses
    and explicit rates all candidates descend in step, one pass over the rows for all; with automatic rates
    they share rows and Gram matrix. With mini-batches and single rows, dense or sparse, candidates share the
    rows of a fold and their order, if `random_state` is an int or `shuffle` is False; they take the very
    steps of their own fits, as many at a time as the estimator's `n_jobs` has threads. A candidate that
    diverges scores `error_score` and costs the others nothing; `cv_results_` says why. In a Pipeline the
    steps before the last are fitted once for each fold and each setting of theirs. What cannot be shared
    (networks, early stopping, full batches of sparse rows, orders of rows that are random for every fit) is
    fitted one by one, and so is everything where callbacks watch.

    Parameters
    ----------
    estimator : GDRegressor, GDClassifier, or a Pipeline that ends in one
        Any other estimator is searched as {peer} does it.
    {parameters}
    scoring : str, callable, list, tuple, dict or None, default=None
        None is the estimator's own: R^2 or accuracy. These two are computed for all candidates at once.
    n_jobs : int or None, default=None
        Processes for fits that are not shared.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows; the name of the scorer that decides; a function that
        chooses from `cv_results_`.
    cv : int, cross-validation generator or iterable, default=None
        None is five folds.
    verbose : int, default=0
    pre_dispatch : int or str, default="2*n_jobs"
        Of fits that are not shared.{random_state}
    error_score : "raise" or number, default=np.nan
        Score of a candidate whose fit fails.
    return_train_score : bool, default=False

    Attributes
    ----------
    cv_results_ : dict of ndarrays
        With the keys of {peer}, and of every candidate ``divergence`` (why it diverged, or an empty
        string), ``split<i>_n_iter``, ``mean_n_iter``, ``split<i>_final_loss``, ``mean_final_loss`` (objective
        of the training rows at the end); NaN where a fit failed. Times of candidates trained together are
        shares of the whole.
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As those of {peer}.

    Warns
    -----
    FitFailedWarning
        If some fits failed, by divergence above all.
    ConvergenceWarning
        If `max_iter` ended some descents; one warning for all.

    Examples
    --------
    {example}
    """

_GRID_EXAMPLE = """>>> from sklearn.datasets import load_diabetes
    >>> from fastgd import GDGridSearchCV, GDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> grid = {"learning_rate": [0.01, 0.1, 1.0], "alpha": [0.0, 1e-3, 1e-2]}
    >>> search = GDGridSearchCV(GDRegressor(solver="gd", tol=None), grid).fit(X, y)
    >>> search.best_params_
    {'alpha': 0.0, 'learning_rate': 1.0}"""

_RANDOMIZED_EXAMPLE = """>>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd import GDRandomizedSearchCV, GDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> rates = {"learning_rate": loguniform(0.01, 1)}
    >>> search = GDRandomizedSearchCV(GDRegressor(solver="gd", max_iter=5000), rates, random_state=0)
    >>> len(search.fit(X, y).cv_results_["params"])
    10"""


class GDGridSearchCV(_SharedTraining, GridSearchCV):
    __doc__ = _DOC.format(
        title="Grid search whose candidates train together.",
        peer="GridSearchCV",
        parameters="param_grid : dict of lists, or list of such dicts",
        random_state="",
        example=_GRID_EXAMPLE,
    )

    def _settings(self):
        return list(ParameterGrid(self.param_grid))


class GDRandomizedSearchCV(_SharedTraining, RandomizedSearchCV):
    __doc__ = _DOC.format(
        title="Randomised search whose candidates train together.",
        peer="RandomizedSearchCV",
        parameters="""param_distributions : dict of lists or distributions, or list of such dicts
    n_iter : int, default=10
        Candidates that are drawn.""",
        random_state="\n    random_state : int, RandomState instance or None, default=None",
        example=_RANDOMIZED_EXAMPLE,
    )

    def _settings(self):
        """None where drawing twice would not draw the same."""
        if not (self.random_state is None or isinstance(self.random_state, Integral)):
            return []
        return list(ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state))


def _watched(estimators):
    """Whether callbacks want to see every fit."""
    return any(getattr(estimator, "_skl_callbacks", None) for estimator in estimators)
