/* Every activation a = f(z) of a hidden layer, and its derivative as a function of a.
 *
 * One line of formulas each, for float32 and float64. A derivative through a needs no z, so that a layer
 * keeps one array; both loops may work in place (a is z, dz is da).
 */
#ifndef FASTGD_ACTIVATIONS_H
#define FASTGD_ACTIVATIONS_H
#include <stddef.h>
#include "vmath.h"

/* ACTIVATION(name, f(z), f'(z) by a = f(z)); NaN passes through each of them */
#define FASTGD_ACTIVATIONS(ACTIVATION)                                                             \
    ACTIVATION(identity, z, 1)                                                                     \
    ACTIVATION(tanh, TANH(z), (1 - a) * (1 + a))                                                    \
    ACTIVATION(logistic, (z < 0 ? EXP(-ABS(z)) : 1) / (1 + EXP(-ABS(z))), a * (1 - a))             \
    ACTIVATION(relu, z < 0 ? 0 : z, a > 0 ? 1 : 0)                                                 \
    ACTIVATION(leaky_relu, z < 0 ? z / 100 : z, a > 0 ? 1 : 1 / (real)100)                         \
    /* Clevert, Unterthiner & Hochreiter 2016 */                                                   \
    ACTIVATION(elu, z < 0 ? EXPM1_NARROW(z) : z, a > 0 ? 1 : 1 + a)

#define FASTGD_DEFINE_ACTIVATION_OF(name, type, sfx, FORWARD, DERIVATIVE)                          \
    static void name##_forward_##sfx(ptrdiff_t n, const type *Z, type *A)                          \
    {                                                                                              \
        typedef type real;                                                                         \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real z = Z[i];                                                                   \
            A[i] = FORWARD;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static void name##_backward_##sfx(ptrdiff_t n, const type *A, const type *dA, type *dZ)        \
    {                                                                                              \
        typedef type real;                                                                         \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real a = A[i];                                                                   \
            (void)a;                                                                               \
            dZ[i] = dA[i] * (DERIVATIVE);                                                          \
        }                                                                                          \
    }
#define FASTGD_DEFINE_ACTIVATION(name, FORWARD, DERIVATIVE)                                        \
    FASTGD_DEFINE_ACTIVATION_OF(name, double, f64, FORWARD, DERIVATIVE)                            \
    FASTGD_DEFINE_ACTIVATION_OF(name, float, f32, FORWARD, DERIVATIVE)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-local-typedefs"
FASTGD_ACTIVATIONS(FASTGD_DEFINE_ACTIVATION)
#pragma GCC diagnostic pop

typedef struct {
    const char *name;
    void (*forward_f64)(ptrdiff_t, const double *, double *);
    void (*backward_f64)(ptrdiff_t, const double *, const double *, double *);
    void (*forward_f32)(ptrdiff_t, const float *, float *);
    void (*backward_f32)(ptrdiff_t, const float *, const float *, float *);
} activation_entry;

#define FASTGD_LIST_ACTIVATION(name, ...)                                                          \
    {#name, name##_forward_f64, name##_backward_f64, name##_forward_f32, name##_backward_f32},
static const activation_entry ACTIVATIONS[] = {FASTGD_ACTIVATIONS(FASTGD_LIST_ACTIVATION)};
enum { N_ACTIVATIONS = sizeof(ACTIVATIONS) / sizeof(ACTIVATIONS[0]) };
#endif
