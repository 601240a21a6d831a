"""Gradient descent on any function: a drop-in beside scipy.optimize, with the update rules of the estimators.

`gradient_descent` goes down from one point, `multi_start` from many. Both take a function and its gradient,
or only the function, which is then differentiated by the package autograd.
"""

import warnings

import numpy as np
from scipy.optimize import OptimizeResult

from ._function import Box, Function, as_float64
from ._function_descents import CONVERGED, DIVERGED, MAX_ITER, STUCK, Trace, run
from ._function_settings import Settings, message, prefix

__all__ = ["gradient_descent", "multi_start"]


def gradient_descent(
    fun, x0, args=(), jac=None, callback=None, *, solver="gd", learning_rate="auto", momentum=0.9,
    beta_1=0.9, beta_2=0.999, max_iter=1000, tol=1e-6, record_path=False, bounds=None, eta0=0.01,
    power_t=0.25, verbose=0, constraints=(), hess=None, hessp=None,
):  # fmt: skip
    """Minimise a function by gradient descent, from one point.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, with x an ndarray of shape (n,), float64.
    x0 : array-like of shape (n,), or a number
        Where to start; projected onto `bounds`. Computation is in float64, whatever its dtype.
    args : tuple, default=()
        Further arguments of `fun` and `jac`.
    jac : callable, True, "2-point", "3-point" or None, default=None
        ``jac(x, *args)`` returns the gradient, of shape (n,). True: `fun` returns value and gradient. The
        names are finite differences, forward and central. None: `fun`, written with
        ``autograd.numpy``, is differentiated by autograd (``pip install "fastgd[autodiff]"``).
    callback : callable or None, default=None
        Called after every step, in one of SciPy's two styles: ``callback(xk)``, or
        ``callback(intermediate_result)`` with an OptimizeResult of `x`, `fun`, `nit`, `learning_rate`,
        `slope` (the largest component of the gradient) and, in `multi_start`, `start`. StopIteration ends
        the descent.
    solver : {"gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"}, default="gd"
        How a gradient becomes a step: the compiled rules of the estimators, which are those of
        ``torch.optim``. "adamw" is "adam" here: a plain function has no penalty to decay by.
    learning_rate : "auto", float, "constant", "invscaling" or callable, default="auto"
        Length of a step. A callable maps the number of the step, 1, 2, ..., to its rate. "constant" is
        `eta0`, "invscaling" ``eta0 / k ** power_t``. "auto" never lets the function rise
        for long: "gd" takes Barzilai and Borwein's steps, with backtracking; "momentum" and "nesterov" the
        inverse of the curvature met, with momentum that grows and is forgotten where it points uphill;
        the others begin at ``0.01 * max(1, |x0|)``, grow while the function falls, are cut where it rises.
    momentum : float in [0, 1), default=0.9
        Of "momentum" and "nesterov", with an explicit rate.
    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Decay of the moments of "adam" and "adamw"; `beta_2` also of "rmsprop".
    max_iter : int, default=1000
        Steps.
    tol : float or None, default=1e-6
        Stop when no component of the gradient is larger; with `bounds`, of the projected gradient
        ``x - clip(x - gradient)``. None takes all `max_iter` steps, with "auto" as long
        as the function tells points apart.
    record_path : bool, default=False
        Whether to keep the points passed.
    bounds : scipy.optimize.Bounds, sequence of n pairs (min, max) or None, default=None
        Every step is projected onto them; None in a pair is no bound.
    eta0, power_t : float, default=0.01, 0.25
        Of the named schedules.
    verbose : int, default=0
        1 prints steps 1, 2, ..., 10, 20, ..., 100, 200, ...; 2 prints all of them.
    constraints, hess, hessp
        What `scipy.optimize.minimize` passes on: constraints are refused, Hessians ignored with a warning.

    Returns
    -------
    res : scipy.optimize.OptimizeResult
        `x`, `fun`, `jac` : the point reached, its value and gradient. That is the last point; the one of
        the lowest value where the descent failed or, with "auto", was cut short by `max_iter`.

        `success`, `status`, `message` : status is 0 if the gradient is within `tol`, 1 after `max_iter`
        steps, 2 if the descent diverged, 3 if no step along the gradient lowers the function, 99 if the
        callback raised StopIteration.

        `nit`, `nfev`, `njev` : steps, evaluations of `fun`, evaluations of the gradient.

        `learning_rate` : that of the last step; NaN before the first.

        `path`, `path_fun` : ndarrays of shape (nit + 1, n) and (nit + 1,), with `record_path`; without
        the point at which a descent was found to diverge.

    Raises
    ------
    ImportError
        ``jac=None`` without autograd.
    TypeError, ValueError
        An unusable argument, or a `fun` that autograd cannot differentiate.

    Notes
    -----
    A function value that is not finite rejects the step with "auto", and is divergence with an explicit rate;
    floating-point warnings inside `fun` and `jac` are therefore silenced. Ctrl-C propagates as
    KeyboardInterrupt, as in SciPy.

    It is accepted by ``scipy.optimize.minimize(fun, x0, method=gradient_descent, options={...})``, where
    options are the keywords above. SciPy turns ``jac="2-point"`` into None for methods that are not its own.

    Examples
    --------
    >>> from fastgd.optimize import gradient_descent
    >>> res = gradient_descent(lambda x: x**2 - 4 * x + 5, 7.0, jac=lambda x: 2 * x - 4)
    >>> res.x.round(6), round(res.fun, 6), res.success
    (array([2.]), 1.0, True)
    >>> res = gradient_descent(lambda x: x**2 - 4 * x + 5, 7.0, jac=lambda x: 2 * x - 4,
    ...                        learning_rate=0.1, max_iter=3, record_path=True)
    >>> res.path.ravel().round(3)
    array([7.  , 6.  , 5.2 , 4.56])
    """
    x0 = np.asarray(x0)
    if x0.ndim > 1:
        raise ValueError(
            f"x0 must be one point of shape (n,), got shape {x0.shape}. For many starting points use "
            "multi_start; to optimise a matrix, flatten it and let fun reshape it."
        )
    if np.size(constraints):
        raise ValueError("gradient_descent takes bounds, but no other constraints.")
    if hess is not None or hessp is not None:
        warnings.warn("gradient_descent uses no Hessians: hess and hessp are ignored.", stacklevel=2)
    settings = Settings(
        callback=callback, solver=solver, learning_rate=learning_rate, momentum=momentum, beta_1=beta_1,
        beta_2=beta_2, max_iter=max_iter, tol=tol, record_path=record_path, eta0=eta0, power_t=power_t,
        verbose=verbose,
    )  # fmt: skip
    return _descend(fun, x0.reshape(1, -1), args, jac, bounds, settings)[0]


def multi_start(
    fun, starts, args=(), jac=None, callback=None, *, vectorized=False, solver="gd", learning_rate="auto",
    momentum=0.9, beta_1=0.9, beta_2=0.999, max_iter=1000, tol=1e-6, record_path=False, bounds=None,
    eta0=0.01, power_t=0.25, verbose=0,
):  # fmt: skip
    """Minimise a function by gradient descent from many points; the lowest end wins.

    Parameters
    ----------
    fun, args, jac, solver, learning_rate, ...
        As in `gradient_descent`. The descents do not know of each other.
    starts : array-like of shape (n_starts, n)
    callback : callable or None, default=None
        As in `gradient_descent`; its StopIteration ends the descent that it was called for.
    vectorized : bool, default=False
        Whether `fun` maps points (k, n) to values (k,), and `jac` to gradients (k, n), for any k. All
        descents then advance together. `args` are not split.

    Returns
    -------
    res : scipy.optimize.OptimizeResult
        That of the descent with the lowest value, `nfev` and `njev` being sums over all; and of each start:

        `start` : int, the row of `starts` from which it came.

        `xs`, `funs`, `nits`, `statuses`, `successes` : ndarrays of shapes (n_starts, n) and (n_starts,).

        `paths`, `path_funs` : lists of the n_starts paths and their values, with `record_path`.

    Examples
    --------
    Two valleys, at -1 and 1, one deeper than the other:

    >>> from fastgd.optimize import multi_start
    >>> def fun(X):
    ...     x = X[:, 0]
    ...     return (x**2 - 1) ** 2 + x / 10, (4 * x * (x**2 - 1) + 0.1)[:, None]
    >>> res = multi_start(fun, [[-2.0], [0.1], [2.0]], jac=True, vectorized=True)
    >>> res.xs.ravel().round(3), res.start, round(res.fun, 3)
    (array([-1.012,  0.987,  0.987]), 0, -0.101)
    """
    settings = Settings(
        callback=callback, solver=solver, learning_rate=learning_rate, momentum=momentum, beta_1=beta_1,
        beta_2=beta_2, max_iter=max_iter, tol=tol, record_path=record_path, eta0=eta0, power_t=power_t,
        verbose=verbose,
    )  # fmt: skip
    starts = np.asarray(starts)
    if starts.ndim != 2 or not len(starts):
        raise ValueError(f"starts must be points, of shape (n_starts, n), got shape {starts.shape}.")
    results = _descend(fun, starts, args, jac, bounds, settings, vectorized, numbered=True)
    values = np.array([res.fun for res in results])
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    combined = OptimizeResult(results[best], start=best)
    combined.update(nfev=sum(res.nfev for res in results), njev=sum(res.njev for res in results))
    combined.update(xs=np.array([res.x for res in results]), funs=values)
    for many, one in (("nits", "nit"), ("statuses", "status"), ("successes", "success")):
        combined[many] = np.array([res[one] for res in results])
    if record_path:
        combined.update(paths=[res.path for res in results], path_funs=[res.path_fun for res in results])
    return combined


def _descend(fun, starts, args, jac, bounds, settings, vectorized=False, numbered=False):
    """The result of each row of starts, a list."""
    starts = _checked_starts(starts)
    box = Box(bounds, starts.shape[1])
    function = Function(fun, jac, args, box, len(starts), vectorized)
    limits = dict(max_iter=settings.max_iter, tol=settings.tol, record_path=settings.record_path)
    traces = [
        Trace(box, report=settings.reporter(i if numbered else None), **limits) for i in range(len(starts))
    ]
    descents = [settings.descent(box.project(x), trace) for x, trace in zip(starts, traces, strict=True)]
    if vectorized:
        run(dict(enumerate(descents)), function)
    else:
        for i, descent in enumerate(descents):
            run({i: descent}, function)
    return [_result(settings, function, trace, i, numbered) for i, trace in enumerate(traces)]


def _result(settings, function, trace, i, numbered):
    cut_short = settings.auto and trace.status == MAX_ITER
    x, value, gradient = trace.best if cut_short or trace.status in (DIVERGED, STUCK) else trace.last
    result = OptimizeResult(
        x=np.array(x), fun=value, jac=gradient, nit=trace.nit, nfev=int(function.nfev[i]),
        njev=int(function.njev[i]), status=trace.status, success=trace.status == CONVERGED,
        message=message(settings, trace), learning_rate=trace.rate,
    )  # fmt: skip
    if trace.path is not None:
        result.path, result.path_fun = np.reshape(trace.path, (-1, x.size)), np.array(trace.path_fun)
    if settings.verbose:
        print(f"{prefix(i if numbered else None)} {trace.nit}: {result.message}", flush=True)
    return result


def _checked_starts(starts):
    """As float64; one row per start."""
    starts = as_float64(starts, "Starting points")
    if not starts.shape[1]:
        raise ValueError("A starting point must have at least one coordinate, got none.")
    if not np.all(np.isfinite(starts)):
        raise ValueError(f"Starting points must be finite, got {starts}.")
    return starts
