"""Matrix products of C-ordered arrays: our own kernel where it is faster, else BLAS's gemm."""

from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, dsyrk, sgemm

cdef extern from "gemm.h" nogil:
    bint gemm_pays(bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, size_t itemsize) noexcept
    void gemm_f64(bint transpose_a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const double* A, Py_ssize_t lda,
                  const double* B, Py_ssize_t ldb, bint add, double* C, Py_ssize_t ldc) noexcept
    void gemm_f32(bint transpose_a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const float* A, Py_ssize_t lda,
                  const float* B, Py_ssize_t ldb, bint add, float* C, Py_ssize_t ldc) noexcept
    void descend_f64(bint transpose_a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const double* A, Py_ssize_t lda,
                     const double* B, Py_ssize_t ldb, double rate, double l2, double* C, Py_ssize_t ldc) noexcept
    void descend_f32(bint transpose_a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const float* A, Py_ssize_t lda,
                     const float* B, Py_ssize_t ldb, float rate, float l2, float* C, Py_ssize_t ldc) noexcept

cdef extern from "gram.h" nogil:
    enum:
        GRAM_PANEL
        GRAM_VECTOR
    bint gram_pays(Py_ssize_t columns) noexcept
    void gram_f64(Py_ssize_t n, Py_ssize_t p, Py_ssize_t q, const double* B, const void* next, Py_ssize_t bytes,
                  double* A) noexcept
    void shifted_f64(Py_ssize_t n, const double* x, const double* shift, double root, double* b) noexcept
    void shifted_f32(Py_ssize_t n, const float* x, const double* shift, double root, double* b) noexcept


cdef inline void blas_product(
    bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb, bint add,
    floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m, n) = op(A) (m, k) op(B) (k, n), added to what C holds if `add`; ld* are row lengths.

    BLAS's matrices are Fortran-ordered: it reads ours transposed. It has threads of its own.
    """
    cdef int m_ = <int> m, n_ = <int> n, k_ = <int> k
    cdef int lda_ = <int> lda, ldb_ = <int> ldb, ldc_ = <int> ldc
    cdef char ta = b"T" if transpose_a else b"N"
    cdef char tb = b"T" if transpose_b else b"N"
    cdef floating one = 1, beta = 1 if add else 0
    # C^T = op(B)^T op(A)^T
    if floating is double:
        dgemm(&tb, &ta, &n_, &m_, &k_, &one, <double*> B, &ldb_, <double*> A, &lda_, &beta, C, &ldc_)
    else:
        sgemm(&tb, &ta, &n_, &m_, &k_, &one, <float*> B, &ldb_, <float*> A, &lda_, &beta, C, &ldc_)


cdef inline void own_product(
    bint transpose_a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb, bint add, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """The same on this thread, B as it is."""
    if floating is double:
        gemm_f64(transpose_a, m, n, k, A, lda, B, ldb, add, C, ldc)
    else:
        gemm_f32(transpose_a, m, n, k, A, lda, B, ldb, add, C, ldc)


cdef inline void product(
    bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb, bint add,
    floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """The same by whichever is faster; the caller keeps BLAS on one thread."""
    if gemm_pays(transpose_b, m, n, k, sizeof(floating)):
        own_product(transpose_a, m, n, k, A, lda, B, ldb, add, C, ldc)
    else:
        blas_product(transpose_a, transpose_b, m, n, k, A, lda, B, ldb, add, C, ldc)


cdef struct Panels:
    # How a factor of a Gram matrix lies: panels of so many of p columns, the last one of the rest, each row after
    # row; a single panel is an ordinary matrix.
    Py_ssize_t p
    Py_ssize_t width


cdef inline Panels panels_of(Py_ssize_t p, Py_ssize_t q) noexcept nogil:
    """As `add_gram` wants them for p columns, of which q are those of the Gram matrix."""
    if gram_pays(q):
        return Panels((p + GRAM_VECTOR - 1) // GRAM_VECTOR * GRAM_VECTOR, GRAM_PANEL)
    return Panels(p, p)


cdef inline Py_ssize_t width_from(Panels panels, Py_ssize_t j) noexcept nogil:
    """Of the panel that begins with column j: its rows are so far apart."""
    return min(panels.width, panels.p - j)


cdef inline Py_ssize_t column_of(Panels panels, Py_ssize_t n, Py_ssize_t j, Py_ssize_t* step) noexcept nogil:
    """Where column j of n rows begins, and how far apart its numbers are."""
    cdef Py_ssize_t first = j // panels.width * panels.width
    step[0] = width_from(panels, first)
    return first * n + j - first


cdef inline void add_gram(Py_ssize_t n, Py_ssize_t p, Py_ssize_t q, const double* B, const void* next,
                          Py_ssize_t bytes, double* A) noexcept nogil:
    """A (p, q) += B^T B[:, :q] for B (n, p) in panels, on and below the diagonal, and maybe beside it; on this thread.

    The bytes at `next` are read next.
    """
    cdef int n_ = <int> n, p_ = <int> p, q_ = <int> q, rest = <int> (p - q)
    cdef double one = 1.0
    if gram_pays(q):
        gram_f64(n, p, q, B, next, bytes, A)
        return
    dsyrk(b"U", b"N", &q_, &n_, &one, <double*> B, &p_, &one, A, &q_)
    if p > q:
        dgemm(b"N", b"T", &q_, &rest, &n_, &one, <double*> B, &p_, <double*> B + q, &p_, &one, A + q * q, &q_)


cdef inline void shifted(Py_ssize_t n, const floating* x, const double* shift, double root,
                         double* b) noexcept nogil:
    """b = (x - shift) root"""
    if floating is double:
        shifted_f64(n, x, shift, root, b)
    else:
        shifted_f32(n, x, shift, root, b)


cdef inline void descend(
    bint transpose_a, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const floating* A, Py_ssize_t lda,
    const floating* B, Py_ssize_t ldb, floating rate, floating l2, floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C <- C - rate (op(A) B + l2 C) by our own kernel, on this thread."""
    if floating is double:
        descend_f64(transpose_a, m, n, k, A, lda, B, ldb, rate, l2, C, ldc)
    else:
        descend_f32(transpose_a, m, n, k, A, lda, B, ldb, rate, l2, C, ldc)
