/* SPDX-License-Identifier: MIT */
/* Functions of priors. */
#include "tasks/apply.h"

/* "y" of n samples, where the prior takes classes. */
static int read_classes(const zs_apply *a, int64_t **y, int64_t n)
{
    zs_ports p;
    (void)zs_model_config_ports(zs_model_configuration(a->m), ZS_BOX_PRIOR, &p);
    return p.classes ? zs_apply_classes(a, y, n) : ZS_OK;
}

int zs_apply_prior_eps(zs_apply *a)
{
    zs_apply_tensor z = {0};
    int64_t *t = NULL, *y = NULL;
    float *out = NULL;
    int status = zs_apply_codes(a, &z, "z_t");
    if (status == ZS_OK)
        status = zs_apply_timesteps(a, &t, z.s.d[0], ZS_BOX_PRIOR);
    if (status == ZS_OK)
        status = read_classes(a, &y, z.s.d[0]);
    if (status == ZS_OK && !(out = zs_alloc((size_t)zs_shape_numel(&z.s), sizeof *out)))
        status = zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(&z.s) * 4, "out");
    if (status == ZS_OK)
        status = zs_model_prior_eps(a->m, out, z.p, z.s.d[0], t, y, a->env->err);
    if (status == ZS_OK) {
        status = zs_apply_put(a, "out", 2, z.s.d, out);
        out = NULL;
    }
    zs_free(out);
    zs_free(t);
    zs_free(y);
    zs_free(z.p);
    return status;
}

/* What the prior has drawn, and the same as encoders make it. */
static int put_drawn(zs_apply *a, zs_apply_tensor *z)
{
    bool normalised = zs_model_z_mean(a->m) != NULL;
    const zs_arch *arch = zs_model_config_arch(zs_model_configuration(a->m), ZS_BOX_PRIOR, NULL);
    int status = zs_apply_put_codes(a, "z", z);
    if (status == ZS_OK && (normalised || arch == &zs_arch_rdm))
        status = zs_denormalise_codes(a->m, z->p, z->s.d[0], a->env->err);
    if (status == ZS_OK && normalised)
        return zs_apply_put_codes(a, "z_sem", z);
    return status == ZS_OK && arch == &zs_arch_rdm ? zs_apply_put_codes(a, "rep", z) : status;
}

int zs_apply_prior_sample(zs_apply *a)
{
    zs_apply_tensor z = {0};
    int64_t *y = NULL, steps = 0;
    float *noise = NULL;
    zs_generation g = {.model = a->m,
                       .sampler = &zs_sampler_ddim,
                       .steps = zs_opt_int(a->env, "steps"),
                       .eta = zs_opt_real(a->env, "eta"),
                       .ui = a->env->ui,
                       .stage = "prior-sample"};
    int status = zs_apply_codes(a, &z, "z_T");
    if (status == ZS_OK)
        status = read_classes(a, &y, z.s.d[0]);
    if (status == ZS_OK)
        status = zs_generation_steps(&steps, &g, ZS_BOX_PRIOR, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_noise(a, &noise, steps, z.s);
    g.cond.y = y;
    g.noise = (zs_noise){.recorded = noise, .seed = (uint64_t)zs_opt_int(a->env, "seed")};
    if (status == ZS_OK)
        status = zs_generate_codes(&g, z.p, z.s.d[0], a->env->err);
    if (status == ZS_OK)
        status = put_drawn(a, &z);
    zs_free(noise);
    zs_free(y);
    zs_free(z.p);
    return status;
}
