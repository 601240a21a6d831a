"""Learning rates as arrays: one step size for each update t = 1, 2, ... of an epoch.

A schedule is a function of the count of updates; the compiled loops see its numbers only. Those
with names are SGDRegressor's and SGDClassifier's. `learning_rate="auto"` for mini-batches is
`CappedSteps`: as long as possible, and never so long that a batch could overshoot.
"""

import numpy as np

PASSIVE_AGGRESSIVE = {"pa1": 1, "pa2": 2}
BATCHES_AT_A_TIME = 16384  # whose lengths are worked out together: little memory beside the rows


class Constant:
    """a_t = eta0; also the aggressiveness C of PA-I and PA-II (Crammer et al. 2006)."""

    smallest = None  # a plateau of the objective ends the fit

    def __init__(self, eta0):
        self.eta = float(eta0)  # an int would make integers of the steps

    def steps(self, t, order, batch_size):
        return np.full(_n_batches(order, batch_size), self.eta)


class InverseScaling(Constant):
    """a_t = eta0 / t^power_t"""

    def __init__(self, eta0, power_t):
        super().__init__(eta0)
        self.power_t = power_t

    def steps(self, t, order, batch_size):
        steps = _numbers(t, order, batch_size)
        np.power(steps, self.power_t, out=steps)
        return np.divide(self.eta, steps, out=steps)


class Optimal(Constant):
    """a_t = 1 / (alpha (t0 + t - 1)), t0 by Bottou's heuristic (Bottou 2012)."""

    def __init__(self, alpha, slope_at):
        typical_weight = np.sqrt(1.0 / np.sqrt(alpha))
        first = typical_weight / max(1.0, slope_at(1.0, -typical_weight))
        super().__init__(first)
        self.alpha, self.t0 = alpha, 1.0 / (first * alpha)

    def steps(self, t, order, batch_size):
        steps = _numbers(t, order, batch_size)
        steps += self.t0 - 1
        steps *= self.alpha
        return np.divide(1.0, steps, out=steps)


class Adaptive(Constant):
    """a_t = eta0 until the objective stops falling, then a fifth of it, and so on."""

    def __init__(self, eta0, smallest=1e-6):
        super().__init__(eta0)
        self.smallest = smallest

    def shrink(self):
        """After a plateau: False when the steps are as small as they get."""
        if self.eta <= self.smallest:
            return False
        self.eta /= 5
        return True


class CappedSteps(Adaptive):
    """Decaying and adaptive steps, never longer than is safe for the rows of their batch.

    The mean of the `bounds` of a batch's rows (_step_bounds.py) bounds the curvature of its loss, in the
    standardised coordinates in which the descent runs: a step of its inverse does not overshoot, and
    no constant needs tuning (Ross, Mineiro & Langford 2013; Toulis & Airoldi 2017). Over `horizon`
    rows they halve or so, so that the noise of single rows averages out (Robbins & Monro 1951), and
    long rows, whose steps are cut at first, come to count as much as the others. Of a stream, rows_before
    have been met when an epoch begins, in whatever batches; else the updates so far tell.
    """

    def __init__(self, bounds, horizon, rows_before=None):
        self.bounds, self.horizon, self.rows_before = bounds, horizon, rows_before
        longest = 1.0 / float(np.mean(self.bounds))
        super().__init__(longest, smallest=1e-3 * longest)

    def steps(self, t, order, batch_size):
        met = (t - 1) * batch_size if self.rows_before is None else self.rows_before
        steps = np.arange(_n_batches(order, batch_size), dtype=float)
        for first in range(0, len(steps), BATCHES_AT_A_TIME):
            part = steps[first : first + BATCHES_AT_A_TIME]
            age = (met + part * batch_size) / self.horizon
            rows = order[first * batch_size : (first + len(part)) * batch_size]
            np.minimum(self.eta / (1 + age) ** 0.75, 1 / self._means(rows, batch_size), out=part)
        return steps

    def _means(self, rows, batch_size):
        """Mean bound of each batch of these rows."""
        bounds = self.bounds[rows]
        if batch_size == 1:
            return bounds
        starts = np.arange(0, len(rows), batch_size)
        return np.add.reduceat(bounds, starts) / np.diff(np.append(starts, len(rows)))


def _n_batches(order, batch_size):
    return -(-len(order) // batch_size)


def _numbers(t, order, batch_size):
    """Of the updates, from t on: an array to compute in, for memory newly had costs more than arithmetic."""
    return np.arange(t, t + _n_batches(order, batch_size), dtype=float)


def make_schedule(learning_rate, *, eta0, power_t, alpha, slope_at):
    """The schedule of an explicit learning_rate: a number or a name."""
    if not isinstance(learning_rate, str):
        return Constant(learning_rate)
    return {
        "constant": lambda: Constant(eta0),
        "invscaling": lambda: InverseScaling(eta0, power_t),
        "optimal": lambda: Optimal(alpha, slope_at),
        "adaptive": lambda: Adaptive(eta0),
        "pa1": lambda: Constant(eta0),
        "pa2": lambda: Constant(eta0),
    }[learning_rate]()
