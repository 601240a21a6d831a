"""Dask estimators: against dask-ml, against one process, and what a terabyte would cost.

    python bench/bench_dask.py            # everything, some minutes
    python bench/bench_dask.py --quick    # smaller tables
    python bench/bench_dask.py --only peers cost estimate

Two workers, each a process with one thread; rows are in their memory before a clock starts. dask-ml is
compared where it is installed (pip install dask-ml). Tables are printed as Markdown.
"""

from math import ceil, log
from time import perf_counter

import dask.array as da
import numpy as np
from _measure import (
    alternate,
    alternate_epochs,
    command_line,
    print_table,
    run_sections,
    show_ratio,
    show_seconds,
)
from _race import log_loss, objective_of, squared_loss
from distributed import Client, LocalCluster, wait

from fastgd import GDClassifier
from fastgd._linear import LinearProblem
from fastgd._losses import classification_loss
from fastgd._on_workers import moments_of_all
from fastgd._penalties import Penalty
from fastgd.dask import DaskGDClassifier, DaskGDRegressor

TERABYTE, WORKERS, CHUNK = 1e12, 100, 1e9  # bytes, machines, bytes of a chunk
NETWORK = 1.25e9  # bytes per second of a 10 Gbit/s line: the one number that is assumed
PASSES, MATRICES = 15, 4  # of a logistic regression, whose metrics are those of few rows


def table_on_workers(client, m, d, chunks):
    """X, y of a regression and labels of two classes, as persisted Dask arrays chunked alike."""
    X = client.persist(da.random.default_rng(0).standard_normal((m, d), chunks=(ceil(m / chunks), d)))
    wait(X)  # so that what follows is computed where X is
    w = np.random.default_rng(1).standard_normal(d)
    z = X @ w / np.sqrt(d)
    rng = da.random.default_rng(2)
    y = z + rng.standard_normal(m, chunks=X.chunks[0])
    labels = (z + rng.logistic(size=m, chunks=X.chunks[0]) > 0.5).astype(int)
    y, labels = client.persist([y, labels])
    wait([y, labels])
    return X, y, labels


# ------------------------------------------------------------------------------------------------
# dask-ml
# ------------------------------------------------------------------------------------------------


def peers(client, quick):
    """To the optimum of the same objective: time, and how far above the best objective."""
    try:
        from dask_ml.linear_model import LinearRegression, LogisticRegression
    except ImportError:
        print("\ndask-ml is not installed: pip install dask-ml")
        return
    m, d = (100_000, 20) if quick else (400_000, 50)
    X, y, labels = table_on_workers(client, m, d, 8)
    in_memory = X.compute(), y.compute(), labels.compute()
    alpha = 1.0 / m  # dask-ml's C=1
    squares = {"DaskGDRegressor()": DaskGDRegressor(alpha=alpha)}
    logistic = {"DaskGDClassifier()": DaskGDClassifier(alpha=alpha, tol=1e-5)}
    for solver in ("admm", "lbfgs", "newton", "gradient_descent", "proximal_grad"):
        if solver in ("admm", "lbfgs"):
            squares[f"dask-ml LinearRegression({solver})"] = LinearRegression(solver=solver)
        if solver != "admm":  # takes a minute, and arrives where lbfgs does
            logistic[f"dask-ml LogisticRegression({solver})"] = LogisticRegression(solver=solver)
    for title, contestants, target, loss in (
        ("Least squares", squares, y, squared_loss),
        ("Logistic regression", logistic, labels, log_loss),
    ):
        memory = in_memory[1] if target is y else in_memory[2]
        fits = [lambda model=model, t=target: model.fit(X, t) for model in contestants.values()]
        times = alternate(*fits, rounds=3)
        objective = objective_of(loss, alpha)
        objectives = [objective(model, in_memory[0], memory) for model in contestants.values()]
        best = min(objectives)
        rows = [
            [name, show_seconds(seconds), show_ratio(seconds / times[0]), f"{(value - best) / best:.1e}"]
            for name, seconds, value in zip(contestants, times, objectives, strict=True)
        ]
        print_table(
            f"{title} + L2, {m:,} x {d}, 8 chunks", ["", "time", "", "above the best objective"], rows
        )


# ------------------------------------------------------------------------------------------------
# one process
# ------------------------------------------------------------------------------------------------


def cost(client, quick):
    """One full-batch iteration: two workers of one thread against one process of two threads."""
    rows = []
    for m, d in ((20_000, 20), (200_000, 100)) if quick else ((20_000, 20), (200_000, 100), (100_000, 500)):
        X, _, labels = table_on_workers(client, m, d, 4)
        memory = X.compute(), labels.compute()
        params = dict(solver="gd", learning_rate=1e-4, tol=None)

        def on_workers(n, X=X, labels=labels, params=params):
            DaskGDClassifier(**params, max_iter=n).fit(X, labels)

        def in_process(n, memory=memory, params=params):
            GDClassifier(**params, max_iter=n, n_jobs=2).fit(*memory)

        marks = []
        for n in (1, 1, 101):  # the first moves what later fits find where it is needed
            on_workers(n)
            marks.append(sent(client))
        per_pass = (marks[2] - marks[1] - (marks[1] - marks[0])) / 100
        ours, theirs = alternate_epochs(on_workers, in_process, rounds=3)
        rows.append(
            [f"{m:,} x {d}", show_seconds(ours), show_seconds(theirs), show_seconds(ours - theirs),
             f"{max(per_pass, 0) / 1e3:.1f} kB", f"{X.nbytes / 1e6:.0f} MB"]
        )  # fmt: skip
    print_table(
        "Logistic loss, one gradient",
        ["X", "2 workers", "1 process", "more", "sent by workers", "X has"],
        rows,
    )


def sent(client):
    return sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())


# ------------------------------------------------------------------------------------------------
# a terabyte
# ------------------------------------------------------------------------------------------------


def estimate(client, quick):
    """1 TB of float64 on 100 machines like this one, from what is measured here.

    Time of a pass = compute of a machine's share + what Dask takes for a pass of no work + tasks of the
    scheduler + numbers through the network, up and down a tree of fan-in 8.
    """
    client.gather(client.map(abs, range(200), pure=False))
    begin = perf_counter()
    client.gather(client.map(abs, range(1000), pure=False))
    per_task = (perf_counter() - begin) / 1000
    X, _, labels = table_on_workers(client, 200, 5, 2)
    idle = DaskGDClassifier(solver="gd", learning_rate=1e-4, tol=None)
    (latency,) = alternate_epochs(lambda n: idle.set_params(max_iter=n).fit(X, labels), rounds=3)
    rows = []
    for d in (100, 1000):
        m = (20_000_000 if quick else 40_000_000) // d
        problem = local_problem(m, d)
        theta = np.zeros((1, d + 1))
        one_pass, squares = alternate(
            lambda p=problem, t=theta: p.value_and_grad(t), lambda p=problem: moments_of_all(p), rounds=3
        )
        share = TERABYTE / WORKERS / problem.X.nbytes  # of a machine, in units of what was measured
        levels = ceil(log(WORKERS, 8))
        dependencies = TERABYTE / CHUNK
        overhead = latency + (WORKERS + dependencies / 10) * per_task  # a dependency is no task: a tenth
        vector, matrix = 8 * (d + 1), 8 * (d + 1) ** 2
        pass_time = share * one_pass + overhead + levels * 8 * vector / NETWORK
        matrix_time = levels * 8 * matrix / NETWORK
        squares_time = share * squares + overhead + matrix_time
        rows.append(
            [f"{TERABYTE / 8 / d / 1e6:,.0f} million x {d}", f"{problem.X.nbytes / one_pass / 1e9:.1f} GB/s",
             show_seconds(pass_time), f"{WORKERS * 2 * vector / 1e6:.2f} MB", show_seconds(squares_time),
             f"{WORKERS * matrix / 1e6:.0f} MB", show_seconds(PASSES * pass_time + MATRICES * matrix_time)]
        )  # fmt: skip
    print_table(
        f"Estimate: 1 TB of float64 on {WORKERS} machines like this one, {NETWORK / 1.25e8:.0f} Gbit/s",
        ["X", "a pass here reads", "a pass there", "moves", "least squares", "moves",
         f"logistic: {PASSES} passes, {MATRICES} matrices of few rows"],
        rows,
        note=f"Measured: {show_seconds(latency)} for a pass of no work, {show_seconds(per_task)} per task. "
        "Reading the terabyte into the machines' memory is not counted.",
    )  # fmt: skip


def local_problem(m, d):
    X = np.random.default_rng(0).standard_normal((m, d))
    Y = np.where(X[:, :1].T > 0, 1.0, -1.0)
    loss = classification_loss("log_loss", 2)
    return LinearProblem(X, Y, None, loss, Penalty(), k=1, fit_intercept=True, n_threads=2)


SECTIONS = {"peers": peers, "cost": cost, "estimate": estimate}


def main():
    options = command_line(__doc__, SECTIONS)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        run_sections(options, lambda name: SECTIONS[name](client, options.quick))


if __name__ == "__main__":
    main()
