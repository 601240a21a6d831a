"""Time to the optimum: one objective for all, for each contestant its cheapest run that arrives.

A contestant is a ladder of estimators from cheap to dear: ever tighter ``tol``, or ever more
iterations. It climbs until a run arrives at the last target or the next would exceed the time
limit; then the runs that arrived first are timed in turn. In: a table. Out: printed rows with the
time, the objective and how far it is above that of a reference.

An objective is fastgd's: mean loss + alpha * (l1_ratio * |w|_1 + (1 - l1_ratio) / 2 * ||w||^2), the
squared loss halved, the intercept free. It is evaluated here, by NumPy, from the coefficients of
each contestant: a wrong translation of alpha shows as a distance that no tolerance closes.
"""

from typing import NamedTuple

import numpy as np
from _measure import alternate, print_table, seconds_of, show_ratio, show_seconds
from scipy.special import logsumexp, xlogy
from sklearn.base import BaseEstimator, clone

ALPHA = 1e-4  # the default of GDRegressor and GDClassifier
WITHIN = 1e-6  # relative suboptimality at which a run has arrived
TOLS = dict(tol=[10.0**-k for k in range(2, 10)])
FEW = dict(max_iter=[5, 8, 12, 16, 19, 25, 35, 50, 70])  # iterations on the way, nobody's tol being so coarse
EPOCHS = dict(max_iter=[5, 15, 45, 135, 405, 1215])


class Run(NamedTuple):
    label: str  # which rung of the ladder
    estimator: BaseEstimator
    seconds: float
    objective: float


# ---- losses of each row: y (m,), predictors z (m, k) -> (m,) -----------------------------------


def squared_loss(y, z):
    return 0.5 * (z[:, 0] - y) ** 2


def log_loss(y, z):
    """Cross-entropy: logistic for one predictor, softmax for more; y in 0 .. k - 1."""
    if z.shape[1] == 1:
        z = np.hstack([np.zeros_like(z), z])
    return logsumexp(z, axis=1) - z[np.arange(len(y)), y]


def poisson_loss(y, z):
    return xlogy(y, y) - y + np.exp(z[:, 0]) - y * z[:, 0]


def gamma_loss(y, z):
    return z[:, 0] + y * np.exp(-z[:, 0]) - 1 - np.log(y)


def huber_loss(y, z, epsilon):
    distance = np.abs(z[:, 0] - y)
    inside = np.minimum(distance, epsilon)
    return inside * (distance - 0.5 * inside)


def absolute_loss(y, z):
    """Half the absolute error: the pinball loss of the median."""
    return 0.5 * np.abs(z[:, 0] - y)


def objective_of(loss, alpha=ALPHA, l1_ratio=0.0):
    """objective(model, X, y) of any estimator that has ``coef_`` and ``intercept_``."""

    def objective(model, X, y):
        w = np.atleast_2d(model.coef_)
        z = (X @ w.T.astype(X.dtype)).astype(np.float64) + np.ravel(model.intercept_)
        w = w.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            penalty = l1_ratio * np.abs(w).sum() + 0.5 * (1 - l1_ratio) * np.square(w).sum()
            return float(np.mean(loss(y, z))) + alpha * penalty

    return objective


# ---- the race ------------------------------------------------------------------------------------


def rungs(estimator, ladder):
    """(label, estimator) from cheap to dear; without a ladder, the estimator as it is."""
    for parameter, values in ladder.items():
        for value in values:
            yield f"{parameter}={value:g}", clone(estimator).set_params(**{parameter: value})
    if not ladder:
        yield "as it is", estimator


def climb(estimator, ladder, X, y, objective, target, limit):
    """Runs until one arrives at the target or the next would exceed the time limit."""
    runs = []
    for label, rung in rungs(estimator, ladder):
        try:
            seconds = seconds_of(lambda rung=rung: rung.fit(X, y))
            runs.append(Run(label, rung, seconds, objective(rung, X, y)))
        except (ArithmeticError, ValueError, RuntimeError) as error:  # what failing fits raise
            return [*runs, Run(f"{label} failed: {type(error).__name__}", rung, np.inf, np.inf)]
        if runs[-1].objective <= target or 3 * seconds > limit:
            break
    return runs


def race(title, contestants, X, y, objective, best, limit, within=(WITHIN,), note=""):
    """Print who comes ``within`` of the objective ``best``, in what time; the first is fastgd.

    contestants : dict of name -> (estimator, ladder)
    within : tuple of float, descending; a group of columns for each. Infinity: the time of one run
    """
    targets = [best + w * abs(best) for w in within]
    climbs = [climb(*each, X, y, objective, targets[-1], limit) for each in contestants.values()]

    def first(runs, target):
        """The first run that arrives; the last one where none does."""
        return next((run for run in runs if run.objective <= target), runs[-1])

    entries = [[first(runs, target) for target in targets] for runs in climbs]
    timed = {run.estimator: run.seconds for runs in climbs for run in runs}
    arrived = dict.fromkeys(
        run.estimator
        for entry in entries
        for run, target in zip(entry, targets, strict=True)
        if run.objective <= target and 3 * run.seconds <= limit
    )
    medians = alternate(*(lambda e=e: e.fit(X, y) for e in arrived), rounds=3)
    timed.update(zip(arrived, medians, strict=True))
    rows = []
    for name, entry in zip(contestants, entries, strict=True):
        cells = []
        for run, ours, target in zip(entry, entries[0], targets, strict=True):
            there = run.objective <= target
            ratio = ("" if there else "> ") + show_ratio(timed[run.estimator] / timed[ours.estimator])
            label = run.label if there else f"not there: {run.label}"
            cells += [label, show_seconds(timed[run.estimator]), ratio]
        rows.append([name, *cells, f"{run.objective:.9g}", f"{run.objective / best - 1:.1e}"])
    where = [f"to {w:g}" for w in within] if len(within) > 1 else ["that arrives"]
    columns = [[f"cheapest run {each}", "time", "/ fastgd"] for each in where]
    header = ["", *sum(columns, []), "objective", "above it"]
    reference = f"Reference objective {best:.9g}"
    if np.isfinite(targets[-1]):
        reference += "; arrived: " + ", ".join(f"{target:.9g}" for target in targets) + " or less"
    print_table(title, header, rows, f"{note}\n{reference}." if note else f"{reference}.")
