"""DescentPathDisplay: a landscape of two parameters, and the ways that descents took through it."""

import warnings
from collections.abc import Mapping

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from ._animation import animate_paths
from ._path_of_fit import objective_at, path_of_fit
from ._style import FEW, check_matplotlib_support, colours, legend, new_axes
from ._surface import contour_levels, make_grid, values_on_grid

DRAWN = 5000  # points of a path that a picture can tell apart


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
    >>> display = DescentPathDisplay.from_estimator(models, 20 * X[:, [2]], y)  # doctest: +SKIP
    """

    def __init__(
        self, *, x, y, values, paths, times=None, minimum=None, axis_names=("x[0]", "x[1]"), value_name="f(x)"
    ):
        self.x, self.y, self.values, self.paths, self.times = x, y, values, paths, times
        self.minimum, self.axis_names, self.value_name = minimum, axis_names, value_name

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
        paths = {}
        for name, own in _methods(solver).items():
            settings = {**common, **(options or {}), **own, "record_path": True}
            paths[name] = [_finite(gradient_descent(fun, start, **settings).path) for start in starts]
        display = cls(x=x, y=y, values=values, paths=paths, axis_names=axis_names, value_name=value_name)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimators, X, y, *, fit_params=None, bounds=None, resolution=100, names=None, axis_names=None,
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
        resolution : int, default=100
            Points of the grid in each direction.
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
        if not estimators:
            raise ValueError("There is no estimator to draw.")
        tables = [_last_step(estimator, X, y) for estimator in estimators]
        found = [path_of_fit(last, table, y, **(fit_params or {})) for last, table in tables]
        for (last, _), path in zip(tables, found, strict=True):
            if path.problem.d + bool(last.fit_intercept) != 2:
                raise ValueError(
                    f"A surface has two parameters; this model has {path.problem.d} coefficients and "
                    f"{'an' if last.fit_intercept else 'no'} intercept. Give X one column, or two and "
                    "fit_intercept=False."
                )
        names = _unique(_batches(path) for path in found) if names is None else list(names)
        if len(names) != len(found):
            raise ValueError(f"names has {len(names)} entries for {len(found)} estimators.")
        names = [
            name + (" (diverged)" if path.model is None else "")
            for name, path in zip(names, found, strict=True)
        ]
        ways = [_finite(np.array(path.points)[:, :2]) for path in found]
        problem = found[0].problem
        minimum = _minimum(*tables[0], y, fit_params or {})
        if bounds is None:
            kept = [way for way, path in zip(ways, found, strict=True) if path.model is not None]
            kept += [way[:1] for way in ways] + ([] if minimum is None else [minimum[None]])
            bounds = _room_for(np.concatenate(kept))
        x, y_axis = make_grid(bounds, resolution)
        grid = np.stack(np.meshgrid(x, y_axis), axis=-1).reshape(-1, 2)
        thetas = grid if problem.fit_intercept else np.column_stack([grid, np.zeros(len(grid))])
        values = objective_at(problem, thetas)
        _check_same_surface([path.problem for path in found], thetas)
        display = cls(
            x=x, y=y_axis, values=values.reshape(resolution, resolution),
            paths={name: [way] for name, way in zip(names, ways, strict=True)},
            times={name: [np.array(path.epochs)] for name, path in zip(names, found, strict=True)},
            minimum=minimum, value_name="objective",
            axis_names=_parameter_names(tables[0][1], problem) if axis_names is None else axis_names,
        )  # fmt: skip
        if side_by_side is None:
            side_by_side = len(found) > 1 and ax is None
        return display.plot(ax=ax, side_by_side=side_by_side, **kwargs)

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
        self.surface_ = [self._landscape(a, kind, n_levels, surface_kw or {}) for a in axes]
        self._height = RegularGridInterpolator((self.x, self.y), self.values.T, bounds_error=False)
        self.lines_, self.ends_, self._paths, n_labels = {}, {}, [], 0
        for number, (name, ways) in enumerate(self.paths.items()):
            target = axes[number if side_by_side else 0]
            for way, colour, label in self._styled(number, name, ways, color_by):
                n_labels += label is not None
                self._draw_path(target, name, way, colour, None if side_by_side else label, line_kw or {})
            if side_by_side:
                target.set_title(name, fontsize="medium")
                if kind == "contour":
                    target.label_outer()
        if self.minimum is not None:
            for a in axes:
                self._marks(
                    a, [self.minimum], marker="*", color="k", markersize=14, zorder=3.5, label="minimum"
                )
        self.colorbar_ = None
        if colorbar:
            shrink = {"shrink": 0.7, "pad": 0.1} if kind == "surface" else {}
            self.colorbar_ = self.figure_.colorbar(
                self.surface_[-1], ax=axes, label=self.value_name, format=_number, **shrink
            )
        beside = {"loc": "upper left"} if kind == "surface" else {}
        self.legend_ = None if side_by_side else legend(axes[0], min(n_labels, FEW), **beside)
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
            columns = min(n, 3)
            rows = -(-n // columns)
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

    def _landscape(self, ax, kind, n_levels, surface_kw):
        from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

        levels = contour_levels(self.values, n_levels)
        if len(levels) < 2:  # a flat function
            levels = levels[0] + np.array([-0.5, 0.5])
        grey = LinearSegmentedColormap.from_list("valleys", ["#fdfdfd", "#a2a2a2"])
        if kind == "surface":
            style = {"cmap": "viridis", "norm": BoundaryNorm(levels, 256), "alpha": 0.55, "linewidth": 0}
            ax.computed_zorder = False  # paths lie on the surface, not under it
            grid = np.meshgrid(self.x, self.y)
            made = ax.plot_surface(*grid, self.values, **{**style, "rcount": 80, "ccount": 80, **surface_kw})
        else:
            style = {"levels": levels, "cmap": grey, "norm": BoundaryNorm(levels, 256)}
            made = ax.contourf(self.x, self.y, self.values, **{**style, **surface_kw})
            ax.contour(self.x, self.y, self.values, levels=levels, colors="0.45", linewidths=0.4)
        ax.set(
            xlim=(self.x[0], self.x[-1]), ylim=(self.y[0], self.y[-1]),
            xlabel=self.axis_names[0], ylabel=self.axis_names[1],
        )  # fmt: skip
        return made

    def _styled(self, number, name, ways, color_by):
        """(path, colour, label) of a method; the label only where the legend is to have an entry."""
        if color_by == "valley" or (color_by == "auto" and len(self.paths) == 1 and len(ways) > 1):
            valleys = self._valleys(ways)
            order = sorted(set(valleys), key=valleys.index)
            palette = dict(zip(order, colours(len(order)), strict=True))
            for i, (way, valley) in enumerate(zip(ways, valleys, strict=True)):
                n, at = valleys.count(valley), ways[valleys.index(valley)][-1]
                where = f"({at[0]:.3g}, {at[1]:.3g})" if valley >= 0 else "out of sight"
                label = f"{n} start{'s' * (n > 1)} to {where}" if valleys.index(valley) == i else None
                yield way, palette[valley], label
            return
        colour = colours(len(self.paths))[number]
        for i, way in enumerate(ways):
            yield way, colour, name if i == 0 else None

    def _valleys(self, ways):
        """Which paths end in the same place: a number for each, -1 for those that left the picture."""
        size = np.array([self.x[-1] - self.x[0], self.y[-1] - self.y[0]])
        centres, numbers = [], []
        for way in ways:
            end = way[-1]
            if not (self.x[0] <= end[0] <= self.x[-1] and self.y[0] <= end[1] <= self.y[-1]):
                numbers.append(-1)
                continue
            near = [i for i, c in enumerate(centres) if np.linalg.norm((end - c) / size) < 0.03]
            if not near:
                centres.append(end)
            numbers.append(near[0] if near else len(centres) - 1)
        return numbers

    def _draw_path(self, ax, name, way, colour, label, line_kw):
        from matplotlib.patheffects import Normal, Stroke

        halo = [Stroke(linewidth=2.8, foreground="white", alpha=0.7), Normal()]
        style = {"color": colour, "linewidth": 1.3, "label": label, "path_effects": halo, "zorder": 3}
        line = ax.plot(*self._on(ax, _thinned(way)), **{**style, **line_kw})[0]
        self._marks(ax, way[:1], marker="o", markerfacecolor="white", markeredgecolor=colour, markersize=4)
        end = self._marks(ax, way[-1:], marker="o", color=colour, markeredgecolor="white", markersize=7)
        self.lines_.setdefault(name, []).append(line)
        self.ends_.setdefault(name, []).append(end)
        self._paths.append((ax, name, len(self.lines_[name]) - 1))

    def _marks(self, ax, points, **style):
        return ax.plot(*self._on(ax, np.asarray(points)), **{"linestyle": "", "zorder": 4, **style})[0]

    def _on(self, ax, points):
        """Points (n, 2) as coordinates of the axes; in three dimensions what lies outside is left out."""
        x, y = points.T
        if ax.name != "3d":
            return x, y
        z = self._height(points)
        return np.where(np.isfinite(z), x, np.nan), np.where(np.isfinite(z), y, np.nan), z


# ---- what from_function and from_estimator ask ----------------------------------------------------


def _methods(solver):
    """Name to parameters of gradient_descent."""
    if isinstance(solver, str):
        return {solver: {"solver": solver}}
    if isinstance(solver, Mapping):
        return {str(name): dict(own) for name, own in solver.items()}
    return {name: {"solver": name} for name in solver}


def _number(value, position=None):
    """Of a colour bar: four digits, exponents only where they are needed."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return np.format_float_positional(value, precision=4, fractional=False, trim="-")
    return f"{value:.2e}"


def _finite(path):
    """A path up to where it ceases to be finite."""
    path = np.asarray(path, dtype=float)
    bad = ~np.isfinite(path).all(axis=1)
    return path[: max(int(np.argmax(bad)), 1)] if bad.any() else path


def _thinned(way):
    """At most some thousand points of a long path, the last one among them."""
    if len(way) <= DRAWN:
        return way
    return way[np.unique(np.linspace(0, len(way) - 1, DRAWN).astype(int))]


def _last_step(estimator, X, y):
    """The estimator that descends, and X as it receives it."""
    if isinstance(estimator, Pipeline):
        transformers = estimator[:-1]
        return estimator[-1], clone(transformers).fit_transform(X, y) if len(transformers.steps) else X
    return estimator, X


def _batches(path):
    if not path.by_batches or path.batch_size == len(path.problem.X):
        return "batch"
    return "stochastic" if path.batch_size == 1 else f"mini-batches of {path.batch_size}"


def _unique(names):
    names = list(names)
    return [f"{n} {names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _room_for(points):
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, 0.12 * (high - low), np.maximum(np.abs(high), 1.0))
    return np.column_stack([low - room, high + room])


def _parameter_names(X, problem):
    columns = getattr(X, "columns", None)
    names = ["weight"] if problem.fit_intercept else ["weight 1", "weight 2"]
    if columns is not None:
        names = [f"weight of {column}" for column in columns]
    return (names[0], "intercept") if problem.fit_intercept else tuple(names)


def _check_same_surface(problems, thetas):
    """Different losses, penalties or rows are different landscapes."""
    probes = thetas[:: max(1, len(thetas) // 7)]
    reference = objective_at(problems[0], probes)
    for number, problem in enumerate(problems[1:], start=1):
        if not np.allclose(objective_at(problem, probes), reference, rtol=1e-6, equal_nan=True):
            raise ValueError(
                f"Estimator {number} has another objective than the first one (loss, penalty, alpha, "
                "transformers, or rows held out): they descend on different surfaces. Draw each by itself."
            )


def _minimum(estimator, X, y, fit_params):
    """Where the objective is least, shape (2,), or None where that is not known."""
    exact = clone(estimator).set_callbacks().set_params(
        solver="auto", batch_size="auto", learning_rate="auto", preconditioner="auto", average=False,
        clip_norm=None, max_iter=10_000, tol=1e-6, early_stopping=False, verbose=0,
    )  # fmt: skip
    if estimator.loss == "perceptron" or estimator.early_stopping:
        return None
    weight = {"sample_weight": fit_params["sample_weight"]} if "sample_weight" in fit_params else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # then no minimum is marked
        path = path_of_fit(exact, X, y, **weight)
    return None if path.model is None or path.model.stop_reason_ != "converged" else path.points[-1][:2]
