/* SPDX-License-Identifier: MIT */
/* zsem train encoder: images with classes -> an encoder, for measuring other models with. */
#include "tasks/pipeline.h"
#include "tasks/train.h"

#include <string.h>

static int check_objective(zs_task_env *env)
{
    const char *o = zs_opt_text(env, "objective");
    if (o && strcmp(o, "supervised") == 0)
        return ZS_OK;
    return zs_fail(
        env->err, ZS_E_INVALID,
        "--objective %s: an encoder is trained with --objective supervised (classes from "
        "first-level folders or the labels of an IDX, CIFAR or shard set)",
        o ? o : "is missing");
}

static int apply_sets(zs_train_config *c, zs_task_env *env)
{
    for (size_t i = 0; i < zs_opt_list_count(env, "set"); i++) {
        const char *s = zs_opt_list(env, "set", i);
        int r = zs_train_take_key(c, s, env->err);
        if (r == 1)
            r = zs_model_config_set(&c->model, s, env->err);
        if (r == 1)
            r = zs_fail(env->err, ZS_E_INVALID, "--set %s: an encoder has no such key", s);
        if (r < 0)
            return r;
    }
    c->dropout = 0.0;
    return zs_model_config_validate(&c->model, env->err);
}

int zs_train_encoder(zs_task_env *env)
{
    zs_train_config c = zs_train_defaults();
    zs_preset preset;
    int status = zs_train_take_places(&c, env, "encoder --objective supervised");
    if (status == ZS_OK)
        status = check_objective(env);
    if (status == ZS_OK)
        status = zs_train_preset(&preset, env, c.data);
    if (status == ZS_OK)
        status = zs_train_check_preset(&preset, &preset.encoder, "an encoder", env->err);
    if (status < 0)
        return status;
    c.model = preset.encoder;
    zs_train_fill(&c, &preset.train_encoder);
    zs_train_take_options(&c, env);
    c.val = zs_opt_text(env, "test");
    status = zs_train_count_classes(&c.model.classes, c.data, env->err);
    if (status == ZS_OK)
        status = apply_sets(&c, env);
    return status < 0 ? status : zs_train_go(&c, env);
}
