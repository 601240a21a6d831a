"""DescentPathDisplay: its paths are those that fits take, its landscape is the objective, balls roll."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import objective, shuffled
from scipy.optimize import rosen, rosen_der
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_callbacks import Recorder

from fastgd import GDClassifier, GDRegressor

matplotlib = pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt  # noqa: E402

from fastgd._displays import _linear_landscape  # noqa: E402
from fastgd._displays._path_of_fit import path_of_fit  # noqa: E402
from fastgd._displays._surface import contour_levels, until_infinite, values_on_grid  # noqa: E402
from fastgd.inspection import DescentPathDisplay  # noqa: E402


def quadratic(x):
    return x[0] ** 2 + 10 * x[1] ** 2


def gradient(x):
    return np.array([2 * x[0], 20 * x[1]])


def two_valleys(x):
    return (x[0] ** 2 - 1) ** 2 + x[1] ** 2


def slope_of_valleys(x):
    return np.array([4 * x[0] * (x[0] ** 2 - 1), 2 * x[1]])


BOX = ((-2, 2), (-1, 1))
STEADY = {"max_iter": 6, "tol": None, "random_state": 0}
WAYS = {
    "plain": {"solver": "gd", "learning_rate": 0.1},
    "Gram form": {"solver": "momentum", "learning_rate": 0.05, "momentum": 0.5},
    "automatic": {},
    "nesterov at a rate": {"learning_rate": 0.1},
    "kinked": {"loss": "hinge"},
    "L1": {"penalty": "l1", "alpha": 0.01},
    "mini-batch": {"batch_size": 16, "solver": "adam", "learning_rate": 0.05},
    "ragged mini-batch": {"batch_size": 40, "solver": "gd", "learning_rate": 0.05, "penalty": "l1"},
    "mini-batch, automatic": {"batch_size": 16},
    "stochastic": {"batch_size": 1, "solver": "gd", "learning_rate": 0.01},
    "stochastic, decaying": {"batch_size": 1, "learning_rate": "invscaling", "average": 100},
    "best weights kept": {"batch_size": 16, "learning_rate": 0.3, "early_stopping": True, "solver": "gd"},
}


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*args, **kwargs)


# ---- the path of fit


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("columns", [1, 2])
def test_path_ends_at_the_fitted_weights(data, way, columns):
    model = GDClassifier(**{**STEADY, **WAYS[way]}, fit_intercept=columns == 1)
    X = data.X[:, :columns]
    path = quiet(path_of_fit, model, X, data.binary, sample_weight=data.s)
    fitted = quiet(clone(model).fit, X, data.binary, sample_weight=data.s)
    assert_allclose(path.points[-1], np.append(fitted.coef_[0], fitted.intercept_), rtol=1e-12, atol=1e-15)
    assert_allclose(path.model.coef_, fitted.coef_, rtol=1e-12)
    assert path.model.n_iter_ == fitted.n_iter_
    assert "_observer" not in vars(path.model) and "_problem" not in vars(path.model)


@pytest.mark.parametrize("way", ["plain", "Gram form", "automatic", "nesterov at a rate", "L1", "kinked"])
def test_full_batch_path_is_that_of_fits_with_ever_more_iterations(data, way):
    model = GDClassifier(**{**STEADY, **WAYS[way]})
    X = data.X[:, :1]
    path = quiet(path_of_fit, model, X, data.binary)
    n_iter = path.model.n_iter_
    assert n_iter > 4
    for n in range(1, n_iter + 1):
        fitted = quiet(clone(model).set_params(max_iter=n).fit, X, data.binary)
        assert_allclose(path.points[n], np.append(fitted.coef_[0], fitted.intercept_), rtol=1e-10)
    assert_array_equal(path.epochs, range(n_iter + 1))


@pytest.mark.parametrize("penalty", ["l2", None])
def test_stochastic_path_is_that_of_sgd_row_by_row(data, penalty):
    X, steps = data.X[:20, :2], {"penalty": penalty, "alpha": 0.1, "fit_intercept": False}
    ours = GDRegressor(batch_size=1, solver="gd", learning_rate=0.02, shuffle=False, **steps)
    path = path_of_fit(ours.set_params(max_iter=2, tol=None), X, data.y[:20])
    peer = SGDRegressor(learning_rate="constant", eta0=0.02, **steps)
    points = [np.zeros(2)]
    for row in [*range(20), *range(20)]:
        peer.partial_fit(X[row : row + 1], data.y[row : row + 1])
        points.append(peer.coef_.copy())
    assert_allclose(np.array(path.points)[:, :2], points, rtol=1e-10)
    assert_allclose(path.epochs, np.arange(41) / 20)


def test_mini_batch_path_is_the_textbook_over_the_shuffled_rows(data):
    X, y = data.X[:50, :1], data.y[:50]
    model = GDRegressor(batch_size=16, solver="gd", learning_rate=0.1, alpha=0.2, max_iter=3, tol=None)
    path = path_of_fit(model.set_params(random_state=3), X, y)
    A, theta = np.column_stack([X, np.ones(50)]), np.zeros(2)
    rng, points = np.random.RandomState(3), [theta]
    for _ in range(3):
        order = shuffled(50, rng)
        for first in range(0, 50, 16):
            rows = order[first : first + 16]
            slope = A[rows].T @ (A[rows] @ theta - y[rows]) / len(rows) + [0.2 * theta[0], 0]
            theta = theta - 0.1 * slope
            points.append(theta)
    assert_allclose(path.points, points, rtol=1e-10)


def test_path_of_averaged_descent_is_that_of_the_averages(data):
    model = GDRegressor(batch_size=10, learning_rate=0.05, max_iter=2, tol=None, random_state=0)
    plain = np.array(path_of_fit(model, data.X[:, :1], data.y).points)
    averaged = np.array(path_of_fit(clone(model).set_params(average=True), data.X[:, :1], data.y).points)
    means = np.cumsum(plain[1:], axis=0) / np.arange(1, 31)[:, None]
    assert_allclose(averaged[1:], means, rtol=1e-10)


def test_path_starts_where_fit_was_told_to(data):
    for extra in ({"batch_size": 8, "learning_rate": 0.01}, {"solver": "gd", "learning_rate": 0.01}, {}):
        model = GDRegressor(**extra, max_iter=2, tol=None)
        path = path_of_fit(model, data.X[:, :1], data.y, coef_init=[3.0], intercept_init=[-1.0])
        assert_allclose(path.points[0], [3, -1], rtol=1e-12)
    assert_array_equal(path_of_fit(GDRegressor(learning_rate=0.1), data.X[:, :1], data.y).points[0], 0)


def test_watching_a_diverging_descent_shows_how_it_left(data):
    model = GDRegressor(solver="gd", learning_rate=50.0, max_iter=100, tol=None)
    display = DescentPathDisplay.from_estimator(
        {"good": model.set_params(learning_rate=0.1), "bad": clone(model).set_params(learning_rate=50.0)},
        data.X[:, :1],
        data.y,
    )
    assert display.diverged == {"good": [False], "bad": [True]}
    assert np.abs(display.paths["bad"][0]).max() > 100
    assert np.isfinite(display.paths["bad"][0]).all()
    assert max(abs(display.x).max(), abs(display.y).max()) < 10  # the picture is that of the good one
    assert [ax.get_title() for ax in display.ax_] == ["good", "bad (diverged)"]
    assert display.ends_["bad"][0].get_marker() == "X" != display.ends_["good"][0].get_marker()


def test_callbacks_of_the_estimator_do_not_hear_of_its_double(data):
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    recorder = Recorder()
    model = GDRegressor(batch_size=16, max_iter=2, tol=None).set_callbacks(recorder)
    path_of_fit(model, data.X[:, :1], data.y)
    assert recorder.calls == []


# ---- the landscape of a linear model


@pytest.mark.parametrize(
    ("loss", "penalty", "columns"),
    [
        ("log_loss", "l2", 1),
        ("hinge", "l1", 2),
        ("modified_huber", "elasticnet", 1),
        ("log_loss", None, 2),
        ("squared_error", "elasticnet", 1),
        ("squared_error", "l2", 2),
    ],
)
def test_surface_is_the_objective(data, loss, penalty, columns):
    X, alpha = data.X[:, :columns], 0.3
    model = GDClassifier(loss=loss, penalty=penalty, alpha=alpha, fit_intercept=columns == 1)
    display = quiet(
        DescentPathDisplay.from_estimator, model, X, data.binary, fit_params={"sample_weight": data.s},
        resolution=15, bounds=((-1, 2), (-2, 2)),
    )  # fmt: skip
    assert display.values.shape == (15, 15)
    model.classes_ = np.unique(data.binary)
    for i, j in [(0, 0), (3, 11), (14, 2), (14, 14)]:
        p, q = display.x[j], display.y[i]
        model.coef_ = np.array([[p]] if columns == 1 else [[p, q]])
        model.intercept_ = np.array([q if columns == 1 else 0.0])
        assert_allclose(display.values[i, j], objective(model, X, data.binary, data.s), rtol=1e-12)


def test_a_long_table_has_a_coarser_surface(data, monkeypatch):
    X, y = data.X[:, :1], data.binary
    monkeypatch.setattr(_linear_landscape, "LOSSES_EVALUATED", 50**2 * len(X))
    assert DescentPathDisplay.from_estimator(GDClassifier(), X, y).values.shape == (50, 50)
    assert DescentPathDisplay.from_estimator(GDClassifier(), X[:36], y[:36]).values.shape == (100, 100)
    assert DescentPathDisplay.from_estimator(GDRegressor(), X, data.y).values.shape == (100, 100)


def test_minimum_is_marked_where_the_objective_is_least(data):
    model = GDRegressor(solver="gd", learning_rate=0.05, max_iter=5, tol=None, alpha=0.5)
    display = DescentPathDisplay.from_estimator(model, data.X[:, :1], data.y)
    exact = GDRegressor(alpha=0.5, tol=1e-9).fit(data.X[:, :1], data.y)
    assert_allclose(display.minimum, [exact.coef_[0], exact.intercept_[0]], rtol=1e-5)
    assert display.x[0] < display.minimum[0] < display.x[-1]
    assert display.y[0] < display.minimum[1] < display.y[-1]


def test_batch_mini_batch_and_stochastic_stand_side_by_side(data):
    models = [
        GDRegressor(batch_size=b, solver="gd", learning_rate=0.05, max_iter=3, tol=None)
        for b in ("full", 16, 1)
    ]
    display = DescentPathDisplay.from_estimator(models, data.X[:, :1], data.y, resolution=20)
    assert list(display.paths) == ["batch", "mini-batches of 16", "stochastic"]
    assert [len(display.paths[name][0]) for name in display.paths] == [4, 31, 451]
    for name in display.paths:  # one clock: passes over the data
        assert_allclose(display.times[name][0][-1], 3)
    assert display.ax_.shape == (3,)
    together = display.plot(side_by_side=False)
    assert isinstance(together.ax_, matplotlib.axes.Axes)
    labels = [text.get_text() for text in together.legend_.get_texts()]
    assert labels == ["batch", "mini-batches of 16", "stochastic", "minimum"]


def test_a_pipeline_descends_on_its_transformed_table(data):
    pytest.importorskip("pandas")
    import pandas as pd

    X = pd.DataFrame({"size": 1e3 * data.X[:, 0]})
    last = GDRegressor(solver="gd", learning_rate=0.5, max_iter=20, tol=None)
    pipe = make_pipeline(StandardScaler(), last).fit(X, data.y)
    display = DescentPathDisplay.from_estimator(pipe, X, data.y)
    assert_allclose(display.paths["batch"][0][-1], [pipe[-1].coef_[0], pipe[-1].intercept_[0]], rtol=1e-12)
    assert display.axis_names == ("weight", "intercept")
    frame = DescentPathDisplay.from_estimator(clone(last).set_params(learning_rate="auto"), X, data.y)
    assert frame.axis_names == ("weight of size", "intercept")


@pytest.mark.parametrize(
    ("model", "columns", "message"),
    [
        (GDRegressor(), 2, "two parameters"),
        (GDRegressor(fit_intercept=False), 1, "two parameters"),
        (GDRegressor(hidden_layer_sizes=3), 1, "hidden_layer_sizes"),
        ([GDRegressor(alpha=1), GDRegressor(alpha=2)], 1, "another objective"),
        ([], 1, "no estimator"),
    ],
)
def test_what_has_no_surface_is_refused(data, model, columns, message):
    with pytest.raises(ValueError, match=message):
        DescentPathDisplay.from_estimator(model, data.X[:, :columns], data.y)


def test_other_estimators_and_several_outputs_are_refused(data):
    with pytest.raises(TypeError, match="SGDClassifier"):
        DescentPathDisplay.from_estimator(SGDClassifier(), data.X[:, :1], data.binary)
    for model, y in ((GDRegressor(), data.Y), (GDClassifier(), data.three)):
        with pytest.raises(ValueError, match="one output"):
            DescentPathDisplay.from_estimator(model, data.X[:, :1], y)


# ---- the landscape of a function


def test_paths_are_those_of_gradient_descent():
    solvers = {"gd": {"solver": "gd"}, "heavy ball": {"solver": "momentum", "momentum": 0.8}}
    display = DescentPathDisplay.from_function(
        quadratic, [[2, 1], [-1, 0.5]], BOX, jac=gradient, solver=solvers, learning_rate=0.02, max_iter=40
    )
    x = np.array([-1, 0.5])
    for _ in range(40):
        x = x - 0.02 * gradient(x)
    assert_allclose(display.paths["gd"][1][-1], x, rtol=1e-12)
    assert_array_equal(display.paths["gd"][1][0], [-1, 0.5])
    x, v = np.array([2.0, 1.0]), 0
    for _ in range(40):
        v = 0.8 * v + gradient(x)
        x = x - 0.02 * v
    assert_allclose(display.paths["heavy ball"][0][-1], x, rtol=1e-12)
    assert [len(display.lines_[name]) for name in solvers] == [2, 2]
    assert_array_equal(display.lines_["gd"][1].get_xydata(), display.paths["gd"][1])
    assert [text.get_text() for text in display.legend_.get_texts()] == ["gd", "heavy ball"]


def test_balls_are_coloured_by_the_valley_into_which_they_roll():
    starts = [[-1.5, 0.5], [0.2, 0.8], [1.7, -0.3], [-0.3, -0.9]]
    display = DescentPathDisplay.from_function(two_valleys, starts, BOX, jac=slope_of_valleys)
    left, right = [line.get_color() for line in display.lines_["gd"][:2]]
    assert left != right
    assert [line.get_color() for line in display.lines_["gd"]] == [left, right, right, left]
    labels = [text.get_text() for text in display.legend_.get_texts()]
    assert labels == ["2 starts to (-1, 0)", "2 starts to (1, 0)"]


def test_a_descent_that_diverges_ends_in_a_cross_and_bounds_hold():
    display = DescentPathDisplay.from_function(
        quadratic, [[1, 1], [1, 0]], BOX, jac=gradient, learning_rate=0.11, max_iter=5000
    )
    assert display.diverged == {"gd": [True, False]}
    assert [end.get_marker() for end in display.ends_["gd"]] == ["X", "o"]
    assert display.ax_.get_xlim() == (-2, 2) and display.ax_.get_ylim() == (-1, 1)
    labels = [text.get_text() for text in display.legend_.get_texts()]
    assert "1 start out of sight" in labels


def sum_of_all(x):
    return np.sum(np.asarray(x) ** 2)


def strict(x):
    if np.ndim(x) != 1:
        raise TypeError("one point at a time")
    return x[0] - x[1]


def flattened(x):
    """With arrays, the right shape and the wrong numbers."""
    return np.asarray(x)[0] + np.max(x)


@pytest.mark.parametrize("fun", [quadratic, rosen, sum_of_all, strict, flattened, np.linalg.norm])
def test_grid_has_the_values_of_single_points(fun):
    x, y = np.linspace(-1, 2, 9), np.linspace(0, 3, 5)
    values = values_on_grid(fun, x, y)
    assert values.shape == (5, 9)
    for i, j in np.ndindex(5, 9):
        assert_allclose(values[i, j], fun(np.array([x[j], y[i]])), rtol=1e-12)


def test_a_function_for_arrays_is_called_a_dozen_times():
    calls = []
    values_on_grid(lambda x: calls.append(1) or quadratic(x), np.arange(50.0), np.arange(40.0))
    assert len(calls) < 15


def test_value_and_gradient_together_and_more_arguments_are_taken():
    def fun(x, a):
        return a * quadratic(x), a * gradient(x)

    display = DescentPathDisplay.from_function(fun, [1, 1], BOX, args=(3.0,), jac=True, resolution=11)
    assert_allclose(display.values[0, 0], 3 * quadratic([-2, -1]))
    assert_allclose(display.paths["gd"][0][-1], 0, atol=1e-6)


@pytest.mark.parametrize(
    "fun", [lambda x: 1.0 + 0 * x[0], lambda x: np.where(x[0] > 0, np.log(np.abs(x[0])), np.nan) + x[1]]
)
@pytest.mark.parametrize("kind", ["contour", "surface"])
def test_flat_functions_and_undefined_regions_are_drawn(fun, kind):
    x, y = np.linspace(-1, 1, 20), np.linspace(0, 1, 20)
    way = np.array([[0.5, 0.5], [0.6, 0.4]])
    display = DescentPathDisplay(x=x, y=y, values=values_on_grid(fun, x, y), paths={"gd": [way]})
    display.plot(kind=kind)
    display.figure_.canvas.draw()


def test_levels_are_dense_in_the_valley():
    values = values_on_grid(rosen, np.linspace(-2, 2, 60), np.linspace(-1, 3, 60))
    levels = contour_levels(values, 10)
    share_below = [np.mean(values <= level) for level in levels]
    assert_allclose(share_below, (np.arange(11) / 10) ** 2, atol=1e-3)


def test_a_path_is_cut_where_it_ceases_to_be_finite():
    way = np.array([[1.0, 2.0], [3.0, 4.0], [np.inf, 1.0], [0.0, 0.0]])
    assert_array_equal(until_infinite(way), way[:2])
    assert_array_equal(until_infinite(way[3:]), way[3:])


def test_a_lost_ball_lies_in_no_valley_wherever_it_was_seen_last():
    x = np.linspace(-1, 1, 5)
    ways = [np.array([[0.5, 0.5], [0.0, 0.0]])] * 2
    paths, values = {"gd": ways}, np.add.outer(x**2, x**2)
    display = DescentPathDisplay(x=x, y=x, values=values, paths=paths, diverged={"gd": [False, True]}).plot()
    assert [t.get_text() for t in display.legend_.get_texts()] == [
        "1 start to (0, 0)",
        "1 start out of sight",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": [1, 2, 3]}, "starts"),
        ({"starts": [[np.nan, 1]]}, "starts"),
        ({"starts": np.empty((0, 2))}, "starts"),
        ({"bounds": ((1, -1), (0, 1))}, "bounds"),
        ({"bounds": (0, 1)}, "bounds"),
        ({"kind": "wireframe"}, "kind"),
        ({"color_by": "mood"}, "color_by"),
        ({"fun": lambda x: np.nan * x[0]}, "finite"),
        ({"fun": lambda x: x}, "number"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"fun": quadratic, "starts": [1, 1], "bounds": BOX, "jac": gradient, "max_iter": 2, **change}
    with pytest.raises(ValueError, match=message):
        DescentPathDisplay.from_function(**arguments)


# ---- pictures


def test_surface_carries_the_paths_at_their_height():
    display = DescentPathDisplay.from_function(
        rosen, [[-1, 1], [0, 2]], ((-2, 2), (-1, 3)), jac=rosen_der, kind="surface", max_iter=50
    )
    assert display.ax_.name == "3d"
    for line, way in zip(display.lines_["gd"], display.paths["gd"], strict=True):
        x, y, z = line.get_data_3d()
        assert_array_equal(x, way[:, 0])
        assert_allclose(z, [rosen(p) for p in way], atol=0.5)  # between the points of the grid
    with pytest.raises(ValueError, match="3d"):
        display.plot(ax=plt.subplots()[1], kind="surface")


def test_plot_draws_again_on_given_axes(data):
    models = [GDRegressor(batch_size=b, learning_rate=0.01, max_iter=2, tol=None) for b in (8, 4)]
    figure, axes = plt.subplots(1, 2)
    display = DescentPathDisplay.from_estimator(models, data.X[:, :1], data.y, ax=axes, side_by_side=True)
    assert display.figure_ is figure and list(display.ax_) == list(axes)
    assert display.plot(ax=axes[0]).ax_ is axes[0]
    with pytest.raises(ValueError, match="2 axes"):
        display.plot(ax=axes[0], side_by_side=True)


def test_of_four_axes_only_the_outer_ones_are_labelled(data):
    models = [GDRegressor(learning_rate=rate, max_iter=2, tol=None) for rate in (0.1, 0.2, 0.3, 0.4)]
    display = DescentPathDisplay.from_estimator(models, data.X[:, :1], data.y)
    assert [ax.get_title() for ax in display.ax_] == ["batch 1", "batch 2", "batch 3", "batch 4"]
    assert [ax.get_xlabel() for ax in display.ax_] == ["", "", "weight", "weight"]
    assert [ax.get_ylabel() for ax in display.ax_] == ["intercept", "", "intercept", ""]


def test_a_very_long_path_is_drawn_by_some_thousand_points():
    way = np.column_stack([np.linspace(-1, 1, 300_001), np.zeros(300_001)])
    x = np.linspace(-1, 1, 5)
    display = DescentPathDisplay(x=x, y=x, values=np.add.outer(x, x), paths={"sgd": [way]}).plot()
    drawn = display.lines_["sgd"][0].get_xydata()
    assert len(drawn) <= 5000
    assert_array_equal(drawn[[0, -1]], way[[0, -1]])


@pytest.mark.parametrize("kind", ["contour", "surface"])
def test_animation_is_a_gif_whose_balls_move_from_start_to_end(tmp_path, kind):
    Image = pytest.importorskip("PIL.Image")
    display = DescentPathDisplay.from_function(
        quadratic, [[2, 1], [-2, 1]], BOX, jac=gradient, learning_rate=0.05, max_iter=60, resolution=20
    )
    animation = display.animate(frames=6, kind=kind)
    animation.save(tmp_path / "balls.gif", writer="pillow", dpi=40)
    ball, way = display.ends_["gd"][0], display.paths["gd"][0]

    def place():
        return np.ravel(ball.get_data_3d()[:2] if kind == "surface" else ball.get_data())

    animation._func(0)
    assert_array_equal(place(), way[0])
    animation._func(3)
    assert 0 < np.linalg.norm(place() - way[0]) < np.linalg.norm(way[-1] - way[0])
    animation._func(6)
    assert_array_equal(place(), way[-1])
    with Image.open(tmp_path / "balls.gif") as gif:
        assert gif.n_frames == 7
        first = np.asarray(gif.convert("RGB"))
        gif.seek(5)
        assert np.any(first != np.asarray(gif.convert("RGB")))


def test_all_balls_keep_one_clock(data):
    models = [GDRegressor(batch_size=b, learning_rate=0.02, max_iter=4, tol=None) for b in (1, 50)]
    display = DescentPathDisplay.from_estimator(models, data.X[:, :1], data.y, resolution=20)
    animation = display.animate(frames=9, side_by_side=True)
    animation._draw_was_started = True  # it warns of being thrown away unseen
    animation._func(4)  # half the time: the same share of both paths
    for lines, ways in zip(display.lines_.values(), display.paths.values(), strict=True):
        share = (len(lines[0].get_xydata()) - 1) / (len(ways[0]) - 1)
        assert abs(share - 0.5) < 0.1
    with pytest.raises(ValueError, match="frames"):
        display.animate(frames=1)
