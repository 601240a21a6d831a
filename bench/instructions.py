"""Instructions of the hot kernels, counted by callgrind: a guard against slower code that no noise disturbs.

    python bench/instructions.py            compare with instructions.json: more than 10 % is an error
    python bench/instructions.py --renew    write instructions.json anew

Every kernel runs in a process of its own, on one thread, with the AVX2 kernels (valgrind knows no
AVX-512); what a process without work takes is subtracted. The counts hold for one compiler.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).with_suffix(".json")
GROWTH = 1.10


# ------------------------------------------------------------------------------------------------
# the work: about a hundred million instructions each
# ------------------------------------------------------------------------------------------------


def table(m, d, dtype=np.float64, order="C"):
    """Numbers of no meaning in [-1, 1), cheaply."""
    X = (np.arange(m * d) * 0.618034 % 2 - 1).reshape(m, d).astype(dtype)
    return np.asarray(X, order=order), np.where(X.sum(axis=1) > 0, 1, -1).astype(dtype)


def linear_problem(X, y, loss, l1=0.0):
    from fastgd._linear import LinearProblem
    from fastgd._losses import classification_loss, regression_loss
    from fastgd._penalties import Penalty

    loss = regression_loss(loss) if loss == "squared_error" else classification_loss(loss, 2)
    return LinearProblem(X, y[None], None, loss, Penalty(1e-4, l1), k=1, fit_intercept=True, n_threads=1)


def plan_for(problem, **settings):
    """What an estimator with these settings would do, all else being the estimators' defaults."""
    from fastgd._plan import make_plan

    defaults = dict(
        penalty="l2", alpha=1e-4, l1_ratio=0.15, hidden_layer_sizes=(), solver="gd", learning_rate=1e-3,
        eta0=0.01, power_t=0.25, momentum=0.9, beta_1=0.9, beta_2=0.999, preconditioner="auto",
        clip_norm=None, max_iter=1, tol=None, n_iter_no_change=5, average=False, shuffle=False,
    )  # fmt: skip
    return make_plan(SimpleNamespace(**defaults | settings), problem.loss, *problem.X.shape)


def gradient(m, d, loss="squared_error", dtype=np.float64, order="C", rounds=40):
    problem = linear_problem(*table(m, d, dtype, order), loss)
    for _ in range(rounds):
        problem.value_and_grad(np.full((1, d + 1), 0.01))


def gram(m, d):
    linear_problem(*table(m, d), "squared_error").hessian_bound(1.0)


def epochs(problem, theta, rounds, **settings):
    from fastgd._epochs import EpochState, run_epoch

    plan = plan_for(problem, **settings)
    state = EpochState.start(problem, plan, theta.astype(problem.X.dtype))
    for _ in range(rounds):
        run_epoch(problem, state, plan, np.arange(len(problem.X)))


def linear_epochs(m, d, loss, rounds, dtype=np.float64, **settings):
    from fastgd._coordinates import standardised

    problem = linear_problem(*table(m, d, dtype), loss, l1=1e-4 * (settings.get("penalty") == "l1"))
    if settings.get("preconditioner") == "diag":
        problem.coordinates = standardised(*problem.means_and_variances(), ridge=1e-4, fit_intercept=True)
    epochs(problem, np.zeros((1, d + 1)), rounds, **{"batch_size": 1} | settings)


def network_epochs(sizes, m, batch_size, rounds, dtype=np.float64, activation="tanh", **settings):
    from fastgd._losses import classification_loss
    from fastgd._network import Architecture, NetworkProblem
    from fastgd._penalties import Penalty

    X, _ = table(m, sizes[0], dtype)
    y = (np.arange(m) % sizes[-1]).astype(dtype)
    architecture = Architecture(sizes, activation, False, True)
    loss = classification_loss("log_loss", sizes[-1])
    problem = NetworkProblem(
        X, y[None], None, loss, Penalty(1e-4), architecture, batch_size=batch_size, n_threads=1
    )
    theta = architecture.initial(np.random.RandomState(0))
    epochs(problem, theta, rounds, batch_size=batch_size, hidden_layer_sizes=sizes[1:-1], **settings)


def descent(d, n_iter, **settings):
    """Full-batch iterations on the Gram matrix."""
    from fastgd._by_rule import by_rule
    from fastgd._epochs import EpochState
    from fastgd._monitor import Silent
    from fastgd._quadratic import QuadraticModel
    from fastgd._solvers import Result

    problem = linear_problem(*table(200, d), "squared_error")
    u = np.zeros((1, d + 1))
    plan = plan_for(problem, batch_size="full", **settings)
    model, state = QuadraticModel.gram_form(problem, u), EpochState.start(problem, plan, u)
    by_rule(model, plan, state, Result(u), Silent(max_iter=n_iter), tol=None)


WORK = {
    "nothing": lambda: None,
    "gradient, 5,000 x 10": lambda: gradient(5000, 10, rounds=300),
    "gradient, 2,000 x 100": lambda: gradient(2000, 100, rounds=300),
    "gradient, 500 x 400": lambda: gradient(500, 400, rounds=300),
    "gradient, 2,000 x 100, Fortran": lambda: gradient(2000, 100, order="F", rounds=300),
    "gradient, 2,000 x 100, float32": lambda: gradient(2000, 100, dtype=np.float32, rounds=500),
    "gradient of log loss, 5,000 x 10": lambda: gradient(5000, 10, "log_loss", rounds=200),
    "Gram matrix, 2,000 x 200": lambda: gram(2000, 200),
    "3,000 iterations of Adam on a Gram matrix of 100": lambda: descent(100, 3000, solver="adam"),
    "stochastic epoch, 5,000 x 10": lambda: linear_epochs(5000, 10, "squared_error", 80),
    "stochastic epoch, 1,000 x 100": lambda: linear_epochs(1000, 100, "squared_error", 100),
    "stochastic epoch, 1,000 x 100, float32": lambda: linear_epochs(
        1000, 100, "squared_error", 200, dtype=np.float32
    ),
    "stochastic epoch of log loss, 5,000 x 10": lambda: linear_epochs(5000, 10, "log_loss", 60),
    "stochastic epoch with L1, 1,000 x 100": lambda: linear_epochs(1000, 100, "hinge", 40, penalty="l1"),
    "averaged stochastic epoch in scaled columns, 1,000 x 100": lambda: linear_epochs(
        1000, 100, "log_loss", 60, preconditioner="diag", average=True
    ),
    "epoch of Adam, batches of 32, 2,000 x 50": lambda: linear_epochs(
        2000, 50, "log_loss", 100, batch_size=32, solver="adam"
    ),
    "network 64-32-10, batches of 32": lambda: network_epochs((64, 32, 10), 640, 32, 10),
    "network 64-32-10, batches of 32, float32, relu, Adam": lambda: network_epochs(
        (64, 32, 10), 640, 32, 10, dtype=np.float32, activation="relu", solver="adam"
    ),
}


def work(name):
    """Run one piece of WORK without scikit-learn, whose import would take valgrind half a minute."""
    sys.modules["fastgd"] = package = ModuleType("fastgd")
    package.__path__ = [str(ROOT / "fastgd")]
    sys.modules["sklearn"] = ModuleType("sklearn")
    sys.modules["sklearn.exceptions"] = exceptions = ModuleType("sklearn.exceptions")
    exceptions.ConvergenceWarning = UserWarning
    import fastgd._epochs
    import fastgd._linear
    import fastgd._plan
    import fastgd._solvers  # noqa: F401

    WORK[name]()


# ------------------------------------------------------------------------------------------------
# the counting
# ------------------------------------------------------------------------------------------------


def count(name):
    """Instructions of a process that does this work."""
    env = os.environ | {
        "FASTGD_CPU": "avx2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
        "OPENBLAS_CORETYPE": "Haswell",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            sys.executable,
            __file__,
        ]
        done = subprocess.run([*command, "--work", name], env=env, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{name}: {done.stderr}")
    return int(found[1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--work", choices=WORK)
    args = parser.parse_args()
    if args.work:
        return work(args.work)
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed: no instructions can be counted.")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(WORK, pool.map(count, WORK), strict=True))
    start = counts.pop("nothing")
    counts = {name: round((total - start) / 1e6, 1) for name, total in counts.items()}
    version = subprocess.run(["cc", "--version"], capture_output=True, text=True)
    compiler = version.stdout.partition("\n")[0]
    if args.renew:
        RECORD.write_text(json.dumps({"compiler": compiler, "millions": counts}, indent=1) + "\n")
    record = json.loads(RECORD.read_text())
    print("| kernel | recorded | now | ratio |\n|---|---|---|---|\n", end="")
    grown = []
    for name, now in counts.items():
        then = record["millions"].get(name)
        ratio = now / then if then else float("nan")
        grown += [name] if not ratio <= GROWTH else []
        print(f"| {name} | {then} M | {now} M | {ratio:.2f} |")
    if compiler != record["compiler"]:
        print(f"Recorded with {record['compiler']}, built with {compiler}: the ratios mean little.")
    elif grown:
        sys.exit(
            f"More than {GROWTH - 1:.0%} more instructions than recorded: {'; '.join(grown)}. "
            "Mend it, or run with --renew and say why in the commit."
        )


if __name__ == "__main__":
    main()
