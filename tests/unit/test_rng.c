/* SPDX-License-Identifier: MIT */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 1 << 20 };

static const zs_rng stream = {.seed = 20240601, .purpose = ZS_RNG_TEST, .index = 3, .step = 9};

/* The known-answer vectors of Random123's kat_vectors, philox4x32-10. */
static void test_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t ctr[4], key[2], out[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        zs_philox(kat[i].ctr, kat[i].key, out);
        assert_memory_equal(out, kat[i].out, sizeof out);
    }
}

/* Each field of the stream's name reaches the counter or the key, also in its upper half. */
static void test_streams_differ(void **state)
{
    (void)state;
    const zs_rng base = stream;
    zs_rng other[] = {base, base, base, base, base, base, base};
    other[0].seed ^= 1;
    other[1].seed ^= 1ull << 63;
    other[2].purpose = ZS_RNG_NOISE;
    other[3].index ^= 1;
    other[4].index ^= 1ull << 41;
    other[5].step ^= 1;
    other[6].step ^= 1ull << 41;
    uint32_t a[4], b[4];
    zs_rng_block(&base, 0, a);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        zs_rng_block(&other[i], 0, b);
        assert_memory_not_equal(a, b, sizeof a);
    }
    zs_rng_block(&base, 1, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* A number depends on its position alone, not on where a call starts. */
static void test_any_first(void **state)
{
    (void)state;
    enum { LEN = 64 };
    float whole[LEN], part[LEN];
    void (*const draw[])(float *, size_t, const zs_rng *, size_t) = {zs_rng_normal, zs_rng_uniform};
    for (size_t d = 0; d < 2; d++) {
        draw[d](whole, LEN, &stream, 0);
        for (size_t first = 0; first < LEN; first++) {
            for (size_t n = 0; first + n <= LEN; n += 5) {
                draw[d](part, n, &stream, first);
                assert_memory_equal(part, whole + first, n * sizeof(float));
            }
        }
    }
}

static void test_normal_moments(void **state)
{
    (void)state;
    float *z = zs_alloc(N, sizeof *z);
    zs_rng_normal(z, N, &stream, 0);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0, pair = 0, peak = 0;
    for (int i = 0; i < N; i++) {
        double v = (double)z[i];
        m1 += v / N;
        m2 += v * v / N;
        m3 += v * v * v / N;
        m4 += v * v * v * v / N;
        if (i > 0)
            lag += v * (double)z[i - 1] / N;
        if (i % 2)
            pair += (v * v - 1) * ((double)z[i - 1] * (double)z[i - 1] - 1) / N;
        peak = fmax(peak, fabs(v));
    }
    /* five standard errors of each estimate at N = 2^20 */
    assert_true(fabs(m1) < 5.0 / 1024);
    assert_true(fabs(m2 - 1) < 5 * sqrt(2) / 1024);
    assert_true(fabs(m3) < 5 * sqrt(15) / 1024);
    assert_true(fabs(m4 - 3) < 5 * sqrt(96) / 1024);
    assert_true(fabs(lag) < 5.0 / 1024);
    assert_true(fabs(pair) < 5 * 2 * sqrt(0.5) / 1024);
    assert_true(peak > 4 && peak < 6);
    zs_free(z);
}

/* Against Box-Muller in double with libm on the same words. */
static void test_normal_accuracy(void **state)
{
    (void)state;
    float *z = zs_alloc(N, sizeof *z);
    zs_rng_normal(z, N, &stream, 0);
    double worst = 0;
    for (uint32_t b = 0; b < N / 4; b++) {
        uint32_t w[4];
        zs_rng_block(&stream, b, w);
        for (int i = 0; i < 4; i += 2) {
            double u = ((w[i] >> 8) + 1) / 16777216.0, v = (w[i + 1] >> 8) / 16777216.0;
            double r = sqrt(-2 * log(u)), a = 2 * acos(-1.0) * v;
            worst = fmax(worst, fabs((double)z[4 * b + (uint32_t)i] - r * cos(a)));
            worst = fmax(worst, fabs((double)z[4 * b + (uint32_t)i + 1] - r * sin(a)));
        }
    }
    print_message("largest error of a normal: %.2g\n", worst);
    assert_true(worst < 2e-6);
    zs_free(z);
}

static void test_uniform(void **state)
{
    (void)state;
    float *u = zs_alloc(N, sizeof *u);
    zs_rng_uniform(u, N, &stream, 0);
    int count[64] = {0};
    for (int i = 0; i < N; i++) {
        assert_true(u[i] >= 0.0f && u[i] < 1.0f);
        count[(int)(u[i] * 64.0f)]++;
    }
    double chi2 = 0;
    for (int i = 0; i < 64; i++)
        chi2 += (count[i] - N / 64.0) * (count[i] - N / 64.0) / (N / 64.0);
    assert_true(chi2 > 27 && chi2 < 121); /* 63 degrees of freedom, 1e-5 either side */
    zs_free(u);
}

static void test_below(void **state)
{
    (void)state;
    int count[7] = {0};
    zs_rng r = stream;
    for (r.index = 0; r.index < 70000; r.index++) {
        uint64_t k = zs_rng_below(&r, 7);
        assert_true(k < 7);
        count[k]++;
        assert_int_equal(zs_rng_below(&r, 1), 0);
        assert_true(zs_rng_below(&r, UINT64_MAX) < UINT64_MAX);
        /* n = 2^63: the product's upper word is the draw without its lowest bit */
        uint32_t w[4];
        zs_rng_block(&r, 0, w);
        assert_true(zs_rng_below(&r, 1ull << 63) == ((uint64_t)w[1] << 32 | w[0]) >> 1);
    }
    for (int k = 0; k < 7; k++)
        assert_in_range(count[k], 9500, 10500);
}

/* These bits are the checkpoint contract: a change here breaks every resumed run. */
static void test_frozen_bits(void **state)
{
    (void)state;
    uint64_t h = 14695981039346656037u; /* FNV-1a over the words of the first 4096 normals */
    float z[4096];
    zs_rng_normal(z, 4096, &stream, 0);
    for (int i = 0; i < 4096; i++) {
        uint32_t u;
        memcpy(&u, &z[i], sizeof u);
        h = (h ^ u) * 1099511628211u;
    }
    assert_int_equal(h, 0xcb8e745194244dd5u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),   cmocka_unit_test(test_streams_differ),
        cmocka_unit_test(test_any_first),       cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_normal_accuracy), cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_below),           cmocka_unit_test(test_frozen_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
