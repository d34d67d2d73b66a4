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
static unsigned boxes_of(const zs_model_config *c, zs_net net)
{
    enum { GENERATOR = 1 << ZS_BOX_GENERATOR, ENCODER = 1 << ZS_BOX_ENCODER };
    if (net == ZS_NET_TRAIN)
        return zs_model_config_joint(c) ? GENERATOR | ENCODER : c->classes ? ENCODER : GENERATOR;
    if (net == ZS_NET_ENCODER || net == ZS_NET_CLASSES)
        return ENCODER;
    if (net == ZS_NET_LATENTS || net == ZS_NET_PIXELS)
        return 1u << ZS_BOX_FIRST_STAGE;
    return net >= ZS_NET_PRIOR && net <= ZS_NET_PRIOR_STEP ? 1u << ZS_BOX_PRIOR : GENERATOR;
}

/* Who has but one class is not told of it. */
static void zero_classes(zs_exec *e)
{
    zs_shape s = zs_exec_shape(e, "y");
    if (s.nd)
        memset(zs_exec_input(e, "y"), 0, (size_t)zs_shape_numel(&s) * sizeof(float));
}

int zs_model_exec(zs_exec **out, zs_model *m, zs_net net, zs_shape s, zs_error *err)
{
    if (boxes_of(&m->config, net) & ~m->boxes)
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
            status = zs_network_graph(&g, net, m->params, &m->config, s, err);
        if (status == ZS_OK)
            status = zs_exec_new(&k->e, &g, &c, err);
        if (status < 0)
            return status;
        zero_classes(k->e);
    }
    *out = k->e;
    return ZS_OK;
}

int zs_model_run(zs_model *m, zs_exec *e, uint64_t version, zs_error *err)
{
    const zs_step step = {.grad_scale = 1, .weights = version};
    zs_buffers b;
    int status = zs_weights_get(&b, &m->placed, version, err);
    return status == ZS_OK ? zs_exec_run_with(e, &b, &step, err) : status;
}

static void feed(zs_exec *e, const char *name, const float *src)
{
    zs_shape s = zs_exec_shape(e, name);
    memcpy(zs_exec_input(e, name), src, (size_t)zs_shape_numel(&s) * sizeof *src);
}

static int feed_t(zs_exec *e, const zs_model *m, zs_box box, const int64_t *t, int64_t n,
                  zs_error *err)
{
    float *dst = zs_exec_input(e, "t");
    int status = ZS_OK;
    for (int64_t i = 0; i < n && status == ZS_OK; i++) {
        status = zs_model_check_timestep(m, box, t[i], err);
        dst[i] = (float)t[i];
    }
    return status;
}

static void feed_y(zs_exec *e, const int64_t *y, int64_t n)
{
    float *dst = zs_exec_input(e, "y");
    for (int64_t i = 0; dst && i < n; i++)
        dst[i] = (float)y[i];
}

/* Of a network without such an input nothing is dropped. */
static void feed_drop(zs_exec *e, const float *drop, int64_t n)
{
    float *dst = zs_exec_input(e, "drop");
    for (int64_t i = 0; dst && i < n; i++)
        dst[i] = drop ? drop[i] : 0.0f;
}

/* ---- checks ---- */

static int missing(const zs_model *m, zs_box b, zs_error *err)
{
    return zs_fail(err, ZS_E_INVALID, "%s has no %s; use a model that has one", m->label,
                   zs_box_name(b));
}

/* Sides that one box takes; an encoder that prepares its images takes all. */
static int check_sides(const zs_model *m, zs_box box, zs_shape s, zs_error *err)
{
    zs_ports p;
    const zs_arch *a = zs_model_config_arch(&m->config, box, NULL);
    if (!a || a->prepare)
        return ZS_OK;
    (void)zs_model_config_ports(&m->config, box, &p);
    if (p.side && (s.d[1] != p.side || s.d[2] != p.side))
        return zs_fail(err, ZS_E_INVALID,
                       "%s takes images of %" PRId64 "x%" PRId64 ", not %" PRId64 "x%" PRId64
                       "; resize them",
                       m->label, p.side, p.side, s.d[2], s.d[1]);
    if (s.d[1] % p.unit || s.d[2] % p.unit)
        return zs_fail(err, ZS_E_INVALID,
                       "%s takes images whose sides are multiples of %" PRId64 ", not %" PRId64
                       "x%" PRId64 "; resize them",
                       m->label, p.unit, s.d[2], s.d[1]);
    return ZS_OK;
}

static int check_pictures(const zs_model *m, int64_t channels, zs_shape s, zs_error *err)
{
    if (s.nd != 4 || s.d[3] != channels)
        return zs_fail(err, ZS_E_INVALID, "%s takes images of %" PRId64 " channel(s), not %" PRId64,
                       m->label, channels, s.nd == 4 ? s.d[3] : 0);
    if (s.d[0] < 1 || s.d[1] < 1 || s.d[2] < 1)
        return zs_fail(err, ZS_E_INVALID, "there are no images for %s, or empty ones", m->label);
    return ZS_OK;
}

int zs_model_check_images(const zs_model *m, zs_shape s, zs_error *err)
{
    int status = check_pictures(m, m->config.channels, s, err);
    if (status < 0)
        return status;
    bool first = zs_model_has(m, ZS_BOX_FIRST_STAGE); /* then the generator sees latents */
    status = check_sides(m, first ? ZS_BOX_FIRST_STAGE : ZS_BOX_GENERATOR, s, err);
    return status == ZS_OK ? check_sides(m, ZS_BOX_ENCODER, s, err) : status;
}

int zs_model_check_states(const zs_model *m, zs_shape s, zs_error *err)
{
    zs_ports p;
    if (!zs_model_has(m, ZS_BOX_FIRST_STAGE) ||
        !zs_model_config_ports(&m->config, ZS_BOX_GENERATOR, &p))
        return zs_model_check_images(m, s, err);
    if (s.nd != 4 || s.d[3] != p.in_channels)
        return zs_fail(err, ZS_E_INVALID,
                       "the generator of %s takes latents of %" PRId64 " channel(s), not %" PRId64,
                       m->label, p.in_channels, s.nd == 4 ? s.d[3] : 0);
    if (s.d[0] < 1 || s.d[1] < 1 || s.d[2] < 1)
        return zs_fail(err, ZS_E_INVALID, "there are no latents for %s, or empty ones", m->label);
    return check_sides(m, ZS_BOX_GENERATOR, s, err);
}

const zs_process_config *zs_model_process(const zs_model_config *c, zs_box box)
{
    return box == ZS_BOX_PRIOR ? &c->latent : &c->diffusion;
}

int zs_model_check_timestep(const zs_model *m, zs_box box, int64_t t, zs_error *err)
{
    int64_t T = zs_model_process(&m->config, box)->T;
    if (t >= 0 && t < T)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "timestep %" PRId64 " is outside 0..%" PRId64 " of %s", t,
                   T - 1, m->label);
}

static int check_classes(const zs_model *m, zs_box box, int64_t n, const int64_t *y, zs_error *err)
{
    zs_ports p;
    (void)zs_model_config_ports(&m->config, box, &p);
    if (!y != !p.classes && !(p.classes == 1 && !y)) /* the only class needs no name */
        return zs_fail(err, ZS_E_INVALID,
                       p.classes ? "the %s of %s needs a class" : "the %s of %s takes no classes",
                       zs_box_name(box), m->label);
    for (int64_t i = 0; y && i < n; i++)
        if (y[i] < 0 || y[i] >= p.classes)
            return zs_fail(err, ZS_E_INVALID,
                           "class %" PRId64 " is outside 0..%" PRId64 " of the %s of %s", y[i],
                           p.classes - 1, zs_box_name(box), m->label);
    return ZS_OK;
}

int zs_model_check_eps(const zs_model *m, zs_shape xs, const zs_cond *cond, zs_error *err)
{
    zs_ports p;
    if (!zs_model_config_ports(&m->config, ZS_BOX_GENERATOR, &p))
        return missing(m, ZS_BOX_GENERATOR, err);
    int status = zs_model_check_states(m, xs, err);
    if (status < 0)
        return status;
    if (p.z_dim && !cond->z)
        return zs_fail(err, ZS_E_INVALID,
                       "%s needs z_sem, a code of %lld numbers; an encoder or a prior makes it, "
                       "joined with a comma: ENCODER,MODEL",
                       m->label, (long long)p.z_dim);
    if (!p.z_dim && cond->z)
        return zs_fail(err, ZS_E_INVALID, "%s is unconditional and takes no z_sem", m->label);
    return check_classes(m, ZS_BOX_GENERATOR, xs.d[0], cond->y, err);
}

int zs_model_check_prior(const zs_model *m, int64_t n, const int64_t *y, zs_error *err)
{
    if (!zs_model_has(m, ZS_BOX_PRIOR))
        return missing(m, ZS_BOX_PRIOR, err);
    if (n < 1)
        return zs_fail(err, ZS_E_INVALID, "there are no codes to run the prior of %s on", m->label);
    return check_classes(m, ZS_BOX_PRIOR, n, y, err);
}

/* ---- calls ---- */

/* What one run of a network reads and writes, per sample. */
typedef struct io {
    zs_net net;
    zs_box box;
    zs_shape s;       /* of x for all samples; d[0] is their number */
    const float *x;   /* numel/n floats per sample */
    const int64_t *t; /* or NULL */
    zs_cond cond;
    int64_t z_dim;
    float *out;
    int64_t out_dim;             /* floats per sample */
    const zs_encoder_taps *taps; /* further outputs, or NULL */
} io;

/* Images go into the network as they are, or as the encoder prepares them. */
static void feed_x(zs_exec *e, const zs_model *m, const io *a, int64_t first, zs_shape s)
{
    const void *config = NULL;
    const zs_arch *arch = zs_model_config_arch(&m->config, a->box, &config);
    const float *x = a->x + first * (zs_shape_numel(&a->s) / a->s.d[0]);
    if (arch->prepare)
        arch->prepare(config, zs_exec_input(e, "x"), x, s);
    else
        feed(e, "x", x);
}

/* The shape that the network sees of images of shape s. */
static zs_shape network_shape(const zs_model *m, zs_box box, zs_shape s)
{
    zs_ports p;
    const zs_arch *arch = zs_model_config_arch(&m->config, box, NULL);
    (void)zs_model_config_ports(&m->config, box, &p);
    return arch->prepare ? zs_shape4(s.d[0], p.side, p.side, s.d[3]) : s;
}

/* Samples from `first` on of the output `name`, where it is wanted. */
static void take(zs_exec *e, const char *name, float *dst, int64_t first, int64_t n)
{
    zs_shape s = zs_exec_shape(e, name);
    int64_t each = s.nd ? zs_shape_numel(&s) / n : 0;
    if (dst && each)
        memcpy(dst + first * each, zs_exec_output(e, name), (size_t)(n * each) * sizeof *dst);
}

static int run_piece(zs_model *m, const io *a, int64_t first, int64_t n, zs_error *err)
{
    zs_shape s = a->s;
    zs_exec *e = NULL;
    s.d[0] = n;
    int status = zs_model_exec(&e, m, a->net, network_shape(m, a->box, s), err);
    if (status < 0)
        return status;
    feed_x(e, m, a, first, s);
    if (a->cond.z)
        feed(e, "z", a->cond.z + first * a->z_dim);
    if (a->cond.y)
        feed_y(e, a->cond.y + first, n);
    feed_drop(e, a->cond.drop ? a->cond.drop + first : NULL, n);
    if (a->t)
        status = feed_t(e, m, a->box, a->t + first, n, err);
    if (status == ZS_OK)
        status = zs_model_run(m, e, m->version, err);
    if (status < 0)
        return status;
    memcpy(a->out + first * a->out_dim, zs_exec_output(e, "out"),
           (size_t)(n * a->out_dim) * sizeof *a->out);
    if (a->taps) {
        take(e, "features", a->taps->features, first, n);
        take(e, "head", a->taps->head, first, n);
    }
    return ZS_OK;
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
    return zs_model_encode_taps(m, z, NULL, x, xs, err);
}

int zs_model_encode_taps(zs_model *m, float *z, const zs_encoder_taps *taps, const float *x,
                         zs_shape xs, zs_error *err)
{
    zs_ports p;
    const void *config = NULL;
    const zs_arch *arch = zs_model_config_arch(&m->config, ZS_BOX_ENCODER, &config);
    if (!zs_model_config_ports(&m->config, ZS_BOX_ENCODER, &p))
        return missing(m, ZS_BOX_ENCODER, err);
    io a = {.net = ZS_NET_ENCODER,
            .box = ZS_BOX_ENCODER,
            .s = xs,
            .x = x,
            .out = z,
            .out_dim = p.z_dim,
            .taps = taps};
    int status = check_pictures(m, p.in_channels, xs, err);
    if (status == ZS_OK)
        status = check_sides(m, ZS_BOX_ENCODER, xs, err);
    if (status == ZS_OK)
        status = run_all(m, &a, err);
    if (status == ZS_OK && arch->finish)
        arch->finish(config, z, xs.d[0]);
    return status;
}

int zs_model_classify(zs_model *m, float *logits, const float *x, zs_shape xs, zs_error *err)
{
    io a = {.net = ZS_NET_CLASSES,
            .box = ZS_BOX_ENCODER,
            .s = xs,
            .x = x,
            .out = logits,
            .out_dim = m->config.classes};
    if (!m->config.classes)
        return zs_fail(err, ZS_E_INVALID,
                       "%s tells no classes apart; use one made by zsem train encoder", m->label);
    int status = zs_model_check_images(m, xs, err);
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

int zs_model_eps(zs_model *m, float *eps, const float *x_t, zs_shape xs, const int64_t *t,
                 const zs_cond *cond, zs_error *err)
{
    static const zs_cond nothing;
    zs_ports p;
    (void)zs_model_config_ports(&m->config, ZS_BOX_GENERATOR, &p);
    io a = {.net = ZS_NET_GENERATOR,
            .box = ZS_BOX_GENERATOR,
            .s = xs,
            .x = x_t,
            .t = t,
            .cond = cond ? *cond : nothing,
            .z_dim = p.z_dim,
            .out = eps};
    int status = zs_model_check_eps(m, xs, &a.cond, err);
    a.out_dim = xs.nd == 4 ? xs.d[1] * xs.d[2] * p.out_channels : 0;
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

int zs_model_prior_eps(zs_model *m, float *out, const float *z_t, int64_t n, const int64_t *t,
                       const int64_t *y, zs_error *err)
{
    zs_ports p;
    (void)zs_model_config_ports(&m->config, ZS_BOX_PRIOR, &p);
    io a = {.net = ZS_NET_PRIOR,
            .box = ZS_BOX_PRIOR,
            .s = zs_shape2(n, p.z_dim),
            .x = z_t,
            .t = t,
            .cond = {.y = y},
            .out = out,
            .out_dim = p.z_dim};
    int status = zs_model_check_prior(m, n, y, err);
    return status == ZS_OK ? run_all(m, &a, err) : status;
}

/* An encoder that is trained with the generator makes what others are given; the loss of a learned
 * variance looks at x0 too. */
static int check_grad(const zs_model *m, const float *x0, zs_shape xs, const zs_cond *cond,
                      zs_error *err)
{
    if (!zs_model_has(m, ZS_BOX_GENERATOR))
        return missing(m, ZS_BOX_GENERATOR, err);
    bool joint = zs_model_config_joint(&m->config);
    bool learned = zs_model_config_learns_variance(&m->config);
    bool images = strcmp(m->config.diffusion.prediction, "x0") == 0;
    int status = joint ? zs_model_check_images(m, xs, err) : zs_model_check_eps(m, xs, cond, err);
    if (status == ZS_OK && joint && !x0)
        status = zs_fail(err, ZS_E_INVALID, "%s needs x0, the image to encode", m->label);
    if (status == ZS_OK && images && !x0)
        status = zs_fail(err, ZS_E_INVALID, "%s needs x0, which it predicts", m->label);
    if (status == ZS_OK && learned && (!x0 || !cond->steps))
        status = zs_fail(err, ZS_E_INVALID, "%s needs x0 and the numbers of its steps", m->label);
    return status;
}

/* Adds gradients to `grads` in the program's memory. */
static int run_grad(zs_model *m, zs_exec *e, float *grads, zs_error *err)
{
    const zs_step step = {.grad_scale = 1};
    const zs_remote *r = m->backend->remote;
    size_t bytes = (size_t)zs_params_numel(m->params) * sizeof *grads;
    zs_buffers b;
    int status = zs_weights_get(&b, &m->placed, 0, err);
    b.grads = grads;
    if (status < 0 || !r)
        return status < 0 ? status : zs_exec_run_with(e, &b, &step, err);
    b.grads = m->backend->alloc(bytes);
    if (!b.grads)
        return zs_fail(err, ZS_E_NOMEM, "out of memory: %.1f MiB for gradients on %s",
                       (double)bytes / 1048576.0, m->backend->name);
    status = r->upload(b.grads, grads, bytes, err);
    if (status == ZS_OK)
        status = zs_exec_run_with(e, &b, &step, err);
    if (status == ZS_OK)
        status = r->download(grads, b.grads, bytes, err);
    m->backend->release(b.grads, bytes);
    return status;
}

int zs_model_grad(zs_model *m, float *loss, float *grads, const float *x0, const float *x_t,
                  zs_shape xs, const int64_t *t, const float *noise, const zs_cond *cond,
                  zs_error *err)
{
    static const zs_cond nothing;
    zs_exec *e = NULL;
    if (!cond)
        cond = &nothing;
    int status = check_grad(m, x0, xs, cond, err);
    if (status == ZS_OK)
        status = zs_model_exec(&e, m, ZS_NET_TRAIN, xs, err);
    if (status < 0)
        return status;
    if (zs_exec_input(e, "x0"))
        feed(e, "x0", x0);
    if (zs_exec_input(e, "steps"))
        feed(e, "steps", cond->steps);
    if (zs_exec_input(e, "z"))
        feed(e, "z", cond->z);
    if (cond->y)
        feed_y(e, cond->y, xs.d[0]);
    feed_drop(e, cond->drop, xs.d[0]);
    feed(e, "x_t", x_t);
    feed(e, "noise", noise);
    status = feed_t(e, m, ZS_BOX_GENERATOR, t, xs.d[0], err);
    if (status == ZS_OK)
        status = run_grad(m, e, grads, err);
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
