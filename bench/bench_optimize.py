"""Descent on any function, measured: ``python bench/bench_optimize.py [--quick] [--only SECTION ...]``.

In: the test functions of the tests, with gradients written down. Out: Markdown tables. All contestants get
the same function, gradient, start and tolerance (largest component of the gradient 1e-6), and are timed in
turn in one process; the value and the gradient that each reached stand beside its time.
"""

import sys
from pathlib import Path

import numpy as np
from _measure import alternate, main, print_table, show_ratio, show_seconds
from scipy.optimize import minimize

from fastgd.optimize import gradient_descent, multi_start

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from functions import FUNCTIONS, himmelblau, himmelblau_gradient

try:
    import torch
except ImportError:
    torch = None

TOL, MOST = 1e-6, 20_000
RULES = {  # solver -> the same rule of torch.optim
    "gd": lambda p, lr: torch.optim.SGD(p, lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "adagrad": lambda p, lr: torch.optim.Adagrad(p, lr, eps=1e-10),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr, alpha=0.999, eps=1e-8),
    "adam": lambda p, lr: torch.optim.Adam(p, lr, eps=1e-8),
}


class Counted:
    """A test function that counts its evaluations."""

    def __init__(self, function):
        self.function, self.values, self.gradients = function, 0, 0

    def f(self, x):
        self.values += 1
        return self.function.f(x)

    def gradient(self, x):
        self.gradients += 1
        return self.function.gradient(x)


def ours(solver):
    return lambda c, x: gradient_descent(c.f, x, jac=c.gradient, solver=solver, max_iter=MOST, tol=TOL).x


def scipys(method, **options):
    options = {"gtol": TOL, "maxiter": MOST, **options}
    return lambda c, x: minimize(c.f, x, jac=c.gradient, method=method, options=options).x


def torchs(make, most=MOST):
    """A loop as users of torch write it, with the same gradient, until that is small."""

    def run(c, x):
        p = torch.tensor(x, requires_grad=True)
        optimizer = make([p])

        def closure():
            point = p.detach().numpy()
            p.grad = torch.from_numpy(c.gradient(point))
            return torch.tensor(c.f(point))

        for _ in range(most):
            x = p.detach().numpy().copy()
            optimizer.step(closure)
            if most > 1 and p.grad.abs().max() <= TOL:
                return x  # p has gone on from there
        return p.detach().numpy().copy()

    return run


def contestants():
    runs = {
        "fastgd gd": ours("gd"),
        "fastgd momentum": ours("momentum"),
        "fastgd nesterov": ours("nesterov"),
        "fastgd adam": ours("adam"),
        "SciPy CG": scipys("CG"),
        "SciPy L-BFGS-B": scipys("L-BFGS-B", ftol=0, maxfun=2 * MOST),
    }
    if torch is not None:
        lbfgs = dict(max_iter=MOST, tolerance_grad=TOL, tolerance_change=0, line_search_fn="strong_wolfe")
        runs["torch LBFGS"] = torchs(lambda p: torch.optim.LBFGS(p, **lbfgs), 1)
        runs["torch Adam, rate 0.01"] = torchs(lambda p: torch.optim.Adam(p, 0.01))
    return runs


def functions(quick):
    """To the minimum: evaluations, time, and how far the value is above the lowest known."""
    for name in ["quadratic 1e2", "beale"] if quick else FUNCTIONS:
        race(name, FUNCTIONS[name])


def race(name, function):
    runs, x0 = contestants(), np.array(function.start)
    lowest = min(function.f(np.array(minimum)) for minimum in function.minima)
    times = alternate(*(lambda run=run: run(function, x0) for run in runs.values()), rounds=3)
    rows = []
    for (contestant, run), seconds in zip(runs.items(), times, strict=True):
        counted = Counted(function)
        x = run(counted, x0)
        gradient = np.abs(function.gradient(x)).max()
        there = f"{gradient:.1e}" if gradient <= TOL else f"{gradient:.1e} *not there*"
        evaluations = f"{counted.values} / {counted.gradients}"
        rows.append([contestant, evaluations, show_seconds(seconds), f"{function.f(x) - lowest:.1e}", there])
    header = ["", "values / gradients", "time", "above the minimum", "gradient"]
    print_table(f"{name}, {x0.size} variables", header, rows)


def steps(quick):
    """One step of each rule at the same rate; the points reached are compared."""
    if torch is None:
        print("\ntorch is not installed.")
        return
    count, rows = (50 if quick else 500), []
    for n in (2, 1_000, 100_000):
        curvature = np.linspace(1, 2, n)
        for solver, make in RULES.items():

            def fastgd(solver=solver, curvature=curvature, n=n):
                return gradient_descent(
                    lambda x: (x @ (curvature * x) / 2, curvature * x), np.ones(n), jac=True,
                    solver=solver, learning_rate=1e-3, max_iter=count, tol=None,
                ).x  # fmt: skip

            def theirs(make=make, curvature=curvature, n=n):
                p = torch.ones(n, dtype=torch.float64, requires_grad=True)
                optimizer = make([p], 1e-3)
                for _ in range(count):
                    x = p.detach().numpy()
                    value, p.grad = x @ (curvature * x) / 2, torch.from_numpy(curvature * x)
                    optimizer.step()
                    if not np.isfinite(value):
                        break
                return p.detach().numpy()

            a, b = alternate(fastgd, theirs, rounds=3)
            difference = np.abs(fastgd() - theirs()).max()
            row = [f"{n:,}", solver, show_seconds(a / count), show_seconds(b / count), show_ratio(b / a)]
            rows.append([*row, f"{difference:.0e}"])
    header = ["variables", "rule", "fastgd", "torch.optim", "fastgd is", "difference"]
    print_table("One step, with the value and gradient of a quadratic", header, rows)


def starts(quick):
    """Himmelblau's function from many points, together and one after the other."""
    rows = []
    for n_starts in (20,) if quick else (20, 200, 2_000):
        X = np.random.default_rng(0).uniform(-5, 5, size=(n_starts, 2))

        def together(X=X):
            return multi_start(himmelblau, X, jac=himmelblau_gradient, vectorized=True).funs

        def one_by_one(X=X):
            return multi_start(himmelblau, X, jac=himmelblau_gradient).funs

        def scipys(X=X):
            return [minimize(himmelblau, x, jac=himmelblau_gradient, method="L-BFGS-B").fun for x in X]

        runs = together, one_by_one, scipys
        times = alternate(*runs, rounds=3)
        worst = ", ".join(f"{np.max(run()):.0e}" for run in runs)
        rows.append([n_starts, *map(show_seconds, times), worst])
    header = ["starts", "vectorized=True", "vectorized=False", "L-BFGS-B in a loop", "highest end of each"]
    print_table("Many starts", header, rows)


SECTIONS = dict(functions=functions, steps=steps, starts=starts)

if __name__ == "__main__":
    main(__doc__, SECTIONS)
