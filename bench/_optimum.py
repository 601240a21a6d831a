"""Time to the optimum against every solver of scikit-learn that minimises the same objective.

Ridge has alpha * n_samples in place of fastgd's alpha, LogisticRegression C = 1 / (alpha * n_samples).
"""

from _data import mnist, realistic
from _race import ALPHA, EPOCHS, FEW, TOLS, log_loss, objective_of, race, squared_loss
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

from fastgd import GDClassifier, GDRegressor


def least_squares(X, y, limit):
    m, d = X.shape
    objective = objective_of(squared_loss)
    ridge = Ridge(alpha=ALPHA * m, max_iter=10_000, random_state=0)
    contestants = {
        "GDRegressor()": (GDRegressor(), TOLS),
        "Ridge(cholesky)": (clone(ridge).set_params(solver="cholesky"), {}),
        "Ridge(lsqr)": (clone(ridge).set_params(solver="lsqr"), TOLS),
        "Ridge(sparse_cg)": (clone(ridge).set_params(solver="sparse_cg"), TOLS),
        "Ridge(sag)": (clone(ridge).set_params(solver="sag", tol=1e-12), EPOCHS),
        "SGDRegressor": (SGDRegressor(alpha=ALPHA, tol=None, random_state=0), EPOCHS),
    }
    best = objective(contestants["Ridge(cholesky)"][0].fit(X, y), X, y)
    race(f"Least squares + L2, {m:,} x {d}", contestants, X, y, objective, best, limit)


def logistic(X, y, limit):
    m, d = X.shape
    objective = objective_of(log_loss)
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
    best = objective(reference.fit(X, y), X, y)
    race(f"Logistic + L2, {m:,} x {d}", contestants, X, y, objective, best, limit)


def softmax(X, y, limit=180.0):
    """Ten classes, 785 parameters each: to an early objective, then 1e-3 from the optimum."""
    m, d = X.shape
    ours, peer = GDClassifier(tol=None), LogisticRegression(C=1 / (ALPHA * m), tol=1e-12)
    many = dict(max_iter=[15, 25, 50, 70, 100, 125, 150, 200, 300])
    for best, ladder in ((0.2726, FEW), (0.2595, many)):
        contestants = {"GDClassifier": (ours, ladder), "LogisticRegression(lbfgs)": (peer, ladder)}
        title = f"Softmax + L2 to {best}, MNIST, {m:,} x {d} {X.dtype}"
        race(title, contestants, X, y, objective_of(log_loss), best, limit, within=(0,))


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
