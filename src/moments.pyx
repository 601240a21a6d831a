"""Second moments of the rows of X: Gram matrices and sums down the columns, in double.

In: X (m, d) float32 or float64, dense or sparse; weights of the rows. Rows are copied to double, less a shift,
a block at a time. Chunks depend on shapes alone, with sums of their own, added up in order: the result does
not depend on how many threads did the work.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from libc.string cimport memset

from products cimport Panels, add_gram, column_of, gram_pays, panels_of, shifted, width_from
from rows cimport Layout, chunks_of, layout_of, row_at, rows_per_block, values_of
from simd cimport add_moments4, dot

cdef enum:
    BLOCK_ROWS = 512
    BLOCK_BYTES = 524288  # of a block of rows for BLAS: what a second-level cache holds beside their products
    PANEL_ROWS = 128  # of a block in panels: few enough for the first-level cache, too many to write sums all the time
    FEW = 8  # as seldom as that, entries of a row are multiplied one by one, not by a matrix product


cdef void gather_rows(
    const floating* X, Layout* layout, const Py_ssize_t* rows, Py_ssize_t first, Py_ssize_t n, const double* roots,
    const double* shift, double* B, Panels panels,
) noexcept nogil:
    """Rows (x_i - shift) roots_i of B: n rows of X (of `rows`, unless NULL); NULL are roots of 1."""
    cdef Py_ssize_t i, j, t, step, at, d = layout.d
    cdef const floating* x
    cdef double* b
    cdef double root
    if layout.by_columns:
        for j in range(d):
            x, b = X + j * layout.ld, B + column_of(panels, n, j, &step)
            for i in range(n):
                root = roots[i] if roots != NULL else 1.0
                b[i * step] = (<double> x[row_at(rows, first + i)] - shift[j]) * root
        return
    for i in range(n):
        at = row_at(rows, first + i)
        root = roots[i] if roots != NULL else 1.0
        j = 0
        while j < d:
            b = B + j * n + i * width_from(panels, j)
            if layout.sparse:
                for t in range(min(panels.width, d - j)):
                    b[t] = -shift[j + t] * root
            else:
                shifted(min(panels.width, d - j), X + at * layout.ld + j, shift + j, root, b)
            j += panels.width
        if layout.sparse:
            for t in range(layout.begin[at], layout.begin[at + 1]):
                j = layout.at[t]
                b = B + column_of(panels, n, j, &step)
                b[i * step] = (<double> X[t] - shift[j]) * root


cdef Py_ssize_t bytes_ahead(Layout* layout, const Py_ssize_t* rows, Py_ssize_t n, Py_ssize_t left,
                            Py_ssize_t itemsize) noexcept nogil:
    """Of the next block of rows, if it is likely to lie in one piece, as the n rows of this one do; else 0."""
    if layout.sparse or layout.by_columns or n == 0 or rows[n - 1] - rows[0] != n - 1:
        return 0
    return min(n, left) * layout.ld * itemsize


# ---------------------------------------------------------------------------------------------
# Gram matrices
# ---------------------------------------------------------------------------------------------

cdef void gram_of_chunk(
    const floating* X, Layout* layout, const double* h, const double* shift, Py_ssize_t start,
    Py_ssize_t stop, Py_ssize_t block, double* B, double* A,
) noexcept nogil:
    """A += sum_i h_i (x_i - shift, 1) (x_i - shift, 1)^T, on and below the diagonal."""
    cdef Py_ssize_t p = layout.d + 1, first = start, i, n, step, ahead
    cdef Panels panels = panels_of(p, p)
    cdef double* b
    cdef Py_ssize_t rows[BLOCK_ROWS]
    cdef double roots[BLOCK_ROWS]
    while first < stop:
        n = 0
        while n < block and first < stop:  # rows without curvature are left out
            if h[first] > 0:
                rows[n], roots[n] = first, sqrt(h[first])
                n += 1
            first += 1
        gather_rows(X, layout, rows, 0, n, roots, shift, B, panels)
        b = B + column_of(panels, n, p - 1, &step)
        for i in range(n):
            b[i * step] = roots[i]
        ahead = bytes_ahead(layout, rows, n, stop - first, sizeof(floating))
        add_gram(n, p, p, B, X + first * layout.ld if ahead else NULL, ahead, A)


cdef void gram_of_few(
    const floating* X, Layout* layout, const double* h, Py_ssize_t start, Py_ssize_t stop, double* A,
) noexcept nogil:
    """A += sum_i h_i (x_i, 1) (x_i, 1)^T entry by entry, for rows with few of them; as `gram_of_chunk`."""
    cdef Py_ssize_t i, p, q, lo, hi, d = layout.d
    cdef double hx
    cdef double* a
    for i in range(start, stop):
        if not h[i] > 0:
            continue
        lo, hi = layout.begin[i], layout.begin[i + 1]
        for p in range(lo, hi):
            hx = h[i] * X[p]
            a = A + layout.at[p] * (d + 1)
            for q in range(lo, p + 1):  # columns are sorted
                a[layout.at[q]] += hx * X[q]
            A[d * (d + 1) + layout.at[p]] += hx
        A[d * (d + 1) + d] += h[i]


cdef void mirror(Py_ssize_t p, double* A) noexcept nogil:
    """The other triangle of a symmetric matrix (p, p), by squares that cache holds with their mirror images."""
    cdef Py_ssize_t i, j, row, column
    for row in range(0, p, 32):
        for column in range(0, row + 1, 32):
            for i in range(row, min(row + 32, p)):
                for j in range(column, min(column + 32, i)):
                    A[j * p + i] = A[i * p + j]


cdef Py_ssize_t rows_at_a_time(Py_ssize_t p, Py_ssize_t q) noexcept nogil:
    """Rows of a block of p columns, of which q are those of the Gram matrix."""
    if gram_pays(q):
        return PANEL_ROWS
    cdef Py_ssize_t n = min(<Py_ssize_t> BLOCK_ROWS, BLOCK_BYTES // (8 * p))
    return n // 128 * 128 if n > 128 else max(16, n)


def weighted_gram(X, const double[::1] h, const double[::1] shift, int n_threads):
    """sum_i h_i (x_i - shift, 1)(x_i - shift, 1)^T, in double; rows with h_i = 0 cost nothing.

    The caller keeps BLAS on one thread, as the threads here are our own.

    Returns
    -------
    gram : ndarray of shape (d + 1, d + 1)
    """
    if X.dtype == np.float32:
        return gram_of_rows[float](values_of(X), X, h, shift, n_threads)
    return gram_of_rows[double](values_of(X), X, h, shift, n_threads)


cdef gram_of_rows(const floating[:, :] values, X, const double[::1] h, const double[::1] shift,
                  int n_threads):
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], p = X.shape[1] + 1, c, chunks = 1
    # a scattered multiplication costs what a matrix product takes for some dozens
    cdef bint few = layout.sparse and FEW * X.size < m * p
    if m * p * p > 1000000:  # as many d^2 buffers as are small beside X, two at least
        chunks = max(2, min(8, (X.size // p if layout.sparse else m) // (20 * p)))
    cdef Panels panels = panels_of(p, p)
    cdef Py_ssize_t block = 1 if few else rows_at_a_time(p, p)
    n_threads = min(n_threads, chunks)
    cdef double[:, ::1] B = np.zeros((n_threads, block * panels.p))  # numbers, too, where a panel is not full
    cdef double[:, :, ::1] A = np.zeros((chunks, p, p))
    cdef const floating* x = &values[0, 0]
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            if few:
                gram_of_few(x, &layout, &h[0], c * m // chunks, (c + 1) * m // chunks, &A[c, 0, 0])
            else:
                gram_of_chunk(x, &layout, &h[0], &shift[0], c * m // chunks, (c + 1) * m // chunks,
                              block, &B[threadid(), 0], &A[c, 0, 0])
    gram = np.asarray(A[0])
    for c in range(1, chunks):
        gram += A[c]
    mirror(p, &A[0, 0, 0])
    if few and np.any(shift):  # (x - shift)(x - shift)^T from x x^T and the sums of x, the last row
        s = np.append(shift, 0.0)
        sums = np.outer(gram[p - 1] - gram[p - 1, p - 1] / 2 * s, s)
        gram -= sums
        gram -= sums.T
    return gram


# ---------------------------------------------------------------------------------------------
# of parts of a table, with the targets
# ---------------------------------------------------------------------------------------------

cdef void moments_of_part(
    const floating* X, Layout* layout, const double* Y, Py_ssize_t m, Py_ssize_t k, const Py_ssize_t* rows,
    const double* weight, Py_ssize_t n, const double* shift, Py_ssize_t block, double* B, double* A, double* S,
) noexcept nogil:
    """A (d + 1 + k, d + 1) += (z, y) z^T with z = (x - shift, 1), times weight, on and below the diagonal; S += y^2."""
    cdef Py_ssize_t first = 0, some, i, j, step, ahead, q = layout.d + 1, p = q + k
    cdef Panels panels = panels_of(p, q)
    cdef double roots[BLOCK_ROWS]
    cdef double* b
    cdef double y
    while first < n:
        some = min(block, n - first)
        for i in range(some):
            roots[i] = sqrt(weight[first + i])
        gather_rows(X, layout, rows, first, some, roots, shift, B, panels)
        b = B + column_of(panels, some, q - 1, &step)
        for i in range(some):
            b[i * step] = roots[i]
        for j in range(k):
            b = B + column_of(panels, some, q + j, &step)
            for i in range(some):
                y = Y[j * m + rows[first + i]] * roots[i]
                b[i * step] = y
                S[j] += y * y
        ahead = bytes_ahead(layout, rows + first, some, n - first - some, sizeof(floating))
        first += some
        add_gram(some, p, q, B, X + rows[first] * layout.ld if ahead else NULL, ahead, A)


def moments_of_parts(const floating[:, :] X, const double[:, ::1] Y, const Py_ssize_t[::1] rows,
                     const double[::1] weight, ends, const double[::1] shift, int n_threads):
    """Weighted sums of products of x - shift, 1 and y over parts of a table, in double.

    The caller keeps BLAS on one thread, as the threads here are our own.

    Parameters
    ----------
    X : (m, d); Y : (k, m)
    rows : (n,), part after part; weight : (n,), theirs
    ends : where in `rows` each part ends

    Returns
    -------
    squares : ndarray of shape (parts, k), sums of y^2
    products : ndarray of shape (parts, k, d + 1), of y (x - shift, 1)
    grams : ndarray of shape (parts, d + 1, d + 1), of (x - shift, 1)(x - shift, 1)^T
    """
    cdef Py_ssize_t m = X.shape[0], k = Y.shape[0], q = X.shape[1] + 1, p = q + k, t
    cdef Layout layout = layout_of(np.asarray(X))
    cdef Panels panels = panels_of(p, q)
    cdef Py_ssize_t block = rows_at_a_time(p, q)
    cuts, owners = [0], []  # a part is cut into as many tasks as leave their sums small beside its rows
    for part, (first, end) in enumerate(zip([0, *ends], ends)):
        pieces = max(1, min(-(-8 // len(ends)), (end - first) // (20 * p)))
        cuts += [first + (end - first) * (i + 1) // pieces for i in range(pieces)]
        owners += [part] * pieces
    cdef Py_ssize_t tasks = len(owners)
    n_threads = max(1, min(n_threads, tasks))
    cdef const Py_ssize_t[::1] cut = np.array(cuts, dtype=np.intp)
    cdef double[:, ::1] B = np.zeros((n_threads, block * panels.p)), S = np.zeros((tasks, k))
    cdef double[:, :, ::1] A = np.zeros((tasks, p, q))
    with nogil:
        for t in prange(tasks, schedule="dynamic", num_threads=n_threads):
            if cut[t] < cut[t + 1]:
                moments_of_part(&X[0, 0], &layout, &Y[0, 0], m, k, &rows[cut[t]], &weight[cut[t]],
                                cut[t + 1] - cut[t], &shift[0], block, &B[threadid(), 0], &A[t, 0, 0], &S[t, 0])
    starts = np.searchsorted(owners, range(len(ends)))
    squares, products = np.add.reduceat(S, starts), np.add.reduceat(A, starts)
    grams = np.ascontiguousarray(products[:, :q])
    for gram in grams:
        gram[...] = np.tril(gram) + np.tril(gram, -1).T
    return squares, np.ascontiguousarray(products[:, q:]), grams


# ---------------------------------------------------------------------------------------------
# sums down the columns, and lengths of the rows
# ---------------------------------------------------------------------------------------------

cdef inline double weight_of(const floating* weight, Py_ssize_t i) noexcept nogil:
    return weight[i] if weight != NULL else 1.0


cdef void moments_by_rows(
    const floating* X, Layout* layout, const floating* weight, const double* shift, Py_ssize_t start,
    Py_ssize_t stop, double* S1, double* S2,
) noexcept nogil:
    """S1 += s (x - shift) and S2 += s (x - shift)^2, four rows at a time, for which the sums are loaded once."""
    cdef Py_ssize_t i = start, j, t, d = layout.d, ld = layout.ld
    cdef const floating* x
    cdef double s, b
    cdef double weights[4]
    while i + 4 <= stop:
        for t in range(4):
            weights[t] = weight_of(weight, i + t)
        add_moments4(d, weights, X + i * ld, ld, shift, S1, S2)
        i += 4
    while i < stop:
        x, s = X + i * ld, weight_of(weight, i)
        for j in range(d):
            b = x[j] - shift[j]
            S1[j] += s * b
            S2[j] += s * b * b
        i += 1


cdef void moments_by_columns(
    const floating* X, Layout* layout, const floating* weight, const double* shift, Py_ssize_t start,
    Py_ssize_t stop, double* S1, double* S2,
) noexcept nogil:
    """The same of Fortran-ordered rows, each column in sixteen sums at first."""
    cdef Py_ssize_t i, j, t, n
    cdef const floating* x
    cdef double s, b
    cdef double first[16]
    cdef double second[16]
    for j in range(layout.d):
        x = X + j * layout.ld
        for t in range(16):
            first[t], second[t] = 0, 0
        i = start
        while i < stop:
            n = min(<Py_ssize_t> 16, stop - i)
            for t in range(n):
                b = x[i + t] - shift[j]
                s = weight_of(weight, i + t) * b
                first[t] += s
                second[t] += s * b
            i += 16
        for t in range(16):
            S1[j] += first[t]
            S2[j] += second[t]


cdef void moments_of_few(
    const floating* X, Layout* layout, const floating* weight, const double* shift,
    Py_ssize_t start, Py_ssize_t stop, double* stored, double* S1, double* S2,
) noexcept nogil:
    """The same of sparse rows, from the entries that are stored; all others are zero.

    A column that is stored everywhere gets nothing of theirs: its weights add up in the same order.
    """
    cdef Py_ssize_t i, j, p, d = layout.d
    cdef double s, b, total = 0
    memset(stored, 0, d * sizeof(double))
    for i in range(start, stop):
        s = weight_of(weight, i)
        total += s
        for p in range(layout.begin[i], layout.begin[i + 1]):
            j = layout.at[p]
            b = <double> X[p] - shift[j]
            stored[j] += s
            S1[j] += s * b
            S2[j] += s * b * b
    for j in range(d):
        b = shift[j]
        S1[j] -= (total - stored[j]) * b
        S2[j] += (total - stored[j]) * b * b


def column_moments(X, weight, int n_threads):
    """Weighted sums of x - x_0 and (x - x_0)^2 down the columns, x_0 being the first row.

    Returns
    -------
    start, first, second : ndarrays of shape (d,)
    """
    if X.dtype == np.float32:
        return moments_of_rows[float](values_of(X), X, weight, n_threads)
    return moments_of_rows[double](values_of(X), X, weight, n_threads)


cdef moments_of_rows(const floating[:, :] values, X, const floating[::1] weight, int n_threads):
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], c, chunks = chunks_of(X, m, d, 1)
    cdef double[::1] shift = np.empty(d), zero = np.zeros(d)
    n_threads = min(n_threads, chunks)
    cdef double[:, ::1] stored = np.empty((n_threads if layout.sparse else 0, d))
    cdef double[:, :, ::1] S = np.zeros((chunks, 2, d))
    cdef const floating* x = &values[0, 0]
    cdef const floating* s = NULL
    if weight is not None:
        s = &weight[0]
    gather_rows(x, &layout, NULL, 0, 1, NULL, &zero[0], &shift[0], Panels(d, d))
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            if layout.sparse:
                moments_of_few(x, &layout, s, &shift[0], c * m // chunks, (c + 1) * m // chunks,
                               &stored[threadid(), 0], &S[c, 0, 0], &S[c, 1, 0])
            elif layout.by_columns:
                moments_by_columns(x, &layout, s, &shift[0], c * m // chunks, (c + 1) * m // chunks,
                                   &S[c, 0, 0], &S[c, 1, 0])
            else:
                moments_by_rows(x, &layout, s, &shift[0], c * m // chunks, (c + 1) * m // chunks,
                                &S[c, 0, 0], &S[c, 1, 0])
    first, second = np.add.reduce(S, axis=0)
    return np.asarray(shift), first, second


cdef void norms_of_chunk(
    const floating* X, Layout* layout, const double* shift, const double* scale, Py_ssize_t start,
    Py_ssize_t stop, Py_ssize_t block, double empty, double* B, double* out,
) noexcept nogil:
    """Squared lengths of the rows start .. stop; `empty` is that of a sparse row without entries."""
    cdef Py_ssize_t d = layout.d, first = start, i, j, n, p
    cdef double b
    if layout.sparse:
        for i in range(start, stop):
            out[i] = empty
            for p in range(layout.begin[i], layout.begin[i + 1]):
                j = layout.at[p]
                b = scale[j]
                out[i] += (X[p] - 2 * shift[j]) * X[p] * b * b
        return
    while first < stop:
        n = min(block, stop - first)
        gather_rows(X, layout, NULL, first, n, NULL, shift, B, Panels(d, d))
        for i in range(n):
            for j in range(d):
                B[i * d + j] *= scale[j]
            out[first + i] = dot(d, <const double*> B + i * d, <const double*> B + i * d)
        first += n


cdef norms_of_rows(const floating[:, :] values, X, const double[::1] shift, const double[::1] scale,
                   int n_threads):
    cdef Layout layout = layout_of(X)
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], c, chunks = chunks_of(X, m, d, 1)
    cdef Py_ssize_t block = 1 if layout.sparse else rows_per_block(&layout, 8)
    cdef double[::1] out = np.empty(m)
    n_threads = min(n_threads, chunks)
    cdef double[:, ::1] B = np.empty((n_threads, block * d))
    cdef const floating* x = &values[0, 0]
    cdef double empty = np.sum((np.asarray(shift) * scale) ** 2)
    with nogil:
        for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
            norms_of_chunk(x, &layout, &shift[0], &scale[0], c * m // chunks, (c + 1) * m // chunks, block,
                           empty, &B[threadid(), 0], &out[0])
    return np.asarray(out)


def row_norms(X, const double[::1] shift, const double[::1] scale, int n_threads):
    """Squared lengths of (x_i - shift) * scale, shape (m,)."""
    if X.dtype == np.float32:
        return norms_of_rows[float](values_of(X), X, shift, scale, n_threads)
    return norms_of_rows[double](values_of(X), X, shift, scale, n_threads)
