"""Gradient descent for scikit-learn pipelines, in compiled code.

`GDRegressor` and `GDClassifier` are scikit-learn estimators; `kernels` are the compiled functions below
them, usable on their own.
"""

from . import kernels, optimize
from ._estimators import GDClassifier, GDRegressor
from ._exceptions import DivergenceError

__version__ = "0.1.0"
__all__ = ["DivergenceError", "GDClassifier", "GDRegressor", "kernels", "optimize"]
