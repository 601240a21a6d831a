"""scikit-learn's own checks, for the defaults and more than a dozen settings of each estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgd import GDClassifier, GDRegressor

pytestmark = pytest.mark.slow

# Explicit rates are small, or adaptive: some checks have columns with a mean of 100.
BOTH = [
    {},
    {"penalty": "l1", "alpha": 1e-3},
    {"penalty": "elasticnet", "alpha": 1e-3, "preconditioner": None},
    {"solver": "gd", "preconditioner": "diag"},
    {"solver": "nesterov", "n_jobs": 2},
    {"solver": "adagrad", "learning_rate": 0.1},
    {"solver": "adam", "learning_rate": 0.05},
    {"solver": "adamw", "learning_rate": 0.05},
]
REGRESSORS = [
    {"loss": "huber", "epsilon": 1.35},
    {"loss": "epsilon_insensitive"},
    {"loss": "quantile", "quantile": 0.4},
    {"loss": "poisson"},
    {"loss": "gamma"},
    {"solver": "momentum", "learning_rate": 1.5e-4},
    {"solver": "nesterov", "learning_rate": 5e-5},
]
CLASSIFIERS = [
    {"loss": "hinge"},
    {"loss": "squared_hinge"},
    {"loss": "modified_huber"},
    {"loss": "brier_score", "solver": "momentum", "learning_rate": 6e-4},
    {"loss": "squared_error"},
    {"solver": "momentum", "learning_rate": 6e-4},
]
MINI_BATCH = [
    {"batch_size": 1},
    {"batch_size": 1, "learning_rate": "adaptive", "eta0": 1e-5, "average": True},
    {"batch_size": 10, "solver": "adam", "learning_rate": 0.01},
    {"batch_size": 5, "early_stopping": True, "validation_fraction": 0.3},
]
# A dozen networks. What the checks fit is small: few epochs do, and rates are those of small batches.
NETWORKS = [
    GDRegressor(hidden_layer_sizes=(20,), max_iter=200),
    GDRegressor(hidden_layer_sizes=(10, 10), activation="relu", batch_size="full", solver="gd", max_iter=200),
    GDRegressor(hidden_layer_sizes=20, activation="elu", batch_norm=True, batch_size=20, max_iter=100),
    GDRegressor("huber", hidden_layer_sizes=[10], activation="identity", batch_size=10, max_iter=100),
    GDRegressor(hidden_layer_sizes=(20,), activation="leaky_relu", solver="nesterov", early_stopping=True),
    GDRegressor(
        hidden_layer_sizes=(20,), solver="adam", batch_size=10, learning_rate=0.01, max_iter=100, n_jobs=2
    ),
    GDClassifier(hidden_layer_sizes=(20,), max_iter=200),
    GDClassifier(hidden_layer_sizes=(10, 10), activation="relu", batch_size="full", max_iter=300),
    GDClassifier(hidden_layer_sizes=20, activation="elu", batch_norm=True, batch_size=20, max_iter=50),
    GDClassifier("brier_score", hidden_layer_sizes=(20,), solver="momentum", penalty="l1", max_iter=200),
    GDClassifier("hinge", hidden_layer_sizes=[10], activation="logistic", solver="rmsprop", max_iter=300),
    GDClassifier("squared_hinge", hidden_layer_sizes=(10,), solver="gd", batch_size="full", max_iter=300),
    GDClassifier(
        hidden_layer_sizes=20, solver="gd", batch_size=5, early_stopping=True, validation_fraction=0.3
    ),
    GDClassifier(hidden_layer_sizes=(20,), solver="adagrad", batch_size=10, average=True, max_iter=100),
    GDClassifier(
        hidden_layer_sizes=(20,), solver="adamw", batch_size=10, learning_rate=0.01, clip_norm=1, max_iter=50
    ),
]


def settings(table, regressors=(), classifiers=()):
    return [GDRegressor(**p) for p in (*table, *regressors)] + [
        GDClassifier(**p) for p in (*table, *classifiers)
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(settings(BOTH, REGRESSORS, CLASSIFIERS))
def test_full_batch_estimators_pass_every_check(estimator, check):
    if estimator.loss in ("poisson", "gamma") and "regressor_multioutput" in str(check):
        pytest.skip("this check has negative targets, whatever the tags say")
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(settings(MINI_BATCH, classifiers=[{"loss": "perceptron"}]))
def test_mini_batch_estimators_pass_every_check(estimator, check):
    if "sample_weight_equivalence" in str(check):
        pytest.skip("weights scale the steps of a mini-batch, as in SGDRegressor")
    if estimator.loss == "perceptron" and "class_weight_classifiers" in str(check):
        pytest.skip("its solution does not depend on how long its steps are")
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(NETWORKS)
def test_networks_pass_every_check(estimator, check):
    if "sample_weight_equivalence" in str(check) and estimator.batch_size != "full":
        pytest.skip("weights scale the steps of a mini-batch, as in SGDRegressor")
    check(estimator)
