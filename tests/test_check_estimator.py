"""scikit-learn's own checks, for the defaults and for a dozen other settings of each estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgd import GDClassifier, GDRegressor

BOTH = [
    {},
    {"penalty": "l1", "alpha": 1e-3},
    {"penalty": "elasticnet", "alpha": 1e-3},
    {"solver": "gd", "preconditioner": "diag"},
    {"solver": "nesterov", "preconditioner": "gram", "penalty": None},
    {"preconditioner": None},
    {"solver": "gd", "learning_rate": 0.05},
    {"solver": "momentum", "learning_rate": 0.01},
    {"solver": "nesterov", "learning_rate": 0.01},
    {"solver": "adam", "learning_rate": 0.05},
    {"solver": "adamw", "learning_rate": 0.05},
    {"solver": "rmsprop", "learning_rate": 0.01},
    {"solver": "adagrad", "learning_rate": 0.1},
    {"fit_intercept": False},
    {"warm_start": True, "n_jobs": 2},
    {"clip_norm": 1.0, "learning_rate": 0.05},
]
REGRESSORS = [
    {"loss": "huber", "epsilon": 1.35},
    {"loss": "epsilon_insensitive"},
    {"loss": "squared_epsilon_insensitive"},
    {"loss": "absolute_error"},
    {"loss": "quantile", "quantile": 0.4, "penalty": None},
    {"loss": "poisson"},
    {"loss": "gamma"},
]
CLASSIFIERS = [
    {"loss": "hinge"},
    {"loss": "squared_hinge"},
    {"loss": "modified_huber"},
    {"loss": "perceptron"},
    {"loss": "brier_score"},
    {"loss": "squared_error"},
    {"class_weight": "balanced"},
]
# Weights scale the steps of a mini-batch, as in SGDRegressor: there weight 2 is not the row twice.
MINI_BATCH = [
    {"batch_size": 1},
    {"batch_size": 10, "solver": "adam", "learning_rate": 0.01},
    {"batch_size": 1, "learning_rate": "invscaling", "eta0": 0.01},
    {"batch_size": 1, "learning_rate": "adaptive", "average": True},
    {"batch_size": 5, "learning_rate": "optimal", "alpha": 0.01},
    {"batch_size": 5, "early_stopping": True, "validation_fraction": 0.3},
]


def settings(table, extra=()):
    return [GDRegressor(**p) for p in table] + [GDClassifier(**p) for p in table] + list(extra)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    settings(
        BOTH, [GDRegressor(**p) for p in REGRESSORS] + [GDClassifier(**p) for p in CLASSIFIERS]
    )
)
def test_full_batch_estimators_pass_every_check(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(settings(MINI_BATCH))
def test_mini_batch_estimators_pass_every_check(estimator, check):
    if "sample_weight_equivalence" in str(check):
        pytest.skip("weights scale steps")
    check(estimator)
