/* SPDX-License-Identifier: MIT */
/* exp and what is made of it, free of branches so that compilers vectorise loops over them. */
#ifndef ZS_BACKEND_CPU_VEXP_H
#define ZS_BACKEND_CPU_VEXP_H

#include <stdint.h>
#include <string.h>

/* 2^n as a float, -126 <= n <= 127. n may be anything when the result does not matter. */
static inline float zs_pow2i(uint32_t n)
{
    uint32_t bits = (n + 127u) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* exp(x), at most 2 units in the last place off; gradual underflow, infinity above 88.73, NaN for
 * NaN. x = n ln 2 + r, the Cephes polynomial for exp(r), and 2^n in two factors because n reaches
 * 128 and -150. */
static inline float zs_expf(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x > 89.0f ? 89.0f : x;       /* NaN fails both comparisons and stays */
    x = x < -104.0f ? -104.0f : x;
    float shifted = x * 1.44269504088896341f + magic, n = shifted - magic;
    uint32_t bits, zero;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&zero, &magic, sizeof zero);
    /* half = floor(n/2) without a signed shift */
    uint32_t i = bits - zero, half = ((i + 1024u) >> 1) - 512u;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * zs_pow2i(half) * zs_pow2i(i - half);
}

static inline float zs_sigmoidf(float x)
{
    return 1.0f / (1.0f + zs_expf(-x));
}

static inline float zs_siluf(float x)
{
    return x / (1.0f + zs_expf(-x));
}

/* Derivative of silu. */
static inline float zs_dsiluf(float x)
{
    float s = zs_sigmoidf(x);
    return s * (1.0f + x * (1.0f - s));
}

#endif
