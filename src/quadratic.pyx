"""Descent on a quadratic model: thousands of iterations that never read the data.

The model of k outputs with p parameters each, as functions of u (k, p):

    q_c(u) = value_c + gradient_c . s + s H_c s / 2 + thresholds . |u_c|,  s = u_c - centre_c

with one Hessian for all outputs or one for each: H (1 or k, p, p). The loops are those of
`_solvers.accelerated` and `_by_rule.by_rule`, which run on any problem and tell callbacks about every
iteration; here nobody listens. An iteration costs O(k p^2).
"""

import numpy as np

from libc.math cimport INFINITY, NAN, fabs, sqrt
from libc.string cimport memcpy
from scipy.linalg.cython_blas cimport dgemv

from products cimport blas_product
from updates cimport Hyper, apply_rule

RAN, CONVERGED, ROSE = 0, 1, 2  # how a run of iterations ends


cdef struct Shape:
    Py_ssize_t k
    Py_ssize_t p
    Py_ssize_t hessians


cdef void evaluate(
    Shape* shape, const double* H, const double* centre, const double* value0, const double* gradient0,
    const double* u, double* s, double* value, double* gradient,
) noexcept nogil:
    """Smooth part of the model per output, value (k,), and its gradient (k, p); s (k, p) is scratch."""
    cdef Py_ssize_t c, j, k = shape.k, p = shape.p
    cdef int n = <int> p, unit = 1
    cdef double one = 1.0, zero = 0.0
    for j in range(k * p):
        s[j] = u[j] - centre[j]
    if shape.hessians == 1 and k > 1:
        blas_product(False, False, k, p, p, s, p, H, p, False, gradient, p)
    else:
        for c in range(k):
            dgemv("N", &n, &n, &one, <double*> H + (c * p * p if shape.hessians > 1 else 0), &n,
                  s + c * p, &unit, &zero, gradient + c * p, &unit)
    for c in range(k):
        value[c] = value0[c]
        for j in range(c * p, (c + 1) * p):
            value[c] += s[j] * (gradient0[j] + 0.5 * gradient[j])
            gradient[j] += gradient0[j]


cdef inline bint enough(double gap, double excess, double share, double absolute) noexcept nogil:
    """Whether a gap to the minimum is within tolerance; NaN is not."""
    return gap <= share * excess or gap <= absolute


cdef inline double soft_threshold(double u, double threshold) noexcept nogil:
    """Proximal operator of threshold * |u|."""
    if u > threshold:
        return u - threshold
    if u < -threshold:
        return u + threshold
    return 0.0


def accelerated(
    const double[:, :, ::1] H, const double[:, ::1] centre, const double[::1] value0,
    const double[:, ::1] gradient0, const double[::1] thresholds, double[:, :, ::1] state,
    double[::1] t, double lipschitz, bint momentum, const double[::1] floor,
    const double[::1] limit, double share, const double[::1] absolute, double tiny, double[::1] curve,
):
    """u <- prox(y - grad q(y) / lipschitz), y ahead of u by Nesterov's momentum with restarts.

    Parameters
    ----------
    state : ndarray of shape (5, k, p), changed
        u, y, the best y, and y and gradient of the iteration before.
    t : ndarray of shape (k + 2,), changed
        Momentum's counts; the lowest objective; whether there was an iteration before.
    floor, limit : ndarrays of shape (k,)
        Least objective that is possible; excess over it beyond which the descent counts as diverging.
    share, absolute, tiny : float, ndarray of shape (k,), float
        Stop where every output's estimated gap is below share * excess or absolute, or the excess below tiny.
    curve : ndarray of shape (n,), overwritten
        Objective of each of at most n iterations.

    Returns
    -------
    n : int
        Iterations done.
    end : RAN, CONVERGED or ROSE
    gap : float
    """
    cdef Py_ssize_t k = centre.shape[0], p = centre.shape[1], n = curve.shape[0], i, c, j
    cdef Shape shape = Shape(k, p, H.shape[0])
    cdef double[:, ::1] work = np.empty((3, k * p))
    cdef double[::1] objective = np.empty(k)
    cdef double* u = &state[0, 0, 0]
    cdef double* y = &state[1, 0, 0]
    cdef double* last_y = &state[3, 0, 0]
    cdef double* last_gradient = &state[4, 0, 0]
    cdef double* gradient = &work[0, 0]
    cdef double* u_new = &work[1, 0]
    cdef double* scratch = &work[2, 0]
    cdef double total, gap = NAN, gaps, decrement, moved, bent, uphill, ahead, t_new, move, excess
    cdef bint settled, rose
    cdef int end = 0
    for i in range(n):
        with nogil:
            evaluate(&shape, &H[0, 0, 0], &centre[0, 0], &value0[0], &gradient0[0, 0], y, scratch,
                     &objective[0], gradient)
            total = 0.0
            rose = False
            for c in range(k):
                for j in range(p):
                    objective[c] += thresholds[j] * fabs(y[c * p + j])
                total += objective[c]
                rose = rose or not objective[c] - floor[c] <= limit[c]
            if rose:
                end = 2
                break
            if total <= t[k]:
                t[k] = total
                memcpy(&state[2, 0, 0], y, k * p * sizeof(double))
            settled = True
            gaps = 0.0
            for c in range(k):
                decrement = moved = bent = uphill = 0.0
                for j in range(c * p, (c + 1) * p):
                    u_new[j] = soft_threshold(y[j] - gradient[j] / lipschitz, thresholds[j - c * p] / lipschitz)
                    decrement += (u_new[j] - y[j]) * (u_new[j] - y[j])
                    uphill += (y[j] - u_new[j]) * (u_new[j] - u[j])
                    move = y[j] - last_y[j]
                    moved += move * move
                    bent += move * (gradient[j] - last_gradient[j])
                # how much flatter than its bound the model was along the last move
                gap = lipschitz * decrement / 2
                if not t[k + 1]:
                    gap = NAN
                elif moved > 0:
                    gap /= min(1.0, max(1e-9, bent / (lipschitz * moved)))
                gaps += gap
                excess = objective[c] - floor[c]
                settled = settled and (enough(gap, excess, share, absolute[c]) or excess <= tiny)
                if uphill > 0:
                    t[c] = 1.0
                t_new = (1 + sqrt(1 + 4 * t[c] * t[c])) / 2
                ahead = (t[c] - 1) / t_new if momentum and not uphill > 0 else 0.0
                for j in range(c * p, (c + 1) * p):
                    last_y[j] = y[j]
                    last_gradient[j] = gradient[j]
                    y[j] = u_new[j] + ahead * (u_new[j] - u[j])
                    u[j] = u_new[j]
                t[c] = 1.0 if uphill > 0 else t_new
            t[k + 1] = 1.0
            curve[i] = total
            gap = gaps
            if settled:
                end = 1
                n = i + 1
                break
    else:
        return n, RAN, gap
    return (n, CONVERGED, gap) if end == 1 else (i, ROSE, gap)


def by_rule(
    const double[:, :, ::1] H, const double[:, ::1] centre, const double[::1] value0,
    const double[:, ::1] gradient0, double[:, :, ::1] state, bint begun, double[:, ::1] slots,
    int rule, hyper, const double[::1] steps, double t, const double[::1] floor, double limit,
    double share, const double[::1] absolute, double tiny, double[::1] curve,
):
    """u <- rule(u, grad q(u), step), for each of steps (n,); no L1 penalty.

    Parameters
    ----------
    state : ndarray of shape (3, k, p), changed
        u, and u and gradient of the iteration before, which there was if `begun`.
    slots : ndarray of shape (slots of the rule, k * p), changed
    t : float
        Number of the first update.
    limit : float
        Excess of the objective over its floor, all outputs together, that means divergence.
    floor, share, absolute, tiny, curve
        As in `accelerated`.

    Returns
    -------
    n : int
        Objectives written to curve; of the last one no update follows if the descent CONVERGED.
    end : RAN, CONVERGED or ROSE
    gap : float
    """
    cdef Py_ssize_t k = centre.shape[0], p = centre.shape[1], n = steps.shape[0], i, c, j
    cdef Shape shape = Shape(k, p, H.shape[0])
    cdef Hyper hyper_ = Hyper(hyper[0], hyper[1], hyper[2])
    cdef double[:, ::1] work = np.empty((2, k * p))
    cdef double[::1] objective = np.empty(k)
    cdef double* u = &state[0, 0, 0]
    cdef double* last_u = &state[1, 0, 0]
    cdef double* last_gradient = &state[2, 0, 0]
    cdef double* gradient = &work[0, 0]
    cdef double* slot = &slots[0, 0] if slots.shape[0] else NULL
    cdef double total, excess, target, squared, moved, bent, move, gap = NAN
    cdef int end = 0
    for i in range(n):
        with nogil:
            evaluate(&shape, &H[0, 0, 0], &centre[0, 0], &value0[0], &gradient0[0, 0], u, &work[1, 0],
                     &objective[0], gradient)
            total = excess = target = 0.0
            for c in range(k):
                total += objective[c]
                excess += objective[c] - floor[c]
                target += (
                    INFINITY if objective[c] - floor[c] <= tiny
                    else max(share * (objective[c] - floor[c]), absolute[c])
                )
            if not excess <= limit:
                end = 2
                break
            squared = moved = bent = 0.0
            for j in range(k * p):
                squared += gradient[j] * gradient[j]
                move = u[j] - last_u[j]
                moved += move * move
                bent += move * (gradient[j] - last_gradient[j])
            gap = squared * moved / (2 * bent) if begun and moved > 0 and bent > 0 else NAN
            if squared == 0:
                gap = 0.0
            curve[i] = total
            if gap <= target:
                end = 1
                break
            memcpy(last_u, u, k * p * sizeof(double))
            memcpy(last_gradient, gradient, k * p * sizeof(double))
            begun = True
            apply_rule(rule, &hyper_, k * p, u, gradient, slot, k * p, steps[i], t + i)
    else:
        return n, RAN, gap
    return (i + 1, CONVERGED, gap) if end == 1 else (i, ROSE, gap)
