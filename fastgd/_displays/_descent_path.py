"""DescentPathDisplay: a landscape of two parameters, and the ways that descents took through it."""

from collections.abc import Mapping

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from ._animation import animate_paths
from ._drawing import colours_of_valleys, draw_landscape, short_number, thinned
from ._linear_landscape import linear_landscape
from ._style import check_matplotlib_support, colours, legend, new_axes
from ._surface import make_grid, until_infinite, values_on_grid


class DescentPathDisplay:
    """Contours or surface of a function of two parameters, with the paths of descents.

    Use :meth:`from_function` or :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    x, y : ndarrays of shapes (n_x,) and (n_y,)
        Axes of the grid; they are also the limits of the picture.
    values : ndarray of shape (n_y, n_x)
        The function on the grid.
    paths : dict of str to list of ndarray of shape (n_points, 2)
        For each method, its paths, one for each start.
    times : dict of str to list of ndarray of shape (n_points,) or None, default=None
        When each point was reached, for :meth:`animate`; None counts points.
    diverged : dict of str to list of bool or None, default=None
        Which paths are those of a descent that diverged; they end in a cross.
    minimum : array-like of shape (2,) or None, default=None
        Marked by a star.
    axis_names : tuple of two str, default=("x[0]", "x[1]")
    value_name : str, default="f(x)"

    Attributes
    ----------
    ax_ : matplotlib Axes, or ndarray of them with ``side_by_side=True``
    figure_ : matplotlib Figure
    lines_ : dict of str to list of matplotlib Line2D
        As `paths`.
    ends_ : dict of str to list of matplotlib Line2D
        The balls at the ends of the paths.
    surface_ : list of matplotlib contour sets or collections
        One for each axes.
    colorbar_ : matplotlib Colorbar or None
    legend_ : matplotlib Legend or None

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd import GDRegressor
    >>> from fastgd.inspection import DescentPathDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> steps = {"solver": "gd", "random_state": 0, "max_iter": 10, "tol": None}
    >>> models = {
    ...     "batch": GDRegressor(batch_size="full", learning_rate=0.5, **steps),
    ...     "stochastic": GDRegressor(batch_size=1, learning_rate=0.01, **steps),
    ... }
    >>> display = DescentPathDisplay.from_estimator(models, 20 * X[:, [2]], y)
    """

    def __init__(
        self, *, x, y, values, paths, times=None, diverged=None, minimum=None,
        axis_names=("x[0]", "x[1]"), value_name="f(x)",
    ):  # fmt: skip
        self.x, self.y, self.values = x, y, values
        self.paths, self.times, self.diverged, self.minimum = paths, times, diverged, minimum
        self.axis_names, self.value_name = axis_names, value_name

    # ---- where the data come from -----------------------------------------------------------------

    @classmethod
    def from_function(
        cls, fun, starts, bounds, *, args=(), jac=None, solver="gd", learning_rate="auto", max_iter=1000,
        options=None, resolution=200, axis_names=("x[0]", "x[1]"), value_name="f(x)", ax=None, **kwargs,
    ):  # fmt: skip
        """Descend from several starts by several methods, and draw it.

        Parameters
        ----------
        fun : callable
            ``fun(x, *args)``, x of shape (2,), returns a number (with ``jac=True``, also the gradient). Where
            it works on arrays of shape (2, n_y, n_x) as well, the picture takes one call of it.
        starts : array-like of shape (2,) or (n_starts, 2)
        bounds : ((x_low, x_high), (y_low, y_high))
            What to draw. The descents are free to leave it.
        args, jac, learning_rate, max_iter :
            Of :func:`fastgd.optimize.gradient_descent`.
        solver : str, list of str, or dict of str to dict, default="gd"
            Update rules to compare. A dict names methods and their parameters of `gradient_descent`, such as
            ``{"heavy ball": {"solver": "momentum", "momentum": 0.8}}``.
        options : dict or None, default=None
            Further parameters of `gradient_descent`, for all methods.
        resolution : int, default=200
            Points of the grid in each direction.
        axis_names, value_name : tuple of two str, str
            Labels.
        ax : matplotlib Axes or None, default=None
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : DescentPathDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_function")
        from fastgd.optimize import gradient_descent

        starts = np.atleast_2d(np.asarray(starts, dtype=float))
        if starts.ndim != 2 or starts.shape[1] != 2 or not len(starts) or not np.isfinite(starts).all():
            raise ValueError(f"starts must be finite and of shape (2,) or (n_starts, 2), got {starts.shape}.")
        x, y = make_grid(bounds, resolution)
        both = jac is True
        values = values_on_grid(lambda p: fun(p, *args)[0] if both else fun(p, *args), x, y)
        common = {"args": args, "jac": jac, "learning_rate": learning_rate, "max_iter": max_iter}
        paths, diverged = {}, {}
        for name, own in _methods(solver).items():
            settings = {**common, **(options or {}), **own, "record_path": True}
            results = [gradient_descent(fun, start, **settings) for start in starts]
            paths[name] = [until_infinite(result.path) for result in results]
            diverged[name] = [result.status == 2 for result in results]
        display = cls(
            x=x, y=y, values=values, paths=paths, diverged=diverged, axis_names=axis_names,
            value_name=value_name,
        )  # fmt: skip
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimators, X, y, *, fit_params=None, bounds=None, resolution=None, names=None, axis_names=None,
        ax=None, side_by_side=None, **kwargs,
    ):  # fmt: skip
        """Draw the objective of a linear model of two parameters and the paths that `fit` takes.

        The two are two coefficients (``fit_intercept=False``), or one coefficient and the intercept. Clones
        of the estimators are fitted. Their paths have a point for every update: an iteration of full-batch
        descent, a batch of mini-batch descent, a row of stochastic descent; they end at the fitted weights.

        Parameters
        ----------
        estimators : estimator, list of estimators, or dict of str to estimator
            GDRegressor, GDClassifier (two classes), or Pipelines that end in one; with the same loss and
            penalty, since they share one surface.
        X : array-like of shape (n_samples, 1) or (n_samples, 2)
            As the last step of a Pipeline receives it.
        y : array-like of shape (n_samples,)
        fit_params : dict or None, default=None
            Of `fit`: ``sample_weight``, ``coef_init`` and ``intercept_init`` (where the ball starts), ...
        bounds : ((x_low, x_high), (y_low, y_high)) or None, default=None
            What to draw; None leaves room for all paths but those that diverge.
        resolution : int or None, default=None
            Points of the grid in each direction; None takes 100, and fewer for very many rows.
        names : list of str or None, default=None
            Of the estimators; by default the keys of a dict, else the sizes of their batches.
        axis_names : tuple of two str or None, default=None
            Labels; None takes the feature names.
        ax : matplotlib Axes, array of them, or None, default=None
        side_by_side : bool or None, default=None
            Whether each path has axes of its own; None does where there are several and `ax` is None.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : DescentPathDisplay

        Raises
        ------
        ValueError
            If the model has not two parameters, or the estimators have different objectives.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if isinstance(estimators, Mapping):
            names = [str(name) for name in estimators] if names is None else names
            estimators = list(estimators.values())
        elif not isinstance(estimators, (list, tuple)):
            estimators = [estimators]
        landscape = linear_landscape(
            estimators, X, y, fit_params or {}, names=names, bounds=bounds, resolution=resolution
        )
        if axis_names is not None:
            landscape["axis_names"] = axis_names
        if side_by_side is None:
            side_by_side = len(estimators) > 1 and ax is None
        return cls(**landscape).plot(ax=ax, side_by_side=side_by_side, **kwargs)

    # ---- pictures ---------------------------------------------------------------------------------

    def plot(
        self, ax=None, *, kind="contour", side_by_side=False, color_by="auto", n_levels=20, colorbar=True,
        line_kw=None, surface_kw=None,
    ):  # fmt: skip
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, array of them with `side_by_side`, or None, default=None
            None draws on a new figure. Surfaces need axes with ``projection="3d"``.
        kind : {"contour", "surface"}, default="contour"
            Contours, dense in the valleys, or a surface in three dimensions.
        side_by_side : bool, default=False
            Whether each method has axes of its own.
        color_by : {"auto", "method", "valley"}, default="auto"
            A colour for each method, or for each valley in which paths end. ``"auto"``: valleys, where one
            method starts several times.
        n_levels : int, default=20
            Number of contours.
        colorbar : bool, default=True
        line_kw, surface_kw : dict or None, default=None
            Keywords of ``Axes.plot`` for the paths, and of ``Axes.contourf`` or ``Axes3D.plot_surface``.

        Returns
        -------
        display : DescentPathDisplay
        """
        if kind not in ("contour", "surface"):
            raise ValueError(f'kind must be "contour" or "surface", got {kind!r}.')
        if color_by not in ("auto", "method", "valley"):
            raise ValueError(f'color_by must be "auto", "method" or "valley", got {color_by!r}.')
        axes = self._axes(ax, kind, side_by_side)
        self.kind_, self.ax_ = kind, np.array(axes) if side_by_side else axes[0]
        self.surface_ = [draw_landscape(self, a, n_levels, surface_kw or {}) for a in axes]
        self._height = RegularGridInterpolator((self.x, self.y), self.values.T, bounds_error=False)
        self.lines_, self.ends_, self._drawn, n_labels = {}, {}, [], 0
        for number, (name, ways) in enumerate(self.paths.items()):
            target = axes[number if side_by_side else 0]
            if color_by == "valley" or (color_by == "auto" and len(self.paths) == 1 and len(ways) > 1):
                styles = colours_of_valleys(self, name)
            else:
                colour = colours(len(self.paths))[number]
                styles = [(colour, None if i else name) for i in range(len(ways))]
            for i, (colour, label) in enumerate(styles):
                n_labels += label is not None
                self._draw_path(target, name, i, colour, None if side_by_side else label, line_kw or {})
            if side_by_side:
                lost = self.diverged is not None and all(self.diverged[name])
                target.set_title(f"{name} (diverged)" if lost else name, fontsize="medium")
        if side_by_side and ax is None and kind == "contour":
            _label_edges(axes)
        if self.minimum is not None:
            for a in axes:
                star = {"marker": "*", "color": "k", "markersize": 14, "zorder": 3.5}
                self._marks(a, [self.minimum], label="minimum", **star)
        self.colorbar_ = None
        if colorbar:
            shrink = {"shrink": 0.7, "pad": 0.1} if kind == "surface" else {}
            self.colorbar_ = self.figure_.colorbar(
                self.surface_[-1], ax=axes, label=self.value_name, format=short_number, **shrink
            )
        above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
        n_entries = n_labels + (self.minimum is not None)
        columns = 2 if n_entries in (2, 4) else 3
        self.legend_ = None if side_by_side else legend(axes[0], 1, ncols=columns, **above)
        return self

    def animate(self, ax=None, *, frames=60, interval=80, **kwargs):
        """Let balls roll along the paths.

        All balls keep the same clock: iterations, or passes over the data for the fits of estimators. The
        animation ends when the last of them has come to rest.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
        frames : int, default=60
            Pictures until then; a sixth more shows the end.
        interval : int, default=80
            Milliseconds between two of them.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        animation : matplotlib.animation.FuncAnimation
            Keep a reference to it as long as it runs; ``animation.save("descent.gif", writer="pillow")``
            writes a file.
        """
        self.plot(ax=ax, **kwargs)
        return animate_paths(self, frames=frames, interval=interval)

    def _axes(self, ax, kind, side_by_side):
        """List of axes: one, or one for each method."""
        n = len(self.paths) if side_by_side else 1
        projection = {"projection": "3d"} if kind == "surface" else {}
        if ax is None:
            rows, columns = _rows_and_columns(n)
            size = (6.4, 5.0) if n == 1 else (3.4 * columns + 1.2, 3.6 * rows)
            share = {} if kind == "surface" else {"sharex": True, "sharey": True}
            self.figure_, axes = new_axes(
                self, "plot", None, nrows=rows, ncols=columns, figsize=size, squeeze=False,
                subplot_kw=projection, **share,
            )  # fmt: skip
            axes = list(axes.flat)
            for spare in axes[n:]:
                spare.remove()
            return axes[:n]
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n:
            raise ValueError(f"side_by_side=True needs {n} axes, got {len(axes)}.")
        if kind == "surface" and any(a.name != "3d" for a in axes):
            raise ValueError('kind="surface" needs axes made with projection="3d".')
        self.figure_, _ = new_axes(self, "plot", axes[0])
        return axes

    def _draw_path(self, ax, name, number, colour, label, line_kw):
        from matplotlib.patheffects import Normal, Stroke

        way = self.paths[name][number]
        halo = [Stroke(linewidth=2.8, foreground="white", alpha=0.7), Normal()]
        style = {"color": colour, "linewidth": 1.3, "label": label, "path_effects": halo, "zorder": 3}
        line = ax.plot(*self._on(ax, thinned(way)), **{**style, **line_kw})[0]
        self._marks(ax, way[:1], marker="o", markerfacecolor="white", markeredgecolor=colour, markersize=4)
        diverged = self.diverged is not None and self.diverged[name][number]
        end = {"marker": "X" if diverged else "o", "markersize": 9 if diverged else 7}
        end = self._marks(ax, way[-1:], color=colour, markeredgecolor="white", **end)
        self.lines_.setdefault(name, []).append(line)
        self.ends_.setdefault(name, []).append(end)
        self._drawn.append((ax, name, number))

    def _marks(self, ax, points, **style):
        return ax.plot(*self._on(ax, np.asarray(points)), **{"linestyle": "", "zorder": 4, **style})[0]

    def _on(self, ax, points):
        """Points (n, 2) as coordinates of the axes; in three dimensions what lies outside is left out."""
        x, y = points.T
        if ax.name != "3d":
            return x, y
        z = self._height(points)
        return np.where(np.isfinite(z), x, np.nan), np.where(np.isfinite(z), y, np.nan), z


def _methods(solver):
    """Name to parameters of gradient_descent."""
    if isinstance(solver, str):
        return {solver: {"solver": solver}}
    if isinstance(solver, Mapping):
        return {str(name): dict(own) for name, own in solver.items()}
    return {name: {"solver": name} for name in solver}


def _rows_and_columns(n):
    columns = n if n <= 3 else int(np.ceil(np.sqrt(n)))
    return -(-n // columns), columns


def _label_edges(axes):
    """Labels only at the left, and where nothing is below."""
    columns = _rows_and_columns(len(axes))[1]
    for number, ax in enumerate(axes):
        lowest = number + columns >= len(axes)
        ax.tick_params(labelbottom=lowest, labelleft=number % columns == 0)
        if not lowest:
            ax.set_xlabel("")
        if number % columns:
            ax.set_ylabel("")
