/* Blocks of short rows, n of them and ld apart: the weights, or the sums, stay in registers.
 *
 * Meanwhile the `ahead` rows after them are asked for, half of them by each function.
 */
#ifndef FASTGD_NARROW_H
#define FASTGD_NARROW_H
#include "simd.h"

enum { NARROW_BYTES = 8 * FASTGD_SHORT_BYTES }; /* of a row at most */

/* vector l of a row, the last of which ends with it */
#define FASTGD_PIECE(vec, sfx, row, l)                                                             \
    ((l) < vectors - 1 ? *(const vec *)((row) + (l) * L) : part_##sfx((row) + (l) * L, d - (l) * L))

#define FASTGD_OF_VECTORS(full, of, ...)                                                           \
    switch (full) {                                                                                \
    case 0: of(1, __VA_ARGS__); break;                                                             \
    case 1: of(2, __VA_ARGS__); break;                                                             \
    case 2: of(3, __VA_ARGS__); break;                                                             \
    case 3: of(4, __VA_ARGS__); break;                                                             \
    case 4: of(5, __VA_ARGS__); break;                                                             \
    case 5: of(6, __VA_ARGS__); break;                                                             \
    case 6: of(7, __VA_ARGS__); break;                                                             \
    default: of(8, __VA_ARGS__);                                                                   \
    }
#define UNROLL _Pragma("GCC unroll 8")

#define FASTGD_DEFINE_NARROW(real, vec, sfx)                                                       \
    static inline __attribute__((always_inline)) void ask_for_##sfx(const real *x, ptrdiff_t n)    \
    {                                                                                              \
        for (ptrdiff_t j = 0; j < n; j += 64 / sizeof(real))                                       \
            __builtin_prefetch(x + j, 0, 2);                                                       \
    }                                                                                              \
    static inline __attribute__((always_inline)) void narrow_dots_of_##sfx(                        \
        const int vectors, ptrdiff_t n, ptrdiff_t d, const real *x, ptrdiff_t ld, const real *w,   \
        real b, real *z, ptrdiff_t ahead)                                                          \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real) };                                                   \
        const real *const next = x + n * ld;                                                       \
        vec v[8], s[4];                                                                            \
        ptrdiff_t i = 0;                                                                           \
        UNROLL for (int l = 0; l < vectors; ++l)                                                   \
            v[l] = FASTGD_PIECE(vec, sfx, w, l);                                                   \
        for (; i + 4 <= n; i += 4, x += 4 * ld) {                                                  \
            if (i < ahead)                                                                         \
                ask_for_##sfx(next + i / 2 * ld, 2 * ld);                                          \
            for (int r = 0; r < 4; ++r) {                                                          \
                s[r] = FASTGD_PIECE(vec, sfx, x + r * ld, 0) * v[0];                               \
                UNROLL for (int l = 1; l < vectors; ++l)                                           \
                    s[r] += FASTGD_PIECE(vec, sfx, x + r * ld, l) * v[l];                          \
            }                                                                                      \
            four_sums_##sfx(s[0], s[1], s[2], s[3], z + i);                                        \
            for (int r = 0; r < 4; ++r)                                                            \
                z[i + r] += b;                                                                     \
        }                                                                                          \
        for (; i < n; ++i, x += ld)                                                                \
            z[i] = dot_##sfx(d, x, w) + b;                                                         \
    }                                                                                              \
    static inline __attribute__((always_inline)) void narrow_sums_of_##sfx(                        \
        const int vectors, ptrdiff_t n, ptrdiff_t d, const real *x, ptrdiff_t ld, const real *r,   \
        real *g, ptrdiff_t ahead)                                                                  \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real) };                                                   \
        const real *const next = x + (n + ahead / 2) * ld;                                         \
        vec even[8] = {{0}}, odd[8] = {{0}};                                                       \
        ptrdiff_t i = 0;                                                                           \
        for (; i + 4 <= n; i += 4, x += 4 * ld) {                                                  \
            if (i < ahead)                                                                         \
                ask_for_##sfx(next + i / 2 * ld, 2 * ld);                                          \
            UNROLL for (int l = 0; l < vectors; ++l)                                               \
            {                                                                                      \
                even[l] += FASTGD_PIECE(vec, sfx, x, l) * r[i];                                    \
                odd[l] += FASTGD_PIECE(vec, sfx, x + ld, l) * r[i + 1];                            \
                even[l] += FASTGD_PIECE(vec, sfx, x + 2 * ld, l) * r[i + 2];                       \
                odd[l] += FASTGD_PIECE(vec, sfx, x + 3 * ld, l) * r[i + 3];                        \
            }                                                                                      \
        }                                                                                          \
        for (; i < n; ++i, x += ld)                                                                \
            UNROLL for (int l = 0; l < vectors; ++l)                                               \
                even[l] += FASTGD_PIECE(vec, sfx, x, l) * r[i];                                    \
        UNROLL for (int l = 0; l < vectors; ++l)                                                   \
        {                                                                                          \
            const ptrdiff_t left = d - l * L;                                                      \
            keep_##sfx(FASTGD_PIECE(vec, sfx, g, l) + (even[l] + odd[l]), g + l * L, left < L ? left : L); \
        }                                                                                          \
    }                                                                                              \
    /* z_i = b + sum_j w_j x_ij */                                                                 \
    static void narrow_dots_##sfx(ptrdiff_t n, ptrdiff_t d, const real *x, ptrdiff_t ld,           \
                                  const real *w, real b, real *z, ptrdiff_t ahead)                 \
    {                                                                                              \
        FASTGD_OF_VECTORS((d * sizeof(real) - 1) / sizeof(vec), narrow_dots_of_##sfx, n, d, x, ld, w, b, z, ahead) \
    }                                                                                              \
    /* g_j += sum_i r_i x_ij */                                                                    \
    static void narrow_sums_##sfx(ptrdiff_t n, ptrdiff_t d, const real *x, ptrdiff_t ld,           \
                                  const real *r, real *g, ptrdiff_t ahead)                         \
    {                                                                                              \
        FASTGD_OF_VECTORS((d * sizeof(real) - 1) / sizeof(vec), narrow_sums_of_##sfx, n, d, x, ld, r, g, ahead)    \
    }
FASTGD_DEFINE_NARROW(double, short_f64, f64)
FASTGD_DEFINE_NARROW(float, short_f32, f32)
#undef UNROLL
#endif
