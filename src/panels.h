/* Rows in panels, and the two products of a pass over them by many outputs, on one thread.
 *
 * A panel holds as many rows as TILE_VECTORS vectors have lanes, column after column. After the columns of X
 * comes one of ones, which the intercept meets, and zeros, until p, the number of columns, is a multiple of
 * TILE_VECTORS. Both products take their numbers as they lie in memory:
 *
 *     Z = W X^T    a tile, some outputs by the rows of a panel, is summed in registers over the columns;
 *     G += R X     a tile, some outputs by some columns, is summed over all rows, a sum for each lane.
 *
 * Z and R hold the rows of a block output by output, of which there are n; G is in double.
 */
#ifndef FASTGD_PANELS_H
#define FASTGD_PANELS_H
#include <stddef.h>
#include "simd.h"

#ifdef __AVX512F__
#define FASTGD_TILE_OF(rows, DO)                                                                 \
    switch (rows) {                                                                              \
    case 1: DO(1) break;                                                                         \
    case 2: DO(2) break;                                                                         \
    case 3: DO(3) break;                                                                         \
    case 4: DO(4) break;                                                                         \
    case 5: DO(5) break;                                                                         \
    case 6: DO(6) break;                                                                         \
    case 7: DO(7) break;                                                                         \
    default: DO(8)                                                                               \
    }
#else
#define FASTGD_TILE_OF(rows, DO)                                                                 \
    switch (rows) {                                                                              \
    case 1: DO(1) break;                                                                         \
    case 2: DO(2) break;                                                                         \
    case 3: DO(3) break;                                                                         \
    default: DO(4)                                                                               \
    }
#endif
#define UNROLL _Pragma("GCC unroll 8")

#define FASTGD_DEFINE_PANELS(real, vec, sfx)                                                     \
    enum { PANEL_##sfx = TILE_VECTORS * sizeof(vec) / sizeof(real) };                            \
    static inline __attribute__((always_inline)) void predict_tile_##sfx(                        \
        const int outputs, ptrdiff_t p, ptrdiff_t columns, const real *W, const real *panel,     \
        int add, real *Z, ptrdiff_t n)                                                           \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        vec sum[TILE_ROWS][TILE_VECTORS];                                                        \
        UNROLL for (int c = 0; c < outputs; ++c)                                                 \
        {                                                                                        \
            UNROLL for (int v = 0; v < TILE_VECTORS; ++v)                                        \
                sum[c][v] = add ? *(const vec *)(Z + c * n + v * L) : (vec){0};                  \
        }                                                                                        \
        for (ptrdiff_t j = 0; j < columns; ++j, panel += PANEL_##sfx) {                          \
            vec x[TILE_VECTORS];                                                                 \
            UNROLL for (int v = 0; v < TILE_VECTORS; ++v) x[v] = *(const vec *)(panel + v * L);  \
            UNROLL for (int c = 0; c < outputs; ++c)                                             \
            {                                                                                    \
                const real w = W[c * p + j];                                                     \
                UNROLL for (int v = 0; v < TILE_VECTORS; ++v) sum[c][v] += x[v] * w;             \
            }                                                                                    \
        }                                                                                        \
        UNROLL for (int c = 0; c < outputs; ++c)                                                 \
        {                                                                                        \
            UNROLL for (int v = 0; v < TILE_VECTORS; ++v)                                        \
                *(vec *)(Z + c * n + v * L) = sum[c][v];                                         \
        }                                                                                        \
    }                                                                                            \
    static inline __attribute__((always_inline)) void gradient_tile_##sfx(                       \
        const int outputs, ptrdiff_t p, ptrdiff_t n, const real *R, const real *X,               \
        const real *ahead, ptrdiff_t step, double *G)                                            \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        vec sum[TILE_ROWS][TILE_VECTORS];                                                        \
        UNROLL for (int c = 0; c < outputs; ++c)                                                 \
        {                                                                                        \
            UNROLL for (int j = 0; j < TILE_VECTORS; ++j) sum[c][j] = (vec){0};                  \
        }                                                                                        \
        for (ptrdiff_t i = 0; i < n; i += PANEL_##sfx, X += p * PANEL_##sfx) {                   \
            UNROLL for (int v = 0; v < TILE_VECTORS; ++v)                                        \
            {                                                                                    \
                vec x[TILE_VECTORS];                                                             \
                __builtin_prefetch(ahead, 0, 2);                                                 \
                ahead += step;                                                                   \
                UNROLL for (int j = 0; j < TILE_VECTORS; ++j)                                    \
                    x[j] = *(const vec *)(X + j * PANEL_##sfx + v * L);                          \
                UNROLL for (int c = 0; c < outputs; ++c)                                         \
                {                                                                                \
                    vec r = *(const vec *)(R + c * n + i + v * L);                               \
                    IN_REGISTER(r);                                                              \
                    UNROLL for (int j = 0; j < TILE_VECTORS; ++j) sum[c][j] += x[j] * r;         \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
        UNROLL for (int c = 0; c < outputs; ++c)                                                 \
        {                                                                                        \
            UNROLL for (int j = 0; j < TILE_VECTORS; ++j)                                        \
                G[c * p + j] += sum_lanes_##sfx(sum[c][j]);                                      \
        }                                                                                        \
    }                                                                                            \
    /* Z (outputs, n) = W X^T over some columns from `first` on, or added to Z */                \
    static inline void predict_panels_##sfx(ptrdiff_t outputs, ptrdiff_t n, ptrdiff_t p,         \
                                            ptrdiff_t first, ptrdiff_t columns, const real *W,   \
                                            const real *X, int add, real *Z)                     \
    {                                                                                            \
        const ptrdiff_t tiles = (outputs + TILE_ROWS - 1) / TILE_ROWS;                           \
        for (ptrdiff_t t = 0; t < tiles; ++t) { /* of like size */                               \
            const ptrdiff_t c = t * outputs / tiles, rows = (t + 1) * outputs / tiles - c;       \
            for (ptrdiff_t i = 0; i < n; i += PANEL_##sfx) {                                     \
                const real *const w = W + c * p + first, *const x = X + i * p + first * PANEL_##sfx; \
                real *const z = Z + c * n + i;                                                   \
                FASTGD_TILE_OF(rows, PREDICT_##sfx)                                              \
            }                                                                                    \
        }                                                                                        \
    }                                                                                            \
    /* G (outputs, p) += R X in these columns, a multiple of TILE_VECTORS; meanwhile some numbers \
     * come into cache that are needed next, a line at a time: more at once would be waited for */ \
    static inline void add_gradient_##sfx(ptrdiff_t outputs, ptrdiff_t n, ptrdiff_t p,           \
                                          ptrdiff_t first, ptrdiff_t columns, const real *R,     \
                                          const real *X, const real *ahead, ptrdiff_t some,      \
                                          double *G)                                             \
    {                                                                                            \
        const ptrdiff_t tiles = (outputs + TILE_ROWS - 1) / TILE_ROWS;                           \
        const real *const end = ahead + some;                                                    \
        for (ptrdiff_t t = 0; t < tiles; ++t) {                                                  \
            const ptrdiff_t c = t * outputs / tiles, rows = (t + 1) * outputs / tiles - c;       \
            const real *const r = R + c * n;                                                     \
            for (ptrdiff_t j = first; j < first + columns; j += TILE_VECTORS) {                  \
                const real *const x = X + j * PANEL_##sfx;                                       \
                double *const g = G + c * p + j;                                                 \
                const ptrdiff_t step = ahead < end ? 64 / sizeof(real) : 0;                      \
                FASTGD_TILE_OF(rows, GRADIENT_##sfx)                                             \
                ahead += step * (n / PANEL_##sfx * TILE_VECTORS);                                \
            }                                                                                    \
        }                                                                                        \
    }
#define PREDICT_f64(rows) predict_tile_f64(rows, p, columns, w, x, add, z, n);
#define PREDICT_f32(rows) predict_tile_f32(rows, p, columns, w, x, add, z, n);
#define GRADIENT_f64(rows) gradient_tile_f64(rows, p, n, r, x, ahead, step, g);
#define GRADIENT_f32(rows) gradient_tile_f32(rows, p, n, r, x, ahead, step, g);
FASTGD_DEFINE_PANELS(double, vec_f64, f64)
FASTGD_DEFINE_PANELS(float, vec_f32, f32)
#undef UNROLL
#endif
