/* SPDX-License-Identifier: MIT */
/* zsem train prior: the codes of a data set -> a diffusion model that draws new ones. */
#include "tasks/pipeline.h"
#include "tasks/train.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The architecture asked for; NULL: --arch is not given. */
static int find_arch(const zs_arch **a, zs_task_env *env)
{
    const char *name = zs_opt_text(env, "arch");
    *a = name ? zs_arch_find(ZS_BOX_PRIOR, name) : NULL;
    if (!name || *a)
        return ZS_OK;
    return zs_fail(env->err, ZS_E_INVALID,
                   "--arch %s: a prior is a latent_mlp (the latent DDIM of Diffusion Autoencoders) "
                   "or an rdm (the representation diffusion model of RCG)",
                   name);
}

/* For codes of that length when nothing is asked for: a frozen encoder's make an RDM. */
static const char *usual_preset(const zs_model_config *c, const zs_arch *a)
{
    int64_t dim = zs_model_config_z_dim(c);
    bool rdm = a ? a == &zs_arch_rdm : !zs_model_config_joint(c);
    if (rdm)
        return c->vit.depth && dim == 256 ? "rdm-mocov3-b" : "rdm-small";
    return dim <= 256 ? "fashion32" : "ffhq128";
}

/* The preset asked for, or the one that the model was made with, or the usual one. */
static int find_preset(zs_preset *p, zs_task_env *env, const zs_model_config *c)
{
    const char *name = zs_opt_text(env, "preset");
    const zs_arch *a = NULL, *have;
    int status = find_arch(&a, env);
    if (status < 0)
        return status;
    for (size_t i = 0; !name && a != &zs_arch_rdm && zs_preset_name(i); i++)
        if (strcmp(zs_preset_name(i), c->name) == 0 && zs_model_config_joint(c))
            name = c->name;
    status = zs_preset_find(p, name ? name : usual_preset(c, a), env->err);
    if (status == ZS_OK)
        status = zs_train_check_preset(p, &p->prior, "a prior", env->err);
    have = status == ZS_OK ? zs_model_config_arch(&p->prior, ZS_BOX_PRIOR, NULL) : NULL;
    if (status == ZS_OK && a && a != have)
        status = zs_fail(env->err, ZS_E_INVALID,
                         "--arch %s and --preset %s do not go together: the preset is a %s",
                         a->name, p->name, have->name);
    return status;
}

/* A prior of codes that a frozen encoder makes is a model of its own, which notes the encoder; that
 * of an autoencoder joins it, unless it is wanted alone. */
static int take_boxes(zs_train_config *c, zs_model *base, zs_task_env *env)
{
    char name[sizeof c->model.reps.name];
    if (zs_model_config_joint(&c->model) && !zs_opt_flag(env, "alone"))
        return ZS_OK;
    (void)snprintf(name, sizeof name, "%s", c->model.name[0] ? c->model.name : c->base_name);
    c->model = (zs_model_config){0};
    memcpy(c->model.reps.name, name, sizeof name);
    return zs_rep_fingerprint(c->model.reps.fingerprint, base, ZS_BOX_ENCODER, env->err);
}

static void fill_from_preset(zs_train_config *c, const zs_preset *p, int64_t z_dim)
{
    zs_model_config_take(&c->model, ZS_BOX_PRIOR, &p->prior);
    if (!c->model.name[0])
        memcpy(c->model.name, p->prior.name, sizeof c->model.name);
    if (c->model.rdm.blocks)
        c->model.rdm.z_dim = z_dim;
    else
        c->model.latent_mlp.z_dim = z_dim;
    zs_train_fill(c, &p->train_prior);
    c->flip = 0.0; /* views are mirrored, not samples */
}

/* --class-cond, or a preset that is told classes: those of the data. */
static int take_classes(zs_train_config *c, zs_task_env *env)
{
    zs_rdm_config *r = &c->model.rdm;
    zs_source *s = NULL;
    if (!zs_opt_flag(env, "class-cond") && !r->conditional)
        return ZS_OK;
    if (!r->blocks)
        return zs_fail(env->err, ZS_E_INVALID,
                       "--class-cond: only an rdm can be told classes; add --arch rdm");
    int status = zs_source_open(&s, c->data, env->err);
    r->conditional = true;
    r->classes = status == ZS_OK ? zs_source_class_count(s) : 0;
    if (status == ZS_OK && r->classes < 1)
        status = zs_fail(env->err, ZS_E_INVALID,
                         "%s has no classes to tell the prior; leave --class-cond out", c->data);
    zs_source_close(&s);
    return status;
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

/* Sizes of an rdm; 1 when the key is none, or follows from encoder and data. */
static int set_rdm_key(zs_rdm_config *r, const char *key_value, zs_error *err)
{
    static const char *const keys[] = {
        "blocks=", "width=", "bottleneck=", "time_channels=", "class_dim="};
    size_t n = strcspn(key_value, "=");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (zs_str_starts(key_value, keys[i]))
            return zs_fields_set(zs_arch_rdm.fields, r, key_value, n, key_value + n + 1, err);
    return 1;
}

static int apply_sets(zs_train_config *c, zs_task_env *env)
{
    bool rdm = c->model.rdm.blocks > 0;
    for (size_t i = 0; i < zs_opt_list_count(env, "set"); i++) {
        const char *s = zs_opt_list(env, "set", i);
        int r = zs_train_take_key(c, s, env->err);
        if (r == 1)
            r = rdm ? set_rdm_key(&c->model.rdm, s, env->err)
                    : set_prior_key(&c->model.latent_mlp, s, env->err);
        if (r == 1 && zs_str_starts(s, "latent_beta_schedule="))
            r = zs_model_config_set(&c->model, s, env->err);
        if (r == 1)
            r = zs_fail(env->err, ZS_E_INVALID,
                        "--set %s: a prior has the keys %s latent_beta_schedule lr weight_decay "
                        "clip ema",
                        s,
                        rdm ? "blocks width bottleneck time_channels class_dim" : "layers hidden");
        if (r < 0)
            return r;
    }
    c->dropout = c->model.latent_mlp.dropout;
    return zs_model_config_validate(&c->model, env->err);
}

static int need_encoder(const zs_model *m, const char *spec, zs_error *err)
{
    if (zs_model_has(m, ZS_BOX_ENCODER))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "%s: a prior learns the codes of an encoder, and this model has none; make one "
                   "with zsem train autoencoder or zsem train encoder",
                   spec);
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
        status = need_encoder(*m, zs_arg(env, 1), env->err);
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
    int64_t z_dim = zs_model_config_z_dim(&c->model);
    int status = find_preset(&preset, env, &c->model);
    if (status == ZS_OK)
        status = take_boxes(c, base, env);
    if (status < 0)
        return status;
    fill_from_preset(c, &preset, z_dim);
    zs_train_take_options(c, env);
    if (!zs_opt_given(env, "sample-every"))
        c->preview_images = c->images / 40 + 1;
    status = take_classes(c, env);
    return status == ZS_OK ? apply_sets(c, env) : status;
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
