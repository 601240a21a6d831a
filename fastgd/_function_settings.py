"""What a user asks of a descent on a function, checked; and what the user is told of how it went."""

import inspect
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from ._function_descents import (
    CONVERGED,
    MAX_ITER,
    STOPPED,
    STUCK,
    Rule,
    accelerated,
    bold_driver,
    by_rate,
    spectral,
)
from ._optimizers import RULES
from ._schedules import make_schedule

NAMED_RATES = ("auto", "constant", "invscaling")
FIRST_STEP = 0.01  # of the rules that fix the length of a step, as a share of max(1, |x0|)


@dataclass(frozen=True)
class Settings:
    """How to descend: the keywords of `gradient_descent`, checked."""

    callback: object
    solver: str
    learning_rate: object
    momentum: float
    beta_1: float
    beta_2: float
    max_iter: int
    tol: float | None
    record_path: bool
    eta0: float
    power_t: float
    verbose: int

    def __post_init__(self):
        if self.solver not in RULES:
            raise ValueError(f"solver must be one of {', '.join(RULES)}; got {self.solver!r}.")
        if not isinstance(self.max_iter, Integral) or self.max_iter < 0:
            raise ValueError(f"max_iter must be an int, 0 or larger; got {self.max_iter!r}.")
        if self.tol is not None and not (isinstance(self.tol, Real) and self.tol >= 0):
            raise ValueError(f"tol must be a number, 0 or larger, or None; got {self.tol!r}.")
        for name in ("momentum", "beta_1", "beta_2"):
            number = getattr(self, name)
            if not (isinstance(number, Real) and 0 <= number < 1):
                raise ValueError(f"{name} must be a number in [0, 1); got {number!r}.")
        rate = self.learning_rate
        if isinstance(rate, str):
            if rate not in NAMED_RATES:
                known = ", ".join(map(repr, NAMED_RATES))
                raise ValueError(
                    f"learning_rate must be a number, a callable, or one of {known}; got {rate!r}."
                )
        elif not callable(rate):
            _check_rate(rate, "learning_rate")
        _check_rate(self.eta0, "eta0")
        if not (isinstance(self.power_t, Real) and 0 <= self.power_t < np.inf):
            raise ValueError(f"power_t must be a number, 0 or larger; got {self.power_t!r}.")

    @property
    def auto(self):
        return isinstance(self.learning_rate, str) and self.learning_rate == "auto"

    def descent(self, x, trace):
        rule = Rule(RULES[self.solver], (self.momentum, self.beta_1, self.beta_2), x.size)
        if not self.auto:
            return by_rate(x, rule, trace, self._rate_at())
        if self.solver == "gd":
            return spectral(x, rule, trace)
        if self.solver in ("momentum", "nesterov"):
            return accelerated(x, rule, trace)
        return bold_driver(x, rule, trace, FIRST_STEP * max(1.0, float(np.max(np.abs(x)))))

    def _rate_at(self):
        if callable(self.learning_rate):
            return lambda k: _check_rate(self.learning_rate(k), f"learning_rate({k})")
        schedule = make_schedule(
            self.learning_rate, eta0=self.eta0, power_t=self.power_t, alpha=None, slope_at=None
        )
        return lambda k: float(schedule.steps(k, range(1), 1)[0])

    def reporter(self, start):
        """What is told of every step, and answers whether to stop; start: its number, or None."""
        tell = _in_scipy_style(self.callback)

        def report(step):
            if start is not None:
                step.start = start
            if step.nit == 0:
                return False
            if self.verbose > 1 or self.verbose and step.nit % 10 ** (len(str(step.nit)) - 1) == 0:
                print(
                    f"{prefix(start)} {step.nit}, fun {step.fun:.8g}, gradient {step.slope:.3g}, "
                    f"learning rate {step.learning_rate:.3g}",
                    flush=True,
                )
            return tell(step)

        return report if self.verbose or self.callback is not None else None


def message(settings, trace):
    if trace.status == CONVERGED:
        return f"Converged: the largest component of the gradient is {trace.slope:.2g}."
    if trace.status == STOPPED:
        return "The callback raised StopIteration."
    if trace.status == STUCK:
        return (
            f"No step along the gradient lowers fun after iteration {trace.nit}: tol={settings.tol} may be "
            "below its rounding errors, fun may have a kink there, or the gradient be wrong "
            "(scipy.optimize.check_grad)."
        )
    if trace.status == MAX_ITER:
        text = f"All max_iter={settings.max_iter} steps were taken"
        if settings.tol is not None:
            text += f"; the largest component of the gradient is {trace.slope:.2g}, tol={settings.tol:g}"
        if not settings.auto and trace.last[1] > trace.first:
            rise = f"from {trace.first:.6g} to {trace.last[1]:.6g}"
            text += f". fun rose, {rise}. {_advice(settings, trace)}"
        return text.rstrip(".") + "."
    if trace.nit == 0:
        return f"Cannot start: {trace.why} at x0."
    if "without bound" in trace.why:
        return f"Diverged at iteration {trace.nit}: {trace.why}."
    return (
        f"Diverged at iteration {trace.nit} with learning rate {trace.rate:.6g} "
        f"(solver={settings.solver!r}): {trace.why}. " + _advice(settings, trace)
    )


def _advice(settings, trace):
    limit = RULES[settings.solver].limit
    advice = 'Set a smaller learning_rate, or learning_rate="auto"'
    if limit and trace.curvature > 0:
        rate = limit(settings.momentum) / trace.curvature
        advice += f"; the curvature met on the way bears about {rate:.2g}"
    return advice + "."


def prefix(start):
    return "Iteration" if start is None else f"Start {start}, iteration"


def _check_rate(rate, name):
    if not (isinstance(rate, Real) and 0 < rate < np.inf):
        raise ValueError(f"{name} must be a positive number; got {rate!r}.")
    return float(rate)


def _in_scipy_style(callback):
    """OptimizeResult -> whether to stop, for callbacks (xk) and (intermediate_result)."""
    if callback is None:
        return lambda step: False
    if not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}.")
    try:
        by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except ValueError:  # compiled, without a signature
        by_name = False
    warned_of = np.geterr()  # descents silence what the callback need not

    def tell(step):
        try:
            with np.errstate(**warned_of):
                callback(intermediate_result=step) if by_name else callback(step.x)
        except StopIteration:
            return True
        return False

    return tell
