"""What several test files do alike: models for every kind of target, what they have learned, pickles."""

import _thread
import pickle
import subprocess
import sys
import threading
import time

import pytest
from numpy.testing import assert_allclose

from fastgd import GDClassifier, GDRegressor

SOLVERS = ["gd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]


def models_for(data, **params):
    """(unfitted estimator, target) for a regressor, a two-output regressor, and two classifiers."""
    return [
        (GDRegressor(**params), data.y),
        (GDRegressor(**params), data.Y),
        (GDClassifier(**params), data.binary),
        (GDClassifier(**params), data.three),
    ]


def weights_of(model):
    """All that a linear model or a network has learned, as one list."""
    if hasattr(model, "coef_"):
        return [model.coef_, model.intercept_]
    return [*model.coefs_, *model.intercepts_, *getattr(model, "batch_norms_", [])]


def assert_same_weights(a, b, tol=1e-12, atol=0.0):
    for ours, expected in zip(weights_of(a), weights_of(b), strict=True):
        assert_allclose(ours, expected, rtol=tol, atol=max(tol, atol))


def assert_pickles_load_in_a_fresh_process(models, X, folder):
    """And predict there what they predict here."""
    with open(folder / "models.pickle", "wb") as file:
        pickle.dump((models, X, [model.predict(X) for model in models]), file)
    code = (
        "import pickle; models, X, expected = pickle.load(open('models.pickle', 'rb'));"
        "assert all((m.predict(X) == e).all() for m, e in zip(models, expected))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def assert_releases_the_gil(function, *args):
    """Of a call that takes tens of milliseconds: another thread goes on meanwhile."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    ticks = 0
    while thread.is_alive():
        ticks += 1
        time.sleep(0.002)
    assert ticks > 5


def seconds_from_ctrl_c_to_the_end(fit, after):
    """Of a fit that is interrupted `after` seconds from now, and warns of it."""
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        _thread.interrupt_main()

    timer = threading.Timer(after, press)
    timer.start()
    try:
        with pytest.warns(UserWarning, match="(?i)interrupt"):
            fit()
    finally:
        timer.cancel()
    return time.perf_counter() - pressed[0]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array
