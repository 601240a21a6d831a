"""Smooth losses with an L1 penalty: Newton's method on quadratic models that keep the penalty as it is."""

import numpy as np

from ._active_set import active_set
from ._metrics import Diagonal
from ._monitor import Silent
from ._quadratic import QuadraticModel
from ._solvers import Result, accelerated, backtrack, target_gap, tolerances


def proximal_newton(problem, result, monitor, *, tol):
    """u <- u + t (v - u), v the minimum of the local quadratic model plus the L1 penalty.

    The quadratic model has the Hessian at u and is minimised without looking at the data (Lee, Sun & Saunders
    2014): on the weights that are not zero, or by `accelerated` where these are many. Damping as in
    `variable_metric`.
    """
    u, H = result.u, problem.empty_curvature()
    value, gradient = problem.value_and_grad(u, H)
    base = problem.hessian_bound(problem.mean_curvature(H))
    damping, calm, limits = 1e-4, 0, tolerances(problem, value + problem.l1_value(u), tol)
    inner_tol, finest = 0.03, 0.1 * (tol or 1e-8)

    def theta():
        return problem.coordinates.to_theta(result.u)

    while monitor.proceed():
        hessians = [P + damping * base for P in problem.local_hessians(H)]
        model = QuadraticModel(problem, u, value, gradient, hessians)
        inner, silent = Result(u), Silent(max_iter=2000)
        if not active_set(model, inner, silent, tol=inner_tol):
            inner = Result(u)  # elsewhere the model may be below the least value of the loss
            accelerated(model, Diagonal(model.lipschitz() or 1.0), inner, silent, tol=inner_tol)
        direction = inner.u - u
        objective = value + problem.l1_value(u)
        model_value = model.value_and_grad(inner.u)[0] + problem.l1_value(inner.u)
        gap = objective - model_value
        target = target_gap(problem, objective, limits) if tol is not None else 0.0
        calm = calm + 1 if np.all(gap <= target) else 0
        result.gap = float(np.sum(gap))
        shares = np.abs(gap) / np.maximum(objective - problem.floor, 1e-300)
        inner_tol = np.clip(0.1 * np.sqrt(shares.max()), finest, inner_tol)  # as fine as it is worth
        slope = problem.inner(gradient, direction)[:, 0] + problem.l1_value(inner.u) - problem.l1_value(u)
        H_new = problem.empty_curvature()
        found = backtrack(problem, u, direction, objective, slope, H_new, np.zeros(len(slope), bool))
        if found is not None:
            step, value, gradient, tries = found
            result.u, H = u + step, H_new
        reason = monitor.report(objective.sum(), theta)
        if reason or (tol is not None and (calm == 2 or found is None)):  # None: rounding is all that is left
            result.reason = reason or "converged"
            return
        if found is None:
            continue  # tol=None runs all iterations
        u = result.u
        damping = min(damping * 10, 1.0) if tries else max(damping / 10, 1e-8)
