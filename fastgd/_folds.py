"""Candidates and the folds that they are trained and scored on, as arrays.

A `Candidate` is an estimator with its parameters set. A `Fold` knows where its rows are in a table that it
may share with other folds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints

from ._parts import take_rows
from ._sparse import SparseRows, is_sparse


@dataclass
class Candidate:
    """A setting of parameters.

    Attributes
    ----------
    number : int
        Position in `cv_results_`.
    estimator : GDRegressor or GDClassifier
        Its parameters set; not fitted.
    changed : dict
        Parameters that are not those of the estimator that is searched.
    """

    number: int
    estimator: object
    changed: dict

    @classmethod
    def make(cls, number, base, changed):
        return cls(number, with_attributes(base, changed), changed)

    def check(self):
        """Raise what `fit` would about these parameters; the others are valid."""
        constraints = {name: self.estimator._parameter_constraints[name] for name in self.changed}
        validate_parameter_constraints(constraints, self.changed, caller_name=type(self.estimator).__name__)


def with_attributes(estimator, attributes):
    """The estimator with some attributes replaced; a clone would cost more than many a descent."""
    other = object.__new__(type(estimator))
    vars(other).update(vars(estimator))
    vars(other).update(attributes)
    return other


@dataclass
class Table:
    """Validated rows.

    Attributes
    ----------
    X : ndarray or CSR matrix of shape (m, d)
    y : ndarray of shape (m,) or (m, k)
    seen : dict
        What validation stores: `n_features_in_`, `feature_names_in_`.
    classes : ndarray or None
    """

    X: object
    y: np.ndarray
    seen: dict
    classes: object = None

    @classmethod
    def make(cls, base, X, y):
        """Validate as `fit` would; raises ValueError or TypeError."""
        estimator = with_attributes(base, {})
        X, y = estimator._validate_X_y(X, y, reset=True)
        if is_sparse(X):
            SparseRows.of(X)  # raises where its indices are no rows and columns
        seen = {name: value for name, value in vars(estimator).items() if name not in vars(base)}
        return cls(X, y, seen, estimator._find_classes(y))

    @cached_property
    def codes(self):
        """Where in `classes` those of the rows are; None without."""
        return None if self.classes is None else np.searchsorted(self.classes, self.y)

    def others(self, base, X):
        """Rows to predict, validated as `predict` would; raises ValueError or TypeError."""
        return with_attributes(base, self.seen)._validate_X(X)


@dataclass
class Fold:
    """Training and test rows of one split.

    Parameters
    ----------
    number : int
    table : Table
        Holds the training rows.
    train : ndarray of int
        Where in the table they are.
    test : ndarray of int, or of shape (m_test, d)
        Where in the table the test rows are; themselves, if it does not hold them.
    y_test : ndarray
        Validated.
    weight : ndarray of shape (m_train,) or None

    Attributes
    ----------
    held_out : Quadratic or None
        The squared error on the test rows, where training has come across it.
    """

    number: int
    table: Table
    train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray
    weight: np.ndarray | None = None
    held_out: object = None

    def __post_init__(self):
        self._weights = {}

    def X_test(self):
        return take_rows(self.table.X, self.test) if self.test.ndim == 1 else self.test

    @cached_property
    def X_train(self):
        return take_rows(self.table.X, self.train)

    @cached_property
    def y_train(self):
        return take_rows(self.table.y, self.train)

    @cached_property
    def has_all_classes(self):
        """Whether a classifier finds the classes of the table in the training rows too."""
        codes, classes = self.table.codes, self.table.classes
        return classes is None or np.bincount(codes[self.train], minlength=len(classes)).all()

    def weights(self, estimator):
        """Weights of the training rows as `fit` would make them, class weights included."""
        key = repr(getattr(estimator, "class_weight", None))
        if key not in self._weights:
            shape_and_dtype = np.broadcast_to(np.zeros((), self.table.X.dtype), (len(self.train), 1))
            self._weights[key] = estimator._weights(
                shape_and_dtype, self.y_train, self.table.classes, self.weight
            )
        return self._weights[key]

    def close(self):
        """Let go of copies."""
        vars(self).pop("X_train", None)
