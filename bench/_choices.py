"""What "auto" chooses, against what it could have chosen: in time, and in passes over the data.

In: tables of `realistic`. Out: printed rows. Looks inside fastgd: passes are counted where they are made.
"""

from contextlib import contextmanager
from itertools import product
from math import ceil
from types import SimpleNamespace
from unittest import mock

import numpy as np
from _data import realistic
from _measure import alternate, print_table, seconds_of, show_ratio, show_seconds
from _race import ALPHA, log_loss, objective_of, squared_loss
from scipy.optimize import minimize
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._linear_loss import LinearModelLoss

from fastgd import GDClassifier, GDRegressor, kernels
from fastgd._linear import LinearProblem
from fastgd._losses import classification_loss
from fastgd._metrics import largest_eigenvalue
from fastgd._penalties import Penalty
from fastgd._threads import effective_n_threads, one_blas_thread

ENOUGH = 1e-6  # of the objective at the start: who stops further from the best is not compared
FLAG = 1.5
SHAPES = [
    *product((1_000,), (5, 20, 100, 400, 1_000)),
    *product((10_000,), (5, 20, 100, 400)),
    *product((100_000,), (5, 20, 100)),
]
SOLVERS = ("nesterov", "gd")
SHARES = (1e-2, 1e-4, 1e-6, 1e-8)


# ---- time ----------------------------------------------------------------------------------------


def planner(quick):
    """learning_rate="auto" and preconditioner="auto", against every metric and solver allowed."""
    rows, ratios = [], []
    for m, d in [(1_000, 100), (10_000, 20)] if quick else SHAPES:
        X, y, label = realistic(m, d)
        for penalty in (None, "l2", "l1"):
            for ours in (GDRegressor(), GDClassifier()):
                alpha = 1e-3 if penalty == "l1" else ALPHA
                ours.set_params(penalty=penalty, alpha=alpha)
                target = label if is_classifier(ours) else y
                ratio, cells = compare_choices(ours, X, target)
                ratios.append(ratio)
                name = "logistic" if is_classifier(ours) else "squared"
                rows.append([f"{m:,} x {d:,}", name, penalty, *cells])
    header = "X|loss|penalty|auto chose|time|best|time|auto / best||above the best objective".split("|")
    flagged = sum(ratio > FLAG for ratio in ratios)
    note = (
        f"auto / best above {FLAG}: {flagged} of {len(ratios)}; largest {show_ratio(max(ratios))}.\n"
        f"Compared are those within {ENOUGH:g} of the best objective, as a share of that at the start."
    )
    print_table("The planner's choice", header, rows, note)


def compare_choices(ours, X, y):
    """(auto / best, cells of the row) for one estimator on one table."""
    loss = log_loss if is_classifier(ours) else squared_loss
    alpha = ours.alpha if ours.penalty else 0.0
    objective = objective_of(loss, alpha, float(ours.penalty == "l1"))
    auto = clone(ours)
    first = {"auto": seconds_of(lambda: auto.fit(X, y))}
    max_iter = 1000
    if is_classifier(ours):  # an iteration reads X: who needs ten times auto's time cannot be best
        margins, w = 2.0 * y - 1, np.zeros(X.shape[1])
        a_pass = seconds_of(lambda: kernels.loss_gradient(X, margins, w, loss="log_loss"), 3)
        max_iter = min(max_iter, max(20, ceil(6 * first["auto"] / a_pass)))
    choices = {"auto": auto}
    for metric, solver in product(("diag",) if ours.penalty == "l1" else ("gram", "diag"), SOLVERS):
        if (metric, solver) == (auto.preconditioner_, auto.solver_):
            continue
        choice = clone(ours).set_params(preconditioner=metric, solver=solver, max_iter=max_iter)
        first[f"{metric}, {solver}"] = seconds_of(lambda choice=choice: choice.fit(X, y))
        choices[f"{metric}, {solver}"] = choice
    reached = {name: objective(choice, X, y) for name, choice in choices.items()}
    best = min(reached.values())
    rate = np.mean(y)
    constant = np.log(rate / (1 - rate)) if is_classifier(ours) else rate
    start = objective(SimpleNamespace(coef_=np.zeros(X.shape[1]), intercept_=constant), X, y)
    near = [name for name in reached if reached[name] <= best + ENOUGH * start]
    near = [name for name in near if first[name] <= 5 * first["auto"]]
    timed = list(dict.fromkeys(["auto", *near]))
    fits = [lambda e=choices[name]: e.fit(X, y) for name in timed]
    number = max(1, round(0.01 / first["auto"]))
    seconds = dict(zip(timed, alternate(*fits, rounds=5, number=number), strict=True))
    winner = min(near or timed, key=seconds.get)
    ratio = seconds["auto"] / seconds[winner]
    cells = [f"{auto.preconditioner_}, {auto.solver_}", show_seconds(seconds["auto"])]
    cells += [winner, show_seconds(seconds[winner]), show_ratio(ratio), "!" if ratio > FLAG else ""]
    return ratio, [*cells, f"{(reached['auto'] - best) / start:.1e}"]


# ---- passes over the data ------------------------------------------------------------------------


class Meter:
    """Passes over X, Gram matrices, and the lowest objective met, in the order of events.

    One pass is one value with its gradient.
    """

    def __init__(self):
        self.passes = self.grams = 0
        self.lowest, self.events = np.inf, []

    def met(self, objective):
        self.passes += 1
        if objective < self.lowest:
            self.lowest = objective
            self.events.append((self.passes, self.grams, objective))

    def until(self, target):
        """(passes, Gram matrices) to the target; infinitely many if it was never met."""
        return next(((p, g) for p, g, objective in self.events if objective <= target), (np.inf, 0))

    @contextmanager
    def watching(self):
        """Everything that fastgd and scikit-learn's L-BFGS compute meanwhile is counted."""
        value_and_grad, gram = LinearProblem.value_and_grad, LinearProblem._gram
        loss_gradient = LinearModelLoss.loss_gradient

        def of_problem(problem, u, *args):
            value, gradient = value_and_grad(problem, u, *args)
            self.met(float(value.sum()))
            return value, gradient

        def of_gram(problem, h):
            self.grams += 1
            return gram(problem, h)

        def of_sklearn(model, *args, **kwargs):
            value, gradient = loss_gradient(model, *args, **kwargs)
            self.met(float(value))
            return value, gradient

        with (
            mock.patch.object(LinearProblem, "value_and_grad", of_problem),
            mock.patch.object(LinearProblem, "_gram", of_gram),
            mock.patch.object(LinearModelLoss, "loss_gradient", of_sklearn),
        ):
            yield self


def passes(quick):
    """Passes over the data until the logistic objective is within a share of its optimum."""
    m, d = (10_000, 50) if quick else (100_000, 166)
    X, _, y = realistic(m, d)
    objective, most = objective_of(log_loss), 300 if quick else 1000
    newton = LogisticRegression(C=1 / (ALPHA * m), solver="newton-cholesky", tol=1e-10)
    best = objective(clone(newton).fit(X, y), X, y)

    problem = LinearProblem(
        X, np.where(y > 0, 1.0, -1.0)[None], None, classification_loss("log_loss", 2),
        Penalty.make("l2", ALPHA, None), k=1, fit_intercept=True, n_threads=effective_n_threads(None),
    )  # fmt: skip
    rate = 1 / largest_eigenvalue(problem.hessian_bound(0.25))
    tight = GDClassifier(tol=1e-6, max_iter=most)
    textbook = clone(tight).set_params(learning_rate=rate)
    ours = {
        'GDClassifier(), metric "gram"': tight,
        'metric "gram", plain steps': clone(tight).set_params(solver="gd"),
        'metric "diag", Newton on quadratic models': clone(tight).set_params(preconditioner="diag"),
        'metric "diag", plain steps': clone(tight).set_params(preconditioner="diag", solver="gd"),
        "explicit rate 1 / L, nesterov": textbook,
        "explicit rate 1 / L, gd": clone(textbook).set_params(solver="gd"),
        "LogisticRegression(lbfgs)": LogisticRegression(C=1 / (ALPHA * m), tol=1e-9, max_iter=most),
    }
    targets = [best * (1 + share) for share in SHARES]
    counts = {}
    for name, estimator in ours.items():
        with Meter().watching() as meter:
            estimator.fit(X, y)
        counts[name] = [meter.until(target) for target in targets]
    for name, whitened in (("plain", False), ("whitened", True)):
        with Meter().watching() as meter:
            lbfgs(problem, whitened, most)
        counts[f"SciPy's L-BFGS-B, {name} coordinates"] = [meter.until(target) for target in targets]
    steps = newton_steps(newton, X, y, objective, targets)
    counts["LogisticRegression(newton-cholesky)"] = [(n, n) for n in steps]

    u, h = np.zeros((1, d + 1)), np.ones(m)
    with one_blas_thread(X.size * d):  # as in a fit
        one_pass, gram = alternate(lambda: problem.value_and_grad(u), lambda: problem.gram(h))
    cost = gram / one_pass
    rows = []
    for name, counted in counts.items():
        cells = [f"{p} + {g}" if g else p if np.isfinite(p) else f"> {most}" for p, g in counted]
        rows.append([name, *cells, *(f"{p + g * cost:.0f}" for p, g in counted)])
    note = (
        f"passes + Gram matrices, where there are such. A Gram matrix took as long as {cost:.1f} passes in\n"
        "this run (1 pass: one value with its gradient); in all: both together, in passes."
    )
    header = ["", *(f"to {share:g}" for share in SHARES), *(f"{share:g} in all" for share in SHARES)]
    print_table(f"Passes over the data, logistic + L2, {m:,} x {d}", header, rows, note)


def lbfgs(problem, whitened, most):
    """SciPy's, over v, theta = v T: T the identity, or the inverse Cholesky factor of the Hessian's bound."""
    T = np.eye(problem.d + 1)
    if whitened:
        del problem._plain_gram  # to be computed, and counted, anew
        T = np.linalg.inv(np.linalg.cholesky(problem.hessian_bound(0.25) + 1e-11 * T))

    def value_and_grad(v):
        value, gradient = problem.value_and_grad((v @ T)[None])
        return float(value[0]), T @ gradient[0]

    options = dict(maxiter=most, maxfun=most, ftol=0, gtol=0, maxcor=20)
    minimize(value_and_grad, np.zeros(len(T)), jac=True, method="L-BFGS-B", options=options)


def newton_steps(newton, X, y, objective, targets, most=30):
    """Steps to each target: a Newton method reads X, and forms a Gram matrix, once per step at least."""
    steps, counts = 1, []
    for target in targets:
        while steps < most:
            if objective(clone(newton).set_params(max_iter=steps).fit(X, y), X, y) <= target:
                break
            steps += 1
        counts.append(steps)
    return counts
