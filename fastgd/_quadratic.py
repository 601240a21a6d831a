"""A problem near a point, without its data: value, gradient and Hessian; and compiled descents on that."""

import numpy as np

from ._compiled import quadratic
from ._exceptions import DivergenceError
from ._metrics import largest_eigenvalue, times

SEGMENT_WORK = 200_000_000  # multiplications between two looks at Ctrl-C, well below a second


class QuadraticModel:
    """A problem by its value, gradient and Hessian at one point: its data are not read again.

    With squared error the model is the problem (the Gram form): an iteration costs O(d^2) whatever the
    number of rows, and the iterates are those of the matrix form up to rounding.

    Parameters
    ----------
    problem : LinearProblem
        Lends its penalty and coordinates.
    centre : ndarray of shape (k, d + 1)
    value, gradient : ndarrays of shapes (k,) and (k, d + 1)
    hessians : list of ndarrays of shape (d + 1, d + 1)
        One for all outputs, or one for each.
    """

    def __init__(self, problem, centre, value, gradient, hessians):
        self.problem, self.centre = problem, centre
        self.value, self.gradient, self.hessians = value, gradient, hessians

    @classmethod
    def gram_form(cls, problem, centre):
        """The whole of a squared-error problem."""
        hessian = problem.hessian_bound(1.0)
        return cls(problem, centre, *problem.value_and_grad(centre), [hessian])

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def value_and_grad(self, u):
        step = u - self.centre
        H_step = times(self.hessians, step)
        products = ((self.gradient + 0.5 * H_step) * step).sum(axis=1)
        return self.value + products, self.gradient + H_step

    def objective(self, u):
        return self.value_and_grad(u)[0] + self.l1_value(u)

    def lipschitz(self, curvature=1.0, affordable=True):
        return max(largest_eigenvalue(H) for H in self.hessians)

    # ---- compiled iterations ------------------------------------------------------------------

    def _arrays(self):
        """The model as the kernels take it."""
        hessians = np.ascontiguousarray(self.hessians[0][None] if len(self.hessians) == 1 else self.hessians)
        return hessians, self.centre, self.value, np.ascontiguousarray(self.gradient)

    def accelerated(self, metric, result, monitor, start, tolerances, *, momentum, explicit):
        """`_solvers.accelerated` for a monitor that only counts.

        start : ndarray of shape (k,), the objective at result.u
        tolerances : share, absolute (k,), tiny of `_solvers.tolerances`
        """
        share, absolute, tiny = tolerances
        limit = 2 * (start - self.floor) + 1e-300
        model, thresholds = self._arrays(), self.l1_thresholds()
        k = len(result.u)
        state = np.zeros((5, *result.u.shape))
        state[:3] = result.u
        t = np.append(np.ones(k), [np.inf, 0.0])
        for n in self._segments(monitor):
            curve = np.empty(n)
            n, end, result.gap = quadratic.accelerated(
                *model, thresholds, state, t, metric.lipschitz, momentum, self.floor, limit, share, absolute,
                tiny, curve,
            )  # fmt: skip
            monitor.curve += curve[:n].tolist()
            result.u = np.array(state[0])
            if end == quadratic.CONVERGED:
                result.reason = "converged"
                return
            if end == quadratic.ROSE:
                if explicit or not np.isfinite(start).all():
                    raise DivergenceError
                metric = metric.tightened(2.0)  # the bound was none: start again in a longer metric
                state[:2], t[:k], t[k + 1] = state[2], 1.0, 0.0

    def by_rule(self, plan, state, result, monitor, excess, tolerances):
        """`_by_rule.by_rule` for a monitor that only counts.

        excess : float, the objective at result.u above its floor
        state : EpochState, whose slots and count go on
        """
        model, limit = self._arrays(), 1e3 * excess + 1e-300
        iterates = np.zeros((3, *result.u.shape))
        iterates[0], begun = result.u, False
        share, absolute, tiny = tolerances
        for n in self._segments(monitor):
            steps, curve = plan.schedule.steps(state.t, np.zeros(n, dtype=np.intp), 1), np.empty(n)
            n, end, result.gap = quadratic.by_rule(
                *model, iterates, begun, state.slots, plan.rule.id, plan.hyper, steps, state.t, self.floor,
                limit, share, absolute, tiny, curve,
            )  # fmt: skip
            monitor.curve += curve[:n].tolist()
            result.u = np.array(iterates[0])
            begun, updates = True, n - (end == quadratic.CONVERGED)
            if updates:
                result.learning_rate = float(steps[updates - 1])
            state.t += updates
            if end == quadratic.ROSE:
                raise DivergenceError
            if end == quadratic.CONVERGED:
                result.reason = "converged"
                return

    def _segments(self, monitor):
        """How many iterations to run at a time, until none is left."""
        most = max(1, SEGMENT_WORK // self.gradient.size // self.gradient.shape[1])
        while not monitor.exhausted:
            yield min(most, monitor.max_iter - monitor.n_iter)
