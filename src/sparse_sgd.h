/* Stochastic gradient descent on single sparse rows, one output: the inner loop of an epoch.
 *
 * Only the weights that a row meets are touched; what the others are owed is made up for when a row
 * comes. As in sgd.h, w = scale * v, so that the L2 shrinkage of every weight is one multiplication.
 *
 * Averages: the sum of the iterates is scales * v - back, where scales is the sum of their scales,
 * and what a row adds to v it adds to `back`, times the scales so far (Bottou 2012).
 *
 * L1: every weight pays up to `owed`, the penalty since training began, after every update; `moved`
 * is what it was moved by (Tsuruoka, Tsujii & Ananiadou 2009). Payments in a row, with nothing in
 * between, are one payment of the last sum: a weight above zero ends at max(0, w - (owed + moved))
 * either way, and one at rest stays. So a weight that pays just before it is looked at has the value
 * that it would have, had it paid all along.
 *
 * Elastic net: v pays l1 a / scale a time; `drift` is the sum of that. Beside a weight that is not zero
 * stands the drift up to which it has paid, which says all; beside one at rest what it was moved by.
 * Where a weight has come to rest meanwhile, a history tells what was owed at which drift.
 *
 * What stands beside a weight lies beside it in memory: a column is one line of a cache.
 */
#ifndef FASTGD_SPARSE_SGD_H
#define FASTGD_SPARSE_SGD_H
#include <math.h>
#include <string.h>
#include "rows.h"
#include "sgd.h"

typedef enum { PLAIN, AVERAGED, L1, ELASTIC } sparse_kind;

typedef double two_f64 __attribute__((vector_size(16), aligned(8), may_alias));
typedef float two_f32 __attribute__((vector_size(8), aligned(4), may_alias));
typedef int64_t two_i64 __attribute__((vector_size(16), aligned(8), may_alias));
typedef two_f64 column; /* v or w, and beside it `back`, `moved` or drift */

typedef struct {
    ptrdiff_t first_averaged;
    double count, mean_intercept; /* averaged updates, and the mean of their intercepts */
    double l1, owed;
    ptrdiff_t room;
    two_f64 *history; /* (room + 1): drift and owed after the updates since the drift began */
} sparse_state;

/* Columns of two entries by one load: loads are what an epoch has most of. */
typedef struct { ptrdiff_t first, second; } two_columns;
static inline two_columns columns_of(const int32_t *at)
{
    uint64_t both;
    memcpy(&both, at, sizeof both);
    const ptrdiff_t low = (uint32_t)both, high = both >> 32;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (two_columns){high, low};
#else
    return (two_columns){low, high};
#endif
}

/* Two weights pay, without a branch: which of them rest is nothing that a processor could foresee. */
ALWAYS_INLINE void pay(column *a, column *b, double owed)
{
    const two_f64 w = {(*a)[0], (*b)[0]}, moved = {(*a)[1], (*b)[1]};
    const two_i64 sign = (two_i64)w & INT64_MIN, size = (two_i64)w ^ sign;
    const two_f64 due = owed + (two_f64)((two_i64)moved ^ sign);
    const two_i64 less = due < (two_f64)size, some = w != 0;
    const two_f64 paid = (two_f64)((((less & (two_i64)due) | (~less & size)) & some) ^ sign);
    const two_f64 w_after = w - paid, moved_after = moved - paid;
    *a = (column){w_after[0], moved_after[0]};
    *b = (column){w_after[1], moved_after[1]};
}

/* L1 of an elastic net: what was owed at a drift. */
static double owed_at(double drift, const two_f64 *history, ptrdiff_t now)
{
    ptrdiff_t lo = 0, hi = now;
    while (hi - lo > 1) {
        const ptrdiff_t middle = (lo + hi) / 2;
        if (history[middle][0] >= drift)
            hi = middle;
        else
            lo = middle;
    }
    const two_f64 before = history[lo], step = history[hi] - before;
    return before[1] + (step[0] > 0 ? (drift - before[0]) / step[0] * step[1] : 0);
}

/* Up to the latest update, a column that has missed those since its own drift. */
ALWAYS_INLINE column drifted(column c, const two_f64 *history, ptrdiff_t now)
{
    if (c[0] == 0)
        return c;
    const double sign = copysign(1, c[0]), left = sign * (c[0] + sign * (c[1] - history[now][0]));
    if (!(left <= 0)) /* NaN is to be seen */
        return (column){sign * left, history[now][0]};
    return (column){0, -sign * owed_at(c[1] + sign * c[0], history, now)};
}

/* What w has been moved by. */
ALWAYS_INLINE double moved_of(column c, double owed)
{
    return c[0] != 0 ? -owed * copysign(1, c[0]) : c[1]; /* signs are not foreseen: no branch */
}

/* A weight v that was moved by `moved`, at the end of an update which has met it. */
ALWAYS_INLINE column paid_up(double v, double moved, double scale, double inverse, double owed, double drift)
{
    const double sign = copysign(1, v), left = sign * v - (owed + sign * moved) * inverse;
    return v != 0 && !(left <= 0) ? (column){sign * left, drift} : (column){0, moved - v * scale};
}

#define FASTGD_DEFINE_SPARSE_SGD(real, sfx, SMALLEST)                                              \
    ALWAYS_INLINE double plain_dot_##sfx(ptrdiff_t n, const real *x, const int32_t *at,            \
                                         const real *v)                                            \
    {                                                                                              \
        two_##sfx s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};                                          \
        ptrdiff_t p = 0;                                                                           \
        for (; p + 8 <= n; p += 8) {                                                               \
            const two_columns a = columns_of(at + p), b = columns_of(at + p + 2);                  \
            const two_columns c = columns_of(at + p + 4), e = columns_of(at + p + 6);              \
            s0 += *(const two_##sfx *)(x + p) * (two_##sfx){v[a.first], v[a.second]};              \
            s1 += *(const two_##sfx *)(x + p + 2) * (two_##sfx){v[b.first], v[b.second]};          \
            s2 += *(const two_##sfx *)(x + p + 4) * (two_##sfx){v[c.first], v[c.second]};          \
            s3 += *(const two_##sfx *)(x + p + 6) * (two_##sfx){v[e.first], v[e.second]};          \
        }                                                                                          \
        for (; p + 2 <= n; p += 2) {                                                               \
            const two_columns a = columns_of(at + p);                                              \
            s0 += *(const two_##sfx *)(x + p) * (two_##sfx){v[a.first], v[a.second]};              \
        }                                                                                          \
        s0 = (s0 + s1) + (s2 + s3);                                                                \
        return s0[0] + s0[1] + (p < n ? x[p] * v[at[p]] : 0);                                      \
    }                                                                                              \
    ALWAYS_INLINE void plain_axpy_##sfx(ptrdiff_t n, real g, const real *x, const int32_t *at,     \
                                        real *v)                                                   \
    {                                                                                              \
        ptrdiff_t p = 0;                                                                           \
        for (; p + 4 <= n; p += 4) {                                                               \
            const two_columns a = columns_of(at + p), b = columns_of(at + p + 2);                  \
            const two_##sfx s =                                                                    \
                *(const two_##sfx *)(x + p) * g + (two_##sfx){v[a.first], v[a.second]};            \
            const two_##sfx t =                                                                    \
                *(const two_##sfx *)(x + p + 2) * g + (two_##sfx){v[b.first], v[b.second]};        \
            v[a.first] = s[0], v[a.second] = s[1], v[b.first] = t[0], v[b.second] = t[1];          \
        }                                                                                          \
        for (; p < n; ++p)                                                                         \
            v[at[p]] += g * x[p];                                                                  \
    }                                                                                              \
    ALWAYS_INLINE double column_dot_##sfx(const int paying, double owed, ptrdiff_t n,              \
                                          const real *x, const int32_t *at, column *v)             \
    {                                                                                              \
        two_f64 s0 = {0}, s1 = {0};                                                                \
        ptrdiff_t p = 0;                                                                           \
        for (; p + 4 <= n; p += 4) {                                                               \
            const two_columns a = columns_of(at + p), b = columns_of(at + p + 2);                  \
            if (paying) {                                                                          \
                pay(v + a.first, v + a.second, owed);                                              \
                pay(v + b.first, v + b.second, owed);                                              \
            }                                                                                      \
            s0 += (two_f64){x[p], x[p + 1]} * (two_f64){v[a.first][0], v[a.second][0]};            \
            s1 += (two_f64){x[p + 2], x[p + 3]} * (two_f64){v[b.first][0], v[b.second][0]};        \
        }                                                                                          \
        s0 += s1;                                                                                  \
        double sum = s0[0] + s0[1];                                                                \
        for (; p < n; ++p) {                                                                       \
            if (paying)                                                                            \
                pay(v + at[p], v + at[p], owed);                                                   \
            sum += x[p] * v[at[p]][0];                                                             \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
    /* column_p += x_p g, or its weight alone */                                                   \
    ALWAYS_INLINE void column_axpy_##sfx(const int both, column g, ptrdiff_t n, const real *x,     \
                                         const int32_t *at, column *v)                             \
    {                                                                                              \
        ptrdiff_t p = 0;                                                                           \
        for (; p + 2 <= n; p += 2) {                                                               \
            const two_columns a = columns_of(at + p);                                              \
            if (both) {                                                                            \
                v[a.first] += g * (double)x[p];                                                    \
                v[a.second] += g * (double)x[p + 1];                                               \
            } else {                                                                               \
                ((double *)(v + a.first))[0] += g[0] * x[p];                                       \
                ((double *)(v + a.second))[0] += g[0] * x[p + 1];                                  \
            }                                                                                      \
        }                                                                                          \
        if (p < n)                                                                                 \
            v[at[p]] += g * (column){x[p], both ? x[p] : 0};                                       \
    }                                                                                              \
    ALWAYS_INLINE double sparse_sgd_as_##sfx(                                                      \
        const sparse_kind kind, const slope_function slope_at, const real *X, const layout *rows,  \
        const real *Y, const real *weight, const ptrdiff_t *order, ptrdiff_t n,                    \
        const double *steps, int loss, const double *params, double l2, int fit_intercept,         \
        real *v, column *columns, double *intercept, sparse_state *state)                          \
    {                                                                                              \
        double z_met[MET], y_met[MET], s_met[MET];                                                 \
        double scale = 1, scales = 0, b = *intercept, total = 0, owed = state->owed;               \
        two_f64 *const history = state->history;                                                   \
        ptrdiff_t now = 0;                                                                         \
        if (kind == ELASTIC)                                                                       \
            history[0] = (two_f64){0, owed};                                                       \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            fetch_sparse(X, sizeof(real), rows, order, i, 1, n);                                   \
            if (i + ROWS_AHEAD < n)                                                                \
                __builtin_prefetch(Y + order[i + ROWS_AHEAD]);                                     \
            const ptrdiff_t row = order[i], first = rows->begin[row];                              \
            const ptrdiff_t entries = rows->begin[row + 1] - first;                                \
            const real *x = X + first;                                                             \
            const int32_t *at = rows->at + first;                                                  \
            const double s = weight ? weight[row] : 1, a = steps[i], y = Y[row];                   \
            if (kind == ELASTIC && i > 0)                                                          \
                for (ptrdiff_t p = 0; p < entries; ++p)                                            \
                    columns[at[p]] = drifted(columns[at[p]], history, now);                        \
            const double product = kind == PLAIN                                                   \
                ? plain_dot_##sfx(entries, x, at, v)                                               \
                : column_dot_##sfx(kind == L1, owed, entries, x, at, columns);                     \
            const double z = scale * product + b;                                                  \
            const double slope = step_slope(slope_at, z, y, params, s);                            \
            const double factor = -a * s, step = factor * slope;                                   \
            z_met[i % MET] = z, y_met[i % MET] = y, s_met[i % MET] = s;                            \
            if (i % MET == MET - 1 || i == n - 1)                                                  \
                total += sum_of_losses(loss, params, i % MET + 1, z_met, y_met, s_met);            \
            if (l2 != 0) {                                                                         \
                const double shrink = 1 - a * l2;                                                  \
                scale *= shrink > 0 ? shrink : 0;                                                  \
                if (scale < SMALLEST || (kind == ELASTIC && now == state->room)) {                 \
                    for (ptrdiff_t j = 0; j < rows->d; ++j) {                                      \
                        if (kind == ELASTIC) {                                                     \
                            const column c = i > 0 ? drifted(columns[j], history, now) : columns[j];\
                            const double moved = i > 0 ? moved_of(c, owed) : c[1];                 \
                            columns[j] = (column){c[0] * scale, i == 0 || c[0] * scale == 0 ? moved : 0};\
                        } else if (kind == AVERAGED)                                               \
                            columns[j] = columns[j] * (column){scale, 1} -                         \
                                         (column){0, scales * columns[j][0]};                      \
                        else                                                                       \
                            v[j] *= (real)scale;                                                   \
                    }                                                                              \
                    scale = 1, scales = 0;                                                         \
                    if (kind == ELASTIC)                                                           \
                        now = 0, history[0] = (two_f64){0, owed};                                  \
                }                                                                                  \
            }                                                                                      \
            if (fit_intercept)                                                                     \
                b += step;                                                                         \
            if (kind == ELASTIC) {                                                                 \
                const double before = owed, inverse = 1 / scale, g = factor * inverse * slope;     \
                owed += state->l1 * a;                                                             \
                const double drift = history[now][0] + state->l1 * a / scale;                      \
                history[++now] = (two_f64){drift, owed};                                           \
                if (i == 0) { /* debts of any size */                                              \
                    column_axpy_##sfx(0, (column){g, 0}, entries, x, at, columns);                 \
                    for (ptrdiff_t j = 0; j < rows->d; ++j)                                        \
                        columns[j] = paid_up(columns[j][0], columns[j][1], scale, inverse, owed,   \
                                             drift);                                               \
                } else                                                                             \
                    for (ptrdiff_t p = 0; p < entries; ++p) {                                      \
                        const column c = columns[at[p]];                                           \
                        columns[at[p]] = paid_up(c[0] + g * x[p], moved_of(c, before), scale,      \
                                                 inverse, owed, drift);                            \
                    }                                                                              \
            } else if (step != 0) {                                                                \
                const double g = factor / scale * slope;                                           \
                if (kind == PLAIN)                                                                 \
                    plain_axpy_##sfx(entries, (real)g, x, at, v);                                  \
                else                                                                               \
                    column_axpy_##sfx(kind == AVERAGED, (column){g, g * scales}, entries, x, at,   \
                                      columns);                                                    \
            }                                                                                      \
            if (kind == AVERAGED && i >= state->first_averaged) {                                  \
                scales += scale;                                                                   \
                state->count += 1;                                                                 \
                state->mean_intercept += (b - state->mean_intercept) / state->count;               \
            }                                                                                      \
            if (kind == L1)                                                                        \
                owed += state->l1 * a;                                                             \
        }                                                                                          \
        for (ptrdiff_t j = 0; j < rows->d; ++j) {                                                  \
            if (kind == PLAIN)                                                                     \
                v[j] *= (real)scale;                                                               \
            else if (kind == L1)                                                                   \
                pay(columns + j, columns + j, owed);                                               \
            else if (kind == ELASTIC) {                                                            \
                const column c = drifted(columns[j], history, now);                                \
                columns[j] = (column){c[0] * scale, moved_of(c, owed)};                            \
            }                                                                                      \
            else /* the last iterate, and the sum of the averaged ones */                          \
                columns[j] = columns[j][0] * (column){scale, scales} - (column){0, columns[j][1]}; \
        }                                                                                          \
        *intercept = b;                                                                            \
        state->owed = owed;                                                                        \
        return total;                                                                              \
    }                                                                                              \
    /* v: weights where kind is PLAIN, else they are in columns. The slopes of common losses are   \
     * inlined, as in sgd.h; where there is more to do than a call takes, that of the log loss. */ \
    static double sparse_sgd_##sfx(                                                                \
        sparse_kind kind, const real *X, const layout *rows, const real *Y, const real *weight,    \
        const ptrdiff_t *order, ptrdiff_t n, const double *steps, int loss, const double *params,  \
        double l2, int fit_intercept, real *v, column *columns, double *intercept,                 \
        sparse_state *state)                                                                       \
    {                                                                                              \
        const slope_function slope = LOSSES[loss].slope;                                           \
        if (kind == PLAIN && slope == squared_error_slope)                                         \
            return FASTGD_SPARSE_SGD(PLAIN, squared_error_slope, sfx);                             \
        if (kind == PLAIN && slope == hinge_slope)                                                 \
            return FASTGD_SPARSE_SGD(PLAIN, hinge_slope, sfx);                                     \
        if (slope == log_loss_slope)                                                               \
            FASTGD_SPARSE_SGD_OF_KIND(logistic_slope, sfx)                                         \
        FASTGD_SPARSE_SGD_OF_KIND(slope, sfx)                                                      \
    }
#define FASTGD_SPARSE_SGD(kind, slope, sfx)                                                        \
    sparse_sgd_as_##sfx(kind, slope, X, rows, Y, weight, order, n, steps, loss, params, l2,        \
                        fit_intercept, v, columns, intercept, state)
#define FASTGD_SPARSE_SGD_OF_KIND(slope, sfx)                                                      \
    switch (kind) {                                                                                \
    case PLAIN: return FASTGD_SPARSE_SGD(PLAIN, slope, sfx);                                       \
    case AVERAGED: return FASTGD_SPARSE_SGD(AVERAGED, slope, sfx);                                 \
    case ELASTIC: return FASTGD_SPARSE_SGD(ELASTIC, slope, sfx);                                   \
    default: return FASTGD_SPARSE_SGD(L1, slope, sfx);                                             \
    }
FASTGD_DEFINE_SPARSE_SGD(double, f64, 1e-9)
FASTGD_DEFINE_SPARSE_SGD(float, f32, 1e-6)
#endif
