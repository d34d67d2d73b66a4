/* SPDX-License-Identifier: MIT */
#include "tasks/attributes.h"
#include "train/generate.h"

#include <math.h>
#include <string.h>

/* Names may hold '=': the amount follows the last one. */
static int parse(zs_attr_choice *out, const zs_probe *p, const char *text, double amount,
                 zs_error *err)
{
    const char *eq = strrchr(text, '=');
    char *name = zs_str_dup(text);
    *out = (zs_attr_choice){0, amount};
    if (!name)
        return zs_fail_nomem(err, strlen(text), "an attribute");
    int status = ZS_OK;
    if (eq) {
        name[eq - text] = '\0';
        if (!zs_str_to_f64(eq + 1, &out->amount) || !isfinite(out->amount))
            status =
                zs_fail(err, ZS_E_INVALID,
                        "--attr %s: write NAME=AMOUNT with a number, such as %s=0.3", text, name);
    }
    if (status == ZS_OK)
        status = out->attr = zs_probe_find(p, name, err);
    zs_free(name);
    return status < 0 ? status : ZS_OK;
}

int zs_attributes(zs_attr_list *out, zs_task_env *env, const zs_model *m, double amount)
{
    size_t n = zs_opt_list_count(env, "attr");
    *out = (zs_attr_list){0};
    if (n > ZS_ATTRS_MAX)
        return zs_fail(env->err, ZS_E_INVALID, "--attr: at most %d at once", (int)ZS_ATTRS_MAX);
    if (n > 0 && !zs_model_probe(m))
        return zs_fail(env->err, ZS_E_INVALID,
                       "--attr needs a model with a probe: join one (last.ckpt,cls.ckpt) or make "
                       "one with zsem train probe");
    for (size_t i = 0; i < n; i++) {
        int status = parse(&out->at[out->n++], zs_model_probe(m), zs_opt_list(env, "attr", i),
                           amount, env->err);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}

int zs_attributes_move(const zs_attr_list *l, const zs_model *m, float *z, int64_t n, double scale,
                       zs_error *err)
{
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(m));
    int status = zs_normalise_codes(m, z, n, err);
    for (int64_t i = 0; status == ZS_OK && i < n; i++)
        for (int k = 0; k < l->n; k++)
            zs_probe_move(zs_model_probe(m), l->at[k].attr, scale * l->at[k].amount, z + i * dim);
    return status < 0 ? status : zs_denormalise_codes(m, z, n, err);
}
