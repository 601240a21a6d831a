/* Softmax of rows, p = exp(z) / sum_j exp(z_j), and its derivative.
 *
 * Z, P, dP, dZ: m rows of k classes, C-ordered; both functions may work in place. The maximum of a row is
 * subtracted first, so that nothing overflows. Maxima and sums go row by row, the exponentials over a
 * block of rows at once, so that rows of ten classes fill vectors as rows of a thousand do.
 * A row that holds NaN or +inf is NaN; -inf is the logit of probability 0.
 */
#ifndef FASTGD_SOFTMAX_H
#define FASTGD_SOFTMAX_H
#include "simd.h"
#include "vmath.h"

enum {
    SOFTMAX_BLOCK = 2048, /* elements, in the first-level cache between exponentials and sums */
    SOFTMAX_STRETCH = 512 /* elements that float32 adds up before double takes over */
};

/* a = max(a, b), lane by lane; C has no ?: for vectors */
#define RAISE_TO(a, b)                                                                             \
    do {                                                                                           \
        const __typeof__((a) > (b)) higher = (b) > (a);                                            \
        (a) = (__typeof__(a))((higher & (__typeof__(higher))(b)) | (~higher & (__typeof__(higher))(a))); \
    } while (0)

#define FASTGD_DEFINE_SOFTMAX_ROWS(real, vec, sfx)                                                 \
    /* NaN is passed over: its own exponential keeps it */                                         \
    static inline real row_max_##sfx(ptrdiff_t k, const real *z)                                   \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real) };                                                   \
        real top = z[0];                                                                           \
        ptrdiff_t j = 1;                                                                           \
        if (k >= 2 * L) {                                                                          \
            vec a = *(const vec *)z, b = *(const vec *)(z + L);                                    \
            for (j = 2 * L; j + 2 * L <= k; j += 2 * L) {                                          \
                RAISE_TO(a, *(const vec *)(z + j));                                                \
                RAISE_TO(b, *(const vec *)(z + j + L));                                            \
            }                                                                                      \
            RAISE_TO(a, b);                                                                        \
            top = a[0];                                                                            \
            for (int l = 1; l < L; ++l)                                                            \
                top = a[l] > top ? a[l] : top;                                                     \
        }                                                                                          \
        for (; j < k; ++j)                                                                         \
            top = z[j] > top ? z[j] : top;                                                         \
        return top;                                                                                \
    }                                                                                              \
    static inline double row_sum_##sfx(ptrdiff_t k, const real *p)                                 \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real) };                                                   \
        double total = 0;                                                                          \
        for (ptrdiff_t j = 0; j < k;) {                                                            \
            const ptrdiff_t stop = k - j < SOFTMAX_STRETCH ? k : j + SOFTMAX_STRETCH;              \
            vec a = {0}, b = {0};                                                                  \
            for (; j + 2 * L <= stop; j += 2 * L) {                                                \
                a += *(const vec *)(p + j);                                                        \
                b += *(const vec *)(p + j + L);                                                    \
            }                                                                                      \
            real s = sum_lanes_##sfx(a + b);                                                       \
            for (; j < stop; ++j)                                                                  \
                s += p[j];                                                                         \
            total += s;                                                                            \
        }                                                                                          \
        return total;                                                                              \
    }                                                                                              \
    static void softmax_rows_forward_##sfx(ptrdiff_t m, ptrdiff_t k, const real *Z, real *P)       \
    {                                                                                              \
        const ptrdiff_t rows = k < SOFTMAX_BLOCK ? SOFTMAX_BLOCK / k : 1;                          \
        for (ptrdiff_t i = 0; i < m; i += rows, Z += rows * k, P += rows * k) {                    \
            const ptrdiff_t n = m - i < rows ? m - i : rows;                                       \
            for (ptrdiff_t r = 0; r < n; ++r) {                                                    \
                const real top = row_max_##sfx(k, Z + r * k);                                      \
                for (ptrdiff_t j = r * k; j < (r + 1) * k; ++j)                                    \
                    P[j] = Z[j] - top;                                                             \
            }                                                                                      \
            for (ptrdiff_t j = 0; j < n * k; ++j)                                                  \
                P[j] = EXP(P[j]);                                                                  \
            for (ptrdiff_t r = 0; r < n; ++r) {                                                    \
                const real total = (real)row_sum_##sfx(k, P + r * k);                              \
                for (ptrdiff_t j = r * k; j < (r + 1) * k; ++j)                                    \
                    P[j] /= total;                                                                 \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    /* dz = (diag(p) - p p^T) dp = p (dp - p . dp) */                                              \
    static void softmax_rows_backward_##sfx(ptrdiff_t m, ptrdiff_t k, const real *P,               \
                                            const real *dP, real *dZ)                              \
    {                                                                                              \
        for (ptrdiff_t i = 0; i < m; ++i, P += k, dP += k, dZ += k) {                              \
            double mean = 0;                                                                       \
            for (ptrdiff_t j = 0; j < k; j += SOFTMAX_STRETCH)                                     \
                mean += dot_##sfx(k - j < SOFTMAX_STRETCH ? k - j : SOFTMAX_STRETCH, P + j, dP + j); \
            for (ptrdiff_t j = 0; j < k; ++j)                                                      \
                dZ[j] = P[j] * (dP[j] - (real)mean);                                               \
        }                                                                                          \
    }
FASTGD_DEFINE_SOFTMAX_ROWS(double, vec_f64, f64)
FASTGD_DEFINE_SOFTMAX_ROWS(float, vec_f32, f32)
#endif
