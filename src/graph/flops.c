/* SPDX-License-Identifier: MIT */
/* How much arithmetic a graph is: the operations that dominate, by their shapes. */
#include "graph/internal.h"

static double numel(const zs_view *v)
{
    return (double)zs_shape_numel(&v->s);
}

static double rows(const zs_view *v)
{
    return (double)zs_shape_rows(&v->s);
}

/* Scores and mixing: two products of [S,d] with [S,S] per head and sample; qkv is [N,...,3C]. */
static double attention(const zs_view *qkv)
{
    const zs_shape *s = &qkv->s;
    double positions = rows(qkv) / (double)s->d[0];
    return 4 * (double)s->d[0] * positions * positions * (double)zs_shape_last(s) / 3;
}

double zs_call_flops(zs_op op, const zs_call *c)
{
    switch (op) {
    case ZS_OP_CONV2D:
    case ZS_OP_CONV_RELU:
    case ZS_OP_LINEAR: return 2 * rows(&c->out[0]) * numel(&c->in[1]);
    case ZS_OP_CONV2D_DX:
    case ZS_OP_LINEAR_DX: return 2 * rows(&c->in[0]) * numel(&c->in[1]);
    case ZS_OP_CONV2D_DW:
    case ZS_OP_LINEAR_DW: return 2 * rows(&c->in[1]) * numel(&c->out[0]);
    case ZS_OP_ATTENTION: return attention(&c->in[0]);
    case ZS_OP_ATTENTION_BWD: return 2.5 * attention(&c->in[0]);
    default: return 0;
    }
}

static double node_flops(const zs_graph *g, const zs_gnode *n)
{
    zs_call c = {0};
    for (int k = 0; k < ZS_MAX_IN; k++)
        if (n->in[k] >= 0)
            c.in[k].s = g->t[n->in[k]].shape;
    for (int k = 0; k < ZS_MAX_OUT; k++)
        if (n->out[k] >= 0)
            c.out[k].s = g->t[n->out[k]].shape;
    return zs_call_flops(n->op, &c);
}

double zs_graph_flops(const zs_graph *g)
{
    double sum = 0;
    for (size_t i = 0; i < g->nn; i++)
        sum += node_flops(g, &g->n[i]);
    return sum;
}
