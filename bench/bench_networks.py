"""Networks, measured: ``python bench/bench_networks.py [--quick] [--only SECTION ...]``.

In: nothing but seeds; MNIST is read where it is present, and its rows are left out where it is not.
Out: Markdown tables: one epoch, the activation kernels, and accuracy with defaults. Every time is
taken in one process, the sides in turn (A B A B), medians, with the same data, dtype, architecture,
batch size, update rule and number of threads; what was computed (loss, values, accuracy) is compared
beside the time.
"""

from math import ceil
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from _data import dense, mnist
from _measure import (
    alternate,
    alternate_epochs,
    command_line,
    n_cpus,
    print_table,
    run_sections,
    show_ratio,
    show_seconds,
)
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fastgd import GDClassifier, GDRegressor, kernels

ALPHA = 1e-4
N_EPOCHS = 5  # after so many, the losses are compared
KERNEL_SHAPES = [(200, 100), (2_000, 500)]
SOFTMAX_SHAPES = [(60_000, 10), (2_000, 1_000)]
NO_MNIST = "\nMNIST is not here (see MNIST in _data.py): its rows are left out."


class Setting(NamedTuple):
    """One row of the table of epochs."""

    data: str
    hidden: tuple
    batch_size: int
    solver: str
    learning_rate: float
    dtype: str
    target: float = 0.0  # how many times faster than both peers is wanted


SETTINGS = [
    Setting("digits", (32,), 32, "gd", 0.1, "float64", target=10),
    Setting("digits", (100,), 200, "adam", 1e-3, "float64"),
    *(
        Setting("MNIST", (100,), size, solver, rate, "float32", target=2)
        for size in (64, 200)
        for solver, rate in (("gd", 0.1), ("adam", 1e-3))
    ),
    Setting("MNIST", (512,), 256, "gd", 0.1, "float32", target=1.3),
    Setting("waves", (64, 64), 32, "adam", 1e-3, "float64"),
]


class TorchNetwork:
    """The training loop of PyTorch's tutorials, with the fit and predict of the other two.

    Weights start as theirs do (Glorot), and decay as theirs do (the intercepts do not).
    """

    def __init__(self, setting):
        self.setting = setting

    def fit(self, X, y, n_epochs):
        hidden, batch_size = self.setting.hidden, self.setting.batch_size
        torch.manual_seed(0)
        X, y = torch.from_numpy(X), torch.from_numpy(y)
        self.classes = y.dtype == torch.int64
        criterion = torch.nn.CrossEntropyLoss() if self.classes else half_squared_error
        sizes = [X.shape[1], *hidden, int(y.max()) + 1 if self.classes else 1]
        layers = []
        for n_in, n_out in zip(sizes, sizes[1:], strict=False):
            layers += [torch.nn.Linear(n_in, n_out, dtype=X.dtype), torch.nn.Tanh()]
            torch.nn.init.xavier_uniform_(layers[-2].weight)
            torch.nn.init.zeros_(layers[-2].bias)
        self.model = torch.nn.Sequential(*layers[:-1])
        optimizer = self.optimizer()
        for _ in range(n_epochs):
            order = torch.randperm(len(X))
            for start in range(0, len(X), batch_size):
                batch = order[start : start + batch_size]
                optimizer.zero_grad()
                loss = criterion(self.model(X[batch]), y[batch])
                loss.backward()
                optimizer.step()
        return self

    def optimizer(self):
        named = list(self.model.named_parameters())
        groups = [
            dict(params=[p for name, p in named if "weight" in name], weight_decay=ALPHA),
            dict(params=[p for name, p in named if "bias" in name]),
        ]
        rule = torch.optim.Adam if self.setting.solver == "adam" else torch.optim.SGD
        return rule(groups, lr=self.setting.learning_rate)

    @torch.no_grad()
    def predict_proba(self, X):
        return torch.softmax(self.model(torch.from_numpy(X)), dim=1).numpy()

    @torch.no_grad()
    def predict(self, X):
        return self.model(torch.from_numpy(X)).numpy()[:, 0]


def half_squared_error(output, y):
    return 0.5 * torch.nn.functional.mse_loss(output[:, 0], y)


def contestants(setting, classes):
    """``fit(X, y, n_epochs)`` of MLPClassifier / MLPRegressor, PyTorch and fastgd, set alike."""
    same = dict(hidden_layer_sizes=setting.hidden, activation="tanh", batch_size=setting.batch_size)
    same.update(random_state=0)
    # MLPClassifier divides alpha by the number of rows of the batch.
    theirs = dict(solver=setting.solver, learning_rate_init=setting.learning_rate)
    theirs.update(alpha=ALPHA * setting.batch_size, tol=0, n_iter_no_change=10**6, **same)
    if setting.solver == "gd":
        theirs.update(solver="sgd", momentum=0, nesterovs_momentum=False)
    ours = dict(solver=setting.solver, learning_rate=setting.learning_rate, alpha=ALPHA, tol=None)
    peer, twin = (MLPClassifier, GDClassifier) if classes else (MLPRegressor, GDRegressor)

    def fit_of(estimator):
        return lambda X, y, n: estimator.set_params(max_iter=n).fit(X, y)

    return [fit_of(peer(**theirs)), TorchNetwork(setting).fit, fit_of(twin(**ours, **same))]


def training_loss(model, X, y):
    """Mean cross-entropy of labels, half the mean squared error of numbers."""
    if y.dtype.kind == "i":
        return log_loss(y, model.predict_proba(X))
    return 0.5 * np.mean((model.predict(X) - y) ** 2)


def load(name, dtype, quick):
    """Training rows X and labels (int) or numbers y; None where the file is missing."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return (X / 16).astype(dtype), y.astype(np.int64)
    if name == "MNIST":
        return None if (arrays := mnist()) is None else (a[: 2_000 if quick else None] for a in arrays)
    X = dense(2_000 if quick else 100_000, 20, dtype)  # waves: a target that no linear model reaches
    rng = np.random.default_rng(1)
    W = (rng.standard_normal((20, 5)) / np.sqrt(20)).astype(dtype)
    return X, (np.sin(2 * X @ W).sum(axis=1) + 0.1 * rng.standard_normal(len(X))).astype(dtype)


def epoch(quick):
    """One epoch of the same updates: MLPClassifier or MLPRegressor, PyTorch, fastgd."""
    header = "network|rows|batch|optimizer|MLP|PyTorch|fastgd|vs MLP|vs PyTorch|loss of the three".split("|")
    rows, verdicts = [], []
    for setting in SETTINGS:
        if (table := load(setting.data, setting.dtype, quick)) is None:
            continue
        X, y = table
        classes = y.dtype.kind == "i"
        fits = contestants(setting, classes)
        runs = [lambda n, fit=fit, X=X, y=y: fit(X, y, n) for fit in fits]
        options = dict(rounds=3, long_enough=0.05) if quick else {}
        mlp, pytorch, ours = alternate_epochs(*runs, **options)
        losses = [training_loss(run(N_EPOCHS), X, y) for run in runs]
        sizes = [X.shape[1], *setting.hidden, y.max() + 1 if classes else 1]
        network = f"{setting.data} {'-'.join(map(str, sizes))} {setting.dtype}"
        optimizer = f"{'SGD' if setting.solver == 'gd' else 'Adam'} {setting.learning_rate:g}"
        cells = [network, f"{len(X):,}", setting.batch_size, optimizer]
        cells += [show_seconds(mlp), show_seconds(pytorch), show_seconds(ours)]
        cells += [show_ratio(mlp / ours), show_ratio(pytorch / ours)]
        rows.append([*cells, " / ".join(f"{loss:.4f}" for loss in losses)])
        if setting.target:
            verdict = "reached" if min(mlp, pytorch) >= setting.target * ours else "missed"
            what = f"{network}, batch {setting.batch_size}, {optimizer}"
            verdicts.append(f"- {what}, >= {setting.target:g}x both: {verdict}")
    note = (
        "A long fit minus a fit of one epoch. tanh; alpha 1e-4; MLP is MLPClassifier or MLPRegressor.\n"
        f"loss: of MLP, PyTorch and fastgd on the training rows after {N_EPOCHS} epochs; mean\n"
        "cross-entropy, or half the mean squared error. Initial weights and row orders differ."
    )
    print_table(f"One epoch, threads of each: {torch.get_num_threads()}", header, rows, note)
    print("\nTargets:\n", *verdicts, sep="\n")
    if mnist() is None:
        print(NO_MNIST)


def kernel(quick):
    """Activations forward and backward, ns per element: NumPy, PyTorch, fastgd."""
    header = "kernel|Z|NumPy|PyTorch|fastgd|vs NumPy|vs PyTorch|rel. difference".split("|")
    shapes = dict(tanh=KERNEL_SHAPES, logistic=KERNEL_SHAPES, softmax=SOFTMAX_SHAPES)
    rows = []
    for name, runs_of in dict(tanh=tanh_runs, logistic=logistic_runs, softmax=softmax_runs).items():
        for m, k in shapes[name]:
            for dtype in ("float64", "float32"):
                Z = 3 * dense(m, k, dtype)
                gradient = dense(m, k, dtype, seed=1)
                number = ceil((1e5 if quick else 2e6) / Z.size)
                for direction, runs in runs_of(Z, gradient).items():
                    difference = relative_difference(runs)
                    times = alternate(*runs, rounds=3 if quick else 15, number=number)
                    numpy, pytorch, ours = times
                    cells = [f"{1e9 * time / Z.size:.3f}" for time in times]
                    cells += [show_ratio(numpy / ours), show_ratio(pytorch / ours), f"{difference:.0e}"]
                    rows.append([f"{name} {direction}", f"{m:,} x {k:,} {dtype}", *cells])
    note = (
        "NumPy: np.tanh(Z, out=A), A = 1 / (1 + np.exp(-Z)) and scipy.special.softmax; backward, the\n"
        "formula in NumPy. PyTorch and fastgd write into a given array. rel. difference: from NumPy."
    )
    title = f"Activation kernels, ns per element, threads of each: at most {torch.get_num_threads()}"
    print_table(title, header, rows, note)


def relative_difference(runs):
    expected, _, result = (np.array(run()) for run in runs)
    return np.max(np.abs(result - expected)) / np.max(np.abs(expected))


def tanh_runs(Z, dA):
    A, out = np.tanh(Z), np.empty_like(Z)
    tZ, tA, tdA, tout = map(torch.from_numpy, (Z, A, dA, np.empty_like(Z)))
    backward = torch.ops.aten.tanh_backward.grad_input
    return dict(
        forward=[
            lambda: np.tanh(Z, out=out),
            lambda: torch.tanh(tZ, out=tout),
            lambda: kernels.tanh_forward(Z, out=out),
        ],
        backward=[
            lambda: dA * (1 - A * A),
            lambda: backward(tdA, tA, grad_input=tout),
            lambda: kernels.tanh_backward(A, dA, out=out),
        ],
    )


def logistic_runs(Z, dA):
    A, out = 1 / (1 + np.exp(-Z)), np.empty_like(Z)
    tZ, tA, tdA, tout = map(torch.from_numpy, (Z, A, dA, np.empty_like(Z)))
    backward = torch.ops.aten.sigmoid_backward.grad_input
    return dict(
        forward=[
            lambda: 1 / (1 + np.exp(-Z)),
            lambda: torch.sigmoid(tZ, out=tout),
            lambda: kernels.logistic_forward(Z, out=out),
        ],
        backward=[
            lambda: dA * (A * (1 - A)),
            lambda: backward(tdA, tA, grad_input=tout),
            lambda: kernels.logistic_backward(A, dA, out=out),
        ],
    )


def softmax_runs(Z, dP):
    P, out = softmax(Z, axis=1), np.empty_like(Z)
    tZ, tP, tdP, tout = map(torch.from_numpy, (Z, P, dP, np.empty_like(Z)))
    backward = torch.ops.aten._softmax_backward_data.out
    return dict(
        forward=[
            lambda: softmax(Z, axis=1),
            lambda: torch.softmax(tZ, dim=1, out=tout),
            lambda: kernels.softmax_forward(Z, out=out),
        ],
        backward=[
            lambda: P * (dP - np.sum(P * dP, axis=1, keepdims=True)),
            lambda: backward(tdP, tP, 1, tP.dtype, grad_input=tout),
            lambda: kernels.softmax_backward(P, dP, out=out),
        ],
    )


CLASSIFIERS = {
    "GDClassifier": lambda seed: GDClassifier(hidden_layer_sizes=(100,), random_state=seed),
    "MLPClassifier tanh": lambda seed: MLPClassifier(activation="tanh", random_state=seed),
    "MLPClassifier relu": lambda seed: MLPClassifier(random_state=seed),
}


def accuracy(quick):
    """Accuracy with defaults, one hidden layer of 100, over seeds: MNIST, and folds of digits."""
    seeds = range(1 if quick else 3)
    header = ["", "accuracy", "lowest", "highest", "time", "epochs"]
    if mnist() is None:
        print(NO_MNIST)
    else:
        X, y = load("MNIST", "float32", quick)
        X_test, y_test = mnist(test=True)

        def on_mnist(model):
            model.fit(X, y)
            return model.score(X_test, y_test), model.n_iter_

        title = f"MNIST 784-100-10, {len(X):,} rows float32, accuracy on the {len(X_test):,} test digits"
        print_accuracy(title, header, {name: [make, on_mnist] for name, make in CLASSIFIERS.items()}, seeds)

    X, y = load_digits(return_X_y=True)

    def on_folds(model):
        return cross_val_score(model, X, y, cv=5).mean(), None

    rows = {}
    for name, make in CLASSIFIERS.items():
        rows[name] = [make, on_folds]
        scaled = [lambda seed, make=make: make_pipeline(StandardScaler(), make(seed)), on_folds]
        rows[f"StandardScaler, {name}"] = scaled
    print_accuracy("digits 64-100-10, accuracy over 5 folds", header[:-1], rows, seeds)


def print_accuracy(title, header, contests, seeds):
    """Each row: ``make(seed)`` builds a model, ``measure(model)`` gives its accuracy and epochs."""
    results = {name: [] for name in contests}
    for seed in seeds:  # in turn: a drift of the machine meets all alike
        for name, (make, measure) in contests.items():
            start = perf_counter()
            score, n_epochs = measure(make(seed))
            results[name].append([score, perf_counter() - start, n_epochs])
    rows = []
    for name, measured in results.items():
        scores, times, epochs = zip(*measured, strict=True)
        cells = [f"{score:.2%}" for score in (np.mean(scores), min(scores), max(scores))]
        cells += [show_seconds(np.median(times)), ", ".join(map(str, epochs))]
        rows.append([name, *cells][: len(header)])
    note = f"Defaults and hidden_layer_sizes=(100,); {len(seeds)} seed(s): mean accuracy, median time."
    print_table(title, header, rows, note)


SECTIONS = dict(epoch=epoch, kernel=kernel, accuracy=accuracy)


def main():
    threads = dict(type=int, default=min(2, n_cpus()), help="of every side, 2 unless told")
    options = command_line(__doc__, SECTIONS, threads=threads)
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, threads of each: {options.threads}")
    with threadpool_limits(options.threads):
        run_sections(options, lambda name: SECTIONS[name](options.quick))


if __name__ == "__main__":
    main()
