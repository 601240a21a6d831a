"""A function of the user's as descents see it: values and gradients at points, inside a box.

In: fun and jac as SciPy takes them, and points. Out: floats and float64 arrays, checked, counted. A descent
asks questions, (VALUE, x) or (GRADIENT, x); `Function.answer` answers those of many descents at once.
"""

import numpy as np
from scipy.optimize import Bounds

VALUE, GRADIENT = "value", "gradient"
DIFFERENCES = {"2-point": 1 / 2, "3-point": 1 / 3}  # exponents of the relative step: eps ** exponent


class Box:
    """lower <= x <= upper, and the projection onto it."""

    def __init__(self, bounds, n):
        self.unbounded = bounds is None
        try:
            if self.unbounded:
                sides = -np.inf, np.inf
            elif isinstance(bounds, Bounds):
                sides = bounds.lb, bounds.ub
            else:
                pairs = [(-np.inf if a is None else a, np.inf if b is None else b) for a, b in bounds]
                sides = np.reshape(pairs, (n, 2)).T
            self.lower, self.upper = (np.array(np.broadcast_to(side, n), np.float64) for side in sides)
        except (TypeError, ValueError):
            raise ValueError(
                f"bounds must be scipy.optimize.Bounds or a (min, max) for each of the {n} variables, "
                f"got {bounds!r}."
            ) from None
        if not np.all(self.lower <= self.upper):  # so NaN is refused too
            raise ValueError(f"Every lower bound must be at most its upper one, got {bounds}.")

    def project(self, x):
        return x if self.unbounded else np.clip(x, self.lower, self.upper)

    def slope(self, x, gradient):
        """Largest component of the projected gradient, x - P(x - gradient). Finite if the gradient is."""
        if not self.unbounded and np.all(np.isfinite(gradient)):
            gradient = np.clip(gradient, x - self.upper, x - self.lower)  # the same without cancellation
        return max(float(gradient.max()), -float(gradient.min()))


class Function:
    """fun and its gradient.

    Parameters
    ----------
    fun : callable
    jac : callable, True, "2-point", "3-point", None or False
    args : tuple
        Further arguments of both.
    box : Box
        Finite differences do not leave it.
    n_starts : int
        Descents that ask, each by its number.
    vectorized : bool
        Whether fun maps (k, n) to (k,), and jac (k, n) to (k, n).

    Attributes
    ----------
    nfev, njev : ndarray of shape (n_starts,)
        Values and gradients computed so far; finite differences cost values.
    """

    def __init__(self, fun, jac, args, box, n_starts=1, vectorized=False):
        if not callable(fun):
            raise TypeError(f"fun must be callable, got {fun!r}.")
        self.args = args if isinstance(args, tuple) else (args,)
        self.fun, self.box, self.vectorized = fun, box, vectorized
        self.nfev, self.njev = np.zeros(n_starts, int), np.zeros(n_starts, int)
        self.values, self.gradients = {}, {}  # of each descent's last point: no gradient is asked elsewhere
        self.pair = None  # x -> (value, gradient), where both come from one evaluation
        self.jac = None
        if jac is None or jac is False:
            self.pair = self._differentiated(_make_vjp())
        elif jac is True:
            self.pair = self._both
        elif callable(jac):
            self.jac = jac
        elif isinstance(jac, str) and jac in DIFFERENCES:
            self.method = jac
        else:
            known = ", ".join(map(repr, DIFFERENCES))
            raise ValueError(f"jac must be callable, True, None, or one of {known}; got {jac!r}.")

    def answer(self, questions):
        """{number: (VALUE or GRADIENT, x)} -> {number: float or ndarray of shape (n,)}"""
        if not self.vectorized:
            return {
                i: self._value(i, x) if kind == VALUE else self._gradient(i, x)
                for i, (kind, x) in questions.items()
            }
        answers = {}
        for kind, evaluate in ((VALUE, self._value), (GRADIENT, self._gradient)):
            numbers = [i for i, question in questions.items() if question[0] == kind]
            if numbers:
                answer = evaluate(numbers, np.array([questions[i][1] for i in numbers]))
                answer = map(float, answer) if kind == VALUE else answer
                answers.update(zip(numbers, answer, strict=True))
        return answers

    # x is a point (n,) and `who` a number; vectorized: points (k, n) and k numbers

    def _value(self, who, x):
        self.nfev[who] += 1
        if self.pair is None:
            value = self._checked(self._call(self.fun, x), x, VALUE)
            self._keep(self.values, who, value)
            return value
        value, gradient = self.pair(x)
        self._keep(self.gradients, who, self._checked(gradient, x, GRADIENT))
        return self._checked(value, x, VALUE)

    def _gradient(self, who, x):
        self.njev[who] += 1
        if self.pair is not None:
            kept = [self.gradients[i] for i in who] if self.vectorized else self.gradients[who]
            return np.asarray(kept)
        if self.jac is not None:
            return self._checked(self._call(self.jac, x), x, GRADIENT)
        if not self.vectorized:
            return self._differences(who, x)
        return np.array([self._differences(i, point) for i, point in zip(who, x, strict=True)])

    def _keep(self, store, who, answer):
        store.update(zip(who, answer, strict=True) if self.vectorized else [(who, answer)])

    def _call(self, function, x):
        return function(np.array(x), *self.args)  # a copy: it is theirs to change

    def _both(self, x):
        answer = self._call(self.fun, x)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise ValueError("With jac=True fun must return a pair, (value, gradient).")
        return answer

    def _differentiated(self, make_vjp):
        def pair(x):
            try:
                vjp, value = self._call(lambda x, *args: make_vjp(lambda x: self.fun(x, *args))(x), x)
            except Exception as error:
                self._call(self.fun, x)  # raises where fun itself is at fault
                raise TypeError(
                    f"fun could not be differentiated by autograd ({type(error).__name__}: {error}). "
                    "Write it with autograd.numpy in place of numpy and math, and assign to no elements; or "
                    'pass jac: a function that returns the gradient, True, "2-point" or "3-point".'
                ) from error
            self._checked(value, x, VALUE)
            return value, vjp(np.ones_like(value))

        return pair

    def _differences(self, who, x):
        """Gradient at one point by differences of values, all of them inside the box."""
        h = np.finfo(float).eps ** DIFFERENCES[self.method] * np.maximum(1.0, np.abs(x))
        above, below = self.box.upper - x, x - self.box.lower
        one_sided = {1: 1.0, 0: -1.0} if self.method == "2-point" else {1: 2.0, 2: -0.5, 0: -1.5}
        reach = max(one_sided)
        points, coordinates, weights = [], [], []
        gradient = np.zeros(x.size)
        for j in range(x.size):
            if self.method == "3-point" and min(above[j], below[j]) >= h[j]:
                stencil, step = {1: 0.5, -1: -0.5}, h[j]
            elif above[j] >= min(reach * h[j], below[j]):
                stencil, step = one_sided, min(h[j], above[j] / reach)
            else:
                stencil, step = one_sided, -min(h[j], below[j] / reach)
            step = (x[j] + step) - x[j]  # as rounded
            if step == 0:
                continue  # held fixed by its bounds
            for multiple, weight in stencil.items():
                if multiple == 0:
                    gradient[j] += weight / step * self.values[who]
                else:
                    point = np.array(x)
                    point[j] += multiple * step
                    points.append(self.box.project(point))
                    coordinates.append(j)
                    weights.append(weight / step)
        self.nfev[who] += len(points)
        if self.vectorized:
            points = np.reshape(points, (-1, x.size))
            values = self._checked(self._call(self.fun, points), points, VALUE)
        else:
            values = [self._checked(self._call(self.fun, point), point, VALUE) for point in points]
        np.add.at(gradient, coordinates, np.multiply(weights, values))
        return gradient

    def _checked(self, answer, x, kind):
        """As float (or ndarray of shape (k,)), or as a new float64 array of the shape of x."""
        name = "fun" if kind == VALUE else "the gradient"
        expected = x.shape[:-1] if kind == VALUE else x.shape
        if isinstance(answer, float) and not expected:
            return float(answer)
        array = as_float64(answer, name)
        if array.shape != expected and array.size != np.prod(expected, dtype=int):
            shape = f"shape {expected}" if expected else "a number"
            raise ValueError(f"{name} at x of shape {x.shape} must be {shape}, got shape {array.shape}.")
        if not expected:
            return float(array.reshape(()))
        return array.reshape(expected)


def as_float64(answer, name):
    """A new array of real numbers; what else there is is refused."""
    array = np.asarray(answer)
    try:
        if array.dtype.kind == "O":  # astype would make NaN of None
            return np.array([float(element) for element in array.flat]).reshape(array.shape)
        if array.dtype.kind in "fiub":
            return np.array(array, np.float64)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} must be real numbers, got {type(answer).__name__}: {answer!r}.")


def _make_vjp():
    try:
        from autograd import make_vjp
    except ImportError:
        raise ImportError(
            'jac=None differentiates fun with the package autograd: pip install "fastgd[autodiff]". Without '
            'it, pass jac: a function that returns the gradient, True, "2-point" or "3-point".'
        ) from None
    return make_vjp
