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

cdef extern from "scaled_sgd.h" nogil:
    int AVERAGING, CUMULATIVE, SUBGRADIENT, SCALED, PASSIVE
    int MEAN, PAID, SCALE, SHIFT, N_ARRAYS
    ctypedef struct ScaledState "scaled_state":
        int kind
        Py_ssize_t stride
        Py_ssize_t first_averaged
        double count
        double mean_intercept
        double l1
        double owed
        double max_move
        int variant
    double scaled_sgd_f64(const double* X, const Layout* rows, const double* Y,
                          const double* weight, const Py_ssize_t* order, Py_ssize_t n,
                          const double* steps, int loss, const double* params, double l2,
                          int fit_intercept, double* v, double* intercept, ScaledState* state) noexcept
    double scaled_sgd_f32(const float* X, const Layout* rows, const float* Y,
                          const float* weight, const Py_ssize_t* order, Py_ssize_t n,
                          const double* steps, int loss, const double* params, double l2,
                          int fit_intercept, float* v, double* intercept, ScaledState* state) noexcept


cdef inline double sgd_rows(
    const floating* X, Layout* layout, const floating* Y, const floating* weight,
    const Py_ssize_t* order, Py_ssize_t n, const double* steps, int loss, const double* params, double l2,
    bint fit_intercept, floating* v, double* b,
) noexcept nogil:
    """v : (d + PADDING,), the weights and zeros"""
    if floating is double:
        return sgd_rows_f64(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, b)
    else:
        return sgd_rows_f32(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, b)


cdef inline double scaled_sgd(
    const floating* X, Layout* layout, const floating* Y, const floating* weight,
    const Py_ssize_t* order, Py_ssize_t n, const double* steps, int loss, const double* params, double l2,
    bint fit_intercept, floating* v, double* b, ScaledState* state,
) noexcept nogil:
    """v : (N_ARRAYS, state.stride)"""
    if floating is double:
        return scaled_sgd_f64(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, b, state)
    else:
        return scaled_sgd_f32(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, b, state)


cdef inline double dense_rows(
    const floating* X, Layout* layout, const floating* Y, const floating* weight,
    const Py_ssize_t* order, Py_ssize_t n, const double* steps, int loss, const double* params, double l2,
    bint fit_intercept, floating* theta, double l1, floating* owed, double* owed_total, int passive_aggressive,
    const floating* scale, const floating* shift, double max_move,
    floating* mean, double* mean_count, Py_ssize_t first_averaged,
) except? -1 nogil:
    """Averaged or with L1 or neither, not passive-aggressive with L1.

    owed : (d,), what L1 has moved each weight by
    scale, shift : (d,), in whose coordinates L1 goes by its subgradient; or NULL
    mean : (d + 1,)
    """
    cdef Py_ssize_t d = layout.d, j
    cdef Py_ssize_t stride = (d + 2 * PADDING - 1) // PADDING * PADDING  # whole lines of the cache
    cdef bint averaged = first_averaged < n, scaled = scale != NULL, cumulative = l1 != 0 and not scaled
    cdef bint plain = not (averaged or l1 != 0 or passive_aggressive or scaled)
    cdef void* memory = calloc((1 if plain else N_ARRAYS) * stride * sizeof(floating) + 64, 1)
    cdef floating* v = <floating*> ((<size_t> memory + 63) // 64 * 64)
    cdef ScaledState state
    cdef double b = theta[d], total
    if memory == NULL:
        raise MemoryError
    for j in range(d):
        v[j] = theta[j]
    if plain:
        total = sgd_rows(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, &b)
    else:
        state = ScaledState(AVERAGING if averaged else 0, stride, first_averaged, mean_count[0], 0, l1, 0,
                            max_move, passive_aggressive)
        if passive_aggressive:
            state.kind |= PASSIVE
        if averaged:
            state.mean_intercept = mean[d]
        if l1 != 0:
            state.kind |= SUBGRADIENT if scaled else CUMULATIVE
        if cumulative:
            state.owed = owed_total[0]
        if scaled:
            state.kind |= SCALED
        for j in range(d):
            if averaged:
                v[MEAN * stride + j] = mean[j]
            if scaled:
                v[SCALE * stride + j], v[SHIFT * stride + j] = scale[j], shift[j]
            if cumulative:
                v[PAID * stride + j] = owed[j]
        total = scaled_sgd(X, layout, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, &b, &state)
        for j in range(d):
            if averaged:
                mean[j] = v[MEAN * stride + j]
            if cumulative:
                owed[j] = v[PAID * stride + j]
        if averaged:
            mean[d], mean_count[0] = <floating> state.mean_intercept, state.count
        if cumulative:
            owed_total[0] = state.owed
    for j in range(d):
        theta[j] = v[j]
    theta[d] = <floating> b
    free(memory)
    return total


cdef inline int dense_epoch(
    const floating* X, Layout* layout, const floating* Y, Py_ssize_t m, const floating* weight,
    const Py_ssize_t* order, Py_ssize_t n, const double* steps, int loss, const double* params, double l2,
    bint fit_intercept, Py_ssize_t k, floating* theta, double l1, floating* owed, double* owed_total,
    int passive_aggressive, const floating* scale, const floating* shift, double max_move,
    floating* mean, double* mean_count, Py_ssize_t first_averaged, double* total,
) except -1 nogil:
    """`dense_rows` for k outputs, so many rows at a time as stay in cache.

    Y : (k, m); theta, mean : (k, d + 1); owed : (k, d)
    total : (k,), to which the losses are added
    """
    cdef Py_ssize_t d = layout.d, now, start = 0, c
    cdef Py_ssize_t rows = n if k == 1 else max(64, 262144 // (max(d, 1) * <Py_ssize_t> sizeof(floating)))
    cdef double count = mean_count[0], due = owed_total[0] if owed != NULL else 0
    while start < n:
        now = min(rows, n - start)
        for c in range(k):
            if c > 0:  # as it was
                mean_count[0] = count
                if owed != NULL:
                    owed_total[0] = due
            total[c] += dense_rows(
                X, layout, Y + c * m, weight, order + start, now, steps + start, loss, params, l2, fit_intercept,
                theta + c * (d + 1), l1, owed + c * d if owed != NULL else NULL, owed_total, passive_aggressive,
                scale, shift, max_move, mean + c * (d + 1) if mean != NULL else NULL, mean_count,
                first_averaged - start,
            )
        count = mean_count[0]
        if owed != NULL:
            due = owed_total[0]
        start += now
    return 0


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
