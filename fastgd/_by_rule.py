"""The textbook descent: an update rule at a given learning rate, on the whole data."""

import numpy as np

from ._exceptions import DivergenceError
from ._quadratic import QuadraticModel
from ._solvers import target_gap, tolerances

MAX_GROWTH = 1e3  # of the objective above its floor while descending, beside where it began
MAX_RISE = 2.0  # of the same at the end


def by_rule(problem, plan, state, result, monitor, *, tol, metric=None):
    """u <- rule(u, grad F(u), learning rate), no momentum but the rule's own."""
    if _compiled(problem, plan, monitor) and metric is None:
        start = float(np.sum(problem.objective(result.u) - problem.floor))
        limits = tolerances(problem, start, tol)
        problem.by_rule(plan, state, result, monitor, start, limits)
    else:
        start = _iterate(problem, plan, state, result, monitor, tol, metric)
    final = float(np.sum(problem.objective(result.u) - problem.floor))
    if not final <= MAX_RISE * start + 1e-300:
        raise DivergenceError
    result.rose = final > start


def _compiled(problem, plan, monitor):
    """Whether an iteration is the rule and nothing else."""
    decays = plan.rule.name == "adamw" and problem.penalty.l2
    extras = problem.penalty.l1 or plan.clip_norm or decays or plan.schedule.smallest is not None
    return isinstance(problem, QuadraticModel) and monitor.quiet and not extras


def _iterate(problem, plan, state, result, monitor, tol, metric):
    """Returns by how much the objective was above its floor at the start."""
    rule, schedule = plan.rule, plan.schedule
    u = np.array(result.u)
    l2, l1 = problem.penalty.l2, problem.penalty.l1
    thresholds = problem.l1_thresholds()
    order = np.zeros(1, dtype=np.intp)
    to_theta = problem.coordinates.to_theta
    patience = 30 if plan.auto_rate else plan.n_iter_no_change  # iterations are not epochs
    start = limits = last = None
    best, waited = np.inf, 0
    while monitor.proceed():
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = problem.value_and_grad(u)
            objective = value + problem.l1_value(u)
            total = float(np.sum(objective - problem.floor))
        if start is None:
            start, limits = total, tolerances(problem, total, tol)
        if not total <= MAX_GROWTH * start + 1e-300:
            raise DivergenceError
        if l1 and rule.name != "gd":
            gradient = smallest_subgradient(u, gradient, thresholds)
        gap = np.inf
        if last is not None:
            moved, change = u - last[0], gradient - last[1]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                curvature = np.sum(moved * change) / np.sum(moved * moved)
                gap = float(np.sum(gradient * gradient) / (2 * curvature)) if curvature > 0 else np.inf
        if not np.any(gradient):
            gap = 0.0
        if tol is not None and gap <= np.sum(target_gap(problem, objective, limits)):
            result.u, result.gap = np.array(u), gap  # here it is: momentum would carry past it
            result.reason = monitor.report(objective.sum(), lambda: to_theta(result.u)) or "converged"
            break
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
        reason = monitor.report(objective.sum(), lambda: np.array(to_theta(u)))  # noqa: B023
        if reason:
            result.reason = reason
            break
        best, waited = (total, 0) if total < best * (1 - tol if tol else 1) else (best, waited + 1)
        if schedule.smallest is not None and waited >= patience:
            waited = 0
            if not schedule.shrink():
                result.reason = "converged"
                break
    return start


def smallest_subgradient(u, gradient, thresholds):
    """That of the objective, thresholds * |u| included (Andrew & Gao 2007)."""
    sign = np.where(u != 0, np.sign(u), -np.sign(gradient))
    least = np.where(u != 0, thresholds, np.minimum(thresholds, np.abs(gradient)))
    return gradient + least * sign
