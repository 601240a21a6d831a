"""Gradient descent by hand: a parabola, step by step, and a line through two points in matrix form.

    python examples/by_hand.py [DIRECTORY]        writes by_hand.png

**A parabola.** f(x) = x^2 - 4x + 5, f'(x) = 2x - 4. From x0 = 7 with rate a: x <- x - a (2x - 4), so that
the distance to the minimum at 2 is multiplied by 1 - 2a. a = 0.1 creeps, 0.5 is there in one step, 0.9 jumps
from side to side, and above 1 each step leads farther away.

**A line.** y = a x + b through (1, 2) and (3, 4): 1 a + b = 2, 3 a + b = 4, so a = b = 1. In matrix form,
with a column of ones for b, w <- w - rate * X^T (X w - y) / m descends to the same.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from fastgd import kernels
from fastgd.optimize import gradient_descent

COLOURS = {0.1: "#0072B2", 0.5: "#009E73", 0.9: "#E69F00", 1.03: "#D55E00"}  # Okabe & Ito: for all eyes
MARKERS = {0.1: "o", 0.5: "s", 0.9: "^", 1.03: "X"}


def f(x):
    return x**2 - 4 * x + 5


def parabola(above, below):
    x = np.linspace(-5, 9.5, 200)
    above.plot(x, f(x), color="0.6")
    for rate, colour in COLOURS.items():
        result = gradient_descent(
            f, 7, jac=lambda x: 2 * x - 4, learning_rate=rate, max_iter=12, tol=None, record_path=True
        )
        path, style = result.path.ravel(), dict(color=colour, marker=MARKERS[rate], markersize=5)
        print(f"rate {rate}: {np.round(path[:5], 3)} ... {path[-1]:.4f}")
        if rate in (0.1, 0.9):
            above.plot(path, f(path), linewidth=1, label=f"rate {rate}", **style)
        below.plot(path, label=f"rate {rate}", linewidth=1, **style)
    above.set(xlabel="x", ylabel="f(x)", title="x² - 4x + 5, down from x = 7")
    below.axhline(2, color="0.6", linewidth=1, zorder=0)
    below.set(xlabel="step", ylabel="x", title="the rate decides", ylim=(-13, 13))
    above.legend()
    below.legend(loc="lower right", ncols=2, fontsize=9)


def line(axes):
    X, y, rate = np.array([[1.0, 1.0], [3.0, 1.0]]), np.array([2.0, 4.0]), 0.2
    path = [np.array([-1.0, 3.0])]
    for _ in range(60):
        path.append(kernels.gradient_descent(X, y, path[-1], rate, n_iter=1))
    by_numpy = path[0] - rate * X.T @ (X @ path[0] - y) / 2
    assert np.allclose(path[1], by_numpy)
    w = kernels.gradient_descent(X, y, path[0], rate, n_iter=1000)
    print(f"line through (1, 2) and (3, 4): y = {w[0]:.6f} x + {w[1]:.6f}")
    a, b = np.meshgrid(np.linspace(-1.5, 3, 150), np.linspace(-1.5, 4, 150))
    loss = ((a + b - 2) ** 2 + (3 * a + b - 4) ** 2) / 4
    axes.contour(a, b, loss, levels=np.geomspace(0.01, 40, 12), colors="0.75", linewidths=0.8)
    axes.plot(*np.transpose(path), "o-", color="#0072B2", markersize=4, linewidth=1, label="60 steps")
    axes.plot(1, 1, "*", color="#D55E00", markersize=14, label="a = b = 1")
    axes.set(xlabel="a", ylabel="b", title="y = a x + b through (1, 2), (3, 4); rate 0.2")
    axes.legend(loc="lower left", fontsize=9)


if __name__ == "__main__":
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    parabola(*axes[:2])
    line(axes[2])
    figure.savefig(Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "by_hand.png", dpi=100)
