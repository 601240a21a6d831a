"""How a gradient becomes a step: one function per update rule, in place, over a flat array.

w are the parameters, g the gradient, a the step size, t = 1, 2, ... the number of the update. The
state of a rule (momentum, squared gradients) is an array of the caller's that starts at zero; its
number of rows stands beside the rule's name in fastgd/_optimizers.py. Conventions of constants and
of the order of operations are those of torch.optim.
"""

from cython cimport floating
from libc.math cimport fabs, pow, sqrt, sqrtf

cdef enum Rule:
    GD = 0
    MOMENTUM = 1
    NESTEROV = 2
    ADAGRAD = 3
    RMSPROP = 4
    ADAM = 5
    ADAMW = 6

cdef struct Hyper:
    double momentum
    double beta_1
    double beta_2


cdef inline floating root(floating x) noexcept nogil:
    if floating is double:
        return sqrt(x)
    else:
        return sqrtf(x)


cdef inline void gd(Py_ssize_t n, floating* w, const floating* g, floating a) noexcept nogil:
    """w <- w - a g"""
    cdef Py_ssize_t j
    for j in range(n):
        w[j] -= a * g[j]


cdef inline void momentum(Py_ssize_t n, floating* w, const floating* g, floating* v, floating a,
                          floating mu) noexcept nogil:
    """v <- mu v + g; w <- w - a v (Polyak 1964)"""
    cdef Py_ssize_t j
    for j in range(n):
        v[j] = mu * v[j] + g[j]
        w[j] -= a * v[j]


cdef inline void nesterov(Py_ssize_t n, floating* w, const floating* g, floating* v, floating a,
                          floating mu) noexcept nogil:
    """v <- mu v + g; w <- w - a (g + mu v) (Nesterov 1983, as in Sutskever et al. 2013)"""
    cdef Py_ssize_t j
    for j in range(n):
        v[j] = mu * v[j] + g[j]
        w[j] -= a * (g[j] + mu * v[j])


cdef inline void adagrad(Py_ssize_t n, floating* w, const floating* g, floating* s,
                         floating a) noexcept nogil:
    """s <- s + g^2; w <- w - a g / sqrt(s) (Duchi, Hazan & Singer 2011)"""
    cdef Py_ssize_t j
    for j in range(n):
        s[j] += g[j] * g[j]
        w[j] -= a * g[j] / (root(s[j]) + <floating> 1e-10)


cdef inline void rmsprop(Py_ssize_t n, floating* w, const floating* g, floating* s, floating a,
                         floating rho) noexcept nogil:
    """s <- rho s + (1 - rho) g^2; w <- w - a g / sqrt(s) (Tieleman & Hinton 2012)"""
    cdef Py_ssize_t j
    for j in range(n):
        s[j] = rho * s[j] + (1 - rho) * g[j] * g[j]
        w[j] -= a * g[j] / (root(s[j]) + <floating> 1e-8)


cdef inline void adam(Py_ssize_t n, floating* w, const floating* g, floating* m, floating* s,
                      double a, double beta_1, double beta_2, double t) noexcept nogil:
    """m, s <- running means of g, g^2; w <- w - a m^ / sqrt(s^) (Kingma & Ba 2015)"""
    cdef Py_ssize_t j
    cdef floating b1 = beta_1, b2 = beta_2
    cdef floating c1 = 1 - beta_1, c2 = 1 - beta_2
    cdef floating step = a / (1 - pow(beta_1, t))
    cdef floating correction = sqrt(1 - pow(beta_2, t))
    for j in range(n):
        m[j] = b1 * m[j] + c1 * g[j]
        s[j] = b2 * s[j] + c2 * g[j] * g[j]
        w[j] -= step * m[j] / (root(s[j]) / correction + <floating> 1e-8)


cdef inline void apply_rule(int rule, Hyper* hyper, Py_ssize_t n, floating* w, const floating* g,
                            floating* state, Py_ssize_t stride, double a, double t) noexcept nogil:
    """One update of w by the rule, whose slots of state are `stride` apart.

    AdamW's decay of w is the caller's (Loshchilov & Hutter 2019).
    """
    if rule == GD:
        gd(n, w, g, <floating> a)
    elif rule == MOMENTUM:
        momentum(n, w, g, state, <floating> a, <floating> hyper.momentum)
    elif rule == NESTEROV:
        nesterov(n, w, g, state, <floating> a, <floating> hyper.momentum)
    elif rule == ADAGRAD:
        adagrad(n, w, g, state, <floating> a)
    elif rule == RMSPROP:
        rmsprop(n, w, g, state, <floating> a, <floating> hyper.beta_2)
    else:
        adam(n, w, g, state, state + stride, a, hyper.beta_1, hyper.beta_2, t)


cdef inline floating smallest_subgradient(floating w, floating g, floating l1) noexcept nogil:
    """Of g + l1 d|w|/dw, what is nearest to zero (Andrew & Gao 2007)."""
    if w == 0:
        l1 = min(l1, <floating> fabs(g))
        return g + l1 if g < 0 else g - l1
    return g + l1 if w > 0 else g - l1


cdef inline void add_to_mean(Py_ssize_t n, floating scale, const floating* w, floating* mean,
                             double count) noexcept nogil:
    """mean <- mean of `count` vectors, the last of which is scale * w"""
    cdef floating part = <floating> (1 / count)
    cdef Py_ssize_t j
    for j in range(n):
        mean[j] += (scale * w[j] - mean[j]) * part
