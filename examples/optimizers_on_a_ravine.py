"""The update rules on Rosenbrock's function: into the ravine at once, and then along it to (1, 1).

    python examples/optimizers_on_a_ravine.py [DIRECTORY]        writes optimizers_on_a_ravine.png

At its end the ravine is curved 2,500 times as much across as along. A rate small enough for the walls crawls
along the floor; momentum gathers speed there, and swings up the walls before it does; the rules that divide
by the root of squared gradients cross the walls at an angle. The last descent has no rate to choose.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from fastgd.optimize import gradient_descent

START, STEPS = (-1.2, 1.0), 300
RULES = {  # name -> learning rate, colour of Okabe & Ito, line style
    "gd": (0.0015, "#000000", ":"),
    "momentum": (0.0005, "#E69F00", "-"),
    "nesterov": (0.0005, "#56B4E9", "--"),
    "adagrad": (0.5, "#009E73", "-"),
    "rmsprop": (0.01, "#CC79A7", "--"),
    "adam": (0.1, "#0072B2", "-."),
    "gd, auto": ("auto", "#D55E00", "-"),
}


def rosenbrock(x):
    p, q = 1 - x[0], x[1] - x[0] ** 2
    return p**2 + 100 * q**2, np.array([-2 * p - 400 * q * x[0], 200 * q])


def draw_ravine(axes):
    x, y = np.meshgrid(np.linspace(-1.7, 1.5, 200), np.linspace(-0.6, 1.8, 200))
    levels = np.geomspace(0.3, 600, 10)
    axes.contour(x, y, rosenbrock((x, y))[0], levels=levels, colors="0.8", linewidths=0.7)
    axes.plot(*START, "o", color="white", markeredgecolor="black", markersize=6)
    axes.plot(1, 1, "*", color="white", markeredgecolor="black", markersize=14)


def main(directory):
    figure, grid = plt.subplots(2, 4, figsize=(14, 6.6), layout="constrained")
    values = grid.flat[-1]
    for axes, (name, (rate, colour, line)) in zip(grid.flat, RULES.items(), strict=False):
        result = gradient_descent(
            rosenbrock, START, jac=True, solver=name.split(",")[0], learning_rate=rate, max_iter=STEPS,
            record_path=True,
        )  # fmt: skip
        label = name if rate == "auto" else f"{name}, rate {rate}"
        draw_ravine(axes)
        axes.plot(*result.path.T, "-", marker=".", markersize=3, color=colour, linewidth=1)
        axes.plot(*result.x, "o", color=colour, markersize=8, markeredgecolor="black")
        axes.set(title=f"{label}: {result.nit} steps", xlabel="x₁", ylabel="x₂")
        if axes is not grid[0, 3]:  # below it is another axis
            axes.label_outer()
        values.semilogy(result.path_fun, line, color=colour, linewidth=1.6, label=name)
        print(f"{label:22s} {result.nit:4d} steps, x = {result.x.round(4)}, f = {result.fun:.2e}")
    values.set(xlabel="step", ylabel="f(x)", title="the value on the way", ylim=(1e-8, 100))
    values.legend(fontsize=9, loc="lower right")
    figure.savefig(Path(directory) / "optimizers_on_a_ravine.png", dpi=100)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
