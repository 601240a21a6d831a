"""The layers of a network: rows forward and backward.

Layer l maps size[l] numbers to size[l + 1]; its part of theta is W (size[l], size[l + 1]) and b, followed by
scale and shift of the batch normalisation where there is one. What the rows of a batch leave on their way
(activations, gradients before them) is kept in one buffer, laid out by `Shape`.
"""

from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from activations cimport activate, differentiate
from products cimport product
from rows cimport Layout, row_at
from simd cimport axpy

cdef extern from *:
    """
    static const double VARIANCE_FLOOR = 1e-5; /* of batch normalisation, as in torch */
    static const double RUNNING_SHARE = 0.1; /* of the last batch in the running mean and variance */
    """
    const double VARIANCE_FLOOR, RUNNING_SHARE


cdef struct Shape:
    Py_ssize_t layers  # weight matrices: hidden layers + 1
    Py_ssize_t k, n_parameters, block, chunks
    const Py_ssize_t* size
    const Py_ssize_t* at  # where in theta each layer begins
    const Py_ssize_t* running  # where in theta the running means of each hidden layer begin
    const Py_ssize_t* pieces  # into how many each layer's weights are cut
    # where in the buffer everything begins: what enters each layer, the gradient before each hidden
    # activation, normalised values and inverse deviations of each hidden layer; then what each chunk
    # has of its own, `chunk` apart
    const Py_ssize_t* a
    const Py_ssize_t* d
    const Py_ssize_t* hat
    const Py_ssize_t* inverse
    Py_ssize_t gradient, own, chunk, z, r, y, s, share, work
    Py_ssize_t entry  # biases of the first layer for sparse rows as they are, and sums of its D
    int activation
    bint batch_norm, biases


cdef struct Inputs:
    # what enters the first layer: rows side by side, or sparse ones where they are
    const void* dense
    const void* sparse
    const Layout* rows
    const Py_ssize_t* order  # row i is order[first + i], or first + i where there is none
    Py_ssize_t first
    # columns of sparse rows are seen as (x - shift) * scale; NULL for as they are
    const double* shift
    const double* scale


cdef inline void bias_of_entry(
    const Inputs* inputs, Py_ssize_t h, const floating* W, const floating* b, floating* out,
) noexcept nogil:
    """out (h,) = b - (shift * scale) W: what the first layer adds to sparse rows as they are."""
    cdef Py_ssize_t j
    memcpy(out, b, h * sizeof(floating))
    if inputs.scale != NULL:
        for j in range(inputs.rows.d):
            if inputs.shift[j] != 0:
                axpy(h, <floating> (-inputs.shift[j] * inputs.scale[j]), W + j * h, out)


cdef inline void enter_sparse(
    const Inputs* inputs, Py_ssize_t first, Py_ssize_t n, Py_ssize_t h, const floating* W, floating* Z,
) noexcept nogil:
    """Z (n, h) += X W for n rows of a batch."""
    cdef Py_ssize_t i, p, j, row
    cdef const floating* x = <const floating*> inputs.sparse
    for i in range(n):
        row = row_at(inputs.order, inputs.first + first + i)
        for p in range(inputs.rows.begin[row], inputs.rows.begin[row + 1]):
            j = inputs.rows.at[p]
            axpy(h, <floating> (x[p] * (1 if inputs.scale == NULL else inputs.scale[j])), W + j * h, Z + i * h)


cdef inline void normalise(
    Shape* net, Py_ssize_t l, const floating* scale, floating* running, floating* w,
    const floating* share, Py_ssize_t n, bint training,
) noexcept nogil:
    """z <- scale * (z - mean) / sqrt(variance + floor) + shift, over the batch (Ioffe & Szegedy 2015).

    share: weights of the rows in mean and variance, which add up to one.
    """
    cdef Py_ssize_t h = net.size[l + 1], i, j, counted = 0
    cdef floating* Z = w + net.a[l + 1]
    cdef floating* hat = w + net.hat[l]
    cdef floating* inverse = w + net.inverse[l]
    cdef floating* mean = inverse + h
    cdef const floating* shift = scale + h
    cdef double unbiased = 1
    if training:
        for i in range(n):
            counted += share[i] > 0
        if counted > 1:
            unbiased = counted / <double> (counted - 1)
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


cdef inline void normalise_back(
    Shape* net, Py_ssize_t l, const floating* scale, floating* w, const floating* share,
    Py_ssize_t n, floating* D, floating* dscale,
) noexcept nogil:
    """From D, the gradient after the normalisation, that before it; mean and variance depend on all rows."""
    cdef Py_ssize_t h = net.size[l + 1], i, j
    cdef const floating* hat = w + net.hat[l]
    cdef const floating* inverse = w + net.inverse[l]
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


cdef inline void forward(
    Shape* net, const floating* theta, floating* running, const Inputs* inputs, floating* w,
    const floating* share, Py_ssize_t first, Py_ssize_t n, bint training, floating* Z,
) noexcept nogil:
    """From rows first .. first + n of a batch to predictors Z (k, n), output-major as the losses want them.

    Activations are kept as the same rows of the batch's.
    """
    cdef Py_ssize_t l, i, c, fan_in, h, last = net.layers - 1
    cdef const floating* A = <const floating*> inputs.dense + first * net.size[0]
    cdef const floating* W
    cdef const floating* b
    cdef const floating* begin
    cdef floating* out
    cdef bint sparse
    for l in range(last):
        fan_in, h = net.size[l], net.size[l + 1]
        W = theta + net.at[l]
        b = W + fan_in * h
        out = w + net.a[l + 1] + first * h
        sparse = l == 0 and inputs.rows.sparse
        begin = <const floating*> (w + net.entry) if sparse else b
        for i in range(n):
            memcpy(out + i * h, begin, h * sizeof(floating))
        if sparse:
            enter_sparse(inputs, first, n, h, W, out)
        else:
            product(False, False, n, h, fan_in, A, fan_in, W, h, True, out, h)
        if net.batch_norm:
            normalise(net, l, b + h, running + net.running[l], w, share, n, training)
        activate(net.activation, n * h, <const floating*> out, out)
        A = out
    fan_in = net.size[last]
    W = theta + net.at[last]
    b = W + fan_in * net.k
    for c in range(net.k):
        for i in range(n):
            Z[c * n + i] = b[c]
    product(True, True, net.k, n, fan_in, W, net.k, A, fan_in, True, Z, n)


cdef inline void backward(
    Shape* net, const floating* theta, floating* w, const floating* share, Py_ssize_t first,
    Py_ssize_t n, const floating* R,
) noexcept nogil:
    """From the slopes R (k, n) of the losses to the gradient D before each hidden activation."""
    cdef Py_ssize_t l, h, after, last = net.layers - 1
    cdef const floating* W
    cdef floating* D
    cdef const floating* next = NULL
    for l in range(last - 1, -1, -1):
        h, after = net.size[l + 1], net.size[l + 2]
        W = theta + net.at[l + 1]
        D = w + net.d[l] + first * h
        if l == last - 1:
            product(True, True, n, h, after, R, n, W, after, False, D, h)
        else:
            product(False, True, n, h, after, next, after, W, after, False, D, h)
        differentiate(net.activation, n * h, <const floating*> (w + net.a[l + 1] + first * h),
                      <const floating*> D, D)
        if net.batch_norm:
            W = theta + net.at[l] + (net.size[l] + 1) * h
            normalise_back(net, l, W, w, share, n, D, w + net.gradient + net.at[l] + (net.size[l] + 1) * h)
        next = <const floating*> D
