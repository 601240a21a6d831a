"""What a learning rate does: on a parabola, on a line through points, and on a real table.

python examples/learning_rate.py [DIRECTORY]    writes parabola.png, line.png, search.png there
"""

import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgd import DivergenceError, GDClassifier, GDGridSearchCV, GDRegressor, kernels
from fastgd.inspection import LearningRateDisplay

pictures = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

print("1. f(x) = x^2 - 4 x + 5 from x0 = 7; the minimum is at x = 2. A step: x <- x - a (2 x - 4)")
figure, axes = plt.subplots(1, 5, figsize=(18, 3.5), sharey=True)
curve = np.linspace(-4, 8, 200)
for ax, rate in zip(axes, [0.01, 0.1, 0.3, 0.7, 1.0], strict=True):
    path = [7.0]
    for _ in range(20):
        path.append(path[-1] - rate * (2 * path[-1] - 4))
    path = np.array(path)
    print(f"   a = {rate:4}: {' '.join(f'{x:7.3f}' for x in path[:7])} ... x20 = {path[-1]:.6f}")
    ax.plot(curve, curve**2 - 4 * curve + 5, color="0.7")
    ax.plot(path, path**2 - 4 * path + 5, "o-", markersize=4)
    ax.set(title=f"a = {rate}", xlabel="x")
figure.savefig(pictures / "parabola.png", bbox_inches="tight")
print("   A step multiplies x - 2 by 1 - 2 a: slow at 0.01, from side to side above 0.5, for ever at 1.")

print("\n2. A line through 50 points: w <- w - a X^T (X w - y) / m")
rng = np.random.default_rng(0)
x = rng.uniform(0, 10, 50)
y = 3 * x + 5 + rng.normal(size=50)
X = np.column_stack([x, np.ones(50)])
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
left.plot(x, y, ".", color="0.5")
for rate, steps in ((0.02, 1000), (0.07, 40)):
    losses, w = [], np.zeros(2)
    for _ in range(steps):
        losses.append(np.mean((X @ w - y) ** 2) / 2)
        w = kernels.gradient_descent(X, y, w, rate, 1)
    print(f"   a = {rate}: {w[0]:.4g} x + {w[1]:.4g} after {steps} steps, loss {losses[-1]:.4g}")
    right.semilogy(losses[:60], label=f"a = {rate}")
    if rate == 0.02:
        left.plot(x, X @ w, label=f"a = {rate}")
try:
    GDRegressor(solver="gd", learning_rate=0.07, alpha=0).fit(x[:, None], y)
except DivergenceError as error:
    print(f"   GDRegressor says so: {error}")
left.legend(), right.legend(), right.set(xlabel="step", ylabel="loss")
figure.savefig(pictures / "line.png")

print("\n3. Breast cancer, 569 x 30: 25 rates x 3 penalties x 5 folds, trained together")
X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(
    StandardScaler(), GDClassifier(loss="squared_error", solver="gd", max_iter=300, tol=None)
)
rates, alphas = np.logspace(-4, 0, 25), [0.0, 0.01, 0.1]
grid = {"gdclassifier__alpha": alphas, "gdclassifier__learning_rate": rates}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FitFailedWarning)  # some rates are meant to be too large
    warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
    search = GDGridSearchCV(model, grid).fit(X, y)
results = search.cv_results_
alpha, rate = search.best_params_.values()
print(f"   best: alpha {alpha}, rate {rate:.3g}, accuracy {search.best_score_:.4f}")
diverged = results["divergence"] != ""
print(f"   {diverged.sum()} of {len(diverged)} candidates diverged: {results['divergence'][diverged][0]}")
LearningRateDisplay.from_estimator(search).figure_.savefig(pictures / "search.png", bbox_inches="tight")
