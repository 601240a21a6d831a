/* C (m, n) = op(A) (m, k) B (k, n), or added to C, on one thread; op is nothing or the transpose.
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

#define UNROLL _Pragma("GCC unroll 8")

#define FASTGD_DEFINE_GEMM(real, vec, sfx)                                                       \
    /* Some rows and columns of C; sums beyond them are computed, and dropped. */                \
    static inline __attribute__((always_inline)) void sum_tile_##sfx(                            \
        const int vectors, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t k, const real *A,        \
        ptrdiff_t a_row, ptrdiff_t a_step, const real *panel, int add, real *C, ptrdiff_t ldc)   \
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
            UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                           \
            {                                                                                    \
                const real factor = a[i][p * a_step];                                            \
                UNROLL for (int v = 0; v < vectors; ++v) sum[i][v] += b[v] * factor;             \
            }                                                                                    \
            panel += vectors * L;                                                                \
        }                                                                                        \
        if (rows == TILE_ROWS && columns == vectors * L) {                                       \
            UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                           \
            {                                                                                    \
                UNROLL for (int v = 0; v < vectors; ++v)                                         \
                {                                                                                \
                    vec *const c = (vec *)(C + i * ldc + v * L);                                 \
                    if (add)                                                                     \
                        *c += sum[i][v];                                                         \
                    else                                                                         \
                        *c = sum[i][v];                                                          \
                }                                                                                \
            }                                                                                    \
            return;                                                                              \
        }                                                                                        \
        real part[TILE_ROWS][TILE_VECTORS * L];                                                  \
        UNROLL for (int i = 0; i < TILE_ROWS; ++i)                                               \
        {                                                                                        \
            UNROLL for (int v = 0; v < vectors; ++v) *(vec *)(part[i] + v * L) = sum[i][v];      \
        }                                                                                        \
        for (ptrdiff_t i = 0; i < rows; ++i)                                                     \
            for (ptrdiff_t j = 0; j < columns; ++j)                                              \
                C[i * ldc + j] = add ? C[i * ldc + j] + part[i][j] : part[i][j];                 \
    }                                                                                            \
    /* k rows of a panel, which has zeros where it is wider than B */                            \
    static inline void fill_panel_##sfx(ptrdiff_t k, ptrdiff_t columns, ptrdiff_t width,         \
                                        const real *B, ptrdiff_t ldb, real *panel)               \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        if (columns < width)                                                                     \
            memset(panel, 0, k * width * sizeof(real));                                          \
        for (ptrdiff_t p = 0; p < k; ++p, B += ldb, panel += width) {                            \
            ptrdiff_t j = 0;                                                                     \
            for (; j + L <= columns; j += L)                                                     \
                *(vec *)(panel + j) = *(const vec *)(B + j);                                     \
            for (; j < columns; ++j)                                                             \
                panel[j] = B[j];                                                                 \
        }                                                                                        \
    }                                                                                            \
    static inline void gemm_##sfx(int transpose_a, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,        \
                                  const real *A, ptrdiff_t lda, const real *B, ptrdiff_t ldb,    \
                                  int add, real *C, ptrdiff_t ldc)                               \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real), WIDTH = TILE_VECTORS * L };                       \
        const ptrdiff_t a_row = transpose_a ? 1 : lda, a_step = transpose_a ? lda : 1;           \
        real panel[PANEL_DEPTH * WIDTH] __attribute__((aligned(64)));                            \
        ptrdiff_t p = 0;                                                                         \
        do { /* once where k is 0, for the zeros */                                              \
            const ptrdiff_t depth = k - p < PANEL_DEPTH ? k - p : PANEL_DEPTH;                   \
            for (ptrdiff_t j = 0; j < n; j += WIDTH) {                                           \
                const ptrdiff_t columns = n - j < WIDTH ? n - j : WIDTH;                         \
                const ptrdiff_t vectors = (columns + L - 1) / L;                                 \
                fill_panel_##sfx(depth, columns, vectors * L, B + p * ldb + j, ldb, panel);      \
                for (ptrdiff_t i = 0; i < m; i += TILE_ROWS) {                                   \
                    const ptrdiff_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;                \
                    const real *const a = A + i * a_row + p * a_step;                            \
                    real *const c = C + i * ldc + j;                                             \
                    if (vectors == 3)                                                            \
                        sum_tile_##sfx(3, rows, columns, depth, a, a_row, a_step, panel, add, c, \
                                       ldc);                                                     \
                    else if (vectors == 2)                                                       \
                        sum_tile_##sfx(2, rows, columns, depth, a, a_row, a_step, panel, add, c, \
                                       ldc);                                                     \
                    else                                                                         \
                        sum_tile_##sfx(1, rows, columns, depth, a, a_row, a_step, panel, add, c, \
                                       ldc);                                                     \
                }                                                                                \
            }                                                                                    \
            p += PANEL_DEPTH;                                                                    \
            add = 1;                                                                             \
        } while (p < k);                                                                         \
    }

FASTGD_DEFINE_GEMM(double, vec_f64, f64)
FASTGD_DEFINE_GEMM(float, vec_f32, f32)
#undef UNROLL
#endif
