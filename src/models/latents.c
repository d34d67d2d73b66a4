/* SPDX-License-Identifier: MIT */
/* The first stage of a model as functions, and what stands for no representation. */
#include "models/model_impl.h"

#include <string.h>

/* Pixels that one run of the first stage works on: its widest layers hold thousands of bytes of
 * each. */
enum { PIXELS = 1 << 18 };

static int need(const zs_model *m, zs_error *err)
{
    if (zs_model_has(m, ZS_BOX_FIRST_STAGE))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "%s has no first stage; join its file, as in dit.pth,vae.safetensors", m->label);
}

/* Images that run at once. */
static int64_t piece(const zs_model *m, int64_t pixels)
{
    int64_t n = PIXELS / pixels;
    return n < 1 ? 1 : n < m->batch ? n : m->batch;
}

/* One run of a network on n samples from `first` on of x, shape xs; *out is borrowed. */
static int run(const float **out, zs_model *m, zs_net net, const float *x, zs_shape xs,
               int64_t first, int64_t n, zs_error *err)
{
    zs_exec *e = NULL;
    int64_t each = zs_shape_numel(&xs) / xs.d[0];
    xs.d[0] = n;
    int status = zs_model_exec(&e, m, net, xs, err);
    if (status < 0)
        return status;
    memcpy(zs_exec_input(e, "x"), x + first * each, (size_t)(n * each) * sizeof *x);
    status = zs_model_run(m, e, m->version, err);
    *out = zs_exec_output(e, "out");
    return status;
}

static int check_images(const zs_model *m, zs_shape s, zs_error *err)
{
    int64_t unit = (int64_t)1 << (m->config.vae.levels - 1), channels = m->config.vae.channels;
    if (s.nd != 4 || s.d[0] < 1 || s.d[3] != channels || s.d[1] < 1 || s.d[2] < 1 ||
        s.d[1] % unit || s.d[2] % unit)
        return zs_fail(err, ZS_E_INVALID,
                       "the first stage of %s takes images of %lld channel(s) whose sides are "
                       "multiples of %lld, not %lldx%lld with %lld",
                       m->label, (long long)channels, (long long)unit, (long long)s.d[2],
                       (long long)s.d[1], (long long)s.d[3]);
    return ZS_OK;
}

int zs_model_to_latents(zs_model *m, float *z, const float *x, zs_shape xs, const float *noise,
                        zs_error *err)
{
    const zs_vae_config *c = &m->config.vae;
    int status = need(m, err);
    if (status == ZS_OK)
        status = check_images(m, xs, err);
    if (status < 0)
        return status;
    int64_t pixels = (xs.d[1] >> (c->levels - 1)) * (xs.d[2] >> (c->levels - 1));
    int64_t batch = piece(m, xs.d[1] * xs.d[2]), each = pixels * c->latent_channels;
    for (int64_t i = 0; status == ZS_OK && i < xs.d[0]; i += batch) {
        const float *encoded = NULL;
        int64_t n = xs.d[0] - i < batch ? xs.d[0] - i : batch;
        status = run(&encoded, m, ZS_NET_LATENTS, x, xs, i, n, err);
        if (status == ZS_OK)
            zs_vae_latents(z + i * each, c, encoded, noise ? noise + i * each : NULL, n * pixels);
    }
    return status;
}

int zs_model_from_latents(zs_model *m, float *x, const float *z, zs_shape s, zs_error *err)
{
    const zs_vae_config *c = &m->config.vae;
    int status = need(m, err);
    if (status == ZS_OK && (s.nd != 4 || s.d[0] < 1 || s.d[3] != c->latent_channels))
        status = zs_fail(err, ZS_E_INVALID,
                         "the first stage of %s takes latents of %lld channels, not %lld", m->label,
                         (long long)c->latent_channels, (long long)(s.nd == 4 ? s.d[3] : 0));
    if (status == ZS_OK && (s.d[1] < 1 || s.d[2] < 1))
        status = zs_fail(err, ZS_E_INVALID, "there are no latents for %s, or empty ones", m->label);
    if (status < 0)
        return status;
    int64_t numel = zs_shape_numel(&s), pixels = s.d[1] * s.d[2] << 2 * (c->levels - 1);
    int64_t batch = piece(m, pixels), each = pixels * c->channels;
    float *plain = zs_alloc((size_t)numel, sizeof *plain);
    if (!plain)
        return zs_fail_nomem(err, (unsigned long long)numel * sizeof *plain, "latents");
    for (int64_t i = 0; i < numel; i++)
        plain[i] = (float)((double)z[i] / c->scale);
    for (int64_t i = 0; status == ZS_OK && i < s.d[0]; i += batch) {
        const float *out = NULL;
        int64_t n = s.d[0] - i < batch ? s.d[0] - i : batch;
        status = run(&out, m, ZS_NET_PIXELS, plain, s, i, n, err);
        if (status == ZS_OK)
            memcpy(x + i * each, out, (size_t)(n * each) * sizeof *x);
    }
    zs_free(plain);
    return status;
}

int zs_model_absent_z(const zs_model *m, float *z, zs_error *err)
{
    long i = zs_params_find(m->params, "fake_latent");
    if (i < 0 || !m->config.dit.substitute)
        return zs_fail(
            err, ZS_E_INVALID,
            "%s was trained without representation dropout, so it has no guidance; leave "
            "the guidance weight out",
            m->label);
    const zs_param *p = zs_params_at(m->params, (size_t)i);
    size_t bytes = (size_t)p->numel * sizeof *z;
    if (!m->weights)
        return m->backend->remote->download(z, m->placed.params + p->offset, bytes, err);
    memcpy(z, m->weights + p->offset, bytes);
    return ZS_OK;
}
