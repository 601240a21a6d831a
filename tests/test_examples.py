"""The scripts in examples/ compute what they say, and run."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def mnist_example():
    spec = spec_from_file_location("mnist_from_kernels", EXAMPLES / "mnist_from_kernels.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_network(m=40, d=12, k=4):
    """b0, w1, b1; rows X; one-hot Y."""
    rng = np.random.default_rng(0)
    params = [rng.normal(size=d), rng.normal(size=(d, k)), rng.normal(size=k)]
    return params, rng.normal(size=(m, d)), np.eye(k)[rng.integers(k, size=m)]


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_gradients_of_the_mnist_example_are_those_of_torch_autograd(mnist_example, loss):
    torch = pytest.importorskip("torch")
    params, X, Y = small_network()
    value, gradients = mnist_example.gradients(params, X, Y, loss)

    b0, w1, b1 = tensors = [torch.tensor(theta, requires_grad=True) for theta in params]
    z1 = torch.tanh(torch.tensor(X) + b0) @ w1 + b1
    if loss == "squared_error":
        expected = ((torch.softmax(z1, dim=1) - torch.tensor(Y)) ** 2).sum(dim=1).mean()
    else:
        expected = -(torch.log_softmax(z1, dim=1) * torch.tensor(Y)).sum(dim=1).mean()
    expected.backward()

    assert_allclose(value, expected.item(), rtol=1e-12)
    for ours, tensor in zip(gradients, tensors, strict=True):
        theirs = tensor.grad.numpy()
        assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_gradients_of_the_mnist_example_are_finite_differences(mnist_example, loss):
    params, X, Y = small_network()
    gradients = mnist_example.gradients(params, X, Y, loss)[1]
    h = 1e-6
    for theta, gradient in zip(params, gradients, strict=True):
        for index in np.ndindex(theta.shape):
            saved, values = theta[index], []
            for sign in (1, -1):
                theta[index] = saved + sign * h
                values.append(mnist_example.gradients(params, X, Y, loss)[0])
            theta[index] = saved
            assert_allclose(gradient[index], (values[0] - values[1]) / (2 * h), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_mnist_example_learns_a_small_table_of_digits(loss, tmp_path):
    """Ten shapes, each with noise: after two epochs most of them are told apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=3600)
    strokes = rng.random((10, 784)) < 0.1  # as dark as digits: a denser page stalls the squared error
    X = (strokes[labels] * rng.integers(0, 256, size=(3600, 784))).astype(np.uint8)
    tables = {"X_train": X[:3000], "y_train": labels[:3000], "X_test": X[3000:], "y_test": labels[3000:]}
    np.savez(tmp_path / "digits.npz", **tables)
    command = [EXAMPLES / "mnist_from_kernels.py", "--quick", "--epochs", "2", "--loss", loss]
    result = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "FASTGD_MNIST": str(tmp_path / "digits.npz")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"epoch +\d: .*validation accuracy [01]\.\d+", result.stdout)) == 2
    assert float(re.search(r"test accuracy ([01]\.\d+)", result.stdout)[1]) > 0.9
    assert ("p - y replaces" in result.stdout) == (loss == "cross_entropy")
