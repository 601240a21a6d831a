"""Full-batch kernels of linear models: the fused pass for loss and gradient.

In: X (m, d) float32 or float64, dense or sparse; targets Y (k, m), one row per output (one row of labels for the
coupled losses); parameters theta (k, d + 1), each row the weights of an output and its intercept.
Out: sums over rows, in double. Means, penalties and decisions are the caller's.

A pass is cut into chunks whose number depends on the shape alone, each with sums of its own,
which are added up in order: the result does not depend on how many threads did the work.
"""

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memset

from losses cimport LOSSES, N_LOSSES, SOFTMAX_BRIER_SCORE, SOFTMAX_LOG_LOSS, loss_block
from rows cimport (
    LEAST_IN_TURNS, Layout, backward, backward_and_forward, backward_sparse, chunks_of, forward, in_turns, layout_of,
    rows_per_block, values_of,
)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define fastgd_max_threads() omp_get_max_threads()
    #define fastgd_team_size() omp_get_num_threads()
    #else
    #define fastgd_max_threads() 1
    #define fastgd_team_size() 1
    #endif
    #if defined(__x86_64__)
    #define fastgd_pause() __builtin_ia32_pause()
    #else
    #define fastgd_pause() (void)0
    #endif
    #include <sched.h>
    /* Arrive, and wait until as many as expected have. OpenMP's own barrier takes longer, and gives way to no
     * other thread for a while. */
    static inline void fastgd_meet(Py_ssize_t *arrived, Py_ssize_t expected)
    {
        __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
        for (int turns = 0; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < expected;) {
            if (turns < 500) {
                fastgd_pause();
                ++turns;
            } else
                sched_yield();
        }
    }
    """
    int fastgd_max_threads() nogil
    int fastgd_team_size() nogil
    void fastgd_meet(Py_ssize_t* arrived, Py_ssize_t expected) noexcept nogil

LOSS_IDS = {LOSSES[i].name.decode(): i for i in range(N_LOSSES)}
LOSS_IDS["softmax_log_loss"] = SOFTMAX_LOG_LOSS
LOSS_IDS["softmax_brier_score"] = SOFTMAX_BRIER_SCORE

cdef enum:
    MIN_WORK_OF_THREADS = 2000000  # multiplications below which waking threads costs more than it saves
    MIN_NUMBERS_OF_THREADS = 250000  # the same in numbers that are merely looked at
    WIDE = 1536  # columns in Fortran order from which threads share columns, not rows
    GROUPS = 16  # of columns that threads share


# ---------------------------------------------------------------------------------------------
# the fused pass: loss and gradient, every element of X read from memory once
# ---------------------------------------------------------------------------------------------

cdef void pass_over_chunk(
    const floating* X, Layout* layout, const floating* Y, Py_ssize_t m, const floating* weight,
    int loss, const double* params, Py_ssize_t k, const floating* W, Py_ssize_t start,
    Py_ssize_t stop, double* total, double* gradient, floating* H, floating* work,
) noexcept nogil:
    """Predict a block, differentiate the loss, add up its gradient, while the block is in cache."""
    cdef Py_ssize_t block = rows_per_block(layout, sizeof(floating)), size = k * (layout.d + 1)
    cdef floating* G = work
    cdef floating* Z = G + (0 if layout.sparse else size)
    cdef floating* R = Z + k * block
    cdef floating* scratch = R + k * block
    cdef Py_ssize_t first = start, n = block, ahead, j
    cdef bint turns = in_turns(layout, k, sizeof(floating), LEAST_IN_TURNS)
    memset(gradient, 0, size * sizeof(double))
    if layout.by_columns:  # the first block ends where a cache line does, and so do the others
        n -= (<size_t> (X + start) // sizeof(floating)) % (64 // sizeof(floating))
    while first < stop:
        n = min(n, stop - first)
        ahead = min(block, stop - first - n)
        if first == start or not turns:
            forward(X, layout, NULL, first, n, k, W, Z, ahead)
        loss_block(loss, params, k, n, Z, Y + first, m, weight + first if weight != NULL else NULL,
                   total, R, H + first if H != NULL else NULL, m, scratch)
        if layout.sparse:  # no block is worth a look at every weight
            backward_sparse(X, layout, NULL, first, n, k, <const floating*> R, gradient)
        else:
            memset(G, 0, size * sizeof(floating))
            if turns:
                backward_and_forward(X, layout, NULL, first, n, R, G, ahead, W, Z, stop)
            else:
                backward(X, layout, NULL, first, n, k, R, G, ahead)
            for j in range(size):
                gradient[j] += G[j]
        first += n
        n = block


cdef inline Py_ssize_t column_of(Py_ssize_t g, Py_ssize_t d) noexcept nogil:
    """Where group g of d columns begins, four of which are read at a time. What is kept per column and output begins
    k (column + g) numbers in: each group has an intercept of its own, of which the last one's counts."""
    return g * d // (4 * GROUPS) * 4 if g < GROUPS else d


cdef void pass_over_columns(
    const floating* X, Layout* layout, const floating* Y, Py_ssize_t m, const floating* weight, int loss,
    const double* params, Py_ssize_t k, const floating* W, Py_ssize_t thread, Py_ssize_t n_threads, double* total,
    double* gradient, floating* H, floating* parts, floating* G, floating* work, Py_ssize_t* arrived,
) noexcept nogil:
    """A thread's share of the columns of a wide X in Fortran order; threads meet over every strip of rows, and
    `arrived` counts who has.

    A strip of all columns lies on more pages of memory than a core can address without looking them up.
    """
    cdef Py_ssize_t block = rows_per_block(layout, sizeof(floating)), d = layout.d
    cdef Py_ssize_t start = thread * GROUPS // n_threads, stop = (thread + 1) * GROUPS // n_threads
    cdef Py_ssize_t first = 0, n, ahead, g, at, i, size, meetings = 0
    cdef Layout group = layout[0]
    cdef const floating* x
    cdef floating* Z = work + (2 * k + 2) * block * thread
    cdef floating* R = Z + k * block
    cdef floating* scratch = R + k * block
    cdef bint odd = False
    memset(gradient + k * (column_of(start, d) + start), 0,
           k * (column_of(stop, d) - column_of(start, d) + stop - start) * sizeof(double))
    n = block - (<size_t> X // sizeof(floating)) % (64 // sizeof(floating))  # as in `pass_over_chunk`
    while first < m:
        n = min(n, m - first)
        ahead = min(block, m - first - n)
        for g in range(start, stop):
            at = column_of(g, d)
            group.d = column_of(g + 1, d) - at
            forward(X + at * group.ld, &group, NULL, first, n, k, W + k * (at + g),
                    parts + (odd * GROUPS + g) * k * block, ahead)
        meetings += 1
        fastgd_meet(arrived, meetings * n_threads)
        memset(Z, 0, k * n * sizeof(floating))
        for g in range(GROUPS):
            for i in range(k * n):
                Z[i] += parts[(odd * GROUPS + g) * k * block + i]
        loss_block(loss, params, k, n, Z, Y + first, m, weight + first if weight != NULL else NULL,
                   total, R, H + first if H != NULL else NULL, m, scratch)
        for g in range(start, stop):
            at = column_of(g, d)
            group.d = column_of(g + 1, d) - at
            size = k * (group.d + 1)
            x, at = X + at * group.ld, k * (at + g)
            memset(G + at, 0, size * sizeof(floating))
            backward(x, &group, NULL, first, n, k, R, G + at, ahead)
            for i in range(at, at + size):
                gradient[i] += G[i]
        first += n
        n = block
        odd = not odd


cdef class Pass:
    """Buffers of full-batch passes over one X: made once for a fit, used by every iteration."""

    cdef readonly Py_ssize_t m, d, k, chunks
    cdef Layout layout
    cdef double[:, ::1] totals
    cdef double[:, :, ::1] gradients
    cdef object work, W, places
    cdef Py_ssize_t multiplications
    cdef bint wide

    def __init__(self, X, Py_ssize_t k):
        self.m, self.d = X.shape
        self.k = k
        self.layout = layout_of(X)
        self.chunks = chunks_of(X, self.m, self.d, k)
        self.multiplications = k * (X.size + self.m)
        self.wide = (self.layout.by_columns and self.d >= WIDE
                     and self.multiplications >= MIN_WORK_OF_THREADS)
        block = rows_per_block(&self.layout, X.itemsize)
        if self.wide:
            self._share_columns(X.dtype, block)
            return
        self.totals = np.empty((self.chunks, k))
        shape = (self.d + 1, k) if self.layout.sparse else (k, self.d + 1)  # see rows.pxd
        self.gradients = np.empty((self.chunks, *shape))
        size = 0 if self.layout.sparse else k * (self.d + 1)
        self.work = np.empty((self.chunks, size + 2 * k * block + 2 * block), X.dtype)
        self.W = np.empty(shape, X.dtype)

    def _share_columns(self, dtype, Py_ssize_t block):
        """Buffers of `pass_over_columns`, and where parameters (k, d + 1) are among those of the groups."""
        k, d = self.k, self.d
        starts = np.array([column_of(group, d) for group in range(GROUPS + 1)])
        g = np.append(np.repeat(np.arange(GROUPS), np.diff(starts)), GROUPS - 1)
        self.places = (np.diff(starts)[g] + 1) * np.arange(k)[:, None] + (k - 1) * starts[g] + k * g
        self.places += np.arange(d + 1)
        size = k * (d + GROUPS)
        self.totals, self.gradients = np.empty((GROUPS, k)), np.empty((1, 1, size))
        self.work = np.empty((1, size + (2 * GROUPS * k + GROUPS * (2 * k + 2)) * block), dtype)
        self.W = np.zeros((1, size), dtype)

    def run(self, X, const floating[:, ::1] Y, const floating[::1] weight,
            const double[:, ::1] theta, int loss, const double[::1] params, int n_threads,
            floating[:, ::1] curvature=None):
        """Sum of weight * loss per output, and its gradient.

        Parameters
        ----------
        X : (m, d), that of the buffers; Y : (k, m) or (1, m) of labels; weight : (m,) or None
        theta : (k, d + 1)
        curvature : (k, m) or None
            Receives weight * second derivative of every row.

        Returns
        -------
        total : ndarray of shape (k,); one number repeated for the coupled losses
        gradient : ndarray of shape (k, d + 1)
        """
        cdef Py_ssize_t c, arrived = 0, chunks = self.chunks, m = self.m, k = self.k, size = k * (self.d + GROUPS)
        cdef Py_ssize_t parts = size + 2 * GROUPS * k * rows_per_block(&self.layout, sizeof(floating))
        cdef floating[:, ::1] work = self.work, W = self.W
        cdef Layout layout = layout_of(X)
        cdef const floating[:, :] values = values_of(X)
        cdef double[:, ::1] totals = self.totals
        cdef double[:, :, ::1] gradients = self.gradients
        cdef const floating* x = &values[0, 0]
        cdef const floating* s = NULL
        cdef floating* H = NULL
        if weight is not None:
            s = &weight[0]
        if curvature is not None:
            H = &curvature[0, 0]
        if self.wide:
            self.W[0, self.places] = theta
        else:
            self.W[...] = np.transpose(theta) if layout.sparse else theta
        totals[...] = 0
        if self.multiplications < MIN_WORK_OF_THREADS:
            n_threads = 1
        if self.wide:
            with nogil, parallel(num_threads=min(n_threads, GROUPS)):
                pass_over_columns(x, &layout, &Y[0, 0], m, s, loss, &params[0], k, &W[0, 0], threadid(),
                                  fastgd_team_size(), &totals[threadid(), 0], &gradients[0, 0, 0],
                                  H if threadid() == 0 else NULL, &work[0, size], &work[0, 0],
                                  &work[0, parts], &arrived)
            total = np.array(totals[0])
            if loss >= SOFTMAX_LOG_LOSS:
                total[:] = total[0]
            return total, np.asarray(gradients)[0, 0, self.places]
        with nogil:
            for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
                pass_over_chunk(x, &layout, &Y[0, 0], m, s, loss, &params[0], k, &W[0, 0],
                                c * m // chunks, (c + 1) * m // chunks, &totals[c, 0],
                                &gradients[c, 0, 0], H, &work[c, 0])
        if chunks == 1:
            total, gradient = np.array(totals[0]), np.array(gradients[0])
        else:
            total, gradient = np.add.reduce(totals, axis=0), np.add.reduce(gradients, axis=0)
        if loss >= SOFTMAX_LOG_LOSS:
            total[:] = total[0]
        return total, np.ascontiguousarray(gradient.T) if layout.sparse else gradient


# ---------------------------------------------------------------------------------------------
# small things
# ---------------------------------------------------------------------------------------------

def max_threads():
    """Threads that OpenMP would use now: OMP_NUM_THREADS, threadpoolctl and joblib set it."""
    return fastgd_max_threads()


def are_margins(const floating[:, ::1] Y, int n_threads):
    """Whether every number of Y is -1 or 1."""
    cdef Py_ssize_t i, others = 0, n = Y.shape[0] * Y.shape[1]
    cdef const floating* y = &Y[0, 0]
    if n < MIN_NUMBERS_OF_THREADS:
        n_threads = 1
    for i in prange(n, nogil=True, schedule="static", num_threads=n_threads):
        others += (y[i] != 1) & (y[i] != -1)
    return others == 0


def gradient_descent(const floating[:, :] X, const floating[:, ::1] Y, double[:, ::1] theta,
                     double learning_rate, Py_ssize_t n_iter, int n_threads):
    """theta <- theta - learning_rate * X^T (X theta - y) / m, n_iter times, without intercept."""
    cdef double[::1] params = np.zeros(4)
    cdef Py_ssize_t i, c, j, k = theta.shape[0], d = X.shape[1], m = X.shape[0]
    cdef double rate = learning_rate / m
    cdef double[:, ::1] G
    x, y, w = np.asarray(X), np.asarray(Y), np.asarray(theta)
    one_pass = Pass(x, k)
    for i in range(n_iter):
        _, gradient = one_pass.run(x, y, None, w, 0, params, n_threads)
        G = gradient
        for c in range(k):
            for j in range(d):
                theta[c, j] -= rate * G[c, j]
        PyErr_CheckSignals()
