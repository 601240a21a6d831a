"""Descent on any function: torch.optim's iterates, SciPy's minima and conventions, clear refusals."""

import warnings

import numpy as np
import pytest
from functions import (
    FUNCTIONS,
    HIMMELBLAU_MINIMA,
    himmelblau,
    himmelblau_gradient,
    rosenbrock,
    rosenbrock_gradient,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, minimize, rosen, rosen_der

import fastgd
from fastgd.optimize import gradient_descent, multi_start

SOLVERS = ("gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
STARTS = [[-4.0, -4.0], [-4.0, 4.0], [4.0, -4.0], [4.0, 4.0], [0.0, 0.0]]


def parabola(x):
    """(x - 2)^2 + 1, by any number of coordinates"""
    return float(np.sum(x**2 - 4 * x + 5))


def parabola_gradient(x):
    return 2 * x - 4


# ------------------------------------------------------------------------------------------------
# update rules
# ------------------------------------------------------------------------------------------------

TORCH = {
    "gd": lambda optim, p, lr: optim.SGD(p, lr),
    "momentum": lambda optim, p, lr: optim.SGD(p, lr, momentum=0.85),
    "nesterov": lambda optim, p, lr: optim.SGD(p, lr, momentum=0.85, nesterov=True),
    "adagrad": lambda optim, p, lr: optim.Adagrad(p, lr, eps=1e-10),
    "rmsprop": lambda optim, p, lr: optim.RMSprop(p, lr, alpha=0.95, eps=1e-8),
    "adam": lambda optim, p, lr: optim.Adam(p, lr, betas=(0.8, 0.95), eps=1e-8),
    "adamw": lambda optim, p, lr: optim.AdamW(p, lr, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.0),
}
RATES = {"quadratic 1e2": 0.01, "rosenbrock": 2e-4, "beale": 1e-3, "himmelblau": 3e-3, "rastrigin": 1e-3}


def torch_path(name, solver, rate_at, steps):
    torch = pytest.importorskip("torch")
    function = FUNCTIONS[name]
    x = torch.tensor(np.array(function.start), requires_grad=True)
    optimizer = TORCH[solver](torch.optim, [x], rate_at(1))
    path = [x.detach().numpy().copy()]
    for k in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = rate_at(k)
        x.grad = torch.tensor(function.gradient(x.detach().numpy()))
        optimizer.step()
        path.append(x.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", RATES)
def test_iterates_are_those_of_torch_optim(name, solver):
    function, rate = FUNCTIONS[name], RATES[name]
    expected = torch_path(name, solver, lambda k: rate, 60)
    result = gradient_descent(
        function.f, function.start, jac=function.gradient, solver=solver, learning_rate=rate, momentum=0.85,
        beta_1=0.8, beta_2=0.95, max_iter=60, tol=None, record_path=True,
    )  # fmt: skip
    assert_allclose(result.path, expected, rtol=1e-10, atol=1e-10)
    assert np.abs(expected[-1] - expected[0]).max() > 2e-3, "the oracle has not moved"
    assert_array_equal(result.x, result.path[-1])
    assert_allclose(result.path_fun, [function.f(x) for x in expected], rtol=1e-8)
    assert (result.nit, result.learning_rate) == (60, rate)


@pytest.mark.parametrize("solver", ["gd", "adam"])
@pytest.mark.parametrize(
    "schedule, rate_at",
    [
        ({"learning_rate": lambda k: 0.02 / (1 + k)}, lambda k: 0.02 / (1 + k)),
        ({"learning_rate": "invscaling", "eta0": 0.02, "power_t": 0.5}, lambda k: 0.02 / k**0.5),
        ({"learning_rate": "constant", "eta0": 0.003}, lambda k: 0.003),
    ],
    ids=["callable", "invscaling", "constant"],
)
def test_schedules_count_steps_from_one(solver, schedule, rate_at):
    function = FUNCTIONS["himmelblau"]
    expected = torch_path("himmelblau", solver, rate_at, 20)[-1]
    moments = {"beta_1": 0.8, "beta_2": 0.95}
    result = gradient_descent(
        function.f,
        function.start,
        jac=function.gradient,
        solver=solver,
        max_iter=20,
        tol=None,
        **moments,
        **schedule,
    )
    assert_allclose(result.x, expected, rtol=1e-10)
    assert_allclose(result.learning_rate, rate_at(20))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["round quadratic", "quadratic 1e2", "beale", "himmelblau", "rastrigin"])
def test_automatic_rates_find_the_minimum_within_a_thousand_steps(name, solver):
    function = FUNCTIONS[name]
    result = gradient_descent(function.f, function.start, jac=function.gradient, solver=solver)
    assert result.success, result.message
    assert np.abs(function.gradient(result.x)).max() <= 1e-6
    assert min(np.abs(result.x - minimum).max() for minimum in function.minima) < 1e-5
    assert result.nfev < 1.2 * result.nit + 10


@pytest.mark.parametrize("solver", ["gd", "momentum", "nesterov"])
@pytest.mark.parametrize("name", ["quadratic 1e4", "rosenbrock", "rosenbrock 10"])
def test_automatic_rates_come_through_a_ravine(name, solver):
    function = FUNCTIONS[name]
    result = gradient_descent(function.f, function.start, jac=function.gradient, solver=solver, max_iter=2500)
    theirs = minimize(function.f, function.start, jac=function.gradient, method="CG", options={"gtol": 1e-6})
    assert result.success and result.fun <= theirs.fun + 1e-11
    assert_allclose(result.x, theirs.x, atol=1e-5)


def test_spectral_steps_are_done_where_the_best_constant_rate_has_hardly_begun():
    function = FUNCTIONS["quadratic 1e4"]
    spectral = gradient_descent(function.f, function.start, jac=function.gradient)
    constant = gradient_descent(
        function.f, function.start, jac=function.gradient, learning_rate=2 / (1 + 1e4), max_iter=spectral.nfev
    )
    assert spectral.success and spectral.nfev < 1000
    assert np.abs(constant.jac).max() > 1e-2


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_automatic_rates_do_not_depend_on_the_scale_of_the_function(solver, scale):
    function = FUNCTIONS["quadratic 1e2"]

    def descend(scale):
        return gradient_descent(
            lambda x: scale * function.f(x), function.start, jac=lambda x: scale * function.gradient(x),
            solver=solver, tol=1e-5 * scale,
        )  # fmt: skip

    scaled, plain = descend(scale), descend(1.0)
    assert scaled.success, scaled.message
    if solver in ("gd", "momentum", "nesterov"):  # the others add 1e-8 to the root of squared gradients
        assert_array_equal(scaled.x, plain.x)
        assert (scaled.nit, scaled.nfev) == (plain.nit, plain.nfev)
    assert_allclose(scaled.x, function.minima[0], atol=1e-4)


def test_automatic_steps_of_gd_and_its_path_go_down_in_the_end(data=FUNCTIONS["rosenbrock"]):
    result = gradient_descent(data.f, data.start, jac=data.gradient, record_path=True)
    assert result.path.shape == (result.nit + 1, 2) and result.path_fun.shape == (result.nit + 1,)
    highest = [result.path_fun[max(0, k - 9) : k + 1].max() for k in range(result.nit)]
    assert np.all(result.path_fun[1:] <= np.array(highest) + 1e-14)
    assert_array_equal(result.path[0], data.start)


@pytest.mark.parametrize("solver", ["momentum", "nesterov"])
def test_a_rate_that_was_refused_is_not_tried_again_at_once(solver):
    function, points, steps = FUNCTIONS["quadratic 1e4"], [], []

    def fun(x):
        points.append(x)
        return function.f(x)

    def note(intermediate_result):
        steps.append((len(points), intermediate_result.learning_rate))

    gradient_descent(fun, function.start, jac=function.gradient, solver=solver, callback=note)
    evaluations, rates = np.array(steps).T
    refused = np.flatnonzero(np.diff(evaluations) > 1) + 1
    assert len(refused[refused > 5])
    for k in refused[refused > 5]:  # before that the curvature is not known
        assert rates[k + 1] <= 1.01 * rates[k]


def test_a_descent_cut_short_by_max_iter_returns_the_lowest_point_with_auto_and_the_last_with_a_rate():
    function = FUNCTIONS["quadratic 1e2"]
    seen = 0
    for max_iter in range(5, 60):
        options = dict(jac=function.gradient, max_iter=max_iter, record_path=True)
        result = gradient_descent(function.f, function.start, **options)
        assert result.status == 1 and not result.success and result.nit == max_iter
        assert result.fun == result.path_fun.min()
        seen += result.fun < result.path_fun[-1]
    assert seen, "no descent ended above its lowest point: the claim was not tried"
    result = gradient_descent(function.f, function.start, solver="momentum", learning_rate=0.02, **options)
    assert result.fun > result.path_fun.min()
    assert_array_equal(result.x, result.path[-1])


# ------------------------------------------------------------------------------------------------
# gradients
# ------------------------------------------------------------------------------------------------


def test_jac_may_be_a_callable_part_of_fun_or_differences():
    function = FUNCTIONS["beale"]
    exact = gradient_descent(function.f, function.start, jac=function.gradient)
    both = gradient_descent(lambda x: (function.f(x), function.gradient(x)), function.start, jac=True)
    assert_array_equal(both.x, exact.x)
    assert (both.nit, both.nfev, both.njev) == (exact.nit, exact.nfev, exact.njev)
    for jac, tolerance in (("2-point", 2e-6), ("3-point", 1e-8)):
        result = gradient_descent(function.f, function.start, jac=jac, tol=1e-5)
        assert_allclose(result.jac, function.gradient(result.x), atol=10 * tolerance)
        assert_allclose(result.x, (3.0, 0.5), atol=1e-4)
        per_gradient = {"2-point": 2, "3-point": 4}[jac]
        assert result.nfev >= result.nit + per_gradient * result.njev


@pytest.mark.parametrize("jac, error", [("2-point", 2e-6), ("3-point", 1e-8)])
def test_finite_differences_stay_inside_the_bounds(jac, error):
    bounds = Bounds([0.0, -1.0, 0.3, 0.5], [2.0, 0.0, 0.3 + 1e-9, 0.5])
    x0 = np.array([0.0, 0.0, 0.3, 0.5])

    def fun(x):
        assert np.all(x >= bounds.lb) and np.all(x <= bounds.ub)
        return np.sum(np.exp(x))

    result = gradient_descent(fun, x0, jac=jac, bounds=bounds, max_iter=0)
    assert_allclose(result.jac[:2], np.exp(x0[:2]), atol=error)
    assert_allclose(result.jac[2], np.exp(0.3), rtol=1e-4)  # a box of 1e-9 holds no better difference
    assert result.jac[3] == 0  # held fixed


def test_finite_differences_of_a_vectorised_function_are_those_of_single_points():
    options = dict(jac="3-point", max_iter=7, tol=None, learning_rate=0.01)
    together = multi_start(himmelblau, STARTS, vectorized=True, **options)
    apart = [gradient_descent(himmelblau, start, **options) for start in STARTS]
    assert_allclose(together.xs, [result.x for result in apart], rtol=1e-12)
    assert together.nfev == sum(result.nfev for result in apart)


def test_autograd_differentiates_fun():
    anp = pytest.importorskip("autograd.numpy")
    result = gradient_descent(
        lambda x, a, b: anp.sum((a - x[:-1]) ** 2 + b * (x[1:] - x[:-1] ** 2) ** 2), [-1.2, 1.0], (1.0, 100.0)
    )
    expected = gradient_descent(rosenbrock, [-1.2, 1.0], jac=rosenbrock_gradient)
    assert result.success and result.nit == pytest.approx(expected.nit, abs=5)
    assert_allclose(result.x, [1.0, 1.0], atol=1e-6)
    assert gradient_descent(lambda x: x**2 - 4 * x + 5, 7).x == pytest.approx(2.0)  # values of shape (1,)
    together = multi_start(
        lambda X: (X[:, 0] ** 2 + X[:, 1] - 11) ** 2 + (X[:, 0] + X[:, 1] ** 2 - 7) ** 2,
        STARTS,
        vectorized=True,
    )
    assert_allclose(together.xs, multi_start(himmelblau, STARTS, jac=himmelblau_gradient).xs, atol=1e-6)


def test_what_autograd_cannot_differentiate_is_named():
    pytest.importorskip("autograd")
    with pytest.raises(TypeError, match="autograd.numpy in place of numpy and math.*3-point"):
        gradient_descent(lambda x: float(x[0]) ** 2, [1.0])

    def assigns(x):
        y = np.zeros(2)
        y[:] = x
        return (y**2).sum()

    with pytest.raises(TypeError, match="could not be differentiated"):
        gradient_descent(assigns, [1.0, 2.0])
    with pytest.raises(ZeroDivisionError):  # not autograd's fault
        gradient_descent(lambda x: 1 / 0, [1.0])


def test_without_autograd_the_alternatives_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "autograd", None)
    with pytest.raises(ImportError, match=r'pip install "fastgd\[autodiff\]".*jac.*3-point'):
        gradient_descent(parabola, [7.0])
    assert gradient_descent(parabola, [7.0], jac="2-point").success


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson", "huber"])
def test_gradients_of_the_estimators_are_those_of_autograd(data, loss):
    anp = pytest.importorskip("autograd.numpy")
    from autograd import value_and_grad

    y = {"log_loss": np.where(data.binary == "yes", 1.0, -1.0), "poisson": data.counts}.get(loss, data.y)
    row_loss = {
        "squared_error": lambda z: (z - y) ** 2 / 2,
        "log_loss": lambda z: anp.log(1 + anp.exp(-y * z)),
        "poisson": lambda z: anp.exp(z) - y * z,
        "huber": lambda z: anp.where(anp.abs(z - y) <= 0.5, (z - y) ** 2 / 2, 0.5 * (anp.abs(z - y) - 0.25)),
    }[loss]
    w = np.linspace(-0.5, 0.5, data.X.shape[1])
    value, gradient = value_and_grad(lambda w: anp.mean(row_loss(data.X @ w)))(w)
    ours = fastgd.kernels.loss_gradient(data.X, y, w, loss, epsilon=0.5)
    assert_allclose(ours[0], value, rtol=1e-12)
    assert_allclose(ours[1], gradient, rtol=1e-11, atol=1e-13)


def test_a_kernel_with_its_gradient_descends_to_the_least_squares_solution(data):
    fun = lambda w: fastgd.kernels.loss_gradient(data.X, data.y, w)  # noqa: E731
    result = gradient_descent(fun, np.zeros(data.X.shape[1]), jac=True)
    assert_allclose(result.x, np.linalg.lstsq(data.X, data.y, rcond=None)[0], atol=1e-5)


def test_a_torch_function_descends_through_a_callable_jac():
    torch = pytest.importorskip("torch")

    def f(x):
        return torch.exp(x[0]) + torch.exp(-2 * x[0]) + (x[1] - x[0]) ** 2

    result = gradient_descent(
        lambda x: f(torch.tensor(x)).item(),
        [1.0, 1.0],
        jac=lambda x: torch.func.grad(f)(torch.tensor(x)).numpy(),
    )
    assert_allclose(result.x, [np.log(2) / 3] * 2, atol=1e-6)


# ------------------------------------------------------------------------------------------------
# bounds
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "name, bounds",
    [
        ("rosenbrock", [(None, 0.5), (-2, 2)]),
        ("beale", [(0, 4), (0.6, None)]),
        ("quadratic 1e2", [(-0.2, 0.2)] * 5 + [(None, None)] * 5),
        ("himmelblau", [(0, 5), (0, 1.5)]),
    ],
)
def test_minima_at_bounds_are_those_of_lbfgsb(name, bounds, solver):
    function = FUNCTIONS[name]
    # the divided rules zigzag where the free coordinates are a ravine: rosenbrock takes them longer
    options = dict(jac=function.gradient, bounds=bounds)
    ours = gradient_descent(function.f, function.start, solver=solver, max_iter=20000, **options)
    theirs = minimize(
        function.f, function.start, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-8}, **options
    )
    assert ours.success, ours.message
    assert_allclose(ours.x, theirs.x, atol=1e-5)
    lower, upper = np.array([(-np.inf if a is None else a, np.inf if b is None else b) for a, b in bounds]).T
    assert np.any((ours.x == lower) | (ours.x == upper)), "no bound is active: nothing was tried"


def test_bounds_hold_at_every_point_evaluated_and_the_start_is_projected():
    points = []

    def fun(x):
        points.append(x)
        return rosenbrock(x)

    bounds = Bounds([-0.5, -0.5], [0.8, 0.4])
    result = gradient_descent(fun, [-3.0, 3.0], jac=rosenbrock_gradient, bounds=bounds)
    assert_array_equal(points[0], [-0.5, 0.4])
    assert np.all((np.array(points) >= bounds.lb) & (np.array(points) <= bounds.ub))
    as_pairs = gradient_descent(
        rosenbrock, [-3.0, 3.0], jac=rosenbrock_gradient, bounds=[(-0.5, 0.8), (-0.5, 0.4)]
    )
    assert_array_equal(as_pairs.x, result.x)


def test_a_small_gradient_at_a_large_x_is_seen_through_bounds():
    """x - clip(x - gradient) is zero here, by rounding."""
    fun, jac = lambda x: 1e-6 * (x[0] - 1e12) ** 2, lambda x: 2e-6 * (x - 1e12)
    result = gradient_descent(fun, [1e12 + 5], jac=jac, bounds=[(0, None)], tol=1e-9)
    assert result.success and result.x == pytest.approx(1e12, rel=1e-15)


def test_an_explicit_rate_is_projected_too():
    result = gradient_descent(
        parabola, [7.0], jac=parabola_gradient, learning_rate=0.1, bounds=[(3, 10)], record_path=True
    )
    assert result.success and result.x == [3.0]
    assert_allclose(result.path.ravel()[:6], [7, 6, 5.2, 4.56, 4.048, 3.6384])


@pytest.mark.parametrize(
    "bounds, complaint",
    [
        ([(0, 1)], "a .min, max. for each of the 2"),
        (3, "scipy.optimize.Bounds"),
        (Bounds([0, 0, 0], 1), "for each of the 2"),
        ([(0, 1), (1, 0)], "lower bound"),
        ([(0, np.nan), (0, 1)], "lower bound"),
    ],
)
def test_unusable_bounds_are_refused(bounds, complaint):
    with pytest.raises(ValueError, match=complaint):
        gradient_descent(parabola, [1.0, 1.0], jac=parabola_gradient, bounds=bounds)


# ------------------------------------------------------------------------------------------------
# what goes wrong
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver, bears", [("gd", 2.0), ("momentum", 3.8), ("nesterov", 2 * 1.9 / 2.8)])
def test_divergence_names_the_step_the_rate_and_the_rate_that_would_do(solver, bears):
    curvature = np.array([1.0, 50.0])
    rate = 1.1 * bears / 50
    result = gradient_descent(
        lambda x: (curvature * x**2).sum() / 2, [1.0, 1.0], jac=lambda x: curvature * x, solver=solver,
        learning_rate=rate, record_path=True,
    )  # fmt: skip
    assert (result.success, result.status) == (False, 2)
    assert f"iteration {result.nit} with learning rate {rate:.6g}" in result.message
    assert 'learning_rate="auto"' in result.message
    named = float(result.message.split("bears about ")[1].rstrip("."))
    assert named == pytest.approx(bears / 50, rel=0.1)
    assert result.fun == min(result.path_fun) and np.all(np.abs(result.x) <= 1.0)
    assert_array_equal(result.jac, curvature * result.x)


def test_a_rate_that_diverges_too_slowly_for_max_iter_is_still_named():
    options = dict(jac=parabola_gradient, max_iter=20)
    result = gradient_descent(parabola, [7.0], learning_rate=1.01, **options)
    assert not result.success and "fun rose" in result.message and "bears about 1." in result.message
    assert "fun rose" not in gradient_descent(parabola, [7.0], learning_rate=1e-4, **options).message


def test_the_rate_that_would_do_is_one_even_where_the_curvature_explodes():
    result = gradient_descent(lambda x: x[0] ** 4, [3.0], jac=lambda x: 4 * x**3, learning_rate=0.1)
    assert result.status == 2
    named = float(result.message.split("bears about ")[1].rstrip("."))
    assert 1e-3 < named < 2 / (12 * 3**2)
    assert gradient_descent(
        lambda x: x[0] ** 4, [3.0], jac=lambda x: 4 * x**3, learning_rate=named, tol=1e-2
    ).success


def test_fun_is_not_asked_at_infinity():
    def fun(x):
        assert np.all(np.isfinite(x))
        return float(np.sum(np.abs(x)))

    result = gradient_descent(fun, [1.0], jac=lambda x: 1e200 * np.sign(x), learning_rate=1e200)
    assert result.status == 2 and "x is not finite" in result.message and result.x == [1.0]


@pytest.mark.parametrize("bounds", [None, [(-50, 50)]], ids=["free", "bounded"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["fun", "jac"])
def test_a_value_that_is_not_finite_ends_a_descent_at_an_explicit_rate(bad, where, bounds):
    def fun(x):
        return bad if where == "fun" and x[0] < 3 else parabola(x)

    def jac(x):
        assert np.isfinite(fun(x)), "no gradient is needed here"
        return bad * x if where == "jac" and x[0] < 3 else parabola_gradient(x)

    result = gradient_descent(fun, [7.0], jac=jac, learning_rate=0.1, bounds=bounds)
    assert result.status == 2 and result.nit == 8  # 2 + 5 * 0.8^8 < 3
    assert_allclose(result.x, 2 + 5 * 0.8**7)
    assert ("gradient is not finite" if where == "jac" else f"fun is {bad}") in result.message


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_into_nan_is_only_a_rejected_one_with_automatic_rates(solver):
    fun = lambda x: x[0] - np.log(x[0])  # noqa: E731  NaN left of 0, minimum at 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = gradient_descent(fun, [1e-3], jac=lambda x: 1 - 1 / x, solver=solver)
    assert result.success and result.x == pytest.approx(1.0, abs=1e-5)
    # gradients that are not finite, likewise
    result = gradient_descent(
        lambda x: x[0] ** 2, [1.0], jac=lambda x: 2 * x if x[0] > 0 else np.array([np.nan]), solver=solver
    )
    assert result.x[0] > 0 and abs(result.x[0]) < 1e-5


def test_a_function_without_a_minimum_is_reported():
    for fun, jac in (
        (lambda x: x.sum(), np.ones_like),
        (lambda x: -((x - 1) ** 2).sum(), lambda x: -2 * (x - 1)),
    ):
        for solver in SOLVERS[:3]:
            result = gradient_descent(fun, [0.0, 0.0], jac=jac, solver=solver)
            assert result.status == 2 and "falls without bound" in result.message
            assert np.all(np.isfinite(result.x)) and np.isfinite(result.fun)


def test_a_start_at_which_fun_is_not_finite_is_reported():
    result = gradient_descent(lambda x: np.log(x[0]), [-1.0], jac=lambda x: 1 / x)
    assert (result.success, result.nit, result.message) == (False, 0, "Cannot start: fun is nan at x0.")
    assert_array_equal(result.x, [-1.0])


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_wrong_gradient_is_suspected(solver):
    result = gradient_descent(parabola, [7.0], jac=lambda x: -parabola_gradient(x), solver=solver)
    assert result.status == 3 and "check_grad" in result.message
    assert_array_equal(result.x, [7.0])


def test_rounding_of_the_function_does_not_stop_the_descent():
    """A value that knows ten digits: its differences say nothing near the minimum, gradients still do."""
    function = FUNCTIONS["quadratic 1e2"]
    for solver in SOLVERS[:3]:
        result = gradient_descent(
            lambda x: 1e6 + function.f(x) + 3e-10 * np.sin(1e12 * x.sum()), function.start,
            jac=function.gradient, solver=solver, tol=1e-8,
        )  # fmt: skip
        assert result.success, result.message
        assert_allclose(result.x, function.minima[0], atol=1e-7)


def test_start_at_the_minimum_takes_no_step():
    for tol in (1e-6, 0, None):
        result = gradient_descent(parabola, [2.0], jac=parabola_gradient, tol=tol)
        assert result.success and result.nit == 0 and result.nfev == result.njev == 1
        assert np.isnan(result.learning_rate)


@pytest.mark.parametrize(
    "change, error, complaint",
    [
        ({"x0": []}, ValueError, "at least one coordinate"),
        ({"x0": [np.nan]}, ValueError, "must be finite"),
        ({"x0": [[1.0, 2.0]]}, ValueError, "multi_start"),
        ({"x0": ["a"]}, TypeError, "real numbers"),
        ({"x0": [1j]}, TypeError, "real numbers"),
        ({"fun": 3}, TypeError, "fun must be callable"),
        ({"fun": lambda x: x}, ValueError, r"a number, got shape \(2,\)"),
        ({"fun": lambda x: 1j}, TypeError, "fun must be real"),
        ({"fun": lambda x: None}, TypeError, "fun must be real"),
        ({"jac": lambda x: np.ones(3)}, ValueError, r"shape \(2,\), got shape \(3,\)"),
        ({"jac": "4-point"}, ValueError, "2-point"),
        ({"jac": True}, ValueError, "pair"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"solver": "sgd"}, ValueError, "nesterov, adagrad"),
        ({"learning_rate": 0.0}, ValueError, "positive"),
        ({"learning_rate": np.inf}, ValueError, "positive"),
        ({"learning_rate": "optimal"}, ValueError, "'invscaling'"),
        ({"learning_rate": None}, ValueError, "positive"),
        ({"learning_rate": lambda k: 2.0 - k}, ValueError, r"learning_rate\(2\)"),
        ({"momentum": 1.0, "solver": "momentum"}, ValueError, "momentum"),
        ({"beta_2": -0.1}, ValueError, "beta_2"),
        ({"learning_rate": "invscaling", "power_t": np.nan}, ValueError, "power_t"),
        ({"learning_rate": "invscaling", "power_t": -1}, ValueError, "power_t"),
        ({"max_iter": -1}, ValueError, "max_iter"),
        ({"max_iter": 1.5}, ValueError, "max_iter"),
        ({"tol": np.nan}, ValueError, "tol"),
        ({"constraints": LinearConstraint(np.eye(2), 0, 1)}, ValueError, "bounds, but no other"),
    ],
)  # fmt: skip
def test_unusable_arguments_are_refused(change, error, complaint):
    arguments = {"fun": parabola, "x0": [1.0, 1.0], "jac": parabola_gradient, "learning_rate": 1e-3} | change
    with pytest.raises(error, match=complaint):
        gradient_descent(arguments.pop("fun"), arguments.pop("x0"), **arguments)


@pytest.mark.parametrize(
    "x0", [7, 7.0, [7], (7.0,), np.float32(7), np.array([7], np.int8), np.array([7.0], np.float32)]
)
def test_x0_is_taken_as_float64_whatever_it_is(x0):
    seen = []
    result = gradient_descent(lambda x: seen.append(x) or parabola(x), x0, jac=lambda x: (2 * x - 4).tolist())
    assert result.x.dtype == np.float64 and result.x.shape == (1,)
    assert all(x.dtype == np.float64 and x.shape == (1,) for x in seen)
    assert result.x == pytest.approx(2.0)


def test_fun_may_scribble_on_x_and_reuse_its_gradient():
    buffer = np.empty(2)

    def fun(x):
        value = rosenbrock(x)
        buffer[:] = rosenbrock_gradient(x)
        x[:] = np.nan
        return value, buffer

    x0 = np.array([-1.2, 1.0])
    x0.flags.writeable = False
    result = gradient_descent(fun, x0, jac=True)
    expected = gradient_descent(rosenbrock, x0, jac=rosenbrock_gradient)
    assert_array_equal(result.x, expected.x)
    assert result.nit == expected.nit


# ------------------------------------------------------------------------------------------------
# SciPy's conventions
# ------------------------------------------------------------------------------------------------


def test_scipy_minimize_takes_it_as_a_method():
    options = {"solver": "nesterov", "learning_rate": 1e-3, "max_iter": 3000, "record_path": True}
    through = minimize(rosen, [-1.2, 1.0], method=gradient_descent, jac=rosen_der, tol=1e-4, options=options)
    direct = gradient_descent(rosen, [-1.2, 1.0], jac=rosen_der, tol=1e-4, **options)
    assert through.success and isinstance(through, OptimizeResult)
    assert_array_equal(through.path, direct.path)
    assert through.message == direct.message


def test_scipy_minimize_passes_args_bounds_and_jac_true():
    def fun(x, a, b):
        return a * (x - b) @ (x - b), 2 * a * (x - b)

    result = minimize(
        fun, [9, 9], args=(3.0, 1.0), method=gradient_descent, jac=True, bounds=[(2, None), (None, 0)]
    )
    assert_allclose(result.x, [2.0, 0.0])
    one = minimize(lambda x, a: (x - a) @ (x - a), [0.0], 5.0, gradient_descent, lambda x, a: 2 * (x - a))
    assert_allclose(one.x, [5.0])


def test_scipy_minimize_without_jac_means_autograd():
    pytest.importorskip("autograd")
    assert_allclose(minimize(lambda x: (x**2 - 4 * x + 5)[0], [7.0], method=gradient_descent).x, [2.0])


def test_constraints_are_refused_and_hessians_ignored_with_a_warning():
    with pytest.raises(ValueError, match="no other constraints"):
        minimize(
            parabola, [1.0], method=gradient_descent, jac=parabola_gradient,
            constraints={"type": "eq", "fun": lambda x: x[0] - 1},
        )  # fmt: skip
    with pytest.warns(UserWarning, match="hess"):
        minimize(parabola, [7.0], method=gradient_descent, jac=parabola_gradient, hess=lambda x: [[2.0]])


@pytest.mark.parametrize("through_scipy", [False, True])
def test_callbacks_in_both_styles_see_every_step_and_stop_it(through_scipy):
    def descend(callback):
        if through_scipy:
            options = {"learning_rate": 0.1}
            return minimize(
                parabola,
                [7.0],
                method=gradient_descent,
                jac=parabola_gradient,
                callback=callback,
                options=options,
            )
        return gradient_descent(parabola, [7.0], jac=parabola_gradient, callback=callback, learning_rate=0.1)

    points, steps = [], []
    result = descend(points.append)
    assert_allclose(np.ravel(points)[:3], [6, 5.2, 4.56])
    assert len(points) == result.nit

    def stop(intermediate_result):
        steps.append(intermediate_result)
        intermediate_result.x[:] = 99.0  # its own
        if intermediate_result.nit == 3:
            raise StopIteration

    result = descend(stop)
    assert [step.nit for step in steps] == [1, 2, 3]
    assert steps[-1].fun == pytest.approx(1 + 2.56**2) and steps[-1].learning_rate == 0.1
    assert (result.success, result.status, result.nit) == (False, 99, 3)
    assert result.x == pytest.approx(4.56) and "StopIteration" in result.message


def test_floating_point_warnings_of_a_callback_are_its_own():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        gradient_descent(parabola, [7.0], jac=parabola_gradient, callback=lambda x: np.ones(1) / np.zeros(1))


def test_errors_and_ctrl_c_pass_through():
    for error in (KeyboardInterrupt, RuntimeError):

        def fun(x, error=error):
            if x[0] < 5:
                raise error
            return parabola(x)

        with pytest.raises(error):
            gradient_descent(fun, [7.0], jac=parabola_gradient, learning_rate=0.1)


def test_verbose_prints_ever_fewer_lines(capsys):
    options = dict(jac=parabola_gradient, learning_rate=1e-3, max_iter=250)
    gradient_descent(parabola, [7.0], verbose=1, **options)
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[1].rstrip(",:")) for line in lines] == [
        *range(1, 11),
        *range(20, 101, 10),
        200,
        250,
    ]
    assert "learning rate 0.001" in lines[0] and "max_iter=250" in lines[-1]
    gradient_descent(parabola, [7.0], verbose=2, **options)
    assert len(capsys.readouterr().out.splitlines()) == 251
    gradient_descent(parabola, [7.0], **options)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------
# many starts
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("rate", ["auto", 0.01])
@pytest.mark.parametrize("jac", ["callable", "pair"])
def test_descents_of_many_starts_are_those_of_each(solver, rate, jac):
    def one_row(function):  # a table of one row: squares of NumPy's scalars are rounded differently
        return lambda x: function(x[None])[0]

    def pair(fun, gradient):
        return (lambda x: (fun(x), gradient(x)), True) if jac == "pair" else (fun, gradient)

    options = dict(solver=solver, learning_rate=rate, record_path=True, max_iter=300)
    one = pair(one_row(himmelblau), one_row(himmelblau_gradient))
    all_rows = pair(himmelblau, himmelblau_gradient)
    alone = [gradient_descent(one[0], start, jac=one[1], **options) for start in STARTS]
    for vectorized, (fun, gradient) in ((False, one), (True, all_rows)):
        many = multi_start(fun, STARTS, jac=gradient, vectorized=vectorized, **options)
        assert_array_equal(many.xs, [result.x for result in alone])
        assert_array_equal(many.funs, [result.fun for result in alone])
        assert_array_equal(many.nits, [result.nit for result in alone])
        assert_array_equal(many.statuses, [result.status for result in alone])
        assert_array_equal(many.successes, [result.success for result in alone])
        assert many.nfev == sum(result.nfev for result in alone)
        for i, result in enumerate(alone):
            assert_array_equal(many.paths[i], result.path)
            assert_array_equal(many.path_funs[i], result.path_fun)
        assert many.fun == many.funs.min() and many.start == many.funs.argmin()
        assert_array_equal(many.x, many.xs[many.start])
        assert many.message == alone[many.start].message


def test_balls_roll_into_all_four_valleys():
    result = multi_start(himmelblau, STARTS[:4], jac=himmelblau_gradient, vectorized=True)
    found = result.xs[np.lexsort(np.round(result.xs, 3).T)]
    expected = np.array(HIMMELBLAU_MINIMA)
    assert_allclose(found, expected[np.lexsort(np.round(expected, 3).T)], atol=1e-6)


def test_vectorised_descents_share_their_calls():
    calls = []
    rng = np.random.default_rng(0)

    def fun(X):
        calls.append(len(X))
        return himmelblau(X), himmelblau_gradient(X)

    result = multi_start(fun, rng.uniform(-5, 5, size=(100, 2)), jac=True, vectorized=True)
    assert result.successes.all() and result.fun < 1e-12
    assert len(calls) < 0.05 * result.nfev == 0.05 * sum(calls)


def test_a_start_that_fails_does_not_take_the_others_with_it():
    fun = lambda X: np.where(X[:, 0] < 0, np.nan, (X[:, 0] - 1) ** 2)  # noqa: E731
    jac = lambda X: 2 * (X - 1)  # noqa: E731
    result = multi_start(fun, [[-1.0], [3.0]], jac=jac, vectorized=True)
    assert result.start == 1 and result.success and result.x == pytest.approx(1.0)
    assert_array_equal(result.successes, [False, True])
    failed = multi_start(fun, [[-1.0], [-2.0]], jac=jac, vectorized=True)
    assert not failed.success and "Cannot start" in failed.message


def test_callbacks_of_many_starts_say_which_and_stop_theirs(capsys):
    def stop(intermediate_result):
        if intermediate_result.start == 1 and intermediate_result.nit == 2:
            raise StopIteration

    result = multi_start(himmelblau, STARTS, jac=himmelblau_gradient, callback=stop, verbose=1)
    assert_array_equal(result.statuses, [0, 99, 0, 0, 0])
    assert "Start 4, iteration 1, fun" in capsys.readouterr().out


@pytest.mark.parametrize("starts", [[1.0, 2.0], np.empty((0, 2)), [[[1.0]]]])
def test_starts_must_be_a_table(starts):
    with pytest.raises(ValueError, match="n_starts, n"):
        multi_start(parabola, starts, jac=parabola_gradient)


def test_a_vectorised_function_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(5,\), got shape \(\)"):
        multi_start(lambda X: himmelblau(X).sum(), STARTS, jac=himmelblau_gradient, vectorized=True)
    with pytest.raises(ValueError, match=r"shape \(5, 2\), got shape \(5,\)"):
        multi_start(himmelblau, STARTS, jac=himmelblau, vectorized=True)
