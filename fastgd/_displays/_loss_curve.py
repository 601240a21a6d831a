"""LossCurveDisplay: how the objective of fitted estimators fell, and what validation said to it."""

from collections.abc import Mapping

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ._style import colours, legend, new_axes, panel_below, wide_range

MARKED = 20  # points up to which each one is marked


class LossCurveDisplay:
    """Objective, and score on the validation set, against iterations or epochs.

    Use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    loss_curves : list of array-like of shape (n_iter,)
        Objective at every iteration; NaN leaves a gap.
    validation_scores : list of array-like of shape (n_iter,) or None, default=None
        One entry for each curve, None where there is no validation set; None for no scores at all.
    names : list of str or None, default=None
        Of the curves, for the legend.
    units : list of {"iteration", "epoch"} or None, default=None
        What a step of each curve is.

    Attributes
    ----------
    ax_ : matplotlib Axes
        With the objective.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
    validation_ax_ : matplotlib Axes or None
        Below `ax_`, with the validation scores, where there are any.
    validation_lines_ : list of matplotlib Line2D or None
        One entry for each curve.
    legend_ : matplotlib Legend or None

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd import GDRegressor
    >>> from fastgd.inspection import LossCurveDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> models = {
    ...     f"rate {rate}": GDRegressor(solver="gd", learning_rate=rate, tol=None, max_iter=200).fit(X, y)
    ...     for rate in (0.1, 1.0)
    ... }
    >>> display = LossCurveDisplay.from_estimator(models)
    """

    def __init__(self, *, loss_curves, validation_scores=None, names=None, units=None):
        self.loss_curves = [np.asarray(curve, dtype=float) for curve in loss_curves]
        n = len(self.loss_curves)
        scores = [None] * n if validation_scores is None else validation_scores
        self.validation_scores = [None if s is None else np.asarray(s, dtype=float) for s in scores]
        self.names = names
        self.units = ["iteration"] * n if units is None else list(units)
        for what in ("validation_scores", "names", "units"):
            value = getattr(self, what)
            if value is not None and len(value) != n:
                raise ValueError(f"{what} has {len(value)} entries, loss_curves has {n}.")
        if not n:
            raise ValueError("There is no loss curve to draw: loss_curves is empty.")

    @classmethod
    def from_estimator(cls, estimators, *, names=None, ax=None, **kwargs):
        """Draw the curves of one or many fitted estimators.

        Parameters
        ----------
        estimators : estimator, list of estimators, or dict of str to estimator
            Fitted, with a `loss_curve_`: GDRegressor, GDClassifier, MLPClassifier, ...; a Pipeline is seen
            as its last step, a search as its best estimator.
        names : list of str or None, default=None
            For the legend; by default the keys of a dict, else the estimators' class names, numbered where
            they are the same.
        ax : matplotlib Axes or None, default=None
            None draws on a new figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError
            If one has no loss curve.
        """
        if isinstance(estimators, Mapping):
            names = [str(name) for name in estimators] if names is None else names
            estimators = list(estimators.values())
        elif not isinstance(estimators, (list, tuple)):
            estimators = [estimators]
        steps = [_descending_step(estimator) for estimator in estimators]
        if names is None and len(steps) > 1:
            names = _class_names(steps)
        display = cls(
            loss_curves=[step.loss_curve_ for step in steps],
            validation_scores=[getattr(step, "validation_scores_", None) for step in steps],
            names=names,
            units=[_unit(step) for step in steps],
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, xscale="linear", yscale="auto", validation=True, line_kw=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None draws on a new figure. Validation scores take the lower part of it.
        xscale : str, default="linear"
            Scale of matplotlib for the iterations.
        yscale : str, default="auto"
            Scale of matplotlib for the objective; ``"auto"`` is logarithmic where it is positive and falls
            by more than a factor of 100.
        validation : bool, default=True
            Whether to draw validation scores.
        line_kw : dict or None, default=None
            Keywords of ``Axes.plot`` for all lines.

        Returns
        -------
        display : LossCurveDisplay
        """
        n = len(self.loss_curves)
        with_scores = validation and any(scores is not None for scores in self.validation_scores)
        size = {"figsize": (6.4 if n <= 7 else 8.0, 6.0)} if with_scores else {}
        self.figure_, self.ax_ = new_axes(self, "plot", ax, n, **size)
        names = [None] * n if self.names is None else self.names
        self.lines_ = [
            _draw(self.ax_, curve, colour, name, line_kw)
            for curve, colour, name in zip(self.loss_curves, colours(n), names, strict=True)
        ]
        if yscale == "auto":
            yscale = "log" if wide_range(self.loss_curves) else "linear"
        self.ax_.set(xscale=xscale, yscale=yscale, ylabel="objective")
        if xscale == "linear":
            self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.legend_ = legend(self.ax_, n)
        x_label = " or ".join(dict.fromkeys(self.units))
        self.validation_ax_ = self.validation_lines_ = None
        if not with_scores:
            self.ax_.set_xlabel(x_label)
            return self
        self.validation_ax_ = panel_below(self.ax_)
        self.validation_lines_ = [
            None if scores is None else _draw(self.validation_ax_, scores, colour, name, line_kw)
            for scores, colour, name in zip(self.validation_scores, colours(n), names, strict=True)
        ]
        self.validation_ax_.set(xlabel=x_label, ylabel="validation score")
        return self


def _draw(ax, curve, colour, name, line_kw):
    """One line; a long one is marked where it stopped."""
    style = {"color": colour, "label": name, "marker": "o", "markersize": 4, "linewidth": 1.5}
    style["markevery"] = 1 if len(curve) <= MARKED else [len(curve) - 1]
    return ax.plot(np.arange(1, len(curve) + 1), curve, **{**style, **(line_kw or {})})[0]


def _descending_step(estimator):
    """The fitted estimator with a loss curve behind a Pipeline or a search."""
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(f"Expected a fitted estimator, got {estimator!r} of type {type(estimator).__name__}.")
    check_is_fitted(estimator)
    if hasattr(estimator, "best_estimator_"):
        return _descending_step(estimator.best_estimator_)
    if isinstance(estimator, Pipeline):
        return _descending_step(estimator[-1])
    curve = getattr(estimator, "loss_curve_", None)
    if curve is None or not len(curve):
        raise TypeError(
            f"{estimator!r} has no loss curve: loss_curve_ is written by estimators that descend step "
            "by step, such as GDRegressor, GDClassifier, or MLPClassifier with solver 'sgd' or 'adam'."
        )
    return estimator


def _unit(estimator):
    """An epoch has several updates; where each point of the curve is one update, it is an iteration."""
    updates = getattr(estimator, "t_", None)
    one_each = updates is not None and updates - 1 == len(estimator.loss_curve_)
    return "iteration" if one_each else "epoch"


def _class_names(estimators):
    names = [type(estimator).__name__ for estimator in estimators]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {number}" for number, name in enumerate(names, start=1)]
