"""What GDRegressor and GDClassifier share: validate, encode, hand over, store.

Data come in by scikit-learn's rules and leave as X (m, d), Y (k, m) and weights for the problem; the
parameters come back as theta: (k, d + 1), or (p,) of a network. Nothing here computes.
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
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ._callbacks import CallbackSupportMixin, IterationTasks
from ._coordinates import merged_moments
from ._descent import minimise, one_epoch, set_scales, start
from ._epochs import EpochState
from ._linear import LinearProblem
from ._monitor import Monitor
from ._network import Architecture, NetworkProblem
from ._optimizers import RULES
from ._plan import make_plan
from ._sparse import SparseRows, is_sparse
from ._threads import effective_n_threads

ACTIVATIONS = ("tanh", "logistic", "relu", "leaky_relu", "elu", "identity")
SCHEDULES = ("auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2")
DTYPES = (np.float64, np.float32)
# scikit-learn 1.9 refuses weights that are all zero unless asked not to, and older ones cannot be asked
_ALL_ZERO = {"allow_all_zero_weights": True}
if "allow_all_zero_weights" not in inspect.signature(_check_sample_weight).parameters:
    _ALL_ZERO = {}
LEARNED = ("coef_", "intercept_", "coefs_", "intercepts_", "batch_norms_", "gradient_norms_", "_flat")


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


class BaseGD(CallbackSupportMixin, BaseEstimator):
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
        validation = self._validation_set(X, y, classes, X_val, y_val, sample_weight_val)
        X_all, y_all, metadata = X, y, sample_weight
        if self.early_stopping and validation is None:
            X, y, weight, validation = self._split(X, y, weight)
        plan = make_plan(self, loss, *X.shape)
        problem = self._problem(*self._encode(X, y, classes, weight, plan), loss, plan, k, n_threads)
        theta, state = self._initial_theta(problem, warm, coef_init, intercept_init), None
        if warm and coef_init is None and intercept_init is None:
            state = self._resumable(plan, theta)
        given = X_all, y_all, None if metadata is None else {"sample_weight": metadata}
        return self._train(problem, plan, theta, state, classes, self._flat_output(y), validation, given)

    def _train(self, problem, plan, theta, state, classes, flat, validation, given):
        """Descend from theta, or from where the problem begins, and store what was learned.

        given : X, y and metadata as callbacks are shown them
        """

        def attributes(theta):
            return self._learned(problem, theta, flat) | self._classes_attribute(classes)

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
        self._store(attributes(theta), plan, state, result.learning_rate, monitor.curve)
        self.n_iter_ = monitor.n_iter
        self.t_ = float(state.t if state is not None else monitor.n_iter + 1)
        self.stop_reason_ = result.reason
        self._training = {"state": state, "rng": rng, "theta": theta, "flat": flat}
        self._training["coordinates"] = problem.coordinates if plan.hidden else None
        if plan.hidden:
            problem.warn_of_vanished_gradients()
            problem.warn_of_saturation(theta)
        if validation is not None:
            self.validation_scores_ = monitor.scores
        else:
            self.__dict__.pop("validation_scores_", None)
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        began = perf_counter()
        if self.early_stopping:
            raise ValueError(
                "early_stopping=True is for fit: partial_fit holds no rows out. Set it to False."
            )
        first = not hasattr(self, "_training")
        X, y = self._validate_X_y(X, y, reset=first)
        classes = self._find_classes(y, classes if first else self._seen_classes(classes))
        loss, k = self._make_loss(classes, y)
        weight = self._weights(X, y, classes, sample_weight)
        plan = make_plan(self, loss, *X.shape, streaming=True)
        n_threads = effective_n_threads(self.n_jobs)
        problem = self._problem(*self._encode(X, y, classes, weight, plan), loss, plan, k, n_threads)
        if first:
            training = {"state": None, "theta": None, "flat": self._flat_output(y)}
            training["rng"] = check_random_state(self.random_state)
        else:
            training = copy.deepcopy(self._training)
            self._check_same_model(problem, training["theta"])
        take = self._learn if weight is None or weight.any() else self._pass_over
        learned, step, objective = take(problem, plan, training)
        curve = [*getattr(self, "loss_curve_", []), objective]
        self._store(learned | self._classes_attribute(classes), plan, training["state"], step, curve)
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

    def _learn(self, problem, plan, training):
        """One epoch over a chunk; what was learned, the last step, and the objective met."""
        moments = None
        if plan.hidden:
            self._set_coordinates(problem, plan, training)
        elif plan.auto_rate or plan.preconditioner == "diag":
            training["moments"] = _merge_moments(training.get("moments"), problem)
            n, mean, square = training["moments"]
            moments = mean, square / n
        if moments is not None or plan.hidden:
            set_scales(problem, plan, moments=moments)
        theta = training["theta"]
        if theta is None:
            theta = self._first_theta(problem, plan, training["rng"])
        state, step, loss_met = one_epoch(problem, plan, theta, training["state"], training["rng"])
        iterate = problem.coordinates.to_theta(state.u.astype(np.float64))
        theta = problem.coordinates.to_theta(state.solution.astype(np.float64))
        training |= {"state": state, "theta": iterate}
        return (
            self._learned(problem, theta, training["flat"]),
            step,
            loss_met + problem.penalty_value(state.u),
        )

    def _first_theta(self, problem, plan, rng):
        if plan.hidden:
            return problem.coordinates.to_theta(start(problem, plan, rng))
        theta = np.zeros((problem.k, problem.d + 1))
        if plan.auto_rate and self.fit_intercept and problem.loss.log_link:
            theta[:, -1] = problem.loss.baseline(problem.Y, problem.weight)
        return theta

    def _pass_over(self, problem, plan, training):
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
            learned = self._learned(problem, theta, training["flat"])
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
        """Those of a network come from the first chunk, and stay."""
        if training.get("coordinates") is not None:
            problem.set_coordinates(training["coordinates"])
        elif plan.auto_rate or plan.preconditioner == "diag":
            problem.standardise(streaming=True)
            training["coordinates"] = problem.coordinates

    def _check_same_model(self, problem, theta):
        """partial_fit goes on with what it has learned: outputs and layers must be the same."""
        if theta is None:  # no chunk so far had any weight
            return
        if isinstance(problem, LinearProblem):
            if theta.ndim == 2 and len(theta) != problem.k:
                raise ValueError(f"y has {problem.k} outputs, {len(theta)} were seen before.")
            fits = theta.ndim == 2
        else:
            fits = theta.ndim == 1 and [c.shape for c in self.coefs_] == problem.architecture.shapes
            fits = fits and hasattr(self, "batch_norms_") == problem.architecture.batch_norm
        if not fits:
            raise ValueError(
                "partial_fit cannot go on with another architecture: hidden_layer_sizes, batch_norm or the "
                "number of outputs changed. Use fit, or a new estimator."
            )

    # ---- in: validation and encoding ----------------------------------------------------------

    def _validate_X_y(self, X, y, reset):
        X, y = validate_data(self, X, y, reset=reset, dtype=DTYPES, accept_sparse="csr", **self._y_checks)
        return _contiguous(X), y

    def _weights(self, X, y, classes, sample_weight):
        """Weights of the rows, class weights included: (m,) of X's dtype, or None for all ones."""
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(
                sample_weight, X, dtype=X.dtype, ensure_non_negative=True, copy=True, **_ALL_ZERO
            )
        return weight

    def _encode(self, X, y, classes, weight, plan):
        """X, Y (k, m) and weights as the kernels take them."""
        if is_sparse(X):
            X = SparseRows.of(X)
        elif not plan.full:
            X = np.ascontiguousarray(X)
        Y = np.ascontiguousarray(self._targets(y, classes), dtype=X.dtype)
        if weight is not None and plan.normalise_weights and not plan.full:
            weight = weight / weight.mean(dtype=np.float64).astype(X.dtype)
        return X, Y, weight

    def _validation_set(self, X, y, classes, X_val, y_val, sample_weight_val):
        if X_val is None and y_val is None and sample_weight_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val must be given together.")
        X_val, y_val = validate_data(
            self, X_val, y_val, reset=False, dtype=DTYPES, accept_sparse="csr", **self._y_checks
        )
        if y_val.shape[1:] != y.shape[1:]:
            raise ValueError(f"y_val has shape {y_val.shape}, y has shape {y.shape}.")
        self._find_classes(y_val, classes, "y_val")
        if sample_weight_val is not None:
            sample_weight_val = _check_sample_weight(sample_weight_val, X_val, ensure_non_negative=True)
        return X_val, y_val, sample_weight_val

    def _split(self, X, y, weight):
        """Training and validation rows for early stopping."""
        train, held_out = next(
            self._splitter(test_size=self.validation_fraction, random_state=self.random_state).split(
                np.zeros((X.shape[0], 1)), y
            )
        )
        weight_val = None if weight is None else weight[held_out]
        if weight_val is not None and not weight_val.any():
            raise ValueError(
                "The sample weights of the validation set are all zero: try another random_state."
            )
        validation = X[held_out], y[held_out], weight_val
        return _contiguous(X[train]), y[train], None if weight is None else weight[train], validation

    def _initial_theta(self, problem, warm, coef_init, intercept_init):
        """Where to start, or None where nothing is given."""
        if not isinstance(problem, LinearProblem):
            return self._initial_network(problem.architecture, warm, coef_init, intercept_init)
        names = "coef_init", "intercept_init"
        if warm and hasattr(self, "coef_"):
            names = _names_of_start(coef_init, intercept_init, "coef_", "intercept_")
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        if coef_init is None and intercept_init is None:
            return None
        coef_init = coef_init.toarray() if issparse(coef_init) else coef_init
        theta = np.zeros((problem.k, problem.d + 1))
        _take(names[0], coef_init, theta[:, :-1])
        _take(names[1], intercept_init, theta[:, -1])
        if not self.fit_intercept:
            theta[:, -1] = 0
        return theta

    def _initial_network(self, architecture, warm, coef_init, intercept_init):
        """Weights and intercepts of all layers from lists of arrays; what is not given is drawn."""
        norms, names = [], ("coef_init", "intercept_init")
        if warm and hasattr(self, "coefs_"):
            names = _names_of_start(coef_init, intercept_init, "coefs_", "intercepts_")
            coef_init = self.coefs_ if coef_init is None else coef_init
            intercept_init = self.intercepts_ if intercept_init is None else intercept_init
            norms = getattr(self, "batch_norms_", norms)
        if coef_init is None and intercept_init is None:
            return None
        theta = architecture.initial(check_random_state(self.random_state))
        layers = architecture.layers(theta)
        if architecture.batch_norm:
            for layer, norm in zip(layers[:-1], norms, strict=False):
                for part, value in zip(layer.norm, norm, strict=True):
                    _take("batch_norms_", value, part)
        for name, values, field in (
            (names[0], coef_init, "coef"),
            (names[1], intercept_init, "intercept"),
        ):
            if values is None:
                continue
            if np.isscalar(values) or len(values) != len(layers):
                given = repr(values) if np.isscalar(values) else f"{len(values)} arrays"
                raise ValueError(f"{name} has {given}, expected one for each of {len(layers)} layers.")
            for number, (value, layer) in enumerate(zip(values, layers, strict=True)):
                _take(f"{name}[{number}]", value, getattr(layer, field))
        if not self.fit_intercept:
            for layer in layers:
                layer.intercept[...] = 0
        return theta

    def _resumable(self, plan, theta):
        """State of the optimizer of the last fit, where it fits this one."""
        state = copy.deepcopy(getattr(self, "_training", {}).get("state"))
        if state is None or theta is None or state.u.shape != theta.shape:
            return None
        if plan.auto_rate and not plan.hidden:
            return None
        return state

    # ---- out: learned attributes --------------------------------------------------------------

    def _learned(self, problem, theta, flat):
        """Weights and intercepts as attributes, of X's dtype."""
        dtype = problem.X.dtype
        if isinstance(problem, LinearProblem):
            coef = np.ascontiguousarray(theta[:, :-1], dtype=dtype)
            intercept = np.ascontiguousarray(theta[:, -1], dtype=dtype)
            return {"coef_": coef[0] if flat else coef, "intercept_": intercept}
        layers = problem.architecture.layers(theta)
        learned = {
            "coefs_": [np.array(layer.coef, dtype) for layer in layers],
            "intercepts_": [np.array(layer.intercept, dtype) for layer in layers],
            "gradient_norms_": np.array(problem.gradient_norms),
            "_flat": flat,
        }
        if problem.architecture.batch_norm:
            learned["batch_norms_"] = [np.array(layer.norm, dtype) for layer in layers[:-1]]
        return learned

    def _store(self, learned, plan, state, learning_rate, curve):
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
            self.coef_ = self.coef_.toarray()[0 if self._training["flat"] else slice(None)]
        return self

    def _predictor(self, X):
        """The predictor of the loss: (m,) where `coef_` is flat, else (m, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=DTYPES, accept_sparse="csr")
        if hasattr(self, "coef_"):
            Z = safe_sparse_dot(X, self.coef_.T, dense_output=True)
            if issparse(self.coef_) and self._training["flat"]:  # always a matrix
                Z = Z[:, 0]
            return Z + (self.intercept_ if Z.ndim == 2 else self.intercept_[0])
        norms = getattr(self, "batch_norms_", None)
        sizes = [len(self.coefs_[0]), *(coef.shape[1] for coef in self.coefs_)]
        architecture = Architecture(sizes, self.activation, norms is not None, True)
        theta = architecture.join(self.coefs_, self.intercepts_, norms, dtype=self.coefs_[0].dtype)
        Z = architecture.predict(X, theta, effective_n_threads(self.n_jobs))
        return Z[:, 0] if self._flat else Z

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_") or hasattr(self, "coefs_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _names_of_start(coef_init, intercept_init, coef, intercept):
    """What errors call the parameters of a warm start: the user's, or those of the last fit."""
    last = "warm_start=True: the last fit's"
    return (
        "coef_init" if coef_init is not None else f"{last} {coef}",
        "intercept_init" if intercept_init is not None else f"{last} {intercept}",
    )


def _take(name, value, part):
    """Fill a part of theta by what the user gave."""
    if value is None:
        return
    value = np.asarray(value, dtype=np.float64)
    if value.shape != part.shape and not (len(part) == 1 and value.size == part.size):
        raise ValueError(f"{name} has shape {value.shape}, expected {part.shape}.")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    part[...] = value.reshape(part.shape)


def _contiguous(X):
    """X itself where it is sparse, or its rows or its columns are contiguous; else a copy."""
    if is_sparse(X) or X.strides[1] == X.itemsize or X.strides[0] == X.itemsize or 1 in X.shape:
        return X
    return np.ascontiguousarray(X)


def _merge_moments(seen, problem):
    """Weight, mean and sum of squares about the mean of all chunks so far."""
    mean, variance = problem.means_and_variances()
    new = problem.total_weight, mean, variance * problem.total_weight
    return new if seen is None else merged_moments(seen, new)
