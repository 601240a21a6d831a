"""The descents. A solver knows a problem by its values, gradients, metrics and epochs, and no model.

    accelerated     proximal gradient in a metric, Nesterov's momentum, adaptive restart
    variable_metric gradient in a Gram metric that learns, backtracking (no L1)
    proximal_newton the same with an L1 penalty, on quadratic models
    smoothing       a kinked loss through ever sharper smooth ones
    by_rule         the textbook: gd, momentum, Adam ... at a given learning rate
    mini_batch      epochs of compiled updates

Each fills in a `Result` as it goes, so that an interruption finds the state of the last iteration.
Full-batch descents stop when the estimated relative suboptimality is below tol^2: then the distance
to the minimum, in the metric of the problem, is about tol of the size of the problem.
"""

from dataclasses import dataclass, field

import numpy as np

from ._exceptions import DivergenceError
from ._linear import QuadraticModel
from ._metrics import Diagonal, Gram
from ._monitor import Silent


@dataclass
class Result:
    """Where a descent is. u: parameters in the problem's coordinates; gap: estimated suboptimality."""

    u: np.ndarray
    reason: str = "max_iter"
    gap: float = np.nan
    learning_rate: float = np.nan
    rose: bool = False  # the objective ended above its start


@dataclass
class EpochState:
    """All that an epoch leaves behind for the next one, or for the next call of partial_fit.

    Attributes
    ----------
    u : ndarray of shape (k, d + 1), X's dtype
    t : int
        Number of the next update, from 1.
    slots : ndarray of shape (slots of the rule, k * (d + 1))
    owed, owed_total : ndarrays of shapes (k, d) and (1,)
        Cumulative L1 penalty; empty without.
    mean, mean_count : ndarrays of shapes (k, d + 1) and (1,)
        Average of the iterates; empty without.
    """

    u: np.ndarray
    t: int
    slots: np.ndarray
    owed: np.ndarray
    mean: np.ndarray
    owed_total: np.ndarray = field(default_factory=lambda: np.zeros(1))
    mean_count: np.ndarray = field(default_factory=lambda: np.zeros(1))

    @classmethod
    def start(cls, u, plan):
        k, p = u.shape
        empty = np.empty((0, 0), u.dtype)
        return cls(
            u=np.array(u, order="C"), t=1, slots=plan.rule.init(u.size, u.dtype),
            owed=np.zeros((k, p - 1), u.dtype) if plan.penalty.l1 and plan.by_rows else empty,
            mean=np.zeros_like(u) if plan.average else empty,
        )  # fmt: skip

    @property
    def solution(self):
        """The average where averaging has begun, else the last iterate."""
        return self.mean if self.mean_count[0] > 0 else self.u


def _target(problem, objective, start, tol):
    """Suboptimality per group at which to stop.

    Relative to the objective, but for what rounding hides of the objective where the descent began:
    an exact fit has no relative suboptimality.
    """
    rounding, share = (1e-14, tol**2) if problem.X.dtype == np.float64 else (1e-11, max(tol**2, 1e-8))
    excess, scale = objective - problem.floor, start - problem.floor
    target = np.maximum(share * excess, rounding * scale) + 1e-300
    if problem.loss.target != "value":  # classes told apart: the minimum is at infinity
        target = np.where(excess <= 1e-10, np.inf, target)
    return target


# ------------------------------------------------------------------------------------------------
# full batch, learning_rate="auto"
# ------------------------------------------------------------------------------------------------


def accelerated(problem, metric, result, monitor, *, tol, momentum=True, explicit=False):
    """u <- prox(y - P^-1 grad F(y)), y ahead of u by Nesterov's momentum.

    Beck & Teboulle 2009, restarted where the momentum points uphill (O'Donoghue & Candes 2015). The
    gap to the minimum is the squared length of the step in the metric P, divided by how much flatter
    than P the objective was along the last move.
    """
    group = problem.group
    u = y = best = result.u
    t = np.ones((problem.n_groups, 1))
    last_y = last_gradient = None
    start = lowest = None
    while monitor.proceed():
        value, gradient = problem.value_and_grad(y)
        objective = value + problem.l1_value(y)
        if start is None:
            start = lowest = objective
        if not np.all(objective - problem.floor <= 2 * (start - problem.floor) + 1e-300):
            if explicit or not np.all(np.isfinite(start)):
                raise DivergenceError
            metric = metric.tightened(2.0)  # the bound was none: start again in a longer metric
            u = y = best
            t[:], last_y = 1.0, None
            continue
        if objective.sum() <= lowest.sum():
            lowest, best = objective, y
        while True:
            u_new = problem.prox(y - metric.solve(gradient), metric.lipschitz)
            step = u_new - y
            decrement = group(step * metric.apply(step))
            if metric.certified:
                break
            bound = value + (group(gradient * step) + decrement / 2)[:, 0]
            if np.all(problem.value_and_grad(u_new)[0] <= bound + 1e-14 * np.abs(value)):
                metric = metric.tightened(0.9)
                break
            metric = metric.tightened(2.0)
        flatness = np.ones_like(decrement)
        if not metric.exact:
            flatness[:] = np.nan
            if last_y is not None:
                moved = y - last_y
                bound = group(moved * metric.apply(moved))
                with np.errstate(invalid="ignore", divide="ignore"):
                    flatness = group(moved * (gradient - last_gradient)) / bound
                flatness = np.where(bound > 0, np.clip(flatness, 1e-9, 1.0), 1.0)
        gap = (decrement / (2 * flatness))[:, 0]
        result.u, result.gap = u_new, float(np.sum(gap))
        reason = monitor.report(objective.sum(), lambda: problem.coordinates.to_theta(u_new))  # noqa: B023
        if reason:
            result.reason = reason
            return
        if tol is not None and np.all(gap <= _target(problem, objective, start, tol)):
            result.reason = "converged"
            return
        uphill = group(metric.apply(y - u_new) * (u_new - u)) > 0
        t = np.where(uphill, 1.0, t)
        t_new = (1 + np.sqrt(1 + 4 * t**2)) / 2
        last_y, last_gradient = y, gradient
        y = u_new + (t - 1) / t_new * np.where(uphill, 0.0, u_new - u) if momentum else u_new
        u, t = u_new, np.where(uphill, 1.0, t_new)


def variable_metric(problem, metric, result, monitor, *, tol, memory=20, refresh=True):
    """u <- u - t H grad F(u), H^-1 a Gram metric that learns from the gradients met on the way.

    Limited-memory BFGS (Liu & Nocedal 1989) from the Gram metric instead of a multiple of the
    identity, t by backtracking. Where the loss's curvature is far from what the metric assumes, the
    pairs do not make up for it: then the metric is taken anew from the local curvature, as soon as the
    passes that this saves are worth its cost of about d / 16 passes.

    Parameters
    ----------
    metric : Gram or None
        None: that of the local curvature, from the start.
    memory : int
        Pairs of steps and gradient differences kept; 0 is plain descent in the metric.
    refresh : bool
        Whether the problem can tell its local curvature.
    """
    group = problem.group
    u = result.u
    H = problem.empty_curvature() if refresh else None
    value, gradient = problem.value_and_grad(u, H)
    start = value
    base, damping = None, 1e-4
    passes_per_metric = problem.d * (problem.k + 1 if problem.small_softmax else 1) / 16
    # pairs of coupled outputs know what the metric, one output at a time, does not: let them gather
    blocks_only = problem.loss.coupled and not (refresh and problem.small_softmax)
    least_age = 30 if blocks_only else 0
    pairs, fresh, trusted, age, calm, stalled = [], False, False, least_age, 0, 0

    def theta():
        return problem.coordinates.to_theta(result.u)

    while monitor.proceed():
        if metric is None:
            if base is None:
                base = problem.hessian_bound(_mean_curvature(problem, H))
            metric = Gram([_damped(P, damping * base) for P in problem.local_hessians(H)])
            pairs, fresh, trusted, age = [], True, True, 0
        direction = -_times_inverse_hessian(gradient, metric, pairs, group)
        slope = group(gradient * direction)
        gap = -slope[:, 0] / 2
        target = _target(problem, value, start, tol) if tol is not None else np.zeros_like(gap)
        if blocks_only:  # the estimate is a rough one, and the end is fast
            target = 1e-3 * target
        open_ = ((gap > target) | ((not trusted) & (gap > 0)))[:, None]
        calm = 0 if open_.any() else calm + 1
        result.gap = float(gap.sum())
        if calm == 2 or not gap.any():  # the pairs' estimate can be lucky once
            result.reason = monitor.report(value.sum(), theta) or "converged"
            return
        direction *= open_ | (calm > 0)
        t, tries = np.ones_like(slope), 0
        H_new = None if H is None else np.empty_like(H)
        while True:
            with np.errstate(over="ignore", invalid="ignore"):
                value_new, gradient_new = problem.value_and_grad(u + t * direction, H_new)
                rounding = (1e-15 if problem.X.dtype == np.float64 else 1e-8) * np.abs(value)
                low = value_new <= value + 1e-4 * (t * slope)[:, 0] + rounding
            low |= ~open_[:, 0]
            if low.all() or tries >= 40:
                break
            t = np.where(low[:, None], t, t / 4)
            tries += 1
        if not low.all():
            if fresh or not (refresh or pairs):  # rounding is all that is left
                result.reason = monitor.report(value.sum(), theta) or "converged"
                return
            pairs, metric = [], None if refresh else metric
            continue
        step, change = t * direction, gradient_new - gradient
        if memory:
            inner = group(step * change)
            pairs = [*pairs[-(memory - 1) :], (step, change, np.where(inner > 0, inner, np.inf))]
        stalled = stalled + 1 if np.all(value - value_new <= 1e-14 * np.abs(start)) else 0
        result.u = u + step
        reason = monitor.report(value.sum(), theta)
        if reason or (stalled == 10 and tol is not None):
            result.reason = reason or "converged"
            return
        u, value, gradient, H = result.u, value_new, gradient_new, H_new
        slope_new = group(gradient * _times_inverse_hessian(gradient, metric, pairs, group))
        with np.errstate(divide="ignore", invalid="ignore"):
            contraction = np.max(np.where(open_, slope_new / -slope, 0.0))
            ahead = np.log(np.max(np.where(open_[:, 0], gap / target, 1.0)))
            passes_left = ahead / -np.log(min(contraction, 0.99)) if contraction > 0 else 0.0
        damping = min(damping * 10, 1.0) if tries else max(damping / 10, 1e-8)
        fresh, trusted, age = False, True, age + 1
        if refresh and age > least_age and (tries > 1 or passes_left > passes_per_metric + 10):
            metric = None


def _mean_curvature(problem, H):
    if problem.loss.coupled:
        return problem.loss.curvature
    return max(float(H.sum(dtype=np.float64)) / (len(H) * problem.total_weight), 1e-12)


def _damped(P, base):
    """P + base, base being repeated down the diagonal where P covers several outputs."""
    if len(P) == len(base):
        return P + base
    return P + np.kron(np.eye(len(P) // len(base)), base)


def _times_inverse_hessian(gradient, metric, pairs, group):
    """Two-loop recursion of L-BFGS, for every group by itself."""
    q, coefficients = gradient, []
    for step, change, inner in reversed(pairs):
        a = group(step * q) / inner
        coefficients.append(a)
        q = q - a * change
    r = metric.solve(q)
    if pairs:
        step, change, inner = pairs[-1]
        squared = group(change * metric.solve(change))
        r = r * np.where(np.isfinite(inner) & (squared > 0), inner / squared, 1.0)
    for (step, change, inner), a in zip(pairs, reversed(coefficients), strict=True):
        r = r + step * (a - group(change * r) / inner)
    return r


def proximal_newton(problem, result, monitor, *, tol):
    """u <- u + t (v - u), v the minimum of the local quadratic model plus the L1 penalty.

    The quadratic model has the Hessian at u and is minimised by `accelerated`, without looking at the
    data (Lee, Sun & Saunders 2014). Damping as in `variable_metric`.
    """
    group = problem.group
    u, H = result.u, problem.empty_curvature()
    value, gradient = problem.value_and_grad(u, H)
    base = problem.hessian_bound(_mean_curvature(problem, H))
    damping, calm, start = 1e-4, 0, value + problem.l1_value(u)
    inner_tol, finest = 0.03, 0.1 * (tol or 1e-8)

    def theta():
        return problem.coordinates.to_theta(result.u)

    while monitor.proceed():
        hessians = [P + damping * base for P in problem.local_hessians(H)]
        model = QuadraticModel(problem, u, value, gradient, hessians)
        inner = Result(u)
        metric = Diagonal(model.lipschitz() or 1.0)
        accelerated(model, metric, inner, Silent(max_iter=2000), tol=inner_tol)
        direction = inner.u - u
        objective = value + problem.l1_value(u)
        model_value = model.value_and_grad(inner.u)[0] + problem.l1_value(inner.u)
        gap = objective - model_value
        target = _target(problem, objective, start, tol) if tol is not None else 0.0
        calm = calm + 1 if np.all(gap <= target) else 0
        result.gap = float(np.sum(gap))
        shares = np.abs(gap) / np.maximum(objective - problem.floor, 1e-300)
        inner_tol = np.clip(0.1 * np.sqrt(shares.max()), finest, inner_tol)  # as fine as it is worth
        slope = group(gradient * direction)[:, 0] + problem.l1_value(inner.u) - problem.l1_value(u)
        t, tries = np.ones((len(slope), 1)), 0
        H_new = np.empty_like(H)
        while True:
            with np.errstate(over="ignore", invalid="ignore"):
                u_new = u + t * direction
                value_new, gradient_new = problem.value_and_grad(u_new, H_new)
                rounding = (1e-15 if problem.X.dtype == np.float64 else 1e-8) * np.abs(objective)
                low = value_new + problem.l1_value(u_new) <= objective + 1e-4 * t[:, 0] * slope + rounding
            if low.all() or tries >= 40:
                break
            t = np.where(low[:, None], t, t / 4)
            tries += 1
        if low.all():
            result.u = u_new
        reason = monitor.report(objective.sum(), theta)
        if reason or calm == 2 or not low.all():
            result.reason = reason or "converged"
            return
        u, value, gradient, H = u_new, value_new, gradient_new, H_new
        damping = min(damping * 10, 1.0) if tries else max(damping / 10, 1e-8)


def smoothing(problem, make_solver, width, result, monitor, *, tol):
    """Minimise a kinked loss through losses with ever sharper rounded corners (Nesterov 2005).

    The width of the corners shrinks until the kinked objective itself no longer changes by tol / 50.
    make_solver : callable (smooth problem, tol) -> callable (result)
    """
    stage_tol = None if tol is None else 1e-6  # the last digits come at once: they are quadratic
    stop = 0.02 * (tol or 1e-4)
    least = width * 1e-9
    sharpest = problem.loss.params[0] if not problem.loss.kinked else 0.0  # huber is one itself
    objective = problem.objective(result.u)
    start = objective
    while not monitor.exhausted:
        width = max(width, sharpest)
        last_stage = width <= max(sharpest, least)
        smooth = problem.with_loss(problem.loss.smoothed(width))
        stage = tol if last_stage and not problem.loss.kinked else stage_tol
        make_solver(smooth, stage)(result)
        if result.reason not in ("converged", "max_iter"):
            return
        last, objective = objective, problem.objective(result.u)
        settled = np.abs(last - objective) <= stop * np.abs(objective) + 1e-12 * np.abs(start)
        if last_stage or (problem.loss.kinked and np.all(settled) and result.reason == "converged"):
            return
        result.reason = "max_iter"
        width /= 5


# ------------------------------------------------------------------------------------------------
# full batch, explicit learning rate
# ------------------------------------------------------------------------------------------------


def by_rule(problem, plan, state, result, monitor, *, tol, metric=None):
    """The textbook descent: u <- rule(u, grad F(u), learning rate), no momentum but the rule's own."""
    rule, schedule = plan.rule, plan.schedule
    u = np.array(result.u)
    l2, l1 = problem.penalty.l2, problem.penalty.l1
    thresholds = problem.l1_thresholds()
    order = np.zeros(1, dtype=np.intp)
    start = last = None
    best, waited = np.inf, 0
    while monitor.proceed():
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = problem.value_and_grad(u)
            objective = value + problem.l1_value(u)
            total = float(np.sum(objective - problem.floor))
        start = total if start is None else start
        if not total <= 1e3 * start + 1e-300:
            raise DivergenceError
        if l1 and rule.name != "gd":  # the smallest subgradient (Andrew & Gao 2007)
            sign = np.where(u != 0, np.sign(u), -np.sign(gradient))
            least = np.where(u != 0, thresholds, np.minimum(thresholds, np.abs(gradient)))
            gradient = gradient + least * sign
        gap = np.inf
        if last is not None:
            moved, change = u - last[0], gradient - last[1]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                curvature = np.sum(moved * change) / np.sum(moved * moved)
                gap = float(np.sum(gradient * gradient) / (2 * curvature)) if curvature > 0 else np.inf
        if not np.any(gradient):
            gap = 0.0
        last = (np.array(u), gradient)
        step = float(schedule.steps(state.t, order, 1)[0])
        direction = gradient if metric is None else metric.solve(gradient)
        if rule.name == "adamw" and l2:
            direction = direction - l2 * u * np.append(np.ones(problem.d), 0.0)
        if plan.clip_norm:
            norm = np.linalg.norm(direction)
            if norm > plan.clip_norm:
                direction = direction * (plan.clip_norm / (norm + 1e-6))  # as in torch
        if rule.name == "adamw" and l2:
            u[:, :-1] *= 1 - step * l2
        flat = np.ascontiguousarray(direction).reshape(-1)
        plan.update(u.reshape(-1), flat, state.slots, step, state.t)
        state.t += 1
        if l1:
            if rule.name == "gd":
                u = problem.prox(u, 1 / step)
            else:
                u[last[0] * u < 0] = 0
        result.u, result.gap, result.learning_rate = u, gap, step
        reason = monitor.report(objective.sum(), lambda: np.array(problem.coordinates.to_theta(u)))  # noqa: B023
        if reason:
            result.reason = reason
            break
        if tol is not None and gap <= np.sum(_target(problem, objective, start, tol)):
            result.reason = "converged"
            break
        best, waited = (total, 0) if total < best * (1 - tol if tol else 1) else (best, waited + 1)
        if schedule.smallest is not None and waited >= plan.n_iter_no_change:
            waited = 0
            if not schedule.shrink():
                result.reason = "converged"
                break
    final = float(np.sum(problem.objective(u) - problem.floor))
    if not final <= 2 * start + 1e-300:
        raise DivergenceError
    result.rose = final > start


# ------------------------------------------------------------------------------------------------
# mini-batches
# ------------------------------------------------------------------------------------------------


SEGMENT_WORK = 50_000_000  # multiplications between two looks at Ctrl-C, well below a second


def run_epoch(problem, state, plan, order):
    """One epoch over the rows of `order`; mean loss met on the way, and the last step size."""
    steps = plan.schedule.steps(state.t, order, plan.batch_size)
    work_per_batch = plan.batch_size * (problem.d + 1) * problem.k
    batches = max(1, SEGMENT_WORK // work_per_batch)
    total = 0.0
    for first in range(0, len(steps), batches):
        rows = order[first * plan.batch_size : (first + batches) * plan.batch_size]
        total += problem.run_epoch(state, rows, steps[first : first + batches], plan)
    return total / len(order), float(steps[-1])


def mini_batch(problem, plan, state, result, monitor, rng, *, tol):
    """Epochs until the objective stops falling by a share of tol for n_iter_no_change epochs.

    The objective of an epoch is the mean loss that its rows had when they were met, plus the penalty.
    """
    rows = np.arange(len(problem.X), dtype=np.intp)
    to_theta = problem.coordinates.to_theta
    start = float(np.sum(problem.objective(state.u.astype(np.float64)) - problem.floor))
    floor = float(np.sum(problem.floor))
    best, waited = np.inf, 0
    while monitor.proceed():
        order = rng.permutation(rows) if plan.shuffle else rows
        with np.errstate(over="ignore", invalid="ignore"):
            loss, result.learning_rate = run_epoch(problem, state, plan, order)
            objective = loss + float(problem.penalty.value(to_theta(state.u)).sum())
        if not np.isfinite(objective) or not np.isfinite(state.u).all():
            raise DivergenceError
        start = start or objective - floor  # the perceptron starts at a loss of zero
        result.u = np.array(state.solution)
        reason = monitor.report(objective, lambda: to_theta(result.u))
        if reason:
            result.reason = reason
            break
        improved = objective - floor < (1 - (tol or 0.0)) * (best - floor)
        waited = 0 if improved or tol is None else waited + 1
        best = min(best, objective)
        if waited >= plan.n_iter_no_change or (waited >= 2 and plan.auto_rate):
            if plan.schedule.smallest is None or not plan.schedule.shrink():
                result.reason = "converged"
                break
            waited = 0
    final = float(np.sum(problem.objective(result.u.astype(np.float64)) - problem.floor))
    if not final <= 10 * start + 1e-300:
        raise DivergenceError
