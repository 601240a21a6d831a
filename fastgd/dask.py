"""GDRegressor and GDClassifier for rows that lie in pieces on the workers of a Dask cluster.

Needs ``pip install fastgd[dask]``. The chunks of a Dask array, or the partitions of a DataFrame, stay where
they are; what travels is described in `_distributed.py`. This file checks and encodes: Dask collections
become futures of chunks, and y what the kernels take, on the workers.
"""

import copy
import functools
import inspect

import numpy as np
from sklearn.base import _fit_context, clone
from sklearn.utils import check_array, column_or_1d, compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    assert_all_finite,
    check_is_fitted,
)

try:
    import dask.array as da
    from dask.base import is_dask_collection
    from distributed import default_client, futures_of, wait
except ImportError as error:
    raise ImportError("fastgd.dask needs Dask: pip install fastgd[dask]") from error

from ._base import all_or_nothing
from ._callbacks import with_callbacks
from ._distributed import Chunks, DistributedProblem, Recipe, Rows, Targets
from ._estimators import GDClassifier, GDRegressor, _has_probabilities
from ._learned import initial_theta
from ._plan import hidden_layers, make_plan
from ._validation import DTYPES

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
            Chunks of any number of rows, none or unknown included; they are kept in the memory of the
            workers. float32 and float64 are used as they are.
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
        client = self.client_
        Xs, ys, weights, dtype = _futures(client, X, y, sample_weight)
        _check_feature_names(self, X._meta, reset=True)
        local = clone(self.to_local())
        raw = [[i, y, weights and weights[i]] for i, y in enumerate(ys)]
        chunks = Chunks(client, Xs, raw, [1] * len(Xs), self.n_jobs)
        facts = sorted(chunks.over_groups(_facts_of_group, (local,))[0], key=lambda fact: fact["number"])
        self.n_features_in_ = facts[0]["shape"][1]
        kept = [i for i, fact in enumerate(facts) if fact["shape"][0]]
        rows = Rows((sum(facts[i]["shape"][0] for i in kept), self.n_features_in_), dtype)
        if not kept:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={rows.shape}) while a minimum of 1 is required."
            )

        classes, class_weight, total = self._classes_and_weights([facts[i] for i in kept])
        loss, k = self._make_loss(classes, _y_like(facts, kept))
        if not total:
            raise ValueError("Sample weights are all zero: there is nothing to learn from.")
        validation = self._validation_set(y, classes, X_val, y_val, sample_weight_val)
        plan = make_plan(self, loss, *rows.shape)
        if plan.in_row_space:
            plan.in_row_space, plan.preconditioner = False, "diag"
        weighted = weights is not None or class_weight is not None
        homes = {i: address for address, numbers in chunks.groups() for i in numbers}
        targets = [
            client.submit(
                _targets, local, *raw[i][1:], classes, class_weight, dtype, pure=False,
                workers=homes[i] and [homes[i]], allow_other_workers=homes[i] is not None,
            )
            for i in kept
        ]  # fmt: skip
        n_rows = [facts[i]["shape"][0] for i in kept]
        chunks = Chunks(client, [Xs[i] for i in kept], targets, n_rows, self.n_jobs)
        recipe = Recipe(loss, k, self.fit_intercept)
        if weighted and plan.normalise_weights and not plan.full:
            recipe.weight_scale = len(rows) / total
        problem = DistributedProblem.of(chunks, rows, recipe, plan)

        theta, state = initial_theta(self, problem, warm, coef_init, intercept_init), None
        if warm and coef_init is None and intercept_init is None:
            state = self._resumable(plan, theta)
        given = X, y, None if sample_weight is None else {"sample_weight": sample_weight}
        flat = facts[kept[0]]["y_ndim"] == 1 and classes is None
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
        X = _as_array(X, "X")
        meta = getattr(local, name)(np.zeros((1, self.n_features_in_), X.dtype))[:0]
        columns = {"drop_axis": 1} if meta.ndim == 1 else {"chunks": (X.chunks[0], meta.shape[1:])}
        return X.map_blocks(_of_chunk, local, name, meta, dtype=meta.dtype, meta=meta, **columns)

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


@_takes_client
class DaskGDRegressor(_DaskGD, GDRegressor):
    """GDRegressor on Dask collections.

    The coefficients are those of `GDRegressor` on the same rows, with the same parameters. Least squares
    take one pass, which adds up Gram matrices; other losses take some ten, each of which moves a gradient.
    With a `batch_size` every worker descends over its own rows for an epoch, and the weights are averaged
    (McDonald, Mann & Smith 2009): that is not the descent of one machine.

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

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features), or array-like

        Returns
        -------
        y : Dask array of shape (n_samples,) or (n_samples, n_outputs), not yet computed; ndarray if X is none
            of Dask's
        """
        return self._blockwise("predict", X)

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination, as of `GDRegressor`.

        Parameters
        ----------
        X, y, sample_weight : Dask collections, chunked alike, or array-likes

        Returns
        -------
        score : float
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        y, s, p = _as_array(y, "y"), _weight_or_one(sample_weight), self.predict(X)
        y, s, p = (a[:, None] if getattr(a, "ndim", 2) == 1 else a for a in (y, s, p))
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

    def predict(self, X):
        """Predict classes.

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features), or array-like

        Returns
        -------
        y : Dask array of shape (n_samples,), not yet computed; ndarray if X is none of Dask's
        """
        return self._blockwise("predict", X)

    def decision_function(self, X):
        """Linear predictor, as of `GDClassifier`.

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features), or array-like

        Returns
        -------
        scores : Dask array of shape (n_samples,) or (n_samples, n_classes), not yet computed
        """
        return self._blockwise("decision_function", X)

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Probabilities of the classes, as of `GDClassifier`.

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features), or array-like

        Returns
        -------
        P : Dask array of shape (n_samples, n_classes), not yet computed
        """
        return self._blockwise("predict_proba", X)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X):
        """Logarithm of `predict_proba`.

        Parameters
        ----------
        X : Dask array or DataFrame of shape (n_samples, n_features), or array-like

        Returns
        -------
        log_P : Dask array of shape (n_samples, n_classes), not yet computed
        """
        return self._blockwise("predict_log_proba", X)

    def score(self, X, y, sample_weight=None):
        """Accuracy.

        Parameters
        ----------
        X, y, sample_weight : Dask collections, chunked alike, or array-likes

        Returns
        -------
        score : float
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        y = _as_array(y, "y")
        right = (y if y.ndim == 1 else y[:, 0]) == self.predict(X)
        s = _weight_or_one(sample_weight)
        n, total = self._computed((da.ones_like(right, dtype=float) * s).sum(), (right * s).sum())
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
            of_class = compute_class_weight(self.class_weight, classes=classes, y=classes)
        return classes, of_class, weights @ of_class


# ------------------------------------------------------------------------------------------------
# Dask collections as futures of chunks
# ------------------------------------------------------------------------------------------------


def _is_frame(X):
    return hasattr(X, "to_dask_array")


def _dtype_of(X):
    """float32 if all of X is, else float64."""
    dtypes = set(X.dtypes) if hasattr(X, "dtypes") else {X.dtype}
    return np.dtype(np.float32 if dtypes == {np.dtype(np.float32)} else np.float64)


def _as_array(collection, name, dtype=None):
    """A Dask array of one chunk across its columns."""
    if not is_dask_collection(collection):
        raise TypeError(f"{name} must be a Dask array, DataFrame or Series, got {type(collection).__name__}.")
    if _is_frame(collection):
        collection = (collection if dtype is None else collection.astype(dtype)).to_dask_array()
    elif not isinstance(collection, da.Array):
        raise TypeError(f"{name} must be a Dask array, DataFrame or Series, got {type(collection).__name__}.")
    if not isinstance(collection._meta, np.ndarray):
        raise TypeError(f"The chunks of {name} must be dense arrays, got {type(collection._meta).__name__}.")
    if collection.ndim == 2 and collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    return collection if dtype is None or collection.dtype == dtype else collection.astype(dtype)


def _futures(client, X, y, sample_weight):
    """Futures of the chunks of X, y and weights (None without), and the dtype of X."""
    if not is_dask_collection(X):
        raise TypeError(
            f"X must be a Dask array or DataFrame, got {type(X).__name__}. For data in memory use "
            "GDRegressor or GDClassifier, or dask.array.from_array."
        )
    dtype = _dtype_of(X)
    X = _as_array(X, "X", dtype)
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead: X has shape {X.shape}.")
    arrays = [X, _aligned("y", y, X)]
    if sample_weight is not None:
        arrays.append(_aligned("sample_weight", sample_weight, X))
    arrays = client.persist(arrays)
    by_key = {future.key: future for future in futures_of(arrays)}
    futures = [[by_key[key] for key in _keys(array)] for array in arrays]
    wait(futures[0])  # so that they are somewhere
    return futures[0], futures[1], futures[2] if sample_weight is not None else None, dtype


def _keys(array):
    return [key if array.ndim == 1 else key[0] for key in array.__dask_keys__()]


def _aligned(name, values, X):
    """Values as a Dask array whose chunks are those of the rows of X."""
    known = not np.isnan(X.chunks[0]).any()
    if not is_dask_collection(values) and known:
        values = np.asarray(values)
        values = da.from_array(values, chunks=values.shape)
    values = _as_array(values, name)
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} must have one or two dimensions, got shape {values.shape}.")
    if known and not np.isnan(values.chunks[0]).any():
        if values.shape[0] != X.shape[0]:
            raise ValueError(
                f"X and {name} have inconsistent numbers of samples: {X.shape[0]} and {values.shape[0]}."
            )
        return values.rechunk({0: X.chunks[0]})
    if values.numblocks[0] != X.numblocks[0]:
        raise ValueError(
            f"X has {X.numblocks[0]} chunks of rows and {name} {values.numblocks[0]}, of unknown sizes: "
            "chunk them alike, or call compute_chunk_sizes() on both."
        )
    return values


def _y_like(facts, kept):
    """The least of y, in the shape of one row of it."""
    least = min(facts[i]["least"] for i in kept)
    shape = facts[kept[0]]["y_shape"]
    return np.full((1, *shape), least)


def _weight_or_one(sample_weight):
    return 1.0 if sample_weight is None else _as_array(sample_weight, "sample_weight")


# ------------------------------------------------------------------------------------------------
# on the workers
# ------------------------------------------------------------------------------------------------


def _facts_of_group(parameters, _, Xs, rest, n_jobs):
    """`_facts` of the chunks of a worker, a list in a tuple as a term of a sum."""
    return ([_facts(*parameters, X, *number_y_s) for X, number_y_s in zip(Xs, rest, strict=True)],)


def _facts(local, X, number, y, s):
    """Check a chunk; its size, classes and weights."""
    try:
        X = check_array(X, dtype=DTYPES, ensure_min_samples=0, input_name="X")
        classifier = isinstance(local, GDClassifier)
        if classifier:
            y = column_or_1d(y)
            if len(y):
                assert_all_finite(y, input_name="y")
                check_classification_targets(y)
        else:
            y = check_array(y, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="y")
        s = np.ones(len(X)) if s is None else s
        s = check_array(
            s, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="sample_weight"
        )
        if not len(X) == len(y) == len(s) or s.ndim != 1:
            raise ValueError(f"{len(X)} rows of X, {len(y)} of y, sample_weight of shape {s.shape}.")
        if (s < 0).any():
            raise ValueError("Negative values in sample_weight.")
    except ValueError as error:
        raise ValueError(f"Chunk {number}: {error}") from None
    facts = {"number": number, "shape": X.shape, "y_ndim": y.ndim, "y_shape": y.shape[1:], "least": np.inf}
    if classifier:
        facts["classes"], index, facts["counts"] = np.unique(y, return_inverse=True, return_counts=True)
        facts["weights"] = np.bincount(index, s, minlength=len(facts["classes"]))
    else:
        facts["weights"] = s.sum()
        facts["least"] = y.min() if y.size else np.inf
    return facts


def _targets(local, y, s, classes, class_weight, dtype):
    """`Targets` of a chunk."""
    y = np.asarray(y)
    weight = None if s is None else np.array(s, dtype=dtype)
    if classes is not None:
        y = y.reshape(-1)
        if class_weight is not None:
            of_row = class_weight.astype(dtype)[np.searchsorted(classes, y)]
            weight = of_row if weight is None else weight * of_row
    return Targets(np.ascontiguousarray(local._targets(y, classes), dtype=dtype), weight)


def _of_chunk(X, local, name, empty):
    return getattr(local, name)(X) if len(X) else empty
