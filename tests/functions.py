"""Standard test functions of optimisation: value and gradient written down, minima known.

Each is (f, gradient, where it starts, its minima); f and gradient take points (..., n).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TestFunction:
    __test__ = False
    f: Callable
    gradient: Callable
    start: tuple
    minima: tuple


def _quadratic(condition, n=10):
    centre, normal = np.linspace(-1, 2, n), np.ones(n)
    mirror = np.eye(n) - 2 * np.outer(normal, normal) / n  # so that no axis of it is one of x
    A = mirror * np.geomspace(1, condition, n) @ mirror
    return TestFunction(
        lambda x: (((x - centre) @ A) * (x - centre)).sum(axis=-1) / 2,
        lambda x: (x - centre) @ A,
        (0.0,) * n,
        (tuple(centre),),
    )


def rosenbrock(x):
    a, b = x[..., :-1], x[..., 1:]
    return (100 * (b - a**2) ** 2 + (1 - a) ** 2).sum(axis=-1)


def rosenbrock_gradient(x):
    a, b = x[..., :-1], x[..., 1:]
    gradient = 0 * x
    gradient[..., :-1] += -400 * a * (b - a**2) - 2 * (1 - a)
    gradient[..., 1:] += 200 * (b - a**2)
    return gradient


def _beale_terms(x):
    a, b = x[..., 0], x[..., 1]
    return [
        (c - a * (1 - b**k), b**k - 1, a * k * b ** (k - 1)) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))
    ]


def beale(x):
    return sum(r**2 for r, _, _ in _beale_terms(x))


def beale_gradient(x):
    terms = _beale_terms(x)
    return np.stack([sum(2 * r * t[i] for r, *t in terms) for i in (0, 1)], axis=-1)


def himmelblau(x):
    a, b = x[..., 0], x[..., 1]
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def himmelblau_gradient(x):
    a, b = x[..., 0], x[..., 1]
    p, q = a**2 + b - 11, a + b**2 - 7
    return np.stack([4 * a * p + 2 * q, 2 * p + 4 * b * q], axis=-1)


def rastrigin(x):
    return (10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=-1)


def rastrigin_gradient(x):
    return 2 * x + 20 * np.pi * np.sin(2 * np.pi * x)


HIMMELBLAU_MINIMA = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.283185991286170),
    (3.584428340330492, -1.848126526964404),
)
FUNCTIONS = {
    "round quadratic": _quadratic(1.0),
    "quadratic 1e2": _quadratic(1e2),
    "quadratic 1e4": _quadratic(1e4),
    "rosenbrock": TestFunction(rosenbrock, rosenbrock_gradient, (-1.2, 1.0), ((1.0, 1.0),)),
    "rosenbrock 10": TestFunction(rosenbrock, rosenbrock_gradient, (-1.2, 1.0) * 5, ((1.0,) * 10,)),
    "beale": TestFunction(beale, beale_gradient, (1.0, 1.0), ((3.0, 0.5),)),
    "himmelblau": TestFunction(himmelblau, himmelblau_gradient, (0.0, 0.0), HIMMELBLAU_MINIMA),
    "rastrigin": TestFunction(rastrigin, rastrigin_gradient, (0.3, -0.2), ((0.0, 0.0),)),
}
