"""A linear problem whose rows lie on the workers of a Dask cluster, and stay there.

In: `Chunks` of X, and of the targets that belong to them. Out: what a solver asks of any `LinearProblem`.
Parameters travel to the workers; sums over rows come back, O(d) numbers for a gradient and O(d^2) for a
metric.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from distributed import get_worker

from ._chunks import merged
from ._compiled import moments
from ._coordinates import Coordinates
from ._epochs import run_epoch
from ._linear import _SQUARED, NEGLIGIBLE, LinearProblem, contiguous
from ._losses import Loss
from ._metrics import GRAM_LIMIT
from ._penalties import Penalty
from ._row_sample import matter
from ._schedules import CappedSteps
from ._sparse import is_sparse
from ._threads import effective_n_threads, one_blas_thread

BUCKETS = 1 << 16  # of the summary of a target
SAMPLE = 1024  # rows that tell roughly where the mean of a column is


# ------------------------------------------------------------------------------------------------
# on the client
# ------------------------------------------------------------------------------------------------


@dataclass
class Rows:
    """What a solver may know of an X that is elsewhere.

    entries : int or None
        Of sparse rows.
    """

    shape: tuple
    dtype: np.dtype
    entries: int | None = None

    def __len__(self):
        return self.shape[0]

    @property
    def size(self):
        return self.shape[0] * self.shape[1] if self.entries is None else self.entries


class Curvature:
    """Second derivatives of the rows' losses, which stay where the rows are: the point tells them all.

    Attributes
    ----------
    theta : ndarray of shape (k, d + 1)
        The point.
    sums : ndarray of shape (k,)
        Over all rows; of a softmax, those of `curvatures_of_classes`.
    matter : ndarray of shape (k,)
        How much all rows matter to a `RowSample`; zeros if there is none.
    """

    theta = sums = matter = None


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

    @property
    def sparse(self):
        return self.X.entries is not None

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
        if self.moments is not None:
            return self.moments.loss_sums(theta)
        if curvature is None:
            return self._sum(_loss_sums, theta)
        curvature.theta = theta
        *sums, curvature.sums, curvature.matter = self._sum(_loss_and_curvature_sums, theta)
        return sums

    def means_and_variances(self):
        if self.moments is not None:
            return self.moments.means_and_variances()
        n, mean, square = self._sum(_column_moments)[0]
        return mean, square / n

    def hessian_bound(self, curvature, sample=None):
        if sample is None or sample.share == 1:
            return self._add_ridge(curvature * self._plain_gram)
        of_weights = self._sum(_matter_of_weights)
        return self._add_ridge(curvature * self._metrics(_sampled_hessians, None, sample, of_weights)[0])

    @cached_property
    def _plain_gram(self):
        if self.moments is not None:
            return self._as_metric(self.moments.gram(self._shift()))
        return self._metrics(_plain_gram)[0]

    def _metrics(self, of_chunk, *parameters):
        """Means over all rows from of_chunk's over those of a chunk, times their weight."""
        return [A / self.total_weight for A in self._sum(of_chunk, *parameters)]

    def _share_of_main_rows(self, curvature):
        (count,) = self._sum(_count_of_main_rows, curvature.theta, self._least_of_main_rows(curvature))
        return count / (self.k * len(self.X))

    def _least_of_main_rows(self, curvature):
        return NEGLIGIBLE * curvature.sums / len(self.X)

    def local_hessians(self, curvature, sample=None):
        if self.loss.coupled and not self.small_softmax:
            least = self._least_of_main_rows(curvature)
            *hessians, main = self._metrics(_main_grams, curvature.theta, least)
            for H, rest in zip(hessians, curvature.sums / self.total_weight - main, strict=True):
                H += rest * self._plain_gram
        elif sample is None or sample.share == 1:
            hessians = self._metrics(_local_hessians, curvature.theta)
        else:
            hessians = self._metrics(_sampled_hessians, curvature.theta, sample, curvature.matter)
        for H in hessians:
            H.flat[:: len(H) + 1] += np.tile(self._ridge(), len(H) // (self.d + 1))
        return hessians

    def mean_curvature(self, curvature):
        if self.loss.coupled:
            return self.loss.curvature
        return max(float(curvature.sums.sum()) / (self.k * self.total_weight), 1e-12)

    def empty_curvature(self):
        return Curvature()

    def row_lengths(self):
        """None: they stay where the rows are, from now on beside the targets of each chunk."""
        self._beside_targets(_with_lengths)

    def _beside_targets(self, task, *parameters):
        """Targets as task(recipe, X, targets, number of first row, n_jobs, *parameters) completes them."""
        chunks = copy.copy(self.chunks)
        common = chunks.at_hand(replace(self.recipe, coordinates=self.coordinates))
        firsts = np.cumsum([0, *chunks.n_rows[:-1]]).tolist()
        of_chunk = zip(chunks.X, chunks.targets, firsts, strict=True)
        chunks.targets = chunks.beside_rows(
            task, [(common, *each, chunks.n_jobs, *parameters) for each in of_chunk]
        )
        self.chunks = chunks

    def _without_targets(self):
        other = copy.copy(self)
        other.recipe = replace(self.recipe, output="zeros", k=1, loss=_SQUARED)
        other.k = other.n_groups = 1
        other.loss, other.moments = _SQUARED, None
        return other

    def bounds_of_steps(self, plan, curvature, drawn):
        """Their mean, by itself in an array: those of its rows stay beside the targets of each chunk."""
        self._beside_targets(_with_bounds, plan, curvature, drawn)
        total, n = self._sum(_sum_of_bounds)
        return np.array([total / n])

    def loss_of_nothing(self):
        total, _ = self.loss_sums(np.zeros((self.k, self.d + 1)))
        above_floor = float(total[: self.n_groups].sum()) - float(self.floor.sum()) * self.total_weight
        return max(above_floor / len(self.X), 1e-3)

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
    """Y (k, m) and weights (m,) or None of a chunk, as the kernels take them.

    Attributes
    ----------
    lengths : ndarray of shape (m,) or None
        `LinearProblem.row_lengths` where rows are sampled.
    first : int
        Number of the first row among those of all chunks.
    bounds : ndarray of shape (m,) or None
        `LinearProblem.bounds_of_steps` where steps are automatic.
    """

    Y: np.ndarray
    weight: np.ndarray | None
    lengths: np.ndarray | None = None
    first: int = 0
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


def _n_threads(n_jobs):
    return effective_n_threads(get_worker().state.nthreads if n_jobs is None else n_jobs)


def _sum_over_chunks(parameters, _, Xs, all_targets, n_jobs):
    of_chunk, recipe, *rest = parameters
    n_threads = _n_threads(n_jobs)
    problems = (recipe.problem(X, t, n_threads) for X, t in zip(Xs, all_targets, strict=True))
    return merged(of_chunk(problem, *rest) for problem in problems if problem is not None)


def _loss_sums(problem, theta):
    return problem.loss_sums(theta)


def _loss_and_curvature_sums(problem, theta):
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


def _matter_of_weights(problem):
    return (np.array([matter(h, problem.targets.lengths) for h in _curvature(problem, None)]),)


def _curvature(problem, theta):
    """Curvatures of the rows; theta=None: were they all alike."""
    if theta is None:
        weight = np.ones(len(problem.X)) if problem.weight is None else problem.weight
        return weight[None]
    H = problem.empty_curvature()
    problem.loss_sums(theta, H)
    return H


def _with_lengths(recipe, X, targets, first, n_jobs):
    problem = recipe.problem(X, targets, _n_threads(n_jobs))
    return targets if problem is None else replace(targets, lengths=problem.row_lengths(), first=first)


def _with_bounds(recipe, X, targets, first, n_jobs, plan, curvature, drawn):
    problem = recipe.problem(X, targets, _n_threads(n_jobs), plan.penalty)
    if problem is None:
        return targets
    plan = replace(plan, batch_size=min(plan.batch_size, len(X)))
    return replace(targets, bounds=problem.bounds_of_steps(plan, curvature, drawn))


def _sum_of_bounds(problem):
    return problem.targets.bounds.sum(), len(problem.X)


def _column_moments(problem):
    return (problem.column_moments(),)


def _plain_gram(problem):
    with one_blas_thread(problem.X.size * problem.d):
        return (problem.hessian_bound(1.0) * problem.total_weight,)


def _local_hessians(problem, theta):
    return _of_curvature(problem, _curvature(problem, theta))


def _sampled_hessians(problem, theta, sample, matters):
    piece = sample.piece(problem.targets.lengths, problem.targets.first)
    rows = [piece.of_curvature(*each) for each in zip(_curvature(problem, theta), matters, strict=True)]
    return _of_curvature(problem, rows)


def _of_curvature(problem, curvature):
    with one_blas_thread(problem.X.size * problem.d):
        return tuple(H * problem.total_weight for H in problem.local_hessians(curvature))


def _count_of_main_rows(problem, theta, least):
    H = problem.curvatures_of_classes(_curvature(problem, theta))
    return (sum(np.count_nonzero(h >= c) for h, c in zip(H, least, strict=True)),)


def _main_grams(problem, theta, least):
    """Gram matrices of the rows that matter to each class, and the sums (k,) of their curvatures."""
    grams, sums = [], []
    with one_blas_thread(problem.X.size * problem.d):
        for h, c in zip(problem.curvatures_of_classes(_curvature(problem, theta)), least, strict=True):
            main = np.where(h >= c, h, 0.0)
            grams.append(problem.gram(main) * problem.total_weight)
            sums.append(main.sum())
    return *grams, np.array(sums)


def _moments_of_all(problem):
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


def _summary(problem):
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


_STATE = ("u", "slots", "owed", "owed_total", "mean", "mean_count")


def _local_epoch(parameters, argument, Xs, all_targets, n_jobs):
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
    arrays = (rows * getattr(state, name).astype(np.float64) for name in _STATE)
    return (rows, loss, rows * state.t, rows * step, *arrays)
