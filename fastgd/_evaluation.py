"""Every candidate on every fold: prepared, trained together or alone, scored, and written down.

In: a model, settings of its parameters, data and scorers. Out: for every candidate and split what
scikit-learn's `_fit_and_score` would have returned.
"""

import warnings
from collections import defaultdict
from time import perf_counter
from traceback import format_exc, format_exception

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples

from ._exceptions import DivergenceError
from ._folds import Candidate, Fold, Table
from ._parts import take_rows
from ._scoring import Rows
from ._splits import Model, Split
from ._training import sort, train


class Evaluation:
    """The book of a search.

    Parameters
    ----------
    model : Model
    settings : list of dict
    shares : list of pairs of dicts
        The settings as `Model.share_out` has them.
    data : Data
    scoring : Scoring
    n_jobs : int or None
        Processes for candidates that are by themselves.
    verbose : int

    Attributes
    ----------
    outs : list of dict
        In the order of candidates and, within each, of splits.
    seen_all : bool
        Whether all that a refit is given has been found to be finite.
    """

    def __init__(self, model, settings, shares, data, scoring, n_jobs, verbose):
        self.model, self.settings, self.shares, self.data = model, settings, shares, data
        self.scoring, self.n_jobs, self.verbose = scoring, n_jobs, verbose
        self.base = clone(model.final)
        self.n_splits = len(data.splits)
        n = len(settings) * self.n_splits
        self.outs, self.n_iter, self.final_loss = [None] * n, np.full(n, np.nan), np.full(n, np.nan)
        self.divergence, self.unfinished = [""] * len(settings), []
        self.seen_all = False

    def run(self):
        """Train and score; False if there is nothing to share."""
        data, prefix = self.data, self.model.prefix
        indices = [index for pair in data.splits for index in pair]
        if set(data.fit_params) - {f"{prefix}sample_weight"}:
            return False
        if not indices or not all(map(self._is_plain, indices)):
            return False
        if len(self.model.steps) > 1:
            self._say()
            self._run_behind_steps()
        elif not self._run_on_one_table():
            return False
        if self.unfinished:
            self._warn_of_unfinished()
        return True

    def _is_plain(self, index):
        """Whether these are numbers of rows, counted from the first."""
        n = _num_samples(self.data.y)
        return index.dtype.kind in "iu" and len(index) and 0 <= index.min() and index.max() < n

    def _say(self):
        if self.verbose > 0:
            folds, candidates = f"{self.n_splits} folds", f"{len(self.settings)} candidates"
            print(f"Fitting {folds} for each of {candidates}, totalling {len(self.outs)} fits")

    def _run_on_one_table(self):
        """All folds have their rows in the same table."""
        try:
            self.base._validate_params()
            table = Table.make(self.base, self.data.X, self.data.y)
        except (ValueError, TypeError):  # each fit says for itself what is wrong
            return False
        self.seen_all = not self.data.fit_params
        splits = [Split(self.data, self.model, f) for f in range(self.n_splits)]
        folds = [Fold(s.number, table, s.train, s.test, take_rows(table.y, s.test), s.weight) for s in splits]
        jobs, alone = sort(self._candidates(range(len(self.settings))), folds)
        if len(jobs) < 2:
            return False
        self._say()
        self._evaluate(jobs, alone, splits)
        return True

    def _run_behind_steps(self):
        """The steps before the last are fitted once for every fold and every setting of theirs."""
        by_front = defaultdict(list)
        for i, (before, _) in enumerate(self.shares):
            by_front[tuple((name, *_identity(value)) for name, value in before.items())].append(i)
        for numbers in by_front.values():
            for f in range(self.n_splits):
                self._run_behind(self.shares[numbers[0]][0], f, numbers)

    def _run_behind(self, before, f, numbers):
        try:
            split = Split(self.data, self.model, f, before)
        except Exception:  # the whole pipeline says it again
            self._evaluate_alone(Split(self.data, Model.opaque(self.model.whole), f), numbers)
            return
        (X, y), (X_test, y_test) = split.final_train, split.final_test
        try:
            self.base._validate_params()
            table = Table.make(self.base, X, y)
            test = table.others(self.base, X_test)
        except (ValueError, TypeError):
            self._evaluate_alone(split, numbers)
        else:
            fold = Fold(f, table, np.arange(len(table.y)), test, np.asarray(y_test), split.weight)
            self._evaluate(*sort(self._candidates(numbers), [fold]), {f: split})
        for i in numbers:
            self.outs[i * self.n_splits + f]["fit_time"] += split.seconds / len(numbers)

    def _candidates(self, numbers):
        return [Candidate.make(i, self.base, self.shares[i][1]) for i in numbers]

    def _evaluate(self, jobs, alone, splits):
        """Train and score jobs together, the others alone."""
        by_fold = defaultdict(list)
        for job, trained in train(jobs):
            if trained is None:
                alone.append((job.candidate, job.fold))
            else:
                by_fold[job.fold.number, job.loss.log_link].append((job, trained))
        lost = [pair for pairs in by_fold.values() for pair in pairs if pair[1].error]
        if lost and self.scoring.error_score == "raise":  # the first in scikit-learn's order
            raise min(lost, key=lambda pair: (pair[0].candidate.number, pair[0].fold.number))[1].error
        for (f, _), pairs in by_fold.items():
            self._score(splits[f], pairs)
        left = defaultdict(list)
        for candidate, fold in alone:
            left[fold.number].append(candidate.number)
        for f, numbers in left.items():
            self._evaluate_alone(splits[f], numbers)

    def _score(self, split, pairs):
        """Scores of candidates of a fold that were trained together."""
        kept = [pair for pair in pairs if pair[1].error is None]
        scores, alone = self._scores_at_once(split, kept), []
        for job, trained in pairs:
            i = job.candidate.number
            if trained.error is not None:
                self.divergence[i] = self.divergence[i] or _reason(trained.error)
                text = "".join(format_exception(trained.error))
                self._write(i, split, text, self.scoring.failed(), trained.seconds, 0.0)
                continue
            try:
                each, seconds = scores.pop(0) or self._score_by_scorers(split, job, trained)
            except Exception:  # a scorer may look for what only a fit by itself learns
                alone.append(i)
                continue
            self._write(i, split, None, each, trained.seconds, seconds, trained.n_iter, trained.objective)
            if trained.unfinished:
                self.unfinished.append(i)
        pairs[0][0].fold.close()
        split.close()
        if alone:
            self._evaluate_alone(split, alone)

    def _scores_at_once(self, split, kept):
        """[(scores, seconds)] of the default scorers; None where a scorer has to look at the model."""
        unknown = [None] * len(kept)
        if not kept or any(set(params) - {"sample_weight"} for params in split.score_params):
            return unknown
        (job, _), *_ = kept
        fold = job.fold
        rows = {
            "test": Rows(fold.X_test, fold.y_test, split.score_params[0].get("sample_weight"), fold.held_out),
            "train": Rows(lambda: fold.X_train, fold.y_train, split.score_params[1].get("sample_weight")),
        }
        thetas = np.stack([trained.theta for _, trained in kept])
        estimator, classes = job.candidate.estimator, fold.table.classes
        return self.scoring.together(estimator, thetas, classes, rows, job.loss) or unknown

    def _score_by_scorers(self, split, job, trained):
        start = perf_counter()
        plain = self.scoring.plain
        final = job.fitted(trained)
        rows = split.rows(plain, self.scoring.parts)
        scores = self.scoring.one(split.scored_as(final, plain), rows, strict=not plain)
        return scores, perf_counter() - start

    def _evaluate_alone(self, split, numbers):
        """Ordinary fits, in processes of their own if the user wishes."""
        estimators = [split.model.candidate(self.settings[i], self.shares[i][1]) for i in numbers]
        books = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_and_score)(estimator, split, self.scoring) for estimator in estimators
        )
        for i, (entry, divergence) in zip(numbers, books, strict=True):
            self._write(i, split, *entry)
            self.divergence[i] = self.divergence[i] or divergence
        split.close()

    def _write(self, i, split, error, scores, fit_time, score_time, n_iter=np.nan, loss=np.nan):
        at = i * self.n_splits + split.number
        self.n_iter[at], self.final_loss[at] = n_iter, loss
        self.outs[at] = {
            "fit_error": error, **scores, "n_test_samples": len(split.test), "fit_time": fit_time,
            "score_time": score_time,
        }  # fmt: skip
        if self.verbose > 1:
            setting = ", ".join(f"{name}={value}" for name, value in self.settings[i].items())
            score = "failed" if error else f"score={scores['test_scores']}"
            print(
                f"[CV {split.number + 1}/{self.n_splits}] END {setting}; {score} total time={fit_time:.3f}s"
            )

    def more_results(self):
        """Keys of `cv_results_` beyond scikit-learn's."""
        more = {"divergence": self.divergence}
        for name, values in (("n_iter", self.n_iter), ("final_loss", self.final_loss)):
            values = values.reshape(-1, self.n_splits)
            more |= {f"split{f}_{name}": list(values[:, f]) for f in range(self.n_splits)}
            more[f"mean_{name}"] = list(values.mean(axis=1))
        return more

    def _warn_of_unfinished(self):
        settings = [str(self.settings[i]) for i in sorted(set(self.unfinished))]
        shown = ", ".join(settings[:3]) + (", ..." if len(settings) > 3 else "")
        warnings.warn(
            f"max_iter was reached before convergence in {len(self.unfinished)} of {len(self.outs)} fits: "
            f"those of {shown}. Increase max_iter, or raise tol, or leave such candidates out.",
            ConvergenceWarning,
            stacklevel=4,
        )


def _identity(value):
    """What tells values apart: numbers and names by themselves, anything else as an object."""
    simple = isinstance(value, (int, float, str, bool, type(None)))
    return type(value), value if simple else id(value)


def _reason(error):
    """Why a descent diverged; of other errors scikit-learn's warning tells."""
    return str(error) if isinstance(error, DivergenceError) else ""


def _fit_and_score(estimator, split, scoring):
    """An ordinary fit: arguments of `Evaluation._write`, and why it diverged or ""."""
    X, y = split.final_train
    start = perf_counter()
    try:
        estimator.fit(X, y, **split.fit_params)
    except Exception as error:
        if scoring.error_score == "raise":
            raise
        return (format_exc(), scoring.failed(), perf_counter() - start, 0.0), _reason(error)
    fit_time = perf_counter() - start
    scores = scoring.one(split.scored_as(estimator, scoring.plain), split.rows(scoring.plain, scoring.parts))
    score_time = perf_counter() - start - fit_time
    loss = getattr(estimator, "loss_curve_", [np.nan])[-1]
    return (None, scores, fit_time, score_time, getattr(estimator, "n_iter_", np.nan), loss), ""
