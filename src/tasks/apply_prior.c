/* SPDX-License-Identifier: MIT */
/* Functions of priors. */
#include "tasks/apply.h"

int zs_apply_prior_eps(zs_apply *a)
{
    zs_apply_tensor z = {0};
    int64_t *t = NULL, dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    float *out = NULL;
    int status = zs_apply_floats(a, &z, "z_t", 2);
    if (status == ZS_OK && z.s.d[1] != dim)
        status = zs_fail(a->env->err, ZS_E_INVALID,
                         "%s: 'z_t' has %lld columns and the prior takes %lld", zs_apply_path(a),
                         (long long)z.s.d[1], (long long)dim);
    if (status == ZS_OK)
        status = zs_apply_timesteps(a, &t, z.s.d[0]);
    if (status == ZS_OK && !(out = zs_alloc((size_t)zs_shape_numel(&z.s), sizeof *out)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&z.s) * 4, "out");
    if (status == ZS_OK)
        status = zs_model_prior_eps(a->m, out, z.p, z.s.d[0], t, NULL, a->env->err);
    if (status == ZS_OK) {
        status = zs_apply_put(a, "out", 2, z.s.d, out);
        out = NULL;
    }
    zs_free(out);
    zs_free(t);
    zs_free(z.p);
    return status;
}

int zs_apply_prior_sample(zs_apply *a)
{
    zs_apply_tensor z = {0};
    zs_generation g = {.model = a->m,
                       .sampler = &zs_sampler_ddim,
                       .steps = zs_opt_int(a->env, "steps"),
                       .ui = a->env->ui,
                       .stage = "prior-sample"};
    int status = zs_apply_codes(a, &z, "z_T");
    if (status == ZS_OK)
        status = zs_generate_codes(&g, z.p, z.s.d[0], a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_codes(a, "z", &z);
    if (status == ZS_OK && zs_model_z_mean(a->m)) {
        status = zs_denormalise_codes(a->m, z.p, z.s.d[0], a->env->err);
        if (status == ZS_OK)
            status = zs_apply_put_codes(a, "z_sem", &z);
    }
    zs_free(z.p);
    return status;
}
