"""What an epoch owes to weights that no row has met: L1 penalty and averaging, made up for when a row comes.

Weights are w = scale * v, (d, k). While no row meets column j, v_j changes by the L1 penalty alone: by
l1 a_t / scale_t in update t, until it stops at zero. So the sums over the updates that a column has missed follow
from running sums, kept for every update since the `history` began, and the result is that of updating
every weight every time (Tsuruoka, Tsujii & Ananiadou 2009; the average as in Bottou 2012).
"""

from cython cimport floating
from libc.math cimport copysign, fabs

from rows cimport Layout, row_at

cdef extern from "vmath.h" nogil:
    double exp_falling_f64(double x) noexcept  # without a call, so that columns overlap


cdef struct Moment:
    # after an update of the history
    double owed    # L1 penalty of w since training began
    double moved   # L1 penalty of v since the history began: sum of l1 a / scale
    double scale
    double scales  # sum of scale over the averaged updates
    double offset  # sum of scale * moved before the update, likewise


cdef struct Lazy:
    Py_ssize_t d, k
    bint l1
    Py_ssize_t now      # updates in the history
    Py_ssize_t room     # that it may have
    Moment* history     # (room + 1,)
    Py_ssize_t* last    # (d,): up to which update each column is made up for
    double* sums        # (d, k): of w over the averaged updates; NULL without averaging


cdef inline double pay_l1(double w, floating* q, double owed) noexcept nogil:
    """w clipped by the penalty that it still owes; q: what it was moved by so far (cumulative L1)."""
    cdef double after = w
    if w > 0:
        after = max(0.0, w - (owed + q[0]))
    elif w < 0:
        after = min(0.0, w + (owed - q[0]))
    q[0] += <floating> (after - w)
    return after


cdef inline Py_ssize_t first_at_zero(Lazy* lazy, Py_ssize_t lo, double reach) noexcept nogil:
    """The first update after `lo` by which v has moved by `reach` or more; there is one."""
    cdef Py_ssize_t hi = lazy.now, middle
    while hi - lo > 1:
        middle = (lo + hi) // 2
        if lazy.history[middle].moved >= reach:
            hi = middle
        else:
            lo = middle
    return hi


cdef inline void catch_up(Lazy* lazy, Py_ssize_t j, floating* v, floating* q) noexcept nogil:
    """Make up for the updates that column j has missed.

    v : (d, k); q : (k, d), L1 penalty that w was moved by
    """
    cdef Moment* before = lazy.history + lazy.last[j]
    cdef Moment* end
    cdef Py_ssize_t c, zero
    cdef double size, sign, left
    for c in range(lazy.k):
        size, sign = fabs(v[j * lazy.k + c]), 1 if v[j * lazy.k + c] > 0 else -1
        if size == 0:
            continue
        end = lazy.history + lazy.now
        if lazy.l1 and size <= end.moved - before.moved:  # it has come to rest on the way
            zero = first_at_zero(lazy, lazy.last[j], before.moved + size)
            end = lazy.history + zero
            left = max(0.0, before.moved + size - lazy.history[zero - 1].moved) * end.scale
            q[c * lazy.d + j] = <floating> (-sign * (lazy.history[zero - 1].owed + left))
            v[j * lazy.k + c] = 0
        elif lazy.l1:
            v[j * lazy.k + c] -= <floating> (sign * (end.moved - before.moved))
            q[c * lazy.d + j] = <floating> (-sign * end.owed)
        if lazy.sums != NULL:
            lazy.sums[j * lazy.k + c] += sign * (
                (size + before.moved) * (end.scales - before.scales) - (end.offset - before.offset)
            )
    lazy.last[j] = lazy.now


cdef inline void catch_up_rows(
    Lazy* lazy, Layout* layout, const Py_ssize_t* order, Py_ssize_t n, floating* v, floating* q,
) noexcept nogil:
    """`catch_up` with the columns that the rows of a batch will meet."""
    cdef Py_ssize_t i, p
    for i in range(n):
        for p in range(layout.begin[order[i]], layout.begin[order[i] + 1]):
            if lazy.last[layout.at[p]] < lazy.now:
                catch_up(lazy, layout.at[p], v, q)


cdef inline void begin_history(Lazy* lazy, double owed, double scale) noexcept nogil:
    """No column has missed anything."""
    cdef Py_ssize_t j
    for j in range(lazy.d):
        lazy.last[j] = 0
    lazy.now = 0
    lazy.history[0] = Moment(owed, 0, scale, 0, 0)


cdef inline void catch_up_all(Lazy* lazy, floating* v, floating* q) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(lazy.d):
        if lazy.last[j] < lazy.now:
            catch_up(lazy, j, v, q)


cdef inline void finish_column(
    Lazy* lazy, Py_ssize_t j, bint averaged, floating* v, floating* q,
) noexcept nogil:
    """The end of the latest update for a column that it has met."""
    cdef Moment* end = lazy.history + lazy.now
    cdef Py_ssize_t c, at
    for c in range(lazy.k):
        at = j * lazy.k + c
        if averaged:
            lazy.sums[at] += end.scale * v[at]
        if lazy.l1:
            v[at] = <floating> (pay_l1(end.scale * v[at], q + c * lazy.d + j, end.owed) / end.scale)
    lazy.last[j] = lazy.now


cdef inline void finish_update(
    Lazy* lazy, Layout* layout, const Py_ssize_t* order, Py_ssize_t n, bint everywhere, double l1_step,
    double owed, double scale, bint averaged, floating* v, floating* q,
) noexcept nogil:
    """Another update in the history, and its end for the columns of its rows.

    everywhere: for all columns, whose debts may be of any size where training goes on from elsewhere.
    """
    cdef Moment* before = lazy.history + lazy.now
    cdef Py_ssize_t i, p, j
    lazy.now += 1
    before[1] = Moment(owed, before.moved + l1_step / scale, scale, before.scales, before.offset)
    if averaged:
        before[1].scales += scale
        before[1].offset += scale * before.moved
    if everywhere:
        for j in range(lazy.d):
            finish_column(lazy, j, averaged, v, q)
        return
    for i in range(n):
        for p in range(layout.begin[order[i]], layout.begin[order[i] + 1]):
            if lazy.last[layout.at[p]] < lazy.now:
                finish_column(lazy, layout.at[p], averaged, v, q)


cdef struct Penalties:
    # of weights w = scale * u in plain descent on u: what time, the sum of the steps, makes of them
    Py_ssize_t k
    double l2, l1, time, count
    const double* scale
    double* seen     # (d,): time up to which a column is made up for
    double* counted  # (d,): averaged updates likewise
    double* sums     # (d, k): of w over the averaged updates; NULL without averaging


cdef inline void settle(Penalties* penalties, Py_ssize_t j, floating* v) noexcept nogil:
    """Bring column j of v (d, k) up to date."""
    cdef Py_ssize_t c, k = penalties.k
    cdef double elapsed = penalties.time - penalties.seen[j], after, left, threshold, shrink, missed
    elapsed *= penalties.scale[j] * penalties.scale[j]
    shrink, threshold = exp_falling_f64(-penalties.l2 * elapsed), penalties.l1 * elapsed
    missed = penalties.count - penalties.counted[j]
    for c in range(k):
        after = v[j * k + c] * shrink
        left = fabs(after) - threshold
        after = copysign(0.0 if left <= 0 else left, after)  # signs are not foreseen: no branch
        if penalties.sums != NULL:
            penalties.sums[j * k + c] += missed * (v[j * k + c] + after) / 2
        v[j * k + c] = <floating> after
    penalties.seen[j], penalties.counted[j] = penalties.time, penalties.count
