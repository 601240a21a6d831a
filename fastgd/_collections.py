"""Dask collections as futures of chunks; what is in them is checked, and y encoded, where they are.

In: Dask arrays, DataFrames and Series. Out: `Chunks` of X and of `Targets`, as a `DistributedProblem` takes
them, and facts about each chunk: few numbers, of which an estimator makes its loss and its plan.
"""

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from distributed import futures_of, wait
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite

from ._chunks import Chunks
from ._estimators import GDClassifier
from ._on_workers import Targets
from ._sparse import SparseRows, is_sparse
from ._validation import DTYPES


def _is_frame(X):
    return hasattr(X, "to_dask_array")


def _dtype_of(X):
    """float32 if all of X is, else float64."""
    dtypes = set(X.dtypes) if hasattr(X, "dtypes") else {X.dtype}
    return np.dtype(np.float32 if dtypes == {np.dtype(np.float32)} else np.float64)


def as_array(collection, name, dtype=None, *, accept_sparse=False):
    """A Dask array of one chunk across its columns; chunks are ndarrays or, if accepted, SciPy's sparse."""
    if not is_dask_collection(collection):
        raise TypeError(f"{name} must be a Dask array, DataFrame or Series, got {type(collection).__name__}.")
    if _is_frame(collection):
        collection = (collection if dtype is None else collection.astype(dtype)).to_dask_array()
    elif not isinstance(collection, da.Array):
        raise TypeError(f"{name} must be a Dask array, DataFrame or Series, got {type(collection).__name__}.")
    if not isinstance(collection._meta, np.ndarray) and not (accept_sparse and issparse(collection._meta)):
        known = "ndarrays or SciPy's sparse matrices" if accept_sparse else "ndarrays"
        raise TypeError(f"The chunks of {name} must be {known}, got {type(collection._meta).__name__}.")
    if collection.ndim == 2 and collection.numblocks[1] > 1:
        collection = collection.rechunk({1: -1})
    return collection if dtype is None or collection.dtype == dtype else collection.astype(dtype)


def futures_of_chunks(client, X, y, sample_weight):
    """Futures of the chunks of X, sparse ones as `SparseRows`, of y and weights (None without); X's dtype."""
    if not is_dask_collection(X):
        raise TypeError(
            f"X must be a Dask array or DataFrame, got {type(X).__name__}. For data in memory use "
            "GDRegressor or GDClassifier, or dask.array.from_array."
        )
    dtype = _dtype_of(X)
    X = as_array(X, "X", dtype, accept_sparse=True)
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead: X has shape {X.shape}.")
    if issparse(X._meta):
        X = X.map_blocks(_sparse_rows, dtype=dtype, meta=X._meta)
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
    values = as_array(values, name)
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


def brought_together(client, Xs, ys, weights, n_jobs):
    """`Chunks` of X and of raw (number, y, weight), brought to where their X is."""
    chunks = Chunks(client, Xs, [], [1] * len(Xs), n_jobs)
    raw = zip(range(len(Xs)), ys, weights or [None] * len(Xs), strict=True)
    chunks.targets = chunks.beside_rows(_together, raw)
    return chunks


def survey(chunks, local):
    """What a fit asks of every chunk of raw (number, y, weight), checked there; sorted by number.

    local : the estimator in memory

    Returns
    -------
    facts : list of dict
        The number of the chunk, its shape and, if sparse, its entries; dimensions, shape of a row and least
        number of y; the weight of all rows, or classes with counts and weights.
    """
    return sorted(chunks.over_groups(_facts_of_group, (local,))[0], key=lambda fact: fact["number"])


def encoded(chunks, facts, local, classes, class_weight, dtype):
    """`Chunks` of those that have rows, with targets as the kernels take them, made where they are."""
    kept = [fact["number"] for fact in facts]
    n_rows = [fact["shape"][0] for fact in facts]
    filled = Chunks(chunks.client, [chunks.X[i] for i in kept], [], n_rows, chunks.n_jobs)
    settings = local, classes, class_weight, dtype
    firsts = np.cumsum([0, *n_rows[:-1]]).tolist()
    of_chunk = zip(kept, firsts, strict=True)
    filled.targets = filled.beside_rows(_targets, [(chunks.targets[i], n, *settings) for i, n in of_chunk])
    return filled


# ------------------------------------------------------------------------------------------------
# on the workers
# ------------------------------------------------------------------------------------------------


def _sparse_rows(X):
    return SparseRows.of(csr_array(X))


def _together(*values):
    return values


def _facts_of_group(parameters, _, Xs, rest, n_jobs):
    """`_facts` of the chunks of a worker, a list in a tuple as a term of a sum."""
    return ([_facts(*parameters, X, *number_y_s) for X, number_y_s in zip(Xs, rest, strict=True)],)


def _facts(local, X, number, y, s):
    """Check a chunk; its size, classes and weights."""
    try:
        if issparse(X):
            raise ValueError(
                "X is sparse, though its Dask array promises dense chunks; "
                "X.map_blocks(scipy.sparse.csr_array) promises sparse ones."
            )
        X = X.matrix if is_sparse(X) else X
        X = check_array(X, accept_sparse="csr", dtype=DTYPES, ensure_min_samples=0, input_name="X")
        m = X.shape[0]
        classifier = isinstance(local, GDClassifier)
        if classifier:
            y = column_or_1d(y)
            if len(y):
                assert_all_finite(y, input_name="y")
                check_classification_targets(y)
        else:
            y = check_array(y, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="y")
        s = np.ones(m) if s is None else s
        s = check_array(
            s, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="sample_weight"
        )
        if not m == len(y) == len(s) or s.ndim != 1:
            raise ValueError(f"{m} rows of X, {len(y)} of y, sample_weight of shape {s.shape}.")
        if (s < 0).any():
            raise ValueError("Negative values in sample_weight.")
    except ValueError as error:
        raise ValueError(f"Chunk {number}: {error}") from None
    facts = {"number": number, "shape": X.shape, "y_ndim": y.ndim, "y_shape": y.shape[1:], "least": np.inf}
    facts["entries"] = X.nnz if is_sparse(X) else None
    if classifier:
        facts["classes"], index, facts["counts"] = np.unique(y, return_inverse=True, return_counts=True)
        facts["weights"] = np.bincount(index, s, minlength=len(facts["classes"]))
    else:
        facts["weights"] = s.sum()
        facts["least"] = y.min() if y.size else np.inf
    return facts


def _targets(raw, first, local, classes, class_weight, dtype):
    """`Targets` of a chunk, whose first row has this number among all."""
    _, y, s = raw
    y = np.asarray(y)
    weight = None if s is None else np.array(s, dtype=dtype)
    if classes is not None:
        y = y.reshape(-1)
        if class_weight is not None:
            of_row = class_weight.astype(dtype)[np.searchsorted(classes, y)]
            weight = of_row if weight is None else weight * of_row
    return Targets(np.ascontiguousarray(local._targets(y, classes), dtype=dtype), weight, first)
