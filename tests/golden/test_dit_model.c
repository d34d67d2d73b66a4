/* SPDX-License-Identifier: MIT */
/* The diffusion transformer as a model: the authors' file opened, under samplers with guidance,
 * with a first stage, in a bundle. */
#include "tests/golden/golden.h"

#include "train/generate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "rcg-dit";

enum { SIDE = 8, CH = 4, REP = 32, STEPS = 25, IMAGE = SIDE * SIDE * CH };

static const zs_dit_config config = {.depth = 3,
                                     .heads = 4,
                                     .hidden = 64,
                                     .mlp = 256,
                                     .patch = 2,
                                     .grid = 4,
                                     .in_channels = CH,
                                     .learn_sigma = true,
                                     .time_channels = 256,
                                     .z_dim = REP,
                                     .classes = 1,
                                     .substitute = true,
                                     .z_drop = 0.1};

static void check(const char *what, const char *name, double error, double tolerance)
{
    print_message("%-8s %-16s error %.1e\n", name, what, error);
    if (!(error <= tolerance))
        fail_msg("%s with %s: error %g is above %g", what, name, error, tolerance);
}

/* [steps,n,c,h,w] of the file -> the first two of each n, [steps,2,h,w,c]; NULL for no name. */
static float *steps_nhwc(zs_tensorfile *f, const char *name, size_t per)
{
    size_t n;
    if (!name)
        return NULL;
    float *nchw = golden_f32(f, name, &n), *nhwc = zs_alloc(STEPS * 2 * IMAGE, sizeof *nhwc);
    assert_non_null(nhwc);
    assert_int_equal(n, STEPS * per * IMAGE);
    for (size_t i = 0; i < STEPS; i++)
        zs_nhwc_from_nchw(nhwc + i * 2 * IMAGE, nchw + i * per * IMAGE, 2, SIDE, SIDE, CH);
    zs_free(nchw);
    return nhwc;
}

static const char *const heads[] = {"generator.heads=4", NULL};

static zs_model *open_model(const char *with, bool raw)
{
    char dit[512], spec[1200];
    zs_error err = {0};
    zs_model *m = NULL;
    zs_model_options o = {.set = heads, .raw = raw};
    assert_true(golden_path(dit, SET, "checkpoint-last.pth"));
    (void)snprintf(spec, sizeof spec, "%s%s", dit, with);
    if (zs_model_open(&m, spec, &o, &err) < 0)
        fail_msg("%s", err.message);
    return m;
}

static void opens_the_authors_file(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape s, out;
    size_t n;
    zs_error err = {0};
    float *x = golden_nhwc(f, "fwd.x", &s), *want = golden_nhwc(f, "fwd.out", &out);
    float *rep = golden_f32(f, "rep", &n), got[4 * IMAGE], absent[REP];
    int64_t *t = golden_i64(f, "fwd.t", &n);
    zs_model *m = open_model("", false);
    const zs_model_config *c = zs_model_configuration(m);
    assert_memory_equal(&c->dit, &config, sizeof config);
    assert_int_equal(c->image_size, SIDE);
    assert_int_equal(c->channels, CH);
    assert_string_equal(c->diffusion.variance, "learned");
    assert_false(c->diffusion.clip);
    assert_string_equal(c->rep_name, "mocov3_vit_base");
    assert_int_equal(zs_model_eps(m, got, x, s, t, &(zs_cond){.z = rep}, &err), ZS_OK);
    check("zs_model_eps", "cpu", golden_max_error(got, want, 4 * IMAGE), 1e-4);
    float *both = golden_f32(f, "cfg.rep", &n);
    assert_int_equal(zs_model_absent_z(m, absent, &err), ZS_OK);
    assert_memory_equal(absent, both + 2 * REP, sizeof absent);
    zs_model_close(&m);
    zs_free(x);
    zs_free(want);
    zs_free(rep);
    zs_free(both);
    zs_free(t);
    zs_tensorfile_close(&f);
}

/* Sessions, guidance and variances as commands use them. */
static void generates(void **state)
{
    (void)state;
    golden_need(SET);
    static const struct {
        const char *noises, *sample;
        size_t per;
        double guidance;
    } runs[] = {{"p25.noises", "p25.sample", 2, 1}, {"p25cfg.noises", "p25cfg.sample", 4, 1.5}};
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_model *m = open_model("", false);
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        zs_shape s, unused;
        size_t n;
        zs_error err = {0};
        float *x = golden_nhwc(f, "z", &s), *rep = golden_f32(f, "rep", &n);
        float *want = golden_nhwc(f, runs[i].sample, &unused);
        float *noise = steps_nhwc(f, runs[i].noises, runs[i].per);
        const zs_generation g = {.model = m,
                                 .sampler = &zs_sampler_ddpm,
                                 .steps = STEPS,
                                 .guidance = runs[i].guidance,
                                 .cond = {.z = rep},
                                 .noise = {.recorded = noise}};
        if (zs_generate(&g, x, s, &err) < 0)
            fail_msg("%s", err.message);
        check(runs[i].sample, "model", golden_norm_error(x, want, 2 * IMAGE), 1e-3);
        zs_free(x);
        zs_free(rep);
        zs_free(want);
        zs_free(noise);
    }
    zs_model_close(&m);
    zs_tensorfile_close(&f);
}

static void asks_for_the_heads(void **state)
{
    (void)state;
    golden_need(SET);
    char path[512];
    zs_error err = {0};
    zs_model *m = NULL;
    assert_true(golden_path(path, SET, "checkpoint-last.pth"));
    assert_int_equal(zs_model_open(&m, path, NULL, &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "--set generator.heads=N"));
}

/* Latents of 8x8 and 4 channels; the VQ-f8 of another set makes such of 64x64 pixels. */
static void joins_its_first_stage(void **state)
{
    (void)state;
    golden_need(SET);
    golden_need("rcg-vqf8");
    char vae[520] = ",", bundle[] = "/tmp/zsem-dit-XXXXXX.safetensors";
    zs_error err = {0};
    assert_true(golden_path(vae + 1, "rcg-vqf8", "last.ckpt"));
    zs_model *m = open_model(vae, false), *other = NULL;
    const zs_model_config *c = zs_model_configuration(m);
    assert_int_equal(c->image_size, 64);
    assert_int_equal(c->channels, 3);
    zs_shape states = zs_model_config_states(c, 2);
    assert_int_equal(states.d[1], SIDE);
    assert_int_equal(states.d[3], CH);
    zs_tensorfile *f = golden_open("rcg-vqf8", "golden.safetensors");
    zs_shape xs, zs;
    float *image = golden_nhwc(f, "image", &xs), *want = golden_nhwc(f, "encode", &zs);
    float *back = golden_nhwc(f, "decode_noquant", &xs), z[2 * IMAGE];
    float *x = zs_alloc((size_t)zs_shape_numel(&xs), sizeof *x);
    assert_non_null(x);
    assert_int_equal(zs_model_to_latents(m, z, image, xs, NULL, &err), ZS_OK);
    check("latents", "cpu", golden_max_error(z, want, 2 * IMAGE), 1e-4);
    assert_int_equal(zs_model_from_latents(m, x, want, zs, &err), ZS_OK);
    check("pixels", "cpu", golden_max_error(x, back, (size_t)zs_shape_numel(&xs)), 1e-4);
    int fd = mkstemps(bundle, 12);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(zs_model_save(m, bundle, ZS_F32, &err), ZS_OK);
    if (zs_model_open(&other, bundle, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_memory_equal(&zs_model_configuration(other)->dit, &c->dit, sizeof c->dit);
    assert_memory_equal(&zs_model_configuration(other)->vae, &c->vae, sizeof c->vae);
    assert_memory_equal(zs_model_weights(other), zs_model_weights(m),
                        (size_t)zs_params_numel(zs_model_params(m)) * sizeof(float));
    zs_model_close(&m);
    zs_model_close(&other);
    (void)unlink(bundle);
    zs_free(image);
    zs_free(want);
    zs_free(back);
    zs_free(x);
    zs_tensorfile_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_authors_file),
        cmocka_unit_test(generates),
        cmocka_unit_test(asks_for_the_heads),
        cmocka_unit_test(joins_its_first_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
