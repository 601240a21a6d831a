"""What GDRegressor and GDClassifier share: their parameters, and the course of fit and partial_fit.

Data are validated (`_validation.py`), a plan and a problem are made of them, the descent is called, and what
it found is kept (`_learned.py`). Nothing here computes.
"""

import copy
import functools
import inspect
from numbers import Integral, Real
from time import perf_counter

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._callbacks import CallbackSupportMixin, IterationTasks
from ._descent import minimise, one_epoch, set_scales, start
from ._epochs import EpochState
from ._learned import LEARNED, check_same_model, initial_theta, learned_attributes, predictor
from ._linear import LinearProblem
from ._monitor import Monitor
from ._network import Architecture, NetworkProblem, joined
from ._optimizers import RULES
from ._plan import make_plan
from ._stream import learn_from_chunk
from ._threads import effective_n_threads
from ._validation import ValidationMixin

FAIR_SAMPLE = 100  # rows that tell the scales of columns and targets
ACTIVATIONS = ("tanh", "logistic", "relu", "leaky_relu", "elu", "identity")
SCHEDULES = ("auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2")


def all_or_nothing(method):
    """An estimator whose fit failed is as it was before: old attributes come back."""

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        before = self.__dict__.copy()
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    return guarded


def _has_coef(self):
    if np.size(self.hidden_layer_sizes) == 0:
        return True
    raise AttributeError("The weights of a network (coefs_) are dense: this is for linear models.")


class BaseGD(ValidationMixin, CallbackSupportMixin, BaseEstimator):
    """What regression and classification share; they differ in how y is encoded and decoded."""

    _parameter_constraints: dict = {
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "fit_intercept": ["boolean"],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "batch_norm": ["boolean"],
        "solver": [StrOptions({"auto", *RULES})],
        "batch_size": [StrOptions({"auto", "full"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions(set(SCHEDULES)), Interval(Real, 0, None, closed="neither")],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "preconditioner": [StrOptions({"auto", "diag", "gram"}), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "average": ["boolean", Interval(Integral, 0, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    @classmethod
    @functools.cache
    def _get_param_names(cls):
        """Of a class they do not change, and scikit-learn asks for them several times a fit."""
        return super()._get_param_names()

    @classmethod
    @functools.cache
    def _valid_defaults(cls):
        """Those defaults of the parameters that are valid."""
        valid = {}
        for p in inspect.signature(cls.__init__).parameters.values():
            try:
                validate_parameter_constraints(
                    cls._parameter_constraints, {p.name: p.default}, caller_name=cls.__name__
                )
            except InvalidParameterError:
                continue
            valid[p.name] = p.default
        return valid

    def _validate_params(self):
        """By scikit-learn's rules, which take as long as a small fit: not again what still is a default."""
        given, defaults = self.get_params(deep=False), self._valid_defaults()
        given = {name: value for name, value in given.items() if value is not defaults.get(name, self)}
        validate_parameter_constraints(self._parameter_constraints, given, caller_name=type(self).__name__)

    # ---- the two ways of training -------------------------------------------------------------

    def _fit(self, X, y, coef_init, intercept_init, sample_weight, X_val, y_val, sample_weight_val):
        warm = self.warm_start and hasattr(self, "_training")
        X, y = self._validate_X_y(X, y, reset=True)
        classes = self._find_classes(y)
        loss, k = self._make_loss(classes, y)
        weight = self._weights(X, y, classes, sample_weight)
        if weight is not None and not weight.any():
            raise ValueError("Sample weights are all zero: there is nothing to learn from.")
        n_threads = effective_n_threads(self.n_jobs)
        validation = self._validation_set(y, classes, X_val, y_val, sample_weight_val)
        X_all, y_all, metadata = X, y, sample_weight
        if self.early_stopping and validation is None:
            X, y, weight, validation = self._split(X, y, weight)
        plan = make_plan(self, loss, *X.shape)
        plan.look_at(X, k)
        problem = self._problem(*self._encode(X, y, classes, weight, plan), loss, plan, k, n_threads)
        theta, state = initial_theta(self, problem, warm, coef_init, intercept_init), None
        if warm and coef_init is None and intercept_init is None:
            state = self._resumable(plan, theta)
        given = X_all, y_all, None if metadata is None else {"sample_weight": metadata}
        return self._train(problem, plan, theta, state, classes, self._flat_output(y), validation, given)

    def _train(self, problem, plan, theta, state, classes, flat, validation, given):
        """Descend from theta, or from where the problem begins, and store what was learned.

        flat : whether y is, so that `coef_` shall be
        given : X, y and metadata as callbacks are shown them
        """

        def attributes(theta):
            return learned_attributes(problem, theta, flat) | self._classes_attribute(classes)

        tasks = IterationTasks.make(self, *given, self.max_iter, attributes)
        monitor = Monitor(
            max_iter=self.max_iter,
            verbose=self.verbose,
            score=None if validation is None else self._scorer(problem, validation, classes),
            keep_best=self.early_stopping,
            patience=self.n_iter_no_change if self.early_stopping and self.tol is not None else None,
            tol=self.tol or 0.0,
            callback=tasks,
        )
        rng = check_random_state(self.random_state)
        theta, result, state = minimise(problem, plan, monitor, theta=theta, rng=rng, state=state)
        if monitor.best_theta is not None:
            theta = monitor.best_theta
        if tasks is not None:
            tasks.close(theta)
        self._store(attributes(theta), plan, result.learning_rate, monitor.curve)
        self.n_iter_ = monitor.n_iter
        self.t_ = float(state.t if state is not None else monitor.n_iter + 1)
        self.stop_reason_ = result.reason
        self._training = {"state": state, "rng": rng, "theta": theta}
        if plan.looks_at_columns:
            self._training["by_entries"] = plan.by_entries
        if plan.hidden:
            self._training["coordinates"] = problem.coordinates
            problem.warn_of_vanished_gradients()
            problem.warn_of_saturation(theta)
        elif result.moments is not None:  # a stream may go on from here
            mean, variance = result.moments
            n, self._training["rows"] = problem.total_weight, problem.X.shape[0]
            self._training["moments"] = n, mean, variance * n
        if validation is not None:
            self.validation_scores_ = monitor.scores
        else:
            self.__dict__.pop("validation_scores_", None)
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        began = perf_counter()
        first = not hasattr(self, "_training")
        X, y = self._validate_X_y(X, y, reset=first)
        classes = self._find_classes(y, classes if first else self._seen_classes(classes))
        loss, k = self._make_loss(classes, y)
        weight = self._weights(X, y, classes, sample_weight)
        plan = make_plan(self, loss, *X.shape, streaming=True)
        plan.look_at(X, k, vars(self).get("_training"))
        n_threads = effective_n_threads(self.n_jobs)
        problem = self._problem(*self._encode(X, y, classes, weight, plan), loss, plan, k, n_threads)
        if first:
            training = {"state": None, "theta": None, "rng": check_random_state(self.random_state)}
            flat = self._flat_output(y)
        else:
            training, flat = self._training_to_go_on_with(), self._flat
            check_same_model(self, problem, training["theta"])
        take = self._learn if weight is None or weight.any() else self._pass_over
        learned, step, objective = take(problem, plan, training, flat)
        curve = [*getattr(self, "loss_curve_", []), objective]
        self._store(learned | self._classes_attribute(classes), plan, step, curve)
        self.n_iter_, self.t_, self.stop_reason_ = 1, float(training["state"].t), "max_iter"
        self.__dict__.pop("validation_scores_", None)  # of an earlier fit
        self._training = training
        if self.verbose:
            seconds = perf_counter() - began
            print(
                f"Chunk {len(curve)}, {X.shape[0]} rows, objective {objective:.8g}, {seconds:.3g} s",
                flush=True,
            )
        return self

    def _learn(self, problem, plan, training, flat):
        """One epoch over a chunk; what was learned, the last step, and the objective met."""
        if plan.hidden:
            self._set_coordinates(problem, plan, training)
            set_scales(problem, plan)
        theta = training["theta"]
        if theta is None:
            theta = self._first_theta(problem, plan, training["rng"])
        learn = self._network_from_chunk if plan.hidden else learn_from_chunk
        solution, step, objective = learn(problem, plan, theta, training)
        return learned_attributes(problem, solution, flat), step, objective

    @staticmethod
    def _network_from_chunk(problem, plan, theta, training):
        """`learn_from_chunk` for a network, whose scales stay."""
        state, step, loss = one_epoch(problem, plan, theta, training["state"], training["rng"])
        to_theta = problem.coordinates.to_theta
        training |= {"state": state, "theta": to_theta(state.u.astype(np.float64))}
        solution = to_theta(state.solution.astype(np.float64))
        return solution, step, loss + problem.penalty_value(state.u)

    def _training_to_go_on_with(self):
        """What training has left behind, whose arrays no epoch changes: it copies those that it does."""
        training = dict(self._training)
        state, theta = training["state"], training["theta"]
        fits = state is not None and (theta is None or state.u.shape == theta.shape)
        training["state"] = copy.copy(state) if fits else None
        training["rng"] = copy.deepcopy(training["rng"])
        return training

    def _first_theta(self, problem, plan, rng):
        if plan.hidden:
            return problem.coordinates.to_theta(start(problem, plan, rng))
        theta = np.zeros((problem.k, problem.d + 1))
        if plan.auto_rate and self.fit_intercept and problem.loss.log_link:
            theta[:, -1] = problem.loss.baseline(problem.Y, problem.weight, streaming=True)
        return theta

    def _pass_over(self, problem, plan, training, flat):
        """A chunk without weight: its updates are counted, and that is all.

        The next chunk may be the first to learn from, so nothing is drawn from the random numbers.
        """
        theta, step = training["theta"], getattr(self, "learning_rate_", np.nan)
        if theta is not None:
            learned = {name: vars(self)[name] for name in LEARNED if name in vars(self)}
        else:
            theta = np.zeros((problem.k, problem.d + 1))
            if plan.hidden:
                theta = start(problem, plan, copy.deepcopy(training["rng"]))
            learned = learned_attributes(problem, theta, flat)
        if training["state"] is None:
            training["state"] = EpochState.start(problem, plan, theta.astype(problem.X.dtype))
        training["state"].t += -(-problem.X.shape[0] // plan.batch_size)
        return learned, step, problem.penalty_value(theta)

    def _problem(self, X, Y, weight, loss, plan, k, n_threads):
        """Data, loss and penalty as what is to be minimised."""
        if not plan.hidden:
            return LinearProblem(
                X, Y, weight, loss, plan.penalty, k=k, fit_intercept=self.fit_intercept,
                n_threads=n_threads,
            )  # fmt: skip
        sizes = (X.shape[1], *plan.hidden, k)
        architecture = Architecture(sizes, self.activation, self.batch_norm, self.fit_intercept)
        return NetworkProblem(
            X, Y, weight, loss, plan.penalty, architecture, batch_size=plan.batch_size, n_threads=n_threads
        )

    def _set_coordinates(self, problem, plan, training):
        """Those of a network come from the first chunks, until these have `FAIR_SAMPLE` rows, and stay.

        Meanwhile columns and targets are seen anew with each chunk, by weights that are the same. A chunk
        that has so many tells by itself: it is not copied.
        """

        def fair(rows):
            X, _, weight = rows
            return (len(X) if weight is None else np.count_nonzero(weight)) >= FAIR_SAMPLE

        known, first = training.get("coordinates"), training.get("first_rows")
        scaled = plan.auto_rate or plan.preconditioner == "diag"
        if scaled and (known is None or first is not None):
            rows = problem.rows
            if first is not None and not fair(rows):
                rows = joined(first, rows)
            coordinates = problem.standardise(rows, streaming=True)
            if known is not None:
                training["theta"] = coordinates.to_theta(known.from_theta(training["theta"]))
                training["state"].coordinates = coordinates
            training["coordinates"] = coordinates
            training["first_rows"] = None if fair(rows) else copy.deepcopy(rows)
        elif known is not None:
            problem.set_coordinates(known)

    def _resumable(self, plan, theta):
        """State of the optimizer of the last fit, where it fits this one."""
        state = getattr(self, "_training", {}).get("state")  # who resumes it copies what changes
        if state is None or theta is None or state.u.shape != theta.shape:
            return None
        if plan.auto_rate and not plan.hidden:
            return None
        return state

    # ---- what was learned ---------------------------------------------------------------------

    def _store(self, learned, plan, learning_rate, curve):
        for name in LEARNED:  # another fit may have been of another kind
            self.__dict__.pop(name, None)
        vars(self).update(learned)
        self.loss_curve_ = curve
        self.learning_rate_ = learning_rate
        self.solver_ = plan.solver
        self.batch_size_ = plan.batch_size
        self.preconditioner_ = plan.preconditioner

    @available_if(_has_coef)
    def sparsify(self):
        """Turn `coef_` into a CSR matrix of shape (n_outputs, n_features).

        That saves memory and time where an L1 penalty left few weights. Training goes on from it as before,
        and leaves it dense again.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        if not issparse(self.coef_):
            self.coef_ = csr_matrix(np.atleast_2d(self.coef_))
        return self

    @available_if(_has_coef)
    def densify(self):
        """Turn `coef_` into an ndarray again, of the shape that `fit` gave it.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        if issparse(self.coef_):
            self.coef_ = self.coef_.toarray()[0 if self._flat else slice(None)]
        return self

    def _predictor(self, X):
        """The predictor of the loss: (m,) where `coef_` is flat, else (m, k)."""
        check_is_fitted(self)
        return predictor(self, self._validate_X(X))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_") or hasattr(self, "coefs_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
