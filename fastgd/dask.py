"""GDRegressor and GDClassifier for rows that lie in pieces on the workers of a Dask cluster.

Needs ``pip install fastgd[dask]``. The chunks of a Dask array, or the partitions of a DataFrame, stay where
they are: `_collections.py` checks them and encodes y there, `_distributed.py` says what travels in a fit.
"""

import copy
import functools
import inspect

import numpy as np
from sklearn.base import _fit_context, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_is_fitted

try:
    import dask.array as da
    from dask.base import is_dask_collection
    from distributed import default_client
except ImportError as error:
    raise ImportError("fastgd.dask needs Dask: pip install fastgd[dask]") from error

from ._base import all_or_nothing
from ._callbacks import with_callbacks
from ._collections import as_array, brought_together, encoded, futures_of_chunks, survey
from ._distributed import DistributedProblem, Rows
from ._docs import document
from ._estimators import GDClassifier, GDRegressor, _has_probabilities
from ._learned import initial_theta
from ._on_workers import Recipe
from ._plan import hidden_layers, make_plan

__all__ = ["DaskGDClassifier", "DaskGDRegressor"]


class _DaskGD:
    """What the two share; `_Local` is the estimator in memory."""

    @property
    def client_(self):
        """The Dask client: that of the constructor, or the one last started."""
        if self.client is not None:
            return self.client
        try:
            return default_client()
        except ValueError:
            raise ValueError(
                "There is no Dask client: start one (distributed.Client()), or give one as client=."
            ) from None

    # ---- training -----------------------------------------------------------------------------

    @all_or_nothing
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X, y, coef_init=None, intercept_init=None, sample_weight=None,
        X_val=None, y_val=None, sample_weight_val=None,
    ):  # fmt: skip
        """Fit the model on the workers.

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features)
            Chunks of any number of rows, none or unknown included, dense or SciPy's sparse ones; they are
            kept in the memory of the workers. float32 and float64 are used as they are.
        y : Dask array, Series or DataFrame
            Chunked like X.
        coef_init, intercept_init : array-like or None, default=None
            Where to start.
        sample_weight : Dask array or Series of shape (n_samples,), or None, default=None
            Chunked like X.
        X_val, y_val, sample_weight_val : array-like or None, default=None
            A validation set, in memory; needed for ``early_stopping=True``.

        Returns
        -------
        self : object
        """
        if hidden_layers(self):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}: networks are not trained on a cluster. Use "
                f"{self._Local.__name__}.partial_fit, a chunk at a time."
            )
        if self.early_stopping and X_val is None:
            raise ValueError("early_stopping=True needs a validation set here: give fit X_val and y_val.")
        warm = self.warm_start and hasattr(self, "_training")
        Xs, ys, weights, dtype = futures_of_chunks(self.client_, X, y, sample_weight)
        _check_feature_names(self, X._meta, reset=True)
        local = clone(self.to_local())
        chunks = brought_together(self.client_, Xs, ys, weights, self.n_jobs)
        facts = survey(chunks, local)
        self.n_features_in_ = facts[0]["shape"][1]
        facts = [fact for fact in facts if fact["shape"][0]]
        rows = Rows((sum(fact["shape"][0] for fact in facts), self.n_features_in_), dtype)
        if facts and facts[0]["entries"] is not None:
            rows.entries = sum(fact["entries"] for fact in facts)
        if not facts:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={rows.shape}) while a minimum of 1 is required."
            )

        classes, class_weight, total = self._classes_and_weights(facts)
        y_like = np.full((1, *facts[0]["y_shape"]), min(fact["least"] for fact in facts))
        loss, k = self._make_loss(classes, y_like)
        if not total:
            raise ValueError("Sample weights are all zero: there is nothing to learn from.")
        validation = self._validation_set(y, classes, X_val, y_val, sample_weight_val)
        plan = make_plan(self, loss, *rows.shape)
        plan.look_at(rows, k)
        chunks = encoded(chunks, facts, local, classes, class_weight, dtype)
        recipe = Recipe(loss, k, self.fit_intercept)
        weighted = weights is not None or class_weight is not None
        if weighted and plan.normalise_weights and not plan.full:
            recipe.weight_scale = len(rows) / total
        problem = DistributedProblem.of(chunks, rows, recipe, plan)

        theta, state = initial_theta(self, problem, warm, coef_init, intercept_init), None
        if warm and coef_init is None and intercept_init is None:
            state = self._resumable(plan, theta)
        given = X, y, None if sample_weight is None else {"sample_weight": sample_weight}
        flat = facts[0]["y_ndim"] == 1 and classes is None
        return self._train(problem, plan, theta, state, classes, flat, validation, given)

    def partial_fit(self, X, y, *args, **kwargs):
        """One epoch over a chunk in memory, as `GDRegressor.partial_fit` and `GDClassifier.partial_fit`."""
        if is_dask_collection(X):
            raise TypeError("partial_fit takes a chunk in memory; fit takes Dask collections.")
        return super().partial_fit(X, y, *args, **kwargs)

    # ---- prediction ---------------------------------------------------------------------------

    def to_local(self):
        """The same estimator in memory, with all that was learned.

        Returns
        -------
        model : GDRegressor or GDClassifier
        """
        parameters = self.get_params(deep=False)
        del parameters["client"]
        local = self._Local(**parameters)
        learned = {name: value for name, value in vars(self).items() if name not in (*parameters, "client")}
        vars(local).update(copy.deepcopy(learned))
        return local

    def _blockwise(self, name, X):
        """A method of the estimator in memory for every chunk of X, lazily."""
        if not is_dask_collection(X):
            return getattr(super(), name)(X)
        check_is_fitted(self)
        _check_feature_names(self, X._meta, reset=False)
        _check_n_features(self, X, reset=False)
        local = self.to_local()
        for attribute in ("_training", "loss_curve_", "feature_names_in_"):  # not needed, or checked above
            vars(local).pop(attribute, None)
        X = as_array(X, "X", accept_sparse=True)
        meta = getattr(local, name)(np.zeros((1, self.n_features_in_), X.dtype))[:0]
        columns = {"drop_axis": 1} if meta.ndim == 1 else {"chunks": (X.chunks[0], meta.shape[1:])}
        return X.map_blocks(_of_chunk, local, name, meta, dtype=meta.dtype, meta=meta, **columns)

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination or accuracy, as of `GDRegressor` and `GDClassifier`.

        Parameters
        ----------
        X, y, sample_weight : Dask collections, chunked alike, or array-likes

        Returns
        -------
        score : float
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        weight = 1.0 if sample_weight is None else as_array(sample_weight, "sample_weight")
        return self._score(as_array(y, "y"), self.predict(X), weight)

    def _computed(self, *lazy):
        return self.client_.gather(self.client_.compute(list(lazy)))

    # ---- conventions --------------------------------------------------------------------------

    def __sklearn_clone__(self):
        """A client is a connection: a clone shares it."""
        parameters = {
            name: clone(value, safe=False)
            for name, value in self.get_params(deep=False).items()
            if name != "client"
        }
        return type(self)(client=self.client, **parameters)

    def __getstate__(self):
        return {**super().__getstate__(), "client": None}


def _takes_client(Estimator):
    """Class decorator: the constructor of the estimator in memory, and `client` with it."""
    Local, last = Estimator._Local, inspect.Parameter("client", inspect.Parameter.KEYWORD_ONLY, default=None)
    signature = inspect.signature(Local.__init__)

    @functools.wraps(Local.__init__)
    def __init__(self, *args, client=None, **parameters):
        Local.__init__(self, *args, **parameters)
        self.client = client

    __init__.__signature__ = signature.replace(parameters=[*signature.parameters.values(), last])
    Estimator.__init__ = __init__
    return Estimator


def _lazy(summary, result, shape):
    """Decorator: the docstring of a method that predicts."""
    return document(
        f"""{summary}

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features), or array-like

        Returns
        -------
        {result} : Dask array of shape {shape}, not yet computed; ndarray if X is none of Dask's
        """
    )


@_takes_client
class DaskGDRegressor(_DaskGD, GDRegressor):
    """GDRegressor on Dask collections.

    The coefficients are those of `GDRegressor` on the same rows, with the same parameters. Least squares
    take one pass, which adds up Gram matrices; other losses take some ten, each of which moves a gradient.
    Where rows are fewer than 2,048 and columns are not, inner products of the rows are added up, for which
    each number of X moves once at most. With a `batch_size` every worker descends over its own rows for an
    epoch, and the weights are averaged (McDonald, Mann & Smith 2009): that is not the descent of one machine.

    Parameters
    ----------
    loss, penalty, alpha, ... : as in `GDRegressor`
        Networks are not supported; ``early_stopping`` needs a validation set in memory.
    client : distributed.Client or None, default=None
        None takes the one last started.

    Attributes
    ----------
    client_ : distributed.Client
    coef_, intercept_, ... : as in `GDRegressor`

    See Also
    --------
    GDRegressor : The same for rows in memory.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd.dask import DaskGDRegressor
    >>> X, y = (da.from_array(a, chunks=100) for a in load_diabetes(return_X_y=True))
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     model = DaskGDRegressor(alpha=0, client=client).fit(X, y)
    ...     print(round(model.score(X, y), 3))
    0.518
    """

    _Local = GDRegressor
    _parameter_constraints: dict = {**GDRegressor._parameter_constraints, "client": "no_validation"}

    @_lazy("Predict targets.", "y", "(n_samples,) or (n_samples, n_outputs)")
    def predict(self, X):
        return self._blockwise("predict", X)

    def _score(self, y, predicted, weight):
        """Coefficient of determination."""
        y, p, s = (a[:, None] if getattr(a, "ndim", 2) == 1 else a for a in (y, predicted, weight))
        n, total, squares, residual = self._computed(
            (da.ones_like(y) * s).sum(axis=0), (s * y).sum(axis=0), (s * y**2).sum(axis=0),
            (s * (y - p) ** 2).sum(axis=0),
        )  # fmt: skip
        return float(np.mean(1 - residual / (squares - total**2 / n)))

    def _classes_and_weights(self, facts):
        return None, None, sum(fact["weights"].sum() for fact in facts)


@_takes_client
class DaskGDClassifier(_DaskGD, GDClassifier):
    """GDClassifier on Dask collections.

    The coefficients are those of `GDClassifier` on the same rows, with the same parameters. A chunk need not
    have all classes. What travels, and what a `batch_size` means, is as in `DaskGDRegressor`.

    Parameters
    ----------
    loss, penalty, alpha, ... : as in `GDClassifier`
        Networks are not supported; ``early_stopping`` needs a validation set in memory.
    client : distributed.Client or None, default=None
        None takes the one last started.

    Attributes
    ----------
    client_ : distributed.Client
    classes_, coef_, intercept_, ... : as in `GDClassifier`

    See Also
    --------
    GDClassifier : The same for rows in memory.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from sklearn.datasets import load_iris
    >>> from fastgd.dask import DaskGDClassifier
    >>> X, y = (da.from_array(a, chunks=40) for a in load_iris(return_X_y=True))
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     model = DaskGDClassifier(client=client).fit(X, y)
    ...     print(model.predict_proba(X)[:1].compute().round(2))
    [[1. 0. 0.]]
    """

    _Local = GDClassifier
    _parameter_constraints: dict = {**GDClassifier._parameter_constraints, "client": "no_validation"}

    @_lazy("Predict classes.", "y", "(n_samples,)")
    def predict(self, X):
        return self._blockwise("predict", X)

    @_lazy("Linear predictor, as of `GDClassifier`.", "scores", "(n_samples,) or (n_samples, n_classes)")
    def decision_function(self, X):
        return self._blockwise("decision_function", X)

    @available_if(_has_probabilities)
    @_lazy("Probabilities of the classes, as of `GDClassifier`.", "P", "(n_samples, n_classes)")
    def predict_proba(self, X):
        return self._blockwise("predict_proba", X)

    @available_if(_has_probabilities)
    @_lazy("Logarithm of `predict_proba`.", "log_P", "(n_samples, n_classes)")
    def predict_log_proba(self, X):
        return self._blockwise("predict_log_proba", X)

    def _score(self, y, predicted, weight):
        """Accuracy."""
        right = (y if y.ndim == 1 else y[:, 0]) == predicted
        n, total = self._computed((da.ones_like(right, dtype=float) * weight).sum(), (right * weight).sum())
        return float(total / n)

    def _classes_and_weights(self, facts):
        """All classes, the weight of each by `class_weight` or None, and the weight of all rows."""
        classes = self._find_classes(np.concatenate([fact["classes"] for fact in facts]))
        counts, weights = np.zeros(len(classes), int), np.zeros(len(classes))
        for fact in facts:
            index = np.searchsorted(classes, fact["classes"])
            counts[index] += fact["counts"]
            weights[index] += fact["weights"]
        if self.class_weight is None:
            return classes, None, weights.sum()
        if self.class_weight == "balanced":
            of_class = counts.sum() / (len(classes) * counts)
        else:
            of_class = self._weight_of_classes(classes, classes, float)
        return classes, of_class, weights @ of_class


def _of_chunk(X, local, name, empty):
    return getattr(local, name)(X) if X.shape[0] else empty
