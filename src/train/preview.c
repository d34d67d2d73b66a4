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

static int write_grid(const char *path, const float *x, zs_shape xs, int cols, zs_error *err)
{
    zs_image grid = {0};
    int size = (int)xs.d[1];
    int status = zs_grid_from_float(&grid, x, (size_t)xs.d[0], size, size, (int)xs.d[3], cols,
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
        status = zs_model_wrap_buffer(&m, c, weights, &o, err);
    if (status == ZS_OK)
        status = ddpm ? fill_ddpm(m, x, xs, err) : fill_autoencoder(m, c, source, x, xs, err);
    if (status == ZS_OK)
        status = write_grid(path, x, zs_shape4(n, xs.d[1], xs.d[2], xs.d[3]), (int)cols, err);
    zs_model_close(&m);
    zs_free(x);
    return status;
}

enum { CONDITIONAL_ROWS = 2 };

/* One row: samples of shape `states`, as images. */
static int fill_row(zs_model *m, zs_model *first_stage, float *x, zs_shape states, int64_t row,
                    const zs_cond *cond, zs_error *err)
{
    zs_generation g = {
        .model = m, .sampler = &zs_sampler_ddim, .steps = ZS_PREVIEW_STEPS, .cond = *cond};
    size_t numel = (size_t)zs_shape_numel(&states);
    float *z = first_stage ? zs_alloc(numel, sizeof *z) : x;
    if (!z)
        return zs_fail_nomem(err, numel * sizeof *z, "a preview");
    zs_draw_xt(z, states, SEED, (uint64_t)(row * states.d[0]));
    int status = zs_generate(&g, z, states, err);
    if (status == ZS_OK && first_stage)
        status = zs_model_from_latents(first_stage, x, z, states, err);
    if (first_stage)
        zs_free(z);
    return status;
}

int zs_preview_conditional(const char *path, const zs_model_config *c, zs_model *first_stage,
                           float *weights, const zs_backend *backend, const float *real,
                           const zs_cond *cond, int64_t n, zs_error *err)
{
    int64_t first = real ? 1 : 0, rows = first + CONDITIONAL_ROWS;
    zs_shape states = zs_model_config_states(c, n), xs = states;
    if (first_stage) {
        const zs_vae_config *v = &zs_model_configuration(first_stage)->vae;
        xs = zs_shape4(n, states.d[1] << (v->levels - 1), states.d[2] << (v->levels - 1),
                       v->channels);
    }
    size_t numel = (size_t)zs_shape_numel(&xs);
    const zs_model_options o = {.backend = backend->name, .batch = n};
    zs_model *m = NULL;
    float *x = zs_alloc((size_t)rows * numel, sizeof *x);
    int status = x ? ZS_OK : zs_fail_nomem(err, (size_t)rows * numel * sizeof *x, "a preview");
    if (status == ZS_OK)
        status = zs_model_wrap_buffer(&m, c, weights, &o, err);
    if (status == ZS_OK && real)
        memcpy(x, real, numel * sizeof *x);
    for (int64_t r = 0; status == ZS_OK && r < CONDITIONAL_ROWS; r++)
        status = fill_row(m, first_stage, x + (size_t)(first + r) * numel, states, r, cond, err);
    xs.d[0] = rows * n;
    if (status == ZS_OK)
        status = write_grid(path, x, xs, (int)n, err);
    zs_model_close(&m);
    zs_free(x);
    return status;
}
