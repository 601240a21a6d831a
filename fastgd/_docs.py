"""Docstrings of the two estimators: what they share is written once."""

_PARAMETERS = """penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        R(w): half the squared norm, the sum of absolute values, or their mix. The intercept is never
        penalised.
    alpha : float, default=1e-4
        Strength of the penalty; the objective is the mean loss + alpha * R(w).
    l1_ratio : float, default=0.15
        Share of L1 with ``penalty="elasticnet"``.
    fit_intercept : bool, default=True
        Whether to learn an intercept.
    hidden_layer_sizes : tuple of int, default=()
        Units of the hidden layers; ``()`` is a linear model, a number one layer. Weights begin as Glorot &
        Bengio (2010) or, for the relu family, He et al. (2015) have them.
    activation : {"tanh", "logistic", "relu", "leaky_relu", "elu", "identity"}, default="tanh"
        Activation of hidden layers.
    batch_norm : bool, default=False
        Batch normalisation before each hidden activation (Ioffe & Szegedy 2015); predictions use running
        means and variances.
    solver : {"auto", "gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"}, default="auto"
        How a gradient becomes a step. ``"auto"`` is accelerated proximal gradient descent
        (``"nesterov"``) for the full batch, ``"gd"`` for mini-batches, ``"adam"`` for networks. With an
        explicit ``learning_rate`` the rules are those of ``torch.optim``.
    batch_size : int, "full" or "auto", default="auto"
        Rows that one gradient sees; 1 is stochastic descent. ``"auto"`` is all of them in `fit`,
        but 1 with ``average``, ``loss="perceptron"`` and the passive-aggressive rates; in
        `partial_fit` it is at most 32. For networks it is at most 200. Larger than n_samples is clipped,
        with a warning.
    learning_rate : float or {{"auto", "constant", "optimal", "invscaling", "adaptive", "pa1", "pa2"}}, \
default="auto"
        Length of a step. A float is a constant one; the names are the schedules of
        {schedules}. ``"auto"`` needs no tuning and cannot diverge: the inverse of the
        gradient's Lipschitz constant in the metric of the data, with backtracking where there is
        none; for mini-batches steps that no batch can overshoot, shrinking on a plateau. Networks begin
        at 1e-3 (the adam family) or a constant of the solver's, shrink on a plateau, and see columns and
        targets scaled.
    eta0 : float, default=0.01
        Initial learning rate of the schedules.
    power_t : float, default={power_t}
        Exponent of ``"invscaling"``.
    momentum : float, default=0.9
        Of ``"momentum"`` and ``"nesterov"`` with an explicit learning rate or mini-batches.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the moments of ``"adam"`` and ``"adamw"``; `beta_2` also of ``"rmsprop"``.
    preconditioner : {{"auto", "diag", "gram"}} or None, default="auto"
        Metric of the descent: that of the columns as they are (None), of standardised columns
        (``"diag"``), of the Gram matrix (``"gram"``; full batch without L1, no network). ``"auto"`` is None
        with an explicit learning rate and for networks, else ``"gram"`` where it pays and ``"diag"`` where
        not.
    clip_norm : float or None, default=None
        Largest norm of a gradient, with an explicit learning rate or mini-batches.
    max_iter : int, default=1000
        Iterations (full batch) or epochs (mini-batches).
    tol : float or None, default=1e-4
        Full batch: stop when the estimated suboptimality, relative to the objective, is below
        ``tol ** 2``. Mini-batches: stop when the objective fell by less than the share `tol` in
        `n_iter_no_change` epochs. None runs all `max_iter`.
    n_iter_no_change : int, default=5
        Patience of mini-batches, and of early stopping.
    early_stopping : bool, default=False
        Stop when the validation score no longer rises by `tol`, and keep the weights of the best one.
        ``partial_fit``, which meets a chunk once, takes no notice.
    validation_fraction : float, default=0.1
        Share of the training rows held out for early stopping where `fit` gets no ``X_val``.
    epsilon : float, default=0.1
        Threshold of the huber and epsilon-insensitive losses, in units of y.{quantile}
    average : bool or int, default=False
        Averaged SGD (mini-batches): `coef_` is the mean of the iterates, from update number
        `average` on.
    shuffle : bool, default=True
        New order of the rows in every epoch (mini-batches).
    random_state : int, RandomState instance or None, default=None
        Of shuffling and of the validation split.
    warm_start : bool, default=False
        `fit` continues from the last solution and, for explicit learning rates and networks, from the
        optimizer's state.
    n_jobs : int or None, default=None
        Threads of full batches and of networks. None lets the work decide within what OMP_NUM_THREADS,
        threadpoolctl or joblib allow; results do not depend on it. A forked process uses one.
    verbose : int, default=0
        Print a line per iteration or epoch; in `partial_fit` rows, objective and time of the chunk."""

_ATTRIBUTES = """coefs_, intercepts_ : lists of ndarrays
        Of networks, in place of `coef_` and `intercept_`: weights of shape (n_inputs, n_units) and
        intercepts of shape (n_units,), layer by layer.
    batch_norms_ : list of ndarray of shape (4, n_units)
        Of networks with ``batch_norm``, for each hidden layer: scale, shift, running mean and variance.
    gradient_norms_ : ndarray of shape (n_epochs, n_layers)
        Of networks: the norm of each layer's gradient in the last batch of every epoch.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X had feature names.
    n_iter_ : int
        Iterations or epochs.
    t_ : float
        One more than the number of updates.
    loss_curve_ : list of float
        Objective at every iteration; for mini-batches, with the losses that an epoch met on its way. Every
        call of `partial_fit` adds one.
    validation_scores_ : list of float
        Score on the validation set at every iteration, where there is one.
    learning_rate_ : float
        Last step; 1 in the metric of the Gram matrix.
    solver_, batch_size_, preconditioner_ : str, int, str or None
        What ``"auto"`` chose.
    stop_reason_ : {"converged", "max_iter", "early_stopping", "callback", "interrupted"}

    Raises
    ------
    DivergenceError
        By `fit` and `partial_fit`, when the learning rate is too large."""

REGRESSOR = (
    """Regression by gradient descent: linear models and networks.

    Minimises the mean loss + alpha * R(w) over linear predictors X w + b, or over multilayer perceptrons
    where ``hidden_layer_sizes`` has some. For linear models the defaults reach the minimum on data of any
    scale; an explicit ``learning_rate`` gives the textbook's ``w <- w - learning_rate * X^T (X w - y) / m``.

    Parameters
    ----------
    loss : {"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive", \
"absolute_error", "quantile", "poisson", "gamma"}, default="squared_error"
        ``"squared_error"`` is half the squared residual. ``"poisson"`` and ``"gamma"`` are half
        deviances with a log link, up to a constant of y.
    """
    + _PARAMETERS.replace("{{", "{")
    .replace("}}", "}")
    .replace("{schedules}", "`SGDRegressor`")
    .replace("{power_t}", "0.25")
    .replace(
        "{quantile}",
        """
    quantile : float, default=0.5
        Level of the quantile loss.""",
    )
    + """

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights; of X's dtype.
    intercept_ : ndarray of shape (1,) or (n_outputs,)
    """
    + _ATTRIBUTES
    + """

    See Also
    --------
    sklearn.linear_model.SGDRegressor : Stochastic gradient descent with a rate to tune.
    sklearn.neural_network.MLPRegressor : Networks, with a rate to tune on scaled data.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd import GDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GDRegressor(alpha=0).fit(X, y)
    >>> round(model.score(X, y), 3)
    0.518
    >>> model.stop_reason_
    'converged'
    """
)

CLASSIFIER = (
    """Classification by gradient descent: linear models and networks.

    Minimises the mean loss + alpha * R(w) over linear predictors X w + b: logistic regression by
    default, multinomial for more than two classes; or over multilayer perceptrons where
    ``hidden_layer_sizes`` has some. Margin losses are one-vs-rest.

    Parameters
    ----------
    loss : {"log_loss", "hinge", "squared_hinge", "modified_huber", "perceptron", "brier_score", \
"squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"}, default="log_loss"
        ``"log_loss"`` is the softmax cross-entropy, ``"brier_score"`` the squared error of the predicted
        probabilities summed over the classes; the last four fit the labels -1 and 1.
    """
    + _PARAMETERS.replace("{{", "{")
    .replace("}}", "}")
    .replace("{schedules}", "`SGDClassifier`")
    .replace("{power_t}", "0.5")
    .replace("{quantile}", "")
    + """
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply those of the rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights; of X's dtype.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    """
    + _ATTRIBUTES
    + """

    See Also
    --------
    sklearn.linear_model.SGDClassifier : Stochastic gradient descent with a rate to tune.
    sklearn.linear_model.LogisticRegression : The default objective by other solvers.
    sklearn.neural_network.MLPClassifier : Networks, with a rate to tune on scaled data.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastgd import GDClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GDClassifier().fit(X, y)
    >>> round(model.score(X, y), 2)
    0.98
    >>> model.predict_proba(X[:1]).round(2)
    array([[1., 0., 0.]])

    A network with one hidden layer:

    >>> network = GDClassifier(hidden_layer_sizes=(20,), random_state=0).fit(X, y)
    >>> [coef.shape for coef in network.coefs_]
    [(4, 20), (20, 3)]
    """
)

FIT = """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64, C- or Fortran-ordered, are used without a copy; mini-batches copy
            Fortran-ordered data, and the entries of wide tables of hardly any. Sparse rows are CSR, other
            formats are converted; the results are those of the same numbers in an ndarray.
        y : array-like
            Targets.
        coef_init, intercept_init : array-like or None, default=None
            Where to start, in the shapes of `coef_` and `intercept_`, or of `coefs_` and `intercepts_`.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows. Full batch and ``learning_rate="auto"``: the mean loss is a weighted
            mean. Mini-batches with an explicit rate: they multiply a row's gradient, as in
            scikit-learn's SGD estimators.
        X_val, y_val, sample_weight_val : array-like or None, default=None
            A validation set of one's own, scored at every iteration (`validation_scores_`); it
            decides with ``early_stopping=True``.

        Returns
        -------
        self : object
        """

_PARTIAL_FIT = """One epoch over a chunk of data.

        Calls on the same rows in the same order are epochs of `fit`, the optimizer's state included.

        Parameters
        ----------
        X : {{array-like, sparse matrix}} of shape (n_samples, n_features)
        y : array-like
            Targets.{classes}
        sample_weight : array-like of shape (n_samples,) or None, default=None
            They multiply a row's gradient. A chunk whose weights are all zero moves `t_`, and changes
            nothing that was learned.

        Returns
        -------
        self : object
        """
PARTIAL_FIT_REGRESSOR = _PARTIAL_FIT.format(classes="")
PARTIAL_FIT_CLASSIFIER = _PARTIAL_FIT.format(
    classes="""
        classes : array-like of shape (n_classes,) or None, default=None
            All classes that calls will ever bring; needed on the first one where y lacks some."""
)


def document(text):
    """Decorator: give a method its docstring."""

    def decorate(method):
        method.__doc__ = text
        return method

    return decorate
