"""Losses of losses.h over a block of rows: values summed, slopes weighted, for both float types.

A loss is its position in the table LOSSES, or one of the two that couple the classes. Blocks are
output-major: the predictor of output c and row i of a block of n rows is Z[c * n + i].
"""

from cython cimport floating

from simd cimport sum_of

cdef extern from "losses.h" nogil:
    ctypedef void (*block_f64)(Py_ssize_t, const double*, const double*, const double*,
                               double*, double*, double*) noexcept
    ctypedef void (*block_f32)(Py_ssize_t, const float*, const float*, const double*,
                               float*, float*, float*) noexcept
    ctypedef struct loss_entry:
        const char* name
        block_f64 f64
        block_f32 f32
    const loss_entry* LOSSES
    int N_LOSSES, PLACE_OF_log_loss
    double log_loss_sum_f64(Py_ssize_t n, const double* Z, const double* Y, double* slope,
                            double* curvature) noexcept
    double log_loss_sum_f32(Py_ssize_t n, const float* Z, const float* Y, float* slope,
                            float* curvature) noexcept
    void softmax_log_loss_f64(Py_ssize_t k, Py_ssize_t n, const double* Z, const double* Y,
                              double* value, double* P, double* work) noexcept
    void softmax_log_loss_f32(Py_ssize_t k, Py_ssize_t n, const float* Z, const float* Y,
                              float* value, float* P, float* work) noexcept
    void softmax_brier_score_f64(Py_ssize_t k, Py_ssize_t n, const double* Z, const double* Y,
                                 double* value, double* P, double* work) noexcept
    void softmax_brier_score_f32(Py_ssize_t k, Py_ssize_t n, const float* Z, const float* Y,
                                 float* value, float* P, float* work) noexcept

# losses that are no entry of LOSSES: their rows are not a sum over outputs
cdef enum:
    SOFTMAX_LOG_LOSS = 1000
    SOFTMAX_BRIER_SCORE = 1001


cdef inline void loss_block(
    int loss, const double* params, Py_ssize_t k, Py_ssize_t n, const floating* Z,
    const floating* Y, Py_ssize_t y_stride, const floating* weight,
    double* total, floating* R, floating* H, Py_ssize_t h_stride, floating* work,
) noexcept nogil:
    """total[c] += sum_i weight_i loss_ci; R = weight * slope; H = weight * curvature unless NULL;
    for the log loss that couples classes, whose Hessian follows from them, the probabilities.

    Y holds a row of targets per output, y_stride apart; the coupled losses have one row of labels
    and one total. work has room for 2 n numbers. weight NULL means one for every row.
    """
    cdef Py_ssize_t c, i, outputs = k
    if loss == PLACE_OF_log_loss and weight == NULL:
        for c in range(k):
            if floating is double:
                total[c] += log_loss_sum_f64(n, Z + c * n, Y + c * y_stride, R + c * n,
                                             H + c * h_stride if H != NULL else NULL)
            else:
                total[c] += log_loss_sum_f32(n, Z + c * n, Y + c * y_stride, R + c * n,
                                             H + c * h_stride if H != NULL else NULL)
        return
    if loss >= SOFTMAX_LOG_LOSS:
        outputs = 1
        if loss == SOFTMAX_LOG_LOSS:
            if floating is double:
                softmax_log_loss_f64(k, n, Z, Y, work, R, work + n)
            else:
                softmax_log_loss_f32(k, n, Z, Y, work, R, work + n)
        else:
            if floating is double:
                softmax_brier_score_f64(k, n, Z, Y, work, R, work + n)
            else:
                softmax_brier_score_f32(k, n, Z, Y, work, R, work + n)
    for c in range(outputs):
        if loss < SOFTMAX_LOG_LOSS:
            if floating is double:
                LOSSES[loss].f64(n, Z + c * n, Y + c * y_stride, params, work, R + c * n,
                                 H + c * h_stride if H != NULL else NULL)
            else:
                LOSSES[loss].f32(n, Z + c * n, Y + c * y_stride, params, work, R + c * n,
                                 H + c * h_stride if H != NULL else NULL)
        if weight != NULL:
            for i in range(n):
                # a row of weight zero is absent, even where its loss overflows
                work[i] = weight[i] * work[i] if weight[i] != 0 else 0
        total[c] += sum_of(n, work)
    if H != NULL and loss == SOFTMAX_LOG_LOSS:  # slopes are p - y
        for c in range(k):
            for i in range(n):
                H[c * h_stride + i] = R[c * n + i] + (Y[i] == c)
    if weight != NULL:
        for c in range(k):
            for i in range(n):
                R[c * n + i] = weight[i] * R[c * n + i] if weight[i] != 0 else 0
            if H != NULL and loss < SOFTMAX_LOG_LOSS:
                for i in range(n):
                    H[c * h_stride + i] *= weight[i]


cdef inline void gather(const floating* Y, Py_ssize_t targets, Py_ssize_t m, const floating* weight,
                        const Py_ssize_t* order, Py_ssize_t n, floating* y, floating* s) noexcept nogil:
    """Targets Y (targets, m) and weights of n rows, side by side."""
    cdef Py_ssize_t c, i
    for c in range(targets):
        for i in range(n):
            y[c * n + i] = Y[c * m + order[i]]
    if weight != NULL:
        for i in range(n):
            s[i] = weight[order[i]]
