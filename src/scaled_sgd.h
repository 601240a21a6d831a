/* Stochastic gradient descent on single dense rows, one output, with what sgd.h leaves out: columns that are
 * shifted and scaled, an L1 penalty, the average of the iterates, passive-aggressive steps.
 *
 * With c = (x - shift) * scale, a step is
 *
 *     u_j <- u_j - a (g c_j + l2 scale_j^2 u_j),
 *
 * where L2 takes no more than the weight. In columns as they are, u is a multiple of what is kept, as in sgd.h.
 *
 * One pass over the columns updates the weights by a row and multiplies them with the next one. Of short rows it is
 * the one after that, which is multiplied with the next one, too: as in sgd.h, its prediction then waits for no pass
 * over the weights, but for a multiplication and an addition.
 */
#ifndef FASTGD_SCALED_SGD_H
#define FASTGD_SCALED_SGD_H
#include "sgd.h"

/* What a loop is compiled for. CUMULATIVE: what L1 takes from a weight is paid as in sparse_sgd.h (Tsuruoka et al.
 * 2009); SUBGRADIENT: the smallest one of the objective is followed (Andrew & Gao 2007), and zero not crossed;
 * PASSIVE: steps as long as a row's loss asks for (Crammer et al. 2006); EARLY: for short rows. */
enum { AVERAGING = 1, CUMULATIVE = 2, SUBGRADIENT = 4, SCALED = 8, PASSIVE = 16, EARLY = 32 };
enum { EARLY_BYTES = 512 }; /* of the longest row that is short */
enum { WIDE_BYTES = 4096 }; /* of longer rows 64 bytes at once come slower than 32, unless much is done with them */

/* Arrays over the columns, `stride` apart, with zeros behind the last one; MET_ROW and NEXT_ROW are c of two rows,
 * PAID is what L1 has moved each weight by. */
enum { WEIGHTS, MEAN, PAID, SCALE, SHIFT, MET_ROW, NEXT_ROW, N_ARRAYS };

typedef struct {
    int kind;
    ptrdiff_t stride;
    ptrdiff_t first_averaged;
    double count, mean_intercept; /* averaged updates, and the mean of their intercepts */
    double l1, owed;              /* of CUMULATIVE, what every weight would have paid by now */
    double max_move;              /* of a step times a slope; 0: the slope has SGDRegressor's bound */
    int variant;                  /* of PASSIVE: 1 or 2 */
} scaled_state;

/* The slope times what is the step of a passive-aggressive row, of squared length `square` */
static double passive_step(int variant, double aggressiveness, double square, int loss, double z, double y,
                           const double *params)
{
    double value, slope;
    LOSSES[loss].f64(1, &z, &y, params, &value, &slope, NULL);
    const double wanted = variant == 1 ? value / square : value / (square + 0.5 / aggressiveness);
    return slope * (variant == 1 && wanted > aggressiveness ? aggressiveness : wanted);
}

/* a where the mask is set, else b; v between two bounds */
#define SELECT(mask, a, b)                                                                         \
    ((__typeof__(a))(((mask) & (__typeof__(mask))(a)) | (~(mask) & (__typeof__(mask))(b))))
#define BETWEEN(low, v, high) SELECT((v) < (low), (low), SELECT((v) > (high), (high), (v)))

/* The share of a weight that L2 takes in a column of scale s */
#define TAKEN(type, shrink) SELECT((shrink) * (s * s) < 1, (shrink) * (s * s), (type){0} + 1)

/* One vector of columns: its step, and its part in the products with the row x that comes. */
#define FASTGD_SCALED_STEP(type, load, sum, cross)                                                 \
    {                                                                                              \
        const type u = *(const type *)(v + j), c = load(kind & SCALED, type, met);                 \
        type s = (type){0} + 1, coming = load(0, type, x), moved;                                  \
        if (kind & SCALED) {                                                                       \
            s = *(const type *)(v + SCALE * stride + j);                                           \
            coming = (coming - *(const type *)(v + SHIFT * stride + j)) * s;                       \
            *(type *)(met + j) = coming;                                                           \
        }                                                                                          \
        if (kind & SUBGRADIENT) {                                                                  \
            const type g = by.step * c + by.shrink * (s * s) * u, most = by.l1 * s;                \
            const type taken = SELECT(u > 0, -most, SELECT(u < 0, most, BETWEEN(-most, g, most))); \
            moved = u - (g - taken);                                                               \
            moved = SELECT(u * moved < 0, (type){0}, moved);                                       \
        } else if (kind & SCALED) {                                                                \
            moved = u - (by.step * c + TAKEN(type, by.shrink) * u);                                \
        } else {                                                                                   \
            moved = u - by.step * c;                                                               \
        }                                                                                          \
        type weight = moved;                                                                       \
        if (!(kind & SCALED))                                                                      \
            weight *= by.scale;                                                                    \
        if (kind & AVERAGING)                                                                      \
            *(type *)(v + MEAN * stride + j) += (weight - *(type *)(v + MEAN * stride + j)) * by.part; \
        if (kind & CUMULATIVE) {                                                                   \
            const type paid = *(type *)(v + PAID * stride + j), least = paid - by.owed, most = paid + by.owed; \
            const type taken = BETWEEN(SELECT(least < 0, least, (type){0}), weight,                \
                                       SELECT(most > 0, most, (type){0}));                         \
            *(type *)(v + PAID * stride + j) = paid - taken;                                       \
            moved = SELECT(taken == weight, (type){0}, moved - taken * by.inverse);                \
        }                                                                                          \
        *(type *)(v + j) = moved;                                                                  \
        if (kind & EARLY) {                                                                        \
            cross += load(kind & SCALED, type, next) * coming;                                     \
            if (kind & SCALED)                                                                     \
                moved -= TAKEN(type, by.shrink_next) * moved;                                      \
        }                                                                                          \
        if (kind & PASSIVE)                                                                        \
            cross += coming * coming;                                                              \
        sum += coming * moved;                                                                     \
    }
#define FASTGD_WHOLE(padded, type, x) (*(const type *)((x) + j))
#define FASTGD_LAST_f64(padded, type, x) (padded ? *(const type *)((x) + j) : part_f64((x) + j, d - j))
#define FASTGD_LAST_f32(padded, type, x) (padded ? *(const type *)((x) + j) : part_f32((x) + j, d - j))

#define FASTGD_DEFINE_SCALED_SGD(real, vec, tail, sfx, SMALLEST)                                   \
    typedef struct {                                                                               \
        real step, scale, inverse, shrink, shrink_next, l1, owed, part;                            \
    } step_##sfx;                                                                                  \
    typedef struct {                                                                               \
        real sum, cross;                                                                           \
    } products_##sfx;                                                                              \
    /* The products of x, or c of it, with the weights, and with `next` or itself; later[:d] is asked for */ \
    ALWAYS_INLINE products_##sfx scaled_pass_##sfx(const int kind, ptrdiff_t d, const real *x, real *met, \
                                                   const real *next, const step_##sfx by, real *v, \
                                                   ptrdiff_t stride, const real *later)            \
    {                                                                                              \
        enum { L = sizeof(vec) / sizeof(real), S = sizeof(tail) / sizeof(real) };                  \
        vec sums = {0}, crosses = {0};                                                             \
        tail sum = {0}, cross = {0};                                                               \
        ptrdiff_t j = 0;                                                                           \
        const int wide = kind & (CUMULATIVE | SUBGRADIENT) || d * sizeof(real) <= WIDE_BYTES;      \
        for (; wide && j + L <= d; j += L) {                                                       \
            __builtin_prefetch(later + j);                                                         \
            FASTGD_SCALED_STEP(vec, FASTGD_WHOLE, sums, crosses)                                   \
        }                                                                                          \
        for (; j + S <= d; j += S) {                                                               \
            __builtin_prefetch(later + j);                                                         \
            FASTGD_SCALED_STEP(tail, FASTGD_WHOLE, sum, cross)                                     \
        }                                                                                          \
        __builtin_prefetch(later + j);                                                             \
        __builtin_prefetch(later + d - 1);                                                         \
        if (j < d)                                                                                 \
            FASTGD_SCALED_STEP(tail, FASTGD_LAST_##sfx, sum, cross)                                \
        return (products_##sfx){sum_short_##sfx(fold_##sfx(sums) + sum),                           \
                                kind & (EARLY | PASSIVE) ? sum_short_##sfx(fold_##sfx(crosses) + cross) : 0}; \
    }                                                                                              \
    /* Row x as the weights meet it */                                                             \
    ALWAYS_INLINE real *scaled_row_##sfx(const int kind, ptrdiff_t d, const real *x, real *v,      \
                                         ptrdiff_t stride, int where)                              \
    {                                                                                              \
        if (!(kind & SCALED))                                                                      \
            return (real *)x;                                                                      \
        for (ptrdiff_t j = 0; j < d; ++j)                                                          \
            v[where * stride + j] = (x[j] - v[SHIFT * stride + j]) * v[SCALE * stride + j];        \
        return v + where * stride;                                                                 \
    }                                                                                              \
    ALWAYS_INLINE double scaled_over_##sfx(const int kind, FASTGD_EPOCH(real), scaled_state *state) \
    {                                                                                              \
        const ptrdiff_t d = rows->d, ld = rows->ld, stride = state->stride;                        \
        const ptrdiff_t far = dense_rows_ahead(d * sizeof(real)), coming = kind & EARLY ? 2 : 1;   \
        const slope_function slope_at =                                                            \
            LOSSES[loss].slope == log_loss_slope ? logistic_slope : LOSSES[loss].slope;            \
        double z_met[MET], y_met[MET], s_met[MET];                                                 \
        real *met = scaled_row_##sfx(kind, d, X + order[0] * ld, v, stride, MET_ROW);              \
        real *next = scaled_row_##sfx(kind, d, X + order[n > 1] * ld, v, stride, NEXT_ROW);        \
        double b = *intercept, z = dot_##sfx(d, met, v) + b, total = 0, scale = 1;                 \
        step_##sfx by;                                                                             \
        products_##sfx ahead = {0, kind & PASSIVE ? dot_##sfx(d, met, met) : 0};                   \
        for (ptrdiff_t j = 0; kind & EARLY && j < d; ++j) {                                        \
            const real s = kind & SCALED ? v[SCALE * stride + j] : 0, taken = (real)(steps[0] * l2) * (s * s); \
            ahead.sum += next[j] * (v[j] - (taken < 1 ? taken : 1) * v[j]), ahead.cross += next[j] * met[j]; \
        }                                                                                          \
        for (ptrdiff_t i = 0; i < n; ++i) {                                                        \
            const double s = weight ? weight[order[i]] : 1, y = Y[order[i]], a = steps[i];         \
            const real *const x = X + order[i + coming < n ? i + coming : n - 1] * ld;             \
            const ptrdiff_t later = order[i + far < n ? i + far : i];                              \
            __builtin_prefetch(Y + later);                                                         \
            double step, shrink = a * l2;                                                          \
            int passed = 0; /* over a row, as SGDRegressor passes over an empty one */             \
            if (kind & PASSIVE) {                                                                  \
                passed = ahead.cross == 0 && state->variant == 1;                                  \
                step = passed ? 0 : s * passive_step(state->variant, a, ahead.cross, loss, z, y, params); \
                shrink = passed ? 0 : shrink;                                                      \
            } else {                                                                               \
                const double most = state->max_move > 0 ? state->max_move / a : 1e12;              \
                const double g = s != 0 ? s * slope_at(z, y, params) : 0;                          \
                step = a * (g > most ? most : g < -most ? -most : g);                              \
            }                                                                                      \
            z_met[i % MET] = z, y_met[i % MET] = y, s_met[i % MET] = kind & PASSIVE ? !passed : s; \
            if (i % MET == MET - 1 || i == n - 1)                                                  \
                total += sum_of_losses(loss, params, i % MET + 1, z_met, y_met, s_met);            \
            if (fit_intercept)                                                                     \
                b -= step;                                                                         \
            double part = 0;                                                                       \
            if (kind & AVERAGING && i >= state->first_averaged && !passed) {                       \
                part = 1 / ++state->count;                                                         \
                state->mean_intercept += (b - state->mean_intercept) * part;                       \
            }                                                                                      \
            state->owed += state->l1 * a;                                                          \
            if (!(kind & SCALED) && shrink != 0) {                                                 \
                scale *= shrink < 1 ? 1 - shrink : 0;                                              \
                if (scale < SMALLEST) {                                                            \
                    for (ptrdiff_t j = 0; j < d; ++j)                                              \
                        v[j] *= (real)scale;                                                       \
                    ahead.sum *= (real)scale;                                                      \
                    scale = 1;                                                                     \
                }                                                                                  \
            }                                                                                      \
            by.scale = (real)scale, by.inverse = (real)(1 / scale);                                \
            by.step = (real)(step / scale), by.shrink = (real)shrink, by.part = (real)part;        \
            by.l1 = (real)(a * state->l1), by.owed = (real)state->owed;                            \
            by.shrink_next = (real)(steps[i + 1 < n ? i + 1 : i] * l2);                            \
            const products_##sfx before = ahead;                                                   \
            ahead = scaled_pass_##sfx(kind, d, x, met, next, by, v, stride, X + later * ld);       \
            z = b + scale * (kind & EARLY ? before.sum : ahead.sum);                               \
            if (kind & EARLY && step != 0)                                                         \
                z -= step * before.cross;                                                          \
            real *const after = kind & SCALED ? met : (real *)x;                                   \
            met = kind & EARLY ? next : after;                                                     \
            next = kind & EARLY ? after : next;                                                    \
        }                                                                                          \
        for (ptrdiff_t j = 0; scale != 1 && j < d; ++j)                                            \
            v[j] *= (real)scale;                                                                   \
        *intercept = b;                                                                            \
        return total;                                                                              \
    }                                                                                              \
    FASTGD_SCALED_OF_KIND(AVERAGING, average, real, sfx)                                           \
    FASTGD_SCALED_OF_KIND(AVERAGING | EARLY, average_early, real, sfx)                             \
    FASTGD_SCALED_OF_KIND(CUMULATIVE, l1, real, sfx)                                               \
    FASTGD_SCALED_OF_KIND(CUMULATIVE | AVERAGING, l1_average, real, sfx)                           \
    FASTGD_SCALED_OF_KIND(PASSIVE, passive, real, sfx)                                             \
    FASTGD_SCALED_OF_KIND(PASSIVE | AVERAGING, passive_average, real, sfx)                         \
    FASTGD_SCALED_OF_KIND(SCALED, scaled, real, sfx)                                               \
    FASTGD_SCALED_OF_KIND(SCALED | EARLY, scaled_early, real, sfx)                                 \
    FASTGD_SCALED_OF_KIND(SCALED | AVERAGING, scaled_average, real, sfx)                           \
    FASTGD_SCALED_OF_KIND(SCALED | AVERAGING | EARLY, scaled_average_early, real, sfx)             \
    FASTGD_SCALED_OF_KIND(SCALED | SUBGRADIENT, scaled_l1, real, sfx)                              \
    FASTGD_SCALED_OF_KIND(SCALED | SUBGRADIENT | AVERAGING, scaled_l1_average, real, sfx)          \
    static double scaled_sgd_##sfx(FASTGD_EPOCH(real), scaled_state *state)                        \
    {                                                                                              \
        const int early = rows->d * (ptrdiff_t)sizeof(real) <= EARLY_BYTES ? EARLY : 0;            \
        switch (state->kind & (CUMULATIVE | SUBGRADIENT | PASSIVE) ? state->kind : state->kind | early) { \
        case AVERAGING: return sgd_average_##sfx(FASTGD_GIVEN, state);                             \
        case AVERAGING | EARLY: return sgd_average_early_##sfx(FASTGD_GIVEN, state);               \
        case CUMULATIVE: return sgd_l1_##sfx(FASTGD_GIVEN, state);                                 \
        case CUMULATIVE | AVERAGING: return sgd_l1_average_##sfx(FASTGD_GIVEN, state);             \
        case PASSIVE: return sgd_passive_##sfx(FASTGD_GIVEN, state);                               \
        case PASSIVE | AVERAGING: return sgd_passive_average_##sfx(FASTGD_GIVEN, state);           \
        case SCALED: return sgd_scaled_##sfx(FASTGD_GIVEN, state);                                 \
        case SCALED | EARLY: return sgd_scaled_early_##sfx(FASTGD_GIVEN, state);                   \
        case SCALED | AVERAGING: return sgd_scaled_average_##sfx(FASTGD_GIVEN, state);             \
        case SCALED | AVERAGING | EARLY: return sgd_scaled_average_early_##sfx(FASTGD_GIVEN, state); \
        case SCALED | SUBGRADIENT: return sgd_scaled_l1_##sfx(FASTGD_GIVEN, state);                \
        default: return sgd_scaled_l1_average_##sfx(FASTGD_GIVEN, state);                          \
        }                                                                                          \
    }
#define FASTGD_SCALED_OF_KIND(kind, name, real, sfx)                                               \
    static __attribute__((noinline)) double sgd_##name##_##sfx(FASTGD_EPOCH(real), scaled_state *state) \
    {                                                                                              \
        return scaled_over_##sfx(kind, FASTGD_GIVEN, state);                                       \
    }
FASTGD_DEFINE_SCALED_SGD(double, vec_f64, short_f64, f64, 1e-9)
FASTGD_DEFINE_SCALED_SGD(float, vec_f32, short_f32, f32, 1e-6)
#endif
