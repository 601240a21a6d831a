/* Gram matrices: A += B^T B, on and below the diagonal, on one thread.
 *
 * The columns of B lie in panels, as wide as a tile of a product, the last one as many vectors as it needs; a
 * panel has its rows one after the other. So tiles take both factors as they lie, and a block of rows is laid
 * out once for all of them. No tile reaches beyond the diagonal by more than a vector.
 */
#ifndef FASTGD_GRAM_H
#define FASTGD_GRAM_H
#include "gemm.h"

enum { GRAM_VECTOR = sizeof(vec_f64) / sizeof(double), GRAM_PANEL = TILE_VECTORS * GRAM_VECTOR };

/* Where this is faster than OpenBLAS on one thread, as measured: with AVX-512 always, with AVX2 where few columns
 * make much of BLAS's copies. A vector must be as wide as a tile is high. */
static inline int gram_pays(ptrdiff_t columns)
{
    return (int)GRAM_VECTOR == (int)TILE_ROWS && (columns <= 256 || FASTGD_VECTOR_BYTES == 64);
}

/* b = (x - shift) root */
#define FASTGD_DEFINE_SHIFTED(real, sfx)                                                         \
    static inline void shifted_##sfx(ptrdiff_t n, const real *x, const double *restrict shift,   \
                                     double root, double *restrict b)                            \
    {                                                                                            \
        if (n == GRAM_PANEL) /* a constant, as most panels are */                                \
            for (int j = 0; j < GRAM_PANEL; ++j)                                                 \
                b[j] = (x[j] - shift[j]) * root;                                                 \
        else                                                                                     \
            for (ptrdiff_t j = 0; j < n; ++j)                                                    \
                b[j] = (x[j] - shift[j]) * root;                                                 \
    }
FASTGD_DEFINE_SHIFTED(double, f64)
FASTGD_DEFINE_SHIFTED(float, f32)

/* A (p, q) += B^T B[:, :q] for B of n rows and p columns, q <= p. Meanwhile some bytes come into cache that
 * are needed next; NULL and 0 where these are scattered. */
#define FASTGD_GRAM_TILE(vectors)                                                                \
    sum_tile_f64(vectors, p - i, right - j, n, B + i_panel * n + i - i_panel, 1, i_width, B + j * n, j_width, \
                 ahead < end ? ahead : NULL, ADD, 0, 0, A + i * q + j, q)
static inline void gram_f64(ptrdiff_t n, ptrdiff_t p, ptrdiff_t q, const double *B, const void *next,
                            ptrdiff_t bytes, double *A)
{
    const char *ahead = next, *const end = ahead + bytes;
    const ptrdiff_t padded = (p + GRAM_VECTOR - 1) / GRAM_VECTOR * GRAM_VECTOR;
    for (ptrdiff_t j = 0; j < q; j += GRAM_PANEL) {
        const ptrdiff_t j_width = padded - j < GRAM_PANEL ? padded - j : GRAM_PANEL;
        for (ptrdiff_t i = j; i < p; i += TILE_ROWS) {
            const ptrdiff_t i_panel = i / GRAM_PANEL * GRAM_PANEL;
            const ptrdiff_t i_width = padded - i_panel < GRAM_PANEL ? padded - i_panel : GRAM_PANEL;
            ptrdiff_t right = i + TILE_ROWS < j + j_width ? i + TILE_ROWS : j + j_width;
            right = right < q ? right : q;
            if (right - j > 2 * GRAM_VECTOR)
                FASTGD_GRAM_TILE(3);
            else if (right - j > GRAM_VECTOR)
                FASTGD_GRAM_TILE(2);
            else
                FASTGD_GRAM_TILE(1);
            if (ahead < end)
                ahead += 64 * n;
        }
    }
}
#endif
