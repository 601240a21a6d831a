"""GDRegressor and GDClassifier: how y is encoded for a loss, and predictions decoded."""

from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import softmax
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from . import _docs
from ._base import BaseGD, all_or_nothing
from ._callbacks import with_callbacks
from ._losses import (
    COUPLED,
    LOG_LINKS,
    MARGIN,
    REGRESSION,
    classification_loss,
    inverse_link,
    regression_loss,
)


class GDRegressor(RegressorMixin, BaseGD):
    __doc__ = _docs.REGRESSOR

    _parameter_constraints: dict = {
        **BaseGD._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION))],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }
    _y_checks = {"multi_output": True, "y_numeric": True}
    _splitter = ShuffleSplit

    def __init__(
        self,
        loss="squared_error",
        *,
        penalty="l2",
        alpha=1e-4,
        l1_ratio=0.15,
        fit_intercept=True,
        hidden_layer_sizes=(),
        activation="tanh",
        batch_norm=False,
        solver="auto",
        batch_size="auto",
        learning_rate="auto",
        eta0=0.01,
        power_t=0.25,
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.999,
        preconditioner="auto",
        clip_norm=None,
        max_iter=1000,
        tol=1e-4,
        n_iter_no_change=5,
        early_stopping=False,
        validation_fraction=0.1,
        epsilon=0.1,
        quantile=0.5,
        average=False,
        shuffle=True,
        random_state=None,
        warm_start=False,
        n_jobs=None,
        verbose=0,
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.batch_norm = batch_norm
        self.solver = solver
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.momentum = momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.preconditioner = preconditioner
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.epsilon = epsilon
        self.quantile = quantile
        self.average = average
        self.shuffle = shuffle
        self.random_state = random_state
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_docs.document(_docs.FIT)
    @all_or_nothing
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X, y, coef_init=None, intercept_init=None, sample_weight=None,
        X_val=None, y_val=None, sample_weight_val=None,
    ):  # fmt: skip
        return self._fit(X, y, coef_init, intercept_init, sample_weight, X_val, y_val, sample_weight_val)

    @_docs.document(_docs.PARTIAL_FIT_REGRESSOR)
    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Expected value; with ``loss="poisson"`` and ``"gamma"`` the exponential of the linear
            predictor.
        """
        return inverse_link(self.loss, self._predictor(X))

    def _find_classes(self, y, classes=None, name="y"):
        return None

    def _seen_classes(self, classes):
        return None

    def _classes_attribute(self, classes):
        return {}

    def _make_loss(self, classes, y):
        loss = regression_loss(self.loss, self.epsilon, self.quantile)
        if loss.log_link and ((y < 0).any() or (self.loss == "gamma" and (y == 0).any())):
            bound = "positive" if self.loss == "gamma" else "non-negative"
            raise ValueError(
                f"Some value(s) of y are out of the valid range of the loss {self.loss!r}: y must be {bound}."
            )
        return loss, 1 if y.ndim == 1 else y.shape[1]

    def _targets(self, y, classes):
        return y.reshape(len(y), -1).T

    def _flat_output(self, y):
        return y.ndim == 1

    def _scorer(self, problem, validation, classes):
        from sklearn.metrics import r2_score

        X, y, weight = validation

        def score(theta):
            Z = problem.loss.inverse_link(problem.predict(theta, X))
            return r2_score(y, Z if y.ndim == 2 else Z[:, 0], sample_weight=weight)

        return score

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss in LOG_LINKS
        return tags


def _has_probabilities(self):
    if self.loss in ("log_loss", "modified_huber", "brier_score"):
        return True
    raise AttributeError(
        f"predict_proba is not available with loss={self.loss!r}, which estimates no probabilities: "
        'set loss="log_loss", "brier_score" or "modified_huber".'
    )


class GDClassifier(ClassifierMixin, BaseGD):
    __doc__ = _docs.CLASSIFIER

    _parameter_constraints: dict = {
        **BaseGD._parameter_constraints,
        "loss": [StrOptions(set(MARGIN) | set(COUPLED))],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    _y_checks: dict = {}
    _splitter = StratifiedShuffleSplit

    def __init__(
        self,
        loss="log_loss",
        *,
        penalty="l2",
        alpha=1e-4,
        l1_ratio=0.15,
        fit_intercept=True,
        hidden_layer_sizes=(),
        activation="tanh",
        batch_norm=False,
        solver="auto",
        batch_size="auto",
        learning_rate="auto",
        eta0=0.01,
        power_t=0.5,
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.999,
        preconditioner="auto",
        clip_norm=None,
        max_iter=1000,
        tol=1e-4,
        n_iter_no_change=5,
        early_stopping=False,
        validation_fraction=0.1,
        epsilon=0.1,
        average=False,
        shuffle=True,
        random_state=None,
        warm_start=False,
        n_jobs=None,
        verbose=0,
        class_weight=None,
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.batch_norm = batch_norm
        self.solver = solver
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.momentum = momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.preconditioner = preconditioner
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.epsilon = epsilon
        self.average = average
        self.shuffle = shuffle
        self.random_state = random_state
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.class_weight = class_weight

    @_docs.document(_docs.FIT)
    @all_or_nothing
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X, y, coef_init=None, intercept_init=None, sample_weight=None,
        X_val=None, y_val=None, sample_weight_val=None,
    ):  # fmt: skip
        return self._fit(X, y, coef_init, intercept_init, sample_weight, X_val, y_val, sample_weight_val)

    @_docs.document(_docs.PARTIAL_FIT_CLASSIFIER)
    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all of y: with partial_fit, give the dict that "
                "compute_class_weight('balanced', classes=classes, y=y) finds on a large sample."
            )
        return self._partial_fit(X, y, sample_weight, classes)

    def decision_function(self, X):
        """Linear predictor: confidence of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, positive where ``classes_[1]`` is predicted.
        """
        scores = self._predictor(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X):
        """Predict classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        index = _class_index(self.decision_function(X))
        return self.classes_[index]

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Probabilities of the classes.

        Only with losses that estimate them: the logistic function or the softmax of the linear
        predictor for ``"log_loss"`` and ``"brier_score"``; (clip(z, -1, 1) + 1) / 2 for
        ``"modified_huber"`` (Zadrozny & Elkan 2002), normalised over the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes)
        """
        Z = self._predictor(X)
        binary = Z.shape[1] == 1
        if self.loss != "modified_huber":
            return softmax(np.hstack([np.zeros_like(Z), Z]) if binary else Z, copy=False)
        P = (np.clip(Z, -1, 1) + 1) / 2
        if binary:
            return np.hstack([1 - P, P])
        P[~P.any(axis=1)] = 1.0  # every class was ruled out: they are equally likely
        return P / P.sum(axis=1, keepdims=True)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X):
        """Logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        log_P : ndarray of shape (n_samples, n_classes)
        """
        if self.loss == "modified_huber":
            with np.errstate(divide="ignore"):
                return np.log(self.predict_proba(X))
        Z = self._predictor(X)
        Z = np.hstack([np.zeros_like(Z), Z]) if Z.shape[1] == 1 else Z
        Z -= Z.max(axis=1, keepdims=True)
        return Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))

    def _find_classes(self, y, classes=None, name="y"):
        """Sorted classes: those of y, or the given ones if y has no others."""
        found = np.unique(y) if y.dtype.kind in "biuU" else None
        if found is None or 2 * len(found) > len(y):  # else it could not object or warn
            check_classification_targets(y)
            found = np.unique(y)
        if classes is None:
            classes = found
        else:
            classes = np.unique(classes)
            unknown = np.setdiff1d(found, classes)
            if len(unknown):
                raise ValueError(f"{name} has classes {unknown}, not among classes={classes}.")
        if len(classes) < 2:
            raise ValueError(f"The number of classes has to be greater than one; got {len(classes)} class")
        return classes

    def _seen_classes(self, classes):
        if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} is not the same as on the last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        return self.classes_

    def _classes_attribute(self, classes):
        return {"classes_": classes}

    def _make_loss(self, classes, y):
        n_classes = len(classes)
        loss = classification_loss(self.loss, n_classes, self.epsilon)
        return loss, 1 if n_classes == 2 else n_classes

    def _weights(self, X, y, classes, sample_weight):
        weight = super()._weights(X, y, classes, sample_weight)
        if self.class_weight is None:
            return weight
        of_row = self._weight_of_classes(classes, y, X.dtype)[np.searchsorted(classes, y)]
        return of_row if weight is None else weight * of_row

    def _weight_of_classes(self, classes, y, dtype):
        """What `class_weight` says, (n_classes,)."""
        with np.errstate(over="ignore"):
            weight = compute_class_weight(self.class_weight, classes=classes, y=y).astype(dtype)
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError(
                f"class_weight must be finite numbers, and not negative, got {self.class_weight!r}."
            )
        return weight

    def _targets(self, y, classes):
        index = np.searchsorted(classes, y)
        if len(classes) == 2:
            return np.where(index == 1, 1.0, -1.0)[None]
        if self.loss in COUPLED:
            return index[None]
        return np.where(index == np.arange(len(classes))[:, None], 1.0, -1.0)

    def _flat_output(self, y):
        return False

    def _scorer(self, problem, validation, classes):
        from sklearn.metrics import accuracy_score

        X, y, weight = validation

        def score(theta):
            Z = problem.predict(theta, X)
            predicted = classes[_class_index(Z[:, 0] if Z.shape[1] == 1 else Z)]
            return accuracy_score(y, predicted, sample_weight=weight)

        return score


def _class_index(scores):
    return (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
