/* SPDX-License-Identifier: MIT */
#include "models/vit.h"
#include "models/bicubic.h"

#include <math.h>
#include <string.h>

/* ---- configuration ---- */

static const char *const head_names[] = {"none", "moco", "dino", "linear", NULL};

int zs_vit_head_of(const zs_vit_config *c)
{
    for (int i = 0; head_names[i]; i++)
        if (strcmp(c->head, head_names[i]) == 0)
            return i;
    return -1;
}

void zs_vit_head_set(zs_vit_config *c, zs_vit_head head)
{
    (void)snprintf(c->head, sizeof c->head, "%s", head_names[head]);
}

static int check_head(const zs_vit_config *c, zs_error *err)
{
    int head = zs_vit_head_of(c);
    bool any = head != ZS_VIT_HEAD_NONE,
         deep = head == ZS_VIT_HEAD_MOCO || head == ZS_VIT_HEAD_DINO;
    if (head < 0)
        return zs_fail(err, ZS_E_INVALID, "encoder.head is \"%s\"; use none, moco, dino or linear",
                       c->head);
    if (any != (c->head_dim > 0))
        return zs_fail(err, ZS_E_INVALID,
                       any ? "encoder.head_dim is %lld; a head has at least one output"
                           : "encoder.head_dim is %lld, but there is no head",
                       (long long)c->head_dim);
    if (deep != (c->head_hidden > 0))
        return zs_fail(err, ZS_E_INVALID,
                       deep ? "encoder.head_hidden is %lld; this head has a hidden layer"
                            : "encoder.head_hidden is %lld, but there is no hidden layer",
                       (long long)c->head_hidden);
    if (c->project && !any)
        return zs_fail(err, ZS_E_INVALID,
                       "encoder.project asks for the outputs of a head, but there is none");
    return ZS_OK;
}

static int check(const void *config, zs_error *err)
{
    const zs_vit_config *c = config;
    if (c->side % c->patch)
        return zs_fail(err, ZS_E_INVALID,
                       "encoder.side is %lld; it must be a multiple of the patch, %d",
                       (long long)c->side, c->patch);
    if (c->width % c->heads)
        return zs_fail(err, ZS_E_INVALID, "encoder.heads is %d; it must divide the width, %lld",
                       c->heads, (long long)c->width);
    int status = check_head(c, err);
    if (status == ZS_OK && c->standardise && zs_vit_rep_dim(c) < 2)
        status = zs_fail(err, ZS_E_INVALID,
                         "encoder.standardise needs representations of more than one number");
    return status;
}

int64_t zs_vit_tokens(const zs_vit_config *c)
{
    return (c->side / c->patch) * (c->side / c->patch) + 1;
}

int64_t zs_vit_rep_dim(const zs_vit_config *c)
{
    return c->project ? c->head_dim : c->width;
}

/* ---- heads ---- */

static zs_tid channel_param(zs_nn *nn, const char *name, int64_t n, zs_init init, bool trainable)
{
    zs_param p = {.name = name,
                  .nd = 1,
                  .shape = {n},
                  .init = init,
                  .fan_in = n,
                  .alias = -1,
                  .trainable = trainable};
    return zs_nn_param(nn, &p);
}

/* A Linear without bias, "<i>", and the batch norm after it, "<i+1>". */
static zs_tid projector_layer(zs_nn *nn, int i, zs_tid x, int64_t out, bool last)
{
    zs_tid gamma = ZS_NONE, beta = ZS_NONE;
    zs_shape s = zs_graph_shape(nn->g, x);
    int64_t in = s.nd ? zs_shape_last(&s) : 1;
    zs_param w = {.name = "weight",
                  .nd = 2,
                  .shape = {out, in},
                  .init = ZS_INIT_UNIFORM,
                  .fan_in = in,
                  .alias = -1,
                  .trainable = true};
    zs_nn_push(nn, "%d", i);
    x = zs_linear(nn->g, x, zs_nn_param(nn, &w), ZS_NONE);
    zs_nn_pop(nn);
    zs_nn_push(nn, "%d", i + 1);
    if (!last) {
        gamma = channel_param(nn, "weight", out, ZS_INIT_ONE, true);
        beta = channel_param(nn, "bias", out, ZS_INIT_ZERO, true);
    }
    zs_tid mean = channel_param(nn, "running_mean", out, ZS_INIT_ZERO, false);
    zs_tid var = channel_param(nn, "running_var", out, ZS_INIT_ONE, false);
    zs_nn_pop(nn);
    return zs_batchnorm(nn->g, x, mean, var, gamma, beta, ZS_NN_EPS,
                        last ? ZS_ACT_NONE : ZS_ACT_RELU);
}

static zs_tid projector(zs_nn *nn, const zs_vit_config *c, zs_tid x)
{
    zs_nn_push(nn, "head");
    x = projector_layer(nn, 0, x, c->head_hidden, false);
    x = projector_layer(nn, 3, x, c->head_hidden, false);
    x = projector_layer(nn, 6, x, c->head_dim, true);
    zs_nn_pop(nn);
    return x;
}

static zs_tid mlp_head(zs_nn *nn, const zs_vit_config *c, zs_tid x)
{
    zs_nn_push(nn, "head.mlp");
    x = zs_gelu(nn->g, zs_nn_linear(nn, "0", x, c->head_hidden, ZS_INIT_UNIFORM));
    x = zs_gelu(nn->g, zs_nn_linear(nn, "2", x, c->head_hidden, ZS_INIT_UNIFORM));
    x = zs_nn_linear(nn, "4", x, c->head_dim, ZS_INIT_UNIFORM);
    zs_nn_pop(nn);
    return x;
}

static zs_tid head(zs_nn *nn, const zs_vit_config *c, zs_tid x)
{
    switch (zs_vit_head_of(c)) {
    case ZS_VIT_HEAD_MOCO: return projector(nn, c, x);
    case ZS_VIT_HEAD_DINO: return mlp_head(nn, c, x);
    case ZS_VIT_HEAD_LINEAR: return zs_nn_linear(nn, "head", x, c->head_dim, ZS_INIT_UNIFORM);
    default: return ZS_NONE;
    }
}

/* ---- the network ---- */

/* [1,rows,width], as files have it. */
static zs_tid table(zs_nn *nn, const char *name, int64_t rows, int64_t width)
{
    zs_param p = {.name = name,
                  .nd = 3,
                  .shape = {1, rows, width},
                  .init = ZS_INIT_UNIFORM,
                  .fan_in = width,
                  .alias = -1,
                  .trainable = true};
    return zs_nn_param(nn, &p);
}

void zs_vit_build(zs_vit_taps *out, zs_nn *nn, const zs_vit_config *c, zs_tid x)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    zs_nn_block block = {.heads = c->heads,
                         .hidden = c->hidden,
                         .eps = (float)c->eps,
                         .init = ZS_INIT_UNIFORM,
                         .mod = ZS_NONE};
    if (s.nd == 4 && (s.d[1] != c->side || s.d[2] != c->side || s.d[3] != c->in_channels))
        zs_graph_fail(nn->g, ZS_E_INVALID,
                      "the encoder sees images of %lldx%lld in %lld channels, not of %lldx%lld in "
                      "%lld",
                      (long long)c->side, (long long)c->side, (long long)c->in_channels,
                      (long long)s.d[1], (long long)s.d[2], (long long)s.d[3]);
    zs_tid cls = table(nn, "cls_token", 1, c->width);
    zs_tid positions = table(nn, "pos_embed", zs_vit_tokens(c), c->width);
    x = zs_nn_patch_embed(nn, "patch_embed.proj", x, c->width, c->patch, ZS_INIT_UNIFORM);
    out->tokens_in = x = zs_tokens(nn->g, x, cls, positions);
    for (int i = 0; i < c->depth; i++) {
        zs_nn_push(nn, "blocks.%d", i);
        x = zs_nn_transformer(nn, x, &block);
        zs_nn_pop(nn);
        if (i == 0)
            out->block0 = x;
    }
    out->tokens_out = zs_nn_layernorm(nn, "norm", x, (float)c->eps);
    out->features = zs_take_row(nn->g, out->tokens_out, 0);
    out->head = head(nn, c, out->features);
}

/* ---- around the network ---- */

typedef struct normalise {
    float *p;
    int64_t pixels;
} normalise;

/* (x/2 + 1/2 - mean)/std of pixels [begin, end) of three channels. */
static void normalise_pixels(void *ctx, int64_t begin, int64_t end, int thread)
{
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    const normalise *n = ctx;
    (void)thread;
    for (int64_t i = 3 * begin; i < 3 * end; i++)
        n->p[i] = ((n->p[i] * 0.5f + 0.5f) - mean[i % 3]) / std[i % 3];
}

/* The weights of a cubic convolution sum to 1, so normalising and resizing may change places; the
 * smaller of the two images is not always the same one, and results differ by rounding alone. */
void zs_vit_prepare(const zs_vit_config *c, float *dst, const float *x, zs_shape xs)
{
    int64_t side = c->side;
    zs_bicubic(dst, side, side, x, xs.d[0], xs.d[1], xs.d[2], xs.d[3],
               (double)xs.d[1] / (double)side, (double)xs.d[2] / (double)side);
    normalise n = {dst, xs.d[0] * side * side};
    if (xs.d[3] == 3)
        zs_parallel_for(n.pixels, 1 << 12, normalise_pixels, &n);
}

void zs_rep_standardise(float *z, int64_t n, int64_t dim)
{
    for (int64_t r = 0; r < n; r++, z += dim) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < dim; i++)
            sum += (double)z[i];
        for (int64_t i = 0; i < dim; i++) {
            double d = (double)z[i] - sum / (double)dim;
            square += d * d;
        }
        double deviation = sqrt(square / (double)(dim - 1));
        for (int64_t i = 0; i < dim; i++)
            z[i] = (float)(((double)z[i] - sum / (double)dim) / deviation);
    }
}

/* ---- the architecture ---- */

static const zs_field fields[] = {ZS_FIELD_INT(zs_vit_config, depth, 1, 128),
                                  ZS_FIELD_I64(zs_vit_config, in_channels, 1, 64),
                                  ZS_FIELD_I64(zs_vit_config, side, 1, 4096),
                                  ZS_FIELD_INT(zs_vit_config, patch, 1, 64),
                                  ZS_FIELD_I64(zs_vit_config, width, 1, 16384),
                                  ZS_FIELD_INT(zs_vit_config, heads, 1, 256),
                                  ZS_FIELD_I64(zs_vit_config, hidden, 1, 65536),
                                  ZS_FIELD_F64(zs_vit_config, eps, 1e-30, 1),
                                  ZS_FIELD_TEXT(zs_vit_config, head, 8),
                                  ZS_FIELD_I64(zs_vit_config, head_hidden, 0, 65536),
                                  ZS_FIELD_I64(zs_vit_config, head_dim, 0, 65536),
                                  ZS_FIELD_BOOL(zs_vit_config, project),
                                  ZS_FIELD_BOOL(zs_vit_config, standardise),
                                  ZS_FIELDS_END};

/* Images of any size are prepared, so they have no unit. */
static void ports(const void *config, zs_ports *p)
{
    const zs_vit_config *c = config;
    *p = (zs_ports){
        .in_channels = c->in_channels, .z_dim = zs_vit_rep_dim(c), .unit = 1, .side = c->side};
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    const zs_vit_config *c = config;
    zs_vit_taps taps;
    zs_vit_build(&taps, nn, c, in->x);
    zs_graph_output(nn->g, "features", taps.features);
    if (taps.head != ZS_NONE)
        zs_graph_output(nn->g, "head", taps.head);
    return c->project ? taps.head : taps.features;
}

static void prepare(const void *config, float *dst, const float *x, zs_shape xs)
{
    zs_vit_prepare(config, dst, x, xs);
}

static void finish(const void *config, float *z, int64_t n)
{
    const zs_vit_config *c = config;
    if (c->standardise)
        zs_rep_standardise(z, n, zs_vit_rep_dim(c));
}

const zs_arch zs_arch_vit = {
    .name = "vit",
    .box = ZS_BOX_ENCODER,
    .about = "vision transformer of MoCo v3, DINO, iBOT or DeiT",
    .module = "pretrained_encoder",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
    .prepare = prepare,
    .finish = finish,
    .prepares = "bicubic, and three channels by mean and deviation of ImageNet",
};
