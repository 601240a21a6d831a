"""Balls on a landscape: which valley gradient descent finds hangs on where it starts, and on its momentum.

    python examples/landscape_with_balls.py [DIRECTORY]

Himmelblau's function (x^2 + y - 11)^2 + (x + y^2 - 7)^2 has four valleys of the same depth, 0. Forty balls
roll down by plain gradient descent, coloured by the valley in which each comes to rest: as contours in
landscape_with_balls.png, moving in landscape_with_balls.gif, in three dimensions in landscape_surface.png.
In landscape_with_momentum.png three balls leave the same point and end in three valleys: a ball with momentum
rolls past the first one.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np

from fastgd.inspection import DescentPathDisplay

BOX = ((-6, 6), (-6, 6))


def himmelblau(point):
    x, y = point
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def gradient(point):
    x, y = point
    a, b = x**2 + y - 11, x + y**2 - 7
    return np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def show(directory):
    starts = np.random.default_rng(0).uniform(-5, 5, size=(40, 2))
    settings = {"jac": gradient, "learning_rate": 0.005, "axis_names": ("x", "y"), "value_name": "f(x, y)"}
    many = DescentPathDisplay.from_function(himmelblau, starts, BOX, max_iter=500, **settings)
    many.figure_.savefig(directory / "landscape_with_balls.png", dpi=120)
    surface = many.plot(kind="surface")
    surface.ax_.view_init(elev=50, azim=-60)
    surface.figure_.savefig(directory / "landscape_surface.png", dpi=120)
    many.animate(frames=25).save(directory / "landscape_with_balls.gif", writer="pillow", dpi=70)

    print("valley (x, y)        balls")
    ends = np.array([way[-1] for way in many.paths["gd"]])
    for valley, count in zip(*np.unique(ends.round(2) + 0.0, axis=0, return_counts=True), strict=True):
        print(f"({valley[0]:6.3f}, {valley[1]:6.3f}) {count:9}")
    print(f"highest ball at the end: f = {max(map(himmelblau, ends)):.1e}")

    heavy = {
        "plain": {"solver": "gd"},
        "momentum 0.9": {"solver": "momentum", "learning_rate": 0.002},
        "adam": {"solver": "adam", "learning_rate": 0.1},
    }
    start = [1, 5]
    three = DescentPathDisplay.from_function(himmelblau, start, BOX, solver=heavy, max_iter=300, **settings)
    three.figure_.savefig(directory / "landscape_with_momentum.png", dpi=120)
    for name, [way] in three.paths.items():
        print(f"from {start} with {name:12} to ({way[-1][0]:.3f}, {way[-1][1]:.3f}) in {len(way) - 1} steps")


if __name__ == "__main__":
    show(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
