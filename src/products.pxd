"""Matrix products of C-ordered arrays: BLAS's gemm, whose matrices are Fortran-ordered, read transposed."""

from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, sgemm


cdef inline void product(
    bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb, bint add,
    floating* C, Py_ssize_t ldc,
) noexcept nogil:
    """C (m, n) = op(A) (m, k) op(B) (k, n), added to what C holds if `add`; ld* are row lengths."""
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
