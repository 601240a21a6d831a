"""A linear problem whose rows lie on the workers of a Dask cluster, and stay there.

In: futures of chunks of X, and of the targets that belong to them. Out: what a solver asks of any
`LinearProblem`. Parameters travel to the workers; sums over rows come back, O(d) numbers for a gradient
and O(d^2) for a metric, added up in a tree. One task per worker goes over all chunks there. When a worker
dies, Dask computes its chunks anew, elsewhere, and the pass is given out again.
"""

import copy
import functools
from dataclasses import dataclass, replace

import numpy as np
from distributed import get_worker

from ._base import _contiguous
from ._compiled import linear
from ._coordinates import Coordinates, merged_moments
from ._descent import capped_steps
from ._epochs import run_epoch
from ._linear import _SQUARED, LinearProblem
from ._losses import Loss
from ._penalties import Penalty
from ._plan import GRAM_LIMIT
from ._schedules import CappedSteps
from ._threads import effective_n_threads, one_blas_thread

PATIENCE = 1.0  # seconds between two looks at whether all workers are alive
FAN_IN = 8  # results that one task of the tree adds up
LARGE = 65536  # bytes of parameters from which workers fetch them from each other
BUCKETS = 1024  # of the summary of a target
SAMPLE = 1024  # rows that tell roughly where the mean of a column is


# ------------------------------------------------------------------------------------------------
# on the client: where the rows are, and how sums over them come about
# ------------------------------------------------------------------------------------------------


@dataclass
class Rows:
    """What a solver may know of an X that is elsewhere."""

    shape: tuple
    dtype: np.dtype

    def __len__(self):
        return self.shape[0]

    @property
    def size(self):
        return self.shape[0] * self.shape[1]


class Chunks:
    """Futures of chunks of X and of their `Targets`, and sums over them.

    Parameters
    ----------
    client : distributed.Client
    X, targets : lists of futures
    n_rows : list of int
    n_jobs : int or None
        Threads of a task; None takes those of its worker.
    """

    def __init__(self, client, X, targets, n_rows, n_jobs):
        self.client, self.X, self.targets = client, X, targets
        self.n_rows, self.n_jobs = n_rows, n_jobs
        self._workers, self._groups = None, []

    def groups(self):
        """(address, chunks) of every worker that has some; None is any worker, while there is none."""
        workers = sorted(self.client.nthreads())
        if workers != self._workers:  # at first, and when one died or joined
            holders = self.client.who_has(self.X)
            load, held = dict.fromkeys(workers, 0), {address: [] for address in workers}
            for i, future in enumerate(self.X):
                able = [address for address in holders.get(future.key, ()) if address in load]
                address = min(able or workers or [None], key=lambda a: load.get(a, 0))
                load[address] = load.get(address, 0) + self.n_rows[i]
                held.setdefault(address, []).append(i)
            self._groups = [(address, chunks) for address, chunks in held.items() if chunks]
            self._workers = workers
        return self._groups

    def over_groups(self, task, parameters, arguments=None):
        """Sum over workers of task(parameters, argument, X, targets, n_jobs).

        A task may run where its chunks are and nowhere else: Dask would balance the load by moving them. So
        when a worker is lost, what it had to do is given out anew.

        arguments : callable, from the number of workers to an argument for each
        """
        while True:
            groups = self.groups()
            root = self._submit(task, parameters, arguments, groups)
            while True:
                try:
                    total = root.result(timeout=PATIENCE)
                    return tuple(np.array(part) if isinstance(part, np.ndarray) else part for part in total)
                except TimeoutError:
                    alive = self.client.nthreads()
                    if any(address and address not in alive for address, _ in groups):
                        break

    def _submit(self, task, parameters, arguments, groups):
        """Future of the sum, by a tree of tasks."""
        submit = functools.partial(self.client.submit, pure=False)
        arguments = [None] * len(groups) if arguments is None else arguments(len(groups))
        if sum(value.nbytes for value in parameters if isinstance(value, np.ndarray)) > LARGE:
            parameters = submit(_same, parameters)
        level = [
            submit(
                task, parameters, argument, [self.X[i] for i in chunks],
                [self.targets[i] for i in chunks], self.n_jobs, workers=address and [address],
            )
            for (address, chunks), argument in zip(groups, arguments, strict=True)
        ]  # fmt: skip
        while len(level) > 1:
            level = [submit(_merge, level[i : i + FAN_IN]) for i in range(0, len(level), FAN_IN)]
        return level[0]


class Curvature:
    """Second derivatives of the rows' losses, which stay where the rows are: the point tells them all."""

    theta = None


class DistributedProblem(LinearProblem):
    """`LinearProblem` over `Chunks`.

    Parameters
    ----------
    chunks : Chunks
    rows : Rows
    summary : Summary
        Of all targets.
    recipe : Recipe
        How a worker makes the problem of a chunk; coordinates are this problem's.
    penalty : Penalty
    """

    def __init__(self, chunks, rows, summary, recipe, penalty):
        self.chunks, self.X, self.recipe, self.penalty = chunks, rows, recipe, penalty
        self.Y, self.weight = summary.Y, summary.weight  # few numbers that stand for all
        self.loss, self.k, self.d = recipe.loss, recipe.k, rows.shape[1]
        self.fit_intercept = recipe.fit_intercept
        self.n_groups = 1 if self.loss.coupled else self.k
        self.total_weight, self.floor = summary.total_weight, summary.floor / summary.total_weight
        self.coordinates = Coordinates()
        self.moments = None

    @classmethod
    def of(cls, chunks, rows, recipe, plan):
        """The problem of all chunks; of least squares one pass tells all that they have to say."""
        summary = chunks.over_groups(_sum_over_chunks, (_summary, recipe))[0]
        problem = cls(chunks, rows, summary, recipe, plan.penalty)
        if plan.full and recipe.loss.kernel == "squared_error" and problem.d + problem.k < GRAM_LIMIT:
            problem.moments = Moments(problem._sum(_moments_of_all)[0], problem.d)
        return problem

    def with_loss(self, loss):
        other = super().with_loss(loss)
        other.recipe = replace(self.recipe, loss=loss)
        return other

    def output(self, c):
        other = copy.copy(self)
        other.recipe = replace(self.recipe, output=c, k=1)
        other.k = other.n_groups = 1
        other.Y, other.floor = self.Y[c : c + 1], self.floor[c : c + 1]
        return other

    def _sum(self, of_chunk, *parameters):
        """Sum over chunks of of_chunk(its LinearProblem, *parameters), a tuple of arrays."""
        recipe = replace(self.recipe, coordinates=self.coordinates)
        return self.chunks.over_groups(_sum_over_chunks, (of_chunk, recipe, *parameters))

    def loss_sums(self, theta, curvature=None):
        if curvature is not None:
            curvature.theta = theta
        if self.moments is not None:
            return self.moments.loss_sums(theta)
        return self._sum(_loss_sums, theta)

    def means_and_variances(self):
        if self.moments is not None:
            return self.moments.means_and_variances()
        n, mean, square = self._sum(_column_moments)[0]
        return mean, square / n

    def hessian_bound(self, curvature):
        if self.moments is not None:
            shift = np.zeros(self.d) if self.coordinates.identity else self.coordinates.shift
            return self._add_ridge(self._as_metric(curvature * self.moments.gram(shift)))
        return self._add_ridge(self._sum(_hessian_bound, float(curvature))[0] / self.total_weight)

    def passes_per_hessian(self, curvature):
        return super().passes_per_hessian(curvature) + 1  # the rows' curvatures are computed anew

    def _share_of_main_rows(self, curvature):
        return 1.0  # at most

    def local_hessians(self, curvature):
        hessians = [H / self.total_weight for H in self._sum(_local_hessians, curvature.theta)]
        for H in hessians:
            H.flat[:: len(H) + 1] += np.tile(self._ridge(), len(H) // (self.d + 1))
        return hessians

    def mean_curvature(self, curvature):
        if self.loss.coupled:
            return self.loss.curvature
        total = float(self._sum(_total_curvature, curvature.theta)[0])
        return max(total / (self.k * self.total_weight), 1e-12)

    def empty_curvature(self):
        return Curvature()

    def _without_targets(self):
        other = copy.copy(self)
        other.recipe = replace(self.recipe, output="zeros", k=1, loss=_SQUARED)
        other.k = other.n_groups = 1
        other.loss, other.moments = _SQUARED, None
        return other

    def row_norms(self, batch_size):
        """Their mean, by itself in an array: a worker asks for those of its rows."""
        mean, variance = self.means_and_variances()
        c = self.coordinates
        shift, scale = (0.0, 1.0) if c.identity else (c.shift, c.scale)
        return np.array([np.sum((variance + (mean - shift) ** 2) * scale**2)])

    def loss_of_nothing(self):
        total, _ = self.loss_sums(np.zeros((self.k, self.d + 1)))
        return max(float(total[: self.n_groups].sum()) / len(self.X), 1e-3)

    def epoch(self, state, plan, rng):
        """An epoch on every worker over the rows there, all from the same state; their mean goes on.

        Parameter averaging (McDonald, Mann & Smith 2009), the optimizer's state included, weighted by rows.
        """

        def seeds(n):
            return [(int(seed), n) for seed in rng.randint(np.iinfo(np.int32).max, size=n)]

        parameters = (replace(self.recipe, coordinates=self.coordinates), state, plan)
        rows, loss, t, step, *arrays = self.chunks.over_groups(_local_epoch, parameters, seeds)
        for name, total in zip(_STATE, arrays, strict=True):
            mean = (total / rows).astype(getattr(state, name).dtype)
            setattr(state, name, np.ascontiguousarray(mean))
        state.t = int(round(t / rows))
        return loss / rows, step / rows


@dataclass
class Moments:
    """Second moments of the columns of X and Y together: (weight, mean (d + k,), products (d + k, d + k))."""

    of_all: tuple
    d: int

    def means_and_variances(self):
        n, mean, products = self.of_all
        return mean[: self.d], np.maximum(np.diagonal(products)[: self.d] / n, 0.0)

    def gram(self, shift):
        """sum_i s_i (x_i - shift, 1)(x_i - shift, 1)^T, shape (d + 1, d + 1)."""
        n, mean, products = self.of_all
        away = mean[: self.d] - shift
        A = np.empty((self.d + 1, self.d + 1))
        A[:-1, :-1] = products[: self.d, : self.d] + n * np.outer(away, away)
        A[-1, :-1] = A[:-1, -1] = n * away
        A[-1, -1] = n
        return A

    def loss_sums(self, theta):
        """Half the sum of squared residuals per output, and its gradient."""
        n, mean, products = self.of_all
        d, w = self.d, theta[:, :-1]
        mean_residual = w @ mean[:d] + theta[:, -1] - mean[d:]
        Gw, c = w @ products[:d, :d], products[d:, :d]
        squares = ((Gw - 2 * c) * w).sum(axis=1) + np.diagonal(products)[d:] + n * mean_residual**2
        gradient = np.empty_like(theta)
        gradient[:, :-1] = Gw - c + n * mean_residual[:, None] * mean[:d]
        gradient[:, -1] = n * mean_residual
        return squares / 2, gradient


# ------------------------------------------------------------------------------------------------
# on the workers
# ------------------------------------------------------------------------------------------------


@dataclass
class Targets:
    """Y (k, m) and weights (m,) or None of a chunk, as the kernels take them."""

    Y: np.ndarray
    weight: np.ndarray | None

    @property
    def nbytes(self):
        return self.Y.nbytes + (0 if self.weight is None else self.weight.nbytes)


@dataclass
class Summary:
    """What a solver asks of all targets: their weight, floor and distribution.

    Attributes
    ----------
    total_weight : float
    floor : ndarray of shape (n_groups,)
        Sum of the least losses of the rows.
    Y, weight : ndarrays of shapes (k, n) and (n,)
        Few weighted values with the mean of all and, up to 1 / n of the rows, their quantiles.
    """

    total_weight: float
    floor: np.ndarray
    Y: np.ndarray
    weight: np.ndarray

    def __add__(self, other):
        total, floor = self.total_weight + other.total_weight, self.floor + other.floor
        if self.Y.dtype.kind == "i":  # labels: each has its weight
            return Summary(total, floor, self.Y, self.weight + other.weight)
        Y, weight = np.hstack([self.Y, other.Y]), np.append(self.weight, other.weight)
        return Summary(total, floor, *_condensed(Y, weight))


@dataclass
class Recipe:
    """How to make the problem of a chunk, without penalty.

    output : int, "zeros" or None
        The row of Y that is meant; zeros instead of Y; all of Y.
    """

    loss: Loss
    k: int
    fit_intercept: bool
    coordinates: Coordinates | None = None
    output: object = None
    weight_scale: float = 1.0

    def problem(self, X, targets, n_threads, penalty=None):
        """None for a chunk without weight."""
        Y, weight = targets.Y, targets.weight
        if len(X) == 0 or (weight is not None and not weight.any()):
            return None
        if self.output == "zeros":
            Y = np.zeros_like(Y[:1])
        elif self.output is not None:
            Y = Y[self.output : self.output + 1]
        if weight is not None and self.weight_scale != 1.0:
            weight = weight * weight.dtype.type(self.weight_scale)
        problem = LinearProblem(
            _contiguous(X), Y, weight, self.loss, penalty or Penalty(), k=self.k,
            fit_intercept=self.fit_intercept, n_threads=n_threads,
        )  # fmt: skip
        problem.coordinates = self.coordinates or problem.coordinates
        return problem


def _same(value):
    return value


def _merge(results):
    """Sum of tuples, number by number; None is nothing."""
    total = None
    for result in results:
        if result is None:
            continue
        total = result if total is None else tuple(map(_added, total, result))
    return total


def _added(a, b):
    """Sum of two arrays or summaries; moments, being tuples, are merged."""
    return merged_moments(a, b) if isinstance(a, tuple) else a + b


def _n_threads(n_jobs):
    return effective_n_threads(get_worker().state.nthreads if n_jobs is None else n_jobs)


def _sum_over_chunks(parameters, _, Xs, all_targets, n_jobs):
    of_chunk, recipe, *rest = parameters
    n_threads = _n_threads(n_jobs)
    problems = (recipe.problem(X, t, n_threads) for X, t in zip(Xs, all_targets, strict=True))
    return _merge(of_chunk(problem, *rest) for problem in problems if problem is not None)


def _loss_sums(problem, theta):
    return problem.loss_sums(theta)


def _column_moments(problem):
    mean, variance = problem.means_and_variances()
    return ((problem.total_weight, mean, variance * problem.total_weight),)


def _hessian_bound(problem, curvature):
    with one_blas_thread(problem.X.size * problem.d):
        return (problem.hessian_bound(curvature) * problem.total_weight,)


def _local_hessians(problem, theta):
    curvature = problem.empty_curvature()
    problem.loss_sums(theta, curvature)
    with one_blas_thread(problem.X.size * problem.d):
        return tuple(H * problem.total_weight for H in problem.local_hessians(curvature))


def _total_curvature(problem, theta):
    curvature = problem.empty_curvature()
    problem.loss_sums(theta, curvature)
    return (curvature.sum(dtype=np.float64),)


def _moments_of_all(problem):
    """Weight, mean and products about the mean of the columns of (X, Y); of Y by itself only the squares."""
    X, d = problem.X, problem.d
    weight = problem.weight
    s = np.ones(len(X)) if weight is None else weight.astype(np.float64)
    about = X[:: max(1, len(X) // SAMPLE)].mean(axis=0, dtype=np.float64)  # near the mean is near enough
    with one_blas_thread(X.size * d):
        A = linear.weighted_gram(X, s, about, problem.n_threads)
    n, away = A[-1, -1], A[-1, :-1] / A[-1, -1]
    constant = np.zeros((problem.k, d + 1))
    constant[:, -1] = np.average(problem.Y, axis=1, weights=weight)
    squares, gradient = problem.loss_sums(constant)  # residuals are those of the mean of y
    mean, products = np.append(about + away, constant[:, -1]), np.zeros((d + problem.k,) * 2)
    products[:d, :d] = A[:-1, :-1] - n * np.outer(away, away)
    products[d:, :d] = gradient[:, -1:] * mean[:d] - gradient[:, :-1]
    products[:d, d:] = products[d:, :d].T
    products[range(d, len(products)), range(d, len(products))] = 2 * squares
    return ((n, mean, products),)


def _summary(problem):
    """Summary of the targets of a chunk, in a tuple as a term of a sum."""
    loss, weight = problem.loss, problem.weight
    floor = loss.floor(problem.Y, weight) * problem.total_weight
    if loss.target == "label":
        counts = np.bincount(problem.Y[0].astype(np.intp), weight, minlength=problem.k)
        return (Summary(problem.total_weight, floor, np.arange(problem.k)[None], counts),)
    weight = np.ones(len(problem.X)) if weight is None else weight.astype(np.float64)
    return (Summary(problem.total_weight, floor, *_condensed(problem.Y.astype(np.float64), weight)),)


def _condensed(Y, weight):
    """Y (k, n) as at most BUCKETS values of equal weight, each the mean of its share of the sorted row."""
    if Y.shape[1] <= BUCKETS:
        return Y, weight
    edges = np.linspace(0.0, 1.0, BUCKETS + 1)
    condensed = np.empty((len(Y), BUCKETS))
    for y, buckets in zip(Y, condensed, strict=True):
        order = np.argsort(y)
        s = np.append(0.0, np.cumsum(weight[order]))
        sums = np.append(0.0, np.cumsum(weight[order] * y[order]))
        buckets[:] = np.diff(np.interp(edges * s[-1], s, sums)) * (BUCKETS / s[-1])
    return condensed, np.full(BUCKETS, weight.sum() / BUCKETS)


_STATE = ("u", "slots", "owed", "owed_total", "mean", "mean_count")


def _local_epoch(parameters, argument, Xs, all_targets, n_jobs):
    """One epoch over the chunks of a worker; what it ends with, times its rows."""
    (recipe, state, plan), (seed, n_workers) = parameters, argument
    state, rng = copy.deepcopy(state), np.random.default_rng(seed)
    numbers = rng.permutation(len(Xs)) if plan.shuffle else range(len(Xs))
    rows, loss, step = 0, 0.0, np.nan
    with np.errstate(over="ignore", invalid="ignore"):
        for i in numbers:
            problem = recipe.problem(Xs[i], all_targets[i], _n_threads(n_jobs), plan.penalty)
            if problem is None:
                continue
            m = len(problem.X)
            local = replace(plan, batch_size=min(plan.batch_size, m))
            if isinstance(plan.schedule, CappedSteps):
                local.schedule = capped_steps(
                    problem, plan, plan.schedule.curvature, plan.schedule.horizon / n_workers
                )
                local.schedule.eta = plan.schedule.eta
            order = np.arange(m, dtype=np.intp)
            order = rng.permutation(order) if plan.shuffle else order
            mean_loss, step = run_epoch(problem, state, local, order)
            rows, loss = rows + m, loss + m * mean_loss
    if not rows:
        return None
    arrays = (rows * getattr(state, name).astype(np.float64) for name in _STATE)
    return (rows, loss, rows * state.t, rows * step, *arrays)
