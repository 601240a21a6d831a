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
#endif
