"""Quadratics with an L1 penalty: Newton's method on the few weights that are not zero.

While the signs of the weights stay what they are, the objective is a quadratic, and one step on its Hessian's
rows and columns of these weights minimises it. A weight that would change its sign becomes zero and leaves;
when none does, zeros whose gradient exceeds the threshold enter, the worst of them first. Every step lowers
the objective, so no set of signs is met twice (feature-sign search, Lee, Battle, Raina & Ng 2007, here with
blocks of features).
"""

import numpy as np

from ._exceptions import DivergenceError
from ._metrics import Gram
from ._solvers import target_gap, tolerances

LARGEST = 512  # weights; of more, a factorisation in every step costs more than descent
SHARE = 0.3  # zeros whose excess is at least this share of the largest enter together


def active_set(model, result, monitor, *, tol):
    """Minimise a `QuadraticModel` with thresholds * |u|.

    It stops where the gap is small, or where all that is left is rounding. The gap is that of the dual where
    the model is all of a squared error, else what the weights could gain one by one.

    Returns
    -------
    finished : bool
        False where the set has become too large: the rest is for another solver.
    """
    thresholds = model.l1_thresholds()
    u = np.array(result.u)
    whole = model.loss.kernel == "squared_error"
    hessians = model.hessians * (len(u) // len(model.hessians))
    outputs = [_Output(H, thresholds, row, whole) for H, row in zip(hessians, u, strict=True)]
    limits = None
    while all(np.count_nonzero(output.sign) <= LARGEST for output in outputs) and monitor.proceed():
        value, gradient = model.value_and_grad(u)
        if not np.isfinite(value).all():
            raise DivergenceError
        objective = value + model.l1_value(u)
        limits = limits or tolerances(model, objective, tol)
        target = np.zeros_like(value) if tol is None else target_gap(model, objective, limits)
        for output, *facts in zip(outputs, value, gradient, objective, target, strict=True):
            output.step(*facts)
        result.u, result.gap = np.array(u), float(sum(output.gap for output in outputs))
        reason = monitor.report(objective.sum(), lambda: model.coordinates.to_theta(result.u))
        if not reason and tol is not None and all(output.done for output in outputs):
            reason = "converged"
        if reason:
            result.reason = reason
            return True
    return monitor.exhausted


class _Output:
    """The weights of one output and the set of those that are not zero.

    Parameters
    ----------
    hessian : ndarray of shape (p, p)
    thresholds : ndarray of shape (p,)
        Zero for the intercept, the last, which is always in the set.
    u : ndarray of shape (p,), changed
    whole : bool
        Whether the quadratic is a squared error, and so has its dual.
    """

    def __init__(self, hessian, thresholds, u, whole):
        self.hessian, self.thresholds, self.u, self.whole = hessian, thresholds, u, whole
        self.sign = np.sign(u)
        self.sign[-1] = 1.0
        self.settled = self.done = False
        self.lowest, self.gap = np.inf, np.nan

    def step(self, value, gradient, objective, target):
        """From the smooth part of the objective, its gradient and the whole at u, one step further."""
        if self.settled and not self.done:
            self.gap = self._duality_gap(value, gradient, objective) if self.whole else self._gains(gradient)
            entered = self._enter(gradient)
            # a step in an ill-conditioned set leaves some of its gradient to the next one
            self.done = self.gap <= target or not (entered or objective < self.lowest)
            self.lowest = objective
        if not self.done:
            self._newton(gradient)

    def _duality_gap(self, value, gradient, objective):
        """Objective less that of the dual at the residual, shrunk until every gradient is in its bounds.

        With r the residual of y, |r|^2 is twice the value and r y = |r|^2 - u gradient, all as means; an L2
        penalty counts as further rows.
        """
        bound = self.thresholds[self.thresholds > 0]
        beyond = np.maximum(np.abs(gradient[self.thresholds > 0]), bound)
        shrunk = np.min(bound / beyond, initial=1.0)
        return objective - shrunk * (2 * value - self.u @ gradient) + shrunk**2 * value

    def _gains(self, gradient):
        """By how much zeros would lower the objective, each by itself."""
        excess, curvature = np.abs(gradient) - self.thresholds, self.hessian.diagonal()
        could = (self.sign == 0) & (excess > 0)
        return float(np.sum(excess[could] ** 2 / curvature[could])) / 2

    def _enter(self, gradient):
        """Let zeros into the set; returns whether there were any to let in."""
        excess = np.abs(gradient) - self.thresholds
        excess[(self.sign != 0) | (excess < 0)] = 0.0
        worst = np.argsort(-excess)[: max(10, np.count_nonzero(self.sign))]
        worst = worst[excess[worst] > SHARE * excess[worst[0]]]
        self.sign[worst] = -np.sign(gradient[worst])
        return len(worst) > 0

    def _newton(self, gradient):
        """To the minimum on the set, or to where weights change their signs."""
        active = np.flatnonzero(self.sign)
        H, thresholds = self.hessian[np.ix_(active, active)], self.thresholds[active]
        u, sign, gradient = self.u[active], self.sign[active], gradient[active]
        move = -Gram([H]).solve((gradient + thresholds * sign)[None])[0]
        crossing = ((u + move) * sign < 0) & (thresholds > 0)
        self.settled = not crossing.any()
        if not self.settled:
            shortened = np.where(crossing, -u, move)
            rise = shortened @ (gradient + 0.5 * H @ shortened)
            rise += thresholds @ (np.abs(u + shortened) - np.abs(u))
            if rise >= 0:  # only as far as to the first zero
                ahead = np.full(len(u), np.inf)
                np.divide(-u, move, out=ahead, where=crossing)
                crossing = ahead == ahead.min()
                shortened = np.where(crossing, -u, ahead.min() * move)
            move = shortened
            self.sign[active[crossing]] = 0.0
        self.u[active] = np.where(crossing, 0.0, u + move)
