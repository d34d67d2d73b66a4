/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "data/data.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"
#include "tests/unit/scratch.h"

const char *tiny_joined(const char *a, const char *b)
{
    return scratch_path("%s,%s/%s", a, scratch_dir(), b);
}

bool tiny_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* ---- pictures ---- */

void tiny_picture(const char *name, int side, const uint8_t *px)
{
    zs_error err = {0};
    char folder[512];
    const char *path = scratch_path("%s", name);
    const zs_image im = {.w = side, .h = side, .c = 1, .px = (uint8_t *)(uintptr_t)px};
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    must(zs_mkdirs(folder, &err), &err);
    must(zs_image_write_png(path, &im, &err), &err);
}

void tiny_halves(const char *folder, int count, bool classes)
{
    for (int k = 0; k < count; k++) {
        uint8_t px[TINY * TINY];
        char name[128];
        const char *side = k % 2 ? "/left" : "/right";
        for (int i = 0; i < TINY * TINY; i++)
            px[i] = (uint8_t)((i % TINY < TINY / 2) == k % 2 ? 200 + k % 7 : 20 + i + k % 11);
        (void)snprintf(name, sizeof name, "%s%s/%02d.png", folder, classes ? side : "", k);
        tiny_picture(name, TINY, px);
    }
}

/* ---- models ---- */

zs_model_config tiny_autoencoder(int64_t dim)
{
    return (zs_model_config){.name = "tiny",
                             .image_size = TINY,
                             .channels = 1,
                             .fit = "crop",
                             .unet = {.in_channels = 1,
                                      .out_channels = 1,
                                      .model_channels = 8,
                                      .embed_channels = 16,
                                      .levels = 2,
                                      .ch = {8, 16},
                                      .num_res_blocks = 1,
                                      .heads = 1,
                                      .z_dim = dim},
                             .sem_encoder = {.in_channels = 1,
                                             .levels = 2,
                                             .ch = {8, 16},
                                             .num_res_blocks = 1,
                                             .heads = 1,
                                             .z_dim = dim},
                             .diffusion = zs_process_diffae,
                             .latent = zs_process_diffae_latent};
}

zs_model_config tiny_adm(int64_t side)
{
    return (zs_model_config){.name = "tiny-adm",
                             .image_size = side,
                             .channels = 1,
                             .fit = "crop",
                             .adm = {.levels = 2,
                                     .in_channels = 1,
                                     .model_channels = 8,
                                     .ch = {8, 16},
                                     .num_res_blocks = 1,
                                     .head_channels = 8,
                                     .learn_sigma = true},
                             .diffusion = zs_process_adm};
}

float *tiny_weights(zs_params **ps, const zs_model_config *c, uint64_t seed)
{
    zs_error err = {0};
    must(zs_model_layout(ps, c, &err), &err);
    float *w = zs_alloc((size_t)zs_params_numel(*ps), sizeof *w);
    assert_non_null(w);
    zs_params_init(*ps, w, seed);
    for (int64_t i = 0; i < zs_params_numel(*ps); i++)
        w[i] += 0.02f * sinf((float)i);
    return w;
}

void tiny_bundle(const char *name, const zs_model_config *c, uint64_t seed, const float *stats,
                 zs_dtype dtype)
{
    zs_params *ps = NULL;
    zs_error err = {0};
    float *w = tiny_weights(&ps, c, seed);
    const zs_bundle b = {.config = c, .params = ps, .weights = w, .z_mean = stats, .z_std = stats};
    must(zs_bundle_write(scratch_path("%s", name), &b, dtype, &err), &err);
    zs_free(w);
    zs_params_free(&ps);
}

zs_model *tiny_open(const char *spec)
{
    zs_model *m = NULL;
    zs_error err = {0};
    must(zs_model_open(&m, spec, NULL, &err), &err);
    return m;
}

void tiny_open_refused(const char *spec, const char *words)
{
    zs_model *m = NULL;
    zs_error err = {0};
    must_refuse(zs_model_open(&m, spec, NULL, &err), &err, ZS_E_INVALID, words);
    assert_null(m);
}

void tiny_same_weights(const char *a, const char *b)
{
    zs_model *m = tiny_open(scratch_path("%s", a)), *n = tiny_open(scratch_path("%s", b));
    int64_t count = zs_params_numel(zs_model_params(m));
    assert_int_equal(count, zs_params_numel(zs_model_params(n)));
    assert_memory_equal(zs_model_weights(m), zs_model_weights(n), (size_t)count * sizeof(float));
    zs_model_close(&m);
    zs_model_close(&n);
}

/* ---- runs ---- */

void tiny_train(const zs_train_config *c, const zs_ui *ui, int want, zs_train_report *report)
{
    zs_error err = {0};
    int status = zs_train_run(c, ui, report, &err);
    if (status != want)
        fail_msg("status %d, not %d: %s", status, want, err.message);
}

void tiny_train_refused(const zs_train_config *c, const char *words)
{
    zs_error err = {0};
    must_refuse(zs_train_run(c, NULL, NULL, &err), &err, ZS_E_INVALID, words);
}

static int stop_at(void *ctx, const zs_progress *p)
{
    return p->done >= *(const double *)ctx;
}

zs_ui tiny_stop_at(const double *done)
{
    return (zs_ui){.ctx = (void *)(uintptr_t)done, .progress = stop_at};
}
