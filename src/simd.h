/* The inner loops on which every kernel stands: dot and axpy, for one row, for four, and for a sparse one.
 *
 * Strict IEEE rules forbid a compiler to reorder a sum, so the lanes are written out with the
 * vector extension of gcc and clang; nothing here needs -ffast-math. A pass of four rows loads
 * the weights (dot4) or the gradient (axpy4) once instead of four times.
 */
#ifndef FASTGD_SIMD_H
#define FASTGD_SIMD_H
#include <stddef.h>
#include <stdint.h>

#ifdef __AVX2__
#define FASTGD_VECTOR_BYTES 32
#else
#define FASTGD_VECTOR_BYTES 16
#endif

/* `aligned` lowers the alignment to that of one element: any address may be loaded. */
typedef double vec_f64 __attribute__((vector_size(FASTGD_VECTOR_BYTES), aligned(8), may_alias));
typedef float vec_f32 __attribute__((vector_size(FASTGD_VECTOR_BYTES), aligned(4), may_alias));

enum { STRIP = 8 }; /* outputs of a sparse row that are summed side by side */

/* widths that occur often, each with sums or factors in registers */
#define FASTGD_OF_WIDTH(width, DO)                                                               \
    switch (width) {                                                                             \
    case 2: DO(2) break;                                                                         \
    case 3: DO(3) break;                                                                         \
    case 4: DO(4) break;                                                                         \
    case STRIP: DO(STRIP) break;                                                                 \
    default: DO(width)                                                                           \
    }
#define FASTGD_OUTER(w)                                                                          \
    for (ptrdiff_t p = 0; p < n; ++p) {                                                          \
        for (int c = 0; c < (w); ++c)                                                            \
            G[at[p] * k + c] += factor[c] * x[p];                                                \
    }
#define FASTGD_SPARSE_OUTER(real)                                                                \
    real factor[STRIP];                                                                          \
    for (int c = 0; c < width; ++c)                                                              \
        factor[c] = r[c];                                                                        \
    FASTGD_OF_WIDTH(width, FASTGD_OUTER)
#define FASTGD_DOTS(w)                                                                           \
    for (ptrdiff_t p = 0; p < n; ++p) {                                                          \
        for (int c = 0; c < (w); ++c)                                                            \
            sum[c] += x[p] * W[at[p] * k + c];                                                   \
    }

#define FASTGD_DEFINE_SIMD(real, vec, sfx)                                                       \
    static inline real sum_lanes_##sfx(vec v)                                                    \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        for (int half = L / 2; half; half /= 2) /* a tree: log2(L) additions in a row */         \
            for (int l = 0; l < half; ++l)                                                       \
                v[l] += v[l + half];                                                             \
        return v[0];                                                                             \
    }                                                                                            \
    /* sum_j x_j w_j */                                                                          \
    static inline real dot_##sfx(ptrdiff_t n, const real *x, const real *w)                      \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        vec a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};                                              \
        ptrdiff_t j = 0;                                                                         \
        for (; j + 4 * L <= n; j += 4 * L) {                                                     \
            a0 += *(const vec *)(x + j) * *(const vec *)(w + j);                                 \
            a1 += *(const vec *)(x + j + L) * *(const vec *)(w + j + L);                         \
            a2 += *(const vec *)(x + j + 2 * L) * *(const vec *)(w + j + 2 * L);                 \
            a3 += *(const vec *)(x + j + 3 * L) * *(const vec *)(w + j + 3 * L);                 \
        }                                                                                        \
        for (; j + L <= n; j += L)                                                               \
            a0 += *(const vec *)(x + j) * *(const vec *)(w + j);                                 \
        real s = sum_lanes_##sfx((a0 + a1) + (a2 + a3));                                         \
        for (; j < n; ++j)                                                                       \
            s += x[j] * w[j];                                                                    \
        return s;                                                                                \
    }                                                                                            \
    /* x . v and x . w, x being loaded once */                                                   \
    static inline void dot2_##sfx(ptrdiff_t n, const real *x, const real *v, const real *w,      \
                                  real *xv, real *xw)                                            \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        vec a0 = {0}, a1 = {0}, b0 = {0}, b1 = {0};                                              \
        ptrdiff_t j = 0;                                                                         \
        for (; j + 2 * L <= n; j += 2 * L) {                                                     \
            const vec x0 = *(const vec *)(x + j), x1 = *(const vec *)(x + j + L);                \
            a0 += x0 * *(const vec *)(v + j);                                                    \
            b0 += x0 * *(const vec *)(w + j);                                                    \
            a1 += x1 * *(const vec *)(v + j + L);                                                \
            b1 += x1 * *(const vec *)(w + j + L);                                                \
        }                                                                                        \
        if (j + L <= n) {                                                                        \
            const vec x0 = *(const vec *)(x + j);                                                \
            a0 += x0 * *(const vec *)(v + j);                                                    \
            b0 += x0 * *(const vec *)(w + j);                                                    \
            j += L;                                                                              \
        }                                                                                        \
        real s = sum_lanes_##sfx(a0 + a1), t = sum_lanes_##sfx(b0 + b1);                         \
        for (; j < n; ++j) {                                                                     \
            s += x[j] * v[j];                                                                    \
            t += x[j] * w[j];                                                                    \
        }                                                                                        \
        *xv = s, *xw = t;                                                                        \
    }                                                                                            \
    /* out_r = sum_j x_rj w_j for four rows */                                                   \
    static inline void dot4_##sfx(ptrdiff_t n, const real *x0, const real *x1, const real *x2,   \
                                  const real *x3, const real *w, real *out)                      \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        vec a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};                                              \
        ptrdiff_t j = 0;                                                                         \
        for (; j + L <= n; j += L) {                                                             \
            vec v = *(const vec *)(w + j);                                                       \
            a0 += *(const vec *)(x0 + j) * v;                                                    \
            a1 += *(const vec *)(x1 + j) * v;                                                    \
            a2 += *(const vec *)(x2 + j) * v;                                                    \
            a3 += *(const vec *)(x3 + j) * v;                                                    \
        }                                                                                        \
        real s0 = sum_lanes_##sfx(a0), s1 = sum_lanes_##sfx(a1);                                 \
        real s2 = sum_lanes_##sfx(a2), s3 = sum_lanes_##sfx(a3);                                 \
        for (; j < n; ++j) {                                                                     \
            s0 += x0[j] * w[j];                                                                  \
            s1 += x1[j] * w[j];                                                                  \
            s2 += x2[j] * w[j];                                                                  \
            s3 += x3[j] * w[j];                                                                  \
        }                                                                                        \
        out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3;                                      \
    }                                                                                            \
    /* g_j += a x_j */                                                                           \
    static inline void axpy_##sfx(ptrdiff_t n, real a, const real *x, real *g)                   \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        ptrdiff_t j = 0;                                                                         \
        for (; j + L <= n; j += L)                                                               \
            *(vec *)(g + j) += *(const vec *)(x + j) * a;                                        \
        for (; j < n; ++j)                                                                       \
            g[j] += a * x[j];                                                                    \
    }                                                                                            \
    /* g_j += sum_r a_r x_rj for four rows */                                                    \
    static inline void axpy4_##sfx(ptrdiff_t n, const real *a, const real *x0, const real *x1,   \
                                   const real *x2, const real *x3, real *g)                      \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        const real b0 = a[0], b1 = a[1], b2 = a[2], b3 = a[3];                                   \
        ptrdiff_t j = 0;                                                                         \
        for (; j + L <= n; j += L)                                                               \
            *(vec *)(g + j) += (*(const vec *)(x0 + j) * b0 + *(const vec *)(x1 + j) * b1) +     \
                               (*(const vec *)(x2 + j) * b2 + *(const vec *)(x3 + j) * b3);      \
        for (; j < n; ++j)                                                                       \
            g[j] += (x0[j] * b0 + x1[j] * b1) + (x2[j] * b2 + x3[j] * b3);                       \
    }                                                                                            \
    /* sum_p x_p w[at_p], of a sparse row */                                                     \
    static inline real sparse_dot_##sfx(ptrdiff_t n, const real *x, const int32_t *at,           \
                                        const real *w)                                           \
    {                                                                                            \
        real s0 = 0, s1 = 0, s2 = 0, s3 = 0;                                                     \
        ptrdiff_t p = 0;                                                                         \
        for (; p + 4 <= n; p += 4) {                                                             \
            s0 += x[p] * w[at[p]];                                                               \
            s1 += x[p + 1] * w[at[p + 1]];                                                       \
            s2 += x[p + 2] * w[at[p + 2]];                                                       \
            s3 += x[p + 3] * w[at[p + 3]];                                                       \
        }                                                                                        \
        for (; p < n; ++p)                                                                       \
            s0 += x[p] * w[at[p]];                                                               \
        return (s0 + s1) + (s2 + s3);                                                            \
    }                                                                                            \
    /* out_c += sum_p x_p W[at_p, c] for a strip of outputs, W having k to a row */              \
    static inline void sparse_dots_##sfx(ptrdiff_t width, ptrdiff_t n, const real *x,            \
                                         const int32_t *at, const real *W, ptrdiff_t k,          \
                                         real *out)                                              \
    {                                                                                            \
        real sum[STRIP];                                                                         \
        for (int c = 0; c < width; ++c)                                                          \
            sum[c] = out[c];                                                                     \
        FASTGD_OF_WIDTH(width, FASTGD_DOTS)                                                      \
        for (int c = 0; c < width; ++c)                                                          \
            out[c] = sum[c];                                                                     \
    }                                                                                            \
    /* G[at_p, c] += r_c x_p for a strip of outputs */                                           \
    static inline void sparse_outer_##sfx(ptrdiff_t width, ptrdiff_t n, const real *x,           \
                                          const int32_t *at, const real *r, ptrdiff_t k,         \
                                          real *G)                                               \
    {                                                                                            \
        FASTGD_SPARSE_OUTER(real)                                                                \
    }                                                                                            \
    /* g[at_p] += a x_p */                                                                       \
    static inline void sparse_axpy_##sfx(ptrdiff_t n, real a, const real *x, const int32_t *at,  \
                                         real *g)                                                \
    {                                                                                            \
        for (ptrdiff_t p = 0; p < n; ++p)                                                        \
            g[at[p]] += a * x[p];                                                                \
    }

FASTGD_DEFINE_SIMD(double, vec_f64, f64)
FASTGD_DEFINE_SIMD(float, vec_f32, f32)

/* the same of floats, summed in double */
static inline void sparse_outer_f32_f64(ptrdiff_t width, ptrdiff_t n, const float *x, const int32_t *at,
                                        const float *r, ptrdiff_t k, double *G)
{
    FASTGD_SPARSE_OUTER(float)
}
#endif
