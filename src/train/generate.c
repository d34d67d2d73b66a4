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
    const char *stride = p->spacing[0] ? p->spacing : "ddim";
    snprintf(spec, sizeof spec, "%s%lld", even ? "" : stride, (long long)g->steps);
    *out = (zs_schedule){0};
    int status = zs_schedule_make(&full, p->beta_schedule, p->T, err);
    if (status == ZS_OK)
        status = zs_schedule_respace(out, &full, g->spacing ? g->spacing : spec, err);
    zs_schedule_free(&full);
    return status;
}

static zs_variance variance_of(const zs_process_config *p)
{
    return strcmp(p->variance, "learned") == 0       ? ZS_VAR_LEARNED
           : strcmp(p->variance, "fixed_small") == 0 ? ZS_VAR_SMALL
                                                     : ZS_VAR_LARGE;
}

/* What a run owns. */
typedef struct run_state {
    zs_schedule schedule;
    zs_session *session, *other; /* with and without condition; other NULL: not guided */
    float *drop;                 /* representations, or */
    int64_t *no_class;
    zs_guidance guidance;
} run_state;

static void free_state(run_state *r)
{
    zs_session_free(&r->session);
    zs_session_free(&r->other);
    zs_free(r->drop);
    zs_free(r->no_class);
    zs_guidance_free(&r->guidance);
    zs_schedule_free(&r->schedule);
}

static bool is_guided(const zs_generation *g, zs_box box)
{
    return box == ZS_BOX_GENERATOR && (g->guidance < 0 || g->guidance > 0) &&
           (g->guidance < 1 || g->guidance > 1);
}

static int check_guidance(const zs_generation *g, zs_error *err)
{
    zs_ports p;
    (void)zs_model_config_ports(zs_model_configuration(g->model), ZS_BOX_GENERATOR, &p);
    if (!is_guided(g, ZS_BOX_GENERATOR) || p.guided)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "a guidance of %g needs a generator that was trained with its representations "
                   "or classes left out now and then, and this one was not; leave the guidance out",
                   g->guidance);
}

/* The condition with nothing in it: representations are dropped, or classes none. */
static int absent(zs_cond *out, run_state *r, const zs_ports *p, int64_t n, zs_error *err)
{
    if (p->z_dim)
        out->drop = r->drop = zs_alloc((size_t)n, sizeof *r->drop);
    else
        out->y = r->no_class = zs_alloc((size_t)n, sizeof *r->no_class);
    if (!r->drop && !r->no_class)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof *r->no_class, "guidance");
    for (int64_t i = 0; i < n; i++) {
        if (r->drop)
            r->drop[i] = 1.0f;
        else
            r->no_class[i] = p->classes - 1;
    }
    return ZS_OK;
}

/* The second session, and the network that is made of both. */
static int guide(run_state *r, zs_sampling *s, const zs_generation *g, zs_shape xs, zs_error *err)
{
    zs_ports p;
    zs_cond without = g->cond;
    int status = check_guidance(g, err);
    (void)zs_model_config_ports(zs_model_configuration(g->model), ZS_BOX_GENERATOR, &p);
    if (status == ZS_OK)
        status = absent(&without, r, &p, xs.d[0], err);
    if (status == ZS_OK)
        status = zs_session_new(&r->other, g->model, ZS_BOX_GENERATOR, xs, &without, r->schedule.t,
                                r->schedule.n, err);
    r->guidance = (zs_guidance){.cond = session_eps,
                                .uncond = session_eps,
                                .cond_ctx = r->session,
                                .uncond_ctx = r->other,
                                .scale = g->guidance,
                                .positions = xs.d[0] * xs.d[1] * xs.d[2],
                                .pitch = p.out_channels,
                                .guided = p.guided};
    s->net = zs_guidance_net;
    s->net_ctx = &r->guidance;
    return status;
}

/* Schedule, networks and everything that the sampler is to know of them. */
static int prepare(run_state *r, zs_sampling *s, const zs_generation *g, zs_box box, zs_shape xs,
                   zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(g->model);
    const zs_process_config *p = box == ZS_BOX_PRIOR ? &c->latent : &c->diffusion;
    zs_ports ports;
    bool bounds = box == ZS_BOX_GENERATOR && zs_model_config_learns_variance(c);
    int status = spaced_schedule(&r->schedule, g, p, err);
    if (status == ZS_OK)
        status = zs_session_new(&r->session, g->model, box, xs, &g->cond, r->schedule.t,
                                r->schedule.n, err);
    (void)zs_model_config_ports(c, box, &ports);
    *s = (zs_sampling){.schedule = &r->schedule,
                       .n = xs.d[0],
                       .numel = zs_shape_numel(&xs) / xs.d[0],
                       .net = session_eps,
                       .net_ctx = r->session,
                       .pred = strcmp(p->prediction, "x0") == 0 ? ZS_PRED_X0 : ZS_PRED_EPS,
                       .channels = bounds ? ports.in_channels : 0,
                       .extra = bounds ? ports.out_channels - ports.in_channels : 0,
                       .variance = variance_of(p),
                       .clip = p->clip,
                       .eta = g->eta,
                       .noise = g->noise,
                       .ui = g->ui,
                       .stage = g->stage,
                       .watch = g->watch,
                       .watch_ctx = g->watch_ctx};
    return status == ZS_OK && is_guided(g, box) ? guide(r, s, g, xs, err) : status;
}

static int run(const zs_generation *g, zs_box box, float *x, zs_shape xs, zs_error *err)
{
    run_state r = {0};
    zs_sampling s;
    int status = prepare(&r, &s, g, box, xs, err);
    if (status == ZS_OK)
        status = zs_sample(g->sampler, &s, x, err);
    free_state(&r);
    return status;
}

int zs_generation_check(const zs_generation *g, zs_error *err)
{
    zs_schedule schedule;
    int status = spaced_schedule(&schedule, g, &zs_model_configuration(g->model)->diffusion, err);
    zs_schedule_free(&schedule);
    return status == ZS_OK ? check_guidance(g, err) : status;
}

int zs_generate(const zs_generation *g, float *x, zs_shape xs, zs_error *err)
{
    int status = zs_model_check_states(g->model, xs, err);
    if (status < 0)
        return status;
    return run(g, ZS_BOX_GENERATOR, x, xs, err);
}

int zs_generate_images(const zs_generation *g, float *x, zs_shape xs, zs_error *err)
{
    zs_ports p;
    bool first = zs_model_config_ports(zs_model_configuration(g->model), ZS_BOX_FIRST_STAGE, &p);
    if (!first) {
        zs_draw_xt(x, xs, g->noise.seed, g->noise.first);
        return zs_generate(g, x, xs, err);
    }
    zs_shape s = zs_shape4(xs.d[0], xs.d[1] / p.unit, xs.d[2] / p.unit, p.out_channels);
    float *z = zs_alloc((size_t)zs_shape_numel(&s), sizeof *z);
    if (!z)
        return zs_fail_nomem(err, (unsigned long long)zs_shape_numel(&s) * sizeof *z, "latents");
    zs_draw_xt(z, s, g->noise.seed, g->noise.first);
    int status = zs_generate(g, z, s, err);
    if (status == ZS_OK)
        status = zs_model_from_latents(g->model, x, z, s, err);
    zs_free(z);
    return status;
}

int zs_generation_steps(int64_t *n, const zs_generation *g, zs_box box, zs_error *err)
{
    zs_schedule s;
    const zs_model_config *c = zs_model_configuration(g->model);
    int status = spaced_schedule(&s, g, box == ZS_BOX_PRIOR ? &c->latent : &c->diffusion, err);
    *n = s.n;
    zs_schedule_free(&s);
    return status;
}

int zs_generate_codes(const zs_generation *g, float *z, int64_t n, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(g->model);
    zs_generation own = *g;
    zs_ports ports;
    own.cond.z = NULL; /* of the generator that comes after */
    if (zs_model_config_ports(c, ZS_BOX_PRIOR, &ports) && !ports.classes)
        own.cond.y = NULL; /* likewise */
    if (!zs_model_has(g->model, ZS_BOX_PRIOR))
        return zs_fail(err, ZS_E_INVALID,
                       "the model has no latent prior to sample codes from: add its file, as in "
                       "last.ckpt,latent.ckpt");
    return run(&own, ZS_BOX_PRIOR, z, zs_shape2(n, zs_model_config_z_dim(c)), err);
}

/* A representation diffusion model draws representations as its encoder makes them, each with mean
 * 0 and deviation 1, unless it was trained on others and says so. */
static bool drawn_as_they_are(const zs_model *m)
{
    const zs_arch *a = zs_model_config_arch(zs_model_configuration(m), ZS_BOX_PRIOR, NULL);
    return a == &zs_arch_rdm && !zs_model_z_mean(m);
}

bool zs_can_denormalise(const zs_model *m)
{
    return drawn_as_they_are(m) || (zs_model_z_mean(m) && zs_model_z_std(m));
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
    if (drawn_as_they_are(m))
        return ZS_OK;
    int status = need_stats(m, err);
    for (int64_t i = 0; status == ZS_OK && i < n * dim; i++)
        z[i] = (z[i] - mean[i % dim]) / std[i % dim];
    return status;
}

int zs_denormalise_codes(const zs_model *m, float *z, int64_t n, zs_error *err)
{
    const float *mean = zs_model_z_mean(m), *std = zs_model_z_std(m);
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(m));
    if (drawn_as_they_are(m))
        return ZS_OK;
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
