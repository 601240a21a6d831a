"""The inner loops of simd.h for both float types."""

from cython cimport floating
from libc.stdint cimport int32_t

ctypedef fused sum_type:
    float
    double

cdef extern from "simd.h" nogil:
    double dot_f64(Py_ssize_t n, const double* x, const double* w) noexcept
    float dot_f32(Py_ssize_t n, const float* x, const float* w) noexcept
    int MOST_OUTPUTS
    void dot4_f64(int outputs, Py_ssize_t n, const double* x0, const double* x1, const double* x2,
                  const double* x3, const double* w, Py_ssize_t ldw, double* out) noexcept
    void dot4_f32(int outputs, Py_ssize_t n, const float* x0, const float* x1, const float* x2,
                  const float* x3, const float* w, Py_ssize_t ldw, float* out) noexcept
    void axpy_f64(Py_ssize_t n, double a, const double* x, double* g) noexcept
    void axpy_f32(Py_ssize_t n, float a, const float* x, float* g) noexcept
    double axpy_and_dot_f64(Py_ssize_t n, double a, const double* x, double* g, const double* y,
                            const double* w, const double* later) noexcept
    float axpy_and_dot_f32(Py_ssize_t n, float a, const float* x, float* g, const float* y,
                           const float* w, const float* later) noexcept
    void axpy4_f64(int outputs, Py_ssize_t n, const double* a, Py_ssize_t lda, const double* x0, const double* x1,
                   const double* x2, const double* x3, double* g, Py_ssize_t ldg) noexcept
    void axpy4_f32(int outputs, Py_ssize_t n, const float* a, Py_ssize_t lda, const float* x0, const float* x1,
                   const float* x2, const float* x3, float* g, Py_ssize_t ldg) noexcept
    void combine_f64(Py_ssize_t n, Py_ssize_t d, const double* x, Py_ssize_t ld, const double* w,
                     double b, double* z, Py_ssize_t ahead) noexcept
    void combine_f32(Py_ssize_t n, Py_ssize_t d, const float* x, Py_ssize_t ld, const float* w,
                     float b, float* z, Py_ssize_t ahead) noexcept
    double sparse_dot_f64(Py_ssize_t n, const double* x, const int32_t* at, const double* w) noexcept
    float sparse_dot_f32(Py_ssize_t n, const float* x, const int32_t* at, const float* w) noexcept
    void sparse_axpy_f64(Py_ssize_t n, double a, const double* x, const int32_t* at,
                         double* g) noexcept
    int STRIP
    void sparse_dots_f64(Py_ssize_t width, Py_ssize_t n, const double* x, const int32_t* at,
                         const double* W, Py_ssize_t k, double* out) noexcept
    void sparse_dots_f32(Py_ssize_t width, Py_ssize_t n, const float* x, const int32_t* at,
                         const float* W, Py_ssize_t k, float* out) noexcept
    void sparse_outer_f64(Py_ssize_t width, Py_ssize_t n, const double* x, const int32_t* at,
                          const double* r, Py_ssize_t k, double* G) noexcept
    void sparse_outer_f32(Py_ssize_t width, Py_ssize_t n, const float* x, const int32_t* at,
                          const float* r, Py_ssize_t k, float* G) noexcept
    void sparse_outer_f32_f64(Py_ssize_t width, Py_ssize_t n, const float* x, const int32_t* at,
                              const float* r, Py_ssize_t k, double* G) noexcept
    void sparse_axpy_f32(Py_ssize_t n, float a, const float* x, const int32_t* at, float* g) noexcept
    void add_moments4_f64(Py_ssize_t n, const double* s, const double* x, Py_ssize_t ld, const double* shift,
                          double* first, double* second) noexcept
    void add_moments4_f32(Py_ssize_t n, const double* s, const float* x, Py_ssize_t ld, const double* shift,
                          double* first, double* second) noexcept

cdef extern from "narrow.h" nogil:
    int NARROW_BYTES
    void narrow_dots_f64(Py_ssize_t n, Py_ssize_t d, const double* x, Py_ssize_t ld, const double* w, double b,
                         double* z, Py_ssize_t ahead) noexcept
    void narrow_dots_f32(Py_ssize_t n, Py_ssize_t d, const float* x, Py_ssize_t ld, const float* w, float b,
                         float* z, Py_ssize_t ahead) noexcept
    void narrow_sums_f64(Py_ssize_t n, Py_ssize_t d, const double* x, Py_ssize_t ld, const double* r,
                         double* g, Py_ssize_t ahead) noexcept
    void narrow_sums_f32(Py_ssize_t n, Py_ssize_t d, const float* x, Py_ssize_t ld, const float* r,
                         float* g, Py_ssize_t ahead) noexcept


cdef inline void narrow_dots(Py_ssize_t n, Py_ssize_t d, const floating* x, Py_ssize_t ld, const floating* w,
                             floating b, floating* z, Py_ssize_t ahead) noexcept nogil:
    if floating is double:
        narrow_dots_f64(n, d, x, ld, w, b, z, ahead)
    else:
        narrow_dots_f32(n, d, x, ld, w, b, z, ahead)


cdef inline void narrow_sums(Py_ssize_t n, Py_ssize_t d, const floating* x, Py_ssize_t ld, const floating* r,
                             floating* g, Py_ssize_t ahead) noexcept nogil:
    if floating is double:
        narrow_sums_f64(n, d, x, ld, r, g, ahead)
    else:
        narrow_sums_f32(n, d, x, ld, r, g, ahead)


cdef inline floating dot(Py_ssize_t n, const floating* x, const floating* w) noexcept nogil:
    if floating is double:
        return dot_f64(n, x, w)
    else:
        return dot_f32(n, x, w)


cdef inline double sum_of(Py_ssize_t n, const floating* x) noexcept nogil:
    """sum_i x_i in double; eight sums side by side, as one would wait for itself at every addition."""
    cdef Py_ssize_t i = 0, lane
    cdef double[8] sums = [0, 0, 0, 0, 0, 0, 0, 0]
    while i + 8 <= n:
        for lane in range(8):
            sums[lane] += x[i + lane]
        i += 8
    while i < n:
        sums[0] += x[i]
        i += 1
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]))


cdef inline int outputs_at_a_time(Py_ssize_t left) noexcept nogil:
    """How many of the outputs that are left share the loads of four rows."""
    return <int> (left if left <= MOST_OUTPUTS else min(<Py_ssize_t> MOST_OUTPUTS, (left + 1) // 2))


cdef inline void dot4(int outputs, Py_ssize_t n, const floating* x0, const floating* x1, const floating* x2,
                      const floating* x3, const floating* w, Py_ssize_t ldw, floating* out) noexcept nogil:
    if floating is double:
        dot4_f64(outputs, n, x0, x1, x2, x3, w, ldw, out)
    else:
        dot4_f32(outputs, n, x0, x1, x2, x3, w, ldw, out)


cdef inline void axpy(Py_ssize_t n, floating a, const floating* x, floating* g) noexcept nogil:
    if floating is double:
        axpy_f64(n, a, x, g)
    else:
        axpy_f32(n, a, x, g)


cdef inline floating axpy_and_dot(Py_ssize_t n, floating a, const floating* x, floating* g, const floating* y,
                                  const floating* w, const floating* later) noexcept nogil:
    if floating is double:
        return axpy_and_dot_f64(n, a, x, g, y, w, later)
    else:
        return axpy_and_dot_f32(n, a, x, g, y, w, later)


cdef inline void axpy4(int outputs, Py_ssize_t n, const floating* a, Py_ssize_t lda, const floating* x0,
                       const floating* x1, const floating* x2, const floating* x3, floating* g,
                       Py_ssize_t ldg) noexcept nogil:
    if floating is double:
        axpy4_f64(outputs, n, a, lda, x0, x1, x2, x3, g, ldg)
    else:
        axpy4_f32(outputs, n, a, lda, x0, x1, x2, x3, g, ldg)


cdef inline void combine(Py_ssize_t n, Py_ssize_t d, const floating* x, Py_ssize_t ld,
                         const floating* w, floating b, floating* z, Py_ssize_t ahead) noexcept nogil:
    if floating is double:
        combine_f64(n, d, x, ld, w, b, z, ahead)
    else:
        combine_f32(n, d, x, ld, w, b, z, ahead)


cdef inline floating sparse_dot(Py_ssize_t n, const floating* x, const int32_t* at,
                                const floating* w) noexcept nogil:
    if floating is double:
        return sparse_dot_f64(n, x, at, w)
    else:
        return sparse_dot_f32(n, x, at, w)


cdef inline void sparse_dots(
    Py_ssize_t width, Py_ssize_t n, const floating* x, const int32_t* at, const floating* W, Py_ssize_t k,
    floating* out,
) noexcept nogil:
    if floating is double:
        sparse_dots_f64(width, n, x, at, W, k, out)
    else:
        sparse_dots_f32(width, n, x, at, W, k, out)


cdef inline void sparse_outer(
    Py_ssize_t width, Py_ssize_t n, const floating* x, const int32_t* at, const floating* r, Py_ssize_t k,
    sum_type* G,
) noexcept nogil:
    if floating is double and sum_type is double:
        sparse_outer_f64(width, n, x, at, r, k, G)
    elif floating is float and sum_type is float:
        sparse_outer_f32(width, n, x, at, r, k, G)
    elif floating is float and sum_type is double:
        sparse_outer_f32_f64(width, n, x, at, r, k, G)


cdef inline void sparse_axpy(Py_ssize_t n, floating a, const floating* x, const int32_t* at,
                             floating* g) noexcept nogil:
    if floating is double:
        sparse_axpy_f64(n, a, x, at, g)
    else:
        sparse_axpy_f32(n, a, x, at, g)


cdef inline void add_moments4(Py_ssize_t n, const double* s, const floating* x, Py_ssize_t ld, const double* shift,
                              double* first, double* second) noexcept nogil:
    if floating is double:
        add_moments4_f64(n, s, x, ld, shift, first, second)
    else:
        add_moments4_f32(n, s, x, ld, shift, first, second)
