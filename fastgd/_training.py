"""Which candidates can be trained together, and their training.

    closed form     squared error, plain gradient descent at constant rates: `_closed_form.py`
    Gram matrices   squared error, any other textbook descent: `_lockstep.py` on `QuadraticCandidates`, or of
                    few columns the ordinary descents on a `MomentProblem`
    moments         squared error, automatic rates and metrics: the ordinary descents on a `MomentProblem`
    passes          other losses, textbook descents: `_lockstep.py` on `PassCandidates`
    rows            other losses, automatic rates and metrics: the ordinary descents, which share rows, means
                    and Gram matrix
    epochs          mini-batches and single rows: the ordinary descents, which share rows and their order
    by themselves   the rest: networks, early stopping, orders that are not the same for all

Textbook descents have an explicit learning rate; all but epochs see the full batch. `sort` decides; `train`
yields a `Trained` for each candidate and fold that is not left to itself.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from numbers import Integral
from time import perf_counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ._candidates import PassCandidates, QuadraticCandidates, SharedGram
from ._closed_form import Spectrum, gd_on_quadratics
from ._descent import _divergence, _stable_rate, minimise, minimising
from ._fold_moments import quadratics_of_folds
from ._folds import with_attributes
from ._lockstep import lockstep
from ._metrics import GRAM_LIMIT
from ._moments import Centre, MomentProblem
from ._monitor import Monitor
from ._optimizers import RULES
from ._parts import Parts, take_rows
from ._plan import Plan, make_plan
from ._schedules import Constant
from ._shared_epochs import SharedRows, together
from ._solvers import Result
from ._sparse import is_sparse
from ._threads import blas_threads, effective_n_threads

MATRICES = 2**24  # numbers in the Gram matrices that are kept at a time
STATES = 2**24  # numbers in the states of mini-batch descents that go together
PARAMETERS = 2**18  # numbers in the parameters that descend together, unless one fold has more
FEW_COLUMNS = 256  # up to here compiled iterations of one candidate at a time beat those of all in step
EIGENBASIS = 5  # iterations per column, of all candidates, that cost as much as an eigendecomposition


@dataclass
class Job:
    """A candidate on a fold."""

    candidate: object
    fold: object
    plan: Plan
    loss: object
    k: int
    weight: np.ndarray | None  # of the training rows, class weights included

    @property
    def kind(self):
        """Jobs of one kind share their problem but for the penalty, and their solver but for its numbers."""
        plan = self.plan
        return (*self.kind_of_data, self.loss.kernel, self.loss.params, plan.rule.name, plan.accelerate)

    @property
    def kind_of_data(self):
        """Jobs of one kind see the same weights of the same rows."""
        estimator = self.candidate.estimator
        return repr(getattr(estimator, "class_weight", None)), estimator.fit_intercept, estimator.n_jobs

    def fitted(self, trained):
        """The estimator with what training has found, as far as most scorers look at it."""
        estimator, table, plan = self.candidate.estimator, self.fold.table, self.plan
        dtype, theta = table.X.dtype, trained.theta
        coef, intercept = theta[:, :-1].astype(dtype), theta[:, -1].astype(dtype)
        learned = {"coef_": coef[0] if estimator._flat_output(table.y) else coef, "intercept_": intercept}
        learned |= estimator._classes_attribute(table.classes) | table.seen
        learned |= {"solver_": plan.solver, "batch_size_": plan.batch_size}
        learned |= {"preconditioner_": plan.preconditioner, "n_iter_": trained.n_iter}
        return with_attributes(estimator, learned)

    @property
    def textbook(self):
        """An explicit rate, in the columns as they are."""
        return not (self.plan.auto_rate or self.plan.preconditioner)

    @property
    def quadratic(self):
        """Whether the Gram matrix is all that its descent asks of the rows."""
        asks_for_size = self.plan.auto_rate and self.plan.rule.limit is None  # of the targets, for its steps
        small = self.fold.table.X.shape[1] < GRAM_LIMIT
        return self.loss.kernel == "squared_error" and small and not asks_for_size

    @property
    def closed_form(self):
        plan = self.plan
        plain = plan.rule is RULES["gd"] and type(plan.schedule) is Constant
        return plain and not (plan.clip_norm or plan.penalty.l1)

    @property
    def order(self):
        """Jobs that agree here meet the rows of a fold in the same order, on the same threads."""
        estimator = self.candidate.estimator
        return estimator.n_jobs, self.plan.shuffle, estimator.random_state if self.plan.shuffle else None

    @property
    def size_of_state(self):
        """Numbers that a mini-batch descent keeps, or more."""
        parameters = self.k * (self.fold.table.X.shape[1] + 1)
        return parameters * (self.plan.rule.slots + 4) + self.plan.auto_rate * len(self.fold.train)

    @property
    def reproducible(self):
        """Whether the orders of its rows are those of every other candidate with the same seed."""
        return not self.plan.shuffle or isinstance(self.candidate.estimator.random_state, Integral)

    def problem(self, X, y, weight):
        """Rows of the table as this candidate sees them."""
        estimator = self.candidate.estimator
        encoded = estimator._encode(X, y, self.fold.table.classes, weight, self.plan)
        n_threads = effective_n_threads(estimator.n_jobs)
        return estimator._problem(*encoded, self.loss, self.plan, self.k, n_threads)


@dataclass
class Trained:
    """What training has come to.

    Attributes
    ----------
    theta : ndarray of shape (k, d + 1), or None where the descent diverged
    error : Exception or None
    n_iter : int
    objective : float
        Of the training rows, at the end.
    seconds : float
        Its share of the time.
    unfinished : bool
        Stopped by max_iter before it had converged.
    """

    theta: np.ndarray | None
    error: Exception | None
    n_iter: int
    objective: float
    seconds: float
    unfinished: bool


def sort(candidates, folds):
    """Jobs that can be trained together, and pairs (candidate, fold) that are by themselves.

    Whatever is wrong with a candidate is left to its own fit to say.
    """
    jobs, alone = [], []
    for candidate in candidates:
        try:
            candidate.check()
            shareable = not (candidate.estimator.early_stopping or candidate.estimator.verbose)
        except ValueError:
            shareable = False
        for fold in folds:
            job = _job(candidate, fold) if shareable else None
            jobs.append(job) if job else alone.append((candidate, fold))
    return jobs, alone


def _job(candidate, fold):
    """The job if it can be shared, else None."""
    estimator, classes = candidate.estimator, fold.table.classes
    try:
        if not fold.has_all_classes:
            return None
        loss, k = estimator._make_loss(classes, fold.y_train)
        plan = make_plan(estimator, loss, len(fold.train), fold.table.X.shape[1])
        weight = fold.weights(estimator)
        effective_n_threads(estimator.n_jobs)  # there may be none
        job = Job(candidate, fold, plan, loss, k, weight)
        if weight is not None and not weight.any():
            return None
    except ValueError:
        return None
    shareable = not is_sparse(fold.table.X) if plan.full else job.reproducible
    return job if shareable and not plan.hidden else None


def train(jobs):
    """Train all jobs.

    Yields
    ------
    job : Job
    trained : Trained, or None where only a fit by itself can say what is wrong
        Jobs of one fold may come at several times, and those of several folds at once.
    """
    with blas_threads(1):  # the kernels' threads are our own
        for of_fold in _grouped([job for job in jobs if not job.plan.full], lambda job: job.fold.number):
            yield from _train_by_epochs(of_fold)
        jobs = [job for job in jobs if job.plan.full]
        for of_kind in _by_data([job for job in jobs if job.quadratic and job.textbook]):
            yield from _train_quadratics(of_kind)
        for of_kind in _by_data([job for job in jobs if job.quadratic and not job.textbook]):
            yield from _train_on_moments(of_kind)
        others = [job for job in jobs if not job.quadratic]
        for of_kind in _grouped([job for job in others if job.textbook], lambda job: repr(job.kind)):
            for together in _by_size(of_kind):
                yield from _train_by_passes(together)
        others = [job for job in others if not job.textbook]
        for of_kind in _grouped(others, lambda job: (job.fold.number, repr(job.kind))):
            yield from _train_on_rows(of_kind)
            of_kind[0].fold.close()


def _by_data(jobs):
    """Jobs that need the same Gram matrices, no more of these at a time than there is room for."""
    for of_kind in _grouped(jobs, lambda job: repr(job.kind_of_data)):
        numbers = sorted({job.fold.number for job in of_kind})
        at_once = max(1, MATRICES // (of_kind[0].fold.table.X.shape[1] + 1) ** 2)
        for first in range(0, len(numbers), at_once):
            some = set(numbers[first : first + at_once])
            yield sorted((job for job in of_kind if job.fold.number in some), key=lambda job: job.fold.number)


def _by_size(jobs):
    """Jobs of several folds, as many as descend together while their parameters are in cache."""
    (job, *_), numbers = jobs, sorted({job.fold.number for job in jobs})
    size = len(jobs) // len(numbers) * job.k * (job.fold.table.X.shape[1] + 1)
    at_once = 1 if job.loss.log_link else max(1, PARAMETERS // size)  # with a log link, folds differ in floor
    for first in range(0, len(numbers), at_once):
        some = numbers[first : first + at_once]
        yield sorted((job for job in jobs if job.fold.number in some), key=lambda job: job.fold.number)


def _grouped(jobs, key):
    return [list(group) for _, group in groupby(sorted(jobs, key=key), key)]


def _timed(jobs, run):
    start = perf_counter()
    try:
        trained = run(jobs)
    except np.linalg.LinAlgError:  # a Gram matrix that overflowed
        yield from ((job, None) for job in jobs)
        return
    share = (perf_counter() - start) / len(jobs)
    for job, result in zip(jobs, trained, strict=True):
        result.seconds += share
        yield job, result


def _train_by_passes(jobs):
    """Jobs of some folds of one table, which differ in penalty and solver."""
    numbers, folds, parts = _parts(jobs)
    if len(folds) > 1 and not parts.apart:
        for of_fold in _grouped(jobs, lambda job: job.fold.number):
            yield from _train_by_passes(of_fold)
        return
    yield from _timed(jobs, lambda jobs: _by_passes(jobs, numbers, folds, parts))
    for fold in folds:
        fold.close()


def _by_passes(jobs, numbers, folds, parts):
    table = jobs[0].fold.table
    problem = jobs[0].problem(table.X, table.y, None)

    @lru_cache(1)
    def whole(f):
        job = next(job for job in jobs if job.fold is folds[f])
        return SharedGram(job.problem(take_rows(table.X, job.fold.train), job.fold.y_train, job.weight))

    plans, fold = [job.plan for job in jobs], np.searchsorted(numbers, [job.fold.number for job in jobs])
    candidates = PassCandidates(problem, parts, fold, [plan.penalty for plan in plans], whole)
    return _finish(candidates, plans, lockstep(candidates, plans, _stable_rate))


def _parts(jobs):
    """Numbers of the folds, the folds, and the parts into which they cut their table."""
    by_fold = {job.fold.number: job for job in jobs}
    folds, weights = zip(*((job.fold, job.weight) for job in by_fold.values()), strict=True)
    parts = Parts.of(len(folds[0].table.X), [fold.train for fold in folds], weights)
    return list(by_fold), folds, parts


def _train_quadratics(jobs):
    """Jobs of several folds of one table, which differ in penalty and solver."""
    start = perf_counter()
    problem = jobs[0].problem(jobs[0].fold.table.X, jobs[0].fold.table.y, None)
    numbers, quadratics, held_out = _quadratics(jobs, problem, problem.Y)
    if problem.X.dtype == np.float64:  # other predictions, and scores, are rounded to float32
        for job in jobs:
            job.fold.held_out = held_out[numbers.index(job.fold.number)]
    seconds = (perf_counter() - start) / len(jobs)
    rest, closed = [job for job in jobs if not job.closed_form], []
    for of_basis in _grouped([job for job in jobs if job.closed_form], _basis):
        many = len(of_basis) * max(job.plan.max_iter for job in of_basis) >= EIGENBASIS * problem.d
        (closed if many else rest).extend(of_basis)
    if closed:
        yield from _timed(closed, lambda jobs: _in_closed_form(problem, quadratics, numbers, jobs, seconds))
    if problem.d <= FEW_COLUMNS:
        for job in rest:
            moments = MomentProblem(problem, quadratics[numbers.index(job.fold.number)], job.plan.penalty)
            yield job, _descend(moments, job.plan, seconds, np.zeros((problem.k, problem.d + 1)))
        return
    for of_kind in _grouped(rest, lambda job: repr(job.kind)):
        of_kind.sort(key=lambda job: job.fold.number)
        yield from _timed(of_kind, lambda jobs: _in_lockstep(problem, quadratics, numbers, jobs, seconds))


def _basis(job):
    """Jobs that agree here share an eigenbasis."""
    return job.fold.number, job.plan.penalty.l2


def _quadratics(jobs, problem, Y, shift=None):
    """Numbers of the folds, and their squared errors: of the training rows, and of the test rows if known."""
    numbers, folds, parts = _parts(jobs)
    return numbers, *quadratics_of_folds(
        problem.X, Y, parts, [fold.test for fold in folds], shift=shift,
        fit_intercept=problem.fit_intercept, n_threads=problem.n_threads,
    )  # fmt: skip


def _train_on_moments(jobs):
    """Automatic rates and metrics: each by its ordinary descent, which finds here all it asks of the rows."""
    start = perf_counter()
    problem = jobs[0].problem(jobs[0].fold.table.X, jobs[0].fold.table.y, None)
    centre = Centre.of(problem)
    numbers, quadratics, _ = _quadratics(jobs, problem, centre.targets(problem.Y), centre.shift)
    seconds = (perf_counter() - start) / len(jobs)
    for job in jobs:
        quadratic = quadratics[numbers.index(job.fold.number)]
        moments = MomentProblem(problem, quadratic, job.plan.penalty)
        trained = _descend(moments, job.plan, seconds, None if job.plan.auto_rate else centre.zero())
        if trained.theta is not None:
            trained.theta = centre.back(trained.theta)
        yield job, trained


def _train_on_rows(jobs):
    """The same for other losses, on the rows of one fold."""
    fold = jobs[0].fold
    problem = SharedGram(jobs[0].problem(fold.X_train, fold.y_train, jobs[0].weight))
    for job in jobs:
        yield job, _descend(problem.with_penalty(job.plan.penalty), job.plan)


def _descend(problem, plan, seconds=0.0, begin=None):
    """An ordinary descent; what it raises is its result."""
    start, monitor = perf_counter(), Monitor(max_iter=plan.max_iter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one for all, by the search
            outcome = minimise(problem, plan, monitor, theta=begin)
    except Exception as raised:
        outcome = raised
    return _trained(outcome, plan, monitor, seconds + perf_counter() - start)


def _trained(outcome, plan, monitor, seconds=0.0):
    """What `minimise` returned or raised, as what a search wants to know."""
    theta = error = reason = None
    if isinstance(outcome, Exception):
        error = outcome
    else:
        theta, result, _ = outcome
        reason = result.reason
    if reason == "interrupted":
        raise KeyboardInterrupt
    objective = monitor.curve[-1] if monitor.curve else np.nan
    unfinished = reason == "max_iter" and plan.tol is not None
    return Trained(theta, error, monitor.n_iter, objective, seconds, unfinished)


def _train_by_epochs(jobs):
    """Mini-batches of the rows of one fold, whatever the losses, penalties and rules."""
    fold = jobs[0].fold
    X, problems = take_rows(fold.table.X, fold.train), {}
    X = X if is_sparse(X) else np.ascontiguousarray(X)
    for job in jobs:
        job.plan.look_at(X, job.k)

    def problem_of(job):
        plan = job.plan
        of_plan = plan.normalise_weights, plan.by_entries
        key = repr((*job.kind_of_data, job.loss.kernel, job.loss.params, *of_plan))
        if key not in problems:
            problems[key] = SharedRows(job.problem(X, fold.y_train, job.weight))
        return problems[key].with_penalty(job.plan.penalty)

    for alike in _grouped(jobs, lambda job: repr(job.order)):
        at_once = max(1, STATES // max(job.size_of_state for job in alike))
        for first in range(0, len(alike), at_once):
            some = alike[first : first + at_once]
            yield from _timed(some, lambda jobs: _by_epochs(jobs, [problem_of(job) for job in jobs]))


def _by_epochs(jobs, problems):
    plans, estimator = [job.plan for job in jobs], jobs[0].candidate.estimator
    monitors = [Monitor(max_iter=plan.max_iter) for plan in plans]
    descents = [minimising(*each) for each in zip(problems, plans, monitors, strict=True)]
    rng, n_threads = check_random_state(estimator.random_state), effective_n_threads(estimator.n_jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        outcomes = together(descents, problems, plans, rng, n_threads)
    return [_trained(*each) for each in zip(outcomes, plans, monitors, strict=True)]


def _candidates_of(problem, quadratics, numbers, jobs):
    fold = np.searchsorted(numbers, [job.fold.number for job in jobs])
    return QuadraticCandidates(problem, quadratics, fold, [job.plan.penalty for job in jobs])


def _in_closed_form(problem, quadratics, numbers, jobs, seconds):
    plans, bases = [job.plan for job in jobs], [_basis(job) for job in jobs]
    keys = sorted(set(bases))
    spectra = [Spectrum.of(quadratics[numbers.index(f)], l2) for f, l2 in keys]
    candidates = _candidates_of(problem, quadratics, numbers, jobs)
    descents = gd_on_quadratics(problem, spectra, [keys.index(basis) for basis in bases], plans)
    return _finish(candidates, plans, descents, seconds)


def _in_lockstep(problem, quadratics, numbers, jobs, seconds):
    plans = [job.plan for job in jobs]
    candidates = _candidates_of(problem, quadratics, numbers, jobs)
    return _finish(candidates, plans, lockstep(candidates, plans, _stable_rate), seconds)


def _finish(candidates, plans, descents, seconds=0.0):
    """Descents as what a search wants to know; the reasons of those that diverged in a fit's own words."""
    trained = []
    for i, (plan, descent) in enumerate(zip(plans, descents, strict=True)):
        error = None
        if descent.diverged:
            result = Result(descent.u, learning_rate=descent.learning_rate)
            error = _divergence(candidates.of(i), plan, result)
        unfinished = error is None and descent.reason == "max_iter" and plan.tol is not None
        theta = None if error else descent.u
        trained.append(Trained(theta, error, descent.n_iter, descent.objective, seconds, unfinished))
    return trained
