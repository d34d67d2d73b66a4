/* SPDX-License-Identifier: MIT */
/* One shape rule per row of ops.def. A rule checks everything a kernel relies on. */
#include "graph/internal.h"

#include <stdio.h>

static void describe(char *buf, size_t cap, const zs_shape *s)
{
    size_t n = 0;
    buf[0] = '\0';
    for (int i = 0; s && i < s->nd && n < cap; i++)
        n += (size_t)snprintf(buf + n, cap - n, i ? "x%lld" : "%lld", (long long)s->d[i]);
}

/* Fails the graph with the operation, the reason and the shapes of its inputs. */
static bool bad(zs_shape_ctx *c, const char *op, const char *why)
{
    char text[ZS_MAX_IN][48];
    for (int i = 0; i < ZS_MAX_IN; i++)
        describe(text[i], sizeof text[i], c->in[i]);
    zs_graph_fail(c->g, ZS_E_INVALID, "%s: %s (inputs [%s] [%s] [%s] [%s] [%s])", op, why, text[0],
                  text[1], text[2], text[3], text[4]);
    return false;
}

#define REQUIRE(cond, op, why)      \
    do {                            \
        if (!(cond))                \
            return bad(c, op, why); \
    } while (0)

static bool is_vector(const zs_shape *s, int64_t n)
{
    return s->nd == 1 && s->d[0] == n;
}

static bool conv_attr_ok(const zs_attr *a)
{
    return a->k >= 1 && a->k <= 64 && a->stride >= 1 && a->stride <= 64 && a->pad >= 0 &&
           a->pad < a->k && a->tail >= 0 && a->pad + a->tail < a->k;
}

static int64_t conv_size(int64_t in, const zs_attr *a)
{
    int64_t span = in + 2 * a->pad + a->tail - a->k;
    return span < 0 ? 0 : span / a->stride + 1;
}

static bool rule_conv2d(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *w = c->in[1], *b = c->in[2], *r = c->in[3];
    REQUIRE(x && w && x->nd == 4 && w->nd == 4, "conv2d", "x and w must have four dimensions");
    REQUIRE(conv_attr_ok(c->a) && w->d[0] == c->a->k && w->d[1] == c->a->k, "conv2d",
            "kernel, stride or padding out of range");
    REQUIRE(w->d[2] == x->d[3], "conv2d", "channels of x and w differ");
    int64_t h = conv_size(x->d[1], c->a), wd = conv_size(x->d[2], c->a);
    REQUIRE(h > 0 && wd > 0, "conv2d", "the image is smaller than the kernel");
    c->out[0] = zs_shape4(x->d[0], h, wd, w->d[3]);
    REQUIRE(!b || is_vector(b, w->d[3]), "conv2d", "bias must have one value per output channel");
    REQUIRE(!r || zs_shape_equal(r, &c->out[0]), "conv2d",
            "residual differs from the result's shape");
    return true;
}

static bool rule_conv2d_dx(zs_shape_ctx *c)
{
    const zs_shape *dy = c->in[0], *w = c->in[1];
    REQUIRE(dy && w && dy->nd == 4 && w->nd == 4 && w->d[3] == dy->d[3], "conv2d_dx",
            "shapes differ");
    REQUIRE(conv_attr_ok(c->a) && conv_size(c->a->h, c->a) == dy->d[1] &&
                conv_size(c->a->w, c->a) == dy->d[2],
            "conv2d_dx", "h and w do not match dy");
    c->out[0] = zs_shape4(dy->d[0], c->a->h, c->a->w, w->d[2]);
    return true;
}

static bool rule_conv2d_dw(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *dy = c->in[1];
    REQUIRE(x && dy && x->nd == 4 && dy->nd == 4 && x->d[0] == dy->d[0], "conv2d_dw",
            "shapes differ");
    REQUIRE(conv_attr_ok(c->a) && conv_size(x->d[1], c->a) == dy->d[1] &&
                conv_size(x->d[2], c->a) == dy->d[2],
            "conv2d_dw", "x and dy do not match");
    c->out[0] = zs_shape4(c->a->k, c->a->k, x->d[3], dy->d[3]);
    c->out[1] = zs_shape1(dy->d[3]);
    return true;
}

/* The same rows of `last` channels. */
static zs_shape with_last(const zs_shape *s, int64_t last)
{
    zs_shape r = *s;
    r.d[r.nd - 1] = last;
    return r;
}

static bool rule_linear(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *w = c->in[1], *b = c->in[2];
    REQUIRE(x && w && x->nd >= 2 && w->nd == 2 && zs_shape_last(x) == w->d[1], "linear",
            "x must be [...,K] and w [O,K]");
    REQUIRE(!b || is_vector(b, w->d[0]), "linear", "bias must have one value per output");
    c->out[0] = with_last(x, w->d[0]);
    return true;
}

static bool rule_linear_dx(zs_shape_ctx *c)
{
    const zs_shape *dy = c->in[0], *w = c->in[1];
    REQUIRE(dy && w && dy->nd >= 2 && w->nd == 2 && zs_shape_last(dy) == w->d[0], "linear_dx",
            "shapes differ");
    c->out[0] = with_last(dy, w->d[1]);
    return true;
}

static bool rule_linear_dw(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *dy = c->in[1];
    REQUIRE(x && dy && x->nd >= 2 && dy->nd >= 2 && zs_shape_rows(x) == zs_shape_rows(dy),
            "linear_dw", "shapes differ");
    c->out[0] = zs_shape2(zs_shape_last(dy), zs_shape_last(x));
    c->out[1] = zs_shape1(zs_shape_last(dy));
    return true;
}

static bool gn_inputs_ok(const zs_shape *x, const zs_shape *ss, const zs_shape *cs)
{
    int64_t n = x->d[0], ch = x->d[3];
    return (!ss || (ss->nd == 2 && ss->d[0] == n && ss->d[1] == 2 * ch)) &&
           (!cs || (cs->nd == 2 && cs->d[0] == n && cs->d[1] == ch));
}

static bool rule_gn_act(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *gamma = c->in[1], *beta = c->in[2];
    REQUIRE(x && gamma && beta && x->nd == 4, "gn_act", "x must have four dimensions");
    REQUIRE(c->a->groups >= 1 && x->d[3] % c->a->groups == 0, "gn_act",
            "channels must be a multiple of the groups");
    REQUIRE(c->a->p >= 0.0f && c->a->p < 1.0f, "gn_act", "p must be in [0,1)");
    REQUIRE(c->a->act == ZS_ACT_NONE || c->a->act == ZS_ACT_SILU, "gn_act", "no such activation");
    REQUIRE(is_vector(gamma, x->d[3]) && is_vector(beta, x->d[3]), "gn_act",
            "gamma and beta must have one value per channel");
    REQUIRE(gn_inputs_ok(x, c->in[3], c->in[4]), "gn_act",
            "the conditioning must be [N,2C] (scale, shift) and [N,C] (scale)");
    c->out[0] = *x;
    c->out[1] = (zs_shape){3, {x->d[0], c->a->groups, 2, 1}};
    return true;
}

static bool rule_gn_act_bwd(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *dy = c->in[6];
    REQUIRE(x && c->in[1] && c->in[2] && c->in[3] && dy && zs_shape_equal(x, dy), "gn_act_bwd",
            "x and dy differ");
    REQUIRE(gn_inputs_ok(x, c->in[4], c->in[5]), "gn_act_bwd", "conditioning shapes");
    c->out[0] = *x;
    c->out[1] = c->out[2] = zs_shape1(x->d[3]);
    c->out[3] = zs_shape2(x->d[0], 2 * x->d[3]);
    c->out[4] = zs_shape2(x->d[0], x->d[3]);
    return true;
}

static bool affine_ok(const zs_shape *x, const zs_shape *gamma, const zs_shape *beta)
{
    return (!gamma || is_vector(gamma, zs_shape_last(x))) &&
           (!beta || is_vector(beta, zs_shape_last(x)));
}

/* g[N,S] holds n values for each channel of x from column `offset` on; N divides the rows of x. */
static bool columns_ok(const zs_shape *x, const zs_shape *g, int64_t offset, int64_t n)
{
    return g->nd == 2 && zs_shape_rows(x) % g->d[0] == 0 && offset >= 0 &&
           g->d[1] / n >= zs_shape_last(x) && offset <= g->d[1] - n * zs_shape_last(x);
}

static bool rule_layernorm(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd >= 2 && affine_ok(x, c->in[1], c->in[2]), "layernorm",
            "x must be [...,C], gamma and beta [C]");
    REQUIRE(!c->in[3] || columns_ok(x, c->in[3], c->a->offset, 2), "layernorm",
            "the modulation must be [N,S], with a shift and a scale per channel from offset on");
    c->out[0] = *x;
    c->out[1] = zs_shape2(zs_shape_rows(x), 2);
    return true;
}

static bool rule_layernorm_bwd(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *ss = c->in[4], *dy = c->in[5];
    REQUIRE(x && c->in[1] && dy && x->nd >= 2 && zs_shape_equal(x, dy) &&
                zs_shape_numel(c->in[1]) == 2 * zs_shape_rows(x) &&
                affine_ok(x, c->in[2], c->in[3]),
            "layernorm_bwd", "x, dy, statistics, gamma and beta do not match");
    REQUIRE(!ss || columns_ok(x, ss, c->a->offset, 2), "layernorm_bwd", "modulation shape");
    c->out[0] = *x;
    c->out[1] = c->out[2] = zs_shape1(zs_shape_last(x));
    if (ss)
        c->out[3] = *ss;
    return true;
}

static bool rule_gate(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *f = c->in[1], *g = c->in[2];
    REQUIRE(x && f && g && zs_shape_equal(x, f) && columns_ok(x, g, c->a->offset, 1), "gate",
            "x and f must have one shape, and g one value per channel from offset on");
    c->out[0] = *x;
    return true;
}

static bool rule_gate_bwd(zs_shape_ctx *c)
{
    const zs_shape *f = c->in[0], *g = c->in[1], *dy = c->in[2];
    REQUIRE(f && g && dy && zs_shape_equal(f, dy) && columns_ok(f, g, c->a->offset, 1), "gate_bwd",
            "f, g and dy do not match");
    c->out[0] = *f;
    c->out[1] = *g;
    return true;
}

static bool same_as_first(zs_shape_ctx *c, const char *op, int inputs)
{
    for (int i = 0; i < inputs; i++)
        REQUIRE(c->in[i] && zs_shape_equal(c->in[0], c->in[i]), op,
                "the inputs must have one shape");
    c->out[0] = c->out[1] = *c->in[0];
    return true;
}

static bool rule_silu(zs_shape_ctx *c)
{
    return same_as_first(c, "silu", 1);
}

static bool rule_silu_bwd(zs_shape_ctx *c)
{
    return same_as_first(c, "silu_bwd", 2);
}

static bool rule_gelu(zs_shape_ctx *c)
{
    return same_as_first(c, "gelu", 1);
}

static bool rule_gelu_bwd(zs_shape_ctx *c)
{
    return same_as_first(c, "gelu_bwd", 2);
}

static bool rule_add(zs_shape_ctx *c)
{
    return same_as_first(c, "add", 2);
}

static bool rule_scale1p(zs_shape_ctx *c)
{
    return same_as_first(c, "scale1p", 2);
}

static bool rule_scale1p_bwd(zs_shape_ctx *c)
{
    return same_as_first(c, "scale1p_bwd", 3);
}

static bool attention_shape(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd >= 2 && c->a->heads >= 1 &&
                zs_shape_last(x) % (3 * (int64_t)c->a->heads) == 0,
            "attention", "qkv must be [N,...,3C] with C a multiple of the heads");
    REQUIRE(c->a->kind == ZS_QKV_BY_HEAD || c->a->kind == ZS_QKV_BY_PART, "attention",
            "no such order of channels");
    return true;
}

static bool rule_attention(zs_shape_ctx *c)
{
    if (!attention_shape(c))
        return false;
    c->out[0] = with_last(c->in[0], zs_shape_last(c->in[0]) / 3);
    return true;
}

static bool rule_attention_bwd(zs_shape_ctx *c)
{
    if (!attention_shape(c))
        return false;
    REQUIRE(c->in[1] && zs_shape_numel(c->in[1]) * 3 == zs_shape_numel(c->in[0]), "attention_bwd",
            "dy does not match qkv");
    c->out[0] = *c->in[0];
    return true;
}

static bool rule_tokens(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *first = c->in[1], *table = c->in[2];
    REQUIRE(x && x->nd >= 3, "tokens", "x must be [N,...,C]");
    int64_t ch = zs_shape_last(x), t = zs_shape_rows(x) / x->d[0] + (first ? 1 : 0);
    REQUIRE(!first || zs_shape_numel(first) == ch, "tokens",
            "the first token must have one value per channel");
    REQUIRE(!table || zs_shape_numel(table) == t * ch, "tokens",
            "the table must have one row per token");
    c->out[0] = (zs_shape){3, {x->d[0], t, ch, 1}};
    return true;
}

static bool rule_tokens_bwd(zs_shape_ctx *c)
{
    const zs_shape *dy = c->in[0];
    REQUIRE(dy && dy->nd == 3 && (c->a->len == dy->d[1] || c->a->len == dy->d[1] - 1), "tokens_bwd",
            "dy must be [N,T,C], with T or T-1 positions in x");
    REQUIRE(!c->a->h || c->a->h * c->a->w == c->a->len, "tokens_bwd", "x must be [N,h,w,C]");
    c->out[0] = c->a->h ? zs_shape4(dy->d[0], c->a->h, c->a->w, dy->d[2])
                        : (zs_shape){3, {dy->d[0], c->a->len, dy->d[2], 1}};
    c->out[1] = zs_shape1(dy->d[2]);
    c->out[2] = zs_shape2(dy->d[1], dy->d[2]);
    return true;
}

static bool rule_take_row(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd == 3 && c->a->offset >= 0 && c->a->offset < x->d[1], "take_row",
            "x must be [N,T,C], and the row one of T");
    c->out[0] = zs_shape2(x->d[0], x->d[2]);
    return true;
}

static bool rule_take_row_bwd(zs_shape_ctx *c)
{
    const zs_shape *dy = c->in[0];
    REQUIRE(dy && dy->nd == 2 && c->a->offset >= 0 && c->a->offset < c->a->len, "take_row_bwd",
            "dy must be [N,C], and the row one of len");
    c->out[0] = (zs_shape){3, {dy->d[0], c->a->len, dy->d[1], 1}};
    return true;
}

static bool rule_batchnorm(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && c->in[1] && c->in[2] && x->nd >= 2 && affine_ok(x, c->in[1], c->in[2]) &&
                affine_ok(x, c->in[3], c->in[4]),
            "batchnorm", "x must be [...,C], statistics, gamma and beta [C]");
    REQUIRE(c->a->act == ZS_ACT_NONE || c->a->act == ZS_ACT_RELU, "batchnorm",
            "no such activation");
    c->out[0] = *x;
    return true;
}

static bool rule_upsample2(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd == 4, "upsample2", "x must have four dimensions");
    c->out[0] = zs_shape4(x->d[0], 2 * x->d[1], 2 * x->d[2], x->d[3]);
    return true;
}

static bool rule_downsample2(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd == 4 && x->d[1] % 2 == 0 && x->d[2] % 2 == 0, "downsample2",
            "height and width must be even: the image size must be divisible by 2 at every level");
    c->out[0] = zs_shape4(x->d[0], x->d[1] / 2, x->d[2] / 2, x->d[3]);
    return true;
}

static bool rule_concat(zs_shape_ctx *c)
{
    const zs_shape *a = c->in[0], *b = c->in[1];
    REQUIRE(a && b && a->nd == b->nd, "concat", "both inputs need the same dimensions");
    for (int i = 0; i + 1 < a->nd; i++)
        REQUIRE(a->d[i] == b->d[i], "concat", "the inputs may differ in channels only");
    c->out[0] = *a;
    c->out[0].d[a->nd - 1] += b->d[b->nd - 1];
    return true;
}

static bool rule_slice(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && c->a->offset >= 0 && c->a->len >= 1 &&
                c->a->offset <= zs_shape_last(x) - c->a->len,
            "slice", "channel range outside x");
    c->out[0] = *x;
    c->out[0].d[x->nd - 1] = c->a->len;
    return true;
}

static bool rule_mean_hw(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd == 4, "mean_hw", "x must have four dimensions");
    c->out[0] = zs_shape2(x->d[0], x->d[3]);
    return true;
}

static bool rule_broadcast_hw(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    REQUIRE(x && x->nd == 2 && c->a->h >= 1 && c->a->w >= 1, "broadcast_hw", "x must be [N,C]");
    c->out[0] = zs_shape4(x->d[0], c->a->h, c->a->w, x->d[1]);
    return true;
}

static bool rule_timestep(zs_shape_ctx *c)
{
    const zs_shape *t = c->in[0];
    REQUIRE(t && t->nd == 1 && c->a->len >= 2 && c->a->len % 2 == 0, "timestep",
            "t must be [N] and the width even");
    c->out[0] = zs_shape2(t->d[0], c->a->len);
    return true;
}

static bool rule_embed(zs_shape_ctx *c)
{
    const zs_shape *i = c->in[0], *table = c->in[1];
    REQUIRE(i && table && i->nd == 1 && table->nd == 2, "embed",
            "the indices must be [N] and the table [V,C]");
    c->out[0] = zs_shape2(i->d[0], table->d[1]);
    return true;
}

static bool rule_embed_bwd(zs_shape_ctx *c)
{
    const zs_shape *i = c->in[0], *dy = c->in[1];
    REQUIRE(i && dy && i->nd == 1 && dy->nd == 2 && i->d[0] == dy->d[0] && c->a->len >= 1,
            "embed_bwd", "the indices must be [N] and dy [N,C]");
    c->out[0] = zs_shape2(c->a->len, dy->d[1]);
    return true;
}

static bool patch_attr_ok(const zs_attr *a)
{
    return a->k >= 1 && a->k <= 64 && a->h >= 1 && a->w >= 1 && a->h <= 65536 && a->w <= 65536;
}

static bool rule_patches(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    const zs_attr *a = c->a;
    REQUIRE(x && x->nd == 4 && patch_attr_ok(a) && x->d[1] == a->h * a->k && x->d[2] == a->w * a->k,
            "patches", "height and width must be multiples of the patch size");
    c->out[0] = (zs_shape){3, {x->d[0], a->h * a->w, a->k * a->k * x->d[3]}};
    return true;
}

static bool rule_unpatch(zs_shape_ctx *c)
{
    const zs_shape *y = c->in[0];
    const zs_attr *a = c->a;
    REQUIRE(y && y->nd == 3 && patch_attr_ok(a) && y->d[1] == a->h * a->w &&
                y->d[2] % ((int64_t)a->k * a->k) == 0,
            "unpatch", "there must be h*w tokens of k*k*C numbers");
    c->out[0] = zs_shape4(y->d[0], a->h * a->k, a->w * a->k, y->d[2] / ((int64_t)a->k * a->k));
    return true;
}

static bool rule_substitute(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *row = c->in[1], *mask = c->in[2];
    REQUIRE(x && row && mask && x->nd == 2 && zs_shape_numel(row) == x->d[1] &&
                is_vector(mask, x->d[0]),
            "substitute", "x must be [N,C], the row [1,C] and the mask [N]");
    c->out[0] = *x;
    return true;
}

static bool rule_substitute_bwd(zs_shape_ctx *c)
{
    const zs_shape *mask = c->in[0], *dy = c->in[1];
    REQUIRE(mask && dy && dy->nd == 2 && is_vector(mask, dy->d[0]), "substitute_bwd",
            "the mask must be [N] and dy [N,C]");
    c->out[0] = *dy;
    c->out[1] = zs_shape2(1, dy->d[1]);
    return true;
}

static bool rule_dropout(zs_shape_ctx *c)
{
    REQUIRE(c->a->p > 0.0f && c->a->p < 1.0f, "dropout", "p must be in (0,1)");
    return same_as_first(c, "dropout", 1);
}

static bool rule_loss_bwd(zs_shape_ctx *c)
{
    const zs_shape *w = c->in[2];
    REQUIRE(!w || (c->in[0] && is_vector(w, c->in[0]->d[0])), "loss",
            "there must be one weight for each sample");
    return same_as_first(c, "loss", 2);
}

static bool rule_loss(zs_shape_ctx *c)
{
    if (!rule_loss_bwd(c))
        return false;
    c->out[0] = zs_shape1(1);
    return true;
}

static bool bound_inputs_ok(zs_shape_ctx *c)
{
    const zs_shape *out = c->in[0], *x = c->in[1], *steps = c->in[3];
    REQUIRE(out && x && c->in[2] && steps && zs_shape_equal(x, c->in[2]), "loss_vlb",
            "noise and x0 must have one shape");
    REQUIRE(x->nd >= 2 && out->nd == x->nd && zs_shape_last(out) == 2 * zs_shape_last(x) &&
                zs_shape_rows(out) == zs_shape_rows(x) && out->d[0] == x->d[0],
            "loss_vlb", "the network must return twice the channels of the noise");
    REQUIRE(steps->nd == 2 && steps->d[0] == x->d[0] && steps->d[1] == ZS_BOUND_NUMBERS, "loss_vlb",
            "steps must be [N,4]");
    return true;
}

static bool rule_loss_vlb(zs_shape_ctx *c)
{
    if (!bound_inputs_ok(c))
        return false;
    c->out[0] = zs_shape1(1);
    c->out[1] = zs_shape2(c->in[0]->d[0], 2);
    return true;
}

static bool rule_loss_vlb_bwd(zs_shape_ctx *c)
{
    if (!bound_inputs_ok(c))
        return false;
    c->out[0] = *c->in[0];
    return true;
}

static bool rule_accumulate(zs_shape_ctx *c)
{
    return same_as_first(c, "accumulate", 1);
}

static bool window_ok(int64_t k, int stride, int pad)
{
    return k >= 1 && k <= 64 && stride >= 1 && stride <= 64 && pad >= 0 && pad < k;
}

/* Windows of k pixels along an axis of `in` pixels; 0: not one fits. */
static int64_t windows(int64_t in, int64_t k, int stride, int pad)
{
    int64_t span = in + 2 * pad - k;
    return span < 0 ? 0 : span / stride + 1;
}

static bool rule_conv_relu(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0], *w = c->in[1], *b = c->in[2];
    const zs_attr *a = c->a;
    REQUIRE(x && w && x->nd == 4 && w->nd == 4, "conv_relu", "x and w must have four dimensions");
    REQUIRE(window_ok(w->d[0], a->stride, a->pad) && window_ok(w->d[1], a->stride, a->pad_w),
            "conv_relu", "kernel, stride or padding out of range");
    REQUIRE(w->d[2] == x->d[3], "conv_relu", "channels of x and w differ");
    int64_t h = windows(x->d[1], w->d[0], a->stride, a->pad);
    int64_t wd = windows(x->d[2], w->d[1], a->stride, a->pad_w);
    REQUIRE(h > 0 && wd > 0, "conv_relu", "the image is smaller than the kernel");
    REQUIRE(!b || is_vector(b, w->d[3]), "conv_relu",
            "bias must have one value per output channel");
    c->out[0] = zs_shape4(x->d[0], h, wd, w->d[3]);
    return true;
}

static bool rule_pool(zs_shape_ctx *c)
{
    const zs_shape *x = c->in[0];
    const zs_attr *a = c->a;
    REQUIRE(x && x->nd == 4 && window_ok(a->k, a->stride, a->pad), "pool",
            "x must have four dimensions; kernel, stride or padding out of range");
    int64_t h = windows(x->d[1], a->k, a->stride, a->pad);
    int64_t w = windows(x->d[2], a->k, a->stride, a->pad);
    REQUIRE(h > 0 && w > 0, "pool", "the image is smaller than the window");
    c->out[0] = zs_shape4(x->d[0], h, w, x->d[3]);
    return true;
}

static bool rule_cast(zs_shape_ctx *c)
{
    REQUIRE(c->in[0] && (c->a->kind == ZS_F32 || c->a->kind == ZS_BF16), "cast",
            "x is missing, or the type is neither F32 nor BF16");
    c->out[0] = *c->in[0];
    return true;
}

bool zs_graph_infer(zs_op op, zs_shape_ctx *c)
{
    static bool (*const rules[ZS_OP_COUNT])(zs_shape_ctx *) = {
#define OP(NAME, name, inputs, outputs, gradient, slots) rule_##name,
#include "tensor/ops.def"
#undef OP
    };
    return rules[op](c);
}
