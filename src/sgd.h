/* Stochastic gradient descent on single rows, one output: the inner loop of an epoch.
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
#include "simd.h"

enum { SHORT_ROW = 64, ROWS_AHEAD = 6, MET = 128 };

/* A step waits for its slope. The logistic one is written again for latency, with libm's exp, whose
 * tables make a single value sooner than exp_f64 does. */
static double logistic_slope(double z, double y, const double *p)
{
    (void)p;
    return -y / (1 + exp(y * z));
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

#define FASTGD_DEFINE_SGD(real, sfx, SMALLEST)                                                     \
    static double sgd_rows_##sfx(const real *X, ptrdiff_t ld, ptrdiff_t d, const real *Y,          \
                                 const real *weight, const ptrdiff_t *order, ptrdiff_t n,          \
                                 const double *steps, int loss, const double *params, double l2,   \
                                 int fit_intercept, real *v, double *intercept)                    \
    {                                                                                              \
        const int logistic = LOSSES[loss].slope == log_loss_slope;                                 \
        const slope_function slope_at = logistic ? logistic_slope : LOSSES[loss].slope;            \
        double z_met[MET], y_met[MET], s_met[MET];                                                 \
        const int look_ahead = d <= SHORT_ROW;                                                     \
        double scale = 1, b = *intercept, total = 0, z = dot_##sfx(d, X + order[0] * ld, v) + b;   \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real *x = X + order[i] * ld;                                                     \
            const real *next = i + 1 < n ? X + order[i + 1] * ld : x;                              \
            if (i + ROWS_AHEAD < n)                                                                \
                __builtin_prefetch(X + order[i + ROWS_AHEAD] * ld);                                \
            real ahead = 0, cross = 0;                                                             \
            if (look_ahead)                                                                        \
                dot2_##sfx(d, next, v, x, &ahead, &cross);                                         \
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
                axpy_##sfx(d, (real)(factor * inverse * slope), x, v);                             \
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
