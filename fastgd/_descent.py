"""From a problem and a plan to a minimum: which solver, in which coordinates, in which metric.

This is where what the plan left to the data is settled: the scales of the columns, the curvature of
the loss, the largest stable learning rate.
"""

import warnings
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ._active_set import active_set
from ._by_rule import by_rule
from ._coordinates import standardised
from ._epochs import EpochState, alone, mini_batch
from ._exceptions import DivergenceError
from ._metrics import GRAM_LIMIT, Diagonal, Gram
from ._monitor import Silent
from ._network import RATES
from ._optimizers import ACCELERATED_LIMIT
from ._proximal_newton import proximal_newton
from ._quadratic import QuadraticModel
from ._row_sample import RowSample
from ._schedules import Adaptive, CappedSteps, Constant
from ._solvers import Result, accelerated, newton, smoothing, variable_metric
from ._threads import one_blas_thread
from ._working_set import working_sets

STREAMED_PER_COLUMN = 32  # rows of a chunk, from which it pays to ask how far they point the same way


def minimise(problem, plan, monitor, *, theta=None, rng=None, state=None):
    """Minimise a problem as planned.

    Parameters
    ----------
    theta : ndarray of shape (k, d + 1) or None
        Where to start; None leaves it to `start`.
    state : EpochState or None
        State of the epochs of an earlier fit, continued.

    Returns
    -------
    theta : ndarray of shape (k, d + 1)
    result : Result
    state : EpochState or None
    """
    if plan.in_row_space and theta is None:
        return _minimise_in_row_space(problem, plan, monitor)
    # a network gives its threads to BLAS or keeps them, batch by batch
    with nullcontext() if plan.hidden else one_blas_thread(problem.X.size * (problem.d + problem.k)):
        descent = minimising(problem, plan, monitor, theta=theta, rng=rng, state=state)
        return alone(descent, problem, plan, rng)


def minimising(problem, plan, monitor, *, theta=None, rng=None, state=None):
    """`minimise` as a generator, which asks for epochs as `mini_batch` does."""
    if plan.in_row_space:  # a given start need not lie in the space of the rows
        plan = replace(plan, in_row_space=False, preconditioner="diag")
    moments = set_scales(problem, plan)
    u = start(problem, plan, rng) if theta is None else problem.coordinates.from_theta(theta)
    result = Result(u, moments=moments)
    try:
        if plan.full:
            state = _full_batch(problem, plan, state, result, monitor)
        else:
            u = result.u.astype(problem.X.dtype)
            state = state.resumed(problem, plan, u) if state else EpochState.start(problem, plan, u)
            yield from mini_batch(problem, plan, state, result, monitor, tol=plan.tol)
    except KeyboardInterrupt:
        result.reason = "interrupted"
        warnings.warn(
            f"Training was interrupted after {monitor.n_iter} iterations; the weights are those of "
            "the last one.",
            UserWarning,
            stacklevel=4,
        )
    except DivergenceError:
        raise _divergence(problem, plan, result) from None
    theta = problem.coordinates.to_theta(result.u.astype(np.float64))
    if not np.isfinite(theta).all():
        raise _divergence(problem, plan, result)
    if result.reason == "max_iter" and plan.tol is not None:
        _warn_of_distance(problem, plan, result)
    return theta, result, state


def _minimise_in_row_space(problem, plan, monitor):
    """Far more columns than rows: see _row_space.py."""
    moments = problem.means_and_variances() if problem.fit_intercept else None
    space = problem.row_space(moments[0] if moments else np.zeros(problem.d))
    monitor.to_theta = space.to_columns
    small, plan = problem.over(space.Z), replace(plan, in_row_space=False)
    theta, result, _ = minimise(small, plan, monitor)  # the state of an update rule is of other parameters
    result.moments = moments
    return space.to_columns(theta), result, None


def one_epoch(problem, plan, theta, state, rng):
    """One epoch over a chunk of a stream; returns the state, the last step size, and the mean loss met."""
    u = problem.coordinates.from_theta(theta).astype(problem.X.dtype, copy=False)
    state = state.resumed(problem, plan, u) if state else EpochState.start(problem, plan, u)

    floor, mean_weight = float(np.sum(problem.floor)), problem.total_weight / len(problem.X)

    def excess(u):
        return float(np.sum(problem.objective(u.astype(np.float64)))) - floor

    with np.errstate(over="ignore", invalid="ignore"):
        start = 0.0 if state.scale else excess(state.u)
        state.scale = max(state.scale, start, problem.loss_of_nothing() / mean_weight)
        loss, step = problem.epoch(state, plan, rng)
        # automatic steps of a linear model are bounded, and make up for what a few first rows have led to
        bound = state.scale * (1e30 if plan.auto_rate and not plan.hidden else 1e6)
        diverged = not np.isfinite(state.u).all()
        if not diverged and not loss / mean_weight - floor <= bound:  # it may have recovered within the chunk
            diverged = not excess(state.u) <= bound
    if diverged:
        raise _divergence(problem, plan, Result(u, learning_rate=step))
    return state, step, loss


def start(problem, plan, rng):
    """Where to start: a network at random; a linear model at zero, with learning_rate="auto" but for
    intercepts at the best constant prediction.
    """
    if plan.hidden:
        return problem.architecture.initial(rng)
    u = np.zeros((problem.k, problem.d + 1))  # where all weights are zero, so are they in any coordinates
    if plan.auto_rate and problem.fit_intercept:
        u[:, -1] = problem.baseline()
    return u


def set_scales(problem, plan, moments=None, rows_before=None):
    """Coordinates of the descent and, for mini-batches with learning_rate="auto", the steps.

    moments : (means, variances) of the columns as known from a stream, or None to measure them
    rows_before : rows of the stream before these, or None

    Returns
    -------
    moments : where a linear model has asked for them, else None
    """
    curvature = typical_curvature(problem)
    if plan.hidden:
        if (plan.auto_rate or plan.preconditioner == "diag") and problem.coordinates.identity:
            problem.standardise()
        if plan.auto_rate:
            problem.set_unit(curvature)
            rate = RATES.get(plan.solver, 1e-3)
            if plan.rule.limit is not None:  # its steps grow with the gradient
                rate /= 1 + problem.penalty_curvature
            plan.schedule = Adaptive(rate, smallest=0.01 * rate)
        return None
    if plan.preconditioner == "diag" or (plan.preconditioner == "gram" and plan.auto_rate):
        if moments is None:
            moments = problem.means_and_variances()
        # a batch of few entries cannot afford the offset of every column
        centred = problem.fit_intercept and not plan.by_entries
        problem.coordinates = standardised(
            *moments, ridge=problem.penalty.l2 / curvature, fit_intercept=centred
        )
    if plan.auto_rate and not plan.full:
        _set_automatic_steps(problem, plan, curvature, rows_before)
    return moments


def _set_automatic_steps(problem, plan, curvature, rows_before):
    """Those of mini-batches of a linear model."""
    streaming = rows_before is not None
    if plan.rule.limit is None:  # steps of the adam family have the size of the rate itself
        rate = 0.01 * _size_of_step(problem, plan)
        if streaming and plan.rule.name in ("adam", "adamw"):  # no plateau shortens their steps
            # that a prediction moves by its size at most
            rate /= max(1.0, 0.01 * _typical_row_sum(problem, plan))
        plan.schedule = Adaptive(rate, smallest=1e-4)
        plan.schedule.smallest *= plan.schedule.eta
        return

    horizon = 1000 if streaming else len(problem.X)
    drawn = plan.shuffle and (not streaming or len(problem.X) >= STREAMED_PER_COLUMN * (problem.d + 100))
    plan.schedule = CappedSteps(problem.bounds_of_steps(plan, curvature, drawn), horizon, rows_before)
    if problem.loss.curvature is None:
        plan.slope_bound = curvature * problem.total_weight / len(problem.X)


def _size_of_target(problem):
    """Typical size of the predictor: the spread of y, or one for margins and on a log scale."""
    if problem.loss.target != "value" or problem.loss.log_link:
        return 1.0
    Y = problem.Y.astype(np.float64)
    deviation = np.abs(Y - problem.loss.baseline(problem.Y, problem.weight)[:, None]).mean(axis=0)
    return float(np.average(deviation, weights=problem.weight)) or 1.0


def _size_of_step(problem, plan):
    """Rate at which the adam family takes steps of the size of the target; rmsprop's first is longer."""
    size = _size_of_target(problem)
    return size * (1 - plan.hyper[2]) ** 0.5 if plan.rule.name == "rmsprop" else size


def _typical_row_sum(problem, plan):
    """|x|_1 of a row in the problem's coordinates, at most: sqrt(entries) |x|_2."""
    entries = problem.X.row_length if plan.by_entries else problem.d
    return float(np.sqrt(entries * problem.row_norms().mean()))


def typical_curvature(problem):
    """Curvature of the loss: its bound, else that at the best constant, else slope over size."""
    loss = problem.loss
    if loss.curvature is None:
        if loss.name == "gamma":
            return 1.0
        return float(np.average(problem.Y, axis=1, weights=problem.weight).max()) or 1.0
    if np.isfinite(loss.slope):
        return min(loss.curvature or np.inf, loss.slope / _size_of_target(problem))
    return loss.curvature


# ------------------------------------------------------------------------------------------------
# full batch
# ------------------------------------------------------------------------------------------------


def _full_batch(problem, plan, state, result, monitor):
    """Returns the state of the update rule, None where the descent has none to keep."""
    if plan.auto_rate and plan.solver in ("gd", "nesterov"):
        if np.isfinite(problem.loss.slope):
            by_output = problem.k > 1 and problem.loss.target == "value"
            (_smoothing_of_outputs if by_output else _smoothing)(problem, plan, result, monitor)
            result.learning_rate = 1.0
        else:
            result.learning_rate = _smooth(problem, plan, result, monitor, plan.tol)
        return None
    if plan.accelerate and plan.preconditioner != "gram":
        _accelerated_at_rate(problem, plan, result, monitor)
        return None
    start_or_resume = state.resumed if state else EpochState.start
    state = start_or_resume(problem, plan, result.u)
    if plan.auto_rate:
        _rule_with_auto_rate(problem, plan, state, result, monitor)
    else:
        _rule_at_rate(problem, plan, state, result, monitor)
    return state


def _smooth(problem, plan, result, monitor, tol):
    """Accelerated or local descent of a smooth loss; returns the step in the metric's own unit."""
    loss, momentum = problem.loss, plan.accelerate
    affordable = problem.d < GRAM_LIMIT
    if plan.preconditioner == "gram":
        if loss.kernel == "squared_error":
            newton(problem, Gram([problem.hessian_bound(1.0)], problem.rounding), result, monitor, tol=tol)
        else:
            memory, refresh = 20 if momentum else 0, loss.kernel != "softmax_brier_score"
            sample = RowSample.of(problem)
            bound = None  # the local curvature of few columns, or of a sample, costs less than a pass
            if loss.curvature and (problem.d > 16 or loss.coupled) and sample is None:
                bound = Gram([problem.hessian_bound(loss.curvature)], problem.rounding)
            variable_metric(
                problem, bound, result, monitor, tol=tol, memory=memory, refresh=refresh, sample=sample
            )
        return 1.0
    diag = plan.preconditioner == "diag"
    if affordable and diag and momentum and not loss.coupled and loss.kernel != "squared_error":
        proximal_newton(problem, result, monitor, tol=tol)
        return 1.0
    if loss.kernel == "squared_error" and affordable:
        problem = QuadraticModel.gram_form(problem, result.u)
        if problem.penalty.l1 and diag and momentum and active_set(problem, result, monitor, tol=tol):
            return 1.0
        lipschitz, certified = problem.lipschitz(), True
    else:
        certified = affordable and loss.curvature is not None
        curvature = loss.curvature or typical_curvature(problem)
        if not affordable and diag and momentum:
            if not problem.penalty.l1:  # a third of the passes
                metric = Diagonal(curvature, certified=False)
                variable_metric(problem, metric, result, monitor, tol=tol, memory=10, refresh=False)
                return 1.0
            if tol is not None and not loss.coupled:

                def solve(part, inner):
                    _smooth(part, plan, inner, monitor, tol)

                if working_sets(problem, result, monitor, solve, curvature, tol=tol):
                    return 1.0
        lipschitz = problem.lipschitz(curvature, affordable)
    metric = Diagonal(lipschitz or 1.0, certified)
    accelerated(problem, metric, result, monitor, tol=tol, momentum=momentum)
    return 1.0 / metric.lipschitz


def _smoothing_of_outputs(problem, plan, result, monitor):
    """Each output has a scale, and so a descent, of its own; the monitor sees them side by side."""
    parts = [Result(u[None]) for u in result.u]
    paths = [Silent(max_iter=monitor.max_iter, keep_path=not monitor.quiet) for _ in parts]

    def theta_at(t):
        theta = np.array(problem.coordinates.to_theta(result.u))
        for c, path in enumerate(paths):
            theta[c] = path.path[min(t, len(path.path) - 1)] if path.path else theta[c]
        return theta

    interrupt = None
    try:
        for c, (part, path) in enumerate(zip(parts, paths, strict=True)):
            _smoothing(problem.output(c), plan, part, path)
    except KeyboardInterrupt as error:  # what there is is kept
        interrupt = error
    result.u = np.concatenate([part.u for part in parts])
    result.reason = max((part.reason for part in parts), key=("converged", "max_iter").index)
    for c, path in enumerate(paths):
        path.curve = path.curve or [float(problem.output(c).objective(parts[c].u).sum())]
    for t in range(max(path.n_iter for path in paths)):
        monitor.proceed()
        objective = sum(path.curve[min(t, path.n_iter - 1)] for path in paths)
        reason = monitor.report(objective, lambda t=t: theta_at(t))
        if reason:
            result.u, result.reason = problem.coordinates.from_theta(theta_at(t)), reason
            break
    if interrupt:
        raise interrupt


def _smoothing(problem, plan, result, monitor):
    """Kinked losses, and Huber's."""
    sample = RowSample.of(problem) if plan.preconditioner == "gram" else None

    def make_solver(smooth, tol):
        def solve(result):
            if plan.preconditioner == "gram":
                rows = sample and sample.anew()
                variable_metric(smooth, None, result, monitor, tol=tol, memory=0, sample=rows)
            else:
                _smooth(smooth, plan, result, monitor, tol)

        return solve

    width = 4 * _size_of_target(problem)  # nearly quadratic to begin with
    smoothing(problem, make_solver, width, result, monitor, tol=plan.tol)


def _rule_with_auto_rate(problem, plan, state, result, monitor):
    """momentum at the inverse of the metric's bound; the adam family at steps that shrink."""
    metric = None
    curvature = typical_curvature(problem)
    if plan.rule.limit is None:
        plan.schedule = Adaptive(0.1 * _size_of_step(problem, plan))
    elif plan.preconditioner == "gram":
        metric = Gram([problem.hessian_bound(curvature)], problem.rounding)
        plan.schedule = Constant(1.0) if problem.loss.curvature else Adaptive(0.3)
    else:
        rate = 1.0 / (problem.lipschitz(curvature, problem.d < GRAM_LIMIT) or 1.0)
        plan.schedule = Constant(rate) if problem.loss.curvature else Adaptive(0.3 * rate)
    plan.schedule.smallest = plan.schedule.smallest and 1e-6 * plan.schedule.eta
    by_rule(problem, plan, state, result, monitor, tol=plan.tol, metric=metric)


def _in_gram_form(problem, plan, result):
    """Squared error with more iterations ahead than columns: iterate on the Gram matrix instead."""
    squared = problem.loss.kernel == "squared_error"
    if squared and problem.d < min(plan.max_iter, GRAM_LIMIT):
        return QuadraticModel.gram_form(problem, result.u)
    return problem


def _accelerated_at_rate(problem, plan, result, monitor):
    result.learning_rate = plan.schedule.eta
    model = _in_gram_form(problem, plan, result)
    metric = Diagonal(1.0 / result.learning_rate)
    accelerated(model, metric, result, monitor, tol=plan.tol, explicit=True)
    _check_end(problem, plan, result)


def _rule_at_rate(problem, plan, state, result, monitor):
    if plan.preconditioner == "gram":
        metric = Gram([problem.hessian_bound(typical_curvature(problem))], problem.rounding)
        by_rule(problem, plan, state, result, monitor, tol=plan.tol, metric=metric)
    else:
        model = _in_gram_form(problem, plan, result)
        by_rule(model, plan, state, result, monitor, tol=plan.tol)
    _check_end(problem, plan, result)


def _check_end(problem, plan, result):
    """A rate above the stable one is an error, even if max_iter ended the run before it exploded."""
    if result.rose and _stable_rate(problem, plan) < result.learning_rate:
        raise DivergenceError


# ------------------------------------------------------------------------------------------------
# what to tell the user
# ------------------------------------------------------------------------------------------------


def _stable_rate(problem, plan):
    """Largest rate at which full-batch descent converges; nan where none is known."""
    if not plan.full or plan.rule.limit is None or plan.preconditioner == "gram":
        return np.nan
    limit = ACCELERATED_LIMIT if plan.accelerate else plan.rule.limit(plan.hyper[0])
    curvature = typical_curvature(problem)
    with np.errstate(divide="ignore"):
        return limit / np.float64(problem.lipschitz(curvature, problem.d < GRAM_LIMIT))


def _divergence(problem, plan, result):
    rate = result.learning_rate
    if not rate == rate and plan.schedule is not None:
        rate = plan.schedule.eta
    at_rate = f" with learning rate {rate:.6g}" if rate == rate else ""  # NaN: it diverged at the start
    message = f"Descent diverged{at_rate} (solver={plan.solver!r})."
    stable = _stable_rate(problem, plan)
    if at_rate and stable == stable:
        about = "" if problem.loss.kernel == "squared_error" else "about "
        message += f" The largest stable rate is {about}{stable:.6g}."
    slower = "larger alpha" if plan.rate_from == "alpha" else f"smaller {plan.rate_from or 'learning_rate'}"
    if plan.hidden:
        message += (
            f" It exploded in {problem.largest_layer(result.u)}. Set a {slower}, "
            "clip_norm=1, or batch_norm=True, and scale X (sklearn.preprocessing.StandardScaler)."
        )
    elif plan.rate_from is None:
        message += " Scale X (sklearn.preprocessing.StandardScaler) and look for outliers in X and y."
    else:
        message += (
            f' Set a {slower}, or learning_rate="auto", or scale X (sklearn.preprocessing.StandardScaler).'
        )
    return DivergenceError(message)


def _warn_of_distance(problem, plan, result):
    """How far from the minimum a fit stopped: the step of the metric of the data tells."""
    message = f"max_iter={plan.max_iter} was reached before convergence."
    if plan.full:
        value, gap = _distance(problem, result)
        if np.isfinite(gap) and value > 0:
            message += f" The objective is about {100 * gap / value:.3g} % above its minimum."
    remedy = "Increase max_iter"
    if plan.rate_from:
        rate, stable = result.learning_rate, _stable_rate(problem, plan)
        if rate > stable:
            remedy = f"The learning rate {rate:.6g} is above the largest stable one, {stable:.6g}: lower it"
        elif plan.rate_from != "alpha":  # which is what is to be minimised
            known = f"; largest stable: {stable:.6g}" if stable == stable else ""
            name = {"eta0": "eta0 (last rate "}.get(plan.rate_from, "the learning rate (")
            remedy += f", or {name}{rate:.6g}{known})"
        remedy += ', or set learning_rate="auto"'
    warnings.warn(f"{message} {remedy}, or raise tol.", ConvergenceWarning, stacklevel=5)


def _distance(problem, result):
    """Objective above its floor, and estimated suboptimality."""
    value, gradient = problem.value_and_grad(result.u)
    objective = float(np.sum(value + problem.l1_value(result.u) - problem.floor))
    gap = result.gap
    if problem.d < GRAM_LIMIT and not problem.penalty.l1 and not np.isfinite(problem.loss.slope):
        metric = Gram([problem.hessian_bound(typical_curvature(problem))], problem.rounding)
        gap = float(np.sum(gradient * metric.solve(gradient))) / 2
    return objective, min(gap, objective)
