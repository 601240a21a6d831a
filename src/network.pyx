"""Networks of dense layers: a batch forward and backward, and epochs of batches.

In: X (m, d) with contiguous rows or sparse, targets Y (targets, m) as for linear models, and all parameters in one
array theta (p,), changed in place. Layer l maps size[l] numbers to size[l + 1]; its part of theta is W
(size[l], size[l + 1]) and b, followed by scale and shift of the batch normalisation where there is one.
Behind the parameters lie the running means and variances, which predictions use. An epoch knows no
schedule, no random numbers and no stopping rule. Out: sums of losses, in double.

A batch goes through the layers in chunks of rows; then each piece of the weights receives its gradient,
from all rows at once, and its update while both are in cache. Numbers of chunks and pieces depend on shapes
alone, and no two add to the same number: the result does not depend on how many threads did the work. Batch
normalisation needs the batch as a whole: it is one chunk then.
"""

import numpy as np

cimport cython
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from activations cimport ACTIVATIONS, N_ACTIVATIONS
from layers cimport Inputs, Shape, backward, bias_of_entry, forward
from losses cimport SOFTMAX_LOG_LOSS, gather, loss_block
from pieces cimport Update, update_apart, weigh_piece
from products cimport descend, own_product
from rows cimport Layout, fetch, layout_of, values_of
from simd cimport axpy
from updates cimport add_to_mean

ACTIVATION_IDS = {ACTIVATIONS[i].name.decode(): i for i in range(N_ACTIVATIONS)}

cdef enum:
    MAX_BLOCK = 2048  # rows whose activations are kept; of a larger batch the gradients add up
    MAX_CHUNKS = 8
    CHUNK_WORK = 2000000  # multiplications that are worth a thread, on a busy machine too
    MAX_PIECES = 4
    PIECE = 32768  # weights that are worth one

cdef struct Coordinates:
    # columns as (x - shift) * scale, the predictor as z * out_scale + out_shift; NULL for as they are
    const double* shift
    const double* scale
    const double* out_shift
    const double* out_scale


# ---------------------------------------------------------------------------------------------
# rows: a chunk through the layers and back
# ---------------------------------------------------------------------------------------------

cdef bint neighbours(const Py_ssize_t* order, Py_ssize_t n) noexcept nogil:
    """Whether these rows lie one after the other."""
    cdef Py_ssize_t i
    for i in range(1, n):
        if order[i] != order[0] + i:
            return False
    return True


cdef void copy_rows(
    const floating* X, Py_ssize_t d, const Py_ssize_t* order, Py_ssize_t n,
    Coordinates* coordinates, floating* out,
) noexcept nogil:
    """The rows of `order` side by side, in their coordinates."""
    cdef Py_ssize_t i, j
    cdef const floating* x
    for i in range(n):
        x = X + order[i] * d
        if i + 2 < n:
            fetch(X + order[i + 2] * d, d)
        if coordinates.scale == NULL:
            memcpy(out + i * d, x, d * sizeof(floating))
        else:
            for j in range(d):
                out[i * d + j] = <floating> ((x[j] - coordinates.shift[j]) * coordinates.scale[j])


cdef void pass_chunk(
    Shape* net, const floating* X, const floating* Y, Py_ssize_t targets, Py_ssize_t m,
    const floating* weight, const Py_ssize_t* order, const floating* theta, floating* running,
    Coordinates* coordinates, int loss, const double* params, double factor, bint training,
    const Inputs* inputs, Py_ssize_t c, Py_ssize_t rows, double* total, floating* w,
) noexcept nogil:
    """Chunk c of a batch: total += its losses; in training, R and D with respect to factor * losses."""
    cdef Py_ssize_t first = c * rows // net.chunks, n = (c + 1) * rows // net.chunks - first, i, j
    cdef Py_ssize_t d = net.size[0], k = net.k
    cdef floating* own = w + net.own + c * net.chunk
    cdef floating* Z = own + net.z
    cdef floating* R = own + net.r
    cdef floating* s = own + net.s
    cdef floating* share = own + net.share
    cdef double of_output, slope, sum_ = 0
    if n == 0:
        return
    if inputs.dense == w + net.a[0]:
        copy_rows(X, d, order + first, n, coordinates, w + net.a[0] + first * d)
    gather(Y, targets, m, weight, order + first, n, own + net.y, s)
    if net.batch_norm:
        if weight != NULL:
            for i in range(n):
                sum_ += s[i]
        for i in range(n):
            share[i] = <floating> (s[i] / sum_ if sum_ > 0 else 1.0 / n)
    forward(net, theta, running, inputs, w, <const floating*> share, first, n, training, Z)
    if coordinates.out_scale != NULL:
        for j in range(k):
            for i in range(n):
                Z[j * n + i] = <floating> (Z[j * n + i] * coordinates.out_scale[j] + coordinates.out_shift[j])
    loss_block(loss, params, k, n, <const floating*> Z, <const floating*> (own + net.y), n,
               <const floating*> s if weight != NULL else NULL, total, R, <floating*> NULL, 0, own + net.work)
    if training:
        for j in range(k):
            of_output = factor if coordinates.out_scale == NULL else factor * coordinates.out_scale[j]
            for i in range(n):
                slope = R[j * n + i]
                slope = 1e12 if slope > 1e12 else -1e12 if slope < -1e12 else slope
                R[j * n + i] = <floating> (slope * of_output)
        backward(net, theta, w, <const floating*> share, first, n, <const floating*> R)


# ---------------------------------------------------------------------------------------------
# batches
# ---------------------------------------------------------------------------------------------

cdef void pass_batch(
    Shape* net, const floating* X, const Layout* layout, const floating* Y, Py_ssize_t targets, Py_ssize_t m,
    const floating* weight, const Py_ssize_t* order, Py_ssize_t rows, floating* theta,
    Coordinates* coordinates, int loss, const double* params, double factor, bint training,
    double* total, floating* w, Update* update, const floating* scale, floating* state,
    int n_threads,
) noexcept nogil:
    """total (chunks, k) += losses of a batch; in training its gradient, and the update if one is given."""
    cdef Py_ssize_t first = 0, n, c, piece, pieces = 0, l, i, h = net.size[1]
    cdef Inputs inputs = Inputs(NULL, X, layout, order, 0, coordinates.shift, coordinates.scale)
    cdef floating* sums = w + net.entry + h
    cdef bint threads = net.chunks > 1 and n_threads > 1
    for l in range(net.layers):
        pieces += net.pieces[l]
    if layout.sparse:
        bias_of_entry(&inputs, h, <const floating*> theta, <const floating*> theta + net.size[0] * h,
                      w + net.entry)
    while first < rows:
        n = min(net.block, rows - first)
        inputs.first = first
        if not layout.sparse:
            inputs.dense = w + net.a[0]
            if coordinates.scale == NULL and neighbours(order + first, n):
                inputs.dense = X + order[first] * net.size[0]
        for c in prange(net.chunks, schedule="static", num_threads=n_threads, use_threads_if=threads):
            pass_chunk(net, X, Y, targets, m, weight, order + first, <const floating*> theta, theta,
                       coordinates, loss, params, factor, training, &inputs, c, n, total + c * net.k, w)
        if training:
            if layout.sparse:
                memset(sums, 0, h * sizeof(floating))
                for i in range(n):
                    axpy(h, <floating> 1, <const floating*> w + net.d[0] + i * h, sums)
            for piece in prange(pieces, schedule="static", chunksize=1, num_threads=n_threads,
                                use_threads_if=threads):
                weigh_piece(net, piece, &inputs, n, first > 0, first + n == rows, w, update, theta,
                            scale, state)
        first += n


cdef class Network:
    """Layout and buffers of a network: made once for a fit, used by every batch.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units layer by layer, outputs.
    activation : str
        Of the hidden layers; one of ACTIVATION_IDS.
    batch_norm : bool
    biases : bool
    batch_size : int
        Rows of the largest batch.
    dtype : float32 or float64
    sparse : bool
        Whether rows come sparse: then they need no room side by side.
    """

    cdef readonly Py_ssize_t chunks, n_parameters, n_total
    cdef Shape shape
    cdef Py_ssize_t[::1] size_, at_, running_, pieces_, a_, d_, hat_, inverse_
    cdef object work

    @cython.wraparound(True)
    def __init__(self, sizes, activation, bint batch_norm, bint biases, Py_ssize_t batch_size, dtype,
                 bint sparse=False):
        layers, k = len(sizes) - 1, sizes[-1]
        hidden = list(sizes[1:-1])
        lengths = [(sizes[l] + 1) * sizes[l + 1] for l in range(layers)]
        if batch_norm:
            for l, h in enumerate(hidden):
                lengths[l] += 2 * h
        self.at_ = np.cumsum([0] + lengths)[:-1].astype(np.intp)
        self.n_parameters = sum(lengths)
        lengths = [2 * h for h in hidden] if batch_norm else []
        self.running_ = self.n_parameters + np.cumsum([0] + lengths).astype(np.intp)
        self.n_total = self.n_parameters + sum(lengths)

        block = batch_size if batch_norm else min(MAX_BLOCK, batch_size)
        by_rows, by_work = min(max(2, block // 128), block // 8), block * self.n_parameters // CHUNK_WORK
        chunks = max(1, min(MAX_CHUNKS, by_rows, by_work))
        self.chunks = 1 if batch_norm else chunks
        per_chunk = -(-block // self.chunks)
        pairs = zip(sizes[:-1], sizes[1:])
        cut = [max(1, min(MAX_PIECES, max(2, n_in * n_out // PIECE), n_in // 32)) for n_in, n_out in pairs]
        self.pieces_ = np.array(cut if self.chunks > 1 or batch_norm else [1] * layers, dtype=np.intp)

        ends = [0]

        def room(n):
            """Where the next n numbers begin, on a cache line of their own."""
            ends.append(ends[-1] + -(-n // 16) * 16)
            return ends[-2]

        self.shape.gradient = room(self.n_parameters)
        entering = [0 if sparse else sizes[0], *hidden]
        self.a_ = np.array([room(block * h) for h in entering], dtype=np.intp)
        self.d_ = np.array([room(block * h) for h in hidden] + [0], dtype=np.intp)
        kept = hidden if batch_norm else []
        self.hat_ = np.array([room(block * h) for h in kept] + [0], dtype=np.intp)
        self.inverse_ = np.array([room(2 * h) for h in kept] + [0], dtype=np.intp)
        self.shape.entry = room(2 * sizes[1])
        self.shape.own, shared, ends = ends[-1], ends[-1], [0]
        self.shape.z, self.shape.r = room(k * per_chunk), room(k * per_chunk)
        self.shape.y, self.shape.s = room(k * per_chunk), room(per_chunk)
        self.shape.share, self.shape.work = room(per_chunk), room(2 * per_chunk)
        self.shape.chunk = ends[-1]
        self.work = np.empty(shared + self.chunks * ends[-1], dtype)

        self.size_ = np.array(sizes, dtype=np.intp)
        self.shape.layers, self.shape.k, self.shape.block, self.shape.chunks = layers, k, block, self.chunks
        self.shape.n_parameters = self.n_parameters
        self.shape.size, self.shape.at, self.shape.running = &self.size_[0], &self.at_[0], &self.running_[0]
        self.shape.pieces, self.shape.a, self.shape.d = &self.pieces_[0], &self.a_[0], &self.d_[0]
        self.shape.hat, self.shape.inverse = &self.hat_[0], &self.inverse_[0]
        self.shape.activation = ACTIVATION_IDS[activation]
        self.shape.batch_norm, self.shape.biases = batch_norm, biases

    def epoch(
        self, X, const floating[:, ::1] Y, const floating[::1] weight,
        floating[::1] theta, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
        const double[::1] steps, int loss, const double[::1] params, double unit, coordinates,
        const floating[::1] penalised, double l2, double l1, int rule, hyper, floating[:, ::1] state,
        double t, double clip_norm, floating[::1] mean, double[::1] mean_count,
        Py_ssize_t first_averaged, double[::1] norms, int n_threads,
    ):
        """Descent over the rows of `order` in batches, in place.

        Parameters
        ----------
        theta : (n_total,)
            Parameters, and the running statistics of the batch normalisation.
        unit : float
            In which the loss is measured: its gradient is divided by it.
        coordinates : tuple of four arrays of shapes (d,), (d,), (k,), (k,), or None
            Columns are seen as (x - shift) * scale, predictors as z * out_scale + out_shift.
        penalised : (n_total,) or None
            Scale of each weight under the penalty; None for one.
        state : (slots, n_total)
        t : float
            Updates so far.
        norms : (n_layers,)
            Receives the norm of the loss's gradient by layer, in the last batch.

        Returns
        -------
        total : ndarray of shape (k,); one number repeated for the coupled losses
        """
        cdef Py_ssize_t rows = order.shape[0], start = 0, batch = 0, n
        cdef Shape* net = &self.shape
        cdef Layout layout = layout_of(X)
        cdef const floating[:, :] values = values_of(X)
        cdef Update update
        cdef bint apart
        cdef Coordinates seen = Coordinates(NULL, NULL, NULL, NULL)
        cdef const double[::1] shift, scale, out_shift, out_scale
        cdef floating[::1] work = self.work
        cdef floating* w = &work[0]
        cdef floating* state_ = &state[0, 0] if state.shape[0] > 0 else NULL
        cdef const floating* s = NULL
        cdef const floating* scales = NULL
        cdef double[:, ::1] totals = np.zeros((self.chunks, self.shape.k))
        if weight is not None:
            s = &weight[0]
        if penalised is not None:
            scales = &penalised[0]
        if coordinates is not None:
            shift, scale, out_shift, out_scale = coordinates
            seen = Coordinates(&shift[0], &scale[0], &out_shift[0], &out_scale[0])
        update.rule, update.l2, update.l1, update.t, update.slot = rule, l2, l1, t, theta.shape[0]
        update.hyper.momentum, update.hyper.beta_1, update.hyper.beta_2 = hyper
        with nogil:
            while start < rows:
                n = min(batch_size, rows - start)
                update.a = steps[batch]
                update.t += 1
                apart = clip_norm > 0 or start + n == rows
                pass_batch(net, &values[0, 0], &layout, &Y[0, 0], Y.shape[0], Y.shape[1], s, &order[start],
                           n, &theta[0], &seen, loss, &params[0], 1.0 / (n * unit), True, &totals[0, 0], w,
                           NULL if apart else &update, scales, state_, n_threads)
                if apart:
                    update_apart(net, &update, clip_norm, &theta[0], scales, w + net.gradient,
                                 state_, &norms[0])
                if batch >= first_averaged:
                    mean_count[0] += 1
                    add_to_mean(theta.shape[0], <floating> 1, &theta[0], &mean[0], mean_count[0])
                start += n
                batch += 1
        return sums(totals, loss)

    def evaluate(
        self, X, const floating[:, ::1] Y, const floating[::1] weight,
        floating[::1] theta, const Py_ssize_t[::1] order, int loss, const double[::1] params,
        coordinates, bint training, int n_threads,
    ):
        """Sum of the losses over the rows of `order`, and in training its gradient.

        With batch normalisation, training is by the statistics of these rows (at most batch_size), which
        the running ones in theta learn of; else predictions are by the running ones.

        Returns
        -------
        total : ndarray of shape (k,); one number repeated for the coupled losses
        gradient : ndarray of shape (n_parameters,), or None
        """
        cdef Shape* net = &self.shape
        cdef Layout layout = layout_of(X)
        cdef const floating[:, :] values = values_of(X)
        cdef Coordinates seen = Coordinates(NULL, NULL, NULL, NULL)
        cdef const double[::1] shift, scale, out_shift, out_scale
        cdef floating[::1] work = self.work
        cdef const floating* s = NULL
        cdef double[:, ::1] totals = np.zeros((self.chunks, self.shape.k))
        if weight is not None:
            s = &weight[0]
        if coordinates is not None:
            shift, scale, out_shift, out_scale = coordinates
            seen = Coordinates(&shift[0], &scale[0], &out_shift[0], &out_scale[0])
        with nogil:
            pass_batch(net, &values[0, 0], &layout, &Y[0, 0], Y.shape[0], Y.shape[1], s, &order[0],
                       order.shape[0], &theta[0], &seen, loss, &params[0], 1.0, training, &totals[0, 0], &work[0], NULL,
                       <const floating*> NULL, <floating*> NULL, n_threads)
        gradient = np.array(self.work[: self.n_parameters]) if training else None
        return sums(totals, loss), gradient

    def predict(self, X, floating[::1] theta, int n_threads):
        """Predictors of the rows of X by the running statistics, ndarray of shape (m, k)."""
        cdef Py_ssize_t m = X.shape[0], first = 0, n, c
        cdef Shape* net = &self.shape
        cdef Layout layout = layout_of(X)
        cdef const floating[:, :] values = values_of(X)
        cdef Inputs inputs = Inputs(NULL, &values[0, 0], &layout, NULL, 0, NULL, NULL)
        cdef floating[::1] work = self.work
        out = np.empty((m, self.shape.k), self.work.dtype)
        cdef floating[:, ::1] Z = out
        with nogil:
            if layout.sparse:
                bias_of_entry(&inputs, net.size[1], &theta[0], &theta[net.size[0] * net.size[1]],
                              &work[net.entry])
            while first < m:
                n = min(net.block, m - first)
                inputs.first = first
                if not layout.sparse:
                    inputs.dense = &values[first, 0]
                for c in prange(net.chunks, schedule="static", num_threads=n_threads,
                                use_threads_if=net.chunks > 1 and n_threads > 1):
                    predict_chunk(net, &inputs, &theta[0], c, n, &work[0], &Z[first, 0])
                first += n
        return out


cdef void predict_chunk(
    Shape* net, const Inputs* inputs, floating* theta, Py_ssize_t c, Py_ssize_t rows, floating* w,
    floating* out,
) noexcept nogil:
    cdef Py_ssize_t first = c * rows // net.chunks, n = (c + 1) * rows // net.chunks - first, i, j
    cdef floating* Z = w + net.own + c * net.chunk + net.z
    if n == 0:
        return
    forward(net, <const floating*> theta, theta, inputs, w, <const floating*> NULL, first, n, False, Z)
    for i in range(n):
        for j in range(net.k):
            out[(first + i) * net.k + j] = Z[j * n + i]


cdef sums(double[:, ::1] totals, int loss):
    """Losses by output, the chunks added in order."""
    total = np.add.reduce(totals, axis=0)
    if loss >= SOFTMAX_LOG_LOSS:
        total[:] = total[0]
    return total


# ---------------------------------------------------------------------------------------------
# the products by themselves, for tests of them
# ---------------------------------------------------------------------------------------------

def add_product(
    const floating[:, ::1] A, const floating[:, ::1] B, floating[:, ::1] C, bint transpose_a,
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint add,
):
    """C[:m, :n] (+)= op(A)[:m, :k] B[:k, :n], by our own kernel whatever the size."""
    with nogil:
        own_product(transpose_a, m, n, k, &A[0, 0], A.shape[1], &B[0, 0], B.shape[1], add, &C[0, 0],
                    C.shape[1])


def descend_by_product(
    const floating[:, ::1] A, const floating[:, ::1] B, floating[:, ::1] C, bint transpose_a,
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double rate, double l2,
):
    """C[:m, :n] -= rate (op(A)[:m, :k] B[:k, :n] + l2 C[:m, :n])."""
    with nogil:
        descend(transpose_a, m, n, k, &A[0, 0], A.shape[1], &B[0, 0], B.shape[1], <floating> rate,
                <floating> l2, &C[0, 0], C.shape[1])
