/* C (m, n) = op(A) (m, k) B (k, n), or added to C, on one thread; op is nothing or the transpose.
 * Or C a step down its gradient op(A) B + l2 C, which then is nowhere in memory.
 *
 * A panel of B, three vectors wide, is laid out side by side on the stack. A tile of C, so many rows by a
 * panel, is summed in registers: each step loads a row of the panel and a number of each row of A (Goto &
 * van de Geijn 2008). A is read where it lies: the batches of networks have too few rows to pay for a copy.
 *
 * An element's terms are added in the order of k wherever it is in C: a product gives the same numbers
 * in whatever pieces of C it is computed.
 */
#ifndef FASTGD_GEMM_H
#define FASTGD_GEMM_H
#include <stddef.h>
#include <string.h>
#include "simd.h"

enum { PANEL_DEPTH = 128 }; /* a panel of 24 KB leaves room for the rows of A in the first cache */

/* Where this is faster than OpenBLAS on one thread, as measured. Not with SSE alone, as BLAS chooses its
 * kernels anew at run time. A transposed B would have to be turned round. A few columns fill no panel. Many
 * rows fall out of the second cache before the next panel meets them, and BLAS's copy of A pays then.
 * For AVX-512 it has kernels for products of up to a million multiplications that copy nothing.
 */
static inline int gemm_pays(int transpose_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, size_t itemsize)
{
#ifdef __AVX2__
    const double least = FASTGD_VECTOR_BYTES == 64 ? 1e6 : 0;
    return !transpose_b && n >= 24 && m >= 8 && m * itemsize <= 2048 && (double)m * n * k >= least;
#else
    return 0;
#endif
}

enum { SET, ADD, DESCEND };
/* What becomes of a number of C, or a vector of them, and the sum for it */
#define PUT(c, sum)                                                                              \
    if (end == SET)                                                                              \
        c = sum;                                                                                 \
    else if (end == ADD)                                                                         \
        c += sum;                                                                                \
    else                                                                                         \
        c -= (sum + c * l2) * rate;

#define UNROLL _Pragma("GCC unroll 8")

/* That a tile has no more rows and columns than `part` is beyond gcc, once it has moved the loops about. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define FASTGD_DEFINE_GEMM(real, vec, tail, sfx)                                                 \
    /* Some rows and columns of C; sums beyond them are computed, and dropped. Meanwhile comes closer what\
     * lies ahead, a line in each step; NULL is the tiles to come. */                            \
    static inline __attribute__((always_inline)) void sum_tile_##sfx(                            \
        const int vectors, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t k, const real *A,        \
        ptrdiff_t a_row, ptrdiff_t a_step, const real *panel, ptrdiff_t panel_step,              \
        const char *ahead, int end, real rate, real l2, real *C, ptrdiff_t ldc)                  \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        const real *a[TILE_ROWS];                                                                \
        vec sum[TILE_ROWS][TILE_VECTORS];                                                        \
        UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                               \
        {                                                                                        \
            const ptrdiff_t row = i < rows ? i : 0;                                              \
            a[i] = A + row * a_row;                                                              \
            UNROLL for (int v = 0; v < vectors; ++v)                                             \
            {                                                                                    \
                sum[i][v] = (vec){0};                                                            \
                __builtin_prefetch(C + row * ldc + v * L, 1);                                    \
            }                                                                                    \
        }                                                                                        \
        for (ptrdiff_t p = 0; p < k; ++p) {                                                      \
            vec b[TILE_VECTORS];                                                                 \
            UNROLL for (int v = 0; v < vectors; ++v) b[v] = *(const vec *)(panel + v * L);       \
            __builtin_prefetch(ahead ? ahead + p * 64                                            \
                                     : (const char *)(A + p * a_step + 3 * TILE_ROWS));          \
            UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                           \
            {                                                                                    \
                const real factor = a[i][p * a_step];                                            \
                UNROLL for (int v = 0; v < vectors; ++v) sum[i][v] += b[v] * factor;             \
            }                                                                                    \
            panel += panel_step;                                                                 \
        }                                                                                        \
        if (rows >= TILE_ROWS && columns >= vectors * L) {                                       \
            UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                           \
            {                                                                                    \
                UNROLL for (int v = 0; v < vectors; ++v) PUT(*(vec *)(C + i * ldc + v * L), sum[i][v]) \
            }                                                                                    \
            return;                                                                              \
        }                                                                                        \
        real part[TILE_ROWS][TILE_VECTORS * L];                                                  \
        UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                               \
        {                                                                                        \
            UNROLL for (int v = 0; v < vectors; ++v) *(vec *)(part[i] + v * L) = sum[i][v];      \
        }                                                                                        \
        for (ptrdiff_t i = 0; i < rows && i < TILE_ROWS; ++i) {                                  \
            real *const c = C + i * ldc;                                                         \
            if (columns >= vectors * L) {                                                        \
                UNROLL for (int v = 0; v < vectors; ++v)                                         \
                    PUT(*(vec *)(c + v * L), *(const vec *)(part[i] + v * L))                    \
            } else {                                                                             \
                for (ptrdiff_t j = 0; j < columns; ++j)                                          \
                    PUT(c[j], part[i][j])                                                        \
            }                                                                                    \
        }                                                                                        \
    }                                                                                            \
    /* k rows of a panel, which has zeros where it is wider than B. Whole vectors, their number a constant:\
     * of a loop over `columns` gcc may make a string instruction per row, which takes longer than the sums. */\
    static inline __attribute__((always_inline)) void fill_panel_##sfx(                          \
        const int vectors, ptrdiff_t k, ptrdiff_t columns, const real *B, ptrdiff_t ldb,         \
        real *panel)                                                                             \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real), S = sizeof(tail) / sizeof(real) };                \
        const ptrdiff_t width = vectors * L;                                                     \
        if (columns < width)                                                                     \
            memset(panel, 0, k * width * sizeof(real));                                          \
        for (ptrdiff_t p = 0; p < k; ++p, B += ldb, panel += width) {                            \
            if (columns == width) {                                                              \
                UNROLL for (int v = 0; v < vectors; ++v)                                         \
                    *(vec *)(panel + v * L) = *(const vec *)(B + v * L);                         \
                continue;                                                                        \
            }                                                                                    \
            UNROLL for (int j = 0; j < width; j += S)                                            \
                if (j < columns)                                                                 \
                    *(tail *)(panel + j) = part_##sfx(B + j, columns - j < S ? columns - j : S); \
        }                                                                                        \
    }                                                                                            \
    /* Some columns of C: a panel of B, and the tiles below each other. Meanwhile the next panel comes\
     * closer: it lies in short pieces of rows, of which the processor foresees none. */         \
    static inline __attribute__((always_inline)) void sum_panel_##sfx(                           \
        const int vectors, ptrdiff_t m, ptrdiff_t columns, ptrdiff_t k, const real *A,           \
        ptrdiff_t a_row, ptrdiff_t a_step, const real *B, ptrdiff_t ldb, const real *next, int end,\
        real rate, real l2, real *C, ptrdiff_t ldc)                                              \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real), WIDTH = TILE_VECTORS * L };                       \
        const ptrdiff_t tiles = (m + TILE_ROWS - 1) / TILE_ROWS;                                 \
        real panel[PANEL_DEPTH * WIDTH] __attribute__((aligned(64)));                            \
        fill_panel_##sfx(vectors, k, columns, B, ldb, panel);                                    \
        for (ptrdiff_t t = 0, p = 0; t < tiles; ++t) {                                           \
            for (; p * tiles < (t + 1) * k; ++p) {                                               \
                UNROLL for (int v = 0; v <= TILE_VECTORS; ++v)                                   \
                    __builtin_prefetch(next + p * ldb + v * L);                                  \
            }                                                                                    \
            const ptrdiff_t i = t * TILE_ROWS;                                                   \
            sum_tile_##sfx(vectors, m - i < TILE_ROWS ? m - i : TILE_ROWS, columns, k,           \
                           A + i * a_row, a_row, a_step, panel, vectors * L,                     \
                           NULL, end, rate, l2, C + i * ldc, ldc);                               \
        }                                                                                        \
    }                                                                                            \
    static __attribute__((unused)) void multiply_##sfx(                                          \
        int transpose_a, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *A, ptrdiff_t lda,    \
        const real *B, ptrdiff_t ldb, int end, real rate, real l2, real *C, ptrdiff_t ldc)       \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real), WIDTH = TILE_VECTORS * L };                       \
        const ptrdiff_t a_row = transpose_a ? 1 : lda, a_step = transpose_a ? lda : 1;           \
        ptrdiff_t p = 0;                                                                         \
        do { /* once where k is 0, for the zeros */                                              \
            const ptrdiff_t depth = k - p < PANEL_DEPTH ? k - p : PANEL_DEPTH;                   \
            const real *const a = A + p * a_step;                                                \
            for (ptrdiff_t j = 0; j < n; j += WIDTH) {                                           \
                const ptrdiff_t columns = n - j < WIDTH ? n - j : WIDTH;                         \
                const real *const b = B + p * ldb + j;                                           \
                const real *const next = j + WIDTH < n ? b + WIDTH : B + (p + PANEL_DEPTH) * ldb;\
                if (columns > 2 * L)                                                             \
                    sum_panel_##sfx(3, m, columns, depth, a, a_row, a_step, b, ldb, next, end, rate, l2,\
                                    C + j, ldc);                                                 \
                else if (columns > L)                                                            \
                    sum_panel_##sfx(2, m, columns, depth, a, a_row, a_step, b, ldb, next, end, rate, l2,\
                                    C + j, ldc);                                                 \
                else                                                                             \
                    sum_panel_##sfx(1, m, columns, depth, a, a_row, a_step, b, ldb, next, end, rate, l2,\
                                    C + j, ldc);                                                 \
            }                                                                                    \
            p += PANEL_DEPTH;                                                                    \
            end = end == SET ? ADD : end;                                                        \
            l2 = 0;                                                                              \
        } while (p < k);                                                                         \
    }                                                                                            \
    static inline void gemm_##sfx(int transpose_a, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,        \
                                  const real *A, ptrdiff_t lda, const real *B, ptrdiff_t ldb,    \
                                  int add, real *C, ptrdiff_t ldc)                               \
    {                                                                                            \
        multiply_##sfx(transpose_a, m, n, k, A, lda, B, ldb, add ? ADD : SET, 0, 0, C, ldc);     \
    }                                                                                            \
    /* C <- C - rate (op(A) B + l2 C) */                                                         \
    static inline void descend_##sfx(int transpose_a, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,     \
                                     const real *A, ptrdiff_t lda, const real *B, ptrdiff_t ldb, \
                                     real rate, real l2, real *C, ptrdiff_t ldc)                 \
    {                                                                                            \
        multiply_##sfx(transpose_a, m, n, k, A, lda, B, ldb, DESCEND, rate, l2, C, ldc);         \
    }

FASTGD_DEFINE_GEMM(double, vec_f64, short_f64, f64)
FASTGD_DEFINE_GEMM(float, vec_f32, short_f32, f32)
#pragma GCC diagnostic pop
#undef UNROLL
#undef PUT
#endif
