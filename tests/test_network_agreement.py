"""Networks against independent oracles: torch, finite differences, scikit-learn's MLP, the linear problem."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch_rules import MOMENTS, OPTIMIZERS, torch

from fastgd import GDClassifier, GDRegressor
from fastgd._linear import LinearProblem
from fastgd._losses import classification_loss, regression_loss
from fastgd._network import Architecture, NetworkProblem
from fastgd._penalties import Penalty

F = torch.nn.functional

ACTIVATIONS = {
    "identity": lambda z: z,
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
}
activations = pytest.mark.parametrize("activation", ACTIVATIONS)
batch_norms = pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch_norm"])


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    """Threads cost more than they bring to matrices as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def hinge(margin, power=1):
    return lambda z, y: torch.clamp(margin - y * z, min=0) ** power


def insensitive(power):
    return lambda z, y: torch.clamp((z - y).abs() - 0.1, min=0) ** power


def modified_huber(z, y):
    return torch.where(y * z < -1, -4 * y * z, hinge(1.0, 2)(z, y))


def by_output(loss):
    """Of predictors (m, k) and targets (k, m): the outputs' losses added up."""
    return lambda Z, Y: loss(Z, Y.T).sum(dim=1)


def softmax_log_loss(Z, Y):
    return F.cross_entropy(Z, Y[0].long(), reduction="none")


def softmax_brier(Z, Y):
    return ((F.softmax(Z, dim=1) - F.one_hot(Y[0].long(), Z.shape[1])) ** 2).sum(dim=1)


REGRESSION = {
    "squared_error": lambda z, y: F.mse_loss(z, y, reduction="none") / 2,
    "huber": lambda z, y: F.huber_loss(z, y, reduction="none", delta=0.1),
    "epsilon_insensitive": insensitive(1),
    "squared_epsilon_insensitive": insensitive(2),
    "absolute_error": lambda z, y: F.l1_loss(z, y, reduction="none"),
    "quantile": lambda z, y: torch.maximum(0.3 * (y - z), 0.7 * (z - y)),
    "poisson": lambda z, y: F.poisson_nll_loss(z, y, log_input=True, reduction="none"),
    "gamma": lambda z, y: z + y * torch.exp(-z),
}
MARGIN = {
    "log_loss": lambda z, y: F.soft_margin_loss(z, y, reduction="none"),
    "hinge": hinge(1.0),
    "perceptron": hinge(0.0),
    "squared_hinge": hinge(1.0, 2),
    "modified_huber": modified_huber,
    "brier_score": lambda z, y: 2 * torch.sigmoid(-y * z) ** 2,
    "squared_error": REGRESSION["squared_error"],
    "huber": REGRESSION["huber"],
}
# case -> (loss, outputs, target of `targets`, loss of each row in torch)
CASES = {
    **{name: (regression_loss(name, 0.1, 0.3), 1, name, by_output(f)) for name, f in REGRESSION.items()},
    **{
        f"{name}, two outputs": (regression_loss(name, 0.1, 0.3), 2, "Y", by_output(REGRESSION[name]))
        for name in ("squared_error", "huber", "quantile")
    },
    **{
        f"{name}, two classes": (classification_loss(name, 2), 1, "binary", by_output(f))
        for name, f in MARGIN.items()
    },
    **{
        f"{name}, one-vs-rest": (classification_loss(name, 3), 3, "one-vs-rest", by_output(MARGIN[name]))
        for name in ("hinge", "squared_hinge", "modified_huber")
    },
    "log_loss, three classes": (classification_loss("log_loss", 3), 3, "labels", softmax_log_loss),
    "brier_score, three classes": (classification_loss("brier_score", 3), 3, "labels", softmax_brier),
}
cases = pytest.mark.parametrize("case", CASES)
FEW = [
    "squared_error, two outputs",
    "log_loss, two classes",
    "log_loss, three classes",
    "brier_score, three classes",
    "poisson",
]


def targets(data, name):
    """Y (k, m), or (1, m) of labels, as the problem takes it."""
    if name in ("binary", "one-vs-rest"):
        labels = data.three if name == "one-vs-rest" else (data.binary == "yes").astype(int)
        rows = np.arange(3)[:, None] if name == "one-vs-rest" else 1
        return np.where(labels == rows, 1.0, -1.0).reshape(-1, len(labels))
    y = {"poisson": data.counts, "gamma": data.positive, "Y": data.Y, "labels": data.three}.get(name, data.y)
    return np.ascontiguousarray(y.reshape(len(data.X), -1).T, dtype=float)


def make_problem(
    data, case, *, hidden=(5,), activation="tanh", batch_norm=False, biases=True, weight=None,
    penalty=None, dtype=np.float64, n_threads=1, rows=slice(None),
):  # fmt: skip
    loss, k, target, _ = CASES[case]
    X = np.ascontiguousarray(data.X[rows], dtype)
    Y = np.ascontiguousarray(targets(data, target)[:, rows], dtype)
    architecture = Architecture((X.shape[1], *hidden, k), activation, batch_norm, biases)
    return NetworkProblem(
        X, Y, None if weight is None else np.ascontiguousarray(weight, dtype), loss, penalty or Penalty(),
        architecture, batch_size=len(X), n_threads=n_threads,
    )  # fmt: skip


def random_theta(problem, seed=0):
    """Weights, intercepts, scales and shifts, none of them zero or one; running statistics 0 and 1."""
    rng = np.random.default_rng(seed)
    architecture = problem.architecture
    theta = architecture.initial(rng)
    for layer in architecture.layers(theta):
        layer.intercept[...] = architecture.biases * rng.normal(size=layer.intercept.shape) / 2
        if layer.norm is not None:
            layer.norm[0][...] = rng.uniform(0.5, 1.5, size=layer.intercept.shape)
            layer.norm[1][...] = rng.normal(size=layer.intercept.shape) / 2
    return theta


def as_tensors(architecture, theta):
    """Leaves [W, b, scale and shift] of every layer, in torch."""
    leaf = lambda a: torch.tensor(np.array(a, float), requires_grad=True)  # noqa: E731
    return [
        [leaf(layer.coef), leaf(layer.intercept), *map(leaf, (layer.norm or ())[:2])]
        for layer in architecture.layers(theta)
    ]


def torch_predictor(X, layers, activation, weight=None):
    A = X
    for W, b, *norm in layers[:-1]:
        Z = A @ W + b
        if norm and weight is None:
            Z = F.batch_norm(Z, None, None, *norm, training=True, eps=1e-5)
        elif norm:
            share = (weight / weight.sum())[:, None]
            centred = Z - (share * Z).sum(0)
            Z = norm[0] * centred / torch.sqrt((share * centred**2).sum(0) + 1e-5) + norm[1]
        A = ACTIVATIONS[activation](Z)
    return A @ layers[-1][0] + layers[-1][1]


def torch_value_and_grad(problem, case, theta):
    """Objective and gradient in theta, by autograd."""
    architecture, penalty = problem.architecture, problem.penalty
    layers = as_tensors(architecture, theta)
    X, Y = torch.tensor(problem.X.astype(float)), torch.tensor(problem.Y.astype(float))
    weight = None if problem.weight is None else torch.tensor(problem.weight.astype(float))
    rows = CASES[case][3](torch_predictor(X, layers, architecture.activation, weight), Y)
    value = rows.mean() if weight is None else (weight * rows).sum() / weight.sum()
    for W, *_ in layers:
        value = value + penalty.l2 / 2 * (W**2).sum() + penalty.l1 * W.abs().sum()
    value.backward()
    if not architecture.biases:
        for layer in layers:
            layer[1].grad.zero_()
    return value.item(), np.concatenate([part.grad.numpy().ravel() for layer in layers for part in layer])


def finite_differences(f, x, h=1e-6):
    return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))])


def assert_close(actual, expected, tol):
    """Relative to the largest number."""
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 1e-4, "the oracle is zero"
    assert_allclose(actual, expected, rtol=0, atol=tol * np.abs(expected).max())


def compare_with_torch(problem, case, tol=1e-10):
    theta = random_theta(problem)
    value, gradient = problem.value_and_grad(theta.astype(problem.X.dtype))
    expected_value, expected = torch_value_and_grad(problem, case, theta)
    assert_allclose(value, [expected_value], rtol=tol)
    assert_close(gradient, expected, tol)


# --- gradients


@batch_norms
@cases
@activations
def test_gradients_are_those_of_autograd(data, activation, case, batch_norm):
    problem = make_problem(data, case, hidden=(5, 4), activation=activation, batch_norm=batch_norm)
    compare_with_torch(problem, case)


@pytest.mark.parametrize("biases", [True, False], ids=["intercepts", "no intercepts"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("penalty", [Penalty(0.3), Penalty(0.0, 0.2), Penalty(0.1, 0.05)], ids=str)
@pytest.mark.parametrize("hidden", [(4,), (5, 3), (4, 6, 3)], ids=str)
@batch_norms
@pytest.mark.parametrize("case", FEW)
def test_gradients_with_penalty_weights_and_depth(data, case, batch_norm, hidden, penalty, weighted, biases):
    weight = data.s if weighted else None  # some of them zero
    problem = make_problem(
        data, case, hidden=hidden, batch_norm=batch_norm, biases=biases, weight=weight, penalty=penalty
    )
    compare_with_torch(problem, case)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("case", FEW)
@pytest.mark.parametrize("activation", ["tanh", "logistic", "elu"])
@batch_norms
def test_gradients_are_finite_differences(data, batch_norm, activation, case, weighted):
    weight = data.s if weighted else None
    problem = make_problem(
        data, case, hidden=(4, 3), activation=activation, batch_norm=batch_norm, weight=weight,
        penalty=Penalty(0.1),
    )  # fmt: skip
    theta = random_theta(problem)
    _, gradient = problem.value_and_grad(theta)
    p = len(gradient)
    value = lambda u: float(problem.value_and_grad(np.append(u, theta[p:]))[0][0])  # noqa: E731
    assert_close(gradient, finite_differences(value, theta[:p]), 1e-7)


@pytest.mark.parametrize("case", FEW)
@batch_norms
def test_whole_weights_are_repeated_rows(data, batch_norm, case):
    times = np.arange(len(data.X)) % 4
    weighted = make_problem(data, case, batch_norm=batch_norm, weight=times.astype(float))
    repeated = make_problem(data, case, batch_norm=batch_norm, rows=np.repeat(np.arange(len(times)), times))
    theta = random_theta(weighted)
    (value, gradient), (expected_value, expected) = (p.value_and_grad(theta) for p in (weighted, repeated))
    assert_allclose(value, expected_value, rtol=1e-12)
    assert_close(gradient, expected, 1e-12)


@batch_norms
@pytest.mark.parametrize("case", FEW)
@activations
def test_gradients_in_single_precision(data, activation, case, batch_norm):
    problem = make_problem(
        data, case, hidden=(5, 4), activation=activation, batch_norm=batch_norm, dtype=np.float32,
        penalty=Penalty(0.1, 0.01),
    )  # fmt: skip
    compare_with_torch(problem, case, tol=1e-4)


@pytest.mark.parametrize("case", FEW)
def test_gradients_of_a_batch_in_chunks(data, case):
    problem = make_problem(data, case, hidden=(200, 150), activation="elu", n_threads=2)
    assert problem._layers.chunks > 1, "one chunk: nothing is tested"
    compare_with_torch(problem, case)


def test_gradients_of_more_rows_than_a_block(data):
    rows = np.arange(1000) % len(data.X)
    for batch_norm in (False, True):
        problem = make_problem(data, "log_loss, three classes", batch_norm=batch_norm, rows=rows)
        compare_with_torch(problem, "log_loss, three classes")


def test_a_log_loss_stays_finite_for_huge_predictors(data):
    problem = make_problem(data, "log_loss, three classes", activation="identity")
    theta = random_theta(problem)
    problem.architecture.layers(theta)[-1].coef[...] *= 1e4
    value, gradient = problem.value_and_grad(theta)
    expected_value, expected = torch_value_and_grad(problem, "log_loss, three classes", theta)
    assert expected_value > 1e2
    assert_allclose(value, [expected_value], rtol=1e-10)
    assert_close(gradient, expected, 1e-10)


# --- coordinates


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("biases", [True, False], ids=["intercepts", "no intercepts"])
@pytest.mark.parametrize("case", ["squared_error, two outputs", "poisson", "log_loss, three classes"])
@batch_norms
def test_standardised_coordinates_are_another_view_of_the_same_objective(
    data, batch_norm, case, biases, weighted, streaming
):
    loss, k, target, _ = CASES[case]
    X = np.ascontiguousarray(data.X * 10.0 ** np.arange(-3, 3) + [1, 0, 0, 1, 50, 0])
    Y = targets(data, target) * (1e3 if case.startswith("squared") else 1)
    architecture = Architecture((6, 4, 3, k), "tanh", batch_norm, biases)
    weight = data.s if weighted else None
    seen, plain = (
        NetworkProblem(X, Y, weight, loss, Penalty(0.1, 0.02), architecture, batch_size=len(X), n_threads=1)
        for _ in range(2)
    )
    seen.standardise(streaming=streaming)
    u = random_theta(seen)
    theta = seen.coordinates.to_theta(u)
    assert np.abs(theta / np.where(u == 0, 1, u)).max() > 10, "they are the same coordinates"
    assert_allclose(seen.value_and_grad(u)[0], plain.value_and_grad(theta)[0], rtol=1e-9)
    assert_allclose(seen.objective(u), plain.objective(theta), rtol=1e-9)
    assert_allclose(seen.coordinates.from_theta(theta), u, rtol=1e-9, atol=1e-9)
    _, gradient = seen.value_and_grad(u)
    p = len(gradient)
    value = lambda v: float(seen.value_and_grad(np.append(v, u[p:]))[0][0])  # noqa: E731
    numerical = np.append(finite_differences(value, u[:p]), u[p:])
    for layer in architecture.layers(numerical):
        layer.intercept[...] *= biases  # they are no parameters without
    assert_close(gradient, numerical[:p], 1e-6)


# --- no hidden layer


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("biases", [True, False], ids=["intercepts", "no intercepts"])
@cases
def test_a_linear_model_is_a_network_without_hidden_layers(data, case, biases, weighted):
    weight, penalty = data.s if weighted else None, Penalty(0.2)
    network = make_problem(data, case, hidden=(), biases=biases, weight=weight, penalty=penalty)
    linear = LinearProblem(
        network.X, network.Y, weight, network.loss, penalty, k=network.k, fit_intercept=biases, n_threads=1
    )
    theta = random_theta(network)
    (layer,) = network.architecture.layers(theta)
    u = np.ascontiguousarray(np.column_stack([layer.coef.T, layer.intercept]))
    value, gradient = network.value_and_grad(theta)
    expected_value, expected = linear.value_and_grad(u)
    assert_allclose(value, [np.sum(expected_value)], rtol=1e-12)
    (layer,) = network.architecture.layers(gradient)
    assert_close(np.column_stack([layer.coef.T, layer.intercept]), expected, 1e-12)
    assert_allclose(network.predict(theta, network.X), network.X @ u[:, :-1].T + u[:, -1], rtol=1e-12)


# --- whole training runs

ALPHA, RATE, BATCH, EPOCHS = 0.05, 0.02, 16, 5  # 150 rows: ten batches, the last of six rows; 50 steps
STEPS = 50
# name of the run -> estimator, loss, target of the estimator, case
RUNS = {
    "one output": (GDRegressor, "squared_error", "y", "squared_error"),
    "two outputs": (GDRegressor, "squared_error", "Y", "squared_error, two outputs"),
    "poisson": (GDRegressor, "poisson", "counts", "poisson"),
    "binary": (GDClassifier, "log_loss", "binary", "log_loss, two classes"),
    "softmax": (GDClassifier, "log_loss", "three", "log_loss, three classes"),
    "brier": (GDClassifier, "brier_score", "three", "brier_score, three classes"),
}
LAYERS = {
    "tanh": torch.nn.Tanh, "logistic": torch.nn.Sigmoid, "relu": torch.nn.ReLU, "elu": torch.nn.ELU,
    "leaky_relu": torch.nn.LeakyReLU, "identity": torch.nn.Identity,
}  # fmt: skip


def initial_weights(sizes, seed=0):
    rng = np.random.default_rng(seed)
    shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
    return [rng.normal(size=s) / np.sqrt(s[0]) for s in shapes], [rng.normal(size=s[1]) / 3 for s in shapes]


def torch_run(
    X, Y, row_loss, coefs, intercepts, activation, *, solver, batch_size, epochs, rate=RATE, alpha=ALPHA,
    batch_norm=False, clip=None, weights=None,
):  # fmt: skip
    """A torch.nn.Sequential after one step per batch, its objective and its gradients by epoch."""
    modules, linear = [], []
    for number, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        layer = torch.nn.Linear(*W.shape, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(W.T))
            layer.bias.copy_(torch.tensor(b))
        modules.append(layer)
        linear.append(layer)
        if number < len(coefs) - 1:
            if batch_norm:
                modules.append(torch.nn.BatchNorm1d(W.shape[1], dtype=torch.float64))
            modules.append(LAYERS[activation]())
    net = torch.nn.Sequential(*modules).train()
    decayed = [layer.weight for layer in linear]
    others = [p for p in net.parameters() if not any(p is w for w in decayed)]
    decay = {"weight_decay": alpha} if solver == "adamw" else {}
    groups = [{"params": decayed, **decay}, {"params": others, **({"weight_decay": 0.0} if decay else {})}]
    optimizer = OPTIMIZERS[solver](groups, rate)
    curve, norms = [], []
    for _ in range(epochs):
        met = 0.0
        for first in range(0, len(X), batch_size):
            rows = slice(first, first + batch_size)
            optimizer.zero_grad()
            loss = row_loss(net(X[rows]), Y[:, rows])
            if weights is not None:
                loss = loss * weights[rows]
            met += loss.sum().item()
            loss.mean().backward()
            last = gradient_norms(modules)
            if not decay:
                (alpha / 2 * sum((w**2).sum() for w in decayed)).backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
        curve.append(met / len(X) + alpha / 2 * sum((w**2).sum().item() for w in decayed))
        norms.append(last)
    return net, curve, norms


def gradient_norms(modules):
    """Of each layer, its batch normalisation included."""
    squares = []
    for module in modules:
        if isinstance(module, torch.nn.Linear):
            squares.append(0.0)
        squares[-1] += sum((p.grad**2).sum().item() for p in module.parameters())
    return np.sqrt(squares)


def run_and_compare(
    data, run, *, solver="gd", hidden=(7, 5), activation="tanh", batch_size=BATCH, epochs=EPOCHS, alpha=ALPHA,
    rate=RATE, batch_norm=False, clip=None, weights=None, tol=1e-8, **params,
):  # fmt: skip
    Ours, loss, target, case = RUNS[run]
    k = CASES[case][1]
    coefs, intercepts = initial_weights((data.X.shape[1], *hidden, k))
    ours = Ours(
        loss=loss, alpha=alpha, hidden_layer_sizes=hidden, activation=activation, solver=solver,
        batch_norm=batch_norm, batch_size="full" if batch_size == len(data.X) else batch_size,
        learning_rate=rate, clip_norm=clip, max_iter=epochs, tol=None, shuffle=False, **MOMENTS, **params,
    )  # fmt: skip
    ours.fit(data.X, getattr(data, target), coef_init=coefs, intercept_init=intercepts, sample_weight=weights)
    if weights is not None and batch_size == len(data.X):
        weights = weights / weights.mean()
    net, curve, norms = torch_run(
        torch.tensor(data.X), torch.tensor(targets(data, CASES[case][2])), CASES[case][3], coefs, intercepts,
        activation, solver=solver, batch_size=batch_size, epochs=epochs, rate=rate, alpha=alpha,
        batch_norm=batch_norm, clip=clip, weights=None if weights is None else torch.tensor(weights),
    )  # fmt: skip
    linear = [m for m in net if isinstance(m, torch.nn.Linear)]
    assert [c.shape for c in ours.coefs_] == [c.shape for c in coefs]
    # before a normalisation an intercept cancels: its gradient is rounding, which some rules scale up
    free = max(tol, 1e-6) if batch_norm else tol
    for number, (W, b, layer) in enumerate(zip(ours.coefs_, ours.intercepts_, linear, strict=True)):
        last = number == len(linear) - 1
        assert_allclose(W, layer.weight.detach().numpy().T, rtol=tol, atol=tol)
        assert_allclose(b, layer.bias.detach().numpy(), rtol=tol, atol=tol if last else free)
        assert np.abs(W - coefs[number]).max() > 1e-3, "the oracle has learned nothing"
    normed = [m for m in net if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(getattr(ours, "batch_norms_", [])) == len(normed)
    for norm, layer in zip(getattr(ours, "batch_norms_", []), normed, strict=True):
        expected = [layer.weight.detach(), layer.bias.detach(), layer.running_mean, layer.running_var]
        for part, (ours_, theirs) in enumerate(zip(norm, expected, strict=True)):
            assert_allclose(ours_, theirs.numpy(), rtol=tol, atol=free if part == 2 else tol)
    assert_allclose(ours.loss_curve_, curve, rtol=1e-8)
    assert_allclose(ours.gradient_norms_, norms, rtol=1e-7, atol=1e-10)
    with torch.no_grad():
        Z = net.eval()(torch.tensor(data.X)).numpy()
    assert_allclose(ours._predictor(data.X).reshape(Z.shape), Z, rtol=0, atol=10 * free)
    return ours, net


@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("run", RUNS)
@batch_norms
def test_fifty_steps_are_those_of_torch(data, batch_norm, run, solver):
    ours, _ = run_and_compare(data, run, solver=solver, batch_norm=batch_norm)
    assert ours.n_iter_ == EPOCHS and ours.t_ == STEPS + 1


@activations
@batch_norms
def test_fifty_steps_of_every_activation_are_those_of_torch(data, batch_norm, activation):
    run_and_compare(data, "softmax", solver="adam", activation=activation, batch_norm=batch_norm)


@pytest.mark.parametrize("solver", OPTIMIZERS)
@batch_norms
def test_fifty_full_batches_are_those_of_torch(data, batch_norm, solver):
    run_and_compare(
        data, "softmax", solver=solver, batch_norm=batch_norm, batch_size=len(data.X), epochs=STEPS
    )


@pytest.mark.parametrize("solver", ["gd", "adam"])
def test_single_rows_step_like_torch(data, solver):
    run_and_compare(data, "two outputs", solver=solver, batch_size=1, epochs=1)


@pytest.mark.parametrize("solver", ["gd", "nesterov", "adam"])
@pytest.mark.parametrize("batch_size", [BATCH, 150], ids=["mini-batch", "full"])
def test_weights_of_rows_enter_as_for_linear_models(data, batch_size, solver):
    run_and_compare(data, "softmax", solver=solver, batch_size=batch_size, weights=data.s)


@pytest.mark.parametrize("solver", ["gd", "momentum", "adam"])
@batch_norms
def test_clip_norm_is_that_of_torch(data, batch_norm, solver):
    free, _ = run_and_compare(data, "one output", solver=solver, batch_norm=batch_norm)
    clipped, _ = run_and_compare(data, "one output", solver=solver, batch_norm=batch_norm, clip=0.05)
    assert np.abs(clipped.coefs_[0] - free.coefs_[0]).max() > 1e-3, "nothing was clipped"


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_batches_in_chunks_step_like_torch(data, n_jobs, clip):
    run_and_compare(
        data, "softmax", hidden=(200, 150), batch_size=len(data.X), epochs=STEPS, n_jobs=n_jobs, clip=clip,
        solver="adam", activation="elu", rate=1e-3, tol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("n_jobs", [1, 2])
@batch_norms
def test_steps_without_an_array_of_the_gradient_are_those_of_torch(data, batch_norm, n_jobs):
    """Two batches an epoch: the last keeps its gradient for the norms."""
    run_and_compare(
        data, "softmax", hidden=(200, 150), batch_size=len(data.X) // 2, epochs=STEPS // 2, n_jobs=n_jobs,
        batch_norm=batch_norm, tol=1e-7,
    )  # fmt: skip


def test_single_precision_follows_torch(data):
    ours, net = run_and_compare(data, "softmax", solver="nesterov")
    single = clone(ours).fit(
        data.X.astype(np.float32), data.three, *initial_weights((data.X.shape[1], 7, 5, 3))
    )
    assert {c.dtype for c in (*single.coefs_, *single.intercepts_)} == {np.dtype(np.float32)}
    for ours_, layer in zip(single.coefs_, [m for m in net if isinstance(m, torch.nn.Linear)], strict=True):
        assert_allclose(ours_, layer.weight.detach().numpy().T, rtol=1e-4, atol=1e-4)


def test_without_intercepts_only_the_weights_learn(data):
    coefs, intercepts = initial_weights((6, 5, 3))
    model = GDClassifier(
        hidden_layer_sizes=5, fit_intercept=False, solver="gd", learning_rate=0.1, batch_size="full",
        penalty=None, max_iter=1, tol=None,
    )  # fmt: skip
    model.fit(data.X, data.three, coef_init=coefs, intercept_init=intercepts)
    layers = [[torch.tensor(W, requires_grad=True), torch.zeros(W.shape[1])] for W in coefs]
    Z = torch_predictor(torch.tensor(data.X), layers, "tanh")
    F.cross_entropy(Z, torch.tensor(data.three)).backward()
    for ours, start, (W, _) in zip(model.coefs_, coefs, layers, strict=True):
        assert_allclose(ours, start - 0.1 * W.grad.numpy(), rtol=1e-10, atol=1e-12)
    for b in model.intercepts_:
        assert_array_equal(b, 0)


# --- scikit-learn's MLP


def theirs_with_weights_of(model, Theirs, X, y):
    theirs = Theirs(hidden_layer_sizes=model.hidden_layer_sizes, activation=model.activation, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y)
    assert [c.shape for c in theirs.coefs_] == [c.shape for c in model.coefs_]
    assert [b.shape for b in theirs.intercepts_] == [b.shape for b in model.intercepts_]
    theirs.coefs_, theirs.intercepts_ = model.coefs_, model.intercepts_
    return theirs


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("hidden", [(5,), (40, 30, 20)], ids=str)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_predictions_are_those_of_mlp_for_the_same_weights(data, activation, hidden, dtype):
    X, tol = data.X.astype(dtype), 1e-10 if dtype == np.float64 else 1e-5
    params = {"hidden_layer_sizes": hidden, "activation": activation, "max_iter": 3, "tol": None}
    for y in (data.binary, data.three):
        model = GDClassifier(**params, random_state=0).fit(X, y)
        theirs = theirs_with_weights_of(model, MLPClassifier, X, y)
        assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=tol, atol=tol)
        assert_allclose(model.predict_log_proba(X), theirs.predict_log_proba(X), rtol=tol, atol=tol)
        assert_array_equal(model.predict(X), theirs.predict(X))
    for y in (data.y, data.Y):
        model = GDRegressor(**params, random_state=0).fit(X, y)
        theirs = theirs_with_weights_of(model, MLPRegressor, X, y)
        assert_allclose(model.predict(X), theirs.predict(X), rtol=tol, atol=tol)


def test_predictions_of_many_rows_are_those_of_each(data):
    X = np.random.default_rng(0).normal(size=(5000, 6))
    for batch_norm in (False, True):
        model = GDRegressor(hidden_layer_sizes=(30, 20), batch_norm=batch_norm, max_iter=3, tol=None)
        together = model.fit(data.X, data.y).predict(X)
        for n_jobs in (1, 2):
            assert_allclose(model.set_params(n_jobs=n_jobs).predict(X), together, rtol=1e-12)
        alone = np.concatenate([model.predict(X[i : i + 1]) for i in range(0, 5000, 97)])
        assert_allclose(alone, together[::97], rtol=1e-9)


# --- threads and seeds


@pytest.mark.parametrize("solver", ["gd", "adam"])
@pytest.mark.parametrize("batch_size", [200, "full"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_one_job_and_two_give_the_same_bits(solver, batch_size, clip_norm):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 30))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    sizes = (30, 200, 150, 1)
    chunks = Architecture(sizes, "tanh", False, True).make(200, np.float64).chunks
    assert chunks > 1, "one chunk: nothing is tested"
    model = GDRegressor(
        hidden_layer_sizes=sizes[1:-1], solver=solver, batch_size=batch_size, clip_norm=clip_norm,
        max_iter=4, tol=None, random_state=0,
    )  # fmt: skip
    one, two = (clone(model).set_params(n_jobs=n).fit(X, y) for n in (1, 2))
    for a, b in zip(one.coefs_ + one.intercepts_, two.coefs_ + two.intercepts_, strict=True):
        assert_array_equal(a, b)
    assert_array_equal(one.loss_curve_, two.loss_curve_)
    assert_array_equal(one.gradient_norms_, two.gradient_norms_)
    assert_array_equal(one.predict(X), two.predict(X))
