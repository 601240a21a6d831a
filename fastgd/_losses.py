"""Losses by name: which compiled formula, how curved, where to start, how to predict.

The formulas themselves are in src/losses.h. This table holds what a solver decides by:

- `curvature`: the largest second derivative, None where there is no bound (log links), 0 where the
  loss has a kink and no curvature at all;
- `smoothed(mu)`: for a kinked loss, the same loss with its corners rounded over a width mu.
"""

from dataclasses import dataclass, replace

import numpy as np

from ._compiled import linear

LOG_LINKS = ("poisson", "gamma")


@dataclass(frozen=True)
class Loss:
    """A loss of the linear predictor, ready for the kernels.

    Attributes
    ----------
    name : str
        As the user knows it.
    kernel : str
        Entry of ``linear.LOSS_IDS``.
    params : tuple of up to four floats
    curvature : float or None
        Upper bound of the second derivative; see the top of the file.
    target : {"value", "margin", "label"}
        What y is: a number, -1 / 1, or a class index of a loss that couples the classes.
    slope : float
        For kinked losses and huber, the largest slope.
    """

    name: str
    kernel: str
    params: tuple = ()
    curvature: float | None = 1.0
    target: str = "value"
    slope: float = np.inf
    smooth_kernel: str | None = None

    @property
    def id(self):
        return linear.LOSS_IDS[self.kernel]

    @property
    def array(self):
        """The parameters as the kernels take them."""
        return np.array((*self.params, 0.0, 0.0, 0.0, 0.0)[:4])

    @property
    def log_link(self):
        """Whether predictions are exp(z)."""
        return self.name in LOG_LINKS

    @property
    def coupled(self):
        return self.target == "label"

    @property
    def kinked(self):
        return self.smooth_kernel is not None

    def smoothed(self, mu):
        """The loss with its corners rounded over a width mu (for huber: its quadratic part)."""
        if self.name == "huber":
            width = max(mu, self.params[0])
            return replace(self, params=(self.params[0], width), curvature=self.params[0] / width)
        padded = (*self.params, 0.0, 0.0, 0.0)
        params = (padded[0], mu) if self.kernel == "hinge" else (*padded[:3], mu)
        return replace(
            self,
            kernel=self.smooth_kernel,
            params=params,
            curvature=self.jump / mu,
            smooth_kernel=None,
        )

    @property
    def jump(self):
        """Largest change of slope over a small interval: two kinks may be closer than it is wide."""
        if self.kernel == "hinge":
            return 1.0
        return self.params[0] + self.params[1]

    def baseline(self, Y, weight, streaming=False):
        """The best constant prediction for each row of Y (k, m), where it is known in closed form.

        Targets of zero have none on a log scale; in a stream they stand for half an event: more may follow.
        """
        if self.target == "label":
            counts = np.bincount(Y[0].astype(np.intp), weights=weight)
            share = np.maximum(counts / counts.sum(), 1e-6)  # a class may have no weight
            return np.log(share) - np.log(share).mean()
        mean = Y.mean(axis=1) if weight is None else np.average(Y, axis=1, weights=weight)
        mean = mean.astype(np.float64)
        if self.log_link:
            return np.log(np.where(mean > 0, mean, 0.5 / Y.shape[1] if streaming else np.finfo(float).tiny))
        if self.kernel in ("log_loss", "brier_score"):
            rate = np.clip((1 + mean) / 2, 1e-12, 1 - 1e-12)
            return np.log(rate / (1 - rate))
        if self.target == "margin" and self.kernel != "squared_error":
            return np.zeros(len(Y))
        if self.kernel == "squared_error" or self.target == "margin":
            return mean
        level = self.params[1] / (self.params[0] + self.params[1]) if self.kernel == "kinked" else 0.5
        return np.array([_weighted_quantile(y, weight, level) for y in Y])

    def floor(self, Y, weight):
        """A lower bound of the mean loss of each output: zero but for the half deviances."""
        if not self.log_link:
            return np.zeros(1 if self.coupled else len(Y))
        log_y = np.log(np.where(Y > 0, Y, 1)).astype(np.float64)
        least = Y - Y * log_y if self.name == "poisson" else 1 + log_y
        return np.average(least, axis=1, weights=weight)

    def inverse_link(self, Z):
        return inverse_link(self.name, Z)


def inverse_link(name, Z):
    """Predictions of the loss of that name from the predictor Z."""
    return np.exp(Z) if name in LOG_LINKS else Z


def _weighted_quantile(y, weight, level):
    """The first of the sorted y up to which a share `level` of the weights adds up."""
    if weight is None:
        place = int(np.clip(np.ceil(level * len(y)) - 1, 0, len(y) - 1))
        return float(np.partition(y, place)[place])
    order = np.argsort(y)
    cumulative = np.cumsum(weight[order], dtype=np.float64)
    return float(y[order[min(np.searchsorted(cumulative, level * cumulative[-1]), len(y) - 1)]])


def _kinked(below, above, epsilon):
    """Slope `below` where the prediction is too high, `above` where it is too low."""
    return dict(
        kernel="kinked", params=(below, above, epsilon), curvature=0.0,
        slope=max(below, above), smooth_kernel="kinked_smooth",
    )  # fmt: skip


def _hinge(threshold):
    return dict(kernel="hinge", params=(threshold,), curvature=0.0, slope=1.0, smooth_kernel="hinge_smooth")


# name -> fields of Loss, given epsilon and quantile
REGRESSION = {
    "squared_error": lambda e, q: dict(kernel="squared_error"),
    "huber": lambda e, q: dict(kernel="huber", params=(e, e), slope=e),
    "epsilon_insensitive": lambda e, q: _kinked(1.0, 1.0, e),
    "squared_epsilon_insensitive": lambda e, q: dict(
        kernel="squared_epsilon_insensitive", params=(e,), curvature=2.0
    ),
    "absolute_error": lambda e, q: _kinked(1.0, 1.0, 0.0),
    "quantile": lambda e, q: _kinked(1.0 - q, q, 0.0),
    "poisson": lambda e, q: dict(kernel="poisson", curvature=None),
    "gamma": lambda e, q: dict(kernel="gamma", curvature=None),
}
MARGIN = {
    "log_loss": lambda e, q: dict(kernel="log_loss", curvature=0.25),
    "hinge": lambda e, q: _hinge(1.0),
    "squared_hinge": lambda e, q: dict(kernel="squared_hinge", curvature=2.0),
    "modified_huber": lambda e, q: dict(kernel="modified_huber", curvature=2.0),
    "perceptron": lambda e, q: _hinge(0.0),
    "brier_score": lambda e, q: dict(kernel="brier_score", curvature=0.31),
    **{
        name: REGRESSION[name]
        for name in (
            "squared_error",
            "huber",
            "epsilon_insensitive",
            "squared_epsilon_insensitive",
        )
    },
}
# more than two classes, one softmax: Bohning's bound 1/2 for the log loss, a numerical one for Brier
COUPLED = {
    "log_loss": dict(kernel="softmax_log_loss", curvature=0.5),
    "brier_score": dict(kernel="softmax_brier_score", curvature=0.62),
}


def regression_loss(name, epsilon=0.1, quantile=0.5):
    return Loss(name, **REGRESSION[name](epsilon, quantile))


def classification_loss(name, n_classes, epsilon=0.1):
    """One coupled loss where softmax is meant, else a loss of margins, one-vs-rest."""
    if n_classes > 2 and name in COUPLED:
        return Loss(name, target="label", **COUPLED[name])
    return Loss(name, target="margin", **MARGIN[name](epsilon, 0.5))
