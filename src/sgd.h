/* Stochastic gradient descent on single dense rows, one output: the inner loop of an epoch.
 *
 * w = scale * v, so that the L2 shrinkage is one multiplication. What limits short rows is not
 * arithmetic but the chain prediction -> slope -> update -> next prediction. It is cut short: while
 * row i waits for its slope g, the next row is multiplied with v as it still is and with row i:
 *
 *     z_{i+1} = scale (x_{i+1} . v) + b - a g (x_{i+1} . x_i + 1),
 *
 * one multiplication and one addition after g.
 */
#ifndef FASTGD_SGD_H
#define FASTGD_SGD_H
#include "losses.h"
#include "rows.h"
#include "simd.h"

enum { SHORT_ROW = 64, MET = 128 };

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

#define FASTGD_DEFINE_SGD(real, sfx, SMALLEST)                                                     \
    static double sgd_rows_##sfx(const real *X, const layout *rows, const real *Y,                 \
                                 const real *weight, const ptrdiff_t *order, ptrdiff_t n,          \
                                 const double *steps, int loss, const double *params, double l2,   \
                                 int fit_intercept, real *v, double *intercept)                    \
    {                                                                                              \
        const int logistic = LOSSES[loss].slope == log_loss_slope;                                 \
        const slope_function slope_at = logistic ? logistic_slope : LOSSES[loss].slope;            \
        const ptrdiff_t d = rows->d;                                                               \
        double z_met[MET], y_met[MET], s_met[MET];                                                 \
        const int look_ahead = d <= SHORT_ROW;                                                     \
        double scale = 1, b = *intercept, total = 0;                                               \
        double z = dot_##sfx(d, X + order[0] * rows->ld, v) + b;                                   \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real *row = X + order[i] * rows->ld;                                             \
            const real *next = i + 1 < n ? X + order[i + 1] * rows->ld : row;                      \
            if (i + ROWS_AHEAD < n)                                                                \
                __builtin_prefetch(X + order[i + ROWS_AHEAD] * rows->ld);                          \
            real ahead = 0, cross = 0;                                                             \
            if (look_ahead)                                                                        \
                dot2_##sfx(d, next, v, row, &ahead, &cross);                                       \
            const double s = weight ? weight[order[i]] : 1, a = steps[i], y = Y[order[i]];         \
            double inverse = 1;                                                                    \
            if (l2 != 0) {                                                                         \
                const double shrink = 1 - a * l2;                                                  \
                scale *= shrink > 0 ? shrink : 0;                                                  \
                if (scale < SMALLEST) {                                                            \
                    for (ptrdiff_t j = 0; j < d; ++j)                                              \
                        v[j] *= (real)scale;                                                       \
                    ahead *= (real)scale;                                                          \
                    scale = 1;                                                                     \
                }                                                                                  \
                inverse = 1 / scale;                                                               \
            }                                                                                      \
            const double factor = -a * s, base = scale * ahead + b;                                \
            const double gain = factor * (cross + (fit_intercept ? 1 : 0));                        \
            double slope = slope_at(z, y, params);                                                 \
            if (!(slope <= 1e12 && slope >= -1e12)) /* never taken: a branch has no latency */      \
                slope = slope > 0 ? 1e12 : slope < 0 ? -1e12 : slope;                              \
            if (s == 0) /* an absent row, even where its prediction overflowed */                  \
                slope = 0;                                                                         \
            z_met[i % MET] = z, y_met[i % MET] = y, s_met[i % MET] = s;                            \
            if (i % MET == MET - 1 || i == n - 1)                                                  \
                total += sum_of_losses(loss, params, i % MET + 1, z_met, y_met, s_met);            \
            if (look_ahead || slope != 0) /* short rows: less than a mispredicted branch */        \
                axpy_##sfx(d, (real)(factor * inverse * slope), row, v);                           \
            if (fit_intercept)                                                                     \
                b += factor * slope;                                                               \
            z = look_ahead ? base + gain * slope : scale * dot_##sfx(d, next, v) + b;              \
        }                                                                                          \
        for (ptrdiff_t j = 0; j < d; ++j)                                                          \
            v[j] *= (real)scale;                                                                   \
        *intercept = b;                                                                            \
        return total;                                                                              \
    }
FASTGD_DEFINE_SGD(double, f64, 1e-9)
FASTGD_DEFINE_SGD(float, f32, 1e-6)
#endif
