/* SPDX-License-Identifier: MIT */
/* zsem train prior: the codes of a data set -> a latent DDIM that draws new ones. */
#include "tasks/pipeline.h"
#include "tasks/train.h"

#include <stddef.h>
#include <string.h>

/* The preset asked for, or the one that the model was made with, or one for codes of that
 * length. */
static int find_preset(zs_preset *p, zs_task_env *env, const zs_model_config *c)
{
    const char *name = zs_opt_text(env, "preset");
    for (size_t i = 0; !name && zs_preset_name(i); i++)
        if (strcmp(zs_preset_name(i), c->name) == 0)
            name = c->name;
    if (!name)
        name = c->unet.z_dim <= 256 ? "fashion32" : "ffhq128";
    return zs_preset_find(p, name, env->err);
}

static void fill_from_preset(zs_train_config *c, const zs_preset *p)
{
    int64_t z_dim = zs_model_config_z_dim(&c->model);
    zs_model_config_take(&c->model, ZS_BOX_PRIOR, &p->prior);
    c->model.latent_mlp.z_dim = z_dim;
    zs_train_fill(c, &p->train_prior);
    c->flip = 0.0; /* views are mirrored, not samples */
}

static uint64_t all_but_first(int layers)
{
    return ((layers < 64 ? (uint64_t)1 << layers : 0) - 1) & ~(uint64_t)1;
}

/* 1 when the key is not the prior's. */
static int set_prior_key(zs_latent_mlp_config *p, const char *key_value, zs_error *err)
{
    int64_t v = 0;
    const char *eq = strchr(key_value, '=');
    bool layers = zs_str_starts(key_value, "layers="), hidden = zs_str_starts(key_value, "hidden=");
    if (!layers && !hidden)
        return 1;
    if (!zs_str_to_i64(eq + 1, &v) || v < (layers ? 2 : 1) || v > (layers ? 64 : 65536))
        return zs_fail(err, ZS_E_INVALID, "--set %s: must be an integer from %s", key_value,
                       layers ? "2 to 64" : "1 to 65536");
    if (hidden)
        p->hidden = v;
    else
        p->layers = (int)v;
    p->skips = all_but_first(p->layers);
    return ZS_OK;
}

static int apply_sets(zs_train_config *c, zs_task_env *env)
{
    for (size_t i = 0; i < zs_opt_list_count(env, "set"); i++) {
        const char *s = zs_opt_list(env, "set", i);
        int r = zs_train_take_key(c, s, env->err);
        if (r == 1)
            r = set_prior_key(&c->model.latent_mlp, s, env->err);
        if (r == 1 && zs_str_starts(s, "latent_beta_schedule="))
            r = zs_model_config_set(&c->model, s, env->err);
        if (r == 1)
            r = zs_fail(env->err, ZS_E_INVALID,
                        "--set %s: a prior has the keys layers hidden latent_beta_schedule lr "
                        "weight_decay clip ema",
                        s);
        if (r < 0)
            return r;
    }
    c->dropout = c->model.latent_mlp.dropout;
    return zs_model_config_validate(&c->model, env->err);
}

static int open_base(zs_model **m, zs_task_env *env)
{
    const zs_model_options o = {.backend = zs_opt_text(env, "device"), .batch = 64};
    if (zs_arg_count(env) < 2)
        return zs_fail(
            env->err, ZS_E_INVALID,
            "train prior: name the model whose codes are to be learnt; usage: zsem train "
            "prior MODEL --data SRC --out RUN");
    int status = zs_model_open(m, zs_arg(env, 1), &o, env->err);
    if (status == ZS_OK)
        status = zs_pipeline_need_autoencoder(*m, zs_arg(env, 1), "a prior", env->err);
    zs_image_shape shape;
    return status < 0 ? status : zs_pipeline_image_shape(&shape, *m, zs_arg(env, 1), env->err);
}

static int make_config(zs_train_config *c, zs_model *base, zs_task_env *env)
{
    zs_preset preset;
    c->model = *zs_model_configuration(base);
    c->base = base;
    c->base_name = zs_arg(env, 1);
    c->codes = zs_opt_text(env, "codes");
    c->views = (int)zs_opt_int(env, "views");
    int status = find_preset(&preset, env, &c->model);
    if (status == ZS_OK)
        status = zs_train_check_preset(&preset, &preset.prior, "a prior", env->err);
    if (status < 0)
        return status;
    fill_from_preset(c, &preset);
    zs_train_take_options(c, env);
    if (!zs_opt_given(env, "sample-every"))
        c->preview_images = c->images / 40 + 1;
    return apply_sets(c, env);
}

int zs_train_prior(zs_task_env *env)
{
    zs_train_config c = zs_train_defaults();
    zs_model *base = NULL;
    int status = zs_train_take_places(&c, env, "prior MODEL");
    if (status == ZS_OK)
        status = open_base(&base, env);
    if (status == ZS_OK)
        status = make_config(&c, base, env);
    if (status == ZS_OK)
        status = zs_train_go(&c, env);
    zs_model_close(&base);
    return status;
}
