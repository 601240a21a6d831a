/* Stochastic gradient descent on single rows, one output: the inner loop of an epoch.
 *
 * w = scale * v, so that the L2 shrinkage is one multiplication. What limits short rows is not
 * arithmetic but the chain prediction -> slope -> update -> next prediction. It is cut short: while
 * row i waits for its slope, the next row is multiplied with v as it still is and with row i, since
 *
 *     x_{i+1} . (v + c x_i) = x_{i+1} . v + c (x_{i+1} . x_i).
 */
#ifndef FASTGD_SGD_H
#define FASTGD_SGD_H
#include "losses.h"
#include "simd.h"

enum { SHORT_ROW = 64, ROWS_AHEAD = 6 };

#define FASTGD_DEFINE_SGD(real, sfx, SMALLEST)                                                     \
    static double sgd_rows_##sfx(const real *X, ptrdiff_t ld, ptrdiff_t d, const real *Y,          \
                                 const real *weight, const ptrdiff_t *order, ptrdiff_t n,          \
                                 const double *steps, int loss, const double *params, double l2,   \
                                 int fit_intercept, real *v, double *intercept)                    \
    {                                                                                              \
        const point_loss evaluate = LOSSES[loss].point;                                            \
        const int look_ahead = d <= SHORT_ROW;                                                     \
        double scale = 1, b = *intercept, total = 0, slope, raw = dot_##sfx(d, X + order[0] * ld, v); \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real *x = X + order[i] * ld;                                                     \
            const real *next = i + 1 < n ? X + order[i + 1] * ld : x;                              \
            if (i + ROWS_AHEAD < n)                                                                \
                __builtin_prefetch(X + order[i + ROWS_AHEAD] * ld);                                \
            real ahead = 0, cross = 0;                                                             \
            if (look_ahead)                                                                        \
                dot2_##sfx(d, next, v, x, &ahead, &cross);                                         \
            const double s = weight ? weight[order[i]] : 1, a = steps[i];                          \
            const double value = evaluate(scale * raw + b, Y[order[i]], params, &slope);           \
            total += s != 0 ? s * value : 0;                                                       \
            slope = slope > 1e12 ? 1e12 : slope < -1e12 ? -1e12 : slope;                           \
            const double change = s != 0 ? -a * slope * s : 0;                                     \
            if (l2 != 0) {                                                                         \
                const double shrink = 1 - a * l2;                                                  \
                scale *= shrink > 0 ? shrink : 0;                                                  \
                if (scale < SMALLEST) {                                                            \
                    for (ptrdiff_t j = 0; j < d; ++j)                                              \
                        v[j] *= (real)scale;                                                       \
                    ahead *= (real)scale;                                                          \
                    scale = 1;                                                                     \
                }                                                                                  \
            }                                                                                      \
            const double c = change / scale;                                                       \
            if (change != 0)                                                                       \
                axpy_##sfx(d, (real)c, x, v);                                                      \
            if (fit_intercept)                                                                     \
                b += change;                                                                       \
            raw = look_ahead ? ahead + c * cross : dot_##sfx(d, next, v);                          \
        }                                                                                          \
        for (ptrdiff_t j = 0; j < d; ++j)                                                          \
            v[j] *= (real)scale;                                                                   \
        *intercept = b;                                                                            \
        return total;                                                                              \
    }
FASTGD_DEFINE_SGD(double, f64, 1e-9)
FASTGD_DEFINE_SGD(float, f32, 1e-6)
#endif
