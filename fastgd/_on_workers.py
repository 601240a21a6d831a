"""What the workers of a Dask cluster do for a `DistributedProblem`: their share of each sum over all rows.

In: chunks of X and their `Targets`, and a `Recipe` that makes a `LinearProblem` of each. Out: tuples of
numbers, to be added up.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
from distributed import get_worker

from ._chunks import merged
from ._compiled import moments
from ._coordinates import Coordinates
from ._epochs import run_epoch
from ._linear import LinearProblem, contiguous
from ._losses import Loss
from ._penalties import Penalty
from ._row_sample import matter
from ._row_space import combination, inner_products
from ._schedules import CappedSteps
from ._sparse import is_sparse
from ._threads import effective_n_threads, one_blas_thread

BUCKETS = 1 << 16  # of the summary of a target
SAMPLE = 1024  # rows that tell roughly where the mean of a column is


@dataclass
class Targets:
    """Y (k, m) and weights (m,) or None of a chunk, as the kernels take them.

    Attributes
    ----------
    first : int
        Number of the first row among those of all chunks.
    lengths : ndarray of shape (m,) or None
        `LinearProblem.row_lengths` where rows are sampled.
    bounds : ndarray of shape (m,) or None
        `LinearProblem.bounds_of_steps` where steps are automatic.
    """

    Y: np.ndarray
    weight: np.ndarray | None
    first: int = 0
    lengths: np.ndarray | None = None
    bounds: np.ndarray | None = None

    def __sizeof__(self):
        """Bytes, as Dask asks for them."""
        return sum(a.nbytes for a in (self.Y, self.weight, self.lengths, self.bounds) if a is not None)


@dataclass
class Summary:
    """What a solver asks of all targets: their weight, floor and distribution.

    Attributes
    ----------
    total_weight : float
    floor : ndarray of shape (n_groups,)
        Sum of the least losses of the rows.
    Y, weight : ndarrays of shapes (k, n) and (n,)
        All targets; where they are many, some `buckets` that have their mean and, up to 1 / buckets of the
        rows, their quantiles. Labels: each class and its weight.
    buckets : int
    """

    total_weight: float
    floor: np.ndarray
    Y: np.ndarray
    weight: np.ndarray
    buckets: int = 0

    def __add__(self, other):
        total, floor = self.total_weight + other.total_weight, self.floor + other.floor
        if self.Y.dtype.kind == "i":  # labels: each has its weight
            return Summary(total, floor, self.Y, self.weight + other.weight)
        Y, weight = np.hstack([self.Y, other.Y]), np.append(self.weight, other.weight)
        if Y.shape[1] > 2 * self.buckets:  # it takes a sort: not with every chunk
            Y, weight = _condensed(Y, weight, self.buckets)
        return Summary(total, floor, Y, weight, self.buckets)


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
        """With `targets`; None for a chunk without weight."""
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
            contiguous(X), Y, weight, self.loss, penalty or Penalty(), k=self.k,
            fit_intercept=self.fit_intercept, n_threads=n_threads,
        )  # fmt: skip
        problem.coordinates = self.coordinates or problem.coordinates
        problem.targets = targets
        return problem


def joined(all_targets):
    """`Targets` of all chunks, in float64."""
    Y = np.concatenate([t.Y for t in all_targets], axis=1, dtype=np.float64)
    if all_targets[0].weight is None:
        return Targets(Y, None)
    return Targets(Y, np.concatenate([t.weight for t in all_targets], dtype=np.float64))


def _n_threads(n_jobs):
    return effective_n_threads(get_worker().state.nthreads if n_jobs is None else n_jobs)


def sum_over_chunks(parameters, _, Xs, all_targets, n_jobs):
    of_chunk, recipe, *rest = parameters
    n_threads = _n_threads(n_jobs)
    problems = (recipe.problem(X, t, n_threads) for X, t in zip(Xs, all_targets, strict=True))
    return merged(of_chunk(problem, *rest) for problem in problems if problem is not None)


def loss_sums(problem, theta):
    return problem.loss_sums(theta)


def loss_and_curvature_sums(problem, theta):
    """The same, and `Curvature.sums` and `Curvature.matter`."""
    H, matters = problem.empty_curvature(), np.zeros(problem.k)
    total, gradient = problem.loss_sums(theta, H)
    if problem.loss.coupled:
        sums = np.array([h.sum() for h in problem.curvatures_of_classes(H)])
    else:
        sums = H.sum(axis=1, dtype=np.float64)
    if problem.targets.lengths is not None:
        matters[:] = [matter(h, problem.targets.lengths) for h in H]
    return total, gradient, sums, matters


def matter_of_weights(problem):
    return (np.array([matter(h, problem.targets.lengths) for h in _curvature(problem, None)]),)


def _curvature(problem, theta):
    """Curvatures of the rows; theta=None: were they all alike."""
    if theta is None:
        weight = np.ones(len(problem.X)) if problem.weight is None else problem.weight
        return weight[None]
    H = problem.empty_curvature()
    problem.loss_sums(theta, H)
    return H


def with_lengths(recipe, X, targets, n_jobs):
    problem = recipe.problem(X, targets, _n_threads(n_jobs))
    return targets if problem is None else replace(targets, lengths=problem.row_lengths())


def with_bounds(recipe, X, targets, n_jobs, plan, curvature, drawn):
    problem = recipe.problem(X, targets, _n_threads(n_jobs), plan.penalty)
    if problem is None:
        return targets
    plan = replace(plan, batch_size=min(plan.batch_size, len(X)))
    return replace(targets, bounds=problem.bounds_of_steps(plan, curvature, drawn))


def sum_of_bounds(problem):
    return problem.targets.bounds.sum(), len(problem.X)


def column_moments(problem):
    return (problem.column_moments(),)


def plain_gram(problem):
    with one_blas_thread(problem.X.size * (problem.d + problem.k)):
        return (problem.hessian_bound(1.0) * problem.total_weight,)


def local_hessians(problem, theta):
    return _of_curvature(problem, _curvature(problem, theta))


def sampled_hessians(problem, theta, sample, matters):
    piece = sample.piece(problem.targets.lengths, problem.targets.first)
    rows = [piece.of_curvature(*each) for each in zip(_curvature(problem, theta), matters, strict=True)]
    return _of_curvature(problem, rows)


def _of_curvature(problem, curvature):
    with one_blas_thread(problem.X.size * (problem.d + problem.k)):
        return tuple(H * problem.total_weight for H in problem.local_hessians(curvature))


def count_of_main_rows(problem, theta, least):
    H = problem.curvatures_of_classes(_curvature(problem, theta))
    return (sum(np.count_nonzero(h >= c) for h, c in zip(H, least, strict=True)),)


def main_grams(problem, theta, least):
    """Gram matrices of the rows that matter to each class, and the sums (k,) of their curvatures."""
    grams, sums = [], []
    with one_blas_thread(problem.X.size * (problem.d + problem.k)):
        for h, c in zip(problem.curvatures_of_classes(_curvature(problem, theta)), least, strict=True):
            main = np.where(h >= c, h, 0.0)
            grams.append(problem.gram(main) * problem.total_weight)
            sums.append(main.sum())
    return *grams, np.array(sums)


def moments_of_all(problem):
    """Weight, mean and products about the mean of the columns of (X, Y); of Y by itself only the squares."""
    X, d = problem.X, problem.d
    weight = problem.weight
    s = np.ones(len(X)) if weight is None else weight.astype(np.float64)
    some = X[:: max(1, len(X) // SAMPLE)]
    about = (some.matrix if problem.sparse else some).mean(axis=0, dtype=np.float64)  # near the mean will do
    with one_blas_thread(X.size * d):
        A = moments.weighted_gram(X, s, about, problem.n_threads)
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


def summary(problem):
    """Summary of the targets of a chunk, in a tuple as a term of a sum."""
    loss, weight = problem.loss, problem.weight
    floor = loss.floor(problem.Y, weight) * problem.total_weight
    if loss.target == "label":
        counts = np.bincount(problem.Y[0].astype(np.intp), weight, minlength=problem.k)
        return (Summary(problem.total_weight, floor, np.arange(problem.k)[None], counts),)
    weight = np.ones(len(problem.X)) if weight is None else weight.astype(np.float64)
    buckets = 1 if loss.target == "margin" or loss.log_link else BUCKETS  # of which the mean says all
    condensed = _condensed(problem.Y.astype(np.float64), weight, buckets)
    return (Summary(problem.total_weight, floor, *condensed, buckets),)


def _condensed(Y, weight, n):
    """Y (k, m) as at most n values of equal weight, each the mean of its share of the sorted row."""
    if Y.shape[1] <= n:
        return Y, weight
    edges = np.linspace(0.0, 1.0, n + 1)
    condensed = np.empty((len(Y), n))
    for y, buckets in zip(Y, condensed, strict=True):
        order = np.argsort(y)
        s = np.append(0.0, np.cumsum(weight[order]))
        sums = np.append(0.0, np.cumsum(weight[order] * y[order]))
        buckets[:] = np.diff(np.interp(edges * s[-1], s, sums)) * (n / s[-1])
    return condensed, np.full(n, weight.sum() / n)


def inner_products_of_chunks(slices, mean):
    """`inner_products` of all rows as far as some columns go."""
    with one_blas_thread(len(mean) * sum(len(X) for X in slices)):
        return (inner_products(slices, mean),)


def combination_of_chunks(parameters, _, Xs, all_targets, n_jobs):
    """Rows of the chunks of a worker, less mean (d,), as a (k, m) of all rows combines them."""
    a, mean = parameters
    with one_blas_thread(a.size * len(mean)):
        return merged(
            (combination(X, mean, a[:, t.first : t.first + len(X)]),)
            for X, t in zip(Xs, all_targets, strict=True)
        )


STATE = ("u", "slots", "owed", "owed_total", "mean", "mean_count")


def local_epoch(parameters, argument, Xs, all_targets, n_jobs):
    """One epoch over the chunks of a worker; what it ends with, times its rows."""
    (recipe, state, plan), (seed, n_workers) = parameters, argument
    state, rng = copy.deepcopy(state), np.random.default_rng(seed)
    numbers = rng.permutation(len(Xs)) if plan.shuffle else range(len(Xs))
    rows, loss, step = 0, 0.0, np.nan
    with np.errstate(over="ignore", invalid="ignore"):
        for i in numbers:
            X = Xs[i] if is_sparse(Xs[i]) else np.ascontiguousarray(Xs[i])  # an epoch reads row by row
            problem = recipe.problem(X, all_targets[i], _n_threads(n_jobs), plan.penalty)
            if problem is None:
                continue
            m = len(problem.X)
            local = replace(plan, batch_size=min(plan.batch_size, m))
            if isinstance(plan.schedule, CappedSteps):
                local.schedule = CappedSteps(problem.targets.bounds, plan.schedule.horizon / n_workers)
                local.schedule.eta = plan.schedule.eta
            order = np.arange(m, dtype=np.intp)
            order = rng.permutation(order) if plan.shuffle else order
            mean_loss, step = run_epoch(problem, state, local, order)
            rows, loss = rows + m, loss + m * mean_loss
    if not rows:
        return None
    arrays = (rows * getattr(state, name).astype(np.float64) for name in STATE)
    return (rows, loss, rows * state.t, rows * step, *arrays)
