"""Every "auto" and every conflict between parameters, decided before anything is computed.

A `Plan` is what a descent needs to know of the estimator's parameters. Three choices make a method:
how many rows a gradient sees (batch_size), how a gradient becomes a step (solver), how long the step
is (learning_rate); the metric (preconditioner) follows from them unless it is given.
"""

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ._compiled import epochs, linear
from ._metrics import GRAM_LIMIT
from ._optimizers import RULES, Rule
from ._penalties import Penalty
from ._schedules import PASSIVE_AGGRESSIVE, Constant, make_schedule
from ._sparse import mostly_zeros

RULES_WITH_METRIC = ("gd", "momentum", "nesterov")
FEW_COLUMNS = 256  # up to which a batch may look at all of them;
FEW_WEIGHTS = 1024  # and up to so many weights


@dataclass
class Plan:
    full: bool
    batch_size: int
    solver: str
    rule: Rule
    preconditioner: str | None
    auto_rate: bool
    schedule: Constant | None  # None: it follows from the data
    accelerate: bool  # Nesterov's momentum by FISTA's sequence, instead of the rule's constant one
    penalty: Penalty
    hyper: tuple
    clip_norm: float | None
    average: int
    shuffle: bool
    tol: float | None
    max_iter: int
    n_iter_no_change: int
    normalise_weights: bool
    in_row_space: bool = False  # far more columns than rows
    by_entries: bool = False  # batches look at none but the columns that their rows have entries in
    passive_aggressive: int = 0
    slope_bound: float = 0.0  # of a row's loss over its step; 0 for none
    rate_from: str | None = None  # parameter of the user's that the steps follow from; None: there is none
    hidden: tuple = ()  # units of hidden layers

    @property
    def by_rows(self):
        """Whether an epoch is plain descent in the columns as they are: O(d) per row."""
        plain = self.rule.name == "gd" and not self.clip_norm and self.preconditioner is None
        return plain and not self.hidden

    @property
    def in_scaled_columns(self):
        """Whether an epoch is plain descent by entries in scaled columns: O(entries) per row."""
        plain = self.rule.name == "gd" and self.auto_rate and not self.clip_norm
        return self.by_entries and plain and not self.by_rows

    @property
    def looks_at_columns(self):
        """Whether batches go by scales of columns or lengths of rows, which means of columns may change."""
        return not (self.full or self.hidden) and (self.auto_rate or self.preconditioner == "diag")

    def look_at(self, X, k, training=None):
        """Decide whether batches of X, for k outputs, look at entries only; a stream goes on as it began.

        All columns, centred, take part where they are few, or where rows have entries in many of them. It
        does not matter whether X is stored as dense or as sparse rows, but for chunks on a cluster.
        """
        if not self.looks_at_columns:
            return
        wide = X.shape[1] > FEW_COLUMNS and X.shape[1] * k > FEW_WEIGHTS
        known = (training or {}).get("by_entries")
        self.by_entries = wide and bool(mostly_zeros(X) if known is None else known)

    @property
    def max_move(self):
        """Bound of a step times a row's slope, so that no row moves its own prediction by more than 1.

        0 of explicit rates: SGDRegressor's bound of the slope.
        """
        if not self.slope_bound:
            return np.inf if self.auto_rate else 0.0
        return self.slope_bound / float(self.schedule.bounds.mean())

    def update(self, u, gradient, slots, step, t):
        epochs.update(self.rule.id, self.hyper, u, gradient, slots, step, float(t))


def make_plan(est, loss, n_samples, n_features, *, streaming=False):
    """Resolve the parameters of an estimator for data of a given shape.

    Parameters
    ----------
    est : GDRegressor or GDClassifier
    loss : Loss
    streaming : bool
        For partial_fit, which sees a chunk of the data: "auto" means mini-batches there.
    """
    rate = est.learning_rate
    auto_rate = isinstance(rate, str) and rate == "auto"
    hidden = hidden_layers(est)
    perceptron = loss.name == "perceptron" and not hidden
    passive_aggressive = PASSIVE_AGGRESSIVE.get(rate, 0) if isinstance(rate, str) else 0
    penalty = Penalty.make(est.penalty, est.alpha, est.l1_ratio)
    _check_conflicts(est, loss, passive_aggressive, hidden)

    one_row = passive_aggressive or est.average or perceptron
    batch_size, full = _rows_of_a_gradient(est, n_samples, one_row, hidden, streaming)
    decaying = isinstance(rate, str) and rate in ("invscaling", "optimal", "adaptive")
    solver = est.solver
    if solver == "auto":
        solver = "adam" if hidden else "nesterov" if full and not decaying else "gd"
    accelerate = full and solver == "nesterov" and (auto_rate or est.solver == "auto" and not est.clip_norm)
    schedule = rate_from = None
    if perceptron and auto_rate and not full:
        auto_rate, schedule = False, Constant(1.0)  # Rosenblatt's rule has no rate to tune
    elif not auto_rate:
        schedule = make_schedule(
            rate, eta0=est.eta0, power_t=est.power_t, alpha=est.alpha, slope_at=_slope_at(loss)
        )
        rate_from = {"optimal": "alpha"}.get(rate, "eta0") if isinstance(rate, str) else "learning_rate"
    preconditioner = est.preconditioner
    if preconditioner == "auto":
        automatic = auto_rate and not hidden
        few = min(n_samples, n_features) < GRAM_LIMIT
        whole = full and solver in RULES_WITH_METRIC and not penalty.l1 and few
        preconditioner = None if not automatic else "gram" if whole else "diag"
    elif preconditioner == "gram":
        preconditioner = _checked_gram(penalty, full, hidden, streaming)
    if passive_aggressive and (solver != "gd" or preconditioner or batch_size != 1):
        raise ValueError(
            f'learning_rate="{rate}" is defined for single rows and plain steps: set batch_size=1, '
            'solver="gd", preconditioner=None.'
        )
    return Plan(
        full=full,
        batch_size=batch_size,
        solver=solver,
        rule=RULES[solver],
        preconditioner=preconditioner,
        auto_rate=auto_rate,
        schedule=schedule,
        accelerate=accelerate,
        penalty=penalty,
        hyper=(est.momentum, est.beta_1, est.beta_2),
        clip_norm=est.clip_norm,
        average=int(est.average),
        shuffle=est.shuffle and not (hidden and batch_size == n_samples),
        tol=est.tol,
        max_iter=est.max_iter,
        n_iter_no_change=est.n_iter_no_change,
        normalise_weights=full or ((auto_rate or est.batch_size == "full") and not streaming),
        in_row_space=preconditioner == "gram" and auto_rate and n_samples < GRAM_LIMIT <= n_features,
        passive_aggressive=passive_aggressive,
        hidden=hidden,
        rate_from=rate_from,
    )


def _rows_of_a_gradient(est, n_samples, one_row, hidden, streaming):
    """batch_size, and whether a descent takes all rows at once."""
    if est.batch_size == "auto" and hidden:
        batch_size, full = min(200, n_samples), False
    elif est.batch_size == "auto":
        batch_size = 1 if one_row else min(32, n_samples) if streaming else n_samples
        full = not (one_row or streaming)
    elif est.batch_size == "full":  # of a network, a batch of all rows
        batch_size, full = n_samples, not streaming and not hidden
    else:
        batch_size, full = min(est.batch_size, n_samples), False
        if est.batch_size > n_samples and not streaming:
            warnings.warn(
                f"batch_size={est.batch_size} is larger than n_samples={n_samples}; it is clipped "
                f"to {n_samples}.",
                UserWarning,
                stacklevel=5,
            )
    if batch_size == 1 and hidden and est.batch_norm and n_samples > 1:
        raise ValueError("batch_norm=True needs batches of several rows: set a larger batch_size.")
    if full and est.average:
        raise ValueError('average is for mini-batches: set batch_size to an int, or leave it at "auto".')
    return batch_size, full


def _checked_gram(penalty, full, hidden, streaming):
    """preconditioner="gram" as it was asked for; "diag" of a stream, whose Gram matrix no chunk shows."""
    if hidden:
        raise ValueError('preconditioner="gram" is for linear models: leave it at "auto", or set "diag".')
    if streaming:
        return "diag"
    if not full:
        raise ValueError('preconditioner="gram" needs the whole data: set batch_size="full".')
    if penalty.l1:
        raise ValueError(
            'preconditioner="gram" mixes the columns, which the L1 penalty keeps apart: set '
            'preconditioner="diag", or penalty="l2".'
        )
    return "gram"


def hidden_layers(est):
    """hidden_layer_sizes as a tuple of positive ints; a number is one layer."""
    sizes = est.hidden_layer_sizes
    sizes = tuple(sizes) if np.iterable(sizes) else (sizes,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be positive integers, got {est.hidden_layer_sizes!r}.")
    return tuple(int(size) for size in sizes)


def _check_conflicts(est, loss, passive_aggressive, hidden):
    if passive_aggressive and hidden:
        raise ValueError(
            f'learning_rate="{est.learning_rate}" is for linear models, not for hidden_layer_sizes='
            f'{hidden}: set a float, or learning_rate="auto".'
        )
    if est.penalty == "elasticnet" and est.l1_ratio is None:
        raise ValueError('l1_ratio must be a number with penalty="elasticnet".')
    if loss.name == "huber" and est.epsilon <= 0:
        raise ValueError('epsilon must be positive with loss="huber".')
    if est.learning_rate == "optimal" and est.alpha == 0:
        raise ValueError('learning_rate="optimal" is 1 / (alpha (t0 + t)): alpha must be positive.')
    if passive_aggressive and loss.name not in ("hinge", "epsilon_insensitive"):
        raise ValueError(
            f'learning_rate="{est.learning_rate}" is for loss="hinge" or '
            f'"epsilon_insensitive", not "{loss.name}".'
        )


def _slope_at(loss):
    """Slope of the loss as a function (y, z); that of one margin where the loss couples classes."""

    def slope(y, z):
        kernel, params = ("log_loss", np.zeros(4)) if loss.coupled else (loss.kernel, loss.array)
        X, theta = np.zeros((1, 1)), np.array([[0.0, z]])
        one_pass = linear.Pass(X, 1)
        _, gradient = one_pass.run(X, np.array([[y]]), None, theta, linear.LOSS_IDS[kernel], params, 1)
        return float(gradient[0, 1])

    return slope
