/* The inner loops on which every kernel stands: dot and axpy, for one row, for four, and for a sparse one.
 *
 * Strict IEEE rules forbid a compiler to reorder a sum, so the lanes are written out with the
 * vector extension of gcc and clang; nothing here needs -ffast-math. A pass of four rows loads
 * the weights (dot4) or the gradient (axpy4) once instead of four times, and the rows once for some
 * outputs; `combine` never stores a sum before it is complete.
 */
#ifndef FASTGD_SIMD_H
#define FASTGD_SIMD_H
#include <stddef.h>
#include <stdint.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX2__
#define FASTGD_SHORT_BYTES 32
#else
#define FASTGD_SHORT_BYTES 16
#endif
#ifdef __AVX512F__
#define FASTGD_VECTOR_BYTES 64
#else
#define FASTGD_VECTOR_BYTES FASTGD_SHORT_BYTES
#endif

/* A short vector ends a long loop, or is enough for a short row: 64 bytes at once close one of three ports.
 * `aligned` lowers the alignment to that of one element: any address may be loaded. */
typedef double vec_f64 __attribute__((vector_size(FASTGD_VECTOR_BYTES), aligned(8), may_alias));
typedef float vec_f32 __attribute__((vector_size(FASTGD_VECTOR_BYTES), aligned(4), may_alias));
typedef double short_f64 __attribute__((vector_size(FASTGD_SHORT_BYTES), aligned(8), may_alias));
typedef float short_f32 __attribute__((vector_size(FASTGD_SHORT_BYTES), aligned(4), may_alias));

/* part: the first n numbers at x, 0 <= n <= lanes, and zeros; keep: the way back. */
#ifdef __AVX2__
static const int32_t ONES_AND_ZEROS[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
static inline __m256i first_words(ptrdiff_t n)
{
    return _mm256_loadu_si256((const __m256i *)(ONES_AND_ZEROS + 8 - n));
}
static inline short_f64 part_f64(const double *x, ptrdiff_t n) { return _mm256_maskload_pd(x, first_words(2 * n)); }
static inline short_f32 part_f32(const float *x, ptrdiff_t n) { return _mm256_maskload_ps(x, first_words(n)); }
static inline void keep_f64(short_f64 v, double *x, ptrdiff_t n) { _mm256_maskstore_pd(x, first_words(2 * n), v); }
static inline void keep_f32(short_f32 v, float *x, ptrdiff_t n) { _mm256_maskstore_ps(x, first_words(n), v); }
static inline double sum_short_f64(short_f64 v)
{
    const __m128d half = _mm256_castpd256_pd128(v) + _mm256_extractf128_pd(v, 1);
    return half[0] + half[1];
}
static inline float sum_short_f32(short_f32 v)
{
    const __m128 half = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    return (half[0] + half[2]) + (half[1] + half[3]);
}
/* the sums of four vectors, side by side */
static inline void four_sums_f64(short_f64 a, short_f64 b, short_f64 c, short_f64 d, double *out)
{
    const __m256d ab = _mm256_hadd_pd(a, b), cd = _mm256_hadd_pd(c, d);
    _mm256_storeu_pd(out, _mm256_permute2f128_pd(ab, cd, 0x20) + _mm256_permute2f128_pd(ab, cd, 0x31));
}
static inline void four_sums_f32(short_f32 a, short_f32 b, short_f32 c, short_f32 d, float *out)
{
    const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm256_castps256_ps128(all) + _mm256_extractf128_ps(all, 1));
}
#else
#define FASTGD_PART(real, vec, sfx)                                                              \
    static inline vec part_##sfx(const real *x, ptrdiff_t n)                                     \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        vec v = {0};                                                                             \
        for (int l = 0; l < L; ++l)                                                              \
            if (l < n)                                                                           \
                v[l] = x[l];                                                                     \
        return v;                                                                                \
    }                                                                                            \
    static inline void keep_##sfx(vec v, real *x, ptrdiff_t n)                                   \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        for (int l = 0; l < L; ++l)                                                              \
            if (l < n)                                                                           \
                x[l] = v[l];                                                                     \
    }                                                                                            \
    static inline void four_sums_##sfx(vec a, vec b, vec c, vec d, real *out)                    \
    {                                                                                            \
        out[0] = sum_short_##sfx(a), out[1] = sum_short_##sfx(b);                                \
        out[2] = sum_short_##sfx(c), out[3] = sum_short_##sfx(d);                                \
    }
static inline double sum_short_f64(short_f64 v) { return v[0] + v[1]; }
static inline float sum_short_f32(short_f32 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
FASTGD_PART(double, short_f64, f64)
FASTGD_PART(float, short_f32, f32)
#endif

/* A long vector folded to a short one */
#ifdef __AVX512F__
static inline short_f64 fold_f64(vec_f64 v) { return _mm512_castpd512_pd256(v) + _mm512_extractf64x4_pd(v, 1); }
static inline short_f32 fold_f32(vec_f32 v) { return _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1); }
#else
static inline short_f64 fold_f64(vec_f64 v) { return v; }
static inline short_f32 fold_f32(vec_f32 v) { return v; }
#endif
static inline double sum_lanes_f64(vec_f64 v) { return sum_short_f64(fold_f64(v)); }
static inline float sum_lanes_f32(vec_f32 v) { return sum_short_f32(fold_f32(v)); }

/* A tile of a matrix product, so many rows by so many vectors, has its sums in registers. */
#ifdef __AVX512F__
enum { TILE_ROWS = 8 }; /* 24 sums, a vector for each column of the tile, a factor: 28 of 32 registers */
#else
enum { TILE_ROWS = 4 }; /* 12 sums and 4: 16 of 16 */
#endif
enum { TILE_VECTORS = 3 };

/* Outputs that share the loads of four rows, their sums or factors in registers */
#ifdef __AVX512F__
enum { MOST_OUTPUTS = 5 }; /* see the buffers of rows.pxd */
#define FASTGD_OF_OUTPUTS(outputs, of, ...)                                                      \
    switch (outputs) {                                                                           \
    case 1: of(1, __VA_ARGS__); break;                                                           \
    case 2: of(2, __VA_ARGS__); break;                                                           \
    case 3: of(3, __VA_ARGS__); break;                                                           \
    case 4: of(4, __VA_ARGS__); break;                                                           \
    default: of(5, __VA_ARGS__);                                                                 \
    }
#else
enum { MOST_OUTPUTS = 2 };
#define FASTGD_OF_OUTPUTS(outputs, of, ...)                                                      \
    if (outputs == 1)                                                                            \
        of(1, __VA_ARGS__);                                                                      \
    else                                                                                         \
        of(2, __VA_ARGS__);
#endif

/* Keeps a vector that several operations take where it is: gcc would load it again for each. */
#if defined(__AVX512F__)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define IN_REGISTER(v) __asm__("" : "+x"(v))
#else
#define IN_REGISTER(v) (void)(v)
#endif

enum { STRIP = 8 }; /* outputs of a sparse row that are summed side by side */

/* widths that occur often, each with sums or factors in registers */
#define FASTGD_OF_WIDTH(width, DO)                                                               \
    switch (width) {                                                                             \
    case 2: DO(2) break;                                                                         \
    case 3: DO(3) break;                                                                         \
    case 4: DO(4) break;                                                                         \
    case STRIP: DO(STRIP) break;                                                                 \
    default: DO(width)                                                                           \
    }
#define FASTGD_OUTER(w)                                                                          \
    for (ptrdiff_t p = 0; p < n; ++p) {                                                          \
        for (int c = 0; c < (w); ++c)                                                            \
            G[at[p] * k + c] += factor[c] * x[p];                                                \
    }
#define FASTGD_SPARSE_OUTER(real)                                                                \
    real factor[STRIP];                                                                          \
    for (int c = 0; c < width; ++c)                                                              \
        factor[c] = r[c];                                                                        \
    FASTGD_OF_WIDTH(width, FASTGD_OUTER)
#define FASTGD_DOTS(w)                                                                           \
    for (ptrdiff_t p = 0; p < n; ++p) {                                                          \
        for (int c = 0; c < (w); ++c)                                                            \
            sum[c] += x[p] * W[at[p] * k + c];                                                   \
    }

/* Sums in memory, by ever shorter pieces: what a mask has stored, the next load would have to wait for. */
#define FASTGD_IN_PIECES(DO, real, vec, tail)                                                    \
    typedef real pair __attribute__((vector_size(2 * sizeof(real)), aligned(sizeof(real)), may_alias)); \
    typedef real four __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias)); \
    enum { L = sizeof(vec) / sizeof(real), S = sizeof(tail) / sizeof(real) };                    \
    ptrdiff_t j = 0;                                                                             \
    for (; j + L <= n; j += L)                                                                   \
        DO(vec)                                                                                  \
    if (L > S && j + S <= n) {                                                                   \
        DO(tail)                                                                                 \
        j += S;                                                                                  \
    }                                                                                            \
    if (S > 4 && j + 4 <= n) {                                                                   \
        DO(four)                                                                                 \
        j += 4;                                                                                  \
    }                                                                                            \
    if (S > 2 && j + 2 <= n) {                                                                   \
        DO(pair)                                                                                 \
        j += 2;                                                                                  \
    }                                                                                            \
    if (j < n)                                                                                   \
        DO(real)
#define FASTGD_AXPY(type) *(type *)(g + j) += *(const type *)(x + j) * a;
#define FASTGD_AXPY4(type)                                                                       \
    {                                                                                            \
        const type v0 = *(const type *)(x0 + j), v1 = *(const type *)(x1 + j),                   \
                   v2 = *(const type *)(x2 + j), v3 = *(const type *)(x3 + j);                   \
        for (int c = 0; c < outputs; ++c) {                                                      \
            type sum = *(type *)(g + c * ldg + j);                                               \
            sum += v0 * b[c][0], sum += v1 * b[c][1], sum += v2 * b[c][2], sum += v3 * b[c][3];  \
            *(type *)(g + c * ldg + j) = sum;                                                    \
        }                                                                                        \
    }
#define FASTGD_AXPY_DOT(type, l, i)                                                              \
    {                                                                                            \
        const type v = *(const type *)(y + i);                                                   \
        type moved = *(type *)(g + i);                                                           \
        if (moving)                                                                              \
            *(type *)(g + i) = moved += *(const type *)(x + i) * a;                              \
        sums[l] += v * moved;                                                                    \
        if (crossed)                                                                             \
            crosses[l] += v * *(const type *)(other + i);                                        \
        if (l * sizeof(type) % 64 == 0)                                                          \
            __builtin_prefetch(later + i);                                                       \
    }

#define FASTGD_COMBINE(type, count)                                                              \
    {                                                                                            \
        type sum[count];                                                                         \
        for (int v = 0; v < count; ++v)                                                          \
            sum[v] = (type){0} + b;                                                              \
        for (ptrdiff_t j = 0; j < d; ++j) {                                                      \
            if (i < ahead && j % 4 == 0)                                                         \
                for (size_t byte = 0; byte < sizeof(sum); byte += 64)                            \
                    __builtin_prefetch((const char *)(x + j * ld + i + n) + byte, 0, 2);         \
            for (int v = 0; v < count; ++v)                                                      \
                sum[v] += ((const type *)(x + j * ld + i))[v] * w[j];                            \
        }                                                                                        \
        for (int v = 0; v < count; ++v)                                                          \
            ((type *)(z + i))[v] = sum[v];                                                       \
    }

#define FASTGD_DEFINE_SIMD(real, vec, tail, sfx)                                                 \
    /* sum_j x_j w_j */                                                                          \
    static inline real dot_##sfx(ptrdiff_t n, const real *x, const real *w)                      \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real), S = sizeof(tail) / sizeof(real) };                \
        vec a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};                                              \
        ptrdiff_t j = 0;                                                                         \
        for (; j + 4 * L <= n; j += 4 * L) {                                                     \
            a0 += *(const vec *)(x + j) * *(const vec *)(w + j);                                 \
            a1 += *(const vec *)(x + j + L) * *(const vec *)(w + j + L);                         \
            a2 += *(const vec *)(x + j + 2 * L) * *(const vec *)(w + j + 2 * L);                 \
            a3 += *(const vec *)(x + j + 3 * L) * *(const vec *)(w + j + 3 * L);                 \
        }                                                                                        \
        for (; j + L <= n; j += L)                                                               \
            a0 += *(const vec *)(x + j) * *(const vec *)(w + j);                                 \
        tail sum = fold_##sfx((a0 + a1) + (a2 + a3));                                            \
        if (L > S && j + S <= n) {                                                               \
            sum += *(const tail *)(x + j) * *(const tail *)(w + j);                              \
            j += S;                                                                              \
        }                                                                                        \
        if (j < n)                                                                               \
            sum += part_##sfx(x + j, n - j) * part_##sfx(w + j, n - j);                          \
        return sum_short_##sfx(sum);                                                             \
    }                                                                                            \
    /* out_cr = sum_j x_rj w_cj for four rows; the weights of output c begin at w + c ldw */     \
    static inline __attribute__((always_inline)) void dot4_of_##sfx(                             \
        const int outputs, ptrdiff_t n, const real *x0, const real *x1, const real *x2,          \
        const real *x3, const real *w, ptrdiff_t ldw, real *out)                                 \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real), S = sizeof(tail) / sizeof(real) };                \
        vec a[MOST_OUTPUTS][4];                                                                  \
        tail s[MOST_OUTPUTS][4];                                                                 \
        for (int c = 0; c < outputs; ++c)                                                        \
            a[c][0] = a[c][1] = a[c][2] = a[c][3] = (vec){0};                                    \
        ptrdiff_t j = 0;                                                                         \
        for (; j + L <= n; j += L) {                                                             \
            vec v0 = *(const vec *)(x0 + j), v1 = *(const vec *)(x1 + j),                        \
                v2 = *(const vec *)(x2 + j), v3 = *(const vec *)(x3 + j);                        \
            if (outputs > 1) {                                                                   \
                IN_REGISTER(v0); IN_REGISTER(v1); IN_REGISTER(v2); IN_REGISTER(v3);              \
            }                                                                                    \
            for (int c = 0; c < outputs; ++c) {                                                  \
                const vec u = *(const vec *)(w + c * ldw + j);                                   \
                a[c][0] += v0 * u, a[c][1] += v1 * u, a[c][2] += v2 * u, a[c][3] += v3 * u;      \
            }                                                                                    \
        }                                                                                        \
        for (int c = 0; c < outputs; ++c)                                                        \
            for (int r = 0; r < 4; ++r)                                                          \
                s[c][r] = fold_##sfx(a[c][r]);                                                   \
        if (L > S && j + S <= n) {                                                               \
            const tail v0 = *(const tail *)(x0 + j), v1 = *(const tail *)(x1 + j),               \
                       v2 = *(const tail *)(x2 + j), v3 = *(const tail *)(x3 + j);               \
            for (int c = 0; c < outputs; ++c) {                                                  \
                const tail u = *(const tail *)(w + c * ldw + j);                                 \
                s[c][0] += v0 * u, s[c][1] += v1 * u, s[c][2] += v2 * u, s[c][3] += v3 * u;      \
            }                                                                                    \
            j += S;                                                                              \
        }                                                                                        \
        if (j < n) {                                                                             \
            const tail v0 = part_##sfx(x0 + j, n - j), v1 = part_##sfx(x1 + j, n - j),           \
                       v2 = part_##sfx(x2 + j, n - j), v3 = part_##sfx(x3 + j, n - j);           \
            for (int c = 0; c < outputs; ++c) {                                                  \
                const tail u = part_##sfx(w + c * ldw + j, n - j);                               \
                s[c][0] += v0 * u, s[c][1] += v1 * u, s[c][2] += v2 * u, s[c][3] += v3 * u;      \
            }                                                                                    \
        }                                                                                        \
        for (int c = 0; c < outputs; ++c)                                                        \
            four_sums_##sfx(s[c][0], s[c][1], s[c][2], s[c][3], out + 4 * c);                    \
    }                                                                                            \
    static inline __attribute__((always_inline)) void dot4_##sfx(                                \
        int outputs, ptrdiff_t n, const real *x0, const real *x1, const real *x2,                \
        const real *x3, const real *w, ptrdiff_t ldw, real *out)                                 \
    {                                                                                            \
        FASTGD_OF_OUTPUTS(outputs, dot4_of_##sfx, n, x0, x1, x2, x3, w, ldw, out)                \
    }                                                                                            \
    /* g_j += a x_j */                                                                           \
    static inline void axpy_##sfx(ptrdiff_t n, real a, const real *x, real *g)                   \
    {                                                                                            \
        FASTGD_IN_PIECES(FASTGD_AXPY, real, vec, tail)                                           \
    }                                                                                            \
    /* g_j += a x_j if moving; returns sum_j y_j g_j, and sum_j y_j x_j of another x if crossed. The n    \
     * numbers of g are followed by zeros, up to a vector of them; `later` is asked for meanwhile. 32 bytes \
     * at once: by 64, rows come slower from memory. */                                          \
    static inline __attribute__((always_inline)) real axpy_dot_##sfx(                            \
        const int moving, const int crossed, ptrdiff_t n, real a, const real *x, real *g, const real *y, \
        const real *other, real *cross, const real *later)                                       \
    {                                                                                            \
        enum { S = sizeof(tail) / sizeof(real), SUMS = 4 };                                      \
        tail sums[SUMS] = {{0}}, crosses[SUMS] = {{0}};                                          \
        ptrdiff_t j = 0;                                                                         \
        for (; j + SUMS * S <= n; j += SUMS * S)                                                 \
            for (int l = 0; l < SUMS; ++l)                                                       \
                FASTGD_AXPY_DOT(tail, l, j + l * S)                                              \
        for (; j + S <= n; j += S)                                                               \
            FASTGD_AXPY_DOT(tail, 0, j)                                                          \
        __builtin_prefetch(later + n - 1);                                                       \
        tail sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);                                    \
        tail sum_crossed = (crosses[0] + crosses[1]) + (crosses[2] + crosses[3]);                \
        for (; j < n; j += S) {                                                                  \
            __builtin_prefetch(later + j);                                                       \
            const ptrdiff_t left = n - j < S ? n - j : S;                                        \
            const tail v = part_##sfx(y + j, left);                                              \
            tail moved = *(tail *)(g + j);                                                       \
            if (moving)                                                                          \
                *(tail *)(g + j) = moved += part_##sfx(x + j, left) * a;                         \
            sum += v * moved;                                                                    \
            if (crossed)                                                                         \
                sum_crossed += v * part_##sfx(other + j, left);                                  \
        }                                                                                        \
        if (crossed)                                                                             \
            *cross = sum_short_##sfx(sum_crossed);                                               \
        return sum_short_##sfx(sum);                                                             \
    }                                                                                            \
    /* g_j += a x_j; returns sum_j y_j w_j; `later` is asked for meanwhile. As above, but nothing waits. */ \
    static inline real axpy_and_dot_##sfx(ptrdiff_t n, real a, const real *x, real *g, const real *y, \
                                          const real *w, const real *later)                      \
    {                                                                                            \
        enum { S = sizeof(tail) / sizeof(real), SUMS = 4 };                                      \
        tail sums[SUMS] = {{0}};                                                                 \
        ptrdiff_t j = 0;                                                                         \
        for (; j + SUMS * S <= n; j += SUMS * S)                                                 \
            for (int l = 0; l < SUMS; ++l) {                                                     \
                const ptrdiff_t i = j + l * S;                                                   \
                *(tail *)(g + i) += *(const tail *)(x + i) * a;                                  \
                sums[l] += *(const tail *)(y + i) * *(const tail *)(w + i);                      \
                if (l * sizeof(tail) % 64 == 0)                                                  \
                    __builtin_prefetch(later + i);                                               \
            }                                                                                    \
        real sum = sum_short_##sfx((sums[0] + sums[1]) + (sums[2] + sums[3]));                   \
        __builtin_prefetch(later + j);                                                           \
        __builtin_prefetch(later + n - 1);                                                       \
        for (; j < n; ++j)                                                                       \
            g[j] += a * x[j], sum += y[j] * w[j];                                                \
        return sum;                                                                              \
    }                                                                                            \
    /* g_cj += sum_r a_cr x_rj for four rows; output c has its factors at a + c lda, its sums at g + c ldg */ \
    static inline __attribute__((always_inline)) void axpy4_of_##sfx(                            \
        const int outputs, ptrdiff_t n, const real *a, ptrdiff_t lda, const real *x0,            \
        const real *x1, const real *x2, const real *x3, real *g, ptrdiff_t ldg)                  \
    {                                                                                            \
        real b[MOST_OUTPUTS][4];                                                                 \
        for (int c = 0; c < outputs; ++c)                                                        \
            for (int r = 0; r < 4; ++r)                                                          \
                b[c][r] = a[c * lda + r];                                                        \
        FASTGD_IN_PIECES(FASTGD_AXPY4, real, vec, tail)                                          \
    }                                                                                            \
    static inline __attribute__((always_inline)) void axpy4_##sfx(                               \
        int outputs, ptrdiff_t n, const real *a, ptrdiff_t lda, const real *x0, const real *x1,  \
        const real *x2, const real *x3, real *g, ptrdiff_t ldg)                                  \
    {                                                                                            \
        FASTGD_OF_OUTPUTS(outputs, axpy4_of_##sfx, n, a, lda, x0, x1, x2, x3, g, ldg)            \
    }                                                                                            \
    /* z_i = b + sum_j w_j x_ij for d columns that are ld apart, strip by strip in registers; of \
     * the `ahead` rows after these n, every fourth column is asked for meanwhile */             \
    static inline void combine_##sfx(ptrdiff_t n, ptrdiff_t d, const real *x, ptrdiff_t ld,      \
                                     const real *w, real b, real *z, ptrdiff_t ahead)            \
    {                                                                                            \
        enum { L = sizeof(vec) / sizeof(real) };                                                 \
        ptrdiff_t i = 0;                                                                         \
        for (; i + 8 * L <= n; i += 8 * L)                                                       \
            FASTGD_COMBINE(vec, 8)                                                               \
        for (; i + 4 * L <= n; i += 4 * L)                                                       \
            FASTGD_COMBINE(vec, 4)                                                               \
        for (; i + L <= n; i += L)                                                               \
            FASTGD_COMBINE(vec, 1)                                                               \
        for (; i < n; ++i)                                                                       \
            FASTGD_COMBINE(real, 1)                                                              \
    }                                                                                            \
    /* sum_p x_p w[at_p], of a sparse row */                                                     \
    static inline real sparse_dot_##sfx(ptrdiff_t n, const real *x, const int32_t *at,           \
                                        const real *w)                                           \
    {                                                                                            \
        real s0 = 0, s1 = 0, s2 = 0, s3 = 0;                                                     \
        ptrdiff_t p = 0;                                                                         \
        for (; p + 4 <= n; p += 4) {                                                             \
            s0 += x[p] * w[at[p]];                                                               \
            s1 += x[p + 1] * w[at[p + 1]];                                                       \
            s2 += x[p + 2] * w[at[p + 2]];                                                       \
            s3 += x[p + 3] * w[at[p + 3]];                                                       \
        }                                                                                        \
        for (; p < n; ++p)                                                                       \
            s0 += x[p] * w[at[p]];                                                               \
        return (s0 + s1) + (s2 + s3);                                                            \
    }                                                                                            \
    /* out_c += sum_p x_p W[at_p, c] for a strip of outputs, W having k to a row */              \
    static inline void sparse_dots_##sfx(ptrdiff_t width, ptrdiff_t n, const real *x,            \
                                         const int32_t *at, const real *W, ptrdiff_t k,          \
                                         real *out)                                              \
    {                                                                                            \
        real sum[STRIP];                                                                         \
        for (int c = 0; c < width; ++c)                                                          \
            sum[c] = out[c];                                                                     \
        FASTGD_OF_WIDTH(width, FASTGD_DOTS)                                                      \
        for (int c = 0; c < width; ++c)                                                          \
            out[c] = sum[c];                                                                     \
    }                                                                                            \
    /* G[at_p, c] += r_c x_p for a strip of outputs */                                           \
    static inline void sparse_outer_##sfx(ptrdiff_t width, ptrdiff_t n, const real *x,           \
                                          const int32_t *at, const real *r, ptrdiff_t k,         \
                                          real *G)                                               \
    {                                                                                            \
        FASTGD_SPARSE_OUTER(real)                                                                \
    }                                                                                            \
    /* g[at_p] += a x_p */                                                                       \
    static inline void sparse_axpy_##sfx(ptrdiff_t n, real a, const real *x, const int32_t *at,  \
                                         real *g)                                                \
    {                                                                                            \
        for (ptrdiff_t p = 0; p < n; ++p)                                                        \
            g[at[p]] += a * x[p];                                                                \
    }                                                                                            \
    /* first += sum_i s_i (x_i - shift), second += sum_i s_i (x_i - shift)^2, of four rows */    \
    static inline void add_moments4_##sfx(ptrdiff_t n, const double *s, const real *x,           \
                                          ptrdiff_t ld, const double *restrict shift,            \
                                          double *restrict first, double *restrict second)       \
    {                                                                                            \
        const double s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];                                 \
        const real *const y = x + ld, *const z = y + ld, *const u = z + ld;                      \
        _Pragma("omp simd") for (ptrdiff_t j = 0; j < n; ++j)                                    \
        {                                                                                        \
            const double a = x[j] - shift[j], b = y[j] - shift[j], c = z[j] - shift[j],          \
                         d = u[j] - shift[j];                                                    \
            first[j] += (s0 * a + s1 * b) + (s2 * c + s3 * d);                                   \
            second[j] += (s0 * a * a + s1 * b * b) + (s2 * c * c + s3 * d * d);                  \
        }                                                                                        \
    }

FASTGD_DEFINE_SIMD(double, vec_f64, short_f64, f64)
FASTGD_DEFINE_SIMD(float, vec_f32, short_f32, f32)

/* the same of floats, summed in double */
static inline void sparse_outer_f32_f64(ptrdiff_t width, ptrdiff_t n, const float *x, const int32_t *at,
                                        const float *r, ptrdiff_t k, double *G)
{
    FASTGD_SPARSE_OUTER(float)
}
#endif
