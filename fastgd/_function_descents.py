"""Descents on any function. They know it by the answers to their questions, and leave a `Trace`.

    by_rate         an update rule at given rates: the textbook
    spectral        gradient descent with Barzilai and Borwein's trial steps and backtracking
    accelerated     momentum and Nesterov's rule at the inverse of the curvature met, with restarts
    bold_driver     the adaptive rules, at rates that follow from the values met

Each is a generator that yields questions (VALUE or GRADIENT, x) and is sent the answers. So a descent is
written for one point, and `run` lets many of them share each call of a vectorised function.
"""

from collections import deque
from math import isfinite

import numpy as np
from scipy.optimize import OptimizeResult

from ._compiled import epochs
from ._function import GRADIENT, VALUE

CONVERGED, MAX_ITER, DIVERGED, STUCK, STOPPED = 0, 1, 2, 3, 99  # 99 is SciPy's for StopIteration
MEMORY = 10  # values that a new one may not exceed all of (Grippo, Lampariello & Lucidi 1986)
ARMIJO = 1e-4  # share of the promised decrease that a step must bring
FORGET = 0.995  # a step: how fast a curvature is forgotten
TRIALS = 60  # steps tried from one point
ROUNDING = 1e-15  # of values: what a step may rise by, near the minimum
TOO_HIGH, TOO_LOW = 1e10, -1e20  # values, in units of max(1, |first value|), that no descent meets


class Trace:
    """Record of one descent; it decides when to stop.

    Parameters
    ----------
    box : Box
    max_iter : int
    tol : float or None
    record_path : bool
    report : callable or None
        Told of every step by an OptimizeResult; true stops.

    Attributes
    ----------
    nit : int
        Steps so far.
    last, best : tuple (x, value, gradient)
        The current point, and the one with the lowest value.
    rate : float
        Of the last step.
    slope : float
        Largest component of the projected gradient at the last point.
    status, why : int, str
        Once it has ended.
    curvature : float
        Largest |change of gradient| / |step| of steps uphill, before the values left the scale of the first.
    """

    def __init__(self, box, *, max_iter, tol, record_path, report=None):
        self.box, self.max_iter, self.tol, self.report = box, max_iter, tol, report
        self.nit, self.rate, self.curvature = -1, np.nan, 0.0
        self.status, self.why = None, ""
        self.last = self.best = None
        self.path, self.path_fun = ([], []) if record_path else (None, None)

    def proceed(self, x, value, gradient, rate=np.nan):
        """Record the point where the descent is; whether to take another step from it."""
        self.nit += 1
        self.rate = rate
        self.slope = self.box.slope(x, gradient)
        if not self._sane(x, value):
            self.status = DIVERGED
            if self.best is None:
                self.best = x, value, gradient
            return False
        if self.last is not None and self.last[1] < value <= 1e3 * self.scale:
            met = _curvature(x - self.last[0], gradient - self.last[2])
            self.curvature = max(self.curvature, met)
        self.last = x, value, gradient
        if self.best is None or value < self.best[1]:
            self.best = self.last
        if self.path is not None:
            self.path.append(x)
            self.path_fun.append(value)
        if self.report is not None:
            step = OptimizeResult(x=x.copy(), fun=value, nit=self.nit, slope=self.slope, learning_rate=rate)
            if self.report(step):
                self.status = STOPPED
                return False
        if self.tol is not None and self.slope <= self.tol:
            self.status = CONVERGED
        elif self.nit >= self.max_iter:
            self.status = MAX_ITER
        return self.status is None

    def _sane(self, x, value):
        if self.nit == 0:
            self.first, self.scale = value, max(1.0, abs(value))
        if not isfinite(value):
            self.why = f"fun is {value}" if _all_finite(x) else "x is not finite"
        elif not isfinite(self.slope):
            self.why = "the gradient is not finite"
        elif value > TOO_HIGH * self.scale:
            self.why = f"fun has risen to {value:.3g}"
        elif value < TOO_LOW * self.scale:
            self.why = f"fun falls without bound, to {value:.3g}"
        return not self.why


class Rule:
    """An update rule with its state; see src/updates.pxd for what it does."""

    def __init__(self, rule, hyper, n):
        self.id, self.hyper = rule.id, hyper
        self.slots, self.t = rule.init(n), 1

    @property
    def fresh(self):
        return self.t == 1

    def forget(self):
        self.slots, self.t = np.zeros_like(self.slots), 1

    def trial(self, x, gradient, rate, box):
        """(where the rule would go from x, its slots thereafter)"""
        x, slots = x.copy(), self.slots.copy()
        epochs.update(self.id, self.hyper, x, gradient, slots, rate, self.t)
        return box.project(x), slots

    def accept(self, slots):
        self.slots, self.t = slots, self.t + 1

    def step(self, x, gradient, rate, box):
        """Where the rule goes from x."""
        x = x.copy()
        epochs.update(self.id, self.hyper, x, gradient, self.slots, rate, self.t)
        self.t += 1
        return box.project(x)


def by_rate(x, rule, trace, rate_at):
    """x <- rule(x, grad f(x), rate_at(k)), k = 1, 2, ..., projected onto the box."""
    value = yield VALUE, x
    gradient = yield GRADIENT, x
    rate = np.nan
    while trace.proceed(x, value, gradient, rate):
        rate = rate_at(trace.nit + 1)
        x = rule.step(x, gradient, rate, trace.box)
        value = (yield VALUE, x) if _all_finite(x) else np.nan  # fun need not bear more
        if isfinite(value):
            gradient = yield GRADIENT, x


def spectral(x, rule, trace):
    """x <- P(x - a grad f(x)): the spectral projected gradient method.

    Trial steps are Barzilai & Borwein's (1988), the shortest of the latest short ones where the two of
    them differ (ABBmin of Frassoldati, Zanni & Zanghirati 2008); they are cut until the value is below
    the largest of the last ten by a share of what the gradient promised (Raydan 1997), along the
    projection arc (SPG1 of Birgin, Martinez & Raydan 2000).
    """
    value = yield VALUE, x
    gradient = yield GRADIENT, x
    recent, short_steps = deque([value], MEMORY), deque(maxlen=5)
    trial, rate = 1.0, np.nan
    while trace.proceed(x, value, gradient, rate):
        if trace.nit == 0:
            trial = 1.0 / (trace.slope or 1.0)
        found = yield from _search(x, value, gradient, rule, trace, trial, max(recent))
        if found is None:
            return
        x_new, value, gradient_new, rate, slots = found
        moved, change = x_new - x, gradient_new - gradient
        x, gradient = x_new, gradient_new
        recent.append(value)
        ss, sy, yy = float(moved @ moved), float(moved @ change), float(change @ change)
        if sy > 0 and 0 < ss < np.inf and 0 < yy < np.inf:
            long, short = ss / sy, sy / yy
            short_steps.append(short)
            trial = min(short_steps) if short < 0.8 * long else long
        else:  # no curvature, or negative: a length without a sign (Dai, Al-Baali & Yang 2015)
            short_steps.clear()
            curvature = _curvature(moved, change)
            trial = 1.0 / curvature if curvature > 0 else 10 * rate


def accelerated(x, rule, trace):
    """x <- rule(x, grad f(x), 1 / L): momentum that grows, (t - 1) / (t + 2) in its t-th step.

    That is Nesterov's sequence (1983), begun anew where momentum points uphill (adaptive restart,
    O'Donoghue & Candes 2015). L is the largest curvature |change of gradient| / |step| met lately; a step
    that makes the function rise is cut, as in `spectral`, and L raised with it.
    """
    value = yield VALUE, x
    gradient = yield GRADIENT, x
    recent, trial, rate, curvature = deque([value], MEMORY), np.nan, np.nan, 0.0
    while trace.proceed(x, value, gradient, rate):
        if trace.nit == 0:
            trial = 1.0 / (trace.slope or 1.0)
        rule.hyper = (rule.t - 1) / (rule.t + 2), 0.0, 0.0
        found = yield from _search(x, value, gradient, rule, trace, trial, max(recent))
        if found is None:
            return
        x_new, value, gradient_new, rate, slots = found
        rule.accept(slots)
        recent.append(value)
        if rate < trial:
            curvature *= trial / rate
        curvature = max(_curvature(x_new - x, gradient_new - gradient), FORGET * curvature)
        trial = 1.0 / curvature if curvature > 0 else 10 * rate
        x, gradient = x_new, gradient_new


def bold_driver(x, rule, trace, trial):
    """x <- rule(x, grad f(x), a): a grows by a tenth where the function falls, and is cut where it rises.

    The bold driver (Vogl et al. 1988; Battiti 1989), with rises and cuts as in `spectral`. The rules that
    divide by squared gradients fix the length of a step: only the function tells how long it may be.

    Parameters
    ----------
    trial : float
        Rate of the first step.
    """
    value = yield VALUE, x
    gradient = yield GRADIENT, x
    recent, rate = deque([value], MEMORY), np.nan
    while trace.proceed(x, value, gradient, rate):
        found = yield from _search(x, value, gradient, rule, trace, trial, max(recent))
        if found is None:
            return
        x, value, gradient, rate, slots = found
        rule.accept(slots)
        recent.append(value)
        trial = 1.1 * rate


def _search(x, value, gradient, rule, trace, rate, highest):
    """A step of the rule that lowers the function: (x, value, gradient, rate, slots), or None."""
    if trace.slope == 0:  # tol=None does not stop here
        trace.status = CONVERGED
        return None
    slack, trial = ROUNDING * abs(highest), rate
    for _ in range(TRIALS):
        x_new, slots = rule.trial(x, gradient, rate, trace.box)
        promised = float(gradient @ (x_new - x))
        if promised >= 0:
            if rule.fresh:
                break  # the step is lost in rounding
            rule.forget()
            continue
        shrink = 0.1
        if isfinite(promised):
            value_new = yield VALUE, x_new
            if rate < 1e-3 * trial:
                slack = 0.0  # rounding is not what holds it up
            if value_new <= highest + ARMIJO * promised + slack:
                gradient_new = yield GRADIENT, x_new
                if isfinite(value_new) and _all_finite(gradient_new):
                    return x_new, value_new, gradient_new, rate, slots
            elif isfinite(value_new):  # the minimum of the parabola through what is known
                shrink = min(0.5, max(0.1, -promised / 2 / (value_new - value - promised)))
        rate *= shrink
    trace.status = STUCK
    return None


def _curvature(moved, change):
    """|change of gradient| / |step|; 0 where that is no number."""
    curvature = float(np.linalg.norm(change) / np.linalg.norm(moved))
    return curvature if isfinite(curvature) else 0.0


def _all_finite(x):
    return isfinite(x.max()) and isfinite(x.min())  # without an array of answers


def run(descents, function):
    """Advance descents, {number: generator}, until each has ended; a round answers a question of each."""
    with np.errstate(all="ignore"):  # what is not finite is dealt with, not warned of
        questions = {i: next(descent) for i, descent in descents.items()}
        while questions:
            for i, answer in function.answer(questions).items():
                try:
                    questions[i] = descents[i].send(answer)
                except StopIteration:
                    del questions[i]
