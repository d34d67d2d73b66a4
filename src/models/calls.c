/* SPDX-License-Identifier: MIT */
/* The networks of a model as functions: executors cached by shape, long batches cut up. */
#include "models/model_impl.h"

#include <inttypes.h>
#include <string.h>

/* ---- executors ---- */

static zs_net_exec *slot_for(zs_model *m, zs_net net, const zs_shape *s)
{
    zs_net_exec *oldest = &m->cache[0];
    for (int i = 0; i < ZS_NET_CACHE; i++) {
        zs_net_exec *k = &m->cache[i];
        if (k->e && k->net == net && zs_shape_equal(&k->s, s))
            return k;
        if (oldest->e && (!k->e || k->used < oldest->used))
            oldest = k;
    }
    zs_exec_free(&oldest->e);
    oldest->net = net;
    oldest->s = *s;
    return oldest;
}

/* Sampling may keep packed weights of a part of the weights' own size. */
static int ready_packs(zs_model *m, zs_error *err)
{
    double bytes = m->packed * (double)zs_params_numel(m->params) * 4.0;
    return m->packs ? ZS_OK : zs_packs_new(&m->packs, m->backend, (size_t)bytes, err);
}

/* Boxes whose weights a network reads. */
static unsigned boxes_of(zs_net net)
{
    enum { GENERATOR = 1 << ZS_BOX_GENERATOR, ENCODER = 1 << ZS_BOX_ENCODER };
    if (net == ZS_NET_TRAIN)
        return GENERATOR | ENCODER;
    if (net == ZS_NET_ENCODER || net == ZS_NET_CLASSES)
        return ENCODER;
    return net == ZS_NET_PRIOR || net == ZS_NET_PRIOR_TIME || net == ZS_NET_PRIOR_STEP
               ? 1u << ZS_BOX_PRIOR
               : GENERATOR;
}

int zs_model_exec(zs_exec **out, zs_model *m, zs_net net, zs_shape s, zs_error *err)
{
    if (boxes_of(net) & ~m->boxes)
        return zs_fail(err, ZS_E_INTERNAL, "%s was opened without weights that it needs now",
                       m->label);
    zs_net_exec *k = slot_for(m, net, &s);
    k->used = ++m->clock;
    if (!k->e) {
        zs_exec_config c = {.backend = m->backend,
                            .flags = m->exec_flags,
                            .hook = m->hook,
                            .hook_ctx = m->hook_ctx};
        zs_graph *g = NULL;
        int status = ready_packs(m, err);
        c.packs = net == ZS_NET_TRAIN ? NULL : m->packs;
        if (status == ZS_OK)
            status = zs_network_graph(&g, net, m->params, &m->config, s, 0, err);
        if (status == ZS_OK)
            status = zs_exec_new(&k->e, &g, &c, err);
        if (status < 0)
            return status;
    }
    *out = k->e;
    return ZS_OK;
}

static void feed(zs_exec *e, const char *name, const float *src)
{
    zs_shape s = zs_exec_shape(e, name);
    memcpy(zs_exec_input(e, name), src, (size_t)zs_shape_numel(&s) * sizeof *src);
}

static int feed_t(zs_exec *e, const zs_model *m, const int64_t *t, int64_t n, zs_error *err)
{
    float *dst = zs_exec_input(e, "t");
    int status = ZS_OK;
    for (int64_t i = 0; i < n && status == ZS_OK; i++) {
        status = zs_model_check_timestep(m, t[i], err);
        dst[i] = (float)t[i];
    }
    return status;
}

/* ---- checks ---- */

static int missing(const zs_model *m, zs_box b, zs_error *err)
{
    return zs_fail(err, ZS_E_INVALID, "%s has no %s; use a model that has one", m->label,
                   zs_box_name(b));
}

int zs_model_check_images(const zs_model *m, zs_shape s, zs_error *err)
{
    const zs_model_config *c = &m->config;
    int deepest = c->unet.levels > c->encoder.levels ? c->unet.levels : c->encoder.levels;
    int64_t unit = (int64_t)1 << (deepest - 1);
    if (s.nd != 4 || s.d[3] != c->channels)
        return zs_fail(err, ZS_E_INVALID, "%s takes images of %" PRId64 " channel(s), not %" PRId64,
                       m->label, c->channels, s.nd == 4 ? s.d[3] : 0);
    if (s.d[0] < 1 || s.d[1] < 1 || s.d[2] < 1 || s.d[1] % unit || s.d[2] % unit)
        return zs_fail(err, ZS_E_INVALID,
                       "%s takes images whose sides are multiples of %" PRId64 ", not %" PRId64
                       "x%" PRId64 "; resize them",
                       m->label, unit, s.d[2], s.d[1]);
    return ZS_OK;
}

int zs_model_check_timestep(const zs_model *m, int64_t t, zs_error *err)
{
    if (t >= 0 && t < m->config.diffusion.T)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "timestep %" PRId64 " is outside 0..%" PRId64 " of %s", t,
                   m->config.diffusion.T - 1, m->label);
}

int zs_model_check_eps(const zs_model *m, zs_shape xs, const float *z, zs_error *err)
{
    int64_t dim = m->config.unet.z_dim;
    if (!zs_model_has(m, ZS_BOX_GENERATOR))
        return missing(m, ZS_BOX_GENERATOR, err);
    int status = zs_model_check_images(m, xs, err);
    if (status < 0)
        return status;
    if (dim && !z)
        return zs_fail(err, ZS_E_INVALID, "%s needs z_sem, the semantic code of %lld numbers",
                       m->label, (long long)dim);
    if (!dim && z)
        return zs_fail(err, ZS_E_INVALID, "%s is unconditional and takes no z_sem", m->label);
    return ZS_OK;
}

int zs_model_check_prior(const zs_model *m, int64_t n, zs_error *err)
{
    if (!zs_model_has(m, ZS_BOX_PRIOR))
        return missing(m, ZS_BOX_PRIOR, err);
    if (n < 1)
        return zs_fail(err, ZS_E_INVALID, "there are no codes to run the prior of %s on", m->label);
    return ZS_OK;
}

/* ---- calls ---- */

/* What one run of a network reads and writes, per sample. */
typedef struct io {
    zs_net net;
    zs_shape s;       /* of x for all samples; d[0] is their number */
    const float *x;   /* numel/n floats per sample */
    const int64_t *t; /* or NULL */
    const float *z;   /* z_dim per sample, or NULL */
    int64_t z_dim;
    float *out;
    int64_t out_dim; /* floats per sample */
} io;

static int run_piece(zs_model *m, const io *a, int64_t first, int64_t n, zs_error *err)
{
    zs_step step = {.grad_scale = 1, .weights = m->version};
    zs_shape s = a->s;
    zs_exec *e = NULL;
    int64_t x_dim = zs_shape_numel(&a->s) / a->s.d[0];
    s.d[0] = n;
    int status = zs_model_exec(&e, m, a->net, s, err);
    if (status < 0)
        return status;
    feed(e, "x", a->x + first * x_dim);
    if (a->z)
        feed(e, "z", a->z + first * a->z_dim);
    if (a->t)
        status = feed_t(e, m, a->t + first, n, err);
    if (status == ZS_OK)
        status = zs_exec_run(e, m->weights, NULL, &step, err);
    if (status == ZS_OK)
        memcpy(a->out + first * a->out_dim, zs_exec_output(e, "out"),
               (size_t)(n * a->out_dim) * sizeof *a->out);
    return status;
}

static int run_all(zs_model *m, const io *a, zs_error *err)
{
    int status = ZS_OK;
    for (int64_t i = 0; i < a->s.d[0] && status == ZS_OK; i += m->batch) {
        int64_t left = a->s.d[0] - i;
        status = run_piece(m, a, i, left < m->batch ? left : m->batch, err);
    }
    return status;
}

int zs_model_encode(zs_model *m, float *z, const float *x, zs_shape xs, zs_error *err)
{
    io a = {.net = ZS_NET_ENCODER, .s = xs, .x = x, .out = z};
    if (!zs_model_has(m, ZS_BOX_ENCODER))
        return missing(m, ZS_BOX_ENCODER, err);
    a.out_dim = m->config.encoder.z_dim;
    int status = zs_model_check_images(m, xs, err);
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

int zs_model_classify(zs_model *m, float *logits, const float *x, zs_shape xs, zs_error *err)
{
    io a = {.net = ZS_NET_CLASSES, .s = xs, .x = x, .out = logits, .out_dim = m->config.classes};
    if (m->config.kind != ZS_MODEL_ENCODER)
        return zs_fail(err, ZS_E_INVALID,
                       "%s tells no classes apart; use one made by zsem train encoder", m->label);
    int status = zs_model_check_images(m, xs, err);
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

int zs_model_eps(zs_model *m, float *eps, const float *x_t, zs_shape xs, const int64_t *t,
                 const float *z, zs_error *err)
{
    const zs_unet_config *c = &m->config.unet;
    io a = {.net = ZS_NET_UNET, .s = xs, .x = x_t, .t = t, .z = z, .z_dim = c->z_dim, .out = eps};
    int status = zs_model_check_eps(m, xs, z, err);
    a.out_dim = xs.nd == 4 ? xs.d[1] * xs.d[2] * c->out_channels : 0;
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

int zs_model_prior_eps(zs_model *m, float *out, const float *z_t, int64_t n, const int64_t *t,
                       zs_error *err)
{
    int64_t dim = m->config.prior.z_dim;
    io a = {.net = ZS_NET_PRIOR, .x = z_t, .t = t, .out = out, .out_dim = dim};
    int status = zs_model_check_prior(m, n, err);
    a.s = zs_shape2(n, dim);
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

int zs_model_grad(zs_model *m, float *loss, float *grads, const float *x0, const float *x_t,
                  zs_shape xs, const int64_t *t, const float *noise, zs_error *err)
{
    zs_step step = {.grad_scale = 1};
    zs_exec *e = NULL;
    if (!zs_model_has(m, ZS_BOX_GENERATOR))
        return missing(m, ZS_BOX_GENERATOR, err);
    int status = zs_model_check_images(m, xs, err);
    if (status == ZS_OK && m->config.kind == ZS_MODEL_DIFFAE && !x0)
        status = zs_fail(err, ZS_E_INVALID, "%s needs x0, the image to encode", m->label);
    if (status == ZS_OK)
        status = zs_model_exec(&e, m, ZS_NET_TRAIN, xs, err);
    if (status < 0)
        return status;
    if (m->config.kind == ZS_MODEL_DIFFAE)
        feed(e, "x0", x0);
    feed(e, "x_t", x_t);
    feed(e, "noise", noise);
    status = feed_t(e, m, t, xs.d[0], err);
    if (status == ZS_OK)
        status = zs_exec_run(e, m->weights, grads, &step, err);
    if (status == ZS_OK)
        *loss = zs_exec_output(e, "loss")[0];
    return status;
}

/* ---- layouts ---- */

void zs_nchw_from_nhwc(float *dst, const float *src, int64_t n, int64_t h, int64_t w, int64_t c)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < h * w; p++)
            for (int64_t k = 0; k < c; k++)
                dst[(i * c + k) * h * w + p] = src[(i * h * w + p) * c + k];
}

void zs_nhwc_from_nchw(float *dst, const float *src, int64_t n, int64_t h, int64_t w, int64_t c)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < h * w; p++)
            for (int64_t k = 0; k < c; k++)
                dst[(i * h * w + p) * c + k] = src[(i * c + k) * h * w + p];
}
