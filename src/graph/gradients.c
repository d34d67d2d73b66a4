/* SPDX-License-Identifier: MIT */
/* One gradient rule per GRAD row of ops.def: appends backward nodes and hands their results to
 * zs_grad_add. dy is the gradient of the node's first output. */
#include "graph/internal.h"

static zs_tid emit1(zs_grad_ctx *c, zs_op op, const zs_tid *in, const zs_attr *a)
{
    static const zs_tid fresh[ZS_MAX_OUT] = {ZS_NEW, ZS_NONE, ZS_NONE, ZS_NONE, ZS_NONE};
    int32_t i = zs_graph_append(c->g, op, in, fresh, a);
    return i < 0 ? ZS_NONE : c->g->n[i].out[0];
}

static zs_tid fresh_if(const zs_grad_ctx *c, zs_tid t)
{
    return zs_grad_needed(c, t) ? ZS_NEW : ZS_NONE;
}

/* For a parameter that may be frozen while others of the node are trained. */
static zs_tid slot_if(zs_grad_ctx *c, zs_tid param)
{
    return zs_grad_needed(c, param) ? zs_grad_slot(c, param) : ZS_NONE;
}

static void rule_conv2d(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_tid x = n->in[0], w = n->in[1], b = n->in[2], r = n->in[3];
    if (zs_grad_needed(c, w) || zs_grad_needed(c, b)) { /* a slot fails unless both are trained */
        zs_tid out[2] = {zs_grad_slot(c, w), zs_grad_slot(c, b)};
        zs_graph_append(c->g, ZS_OP_CONV2D_DW, (zs_tid[]){x, dy}, out, &n->a);
    }
    if (zs_grad_needed(c, x)) {
        zs_attr a = n->a;
        a.h = c->g->t[x].shape.d[1];
        a.w = c->g->t[x].shape.d[2];
        zs_grad_add(c, x, emit1(c, ZS_OP_CONV2D_DX, (zs_tid[]){dy, w}, &a));
    }
    if (r >= 0)
        zs_grad_add(c, r, dy);
}

static void rule_linear(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_tid x = n->in[0], w = n->in[1], b = n->in[2];
    if (zs_grad_needed(c, w) || zs_grad_needed(c, b)) { /* a slot fails unless both are trained */
        zs_tid out[2] = {zs_grad_slot(c, w), zs_grad_slot(c, b)};
        zs_graph_append(c->g, ZS_OP_LINEAR_DW, (zs_tid[]){x, dy}, out, &n->a);
    }
    if (zs_grad_needed(c, x))
        zs_grad_add(c, x, emit1(c, ZS_OP_LINEAR_DX, (zs_tid[]){dy, w}, &n->a));
}

static void rule_gn_act(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    const zs_tid *in = n->in;
    zs_tid bin[7] = {in[0], n->out[1], in[1], in[2], in[3], in[4], dy};
    zs_tid out[5] = {fresh_if(c, in[0]), zs_grad_slot(c, in[1]), zs_grad_slot(c, in[2]),
                     fresh_if(c, in[3]), fresh_if(c, in[4])};
    int32_t i = zs_graph_append(c->g, ZS_OP_GN_ACT_BWD, bin, out, &n->a);
    if (i < 0)
        return;
    zs_gnode b = c->g->n[i];
    zs_grad_add(c, in[0], b.out[0]);
    zs_grad_add(c, in[3], b.out[3]);
    zs_grad_add(c, in[4], b.out[4]);
}

static void rule_layernorm(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    const zs_tid *in = n->in;
    zs_tid bin[6] = {in[0], n->out[1], in[1], in[2], in[3], dy};
    zs_tid out[4] = {fresh_if(c, in[0]), slot_if(c, in[1]), slot_if(c, in[2]), fresh_if(c, in[3])};
    int32_t i = zs_graph_append(c->g, ZS_OP_LAYERNORM_BWD, bin, out, &n->a);
    if (i < 0)
        return;
    zs_gnode b = c->g->n[i];
    zs_grad_add(c, in[0], b.out[0]);
    zs_grad_add(c, in[3], b.out[3]);
}

static void rule_gate(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    const zs_tid *in = n->in;
    zs_tid out[2] = {fresh_if(c, in[1]), fresh_if(c, in[2])};
    if (zs_grad_needed(c, in[1]) || zs_grad_needed(c, in[2])) {
        int32_t i = zs_graph_append(c->g, ZS_OP_GATE_BWD, (zs_tid[]){in[1], in[2], dy}, out, &n->a);
        if (i < 0)
            return;
        zs_gnode b = c->g->n[i];
        zs_grad_add(c, in[1], b.out[0]);
        zs_grad_add(c, in[2], b.out[1]);
    }
    zs_grad_add(c, in[0], dy);
}

static void rule_silu(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_SILU_BWD, (zs_tid[]){n->in[0], dy}, &n->a));
}

static void rule_gelu(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_GELU_BWD, (zs_tid[]){n->in[0], dy}, &n->a));
}

static void rule_add(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], dy);
    zs_grad_add(c, n->in[1], dy);
}

static void rule_scale1p(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_tid out[2] = {fresh_if(c, n->in[0]), fresh_if(c, n->in[1])};
    int32_t i =
        zs_graph_append(c->g, ZS_OP_SCALE1P_BWD, (zs_tid[]){n->in[0], n->in[1], dy}, out, &n->a);
    if (i < 0)
        return;
    zs_gnode b = c->g->n[i];
    zs_grad_add(c, n->in[0], b.out[0]);
    zs_grad_add(c, n->in[1], b.out[1]);
}

static void rule_attention(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_ATTENTION_BWD, (zs_tid[]){n->in[0], dy}, &n->a));
}

static void rule_tokens(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    const zs_tid *in = n->in;
    const zs_shape *x = &c->g->t[in[0]].shape;
    zs_attr a = {.len = zs_shape_rows(x) / x->d[0]};
    if (x->nd == 4) {
        a.h = x->d[1];
        a.w = x->d[2];
    }
    zs_tid out[3] = {fresh_if(c, in[0]), slot_if(c, in[1]), slot_if(c, in[2])};
    int32_t i = zs_graph_append(c->g, ZS_OP_TOKENS_BWD, &dy, out, &a);
    if (i >= 0)
        zs_grad_add(c, in[0], c->g->n[i].out[0]);
}

static void rule_take_row(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_attr a = {.offset = n->a.offset, .len = c->g->t[n->in[0]].shape.d[1]};
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_TAKE_ROW_BWD, &dy, &a));
}

static void rule_upsample2(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_DOWNSAMPLE2, &dy, &n->a));
}

static void rule_downsample2(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_UPSAMPLE2, &dy, &n->a));
}

static void rule_concat(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    int64_t offset = 0;
    for (int i = 0; i < 2; i++) {
        int64_t len = zs_shape_last(&c->g->t[n->in[i]].shape);
        if (zs_grad_needed(c, n->in[i]))
            zs_grad_add(c, n->in[i],
                        emit1(c, ZS_OP_SLICE, &dy, &(zs_attr){.offset = offset, .len = len}));
        offset += len;
    }
}

static void rule_mean_hw(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_shape s = c->g->t[n->in[0]].shape;
    zs_attr a = {.h = s.d[1], .w = s.d[2], .scale = (float)(1.0 / (double)(s.d[1] * s.d[2]))};
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_BROADCAST_HW, &dy, &a));
}

static void rule_embed(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_tid out[1] = {zs_grad_slot(c, n->in[1])};
    zs_attr a = {.len = c->g->t[n->in[1]].shape.d[0]};
    zs_graph_append(c->g, ZS_OP_EMBED_BWD, (zs_tid[]){n->in[0], dy}, out, &a);
}

static void rule_patches(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_UNPATCH, &dy, &n->a));
}

static void rule_unpatch(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_PATCHES, &dy, &n->a));
}

static void rule_substitute(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_tid out[2] = {fresh_if(c, n->in[0]), zs_grad_slot(c, n->in[1])};
    int32_t i = zs_graph_append(c->g, ZS_OP_SUBSTITUTE_BWD, (zs_tid[]){n->in[2], dy}, out, &n->a);
    if (i >= 0)
        zs_grad_add(c, n->in[0], c->g->n[i].out[0]);
}

/* The mask is a function of the stream id, so the same node applied to dy is the gradient. */
static void rule_dropout(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_DROPOUT, &dy, &n->a));
}

/* A loss is the root: its own gradient is 1 and dy is not used. */
static void rule_loss(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    (void)dy;
    if (zs_grad_needed(c, n->in[1]) || zs_grad_needed(c, n->in[2]))
        zs_graph_fail(c->g, ZS_E_INTERNAL,
                      "loss: neither target nor weights can depend on parameters");
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_LOSS_BWD, n->in, &n->a));
}

/* A root as well. */
static void rule_loss_vlb(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    (void)dy;
    for (int i = 1; i < 4; i++)
        if (zs_grad_needed(c, n->in[i]))
            zs_graph_fail(c->g, ZS_E_INTERNAL, "loss_vlb: only the network may be trained");
    zs_grad_add(c, n->in[0], emit1(c, ZS_OP_LOSS_VLB_BWD, n->in, &n->a));
}

typedef void (*grad_rule)(zs_grad_ctx *, const zs_gnode *, zs_tid);

#define RULE_GRAD(name) rule_##name
#define RULE_NOGRAD(name) NULL

void zs_grad_rule(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy)
{
    static const grad_rule rules[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) RULE_##gradient(name),
#include "tensor/ops.def"
#undef OP
    };
    if (!rules[n->op]) {
        zs_graph_fail(c->g, ZS_E_INTERNAL, "%s has no gradient", zs_op_name(n->op));
        return;
    }
    rules[n->op](c, n, dy);
}
