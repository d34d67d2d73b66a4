/* SPDX-License-Identifier: MIT */
/* Variances of ancestral steps, networks that return more channels than they are given, and
 * guidance, on a network that is a formula. */
#include "diffusion/diffusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/must.h"

enum { N = 3, POSITIONS = 5, C = 2, NUMEL = POSITIONS * C, SIZE = N * NUMEL, STEPS = 12 };

/* eps = slope x + t / 4000 for each channel; then `extra` times v. */
typedef struct formula {
    double slope;
    int64_t extra;
    float v;
    int calls, fail_at;
} formula;

static zs_schedule steps;

static int formula_net(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    formula *f = ctx;
    int64_t pitch = C + f->extra;
    if (++f->calls == f->fail_at)
        return zs_fail(err, ZS_E_NUMERIC, "the network failed");
    for (int64_t p = 0; p < N * POSITIONS; p++)
        for (int64_t k = 0; k < pitch; k++)
            out[p * pitch + k] =
                k < C ? (float)(f->slope * (double)x[p * C + k] + (double)t / 4000) : f->v;
    return ZS_OK;
}

static zs_sampling sampling(formula *f)
{
    return (zs_sampling){.schedule = &steps,
                         .n = N,
                         .numel = NUMEL,
                         .net = formula_net,
                         .net_ctx = f,
                         .channels = f->extra ? C : 0,
                         .extra = f->extra,
                         .noise = {.seed = 5}};
}

static void sample(const char *name, const zs_sampling *s, float x[SIZE])
{
    zs_error err = {0};
    zs_noise_xt(x, s);
    must(zs_sample(zs_sampler_find(name), s, x, &err), &err);
}

static void assert_same(const float *a, const float *b, double tol)
{
    for (int i = 0; i < SIZE; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tol))
            fail_msg("element %d: %.9g and %.9g", i, (double)a[i], (double)b[i]);
}

static void sample_formula(const char *name, formula f, zs_variance variance, double eta,
                           float x[SIZE])
{
    zs_sampling s = sampling(&f);
    s.variance = variance;
    s.eta = eta;
    sample(name, &s, x);
}

/* v = 1 is beta, v = -1 the posterior, 0 lies between. */
static void learned_lies_between(void **state)
{
    (void)state;
    float large[SIZE], small[SIZE], learned[SIZE];
    const formula plain = {.slope = 0.8}, high = {.slope = 0.8, .extra = C, .v = 1};
    const formula low = {.slope = 0.8, .extra = C, .v = -1}, mid = {.slope = 0.8, .extra = C};
    sample_formula("ddpm", plain, ZS_VAR_LARGE, 0, large);
    sample_formula("ddpm", plain, ZS_VAR_SMALL, 0, small);
    sample_formula("ddpm", high, ZS_VAR_LEARNED, 0, learned);
    assert_same(learned, large, 1e-5);
    sample_formula("ddpm", low, ZS_VAR_LEARNED, 0, learned);
    assert_same(learned, small, 1e-5);
    sample_formula("ddpm", mid, ZS_VAR_LEARNED, 0, learned);
    double apart = 0;
    for (int i = 0; i < SIZE; i++)
        apart = fmax(apart, fabs((double)learned[i] - (double)small[i]));
    assert_true(apart > 1e-3);
}

/* DDIM with eta 1 is ancestral sampling with the posterior's variance. */
static void small_is_ddim_with_eta_1(void **state)
{
    (void)state;
    float a[SIZE], b[SIZE];
    const formula plain = {.slope = 0.8};
    sample_formula("ddpm", plain, ZS_VAR_SMALL, 0, a);
    sample_formula("ddim", plain, ZS_VAR_LARGE, 1, b);
    assert_same(a, b, 1e-5);
}

/* Samplers that know no variance take the prediction out of what the network returns. */
static void extra_channels_are_left_out(void **state)
{
    static const char *const names[] = {"ddim", "ddpm", "dpm++2m", "heun"};
    float a[SIZE], b[SIZE];
    const formula plain = {.slope = 0.8}, more = {.slope = 0.8, .extra = 3, .v = 100};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        sample_formula(names[i], plain, ZS_VAR_LARGE, 0.5, a);
        sample_formula(names[i], more, ZS_VAR_LARGE, 0.5, b);
        assert_memory_equal(a, b, sizeof a);
    }
}

/* The tables of step 0, and a process of one step. */
static void posterior_of_the_first_step(void **state)
{
    (void)state;
    zs_schedule full, one;
    zs_posterior p = zs_posterior_at(&steps, 0), next = zs_posterior_at(&steps, 1);
    float row[ZS_BOUND_NUMBERS];
    assert_true(fabs(p.to_x0 - 1.0) < 1e-12 && p.to_x == 0.0);
    assert_true(p.log_small == next.log_small);
    assert_true(p.log_large == log(steps.beta[0]) && next.log_small < next.log_large);
    zs_bound_row(row, &steps, 0);
    assert_true(row[3] == 1.0f && row[4] == 1.0f);
    assert_true(fabs((double)row[2] - sqrt(1.0 / steps.abar[0] - 1.0)) < 1e-7);
    zs_bound_row(row, &steps, 1);
    assert_true(row[3] == 0.0f);
    assert_int_equal(zs_schedule_make(&full, "linear", 1000, NULL), ZS_OK);
    assert_int_equal(zs_schedule_respace(&one, &full, "1", NULL), ZS_OK);
    p = zs_posterior_at(&one, 0);
    assert_true(p.log_small == p.log_large);
    zs_schedule_free(&full);
    zs_schedule_free(&one);
}

/* eps of both is a line in x, so guidance is a line whose slope is known. */
static void guides(void **state)
{
    (void)state;
    float got[SIZE], want[SIZE];
    formula cond = {.slope = 0.8}, uncond = {.slope = 0.5}, both = {.slope = 0.5 + 1.5 * 0.3};
    zs_guidance g = {.cond = formula_net,
                     .cond_ctx = &cond,
                     .uncond = formula_net,
                     .uncond_ctx = &uncond,
                     .scale = 1.5,
                     .positions = N * POSITIONS,
                     .pitch = C,
                     .guided = C};
    zs_sampling s = sampling(&cond);
    s.net = zs_guidance_net;
    s.net_ctx = &g;
    sample("ddim", &s, got);
    assert_int_equal(cond.calls, STEPS);
    assert_int_equal(uncond.calls, STEPS);
    sample_formula("ddim", both, ZS_VAR_LARGE, 0, want);
    assert_same(got, want, 1e-4);
    zs_guidance_free(&g);
    zs_guidance_free(&g);
}

/* Channels that are not guided, and the variance, are the conditional ones. */
static void guides_some_channels(void **state)
{
    (void)state;
    float x[SIZE], c[2 * SIZE], u[2 * SIZE], out[2 * SIZE];
    formula cond = {.slope = 0.8, .extra = C, .v = 1}, uncond = {.slope = 0.5, .extra = C, .v = -1};
    zs_guidance g = {.cond = formula_net,
                     .cond_ctx = &cond,
                     .uncond = formula_net,
                     .uncond_ctx = &uncond,
                     .scale = 4,
                     .positions = N * POSITIONS,
                     .pitch = 2 * C,
                     .guided = 1};
    zs_sampling s = sampling(&cond);
    zs_noise_xt(x, &s);
    assert_int_equal(zs_guidance_net(&g, x, 100, out, NULL), ZS_OK);
    assert_int_equal(formula_net(&cond, x, 100, c, NULL), ZS_OK);
    assert_int_equal(formula_net(&uncond, x, 100, u, NULL), ZS_OK);
    for (int i = 0; i < 2 * SIZE; i++) {
        float want = i % (2 * C) == 0 ? u[i] + 4.0f * (c[i] - u[i]) : c[i];
        assert_true(out[i] == want);
    }
    zs_guidance_free(&g);
}

static void guidance_fails(void **state)
{
    (void)state;
    float x[SIZE] = {0}, out[SIZE];
    zs_error err = {0};
    formula cond = {.slope = 1}, uncond = {.slope = 1, .fail_at = 2};
    zs_guidance g = {.cond = formula_net,
                     .cond_ctx = &cond,
                     .uncond = formula_net,
                     .uncond_ctx = &uncond,
                     .positions = N * POSITIONS,
                     .pitch = C,
                     .guided = C};
    zs_alloc_fail_at(1);
    assert_int_equal(zs_guidance_net(&g, x, 1, out, NULL), ZS_E_NOMEM);
    zs_alloc_fail_at(0);
    assert_int_equal(zs_guidance_net(&g, x, 1, out, &err), ZS_OK);
    assert_int_equal(zs_guidance_net(&g, x, 1, out, &err), ZS_E_NUMERIC);
    assert_string_equal(err.message, "the network failed");
    zs_guidance_free(&g);
}

static void refuses(void **state)
{
    (void)state;
    float x[SIZE];
    formula f = {.slope = 0.8};
    zs_error err = {0};
    zs_sampling s = sampling(&f);
    s.variance = ZS_VAR_LEARNED;
    must_refuse(zs_sample(&zs_sampler_ddpm, &s, x, &err), &err, ZS_E_INVALID, "learned variance");
    f.extra = 3;
    s = sampling(&f);
    s.variance = ZS_VAR_LEARNED;
    assert_int_equal(zs_sample(&zs_sampler_ddpm, &s, x, NULL), ZS_E_INVALID);
    s.variance = ZS_VAR_LARGE;
    s.channels = 3; /* of 10 elements */
    assert_int_equal(zs_sample(&zs_sampler_ddpm, &s, x, NULL), ZS_E_INVALID);
    s = sampling(&f);
    s.extra = INT64_MAX / 4;
    assert_int_equal(zs_sample(&zs_sampler_ddpm, &s, x, NULL), ZS_E_INVALID);
}

static int setup(void **state)
{
    zs_schedule full;
    (void)state;
    if (zs_schedule_make(&full, "linear", 1000, NULL) < 0)
        return -1;
    int status = zs_schedule_respace(&steps, &full, "12", NULL);
    zs_schedule_free(&full);
    return status;
}

static int teardown(void **state)
{
    (void)state;
    zs_schedule_free(&steps);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learned_lies_between),
        cmocka_unit_test(small_is_ddim_with_eta_1),
        cmocka_unit_test(extra_channels_are_left_out),
        cmocka_unit_test(posterior_of_the_first_step),
        cmocka_unit_test(guides),
        cmocka_unit_test(guides_some_channels),
        cmocka_unit_test(guidance_fails),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
