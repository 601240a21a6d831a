"""How many threads, and who may have them: ours (OpenMP) or BLAS's, never both at once."""

import os
from contextlib import nullcontext
from functools import cache

from ._compiled import linear


def effective_n_threads(n_jobs):
    """Threads of the kernels: n_jobs as in scikit-learn; None is what OpenMP may use from outside."""
    if n_jobs is None:
        return linear.max_threads()
    if n_jobs == 0:
        raise ValueError("n_jobs = 0 is no number of threads: give None, -1, or a positive integer.")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)


@cache
def _controller():
    import scipy.linalg.cython_blas  # noqa: F401  its BLAS must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def one_blas_thread(work):
    """Context in which BLAS keeps to the calling thread; below `work` 1e5 it does so by itself.

    Beside threads of our own, or of another process, its threads cost a small factorisation more than
    they bring: measured, up to a hundred times.
    """
    return blas_threads(1) if work > 1e5 else nullcontext()


def blas_threads(n):
    """Context in which BLAS may have n threads."""
    return _controller().limit(limits=n)
