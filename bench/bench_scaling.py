"""Cost against size: ``python bench/bench_scaling.py [--quick] [--only SECTION ...] [--plots DIRECTORY]``.

In: nothing but seeds. Out: Markdown tables: time with one thread and with two, per element, and the
exponent with which it grows; with --plots (needs matplotlib) also a log-log plot of every axis, as
PNG files. What is next to free at its smallest (section `fixed`), what "auto" chooses at which
shape (`planner`), and how often data are read for which accuracy (`passes`) belong here too.

One size is varied at a time, the others stay: m rows, d columns, k classes, rows of a batch.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from _choices import passes, planner
from _data import dense, linear_target
from _fixed import fixed
from _measure import (
    alternate,
    alternate_epochs,
    command_line,
    print_table,
    run_sections,
    show_ratio,
    show_seconds,
    streaming_readers,
)
from threadpoolctl import ThreadpoolController

from fastgd import GDClassifier, GDRegressor, kernels

THREADS = (1, 2)


class Size(NamedTuple):
    m: int = 50_000
    d: int = 50
    k: int = 10  # classes of softmax and network
    batch: int = 32


AXES = {
    "m": [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000],
    "d": [5, 10, 20, 50, 100, 200, 500, 1_000],
    "k": [2, 3, 5, 10, 20, 50],
    "batch": [1, 8, 32, 256, 2_048],
}
NAMES = dict(m="rows", d="columns", k="classes", batch="rows of a batch")
QUICK = {"m": [1_000, 10_000, 50_000], "d": [5, 50, 200], "k": [2, 10], "batch": [1, 32, 256]}


# ---- work: (X, size, threads) -> a function to be timed ------------------------------------------


def gradient(X, size, threads):
    y, w = linear_target(X), np.full(size.d, 0.1)
    limited = ThreadpoolController().select(user_api="openmp")

    def run():
        with limited.limit(limits=threads):
            kernels.loss_gradient(X, y, w)

    return run


def labels(X, k):
    """Classes 0 .. k - 1: the largest of k noisy linear scores."""
    rng = np.random.default_rng(2)
    scores = X @ (2 * rng.standard_normal((X.shape[1], k)) / np.sqrt(X.shape[1]))
    return np.argmax(scores + rng.gumbel(size=scores.shape), axis=1)


def fit_of(estimator, X, y):
    """Of an estimator, to its own tol; n_iter_ can be asked for afterwards."""

    def run():
        run.n_iter = estimator.fit(X, y).n_iter_

    return run


def epochs_of(estimator, X, y):
    return lambda n: estimator.set_params(max_iter=n, tol=None).fit(X, y)


def epoch(X, size, threads):
    rule = dict(learning_rate=min(1e-3, 0.1 / size.d), solver="gd", preconditioner=None)
    return epochs_of(GDRegressor(batch_size=size.batch, n_jobs=threads, **rule), X, linear_target(X))


def least_squares(X, size, threads):
    return fit_of(GDRegressor(n_jobs=threads), X, linear_target(X))


def logistic(X, size, threads):
    return fit_of(GDClassifier(n_jobs=threads), X, labels(X, 2))


def softmax(X, size, threads):
    return fit_of(GDClassifier(n_jobs=threads), X, labels(X, size.k))


def network(X, size, threads):
    net = GDClassifier(hidden_layer_sizes=(100,), batch_size=size.batch, n_jobs=threads, random_state=0)
    return epochs_of(net, X, labels(X, size.k))


class Work(NamedTuple):
    name: str
    make: callable
    axes: str  # which sizes matter to it
    largest: int = 100_000_000  # elements of X
    per_epoch: bool = False


WORKS = [
    Work("gradient", gradient, "m d"),
    Work("epoch", epoch, "m d batch", 20_000_000, per_epoch=True),
    Work("least squares", least_squares, "m d"),
    Work("logistic", logistic, "m d", 50_000_000),
    Work("softmax", softmax, "m d k", 10_000_000),
    Work("network 100", network, "m d k batch", 5_000_000, per_epoch=True),
]


# ---- tables --------------------------------------------------------------------------------------


def measure(work, size, quick):
    """(seconds for each of THREADS, cells that go beside them)."""
    X = dense(size.m, size.d)
    runs = [work.make(X, size, threads) for threads in THREADS]
    if work.per_epoch:
        return alternate_epochs(*runs, rounds=3, long_enough=0.02 if quick else 0.1), ["", ""]
    if work.make is gradient:
        *times, one, other = alternate(*runs, *streaming_readers(X), rounds=9, number=3)
        return times, ["", f"{min(one, other) / min(times):.2f}"]
    return alternate(*runs, rounds=3), [runs[-1].n_iter, ""]


def scaling(quick, plots=None):
    header = "|{}|1 thread|2 threads|2 threads are|ns / element|iterations|share of read".split("|")
    note = (
        "ns / element: the faster time over m d. iterations: a fit runs to its own tol.\n"
        "share of read: time to merely read X once, over that of the gradient."
    )
    for axis, values in (QUICK if quick else AXES).items():
        base = Size(m=5_000) if quick else Size()
        rows, curves = [], {}
        for work in WORKS:
            if axis not in work.axes.split():
                continue
            for value in values:
                size = base._replace(**{axis: value})
                if size.m * size.d > work.largest:
                    continue
                times, beside = measure(work, size, quick)
                element = f"{1e9 * min(times) / (size.m * size.d):.3g}"
                cells = [*map(show_seconds, times), show_ratio(times[0] / times[1]), element]
                rows.append([work.name, f"{value:,}", *cells, *beside])
                curves.setdefault(work.name, []).append((value, *times))
        header[1] = NAMES[axis]
        fixed_sizes = ", ".join(f"{n} {NAMES[name]}" for name, n in base._asdict().items() if name != axis)
        print_table(f"Cost against {NAMES[axis]}", header, rows, f"Elsewhere {fixed_sizes}.\n{note}")
        print_exponents(axis, curves)
        if plots:
            plot(axis, curves, Path(plots))


def print_exponents(axis, curves):
    """Slopes in the log-log plot: of a line through all points, and through the last two."""
    rows = []
    for name, points in curves.items():
        value, one, two = np.log(np.transpose(points))
        cells = []
        for times in (one, two):
            line = np.polyfit(value, times, 1)[0]
            last = (times[-1] - times[-2]) / (value[-1] - value[-2])
            cells += [f"{line:.2f}", f"{last:.2f}"]
        rows.append([name, *cells])
    header = ["", "1 thread", "last two", "2 threads", "last two"]
    print_table(f"Exponents of the growth with the number of {NAMES[axis]}", header, rows)


def plot(axis, curves, directory):
    """One PNG: time against size, a colour for each work, dashed with one thread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for name, points in curves.items():
        value, one, two = np.transpose(points)
        (line,) = axes.loglog(value, two, "o-", label=name)
        axes.loglog(value, one, "--", color=line.get_color(), linewidth=1)
    axes.set(xlabel=NAMES[axis], ylabel="seconds", title="two threads; dashed: one")
    axes.grid(alpha=0.3)
    axes.legend()
    directory.mkdir(parents=True, exist_ok=True)
    figure.savefig(directory / f"scaling_{axis}.png", dpi=150)
    plt.close(figure)


SECTIONS = dict(scaling=scaling, fixed=fixed, planner=planner, passes=passes)


def main():
    plots = dict(metavar="DIRECTORY", help="where to write log-log plots")
    options = command_line(__doc__, SECTIONS, plots=plots)
    more = {"scaling": {"plots": options.plots}}
    run_sections(options, lambda name: SECTIONS[name](options.quick, **more.get(name, {})))


if __name__ == "__main__":
    main()
