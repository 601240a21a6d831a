"""Epochs over single rows of one output: the loops of sgd.h and sparse_sgd.h, on arrays of either float type.

X, layout, Y, weight, order, steps, loss, params, l2 and fit_intercept are those of `epochs.sgd_epoch`. theta
(d + 1,), its intercept last, is changed in place; what is returned is the sum of the losses met.
"""

from cython cimport floating
from libc.stdlib cimport calloc, free, malloc

from rows cimport Layout

cdef extern from "sgd.h" nogil:
    int PADDING
    double sgd_rows_f64(const double* X, const Layout* rows, const double* Y,
                        const double* weight, const Py_ssize_t* order, Py_ssize_t n,
                        const double* steps, int loss, const double* params, double l2,
                        int fit_intercept, double* v, double* intercept) noexcept
    double sgd_rows_f32(const float* X, const Layout* rows, const float* Y,
                        const float* weight, const Py_ssize_t* order, Py_ssize_t n,
                        const double* steps, int loss, const double* params, double l2,
                        int fit_intercept, float* v, double* intercept) noexcept

cdef extern from "sparse_sgd.h" nogil:
    ctypedef enum SparseKind "sparse_kind":
        PLAIN, AVERAGED, L1, ELASTIC
    ctypedef struct Column "column":
        pass
    ctypedef struct SparseState "sparse_state":
        Py_ssize_t first_averaged
        double count
        double mean_intercept
        double l1
        double owed
        Py_ssize_t room
        Column* history
    double sparse_sgd_f64(SparseKind kind, const double* X, const Layout* rows, const double* Y,
                          const double* weight, const Py_ssize_t* order, Py_ssize_t n,
                          const double* steps, int loss, const double* params, double l2,
                          int fit_intercept, double* v, Column* columns, double* intercept,
                          SparseState* state) noexcept
    double sparse_sgd_f32(SparseKind kind, const float* X, const Layout* rows, const float* Y,
                          const float* weight, const Py_ssize_t* order, Py_ssize_t n,
                          const double* steps, int loss, const double* params, double l2,
                          int fit_intercept, float* v, Column* columns, double* intercept,
                          SparseState* state) noexcept


cdef inline double dense_rows(
    const floating* X, Layout* layout, const floating* Y, const floating* weight,
    const Py_ssize_t* order, Py_ssize_t n, const double* steps, int loss, const double* params, double l2,
    bint fit_intercept, floating* padded, double* intercept,
) noexcept nogil:
    """Neither averaged nor with L1.

    padded : (d + PADDING,), the weights and zeros
    """
    if floating is double:
        return sgd_rows_f64(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept,
                            padded, intercept)
    else:
        return sgd_rows_f32(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept,
                            padded, intercept)


cdef inline double sparse_rows(
    const floating* X, Layout* layout, const floating* Y, const floating* weight,
    const Py_ssize_t* order, Py_ssize_t n, const double* steps, int loss, const double* params, double l2,
    bint fit_intercept, floating* theta, double l1, floating* owed, double* owed_total,
    floating* mean, double* mean_count, Py_ssize_t first_averaged,
) except? -1 nogil:
    """Averaged or with L1 or neither.

    owed : (d,), what L1 has moved each weight by; mean : (d + 1,)
    """
    cdef Py_ssize_t d = layout.d, j
    cdef SparseKind kind = PLAIN if first_averaged >= n else AVERAGED
    if l1 != 0:
        kind = ELASTIC if l2 != 0 else L1
    cdef Py_ssize_t room = min(n, max(1024, 8 * d)) if kind == ELASTIC else 0  # then all columns pay
    # a column is two numbers: its weight, and what stands beside it
    cdef double* columns = <double*> calloc((d if kind != PLAIN else 0) + 1, sizeof(Column))
    cdef Column* history = <Column*> malloc((room + 1) * sizeof(Column))
    cdef SparseState state = SparseState(first_averaged, mean_count[0], 0, l1, owed_total[0], room, history)
    cdef double b = theta[d], before = mean_count[0], total
    if columns == NULL or history == NULL:
        free(columns)
        free(history)
        raise MemoryError
    if kind == AVERAGED:
        state.mean_intercept = mean[d]
    if kind != PLAIN:
        for j in range(d):
            columns[2 * j] = theta[j]
            if l1 != 0:
                columns[2 * j + 1] = owed[j]
    if floating is double:
        total = sparse_sgd_f64(kind, X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept,
                               theta, <Column*> columns, &b, &state)
    else:
        total = sparse_sgd_f32(kind, X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept,
                               theta, <Column*> columns, &b, &state)
    theta[d] = <floating> b
    owed_total[0] = state.owed
    if kind != PLAIN:
        for j in range(d):
            theta[j] = <floating> columns[2 * j]
            if l1 != 0:
                owed[j] = <floating> columns[2 * j + 1]
            else:
                mean[j] = <floating> ((before * mean[j] + columns[2 * j + 1]) / state.count)
    if kind == AVERAGED:
        mean[d], mean_count[0] = <floating> state.mean_intercept, state.count
    free(columns)
    free(history)
    return total
