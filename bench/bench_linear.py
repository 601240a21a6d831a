"""Linear models, measured: ``python bench/bench_linear.py [--quick] [--only SECTION ...]``.

In: nothing but seeds; the tables are made here, except MNIST, which is read where it is present.
Out: Markdown tables. Every ratio is taken in one process, both sides in turn (A B A B), medians,
with the same data, dtype and objective; what was computed (gradient, coefficients, objective,
score) is compared beside the time.
"""

import numpy as np
from _data import dense, linear_target
from _measure import (
    alternate,
    alternate_epochs,
    in_fresh_process,
    main,
    print_table,
    resident_bytes,
    show_ratio,
    show_seconds,
    streaming_readers,
)
from _optimum import optimum
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

from fastgd import GDClassifier, GDRegressor, kernels

GRADIENT_SHAPES = [(1_000_000, 10), (200_000, 100), (100_000, 500), (20_000, 2_000)]
EPOCH_SHAPES = [(100_000, 10), (100_000, 100), (20_000, 1_000)]
DTYPES = ("float64", "float32")
LAYOUTS = [(dtype, order) for dtype in DTYPES for order in "CF"]
CLASS_LOSSES = ("log_loss", "hinge")
UPDATES = [  # (loss, schedule)
    *((loss, "constant") for loss in ("squared_error", *CLASS_LOSSES)),
    ("squared_error", "invscaling"),  # the default of SGDRegressor
]


def gradient(quick):
    """One gradient: the fused kernel, NumPy's two passes over X, and the time to merely read X."""
    header = "X|fastgd|NumPy|fastgd is|GB/s|read GB/s|share of read|rel. difference".split("|")
    losses = ["squared_error", "log_loss", "huber", "poisson"]
    rows, loss_rows = [], []
    for m, d in GRADIENT_SHAPES:
        for dtype, order in LAYOUTS:
            X = dense(m // 10 if quick else m, d, dtype, order)
            y = linear_target(X)
            margins, counts = np.sign(y), (y > 0).astype(dtype)
            w = (np.random.default_rng(2).standard_normal(d) / np.sqrt(d)).astype(dtype)
            name = f"{len(X):,} x {d:,} {dtype} {order}"

            def fused(X=X, y=y, w=w):
                return kernels.loss_gradient(X, y, w)[1]

            def two_pass(X=X, y=y, w=w):
                return X.T @ (X @ w - y) / len(X)

            def of_loss(loss, X=X, margins=margins, counts=counts, w=w):
                target = margins if loss == "log_loss" else counts
                return lambda: kernels.loss_gradient(X, target, w, loss=loss)

            ours, numpy, *reads = alternate(fused, two_pass, *streaming_readers(X), rounds=9)
            speed, limit = X.nbytes / ours / 1e9, X.nbytes / min(reads) / 1e9
            difference = np.max(np.abs(fused() - two_pass())) / np.max(np.abs(two_pass()))
            cells = [show_seconds(ours), show_seconds(numpy), show_ratio(numpy / ours)]
            cells += [f"{speed:.1f}", f"{limit:.1f}", f"{speed / limit:.2f}", f"{difference:.0e}"]
            rows.append([name, *cells])

            squared, *others = alternate(*map(of_loss, losses), rounds=5)
            ratios = [show_ratio(other / squared) for other in others]
            loss_rows.append([name, show_seconds(squared), *ratios])
    note = "read: a threaded sum or maximum of the same array, whichever is faster, in turn."
    print_table("One gradient, X^T (X w - y) / m", header, rows, note)
    note = "As a multiple of squared error."
    print_table("One gradient, other losses", ["X", *losses], loss_rows, note)


def epoch(quick):
    """One stochastic epoch with scikit-learn's own updates, then the same rows in mini-batches."""
    header = "X|loss|schedule|scikit-learn|fastgd|fastgd is|coef. difference".split("|")
    header += "shuffled: scikit-learn|fastgd|fastgd is|by 32|by 256".split("|")
    rows = []
    for m, d in EPOCH_SHAPES:
        for dtype in DTYPES:
            X = dense(m // 10 if quick else m, d, dtype)
            y = linear_target(X)
            for loss, schedule in UPDATES:
                ours, peer, target = GDRegressor, SGDRegressor, y
                if loss in CLASS_LOSSES:
                    ours, peer, target = GDClassifier, SGDClassifier, (y > 0).astype(int)
                same = dict(loss=loss, learning_rate=schedule, eta0=min(1e-3, 0.1 / d))
                same.update(shuffle=False, tol=None, random_state=0)

                def fit_of(estimator, X=X, target=target):
                    return lambda n: estimator.set_params(max_iter=n).fit(X, target)

                textbook = dict(solver="gd", preconditioner=None, **same)
                batches = [ours(batch_size=size, **textbook) for size in (1, 32, 256)]
                shuffled = [clone(model).set_params(shuffle=True) for model in (peer(**same), batches[0])]
                fits = [fit_of(estimator) for estimator in (peer(**same), *shuffled, *batches)]
                theirs, *both, one, by_32, by_256 = alternate_epochs(
                    *fits, long_enough=0.05 if quick else 0.15
                )
                difference = np.max(np.abs(fits[0](3).coef_ - fits[3](3).coef_))
                cells = [show_seconds(theirs), show_seconds(one), show_ratio(theirs / one)]
                cells += [f"{difference:.0e}", *map(show_seconds, both), show_ratio(both[0] / both[1])]
                cells += [show_ratio(by_32 / one), show_ratio(by_256 / one)]
                rows.append([f"{len(X):,} x {d:,} {dtype}", loss, schedule, *cells])
    note = (
        "A long fit minus a fit of one epoch, rows in order. Coefficients are compared after 3 epochs.\n"
        "shuffled: every epoch in another order, which is the default of both; to draw it takes time, too.\n"
        "by 32, by 256: an epoch in batches of that size, as a multiple of batch_size=1."
    )
    print_table("One epoch, batch_size=1, same updates", header, rows, note)


def epoch_of(quick):
    """Shuffled epochs of single rows with more to do than a plain step."""
    constant = dict(learning_rate="constant", eta0=1e-3)
    passive = dict(loss="hinge", learning_rate="pa1", eta0=0.1)
    work = {  # (what, its parameters, classes; 0 for regression)
        "averaged": (dict(constant, average=True), 0),
        "averaged, log loss": (dict(constant, loss="log_loss", average=True), 2),
        "L1": (dict(constant, penalty="l1"), 0),
        "elastic net, log loss": (dict(constant, loss="log_loss", penalty="elasticnet"), 2),
        "passive-aggressive": (passive, 2),
        "hinge, three classes": (dict(constant, loss="hinge"), 3),
        "automatic steps": ({}, 0),
        "automatic steps, log loss": (dict(loss="log_loss"), 2),
        "automatic steps, hinge, three classes": (dict(loss="hinge"), 3),
    }
    rows = []
    for m, d in EPOCH_SHAPES:
        for dtype in DTYPES:
            X = dense(m // 10 if quick else m, d, dtype)
            y = linear_target(X)
            for name, (settings, classes) in work.items():
                ours, peer = (GDClassifier, SGDClassifier) if classes else (GDRegressor, SGDRegressor)
                target = np.digitize(y, np.quantile(y, np.arange(1, classes) / classes)) if classes else y
                same = dict(tol=None, random_state=0) | settings
                steps = {"eta0": min(1e-3, 0.1 / d)} if settings.get("learning_rate") == "constant" else {}
                explicit = dict(solver="gd", preconditioner=None) if "learning_rate" in settings else {}
                models = peer(**same | steps), ours(batch_size=1, **same | steps | explicit)
                fits = [lambda n, e=e, X=X, y=target: e.set_params(max_iter=n).fit(X, y) for e in models]
                theirs, here = alternate_epochs(*fits, long_enough=0.05 if quick else 0.15)
                cells = [name, show_seconds(theirs), show_seconds(here), show_ratio(theirs / here)]
                rows.append([f"{len(X):,} x {d:,} {dtype}", *cells])
    note = "Automatic steps against the peer's default schedule: other updates, of as many rows."
    header = "X|what|scikit-learn|fastgd|fastgd is".split("|")
    print_table("One shuffled epoch, batch_size=1, with more to do", header, rows, note)


def memory(quick):
    """Peak memory of fit beyond X, each fit in a process of its own."""
    shape = (50_000, 100) if quick else (200_000, 100)
    few = dict(max_iter=3, tol=None)
    estimators = [
        GDRegressor(),
        GDRegressor(batch_size=1, **few),
        GDClassifier(),
        GDClassifier(batch_size=1, **few),
        Ridge(solver="cholesky"),
        SGDRegressor(**few),
        LogisticRegression(),
    ]
    rows = [
        [e, *(f"{in_fresh_process(memory_of_fit, e, shape, *layout):.1%}" for layout in LAYOUTS)]
        for e in estimators
    ]
    header = ["", *(" ".join(layout) for layout in LAYOUTS)]
    title = "Peak memory of fit beyond X, as a share of X, {:,} x {}".format(*shape)
    print_table(title, header, rows)


def memory_of_fit(estimator, shape, dtype, order):
    """Resident memory that ``fit`` adds at its peak, over X.nbytes."""

    def target(X):
        return (X[:, 0] > 0).astype(int) if is_classifier(estimator) else X[:, 0].copy()

    tiny = dense(50, 5, dtype)
    estimator.fit(tiny, target(tiny))  # loads libraries and threads now, not while measured
    X = dense(*shape, dtype, order)
    y = target(X)
    before, _ = resident_bytes()
    estimator.fit(X, y)
    _, peak = resident_bytes()
    return (peak - before) / X.nbytes


SECTIONS = dict(gradient=gradient, epoch=epoch, epoch_of=epoch_of, optimum=optimum, memory=memory)

if __name__ == "__main__":
    main(__doc__, SECTIONS)
