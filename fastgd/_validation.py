"""X, y and weights by scikit-learn's rules, and as the problem takes them.

X stays as it is where it can; y leaves as Y (k, m), and weights as (m,) of X's dtype, or None for all ones.
"""

import inspect

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight, validate_data

from ._linear import contiguous
from ._losses import LOG_LINKS
from ._sparse import SparseRows, is_sparse

DTYPES = (np.float64, np.float32)
# of targets, within which their squares neither vanish nor overflow
SIZES = {
    dtype: (10 * np.finfo(dtype).smallest_subnormal ** 0.5, np.finfo(dtype).max ** 0.5 / 10)
    for dtype in DTYPES
}
FEW = 100_000  # numbers in X, up to which scikit-learn's validation is a good part of a fit
# scikit-learn 1.9 refuses weights that are all zero unless asked not to, and older ones cannot be asked
_ALL_ZERO = {"allow_all_zero_weights": True}
if "allow_all_zero_weights" not in inspect.signature(_check_sample_weight).parameters:
    _ALL_ZERO = {}


def _check_size(Y, plan):
    """Targets Y (k, m) whose squares leave the range of its dtype would pass for zero or infinite ones."""
    small, large = SIZES[Y.dtype.type]
    size = np.abs(Y).max(axis=1)
    if size.max() > large:
        wrong = "large"
    elif plan.full and size.min() < small and (size[size < small] > 0).any():
        wrong = "small"
    else:
        return
    remedy = "multiply it by a constant" + (", or give X as float64" if Y.itemsize == 4 else "")
    raise ValueError(f"y is too {wrong} for {Y.dtype}, its squares being out of range: {remedy}.")


def _is_plain(a, ndim):
    """Whether an array is small and of finite numbers, with nothing to be converted."""
    return (
        type(a) is np.ndarray
        and a.ndim == ndim
        and 0 < a.size <= FEW
        and (a.dtype in DTYPES or (ndim == 1 and a.dtype.kind in "biu"))
        and bool(np.isfinite(a).all())
    )


class ValidationMixin:
    """What an estimator does with data before it learns from them.

    An estimator adds what it knows of y: `_y_checks` for scikit-learn, which let any flat array of finite
    numbers pass, a `_splitter`, `_find_classes` and `_targets`.
    """

    def _validate_X_y(self, X, y, reset):
        if issparse(y):
            raise TypeError("Sparse data was passed for y, but dense data is required: use y.toarray().")
        if not (_is_plain(y, 1) and self._takes_as_it_is(X, len(y), reset)):
            X, y = validate_data(self, X, y, reset=reset, dtype=DTYPES, accept_sparse="csr", **self._y_checks)
        return contiguous(X), y

    def _validate_X(self, X):
        if self._takes_as_it_is(X, None, reset=False):
            return X
        return validate_data(self, X, reset=False, dtype=DTYPES, accept_sparse="csr")

    def _takes_as_it_is(self, X, n_samples, reset):
        """True only if `validate_data` would return X unchanged and without a warning; resets as it would."""
        if hasattr(self, "feature_names_in_") or not _is_plain(X, 2):
            return False
        if n_samples is not None and len(X) != n_samples:
            return False
        if reset:
            self.n_features_in_ = X.shape[1]
        return X.shape[1] == getattr(self, "n_features_in_", None)

    def _weights(self, X, y, classes, sample_weight):
        """Weights of the rows, class weights included: (m,) of X's dtype, or None for all ones."""
        if sample_weight is None:
            return None
        return _check_sample_weight(
            sample_weight, X, dtype=X.dtype, ensure_non_negative=True, copy=True, **_ALL_ZERO
        )

    def _encode(self, X, y, classes, weight, plan):
        """X, Y (k, m) and weights as the kernels take them."""
        if is_sparse(X):
            X = SparseRows.of(X)
            X = X.without_zeros() if plan.by_entries else X
        elif plan.by_entries:
            X = SparseRows.of_dense(X)
        elif not plan.full:
            X = np.ascontiguousarray(X)
        with np.errstate(over="ignore", under="ignore"):
            Y = np.ascontiguousarray(self._targets(y, classes), dtype=X.dtype)
        if classes is None and self.loss not in LOG_LINKS:
            _check_size(Y, plan)
        if weight is not None and plan.normalise_weights and not plan.full:
            weight = weight / weight.mean(dtype=np.float64).astype(X.dtype)
        return X, Y, weight

    def _validation_set(self, y, classes, X_val, y_val, sample_weight_val):
        if X_val is None and y_val is None and sample_weight_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val must be given together.")
        X_val, y_val = self._validate_X_y(X_val, y_val, reset=False)
        if y_val.shape[1:] != y.shape[1:]:
            raise ValueError(f"y_val has shape {y_val.shape}, y has shape {y.shape}.")
        self._find_classes(y_val, classes, "y_val")
        if sample_weight_val is not None:
            sample_weight_val = _check_sample_weight(sample_weight_val, X_val, ensure_non_negative=True)
        return X_val, y_val, sample_weight_val

    def _split(self, X, y, weight):
        """Training and validation rows for early stopping."""
        train, held_out = next(
            self._splitter(test_size=self.validation_fraction, random_state=self.random_state).split(
                np.zeros((X.shape[0], 1)), y
            )
        )
        weight_val = None if weight is None else weight[held_out]
        if weight_val is not None and not weight_val.any():
            raise ValueError(
                "The sample weights of the validation set are all zero: try another random_state."
            )
        validation = X[held_out], y[held_out], weight_val
        return contiguous(X[train]), y[train], None if weight is None else weight[train], validation
