"""The textbook descents of many candidates in step: one evaluation of the problem serves all of them.

Each candidate does what `_by_rule.by_rule` or `_solvers.accelerated` would do with it alone, in the same
order and with the same tests, on arrays with a leading axis of candidates. Those that are done drop out.

In: a problem of `_candidates.py` and a Plan per candidate, of one update rule. Out: a `Descent` each.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from ._by_rule import MAX_GROWTH, MAX_RISE, smallest_subgradient
from ._penalties import soft_threshold
from ._schedules import Constant
from ._solvers import target_gap, tolerances


@dataclass
class Descent:
    """Where the descent of a candidate ended.

    Attributes
    ----------
    u : ndarray of shape (k, d + 1)
    n_iter : int
    reason : {"converged", "max_iter"}
    objective : float
        What a fit would have written last into its `loss_curve_`.
    learning_rate : float
        The last step size.
    diverged : bool
    """

    u: np.ndarray
    n_iter: int
    reason: str
    objective: float
    learning_rate: float
    diverged: bool = False


class _State(SimpleNamespace):
    """Arrays with an entry per candidate still under way."""

    def keep(self, mask):
        for name, array in vars(self).items():
            setattr(self, name, array[mask])


def lockstep(problem, plans, stable_rate):
    """Descend with every plan from zero.

    Parameters
    ----------
    problem : PassCandidates or QuadraticCandidates
    plans : list of Plan
        Full batch, explicit learning rate, no preconditioner; one update rule.
    stable_rate : callable (problem of a candidate, plan) -> float
        Asked of candidates that end above their start.

    Returns
    -------
    descents : list of Descent
    """
    with np.errstate(all="ignore"):
        descents = (_accelerated if plans[0].accelerate else _by_rule)(problem, plans)
        for i, descent in enumerate(descents):
            if getattr(descent, "rose", False):
                descent.diverged = bool(stable_rate(problem.of(i), plans[i]) < descent.learning_rate)
    for descent in descents:
        descent.diverged |= not np.isfinite(descent.u).all()
    return descents


def _begin(problem, plans):
    """State at zero, tolerances as numbers, and the book of ends."""
    n = len(plans)
    state = _State(
        id=np.arange(n),
        u=np.zeros((n, problem.k, problem.d + 1)),
        start=np.full((n, problem.n_groups), np.nan),
        tol=np.array([np.nan if plan.tol is None else plan.tol for plan in plans]),
        max_iter=np.array([plan.max_iter for plan in plans]),
        rate=np.array([plan.schedule.eta for plan in plans], dtype=np.float64),
    )
    return state, [None] * n


def _end(ends, state, mask, n_iter, reason, objective, u=None, diverged=False):
    """Write down those of the mask."""
    u = state.u if u is None else u
    for j in np.flatnonzero(mask):
        ends[state.id[j]] = Descent(
            np.array(u[j]), n_iter, reason, float(objective[j].sum()), float(state.rate[j]), diverged
        )


def _accelerated(problem, plans):
    """`_solvers.accelerated` with explicit rates."""
    group, floor = problem.group, problem.floor
    state, ends = _begin(problem, plans)
    state.y = state.last_y = state.last_gradient = state.u
    state.t = np.ones((len(plans), problem.n_groups, 1))
    n_iter = 0
    while len(state.id):
        n_iter += 1
        value, state.gradient = problem.value_and_grad(state.y, state.id)
        state.objective = value + problem.l1_value(state.y, state.id)
        if n_iter == 1:
            state.start = state.objective
        bound = 2 * (state.start - floor) + 1e-300
        lost = ~np.all(state.objective - floor <= bound, axis=1)
        if lost.any():
            _end(ends, state, lost, n_iter, "max_iter", state.objective, diverged=True)
            state.keep(~lost)
            if not len(state.id):
                break
        lipschitz = 1.0 / state.rate[:, None, None]
        y, gradient = state.y, state.gradient
        u_new = soft_threshold(y - gradient / lipschitz, problem.thresholds(state.id) / lipschitz)
        step = u_new - y
        decrement = group(step * step * lipschitz)
        flatness = np.full_like(decrement, np.nan)
        if n_iter > 1:
            moved = y - state.last_y
            bound = group(moved * moved * lipschitz)
            flatness = group(moved * (gradient - state.last_gradient)) / bound
            flatness = np.where(bound > 0, np.clip(flatness, 1e-9, 1.0), 1.0)
        gap = (decrement / (2 * flatness))[..., 0]
        limits = tolerances(problem, state.start, state.tol[:, None])
        target = target_gap(problem, state.objective, limits)
        converged = np.all(gap <= target, axis=1) & np.isfinite(state.tol)
        over = ~converged & (n_iter >= state.max_iter)
        _end(ends, state, converged, n_iter, "converged", state.objective, u_new)
        _end(ends, state, over, n_iter, "max_iter", state.objective, u_new)
        uphill = group((y - u_new) * lipschitz * (u_new - state.u)) > 0
        t = np.where(uphill, 1.0, state.t)
        t_new = (1 + np.sqrt(1 + 4 * t**2)) / 2
        state.last_y, state.last_gradient = y, gradient
        state.y = u_new + (t - 1) / t_new * np.where(uphill, 0.0, u_new - state.u)
        state.u, state.t = u_new, np.where(uphill, 1.0, t_new)
        if converged.any() or over.any():
            state.keep(~(converged | over))
    return ends


def _by_rule(problem, plans):
    """`_by_rule.by_rule`"""
    rule, floor = plans[0].rule, problem.floor
    state, ends = _begin(problem, plans)
    n, k, p = state.u.shape
    state.slots = np.zeros((n, rule.slots, k * p))
    state.last_u = state.last_gradient = state.u
    state.clip = np.array([plan.clip_norm or np.inf for plan in plans])
    state.decay = problem.l2 if rule.name == "adamw" else np.zeros(n)
    constant = all(type(plan.schedule) is Constant for plan in plans)
    patience = [_Patience(plan) for plan in plans]
    order = np.zeros(1, dtype=np.intp)
    n_iter = 0
    unfinished = []
    while len(state.id):
        n_iter += 1
        value, state.gradient = problem.value_and_grad(state.u, state.id)
        state.objective = value + problem.l1_value(state.u, state.id)
        if n_iter == 1:
            state.start = state.objective - floor
        start = state.start.sum(axis=1)
        total = (state.objective - floor).sum(axis=1)
        l1 = problem.l1[state.id] > 0
        if l1.any() and rule.name != "gd":
            sub = smallest_subgradient(state.u, state.gradient, problem.thresholds(state.id))
            state.gradient = np.where(l1[:, None, None], sub, state.gradient)
        lost = ~(total <= MAX_GROWTH * start + 1e-300)
        gap = np.full(len(total), np.inf)
        if n_iter > 1:
            moved, change = state.u - state.last_u, state.gradient - state.last_gradient
            curvature = _sum(moved * change) / _sum(moved * moved)
            gap = np.where(curvature > 0, _sum(state.gradient**2) / (2 * curvature), np.inf)
        gap = np.where(state.gradient.any(axis=(1, 2)), gap, 0.0)
        limits = tolerances(problem, start[:, None], state.tol[:, None])
        target = target_gap(problem, state.objective, limits).sum(axis=1)
        converged = ~lost & (gap <= target) & np.isfinite(state.tol)
        if lost.any() or converged.any():
            _end(ends, state, lost, n_iter, "max_iter", state.objective, diverged=True)
            _end(ends, state, converged, n_iter, "converged", state.objective)
            for j in np.flatnonzero(converged):
                _judge(ends[state.id[j]], total[j], start[j])
            going = ~(lost | converged)
            state.keep(going)
            total = total[going]
            if not len(state.id):
                break

        if not constant:
            steps = [plans[i].schedule.steps(n_iter, order, 1)[0] for i in state.id]
            state.rate = np.array(steps, dtype=np.float64)
        state.last_u, state.last_gradient = state.u, state.gradient
        u, direction = state.u.copy(), state.gradient
        if state.decay.any():
            direction = direction.copy()
            direction[..., :-1] -= state.decay[:, None, None] * u[..., :-1]
        if np.isfinite(state.clip).any():
            norm = np.sqrt(_sum(direction**2))
            shrink = np.where(norm > state.clip, state.clip / (norm + 1e-6), 1.0)
            direction = direction * shrink[:, None, None]
        if state.decay.any():
            u[..., :-1] *= (1 - state.rate * state.decay)[:, None, None]
        direction = np.ascontiguousarray(direction)
        for j, i in enumerate(state.id):
            rate = float(state.rate[j])
            plans[i].update(u[j].reshape(-1), direction[j].reshape(-1), state.slots[j], rate, n_iter)
        l1 = problem.l1[state.id] > 0
        if l1.any():
            if rule.name == "gd":
                u = soft_threshold(u, problem.thresholds(state.id) * state.rate[:, None, None])
            else:
                u[l1[:, None, None] & (state.last_u * u < 0)] = 0
        state.u = u

        exhausted = np.array([patience[i].exhausted(t) for i, t in zip(state.id, total, strict=True)])
        over = ~exhausted & (n_iter >= state.max_iter)
        if exhausted.any() or over.any():
            _end(ends, state, exhausted, n_iter, "converged", state.objective)
            _end(ends, state, over, n_iter, "max_iter", state.objective)
            unfinished += [(i, s.sum()) for i, s in zip(state.id, state.start, strict=True) if ends[i]]
            state.keep(~(exhausted | over))
    if unfinished:  # their last step has not been looked at
        which = np.array([i for i, _ in unfinished])
        final = problem.objective(np.stack([ends[i].u for i in which]), which) - floor
        for (i, start), total in zip(unfinished, final.sum(axis=1), strict=True):
            _judge(ends[i], total, start)
    return ends


def _judge(descent, final, start):
    """Whether the objective ended far above its start, or above it at all: then the rate is looked at."""
    descent.diverged = not final <= MAX_RISE * start + 1e-300
    descent.rose = not descent.diverged and final > start


def _sum(product):
    return product.sum(axis=(1, 2))


class _Patience:
    """The plateaus of the one schedule that waits for them, `Adaptive`."""

    def __init__(self, plan):
        self.plan, self.best, self.waited = plan, np.inf, 0

    def exhausted(self, total):
        """Whether the steps are as small as they get."""
        plan = self.plan
        if plan.schedule.smallest is None:
            return False
        better = total < self.best * (1 - plan.tol if plan.tol else 1)
        self.best, self.waited = (total, 0) if better else (self.best, self.waited + 1)
        if self.waited < plan.n_iter_no_change:
            return False
        self.waited = 0
        return not plan.schedule.shrink()
