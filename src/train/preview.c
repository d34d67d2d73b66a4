/* SPDX-License-Identifier: MIT */
#include "train/preview.h"
#include "train/generate.h"

#include <string.h>

enum { DDPM_ROWS = 4, SEED = 1 };

int zs_preview_read(const zs_source *source, const zs_model_config *c, float *x, int64_t n,
                    zs_error *err)
{
    int64_t numel = c->image_size * c->image_size * c->channels;
    int status = ZS_OK;
    for (int64_t i = 0; status == ZS_OK && i < n; i++)
        status = zs_source_read_float(source, i, (int)c->image_size, (int)c->channels,
                                      zs_fit_from_name(c->fit), x + i * numel, err);
    return status;
}

/* Rows 1 and 2 of x [3,n,numel] from row 0. */
static int reconstruct(zs_model *m, const zs_model_config *c, float *x, zs_shape xs, zs_error *err)
{
    int64_t n = xs.d[0], numel = zs_shape_numel(&xs) / n;
    float *inverted = x + n * numel, *random = x + 2 * n * numel;
    float *z = zs_alloc((size_t)(n * zs_model_config_z_dim(c)), sizeof(float));
    if (!z)
        return zs_fail_nomem(err, (unsigned long long)(n * zs_model_config_z_dim(c)) * 4, "codes");
    zs_generation g = {.model = m, .steps = ZS_PREVIEW_STEPS, .cond = {.z = z}};
    int status = zs_model_encode(m, z, x, xs, err);
    memcpy(inverted, x, (size_t)(n * numel) * sizeof(float));
    g.sampler = &zs_sampler_ddim_invert;
    if (status == ZS_OK)
        status = zs_generate(&g, inverted, xs, err);
    g.sampler = &zs_sampler_ddim;
    if (status == ZS_OK)
        status = zs_generate(&g, inverted, xs, err);
    zs_draw_xt(random, xs, SEED, 0);
    if (status == ZS_OK)
        status = zs_generate(&g, random, xs, err);
    zs_free(z);
    return status;
}

static int fill_autoencoder(zs_model *m, const zs_model_config *c, const zs_source *source,
                            float *x, zs_shape xs, zs_error *err)
{
    int status = zs_preview_read(source, c, x, xs.d[0], err);
    return status < 0 ? status : reconstruct(m, c, x, xs, err);
}

static int fill_ddpm(zs_model *m, float *x, zs_shape xs, zs_error *err)
{
    zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = ZS_PREVIEW_STEPS};
    zs_draw_xt(x, xs, SEED, 0);
    return zs_generate(&g, x, xs, err);
}

static int write_grid(const char *path, const float *x, int64_t n, const zs_model_config *c,
                      int cols, zs_error *err)
{
    zs_image grid = {0};
    int size = (int)c->image_size;
    int status = zs_grid_from_float(&grid, x, (size_t)n, size, size, (int)c->channels, cols,
                                    zs_grid_zoom(size), err);
    if (status == ZS_OK)
        status = zs_image_write_png(path, &grid, err);
    zs_image_free(&grid);
    return status;
}

int zs_preview_write(const char *path, const zs_model_config *c, float *weights,
                     const zs_backend *backend, const zs_source *source, zs_error *err)
{
    bool ddpm = !zs_model_config_joint(c);
    int64_t cols = ZS_PREVIEW_IMAGES, count = zs_source_count(source);
    if (!ddpm && count < cols)
        cols = count;
    int64_t n = cols * (ddpm ? DDPM_ROWS : 3), numel = c->image_size * c->image_size * c->channels;
    zs_shape xs = zs_shape4(ddpm ? n : cols, c->image_size, c->image_size, c->channels);
    const zs_model_options o = {.backend = backend->name, .batch = cols};
    zs_model *m = NULL;
    float *x = zs_alloc((size_t)(n * numel), sizeof(float));
    int status = x ? ZS_OK : zs_fail_nomem(err, (unsigned long long)(n * numel) * 4, "a preview");
    if (status == ZS_OK)
        status = zs_model_wrap(&m, c, weights, &o, err);
    if (status == ZS_OK)
        status = ddpm ? fill_ddpm(m, x, xs, err) : fill_autoencoder(m, c, source, x, xs, err);
    if (status == ZS_OK)
        status = write_grid(path, x, n, c, (int)cols, err);
    zs_model_close(&m);
    zs_free(x);
    return status;
}

enum { CONDITIONAL_ROWS = 2 };

/* Rows of samples, each with noise of its own. */
static int fill_conditional(zs_model *m, float *x, zs_shape xs, const zs_cond *cond, zs_error *err)
{
    zs_generation g = {
        .model = m, .sampler = &zs_sampler_ddim, .steps = ZS_PREVIEW_STEPS, .cond = *cond};
    int status = ZS_OK;
    for (int64_t r = 0; status == ZS_OK && r < CONDITIONAL_ROWS; r++) {
        float *row = x + r * zs_shape_numel(&xs);
        zs_draw_xt(row, xs, SEED, (uint64_t)(r * xs.d[0]));
        status = zs_generate(&g, row, xs, err);
    }
    return status;
}

int zs_preview_conditional(const char *path, const zs_model_config *c, float *weights,
                           const zs_backend *backend, const float *real, const zs_cond *cond,
                           int64_t n, zs_error *err)
{
    int64_t first = real ? 1 : 0, rows = first + CONDITIONAL_ROWS;
    zs_shape xs = zs_shape4(n, c->image_size, c->image_size, c->channels);
    size_t numel = (size_t)zs_shape_numel(&xs);
    const zs_model_options o = {.backend = backend->name, .batch = n};
    zs_model *m = NULL;
    float *x = zs_alloc((size_t)rows * numel, sizeof *x);
    int status = x ? ZS_OK : zs_fail_nomem(err, (size_t)rows * numel * sizeof *x, "a preview");
    if (status == ZS_OK)
        status = zs_model_wrap(&m, c, weights, &o, err);
    if (status == ZS_OK && real)
        memcpy(x, real, numel * sizeof *x);
    if (status == ZS_OK)
        status = fill_conditional(m, x + (size_t)first * numel, xs, cond, err);
    if (status == ZS_OK)
        status = write_grid(path, x, rows * n, c, (int)n, err);
    zs_model_close(&m);
    zs_free(x);
    return status;
}
