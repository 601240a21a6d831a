"""Mini-batch descent: epochs of compiled updates, and the state that they leave behind.

A descent asks for epochs, and whoever drives it has them run: one descent by itself here (`alone`), many that
meet the rows in the same order in `_shared_epochs.py`.
"""

import copy
from dataclasses import dataclass, field

import numpy as np

from ._compiled import epochs
from ._exceptions import DivergenceError


@dataclass
class EpochState:
    """All that an epoch leaves behind for the next one, or for the next call of partial_fit.

    Attributes
    ----------
    u : ndarray of shape (k, d + 1), or (p,) for the p parameters of a network
        Of X's dtype while an epoch runs.
    t : int
        Number of the next update, from 1.
    slots : ndarray of shape (slots of the rule, size of u)
    owed, owed_total : ndarrays of shapes (k, d) and (1,)
        Cumulative L1 penalty; empty without.
    mean, mean_count : ndarrays of u's shape and (1,)
        Average of the iterates; empty without.
    rule : str
        Whose slots these are.
    coordinates : Coordinates
        Those of u and mean.
    scale : float
        Of a stream, the largest loss above its floor that predicting zero had in a chunk, or the first chunk
        to begin with: what a loss that explodes is measured by. A chunk by itself may be next to no loss.
    time : float
        Of a linear model, the sum of the steps since the state began or was resumed.
    """

    u: np.ndarray
    t: int
    slots: np.ndarray
    owed: np.ndarray
    mean: np.ndarray
    rule: str
    coordinates: object
    owed_total: np.ndarray = field(default_factory=lambda: np.zeros(1))
    mean_count: np.ndarray = field(default_factory=lambda: np.zeros(1))
    scale: float = 0.0
    time: float = 0.0

    @classmethod
    def start(cls, problem, plan, u):
        """At u, an array that is given away."""
        u = np.ascontiguousarray(u)
        empty = np.empty((0,) * u.ndim, u.dtype)
        owes = plan.penalty.l1 and plan.by_rows
        return cls(
            u=u, t=1, slots=plan.rule.init(u.size, u.dtype),
            owed=np.zeros_like(u[:, :-1], order="C") if owes else empty,
            mean=np.zeros_like(u) if plan.average else empty,
            rule=plan.rule.name, coordinates=problem.coordinates,
        )  # fmt: skip

    def resumed(self, problem, plan, u):
        """This state, going on from u; what another rule, penalty or plan cannot use begins anew.

        An average goes on, and with it the iterate behind it.
        """

        def moved(v):
            theta = self.coordinates.to_theta(v.astype(np.float64))
            return problem.coordinates.from_theta(theta).astype(u.dtype)

        averaged = plan.average and self.averaged
        new = EpochState.start(problem, plan, moved(self.u) if averaged else u)
        new.scale = self.scale
        if self.rule == plan.rule.name:
            new.t, new.slots = self.t, self.slots.astype(u.dtype)
        if new.owed.shape == self.owed.shape:
            new.owed, new.owed_total = self.owed.astype(u.dtype), np.array(self.owed_total)
        if averaged:
            new.mean, new.mean_count = moved(self.mean), np.array(self.mean_count)
        return new

    @property
    def averaged(self):
        """Whether averaging has begun."""
        return self.mean_count[0] > 0

    @property
    def solution(self):
        """The average where averaging has begun, else the last iterate."""
        return self.mean if self.averaged else self.u


SEGMENT_WORK = 50_000_000  # multiplications between two looks at Ctrl-C, well below a second


def run_epoch(problem, state, plan, order):
    """One epoch over the rows of `order`; mean loss met on the way, and the last step size."""
    steps = plan.schedule.steps(state.t, order, plan.batch_size)
    batches = max(1, SEGMENT_WORK // problem.work_per_batch(plan))
    total = 0.0
    for first in range(0, len(steps), batches):
        rows = order[first * plan.batch_size : (first + batches) * plan.batch_size]
        total += problem.run_epoch(state, rows, steps[first : first + batches], plan)
    problem.end_epoch()
    return total / len(order), float(steps[-1])


def order_of_rows(m, plan, rng):
    """The order in which an epoch meets m rows."""
    order = np.arange(m, dtype=np.intp)
    if plan.shuffle:
        epochs.shuffle(order, rng.randint(2**63, dtype=np.uint64))  # rng's own takes longer than the rows
    return order


def shuffled_epoch(problem, state, plan, rng):
    """One epoch over all rows; mean loss met on the way, and the last step size."""
    return run_epoch(problem, state, plan, order_of_rows(len(problem.X), plan, rng))


def alone(descent, problem, plan, rng):
    """What a descent returns that is given its epochs as it asks for them."""
    try:
        state = next(descent)
        while True:
            try:
                with np.errstate(over="ignore", invalid="ignore"):
                    loss, step = problem.epoch(state, plan, rng)
                    met = loss + problem.penalty_value(state.u), step
            except KeyboardInterrupt as interrupt:  # the descent knows what to keep
                descent.throw(interrupt)
            state = descent.send(met)
    except StopIteration as end:
        return end.value


def mini_batch(problem, plan, state, result, monitor, *, tol):
    """Epochs until the objective stops falling by a share of tol for n_iter_no_change epochs.

    A generator: it yields the state to ask for an epoch; it is sent the objective met and the last step.
    That objective is the mean loss that the rows had when they were met, plus the penalty.
    """
    to_theta = problem.coordinates.to_theta
    start = float(np.sum(problem.objective(state.u.astype(np.float64)) - problem.floor))
    floor = float(np.sum(problem.floor))
    scale = max(start, problem.loss_of_nothing())  # the descent may begin where another ended
    best, waited = np.inf, 0
    patience = plan.n_iter_no_change
    if plan.auto_rate and not plan.hidden:  # its steps may be tried sooner
        patience = min(2, patience)
    cautious, safe = plan.hidden and plan.auto_rate, None  # some initial weights bear shorter steps only
    while monitor.proceed():
        before = copy.deepcopy(vars(state)) if cautious else None
        objective, result.learning_rate = yield state
        if cautious:  # the losses met show where the epoch before had led
            if not objective - floor <= 10 * scale and plan.schedule.shrink():
                vars(state).update(copy.deepcopy(safe or before))
                continue
            safe = before
        if not np.isfinite(objective) or not np.isfinite(state.u).all():
            raise DivergenceError
        if not start:  # the perceptron starts at a loss of zero
            start = objective - floor
            scale = max(scale, start)
        if plan.hidden and objective - floor > 1e6 * scale:  # units that die of it come to a rest
            raise DivergenceError
        result.u = np.array(state.solution)
        reason = monitor.report(objective, lambda: to_theta(result.u))
        if reason:
            result.reason = reason
            break
        # a network's objective may fall for ever; what matters is how much beside where it began
        share = start if plan.hidden else best - floor
        improved = objective < best - (tol or 0.0) * share if np.isfinite(best) else True
        waited = 0 if improved or tol is None else waited + 1
        best = min(best, objective)
        if waited >= patience:
            if plan.schedule.smallest is None or not plan.schedule.shrink():
                result.reason = "converged"
                break
            waited = 0
    final = float(np.sum(problem.objective(result.u.astype(np.float64)) - problem.floor))
    if not final <= 1e3 * scale:  # steps that begin too long may yet come back
        raise DivergenceError
