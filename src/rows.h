/* How the rows of X lie in memory: X itself is a pointer to its first number.
 *
 * Dense rows, or dense columns, are contiguous and `ld` apart. Sparse rows are CSR: the numbers of row i
 * are X[begin[i]] .. X[begin[i + 1] - 1], and stand in the columns `at` of the same positions.
 */
#ifndef FASTGD_ROWS_H
#define FASTGD_ROWS_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    ptrdiff_t d;  /* columns of X */
    ptrdiff_t ld; /* distance of neighbouring rows, or columns if by_columns */
    int by_columns; /* Fortran order */
    int sparse;
    const ptrdiff_t *begin;
    const int32_t *at;
} layout;

enum { ROWS_AHEAD = 6 };

/* Ask for the n sparse rows that come ROWS_AHEAD after `first`, as far as there are: in any order, the
 * hardware foresees none. Inlined in any case: gcc takes a function that only prefetches for one that
 * does nothing.
 */
static inline __attribute__((always_inline)) void
fetch_sparse(const void *X, size_t itemsize, const layout *rows, const ptrdiff_t *order, ptrdiff_t first,
             ptrdiff_t n, ptrdiff_t end)
{
    for (ptrdiff_t i = first + ROWS_AHEAD; i < first + ROWS_AHEAD + n && i < end; ++i) {
        const ptrdiff_t lo = rows->begin[order[i]], hi = rows->begin[order[i] + 1];
        for (ptrdiff_t p = lo; p < hi; p += 64 / itemsize)
            __builtin_prefetch((const char *)X + p * itemsize);
        for (ptrdiff_t p = lo; p < hi; p += 64 / sizeof(int32_t))
            __builtin_prefetch(rows->at + p);
        if (i + ROWS_AHEAD < end)
            __builtin_prefetch(rows->begin + order[i + ROWS_AHEAD]);
    }
}
#endif
