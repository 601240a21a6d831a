"""The problem of a linear model: data, loss and penalty, as a function of its parameters.

A solver asks it for value and gradient, for a metric, or to run an epoch; it knows nothing else of
the model. Parameters u have shape (k, d + 1), a row per output with the intercept last, in the
coordinates of `_coordinates.py`. Outputs that do not share a loss are separate problems solved side by
side: values come per group, a group being an output, or all of them where softmax couples them.
"""

from functools import cached_property, partial

import numpy as np

from ._compiled import epochs, linear, moments
from ._coordinates import Coordinates, column_means_and_variances
from ._epochs import shuffled_epoch
from ._losses import regression_loss
from ._metrics import Gram, largest_eigenvalue
from ._penalties import Penalty, soft_threshold
from ._row_space import RowSpace, combination, inner_products
from ._sparse import SparseRows, is_sparse
from ._step_bounds import bounds_of_steps

_SQUARED = regression_loss("squared_error")
NEGLIGIBLE = 0.2  # curvature of a row, as a share of the mean, below which it counts with its like
SOFTMAX_LIMIT = 512  # parameters up to which the full Hessian of a softmax is formed


class LinearProblem:
    """Weighted mean loss of X theta + alpha R(theta).

    Parameters
    ----------
    X : ndarray of shape (m, d), float32 or float64, C- or Fortran-ordered; or SparseRows
    Y : ndarray of shape (k, m), or (1, m) of class indices for a coupled loss; X's dtype
    weight : ndarray of shape (m,) or None
    loss : Loss
    penalty : Penalty
    k : int
        Number of outputs.
    """

    def __init__(self, X, Y, weight, loss, penalty, *, k, fit_intercept, n_threads):
        self.X, self.Y, self.weight = X, Y, weight
        self.loss, self.penalty = loss, penalty
        self.k, self.d = k, X.shape[1]
        self.fit_intercept, self.n_threads = fit_intercept, n_threads
        self.n_groups = 1 if loss.coupled else k
        self.total_weight = float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))
        self.coordinates = Coordinates()
        self._pass = linear.Pass(X, k)
        self._params = loss.array

    @property
    def sparse(self):
        """Whether the rows are."""
        return is_sparse(self.X)

    @cached_property
    def floor(self):
        """A lower bound of the mean loss per group."""
        return self.loss.floor(self.Y, self.weight)

    def with_loss(self, loss):
        """The same data under another loss of the same shape (a smoothing of this one)."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, loss=loss, _params=loss.array)
        return other

    def output(self, c):
        """The problem of one output by itself."""
        other = LinearProblem(
            self.X, self.Y[c : c + 1], self.weight, self.loss, self.penalty, k=1,
            fit_intercept=self.fit_intercept, n_threads=self.n_threads,
        )  # fmt: skip
        other.coordinates = self.coordinates
        return other

    def row_space(self, mean):
        """`RowSpace` of the rows less mean (d,)."""
        K = inner_products([self.X], mean)
        return RowSpace(K, self.weight, partial(combination, self.X, mean), mean)

    def over(self, Z):
        """The problem of the same targets, of rows Z (m, r)."""
        weight = None if self.weight is None else self.weight.astype(Z.dtype)
        return LinearProblem(
            Z, self.Y.astype(Z.dtype), weight, self.loss, self.penalty, k=self.k,
            fit_intercept=self.fit_intercept, n_threads=self.n_threads,
        )  # fmt: skip

    def of_columns(self, columns):
        """The problem of some columns by themselves, in the same coordinates."""
        X = SparseRows.of(self.X.matrix[:, columns]) if self.sparse else contiguous(self.X[:, columns])
        other = LinearProblem(
            X, self.Y, self.weight, self.loss, self.penalty, k=self.k, fit_intercept=self.fit_intercept,
            n_threads=self.n_threads,
        )  # fmt: skip
        other.coordinates = self.coordinates.of_columns(columns)
        return other

    # ---- values -----------------------------------------------------------------------------

    def inner(self, a, b):
        """Inner product of two (k, p) arrays over each group, shape (n_groups, 1)."""
        if self.n_groups == 1:
            return np.array([[np.vdot(a, b)]])
        return np.einsum("kj,kj->k", a, b)[:, None]

    def loss_sums(self, theta, curvature=None):
        """Sum of the rows' weighted losses per output, shape (k,), and its gradient (k, d + 1)."""
        return self._pass.run(
            self.X, self.Y, self.weight, theta, self.loss.id, self._params, self.n_threads, curvature
        )

    def value_and_grad(self, u, curvature=None):
        """Smooth part of the objective per group, shape (n_groups,), and its gradient (k, d + 1).

        `curvature`, shape (k, m), receives the weighted second derivatives of the rows.
        """
        theta = self.coordinates.to_theta(u)
        value, gradient = self._loss_and_grad(theta, curvature)
        if not self.fit_intercept:
            gradient[:, -1] = 0
        if self.penalty.l2:
            w = theta[:, :-1]
            ridge = self.penalty.l2 * w
            gradient[:, :-1] += ridge
            half_square = 0.5 * np.einsum("kj,kj->k", ridge, w)
            value += half_square.sum() if self.loss.coupled else half_square
        return value, self.coordinates.pull_back(gradient)

    def _loss_and_grad(self, theta, curvature):
        """Mean loss per group, and its gradient (k, d + 1)."""
        total, gradient = self.loss_sums(theta, curvature)
        gradient /= self.total_weight
        if self.loss.coupled:  # a row's slopes sum to zero; a metric would blow up what rounding leaves of it
            gradient -= gradient.mean(axis=0)
        return total[: self.n_groups] / self.total_weight, gradient

    def l1_thresholds(self):
        """Coefficient of |u| per parameter, shape (d + 1,): the intercept has none."""
        return self.penalty.l1 * self._factors_of_weights()

    def _factors_of_weights(self):
        """What the coordinates multiply parameters by to make them weights, (d + 1,): 0 for the intercept."""
        c = self.coordinates
        factors = np.ones(self.d + 1) if c.identity else c.factors.copy()
        factors[-1] = 0.0
        return factors

    def l1_value(self, u):
        if not self.penalty.l1:
            return 0.0
        value = np.abs(u) @ self.l1_thresholds()
        return value.sum(keepdims=True) if self.loss.coupled else value

    def prox(self, u, lipschitz):
        """Proximal step of the L1 penalty in the metric lipschitz * I."""
        if not self.penalty.l1:
            return u
        return soft_threshold(u, self.l1_thresholds() / lipschitz)

    def objective(self, u):
        return self.value_and_grad(u)[0] + self.l1_value(u)

    def penalty_value(self, u):
        """alpha R(w), all outputs together."""
        return float(self.penalty.value(self.coordinates.to_theta(u)).sum())

    def baseline(self):
        """The best constant predictor of every output, (k,)."""
        return self.loss.baseline(self.Y, self.weight)

    # ---- metrics ----------------------------------------------------------------------------

    def means_and_variances(self):
        """Weighted mean and variance of every column, each of shape (d,)."""
        return column_means_and_variances(self.X, self.weight, self.n_threads)

    def column_moments(self):
        """Weight, mean and sum of squares about the mean of every column, as `merged_moments` takes them."""
        mean, variance = self.means_and_variances()
        return self.total_weight, mean, variance * self.total_weight

    def gram(self, h):
        """sum_i h_i x_i x_i^T / total weight in this problem's coordinates, (d + 1, d + 1)."""
        return self._as_metric(moments.weighted_gram(self.X, h, self._shift(), self.n_threads))

    def hessian_of(self, h):
        """Of curvatures h (m,) of the rows, weighted, and the penalty."""
        return self._add_ridge(self.gram(h))

    def _shift(self):
        return np.zeros(self.d) if self.coordinates.identity else self.coordinates.shift

    def _as_metric(self, A):
        """Sums of products of columns less the coordinates' shift, in place, as means of scaled columns."""
        A /= self.total_weight
        if not self.coordinates.identity:
            factors = self.coordinates.factors
            A *= factors
            A *= factors[:, None]
        if not self.fit_intercept:
            A[-1] = A[:, -1] = 0
        return A

    def _ridge(self):
        """Second derivative of the L2 penalty per parameter, shape (d + 1,)."""
        return self.penalty.l2 * self._factors_of_weights() ** 2

    def _add_ridge(self, A):
        A.reshape(-1)[:: len(A) + 1] += self._ridge()
        return A

    @property
    def rounding(self):
        """What a metric needs on its unit diagonal, so as not to blow up what gradients are rounded by.

        Entries of float32 are known to 6e-8, and less where a column lies far from zero; a direction in which
        the data have less than that to say would be made up of rounding.
        """
        offset = 0.0 if self.coordinates.identity else float(np.abs(self.coordinates.offsets).max())
        return max(Gram.RIDGE, float(np.finfo(self.X.dtype).eps) * (16 + offset))

    def hessian_bound(self, curvature, sample=None):
        """curvature * X^T X / m + l2: at least the Hessian everywhere if the loss's is below.

        sample : RowSample or None
            Rows that stand for all.
        """
        if sample is None or sample.share == 1:
            return self._add_ridge(curvature * self._plain_gram)
        weight = np.broadcast_to(1.0, len(self.X)) if self.weight is None else self.weight
        return self._add_ridge(curvature * self.gram(sample.of_curvature(weight)))

    @cached_property
    def _plain_gram(self):
        weight = np.ones(len(self.X)) if self.weight is None else self.weight.astype(np.float64)
        return self.gram(weight)

    @property
    def small_softmax(self):
        """Whether the Hessian over all classes at once, of k (d + 1) rows, is cheap enough."""
        return self.loss.coupled and self.k * (self.d + 1) <= SOFTMAX_LIMIT

    def passes_per_hessian(self, curvature):
        """What `local_hessians` costs, in passes over the data: measured, Gram matrices being BLAS's."""
        if not self.loss.coupled:
            return self.d / 32
        if self.small_softmax:
            return self.k * (self.k + 1) / 2 * self.d / 64
        return self._share_of_main_rows(curvature) * self.k * self.d / 64

    def _share_of_main_rows(self, P):
        return float(np.mean([np.mean(h >= NEGLIGIBLE * h.mean()) for h in self.curvatures_of_classes(P)]))

    def curvatures_of_classes(self, P):
        """Weighted second derivatives of the rows, class by class of a softmax of probabilities P (k, m)."""
        weight = 1.0 if self.weight is None else self.weight.astype(np.float64)
        for p in P:
            p = p.astype(np.float64, copy=False)
            yield weight * p * (1 - p)

    def local_hessians(self, curvature, sample=None):
        """Hessian at the point whose row curvatures (k, m) `value_and_grad` has told.

        One for every output; of a softmax (curvature: its probabilities), one over all classes where that
        is cheap, else its diagonal blocks.

        sample : RowSample or None
            Rows that stand for all.
        """
        if not self.loss.coupled:
            rows = curvature if sample is None else map(sample.of_curvature, curvature)
            return [self.hessian_of(h.astype(np.float64, copy=False)) for h in rows]
        if not self.small_softmax:
            return [self._add_ridge(self._main_gram(h)) for h in self.curvatures_of_classes(curvature)]
        P, k, p = curvature.astype(np.float64), self.k, self.d + 1
        weight = 1.0 if self.weight is None else self.weight.astype(np.float64)
        hessian = np.empty((k, p, k, p))
        for c in range(k):
            hessian[c, :, c] = self.hessian_of(weight * P[c] * (1 - P[c]))
            for other in range(c):
                hessian[c, :, other] = hessian[other, :, c] = -self.gram(weight * P[c] * P[other])
        return [hessian.reshape(k * p, k * p)]

    def _main_gram(self, h):
        """Gram matrix of the rows that matter; those of little curvature count with their mean.

        Of most classes a softmax is sure: then few rows make up the Hessian, and the rest is a small
        multiple of what all rows have in common.
        """
        main = np.where(h >= NEGLIGIBLE * h.mean(), h, 0.0)
        rest = (h.sum() - main.sum()) / self.total_weight
        return self.gram(main) + rest * self._plain_gram

    def mean_curvature(self, curvature):
        """Mean second derivative of the rows' losses; of a softmax its bound."""
        if self.loss.coupled:
            return self.loss.curvature
        total = float(curvature.sum(dtype=np.float64))
        return max(total / (self.k * self.total_weight), 1e-12)

    def empty_curvature(self):
        return np.empty((self.k, len(self.X)), self.X.dtype)

    def lipschitz(self, curvature, affordable=True, steps=20):
        """Largest eigenvalue of the bound of the Hessian, by power iteration."""
        if affordable:
            return largest_eigenvalue(self.hessian_bound(curvature))
        probe = self._without_targets()
        ridge = self._ridge()
        u = np.linspace(1.0, 2.0, self.d + 1)[None]
        value = 0.0
        for _ in range(steps):
            u /= np.linalg.norm(u)
            Hu = probe.value_and_grad(u)[1] * curvature + (1 - curvature) * ridge * u
            value = float(np.linalg.norm(Hu))
            if value == 0:
                break
            u = Hu
        return 1.1 * value  # a solver tightens a bound that proves too small

    def _without_targets(self):
        """Squared error of one output of zeros: its gradient is linear in u."""
        return self._probe(self.X, self.weight)

    def some_rows(self, rows, weight):
        """`_without_targets` of some of the rows, with other weights; means are over their number."""
        X = contiguous(self.X[rows])
        probe = self._probe(X, weight.astype(X.dtype))
        probe.total_weight = float(len(X))
        return probe

    def _probe(self, X, weight):
        probe = LinearProblem(
            X, np.zeros((1, len(X)), X.dtype), weight, _SQUARED, self.penalty, k=1,
            fit_intercept=self.fit_intercept, n_threads=self.n_threads,
        )  # fmt: skip
        probe.coordinates = self.coordinates
        return probe

    def row_norms(self, batch_size=1):
        """Squared lengths of the rows in this problem's coordinates, the intercept's 1 left out, (m,).

        Their mean over a batch bounds the curvature of its mean loss. Sparse rows overlap less: of those of a
        batch_size, a column that a share p of the rows has is met by 1 + (batch_size - 1) p, not by all, and
        counts as much less (the expected separable overapproximation of Richtarik & Takac 2016).
        """
        c = self.coordinates
        shift, scale = (np.zeros(self.d), np.ones(self.d)) if c.identity else (c.shift, c.scale)
        return moments.row_norms(self.X, shift, scale * self._overlap(batch_size), self.n_threads)

    bounds_of_steps = bounds_of_steps

    def row_lengths(self):
        """Squared lengths of the rows in these coordinates, the intercept's 1 included; for samples."""
        lengths = self.row_norms()
        lengths += 1
        return lengths.astype(np.float32)

    def _overlap(self, batch_size):
        """What `row_norms` multiplies the columns by, as few sparse rows of a batch may have them."""
        if batch_size == 1:
            return 1.0
        share = self.column_counts() / len(self.X)
        return np.sqrt((1 + (batch_size - 1) * share) / batch_size)

    def column_counts(self):
        """Entries of each column of sparse rows, shape (d,)."""
        return self.X.column_counts()

    def predict(self, theta, X):
        """Predictors of other rows, shape (m, k)."""
        return X @ theta[:, :-1].T + theta[:, -1]

    def loss_of_nothing(self):
        """Mean loss of predicting zero above its floor, without reading X; at least 1e-3: it may be none."""
        zero = LinearProblem(
            np.zeros((len(self.X), 1), self.X.dtype), self.Y, self.weight, self.loss, Penalty(), k=self.k,
            fit_intercept=False, n_threads=1,
        )  # fmt: skip
        weight = self.total_weight / len(self.X)
        return max(float(zero.objective(np.zeros((self.k, 2))).sum() - self.floor.sum()) * weight, 1e-3)

    # ---- epochs -----------------------------------------------------------------------------

    def work_per_batch(self, plan):
        """Multiplications of a batch in an epoch."""
        if not self.sparse:
            return plan.batch_size * (self.d + 1) * self.k
        every_weight = 0 if plan.by_rows or plan.in_scaled_columns else self.d
        return int(plan.batch_size * (self.X.row_length + 1) + every_weight) * self.k

    epoch = shuffled_epoch

    def end_epoch(self):
        """A linear model has no layers to look at."""

    def run_epoch(self, state, order, steps, plan):
        """Descend over the rows of `order` in batches; returns the sum of the losses met.

        state : `_epochs.EpochState`, changed in place.
        """
        first = max(0, plan.average - state.t) if plan.average else len(steps)
        common = (self.X, self.Y, self.weight, state.u, order, plan.batch_size, steps)
        loss = (self.loss.id, self._params, self.penalty.l2, self.penalty.l1, self.fit_intercept)
        mean = (state.mean, state.mean_count, first)
        if plan.by_rows:
            total = epochs.sgd_epoch(
                *common, *loss, plan.passive_aggressive, state.owed, state.owed_total, *mean
            )
        elif plan.in_scaled_columns:
            total = epochs.scaled_epoch(*common, *loss, self.coordinates.scale, plan.max_move, *mean)
        else:
            scale, shift = self.coordinates.kernel_arrays(self.X.dtype)
            total = epochs.rule_epoch(
                *common, *loss, plan.rule.id, plan.hyper, state.slots, float(state.t - 1),
                plan.clip_norm or 0.0, scale, shift, plan.max_move, *mean,
            )  # fmt: skip
        state.t += len(steps)
        state.time += float(steps.sum())
        return total[: self.n_groups].sum()


def contiguous(X):
    """X as a problem takes it: itself where it is sparse, or has contiguous rows or columns; else a copy."""
    if is_sparse(X) or X.strides[1] == X.itemsize or X.strides[0] == X.itemsize or 1 in X.shape:
        return X
    return np.ascontiguousarray(X)
