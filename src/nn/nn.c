/* SPDX-License-Identifier: MIT */
/* Names, parameters and single layers. */
#include "nn/nn.h"

#include <stdarg.h>
#include <string.h>

static const float NORM_EPS = 1e-5f; /* PyTorch's default, kept by the authors */
enum { NORM_GROUPS = 32 };

void zs_nn_push(zs_nn *nn, const char *fmt, ...)
{
    size_t n = strlen(nn->prefix);
    va_list ap;
    va_start(ap, fmt);
    int k = vsnprintf(nn->prefix + n, sizeof nn->prefix - n, fmt, ap);
    va_end(ap);
    if (nn->depth >= ZS_NN_DEPTH || k < 0 || n + (size_t)k + 1 >= sizeof nn->prefix) {
        zs_graph_fail(nn->g, ZS_E_INTERNAL, "parameter names below %s are nested too deep",
                      nn->prefix);
        nn->prefix[n] = 0;
        k = -1;
    } else {
        memcpy(nn->prefix + n + k, ".", 2);
    }
    if (nn->depth < ZS_NN_DEPTH)
        nn->mark[nn->depth] = (int)n;
    nn->depth++;
}

void zs_nn_pop(zs_nn *nn)
{
    nn->depth--;
    if (nn->depth < ZS_NN_DEPTH)
        nn->prefix[nn->mark[nn->depth]] = 0;
}

static zs_shape engine_shape(const zs_param *p)
{
    int64_t rows = p->shape[0];
    if (p->layout == ZS_LAYOUT_CONV) {
        bool plane = p->nd == 4;
        return zs_shape4(plane ? p->shape[2] : 1, plane ? p->shape[3] : 1, p->shape[1], rows);
    }
    return p->nd == 1 ? zs_shape1(rows) : zs_shape2(rows, p->numel / rows);
}

static long add_param(zs_nn *nn, const zs_param *want)
{
    char name[2 * ZS_NN_NAME];
    zs_error err = {0};
    zs_param p = *want;
    if (zs_graph_status(nn->g))
        return -1;
    (void)snprintf(name, sizeof name, "%s%s", nn->prefix, want->name);
    p.name = name;
    long i = zs_params_add(nn->ps, &p, &err);
    if (i < 0)
        zs_graph_fail(nn->g, err.status, "%s", err.message);
    return i;
}

zs_tid zs_nn_param(zs_nn *nn, const zs_param *want)
{
    long i = add_param(nn, want);
    if (i < 0)
        return ZS_NONE;
    const zs_param *p = zs_params_at(nn->ps, (size_t)i);
    return zs_graph_param(nn->g, p->offset, engine_shape(p), nn->train && p->trainable);
}

/* "<name>.<part>" with the shape of *like. */
static zs_tid named(zs_nn *nn, const char *name, const char *part, const zs_param *like)
{
    char full[ZS_NN_NAME];
    zs_param p = *like;
    (void)snprintf(full, sizeof full, "%s.%s", name, part);
    p.name = full;
    return zs_nn_param(nn, &p);
}

static zs_param weight_like(int nd, int64_t out, int64_t in, int64_t k, zs_init init)
{
    return (zs_param){.nd = nd,
                      .shape = {out, in, k, k},
                      .init = init,
                      .fan_in = in * k * k,
                      .alias = -1,
                      .trainable = true};
}

static zs_param vector_like(int64_t n, zs_init init, int64_t fan_in)
{
    return (zs_param){
        .nd = 1, .shape = {n}, .init = init, .fan_in = fan_in, .alias = -1, .trainable = true};
}

static zs_init bias_init(zs_init weight)
{
    bool uniform = weight == ZS_INIT_UNIFORM || weight == ZS_INIT_KAIMING_NORMAL;
    return uniform ? ZS_INIT_UNIFORM : ZS_INIT_ZERO;
}

static int64_t channels(zs_nn *nn, zs_tid x)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    return s.nd ? zs_shape_last(&s) : 1;
}

static zs_tid linear_like(zs_nn *nn, const char *name, zs_tid x, zs_param w, zs_init init)
{
    zs_param b = vector_like(w.shape[0], bias_init(init), w.fan_in);
    zs_tid tw = named(nn, name, "weight", &w), tb = named(nn, name, "bias", &b);
    return zs_linear(nn->g, x, tw, tb);
}

zs_tid zs_nn_linear(zs_nn *nn, const char *name, zs_tid x, int64_t out, zs_init init)
{
    return linear_like(nn, name, x, weight_like(2, out, channels(nn, x), 1, init), init);
}

void zs_nn_linear_declare(zs_nn *nn, const char *name, int64_t in, int64_t out, zs_init init)
{
    zs_param w = weight_like(2, out, in, 1, init);
    zs_param b = vector_like(out, bias_init(init), w.fan_in);
    (void)named(nn, name, "weight", &w);
    (void)named(nn, name, "bias", &b);
}

zs_tid zs_nn_pointwise(zs_nn *nn, const char *name, zs_tid x, int64_t out, zs_init init)
{
    return linear_like(nn, name, x, weight_like(4, out, channels(nn, x), 1, init), init);
}

static void alias(zs_nn *nn, const char *of, const char *name, const char *part)
{
    char full[2 * ZS_NN_NAME];
    (void)snprintf(full, sizeof full, "%s%s.%s", nn->prefix, of, part);
    long i = zs_params_find(nn->ps, full);
    if (i < 0)
        return; /* the graph has failed already */
    zs_param p = *zs_params_at(nn->ps, (size_t)i);
    (void)snprintf(full, sizeof full, "%s.%s", name, part);
    p.name = full;
    p.alias = (int32_t)i;
    (void)add_param(nn, &p);
}

zs_tid zs_nn_linear_tied(zs_nn *nn, const char *name, const char *second, zs_tid x, int64_t out,
                         zs_init init)
{
    zs_tid y = zs_nn_linear(nn, name, x, out, init);
    alias(nn, name, second, "weight");
    alias(nn, name, second, "bias");
    return y;
}

typedef struct filters {
    zs_tid weight, bias;
} filters;

static filters conv_params(zs_nn *nn, const char *name, zs_param w)
{
    zs_param b = vector_like(w.shape[0], bias_init(w.init), w.fan_in);
    w.layout = ZS_LAYOUT_CONV;
    filters f = {.weight = named(nn, name, "weight", &w)};
    f.bias = named(nn, name, "bias", &b);
    return f;
}

static zs_tid conv_like(zs_nn *nn, const char *name, zs_tid x, zs_param w, int k, zs_tid residual)
{
    filters f = conv_params(nn, name, w);
    return zs_conv2d(nn->g, x, f.weight, f.bias, residual, 1, k / 2);
}

zs_tid zs_nn_conv(zs_nn *nn, const char *name, zs_tid x, int64_t out, int k, zs_tid residual,
                  zs_init init)
{
    return conv_like(nn, name, x, weight_like(4, out, channels(nn, x), k, init), k, residual);
}

zs_tid zs_nn_conv_down(zs_nn *nn, const char *name, zs_tid x, int64_t out)
{
    filters f = conv_params(nn, name, weight_like(4, out, channels(nn, x), 3, ZS_INIT_UNIFORM));
    return zs_conv2d_tail(nn->g, x, f.weight, f.bias, 2, 1);
}

zs_tid zs_nn_conv1d(zs_nn *nn, const char *name, zs_tid x, int64_t out, zs_tid residual,
                    zs_init init)
{
    return conv_like(nn, name, x, weight_like(3, out, channels(nn, x), 1, init), 1, residual);
}

static zs_tid groupnorm(zs_nn *nn, const char *name, zs_tid x, const zs_tid cond[2], float eps,
                        zs_act act)
{
    int64_t c = channels(nn, x);
    int groups = c < NORM_GROUPS ? (int)c : NORM_GROUPS;
    if (c % groups)
        zs_graph_fail(nn->g, ZS_E_INVALID,
                      "%s%s normalises %lld channels, which are not a multiple of its %d groups; "
                      "choose channels that are multiples of 32",
                      nn->prefix, name, (long long)c, groups);
    zs_param w = vector_like(c, ZS_INIT_ONE, c), b = vector_like(c, ZS_INIT_ZERO, c);
    zs_tid gamma = named(nn, name, "weight", &w), beta = named(nn, name, "bias", &b);
    return zs_gn_act(nn->g, x, gamma, beta, cond[0], cond[1], groups, eps, act);
}

zs_tid zs_nn_groupnorm(zs_nn *nn, const char *name, zs_tid x, zs_tid scale_shift, zs_tid cond_scale,
                       zs_act act)
{
    return groupnorm(nn, name, x, (zs_tid[]){scale_shift, cond_scale}, NORM_EPS, act);
}

zs_tid zs_nn_groupnorm_eps(zs_nn *nn, const char *name, zs_tid x, float eps, zs_act act)
{
    return groupnorm(nn, name, x, (zs_tid[]){ZS_NONE, ZS_NONE}, eps, act);
}

zs_tid zs_nn_layernorm(zs_nn *nn, const char *name, zs_tid x, float eps)
{
    int64_t c = channels(nn, x);
    zs_param w = vector_like(c, ZS_INIT_ONE, c), b = vector_like(c, ZS_INIT_ZERO, c);
    zs_tid gamma = named(nn, name, "weight", &w), beta = named(nn, name, "bias", &b);
    return zs_layernorm(nn->g, x, gamma, beta, eps);
}
