/* Stochastic gradient descent on single dense rows, one output: the inner loop of an epoch.
 *
 * w = scale * v, so that the L2 shrinkage is one multiplication. What limits short rows is not
 * arithmetic but the chain prediction -> slope -> update -> next prediction. It is cut short: while
 * row i waits for its slope g, the next row is multiplied with v as it still is and with row i:
 *
 *     z_{i+1} = scale (x_{i+1} . v) + b - a g (x_{i+1} . x_i + 1),
 *
 * one multiplication and one addition after g. Rows that do not fit into registers are met with v while it is
 * updated: by the row itself, or, so as not to wait for a slope that takes long, by the row before it.
 */
#ifndef FASTGD_SGD_H
#define FASTGD_SGD_H
#include "losses.h"
#include "rows.h"
#include "simd.h"

/* What the loop is compiled for: rows of any length, rows whose updates come one row late, or so short ones that
 * a row and the weights stay in registers, as 1 .. MOST_VECTORS vectors. */
enum { LONG = 0, LATE = -1, MOST_VECTORS = 8 };
enum { LATE_BYTES = 1024 }; /* of longer rows three at a time are too many; half of it where slopes take little */
enum { PADDING = 16 }; /* zeros behind the weights, which a vector may reach */
enum { MET = 128 }; /* rows whose losses are evaluated at once */

/* 2^(j/32) */
static const double ROOTS_OF_TWO[32] = {
    0x1.0000000000000p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0,
    0x1.172b83c7d517bp+0, 0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0,
    0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0, 0x1.3dea64c123422p+0, 0x1.44e086061892dp+0,
    0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0, 0x1.6247eb03a5585p+0,
    0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,
    0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f090p+0, 0x1.a5503b23e255dp+0,
    0x1.ae89f995ad3adp+0, 0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0,
    0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0, 0x1.ea4afa2a490dap+0, 0x1.f50765b6e4540p+0,
};

/* A step waits for its slope. The logistic one, -y / (1 + exp(yz)), is written again for latency: with
 * yz = (32 n + j) ln(2)/32 + r, n and j go through a table beside the polynomial in r. Relative error:
 * 3e-15 for |yz| < 30, 3e-14 at most.
 */
static inline double logistic_slope(double z, double y, const double *p)
{
    (void)p;
    const double t = y * z;
    if (!(t > -700 && t < 700)) /* never taken: a branch has no latency */
        return -y / (1 + exp(t));
    union { double d; uint64_t u; } bits, root;
    bits.d = t * 0x1.71547652b82fep+5 + 0x1.8p52;
    const double r = t - (bits.d - 0x1.8p52) * 0x1.62e42fefa39efp-6;
    root.d = ROOTS_OF_TWO[bits.u & 31];
    root.u += (bits.u >> 5) << 52;
    const double r2 = r * r;
    const double e = (1 + r) + r2 * ((1.0 / 2 + r * (1.0 / 6)) + r2 * (1.0 / 24 + r * (1.0 / 120)));
    return -y / (1 + root.d * e);
}

/* Losses of the rows met, evaluated a block at a time, off the chain: sum_i s_i loss(z_i, y_i) */
static double sum_of_losses(int loss, const double *params, ptrdiff_t n, const double *z,
                            const double *y, const double *s)
{
    double value[MET], slope[MET], total = 0;
    LOSSES[loss].f64(n, z, y, params, value, slope, NULL);
    for (ptrdiff_t i = 0; i < n; ++i)
        total += s[i] != 0 ? s[i] * value[i] : 0;
    return total;
}

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* The slope of a step: bounded, and nothing of a row without weight, even where its prediction overflowed. */
ALWAYS_INLINE double step_slope(slope_function slope_at, double z, double y, const double *params, double s)
{
    const double slope = slope_at(z, y, params);
    if (s == 0)
        return 0;
    if (!(slope <= 1e12 && slope >= -1e12)) /* never taken: a branch has no latency */
        return slope > 0 ? 1e12 : slope < 0 ? -1e12 : slope;
    return slope;
}

/* What every loop takes, and is given. */
#define FASTGD_EPOCH(real)                                                                         \
    const real *X, const layout *rows, const real *Y, const real *weight, const ptrdiff_t *order,  \
        ptrdiff_t n, const double *steps, int loss, const double *params, double l2,               \
        int fit_intercept, real *v, double *intercept
#define FASTGD_GIVEN X, rows, Y, weight, order, n, steps, loss, params, l2, fit_intercept, v, intercept

/* One function for each kind and common loss: its slope is inlined, for a call would empty the registers. */
#define FASTGD_SGD_OF_KIND(kind, real, sfx)                                                        \
    FASTGD_SGD_OF_LOSS(kind, real, sfx, squared, squared_error_slope)                              \
    FASTGD_SGD_OF_LOSS(kind, real, sfx, hinge, hinge_slope)                                        \
    FASTGD_SGD_OF_LOSS(kind, real, sfx, logistic, logistic_slope)                                  \
    FASTGD_SGD_OF_LOSS(kind, real, sfx, any, LOSSES[loss].slope)
#define FASTGD_SGD_OF_LOSS(kind, real, sfx, name, slope)                                           \
    static __attribute__((noinline)) double sgd_##kind##_##name##_##sfx(FASTGD_EPOCH(real))        \
    {                                                                                              \
        return sgd_over_##sfx(kind, slope, FASTGD_GIVEN);                                          \
    }
#define FASTGD_SGD(kind, sfx)                                                                      \
    (slope_at == log_loss_slope        ? sgd_##kind##_logistic_##sfx(FASTGD_GIVEN)                 \
     : slope_at == squared_error_slope ? sgd_##kind##_squared_##sfx(FASTGD_GIVEN)                  \
     : slope_at == hinge_slope         ? sgd_##kind##_hinge_##sfx(FASTGD_GIVEN)                    \
                                       : sgd_##kind##_any_##sfx(FASTGD_GIVEN))

#define FASTGD_DEFINE_SGD(real, vec, sfx, SMALLEST)                                                \
    /* a row: its numbers and how many, and themselves if short */                                 \
    typedef struct {                                                                               \
        const real *x;                                                                             \
        ptrdiff_t n;                                                                               \
        vec v[MOST_VECTORS];                                                                       \
    } row_##sfx;                                                                                   \
    ALWAYS_INLINE row_##sfx row_of_##sfx(const int kind, const real *x, ptrdiff_t n)               \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real) };                                                   \
        row_##sfx row = {.x = x, .n = n};                                                          \
        for (int l = 0; l < kind; ++l) {                                                           \
            const ptrdiff_t left = CLIP(n - l * L, 0, L);                                          \
            row.v[l] = l < FULL(kind) ? *(const vec *)(x + l * L) : part_##sfx(x + l * L, left);   \
        }                                                                                          \
        return row;                                                                                \
    }                                                                                              \
    ALWAYS_INLINE real row_dot_##sfx(const int kind, const row_##sfx *row, const row_##sfx *w)     \
    {                                                                                              \
        vec sum = row->v[0] * w->v[0];                                                             \
        for (int l = 1; l < kind; ++l)                                                             \
            sum += row->v[l] * w->v[l];                                                            \
        return sum_short_##sfx(sum);                                                               \
    }                                                                                              \
    ALWAYS_INLINE void row_axpy_##sfx(const int kind, real a, const row_##sfx *row, row_##sfx *w)  \
    {                                                                                              \
        for (int l = 0; l < kind; ++l)                                                             \
            w->v[l] += row->v[l] * a;                                                              \
    }                                                                                              \
    /* w *= a; unless short, the weights lie at v */                                               \
    ALWAYS_INLINE void rescale_##sfx(const int kind, real a, row_##sfx *w, real *v)                \
    {                                                                                              \
        for (int l = 0; l < kind; ++l)                                                             \
            w->v[l] *= a;                                                                          \
        if (kind <= LONG)                                                                          \
            for (ptrdiff_t j = 0; j < w->n; ++j)                                                   \
                v[j] *= a;                                                                         \
    }                                                                                              \
    ALWAYS_INLINE double sgd_over_##sfx(const int kind, const slope_function slope_at, FASTGD_EPOCH(real)) \
    {                                                                                              \
        const ptrdiff_t d = rows->d, ld = rows->ld, bytes = d * sizeof(real);                      \
        const ptrdiff_t far = dense_rows_ahead(bytes);                                             \
        double z_met[MET], y_met[MET], s_met[MET];                                                 \
        row_##sfx w = row_of_##sfx(kind, v, d);                                                    \
        row_##sfx row = row_of_##sfx(kind, X + order[0] * ld, d), next = row;                      \
        double scale = 1, b = *intercept, total = 0;                                               \
        double z = (kind > 0 ? row_dot_##sfx(kind, &row, &w) : dot_##sfx(d, row.x, v)) + b;        \
        const real *last = row.x; /* of LATE, the row by which the weights are yet to be updated */ \
        real step = 0;                                                                             \
        for (ptrdiff_t i = 0; i < n; ++i, row = next) {                                            \
            if (i + 1 < n)                                                                         \
                next = row_of_##sfx(kind, X + order[i + 1] * ld, d);                               \
            const real *later = next.x;                                                            \
            if (i + far < n) {                                                                     \
                const ptrdiff_t at = order[i + far];                                               \
                later = X + at * ld;                                                               \
                __builtin_prefetch(Y + at);                                                        \
                if (kind > 0)                                                                      \
                    fetch_dense(later, bytes);                                                     \
            }                                                                                      \
            real ahead = 0, cross = 0;                                                             \
            if (kind > 0) {                                                                        \
                ahead = row_dot_##sfx(kind, &next, &w);                                            \
                cross = row_dot_##sfx(kind, &next, &row);                                          \
            } else if (kind == LATE) {                                                             \
                ahead = axpy_dot_##sfx(1, 1, d, step, last, v, next.x, row.x, &cross, later);      \
                last = row.x;                                                                      \
            }                                                                                      \
            const double s = weight ? weight[order[i]] : 1, a = steps[i], y = Y[order[i]];         \
            double inverse = 1;                                                                    \
            if (l2 != 0) {                                                                         \
                const double shrink = 1 - a * l2;                                                  \
                scale *= shrink > 0 ? shrink : 0;                                                  \
                if (scale < SMALLEST) {                                                            \
                    rescale_##sfx(kind, (real)scale, &w, v);                                       \
                    ahead *= (real)scale;                                                          \
                    scale = 1;                                                                     \
                }                                                                                  \
                inverse = 1 / scale;                                                               \
            }                                                                                      \
            const double factor = -a * s, base = scale * ahead + b;                                \
            const double gain = s != 0 ? factor * (cross + (fit_intercept ? 1 : 0)) : 0;           \
            const double slope = step_slope(slope_at, z, y, params, s);                            \
            z_met[i % MET] = z, y_met[i % MET] = y, s_met[i % MET] = s;                            \
            if (i % MET == MET - 1 || i == n - 1)                                                  \
                total += sum_of_losses(loss, params, i % MET + 1, z_met, y_met, s_met);            \
            if (kind > 0)                                                                          \
                row_axpy_##sfx(kind, (real)(factor * inverse * slope), &row, &w);                  \
            else                                                                                   \
                step = (real)(factor * inverse * slope);                                           \
            if (fit_intercept)                                                                     \
                b += factor * slope;                                                               \
            if (kind != LONG) {                                                                    \
                z = base + gain * slope;                                                           \
            } else if (step != 0) {                                                                \
                z = scale * axpy_dot_##sfx(1, 0, d, step, row.x, v, next.x, NULL, NULL, later) + b; \
            } else {                                                                               \
                z = scale * axpy_dot_##sfx(0, 0, d, 0, NULL, v, next.x, NULL, NULL, later) + b;    \
            }                                                                                      \
        }                                                                                          \
        if (kind == LATE)                                                                          \
            axpy_##sfx(d, step, last, v);                                                          \
        rescale_##sfx(kind, (real)scale, &w, v);                                                   \
        for (int l = 0; l < kind; ++l)                                                             \
            *(vec *)(v + l * (ptrdiff_t)(sizeof(vec) / sizeof(real))) = w.v[l];                    \
        *intercept = b;                                                                            \
        return total;                                                                              \
    }                                                                                              \
    FASTGD_SGD_OF_KIND(LONG, real, sfx)                                                            \
    FASTGD_SGD_OF_KIND(LATE, real, sfx)                                                            \
    FASTGD_SGD_OF_KIND(1, real, sfx)                                                               \
    FASTGD_SGD_OF_KIND(2, real, sfx)                                                               \
    FASTGD_SGD_OF_KIND(3, real, sfx)                                                               \
    FASTGD_SGD_OF_KIND(4, real, sfx)                                                               \
    FASTGD_SGD_OF_KIND(6, real, sfx)                                                               \
    FASTGD_SGD_OF_KIND(8, real, sfx)                                                               \
    static double sgd_rows_##sfx(FASTGD_EPOCH(real))                                               \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real) };                                                   \
        const slope_function slope_at = LOSSES[loss].slope;                                        \
        switch ((rows->d + L - 1) / L) {                                                           \
        case 0: case 1: return FASTGD_SGD(1, sfx);                                                 \
        case 2: return FASTGD_SGD(2, sfx);                                                         \
        case 3: return FASTGD_SGD(3, sfx);                                                         \
        case 4: return FASTGD_SGD(4, sfx);                                                         \
        case 5: case 6: return FASTGD_SGD(6, sfx);                                                 \
        case 7: case 8: return FASTGD_SGD(8, sfx);                                                 \
        }                                                                                          \
        const ptrdiff_t late = slope_at == squared_error_slope ? 0                                 \
                               : slope_at == hinge_slope       ? LATE_BYTES / 2                    \
                                                               : LATE_BYTES;                       \
        if (rows->d * (ptrdiff_t)sizeof(real) <= late)                                             \
            return FASTGD_SGD(LATE, sfx);                                                          \
        return FASTGD_SGD(LONG, sfx);                                                              \
    }
#define FULL(kind) ((kind) > 4 ? (kind) - 2 : (kind) - 1) /* vectors that are not the end of a row */
FASTGD_DEFINE_SGD(double, short_f64, f64, 1e-9)
FASTGD_DEFINE_SGD(float, short_f32, f32, 1e-6)
#endif
