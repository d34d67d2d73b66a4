/* SPDX-License-Identifier: MIT */
#include "metrics/numpy_random.h"

enum { N = 624, M = 397 };

void zs_numpy_seed(zs_numpy_random *r, uint32_t seed)
{
    r->mt[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        r->mt[i] = 1812433253u * (r->mt[i - 1] ^ (r->mt[i - 1] >> 30)) + i;
    r->at = N;
}

static void refill(zs_numpy_random *r)
{
    for (int i = 0; i < N; i++) {
        uint32_t y = (r->mt[i] & 0x80000000u) | (r->mt[(i + 1) % N] & 0x7fffffffu);
        r->mt[i] = r->mt[(i + M) % N] ^ (y >> 1) ^ (y & 1u ? 0x9908b0dfu : 0u);
    }
    r->at = 0;
}

static uint32_t next32(zs_numpy_random *r)
{
    if (r->at == N)
        refill(r);
    uint32_t y = r->mt[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* Uniform in 0..max by rejection of masked words; NumPy takes two words beyond 32 bits. */
static uint64_t interval(zs_numpy_random *r, uint64_t max)
{
    uint64_t mask = max, v;
    for (int s = 1; s < 64; s *= 2)
        mask |= mask >> s;
    if (max == 0)
        return 0;
    do {
        v = next32(r);
        if (max > 0xffffffffu)
            v = v << 32 | next32(r);
        v &= mask;
    } while (v > max);
    return v;
}

void zs_numpy_permutation(int64_t *p, int64_t n, zs_numpy_random *r)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)interval(r, (uint64_t)i), t = p[i];
        p[i] = p[j];
        p[j] = t;
    }
}
