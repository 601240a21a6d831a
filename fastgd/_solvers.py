"""Full-batch descents that need no learning rate. They know a problem by its values, gradients and metrics.

    newton          squared error, whose Hessian is one for all
    accelerated     proximal gradient in a metric, Nesterov's momentum, adaptive restart
    variable_metric gradient in a Gram metric that learns, backtracking (no L1)
    proximal_newton the same with an L1 penalty, on quadratic models
    smoothing       a kinked loss through ever sharper smooth ones

Each fills in a `Result` as it goes, so that an interruption finds the state of the last iteration. They
stop when the estimated relative suboptimality is below tol^2: then the distance to the minimum, in
the metric of the problem, is about tol of the size of the problem.
"""

from dataclasses import dataclass

import numpy as np

from ._exceptions import DivergenceError
from ._metrics import Diagonal, Gram
from ._quadratic import QuadraticModel

STALLED = 3  # steps of Newton's method that lowered nothing, after which there is nothing to refine
SMALL = 20_000  # entries of X below which Python costs more than arithmetic


@dataclass
class Result:
    """Where a descent is. u: parameters in the problem's coordinates; gap: estimated suboptimality."""

    u: np.ndarray
    reason: str = "max_iter"
    gap: float = np.nan
    learning_rate: float = np.nan
    rose: bool = False  # the objective ended above its start
    moments: tuple = None  # means and variances of the columns, where the descent asked for them


def target_gap(problem, objective, limits):
    """Suboptimality per group at which to stop, limits being those of `tolerances`."""
    share, absolute, tiny = limits
    excess = objective - problem.floor
    target = np.maximum(share * excess, absolute)
    return np.where(excess <= tiny, np.inf, target) if tiny > 0 else target


def tolerances(problem, start, tol):
    """When to stop: a gap below share * excess of the objective, or below absolute, or an excess below tiny.

    Relative to the objective, but for what rounding hides of the objective where the descent began:
    an exact fit has no relative suboptimality. tol=None: never.
    """
    if tol is None:
        return -np.inf, -np.inf, -np.inf
    rounding, share = (1e-14, tol**2) if problem.X.dtype == np.float64 else (1e-11, np.maximum(tol**2, 1e-8))
    # classes told apart have their minimum at infinity
    tiny = 1e-10 if problem.loss.target != "value" else -np.inf
    return share, rounding * (start - problem.floor) + 1e-300, tiny


def newton(problem, hessian, result, monitor, *, tol):
    """u <- u - P^-1 grad F(u), P being the Hessian: one step, and others that refine what it rounds off."""
    u, limits = result.u, None
    lowest, best, waited = np.inf, u, 0
    while monitor.proceed():
        value, gradient = problem.value_and_grad(u)
        if not all(np.isfinite(value)):
            raise DivergenceError
        objective = value.sum()
        limits = limits or tolerances(problem, value, tol)
        waited = 0 if objective < lowest else waited + 1
        if not waited:
            lowest, best = objective, u
        step = hessian.solve(gradient)
        gap = problem.inner(gradient, step)[:, 0] / 2
        u = u - step
        result.u, result.gap = u, float(gap.sum())
        reason = monitor.report(objective, lambda: problem.coordinates.to_theta(u))  # noqa: B023
        if not reason and tol is not None and all(gap <= target_gap(problem, value, limits)):
            reason = "converged"
        if not reason and tol is not None and waited == STALLED:  # rounding is all that is left
            result.u, reason = best, "converged"
        if reason:
            result.reason = reason
            return


def accelerated(problem, metric, result, monitor, *, tol, momentum=True, explicit=False):
    """u <- prox(y - P^-1 grad F(y)), y ahead of u by Nesterov's momentum.

    Beck & Teboulle 2009, restarted where the momentum points uphill (O'Donoghue & Candes 2015). The
    gap to the minimum is the squared length of the step in the metric P, divided by how much flatter
    than P the objective was along the last move.
    """
    if isinstance(problem, QuadraticModel) and isinstance(metric, Diagonal) and monitor.quiet:
        start = problem.objective(result.u)
        limits = tolerances(problem, start, tol)
        problem.accelerated(metric, result, monitor, start, limits, momentum=momentum, explicit=explicit)
        return
    inner = problem.inner
    u = y = best = result.u
    t = np.ones((problem.n_groups, 1))
    last_y = last_gradient = None
    start = lowest = None
    while monitor.proceed():
        value, gradient = problem.value_and_grad(y)
        objective = value + problem.l1_value(y)
        if start is None:
            start = lowest = objective
            limits = tolerances(problem, start, tol)
        if not (objective - problem.floor <= 2 * (start - problem.floor) + 1e-300).all():
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
            decrement = inner(step, metric.apply(step))
            if metric.certified:
                break
            bound = value + (inner(gradient, step) + decrement / 2)[:, 0]
            if np.all(problem.value_and_grad(u_new)[0] <= bound + 1e-14 * np.abs(value)):
                metric = metric.tightened(0.9)
                break
            metric = metric.tightened(2.0)
        flatness = np.full_like(decrement, np.nan)
        if last_y is not None:
            moved = y - last_y
            bound = inner(moved, metric.apply(moved))
            with np.errstate(invalid="ignore", divide="ignore"):
                flatness = inner(moved, gradient - last_gradient) / bound
            flatness = np.where(bound > 0, np.clip(flatness, 1e-9, 1.0), 1.0)
        gap = (decrement / (2 * flatness))[:, 0]
        result.u, result.gap = u_new, float(gap.sum())
        reason = monitor.report(objective.sum(), lambda: problem.coordinates.to_theta(u_new))  # noqa: B023
        if reason:
            result.reason = reason
            return
        if tol is not None and all(gap <= target_gap(problem, objective, limits)):
            result.reason = "converged"
            return
        last_y, last_gradient = y, gradient
        if momentum:
            uphill = inner(metric.apply(y - u_new), u_new - u) > 0
            t = np.where(uphill, 1.0, t)
            t_new = (1 + np.sqrt(1 + 4 * t**2)) / 2
            y = u_new + (t - 1) / t_new * np.where(uphill, 0.0, u_new - u)
            t = np.where(uphill, 1.0, t_new)
        else:
            y = u_new
        u = u_new


def variable_metric(problem, metric, result, monitor, *, tol, memory=20, refresh=True, sample=None):
    """u <- u - t H grad F(u), H^-1 a Gram metric that learns from the gradients met on the way.

    Limited-memory BFGS (Liu & Nocedal 1989) from the Gram metric instead of a multiple of the
    identity, t by backtracking. Where the loss's curvature is far from what the metric assumes, the
    pairs do not make up for it: then the metric is taken anew from the local curvature, as soon as the
    passes that this saves are worth its cost.

    Parameters
    ----------
    metric : Gram, or a Diagonal where there are too many columns for one, or None
        None: that of the local curvature, from the start.
    memory : int
        Pairs of steps and gradient differences kept; 0 is plain descent in the metric.
    refresh : bool
        Whether the problem can tell its local curvature.
    sample : RowSample or None
        Rows that make up the local curvature; None: all.
    """
    inner = problem.inner
    u = result.u
    H = problem.empty_curvature() if refresh else None
    value, gradient = problem.value_and_grad(u, H)
    start, limits, ridge = value, tolerances(problem, value, tol), problem.rounding
    # Newton's method, where a Hessian costs less than to find out whether it pays
    always = metric is None and problem.X.size <= SMALL and problem.passes_per_hessian(H) <= 0.5
    memory = 0 if always else memory
    base, damping = None, 1e-4
    guessed = metric is not None and not metric.certified
    # pairs of coupled outputs know what the metric, one output at a time, does not: let them gather
    blocks_only = problem.loss.coupled and not (refresh and problem.small_softmax)
    least_age = 20 if blocks_only else 0
    pairs, fresh, trusted, age, calm, stalled = [], False, False, 0, 0, 0
    scaled = None  # the gradient times the inverse of what is known of the Hessian

    def theta():
        return problem.coordinates.to_theta(result.u)

    while monitor.proceed():
        if metric is None:
            if base is None:  # were all rows curved alike
                base = problem.hessian_bound(problem.mean_curvature(H), sample)
            hessians = [_damped(P, damping * base) for P in problem.local_hessians(H, sample)]
            metric = Gram(hessians, ridge)
            if sample is not None:
                sample.grow()
            pairs, scaled, fresh, trusted, age = [], None, True, True, 0
            least_age *= 3  # of what the blocks can tell, the first tells most
        if scaled is None:
            scaled = _times_inverse_hessian(gradient, metric, pairs, inner)
        slope = -inner(gradient, scaled)
        gap = -slope[:, 0] / 2
        target = target_gap(problem, value, limits) if tol is not None else np.zeros_like(gap)
        if blocks_only:  # the estimate is a rough one, and the end is fast
            target = 1e-2 * target
        elif guessed:
            target = 0.1 * target
        open_ = (gap > target) | ((not trusted) & (gap > 0))
        calm = 0 if any(open_) else calm + 1
        result.gap = float(gap.sum())
        if calm == 2 or not any(gap):  # the pairs' estimate can be lucky once
            reason = monitor.report(value.sum(), theta)
            if reason or tol is not None:
                result.reason = reason or "converged"
                return
            continue  # tol=None runs all iterations
        direction = -scaled * (open_ | (calm > 0))[:, None]
        H_new = None if H is None else problem.empty_curvature()
        found = backtrack(problem, u, direction, value, slope[:, 0], H_new, ~open_)
        if found is None:
            if fresh or not (refresh or pairs):  # rounding is all that is left
                reason = monitor.report(value.sum(), theta)
                if reason or tol is not None:
                    result.reason = reason or "converged"
                    return
                continue
            pairs, scaled, metric = [], None, None if refresh else metric
            continue
        step, value_new, gradient_new, tries = found
        change = gradient_new - gradient
        if memory:
            bent = inner(step, change)
            pairs = [*pairs[-(memory - 1) :], (step, change, np.where(bent > 0, bent, np.inf))]
        stalled = stalled + 1 if all(value - value_new <= 1e-14 * np.abs(start)) else 0
        result.u = u + step
        reason = monitor.report(value.sum(), theta)
        if reason or (stalled == 10 and tol is not None):
            result.reason = reason or "converged"
            return
        u, value, gradient, H = result.u, value_new, gradient_new, H_new
        damping = min(damping * 10, 1.0) if tries else max(damping / 10, 1e-8)
        fresh, trusted, age = False, True, age + 1
        if always:
            metric, scaled = metric if calm else None, None
            continue
        scaled = _times_inverse_hessian(gradient, metric, pairs, inner)
        if refresh and age > least_age:
            with np.errstate(divide="ignore", invalid="ignore"):
                contraction = np.where(open_, (inner(gradient, scaled) / -slope)[:, 0], 0.0).max()
                ahead = np.log(np.where(open_, gap / target, 1.0).max())
                passes_left = ahead / -np.log(min(contraction, 0.99)) if contraction > 0 else 0.0
            cost = problem.passes_per_hessian(H) * (1.0 if sample is None else sample.share)
            # slack for what the pairs will do better than they have done
            if tries > 1 or passes_left > cost + 1 + min(10.0, 4 * cost):
                metric = None


def backtrack(problem, u, direction, objective, slope, H, settled):
    """The longest of the steps 1, 1/4, 1/16 ... that lowers each group's objective (Armijo 1966).

    Groups that are settled take the whole step, or stay where they are if it leads up. Returns the step,
    value and gradient at its end, and the number of cuts; None if there is none.
    """
    rounding = (1e-15 if problem.X.dtype == np.float64 else 1e-8) * np.abs(objective)
    rounding = np.where(settled, 100 * rounding, rounding)
    t = np.ones(len(slope))
    for tries in range(41):
        step = t[:, None] * direction
        with np.errstate(over="ignore", invalid="ignore"):
            there = u + step
            value, gradient = problem.value_and_grad(there, H)
            reached = value + problem.l1_value(there)
            low = reached <= objective + 1e-4 * t * slope + rounding
        if all(low):
            return step, value, gradient, tries
        t = np.where(low, t, np.where(settled, 0.0, t / 4))
    return None


def _damped(P, base):
    """P + base, base being repeated down the diagonal where P covers several outputs."""
    if len(P) == len(base):
        return P + base
    return P + np.kron(np.eye(len(P) // len(base)), base)


def _times_inverse_hessian(gradient, metric, pairs, inner):
    """Two-loop recursion of L-BFGS, for every group by itself."""
    q, coefficients = gradient, []
    for step, change, bent in reversed(pairs):
        a = inner(step, q) / bent
        coefficients.append(a)
        q = q - a * change
    r = metric.solve(q)
    if pairs:
        step, change, bent = pairs[-1]
        squared = inner(change, metric.solve(change))
        r = r * np.where(np.isfinite(bent) & (squared > 0), bent / squared, 1.0)
    for (step, change, bent), a in zip(pairs, reversed(coefficients), strict=True):
        r = r + step * (a - inner(change, r) / bent)
    return r


def _gap_of_corners(problem, width, u, objective):
    """Bound of how far a kinked objective is above its minimum where the smoothed one has its own, at u.

    A smoothed corner is the largest a r + width a (1 - a) / 2 over slopes a, which are a point of the dual.
    So the dual is below the smoothed objective by the mean of that second term, width times the derivative by
    the width; the objective being convex in the width, a difference is no less.
    """
    wider = 1e-4
    smooth, blunt = (
        problem.with_loss(problem.loss.smoothed(w)).objective(u) for w in (width, (1 + wider) * width)
    )
    return float(np.sum(objective - smooth + (blunt - smooth) / wider))


def smoothing(problem, make_solver, width, result, monitor, *, tol):
    """Minimise a kinked loss through losses with ever sharper rounded corners (Nesterov 2005).

    The width of the corners shrinks until the kinked objective itself no longer changes by tol / 50 and the
    dual has come within tol of it: where all rows are in one corner, a sharper one may change nothing yet.
    make_solver : callable (smooth problem, tol) -> callable (result)
    """
    stage_tol = 1e-6  # the last digits come at once: they are quadratic
    stop = 0.02 * (tol or 1e-8)
    least = width * 1e-9
    sharpest = problem.loss.params[0] if not problem.loss.kinked else 0.0  # huber is one itself
    objective = problem.objective(result.u)
    start = objective

    def of_theta(theta):
        return problem.objective(problem.coordinates.from_theta(theta)).sum()

    while not monitor.exhausted:
        width = max(width, sharpest)
        last_stage = width <= max(sharpest, least)
        smooth = problem.with_loss(problem.loss.smoothed(width))
        stage = tol if last_stage and not problem.loss.kinked else stage_tol
        monitor.objective = None if width == sharpest else of_theta
        make_solver(smooth, stage)(result)
        last, objective = objective, problem.objective(result.u)
        if result.reason not in ("converged", "max_iter"):
            return
        settled = np.abs(last - objective) <= stop * np.abs(objective) + 1e-12 * np.abs(start)
        settled = problem.loss.kinked and np.all(settled) and result.reason == "converged"
        if settled:
            near = (tol or 1e-8) * np.abs(objective) + 1e-12 * np.abs(start)
            settled = _gap_of_corners(problem, width, result.u, objective) <= near.sum()
        if last_stage or settled:
            if tol is None:  # runs all iterations
                result.reason = "max_iter"
                make_solver(smooth, None)(result)
            return
        result.reason = "max_iter"
        width /= 5
    result.gap = np.nan  # that of another objective
