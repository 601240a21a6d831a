/* Every loss of a linear predictor z against a target y: value, slope d/dz, curvature d2/dz2.
 *
 * One line of formulas per loss, used by every model, for float32 and float64, for one row and for
 * a block of rows. p holds the loss's own parameters. Regression losses are functions of r = z - y;
 * classification losses of the margin t = y z with y = -1 or 1. Factors are those of scikit-learn's
 * SGDRegressor and SGDClassifier. Constants are integers, which leave float arithmetic in float.
 * A curvature is a non-negative model of the second derivative: 0 on linear pieces, Gauss-Newton's
 * for the one loss that is not convex (brier_score).
 */
#ifndef FASTGD_LOSSES_H
#define FASTGD_LOSSES_H
#include <math.h>
#include <stddef.h>
#include "simd.h"
#include "vmath.h"

#define POSITIVE(x) ((x) > 0 ? (x) : 0)
#define CLIP(x, lo, hi) ((x) < (lo) ? (lo) : (x) > (hi) ? (hi) : (x))
/* max(0, u) with its corner rounded over a width mu (Huber's smoothing), and its slope */
#define SOFT(u, mu) ((u) > (mu) / 2 ? (u) : (u) < -(mu) / 2 ? 0 : ((u) + (mu) / 2) * ((u) + (mu) / 2) / (2 * (mu)))
#define SOFT_SLOPE(u, mu) CLIP((u) / (mu) + 1 / (real)2, 0, 1)
#define IN_CORNER(u, mu) (ABS(u) < (mu) / 2 ? 1 / (mu) : 0)

/* LOSS(name, what the three share, value, slope, curvature) */
#define FASTGD_LOSSES(LOSS)                                                                        \
    LOSS(squared_error, const real r = z - y, r * r / 2, r, 1)                                      \
    /* Huber 1964; slope at most p0, quadratic for |r| <= p1 (p1 = p0: the loss itself) */         \
    LOSS(huber, const real r = z - y; const real a = ABS(r),                                       \
         a <= p1 ? p0 / p1 * r * r / 2 : p0 * (a - p1 / 2), p0 * CLIP(r / p1, -1, 1),               \
         a <= p1 ? p0 / p1 : 0)                                                                    \
    /* p0 max(0, r - p2) + p1 max(0, -r - p2): absolute error, epsilon-insensitive, quantile */    \
    LOSS(kinked, const real r = z - y, p0 * POSITIVE(r - p2) + p1 * POSITIVE(-r - p2),              \
         (r > p2 ? p0 : 0) - (-r > p2 ? p1 : 0), 0)                                                \
    LOSS(kinked_smooth, const real r = z - y, p0 * SOFT(r - p2, p3) + p1 * SOFT(-r - p2, p3),       \
         p0 * SOFT_SLOPE(r - p2, p3) - p1 * SOFT_SLOPE(-r - p2, p3),                                \
         p0 * IN_CORNER(r - p2, p3) + p1 * IN_CORNER(-r - p2, p3))                                  \
    LOSS(squared_epsilon_insensitive, const real r = z - y; const real e = POSITIVE(ABS(r) - p0),  \
         e * e, r > 0 ? 2 * e : -2 * e, e > 0 ? 2 : 0)                                              \
    /* half deviances on the log scale, up to a constant of y */                                   \
    LOSS(poisson, const real e = EXP(z), e - y * z, e - y, e)                                      \
    LOSS(gamma, const real e = y * EXP(-z), z + e, 1 - e, e)                                       \
    LOSS(log_loss, const real t = y * z; const real e = EXP_FALLING(-ABS(t)),                              \
         LOG1P_UNIT(e) + POSITIVE(-t), -y * (t > 0 ? e : 1) / (1 + e), e / ((1 + e) * (1 + e)))    \
    LOSS(hinge, const real t = y * z, t <= p0 ? p0 - t : 0, t <= p0 ? -y : 0, 0)                   \
    LOSS(hinge_smooth, const real u = p0 - y * z, SOFT(u, p1), -y * SOFT_SLOPE(u, p1),              \
         IN_CORNER(u, p1))                                                                         \
    LOSS(squared_hinge, const real u = POSITIVE(1 - y * z), u * u, -2 * y * u, u > 0 ? 2 : 0)       \
    /* Zhang 2004 */                                                                               \
    LOSS(modified_huber, const real t = y * z; const real u = POSITIVE(1 - t),                     \
         t < -1 ? -4 * t : u * u, t < -1 ? -4 * y : -2 * y * u, u > 0 && t >= -1 ? 2 : 0)          \
    /* Brier 1950 for two classes: 2 (1 - q)^2, q the probability of the true one */               \
    LOSS(brier_score, const real t = y * z; const real e = EXP_FALLING(-ABS(t));                           \
         const real q = (t > 0 ? 1 : e) / (1 + e); const real v = (t > 0 ? e : 1) / (1 + e),       \
         2 * v * v, -4 * y * q * v * v, 4 * q * q * v * v)

/* The slope of one row, in double. */
#define FASTGD_DEFINE_SLOPE(name, common, VALUE, SLOPE, CURVATURE)                                 \
    static double name##_slope(double z, double y, const double *p)                                \
    {                                                                                              \
        typedef double real;                                                                       \
        const real p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3];                                     \
        (void)p0, (void)p1, (void)p2, (void)p3;                                                    \
        common;                                                                                    \
        return SLOPE;                                                                              \
    }

/* Over a block of n rows: value[i], slope[i] and, unless NULL, curvature[i]. */
#define FASTGD_DEFINE_LOSS_OF(name, type, sfx, common, VALUE, SLOPE, CURVATURE)                    \
    static void name##_##sfx(ptrdiff_t n, const type *Z, const type *Y, const double *p,           \
                             type *value, type *slope, type *curvature)                            \
    {                                                                                              \
        typedef type real;                                                                         \
        const real p0 = (real)p[0], p1 = (real)p[1], p2 = (real)p[2], p3 = (real)p[3];             \
        (void)p0, (void)p1, (void)p2, (void)p3;                                                    \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real z = Z[i], y = Y[i];                                                         \
            common;                                                                                \
            value[i] = VALUE;                                                                      \
            slope[i] = SLOPE;                                                                      \
        }                                                                                          \
        if (curvature)                                                                             \
            for (ptrdiff_t i = 0; i < n; ++i) {                                                    \
                const real z = Z[i], y = Y[i];                                                     \
                (void)z, (void)y;                                                                  \
                common;                                                                            \
                curvature[i] = CURVATURE;                                                          \
            }                                                                                      \
    }
#define FASTGD_DEFINE_LOSS(name, ...)                                                              \
    FASTGD_DEFINE_SLOPE(name, __VA_ARGS__)                                                         \
    FASTGD_DEFINE_LOSS_OF(name, double, f64, __VA_ARGS__)                                          \
    FASTGD_DEFINE_LOSS_OF(name, float, f32, __VA_ARGS__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-variable"
FASTGD_LOSSES(FASTGD_DEFINE_LOSS)
#pragma GCC diagnostic pop

/* The log loss of n rows that count alike: its sum, its slopes and, unless NULL, its curvatures.
 *
 * The sum of log(1 + e_i) is the logarithm of a product, so that many rows share one: no factor is above 2,
 * and the product of a lane must fit in a float, that of all in a double. Products go without their 1,
 * p <- p + e (1 + p), which keeps what a small e adds.
 */
enum { LANES = 16, FACTORS = 512 };
#define FASTGD_DEFINE_LOG_LOSS_SUM(real, sfx)                                                      \
    /* at most a row for each lane */                                                              \
    static inline __attribute__((always_inline)) void log_loss_lanes_##sfx(                        \
        ptrdiff_t n, const real *restrict Z, const real *restrict Y, real *restrict slope,         \
        real *restrict product, real *restrict wrong)                                              \
    {                                                                                              \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const real y = Y[i], t = y * Z[i], e = EXP_FALLING(-ABS(t));                           \
            slope[i] = -y * (t > 0 ? e : 1) / (1 + e);                                             \
            product[i] += e * (1 + product[i]);                                                    \
            wrong[i] += POSITIVE(-t);                                                              \
        }                                                                                          \
    }                                                                                              \
    static double log_loss_sum_##sfx(ptrdiff_t n, const real *Z, const real *Y, real *slope,       \
                                     real *curvature)                                              \
    {                                                                                              \
        double total = 0;                                                                          \
        for (ptrdiff_t i = 0; i < n;) {                                                            \
            const ptrdiff_t stop = n - i > FACTORS ? i + FACTORS : n;                              \
            real p[LANES] = {0}, wrong[LANES] = {0};                                               \
            double product[4] = {0};                                                               \
            for (; i + LANES <= stop; i += LANES)                                                  \
                log_loss_lanes_##sfx(LANES, Z + i, Y + i, slope + i, p, wrong);                    \
            log_loss_lanes_##sfx(stop - i, Z + i, Y + i, slope + i, p, wrong);                     \
            i = stop;                                                                              \
            for (int l = 0; l < LANES; l += 4)                                                     \
                for (int k = 0; k < 4; ++k) {                                                      \
                    product[k] += p[l + k] * (1 + product[k]);                                     \
                    total += wrong[l + k];                                                         \
                }                                                                                  \
            for (int k = 1; k < 4; ++k)                                                            \
                product[0] += product[k] * (1 + product[0]);                                       \
            total += log1p(product[0]);                                                            \
        }                                                                                          \
        if (curvature)                                                                             \
            for (ptrdiff_t i = 0; i < n; ++i) {                                                    \
                const real e = EXP_FALLING(-ABS(Z[i]));                                            \
                curvature[i] = e / ((1 + e) * (1 + e));                                            \
            }                                                                                      \
        return total;                                                                              \
    }
FASTGD_DEFINE_LOG_LOSS_SUM(double, f64)
FASTGD_DEFINE_LOG_LOSS_SUM(float, f32)

/* The two losses that couple the classes: z_c of class c and row i is Z[c * n + i], the label of
 * row i is Y[i] in 0 .. k-1; P receives the slopes. Both go through p = softmax(z), whose Jacobian
 * dp_i/dz_j = p_i (delta_ij - p_j) is full.
 */
#define FASTGD_DEFINE_SOFTMAX(real, sfx)                                                           \
    /* P = softmax(Z); top[i] = max_c z_c, total[i] = sum_c exp(z_c - top) */                      \
    static void softmax_##sfx(ptrdiff_t k, ptrdiff_t n, const real *Z, real *P, real *top,         \
                              real *total)                                                         \
    {                                                                                              \
        for (ptrdiff_t i = 0; i < n; ++i)                                                          \
            top[i] = Z[i], total[i] = 0;                                                           \
        for (ptrdiff_t c = 1; c < k; ++c)                                                          \
            for (ptrdiff_t i = 0; i < n; ++i)                                                      \
                top[i] = Z[c * n + i] > top[i] ? Z[c * n + i] : top[i];                            \
        for (ptrdiff_t c = 0; c < k; ++c)                                                          \
            for (ptrdiff_t i = 0; i < n; ++i) {                                                    \
                const real e = EXP_FALLING(Z[c * n + i] - top[i]);                                 \
                P[c * n + i] = e;                                                                  \
                total[i] += e;                                                                     \
            }                                                                                      \
        for (ptrdiff_t c = 0; c < k; ++c)                                                          \
            for (ptrdiff_t i = 0; i < n; ++i)                                                      \
                P[c * n + i] /= total[i];                                                          \
    }                                                                                              \
    /* -log p_y; the Jacobian collapses: slope p - y */                                            \
    static void softmax_log_loss_##sfx(ptrdiff_t k, ptrdiff_t n, const real *Z, const real *Y,     \
                                       real *value, real *P, real *work)                           \
    {                                                                                              \
        softmax_##sfx(k, n, Z, P, value, work);                                                    \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const ptrdiff_t y = (ptrdiff_t)Y[i];                                                   \
            value[i] += (real)log(work[i]) - Z[y * n + i];                                         \
            P[y * n + i] -= 1;                                                                     \
        }                                                                                          \
    }                                                                                              \
    /* sum_c (p_c - y_c)^2; slope 2 p_c ((p_c - y_c) - sum_j p_j (p_j - y_j)) */                   \
    static void softmax_brier_score_##sfx(ptrdiff_t k, ptrdiff_t n, const real *Z, const real *Y,  \
                                          real *value, real *P, real *work)                        \
    {                                                                                              \
        softmax_##sfx(k, n, Z, P, value, work);                                                    \
        for (ptrdiff_t i = 0; i < n; ++i)                                                          \
            value[i] = work[i] = 0;                                                                \
        for (ptrdiff_t c = 0; c < k; ++c)                                                          \
            for (ptrdiff_t i = 0; i < n; ++i) {                                                    \
                const real p = P[c * n + i], e = p - (Y[i] == (real)c);                            \
                value[i] += e * e;                                                                 \
                work[i] += p * e;                                                                  \
            }                                                                                      \
        for (ptrdiff_t c = 0; c < k; ++c)                                                          \
            for (ptrdiff_t i = 0; i < n; ++i) {                                                    \
                const real p = P[c * n + i], e = p - (Y[i] == (real)c);                            \
                P[c * n + i] = 2 * p * (e - work[i]);                                              \
            }                                                                                      \
    }
FASTGD_DEFINE_SOFTMAX(double, f64)
FASTGD_DEFINE_SOFTMAX(float, f32)

typedef void (*block_f64)(ptrdiff_t, const double *, const double *, const double *, double *, double *, double *);
typedef void (*block_f32)(ptrdiff_t, const float *, const float *, const double *, float *, float *, float *);
typedef double (*slope_function)(double z, double y, const double *params);
typedef struct {
    const char *name;
    slope_function slope;
    block_f64 f64;
    block_f32 f32;
} loss_entry;

#define FASTGD_LIST_LOSS(name, ...) {#name, name##_slope, name##_f64, name##_f32},
static const loss_entry LOSSES[] = {FASTGD_LOSSES(FASTGD_LIST_LOSS)};
enum { N_LOSSES = sizeof(LOSSES) / sizeof(LOSSES[0]) };
#define FASTGD_PLACE_OF_LOSS(name, ...) PLACE_OF_##name,
enum { FASTGD_LOSSES(FASTGD_PLACE_OF_LOSS) };
#endif
