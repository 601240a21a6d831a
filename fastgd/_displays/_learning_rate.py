"""LearningRateDisplay: what a search over learning rates found, and where descent diverges."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._search_results import lines_of_search, score_name_of
from ._style import FEW, colours, legend, new_axes, panel_below, wide_range


class LearningRateDisplay:
    """Score, and final loss where it is known, against the learning rate.

    One line for each setting of the other parameters, a band over the folds, rates that diverged shaded
    and the largest stable one marked. Use :meth:`from_estimator` or :meth:`from_cv_results`. All parameters
    are stored as attributes.

    Parameters
    ----------
    learning_rates : list of ndarray of shape (n_rates,)
        For each line, in ascending order.
    scores : list of ndarray of shape (n_rates, n_folds)
        NaN where a fit diverged.
    final_losses : list of ndarray of shape (n_rates, n_folds) or None, default=None
        Objective at the end of training; NaN where a fit diverged.
    names : list of str or None, default=None
        Of the lines, for the legend.
    references : dict of str to float or None, default=None
        Scores of candidates whose learning rate is no number (``"auto"``, ``"optimal"``), drawn as
        horizontal lines.
    score_name : str, default="score"
    rate_name : str, default="learning_rate"

    Attributes
    ----------
    stable_rates : ndarray of shape (n_lines,)
        The largest rate of each line none of whose folds diverged; NaN where all of them did.
    divergence_bounds : tuple of two floats or None
        The largest rate that was stable on some line, and the smallest above it that diverged. None where
        nothing above the largest stable rate was tried.
    ax_ : matplotlib Axes
        With the scores.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
    fill_between_ : list of matplotlib collections or None
        The bands.
    diverged_ : matplotlib patch or None
        The shaded region.
    stable_line_ : matplotlib Line2D or None
        The mark of the largest stable rate.
    loss_ax_ : matplotlib Axes or None
        Below `ax_`, with the final losses, where there are any.
    loss_lines_ : list of matplotlib Line2D or None
    legend_ : matplotlib Legend or None

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastgd import GDRegressor
    >>> from fastgd.inspection import LearningRateDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GDRegressor(solver="gd", tol=None, max_iter=100)
    >>> search = GridSearchCV(model, {"learning_rate": np.logspace(-2, 0, 5)}).fit(X, y)
    >>> display = LearningRateDisplay.from_estimator(search)
    """

    def __init__(
        self, *, learning_rates, scores, final_losses=None, names=None, references=None, score_name="score",
        rate_name="learning_rate",
    ):  # fmt: skip
        self.learning_rates, self.scores, self.final_losses = learning_rates, scores, final_losses
        self.names, self.references = names, references
        self.score_name, self.rate_name = score_name, rate_name
        stable = [np.isfinite(s).all(axis=1) for s in scores]
        self.stable_rates = np.array(
            [r[ok].max() if ok.any() else np.nan for r, ok in zip(learning_rates, stable, strict=True)]
        )
        self.divergence_bounds = None
        rates, ok = np.concatenate(learning_rates), np.concatenate(stable)
        largest = rates[ok].max() if ok.any() else 0.0
        beyond = rates[~ok & (rates > largest)]
        if len(beyond):
            self.divergence_bounds = float(largest), float(beyond.min())

    @classmethod
    def from_estimator(cls, search, *, metric=None, rate=None, ax=None, **kwargs):
        """Draw a fitted search.

        Parameters
        ----------
        search : GDGridSearchCV, GridSearchCV, RandomizedSearchCV, ...
            Fitted, over numeric values of ``learning_rate`` or ``eta0``. GridSearchCV does not tell which
            fits failed: there, leave ``error_score`` at NaN.
        metric : str or None, default=None
            Of several scorers, which one; None takes that of ``refit``.
        rate : str or None, default=None
            Name of the parameter on the x-axis, such as ``"gdregressor__learning_rate"``; None finds it.
        ax : matplotlib Axes or None, default=None
            None draws on a new figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : LearningRateDisplay

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError, ValueError
            If it is no search, or not one over a learning rate.
        """
        if not isinstance(search, BaseEstimator) or not hasattr(search, "estimator"):
            raise TypeError(
                f"Expected a fitted search such as GridSearchCV, got {type(search).__name__}; "
                "a dict of results is for from_cv_results."
            )
        check_is_fitted(search, "cv_results_")
        if metric is None and getattr(search, "multimetric_", False) and isinstance(search.refit, str):
            metric = search.refit
        return cls.from_cv_results(
            search.cv_results_,
            metric=metric,
            rate=rate,
            ax=ax,
            score_name=score_name_of(search, metric),
            **kwargs,
        )

    @classmethod
    def from_cv_results(cls, cv_results, *, metric=None, rate=None, score_name=None, ax=None, **kwargs):
        """Draw the `cv_results_` of a search.

        Parameters
        ----------
        cv_results : dict, or DataFrame made of one
            With ``params``, ``split<i>_test_<metric>`` and, where the search has them,
            ``split<i>_final_loss`` and ``divergence`` (why a candidate diverged, or an empty string).
        metric, rate, ax, **kwargs :
            As in :meth:`from_estimator`.
        score_name : str or None, default=None
            Label of the y-axis; None takes the metric.

        Returns
        -------
        display : LearningRateDisplay
        """
        lines = lines_of_search(cv_results, metric, rate)
        if score_name is not None:
            lines["score_name"] = score_name
        return cls(**lines).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, band=None, line_kw=None, fill_between_kw=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None draws on a new figure. Final losses take the lower part of it.
        band : bool or None, default=None
            Whether to draw the range over the folds; None does where lines are few.
        line_kw, fill_between_kw : dict or None, default=None
            Keywords of ``Axes.plot`` and ``Axes.fill_between`` for all lines and bands.

        Returns
        -------
        display : LearningRateDisplay
        """
        n = len(self.scores)
        size = {"figsize": (6.4 if n <= FEW else 8.0, 6.4)} if self.final_losses is not None else {}
        self.figure_, self.ax_ = new_axes(self, "plot", ax, n, **size)
        band = n <= FEW if band is None else band
        style = dict(band=band, line_kw=line_kw or {}, fill_kw=fill_between_kw or {})
        self.lines_, self.fill_between_ = self._draw(self.ax_, self.scores, **style)
        for (label, score), dash in zip((self.references or {}).items(), [":", "-.", "--"] * n, strict=False):
            self.ax_.axhline(score, color="0.3", linestyle=dash, linewidth=1.2, label=label)
        panels = [self.ax_]
        self.loss_ax_ = self.loss_lines_ = None
        if self.final_losses is not None:
            self.loss_ax_ = panel_below(self.ax_)
            self.loss_lines_, _ = self._draw(self.loss_ax_, self.final_losses, **style)
            yscale = "log" if wide_range(self.final_losses) else "linear"
            self.loss_ax_.set(ylabel="final loss", yscale=yscale)
            panels.append(self.loss_ax_)
        self.ax_.set(xscale="log", ylabel=self.score_name)
        panels[-1].set_xlabel(self.rate_name.replace("_", " "))
        self._mark_divergence(panels)
        self.legend_ = legend(self.ax_, n)
        return self

    def _draw(self, ax, values, *, band, line_kw, fill_kw):
        """Means of the folds as lines, ranges as bands; a candidate with a diverged fold is left out."""
        n = len(values)
        names = [None] * n if self.names is None else self.names
        lines, bands = [], [] if band else None
        widths = (
            np.linspace(1.5 + 0.75 * (n - 1), 1.5, n) if n <= FEW else [1.5] * n
        )  # equal lines stay visible
        settings = zip(self.learning_rates, values, colours(n), names, widths, strict=True)
        for rates, folds, colour, name, width in settings:
            folds = np.where(np.isfinite(folds).all(axis=1, keepdims=True), folds, np.nan)
            label = name if name else ("mean of the folds" if band else None)
            style = {
                "color": colour,
                "label": label,
                "marker": "o",
                "markersize": 2 + width,
                "linewidth": width,
            }
            lines += ax.plot(rates, folds.mean(axis=1), **{**style, **line_kw})
            if band:
                fill = {"color": colour, "alpha": 0.2, "linewidth": 0, **fill_kw}
                if n == 1:
                    fill.setdefault("label", "range over the folds")
                bands.append(ax.fill_between(rates, folds.min(axis=1), folds.max(axis=1), **fill))
        return lines, bands

    def _mark_divergence(self, panels):
        rates = np.concatenate(self.learning_rates)
        low, high = rates.min(), rates.max()
        margin = (high / low) ** 0.03 if high > low else 2.0
        self.ax_.set_xlim(low / margin, high * margin)
        self.diverged_ = self.stable_line_ = None
        if self.divergence_bounds is None:
            return
        stable, unstable = self.divergence_bounds
        edge = np.sqrt(stable * unstable) if stable else low / margin
        for ax in panels:
            patch = ax.axvspan(
                edge, high * margin, facecolor="0.85", edgecolor="0.6", hatch="//", linewidth=0, zorder=0,
                label="diverged" if ax is self.ax_ else None,
            )  # fmt: skip
            self.diverged_ = self.diverged_ or patch
            if stable:
                label = f"largest stable rate tried: {stable:.3g}" if ax is self.ax_ else None
                line = ax.axvline(stable, color="0.25", linestyle="--", linewidth=1.2, label=label, zorder=1)
                self.stable_line_ = self.stable_line_ or line
