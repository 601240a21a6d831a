"""Kernels of linear models: the fused full-batch pass, Gram matrices, and epochs of mini-batches.

In: X (m, d) float32 or float64; targets Y (k, m), one row per output (one row of labels for the
coupled losses); parameters theta (k, d + 1), each row the weights of an output and its intercept.
Out: sums over rows, in double. Means, penalties and decisions are the caller's.

A pass is cut into chunks whose number depends on the shape alone, each with buffers of its own,
which are added up in order: the result does not depend on how many threads did the work.
"""

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport fabs, sqrt
from libc.string cimport memset
from scipy.linalg.cython_blas cimport dsyrk

from losses cimport LOSSES, N_LOSSES, SOFTMAX_BRIER_SCORE, SOFTMAX_LOG_LOSS, loss_block
from rows cimport Layout, backward, forward, rows_per_block
from simd cimport axpy, dot
from updates cimport ADAMW, Hyper, apply_rule

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define fastgd_max_threads() omp_get_max_threads()
    #else
    #define fastgd_max_threads() 1
    #endif
    """
    int fastgd_max_threads() nogil

cdef extern from "sgd.h" nogil:
    double sgd_rows_f64(const double* X, Py_ssize_t ld, Py_ssize_t d, const double* Y,
                        const double* weight, const Py_ssize_t* order, Py_ssize_t n,
                        const double* steps, int loss, const double* params, double l2,
                        int fit_intercept, double* v, double* intercept) noexcept
    double sgd_rows_f32(const float* X, Py_ssize_t ld, Py_ssize_t d, const float* Y,
                        const float* weight, const Py_ssize_t* order, Py_ssize_t n,
                        const double* steps, int loss, const double* params, double l2,
                        int fit_intercept, float* v, double* intercept) noexcept

LOSS_IDS = {LOSSES[i].name.decode(): i for i in range(N_LOSSES)}
LOSS_IDS["softmax_log_loss"] = SOFTMAX_LOG_LOSS
LOSS_IDS["softmax_brier_score"] = SOFTMAX_BRIER_SCORE

RULE_IDS = {"gd": 0, "momentum": 1, "nesterov": 2, "adagrad": 3, "rmsprop": 4, "adam": 5, "adamw": 6}

cdef enum:
    MAX_CHUNKS = 16
    CHUNK_WORK = 65536  # multiplications that make a chunk worth its buffers
    MIN_WORK_OF_THREADS = 2000000  # multiplications below which waking threads costs more than it saves


cdef Layout layout_of(X) except *:
    """How X lies in memory; a copy is never made, so neither rows nor columns may be strided."""
    cdef Layout layout
    cdef Py_ssize_t itemsize = X.itemsize
    m, layout.d = X.shape
    if X.strides[1] == itemsize or layout.d == 1:
        layout.by_columns = False
        layout.ld = X.strides[0] // itemsize
    elif X.strides[0] == itemsize or m == 1:
        layout.by_columns = True
        layout.ld = X.strides[1] // itemsize
    else:
        raise ValueError("X must have contiguous rows or contiguous columns")
    return layout


cdef Py_ssize_t chunks_of(Py_ssize_t m, Py_ssize_t d, Py_ssize_t k) noexcept nogil:
    return max(1, min(MAX_CHUNKS, m * (d + 1) * k // CHUNK_WORK, m // 16))


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
    cdef floating* Z = G + size
    cdef floating* R = Z + k * block
    cdef floating* scratch = R + k * block
    cdef Py_ssize_t first = start, n, j
    while first < stop:
        n = min(block, stop - first)
        forward(X, layout, NULL, first, n, k, W, Z)
        loss_block(loss, params, k, n, Z, Y + first, m, weight + first if weight != NULL else NULL,
                   total, R, H + first if H != NULL else NULL, m, scratch)
        memset(G, 0, size * sizeof(floating))
        backward(X, layout, NULL, first, n, k, R, G)
        for j in range(size):
            gradient[j] += G[j]
        first += n


cdef class Pass:
    """Buffers of full-batch passes over one X: made once for a fit, used by every iteration."""

    cdef readonly Py_ssize_t m, d, k, chunks
    cdef Layout layout
    cdef double[:, ::1] totals
    cdef double[:, :, ::1] gradients
    cdef object work, W

    def __init__(self, X, Py_ssize_t k):
        self.m, self.d = X.shape
        self.k = k
        self.layout = layout_of(X)
        self.chunks = chunks_of(self.m, self.d, k)
        self.totals = np.empty((self.chunks, k))
        self.gradients = np.empty((self.chunks, k, self.d + 1))
        block = rows_per_block(&self.layout, X.itemsize)
        self.work = np.empty((self.chunks, k * (self.d + 1) + 2 * k * block + 2 * block), X.dtype)
        self.W = np.empty((k, self.d + 1), X.dtype)

    def run(self, const floating[:, :] X, const floating[:, ::1] Y, const floating[::1] weight,
            const double[:, ::1] theta, int loss, const double[::1] params, int n_threads,
            floating[:, ::1] curvature=None):
        """Sum of weight * loss per output, and its gradient.

        Parameters
        ----------
        X : (m, d); Y : (k, m) or (1, m) of labels; weight : (m,) or None; theta : (k, d + 1)
        curvature : (k, m) or None
            Receives weight * second derivative of every row.

        Returns
        -------
        total : ndarray of shape (k,); one number repeated for the coupled losses
        gradient : ndarray of shape (k, d + 1)
        """
        cdef Py_ssize_t c, size = self.k * (self.d + 1), chunks = self.chunks, m = self.m, k = self.k
        cdef floating[:, ::1] work = self.work, W = self.W
        cdef Layout layout = self.layout
        cdef double[:, ::1] totals = self.totals
        cdef double[:, :, ::1] gradients = self.gradients
        cdef const floating* x = &X[0, 0]
        cdef const floating* s = NULL
        cdef floating* H = NULL
        if weight is not None:
            s = &weight[0]
        if curvature is not None:
            H = &curvature[0, 0]
        self.W[...] = theta
        totals[...] = 0
        gradients[...] = 0
        if m * size < MIN_WORK_OF_THREADS:
            n_threads = 1
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
        return total, gradient


# ---------------------------------------------------------------------------------------------
# second moments
# ---------------------------------------------------------------------------------------------

cdef void copy_rows(const floating* X, Layout* layout, Py_ssize_t first, Py_ssize_t n,
                    const double* shift, double* B) noexcept nogil:
    """B[i] = x_i - shift, a block of rows in double."""
    cdef Py_ssize_t i, j, d = layout.d
    cdef const floating* x
    if layout.by_columns:
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


def weighted_gram(const floating[:, :] X, const double[::1] h, const double[::1] shift,
                  int n_threads):
    """sum_i h_i (x_i - shift, 1)(x_i - shift, 1)^T, in double; rows with h_i = 0 cost nothing.

    The caller keeps BLAS on one thread, as the threads here are our own.

    Returns
    -------
    gram : ndarray of shape (d + 1, d + 1)
    """
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], p = X.shape[1] + 1, c, chunks = 1
    if m * p * p > 1000000:  # as many d^2 buffers as are small beside X, two at least
        chunks = max(2, min(8, m // (20 * p)))
    cdef Py_ssize_t block = max(16, min(512, 524288 // (8 * p)))
    cdef double[:, ::1] B = np.empty((chunks, block * p))
    cdef double[:, :, ::1] A = np.zeros((chunks, p, p))
    cdef const floating* x = &X[0, 0]
    if n_threads > chunks:
        n_threads = chunks
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            gram_of_chunk(x, &layout, &h[0], &shift[0], c * m // chunks, (c + 1) * m // chunks,
                          block, &B[c, 0], &A[c, 0, 0])
    gram = np.asarray(A[0])
    for c in range(1, chunks):
        gram += A[c]
    lower = np.tril(gram, -1)
    gram = np.tril(gram)
    gram += lower.T
    return gram


cdef void moments_of_chunk(
    const floating* X, Layout* layout, const floating* weight, const double* shift,
    Py_ssize_t start, Py_ssize_t stop, double* B, Py_ssize_t block, double* S1, double* S2,
) noexcept nogil:
    cdef Py_ssize_t first = start, n, i, j, d = layout.d
    cdef double s, b
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


def column_moments(const floating[:, :] X, const floating[::1] weight, int n_threads):
    """Weighted sums of x - x_0 and (x - x_0)^2 down the columns, x_0 being the first row.

    Returns
    -------
    first, second : ndarrays of shape (d,)
    """
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], c, chunks = chunks_of(m, d, 1)
    cdef Py_ssize_t block = rows_per_block(&layout, 8)
    cdef double[::1] shift = np.array(X[0], dtype=np.float64)
    cdef double[:, ::1] B = np.empty((chunks, block * d))
    cdef double[:, :, ::1] S = np.zeros((chunks, 2, d))
    cdef const floating* x = &X[0, 0]
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    if n_threads > chunks:
        n_threads = chunks
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            moments_of_chunk(x, &layout, s, &shift[0], c * m // chunks, (c + 1) * m // chunks,
                             &B[c, 0], block, &S[c, 0, 0], &S[c, 1, 0])
    first, second = np.add.reduce(S, axis=0)
    return first, second


def row_norms(const floating[:, :] X, const double[::1] shift, const double[::1] scale):
    """Squared lengths of (x_i - shift) * scale, shape (m,)."""
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], i, j, n, first = 0
    cdef Py_ssize_t block = rows_per_block(&layout, 8)
    cdef double[::1] out = np.empty(m), B = np.empty(block * d)
    cdef double b
    with nogil:
        while first < m:
            n = min(block, m - first)
            copy_rows(&X[0, 0], &layout, first, n, &shift[0], &B[0])
            for i in range(n):
                out[first + i] = 0
                for j in range(d):
                    b = B[i * d + j] * scale[j]
                    out[first + i] += b * b
            first += n
    return np.asarray(out)


# ---------------------------------------------------------------------------------------------
# mini-batches
# ---------------------------------------------------------------------------------------------

cdef inline void gather(const floating* Y, Py_ssize_t targets, Py_ssize_t m, const floating* weight,
                        const Py_ssize_t* order, Py_ssize_t n, floating* y, floating* s) noexcept nogil:
    cdef Py_ssize_t c, i
    for c in range(targets):
        for i in range(n):
            y[c * n + i] = Y[c * m + order[i]]
    if weight != NULL:
        for i in range(n):
            s[i] = weight[order[i]]


cdef inline void add_to_mean(Py_ssize_t n, floating scale, const floating* w, floating* mean,
                             double count) noexcept nogil:
    cdef floating part = <floating> (1 / count)
    cdef Py_ssize_t j
    for j in range(n):
        mean[j] += (scale * w[j] - mean[j]) * part


cdef inline void cumulative_l1(Py_ssize_t d, floating* v, floating* q, double u,
                               double scale) noexcept nogil:
    """Clip w = scale * v by the penalty that it still owes (Tsuruoka, Tsujii & Ananiadou 2009)."""
    cdef Py_ssize_t j
    cdef double before, after
    for j in range(d):
        before = scale * v[j]
        after = before
        if before > 0:
            after = max(0.0, before - (u + q[j]))
        elif before < 0:
            after = min(0.0, before + (u - q[j]))
        q[j] += <floating> (after - before)
        v[j] = <floating> (after / scale)


def sgd_epoch(
    const floating[:, ::1] X, const floating[:, ::1] Y, const floating[::1] weight,
    floating[:, ::1] theta, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
    const double[::1] steps, int loss, const double[::1] params, double l2, double l1,
    bint fit_intercept, int passive_aggressive, floating[:, ::1] owed, double[::1] owed_total,
    floating[:, ::1] mean, double[::1] mean_count, Py_ssize_t first_averaged,
):
    """Plain (mini-batch or stochastic) gradient descent over the rows of `order`, in place.

    A row costs O(d): the weights are scale * v, so that the L2 shrinkage is one multiplication.

    Parameters
    ----------
    steps : (n_batches,)
        Step size of each batch. With passive_aggressive 1 or 2 (PA-I, PA-II of Crammer et al. 2006)
        the aggressiveness C; batch_size is 1 then.
    owed, owed_total : (k, d), (1,)
        State of the cumulative L1 penalty; empty without one.
    mean, mean_count : (k, d + 1), (1,)
        Average of the iterates; those before update number first_averaged do not count.

    Returns
    -------
    total : ndarray of shape (k,)
        Sum over rows of the loss before the row's own update.
    """
    cdef Py_ssize_t k = theta.shape[0], d = X.shape[1], m = X.shape[0], rows = order.shape[0]
    cdef Py_ssize_t targets = Y.shape[0], start = 0, batch = 0, n, c, i, j
    cdef Layout layout = layout_of(X)
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    dtype = np.asarray(X).dtype
    cdef floating[::1] Z = np.empty(k * batch_size, dtype), R = np.empty(k * batch_size, dtype)
    cdef floating[::1] y = np.empty(targets * batch_size, dtype), sb = np.empty(batch_size, dtype)
    cdef floating[::1] work = np.empty(2 * batch_size, dtype)
    cdef double[::1] b = np.array(theta[:, d], dtype=np.float64)
    cdef double[::1] total = np.zeros(k), total_batch = np.zeros(k)
    cdef double scale = 1.0, a, coef, norm
    cdef double smallest = 1e-9 if floating is double else 1e-6
    cdef const floating* x = &X[0, 0]
    cdef bint averaged = first_averaged < steps.shape[0]
    if batch_size == 1 and k == 1 and l1 == 0 and not passive_aggressive and not averaged:
        with nogil:
            if floating is double:
                total[0] = sgd_rows_f64(x, layout.ld, d, &Y[0, 0], s, &order[0], rows, &steps[0],
                                        loss, &params[0], l2, fit_intercept, &theta[0, 0], &b[0])
            else:
                total[0] = sgd_rows_f32(x, layout.ld, d, &Y[0, 0], s, &order[0], rows, &steps[0],
                                        loss, &params[0], l2, fit_intercept, &theta[0, 0], &b[0])
        theta[0, d] = <floating> b[0]
        return np.asarray(total)
    theta[:, d] = 0
    with nogil:
        while start < rows:
            n = min(batch_size, rows - start)
            a = steps[batch]
            forward(x, &layout, &order[0], start, n, k, &theta[0, 0], &Z[0])
            for c in range(k):
                for i in range(n):
                    Z[c * n + i] = <floating> (scale * Z[c * n + i] + b[c])
                total_batch[c] = 0
            gather(&Y[0, 0], targets, m, s, &order[start], n, &y[0], &sb[0])
            loss_block(loss, &params[0], k, n, &Z[0], &y[0], n,
                       &sb[0] if s != NULL and not passive_aggressive else NULL,
                       &total_batch[0], &R[0], <floating*> NULL, 0, &work[0])
            if passive_aggressive:
                norm = dot(d, x + order[start] * layout.ld, x + order[start] * layout.ld)
                for c in range(k):
                    if passive_aggressive == 1:
                        coef = min(a, total_batch[c] / norm) if norm > 0 else 0
                    else:
                        coef = total_batch[c] / (norm + 0.5 / a)
                    R[c] *= <floating> (-coef * (sb[0] if s != NULL else 1))
            else:
                for i in range(k * n):
                    coef = R[i]
                    coef = 1e12 if coef > 1e12 else -1e12 if coef < -1e12 else coef
                    R[i] = <floating> (-a * coef / n)
            if l2 != 0:
                scale *= max(0.0, 1.0 - a * l2)
                if scale < smallest:
                    for c in range(k):
                        for j in range(d):
                            theta[c, j] *= <floating> scale
                    scale = 1.0
            for c in range(k):
                total[c] += total_batch[c]
                if fit_intercept:
                    for i in range(n):
                        b[c] += R[c * n + i]
            if scale != 1:
                for i in range(k * n):
                    R[i] = <floating> (R[i] / scale)
            backward(x, &layout, &order[0], start, n, k, &R[0], &theta[0, 0])
            for c in range(k):
                theta[c, d] = 0
            if batch >= first_averaged:
                mean_count[0] += 1
                for c in range(k):
                    add_to_mean(d, <floating> scale, &theta[c, 0], &mean[c, 0], mean_count[0])
                    mean[c, d] += <floating> ((b[c] - mean[c, d]) / mean_count[0])
            if l1 != 0:
                owed_total[0] += l1 * a
                for c in range(k):
                    cumulative_l1(d, &theta[c, 0], &owed[c, 0], owed_total[0], scale)
            start += n
            batch += 1
    for c in range(k):
        for j in range(d):
            theta[c, j] *= <floating> scale
        theta[c, d] = <floating> b[c]
    out = np.asarray(total)
    if loss >= SOFTMAX_LOG_LOSS:
        out[:] = out[0]
    return out


def rule_epoch(
    const floating[:, ::1] X, const floating[:, ::1] Y, const floating[::1] weight,
    floating[:, ::1] theta, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
    const double[::1] steps, int loss, const double[::1] params, double l2, double l1,
    bint fit_intercept, int rule, hyper, floating[:, ::1] state, double t, double clip_norm,
    const floating[::1] scale, const floating[::1] shift, const double[::1] max_slope,
    floating[:, ::1] mean, double[::1] mean_count, Py_ssize_t first_averaged,
):
    """Mini-batch descent by any update rule, in place; a batch costs O(its rows) + O(k d).

    Parameters
    ----------
    theta : (k, d + 1)
        In standardised coordinates where scale and shift (d,) are given: the weight of column j is
        theta_j * scale_j, and the intercept is that of the shifted columns.
    state : (slots, k * (d + 1))
        The rule's own; see updates.pxd.
    t : float
        Updates so far.
    max_slope : (n_batches,) or empty
        Bound of the slope of a row's loss, for losses whose curvature has none.

    Returns
    -------
    total : ndarray of shape (k,)
    """
    cdef Py_ssize_t k = theta.shape[0], d = X.shape[1], m = X.shape[0], rows = order.shape[0]
    cdef Py_ssize_t targets = Y.shape[0], start = 0, batch = 0, n, c, i, j, p = d + 1
    cdef Layout layout = layout_of(X)
    cdef Hyper hyper_
    cdef bint standardised = scale is not None and scale.shape[0] > 0
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    cdef const floating* x = &X[0, 0]
    dtype = np.asarray(X).dtype
    cdef floating[::1] Z = np.empty(k * batch_size, dtype), R = np.empty(k * batch_size, dtype)
    cdef floating[::1] y = np.empty(targets * batch_size, dtype), sb = np.empty(batch_size, dtype)
    cdef floating[::1] work = np.empty(2 * batch_size, dtype)
    cdef floating[:, ::1] G = np.empty((k, p), dtype), old = np.empty((k, p), dtype)
    cdef floating[:, ::1] W = np.empty((k, p), dtype) if standardised else theta
    cdef double[::1] total = np.zeros(k)
    cdef double a, norm, bound
    cdef floating g, u, owed
    hyper_.momentum, hyper_.beta_1, hyper_.beta_2 = hyper
    with nogil:
        while start < rows:
            n = min(batch_size, rows - start)
            a = steps[batch]
            if standardised:
                for c in range(k):
                    for j in range(d):
                        W[c, j] = theta[c, j] * scale[j]
                    W[c, d] = theta[c, d] - dot(d, &W[c, 0], &shift[0])
            forward(x, &layout, &order[0], start, n, k, &W[0, 0], &Z[0])
            gather(&Y[0, 0], targets, m, s, &order[start], n, &y[0], &sb[0])
            loss_block(loss, &params[0], k, n, &Z[0], &y[0], n, &sb[0] if s != NULL else NULL,
                       &total[0], &R[0], <floating*> NULL, 0, &work[0])
            bound = max_slope[batch] if max_slope.shape[0] > 0 else 1e12
            for i in range(k * n):
                R[i] = <floating> (max(-bound, min(bound, <double> R[i])) / n)
            memset(&G[0, 0], 0, k * p * sizeof(floating))
            backward(x, &layout, &order[0], start, n, k, &R[0], &G[0, 0])
            norm = 0
            for c in range(k):
                if standardised:
                    axpy(d, -G[c, d], &shift[0], &G[c, 0])
                    for j in range(d):
                        G[c, j] *= scale[j]
                if l2 != 0 and rule != ADAMW:
                    if standardised:
                        for j in range(d):
                            G[c, j] += <floating> l2 * theta[c, j] * scale[j] * scale[j]
                    else:
                        axpy(d, <floating> l2, &theta[c, 0], &G[c, 0])
                if not fit_intercept:
                    G[c, d] = 0
                if l1 != 0:  # the smallest subgradient (Andrew & Gao 2007)
                    for j in range(d):
                        owed = <floating> l1 * (scale[j] if standardised else 1)
                        u = theta[c, j]
                        g = G[c, j]
                        if u == 0:
                            owed = min(owed, fabs(g))
                        G[c, j] = g + owed if u > 0 or (u == 0 and g < 0) else g - owed
                    old[c, :] = theta[c, :]
                norm += dot(p, &G[c, 0], &G[c, 0])
            if clip_norm > 0 and sqrt(norm) > clip_norm:
                g = <floating> (clip_norm / (sqrt(norm) + 1e-6))  # as in torch.nn.utils
                for c in range(k):
                    for j in range(p):
                        G[c, j] *= g
            if rule == ADAMW and l2 != 0:
                for c in range(k):
                    for j in range(d):
                        theta[c, j] *= <floating> (1 - a * l2)
            t += 1
            apply_rule(rule, &hyper_, k * p, &theta[0, 0], &G[0, 0],
                       &state[0, 0] if state.shape[0] > 0 else NULL, a, t)
            if l1 != 0:
                for c in range(k):
                    for j in range(d):
                        if old[c, j] * theta[c, j] < 0:
                            theta[c, j] = 0
            if batch >= first_averaged:
                mean_count[0] += 1
                add_to_mean(k * p, <floating> 1, &theta[0, 0], &mean[0, 0], mean_count[0])
            start += n
            batch += 1
    out = np.asarray(total)
    if loss >= SOFTMAX_LOG_LOSS:
        out[:] = out[0]
    return out


# ---------------------------------------------------------------------------------------------
# small things
# ---------------------------------------------------------------------------------------------

def max_threads():
    """Threads that OpenMP would use now: OMP_NUM_THREADS, threadpoolctl and joblib set it."""
    return fastgd_max_threads()


def update(int rule, hyper, floating[::1] w, const floating[::1] g, floating[:, ::1] state,
           double a, double t):
    """Update number t of w by the gradient g, in place: see updates.pxd."""
    cdef Hyper hyper_
    hyper_.momentum, hyper_.beta_1, hyper_.beta_2 = hyper
    with nogil:
        apply_rule(rule, &hyper_, w.shape[0], &w[0], &g[0],
                   &state[0, 0] if state.shape[0] > 0 else NULL, a, t)


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
