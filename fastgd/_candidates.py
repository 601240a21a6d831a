"""The problems of many candidates on the same table, as one: what `_lockstep.py` descends.

Candidates differ in fold, penalty and in what their solvers do; loss, rows and weights they share.
Parameters u have shape (n, k, d + 1), candidates first; `which` says whose they are, as finished ones drop
out. Values come per candidate and group, (n, groups): a group is an output, or all of them where softmax
couples them.

    PassCandidates       reads the rows: one fused pass over each part of the table for all
    QuadraticCandidates  squared error: the Gram matrix of every fold is all it needs
"""

import numpy as np

from ._compiled import grid, moments
from ._linear import LinearProblem
from ._quadratic import QuadraticModel


class _Candidates:
    def __init__(self, problem, penalties):
        self.X, self.loss, self.k, self.d = problem.X, problem.loss, problem.k, problem.d
        self.n_groups, self.floor = problem.n_groups, problem.floor
        self.fit_intercept = problem.fit_intercept
        self.penalties = penalties
        self.l2 = np.array([penalty.l2 for penalty in penalties])
        self.l1 = np.array([penalty.l1 for penalty in penalties])

    def group(self, product):
        """Sums of (n, k, d + 1) over each group, (n, groups, 1)."""
        axes = (1, 2) if self.loss.coupled else 2
        return product.sum(axis=axes, keepdims=True)

    def value_and_grad(self, u, which):
        """Smooth part of the objective (n, groups), and its gradient (n, k, d + 1)."""
        value, gradient = self._loss_and_grad(u, which)
        l2 = self.l2[which]
        if l2.any():
            w = u[..., :-1]
            gradient[..., :-1] += l2[:, None, None] * w
            value = value + l2[:, None] / 2 * self.group(w * w)[..., 0]
        return value, gradient

    def thresholds(self, which):
        """Coefficient of |u| per parameter, (n, 1, d + 1): the intercept has none."""
        thresholds = np.zeros((len(which), 1, self.d + 1))
        thresholds[..., :-1] = self.l1[which, None, None]
        return thresholds

    def l1_value(self, u, which):
        if not self.l1.any():
            return 0.0
        return self.group(np.abs(u) * self.thresholds(which))[..., 0]

    def objective(self, u, which):
        return self.value_and_grad(u, which)[0] + self.l1_value(u, which)


class PassCandidates(_Candidates):
    """Candidates of several folds of a table.

    Parameters
    ----------
    problem : LinearProblem
        Of all rows of the table; its weights and penalty are not looked at.
    parts : Parts
    fold : ndarray of shape (n,), ascending
        The fold of every candidate.
    penalties : list of Penalty, one for each candidate
    whole : callable (fold) -> SharedGram
        The rows of a fold, for questions about its curvature.
    """

    def __init__(self, problem, parts, fold, penalties, whole):
        super().__init__(problem, penalties)
        self.members, self.fold, self.whole = parts.members, fold, whole
        self.n_threads = problem.n_threads
        weight = parts.weight.astype(self.X.dtype)
        of_parts = [weight[rows].sum(dtype=np.float64) for rows in parts.slices()]
        self.total_weight = parts.members @ of_parts
        weight = None if np.all(weight == 1) else weight
        self.floor = self.loss.floor(problem.Y[:, parts.rows], weight)
        self._pass = grid.Pass(problem.X, problem.Y, weight, parts.rows, parts.ends, self.k, self.n_threads)

    def _loss_and_grad(self, u, which):
        fold = self.fold[which]
        if len(u) > 1 and not u.any():  # all begin at zero: one of each fold stands for the others
            _, first, place = np.unique(fold, return_index=True, return_inverse=True)
            value, gradient = self._sums(u[first], fold[first])
            value, gradient = value[place], gradient[place]
        else:
            value, gradient = self._sums(u, fold)
        if not self.fit_intercept:
            gradient[..., -1] = 0
        return value, gradient

    def _sums(self, u, fold):
        """Mean losses (n, groups), and their gradients (n, k, d + 1)."""
        loss = self.loss
        total, gradient = self._pass.run(u, self.members[fold], loss.id, loss.array, self.n_threads)
        weight = self.total_weight[fold, None]
        return total[:, : self.n_groups] / weight, gradient / weight[..., None]

    def of(self, i):
        """The problem of one candidate, for questions about its curvature."""
        return self.whole(self.fold[i]).with_penalty(self.penalties[i])


class QuadraticCandidates(_Candidates):
    """Candidates of several folds with squared error.

    Parameters
    ----------
    problem : LinearProblem
        Of any of the folds, for what they have in common.
    quadratics : list of Quadratic, one for each fold
    fold : ndarray of shape (n,), ascending
        The fold of every candidate.
    penalties : list of Penalty, one for each candidate
    """

    def __init__(self, problem, quadratics, fold, penalties):
        super().__init__(problem, penalties)
        self.quadratics, self.fold = quadratics, fold
        self.value = np.stack([q.value for q in quadratics])
        self.gradient = np.stack([q.gradient for q in quadratics])

    def _loss_and_grad(self, u, which):
        fold = self.fold[which]
        Hu = np.empty_like(u)
        ends = np.searchsorted(fold, np.arange(len(self.quadratics) + 1))
        for quadratic, first, end in zip(self.quadratics, ends, ends[1:], strict=False):
            rows = u[first:end].reshape(-1, self.d + 1)
            Hu[first:end] = (rows @ quadratic.hessian).reshape(end - first, self.k, self.d + 1)
        at_zero = self.gradient[fold]
        return self.value[fold] + ((at_zero + 0.5 * Hu) * u).sum(axis=2), at_zero + Hu

    def of(self, i):
        hessian = self.quadratics[self.fold[i]].with_ridge(self.l2[i])
        return QuadraticModel(self, None, None, None, [hessian])


class SharedGram(LinearProblem):
    """A problem that asks its rows once for means and Gram matrix, whatever penalty and curvature."""

    def __init__(self, problem):
        vars(self).update(vars(problem))
        self._shared = {}

    def with_penalty(self, penalty):
        other = object.__new__(SharedGram)
        vars(other).update(vars(self), penalty=penalty)
        return other

    @property
    def _plain_gram(self):
        shift = self._shift()
        key = shift.tobytes()
        if key not in self._shared:
            weight = np.ones(len(self.X)) if self.weight is None else self.weight.astype(np.float64)
            self._shared[key] = moments.weighted_gram(self.X, weight, shift, self.n_threads)
        return self._as_metric(self._shared[key].copy())

    def means_and_variances(self):
        if "moments" not in self._shared:
            self._shared["moments"] = super().means_and_variances()
        return self._shared["moments"]

    def lipschitz(self, curvature, affordable=True):
        if not self.coordinates.identity:
            return super().lipschitz(curvature, affordable)
        key = curvature, affordable, self.penalty.l2
        if key not in self._shared:
            self._shared[key] = super().lipschitz(curvature, affordable)
        return self._shared[key]
