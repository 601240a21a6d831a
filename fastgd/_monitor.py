"""What happens between two iterations: the record, the screen, validation, callbacks, stopping.

A solver reports every iteration (full batch) or epoch (mini-batch) to a `Monitor`, and stops when
the answer is a reason. All that costs time is asked for only where somebody listens.
"""

import numpy as np


class Monitor:
    """Record of a fit.

    Parameters
    ----------
    max_iter : int
    verbose : int
    score : callable theta -> float, or None
        Score on the validation set.
    keep_best : bool
        Whether the parameters of the best score are to be kept.
    patience : int or None
        Reports without a better score, by more than `tol`, after which to stop; None never stops.
    callback : object with begin() and end(theta) -> bool, or None
        Told of every iteration; true stops the fit.

    Attributes
    ----------
    to_theta : callable
        From the parameters that a solver reports to those of the estimator.
    objective : callable theta -> float, or None
        Of the parameters that a solver reports, where it descends on another objective that stands for it.
    curve : list of float
        Objective of every report.
    scores : list of float
    best_theta : ndarray or None
        Parameters of the best score.
    """

    def __init__(
        self, *, max_iter, verbose=0, score=None, keep_best=False, patience=None, tol=0.0,
        callback=None,
    ):  # fmt: skip
        self.max_iter, self.verbose = max_iter, verbose
        self.score, self.keep_best, self.patience, self.tol = score, keep_best, patience, tol
        self.callback, self.to_theta, self.objective = callback, lambda theta: theta, None
        self.curve, self.scores = [], []
        self.best_theta, self.best_score, self.waited = None, -np.inf, 0

    def report(self, objective, theta):
        """Record one iteration; returns why to stop, or None.

        theta : callable returning the parameters (k, d + 1), evaluated only where needed
        """
        objective = self._record(objective, theta)
        reason = None
        if self.score is not None:
            reason = self._validate(self.to_theta(theta()))
        if self.verbose:
            score = f", validation score {self.scores[-1]:.6g}" if self.scores else ""
            print(f"Iteration {len(self.curve)}, objective {objective:.8g}{score}", flush=True)
        to_theta = self.to_theta  # that of now: a callback may look later
        if self.callback is not None and self.callback.end(lambda: to_theta(theta())):
            return "callback"
        return reason

    def _record(self, objective, theta):
        objective = float(objective if self.objective is None else self.objective(theta()))
        self.curve.append(objective)
        return objective

    def _validate(self, theta):
        score = self.score(theta)
        self.scores.append(score)
        self.waited = 0 if score > self.best_score + self.tol else self.waited + 1
        if score > self.best_score:
            self.best_score = score
            if self.keep_best:
                self.best_theta = np.array(theta)
        stop = self.patience is not None and self.waited >= self.patience
        return "early_stopping" if stop else None

    def proceed(self):
        """Whether there is an iteration left; if so, it begins."""
        if self.exhausted:
            return False
        if self.callback is not None:
            self.callback.begin()
        return True

    @property
    def quiet(self):
        """Whether nobody looks at single iterations: then they may run in compiled code."""
        return self.score is None and not self.verbose and self.callback is None

    @property
    def n_iter(self):
        return len(self.curve)

    @property
    def exhausted(self):
        return self.n_iter >= self.max_iter


class Silent(Monitor):
    """Monitor of a descent within a descent: it counts, and keeps quiet.

    Attributes
    ----------
    path : list of ndarray, or None
        Parameters of every report, where they are kept.
    """

    def __init__(self, *, max_iter, keep_path=False):
        super().__init__(max_iter=max_iter)
        self.path = [] if keep_path else None

    def report(self, objective, theta):
        self._record(objective, theta)
        if self.path is not None:
            self.path.append(np.array(self.to_theta(theta())))
        return None
