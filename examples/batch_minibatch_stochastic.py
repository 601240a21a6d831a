"""How many rows should one gradient see? Batch, mini-batch and stochastic descent on real data.

    python examples/batch_minibatch_stochastic.py [DIRECTORY]

writes batch_minibatch_stochastic_paths.png and batch_minibatch_stochastic.gif: a line through the diabetes
data, three paths over one surface. Batch descent goes straight down, one step per pass over the data.
Stochastic descent takes 442 short, noisy steps in a pass, is near the minimum first, and cannot keep still.
batch_minibatch_stochastic_digits.png: handwritten digits. The more steps in a pass, the faster the fall; a
rate that stays constant leaves noise behind, a rate that decays takes it away.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from fastgd import GDClassifier, GDRegressor
from fastgd.inspection import DescentPathDisplay, LossCurveDisplay

SIZES = {"batch": ("full", 0.3), "mini-batches of 32": (32, 0.1), "stochastic": (1, 0.01)}


def paths(directory):
    X, y = load_diabetes(return_X_y=True)
    X = scale(X[:, [2]])  # body mass index
    models = {
        name: GDRegressor(
            solver="gd", batch_size=size, learning_rate=rate, max_iter=10, tol=None, random_state=0
        )
        for name, (size, rate) in SIZES.items()
    }
    axis_names = ("weight of the body mass index", "intercept")
    display = DescentPathDisplay.from_estimator(models, X, y, axis_names=axis_names)
    display.figure_.savefig(directory / "batch_minibatch_stochastic_paths.png", dpi=120)
    animation = display.animate(frames=25, side_by_side=True)
    animation.save(directory / "batch_minibatch_stochastic.gif", writer="pillow", dpi=60)
    print("distance to the minimum, in units of the target, after one pass and after ten")
    for name, [way] in display.paths.items():
        [epochs] = display.times[name]
        far = ((way - display.minimum) ** 2).sum(axis=1) ** 0.5
        print(f"  {name:20} {far[epochs <= 1 + 1e-9][-1]:7.1f} {far[-1]:7.1f}   steps: {len(way) - 1}")


def passes(directory):
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    choices = {
        "batch": {"batch_size": "full", "learning_rate": 0.5},
        "mini-batches of 32": {"batch_size": 32, "learning_rate": 0.5},
        "stochastic": {"batch_size": 1, "learning_rate": 0.3},
        "stochastic, decaying": {"batch_size": 1, "learning_rate": "invscaling", "eta0": 0.5, "power_t": 0.3},
    }
    models = {}
    print("digits, 30 passes: objective, accuracy on other digits, its swing over the last ten passes")
    for name, choice in choices.items():
        model = GDClassifier(solver="gd", max_iter=30, tol=None, random_state=0, **choice)
        models[name] = model.fit(X_train, y_train, X_val=X_test, y_val=y_test)
        swing = max(model.validation_scores_[-10:]) - min(model.validation_scores_[-10:])
        print(f"  {name:20} {model.loss_curve_[-1]:.4f} {model.score(X_test, y_test):.3f} {swing:.3f}")
    display = LossCurveDisplay.from_estimator(models)
    display.figure_.savefig(directory / "batch_minibatch_stochastic_digits.png", dpi=120)


if __name__ == "__main__":
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    paths(directory)
    passes(directory)
