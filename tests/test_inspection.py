"""LossCurveDisplay and LearningRateDisplay show the numbers of fits and searches."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgd import GDClassifier, GDRegressor

STEADY = {"tol": None, "random_state": 0}


matplotlib = pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt  # noqa: E402

from fastgd.inspection import LearningRateDisplay, LossCurveDisplay  # noqa: E402


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


# ---- loss curves


@pytest.fixture(scope="module")
def fits(data):
    X, y = data.X, data.binary
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = MLPClassifier((4,), early_stopping=True, max_iter=6, random_state=0).fit(X, y == "yes")
    return SimpleNamespace(
        full=GDClassifier(solver="gd", learning_rate=0.1, max_iter=30, **STEADY).fit(X, y),
        batches=GDClassifier(batch_size=8, max_iter=9, **STEADY).fit(X, y, X_val=X[:50], y_val=y[:50]),
        network=GDClassifier(hidden_layer_sizes=(3,), batch_size=32, max_iter=5, **STEADY).fit(X, y),
        pipe=make_pipeline(StandardScaler(), GDClassifier(batch_size=8, max_iter=4, **STEADY)).fit(X, y),
        peer=peer,
    )


def test_lines_are_the_loss_curves_of_the_fits(fits):
    display = LossCurveDisplay.from_estimator(vars(fits))
    curves = [fits.full, fits.batches, fits.network, fits.pipe[-1], fits.peer]
    for line, model in zip(display.lines_, curves, strict=True):
        assert_array_equal(line.get_ydata(), model.loss_curve_)
        assert_array_equal(line.get_xdata(), np.arange(1, len(model.loss_curve_) + 1))
    assert texts(display.legend_) == ["full", "batches", "network", "pipe", "peer"]
    assert display.ax_.get_ylabel() == "objective"
    assert len({line.get_color() for line in display.lines_}) == 5


def test_validation_scores_stand_below_in_the_colours_of_their_curves(fits):
    display = LossCurveDisplay.from_estimator(vars(fits))
    assert [line is None for line in display.validation_lines_] == [True, False, True, True, False]
    for number, model in ((1, fits.batches), (4, fits.peer)):
        line = display.validation_lines_[number]
        assert_array_equal(line.get_ydata(), model.validation_scores_)
        assert line.get_color() == display.lines_[number].get_color()
    assert display.validation_ax_.get_xlabel() == "iteration or epoch"
    assert display.ax_.get_position().y0 > display.validation_ax_.get_position().y1
    assert display.validation_ax_.get_shared_x_axes().joined(display.ax_, display.validation_ax_)
    alone = display.plot(validation=False)
    assert alone.validation_ax_ is None and alone.ax_.get_xlabel() == "iteration or epoch"


@pytest.mark.parametrize(
    ("name", "unit"), [("full", "iteration"), ("batches", "epoch"), ("network", "epoch"), ("peer", "epoch")]
)
def test_x_axis_says_what_a_step_is(fits, name, unit):
    display = LossCurveDisplay.from_estimator(getattr(fits, name), validation=False)
    assert display.ax_.get_xlabel() == unit
    assert_array_equal(display.ax_.get_xticks() % 1, 0)
    assert display.legend_ is None


def test_partial_fit_and_searches_have_curves_too(data):
    model = GDRegressor(random_state=0)
    for _ in range(4):
        model.partial_fit(data.X, data.y)
    search = GridSearchCV(GDRegressor(batch_size=8, max_iter=3, **STEADY), {"alpha": [0.1, 1]}, cv=2)
    search.fit(data.X, data.y)
    display = LossCurveDisplay.from_estimator([model, search])
    assert [len(line.get_ydata()) for line in display.lines_] == [4, 3]
    assert texts(display.legend_) == ["GDRegressor 1", "GDRegressor 2"]


def test_objective_is_logarithmic_where_it_falls_far():
    far, near = np.geomspace(1, 1e-4, 50), np.linspace(2, 1, 50)
    assert LossCurveDisplay(loss_curves=[far]).plot().ax_.get_yscale() == "log"
    assert LossCurveDisplay(loss_curves=[near]).plot().ax_.get_yscale() == "linear"
    assert LossCurveDisplay(loss_curves=[far - 0.5]).plot().ax_.get_yscale() == "linear"
    assert LossCurveDisplay(loss_curves=[far]).plot(yscale="linear").ax_.get_yscale() == "linear"


def test_twenty_curves_have_twenty_colours_and_a_legend_beside_them():
    curves = [np.linspace(1, 1 / n, 30) for n in range(1, 21)]
    display = LossCurveDisplay(loss_curves=curves, names=[f"rate {n}" for n in range(20)]).plot()
    display.figure_.canvas.draw()
    assert len({matplotlib.colors.to_hex(line.get_color()) for line in display.lines_}) == 20
    assert len(texts(display.legend_)) == 20
    assert display.legend_.get_window_extent().x0 >= display.ax_.get_window_extent().x1
    assert display.legend_.get_window_extent().x1 <= display.figure_.bbox.x1


def test_gaps_short_curves_and_given_axes_are_drawn():
    figure, ax = plt.subplots()
    display = LossCurveDisplay(loss_curves=[[1.0, np.nan, np.inf, 0.5], [3.0]])
    assert display.plot(ax=ax, line_kw={"linewidth": 5}).figure_ is figure
    assert display.ax_ is ax and display.lines_[0].get_linewidth() == 5
    figure.canvas.draw()
    placed = figure.add_axes([0.1, 0.1, 0.3, 0.3])  # outside of any layout
    LossCurveDisplay(loss_curves=[[2.0, 1.0]], validation_scores=[[0.1, 0.2]]).plot(ax=placed)
    figure.canvas.draw()


def test_loss_curves_that_cannot_be_drawn_are_refused(data, fits):
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator([fits.full, GDClassifier()])
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(make_pipeline(StandardScaler(), GDClassifier()))
    for model in (DummyClassifier(), MLPClassifier(solver="lbfgs", max_iter=3)):
        with pytest.raises(TypeError, match="loss_curve_"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            LossCurveDisplay.from_estimator(model.fit(data.X, data.binary))
    for wrong in (3, "GDClassifier", GDClassifier):
        with pytest.raises(TypeError, match="fitted estimator"):
            LossCurveDisplay.from_estimator(wrong)
    for none in ([], {}):
        with pytest.raises(ValueError, match="empty"):
            LossCurveDisplay.from_estimator(none)
    with pytest.raises(ValueError, match="names has 1 entries"):
        LossCurveDisplay.from_estimator([fits.full, fits.batches], names=["one"])


# ---- learning rates

RATES = [0.001, 0.01, 0.1, 10.0, 100.0]  # the last two diverge
ALPHAS = [1e-4, 1.0]


@pytest.fixture(scope="module")
def search(data):
    model = GDRegressor(solver="gd", max_iter=20, tol=None)
    grid = {"learning_rate": RATES[::-1], "alpha": ALPHAS}
    return quietly(GridSearchCV(model, grid, cv=4, error_score=np.nan), data.X, data.y)


def quietly(search, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the fits that diverge, and non-finite scores
        return search.fit(X, y)


def test_search_becomes_a_line_for_each_alpha_with_the_folds_as_a_band(search):
    display = LearningRateDisplay.from_estimator(search)
    assert texts(display.legend_)[:2] == ["alpha=0.0001", "alpha=1"]
    for line, band, alpha in zip(display.lines_, display.fill_between_, ALPHAS, strict=True):
        rows = [{"learning_rate": rate, "alpha": alpha} for rate in RATES]
        rows = [search.cv_results_["params"].index(row) for row in rows]
        assert_array_equal(line.get_xdata(), RATES)
        assert_allclose(line.get_ydata(), search.cv_results_["mean_test_score"][rows])
        assert np.isnan(line.get_ydata()[3:]).all() and np.isfinite(line.get_ydata()[:3]).all()
        folds = np.column_stack([search.cv_results_[f"split{i}_test_score"][rows[:3]] for i in range(4)])
        corners = band.get_paths()[0].vertices
        for rate, low, high in zip(RATES, folds.min(axis=1), folds.max(axis=1), strict=False):
            heights = corners[corners[:, 0] == rate, 1]
            assert_allclose([heights.min(), heights.max()], [low, high])
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "learning rate" and display.ax_.get_ylabel() == "score (R²)"
    assert display.loss_ax_ is None


def shaded(display):
    """Rates between which the picture is shaded."""
    box = display.diverged_.get_window_extent().transformed(display.ax_.transData.inverted())
    return box.x0, box.x1


def test_divergent_region_is_shaded_from_between_the_last_stable_rate_and_the_next(search):
    display = LearningRateDisplay.from_estimator(search)
    assert_array_equal(display.stable_rates, [0.1, 0.1])
    assert display.divergence_bounds == (0.1, 10.0)
    low, high = shaded(display)
    assert_allclose(low, 1.0)  # halfway on the log axis
    assert high >= 100
    assert_array_equal(display.stable_line_.get_xdata(), [0.1, 0.1])
    assert texts(display.legend_)[2:] == ["diverged", "largest stable rate tried: 0.1"]


def test_nothing_is_shaded_where_nothing_diverged(data):
    model = GDRegressor(solver="gd", max_iter=5, tol=None)
    search = GridSearchCV(model, {"learning_rate": [0.01, 0.1]}, cv=2).fit(data.X, data.y)
    display = LearningRateDisplay.from_estimator(search)
    assert display.divergence_bounds is display.diverged_ is display.stable_line_ is None
    assert texts(display.legend_) == ["mean of the folds", "range over the folds"]


def results(rates, scores, **more):
    """cv_results_ by hand: scores of shape (n_candidates, n_folds)."""
    splits = {f"split{i}_test_score": column for i, column in enumerate(np.transpose(scores))}
    return {"params": [{"learning_rate": rate} for rate in rates], **splits, **more}


NAN = np.nan


def test_one_diverged_fold_makes_a_rate_unstable_and_the_rest_of_it_is_not_drawn():
    display = LearningRateDisplay.from_cv_results(results([1.0, 0.1, 10.0], [[1, NAN], [2, 2], [NAN, NAN]]))
    assert display.divergence_bounds == (0.1, 1.0)
    assert_array_equal(display.lines_[0].get_ydata(), [2, NAN, NAN])


def test_a_small_rate_that_failed_is_not_taken_for_the_edge_of_stability():
    display = LearningRateDisplay.from_cv_results(results([0.1, 1.0, 10.0], [[NAN], [2], [NAN]]))
    assert display.divergence_bounds == (1.0, 10.0)
    assert LearningRateDisplay.from_cv_results(results([0.1, 1.0], [[NAN], [2]])).diverged_ is None


def test_where_all_rates_diverge_all_is_shaded():
    display = LearningRateDisplay.from_cv_results(results([1.0, 10.0], [[NAN], [NAN]]))
    display.figure_.canvas.draw()
    assert np.isnan(display.stable_rates).all()
    assert shaded(display)[0] <= 1.0 and display.stable_line_ is None


def test_a_search_that_says_what_diverged_is_believed_whatever_its_error_score():
    cv_results = results([0.1, 1.0, 10.0], [[1, 2], [2, 3], [0, 3]])
    cv_results["divergence"] = np.array(["", "", "rate 10 is above 2"], dtype=object)
    display = LearningRateDisplay.from_cv_results(cv_results)
    assert display.divergence_bounds == (1.0, 10.0)
    assert_array_equal(display.lines_[0].get_ydata(), [1.5, 2.5, NAN])
    assert_array_equal(cv_results["split0_test_score"], [1, 2, 0])


def test_final_losses_stand_below_where_the_search_has_them():
    cv_results = results([0.1, 1.0, 10.0], [[1, 2], [2, 3], [NAN, NAN]])
    cv_results |= {"split0_final_loss": [5.0, 4, NAN], "split1_final_loss": [7.0, 4, NAN]}
    display = LearningRateDisplay.from_cv_results(cv_results)
    assert_array_equal(display.loss_lines_[0].get_ydata(), [6, 4, NAN])
    assert display.loss_ax_.get_ylabel() == "final loss" and display.loss_ax_.get_xlabel() == "learning rate"
    assert display.ax_.get_xlabel() == ""
    assert display.loss_ax_.get_xscale() == "log"


def test_rate_of_a_pipeline_is_found_among_its_steps(data):
    pipe = make_pipeline(StandardScaler(), GDClassifier(learning_rate="constant", batch_size=8, max_iter=3))
    grid = {"gdclassifier__eta0": [0.01, 0.1], "gdclassifier__penalty": ["l1", "l2"]}
    search = quietly(GridSearchCV(pipe, grid, cv=2), data.X, data.binary)
    display = LearningRateDisplay.from_estimator(search)
    assert display.ax_.get_xlabel() == "eta0" and display.ax_.get_ylabel() == "score (accuracy)"
    assert texts(display.legend_)[:2] == ["penalty=l1", "penalty=l2"]
    alpha = LearningRateDisplay.from_estimator(
        quietly(GridSearchCV(Ridge(), {"alpha": [0.1, 1]}, cv=2), data.X, data.y), rate="alpha"
    )
    assert alpha.ax_.get_xlabel() == "alpha"


def test_a_rate_that_is_a_name_becomes_a_horizontal_line(data):
    model = GDRegressor(batch_size=8, max_iter=3, tol=None)
    search = quietly(GridSearchCV(model, {"learning_rate": [0.01, "auto", 0.1]}, cv=2), data.X, data.y)
    display = LearningRateDisplay.from_estimator(search)
    assert display.references == {
        'learning_rate="auto"': pytest.approx(search.cv_results_["mean_test_score"][1])
    }
    assert 'learning_rate="auto"' in texts(display.legend_)
    assert_array_equal(display.lines_[0].get_xdata(), [0.01, 0.1])


def test_several_scorers_are_told_apart(data):
    model = GDRegressor(solver="gd", max_iter=5, tol=None)
    scoring = ["r2", "neg_mean_absolute_error"]
    search = GridSearchCV(model, {"learning_rate": [0.01, 0.1]}, cv=2, scoring=scoring, refit="r2")
    search.fit(data.X, data.y)
    assert LearningRateDisplay.from_estimator(search).ax_.get_ylabel() == "r2"
    display = LearningRateDisplay.from_estimator(search, metric="neg_mean_absolute_error")
    mean = search.cv_results_["mean_test_neg_mean_absolute_error"]
    assert_allclose(display.lines_[0].get_ydata(), mean)
    for metric in (None, "f1"):
        with pytest.raises(ValueError, match="neg_mean_absolute_error"):
            LearningRateDisplay.from_cv_results(search.cv_results_, metric=metric)


def test_random_searches_and_lists_of_grids_are_drawn(data):
    model = GDRegressor(solver="gd", max_iter=5, tol=None)
    rates = np.geomspace(1e-3, 1e-1, 50)
    random = RandomizedSearchCV(model, {"learning_rate": rates}, n_iter=9, cv=2, random_state=0)
    display = LearningRateDisplay.from_estimator(random.fit(data.X, data.y))
    assert np.all(np.diff(display.lines_[0].get_xdata()) > 0) and len(display.lines_[0].get_xdata()) == 9
    grids = [{"learning_rate": [0.01, 0.1]}, {"learning_rate": [0.01], "solver": ["adam"]}]
    display = LearningRateDisplay.from_estimator(GridSearchCV(model, grids, cv=2).fit(data.X, data.y))
    assert [len(line.get_xdata()) for line in display.lines_] == [2, 1]


def test_twenty_lines_have_no_bands_and_their_legend_beside_them(search):
    rates = [np.array([0.1, 1.0])] * 20
    scores = [np.full((2, 3), float(n)) for n in range(20)]
    display = LearningRateDisplay(
        learning_rates=rates, scores=scores, names=[f"alpha={n}" for n in range(20)]
    )
    display.plot()
    assert display.fill_between_ is None
    display.figure_.canvas.draw()
    assert display.legend_.get_window_extent().x0 >= display.ax_.get_window_extent().x1
    assert len(display.plot(band=True).fill_between_) == 20


def test_what_is_no_search_over_a_rate_is_refused(data, fits):
    with pytest.raises(NotFittedError):
        LearningRateDisplay.from_estimator(GridSearchCV(GDRegressor(), {"learning_rate": [0.1]}))
    for wrong in (fits.full, {"params": []}, 3):
        with pytest.raises(TypeError, match="search"):
            LearningRateDisplay.from_estimator(wrong)
    other = GridSearchCV(GDRegressor(), {"alpha": [0.1, 1]}, cv=2).fit(data.X, data.y)
    with pytest.raises(ValueError, match=r"not over a learning rate: .*alpha"):
        LearningRateDisplay.from_estimator(other)
    with pytest.raises(ValueError, match="no numeric values of 'beta'"):
        LearningRateDisplay.from_estimator(other, rate="beta")
    with pytest.raises(ValueError, match="split0_test_score"):
        LearningRateDisplay.from_cv_results({"params": [{"eta0": 1.0}]})
