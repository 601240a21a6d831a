/* exp and log(1 + t) without branches or calls, so that a loop over rows becomes vector code.
 *
 * exp: x = n ln 2 + r with |r| <= ln(2)/2, a Taylor polynomial in r, and 2^n assembled from bits in
 * two factors so that denormal results and the last binade come out right. NaN stays NaN: every
 * comparison with it is false. Overflow gives inf, underflow 0.
 */
#ifndef FASTGD_VMATH_H
#define FASTGD_VMATH_H
#include <stdint.h>

static inline double exp_f64(double x)
{
    const double shifter = 0x1.8p52; /* adding it leaves round(x) in the low bits */
    x = x < -745.2 ? -745.2 : x;
    x = x > 709.8 ? 709.8 : x;
    union { double d; uint64_t u; } t, s1, s2;
    t.d = x * 0x1.71547652b82fep0 + shifter;
    const double n = t.d - shifter;
    const double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    /* n + 4096, halved without an arithmetic shift, which AVX2 lacks for 64 bits */
    const uint64_t k = t.u - 0x4338000000000000u + 4096;
    const uint64_t half = k >> 1;
    s1.u = (half - 2048 + 1023) << 52;
    s2.u = (k - half - 2048 + 1023) << 52;
    /* in pairs (Estrin): the latency of a single exp is what a stochastic step waits for */
    const double r2 = r * r, r4 = r2 * r2;
    const double low = (0.5 + r * (1.0 / 6.0)) + r2 * (1.0 / 24.0 + r * (1.0 / 120.0));
    const double middle = (1.0 / 720.0 + r * (1.0 / 5040.0)) + r2 * (1.0 / 40320.0 + r * (1.0 / 362880.0));
    const double high = (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) +
                        r2 * (1.0 / 479001600.0 + r * (1.0 / 6227020800.0));
    const double p = 1.0 + (r + r2 * (low + r4 * (middle + r4 * high)));
    return p * s1.d * s2.d;
}

static inline float exp_f32(float x)
{
    const float shifter = 0x1.8p23f;
    x = x < -104.0f ? -104.0f : x;
    x = x > 88.8f ? 88.8f : x;
    union { float f; uint32_t u; } t, s1, s2;
    t.f = x * 0x1.715476p0f + shifter;
    const float n = t.f - shifter;
    const float r = (x - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;
    const uint32_t k = t.u - 0x4b400000u + 512;
    const uint32_t half = k >> 1;
    s1.u = (half - 256 + 127) << 23;
    s2.u = (k - half - 256 + 127) << 23;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = 1.0f + (r + r * r * p);
    return p * s1.f * s2.f;
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
