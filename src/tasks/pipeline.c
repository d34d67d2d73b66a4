/* SPDX-License-Identifier: MIT */
#include "tasks/pipeline.h"

#include <math.h>

static int wrong_model(const zs_model *m, const char *spec, zs_box needs, zs_error *err)
{
    static const char *const remedy[ZS_BOX_COUNT] = {
        "give an autoencoder, or join a generator with a comma",
        "give an autoencoder, or join the encoder's file with a comma",
        "give a file with latent_net.*, or make one: zsem train prior",
        "join its file, as in dit.pth,vae.safetensors",
        "join one (last.ckpt,cls.ckpt), or make one: zsem train probe",
    };
    if (needs == ZS_BOX_COUNT || zs_model_has(m, needs))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "%s: this command needs a model with %s %s and this one has none; %s", spec,
                   needs == ZS_BOX_ENCODER ? "an" : "a", zs_box_name(needs), remedy[needs]);
}

static bool has_option(const zs_task_env *env, const char *name)
{
    return zs_opt_text(env, name) != NULL;
}

static int open_model(zs_model **m, zs_task_env *env, const char *spec, zs_box needs, bool raw,
                      unsigned boxes)
{
    size_t n = zs_opt_list_count(env, "set");
    const char **set = zs_calloc(n + 1, sizeof *set);
    *m = NULL;
    if (!set)
        return zs_fail_nomem(env->err, n * sizeof *set, "the options");
    for (size_t i = 0; i < n; i++)
        set[i] = zs_opt_list(env, "set", i);
    zs_model_options o = {.backend = zs_opt_text(env, "device"),
                          .batch = has_option(env, "batch") ? zs_opt_int(env, "batch") : 0,
                          .boxes = boxes,
                          .raw = raw || zs_opt_flag(env, "raw"),
                          .set = set};
    int status = zs_model_open(m, spec, &o, env->err);
    zs_free(set);
    if (status == ZS_OK)
        status = wrong_model(*m, spec, needs, env->err);
    if (status < 0)
        zs_model_close(m);
    return status;
}

int zs_pipeline_open(zs_model **m, zs_task_env *env, const char *spec, zs_box needs, bool raw)
{
    return open_model(m, env, spec, needs, raw, 0);
}

int zs_pipeline_open_alone(zs_model **m, zs_task_env *env, const char *spec, zs_box box)
{
    return open_model(m, env, spec, box, false, 1u << box);
}

int zs_pipeline_need_autoencoder(const zs_model *m, const char *spec, const char *what,
                                 zs_error *err)
{
    if (zs_model_has(m, ZS_BOX_ENCODER) && zs_model_has(m, ZS_BOX_GENERATOR))
        return ZS_OK;
    return zs_fail(
        err, ZS_E_INVALID,
        "%s: %s needs an autoencoder, and this model has no %s; make one with zsem "
        "train autoencoder",
        spec, what,
        zs_box_name(zs_model_has(m, ZS_BOX_ENCODER) ? ZS_BOX_GENERATOR : ZS_BOX_ENCODER));
}

int zs_pipeline_image_shape(zs_image_shape *out, const zs_model *m, const char *spec, zs_error *err)
{
    const zs_model_config *c = zs_model_configuration(m);
    if (c->image_size < 1)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: the file does not say how large its images are; add --set image_size=N",
                       spec);
    if (c->channels != 1 && c->channels != 3)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: the generator works on latents of %lld channels; join the autoencoder "
                       "that they belong to, as in dit.pth,sd-vae-ft-ema.safetensors",
                       spec, (long long)c->channels);
    *out = (zs_image_shape){(int)c->image_size, (int)c->channels, zs_fit_from_name(c->fit)};
    return ZS_OK;
}

int zs_pipeline_images(zs_images **im, zs_image_shape *shape, zs_task_env *env, const zs_model *m)
{
    size_t n = zs_arg_count(env) - 1;
    const char **args = zs_alloc(n, sizeof *args);
    int status = args ? zs_pipeline_image_shape(shape, m, zs_arg(env, 0), env->err)
                      : zs_fail_nomem(env->err, n * sizeof *args, "arguments");
    for (size_t i = 0; status == ZS_OK && i < n; i++)
        args[i] = zs_arg(env, i + 1);
    if (status == ZS_OK)
        status = zs_images_open(im, args, n, *shape, env->err);
    zs_free(args);
    return status;
}

static int run(const zs_pipeline *p, const zs_sampler *k, float *x, zs_shape xs, const float *z,
               zs_error *err)
{
    zs_generation g = {.model = p->m,
                       .sampler = k,
                       .steps = p->steps,
                       .cond = {.z = z},
                       .ui = p->ui,
                       .stage = p->stage};
    return zs_generate(&g, x, xs, err);
}

int zs_pipeline_check_steps(zs_model *m, int64_t steps, zs_error *err)
{
    zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = steps};
    return zs_generation_check(&g, err);
}

int zs_pipeline_check_inversion(const zs_model *m, const char *spec, const char *instead,
                                zs_error *err)
{
    if (!zs_model_has(m, ZS_BOX_FIRST_STAGE))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "%s: a generator of latents is not run backwards; %s", spec,
                   instead);
}

int zs_pipeline_decode(const zs_pipeline *p, float *x, zs_shape xs, const float *z, zs_error *err)
{
    return run(p, &zs_sampler_ddim, x, xs, z, err);
}

int zs_pipeline_decode_watched(const zs_pipeline *p, float *x, zs_shape xs, const float *z,
                               zs_watch_fn watch, void *watch_ctx, zs_error *err)
{
    const zs_generation g = {.model = p->m,
                             .sampler = &zs_sampler_ddim,
                             .steps = p->steps,
                             .cond = {.z = z},
                             .ui = p->ui,
                             .stage = p->stage,
                             .watch = watch,
                             .watch_ctx = watch_ctx};
    return zs_generate(&g, x, xs, err);
}

int zs_pipeline_invert(const zs_pipeline *p, float *x, zs_shape xs, const float *z, zs_error *err)
{
    return run(p, &zs_sampler_ddim_invert, x, xs, z, err);
}

int zs_pipeline_analyse(const zs_pipeline *p, float *x, float *z, zs_shape xs, zs_error *err)
{
    int status = z ? zs_model_encode(p->m, z, x, xs, err) : ZS_OK;
    return status < 0 ? status : zs_pipeline_invert(p, x, xs, z, err);
}

void zs_pipeline_lerp(float *z, const float *za, const float *zb, size_t n, double a)
{
    for (size_t i = 0; i < n; i++)
        z[i] = (float)((1.0 - a) * (double)za[i] + a * (double)zb[i]);
}

void zs_pipeline_slerp(float *x, const float *xa, const float *xb, size_t n, double a)
{
    double aa = 0.0, bb = 0.0, ab = 0.0, wa = 1.0 - a, wb = a;
    for (size_t i = 0; i < n; i++) {
        aa += (double)xa[i] * (double)xa[i];
        bb += (double)xb[i] * (double)xb[i];
        ab += (double)xa[i] * (double)xb[i];
    }
    double cosine = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1.0;
    double theta = acos(fmin(1.0, fmax(-1.0, cosine))), s = sin(theta);
    /* parallel ends: the limit of the formula is the straight line */
    if (s > 1e-6) {
        wa = sin((1.0 - a) * theta) / s;
        wb = sin(a * theta) / s;
    }
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(wa * (double)xa[i] + wb * (double)xb[i]);
}

void zs_pipeline_unit(float *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = (src[i] + 1.0f) * 0.5f;
        dst[i] = v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v;
    }
}
