"""Sparse rows, measured: ``python bench/bench_sparse.py [--quick] [--only SECTION ...]``.

In: nothing but seeds; 100,000 x 50,000 with 50 entries a row, in columns drawn uniformly or by a power
law, as words are. Out: Markdown tables, as in ``bench_linear.py``: both sides in turn in one process, the
same data, dtype and objective, medians; what was computed stands beside the time.
"""

from time import perf_counter

import numpy as np
from _measure import alternate, alternate_epochs, main, print_table, show_ratio, show_seconds
from _race import ALPHA, log_loss, objective_of, race
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor

from fastgd import GDClassifier, GDRegressor

COLUMNS = ("uniform", "power law")
WITHIN = 1e-4  # relative suboptimality at which a run has arrived
TOLS = dict(tol=[10 ** (-k / 2) for k in range(15)])
UPDATES = [  # (estimator, peer, parameters); the updates are the same but for the peer's intercept
    (GDRegressor, SGDRegressor, dict(loss="squared_error", eta0=1e-3)),
    (GDClassifier, SGDClassifier, dict(loss="log_loss", eta0=0.01)),
    (GDClassifier, SGDClassifier, dict(loss="hinge", eta0=0.01)),
    (GDClassifier, SGDClassifier, dict(loss="log_loss", eta0=0.01, average=True)),
    (GDClassifier, SGDClassifier, dict(loss="log_loss", eta0=0.01, penalty="l1")),
]


def rows_with_few_entries(m, d, entries, columns, dtype=np.float64, seed=0):
    """CSR of shape (m, d); with a power law, column j is met in proportion to (j + 1) ** -0.75."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((m, entries)) ** (4 if columns == "power law" else 1)
    indices = np.sort((d * drawn).astype(np.int32), axis=1)
    indptr = np.arange(0, m * entries + 1, entries, dtype=np.int32)
    X = csr_matrix((rng.standard_normal(m * entries).astype(dtype), indices.ravel(), indptr), (m, d))
    X.sum_duplicates()
    return X


def targets(X, seed=1):
    """Noisy linear y, and labels of a logistic model."""
    rng = np.random.default_rng(seed)
    z = X @ (0.3 * rng.standard_normal(X.shape[1]).astype(X.dtype))
    return z + rng.standard_normal(len(z)).astype(X.dtype), (z + rng.logistic(size=len(z)) > 0).astype(int)


def shape(quick):
    return (10_000, 5_000, 50) if quick else (100_000, 50_000, 50)


def epoch(quick):
    """One stochastic epoch with scikit-learn's updates; rows in a new order every epoch, or in place."""
    rows = []
    for columns in COLUMNS:
        for dtype in ("float64", "float32"):
            X = rows_with_few_entries(*shape(quick), columns, dtype)
            y, label = targets(X)
            for ours, peer, params in UPDATES:
                target = y if ours is GDRegressor else label
                cells = []
                for shuffle in (True, False):
                    same = dict(learning_rate="constant", tol=None, shuffle=shuffle, random_state=0, **params)
                    pair = peer(**same), ours(batch_size=1, solver="gd", preconditioner=None, **same)

                    def fit_of(estimator, X=X, target=target):
                        return lambda n: estimator.set_params(max_iter=n).fit(X, target)

                    theirs, mine = alternate_epochs(*map(fit_of, pair), long_enough=0.05 if quick else 0.15)
                    cells += [show_seconds(theirs), show_seconds(mine), show_ratio(theirs / mine)]
                without = [clone(e).set_params(fit_intercept=False, max_iter=2) for e in pair]
                first, second = (e.fit(X, target).coef_ for e in without)
                name = ", ".join(str(value) for key, value in params.items() if key != "eta0")
                name = name.replace("True", "averaged")
                cells.append(f"{np.max(np.abs(first - second)):.0e}")
                rows.append([columns, dtype, name, *cells])
    header = "columns|dtype|updates|scikit-learn|fastgd|fastgd is|in place: scikit-learn|fastgd|fastgd is"
    note = (
        "A long fit minus a fit of one epoch. The coefficients are compared after two epochs without an\n"
        "intercept, whose steps scikit-learn divides by 100 on sparse rows. With L1, scikit-learn leaves\n"
        "columns behind that no row has met lately; fastgd's are those of dense rows."
    )
    title = "One epoch, batch_size=1, {:,} x {:,}, {} entries a row".format(*shape(quick))
    print_table(title, [*header.split("|"), "coef. difference"], rows, note)


def optimum(quick):
    """Time to 1e-4 of the logistic optimum, each contestant's cheapest run that arrives."""
    m, d, entries = shape(quick)
    for columns in COLUMNS:
        X = rows_with_few_entries(m, d, entries, columns)
        label = targets(X)[1]
        peer = LogisticRegression(C=1 / (ALPHA * m), max_iter=10_000, random_state=0)
        contestants = {"GDClassifier()": (GDClassifier(), TOLS)}
        for solver in ("lbfgs", "saga", "liblinear"):
            contestants[f"LogisticRegression({solver})"] = (clone(peer).set_params(solver=solver), TOLS)
        contestants["GDClassifier(batch_size=32)"] = (GDClassifier(batch_size=32, random_state=0), TOLS)
        reference = GDClassifier(tol=1e-7).fit(X, label)
        check = clone(peer).set_params(solver="lbfgs", tol=1e-8).fit(X, label)
        objective = objective_of(log_loss)
        best = min(objective(model, X, label) for model in (reference, check))
        title = f"Logistic + L2 to {WITHIN:g}, {m:,} x {d:,}, {entries} entries a row, {columns} columns"
        race(title, contestants, X, label, objective, best, 10.0 if quick else 60.0, (WITHIN,))


def chunks(quick):
    """A call of partial_fit, as texts in hashed columns come: 2^20 columns, a power law."""
    d, calls = (1 << 16, 4) if quick else (1 << 20, 12)
    contestants = {
        "GDClassifier()": lambda: GDClassifier(random_state=0),
        "GDClassifier(batch_size=1, eta0=0.01)": lambda: GDClassifier(
            batch_size=1, learning_rate="constant", eta0=0.01, random_state=0
        ),
        "SGDClassifier(eta0=0.01)": lambda: SGDClassifier(
            loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0
        ),
    }
    rows = []
    for outputs in (2, 20):
        for m in (1, 100, 1_000, 10_000):
            X = rows_with_few_entries(m * calls, d, 100, "power law")
            z = X @ (0.1 * np.random.default_rng(1).standard_normal(d))
            label = np.digitize(z, np.quantile(z, np.linspace(0, 1, outputs + 1)[1:-1]))
            parts = [slice(i * m, (i + 1) * m) for i in range(calls)]
            models = [make() for make in contestants.values()]
            times = np.empty((len(models), calls))
            for i, part in enumerate(parts):  # in turn
                chunk, y = X[part], label[part]
                for j, model in enumerate(models):
                    began = perf_counter()
                    model.partial_fit(chunk, y, classes=np.arange(outputs))
                    times[j, i] = perf_counter() - began
            for name, model, time in zip(contestants, models, np.median(times[:, 1:], axis=1), strict=True):
                rows.append([outputs, m, name, show_seconds(time), f"{model.score(X, label):.3f}"])
    title = f"partial_fit of a chunk, {d:,} columns, 100 entries a row"
    print_table(title, ["classes", "rows", "model", "a call", "accuracy on all rows met"], rows)


def gradient(quick):
    """One gradient: the fused kernel against SciPy's two products."""
    from fastgd._compiled import linear
    from fastgd._sparse import SparseRows
    from fastgd._threads import effective_n_threads

    rows = []
    for columns in COLUMNS:
        for outputs in (1, 10):
            X = rows_with_few_entries(*shape(quick), columns)
            m, d = X.shape
            rng = np.random.default_rng(2)
            Y, theta = rng.standard_normal((outputs, m)), rng.standard_normal((outputs, d + 1))
            kernel_rows, params = SparseRows.of(X), np.zeros(4)
            one_pass, n_threads = linear.Pass(kernel_rows, outputs), effective_n_threads(None)

            def fused(args=(kernel_rows, Y, None, theta, 0, params, n_threads), one_pass=one_pass):
                return one_pass.run(*args)[1]

            def two_products(X=X, Y=Y, theta=theta):
                R = X @ theta[:, :-1].T + theta[:, -1] - Y.T
                return np.hstack([(X.T @ R).T, R.sum(axis=0)[:, None]])

            ours, scipy = alternate(fused, two_products, rounds=15)
            difference = np.max(np.abs(fused() - two_products())) / np.max(np.abs(fused()))
            cells = [show_seconds(ours), show_seconds(scipy), show_ratio(scipy / ours), f"{difference:.0e}"]
            rows.append([columns, outputs, *cells])
    header = ["columns", "outputs", "fastgd", "SciPy", "fastgd is", "rel. difference"]
    print_table("One gradient of squared error, {:,} x {:,}".format(*shape(quick)), header, rows)


SECTIONS = dict(gradient=gradient, chunks=chunks, epoch=epoch, optimum=optimum)

if __name__ == "__main__":
    main(__doc__, SECTIONS)
