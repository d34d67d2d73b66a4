/* SPDX-License-Identifier: MIT */
/* Whole sampling loops against the authors' code: decoding, inversion, reconstruction,
 * interpolation, the latent prior, and ancestral sampling with recorded noise. */
#include "tests/golden/golden.h"
#include "tests/unit/must.h"

#include "tasks/pipeline.h"
#include "train/generate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "diffae-tiny32", PLAIN[] = "ddpm-tiny32";

static zs_model *open_model(const char *set, const char *backend)
{
    static const char *const size[] = {"image_size=32", NULL};
    zs_model *m = NULL;
    zs_error err = {0};
    const zs_model_options o = {.backend = backend, .set = strcmp(set, SET) == 0 ? NULL : size};
    must(zs_model_open(&m, golden_checkpoint(set), &o, &err), &err);
    return m;
}

static void check(const char *what, const float *got, const float *want, size_t n)
{
    double norm = golden_norm_error(got, want, n), most = golden_max_error(got, want, n);
    print_message("%-20s error %.1e, largest %.1e\n", what, norm, most);
    if (!(norm <= 1e-3 && most <= 1e-2 * golden_slack(SET)))
        fail_msg("%s: error %g above 1e-3, or largest %g above 1e-2", what, norm, most);
}

/* Runs the sampler over a copy of tensor `from`, and compares with tensor `to`. */
static void compare(zs_tensorfile *f, const zs_generation *g, const char *from, const char *to)
{
    zs_shape xs, ws;
    zs_error err = {0};
    float *x = golden_nhwc(f, from, &xs), *want = golden_nhwc(f, to, &ws);
    assert_true(zs_shape_equal(&xs, &ws));
    must(zs_generate(g, x, xs, &err), &err);
    check(to, x, want, (size_t)zs_shape_numel(&xs));
    zs_free(x);
    zs_free(want);
}

static void autoencodes(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    size_t n;
    float *z = golden_f32(f, "z_sem", &n);
    zs_model *m = open_model(SET, NULL), *plain = open_model(SET, "cpu-ref");
    zs_generation g = {.model = plain, .sampler = &zs_sampler_ddim, .steps = 10, .cond = {.z = z}};
    compare(f, &g, "noise", "ddim10.decode");
    g.model = m;
    compare(f, &g, "noise", "ddim10.decode");
    compare(f, &g, "ddim10.x_T", "ddim10.reconstruct");
    g.sampler = &zs_sampler_ddim_invert;
    compare(f, &g, "x0", "ddim10.x_T");
    zs_model_close(&m);
    zs_model_close(&plain);
    zs_free(z);
    zs_tensorfile_close(&f);
}

/* Nothing golden in between: image -> z_sem, x_T -> image. */
static void reconstructs(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_model *m = open_model(SET, NULL);
    zs_shape xs;
    zs_error err = {0};
    float z[2 * 64], *x = golden_nhwc(f, "x0", &xs),
                     *want = golden_nhwc(f, "ddim10.reconstruct", &xs);
    zs_generation g = {
        .model = m, .sampler = &zs_sampler_ddim_invert, .steps = 10, .cond = {.z = z}};
    assert_int_equal(zs_model_encode(m, z, x, xs, &err), ZS_OK);
    assert_int_equal(zs_generate(&g, x, xs, &err), ZS_OK);
    g.sampler = &zs_sampler_ddim;
    assert_int_equal(zs_generate(&g, x, xs, &err), ZS_OK);
    check("encode to decode", x, want, (size_t)zs_shape_numel(&xs));
    zs_model_close(&m);
    zs_free(x);
    zs_free(want);
    zs_tensorfile_close(&f);
}

static void interpolates(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_model *m = open_model(SET, NULL);
    size_t n;
    zs_shape xs, one;
    zs_error err = {0};
    float *alpha = golden_f32(f, "interp.alpha", &n), *z = golden_f32(f, "z_sem", &n);
    float *x = golden_nhwc(f, "ddim10.x_T", &xs), *want_z = golden_f32(f, "interp.z", &n);
    float *want_x = golden_nhwc(f, "interp.x_T", &one),
          *want = golden_nhwc(f, "interp.image", &one);
    size_t numel = (size_t)zs_shape_numel(&one);
    zs_pipeline_lerp(z, z, z + n, n, (double)alpha[0]);
    check("interp.z", z, want_z, n);
    zs_pipeline_slerp(x, x, x + numel, numel, (double)alpha[0]);
    check("interp.x_T", x, want_x, numel);
    const zs_generation g = {
        .model = m, .sampler = &zs_sampler_ddim, .steps = 10, .cond = {.z = z}};
    must(zs_generate(&g, x, one, &err), &err);
    check("interp.image", x, want, numel);
    zs_model_close(&m);
    zs_free(alpha);
    zs_free(z);
    zs_free(x);
    zs_free(want_z);
    zs_free(want_x);
    zs_free(want);
    zs_tensorfile_close(&f);
}

/* Prior -> statistics -> generator: an image out of noise alone. */
static void samples(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_model *m = open_model(SET, NULL);
    zs_error err = {0};
    size_t n;
    float *z = golden_f32(f, "latent_noise", &n), *code = golden_f32(f, "latent_ddim10", &n);
    float *sem = golden_f32(f, "latent_denorm", &n);
    zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = 10};
    must(zs_generate_codes(&g, z, 2, &err), &err);
    check("latent_ddim10", z, code, n);
    must(zs_denormalise_codes(m, z, 2, &err), &err);
    check("latent_denorm", z, sem, n);
    g.cond.z = z;
    compare(f, &g, "noise", "uncond_sample");
    zs_model_close(&m);
    zs_free(z);
    zs_free(code);
    zs_free(sem);
    zs_tensorfile_close(&f);
}

static void samples_without_codes(void **state)
{
    (void)state;
    golden_need(PLAIN);
    zs_tensorfile *f = golden_open(PLAIN, "golden.safetensors");
    zs_model *m = open_model(PLAIN, NULL);
    zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = 10};
    compare(f, &g, "x_T", "ddim10.sample");
    size_t steps;
    float *noise = golden_steps(f, "ddpm.noises", 2, &steps);
    assert_int_equal(steps, 10);
    g.sampler = &zs_sampler_ddpm;
    g.noise.recorded = noise;
    compare(f, &g, "x_T", "ddpm.sample");
    zs_free(noise);
    zs_model_close(&m);
    zs_tensorfile_close(&f);
}

/* The timesteps that those loops visit are the authors'. */
static void visits(const char *set, const char *tensor, const char *spec)
{
    zs_tensorfile *f = golden_open(set, "golden.safetensors");
    zs_schedule s = golden_schedule("linear", 1000, spec);
    size_t n;
    int64_t *t = golden_i64(f, tensor, &n);
    assert_int_equal(s.n, n);
    assert_memory_equal(s.t, t, n * sizeof *t);
    zs_schedule_free(&s);
    zs_free(t);
    zs_tensorfile_close(&f);
}

static void timesteps(void **state)
{
    (void)state;
    golden_need(SET);
    golden_need(PLAIN);
    visits(SET, "ddim10.timestep_map", "ddim10");
    visits(PLAIN, "ddpm.timestep_map", "10");
}

static void refuses(void **state)
{
    (void)state;
    golden_need(PLAIN);
    zs_model *m = open_model(PLAIN, NULL);
    zs_error err = {0};
    float x[4] = {0};
    zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = 300};
    assert_int_equal(zs_generate(&g, x, zs_shape4(1, 1, 4, 1), &err), ZS_E_INVALID); /* shape */
    memset(&err, 0, sizeof err);
    float *big = zs_calloc(32 * 32 * 3, sizeof *big);
    must_refuse(zs_generate(&g, big, zs_shape4(1, 32, 32, 3), &err), &err, ZS_E_INVALID,
                "300 steps");
    must_refuse(zs_generate_codes(&g, x, 1, &err), &err, ZS_E_INVALID, "prior");
    assert_int_equal(zs_denormalise_codes(m, x, 1, &err), ZS_E_INVALID);
    zs_free(big);
    zs_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(autoencodes),
        cmocka_unit_test(reconstructs),
        cmocka_unit_test(interpolates),
        cmocka_unit_test(samples),
        cmocka_unit_test(samples_without_codes),
        cmocka_unit_test(timesteps),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, golden_teardown);
}
