/* SPDX-License-Identifier: MIT */
#include "diffusion/sampler.h"

#include <string.h>

static const zs_sampler *const samplers[] = {&zs_sampler_ddpm,        &zs_sampler_ddim,
                                             &zs_sampler_ddim_invert, &zs_sampler_dpmpp2m,
                                             &zs_sampler_heun,        NULL};

const zs_sampler *zs_sampler_find(const char *name)
{
    for (const zs_sampler *const *k = samplers; *k; k++)
        if (strcmp((*k)->name, name) == 0)
            return *k;
    return NULL;
}

static void fill_normal(float *out, const zs_sampling *s, zs_purpose purpose, int64_t t)
{
    for (int64_t b = 0; b < s->n; b++) {
        const zs_rng r = {.seed = s->noise.seed,
                          .purpose = purpose,
                          .index = s->noise.first + (uint64_t)b,
                          .step = (uint64_t)t};
        zs_rng_normal(out + b * s->numel, (size_t)s->numel, &r, 0);
    }
}

void zs_noise_xt(float *x, const zs_sampling *s)
{
    fill_normal(x, s, ZS_RNG_XT, 0);
}

void zs_noise_step(const zs_sampling *s, int64_t i, zs_sample_work *w)
{
    if (!s->noise.recorded) {
        fill_normal(w->noise, s, ZS_RNG_STEP, s->schedule->t[i]);
        return;
    }
    size_t size = (size_t)(s->n * s->numel);
    memcpy(w->noise, s->noise.recorded + (size_t)(s->schedule->n - 1 - i) * size,
           size * sizeof(float));
}

/* Of the network's channels at each position, those of the prediction. */
static void take_prediction(const zs_sampling *s, float *out, const float *raw)
{
    int64_t positions = s->n * s->numel / s->channels, pitch = s->channels + s->extra;
    for (int64_t p = 0; p < positions; p++)
        memcpy(out + p * s->channels, raw + p * pitch, (size_t)s->channels * sizeof *out);
}

int zs_sample_predict(const zs_sampling *s, int64_t i, const zs_sample_work *w, const float *x,
                      float *x0, float *eps, zs_error *err)
{
    size_t size = (size_t)(s->n * s->numel);
    double abar = s->schedule->abar[i];
    int status = s->net(s->net_ctx, x, s->schedule->t[i], s->extra ? w->raw : eps, err);
    if (status < 0)
        return status;
    if (s->extra)
        take_prediction(s, eps, w->raw);
    if (s->pred == ZS_PRED_EPS)
        zs_eps_to_x0(x0, x, eps, abar, size);
    else
        memcpy(x0, eps, size * sizeof(float));
    if (s->clip)
        zs_clamp_unit(x0, size);
    zs_x0_to_eps(eps, x, x0, abar, size);
    return ZS_OK;
}

static int report(const zs_sampler *k, const zs_sampling *s, int64_t done, zs_error *err)
{
    const zs_progress p = {.stage = s->stage ? s->stage : k->name,
                           .done = (double)done,
                           .total = (double)s->schedule->n,
                           .unit = "steps"};
    return zs_ui_progress(s->ui, &p, err);
}

static int run(const zs_sampler *k, const zs_sampling *s, zs_sample_work *w, zs_error *err)
{
    int64_t steps = s->schedule->n;
    int status = ZS_OK;
    for (int64_t j = 0; j < steps && status >= 0; j++) {
        int64_t i = k->upward ? j : steps - 1 - j;
        status = zs_sample_predict(s, i, w, w->x, w->x0, w->eps, err);
        if (status == ZS_OK && s->watch)
            s->watch(s->watch_ctx, j, s->schedule->t[i], w->x0);
        if (status == ZS_OK)
            status = k->step(s, i, w, err);
        if (status == ZS_OK)
            status = report(k, s, j + 1, err);
    }
    return status;
}

/* Bytes of all buffers, *size floats of one and *raw of w->raw; false when there are too many. */
static bool work_size(const zs_sampler *k, const zs_sampling *s, size_t *size, size_t *raw,
                      size_t *bytes)
{
    size_t all;
    *raw = 0;
    if (!zs_mul_size((size_t)s->n, (size_t)s->numel, size) ||
        !zs_mul_size(*size, (size_t)(3 + k->extra), &all))
        return false;
    if (s->extra &&
        !zs_mul_size(*size / (size_t)s->channels, (size_t)(s->channels + s->extra), raw))
        return false;
    return all <= SIZE_MAX - *raw && zs_mul_size(all + *raw, sizeof(float), bytes);
}

static int check_sampling(const zs_sampler *k, const zs_sampling *s, zs_error *err)
{
    if (s->n < 1 || s->numel < 1)
        return zs_fail(err, ZS_E_INVALID, "%s: nothing to sample", k->name);
    if (s->extra && (s->extra < 0 || s->channels < 1 || s->numel % s->channels))
        return zs_fail(err, ZS_E_INVALID,
                       "%s: samples of %lld elements are not whole positions of %lld channels",
                       k->name, (long long)s->numel, (long long)s->channels);
    if (s->variance == ZS_VAR_LEARNED && (s->extra < 1 || s->extra != s->channels))
        return zs_fail(err, ZS_E_INVALID,
                       "%s: a learned variance needs a network that returns one for each channel",
                       k->name);
    return ZS_OK;
}

int zs_sample(const zs_sampler *k, const zs_sampling *s, float *x, zs_error *err)
{
    size_t size, raw, bytes;
    int status = check_sampling(k, s, err);
    if (status < 0)
        return status;
    if (!work_size(k, s, &size, &raw, &bytes))
        return zs_fail(err, ZS_E_INVALID,
                       "%s: %lld samples of %lld elements are too many: use a "
                       "smaller batch",
                       k->name, (long long)s->n, (long long)s->numel);
    float *buffer = zs_alloc(bytes, 1);
    if (!buffer)
        return zs_fail_nomem(err, bytes, "sampling; use a smaller batch");
    zs_sample_work w = {.x = x, .x0 = buffer, .eps = buffer + size, .noise = buffer + 2 * size};
    for (int j = 0; j < k->extra; j++)
        w.extra[j] = buffer + (size_t)(3 + j) * size;
    w.raw = raw ? buffer + (size_t)(3 + k->extra) * size : NULL;
    status = run(k, s, &w, err);
    zs_free(buffer);
    return status;
}
