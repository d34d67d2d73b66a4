/* SPDX-License-Identifier: MIT */
/* Compiled with -ffp-contract=off: a fused multiply-add would change the last bit. */
#include "base/rng.h"

#include <math.h>
#include <string.h>

void zs_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int i = 0; i < 10; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void zs_rng_counter(const zs_rng *r, uint32_t ctr[4], uint32_t key[2])
{
    ctr[0] = 0;
    ctr[1] = (uint32_t)r->index;
    ctr[2] = (uint32_t)r->step;
    ctr[3] = (r->purpose & 0xFFFu) | ((uint32_t)(r->index >> 32) & 0x3FFu) << 12 |
             ((uint32_t)(r->step >> 32) & 0x3FFu) << 22;
    key[0] = (uint32_t)r->seed;
    key[1] = (uint32_t)(r->seed >> 32);
}

void zs_rng_block(const zs_rng *r, uint32_t block, uint32_t out[4])
{
    uint32_t ctr[4], key[2];
    zs_rng_counter(r, ctr, key);
    ctr[0] = block;
    zs_philox(ctr, key, out);
}

/* log(u) for normal u in (0,1]; the Cephes minimax polynomial on [sqrt(1/2), sqrt(2)). */
static float log_unit(float u)
{
    uint32_t b;
    memcpy(&b, &u, sizeof b);
    int e = (int)(b >> 23) - 126;
    b = (b & 0x007FFFFFu) | 0x3F000000u; /* mantissa in [0.5, 1) */
    float x;
    memcpy(&x, &b, sizeof x);
    if (x < 0.707106781f) {
        e--;
        x = x + x;
    }
    x = x - 1.0f;
    float z = x * x, y = 7.0376836292e-2f;
    static const float c[8] = {-1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f,
                               1.4249322787e-1f,  -1.6668057665e-1f, 2.0000714765e-1f,
                               -2.4999993993e-1f, 3.3333331174e-1f};
    for (int i = 0; i < 8; i++)
        y = y * x + c[i];
    y = y * x * z;
    y = y + (float)e * -2.12194440e-4f;
    y = y - 0.5f * z;
    return x + y + (float)e * 0.693359375f;
}

/* sin and cos of 2*pi*v, v in [0,1): reduced to [-pi/4, pi/4] around a quarter turn. */
static void sincos_turn(float v, float *s, float *c)
{
    int q = (int)(4.0f * v + 0.5f);
    float x = (v - 0.25f * (float)q) * 6.28318530717958648f, z = x * x;
    float sn = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
    float cs =
        ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z -
        0.5f * z + 1.0f;
    switch (q & 3) {
    case 0: *s = sn, *c = cs; break;
    case 1: *s = cs, *c = -sn; break;
    case 2: *s = -sn, *c = -cs; break;
    default: *s = -cs, *c = sn; break;
    }
}

static void normal_block(const uint32_t w[4], float z[4])
{
    for (int i = 0; i < 4; i += 2) {
        float u = (float)((w[i] >> 8) + 1u) * 0x1p-24f; /* (0,1]: log is finite */
        float v = (float)(w[i + 1] >> 8) * 0x1p-24f;
        float r = sqrtf(-2.0f * log_unit(u)), s, c;
        sincos_turn(v, &s, &c);
        z[i] = r * c;
        z[i + 1] = r * s;
    }
}

static void uniform_block(const uint32_t w[4], float u[4])
{
    for (int i = 0; i < 4; i++)
        u[i] = (float)(w[i] >> 8) * 0x1p-24f;
}

static void fill(float *out, size_t n, const zs_rng *r, size_t first,
                 void (*convert)(const uint32_t[4], float[4]))
{
    for (size_t i = 0; i < n;) {
        size_t e = first + i, at = e % 4, take = 4 - at < n - i ? 4 - at : n - i;
        uint32_t w[4];
        float v[4];
        zs_rng_block(r, (uint32_t)(e / 4), w);
        convert(w, v);
        memcpy(out + i, v + at, take * sizeof(float));
        i += take;
    }
}

void zs_rng_normal(float *out, size_t n, const zs_rng *r, size_t first)
{
    fill(out, n, r, first, normal_block);
}

void zs_rng_uniform(float *out, size_t n, const zs_rng *r, size_t first)
{
    fill(out, n, r, first, uniform_block);
}

uint64_t zs_rng_below(const zs_rng *r, uint64_t n)
{
    uint32_t w[4];
    zs_rng_block(r, 0, w);
    /* floor(x * n / 2^64) from 32-bit halves: C11 has no 128-bit product */
    uint64_t x = (uint64_t)w[1] << 32 | w[0];
    uint64_t xl = x & 0xFFFFFFFFu, xh = x >> 32, nl = n & 0xFFFFFFFFu, nh = n >> 32;
    uint64_t mid = xh * nl + (xl * nl >> 32), mid2 = xl * nh + (mid & 0xFFFFFFFFu);
    return xh * nh + (mid >> 32) + (mid2 >> 32);
}
