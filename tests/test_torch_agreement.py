"""Update rules against torch.optim, step for step, and slopes of losses against torch.autograd."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from torch_rules import MOMENTS, OPTIMIZERS, torch

from fastgd import GDClassifier, GDRegressor, kernels

F = torch.nn.functional

ALPHA, STEPS, BATCH = 0.05, 30, 7  # 150 rows: 21 batches of 7 rows and one of 3


def margin_log_loss(Z, t):
    return F.softplus(-Z[:, 0] * (2 * t - 1))


def brier(Z, t):
    return ((F.softmax(Z, dim=1) - F.one_hot(t, Z.shape[1])) ** 2).sum(dim=1)


# name of the case -> estimator, loss, target, loss of each row in torch
MODELS = {
    "one output": (GDRegressor, "squared_error", "y", lambda Z, t: (Z[:, 0] - t) ** 2 / 2),
    "two outputs": (GDRegressor, "squared_error", "Y", lambda Z, t: ((Z - t) ** 2).sum(1) / 2),
    "poisson": (GDRegressor, "poisson", "counts", lambda Z, t: torch.exp(Z[:, 0]) - t * Z[:, 0]),
    "binary": (GDClassifier, "log_loss", "binary", margin_log_loss),
    "softmax": (
        GDClassifier,
        "log_loss",
        "three",
        lambda Z, t: F.cross_entropy(Z, t, reduction="none"),
    ),
    "brier": (GDClassifier, "brier_score", "three", brier),
}


def torch_target(y):
    return torch.tensor(y if y.dtype.kind == "f" else np.unique(y, return_inverse=True)[1])


def descend(
    row_loss,
    k,
    X,
    t,
    batches,
    solver,
    rate=0.02,
    weights=None,
    mean=torch.mean,
    alpha=ALPHA,
    clip=None,
):
    """(W, b) after one torch step per batch; `rate` is a number or a function of the count."""
    W = torch.zeros(k, X.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros(k, dtype=torch.float64, requires_grad=True)
    decoupled = solver == "adamw"
    groups = [{"params": [W]}, {"params": [b]}]
    if decoupled:
        groups = [{"params": [W], "weight_decay": alpha}, {"params": [b], "weight_decay": 0.0}]
    optimizer = OPTIMIZERS[solver](groups, rate(1) if callable(rate) else rate)
    for step, rows in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step) if callable(rate) else rate
        optimizer.zero_grad()
        loss = row_loss(X[rows] @ W.T + b, t[rows])
        loss = mean(loss, weights[rows]) if weights is not None else loss.mean()
        (loss if decoupled else loss + alpha / 2 * (W**2).sum()).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([W, b], clip)
        optimizer.step()
    return W.detach().numpy(), b.detach().numpy()


def fit_and_compare(data, model, solver, mini_batch, weights=None, params=(), **torch_params):
    Ours, loss, target, row_loss = MODELS[model]
    y = getattr(data, target)
    m = len(data.X)
    batches = [slice(0, m)] * STEPS
    if mini_batch:
        batches = [slice(i, min(i + BATCH, m)) for i in range(0, m, BATCH)] * 2
    settings = (
        {
            "loss": loss,
            "alpha": ALPHA,
            "solver": solver,
            "batch_size": BATCH if mini_batch else "full",
            "learning_rate": 0.02,
            "max_iter": 2 if mini_batch else STEPS,
            "tol": None,
            "shuffle": False,
        }
        | MOMENTS
        | dict(params)
    )
    ours = Ours(**settings).fit(data.X, y, sample_weight=weights)
    assert ours.n_iter_ == settings["max_iter"]
    k = np.atleast_2d(ours.coef_).shape[0]
    if weights is not None:
        torch_params["weights"] = torch.tensor(weights)
    W, b = descend(row_loss, k, torch.tensor(data.X), torch_target(y), batches, solver, **torch_params)
    assert_allclose(np.atleast_2d(ours.coef_), W, rtol=1e-10, atol=1e-10)
    assert_allclose(ours.intercept_, b, rtol=1e-10, atol=1e-10)
    assert np.abs(W).max() > 0.05, "the oracle has learned nothing"


@pytest.mark.parametrize("mini_batch", [False, True], ids=["full", "mini-batch"])
@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_update_rules_step_like_torch(data, model, solver, mini_batch):
    fit_and_compare(data, model, solver, mini_batch)


@pytest.mark.parametrize("solver", ["gd", "adam"])
@pytest.mark.parametrize("model", ["one output", "softmax"])
def test_full_batch_takes_the_weighted_mean(data, model, solver):
    mean = lambda loss, s: (loss * s).sum() / s.sum()  # noqa: E731
    fit_and_compare(data, model, solver, False, weights=data.s, mean=mean)


@pytest.mark.parametrize("solver", ["gd", "adam"])
@pytest.mark.parametrize("model", ["one output", "softmax"])
def test_mini_batches_multiply_gradients_by_the_raw_weights(data, model, solver):
    fit_and_compare(data, model, solver, True, weights=data.s, mean=lambda loss, s: (loss * s).mean())


@pytest.mark.parametrize("solver", ["gd", "nesterov", "adam"])
def test_schedules_count_updates_under_every_update_rule(data, solver):
    params = {"learning_rate": "invscaling", "eta0": 0.1, "power_t": 0.5}
    fit_and_compare(data, "binary", solver, True, params=params, rate=lambda t: 0.1 / t**0.5)


@pytest.mark.parametrize("mini_batch", [False, True], ids=["full", "mini-batch"])
@pytest.mark.parametrize("solver", ["gd", "momentum"])
def test_clip_norm_shortens_the_whole_gradient(data, solver, mini_batch):
    params = {"clip_norm": 0.1, "penalty": None, "learning_rate": 0.1}
    fit_and_compare(data, "softmax", solver, mini_batch, params=params, rate=0.1, alpha=0.0, clip=0.1)


def test_adamw_without_penalty_is_adam(data):
    params = {"penalty": None, "learning_rate": 0.02, "tol": None, "max_iter": 20}
    adam, adamw = (GDRegressor(solver=s, **params).fit(data.X, data.y) for s in ("adam", "adamw"))
    assert_allclose(adamw.coef_, adam.coef_, rtol=1e-14)


# Losses in torch's own words, where it has them.
def hinge_with(margin):
    return lambda z, y: torch.clamp(margin - y * z, min=0)


def insensitive(z, y):
    return torch.clamp((z - y).abs() - 0.1, min=0)


TORCH_LOSSES = {
    "squared_error": lambda z, y: F.mse_loss(z, y, reduction="none") / 2,
    "huber": lambda z, y: F.huber_loss(z, y, reduction="none", delta=0.1),
    "epsilon_insensitive": insensitive,
    "squared_epsilon_insensitive": lambda z, y: insensitive(z, y) ** 2,
    "absolute_error": lambda z, y: F.l1_loss(z, y, reduction="none"),
    "quantile": lambda z, y: torch.maximum(0.5 * (y - z), 0.5 * (z - y)),
    "poisson": lambda z, y: F.poisson_nll_loss(z, y, log_input=True, reduction="none"),
    "gamma": lambda z, y: z + y * torch.exp(-z),
    "log_loss": lambda z, y: F.soft_margin_loss(z, y, reduction="none"),
    "hinge": hinge_with(1.0),
    "perceptron": hinge_with(0.0),
    "squared_hinge": lambda z, y: hinge_with(1.0)(z, y) ** 2,
    "modified_huber": lambda z, y: torch.where(y * z < -1, -4 * y * z, hinge_with(1.0)(z, y) ** 2),
    "brier_score": lambda z, y: 2 * torch.sigmoid(-y * z) ** 2,
}


@pytest.mark.parametrize("loss", TORCH_LOSSES)
def test_loss_gradient_is_that_of_autograd(data, loss):
    X, w = data.X, np.linspace(-1.5, 1.5, data.X.shape[1])
    y = {"poisson": data.counts, "gamma": data.positive}.get(loss, data.y)
    if loss in (
        "log_loss",
        "hinge",
        "perceptron",
        "squared_hinge",
        "modified_huber",
        "brier_score",
    ):
        y = np.where(data.binary == "yes", 1.0, -1.0)
    v = torch.tensor(w, requires_grad=True)
    weights = torch.tensor(data.s)
    expected = (weights * TORCH_LOSSES[loss](torch.tensor(X) @ v, torch.tensor(y))).sum() / weights.sum()
    expected.backward()
    value, gradient = kernels.loss_gradient(X, y, w, loss, data.s)
    assert_allclose(value, expected.item(), rtol=1e-12)
    assert_allclose(gradient, v.grad.numpy(), rtol=1e-12, atol=1e-13)


def test_clip_norm_holds_where_the_solver_is_chosen(data):
    params = {"clip_norm": 1e-3, "learning_rate": 0.1, "max_iter": STEPS, "tol": None}
    chosen, named = (
        GDRegressor(solver=solver, **params).fit(data.X, data.y) for solver in ("auto", "nesterov")
    )
    assert chosen.solver_ == "nesterov"
    assert_allclose(chosen.coef_, named.coef_, rtol=1e-12)
