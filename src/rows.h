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

/* Rows that are met in any order the hardware does not foresee: they are asked for ahead of time. Sparse rows so
 * many ahead; dense ones until so many bytes are under way, two at least. */
enum { ROWS_AHEAD = 6, MOST_ROWS_AHEAD = 16, BYTES_AHEAD = 24576 };
enum { FETCHED_BYTES = 8192 }; /* of a dense row at most */

/* Inlined in any case: gcc takes a function that only prefetches for one that does nothing. */
#define FETCHES static inline __attribute__((always_inline)) void

/* Ask for the n sparse rows that come ROWS_AHEAD after `first`, as far as there are. */
FETCHES fetch_sparse(const void *X, size_t itemsize, const layout *rows, const ptrdiff_t *order,
                     ptrdiff_t first, ptrdiff_t n, ptrdiff_t end)
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

static inline ptrdiff_t dense_rows_ahead(ptrdiff_t bytes)
{
    const ptrdiff_t n = BYTES_AHEAD / (bytes > 0 ? bytes : 1);
    return n < 2 ? 2 : n > MOST_ROWS_AHEAD ? MOST_ROWS_AHEAD : n;
}

FETCHES fetch_dense(const void *x, ptrdiff_t bytes)
{
    const char *const first = x;
    for (ptrdiff_t j = 0; j < bytes && j < FETCHED_BYTES; j += 64)
        __builtin_prefetch(first + j);
    __builtin_prefetch(first + bytes - 1);
}

/* Ask for as many rows as the n from `first`, ahead of them, as far as there are. For larger batches of dense rows
 * the products do it, four rows at a time (rows.pxd). */
FETCHES fetch_rows(const void *X, size_t itemsize, const layout *rows, const ptrdiff_t *order,
                   ptrdiff_t first, ptrdiff_t n, ptrdiff_t end)
{
    const ptrdiff_t bytes = rows->d * itemsize, stride = rows->ld * itemsize;
    if (rows->sparse) {
        fetch_sparse(X, itemsize, rows, order, first, n, end);
    } else if (n < 4) {
        const ptrdiff_t ahead = dense_rows_ahead(bytes);
        for (ptrdiff_t i = first + ahead; i < first + ahead + n && i < end; ++i)
            fetch_dense((const char *)X + order[i] * stride, bytes);
    }
}
#undef FETCHES
#endif
