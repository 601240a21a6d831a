"""Threads across processes and estimators: nobody waits for ever, and BLAS gets its own back."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from threadpoolctl import threadpool_info, threadpool_limits

from fastgd import GDClassifier
from fastgd._threads import blas_threads

FIT_IN_A_FORKED_PROCESS = """
import os
import numpy as np
from fastgd import GDClassifier, GDRegressor, kernels

X = np.random.default_rng(0).standard_normal((50_000, 20))
fits = [
    lambda: GDRegressor(n_jobs=2).fit(X, X[:, 0]).coef_,
    lambda: GDClassifier(n_jobs=2).fit(X, X[:, 0] > X[:, 1]).coef_,
    lambda: GDRegressor(hidden_layer_sizes=(64,), max_iter=1, tol=None, random_state=0, n_jobs=2)
    .fit(X, X[:, 0]).predict(X),
    lambda: kernels.tanh_forward(X),
]
in_parent = [fit() for fit in fits]
child = os.fork()
if not child:
    same = all(np.array_equal(fit(), result) for fit, result in zip(fits, in_parent))
    os._exit(0 if same else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_fits_what_its_parent_fitted():
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": source}
    process = subprocess.Popen(
        [sys.executable, "-c", FIT_IN_A_FORKED_PROCESS], env=environment, start_new_session=True
    )
    try:
        assert process.wait(timeout=120) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)  # its child with it


def test_more_threads_than_any_machine_has_are_as_good_as_one():
    X = csr_array(np.random.default_rng(0).standard_normal((30_000, 20)))
    one, many = (GDClassifier(n_jobs=n).fit(X, X[:, [0]].toarray()[:, 0] > 0.3) for n in (1, 10**12))
    assert_array_equal(one.coef_, many.coef_)


def threads_of_blas():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_limits_that_overlap_in_threads_leave_blas_as_it_was():
    entered, left = threading.Event(), threading.Event()

    def other():
        with blas_threads(1):
            entered.set()
            left.wait(60)

    with threadpool_limits(3, user_api="blas"):
        thread = threading.Thread(target=other)
        with blas_threads(1):
            thread.start()
            entered.wait(60)
        assert threads_of_blas() == {1}
        left.set()
        thread.join()
        assert threads_of_blas() == {3}


def test_limits_within_limits_leave_blas_as_it_was():
    with threadpool_limits(3, user_api="blas"):
        with blas_threads(2):
            with blas_threads(1):
                assert threads_of_blas() == {1}
            assert threads_of_blas() == {2}
        assert threads_of_blas() == {3}
        with blas_threads(4):
            assert threads_of_blas() == {3}
