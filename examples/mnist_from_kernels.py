"""A network for MNIST written out by hand: p = softmax(tanh(x + b0) w1 + b1), trained by mini-batch descent.

Every arrow of the chain is one kernel, and its derivative is one kernel more:

    x --(+ b0)--> z0 --tanh--> a --(w1, b1)--> z1 --softmax--> p --> loss

**Squared error.** Loss of a row: sum_i (p_i - y_i)^2, so dp = 2 (p - y). To go on to z1 takes the Jacobian
of the softmax, and it is not diagonal: in p_i = e^{z_i} / sum_j e^{z_j} the denominator holds every logit, so
raising z_j takes probability from every other class. By the quotient rule

    dp_i / dz_j = p_i (delta_ij - p_j),    or    diag(p) - p p^T,

and dz1 = (diag(p) - p p^T) dp = p * (dp - sum_j p_j dp_j). To multiply dp with p (1 - p) alone, the diagonal,
is a well-known mistake: it is no derivative of any loss, and finite differences expose it.

**Cross-entropy.** Loss of a row: -sum_i y_i log p_i, so dp = -y / p. The same Jacobian cancels the quotient,

    dz1_j = -sum_i (y_i / p_i) p_i (delta_ij - p_j) = p_j sum_i y_i - y_j = p_j - y_j,

and no softmax_backward is needed. The factor p is gone with it: a digit that is confidently wrong has p near
zero at its class, which stalls the squared error, but not p - y. It learns faster and with smaller steps.

Data: `--data FILE.npz` (X_train, y_train, X_test, y_test), else the file FASTGD_MNIST names, else a download.
"""

import argparse
import os
import time

import numpy as np

from fastgd import kernels

LEARNING_RATES = {"squared_error": 0.5, "cross_entropy": 0.2}


def forward(params, X):
    """a and p for rows X of shape (m, d); b0 (d,), w1 (d, k), b1 (k,)."""
    b0, w1, b1 = params
    a = kernels.tanh_forward(X + b0)
    return a, kernels.softmax_forward(kernels.dense_forward(a, w1, b1))


def gradients(params, X, Y, loss):
    """Mean loss over the rows of X (m, d), and its derivatives by b0, w1, b1; Y (m, k) is one-hot."""
    m, w1 = len(X), params[1]
    a, p = forward(params, X)
    if loss == "squared_error":
        value = ((p - Y) ** 2).sum() / m
        dp = 2 * (p - Y) / m
        dz1 = kernels.softmax_backward(p, dp)  # (diag(p) - p p^T) dp
    else:
        value = -np.log(p[Y == 1]).sum() / m
        dz1 = (p - Y) / m  # the Jacobian, multiplied out
    da, dw1, db1 = kernels.dense_backward(a, w1, dz1)
    dz0 = kernels.tanh_backward(a, da)  # da (1 - a^2)
    db0 = dz0.sum(axis=0)  # z0 = x + b0
    return value, (db0, dw1, db1)


def accuracy(params, X, labels):
    return np.mean(forward(params, X)[1].argmax(axis=1) == labels)


def train(train_set, validation_set, loss, learning_rate, epochs, batch_size=100, seed=0):
    (X, labels), rng = train_set, np.random.default_rng(seed)
    Y, d = np.eye(10, dtype=X.dtype)[labels], X.shape[1]
    initial = (np.zeros(d), 0.01 * rng.standard_normal((d, 10)), np.zeros(10))
    params = [theta.astype(X.dtype) for theta in initial]
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        order, total = rng.permutation(len(X)), 0.0
        for rows in np.split(order, range(batch_size, len(X), batch_size)):
            value, slopes = gradients(params, X[rows], Y[rows], loss)
            for theta, slope in zip(params, slopes, strict=True):
                theta -= learning_rate * slope
            total += value * len(rows)
        print(
            f"epoch {epoch:2d}: training loss {total / len(X):.4f}, validation accuracy "
            f"{accuracy(params, *validation_set):.4f}, {time.perf_counter() - start:.1f} s"
        )
    return params


def load(path):
    """Digits as float32 in [0, 1] and labels, those to train with and those to test with."""
    if path:
        with np.load(path) as arrays:
            X, X_test, labels, labels_test = (arrays[k] for k in ("X_train", "X_test", "y_train", "y_test"))
    else:
        from sklearn.datasets import fetch_openml

        X, labels = fetch_openml("mnist_784", return_X_y=True, as_frame=False)
        X, X_test, labels, labels_test = X[:60000], X[60000:], labels[:60000], labels[60000:]
    scaled = (np.asarray(images, np.float32) / 255 for images in (X, X_test))
    return tuple(zip(scaled, (labels.astype(int), labels_test.astype(int)), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("FASTGD_MNIST"), help="npz file with MNIST")
    parser.add_argument("--loss", choices=LEARNING_RATES, default="squared_error")
    parser.add_argument("--learning-rate", type=float, help=f"default: {LEARNING_RATES}")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="5000 digits, 3 epochs")
    options = parser.parse_args()

    (X, labels), test_set = load(options.data)
    order = np.random.default_rng(0).permutation(len(X))[: 5000 if options.quick else None]
    fit, hold = np.split(order, [len(order) * 5 // 6])  # the whole of MNIST: 50,000 and 10,000
    if options.loss == "cross_entropy":
        print("cross-entropy: dz1 = p - y replaces dp = 2 (p - y), dz1 = (diag(p) - p p^T) dp")
    rate = options.learning_rate or LEARNING_RATES[options.loss]
    epochs = min(options.epochs, 3) if options.quick else options.epochs
    params = train((X[fit], labels[fit]), (X[hold], labels[hold]), options.loss, rate, epochs)
    print(f"{options.loss}, learning rate {rate}: test accuracy {accuracy(params, *test_set):.4f}")


if __name__ == "__main__":
    main()
