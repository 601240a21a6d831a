"""Linear models side by side: loss and gradient of many candidates in one pass over the same rows.

In: X (m, d) float32 or float64, C or Fortran order; targets Y (targets, m) and weights (m,) that all models
share; parameters W (n, k, d + 1): n models of k outputs, each row the weights of an output and its intercept.
Out: sums over rows per model and output, in double.

The pass is that of linear.pyx with matrix products in the place of inner products: n k outputs read a block of
rows while it is in cache. Chunks depend on shapes alone, with buffers of their own, added up in order.

And what squared error needs instead of passes: second moments of rows and targets, of several parts of a table.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memset
from scipy.linalg.cython_blas cimport dgemm, dsyrk

from losses cimport SOFTMAX_LOG_LOSS, loss_block, sum_of
from products cimport product
from rows cimport Layout, fetch, layout_of

cdef enum:
    MAX_CHUNKS = 16
    CHUNK_WORK = 262144  # multiplications that make a chunk worth its buffers
    BLOCK_BYTES = 524288  # of rows, predictors and slopes: what a second-level cache holds
    SMALL_PRODUCT = 1000000  # multiplications up to which OpenBLAS multiplies without packing first
    MIN_WORK_OF_THREADS = 2000000


cdef void pass_over_chunk(
    const floating* X, Layout* layout, const floating* Y, Py_ssize_t m, const floating* weight, int loss,
    const double* params, Py_ssize_t n_models, Py_ssize_t k, const floating* W, Py_ssize_t start,
    Py_ssize_t stop, Py_ssize_t block, double* total, double* gradient, floating* work,
) noexcept nogil:
    cdef Py_ssize_t outputs = n_models * k, d = layout.d, ld = layout.ld, p = d + 1
    cdef Py_ssize_t first = start, n, c, i, q
    cdef bint by_columns = layout.by_columns
    cdef const floating* x
    cdef floating* G = work
    cdef floating* Z = G + outputs * p
    cdef floating* R = Z + outputs * block
    cdef floating* scratch = R + outputs * block
    cdef Py_ssize_t blocks = (stop - start + block - 1) // block
    cdef Py_ssize_t small = SMALL_PRODUCT // (outputs * d) // 8 * 8, some, ahead
    block = (stop - start + blocks - 1) // blocks  # all of like size
    while first < stop:
        n = min(block, stop - first)
        x = X + (first if by_columns else first * ld)
        for c in range(outputs):
            for i in range(n):
                Z[c * n + i] = W[c * p + d]
        product(False, not by_columns, outputs, n, d, W, p, x, ld, True, Z, n)
        ahead = 0  # how much of the next block to fetch while exp is busy
        if ld == d and outputs >= 16:
            ahead = min(block, stop - first - n) * d
        for q in range(n_models):
            fetch(x + n * d + q * ahead // n_models, (q + 1) * ahead // n_models - q * ahead // n_models)
            loss_block(loss, params, k, n, Z + q * k * n, Y + first, m,
                       weight + first if weight != NULL else NULL, total + q * k, R + q * k * n,
                       <floating*> NULL, m, scratch)
        some = n if small < 64 else small
        i = 0
        while i < n:
            product(False, by_columns, outputs, d, min(some, n - i), R + i, n,
                    x + (i if by_columns else i * ld), ld, i > 0, G, p)
            i += some
        for c in range(outputs):
            G[c * p + d] = <floating> sum_of(n, R + c * n)
        for i in range(outputs * p):
            gradient[i] += G[i]
        first += n


cdef class Pass:
    """Buffers of passes by up to n models of k outputs over X, or over fewer rows like them."""

    cdef readonly Py_ssize_t m, d, n, k, chunks, block
    cdef double[:, ::1] totals, gradients
    cdef object work

    def __init__(self, X, Py_ssize_t n, Py_ssize_t k):
        self.m, self.d = X.shape
        self.n, self.k = n, k
        cdef Py_ssize_t outputs = n * k, bytes_per_row = (self.d + 2 * outputs) * X.itemsize
        self.block = min(512, max(64, BLOCK_BYTES // bytes_per_row // 8 * 8))
        self.chunks = self.chunks_of(self.m, n)
        self.totals = np.empty((self.chunks, outputs))
        self.gradients = np.empty((self.chunks, outputs * (self.d + 1)))
        self.work = np.empty((self.chunks, outputs * (self.d + 1 + 2 * self.block) + 2 * self.block), X.dtype)

    cdef Py_ssize_t chunks_of(self, Py_ssize_t m, Py_ssize_t n):
        """As many as have enough to do, with buffers that are small beside X, two at least."""
        cdef Py_ssize_t size = n * self.k * (self.d + 1)
        limit = max(2, min(MAX_CHUNKS, m * self.d // (4 * size)))
        return max(1, min(limit, m * size // CHUNK_WORK, m // 16))

    def run(self, const floating[:, :] X, const floating[:, ::1] Y, const floating[::1] weight,
            const floating[:, :, ::1] W, int loss, const double[::1] params, int n_threads):
        """Sum of weight * loss per model and output, and its gradient.

        The caller keeps BLAS on one thread, as the threads here are our own.

        Parameters
        ----------
        X : (m, d); Y : (k, m) or (1, m) of labels; weight : (m,) or None
        W : (any number up to n, k, d + 1)

        Returns
        -------
        total : ndarray of shape (number of models, k); of the coupled losses, one number repeated
        gradient : ndarray of shape (number of models, k, d + 1)
        """
        cdef Py_ssize_t n = W.shape[0], k = self.k, m = X.shape[0], block = self.block, c
        cdef Py_ssize_t size = n * k * (self.d + 1), chunks
        if n > self.n or W.shape[1] != k or W.shape[2] != self.d + 1:
            raise ValueError(f"W has shape {np.shape(W)}, expected up to {(self.n, k, self.d + 1)}.")
        if m > self.m or X.shape[1] != self.d:
            raise ValueError(f"X has shape {np.shape(X)}, expected up to {(self.m, self.d)}.")
        if n == 0 or m == 0:
            return np.zeros((n, k)), np.zeros((n, k, self.d + 1))
        chunks = min(self.chunks, self.chunks_of(m, n))
        cdef floating[:, ::1] work = self.work
        cdef Layout layout = layout_of(np.asarray(X))
        cdef double[:, ::1] totals = self.totals
        cdef double[:, ::1] gradients = self.gradients
        cdef const floating* x = &X[0, 0]
        cdef const floating* s = NULL
        if weight is not None:
            s = &weight[0]
        if m * size < MIN_WORK_OF_THREADS:
            n_threads = 1
        with nogil:
            for c in prange(chunks, schedule="dynamic", num_threads=max(1, min(n_threads, chunks))):
                memset(&totals[c, 0], 0, n * k * sizeof(double))
                memset(&gradients[c, 0], 0, size * sizeof(double))
                pass_over_chunk(x, &layout, &Y[0, 0], m, s, loss, &params[0], n, k, &W[0, 0, 0],
                                c * m // chunks, (c + 1) * m // chunks, block, &totals[c, 0],
                                &gradients[c, 0], &work[threadid(), 0])
        total = np.add.reduce(np.asarray(totals)[:chunks, :n * k], axis=0).reshape(n, k)
        gradient = np.add.reduce(np.asarray(gradients)[:chunks, :size], axis=0).reshape(n, k, self.d + 1)
        if loss >= SOFTMAX_LOG_LOSS:
            total[:] = total[:, :1]
        return total, gradient


# ---------------------------------------------------------------------------------------------
# second moments of parts of a table
# ---------------------------------------------------------------------------------------------

cdef void gather_rows(
    const floating* X, Layout* layout, const double* Y, Py_ssize_t m, Py_ssize_t k, const Py_ssize_t* rows,
    const double* weight, Py_ssize_t n, const double* shift, double* B,
) noexcept nogil:
    """B[i] = (x_i - shift, 1, y_i) sqrt(weight_i), (n, d + 1 + k)."""
    cdef Py_ssize_t i, j, d = layout.d, p = d + 1 + k
    cdef const floating* x
    cdef double* b
    cdef double root
    if layout.by_columns:
        for j in range(d):
            x = X + j * layout.ld
            for i in range(n):
                B[i * p + j] = x[rows[i]]
    for i in range(n):
        b = B + i * p
        root = sqrt(weight[i])
        if layout.by_columns:
            for j in range(d):
                b[j] = (b[j] - shift[j]) * root
        else:
            x = X + rows[i] * layout.ld
            for j in range(d):
                b[j] = (x[j] - shift[j]) * root
        b[d] = root
        for j in range(k):
            b[d + 1 + j] = Y[j * m + rows[i]] * root


cdef void moments_of_rows(
    const floating* X, Layout* layout, const double* Y, Py_ssize_t m, Py_ssize_t k, const Py_ssize_t* rows,
    const double* weight, Py_ssize_t n, const double* shift, Py_ssize_t block, double* B, double* A, double* C,
    double* S,
) noexcept nogil:
    """A += Z^T Z, upper triangle in Fortran's sense, C += Y^T Z and S += sums of squares of the columns of Y,
    Z being (X - shift, 1), all rows times the roots of their weights."""
    cdef Py_ssize_t first = 0, i, j
    cdef int some, q = <int> (layout.d + 1), outputs = <int> k, p = <int> (layout.d + 1 + k)
    cdef double one = 1.0
    cdef char* upper = b"U"
    cdef char* plain = b"N"
    cdef char* transposed = b"T"
    while first < n:
        some = <int> min(block, n - first)
        gather_rows(X, layout, Y, m, k, rows + first, weight + first, some, shift, B)
        dsyrk(upper, plain, &q, &some, &one, B, &p, &one, A, &q)
        dgemm(plain, transposed, &q, &outputs, &some, &one, B, &p, B + q, &p, &one, C, &q)
        for i in range(some):
            for j in range(k):
                S[j] += B[i * p + q + j] * B[i * p + q + j]
        first += some


def moments_of_parts(const floating[:, :] X, const double[:, ::1] Y, const Py_ssize_t[::1] rows,
                     const double[::1] weight, ends, const double[::1] shift, int n_threads):
    """Weighted sums of products of x - shift, 1 and y over parts of a table, in double.

    The caller keeps BLAS on one thread, as the threads here are our own.

    Parameters
    ----------
    X : (m, d); Y : (k, m)
    rows : (n,), part after part; weight : (n,), theirs
    ends : where in `rows` each part ends

    Returns
    -------
    squares : ndarray of shape (parts, k), sums of y^2
    products : ndarray of shape (parts, k, d + 1), of y (x - shift, 1)
    grams : ndarray of shape (parts, d + 1, d + 1), of (x - shift, 1)(x - shift, 1)^T
    """
    cdef Py_ssize_t m = X.shape[0], k = Y.shape[0], q = X.shape[1] + 1, p = q + k, t
    cdef Layout layout = layout_of(np.asarray(X))
    cdef Py_ssize_t block = max(16, min(1024, BLOCK_BYTES // (8 * p)))
    cuts, owners = [0], []  # a part is cut into as many tasks as leave their sums small beside its rows
    for part, (first, end) in enumerate(zip([0, *ends], ends)):
        pieces = max(1, min(-(-8 // len(ends)), (end - first) // (20 * p)))
        cuts += [first + (end - first) * (i + 1) // pieces for i in range(pieces)]
        owners += [part] * pieces
    cdef Py_ssize_t tasks = len(owners)
    n_threads = max(1, min(n_threads, tasks))
    cdef const Py_ssize_t[::1] cut = np.array(cuts, dtype=np.intp)
    cdef double[:, ::1] B = np.empty((n_threads, block * p)), S = np.zeros((tasks, k))
    cdef double[:, :, ::1] A = np.zeros((tasks, q, q)), C = np.zeros((tasks, k, q))
    with nogil:
        for t in prange(tasks, schedule="dynamic", num_threads=n_threads):
            if cut[t] < cut[t + 1]:
                moments_of_rows(&X[0, 0], &layout, &Y[0, 0], m, k, &rows[cut[t]], &weight[cut[t]],
                                cut[t + 1] - cut[t], &shift[0], block, &B[threadid(), 0], &A[t, 0, 0],
                                &C[t, 0, 0], &S[t, 0])
    starts = np.searchsorted(owners, range(len(ends)))
    squares, products = np.add.reduceat(S, starts), np.add.reduceat(C, starts)
    grams = np.add.reduceat(A, starts)
    for gram in grams:
        gram += np.tril(gram, -1).T
    return squares, products, grams
