"""Vanishing and exploding gradients in a network of twenty hidden layers, and what cures them.

    python examples/deep_tanh_gradients.py [DIRECTORY]        writes deep_tanh_gradients.png

On its way back, the gradient is multiplied with a weight matrix and the slopes of the activation in every
layer. Weights of standard deviation 0.5 / sqrt(n_inputs) shrink it twenty times over: the first layers get
nothing, and nothing is learned. Weights of 2 / sqrt(n_inputs) let it grow, in the first layers most: long
steps throw the weights about. Cures: weights that keep its size (Glorot's for tanh, He's for relu, both the
default), batch normalisation, which restores the size of what each layer sees, and clipping, which bounds
the step.
"""

import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastgd import GDClassifier
from fastgd.inspection import LossCurveDisplay

HIDDEN = (64,) * 20
SMALL, LARGE = 0.5, 2.0
CASES = {  # name -> times 1 / sqrt(n_inputs), None for the default; learning rate; what else is different
    "tanh, small weights": (SMALL, 0.01, {}),
    "tanh, small weights, batch_norm": (SMALL, 0.01, {"batch_norm": True}),
    "tanh, Glorot": (None, 0.01, {}),
    "relu, He": (None, 0.003, {"activation": "relu"}),
    "tanh, large weights": (LARGE, 0.03, {}),
    "tanh, large weights, clip_norm": (LARGE, 0.03, {"clip_norm": 1.0}),
}


def weights(gain):
    """What fit takes as the start, or nothing for the default."""
    if gain is None:
        return {}
    rng, sizes = np.random.default_rng(0), [64, *HIDDEN, 10]
    shapes = zip(sizes[:-1], sizes[1:], strict=True)
    return {"coef_init": [rng.normal(scale=gain / n_in**0.5, size=(n_in, n_out)) for n_in, n_out in shapes]}


def main(directory):
    X, y = load_digits(return_X_y=True)
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    models, norms = {}, {}
    print(f"{'':32} gradient: first layer    last layer   accuracy")
    for name, (gain, rate, more) in CASES.items():
        model = GDClassifier(hidden_layer_sizes=HIDDEN, solver="momentum", tol=None, random_state=0, **more)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(batch_size="full", learning_rate=1e-12, max_iter=1)  # a look, and no step
            norms[name] = model.fit(X_train, y_train, **weights(gain)).gradient_norms_[0]
            model.set_params(batch_size=32, learning_rate=rate, max_iter=20)
            models[name] = model.fit(X_train, y_train, **weights(gain))
        first, last = norms[name][[0, -1]]
        print(f"{name:32} {first:21.1e} {last:13.1e} {model.score(X_test, y_test):11.3f}")
        if heard:
            print(f"    fastgd warned: {heard[-1].message}")
    display = LossCurveDisplay.from_estimator(models, ax=right)
    for norm, line in zip(norms.values(), display.lines_, strict=True):
        left.semilogy(range(1, len(norm) + 1), norm, "o-", color=line.get_color(), markersize=4)
    left.set_xticks(range(1, len(HIDDEN) + 2, 4))
    left.set(xlabel="layer, from the input to the output", ylabel="norm of the gradient at the start")
    figure.savefig(directory / "deep_tanh_gradients.png", dpi=120)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
