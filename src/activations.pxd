"""Activations of activations.h over n numbers, for both float types.

An activation is its position in the table ACTIVATIONS. Both functions may work in place.
"""

from cython cimport floating

cdef extern from "activations.h" nogil:
    ctypedef void (*forward_f64)(Py_ssize_t, const double*, double*) noexcept
    ctypedef void (*backward_f64)(Py_ssize_t, const double*, const double*, double*) noexcept
    ctypedef void (*forward_f32)(Py_ssize_t, const float*, float*) noexcept
    ctypedef void (*backward_f32)(Py_ssize_t, const float*, const float*, float*) noexcept
    ctypedef struct activation_entry:
        const char* name
        forward_f64 forward_f64
        backward_f64 backward_f64
        forward_f32 forward_f32
        backward_f32 backward_f32
    const activation_entry* ACTIVATIONS
    int N_ACTIVATIONS


cdef inline void activate(int activation, Py_ssize_t n, const floating* Z, floating* A) noexcept nogil:
    """a = f(z)"""
    if floating is double:
        ACTIVATIONS[activation].forward_f64(n, Z, A)
    else:
        ACTIVATIONS[activation].forward_f32(n, Z, A)


cdef inline void differentiate(
    int activation, Py_ssize_t n, const floating* A, const floating* dA, floating* dZ,
) noexcept nogil:
    """dz = da f'(z), from a = f(z)"""
    if floating is double:
        ACTIVATIONS[activation].backward_f64(n, A, dA, dZ)
    else:
        ACTIVATIONS[activation].backward_f32(n, A, dA, dZ)
