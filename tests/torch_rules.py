"""The update rules of torch.optim under fastgd's names, with the same moments as `MOMENTS` gives fastgd."""

import pytest

torch = pytest.importorskip("torch")

MOMENTS = {"momentum": 0.85, "beta_1": 0.8, "beta_2": 0.95}
OPTIMIZERS = {
    "gd": lambda groups, lr: torch.optim.SGD(groups, lr),
    "momentum": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.85),
    "nesterov": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.85, nesterov=True),
    "adagrad": lambda groups, lr: torch.optim.Adagrad(groups, lr, eps=1e-10),
    "rmsprop": lambda groups, lr: torch.optim.RMSprop(groups, lr, alpha=0.95, eps=1e-8),
    "adam": lambda groups, lr: torch.optim.Adam(groups, lr, betas=(0.8, 0.95), eps=1e-8),
    "adamw": lambda groups, lr: torch.optim.AdamW(groups, lr, betas=(0.8, 0.95), eps=1e-8),
}
