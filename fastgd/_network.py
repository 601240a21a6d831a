"""The problem of a network: data, loss and penalty, as a function of its weights.

It offers what `LinearProblem` offers to a mini-batch descent; with no hidden layer it is the linear
model. All parameters are one array u (p,), and behind them the running statistics of batch
normalisation. The descent may see standardised columns and targets (`Coordinates`), while theta, what
comes out, belongs to the data as they are.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from ._compiled import network
from ._coordinates import column_means_and_variances, column_ranges
from ._epochs import shuffled_epoch
from ._linear import LinearProblem
from ._sparse import SparseRows, is_sparse
from ._threads import blas_threads, one_blas_thread

RATES = {"gd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01}  # of "auto"; 1e-3 for the others
VANISHED = 1e-5  # of the largest gradient
SATURATED, SAMPLE = 10.0, 256  # predictor from which an activation is flat; rows that are asked
ONE_KIND = 10  # ratio of the quartiles of the columns' spreads, up to which they are of one kind
BLAS_WORK = 4_000_000  # multiplications of a batch that are worth threads of BLAS
PREDICTED_TOGETHER = 2048  # rows


@dataclass(frozen=True)
class Layer:
    """Views of one layer's part of theta.

    Attributes
    ----------
    coef : ndarray of shape (n_inputs, n_outputs)
    intercept : ndarray of shape (n_outputs,)
    norm : ndarray of shape (4, n_outputs) or None
        Batch normalisation: scale, shift, running mean, running variance.
    """

    coef: np.ndarray
    intercept: np.ndarray
    norm: tuple | None


class Architecture:
    """Which numbers of theta are which weights.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units layer by layer, outputs.
    """

    def __init__(self, sizes, activation, batch_norm, biases):
        self.sizes, self.activation = tuple(sizes), activation
        self.batch_norm, self.biases = bool(batch_norm and len(sizes) > 2), bool(biases)

    def make(self, batch_size, dtype, sparse=False):
        """Compiled layers, with buffers for batches of a size."""
        return network.Network(
            self.sizes, self.activation, self.batch_norm, self.biases, batch_size, np.dtype(dtype), sparse
        )

    def predict(self, X, theta, n_threads):
        """Predictors of the rows of X, shape (m, k)."""
        dtype, m, sparse = np.result_type(X.dtype, theta.dtype), X.shape[0], is_sparse(X)
        X = SparseRows.of(X.astype(dtype, copy=False)) if sparse else np.ascontiguousarray(X, dtype)
        layers = self.make(min(m, PREDICTED_TOGETHER), dtype, sparse)
        with one_blas_thread(m * layers.n_parameters):
            return layers.predict(X, np.ascontiguousarray(theta, dtype), n_threads)

    def layers(self, theta):
        """Views of theta, layer by layer."""
        n_hidden, at, out = len(self.sizes) - 2, 0, []
        for number, (n_in, n_out) in enumerate(self.shapes):
            normalised = self.batch_norm and number < n_hidden
            ends = np.cumsum([at, n_in * n_out, n_out, n_out * normalised, n_out * normalised])
            parts = [theta[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
            out.append([parts[0].reshape(n_in, n_out), parts[1], parts[2:] if normalised else None])
            at = ends[-1]
        if self.batch_norm:
            for layer, n_out in zip(out, self.sizes[1:-1]):  # noqa: B905  the last layer has none
                layer[2] = (*layer[2], theta[at : at + n_out], theta[at + n_out : at + 2 * n_out])
                at += 2 * n_out
        return [Layer(*layer) for layer in out]

    @property
    def shapes(self):
        """Those of the weight matrices."""
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @property
    def n_total(self):
        weights = sum((n_in + 1) * n_out for n_in, n_out in self.shapes)
        return weights + 4 * self.batch_norm * sum(self.sizes[1:-1])

    def join(self, coefs, intercepts, norms, dtype=np.float64):
        """theta from its parts: the inverse of `layers`."""
        theta = np.zeros(self.n_total, dtype)
        layers = self.layers(theta)
        for layer, coef, intercept in zip(layers, coefs, intercepts, strict=True):
            layer.coef[...], layer.intercept[...] = coef, intercept
        for layer, norm in zip(layers, norms or ()):  # noqa: B905
            for part, value in zip(layer.norm, norm, strict=True):
                part[...] = value
        return theta

    def initial(self, rng):
        """Weights by Glorot & Bengio (2010), for the relu family by He et al. (2015); intercepts 0."""
        theta = np.zeros(self.n_total)
        layers = self.layers(theta)
        for layer in layers:
            n_in, n_out = layer.coef.shape
            bound = np.sqrt(6.0 / (n_in + n_out))
            if layer is not layers[-1]:
                if self.activation in ("relu", "leaky_relu", "elu"):
                    bound = np.sqrt(6.0 / n_in)
                elif self.activation == "logistic":
                    bound *= 4  # its slope at zero is 1/4
            layer.coef[...] = rng.uniform(-bound, bound, size=layer.coef.shape)
            if layer.norm is not None:
                layer.norm[0][...] = layer.norm[3][...] = 1.0
        return theta

    def weights_scale(self, scale=None, out_scale=None):
        """Scale of every number of u under the penalty: 0 for all but weights, whose 1 is that of theta."""
        penalised = np.zeros(self.n_total)
        layers = self.layers(penalised)
        for layer in layers:
            layer.coef[...] = 1.0
        if scale is not None:
            layers[0].coef[...] *= scale[:, None]
            layers[-1].coef[...] *= out_scale
        return penalised


class Coordinates:
    """u <-> theta: columns seen as (x - shift) * scale, predictors as z * out_scale + out_shift."""

    def __init__(self, architecture, shift=None, scale=None, out_shift=None, out_scale=None):
        self.architecture = architecture
        self.arrays = None if scale is None else (shift, scale, out_shift, out_scale)
        self.identity = scale is None

    def to_theta(self, u):
        if self.identity:
            return u
        shift, scale, out_shift, out_scale = self.arrays
        theta = np.array(u, dtype=np.float64)
        layers = self.architecture.layers(theta)
        first, last = layers[0], layers[-1]
        first.coef[...] *= scale[:, None]
        first.intercept[...] -= shift @ first.coef
        last.coef[...] *= out_scale
        last.intercept[...] = last.intercept * out_scale + out_shift
        return theta

    def from_theta(self, theta):
        if self.identity:
            return np.array(theta)
        shift, scale, out_shift, out_scale = self.arrays
        u = np.array(theta, dtype=np.float64)
        layers = self.architecture.layers(u)
        first, last = layers[0], layers[-1]
        last.intercept[...] = (last.intercept - out_shift) / out_scale
        last.coef[...] /= out_scale
        first.intercept[...] += shift @ first.coef
        divisor = np.where(scale > 0, scale, 1.0)[:, None]
        first.coef[...] = np.where(scale[:, None] > 0, first.coef / divisor, 0.0)
        return u


def joined(a, b):
    """X, Y and weights of two chunks as those of one, sparse where either is."""
    if is_sparse(a[0]) or is_sparse(b[0]):
        parts = [csr_array(X.matrix if is_sparse(X) else X) for X in (a[0], b[0])]
        X = SparseRows.of(vstack(parts, format="csr"))
    else:
        X = np.concatenate([a[0], b[0]])
    weights = [np.ones(len(X), X.dtype) if weight is None else weight for X, _, weight in (a, b)]
    return X, np.concatenate([a[1], b[1]], axis=1), np.concatenate(weights)


class NetworkProblem:
    """Mean loss of a network's predictor + alpha R(its weights).

    Parameters
    ----------
    X : ndarray of shape (m, d), float32 or float64, C-ordered; or SparseRows
    Y : ndarray of shape (k, m), or (1, m) of class indices for a coupled loss; X's dtype
    weight : ndarray of shape (m,) or None
        With a mean of one, for a weighted mean.
    architecture : Architecture
    batch_size : int
    """

    def __init__(self, X, Y, weight, loss, penalty, architecture, *, batch_size, n_threads):
        self.X, self.Y, self.weight = X, Y, weight
        self.loss, self.penalty = loss, penalty
        self.architecture, self.n_threads = architecture, n_threads
        self.d, self.k = architecture.sizes[0], architecture.sizes[-1]
        self.n_groups = 1 if loss.coupled else self.k
        self.total_weight = float(len(X)) if weight is None else float(weight.sum(dtype=np.float64))
        self.gradient_norms = []
        self.unit = 1.0  # in which a descent measures the objective
        self.batch_size = batch_size
        self._layers = architecture.make(batch_size, X.dtype, is_sparse(X))
        self._norms = np.zeros(len(architecture.sizes) - 1)
        self.set_coordinates(Coordinates(architecture))

    @cached_property
    def floor(self):
        """A lower bound of the mean loss, shape (1,)."""
        return self.loss.floor(self.Y, self.weight).sum(keepdims=True)

    def set_coordinates(self, coordinates):
        self.coordinates = coordinates
        scales = () if coordinates.identity else (coordinates.arrays[1], coordinates.arrays[3])
        self._penalised = self.architecture.weights_scale(*scales).astype(self.X.dtype)

    def work_per_batch(self, plan):
        """Multiplications, a matrix product's being some thirty times faster than those of a linear model."""
        return plan.batch_size * max(1, 3 * self._layers.n_parameters // 30)

    def value_and_grad(self, u):
        """Objective, shape (1,), and its gradient with respect to u, in double."""
        u = np.array(u, dtype=self.X.dtype)
        layers = self.architecture.make(len(self.X), self.X.dtype, is_sparse(self.X))
        total, gradient = self._evaluate(layers, u, training=True)
        gradient = gradient.astype(np.float64) / self.total_weight
        u, scale = u.astype(np.float64)[: len(gradient)], self._penalised[: len(gradient)].astype(np.float64)
        gradient += self.penalty.l2 * scale**2 * u + self.penalty.l1 * scale * np.sign(u)
        return total + self.penalty_value(u), gradient

    def objective(self, u):
        """Objective of the predictions as they would be made, shape (1,)."""
        u = np.array(u, dtype=self.X.dtype)
        return self._evaluate(self._layers, u, training=False)[0] + self.penalty_value(u)

    def _evaluate(self, layers, u, training):
        order = np.arange(len(self.X), dtype=np.intp)
        with self._blas():
            total, gradient = layers.evaluate(
                self.X, self.Y, self.weight, u, order, self.loss.id, self.loss.array,
                self.coordinates.arrays, training, self.n_threads,
            )  # fmt: skip
        return total[: self.n_groups].sum(keepdims=True) / self.total_weight, gradient

    def penalty_value(self, u):
        """alpha R of the weights, as those of the data."""
        w = self._penalised[: len(u)].astype(np.float64) * u
        with np.errstate(over="ignore"):
            return self.penalty.l2 / 2 * float(np.sum(w * w)) + self.penalty.l1 * float(np.abs(w).sum())

    def run_epoch(self, state, order, steps, plan):
        """Descend over the rows of `order` in batches; returns the sum of the losses met."""
        first = max(0, plan.average - state.t) if plan.average else len(steps)
        decay = 1.0 if plan.rule.name == "adamw" else self.unit  # that of AdamW is no part of the gradient
        with self._blas():
            total = self._layers.epoch(
                self.X, self.Y, self.weight, state.u, order, plan.batch_size, steps, self.loss.id,
                self.loss.array, self.unit, self.coordinates.arrays,
                None if self.coordinates.identity else self._penalised,
                self.penalty.l2 / decay, self.penalty.l1 / self.unit, plan.rule.id, plan.hyper,
                state.slots, float(state.t - 1), plan.clip_norm or 0.0, state.mean, state.mean_count,
                first, self._norms, self.n_threads,
            )  # fmt: skip
        state.t += len(steps)
        return total[: self.n_groups].sum()

    def predict(self, theta, X):
        """Predictors of other rows, shape (m, k)."""
        return self.architecture.predict(X, theta.astype(self.X.dtype), self.n_threads)

    loss_of_nothing = LinearProblem.loss_of_nothing
    epoch = shuffled_epoch

    def end_epoch(self):
        self.gradient_norms.append(np.array(self._norms))

    def _blas(self):
        """Threads are ours, but for a large batch that must stay in one piece."""
        whole = self.architecture.batch_norm and self.batch_size * self._layers.n_parameters > BLAS_WORK
        return blas_threads(self.n_threads if whole else 1)

    @property
    def rows(self):
        """X, Y and weights."""
        return self.X, self.Y, self.weight

    def standardise(self, rows=None, *, streaming=False):
        """See every column within reach of the first layer's activation, and targets of size one.

        No entry comes to lie further from zero than 10: a rare one-hot column is not blown up by its
        small variance. Columns of one kind (pixels, counts) keep their proportions up to a factor of 10,
        and their zero. A constant column is left out, unless more rows are to come (`streaming`).

        rows : X, Y and weights to tell it from; None is the problem's own
        """
        X, Y, weight = rows or self.rows
        mean, variance = column_means_and_variances(X, weight, self.n_threads)
        least, most = column_ranges(X, weight)
        reach = np.maximum(most - mean, mean - least)
        spread = np.maximum(np.sqrt(variance), reach / 10)
        if variance.any():
            low, typical, high = np.quantile(spread[variance > 0], [0.25, 0.5, 0.75])
            if high <= ONE_KIND * low:
                spread = np.maximum(spread, np.minimum(typical, 10 * spread))
                if least.min() >= 0 and np.all(mean <= 3 * spread):
                    mean = np.zeros_like(mean)
        scale = np.full_like(spread, float(streaming))
        np.divide(1.0, spread, out=scale, where=variance > 0)
        shift = mean if self.architecture.biases else np.zeros_like(mean)
        out_shift, out_scale = np.zeros(self.k), np.ones(self.k)
        if self.loss.target == "value":
            if self.architecture.biases:
                out_shift = self.loss.baseline(Y, weight, streaming).astype(np.float64)
            if not self.loss.log_link:
                deviation = np.abs(Y.astype(np.float64) - out_shift[:, None])
                out_scale = np.sqrt(np.average(deviation**2, axis=1, weights=weight))
                out_scale[out_scale == 0] = 1.0
        self.set_coordinates(Coordinates(self.architecture, shift, scale, out_shift, out_scale))
        return self.coordinates

    def set_unit(self, curvature):
        """Measure the objective so that a step knows neither the size of y nor the curvature of the loss."""
        out_scale = 1.0 if self.coordinates.identity else float(np.mean(self.coordinates.arrays[3]))
        self.unit = curvature * out_scale**2

    @property
    def penalty_curvature(self):
        """Largest curvature of the L2 penalty, in units of the objective."""
        return self.penalty.l2 / self.unit * float(self._penalised.max()) ** 2

    # ---- what to tell the user --------------------------------------------------------------------

    def largest_layer(self, u):
        """Name of the layer at which the descent exploded."""
        sizes = [np.max(np.abs(layer.coef)) for layer in self.architecture.layers(u)]
        return self._name(int(np.argmax(np.nan_to_num(sizes, nan=np.inf))))

    def warn_of_vanished_gradients(self):
        """Layers that hardly learn: their gradients are next to nothing beside the largest layer's."""
        norms = np.array([norms for norms in self.gradient_norms if norms.any()])
        if len(norms) == 0 or len(self.architecture.sizes) < 3:
            return
        share = np.median(norms / norms.max(axis=1, keepdims=True), axis=0)
        layer = int(np.argmin(share))
        if share[layer] < VANISHED:
            warnings.warn(
                f"The gradient of {self._name(layer)} vanished: it was {share[layer]:.1g} of the largest "
                "layer's (gradient_norms_). Its activations are saturated, or the layers are too many: scale "
                'X (sklearn.preprocessing.StandardScaler, or learning_rate="auto"), set batch_norm=True, or '
                'use fewer hidden layers, or activation="relu".',
                ConvergenceWarning,
                stacklevel=6,
            )

    def warn_of_saturation(self, theta):
        """Layers whose activation has no slope left for nearly all rows and units."""
        if self.architecture.activation not in ("tanh", "logistic") or self.architecture.batch_norm:
            return
        A = self.X[:SAMPLE]
        A = (A.matrix if is_sparse(A) else A).astype(np.float64)
        for number, layer in enumerate(self.architecture.layers(theta)[:-1]):
            Z = A @ layer.coef + layer.intercept
            if np.mean(np.abs(Z) > SATURATED) > 0.5:
                warnings.warn(
                    f"The units of {self._name(number)} are saturated: {self.architecture.activation} is "
                    "flat where most rows meet it, and the layer cannot learn. Scale X "
                    '(sklearn.preprocessing.StandardScaler, or learning_rate="auto"), or set '
                    "batch_norm=True.",
                    ConvergenceWarning,
                    stacklevel=6,
                )
                return
            A = np.tanh(Z) if self.architecture.activation == "tanh" else expit(Z)

    def _name(self, layer):
        n_hidden = len(self.architecture.sizes) - 2
        if layer == n_hidden:
            return "the output layer"
        return f"hidden layer {layer + 1} of {n_hidden}"
