"""Linear models side by side: loss and gradient of many candidates in one pass over the same rows.

In: X (m, d) float32 or float64, C or Fortran order; targets Y (targets, m) and weights (m,) that all models
share; parameters W (n, k, d + 1): n models of k outputs, each row the weights of an output and its intercept.
Out: sums over rows per model and output, in double.

The rows are copied once, part after part, into panels that matrix products read as they lie (panels.h). A
block of rows is multiplied with the weights of some models, differentiated, and multiplied back while it is
in cache. Chunks depend on shapes alone, with sums of their own, added up in order.
"""

import numpy as np

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from losses cimport SOFTMAX_LOG_LOSS, loss_block
from rows cimport Layout, layout_of

cdef extern from "panels.h" nogil:
    enum:
        TILE_ROWS
        TILE_VECTORS
        PANEL_f64
        PANEL_f32
    void predict_panels_f64(
        Py_ssize_t outputs, Py_ssize_t n, Py_ssize_t p, Py_ssize_t first, Py_ssize_t columns,
        const double* W, const double* X, bint add, double* Z) noexcept
    void predict_panels_f32(
        Py_ssize_t outputs, Py_ssize_t n, Py_ssize_t p, Py_ssize_t first, Py_ssize_t columns,
        const float* W, const float* X, bint add, float* Z) noexcept
    void add_gradient_f64(
        Py_ssize_t outputs, Py_ssize_t n, Py_ssize_t p, Py_ssize_t first, Py_ssize_t columns,
        const double* R, const double* X, const double* ahead, Py_ssize_t some, double* G) noexcept
    void add_gradient_f32(
        Py_ssize_t outputs, Py_ssize_t n, Py_ssize_t p, Py_ssize_t first, Py_ssize_t columns,
        const float* R, const float* X, const float* ahead, Py_ssize_t some, double* G) noexcept

cdef enum:
    MAX_CHUNKS = 16
    CHUNK_WORK = 262144  # multiplications that make a chunk worth its buffers
    BLOCK_ROWS = 504  # 21 panels of AVX-512: so many rows add to sums in registers before these are folded
    BLOCK_BYTES = 524288  # of a block of rows, or of a strip of its columns: what a second-level cache holds
    OUTPUTS_OF_A_STRIP = 64  # strips of columns pay when more outputs see them than a tile has
    MIN_WORK_OF_THREADS = 2000000


cdef inline Py_ssize_t width_of(Py_ssize_t itemsize) noexcept nogil:
    return PANEL_f64 if itemsize == 8 else PANEL_f32


cdef void fill_panel(const floating* X, Layout* layout, const Py_ssize_t* rows, Py_ssize_t n, Py_ssize_t p,
                     floating* panel) noexcept nogil:
    """n rows of X, ones, zeros, column after column."""
    cdef Py_ssize_t width = width_of(sizeof(floating)), d = layout.d, i, j
    cdef const floating* x
    memset(panel, 0, p * width * sizeof(floating))
    for i in range(n):
        if layout.by_columns:
            x = X + rows[i]
            for j in range(d):
                panel[j * width + i] = x[j * layout.ld]
        else:
            x = X + rows[i] * layout.ld
            for j in range(d):
                panel[j * width + i] = x[j]
        panel[d * width + i] = 1


cdef void fill_panels(const floating[:, :] X, const Py_ssize_t[::1] rows, const Py_ssize_t[::1] ends,
                      const Py_ssize_t[::1] starts, Py_ssize_t p, floating[::1] panels, int n_threads):
    """Those of every part; part t begins with panel starts[t]."""
    cdef Py_ssize_t width = width_of(sizeof(floating)), t, q, first
    cdef Layout layout = layout_of(np.asarray(X))
    for t in range(ends.shape[0]):
        first = ends[t - 1] if t else 0
        for q in prange(starts[t + 1] - starts[t], nogil=True, num_threads=n_threads):
            fill_panel(&X[0, 0], &layout, &rows[first + q * width], min(width, ends[t] - first - q * width),
                       p, &panels[(starts[t] + q) * p * width])


cdef inline void predict(Py_ssize_t outputs, Py_ssize_t n, Py_ssize_t p, Py_ssize_t first, Py_ssize_t columns,
                         const floating* W, const floating* X, floating* Z) noexcept nogil:
    if floating is double:
        predict_panels_f64(outputs, n, p, first, columns, W, X, first > 0, Z)
    else:
        predict_panels_f32(outputs, n, p, first, columns, W, X, first > 0, Z)


cdef inline void add_gradient(
    Py_ssize_t outputs, Py_ssize_t n, Py_ssize_t p, Py_ssize_t first, Py_ssize_t columns,
    const floating* R, const floating* X, const floating* ahead, Py_ssize_t some, double* G,
) noexcept nogil:
    if floating is double:
        add_gradient_f64(outputs, n, p, first, columns, R, X, ahead, some, G)
    else:
        add_gradient_f32(outputs, n, p, first, columns, R, X, ahead, some, G)


cdef void pass_over_panels(
    const floating* X, Py_ssize_t m, Py_ssize_t p, const floating* Y, Py_ssize_t y_stride,
    const floating* weight, int loss, const double* params, Py_ssize_t n_models, Py_ssize_t k,
    const char* member, const floating* W, Py_ssize_t block, Py_ssize_t strip, Py_ssize_t at_once,
    double* total, double* gradient, floating* work, double* sums,
) noexcept nogil:
    """m rows of one part, met by the models that have it, some at a time, over strips of the columns."""
    cdef Py_ssize_t width = width_of(sizeof(floating)), size = k * p, n_theirs = 0, first = 0
    cdef Py_ssize_t n, q, end, start, i, groups, g, ahead
    cdef const floating* x
    cdef const floating* s
    cdef floating* Z = work
    cdef floating* R = Z + at_once * k * block
    cdef floating* present = R + at_once * k * block
    cdef floating* scratch = present + block
    cdef floating* theirs = scratch + 2 * block
    cdef double* totals = sums + n_models * size
    for q in range(n_models):
        if member[q]:
            memcpy(theirs + n_theirs * size, W + q * size, size * sizeof(floating))
            n_theirs += 1
    memset(sums, 0, n_models * (size + k) * sizeof(double))
    groups = (n_theirs + at_once - 1) // at_once
    q = (m + block - 1) // block
    block = ((m + q - 1) // q + width - 1) // width * width  # of like size
    while first < m:
        n = min(block, (m - first + width - 1) // width * width)
        x, s = X + first * p, NULL
        if weight != NULL:
            s = weight + first
        elif m - first < n:  # the last panel is not full
            for i in range(n):
                present[i] = first + i < m
            s = present
        ahead = min(block, m - first - n) * p // max(groups, 1) if strip == p else 0  # of the next block
        for g in range(groups):  # of like size
            q, end = g * n_theirs // groups, (g + 1) * n_theirs // groups
            start = 0
            while start < p:
                predict((end - q) * k, n, p, start, min(strip, p - start), theirs + q * size, x, Z)
                start += strip
            for i in range(end - q):
                loss_block(loss, params, k, n, Z + i * k * n, Y + first, y_stride, s, totals + (q + i) * k,
                           R + i * k * n, <floating*> NULL, n, scratch)
            start = 0
            while start < p:
                add_gradient((end - q) * k, n, p, start, min(strip, p - start), R, x, x + n * p + g * ahead,
                             ahead, sums + q * size)
                start += strip
        first += n
    for q in range(n_models - 1, -1, -1):
        if member[q]:
            n_theirs -= 1
            for i in range(size):
                gradient[q * size + i] += sums[n_theirs * size + i]
            for i in range(k):
                total[q * k + i] += totals[n_theirs * k + i]


cdef aligned(n, dtype):
    """An empty array that begins where a cache line does."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(n * itemsize + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + n * itemsize].view(dtype)


cdef class Pass:
    """The rows of a table as passes by many models of k outputs read them.

    Parameters
    ----------
    X : ndarray of shape (m, d)
    Y : ndarray of shape (k, m), or (1, m) of labels; X's dtype
    weight : ndarray of shape (rows,) or None
    rows : ndarray of int
        Of X and Y, part after part.
    ends : list of int
        Where in `rows` each part ends.
    """

    cdef readonly Py_ssize_t d, k
    cdef Py_ssize_t p, block, strip, at_once
    cdef Py_ssize_t[::1] starts, counts
    cdef object X, Y, weight

    def __init__(self, X, Y, weight, rows, ends, Py_ssize_t k, int n_threads):
        cdef Py_ssize_t width = width_of(X.itemsize)
        self.d, self.k = X.shape[1], k
        self.p = (self.d // TILE_VECTORS + 1) * TILE_VECTORS
        ends = np.array(ends, dtype=np.intp)
        counts = np.diff(ends, prepend=0)
        starts = np.concatenate([[0], np.cumsum(-(-counts // width))])
        self.starts, self.counts = starts, counts
        padded = starts.max() * width
        self.X = aligned(padded * self.p, X.dtype)
        self.Y = aligned(len(Y) * padded, X.dtype).reshape(len(Y), padded)
        self.weight = None if weight is None else aligned(padded, X.dtype)
        if X.dtype == np.float64:
            fill_panels[double](X, rows, ends, starts, self.p, self.X, n_threads)
        else:
            fill_panels[float](X, rows, ends, starts, self.p, self.X, n_threads)
        for first, last, end, count in zip(starts * width, starts[1:] * width, ends, counts):
            part, inside = slice(end - count, end), slice(first, first + count)
            self.Y[:, inside] = Y[:, rows[part]]
            self.Y[:, first + count : last] = self.Y[:, first, None]  # any that the loss can bear
            if weight is not None:
                self.weight[inside] = weight[part]
                self.weight[first + count : last] = 0
        self.block = BLOCK_ROWS // width * width
        self.strip, self.at_once = self.p, max(1, TILE_ROWS // k)
        if self.block * self.p * X.itemsize > 2 * BLOCK_BYTES:
            self.strip = BLOCK_BYTES // (self.block * X.itemsize) // TILE_VECTORS * TILE_VECTORS
            self.at_once = max(1, OUTPUTS_OF_A_STRIP // k)

    def run(self, W, members, int loss, const double[::1] params, int n_threads):
        """Sum of weight * loss per model and output, and its gradient, over the parts that each model has.

        Parameters
        ----------
        W : ndarray of shape (n, k, d + 1)
        members : ndarray of shape (n, parts)
            Not 0 where a model has a part.

        Returns
        -------
        total : ndarray of shape (n, k); of the coupled losses, one number repeated
        gradient : ndarray of shape (n, k, d + 1)
        """
        n = len(W)
        if W.shape != (n, self.k, self.d + 1) or members.shape != (n, len(self.counts)):
            raise ValueError(f"W has shape {W.shape}, members has {members.shape}")
        padded = np.zeros((n, self.k, self.p), self.X.dtype)
        padded[..., : self.d + 1] = W
        members = np.ascontiguousarray(members.T != 0).view(np.int8)
        if self.X.dtype == np.float64:
            sums = self._run[double](self.X, self.Y, self.weight, padded, members, loss, params, n_threads)
        else:
            sums = self._run[float](self.X, self.Y, self.weight, padded, members, loss, params, n_threads)
        total, gradient = (np.add.reduce(of_chunks, axis=0) for of_chunks in sums)
        if loss >= SOFTMAX_LOG_LOSS:
            total[:] = total[:, :1]
        return total, np.ascontiguousarray(gradient[..., : self.d + 1])

    cdef _run(self, const floating[::1] X, const floating[:, ::1] Y, const floating[::1] weight,
              const floating[:, :, ::1] W, const char[:, ::1] members, int loss, const double[::1] params,
              int n_threads):
        """Total and gradient of every chunk."""
        cdef Py_ssize_t width = width_of(sizeof(floating)), n = W.shape[0], size = n * self.k * self.p
        cdef Py_ssize_t parts = self.counts.shape[0], panels = self.starts[parts], start, stop, c, t
        cdef Py_ssize_t work_of_all = size * panels * width
        # as many as have enough to do, with sums that are small beside X, two at least
        cdef Py_ssize_t chunks = max(2, min(MAX_CHUNKS, panels * width * self.p // (4 * max(size, 1))))
        chunks = max(1, min(chunks, work_of_all // CHUNK_WORK, panels))
        cdef double[:, :, ::1] totals = np.zeros((chunks, n, self.k))
        cdef double[:, :, :, ::1] gradients = np.zeros((chunks, n, self.k, self.p))
        if not work_of_all:
            return totals, gradients
        n_threads = max(1, min(n_threads, chunks)) if work_of_all >= MIN_WORK_OF_THREADS else 1
        cdef Py_ssize_t k = self.k, p = self.p, block = self.block, y_stride = Y.shape[1], at
        cdef Py_ssize_t size_of_work = (2 * self.at_once * k + 3) * block + (size + 15) // 16 * 16
        cdef Py_ssize_t size_of_sums = size + n * k
        cdef double[::1] sums = aligned(n_threads * size_of_sums, np.float64)
        cdef floating[::1] work = aligned(n_threads * size_of_work, self.X.dtype)
        cdef const Py_ssize_t[::1] starts = self.starts, counts = self.counts
        cdef const floating* s = NULL
        if weight is not None:
            s = &weight[0]
        with nogil:
            for c in prange(chunks, schedule="dynamic", num_threads=n_threads):
                for t in range(parts):
                    start = max(starts[t], c * panels // chunks)
                    stop = min(starts[t + 1], (c + 1) * panels // chunks)
                    if start < stop:
                        at = start * width
                        pass_over_panels(
                            &X[at * p], min(counts[t] - (start - starts[t]) * width, (stop - start) * width),
                            p, &Y[0, at], y_stride, s + at if s != NULL else NULL, loss, &params[0], n, k,
                            &members[t, 0], &W[0, 0, 0], block, self.strip, self.at_once,
                            &totals[c, 0, 0], &gradients[c, 0, 0, 0], &work[threadid() * size_of_work],
                            &sums[threadid() * size_of_sums])
        return totals, gradients
