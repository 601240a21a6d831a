"""Networks of dense layers: a batch forward and backward, and epochs of batches.

In: X (m, d) with contiguous rows, targets Y (targets, m) as for linear models, and all parameters in one
array theta (p,), changed in place. Layer l maps size[l] numbers to size[l + 1]; its part of theta is W
(size[l], size[l + 1]) and b, followed by scale and shift of the batch normalisation where there is one.
Behind the parameters lie the running means and variances, which predictions use. An epoch knows no
schedule, no random numbers and no stopping rule. Out: sums of losses, in double.

A batch is cut into chunks, a number that depends on shapes alone, each with buffers and a gradient of its
own, which are added up in order: the result does not depend on how many threads did the work. Batch
normalisation needs the batch as a whole: it is one chunk then.
"""

import numpy as np

cimport cython
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from activations cimport ACTIVATIONS, N_ACTIVATIONS, activate, differentiate
from losses cimport SOFTMAX_LOG_LOSS, gather, loss_block
from products cimport product
from simd cimport axpy, dot
from updates cimport ADAMW, Hyper, add_to_mean, apply_rule, smallest_subgradient

ACTIVATION_IDS = {ACTIVATIONS[i].name.decode(): i for i in range(N_ACTIVATIONS)}

cdef enum:
    MAX_BLOCK = 256  # rows that are carried through the layers together
    MAX_CHUNKS = 8
    CHUNK_WORK = 1000000  # multiplications that are worth a thread
    PIECE = 4096  # parameters that are updated together

cdef double VARIANCE_FLOOR = 1e-5  # of batch normalisation, as in torch
cdef double RUNNING_SHARE = 0.1  # of the last batch in the running mean and variance


cdef struct Shape:
    Py_ssize_t layers  # weight matrices: hidden layers + 1
    Py_ssize_t k, n_parameters, block
    const Py_ssize_t* size
    const Py_ssize_t* at  # where in theta each layer begins
    const Py_ssize_t* running  # where in theta the running means of each hidden layer begin
    # where in a chunk's buffer everything begins: what enters each layer; normalised values and the
    # inverse deviations of each hidden layer; the rest
    const Py_ssize_t* a
    const Py_ssize_t* hat
    const Py_ssize_t* inverse
    Py_ssize_t z, r, y, s, share, work, d0, d1, gradient
    int activation
    bint batch_norm, biases


cdef struct Coordinates:
    # columns as (x - shift) * scale, the predictor as z * out_scale + out_shift; NULL for as they are
    const double* shift
    const double* scale
    const double* out_shift
    const double* out_scale


# ---------------------------------------------------------------------------------------------
# layers
# ---------------------------------------------------------------------------------------------

cdef void normalise(
    Shape* net, Py_ssize_t l, const floating* scale, floating* running, floating* w, Py_ssize_t n,
    bint training,
) noexcept nogil:
    """z <- scale * (z - mean) / sqrt(variance + floor) + shift, over the batch (Ioffe & Szegedy 2015)."""
    cdef Py_ssize_t h = net.size[l + 1], i, j
    cdef floating* Z = w + net.a[l + 1]
    cdef floating* hat = w + net.hat[l]
    cdef floating* inverse = w + net.inverse[l]
    cdef floating* mean = inverse + h
    cdef const floating* share = w + net.share
    cdef const floating* shift = scale + h
    cdef double unbiased = n / <double> (n - 1) if n > 1 else 1.0
    if training:
        memset(inverse, 0, 2 * h * sizeof(floating))
        for i in range(n):
            axpy(h, share[i], Z + i * h, mean)
        for i in range(n):
            for j in range(h):
                inverse[j] += share[i] * (Z[i * h + j] - mean[j]) * (Z[i * h + j] - mean[j])
        for j in range(h):
            running[j] += <floating> (RUNNING_SHARE * (mean[j] - running[j]))
            running[h + j] += <floating> (RUNNING_SHARE * (unbiased * inverse[j] - running[h + j]))
    else:
        memcpy(mean, running, h * sizeof(floating))
        memcpy(inverse, running + h, h * sizeof(floating))
    for j in range(h):
        inverse[j] = <floating> (1 / sqrt(inverse[j] + VARIANCE_FLOOR))
    for i in range(n):
        for j in range(h):
            hat[i * h + j] = (Z[i * h + j] - mean[j]) * inverse[j]
            Z[i * h + j] = scale[j] * hat[i * h + j] + shift[j]


cdef void normalise_back(
    Shape* net, Py_ssize_t l, const floating* scale, floating* w, Py_ssize_t n, floating* D,
    floating* dscale,
) noexcept nogil:
    """The gradient before the normalisation from D, the one after it; mean and variance depend on all rows."""
    cdef Py_ssize_t h = net.size[l + 1], i, j
    cdef const floating* hat = w + net.hat[l]
    cdef const floating* inverse = w + net.inverse[l]
    cdef const floating* share = w + net.share
    cdef floating* dshift = dscale + h
    memset(dscale, 0, 2 * h * sizeof(floating))
    for i in range(n):
        for j in range(h):
            dscale[j] += D[i * h + j] * hat[i * h + j]
            dshift[j] += D[i * h + j]
    for i in range(n):
        for j in range(h):
            D[i * h + j] = scale[j] * inverse[j] * (
                D[i * h + j] - share[i] * (dshift[j] + hat[i * h + j] * dscale[j])
            )


cdef const floating* forward(
    Shape* net, const floating* theta, floating* running, const floating* inputs, floating* w,
    Py_ssize_t n, bint training,
) noexcept nogil:
    """From n rows of inputs (n, d) to the predictors (k, n), output-major as the losses want them."""
    cdef Py_ssize_t l, i, c, fan_in, h, last = net.layers - 1
    cdef const floating* A = inputs
    cdef const floating* W
    cdef const floating* b
    cdef floating* Z
    for l in range(last):
        fan_in, h = net.size[l], net.size[l + 1]
        W = theta + net.at[l]
        b = W + fan_in * h
        Z = w + net.a[l + 1]
        for i in range(n):
            memcpy(Z + i * h, b, h * sizeof(floating))
        product(False, False, n, h, fan_in, A, fan_in, W, h, True, Z, h)
        if net.batch_norm:
            normalise(net, l, b + h, running + net.running[l], w, n, training)
        activate(net.activation, n * h, <const floating*> Z, Z)
        A = Z
    fan_in = net.size[last]
    W = theta + net.at[last]
    b = W + fan_in * net.k
    Z = w + net.z
    for c in range(net.k):
        for i in range(n):
            Z[c * n + i] = b[c]
    product(True, True, net.k, n, fan_in, W, net.k, A, fan_in, True, Z, n)
    return Z


cdef void backward(
    Shape* net, const floating* theta, const floating* inputs, floating* w, Py_ssize_t n, bint add,
) noexcept nogil:
    """The gradient from the slopes (k, n) of the losses; added to what is there if `add`."""
    cdef Py_ssize_t l, i, c, fan_in, h, last = net.layers - 1
    cdef const floating* R = w + net.r
    cdef const floating* A
    cdef const floating* W
    cdef floating* G
    cdef floating* D = w + net.d0
    cdef floating* before = w + net.d1
    for l in range(last, -1, -1):
        fan_in, h = net.size[l], net.size[l + 1]
        A = <const floating*> (w + net.a[l]) if l > 0 else inputs
        W = theta + net.at[l]
        G = w + net.gradient + net.at[l]
        if l < last:
            differentiate(net.activation, n * h, <const floating*> w + net.a[l + 1], <const floating*> D, D)
            if net.batch_norm:
                normalise_back(net, l, W + fan_in * h + h, w, n, D, G + fan_in * h + h)
        product(True, l == last, fan_in, h, n, A, fan_in,
                R if l == last else <const floating*> D, n if l == last else h, add, G, h)
        G += fan_in * h
        if not add:
            memset(G, 0, h * sizeof(floating))
        if net.biases:
            if l == last:
                for c in range(h):
                    for i in range(n):
                        G[c] += R[c * n + i]
            else:
                for i in range(n):
                    axpy(h, <floating> 1, D + i * h, G)
        if l > 0:
            product(l == last, True, n, fan_in, h, R if l == last else <const floating*> D,
                    n if l == last else h, W, h, False, before, fan_in)
            D, before = before, D


# ---------------------------------------------------------------------------------------------
# batches
# ---------------------------------------------------------------------------------------------

cdef const floating* rows_of(
    const floating* X, Py_ssize_t d, Py_ssize_t ld, const Py_ssize_t* order, Py_ssize_t n,
    Coordinates* coordinates, floating* buffer,
) noexcept nogil:
    """The rows of `order` side by side, in their coordinates; X itself where they lie so already."""
    cdef Py_ssize_t i, j
    cdef const floating* x
    cdef bint neighbours = coordinates.scale == NULL and ld == d
    for i in range(1, n):
        if not neighbours:
            break
        neighbours = order[i] == order[0] + i
    if neighbours:
        return X + order[0] * ld
    for i in range(n):
        x = X + order[i] * ld
        if coordinates.scale == NULL:
            memcpy(buffer + i * d, x, d * sizeof(floating))
        else:
            for j in range(d):
                buffer[i * d + j] = <floating> ((x[j] - coordinates.shift[j]) * coordinates.scale[j])
    return buffer


cdef void pass_over_rows(
    Shape* net, const floating* X, Py_ssize_t ld, const floating* Y, Py_ssize_t targets,
    Py_ssize_t m, const floating* weight, const Py_ssize_t* order, Py_ssize_t rows,
    const floating* theta, floating* running, Coordinates* coordinates, int loss,
    const double* params, double factor, bint training, double* total, floating* w,
) noexcept nogil:
    """Sum of the losses, and `factor` times its gradient in training, block by block."""
    cdef Py_ssize_t first = 0, n, i, c, k = net.k
    cdef floating* Z
    cdef floating* R = w + net.r
    cdef floating* y = w + net.y
    cdef floating* s = w + net.s
    cdef floating* share = w + net.share
    cdef const floating* inputs
    cdef double of_output, slope, sum_
    if training and rows == 0:
        memset(w + net.gradient, 0, net.n_parameters * sizeof(floating))
    while first < rows:
        n = min(net.block, rows - first)
        inputs = rows_of(X, net.size[0], ld, order + first, n, coordinates, w + net.a[0])
        gather(Y, targets, m, weight, order + first, n, y, s)
        if net.batch_norm:
            sum_ = 0
            if weight != NULL:
                for i in range(n):
                    sum_ += s[i]
            for i in range(n):
                share[i] = <floating> (s[i] / sum_ if sum_ > 0 else 1.0 / n)
        Z = <floating*> forward(net, theta, running, inputs, w, n, training)
        if coordinates.out_scale != NULL:
            for c in range(k):
                for i in range(n):
                    Z[c * n + i] = <floating> (Z[c * n + i] * coordinates.out_scale[c] + coordinates.out_shift[c])
        loss_block(loss, params, k, n, <const floating*> Z, <const floating*> y, n,
                   <const floating*> s if weight != NULL else NULL, total, R, <floating*> NULL, 0, w + net.work)
        if training:
            for c in range(k):
                of_output = factor if coordinates.out_scale == NULL else factor * coordinates.out_scale[c]
                for i in range(n):
                    slope = R[c * n + i]
                    slope = 1e12 if slope > 1e12 else -1e12 if slope < -1e12 else slope
                    R[c * n + i] = <floating> (slope * of_output)
            backward(net, theta, inputs, w, n, first > 0)
        first += n


cdef void pass_over_batch(
    Shape* net, Py_ssize_t chunks, const floating* X, Py_ssize_t ld, const floating* Y,
    Py_ssize_t targets, Py_ssize_t m, const floating* weight, const Py_ssize_t* order, Py_ssize_t n,
    const floating* theta, floating* running, Coordinates* coordinates, int loss,
    const double* params, double factor, bint training, double* total, floating* w,
    Py_ssize_t stride, int n_threads,
) noexcept nogil:
    """The rows of a batch in chunks: total (chunks, k), and gradients `stride` apart."""
    cdef Py_ssize_t c
    for c in prange(chunks, schedule="static", num_threads=n_threads,
                    use_threads_if=chunks > 1 and n_threads > 1):
        pass_over_rows(net, X, ld, Y, targets, m, weight, order + c * n // chunks,
                       (c + 1) * n // chunks - c * n // chunks, theta, running, coordinates, loss,
                       params, factor, training, total + c * net.k, w + c * stride)


cdef void combine(
    Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t chunks, floating* w, Py_ssize_t stride,
    const floating* theta, const floating* penalised, double l2, double l1,
) noexcept nogil:
    """Gradient of the batch: the sum over its chunks and the penalty, gathered in the first chunk's."""
    cdef Py_ssize_t j, c
    for c in range(1, chunks):
        for j in range(lo, hi):
            w[j] += w[c * stride + j]
    if l2 != 0:
        for j in range(lo, hi):
            w[j] += <floating> l2 * penalised[j] * penalised[j] * theta[j]
    if l1 != 0:
        for j in range(lo, hi):
            w[j] = smallest_subgradient(theta[j], w[j], <floating> l1 * penalised[j])


cdef void step(
    Py_ssize_t lo, Py_ssize_t hi, int rule, Hyper* hyper, floating* theta, const floating* gradient,
    floating* state, Py_ssize_t stride, const floating* penalised, double l2, double l1, double a,
    double t,
) noexcept nogil:
    """Update number t of a piece of theta; with L1, a parameter stops where it would change sign."""
    cdef Py_ssize_t j, first
    cdef floating old[PIECE]
    if rule == ADAMW and l2 != 0:
        for j in range(lo, hi):
            theta[j] *= <floating> (1 - a * l2) if penalised[j] > 0 else 1
    if l1 != 0:
        memcpy(old, theta + lo, (hi - lo) * sizeof(floating))
    apply_rule(rule, hyper, hi - lo, theta + lo, gradient + lo, state + lo if state != NULL else NULL,
               stride, a, t)
    if l1 != 0:
        for j in range(lo, hi):
            if penalised[j] > 0 and old[j - lo] * theta[j] < 0:
                theta[j] = 0


cdef void step_all(
    Py_ssize_t p, bint combined, Py_ssize_t chunks, floating* gradient, Py_ssize_t stride, int rule,
    Hyper* hyper, floating* theta, floating* state, Py_ssize_t slot, const floating* penalised,
    double decay, double l2, double l1, double a, double t, int n_threads,
) noexcept nogil:
    """Update all parameters, a piece at a time; first combine the chunks' gradients where that is to do."""
    cdef Py_ssize_t piece, pieces = (p + PIECE - 1) // PIECE
    for piece in prange(pieces, schedule="static", num_threads=n_threads,
                        use_threads_if=chunks > 1 and n_threads > 1):
        if not combined:
            combine(piece * PIECE, min(p, (piece + 1) * PIECE), chunks, gradient, stride,
                    <const floating*> theta, penalised, decay, l1)
        step(piece * PIECE, min(p, (piece + 1) * PIECE), rule, hyper, theta, <const floating*> gradient,
             state, slot, penalised, l2, l1, a, t)


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
    """

    cdef readonly Py_ssize_t chunks, n_parameters, n_total
    cdef readonly list sizes
    cdef readonly object at, running_at
    cdef Shape shape
    cdef Py_ssize_t[::1] size_, at_, running_, a_, hat_, inverse_
    cdef object work

    @cython.wraparound(True)
    def __init__(self, sizes, activation, bint batch_norm, bint biases, Py_ssize_t batch_size, dtype):
        layers, k = len(sizes) - 1, sizes[-1]
        self.sizes = list(sizes)
        per_output = [1 + 2 * (batch_norm and l < layers - 1) for l in range(layers)]
        lengths = [sizes[l] * sizes[l + 1] + per_output[l] * sizes[l + 1] for l in range(layers)]
        self.at = np.cumsum([0] + lengths)[:-1].astype(np.intp)
        self.n_parameters = sum(lengths)
        lengths = [2 * h for h in sizes[1:-1]] if batch_norm else []
        self.running_at = self.n_parameters + np.cumsum([0] + lengths).astype(np.intp)
        self.n_total = self.n_parameters + sum(lengths)
        if batch_norm:
            self.chunks = 1
        else:
            work = batch_size * self.n_parameters * 3
            self.chunks = max(1, min(MAX_CHUNKS, max(2, batch_size // 128), work // CHUNK_WORK, batch_size // 8))
        cdef Py_ssize_t block = batch_size if batch_norm else min(MAX_BLOCK, -(-batch_size // self.chunks))

        ends = [0]

        def room(n):
            """Where the next n numbers of a chunk's buffer begin, on a cache line of its own."""
            ends.append(ends[-1] + -(-n // 16) * 16)
            return ends[-2]

        widest = max([1] + list(sizes[1:-1]))
        hidden = sizes[1:-1] if batch_norm else []
        self.shape.gradient = room(self.n_parameters)
        self.a_ = np.array([room(block * h) for h in sizes[:-1]], dtype=np.intp)
        self.hat_ = np.array([room(block * h) for h in hidden] or [0], dtype=np.intp)
        self.inverse_ = np.array([room(2 * h) for h in hidden] or [0], dtype=np.intp)
        self.shape.z, self.shape.r, self.shape.y = room(k * block), room(k * block), room(k * block)
        self.shape.s, self.shape.share, self.shape.work = room(block), room(block), room(2 * block)
        self.shape.d0, self.shape.d1 = room(block * widest), room(block * widest)
        self.work = np.empty((self.chunks, ends[-1] + 16), dtype)

        self.size_ = np.array(sizes, dtype=np.intp)
        self.at_, self.running_ = self.at, self.running_at
        self.shape.layers, self.shape.k, self.shape.block = layers, k, block
        self.shape.n_parameters = self.n_parameters
        self.shape.size, self.shape.at, self.shape.running = &self.size_[0], &self.at_[0], &self.running_[0]
        self.shape.a, self.shape.hat, self.shape.inverse = &self.a_[0], &self.hat_[0], &self.inverse_[0]
        self.shape.activation = ACTIVATION_IDS[activation]
        self.shape.batch_norm, self.shape.biases = batch_norm, biases

    def epoch(
        self, const floating[:, ::1] X, const floating[:, ::1] Y, const floating[::1] weight,
        floating[::1] theta, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
        const double[::1] steps, int loss, const double[::1] params, coordinates,
        const floating[::1] penalised, double l2, double l1, int rule, hyper, floating[:, ::1] state,
        double t, double clip_norm, floating[::1] mean, double[::1] mean_count,
        Py_ssize_t first_averaged, double[::1] norms, int n_threads,
    ):
        """Descent over the rows of `order` in batches, in place.

        Parameters
        ----------
        theta : (n_total,)
            Parameters, and the running statistics of the batch normalisation.
        coordinates : tuple of four arrays of shapes (d,), (d,), (k,), (k,), or None
            Columns are seen as (x - shift) * scale, predictors as z * out_scale + out_shift.
        penalised : (n_total,)
            Scale of each weight under the penalty, 0 for those without.
        state : (slots, n_total)
        t : float
            Updates so far.
        norms : (n_layers,)
            Receives the gradient's norm by layer, in the last batch.

        Returns
        -------
        total : ndarray of shape (k,); one number repeated for the coupled losses
        """
        cdef Py_ssize_t m = X.shape[0], rows = order.shape[0], start = 0, batch = 0, n, j, l
        cdef Py_ssize_t p = self.n_parameters, chunks = self.chunks, slot = theta.shape[0]
        cdef Shape* net = &self.shape
        cdef Hyper hyper_
        cdef Coordinates seen = Coordinates(NULL, NULL, NULL, NULL)
        cdef const double[::1] shift, scale, out_shift, out_scale
        cdef floating[:, ::1] work = self.work
        cdef Py_ssize_t stride = work.shape[1]
        cdef floating* w = &work[0, 0]
        cdef floating* gradient = w + net.gradient
        cdef floating* state_ = &state[0, 0] if state.shape[0] > 0 else NULL
        cdef const floating* s = NULL
        cdef const floating* x = &X[0, 0]
        cdef double[:, ::1] totals = np.zeros((chunks, self.shape.k))
        cdef double a, norm, decay = 0 if rule == ADAMW else l2
        if weight is not None:
            s = &weight[0]
        if coordinates is not None:
            shift, scale, out_shift, out_scale = coordinates
            seen = Coordinates(&shift[0], &scale[0], &out_shift[0], &out_scale[0])
        hyper_.momentum, hyper_.beta_1, hyper_.beta_2 = hyper
        with nogil:
            while start < rows:
                n = min(batch_size, rows - start)
                a = steps[batch]
                t += 1
                pass_over_batch(net, chunks, x, X.shape[1], &Y[0, 0], Y.shape[0], m, s, &order[start], n,
                                &theta[0], &theta[0], &seen, loss, &params[0], 1.0 / n, True,
                                &totals[0, 0], w, stride, n_threads)
                if clip_norm > 0 or start + n == rows:
                    combine(0, p, chunks, gradient, stride, &theta[0], &penalised[0], decay, l1)
                    norm = 0
                    for l in range(net.layers):
                        j = net.at[l]
                        norms[l] = dot((net.at[l + 1] if l + 1 < net.layers else p) - j, gradient + j, gradient + j)
                        norm += norms[l]
                        norms[l] = sqrt(norms[l])
                    if clip_norm > 0 and sqrt(norm) > clip_norm:
                        for j in range(p):
                            gradient[j] *= <floating> (clip_norm / (sqrt(norm) + 1e-6))  # as in torch.nn.utils
                step_all(p, clip_norm > 0 or start + n == rows, chunks, gradient, stride, rule,
                         &hyper_, &theta[0], state_, slot, &penalised[0], decay, l2, l1, a, t, n_threads)
                if batch >= first_averaged:
                    mean_count[0] += 1
                    add_to_mean(slot, <floating> 1, &theta[0], &mean[0], mean_count[0])
                start += n
                batch += 1
        return sums(totals, loss)

    def evaluate(
        self, const floating[:, ::1] X, const floating[:, ::1] Y, const floating[::1] weight,
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
        cdef Coordinates seen = Coordinates(NULL, NULL, NULL, NULL)
        cdef const double[::1] shift, scale, out_shift, out_scale
        cdef floating[:, ::1] work = self.work
        cdef floating* w = &work[0, 0]
        cdef const floating* s = NULL
        cdef const floating* x = &X[0, 0]
        cdef double[:, ::1] totals = np.zeros((self.chunks, self.shape.k))
        if weight is not None:
            s = &weight[0]
        if coordinates is not None:
            shift, scale, out_shift, out_scale = coordinates
            seen = Coordinates(&shift[0], &scale[0], &out_shift[0], &out_scale[0])
        with nogil:
            pass_over_batch(net, self.chunks, x, X.shape[1], &Y[0, 0], Y.shape[0], X.shape[0], s, &order[0],
                            order.shape[0], &theta[0], &theta[0], &seen, loss, &params[0], 1.0,
                            training, &totals[0, 0], w, work.shape[1], n_threads)
        if not training:
            return sums(totals, loss), None
        return sums(totals, loss), self.work[:, : self.n_parameters].sum(axis=0)

    def predict(self, const floating[:, ::1] X, floating[::1] theta, int n_threads):
        """Predictors of the rows of X by the running statistics, ndarray of shape (m, k)."""
        cdef Py_ssize_t m = X.shape[0], block = self.shape.block, k = self.shape.k, chunks = self.chunks
        cdef Shape* net = &self.shape
        cdef floating[:, ::1] work = self.work
        cdef floating* w = &work[0, 0]
        cdef Py_ssize_t stride = work.shape[1], c
        out = np.empty((m, k), self.work.dtype)
        cdef floating[:, ::1] Z = out
        with nogil:
            for c in prange(chunks, schedule="static", num_threads=n_threads,
                            use_threads_if=chunks > 1 and n_threads > 1):
                predict_rows(net, &X[0, 0] + c * m // chunks * X.shape[1],
                             (c + 1) * m // chunks - c * m // chunks, &theta[0], &theta[0],
                             w + c * stride, &Z[0, 0] + c * m // chunks * k)
        return out


cdef void predict_rows(
    Shape* net, const floating* X, Py_ssize_t rows, const floating* theta, floating* running,
    floating* w, floating* out,
) noexcept nogil:
    cdef Py_ssize_t first = 0, n, i, c, k = net.k
    cdef const floating* Z
    while first < rows:
        n = min(net.block, rows - first)
        Z = forward(net, theta, running, X + first * net.size[0], w, n, False)
        for i in range(n):
            for c in range(k):
                out[(first + i) * k + c] = Z[c * n + i]
        first += n


cdef sums(double[:, ::1] totals, int loss):
    """Losses by output, the chunks added in order."""
    total = np.add.reduce(totals, axis=0)
    if loss >= SOFTMAX_LOG_LOSS:
        total[:] = total[0]
    return total
