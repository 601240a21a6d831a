/* exp, expm1, tanh and log(1 + t) without branches or calls, so that a loop over rows becomes vector code.
 *
 * x = n ln 2 + r with |r| <= ln(2)/2; exp(r) - 1 is a polynomial; 2^n is assembled from bits.
 * NaN stays NaN: every comparison with it is false. Overflow gives inf, underflow 0.
 */
#ifndef FASTGD_VMATH_H
#define FASTGD_VMATH_H
#include <math.h>
#include <stdint.h>

#define EXP(x) _Generic((x), float: exp_f32, default: exp_f64)(x)
#define EXP_FALLING(x) _Generic((x), float: exp_falling_f32, default: exp_falling_f64)(x)
#define EXPM1_NARROW(x) _Generic((x), float: expm1_narrow_f32, default: expm1_narrow_f64)(x)
#define TANH(x) _Generic((x), float: tanh_f32, default: tanh_f64)(x)
#define LOG1P_UNIT(x) _Generic((x), float: log1p_unit_f32, default: log1p_unit_f64)(x)
#define ABS(x) _Generic((x), float: fabsf, default: fabs)(x)

/* x = n ln 2 + r; the bits of n are the low ones of `bits` minus those of the shifter, which leaves
 * round(x / ln 2) there when it is added. */
#define REDUCE_F64(x)                                                                              \
    union { double d; uint64_t u; } bits;                                                          \
    bits.d = (x) * 0x1.71547652b82fep0 + 0x1.8p52;                                                  \
    const double n = bits.d - 0x1.8p52;                                                            \
    const double most = (x) - n * 0x1.62e42fefa3800p-1, r = most - n * 0x1.ef35793c76730p-45;       \
    const uint64_t shifter = 0x4338000000000000u
#define REDUCE_F32(x)                                                                              \
    union { float f; uint32_t u; } bits;                                                           \
    bits.f = (x) * 0x1.715476p0f + 0x1.8p23f;                                                       \
    const float n = bits.f - 0x1.8p23f;                                                            \
    const float r = ((x) - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;                               \
    const uint32_t shifter = 0x4b400000u

/* exp(r) - 1 for |r| <= ln(2)/2, in pairs (Estrin): fewer steps wait for each other. In double the minimax
 * polynomial (Remez 1934), within 4e-18 of exp(r), is two terms shorter than Taylor's. */
static inline double expm1_near_zero_f64(double r)
{
    const double r2 = r * r, r4 = r2 * r2;
    const double low = (0x1.000000000000ap-1 + r * 0x1.55555555554fap-3) +
                       r2 * (0x1.555555555087cp-5 + r * 0x1.1111111127be6p-7);
    const double middle = (0x1.6c16c1842a198p-10 + r * 0x1.a01a012a57713p-13) +
                          r2 * (0x1.a0199a0c53efap-16 + r * 0x1.71df2552a3075p-19);
    const double high = 0x1.28ad72dd1dd64p-22 + r * 0x1.ad7f6e8eaa133p-26;
    return r + r2 * (low + r4 * (middle + r4 * high));
}

static inline float expm1_near_zero_f32(float r)
{
    const float r2 = r * r;
    const float low = 0.5f + r * (1.0f / 6.0f), middle = 1.0f / 24.0f + r * (1.0f / 120.0f);
    return r + r2 * (low + r2 * (middle + r2 * (1.0f / 720.0f + r * (1.0f / 5040.0f))));
}

/* 2^n in two factors, so that denormal results and the last binade come out right */
static inline double exp_f64(double x)
{
    x = x < -745.2 ? -745.2 : x;
    x = x > 709.8 ? 709.8 : x;
    REDUCE_F64(x);
    union { double d; uint64_t u; } s1, s2;
    /* n + 4096, halved without an arithmetic shift, which AVX2 lacks for 64 bits */
    const uint64_t k = bits.u - shifter + 4096, half = k >> 1;
    s1.u = (half - 2048 + 1023) << 52;
    s2.u = (k - half - 2048 + 1023) << 52;
    return (1.0 + expm1_near_zero_f64(r)) * s1.d * s2.d;
}

static inline float exp_f32(float x)
{
    x = x < -104.0f ? -104.0f : x;
    x = x > 88.8f ? 88.8f : x;
    REDUCE_F32(x);
    union { float f; uint32_t u; } s1, s2;
    const uint32_t k = bits.u - shifter + 512, half = k >> 1;
    s1.u = (half - 256 + 127) << 23;
    s2.u = (k - half - 256 + 127) << 23;
    return (1.0f + expm1_near_zero_f32(r)) * s1.f * s2.f;
}

/* exp(x) for x <= 0, at less cost: 0 where it would be too small for a factor 2^n of its own. The shifter
 * leaves n and the bias in the low bits. ln 2 is in one part: its rounding, and without FMA that of the
 * product, give exp(x) a relative error of 1e-16 |n| (float32: 5e-8 |n|) at most, on numbers of about 2^n. */
static inline double exp_falling_f64(double x)
{
    const double shifter = 0x1.8p52 + 1023, y = x < -708.0 ? -708.0 : x;
    union { double d; uint64_t u; } bits, s;
    bits.d = y * 0x1.71547652b82fep0 + shifter;
    const double r = y - (bits.d - shifter) * 0x1.62e42fefa39efp-1;
    s.u = bits.u << 52;
    const double e = s.d + s.d * expm1_near_zero_f64(r);
    return x < -708.0 ? 0.0 : e;
}

static inline float exp_falling_f32(float x)
{
    const float shifter = 0x1.8p23f + 127.0f, y = x < -87.0f ? -87.0f : x;
    union { float f; uint32_t u; } bits, s;
    bits.f = y * 0x1.715476p0f + shifter;
    const float r = y - (bits.f - shifter) * 0x1.62e430p-1f;
    s.u = bits.u << 23;
    const float e = s.f + s.f * expm1_near_zero_f32(r);
    return x < -87.0f ? 0.0f : e;
}

/* exp(x) - 1 up to x = 40 (float32: 20): 2^n (exp(r) - 1) + (2^n - 1), exact where x is small */
static inline double expm1_narrow_f64(double x)
{
    x = x < -40.0 ? -40.0 : x;
    x = x > 40.0 ? 40.0 : x;
    REDUCE_F64(x);
    union { double d; uint64_t u; } s;
    s.u = (bits.u - shifter + 1023) << 52;
    const double lost = (most - r) - n * 0x1.ef35793c76730p-45; /* of r, by rounding */
    return s.d * (expm1_near_zero_f64(r) + lost) + (s.d - 1.0);
}

static inline float expm1_narrow_f32(float x)
{
    x = x < -20.0f ? -20.0f : x;
    x = x > 20.0f ? 20.0f : x;
    REDUCE_F32(x);
    union { float f; uint32_t u; } s;
    s.u = (bits.u - shifter + 127) << 23;
    return s.f * expm1_near_zero_f32(r) + (s.f - 1.0f);
}

/* tanh |x| = e / (e + 2) with e = exp(2 |x|) - 1; it is one long before e is clipped */
static inline double tanh_f64(double x)
{
    const double e = expm1_narrow_f64(2.0 * fabs(x));
    return copysign(e / (e + 2.0), x);
}

/* e = 2^n p + (2^n - 1), p being a polynomial within 2e-8 of exp(r) - 1, closest near zero. The shifter leaves
 * n + 127 in the low bits. ln 2 is in one part: what it lacks is multiplied by n, and tanh feels it less the
 * larger n is. */
static inline float tanh_f32(float x)
{
    const float shifter = 0x1.8p23f + 127.0f;
    float a = 2.0f * fabsf(x);
    a = a > 20.0f ? 20.0f : a;
    union { float f; uint32_t u; } bits, s;
    bits.f = a * 0x1.715476p0f + shifter;
    s.u = bits.u << 23;
    const float r = a - (bits.f - shifter) * 0x1.62e430p-1f;
    float p = 0x1.12178ep-7f + r * 0x1.6c3840p-10f;
    p = 0x1.5554cap-3f + r * (0x1.5555cep-5f + r * p);
    p = r + r * r * (0.5f + r * p);
    const float e = s.f * p + (s.f - 1.0f);
    return copysignf(e / (e + 2.0f), x);
}

/* log(1 + t) for 0 <= t <= 1: 2 artanh(s) with s = t / (2 + t) <= 1/3 */
static inline double log1p_unit_f64(double t)
{
    const double s = t / (2.0 + t), q = s * s;
    double p = 1.0 / 33.0;
    for (int k = 31; k >= 3; k -= 2)
        p = p * q + 1.0 / k;
    return 2.0 * s + 2.0 * s * q * p;
}

static inline float log1p_unit_f32(float t)
{
    const float s = t / (2.0f + t), q = s * s;
    float p = 1.0f / 17.0f;
    for (int k = 15; k >= 3; k -= 2)
        p = p * q + 1.0f / k;
    return 2.0f * s + 2.0f * s * q * p;
}
#endif
