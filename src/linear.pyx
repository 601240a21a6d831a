"""Full-batch kernels of linear models: the fused pass for loss and gradient, and second moments.

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
from libc.math cimport sqrt
from libc.string cimport memset
from scipy.linalg.cython_blas cimport dsyrk

from losses cimport LOSSES, N_LOSSES, SOFTMAX_BRIER_SCORE, SOFTMAX_LOG_LOSS, loss_block
from simd cimport dot
from rows cimport Layout, backward, backward_sparse, forward, layout_of, rows_per_block, values_of

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define fastgd_max_threads() omp_get_max_threads()
    #define fastgd_team_size() omp_get_num_threads()
    static inline void fastgd_meet(void) { _Pragma("omp barrier") }
    #else
    #define fastgd_max_threads() 1
    #define fastgd_team_size() 1
    static inline void fastgd_meet(void) {}
    #endif
    """
    int fastgd_max_threads() nogil
    int fastgd_team_size() nogil
    void fastgd_meet() noexcept nogil

LOSS_IDS = {LOSSES[i].name.decode(): i for i in range(N_LOSSES)}
LOSS_IDS["softmax_log_loss"] = SOFTMAX_LOG_LOSS
LOSS_IDS["softmax_brier_score"] = SOFTMAX_BRIER_SCORE

cdef enum:
    MAX_CHUNKS = 16
    CHUNK_WORK = 65536  # multiplications that make a chunk worth its buffers
    MIN_WORK_OF_THREADS = 2000000  # multiplications below which waking threads costs more than it saves
    WIDE = 1536  # columns in Fortran order from which threads share columns, not rows
    GROUPS = 16  # of columns that threads share
    FEW = 8  # as seldom as that, entries of a row are multiplied one by one, not by BLAS


cdef Py_ssize_t chunks_of(X, Py_ssize_t m, Py_ssize_t d, Py_ssize_t k) except -1:
    """How many chunks with sums of their own, of a size that is small beside the work."""
    chunks = max(1, min(MAX_CHUNKS, (X.size + m) * k // CHUNK_WORK, m // 16))
    return max(1, min(chunks, X.size // (16 * (d + 1)))) if hasattr(X, "indptr") else chunks


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
    cdef Py_ssize_t first = start, n = block, j
    memset(gradient, 0, size * sizeof(double))
    if layout.by_columns:  # the first block ends where a cache line does, and so do the others
        n -= (<size_t> (X + start) // sizeof(floating)) % (64 // sizeof(floating))
    while first < stop:
        n = min(n, stop - first)
        forward(X, layout, NULL, first, n, k, W, Z)
        loss_block(loss, params, k, n, Z, Y + first, m, weight + first if weight != NULL else NULL,
                   total, R, H + first if H != NULL else NULL, m, scratch)
        if layout.sparse:  # no block is worth a look at every weight
            backward_sparse(X, layout, NULL, first, n, k, <const floating*> R, gradient)
        else:
            memset(G, 0, size * sizeof(floating))
            backward(X, layout, NULL, first, n, k, R, G, min(block, stop - first - n))
            for j in range(size):
                gradient[j] += G[j]
        first += n
        n = block


cdef inline Py_ssize_t column_of(Py_ssize_t g, Py_ssize_t d) noexcept nogil:
    """Where group g of d columns begins. What is kept per column and output begins k (column + g) numbers in: each
    group has an intercept of its own, of which the last one's counts."""
    return g * d // GROUPS


cdef void pass_over_columns(
    const floating* X, Layout* layout, const floating* Y, Py_ssize_t m, const floating* weight, int loss,
    const double* params, Py_ssize_t k, const floating* W, Py_ssize_t thread, Py_ssize_t n_threads, double* total,
    double* gradient, floating* H, floating* parts, floating* G, floating* work,
) noexcept nogil:
    """A thread's share of the columns of a wide X in Fortran order; threads meet over every strip of rows.

    A strip of all columns lies on more pages of memory than a core can address without looking them up.
    """
    cdef Py_ssize_t block = rows_per_block(layout, sizeof(floating)), d = layout.d
    cdef Py_ssize_t start = thread * GROUPS // n_threads, stop = (thread + 1) * GROUPS // n_threads
    cdef Py_ssize_t first = 0, n, g, at, i, size
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
        for g in range(start, stop):
            at = column_of(g, d)
            group.d = column_of(g + 1, d) - at
            forward(X + at * group.ld, &group, NULL, first, n, k, W + k * (at + g),
                    parts + (odd * GROUPS + g) * k * block)
        fastgd_meet()
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
            backward(x, &group, NULL, first, n, k, R, G + at, min(block, m - first - n))
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
        starts = np.arange(GROUPS + 1) * d // GROUPS
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
        cdef Py_ssize_t c, chunks = self.chunks, m = self.m, k = self.k, size = k * (self.d + GROUPS)
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
                                  H if threadid() == 0 else NULL, &work[0, size], &work[0, 0], &work[0, parts])
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
# second moments
# ---------------------------------------------------------------------------------------------

cdef void copy_rows(const floating* X, Layout* layout, Py_ssize_t first, Py_ssize_t n,
                    const double* shift, double* B) noexcept nogil:
    """B[i] = x_i - shift, a block of rows in double."""
    cdef Py_ssize_t i, j, d = layout.d
    cdef const floating* x
    if layout.sparse:
        for i in range(n):
            for j in range(d):
                B[i * d + j] = -shift[j]
            for j in range(layout.begin[first + i], layout.begin[first + i + 1]):
                B[i * d + layout.at[j]] += X[j]
    elif layout.by_columns:
        for j in range(d):
            x = X + j * layout.ld + first
            for i in range(n):
                B[i * d + j] = <double> x[i] - shift[j]
    else:
        for i in range(n):
            x = X + (first + i) * layout.ld
            for j in range(d):
                B[i * d + j] = <double> x[j] - shift[j]


cdef void gram_of_chunk(
    const floating* X, Layout* layout, const double* h, const double* shift, Py_ssize_t start,
    Py_ssize_t stop, Py_ssize_t block, double* B, double* A,
) noexcept nogil:
    """A += sum_i h_i (x_i - shift, 1) (x_i - shift, 1)^T, upper triangle in Fortran's sense."""
    cdef Py_ssize_t d = layout.d, first = start, i, j, n = 0, filled
    cdef int p = <int> (d + 1), rows
    cdef double one = 1.0, root
    cdef double* b
    cdef char* upper = b"U"
    cdef char* plain = b"N"
    while first < stop:
        filled = 0
        while filled < block and first < stop:  # rows without curvature are left out
            if h[first] > 0:
                root = sqrt(h[first])
                b = B + filled * p
                copy_rows(X, layout, first, 1, shift, b)
                for j in range(d):
                    b[j] *= root
                b[d] = root
                filled += 1
            first += 1
        rows = <int> filled
        if rows:
            dsyrk(upper, plain, &p, &rows, &one, B, &p, &one, A, &p)


cdef void gram_of_few(
    const floating* X, Layout* layout, const double* h, Py_ssize_t start, Py_ssize_t stop, double* A,
) noexcept nogil:
    """A += sum_i h_i (x_i, 1) (x_i, 1)^T entry by entry, for rows with few of them; as `gram_of_chunk`."""
    cdef Py_ssize_t i, p, q, lo, hi, d = layout.d
    cdef double hx
    cdef double* a
    for i in range(start, stop):
        if not h[i] > 0:
            continue
        lo, hi = layout.begin[i], layout.begin[i + 1]
        for p in range(lo, hi):
            hx = h[i] * X[p]
            a = A + layout.at[p] * (d + 1)
            for q in range(lo, p + 1):  # columns are sorted
                a[layout.at[q]] += hx * X[q]
            A[d * (d + 1) + layout.at[p]] += hx
        A[d * (d + 1) + d] += h[i]


cdef void mirror(Py_ssize_t p, double* A) noexcept nogil:
    """The other triangle of a symmetric matrix (p, p), by squares that cache holds with their mirror images."""
    cdef Py_ssize_t i, j, row, column
    for row in range(0, p, 32):
        for column in range(0, row + 1, 32):
            for i in range(row, min(row + 32, p)):
                for j in range(column, min(column + 32, i)):
                    A[j * p + i] = A[i * p + j]


def weighted_gram(X, const double[::1] h, const double[::1] shift, int n_threads):
    """sum_i h_i (x_i - shift, 1)(x_i - shift, 1)^T, in double; rows with h_i = 0 cost nothing.

    The caller keeps BLAS on one thread, as the threads here are our own.

    Returns
    -------
    gram : ndarray of shape (d + 1, d + 1)
    """
    if X.dtype == np.float32:
        return gram_of_rows[float](values_of(X), X, h, shift, n_threads)
    return gram_of_rows[double](values_of(X), X, h, shift, n_threads)


cdef gram_of_rows(const floating[:, :] values, X, const double[::1] h, const double[::1] shift,
                  int n_threads):
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], p = X.shape[1] + 1, c, chunks = 1
    # a scattered multiplication costs what BLAS takes for some dozens
    cdef bint few = layout.sparse and FEW * X.size < m * p
    if m * p * p > 1000000:  # as many d^2 buffers as are small beside X, two at least
        chunks = max(2, min(8, (X.size // p if layout.sparse else m) // (20 * p)))
    cdef Py_ssize_t block = 1 if few else max(16, min(512, 524288 // (8 * p)))
    n_threads = min(n_threads, chunks)
    cdef double[:, ::1] B = np.empty((n_threads, block * p))
    cdef double[:, :, ::1] A = np.zeros((chunks, p, p))
    cdef const floating* x = &values[0, 0]
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            if few:
                gram_of_few(x, &layout, &h[0], c * m // chunks, (c + 1) * m // chunks, &A[c, 0, 0])
            else:
                gram_of_chunk(x, &layout, &h[0], &shift[0], c * m // chunks, (c + 1) * m // chunks,
                              block, &B[threadid(), 0], &A[c, 0, 0])
    gram = np.asarray(A[0])
    for c in range(1, chunks):
        gram += A[c]
    mirror(p, &A[0, 0, 0])
    if few and np.any(shift):  # (x - shift)(x - shift)^T from x x^T and the sums of x, the last row
        s = np.append(shift, 0.0)
        sums = np.outer(gram[p - 1] - gram[p - 1, p - 1] / 2 * s, s)
        gram -= sums
        gram -= sums.T
    return gram


cdef void moments_of_chunk(
    const floating* X, Layout* layout, const floating* weight, const double* shift,
    Py_ssize_t start, Py_ssize_t stop, double* B, Py_ssize_t block, double* S1, double* S2,
) noexcept nogil:
    cdef Py_ssize_t first = start, n, i, j, d = layout.d
    cdef double s, b
    if layout.sparse:
        moments_of_few(X, layout, weight, shift, start, stop, B, S1, S2)
        return
    while first < stop:
        n = min(block, stop - first)
        copy_rows(X, layout, first, n, shift, B)
        for i in range(n):
            s = 1.0 if weight == NULL else weight[first + i]
            for j in range(d):
                b = B[i * d + j]
                S1[j] += s * b
                S2[j] += s * b * b
        first += n


cdef void moments_of_few(
    const floating* X, Layout* layout, const floating* weight, const double* shift,
    Py_ssize_t start, Py_ssize_t stop, double* stored, double* S1, double* S2,
) noexcept nogil:
    """The same from the entries that are stored; all others are zero.

    A column that is stored everywhere gets nothing of theirs: its weights add up in the same order.
    """
    cdef Py_ssize_t i, j, p, d = layout.d
    cdef double s, b, total = 0
    memset(stored, 0, d * sizeof(double))
    for i in range(start, stop):
        s = 1.0 if weight == NULL else weight[i]
        total += s
        for p in range(layout.begin[i], layout.begin[i + 1]):
            j = layout.at[p]
            b = <double> X[p] - shift[j]
            stored[j] += s
            S1[j] += s * b
            S2[j] += s * b * b
    for j in range(d):
        b = shift[j]
        S1[j] -= (total - stored[j]) * b
        S2[j] += (total - stored[j]) * b * b


def column_moments(X, weight, int n_threads):
    """Weighted sums of x - x_0 and (x - x_0)^2 down the columns, x_0 being the first row.

    Returns
    -------
    start, first, second : ndarrays of shape (d,)
    """
    if X.dtype == np.float32:
        return moments_of_rows[float](values_of(X), X, weight, n_threads)
    return moments_of_rows[double](values_of(X), X, weight, n_threads)


cdef moments_of_rows(const floating[:, :] values, X, const floating[::1] weight, int n_threads):
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], c, chunks = chunks_of(X, m, d, 1)
    cdef Py_ssize_t block = 1 if layout.sparse else rows_per_block(&layout, 8)
    cdef double[::1] shift = np.empty(d), zero = np.zeros(d)
    n_threads = min(n_threads, chunks)
    cdef double[:, ::1] B = np.empty((n_threads, block * d))
    cdef double[:, :, ::1] S = np.zeros((chunks, 2, d))
    cdef const floating* x = &values[0, 0]
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    copy_rows(x, &layout, 0, 1, &zero[0], &shift[0])
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            moments_of_chunk(x, &layout, s, &shift[0], c * m // chunks, (c + 1) * m // chunks,
                             &B[threadid(), 0], block, &S[c, 0, 0], &S[c, 1, 0])
    first, second = np.add.reduce(S, axis=0)
    return np.asarray(shift), first, second


cdef void norms_of_chunk(
    const floating* X, Layout* layout, const double* shift, const double* scale, Py_ssize_t start,
    Py_ssize_t stop, Py_ssize_t block, double empty, double* B, double* out,
) noexcept nogil:
    """Squared lengths of the rows start .. stop; `empty` is that of a sparse row without entries."""
    cdef Py_ssize_t d = layout.d, first = start, i, j, n, p
    cdef double b
    if layout.sparse:
        for i in range(start, stop):
            out[i] = empty
            for p in range(layout.begin[i], layout.begin[i + 1]):
                j = layout.at[p]
                b = scale[j]
                out[i] += (X[p] - 2 * shift[j]) * X[p] * b * b
        return
    while first < stop:
        n = min(block, stop - first)
        copy_rows(X, layout, first, n, shift, B)
        for i in range(n):
            for j in range(d):
                B[i * d + j] *= scale[j]
            out[first + i] = dot(d, <const double*> B + i * d, <const double*> B + i * d)
        first += n


cdef norms_of_rows(const floating[:, :] values, X, const double[::1] shift, const double[::1] scale,
                   int n_threads):
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], c, chunks = chunks_of(X, m, d, 1)
    cdef Py_ssize_t block = 1 if layout.sparse else rows_per_block(&layout, 8)
    cdef double[::1] out = np.empty(m)
    n_threads = min(n_threads, chunks)
    cdef double[:, ::1] B = np.empty((n_threads, block * d))
    cdef const floating* x = &values[0, 0]
    cdef double empty = np.sum((np.asarray(shift) * scale) ** 2)
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            norms_of_chunk(x, &layout, &shift[0], &scale[0], c * m // chunks, (c + 1) * m // chunks, block,
                           empty, &B[threadid(), 0], &out[0])
    return np.asarray(out)


def row_norms(X, const double[::1] shift, const double[::1] scale, int n_threads):
    """Squared lengths of (x_i - shift) * scale, shape (m,)."""
    if X.dtype == np.float32:
        return norms_of_rows[float](values_of(X), X, shift, scale, n_threads)
    return norms_of_rows[double](values_of(X), X, shift, scale, n_threads)


# ---------------------------------------------------------------------------------------------
# small things
# ---------------------------------------------------------------------------------------------

def max_threads():
    """Threads that OpenMP would use now: OMP_NUM_THREADS, threadpoolctl and joblib set it."""
    return fastgd_max_threads()


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
