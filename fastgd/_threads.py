"""How many threads, and who may have them: ours (OpenMP) or BLAS's, never both at once."""

import os
import threading
from contextlib import contextmanager, nullcontext
from functools import cache

from ._compiled import linear

MOST_THREADS = 1024  # far beyond what helps, and far below what OpenMP's stack of a team can bear
_forked = False  # whether this process is the child of one that may have had OpenMP's threads


def effective_n_threads(n_jobs):
    """Threads of the kernels: n_jobs as in scikit-learn; None is what OpenMP may use from outside.

    One in a forked process: the threads that GNU's OpenMP keeps ready do not come along, and it would wait
    for them for ever.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs = 0 is no number of threads: give None, -1, or a positive integer.")
    if _forked:
        return 1
    if n_jobs is None:
        return linear.max_threads()
    if n_jobs < 0:
        return max(1, (os.cpu_count() or 1) + 1 + n_jobs)
    return min(n_jobs, MOST_THREADS)


@cache
def _blas():
    """The BLAS libraries of this process, as threadpoolctl sees them."""
    import scipy.linalg.cython_blas  # noqa: F401  its BLAS must be loaded to be found
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [lib for lib in found if lib.num_threads is not None]


class _BlasLimit:
    """BLAS's number of threads, for contexts that overlap in several threads.

    Most libraries have one number per process: the smallest wish holds, and the last context to leave brings
    back what was there before the first one. If each restored what it had met, a limit of the others would
    stay for ever. With OpenMP beneath, the number belongs to the calling thread.
    """

    def __init__(self):
        self.lock, self.wishes, self.outside = threading.Lock(), [], []

    @contextmanager
    def __call__(self, n):
        with self.lock:
            met = [lib.num_threads for lib in _blas()]
            self.outside = self.outside if self.wishes else met
            self.wishes.append(n)
            self._set([min(n, number) for number in met])
        try:
            yield
        finally:
            with self.lock:
                self.wishes.remove(n)
                shared = [min([number, *self.wishes]) for number in self.outside]
                self._set(shared, met)

    def _set(self, shared, own=None):
        for lib, number, of_thread in zip(_blas(), shared, own or shared, strict=True):
            per_thread = getattr(lib, "threading_layer", None) == "openmp"
            lib.set_num_threads(of_thread if per_thread else number)
            if hasattr(lib, "clear_controlling_thread"):  # else no other thread could set it any more
                lib.clear_controlling_thread()


blas_threads = _BlasLimit()  # blas_threads(n): context in which BLAS may have n threads


def one_blas_thread(work):
    """Context in which BLAS keeps to the calling thread; below `work` 1e5 it does so by itself.

    Beside threads of our own, or of another process, its threads cost a small factorisation more than
    they bring: measured, up to a hundred times.
    """
    return blas_threads(1) if work > 1e5 else nullcontext()


def blas_between_fits(work):
    """Context of a product that another fit may follow: one thread unless `work` is large.

    Threads of BLAS look out for more work for tens of milliseconds, on cores that the fit would need; a
    product that takes a few is not worth that.
    """
    return one_blas_thread(work) if work < 1e7 else nullcontext()


def _after_fork():
    global _forked
    _forked = True
    blas_threads.lock = threading.Lock()  # a thread that is not here may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
