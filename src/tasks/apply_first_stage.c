/* SPDX-License-Identifier: MIT */
/* Functions of first stages. */
#include "tasks/apply.h"

static int no_memory(const zs_apply *a, const zs_shape *s)
{
    return zs_fail_nomem(a->env->err, (unsigned long long)zs_shape_numel(s) * 4, "the result");
}

/* "noise", of the latents' shape, when the file has it. */
static int read_noise(const zs_apply *a, zs_apply_tensor *noise, const zs_shape *latents)
{
    if (zs_tensorfile_find(a->in, "noise") < 0)
        return ZS_OK;
    int status = zs_apply_images(a, noise, "noise");
    if (status == ZS_OK && !zs_shape_equal(&noise->s, latents))
        status = zs_fail(a->env->err, ZS_E_INVALID,
                         "%s: 'noise' must have the shape of the latents, [%lld,%lld,%lld,%lld]",
                         zs_apply_path(a), (long long)latents->d[0], (long long)latents->d[3],
                         (long long)latents->d[1], (long long)latents->d[2]);
    return status;
}

int zs_apply_to_latents(zs_apply *a)
{
    const zs_vae_config *c = &zs_model_configuration(a->m)->vae;
    zs_apply_tensor x = {0}, noise = {0};
    float *z = NULL;
    int status = zs_apply_images(a, &x, "x0"), down = c->levels - 1;
    zs_shape s = zs_shape4(x.s.d[0], x.s.d[1] >> down, x.s.d[2] >> down, c->latent_channels);
    if (status == ZS_OK)
        status = read_noise(a, &noise, &s);
    if (status == ZS_OK && !(z = zs_alloc((size_t)zs_shape_numel(&s) + 1, sizeof *z)))
        status = no_memory(a, &s);
    if (status == ZS_OK)
        status = zs_model_to_latents(a->m, z, x.p, x.s, noise.p, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_images(a, "latents", z, s);
    zs_free(z);
    zs_free(x.p);
    zs_free(noise.p);
    return status;
}

int zs_apply_from_latents(zs_apply *a)
{
    const zs_vae_config *c = &zs_model_configuration(a->m)->vae;
    zs_apply_tensor z = {0};
    float *x = NULL;
    int status = zs_apply_images(a, &z, "latents"), up = c->levels - 1;
    zs_shape s = zs_shape4(z.s.d[0], z.s.d[1] << up, z.s.d[2] << up, c->channels);
    if (status == ZS_OK && !(x = zs_alloc((size_t)zs_shape_numel(&s) + 1, sizeof *x)))
        status = no_memory(a, &s);
    if (status == ZS_OK)
        status = zs_model_from_latents(a->m, x, z.p, z.s, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_images(a, "x0", x, s);
    zs_free(x);
    zs_free(z.p);
    return status;
}
