"""Time to the optimum against peers: ``python bench/bench_peers.py [--quick] [--only SECTION ...]``.

In: seeded tables, and MNIST where it is present. Out: Markdown tables. Peers beyond scikit-learn are
optional: those that are not installed are left out, and named at the end. Each race has one
objective, which NumPy evaluates at every contestant's solution; alpha is translated thus:

- glum: `alpha` as it is, its deviances halved as ours are;
- cyanure: `lambda_1`; its logistic loss and half squared norm are ours;
- scikit-learn and scikit-learn-intelex: Ridge alpha * m, LogisticRegression C = 1 / (alpha * m);
  Lasso, ElasticNet, PoissonRegressor, GammaRegressor and QuantileRegressor as it is;
- skglm, celer: as it is; celer's LogisticRegression C = 1 / (alpha * m);
- HuberRegressor finds a scale of its own: our epsilon and alpha are those of its solution.
"""

from functools import partial
from importlib import import_module

import numpy as np
from _data import dense, linear_target, mnist, realistic
from _measure import command_line, run_sections, versions
from _race import (
    ALPHA,
    FEW,
    TOLS,
    absolute_loss,
    gamma_loss,
    huber_loss,
    log_loss,
    objective_of,
    poisson_loss,
    race,
    squared_loss,
)
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
)

from fastgd import GDClassifier, GDRegressor

PEERS = ("glum", "cyanure", "scikit-learn-intelex", "skglm", "celer")
WITHIN = (1e-4, 1e-6)
INTELEX_LOGISTIC = "sklearnex.linear_model.LogisticRegression"
GLUM = dict(gradient_tol=[10.0**-k for k in range(1, 10)])
# scikit-learn < 1.8 has `penalty`, which later ones deprecate
L1 = dict(penalty="l1") if LogisticRegression().get_params()["penalty"] == "l2" else dict(l1_ratio=1.0)


class Contestants(dict):
    """name -> (estimator, ladder); peers join where they are installed."""

    missing = set()

    def add(self, name, path, ladder, **parameters):
        """`path` is module.Class."""
        module, _, cls = path.rpartition(".")
        try:
            self[name] = (getattr(import_module(module), cls)(**parameters), ladder)
        except ImportError:
            self.missing.add(module.partition(".")[0])

    def warmed(self, X, y):
        """Everybody has run once on a few rows: numba compiles (for X's order), threads start."""
        few = np.array(X[:500], order="K")
        for estimator, _ in self.values():
            try:
                clone(estimator).fit(few, y[:500])
            except (ArithmeticError, ValueError, RuntimeError) as error:  # the race will show it
                print(f"{estimator}: {error}")
        return self


def reference(objective, X, y, *estimators):
    """The lowest objective that a tight run finds."""
    return min(objective(estimator.fit(X, y), X, y) for estimator in estimators)


def size(X):
    return f"{len(X):,} x {X.shape[1]:,}"


# ---- smooth losses with L2 -----------------------------------------------------------------------


def least_squares(quick):
    X, y, _ = realistic(*((20_000, 50) if quick else (300_000, 166)))
    strength, limit = ALPHA * len(X), 5.0 if quick else 30.0
    contestants = Contestants(
        {
            "GDRegressor()": (GDRegressor(), TOLS),
            "Ridge(cholesky)": (Ridge(alpha=strength, solver="cholesky"), {}),
        }
    )
    contestants.add("intelex Ridge", "sklearnex.linear_model.Ridge", {}, alpha=strength)
    contestants.add("glum", "glum.GeneralizedLinearRegressor", GLUM, alpha=ALPHA)
    objective = objective_of(squared_loss)
    best = reference(objective, X, y, Ridge(alpha=strength, solver="cholesky"))
    race_in(f"Least squares + L2, {size(X)}", contestants, X, y, objective, best, limit)

    contestants = Contestants(
        {
            "GDRegressor(penalty=None)": (GDRegressor(penalty=None), TOLS),
            "LinearRegression()": (LinearRegression(), {}),
        }
    )
    contestants.add("intelex LinearRegression", "sklearnex.linear_model.LinearRegression", {})
    objective = objective_of(squared_loss, alpha=0.0)
    best = reference(objective, X, y, LinearRegression())
    race_in(f"Least squares, {size(X)}", contestants, X, y, objective, best, limit)


def logistic(quick):
    """All on the large table; cyanure, which is slow there, on a smaller one too."""
    objective = objective_of(log_loss)
    for shape in [(20_000, 50)] if quick else [(300_000, 166), (60_000, 100)]:
        X, _, y = realistic(*shape)
        C = 1 / (ALPHA * len(X))
        contestants = Contestants({"GDClassifier()": (GDClassifier(), TOLS)})
        for solver in ("lbfgs", "newton-cholesky"):
            peer = LogisticRegression(C=C, solver=solver, max_iter=10_000)
            contestants[f"LogisticRegression({solver})"] = (peer, TOLS)
        contestants.add("intelex LogisticRegression", INTELEX_LOGISTIC, TOLS, C=C, max_iter=10_000)
        contestants.add("glum", "glum.GeneralizedLinearRegressor", GLUM, family="binomial", alpha=ALPHA)
        contestants.add(
            "cyanure", "cyanure.estimators.Classifier", TOLS,
            loss="logistic", penalty="l2", lambda_1=ALPHA, fit_intercept=True, max_iter=2000, verbose=False,
        )  # fmt: skip
        exact = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10)
        best = reference(objective, X, y, exact, GDClassifier(tol=1e-8))
        limit = 5.0 if quick else 25.0
        race_in(f"Logistic + L2, {size(X)}", contestants, X, y, objective, best, limit)


def log_link(quick):
    """Poisson and gamma regression."""
    X, y, _ = realistic(*((20_000, 50) if quick else (100_000, 100)))
    rng = np.random.default_rng(1)
    mean = np.exp(np.clip(y / 2, -4, 3))
    targets = {
        "poisson": (rng.poisson(mean).astype(float), poisson_loss, PoissonRegressor),
        "gamma": (rng.gamma(2.0, mean / 2), gamma_loss, GammaRegressor),
    }
    for loss, (target, loss_of_rows, peer) in targets.items():
        contestants = Contestants({f"GDRegressor({loss})": (GDRegressor(loss=loss), TOLS)})
        for solver in ("lbfgs", "newton-cholesky"):
            estimator = peer(alpha=ALPHA, solver=solver, max_iter=10_000)
            contestants[f"{peer.__name__}({solver})"] = (estimator, TOLS)
        contestants.add("glum", "glum.GeneralizedLinearRegressor", GLUM, family=loss, link="log", alpha=ALPHA)
        objective = objective_of(loss_of_rows)
        exact = peer(alpha=ALPHA, solver="newton-cholesky", tol=1e-10)
        best = reference(objective, X, target, exact, GDRegressor(loss=loss, tol=1e-8))
        limit = 5.0 if quick else 25.0
        title = f"{loss.capitalize()} + L2, {size(X)}"
        race_in(title, contestants, X, target, objective, best, limit)


# ---- L1 ------------------------------------------------------------------------------------------


def tables_for_l1(quick):
    """A long and a wide table, Fortran-ordered as coordinate descent wants them: X, y, 0 / 1 labels."""
    X, y, _ = realistic(*((10_000, 50) if quick else (100_000, 166)))
    yield np.asfortranarray(X), y - y.mean()
    X = dense(*((200, 500) if quick else (500, 2_500)), order="F")
    X += 0.3 * dense(len(X), 1, seed=3)  # what columns have in common
    y = linear_target(X[:, :: X.shape[1] // 20])
    yield X, y - y.mean()


def squared_l1(quick):
    """Lasso at a tenth and a hundredth of the alpha that leaves no coefficient, and elastic net."""
    limit = 2.0 if quick else 8.0
    for X, y in tables_for_l1(quick):
        largest = np.max(np.abs(X.T @ y)) / len(X)
        for share, ratio in [(0.05, 1.0)] if quick else [(0.1, 1.0), (0.01, 1.0), (0.02, 0.5)]:
            alpha = share * largest
            common = dict(alpha=alpha) if ratio == 1.0 else dict(alpha=alpha, l1_ratio=ratio)
            ours = GDRegressor(penalty="elasticnet", l1_ratio=ratio, alpha=alpha, max_iter=3_000)
            if ratio == 1.0:
                ours.set_params(penalty="l1")
            peer = Lasso if ratio == 1.0 else ElasticNet
            tight = peer(**common, tol=1e-7, max_iter=5_000)
            contestants = Contestants(
                {
                    f"GDRegressor({ours.penalty})": (ours, TOLS),
                    peer.__name__: (peer(**common, max_iter=5_000), TOLS),
                }
            )
            if len(X) > X.shape[1]:
                gram = peer(**common, max_iter=5_000, precompute=True)
                contestants[f"{peer.__name__}(precompute=True)"] = (gram, TOLS)
            contestants.add("skglm", f"skglm.{peer.__name__}", TOLS, **common)
            contestants.add("celer", f"celer.{peer.__name__}", TOLS, **common)
            objective = objective_of(squared_loss, alpha, ratio)
            best = reference(objective, X, y, tight)
            nonzero = np.count_nonzero(tight.coef_)
            title = f"{peer.__name__}, {size(X)}, alpha {share:g} of the largest"
            note = f"{nonzero} coefficients are not zero; X in Fortran order for all."
            race_in(title, contestants, X, y, objective, best, limit, note=note)


def logistic_l1(quick):
    """Sparse logistic regression; the last contestant has no intercept, so none has on balanced classes."""
    limit = 2.0 if quick else 8.0
    for X, y in tables_for_l1(quick):
        label = (y > np.median(y)).astype(int)
        largest = np.max(np.abs(X.T @ (label - 0.5))) / len(X)
        for share in (0.05,) if quick else (0.1, 0.02):
            alpha = share * largest
            C = 1 / (alpha * len(X))
            common = dict(fit_intercept=False)
            ours = GDClassifier(penalty="l1", alpha=alpha, **common)
            saga = LogisticRegression(C=C, solver="saga", max_iter=2_000, random_state=0, **L1, **common)
            libl = LogisticRegression(C=C, solver="liblinear", max_iter=10_000, **L1, **common)
            contestants = Contestants(
                {
                    "GDClassifier(l1)": (ours, TOLS),
                    "LogisticRegression(saga)": (saga, TOLS),
                    "LogisticRegression(liblinear)": (libl, TOLS),
                }
            )
            contestants.add("skglm", "skglm.SparseLogisticRegression", TOLS, alpha=alpha, **common)
            contestants.add("celer", "celer.LogisticRegression", TOLS, C=C, **common)
            objective = objective_of(log_loss, alpha, 1.0)
            tight = clone(ours).set_params(tol=1e-8)
            best = reference(objective, X, label, tight, clone(libl).set_params(tol=1e-6))
            title = f"Logistic + L1, {size(X)}, alpha {share:g} of the largest, no intercept"
            note = f"{np.count_nonzero(tight.coef_)} coefficients are not zero."
            race_in(title, contestants, X, label, objective, best, limit, note=note)


# ---- robust losses -------------------------------------------------------------------------------


def robust(quick):
    X, y, _ = realistic(*((5_000, 20) if quick else (50_000, 50)))
    limit = 5.0 if quick else 20.0
    peer = HuberRegressor(alpha=ALPHA * len(X), max_iter=10_000)
    scale = clone(peer).set_params(tol=1e-8).fit(X, y).scale_
    epsilon, alpha = peer.epsilon * scale, peer.alpha * scale / len(X)
    objective = objective_of(partial(huber_loss, epsilon=epsilon), alpha)
    ours = GDRegressor(loss="huber", epsilon=epsilon, alpha=alpha)
    best = reference(objective, X, y, clone(ours).set_params(tol=1e-8), clone(peer).set_params(tol=1e-8))
    contestants = Contestants({"GDRegressor(huber)": (ours, TOLS), "HuberRegressor": (peer, TOLS)})
    note = "HuberRegressor finds the threshold too, a harder question."
    race_in(f"Huber + L2, {size(X)}", contestants, X, y, objective, best, limit, note=note)

    X, y = X[: 1_000 if quick else 5_000, :20], y[: 1_000 if quick else 5_000]
    X = np.ascontiguousarray(X)
    objective = objective_of(absolute_loss, ALPHA, 1.0)
    ours = GDRegressor(loss="quantile", penalty="l1")
    peer = QuantileRegressor(alpha=ALPHA)
    contestants = Contestants({"GDRegressor(quantile)": (ours, TOLS), "QuantileRegressor": (peer, {})})
    best = reference(objective, X, y, peer)
    race_in(f"Median + L1, {size(X)}", contestants, X, y, objective, best, limit)


# ---- softmax -------------------------------------------------------------------------------------


def softmax(quick):
    """Ten classes: small tables to their optimum; MNIST to an objective of 0.2726, and by default."""
    X, y = load_digits(return_X_y=True)
    softmax_to_optimum("digits", X / 16, y, quick)
    images = None if quick else mnist()
    if images is None:
        print("\nMNIST is left out.")
        return
    X, y = images
    softmax_to_optimum("MNIST, the first rows", X[:3_000], y[:3_000], quick)

    objective, C = objective_of(log_loss), 1 / (ALPHA * len(X))
    contestants = Contestants(
        {
            "GDClassifier": (GDClassifier(tol=None), FEW),
            "LogisticRegression(lbfgs)": (LogisticRegression(C=C, tol=1e-12), FEW),
        }
    )
    contestants.add("intelex LogisticRegression", INTELEX_LOGISTIC, FEW, C=C, tol=1e-12)
    title = f"Softmax + L2 to 0.2726, MNIST, {size(X)} {X.dtype}"
    race_in(title, contestants, X, y, objective, 0.2726, 120.0, within=(0,))

    peer = LogisticRegression(C=C)
    contestants = Contestants(
        {"GDClassifier()": (GDClassifier(), {}), f"LogisticRegression(C={C:.3g})": (peer, {})}
    )
    contestants.add("intelex LogisticRegression", INTELEX_LOGISTIC, {}, C=C)
    best = objective(GDClassifier().fit(X, y), X, y)
    title = f"Softmax + L2, other parameters at their defaults, MNIST, {size(X)} {X.dtype}"
    note = "Reference: GDClassifier(); nobody is asked to come near it."
    race_in(title, contestants, X, y, objective, best, 120.0, within=(np.inf,), note=note)


def softmax_to_optimum(name, X, y, quick):
    objective, C = objective_of(log_loss), 1 / (ALPHA * len(X))
    contestants = Contestants({"GDClassifier()": (GDClassifier(), TOLS)})
    for solver in ("lbfgs", "newton-cholesky"):
        peer = LogisticRegression(C=C, solver=solver, max_iter=10_000)
        if solver == "lbfgs" or X.shape[1] < 100:  # its Hessian is one over all classes
            contestants[f"LogisticRegression({solver})"] = (peer, TOLS)
    contestants.add("intelex LogisticRegression", INTELEX_LOGISTIC, TOLS, C=C, max_iter=10_000)
    tight = LogisticRegression(C=C, tol=1e-8, max_iter=20_000)  # on float64, whatever X is
    best = reference(objective, X.astype(np.float64), y, tight)
    title = f"Softmax + L2, {name}, {size(X)} {X.dtype}"
    race_in(title, contestants, X, y, objective, best, 5.0 if quick else 20.0)


def race_in(title, contestants, X, y, objective, best, limit, within=WITHIN, note=""):
    race(title, contestants.warmed(X, y), X, y, objective, best, limit, within, note)


SECTIONS = dict(
    least_squares=least_squares,
    logistic=logistic,
    log_link=log_link,
    squared_l1=squared_l1,
    logistic_l1=logistic_l1,
    robust=robust,
    softmax=softmax,
)


def main():
    options = command_line(__doc__, SECTIONS)
    print(versions(*PEERS))
    run_sections(options, lambda name: SECTIONS[name](options.quick))
    if Contestants.missing:
        print("\nNot installed, left out:", ", ".join(sorted(Contestants.missing)))


if __name__ == "__main__":
    main()
