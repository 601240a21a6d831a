"""Grid searches, measured: ``python bench/bench_search.py [--quick] [--only SECTION ...] [--plot FILE]``

In: nothing but seeds; MNIST is read where it is present. Out: Markdown tables. Searches run in one process,
in turn; beside the times stand the scores that they found. Peers are scikit-learn's GridSearchCV over
SGDRegressor and SGDClassifier with two jobs, and over the very estimator that GDGridSearchCV trains, whose
scores must be the same. Refits are part of every time but those of `epochs` and `growth`.
"""

import numpy as np
from _data import dense, linear_target, mnist
from _measure import alternate, command_line, print_table, run_sections, seconds_of, show_ratio, show_seconds
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV

from fastgd import GDClassifier, GDGridSearchCV, GDRegressor

NUMBERS = [1, 2, 5, 10, 20, 50, 100, 200]
LEAST_SQUARES = GDRegressor(solver="gd")  # w <- w - a X^T (X w - y) / m
LOGISTIC = GDClassifier(max_iter=100)  # accelerated


def table_of_rows(quick):
    X = dense(5_000 if quick else 50_000, 50)
    y = linear_target(X)
    return X, y, (y > 0).astype(int)


def rates(quick):
    """20 learning rates x 5 folds: all at once, one after the other, and by stochastic descent."""
    X, y, labels = table_of_rows(quick)
    title = "20 learning rates x 5 folds, {:,} x {}".format(*X.shape)
    header = "model|search|time|GDGridSearchCV is|best score|best rate|largest difference of scores".split(
        "|"
    )
    rows = []
    sgd = dict(learning_rate="constant", random_state=0)
    for name, ours, theirs, target, grid, etas in [
        ("least squares", LEAST_SQUARES, SGDRegressor(**sgd), y, np.logspace(-1.7, 0.2, 20), (-5.5, -2)),
        (
            "logistic",
            LOGISTIC,
            SGDClassifier(loss="log_loss", **sgd),
            labels,
            np.logspace(-0.7, 0.7, 20),
            (-5, -1),
        ),
    ]:
        eta0 = np.logspace(*etas, 20)
        searches = {
            "GDGridSearchCV": GDGridSearchCV(ours, {"learning_rate": grid}),
            "GridSearchCV, the same estimator": GridSearchCV(ours, {"learning_rate": grid}),
            f"GridSearchCV({type(theirs).__name__}, n_jobs=2)": GridSearchCV(
                theirs, {"eta0": eta0}, n_jobs=2
            ),
        }
        times = alternate(*(lambda s=s, t=target: s.fit(X, t) for s in searches.values()), rounds=3)
        rows += comparison(name, searches, times)
    print_table(title, header, rows)


def epochs(quick):
    """20 learning rates x 5 folds, 10 epochs of single rows or batches of 32 in the order of one seed."""
    header = "model|batch|search|time|GDGridSearchCV is|best score|best rate|largest difference of scores"
    settings = dict(max_iter=10, tol=None, random_state=0)
    for m, d in [(5_000, 50)] if quick else [(50_000, 50), (20_000, 1_000)]:
        X, rows = dense(m, d), []
        y = linear_target(X)
        for name, ours, theirs, target in [
            ("least squares", GDRegressor(**settings), SGDRegressor(**settings), y),
            ("logistic", GDClassifier(**settings), SGDClassifier(loss="log_loss", **settings), y > 0),
        ]:
            for batch_size in (1, 32):
                grid = {"learning_rate": np.logspace(-3.5, -0.5, 20) / d * batch_size**0.5}
                model = ours.set_params(batch_size=batch_size)
                searches = {
                    "GDGridSearchCV": GDGridSearchCV(model, grid, refit=False),
                    "GridSearchCV, the same estimator": GridSearchCV(model, grid, refit=False),
                    "the same, n_jobs=2": GridSearchCV(model, grid, refit=False, n_jobs=2),
                }
                if batch_size == 1:
                    peer, eta0 = theirs.set_params(learning_rate="constant"), {"eta0": grid["learning_rate"]}
                    title = f"GridSearchCV({type(peer).__name__}, n_jobs=2)"
                    searches[title] = GridSearchCV(peer, eta0, refit=False, n_jobs=2)
                runs = (lambda s=s, X=X, t=target: s.fit(X, t) for s in searches.values())
                table = comparison(name, searches, alternate(*runs, rounds=3))
                rows += [[first, batch_size, *rest] for first, *rest in table]
        print_table(f"Mini-batches: 20 learning rates x 5 folds, {m:,} x {d:,}", header.split("|"), rows)


def comparison(name, searches, times):
    """Rows of a table; differences are those of all test scores from the first search's."""
    rows, first = [], None
    for (search_name, search), time in zip(searches.items(), times, strict=True):
        scores = np.array([search.cv_results_[f"split{f}_test_score"] for f in range(search.n_splits_)])
        difference = ""
        if first is None:
            first = scores
        elif search.estimator.__module__.startswith("fastgd"):
            difference = f"{np.nanmax(np.abs(scores - first)):.0e}"
        ratio = show_ratio(time / times[0]) if len(rows) else ""
        best = f"{search.best_score_:.6f}", f"{next(reversed(search.best_params_.values())):.3g}"
        rows.append([name, search_name, show_seconds(time), ratio, *best, difference])
    return rows


def digits(quick):
    """Softmax on MNIST: 10 learning rates x 5 alphas x 5 folds, one run each."""
    data = mnist()
    if data is None:
        print("\nMNIST is not there.")
        return
    X, y = (part[: 2_000 if quick else None] for part in data)
    grid = {"alpha": np.logspace(-6, -2, 5), "learning_rate": np.logspace(-3, -0.5, 10)}
    model = GDClassifier(max_iter=20)
    searches = {
        "GDGridSearchCV": GDGridSearchCV(model, grid),
        "GridSearchCV, the same estimator": GridSearchCV(model, grid),
    }
    times = [seconds_of(lambda s=s: s.fit(X, y)) for s in searches.values()]
    header = "model|search|time|GDGridSearchCV is|best score|best rate|largest difference of scores".split(
        "|"
    )
    title = "MNIST, {:,} x {} float32, softmax, 20 iterations: 250 fits".format(*X.shape)
    print_table(title, header, comparison("softmax", searches, times))


def growth(quick, plot=None):
    """Cost against the number of candidates, from 1 to 200, 5 folds, no refit."""
    X, y, labels = table_of_rows(quick)
    columns = {
        "least squares": (LEAST_SQUARES, y, -1.7, 0.2),
        "least squares, momentum": (GDRegressor(solver="momentum"), y, -2, 0),
        "logistic": (LOGISTIC, labels, -0.7, 0.7),
    }
    times = {name: [] for name in columns}
    for n in NUMBERS[: 6 if quick else None]:
        runs = []
        for model, target, low, high in columns.values():
            grid = {"learning_rate": np.logspace(low, high, n) if n > 1 else [10 ** ((low + high) / 2)]}
            runs.append(lambda m=model, g=grid, t=target: GDGridSearchCV(m, g, refit=False).fit(X, t))
        for name, time in zip(columns, alternate(*runs, rounds=3), strict=True):
            times[name].append(time)
    numbers = NUMBERS[: len(next(iter(times.values())))]
    rows = []
    for i, n in enumerate(numbers):
        cells = [f"{show_seconds(t[i])} ({show_ratio(t[i] / t[0])})" for t in times.values()]
        rows.append([n, *cells])
    title = "Cost against the number of candidates, 5 folds, {:,} x {}".format(*X.shape)
    print_table(title, ["candidates", *times], rows, "In brackets: as a multiple of one candidate.")
    if plot:
        draw(numbers, times, plot)


def draw(numbers, times, file):
    """Log-log; a straight line for what linear growth would be."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots()
    for name, seconds in times.items():
        ax.loglog(numbers, seconds, "o-", label=name)
        ax.loglog(numbers, [seconds[0] * n for n in numbers], ":", color=ax.lines[-1].get_color())
    ax.set(xlabel="candidates", ylabel="seconds", title="A search of n candidates; dotted: n searches of one")
    ax.legend()
    figure.savefig(file)


SECTIONS = dict(rates=rates, epochs=epochs, digits=digits, growth=growth)


def main():
    plot = dict(metavar="FILE", help="picture of `growth` (needs matplotlib)")
    options = command_line(__doc__, SECTIONS, plot=plot)
    more = {"growth": [options.plot]}
    run_sections(options, lambda name: SECTIONS[name](options.quick, *more.get(name, [])))


if __name__ == "__main__":
    main()
