/* SPDX-License-Identifier: MIT */
#include "train/generate.h"
#include "models/session.h"

#include <stdio.h>
#include <string.h>

static int session_eps(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    return zs_session_run(ctx, out, x, t, err);
}

static int spaced_schedule(zs_schedule *out, const zs_generation *g, const zs_process_config *p,
                           zs_error *err)
{
    zs_schedule full;
    char spec[32];
    bool even = g->sampler == &zs_sampler_ddpm;
    snprintf(spec, sizeof spec, "%s%lld", even ? "" : "ddim", (long long)g->steps);
    *out = (zs_schedule){0};
    int status = zs_schedule_make(&full, p->beta_schedule, p->T, err);
    if (status == ZS_OK)
        status = zs_schedule_respace(out, &full, spec, err);
    zs_schedule_free(&full);
    return status;
}

static int run(const zs_generation *g, zs_box box, const zs_process_config *p, float *x,
               zs_shape xs, zs_error *err)
{
    zs_schedule schedule;
    zs_session *session = NULL;
    int status = spaced_schedule(&schedule, g, p, err);
    if (status == ZS_OK)
        status = zs_session_new(&session, g->model, box, xs, &g->cond, schedule.t, schedule.n, err);
    const zs_sampling s = {.schedule = &schedule,
                           .n = xs.d[0],
                           .numel = zs_shape_numel(&xs) / xs.d[0],
                           .net = session_eps,
                           .net_ctx = session,
                           .pred = strcmp(p->prediction, "x0") == 0 ? ZS_PRED_X0 : ZS_PRED_EPS,
                           .clip = p->clip,
                           .eta = g->eta,
                           .noise = g->noise,
                           .ui = g->ui,
                           .stage = g->stage,
                           .watch = g->watch,
                           .watch_ctx = g->watch_ctx};
    if (status == ZS_OK)
        status = zs_sample(g->sampler, &s, x, err);
    zs_session_free(&session);
    zs_schedule_free(&schedule);
    return status;
}

int zs_generation_check(const zs_generation *g, zs_error *err)
{
    zs_schedule schedule;
    int status = spaced_schedule(&schedule, g, &zs_model_configuration(g->model)->diffusion, err);
    zs_schedule_free(&schedule);
    return status;
}

int zs_generate(const zs_generation *g, float *x, zs_shape xs, zs_error *err)
{
    int status = zs_model_check_images(g->model, xs, err);
    if (status < 0)
        return status;
    return run(g, ZS_BOX_GENERATOR, &zs_model_configuration(g->model)->diffusion, x, xs, err);
}

int zs_generate_codes(const zs_generation *g, float *z, int64_t n, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(g->model);
    zs_generation own = *g;
    own.cond.z = NULL; /* of the generator that comes after */
    if (!zs_model_has(g->model, ZS_BOX_PRIOR))
        return zs_fail(err, ZS_E_INVALID,
                       "the model has no latent prior to sample codes from: add its file, as in "
                       "last.ckpt,latent.ckpt");
    return run(&own, ZS_BOX_PRIOR, &c->latent, z, zs_shape2(n, zs_model_config_z_dim(c)), err);
}

static int need_stats(const zs_model *m, zs_error *err)
{
    if (zs_model_z_mean(m) && zs_model_z_std(m))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "the model has no statistics of its codes: add the file that holds them, as in "
                   "last.ckpt,latent.pkl");
}

int zs_normalise_codes(const zs_model *m, float *z, int64_t n, zs_error *err)
{
    const float *mean = zs_model_z_mean(m), *std = zs_model_z_std(m);
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(m));
    int status = need_stats(m, err);
    for (int64_t i = 0; status == ZS_OK && i < n * dim; i++)
        z[i] = (z[i] - mean[i % dim]) / std[i % dim];
    return status;
}

int zs_denormalise_codes(const zs_model *m, float *z, int64_t n, zs_error *err)
{
    const float *mean = zs_model_z_mean(m), *std = zs_model_z_std(m);
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(m));
    int status = need_stats(m, err);
    for (int64_t i = 0; status == ZS_OK && i < n * dim; i++)
        z[i] = z[i] * std[i % dim] + mean[i % dim];
    return status;
}

void zs_draw_xt(float *x, zs_shape xs, uint64_t seed, uint64_t first)
{
    const zs_sampling s = {.n = xs.d[0],
                           .numel = zs_shape_numel(&xs) / xs.d[0],
                           .noise = {.seed = seed, .first = first}};
    zs_noise_xt(x, &s);
}

void zs_draw_code(float *z, int64_t n, int64_t dim, uint64_t seed, uint64_t first)
{
    for (int64_t i = 0; i < n; i++) {
        const zs_rng r = {seed, ZS_RNG_CODE, first + (uint64_t)i, 0};
        zs_rng_normal(z + i * dim, (size_t)dim, &r, 0);
    }
}
