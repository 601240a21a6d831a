"""Rows of X seen through two products, whatever their layout: Z = X W^T + b and G += R^T X.

Everything that reads X does it here. A block of n rows is either consecutive or picked by `order`.
X is dense with its rows or its columns contiguous (C or Fortran order), or sparse (CSR): see rows.h.
W and G hold one row per output, its last number the intercept's. Of sparse rows they are transposed,
(d + 1, k): an entry of X meets the weights of all outputs side by side. Z and R are output-major: row i of
output c is Z[c * n + i].
"""

from cython cimport floating
from libc.stdint cimport int32_t

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void* address, int write, int locality) noexcept nogil

from simd cimport (
    NARROW_BYTES, STRIP, axpy, axpy4, axpy_and_dot, combine, dot, dot4, narrow_dots, narrow_sums, outputs_at_a_time,
    sparse_axpy, sparse_dot, sparse_dots, sparse_outer, sum_of, sum_type,
)

cdef extern from "rows.h" nogil:
    ctypedef struct Layout "layout":
        Py_ssize_t d
        Py_ssize_t ld
        bint by_columns
        bint sparse
        const Py_ssize_t* begin
        const int32_t* at
    void fetch_rows(const void* X, size_t itemsize, const Layout* rows, const Py_ssize_t* order,
                    Py_ssize_t first, Py_ssize_t n, Py_ssize_t end) noexcept
    Py_ssize_t dense_rows_ahead(Py_ssize_t bytes) noexcept

cdef enum:
    MAX_CHUNKS = 16
    SHORT_ROW = 2048  # bytes; longer rows come as fast by themselves, four at a time
    LEAST_IN_TURNS = 1024  # bytes of a row, see `in_turns`;
    LEAST_OF_BATCHES = 1536  # which may be shuffled
    MOST_IN_TURNS = 8192
    ROWS_IN_TURNS = 8  # of a batch
    CHUNK_WORK = 65536  # multiplications that make a chunk worth its buffers


cdef inline values_of(X):
    """The numbers of X as a matrix: X itself, or those of sparse rows, one after the other."""
    return X.data.reshape(1, -1) if hasattr(X, "indptr") else X


cdef inline Layout layout_of(X) except *:
    """How X lies in memory; a copy is never made, so neither rows nor columns may be strided.

    X : ndarray of shape (m, d), or `fastgd._sparse.SparseRows`; it must outlive the layout
    """
    cdef Layout layout
    cdef const Py_ssize_t[::1] begin
    cdef const int32_t[::1] at
    cdef Py_ssize_t itemsize
    m, layout.d = X.shape
    layout.ld, layout.by_columns, layout.sparse = 0, False, hasattr(X, "indptr")
    layout.begin, layout.at = NULL, NULL
    if layout.sparse:
        begin, at = X.indptr, X.indices
        layout.begin, layout.at = &begin[0], &at[0]
        return layout
    itemsize = X.itemsize
    if X.strides[1] == itemsize or layout.d == 1:
        layout.ld = X.strides[0] // itemsize
    elif X.strides[0] == itemsize or m == 1:
        layout.by_columns = True
        layout.ld = X.strides[1] // itemsize
    else:
        raise ValueError("X must have contiguous rows or contiguous columns")
    return layout


cdef inline Py_ssize_t rows_per_block(Layout* layout, Py_ssize_t itemsize) noexcept nogil:
    """As many rows as a cache holds beside the next block."""
    cdef Py_ssize_t d = max(layout.d, 1)
    if layout.sparse:
        return 2048  # W and G hardly fit into a cache both: neither is to drive the other out too often
    if layout.by_columns:  # a strip of each column: some cache lines long, yet all of them in cache
        return (256 if d > 512 else max(512, 20480 // d)) // itemsize // 4 * 4
    if d * itemsize <= SHORT_ROW:  # so that the second product finds most of them in the first-level cache
        return min(256, 16384 // (d * itemsize)) // 4 * 4
    return max(8, 131072 // (d * itemsize)) // 4 * 4


cdef inline bint in_turns(Layout* layout, Py_ssize_t k, Py_ssize_t itemsize, Py_ssize_t least) noexcept nogil:
    """Whether to take one row to the gradient and predict for one of the next block in turn.

    So memory never pauses, where otherwise it waits while a block goes to the gradient. Of shorter rows four at a
    time are faster, for which weights and gradient are read once; longer ones do not fit into the first-level cache.
    """
    cdef Py_ssize_t bytes = layout.d * itemsize
    return k == 1 and not layout.sparse and not layout.by_columns and least <= bytes <= MOST_IN_TURNS


cdef inline Py_ssize_t rows_of_part(Layout* layout, Py_ssize_t k, Py_ssize_t itemsize,
                                    Py_ssize_t batch_size) noexcept nogil:
    """Of how many rows at a time a batch is met: the second product finds them in cache."""
    cdef Py_ssize_t block = max(4, rows_per_block(layout, itemsize))
    if in_turns(layout, k, itemsize, LEAST_OF_BATCHES):
        return min(batch_size, ROWS_IN_TURNS)
    return batch_size if layout.sparse or batch_size <= 2 * block else block


cdef inline Py_ssize_t rows_to_fetch(Layout* layout, Py_ssize_t itemsize, Py_ssize_t n,
                                     Py_ssize_t left) noexcept nogil:
    """How many of the rows that are left after n dense ones to send for meanwhile."""
    return 0 if layout.sparse else min(n, left)


cdef inline Py_ssize_t chunks_of(X, Py_ssize_t m, Py_ssize_t d, Py_ssize_t k) except -1:
    """How many chunks with sums of their own, of a size that is small beside the work."""
    chunks = max(1, min(MAX_CHUNKS, (X.size + m) * k // CHUNK_WORK, m // 16))
    return max(1, min(chunks, X.size // (16 * (d + 1)))) if hasattr(X, "indptr") else chunks


cdef inline void fetch(const floating* x, Py_ssize_t n) noexcept nogil:
    """Ask for x[:n]."""
    cdef Py_ssize_t i = 0
    while i < n:
        prefetch(x + i, 0, 3)
        i += 8 if floating is double else 16


cdef inline bint is_narrow(Py_ssize_t d, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil:
    """Whether a loop over outputs, each with its weights in registers, beats one over rows."""
    return 0 < d * itemsize <= (NARROW_BYTES if k < 5 else NARROW_BYTES // 2)


cdef inline Py_ssize_t row_at(const Py_ssize_t* order, Py_ssize_t i) noexcept nogil:
    return order[i] if order != NULL else i


cdef inline void forward_sparse(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n,
    Py_ssize_t k, const floating* W, floating* Z,
) noexcept nogil:
    """`forward` of sparse rows."""
    cdef Py_ssize_t c, i, lo, hi, start, width, d = layout.d
    cdef floating strip[8]  # STRIP
    for i in range(n):
        lo = row_at(order, first + i)
        hi, lo = layout.begin[lo + 1], layout.begin[lo]
        if k == 1:
            Z[i] = sparse_dot(hi - lo, X + lo, layout.at + lo, W) + W[d]
            continue
        start = 0
        while start < k:
            width = min(STRIP, k - start)
            for c in range(width):
                strip[c] = W[d * k + start + c]
            sparse_dots(width, hi - lo, X + lo, layout.at + lo, W + start, k, strip)
            for c in range(width):
                Z[(start + c) * n + i] = strip[c]
            start += width


cdef inline void backward_sparse(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n,
    Py_ssize_t k, const floating* R, sum_type* G,
) noexcept nogil:
    """`backward` of sparse rows; G may be in double where X is not."""
    cdef Py_ssize_t c, i, lo, hi, start, width, d = layout.d
    cdef floating strip[8]  # STRIP
    for i in range(n):
        lo = row_at(order, first + i)
        hi, lo = layout.begin[lo + 1], layout.begin[lo]
        if k == 1:
            G[d] += R[i]
            if R[i] == 0:
                continue
            if sum_type is floating:
                sparse_axpy(hi - lo, R[i], X + lo, layout.at + lo, G)
            else:
                sparse_outer(1, hi - lo, X + lo, layout.at + lo, R + i, 1, G)
            continue
        start = 0
        while start < k:
            width = min(STRIP, k - start)
            for c in range(width):
                strip[c] = R[(start + c) * n + i]
                G[d * k + start + c] += strip[c]
            sparse_outer(width, hi - lo, X + lo, layout.at + lo, <const floating*> strip, k, G + start)
            start += width


cdef inline void forward(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n,
    Py_ssize_t k, const floating* W, floating* Z, Py_ssize_t ahead=0,
) noexcept nogil:
    """Z[c, i] = x_i . w_c + b_c for the rows first .. first + n of X (of order, unless NULL).

    This block being in cache already, memory is free meanwhile to send the `ahead` rows after it, at most n, in whole
    fours: half of these rows, or every fourth column in Fortran order, here, the others in `backward`.
    """
    cdef Py_ssize_t c, i, j, r, d = layout.d, ld = layout.ld
    cdef int o, outputs
    cdef const floating* x0
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    cdef const floating* w
    cdef floating z[20]  # 4 MOST_OUTPUTS
    if layout.sparse:
        forward_sparse(X, layout, order, first, n, k, W, Z)
        return
    if layout.by_columns and k == 1:
        combine(n, d, X + first, ld, W, W[d], Z, ahead)
        return
    if layout.by_columns:
        for c in range(k):
            w = W + c * (d + 1)
            for i in range(n):
                Z[c * n + i] = w[d]
        j = 0
        while j + 4 <= d:
            x0 = X + j * ld + first
            fetch(x0 + n, ahead)
            c = 0
            while c < k:
                outputs = outputs_at_a_time(k - c)
                axpy4(outputs, n, W + c * (d + 1) + j, d + 1, x0, x0 + ld, x0 + 2 * ld, x0 + 3 * ld, Z + c * n, n)
                c += outputs
            j += 4
        while j < d:
            fetch(X + j * ld + first + n, ahead if j % 4 == 0 else 0)
            for c in range(k):
                axpy(n, W[c * (d + 1) + j], X + j * ld + first, Z + c * n)
            j += 1
        return
    if order == NULL and is_narrow(d, k, sizeof(floating)):
        for c in range(k):
            narrow_dots(n, d, X + first * ld, ld, W + c * (d + 1), W[c * (d + 1) + d], Z + c * n,
                        ahead if c == 0 and ld == d else 0)
        return
    i = 0
    while i + 4 <= n:
        x0 = X + row_at(order, first + i) * ld
        x1 = X + row_at(order, first + i + 1) * ld
        x2 = X + row_at(order, first + i + 2) * ld
        x3 = X + row_at(order, first + i + 3) * ld
        if i + 4 <= ahead and d * sizeof(floating) <= SHORT_ROW:
            fetch(X + row_at(order, first + n + i // 2) * ld, d)
            fetch(X + row_at(order, first + n + i // 2 + 1) * ld, d)
        c = 0
        while c < k:
            outputs = outputs_at_a_time(k - c)
            w = W + c * (d + 1)
            dot4(outputs, d, x0, x1, x2, x3, w, d + 1, z)
            for o in range(outputs):
                for r in range(4):
                    Z[(c + o) * n + i + r] = z[4 * o + r] + w[o * (d + 1) + d]
            c += outputs
        i += 4
    while i < n:
        x0 = X + row_at(order, first + i) * ld
        for c in range(k):
            w = W + c * (d + 1)
            Z[c * n + i] = dot(d, x0, w) + w[d]
        i += 1


cdef inline void backward(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n,
    Py_ssize_t k, const floating* R, floating* G, Py_ssize_t ahead=0,
) noexcept nogil:
    """G[c] += sum_i R[c, i] (x_i, 1) for the same rows; `ahead`: see `forward`."""
    cdef Py_ssize_t c, i, j, r, d = layout.d, ld = layout.ld
    cdef int o, outputs
    cdef const floating* x0
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    cdef floating part[20]  # 4 MOST_OUTPUTS
    if layout.sparse:
        backward_sparse(X, layout, order, first, n, k, R, G)
        return
    for c in range(k):
        G[c * (d + 1) + d] += <floating> sum_of(n, R + c * n)
    if layout.by_columns:
        j = 0
        while j + 4 <= d:
            x0 = X + j * ld + first
            for i in range(1, 4):
                fetch(x0 + i * ld + n, ahead)
            c = 0
            while c < k:
                outputs = outputs_at_a_time(k - c)
                dot4(outputs, n, x0, x0 + ld, x0 + 2 * ld, x0 + 3 * ld, R + c * n, n, part)
                for o in range(outputs):
                    for r in range(4):
                        G[(c + o) * (d + 1) + j + r] += part[4 * o + r]
                c += outputs
            j += 4
        while j < d:
            fetch(X + j * ld + first + n, ahead if j % 4 != 0 else 0)
            for c in range(k):
                G[c * (d + 1) + j] += dot(n, X + j * ld + first, R + c * n)
            j += 1
        return
    if order == NULL and is_narrow(d, k, sizeof(floating)):
        for c in range(k):
            narrow_sums(n, d, X + first * ld, ld, R + c * n, G + c * (d + 1), ahead if c == 0 and ld == d else 0)
        return
    i = 0
    while i + 4 <= n:
        x0 = X + row_at(order, first + i) * ld
        x1 = X + row_at(order, first + i + 1) * ld
        x2 = X + row_at(order, first + i + 2) * ld
        x3 = X + row_at(order, first + i + 3) * ld
        if i + 4 <= ahead and d * sizeof(floating) <= SHORT_ROW:
            fetch(X + row_at(order, first + n + ahead // 2 + i // 2) * ld, d)
            fetch(X + row_at(order, first + n + ahead // 2 + i // 2 + 1) * ld, d)
        c = 0
        while c < k:
            outputs = outputs_at_a_time(k - c)
            axpy4(outputs, d, R + c * n + i, n, x0, x1, x2, x3, G + c * (d + 1), d + 1)
            c += outputs
        i += 4
    while i < n:
        x0 = X + row_at(order, first + i) * ld
        for c in range(k):
            axpy(d, R[c * n + i], x0, G + c * (d + 1))
        i += 1


cdef inline void backward_and_forward(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n, const floating* R,
    floating* G, Py_ssize_t coming, const floating* W, floating* Z, Py_ssize_t end,
) noexcept nogil:
    """`backward` of n rows and `forward` of as many or fewer that come after them, `in_turns`; all end at `end`."""
    cdef Py_ssize_t i, d = layout.d, ld = layout.ld, far = dense_rows_ahead(d * sizeof(floating))
    cdef const floating* x
    cdef const floating* later
    G[d] += <floating> sum_of(n, R)
    for i in range(n):
        x = X + row_at(order, first + i) * ld
        later = X + row_at(order, min(first + n + i + far, end - 1)) * ld
        if i < coming:
            Z[i] = W[d] + axpy_and_dot(d, R[i], x, G, X + row_at(order, first + n + i) * ld, W, later)
        else:
            fetch(later, d)
            axpy(d, R[i], x, G)
