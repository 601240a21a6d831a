"""A linear problem whose rows lie on the workers of a Dask cluster, and stay there.

In: `Chunks` of X, and of the targets that belong to them. Out: what a solver asks of any `LinearProblem`.
Parameters travel to the workers; sums over rows come back, O(d) numbers for a gradient and O(d^2) for a
metric. Of far more columns than rows (`_row_space.py`) sums over columns come back, O(m^2) numbers, for which
the rows travel once. What the workers do is in `_on_workers.py`.
"""

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from . import _on_workers as on_workers
from ._coordinates import Coordinates
from ._linear import _SQUARED, NEGLIGIBLE, LinearProblem
from ._metrics import GRAM_LIMIT
from ._row_space import RowSpace
from ._threads import effective_n_threads


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

    def of_columns(self, columns):
        """Some columns, with their share of the entries."""
        m, d = self.shape
        entries = None if self.entries is None else self.entries * len(columns) // d
        return Rows((m, len(columns)), self.dtype, entries)

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
        summary = chunks.over_groups(on_workers.sum_over_chunks, (on_workers.summary, recipe))[0]
        problem = cls(chunks, rows, summary, recipe, plan.penalty)
        if plan.full and recipe.loss.kernel == "squared_error" and problem.d + problem.k < GRAM_LIMIT:
            problem.moments = Moments(problem._sum(on_workers.moments_of_all)[0], problem.d)
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

    def row_space(self, mean):
        def combination(a):
            return self.chunks.over_groups(on_workers.combination_of_chunks, (a, mean))[0]

        K = self.chunks.over_columns(on_workers.inner_products_of_chunks, mean)[0]
        return RowSpace(K, self._targets.weight, combination, mean)

    def over(self, Z):
        """The problem of the same targets, brought here, of rows Z (m, r)."""
        n_threads = effective_n_threads(self.chunks.n_jobs)
        return self.recipe.problem(Z, self._targets, n_threads, self.penalty)

    @cached_property
    def _targets(self):
        """`Targets` of all rows; few have them brought here."""
        return on_workers.joined(self.chunks.client.gather(self.chunks.targets))

    def of_columns(self, columns):
        other = copy.copy(self)
        other.chunks, other.X = self.chunks.of_columns(columns), self.X.of_columns(columns)
        other.d, other.moments = len(columns), None
        other.coordinates = self.coordinates.of_columns(columns)
        return other

    def _sum(self, of_chunk, *parameters):
        """Sum over chunks of of_chunk(its LinearProblem, *parameters), a tuple of arrays."""
        recipe = replace(self.recipe, coordinates=self.coordinates)
        return self.chunks.over_groups(on_workers.sum_over_chunks, (of_chunk, recipe, *parameters))

    def loss_sums(self, theta, curvature=None):
        if self.moments is not None:
            return self.moments.loss_sums(theta)
        if curvature is None:
            return self._sum(on_workers.loss_sums, theta)
        curvature.theta = theta
        *sums, curvature.sums, curvature.matter = self._sum(on_workers.loss_and_curvature_sums, theta)
        return sums

    def means_and_variances(self):
        if self.moments is not None:
            return self.moments.means_and_variances()
        n, mean, square = self._sum(on_workers.column_moments)[0]
        return mean, square / n

    def hessian_bound(self, curvature, sample=None):
        if sample is None or sample.share == 1:
            return self._add_ridge(curvature * self._plain_gram)
        of_weights = self._sum(on_workers.matter_of_weights)
        (gram,) = self._metrics(on_workers.sampled_hessians, None, sample, of_weights)
        return self._add_ridge(curvature * gram)

    @cached_property
    def _plain_gram(self):
        if self.moments is not None:
            return self._as_metric(self.moments.gram(self._shift()))
        return self._metrics(on_workers.plain_gram)[0]

    def _metrics(self, of_chunk, *parameters):
        """Means over all rows from of_chunk's over those of a chunk, times their weight."""
        return [A / self.total_weight for A in self._sum(of_chunk, *parameters)]

    def _share_of_main_rows(self, curvature):
        least = self._least_of_main_rows(curvature)
        (count,) = self._sum(on_workers.count_of_main_rows, curvature.theta, least)
        return count / (self.k * len(self.X))

    def _least_of_main_rows(self, curvature):
        return NEGLIGIBLE * curvature.sums / len(self.X)

    def local_hessians(self, curvature, sample=None):
        if self.loss.coupled and not self.small_softmax:
            least = self._least_of_main_rows(curvature)
            *hessians, main = self._metrics(on_workers.main_grams, curvature.theta, least)
            for H, rest in zip(hessians, curvature.sums / self.total_weight - main, strict=True):
                H += rest * self._plain_gram
        elif sample is None or sample.share == 1:
            hessians = self._metrics(on_workers.local_hessians, curvature.theta)
        else:
            hessians = self._metrics(on_workers.sampled_hessians, curvature.theta, sample, curvature.matter)
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
        self._beside_targets(on_workers.with_lengths)

    def _beside_targets(self, task, *parameters):
        """Targets as task(recipe, X, targets, n_jobs, *parameters) completes them."""
        chunks = copy.copy(self.chunks)
        common = chunks.at_hand(replace(self.recipe, coordinates=self.coordinates))
        of_chunk = zip(chunks.X, chunks.targets, strict=True)
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
        self._beside_targets(on_workers.with_bounds, plan, curvature, drawn)
        total, n = self._sum(on_workers.sum_of_bounds)
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
        rows, loss, t, step, *arrays = self.chunks.over_groups(on_workers.local_epoch, parameters, seeds)
        for name, total in zip(on_workers.STATE, arrays, strict=True):
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
