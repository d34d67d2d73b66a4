/* SPDX-License-Identifier: MIT */
/* zsem train generator: images -> a generator conditioned on the representations of a frozen
 * encoder, on classes, or on nothing. */
#include "tasks/pipeline.h"
#include "tasks/train.h"

#include <string.h>

static int apply_sets(zs_train_config *c, zs_task_env *env)
{
    for (size_t i = 0; i < zs_opt_list_count(env, "set"); i++) {
        const char *s = zs_opt_list(env, "set", i);
        int r = zs_train_take_key(c, s, env->err);
        if (r == 1)
            r = zs_model_config_set(&c->model, s, env->err);
        if (r == 1)
            r = zs_fail(env->err, ZS_E_INVALID,
                        "--set %s: a generator has no such key; its fields are set as in --set "
                        "generator.num_res_blocks=2",
                        s);
        if (r < 0)
            return r;
    }
    c->dropout = zs_model_config_dropout(&c->model);
    return zs_model_config_validate(&c->model, env->err);
}

/* The representations of the encoder, and who it is. */
static int open_encoder(zs_train_config *c, zs_task_env *env, const char *spec)
{
    /* --set is about the generator */
    const zs_model_options o = {.backend = c->backend, .boxes = 1u << ZS_BOX_ENCODER};
    int status = zs_model_open(&c->encoder, spec, &o, env->err);
    if (status == ZS_OK && !zs_model_has(c->encoder, ZS_BOX_ENCODER))
        status = zs_fail(env->err, ZS_E_INVALID, "--encoder %s: the model has no encoder", spec);
    const zs_model_config *e = c->encoder ? zs_model_configuration(c->encoder) : NULL;
    const zs_train_picture p = zs_train_pictures(c);
    if (status == ZS_OK && e->channels != p.channels)
        status = zs_fail(env->err, ZS_E_INVALID,
                         "%s takes images of %lld channels and the generator those of %lld; set "
                         "--set channels= or choose another preset",
                         spec, (long long)e->channels, (long long)p.channels);
    if (status == ZS_OK)
        status =
            zs_rep_fingerprint(c->model.reps.fingerprint, c->encoder, ZS_BOX_ENCODER, env->err);
    if (status < 0)
        return status;
    c->base_name = spec;
    (void)snprintf(c->model.reps.name, sizeof c->model.reps.name, "%s",
                   e->name[0] ? e->name : spec);
    return zs_model_config_condition(&c->model, zs_model_config_z_dim(e), 0, env->err);
}

/* What turns images into the latents that the generator learns. */
static int open_first_stage(zs_train_config *c, zs_task_env *env)
{
    const char *spec = zs_opt_text(env, "first-stage");
    if (!spec && c->model.channels <= 3)
        return ZS_OK;
    if (!spec)
        return zs_fail(env->err, ZS_E_INVALID,
                       "train generator: the preset is one for latents of %lld channels; give the "
                       "first stage that makes them: --first-stage MODEL",
                       (long long)c->model.channels);
    /* --set is about what is trained */
    const zs_model_options o = {.backend = zs_opt_text(env, "device"),
                                .boxes = 1u << ZS_BOX_FIRST_STAGE};
    int status = zs_model_open(&c->first_stage, spec, &o, env->err);
    if (status == ZS_OK && !zs_model_has(c->first_stage, ZS_BOX_FIRST_STAGE))
        return zs_fail(env->err, ZS_E_INVALID, "%s has no first stage; give a file that has one",
                       spec);
    const zs_vae_config *v = c->first_stage ? &zs_model_configuration(c->first_stage)->vae : NULL;
    if (status == ZS_OK && v->latent_channels != c->model.channels)
        status = zs_fail(env->err, ZS_E_INVALID,
                         "%s makes latents of %lld channels, but the generator takes %lld; use "
                         "another first stage or preset",
                         spec, (long long)v->latent_channels, (long long)c->model.channels);
    if (status == ZS_OK)
        status = zs_rep_fingerprint(c->model.latents.fingerprint, c->first_stage,
                                    ZS_BOX_FIRST_STAGE, env->err);
    (void)snprintf(c->model.latents.name, sizeof c->model.latents.name, "%s", spec);
    return status;
}

static int condition(zs_train_config *c, zs_task_env *env)
{
    const char *encoder = zs_opt_text(env, "encoder");
    int64_t classes = 0;
    bool by_class = zs_opt_flag(env, "class-cond");
    if (encoder && by_class)
        return zs_fail(env->err, ZS_E_INVALID,
                       "train generator: --encoder and --class-cond exclude each other; classes "
                       "come from a class-conditional prior: zsem train prior --class-cond");
    if (encoder)
        return open_encoder(c, env, encoder);
    int status = by_class ? zs_train_count_classes(&classes, c->data, env->err) : ZS_OK;
    return status < 0 ? status : zs_model_config_condition(&c->model, 0, classes, env->err);
}

static int make_config(zs_train_config *c, zs_task_env *env)
{
    zs_preset preset;
    int status = zs_train_preset(&preset, env, c->data);
    if (status < 0)
        return status;
    status = zs_train_check_preset(&preset, &preset.generator, "a generator", env->err);
    if (status < 0)
        return status;
    c->model = preset.generator;
    zs_train_fill(c, &preset.train_generator);
    zs_train_take_options(c, env);
    status = apply_sets(c, env); /* they may make it one of pixels */
    if (status == ZS_OK)
        status = open_first_stage(c, env);
    if (status == ZS_OK)
        status = condition(c, env);
    return status < 0 ? status : zs_model_config_validate(&c->model, env->err);
}

int zs_train_generator(zs_task_env *env)
{
    zs_train_config c = zs_train_defaults();
    int status = zs_train_take_places(&c, env, "generator [--encoder MODEL]");
    if (status == ZS_OK)
        status = make_config(&c, env);
    if (status == ZS_OK)
        status = zs_train_go(&c, env);
    zs_model_close(&c.encoder);
    zs_model_close(&c.first_stage);
    return status;
}
