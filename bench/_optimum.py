"""Time to the optimum: one objective for all, for each contestant its cheapest run that arrives.

A contestant is a ladder of estimators from cheap to dear: ever tighter ``tol``, or ever more
iterations. It climbs until a run arrives at the target or the next would exceed the time limit;
then the runs that arrived are timed in turn. In: a table. Out: printed rows with the time, the
objective and how far it is above that of a reference.

The objective is fastgd's: mean loss + alpha / 2 * ||w||^2, the squared loss halved, the intercept
free. Ridge has alpha * n_samples in its place, LogisticRegression C = 1 / (alpha * n_samples).
"""

from typing import NamedTuple

import numpy as np
from _data import mnist, realistic
from _measure import alternate, print_table, seconds_of, show_ratio, show_seconds
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

from fastgd import GDClassifier, GDRegressor

ALPHA = 1e-4  # the default of GDRegressor and GDClassifier
WITHIN = 1e-6  # relative suboptimality at which a run has arrived
TOLS = dict(tol=[10.0**-k for k in range(2, 10)])
EPOCHS = dict(max_iter=[5, 15, 45, 135, 405, 1215])


class Run(NamedTuple):
    label: str  # which rung of the ladder
    estimator: BaseEstimator
    seconds: float
    objective: float


def squared_objective(model, X, y):
    residual = X @ np.ravel(model.coef_) + model.intercept_ - y
    return 0.5 * np.mean(residual**2) + l2(model.coef_)


def log_objective(model, X, y):
    """Mean cross-entropy: logistic for one row of ``coef_``, softmax for more; y in 0 .. k - 1."""
    z = (X @ model.coef_.T.astype(X.dtype)).astype(np.float64) + model.intercept_
    if z.shape[1] == 1:
        z = np.hstack([np.zeros_like(z), z])
    return np.mean(logsumexp(z, axis=1) - z[np.arange(len(y)), y]) + l2(model.coef_)


def l2(coef):
    return 0.5 * ALPHA * np.sum(np.square(coef, dtype=np.float64))


def rungs(estimator, ladder):
    """(label, estimator) from cheap to dear; without a ladder, the estimator as it is."""
    for parameter, values in ladder.items():
        for value in values:
            yield f"{parameter}={value:g}", clone(estimator).set_params(**{parameter: value})
    if not ladder:
        yield "defaults", estimator


def climb(estimator, ladder, X, y, objective, target, limit):
    """The first run that arrives at the target, or the last one before the time limit."""
    for label, rung in rungs(estimator, ladder):
        try:
            seconds = seconds_of(lambda rung=rung: rung.fit(X, y))
            run = Run(label, rung, seconds, objective(rung, X, y))
        except (FloatingPointError, ValueError):  # what diverging fits raise
            return Run(f"{label} diverged", rung, np.inf, np.inf)
        if run.objective <= target or 3 * seconds > limit:
            break
    return run


def race(title, contestants, X, y, objective, best, limit, within=WITHIN):
    """Print who comes ``within`` of the objective ``best``, in what time; the first is fastgd."""
    target = best * (1 + within)
    runs = [climb(*each, X, y, objective, target, limit) for each in contestants.values()]
    arrived = [run for run in runs if run.objective <= target and 3 * run.seconds <= limit]
    medians = alternate(*(lambda e=run.estimator: e.fit(X, y) for run in arrived), rounds=3)
    seconds = {run.estimator: run.seconds for run in runs}
    seconds.update(zip((run.estimator for run in arrived), medians, strict=True))
    rows = []
    for name, run in zip(contestants, runs, strict=True):
        time, there = seconds[run.estimator], run.objective <= target
        ratio = ("" if there else "> ") + show_ratio(time / seconds[runs[0].estimator])
        label = run.label if there else f"not there: {run.label}"
        above = f"{run.objective / best - 1:.1e}"
        rows.append([name, label, show_seconds(time), ratio, f"{run.objective:.9g}", above])
    header = ["", "cheapest run that arrives", "time", "/ fastgd", "objective", "above it"]
    note = f"Reference objective {best:.9g}; arrived: {target:.9g} or less."
    print_table(title, header, rows, note)


def least_squares(X, y, limit):
    m, d = X.shape
    ridge = Ridge(alpha=ALPHA * m, max_iter=10_000, random_state=0)
    contestants = {
        "GDRegressor()": (GDRegressor(), TOLS),
        "Ridge(cholesky)": (clone(ridge).set_params(solver="cholesky"), {}),
        "Ridge(lsqr)": (clone(ridge).set_params(solver="lsqr"), TOLS),
        "Ridge(sparse_cg)": (clone(ridge).set_params(solver="sparse_cg"), TOLS),
        "Ridge(sag)": (clone(ridge).set_params(solver="sag", tol=1e-12), EPOCHS),
        "SGDRegressor": (SGDRegressor(alpha=ALPHA, tol=None, random_state=0), EPOCHS),
    }
    best = squared_objective(contestants["Ridge(cholesky)"][0].fit(X, y), X, y)
    title = f"Least squares + L2, {m:,} x {d}"
    race(title, contestants, X, y, squared_objective, best, limit)


def logistic(X, y, limit):
    m, d = X.shape
    peer = LogisticRegression(C=1 / (ALPHA * m), max_iter=10_000, random_state=0)
    sgd = SGDClassifier(loss="log_loss", alpha=ALPHA, tol=None, random_state=0)
    contestants = {"GDClassifier()": (GDClassifier(), TOLS)}
    for solver in ("lbfgs", "newton-cholesky", "newton-cg", "sag", "saga"):
        stochastic = solver.startswith("sag")
        estimator = clone(peer).set_params(solver=solver, tol=1e-12 if stochastic else 1e-4)
        ladder = EPOCHS if stochastic else TOLS
        contestants[f"LogisticRegression({solver})"] = (estimator, ladder)
    contestants["SGDClassifier"] = (sgd, EPOCHS)
    reference = clone(peer).set_params(solver="newton-cholesky", tol=1e-10, max_iter=100)
    best = log_objective(reference.fit(X, y), X, y)
    race(f"Logistic + L2, {m:,} x {d}", contestants, X, y, log_objective, best, limit)


def softmax(X, y, limit=180.0):
    """Ten classes, 785 parameters each: to an early objective, then 1e-3 from the optimum."""
    m, d = X.shape
    ours, peer = GDClassifier(tol=None), LogisticRegression(C=1 / (ALPHA * m), tol=1e-12)
    few, many = [5, 8, 12, 18, 25, 35, 50, 70], [15, 25, 50, 70, 100, 125, 150, 200, 300]
    for best, iterations in ((0.2726, few), (0.2595, many)):
        ladder = dict(max_iter=iterations)
        contestants = {"GDClassifier": (ours, ladder), "LogisticRegression(lbfgs)": (peer, ladder)}
        title = f"Softmax + L2 to {best}, MNIST, {m:,} x {d} {X.dtype}"
        race(title, contestants, X, y, log_objective, best, limit, within=0)


def optimum(quick):
    """Three races, each against every solver of scikit-learn that minimises the same objective."""
    m, d = (30_000, 50) if quick else (300_000, 166)
    limit = 10.0 if quick else 60.0
    X, y, label = realistic(m, d)
    least_squares(X, y, limit)
    logistic(X, label, limit)
    del X
    digits = None if quick else mnist()
    if digits is not None:
        softmax(*digits)
