"""The textbook network, tanh and softmax, on handwritten digits: what it learns, and what it gets wrong.

    python examples/textbook_network.py [DIRECTORY]

writes digits_loss.png, digits_weights.png and digits_errors.png there.

MNIST where the environment variable FASTGD_MNIST names an npz file of it (X_train, y_train, X_test, y_test),
else the 8 x 8 digits that scikit-learn ships. mnist_from_kernels.py has the same network line by line.
"""

import os
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastgd import GDClassifier
from fastgd.inspection import LossCurveDisplay

pictures = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
if "FASTGD_MNIST" in os.environ:
    with np.load(os.environ["FASTGD_MNIST"]) as arrays:
        X, X_test, y, y_test = (arrays[name] for name in ("X_train", "X_test", "y_train", "y_test"))
    X, X_test = (part.reshape(len(part), -1).astype(np.float32) / 255 for part in (X, X_test))
else:
    X, X_test, y, y_test = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=0)
    X, X_test = X / 16, X_test / 16
side = int(X.shape[1] ** 0.5)


def show(images, titles, file, **settings):
    """Images (n, side * side) in two rows."""
    figure, axes = plt.subplots(2, len(images) // 2, figsize=(len(images) * 0.7, 3.4), squeeze=False)
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(image.reshape(side, side), **settings)
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    figure.savefig(pictures / file, bbox_inches="tight")


settings = {"max_iter": 20, "tol": None, "random_state": 0}
models = {
    "no hidden layer": GDClassifier(solver="adam", batch_size=100, learning_rate=1e-3, **settings),
    "100 units, plain descent": GDClassifier(
        hidden_layer_sizes=(100,), solver="gd", batch_size=100, learning_rate=0.1, **settings
    ),
    "100 units, Adam": GDClassifier(
        hidden_layer_sizes=(100,), batch_size=100, learning_rate=1e-3, **settings
    ),
}
for name, model in models.items():
    start = time.perf_counter()
    model.fit(X, y, X_val=X_test, y_val=y_test)
    seconds = time.perf_counter() - start
    print(f"{name:24} objective {model.loss_curve_[-1]:.4f}, accuracy on other digits "
          f"{model.score(X_test, y_test):.4f}, {seconds:.1f} s")  # fmt: skip
LossCurveDisplay.from_estimator(models).figure_.savefig(pictures / "digits_loss.png", bbox_inches="tight")

network = models["100 units, Adam"]
units = network.coefs_[0].T[np.argsort(-np.abs(network.coefs_[1]).sum(axis=1))[:20]]  # those that matter most
largest = np.abs(units).max()
show(units, [""] * 20, "digits_weights.png", cmap="RdBu", vmin=-largest, vmax=largest)

probability = network.predict_proba(X_test)
guess = network.classes_[probability.argmax(axis=1)]
wrong = np.flatnonzero(guess != y_test)
surest = wrong[np.argsort(-probability[wrong].max(axis=1))][:20]
titles = [f"{guess[i]}, not {y_test[i]}" for i in surest]
print(f"{len(wrong)} of {len(y_test)} wrong; the surest: {titles[0]}, {probability[surest[0]].max():.2f}")
show(X_test[surest[: len(surest) // 2 * 2]], titles, "digits_errors.png", cmap="gray_r")
