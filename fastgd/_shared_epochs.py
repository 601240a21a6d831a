"""Mini-batch descents of many candidates over the rows of a fold, which they meet in the same order.

Each is the descent of a fit by itself, update for update: it asks for its epochs, and is given them in
rounds. A round has one order of the rows, drawn once; epochs of as many candidates run at a time as there are
threads. What descents want to know of their rows before the first epoch is computed once.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ._candidates import SharedGram
from ._compiled import linear
from ._epochs import order_of_rows, run_epoch
from ._solvers import SMALL


class SharedRows(SharedGram):
    """A problem that shares with those of other penalties what it knows of its rows without weights.

    Several threads may ask such problems at a time: a pass has buffers of its own, and takes no more threads.
    """

    def with_penalty(self, penalty):
        other = object.__new__(SharedRows)
        vars(other).update(vars(self), penalty=penalty)
        return other

    def loss_sums(self, theta, curvature=None):
        one_pass = linear.Pass(self.X, self.k)
        return one_pass.run(self.X, self.Y, self.weight, theta, self.loss.id, self._params, 1, curvature)

    def objective(self, u):
        if u[:, :-1].any():
            return super().objective(u)
        key = "objective", u[:, -1].tobytes()
        if key not in self._shared:
            self._shared[key] = super().objective(u)
        return self._shared[key]

    def loss_of_nothing(self):
        if "loss_of_nothing" not in self._shared:
            self._shared["loss_of_nothing"] = super().loss_of_nothing()
        return self._shared["loss_of_nothing"]


def together(descents, problems, plans, rng, n_threads):
    """What each descent returns, or the exception that it raises.

    Parameters
    ----------
    descents : list of generators, as `_descent.minimising` makes them
    problems : list of LinearProblem
        Of the same rows, one for each descent.
    plans : list of Plan
        With the same `shuffle`.
    rng : RandomState
    n_threads : int
    """
    outcomes, states = [None] * len(descents), {}
    X = problems[0].X

    def advance(i, met=None):
        try:
            states[i] = descents[i].send(met)
        except StopIteration as end:
            outcomes[i] = end.value
        except Exception as error:
            outcomes[i] = error

    def epoch(i):
        state = states.pop(i)
        with np.errstate(over="ignore", invalid="ignore"):
            loss, step = run_epoch(problems[i], state, plans[i], order)
            met = loss + problems[i].penalty_value(state.u), step
        advance(i, met)

    with ThreadPoolExecutor(n_threads) as pool:
        run = map if n_threads == 1 or X.size <= SMALL else pool.map
        advance(0)  # it asks what the others need not ask again
        list(run(advance, range(1, len(descents))))
        while states:
            order = order_of_rows(len(X), plans[0], rng)
            list(run(epoch, sorted(states)))
    return outcomes
