"""Layers of a network, one call each: dense, elementwise activation, softmax; forward and backward.

In: C-ordered float32 or float64 arrays whose shapes fit together; out: an array given by the caller, which
may be an input of an elementwise function or of softmax, and of dense products none.
X (m, d), W (d, k), b (k,); Z, P and their derivatives (m, k); activations see n numbers in a row.

Elementwise work is cut into pieces of fixed size, which threads share; large products have the threads of
BLAS. Small work keeps to one thread: on a busy machine waking others costs milliseconds.
"""

import numpy as np

cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy

from activations cimport ACTIVATIONS, N_ACTIVATIONS, activate, differentiate
from products cimport blas_product

cdef extern from "softmax.h" nogil:
    void softmax_rows_forward_f64(Py_ssize_t m, Py_ssize_t k, const double* Z, double* P) noexcept
    void softmax_rows_forward_f32(Py_ssize_t m, Py_ssize_t k, const float* Z, float* P) noexcept
    void softmax_rows_backward_f64(
        Py_ssize_t m, Py_ssize_t k, const double* P, const double* dP, double* dZ) noexcept
    void softmax_rows_backward_f32(
        Py_ssize_t m, Py_ssize_t k, const float* P, const float* dP, float* dZ) noexcept

cnp.import_array()

ACTIVATION_IDS = {ACTIVATIONS[i].name.decode(): i for i in range(N_ACTIVATIONS)}

cdef enum:
    PIECE = 16384  # numbers of one piece of elementwise work
    MIN_WORK_OF_THREADS = 524288  # numbers below which waking threads costs more than it saves
    MIN_WORK_OF_BLAS_THREADS = 16777216  # the same in multiplications of a product
    WORK_OF_ONE_BLAS_THREAD = 262144  # multiplications up to which OpenBLAS wakes no thread by itself


cdef int threads_for(Py_ssize_t size, int n_threads) noexcept nogil:
    return n_threads if size > MIN_WORK_OF_THREADS else 1


# ---------------------------------------------------------------------------------------------
# dense layer
# ---------------------------------------------------------------------------------------------

cdef Py_ssize_t rows_per_product(Py_ssize_t m, Py_ssize_t d, Py_ssize_t k) noexcept nogil:
    """All m rows, or so few at a time that BLAS keeps to this thread."""
    cdef Py_ssize_t rows = WORK_OF_ONE_BLAS_THREAD // (d * k)
    return rows if rows >= 16 and m * d * k < MIN_WORK_OF_BLAS_THREADS else m


def dense_forward(
    const floating[:, ::1] X, const floating[:, ::1] W, const floating[::1] b, floating[:, ::1] Z,
):
    """Z = X W + b"""
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = W.shape[1], rows, i
    if m == 0 or k == 0:
        return
    with nogil:
        for i in range(m):
            memcpy(&Z[i, 0], &b[0], k * sizeof(floating))
        if d > 0:
            rows = rows_per_product(m, d, k)
            i = 0
            while i < m:
                blas_product(False, False, min(rows, m - i), k, d, &X[i, 0], d, &W[0, 0], k, True, &Z[i, 0], k)
                i += rows


def dense_backward(
    const floating[:, ::1] X, const floating[:, ::1] W, const floating[:, ::1] dZ,
    floating[:, ::1] dX, floating[:, ::1] dW, floating[::1] db,
):
    """dX = dZ W^T; dW = X^T dZ; db = sum of the rows of dZ, added up in double."""
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = W.shape[1], rows, n, i, j
    cdef double[::1] total = np.zeros(k)
    if m == 0 or d == 0 or k == 0:  # sums without a term, of which BLAS knows nothing
        dX[...] = 0
        dW[...] = 0
    with nogil:
        if m > 0 and d > 0 and k > 0:
            rows = rows_per_product(m, d, k)
            i = 0
            while i < m:
                n = min(rows, m - i)
                blas_product(False, True, n, d, k, &dZ[i, 0], k, &W[0, 0], k, False, &dX[i, 0], d)
                blas_product(True, False, d, k, n, &X[i, 0], d, &dZ[i, 0], k, i > 0, &dW[0, 0], k)
                i += rows
        for i in range(m):
            for j in range(k):
                total[j] += dZ[i, j]
        for j in range(k):
            db[j] = <floating> total[j]


# ---------------------------------------------------------------------------------------------
# elementwise activations
# ---------------------------------------------------------------------------------------------

def activation_forward(int activation, const floating[::1] Z, floating[::1] A, int n_threads):
    """A = f(Z), f being an entry of ACTIVATION_IDS."""
    cdef Py_ssize_t n = Z.shape[0], piece
    cdef const floating* z = &Z[0] if n > 0 else NULL
    cdef floating* a = &A[0] if n > 0 else NULL
    for piece in prange(
        (n + PIECE - 1) // PIECE, nogil=True, schedule="static", num_threads=threads_for(n, n_threads)
    ):
        activate(activation, min(<Py_ssize_t> PIECE, n - piece * PIECE), z + piece * PIECE, a + piece * PIECE)


def activated(int activation, Z, out):
    """A = f(Z), a new array or `out`, with no more ado than NumPy's own functions of an array make.

    None, with nothing done, for all but exact arrays that are C-ordered and aligned, and no work for threads.
    """
    cdef cnp.ndarray z, a
    cdef Py_ssize_t n, size
    cdef char* before
    cdef char* after
    if not cnp.PyArray_CheckExact(Z):
        return None
    z = Z
    n, size = cnp.PyArray_SIZE(z), cnp.PyArray_NBYTES(z)
    cdef int kind = cnp.PyArray_TYPE(z)
    if kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE or not cnp.PyArray_ISCARRAY_RO(z) or n > MIN_WORK_OF_THREADS:
        return None
    if out is None:
        a = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(z), cnp.PyArray_DIMS(z), kind, 0)
    elif cnp.PyArray_CheckExact(out):
        a = out
        if cnp.PyArray_TYPE(a) != kind or not cnp.PyArray_ISCARRAY(a) or not cnp.PyArray_SAMESHAPE(z, a):
            return None
    else:
        return None
    before, after = <char*> cnp.PyArray_DATA(z), <char*> cnp.PyArray_DATA(a)
    if before < after < before + size or after < before < after + size:
        return None
    with nogil:
        if kind == cnp.NPY_FLOAT:
            activate(activation, n, <const float*> before, <float*> after)
        else:
            activate(activation, n, <const double*> before, <double*> after)
    return a


def activation_backward(
    int activation, const floating[::1] A, const floating[::1] dA, floating[::1] dZ, int n_threads,
):
    """dZ = dA f'(Z), by A = f(Z)."""
    cdef Py_ssize_t n = A.shape[0], piece
    cdef const floating* a = &A[0] if n > 0 else NULL
    cdef const floating* da = &dA[0] if n > 0 else NULL
    cdef floating* dz = &dZ[0] if n > 0 else NULL
    for piece in prange(
        (n + PIECE - 1) // PIECE, nogil=True, schedule="static", num_threads=threads_for(n, n_threads)
    ):
        differentiate(activation, min(<Py_ssize_t> PIECE, n - piece * PIECE),
                      a + piece * PIECE, da + piece * PIECE, dz + piece * PIECE)


# ---------------------------------------------------------------------------------------------
# softmax
# ---------------------------------------------------------------------------------------------

def softmax_forward(const floating[:, ::1] Z, floating[:, ::1] P, int n_threads):
    """p_i = exp(z_i) / sum_j exp(z_j) in every row"""
    cdef Py_ssize_t m = Z.shape[0], k = Z.shape[1], rows, piece, start, n
    if m == 0 or k == 0:
        return
    rows = max(1, PIECE // k)
    for piece in prange(
        (m + rows - 1) // rows, nogil=True, schedule="static", num_threads=threads_for(m * k, n_threads)
    ):
        start = piece * rows
        n = min(rows, m - start)
        if floating is double:
            softmax_rows_forward_f64(n, k, &Z[start, 0], &P[start, 0])
        else:
            softmax_rows_forward_f32(n, k, &Z[start, 0], &P[start, 0])


def softmax_backward(
    const floating[:, ::1] P, const floating[:, ::1] dP, floating[:, ::1] dZ, int n_threads,
):
    """dz = (diag(p) - p p^T) dp in every row"""
    cdef Py_ssize_t m = P.shape[0], k = P.shape[1], rows, piece, start, n
    if m == 0 or k == 0:
        return
    rows = max(1, PIECE // k)
    for piece in prange(
        (m + rows - 1) // rows, nogil=True, schedule="static", num_threads=threads_for(m * k, n_threads)
    ):
        start = piece * rows
        n = min(rows, m - start)
        if floating is double:
            softmax_rows_backward_f64(n, k, &P[start, 0], &dP[start, 0], &dZ[start, 0])
        else:
            softmax_rows_backward_f32(n, k, &P[start, 0], &dP[start, 0], &dZ[start, 0])
