/* SPDX-License-Identifier: MIT */
/* The builder of each forward operation: attributes in, node appended, result out. */
#include "graph/internal.h"

/* Appends a node whose outputs are all new and returns the first. */
static zs_tid emit(zs_graph *g, zs_op op, const zs_tid *in, const zs_attr *a)
{
    static const zs_tid fresh[ZS_MAX_OUT] = {ZS_NEW, ZS_NEW, ZS_NEW, ZS_NEW, ZS_NEW};
    int32_t i = zs_graph_append(g, op, in, fresh, a);
    return i < 0 ? ZS_NONE : g->n[i].out[0];
}

zs_tid zs_conv2d(zs_graph *g, zs_tid x, zs_tid w, zs_tid b, zs_tid residual, int stride, int pad)
{
    int k = w < 0 ? 0 : (int)g->t[w].shape.d[0];
    return emit(g, ZS_OP_CONV2D, (zs_tid[]){x, w, b, residual},
                &(zs_attr){.k = k, .stride = stride, .pad = pad});
}

zs_tid zs_conv2d_tail(zs_graph *g, zs_tid x, zs_tid w, zs_tid b, int stride, int tail)
{
    int k = w < 0 ? 0 : (int)g->t[w].shape.d[0];
    return emit(g, ZS_OP_CONV2D, (zs_tid[]){x, w, b, ZS_NONE},
                &(zs_attr){.k = k, .stride = stride, .tail = tail});
}

zs_tid zs_conv_relu(zs_graph *g, zs_tid x, zs_tid w, zs_tid b, int stride, int pad_h, int pad_w)
{
    return emit(g, ZS_OP_CONV_RELU, (zs_tid[]){x, w, b},
                &(zs_attr){.stride = stride, .pad = pad_h, .pad_w = pad_w});
}

zs_tid zs_pool(zs_graph *g, zs_tid x, zs_pool_kind kind, int k, int stride, int pad)
{
    return emit(g, ZS_OP_POOL, &x,
                &(zs_attr){.kind = (int)kind, .k = k, .stride = stride, .pad = pad});
}

zs_tid zs_linear(zs_graph *g, zs_tid x, zs_tid w, zs_tid b)
{
    return emit(g, ZS_OP_LINEAR, (zs_tid[]){x, w, b}, &(zs_attr){0});
}

zs_tid zs_gn_act(zs_graph *g, zs_tid x, zs_tid gamma, zs_tid beta, zs_tid scale_shift,
                 zs_tid cond_scale, int groups, float eps, zs_act act)
{
    return emit(g, ZS_OP_GN_ACT, (zs_tid[]){x, gamma, beta, scale_shift, cond_scale},
                &(zs_attr){.groups = groups, .eps = eps, .act = (int)act});
}

zs_tid zs_layernorm(zs_graph *g, zs_tid x, zs_tid gamma, zs_tid beta, float eps)
{
    return zs_layernorm_mod(g, x, gamma, beta, ZS_NONE, 0, eps);
}

zs_tid zs_layernorm_mod(zs_graph *g, zs_tid x, zs_tid gamma, zs_tid beta, zs_tid ss, int64_t offset,
                        float eps)
{
    return emit(g, ZS_OP_LAYERNORM, (zs_tid[]){x, gamma, beta, ss},
                &(zs_attr){.eps = eps, .offset = offset});
}

zs_tid zs_gate(zs_graph *g, zs_tid x, zs_tid f, zs_tid gates, int64_t offset)
{
    return emit(g, ZS_OP_GATE, (zs_tid[]){x, f, gates}, &(zs_attr){.offset = offset});
}

zs_tid zs_silu(zs_graph *g, zs_tid x)
{
    return emit(g, ZS_OP_SILU, &x, &(zs_attr){0});
}

zs_tid zs_gelu(zs_graph *g, zs_tid x)
{
    return emit(g, ZS_OP_GELU, &x, &(zs_attr){.kind = ZS_GELU_EXACT});
}

zs_tid zs_gelu_tanh(zs_graph *g, zs_tid x)
{
    return emit(g, ZS_OP_GELU, &x, &(zs_attr){.kind = ZS_GELU_TANH});
}

zs_tid zs_add(zs_graph *g, zs_tid a, zs_tid b)
{
    return emit(g, ZS_OP_ADD, (zs_tid[]){a, b}, &(zs_attr){0});
}

zs_tid zs_scale1p(zs_graph *g, zs_tid x, zs_tid s)
{
    return emit(g, ZS_OP_SCALE1P, (zs_tid[]){x, s}, &(zs_attr){0});
}

zs_tid zs_attention(zs_graph *g, zs_tid qkv, int heads)
{
    return emit(g, ZS_OP_ATTENTION, &qkv, &(zs_attr){.heads = heads, .kind = ZS_QKV_BY_HEAD});
}

zs_tid zs_attention_by_part(zs_graph *g, zs_tid qkv, int heads)
{
    return emit(g, ZS_OP_ATTENTION, &qkv, &(zs_attr){.heads = heads, .kind = ZS_QKV_BY_PART});
}

zs_tid zs_tokens(zs_graph *g, zs_tid x, zs_tid first, zs_tid table)
{
    return emit(g, ZS_OP_TOKENS, (zs_tid[]){x, first, table}, &(zs_attr){0});
}

zs_tid zs_take_row(zs_graph *g, zs_tid x, int64_t row)
{
    return emit(g, ZS_OP_TAKE_ROW, &x, &(zs_attr){.offset = row});
}

zs_tid zs_batchnorm(zs_graph *g, zs_tid x, zs_tid mean, zs_tid var, zs_tid gamma, zs_tid beta,
                    float eps, zs_act act)
{
    return emit(g, ZS_OP_BATCHNORM, (zs_tid[]){x, mean, var, gamma, beta},
                &(zs_attr){.eps = eps, .act = (int)act});
}

zs_tid zs_upsample2(zs_graph *g, zs_tid x)
{
    return emit(g, ZS_OP_UPSAMPLE2, &x, &(zs_attr){.scale = 1.0f});
}

zs_tid zs_downsample2(zs_graph *g, zs_tid x)
{
    return emit(g, ZS_OP_DOWNSAMPLE2, &x, &(zs_attr){.scale = 0.25f});
}

zs_tid zs_concat(zs_graph *g, zs_tid a, zs_tid b)
{
    return emit(g, ZS_OP_CONCAT, (zs_tid[]){a, b}, &(zs_attr){0});
}

zs_tid zs_mean_hw(zs_graph *g, zs_tid x)
{
    return emit(g, ZS_OP_MEAN_HW, &x, &(zs_attr){0});
}

zs_tid zs_timestep(zs_graph *g, zs_tid t, int64_t dim)
{
    return emit(g, ZS_OP_TIMESTEP, &t, &(zs_attr){.len = dim});
}

zs_tid zs_embed(zs_graph *g, zs_tid index, zs_tid table)
{
    return emit(g, ZS_OP_EMBED, (zs_tid[]){index, table}, &(zs_attr){0});
}

zs_tid zs_patches(zs_graph *g, zs_tid x, int k)
{
    zs_shape s = zs_graph_shape(g, x);
    zs_attr a = {.k = k};
    if (s.nd == 4 && k > 0) {
        a.h = s.d[1] / k;
        a.w = s.d[2] / k;
    }
    return emit(g, ZS_OP_PATCHES, &x, &a);
}

zs_tid zs_unpatch(zs_graph *g, zs_tid x, int k, int64_t h, int64_t w)
{
    return emit(g, ZS_OP_UNPATCH, &x, &(zs_attr){.k = k, .h = h, .w = w});
}

zs_tid zs_substitute(zs_graph *g, zs_tid x, zs_tid row, zs_tid mask)
{
    return emit(g, ZS_OP_SUBSTITUTE, (zs_tid[]){x, row, mask}, &(zs_attr){0});
}

zs_tid zs_dropout(zs_graph *g, zs_tid x, float p)
{
    if (p == 0.0f)
        return x;
    return emit(g, ZS_OP_DROPOUT, &x, &(zs_attr){.p = p, .rng = g->next_rng++});
}

zs_tid zs_loss_node(zs_graph *g, zs_tid pred, zs_tid target, zs_tid weights, zs_loss kind)
{
    return emit(g, ZS_OP_LOSS, (zs_tid[]){pred, target, weights}, &(zs_attr){.kind = (int)kind});
}

zs_tid zs_loss_vlb(zs_graph *g, zs_tid *parts, zs_tid out, zs_tid noise, zs_tid x0, zs_tid steps)
{
    zs_tid loss = emit(g, ZS_OP_LOSS_VLB, (zs_tid[]){out, noise, x0, steps}, &(zs_attr){0});
    if (parts)
        *parts = loss < 0 ? ZS_NONE : g->n[g->t[loss].producer].out[1];
    return loss;
}
