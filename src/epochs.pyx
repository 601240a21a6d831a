"""Epochs of mini-batches, and the update rules by themselves.

In: X (m, d) with contiguous rows, or sparse; targets Y (k, m), parameters theta (k, d + 1) that are changed in
place; the order of the rows, the size of the batches, and one step size per batch. So an epoch knows no
schedule, no random numbers and no stopping rule, and can be replayed index for index. Out: the sum of
the losses that the rows had when they were met.
"""

import numpy as np

from cython cimport floating
from libc.math cimport sqrt
from libc.stdint cimport uint64_t
from libc.string cimport memset

from lazy cimport (
    Lazy, Moment, Penalties, begin_history, catch_up_all, catch_up_rows, finish_update, pay_l1, settle,
)
from losses cimport SOFTMAX_LOG_LOSS, gather, loss_block
from rows cimport (
    LEAST_OF_BATCHES, Layout, backward, backward_and_forward, backward_sparse, fetch_rows, forward, in_turns,
    layout_of, rows_of_part, rows_to_fetch, values_of,
)
from sgd cimport dense_epoch, sparse_rows
from simd cimport axpy, dot, sum_of
from updates cimport ADAMW, GD, Hyper, add_to_mean, apply_rule, smallest_subgradient

RULE_IDS = {"gd": 0, "momentum": 1, "nesterov": 2, "adagrad": 3, "rmsprop": 4, "adam": 5, "adamw": 6}


cdef extern from *:
    """
    /* Below n, from 64 random bits: n / 2^64 is how far from uniform */
    static inline uint64_t below(uint64_t n, uint64_t bits) { return (uint64_t)(((unsigned __int128)n * bits) >> 64); }
    """
    uint64_t below(uint64_t n, uint64_t bits) noexcept nogil


def shuffle(Py_ssize_t[::1] order, uint64_t seed):
    """Shuffle in place (Fisher & Yates; Durstenfeld 1964), by the generator SplitMix64 (Steele et al. 2014)."""
    cdef uint64_t state = seed, bits
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(order.shape[0] - 1, 0, -1):
            state += 0x9E3779B97F4A7C15ULL
            bits = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ULL
            bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBULL
            j = below(i + 1, bits ^ (bits >> 31))
            order[i], order[j] = order[j], order[i]


cdef double squared_length(const floating* X, Layout* layout, Py_ssize_t row) noexcept nogil:
    cdef Py_ssize_t n = layout.d
    cdef const floating* x = X + row * layout.ld
    if layout.sparse:
        n = layout.begin[row + 1] - layout.begin[row]
        x = X + layout.begin[row]
    return dot(n, x, x)


def sgd_epoch(
    X, const floating[:, ::1] Y, const floating[::1] weight,
    floating[:, ::1] theta, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
    const double[::1] steps, int loss, const double[::1] params, double l2, double l1,
    bint fit_intercept, int passive_aggressive, floating[:, ::1] owed, double[::1] owed_total,
    floating[:, ::1] mean, double[::1] mean_count, Py_ssize_t first_averaged,
):
    """Plain (mini-batch or stochastic) gradient descent over the rows of `order`, in place.

    A row costs O(d), a sparse one O(its entries): the weights are scale * v, so that the L2 shrinkage is one
    multiplication; single rows of one output go through sgd.pxd, what sparse rows owe is in lazy.pxd.

    Parameters
    ----------
    X : (m, d)
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
    cdef Py_ssize_t targets = Y.shape[0], start = 0, batch = 0, n, met, now, ahead = 0, c, i, j
    cdef Layout layout = layout_of(X)
    if layout.by_columns:
        raise ValueError("X must have contiguous rows")
    cdef Py_ssize_t part = rows_of_part(&layout, k, sizeof(floating), batch_size)
    cdef bint turns = in_turns(&layout, k, sizeof(floating), LEAST_OF_BATCHES)
    cdef const floating[:, :] values = values_of(X)
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    dtype = X.dtype
    cdef floating[::1] Z = np.empty(k * part, dtype), R = np.empty(k * part, dtype)
    cdef floating[::1] y = np.empty(targets * part, dtype), sb = np.empty(part, dtype)
    cdef floating[::1] work = np.empty(2 * part, dtype)
    cdef floating[:, ::1] G = np.zeros((k, d + 1), dtype)
    cdef double[::1] b = np.array(theta[:, d], dtype=np.float64)
    cdef double[::1] total = np.zeros(k), total_batch = np.zeros(k)
    cdef double scale = 1.0, a, coef, norm
    cdef double smallest = 1e-9 if floating is double else 1e-6
    cdef const floating* x = &values[0, 0]
    cdef bint averaged = first_averaged < steps.shape[0]
    cdef bint single_rows = batch_size == 1 and loss < SOFTMAX_LOG_LOSS
    if single_rows and layout.sparse and k == 1 and not passive_aggressive and not (averaged and l1 != 0):
        with nogil:
            total[0] = sparse_rows(
                x, &layout, &Y[0, 0], s, &order[0], rows, &steps[0], loss, &params[0], l2, fit_intercept,
                &theta[0, 0], l1, &owed[0, 0] if l1 != 0 else NULL, &owed_total[0],
                &mean[0, 0] if averaged else NULL, &mean_count[0], first_averaged,
            )
        return np.asarray(total)
    if single_rows and not layout.sparse and not (passive_aggressive and l1 != 0):
        with nogil:
            dense_epoch(
                x, &layout, &Y[0, 0], m, s, &order[0], rows, &steps[0], loss, &params[0], l2, fit_intercept, k,
                &theta[0, 0], l1, &owed[0, 0] if l1 != 0 else NULL, &owed_total[0], passive_aggressive,
                <const floating*> NULL, <const floating*> NULL, 0,
                &mean[0, 0] if averaged else NULL, &mean_count[0], first_averaged, &total[0],
            )
        return np.asarray(total)
    theta[:, d] = 0
    cdef floating* v = &theta[0, 0]
    cdef floating* q = &owed[0, 0] if l1 != 0 else NULL
    cdef floating[:, ::1] by_column
    if layout.sparse and k > 1:
        by_column = np.ascontiguousarray(np.transpose(theta))
        v = &by_column[0, 0]
    cdef bint lazy = layout.sparse and l1 != 0, everywhere = True
    # else the sum of the averaged iterates is scales * v - sums: what a row adds to v is counted back
    cdef bint counted_back = layout.sparse and averaged and not lazy
    cdef double scales = 0
    cdef Lazy missed
    cdef double mean_count_before = mean_count[0]
    cdef double[:, ::1] sums
    cdef double[:, ::1] history
    cdef Py_ssize_t[::1] last
    if layout.sparse and averaged:
        sums = np.zeros((d + 1, k))
    if lazy:
        # so many updates that making up for all columns costs little beside them
        missed.room = min(steps.shape[0], max(1024, min(262144, 8 * d * m // (batch_size * X.size + 1))))
        history = np.empty((missed.room + 1, sizeof(Moment) // sizeof(double)))
        last = np.empty(d, dtype=np.intp)
        missed.d, missed.k, missed.l1 = d, k, l1 != 0
        missed.history, missed.last = <Moment*> &history[0, 0], &last[0]
        missed.sums = &sums[0, 0] if averaged else NULL
        begin_history(&missed, owed_total[0], scale)
    with nogil:
        while start < rows:
            n = min(batch_size, rows - start)
            a = steps[batch]
            fetch_rows(x, sizeof(floating), &layout, &order[0], start, n, rows)
            if lazy:
                catch_up_rows(&missed, &layout, &order[start], n, v, q)
            for c in range(k):
                total_batch[c] = 0
            met = 0
            while met < n:
                now = min(part, n - met)
                ahead = rows_to_fetch(&layout, sizeof(floating), now, rows - start - met - now)
                if met == 0 or not turns:
                    forward(x, &layout, &order[0], start + met, now, k, v, &Z[0], ahead)
                for c in range(k):
                    for i in range(now):
                        Z[c * now + i] = <floating> (scale * Z[c * now + i] + b[c])
                gather(&Y[0, 0], targets, m, s, &order[start + met], now, &y[0], &sb[0])
                loss_block(loss, &params[0], k, now, &Z[0], &y[0], now,
                           &sb[0] if s != NULL and not passive_aggressive else NULL,
                           &total_batch[0], &R[0], <floating*> NULL, 0, &work[0])
                if not passive_aggressive:
                    for i in range(k * now):
                        coef = R[i]
                        coef = 1e12 if coef > 1e12 else -1e12 if coef < -1e12 else coef
                        R[i] = <floating> (-a * coef / n)
                if turns and n > part:
                    backward_and_forward(x, &layout, &order[0], start + met, now, &R[0], &G[0, 0],
                                         min(part, n - met - now), v, &Z[0], rows)
                elif n > part:
                    backward(x, &layout, &order[0], start + met, now, k, &R[0], &G[0, 0], ahead)
                met += now
            if passive_aggressive:
                norm = squared_length(x, &layout, order[start])
                if norm == 0 and passive_aggressive == 1:  # SGDRegressor passes over such a row
                    start += n
                    batch += 1
                    continue
                for c in range(k):
                    if passive_aggressive == 1:
                        coef = min(a, total_batch[c] / norm)
                    else:
                        coef = total_batch[c] / (norm + 0.5 / a)
                    R[c] *= <floating> (-coef * (sb[0] if s != NULL else 1))
            if l2 != 0:
                scale *= max(0.0, 1.0 - a * l2)
                if scale < smallest:
                    if lazy:
                        catch_up_all(&missed, v, q)
                        begin_history(&missed, owed_total[0], 1.0)
                    if counted_back:
                        for j in range(k * d):
                            (&sums[0, 0])[j] -= scales * v[j]
                        scales = 0
                    for j in range(k * (d + 1)):
                        v[j] *= <floating> scale
                    scale = 1.0
            for c in range(k):
                total[c] += total_batch[c]
                if fit_intercept:
                    b[c] += G[c, d] if n > part else sum_of(n, &R[c * n])
            if n > part:
                for c in range(k):
                    axpy(d, <floating> (1 / scale), &G[c, 0], &theta[c, 0])
                memset(&G[0, 0], 0, k * (d + 1) * sizeof(floating))
            else:
                if scale != 1:
                    for i in range(k * n):
                        R[i] = <floating> (R[i] / scale)
                backward(x, &layout, &order[0], start, n, k, &R[0], v, ahead)
            if counted_back and batch > first_averaged:
                for i in range(k * n):
                    R[i] = <floating> (R[i] * scales)
                backward_sparse(x, &layout, &order[0], start, n, k, <const floating*> &R[0], &sums[0, 0])
            if counted_back and batch >= first_averaged:
                scales += scale
            for c in range(k):  # intercepts are apart
                v[d * k + c if layout.sparse else c * (d + 1) + d] = 0
            if batch >= first_averaged:
                mean_count[0] += 1
                for c in range(k):
                    if not layout.sparse:
                        add_to_mean(d, <floating> scale, &theta[c, 0], &mean[c, 0], mean_count[0])
                    mean[c, d] += <floating> ((b[c] - mean[c, d]) / mean_count[0])
            owed_total[0] += l1 * a
            if lazy:
                finish_update(&missed, &layout, &order[start], n, everywhere, l1 * a, owed_total[0], scale,
                              batch >= first_averaged, v, q)
                everywhere = False
                if missed.now == missed.room:
                    catch_up_all(&missed, v, q)
                    begin_history(&missed, owed_total[0], scale)
            elif l1 != 0:
                for c in range(k):
                    for j in range(d):
                        theta[c, j] = <floating> (
                            pay_l1(scale * theta[c, j], &owed[c, j], owed_total[0]) / scale
                        )
            start += n
            batch += 1
        if lazy:
            catch_up_all(&missed, v, q)
        if counted_back:
            for j in range(k * d):
                (&sums[0, 0])[j] = scales * v[j] - (&sums[0, 0])[j]
        if layout.sparse and averaged:
            for c in range(k):
                for j in range(d):
                    mean[c, j] = <floating> ((mean_count_before * mean[c, j] + sums[j, c]) / mean_count[0])
    if layout.sparse and k > 1:
        np.asarray(theta)[...] = np.transpose(by_column)
    for c in range(k):
        for j in range(d):
            theta[c, j] *= <floating> scale
        theta[c, d] = <floating> b[c]
    out = np.asarray(total)
    if loss >= SOFTMAX_LOG_LOSS:
        out[:] = out[0]
    return out


cdef void transpose(Py_ssize_t n, Py_ssize_t m, const floating* A, floating* B) noexcept nogil:
    """B (m, n) = A (n, m)^T"""
    cdef Py_ssize_t i, j
    for i in range(n):
        for j in range(m):
            B[j * n + i] = A[i * m + j]


def rule_epoch(
    X, const floating[:, ::1] Y, const floating[::1] weight,
    floating[:, ::1] theta, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
    const double[::1] steps, int loss, const double[::1] params, double l2, double l1,
    bint fit_intercept, int rule, hyper, floating[:, ::1] state, double t, double clip_norm,
    const floating[::1] scale, const floating[::1] shift, double max_move,
    floating[:, ::1] mean, double[::1] mean_count, Py_ssize_t first_averaged,
):
    """Mini-batch descent by any update rule, in place; a batch costs O(its entries) + O(k d).

    Parameters
    ----------
    X : (m, d)
    theta : (k, d + 1)
        In standardised coordinates where scale and shift (d,) are given: the weight of column j is
        theta_j * scale_j, and the intercept is that of the shifted columns.
    state : (slots, k * (d + 1))
        The rule's own; see updates.pxd.
    t : float
        Updates so far.
    max_move : float
        Bound of a step times the slope of a row's loss, for losses whose curvature has none; 0: the slope
        has SGDRegressor's bound.

    Returns
    -------
    total : ndarray of shape (k,)
    """
    cdef Py_ssize_t k = theta.shape[0], d = X.shape[1], m = X.shape[0], rows = order.shape[0]
    cdef Py_ssize_t targets = Y.shape[0], start = 0, batch = 0, n, met, now, ahead, c, i, j, p = d + 1
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t part = rows_of_part(&layout, k, sizeof(floating), batch_size)
    cdef bint turns = in_turns(&layout, k, sizeof(floating), LEAST_OF_BATCHES)
    cdef const floating[:, :] values = values_of(X)
    cdef Hyper hyper_
    cdef bint standardised = scale is not None and scale.shape[0] > 0
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    cdef const floating* x = &values[0, 0]
    dtype = X.dtype
    cdef floating[::1] Z = np.empty(k * part, dtype), R = np.empty(k * part, dtype)
    cdef floating[::1] y = np.empty(targets * part, dtype), sb = np.empty(part, dtype)
    cdef floating[::1] work = np.empty(2 * part, dtype)
    cdef floating[:, ::1] G = np.empty((k, p), dtype), old = np.empty((k, p), dtype)
    cdef floating[:, ::1] W = np.empty((k, p), dtype) if standardised else theta
    # sparse rows want weights and gradients transposed: of one output they are
    cdef bint by_column = layout.sparse and k > 1
    cdef floating[:, ::1] V = np.empty((p, k), dtype) if by_column else W
    cdef floating[:, ::1] sums = np.empty((p, k), dtype) if by_column else G
    cdef double[::1] total = np.zeros(k)
    cdef double a, norm, bound
    cdef floating g, owed
    cdef bint plain = rule == GD and clip_norm == 0 and standardised
    if plain and batch_size == 1 and loss < SOFTMAX_LOG_LOSS and not layout.sparse:
        with nogil:
            dense_epoch(
                x, &layout, &Y[0, 0], m, s, &order[0], rows, &steps[0], loss, &params[0], l2, fit_intercept, k,
                &theta[0, 0], l1, <floating*> NULL, NULL, 0, &scale[0], &shift[0], max_move,
                &mean[0, 0] if first_averaged < rows else NULL, &mean_count[0], first_averaged, &total[0],
            )
        return np.asarray(total)
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
            fetch_rows(x, sizeof(floating), &layout, &order[0], start, n, rows)
            if by_column:
                transpose(k, p, &W[0, 0], &V[0, 0])
            memset(&sums[0, 0], 0, k * p * sizeof(floating))
            bound = max_move / a if max_move > 0 else 1e12
            met = 0
            while met < n:
                now = min(part, n - met)
                ahead = rows_to_fetch(&layout, sizeof(floating), now, rows - start - met - now)
                if met == 0 or not turns:
                    forward(x, &layout, &order[0], start + met, now, k, &V[0, 0], &Z[0], ahead)
                gather(&Y[0, 0], targets, m, s, &order[start + met], now, &y[0], &sb[0])
                loss_block(loss, &params[0], k, now, &Z[0], &y[0], now, &sb[0] if s != NULL else NULL,
                           &total[0], &R[0], <floating*> NULL, 0, &work[0])
                for i in range(k * now):
                    R[i] = <floating> (max(-bound, min(bound, <double> R[i])) / n)
                if turns:
                    backward_and_forward(x, &layout, &order[0], start + met, now, &R[0], &sums[0, 0],
                                         min(part, n - met - now), &V[0, 0], &Z[0], rows)
                else:
                    backward(x, &layout, &order[0], start + met, now, k, &R[0], &sums[0, 0], ahead)
                met += now
            if by_column:
                transpose(p, k, &sums[0, 0], &G[0, 0])
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
                if l1 != 0:
                    for j in range(d):
                        owed = <floating> l1 * (scale[j] if standardised else 1)
                        G[c, j] = smallest_subgradient(theta[c, j], G[c, j], owed)
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
                       &state[0, 0] if state.shape[0] > 0 else NULL, k * p, a, t)
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


def scaled_epoch(
    X, const floating[:, ::1] Y, const floating[::1] weight, floating[:, ::1] theta,
    const Py_ssize_t[::1] order, Py_ssize_t batch_size, const double[::1] steps, int loss,
    const double[::1] params, double l2, double l1, bint fit_intercept, const double[::1] scale,
    double max_move, floating[:, ::1] mean, double[::1] mean_count, Py_ssize_t first_averaged,
):
    """Plain descent over sparse rows in scaled coordinates, in place; a row costs O(its entries).

    The penalties act between two visits of a column as they would in continuous time: L2 as an exponential
    decay, L1 as a truncation (Langford, Li & Zhang 2009), both for the sum of the steps since. The average
    takes a column on its way from visit to visit at the middle of the two.

    Parameters
    ----------
    theta : (k, d + 1)
        The weight of column j is theta_j * scale_j.
    max_move : float
        Bound of a step times the slope of a row's loss, or 0: see `rule_epoch`.

    Returns
    -------
    total : ndarray of shape (k,)
    """
    cdef Py_ssize_t k = theta.shape[0], d = X.shape[1], m = X.shape[0], rows = order.shape[0]
    cdef Py_ssize_t targets = Y.shape[0], start = 0, batch = 0, n, c, i, j, p
    cdef Layout layout = layout_of(X)
    cdef const floating[:, :] values = values_of(X)
    cdef const floating* x = &values[0, 0]
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    dtype = X.dtype
    cdef floating[::1] Z = np.empty(k * batch_size, dtype), R = np.empty(k * batch_size, dtype)
    cdef floating[::1] y = np.empty(targets * batch_size, dtype), sb = np.empty(batch_size, dtype)
    cdef floating[::1] work = np.empty(2 * batch_size, dtype)
    cdef bint averaged = first_averaged < steps.shape[0]
    cdef double[:, ::1] sums = np.zeros((d if averaged else 1, k))
    cdef double[:, ::1] visits = np.zeros((2, d))
    cdef double[::1] total = np.zeros(k)
    cdef double mean_count_before = mean_count[0], a, bound
    cdef floating[:, ::1] weights = np.empty((d + 1, k), dtype)
    cdef floating* v = &weights[0, 0]
    cdef Penalties penalties = Penalties(k, l2, l1, 0, 0, &scale[0], &visits[0, 0], &visits[1, 0], NULL)
    if averaged:
        penalties.sums = &sums[0, 0]
    with nogil:
        for c in range(k):
            for j in range(d):
                v[j * k + c] = <floating> (theta[c, j] * scale[j])
            v[d * k + c] = theta[c, d]
        while start < rows:
            n = min(batch_size, rows - start)
            a = steps[batch]
            fetch_rows(x, sizeof(floating), &layout, &order[0], start, n, rows)
            for i in range(start, start + n):
                for p in range(layout.begin[order[i]], layout.begin[order[i] + 1]):
                    if penalties.seen[layout.at[p]] < penalties.time:
                        settle(&penalties, layout.at[p], v)
            forward(x, &layout, &order[0], start, n, k, v, &Z[0])
            gather(&Y[0, 0], targets, m, s, &order[start], n, &y[0], &sb[0])
            loss_block(loss, &params[0], k, n, &Z[0], &y[0], n, &sb[0] if s != NULL else NULL,
                       &total[0], &R[0], <floating*> NULL, 0, &work[0])
            bound = max_move / a if max_move > 0 else 1e12
            for i in range(n):
                for c in range(k):
                    R[c * n + i] = <floating> (-a * max(-bound, min(bound, <double> R[c * n + i])) / n)
                    if fit_intercept:
                        v[d * k + c] += R[c * n + i]
                for p in range(layout.begin[order[start + i]], layout.begin[order[start + i] + 1]):
                    j = layout.at[p]
                    for c in range(k):
                        v[j * k + c] += <floating> (R[c * n + i] * x[p] * scale[j] * scale[j])
            penalties.time += a
            if batch >= first_averaged:
                penalties.count += 1
                mean_count[0] += 1
                for c in range(k):
                    mean[c, d] += <floating> ((v[d * k + c] - mean[c, d]) / mean_count[0])
            start += n
            batch += 1
        for j in range(d):
            settle(&penalties, j, v)
            for c in range(k):
                if scale[j] > 0:
                    theta[c, j] = <floating> (v[j * k + c] / scale[j])
                if averaged and scale[j] > 0:
                    mean[c, j] = <floating> (
                        (mean_count_before * mean[c, j] + sums[j, c] / scale[j]) / mean_count[0]
                    )
        for c in range(k):
            theta[c, d] = v[d * k + c]
    out = np.asarray(total)
    if loss >= SOFTMAX_LOG_LOSS:
        out[:] = out[0]
    return out


def update(int rule, hyper, floating[::1] w, const floating[::1] g, floating[:, ::1] state,
           double a, double t):
    """Update number t of w by the gradient g, in place: see updates.pxd."""
    cdef Hyper hyper_
    hyper_.momentum, hyper_.beta_1, hyper_.beta_2 = hyper
    with nogil:
        apply_rule(rule, &hyper_, w.shape[0], &w[0], &g[0],
                   &state[0, 0] if state.shape[0] > 0 else NULL, w.shape[0], a, t)
