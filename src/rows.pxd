"""Rows of X seen through two products, whatever their layout: Z = X W^T + b and G += R^T X.

Everything that reads X does it here. A block of n rows is either consecutive or picked by `order`.
X is dense with its rows or its columns contiguous, `ld` apart (C or Fortran order); sparse rows are
to join as a third layout. W and G hold one row per output, its last number the intercept's.
Z and R are output-major: row i of output c is Z[c * n + i].
"""

from cython cimport floating

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void* address, int write, int locality) noexcept nogil

from simd cimport axpy, axpy4, dot, dot4


cdef struct Layout:
    Py_ssize_t d            # columns of X
    Py_ssize_t ld           # distance of neighbouring rows, or columns if by_columns
    bint by_columns         # Fortran order


cdef inline Layout layout_of(X) except *:
    """How X lies in memory; a copy is never made, so neither rows nor columns may be strided."""
    cdef Layout layout
    cdef Py_ssize_t itemsize = X.itemsize
    m, layout.d = X.shape
    if X.strides[1] == itemsize or layout.d == 1:
        layout.by_columns = False
        layout.ld = X.strides[0] // itemsize
    elif X.strides[0] == itemsize or m == 1:
        layout.by_columns = True
        layout.ld = X.strides[1] // itemsize
    else:
        raise ValueError("X must have contiguous rows or contiguous columns")
    return layout


cdef inline Py_ssize_t rows_per_block(Layout* layout, Py_ssize_t itemsize) noexcept nogil:
    """As many rows as a second-level cache holds comfortably beside W, G and the next block."""
    cdef Py_ssize_t d = max(layout.d, 1)
    if layout.by_columns:  # a strip of each column: some cache lines long, yet all of them in cache
        return (256 if d > 512 else max(512, 40960 // d)) // itemsize // 4 * 4
    return min(256, max(8, 131072 // (d * itemsize))) // 4 * 4


cdef inline void fetch(const floating* x, Py_ssize_t n) noexcept nogil:
    """Ask for x[:n], to be in the second-level cache by the time it is needed."""
    cdef Py_ssize_t i = 0
    while i < n:
        prefetch(x + i, 0, 2)
        i += 8 if floating is double else 16


cdef inline void forward(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n,
    Py_ssize_t k, const floating* W, floating* Z,
) noexcept nogil:
    """Z[c, i] = x_i . w_c + b_c for the rows first .. first + n of X (of order, unless NULL)."""
    cdef Py_ssize_t c, i, j, d = layout.d, ld = layout.ld
    cdef const floating* x0
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    cdef const floating* w
    cdef floating b
    if layout.by_columns:
        for c in range(k):
            w = W + c * (d + 1)
            for i in range(n):
                Z[c * n + i] = w[d]
        j = 0
        while j + 4 <= d:
            x0 = X + j * ld + first
            for c in range(k):
                axpy4(n, W + c * (d + 1) + j, x0, x0 + ld, x0 + 2 * ld, x0 + 3 * ld, Z + c * n)
            j += 4
        while j < d:
            for c in range(k):
                axpy(n, W[c * (d + 1) + j], X + j * ld + first, Z + c * n)
            j += 1
        return
    i = 0
    while i + 4 <= n:
        x0 = X + (order[first + i] if order != NULL else first + i) * ld
        x1 = X + (order[first + i + 1] if order != NULL else first + i + 1) * ld
        x2 = X + (order[first + i + 2] if order != NULL else first + i + 2) * ld
        x3 = X + (order[first + i + 3] if order != NULL else first + i + 3) * ld
        for c in range(k):
            w = W + c * (d + 1)
            dot4(d, x0, x1, x2, x3, w, Z + c * n + i)
            b = w[d]
            Z[c * n + i] += b
            Z[c * n + i + 1] += b
            Z[c * n + i + 2] += b
            Z[c * n + i + 3] += b
        i += 4
    while i < n:
        x0 = X + (order[first + i] if order != NULL else first + i) * ld
        for c in range(k):
            w = W + c * (d + 1)
            Z[c * n + i] = dot(d, x0, w) + w[d]
        i += 1


cdef inline void backward(
    const floating* X, Layout* layout, const Py_ssize_t* order, Py_ssize_t first, Py_ssize_t n,
    Py_ssize_t k, const floating* R, floating* G, Py_ssize_t ahead=0,
) noexcept nogil:
    """G[c] += sum_i R[c, i] (x_i, 1) for the same rows.

    This block being in cache already, memory is free meanwhile to send the `ahead` rows after it.
    """
    cdef Py_ssize_t c, i, j, d = layout.d, ld = layout.ld
    cdef const floating* x0
    cdef const floating* x1
    cdef const floating* x2
    cdef const floating* x3
    cdef floating part[4]
    cdef floating* g
    for c in range(k):
        g = G + c * (d + 1) + d
        for i in range(n):
            g[0] += R[c * n + i]
    if layout.by_columns:
        j = 0
        while j + 4 <= d:
            x0 = X + j * ld + first
            for i in range(4):
                fetch(x0 + i * ld + n, ahead)
            for c in range(k):
                dot4(n, x0, x0 + ld, x0 + 2 * ld, x0 + 3 * ld, R + c * n, part)
                g = G + c * (d + 1) + j
                for i in range(4):
                    g[i] += part[i]
            j += 4
        while j < d:
            for c in range(k):
                G[c * (d + 1) + j] += dot(n, X + j * ld + first, R + c * n)
            j += 1
        return
    i = 0
    while i + 4 <= n:
        x0 = X + (order[first + i] if order != NULL else first + i) * ld
        x1 = X + (order[first + i + 1] if order != NULL else first + i + 1) * ld
        x2 = X + (order[first + i + 2] if order != NULL else first + i + 2) * ld
        x3 = X + (order[first + i + 3] if order != NULL else first + i + 3) * ld
        if i + 4 <= ahead and d * sizeof(floating) <= 2048:  # longer rows the hardware foresees
            for c in range(4):
                fetch(X + (first + n + i + c) * ld, d)
        for c in range(k):
            axpy4(d, R + c * n + i, x0, x1, x2, x3, G + c * (d + 1))
        i += 4
    while i < n:
        x0 = X + (order[first + i] if order != NULL else first + i) * ld
        for c in range(k):
            axpy(d, R[c * n + i], x0, G + c * (d + 1))
        i += 1
