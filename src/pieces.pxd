"""The weights of a network piece by piece: gradient, penalty and update.

A piece is some rows of the weights of a layer; with the last of them goes what follows the weights in theta: the
biases, and scale and shift of the batch normalisation. No two pieces add to the same number.
"""

from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from layers cimport Inputs, Shape
from products cimport descend, gemm_pays, product
from rows cimport row_at
from simd cimport axpy, dot
from updates cimport ADAMW, GD, Hyper, apply_rule, smallest_subgradient


cdef inline Py_ssize_t begin_of_piece(Shape* net, Py_ssize_t l, Py_ssize_t piece) noexcept nogil:
    """Rows of W are shared out; what follows W belongs to the last piece."""
    return piece * net.size[l] // net.pieces[l]


cdef inline Py_ssize_t end_of_piece(Shape* net, Py_ssize_t l, Py_ssize_t piece) noexcept nogil:
    """In theta, of a piece and of what belongs to it behind the weights."""
    if piece < net.pieces[l] - 1:
        return net.at[l] + begin_of_piece(net, l, piece + 1) * net.size[l + 1]
    return net.at[l + 1] if l < net.layers - 1 else net.n_parameters


cdef inline void gradient_of_sparse(
    const Inputs* inputs, Py_ssize_t n, Py_ssize_t h, Py_ssize_t lo, Py_ssize_t hi, const floating* D,
    const floating* sums, floating* G,
) noexcept nogil:
    """Rows lo .. hi of G (d, h) += X^T D over the n rows of a batch; sums (h,): of D."""
    cdef Py_ssize_t i, p, j, row
    cdef const floating* x = <const floating*> inputs.sparse
    for i in range(n):
        row = row_at(inputs.order, inputs.first + i)
        for p in range(inputs.rows.begin[row], inputs.rows.begin[row + 1]):
            j = inputs.rows.at[p]
            if j >= hi:  # columns are sorted
                break
            if j >= lo:
                axpy(h, <floating> (x[p] * (1 if inputs.scale == NULL else inputs.scale[j])), D + i * h,
                     G + j * h)
    if inputs.scale != NULL:
        for j in range(lo, hi):
            if inputs.shift[j] != 0:
                axpy(h, <floating> (-inputs.shift[j] * inputs.scale[j]), sums, G + j * h)


cdef inline void gradient_of_biases(
    Shape* net, Py_ssize_t l, Py_ssize_t rows, bint add, floating* w,
) noexcept nogil:
    """db: D summed over the rows of a batch, added to what is there if `add`."""
    cdef Py_ssize_t h = net.size[l + 1], i, j, c, n
    cdef const floating* D = w + net.d[l]
    cdef floating* db = w + net.gradient + net.at[l] + net.size[l] * h
    if not add:
        memset(db, 0, h * sizeof(floating))
    if not net.biases:
        return
    if l < net.layers - 1:
        for i in range(rows):
            axpy(h, <floating> 1, D + i * h, db)
        return
    for c in range(net.chunks):  # the slopes lie chunk by chunk
        n = (c + 1) * rows // net.chunks - c * rows // net.chunks
        D = w + net.own + c * net.chunk + net.r
        for j in range(h):
            for i in range(n):
                db[j] += D[j * n + i]


cdef inline void gradient_of_piece(
    Shape* net, Py_ssize_t l, Py_ssize_t piece, const Inputs* inputs, Py_ssize_t rows, bint add,
    floating* w,
) noexcept nogil:
    """dW = A^T D for some rows of W, and with the last of them db; added to what is there if `add`."""
    cdef Py_ssize_t fan_in = net.size[l], h = net.size[l + 1], lo = begin_of_piece(net, l, piece)
    cdef Py_ssize_t hi = begin_of_piece(net, l, piece + 1), c, first, n
    cdef const floating* A = <const floating*> (w + net.a[l]) if l > 0 else <const floating*> inputs.dense
    cdef const floating* D
    cdef floating* G = w + net.gradient + net.at[l]
    if piece == net.pieces[l] - 1:
        gradient_of_biases(net, l, rows, add, w)
    if l < net.layers - 1:
        D = w + net.d[l]
        if l == 0 and inputs.rows.sparse:
            if not add:
                memset(G + lo * h, 0, (hi - lo) * h * sizeof(floating))
            gradient_of_sparse(inputs, rows, h, lo, hi, D, <const floating*> (w + net.entry + h), G)
        else:
            product(True, False, hi - lo, h, rows, A + lo, fan_in, D, h, add, G + lo * h, h)
        return
    for c in range(net.chunks):  # the slopes lie chunk by chunk
        first = c * rows // net.chunks
        n = (c + 1) * rows // net.chunks - first
        if n == 0:
            continue
        D = w + net.own + c * net.chunk + net.r
        product(True, True, hi - lo, h, n, A + first * fan_in + lo, fan_in, D, n, add or first > 0,
                G + lo * h, h)


cdef inline bint descend_on_piece(
    Shape* net, Py_ssize_t l, Py_ssize_t piece, const Inputs* inputs, Py_ssize_t rows, double rate,
    double l2, floating* theta, floating* w,
) noexcept nogil:
    """W <- W - rate (A^T D + l2 W) for some rows of W, unless the product is BLAS's; whether it is done."""
    cdef Py_ssize_t fan_in = net.size[l], h = net.size[l + 1], lo = begin_of_piece(net, l, piece)
    cdef Py_ssize_t n = begin_of_piece(net, l, piece + 1) - lo
    cdef const floating* A = <const floating*> (w + net.a[l]) if l > 0 else <const floating*> inputs.dense
    if l == net.layers - 1 or (l == 0 and inputs.rows.sparse):
        return False
    if not gemm_pays(False, n, h, rows, sizeof(floating)):
        return False
    descend(True, n, h, rows, A + lo, fan_in, <const floating*> (w + net.d[l]), h, <floating> rate,
            <floating> l2, theta + net.at[l] + lo * h, h)
    return True


cdef struct Update:
    # all that a piece needs beside its gradient
    int rule
    Hyper hyper
    double l2, l1, a, t
    Py_ssize_t slot  # distance between the arrays of state


cdef inline void add_penalty(
    Py_ssize_t n, const floating* theta, const floating* scale, double l2, double l1,
    floating* gradient,
) noexcept nogil:
    """Of n weights, each under the penalty as scale * theta; NULL for theta itself."""
    cdef Py_ssize_t j
    if l2 != 0 and scale == NULL:
        axpy(n, <floating> l2, theta, gradient)
    elif l2 != 0:
        for j in range(n):
            gradient[j] += <floating> l2 * scale[j] * scale[j] * theta[j]
    if l1 != 0:
        for j in range(n):
            gradient[j] = smallest_subgradient(theta[j], gradient[j],
                                               <floating> (l1 * (1 if scale == NULL else scale[j])))


cdef inline void update_parameters(
    Update* update, Py_ssize_t n, Py_ssize_t n_weights, floating* theta, const floating* gradient,
    floating* state,
) noexcept nogil:
    """One step of n parameters, the first n_weights of which are penalised.

    With L1, a weight that would change its sign stops at zero.
    """
    cdef Py_ssize_t first = 0, rows, j
    cdef floating old[512]
    if update.rule == ADAMW and update.l2 != 0:
        for j in range(n_weights):
            theta[j] *= <floating> (1 - update.a * update.l2)
    while update.l1 != 0 and first < n_weights:
        rows = min(512, n_weights - first)
        memcpy(old, theta + first, rows * sizeof(floating))
        apply_rule(update.rule, &update.hyper, rows, theta + first, gradient + first,
                   state + first if state != NULL else NULL, update.slot, update.a, update.t)
        for j in range(rows):
            if old[j] * theta[first + j] < 0:
                theta[first + j] = 0
        first += rows
    apply_rule(update.rule, &update.hyper, n - first, theta + first, gradient + first,
               state + first if state != NULL else NULL, update.slot, update.a, update.t)


cdef inline void finish_piece(
    Shape* net, Py_ssize_t l, Py_ssize_t piece, Update* update, bint penalise, bint step,
    floating* theta, const floating* scale, floating* gradient, floating* state,
) noexcept nogil:
    """The penalty's part of a piece's gradient, and its update."""
    cdef Py_ssize_t h = net.size[l + 1], lo = net.at[l] + begin_of_piece(net, l, piece) * h
    cdef Py_ssize_t end = net.at[l] + begin_of_piece(net, l, piece + 1) * h  # of weights
    if penalise:
        add_penalty(end - lo, <const floating*> theta + lo, scale + lo if scale != NULL else NULL,
                    0 if update.rule == ADAMW else update.l2, update.l1, gradient + lo)
    if step:
        update_parameters(update, end_of_piece(net, l, piece) - lo, end - lo, theta + lo,
                          <const floating*> gradient + lo, state + lo if state != NULL else NULL)


cdef inline void weigh_piece(
    Shape* net, Py_ssize_t piece, const Inputs* inputs, Py_ssize_t n, bint add, bint complete,
    floating* w, Update* update, floating* theta, const floating* scale, floating* state,
) noexcept nogil:
    """The gradient of a piece, and its update where this is the last block of a batch.

    A plain step needs no array of the gradient, which would be written and read again.
    """
    cdef Py_ssize_t l = 0, rest
    while piece >= net.pieces[l]:
        piece -= net.pieces[l]
        l += 1
    if (complete and not add and update != NULL and update.rule == GD and update.l1 == 0
            and (update.l2 == 0 or scale == NULL)
            and descend_on_piece(net, l, piece, inputs, n, update.a, update.l2, theta, w)):
        if piece == net.pieces[l] - 1:
            rest = net.at[l] + net.size[l] * net.size[l + 1]  # behind the weights
            gradient_of_biases(net, l, n, False, w)
            update_parameters(update, end_of_piece(net, l, piece) - rest, 0, theta + rest,
                              <const floating*> (w + net.gradient + rest), <floating*> NULL)
        return
    gradient_of_piece(net, l, piece, inputs, n, add, w)
    if complete and update != NULL:
        finish_piece(net, l, piece, update, True, True, theta, scale, w + net.gradient, state)


cdef inline void norms_of_layers(Shape* net, const floating* gradient, double* norms) noexcept nogil:
    cdef Py_ssize_t l, end
    for l in range(net.layers):
        end = net.at[l + 1] if l < net.layers - 1 else net.n_parameters
        norms[l] = sqrt(dot(end - net.at[l], gradient + net.at[l], gradient + net.at[l]))


cdef inline void update_apart(
    Shape* net, Update* update, double clip_norm, floating* theta, const floating* scale,
    floating* gradient, floating* state, double* norms,
) noexcept nogil:
    """The norms of the layers' gradients; the penalty; the norm of the whole, clipped; then the update."""
    cdef Py_ssize_t j, l, piece
    cdef double norm
    norms_of_layers(net, <const floating*> gradient, norms)
    for l in range(net.layers):
        for piece in range(net.pieces[l]):
            finish_piece(net, l, piece, update, True, False, theta, scale, gradient, state)
    if clip_norm > 0:
        norm = sqrt(dot(net.n_parameters, <const floating*> gradient, <const floating*> gradient))
        if norm > clip_norm:
            for j in range(net.n_parameters):
                gradient[j] *= <floating> (clip_norm / (norm + 1e-6))  # as in torch.nn.utils
    for l in range(net.layers):
        for piece in range(net.pieces[l]):
            finish_piece(net, l, piece, update, False, True, theta, scale, gradient, state)
