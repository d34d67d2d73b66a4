/* SPDX-License-Identifier: MIT */
/* How much arithmetic a graph is: the operations that dominate, by their shapes. */
#include "graph/internal.h"

static double numel(const zs_graph *g, zs_tid t)
{
    return t < 0 ? 0 : (double)zs_shape_numel(&g->t[t].shape);
}

static double rows(const zs_graph *g, zs_tid t)
{
    return t < 0 ? 0 : (double)zs_shape_rows(&g->t[t].shape);
}

/* Scores and mixing: two products of [S,d] with [S,S] per head and sample; x is [N,H,W,..]. */
static double attention(const zs_graph *g, zs_tid x, double channels)
{
    const zs_shape *s = &g->t[x].shape;
    double positions = (double)(s->d[1] * s->d[2]);
    return 4 * (double)s->d[0] * positions * positions * channels;
}

static double node_flops(const zs_graph *g, const zs_gnode *n)
{
    switch (n->op) {
    case ZS_OP_CONV2D:
    case ZS_OP_LINEAR: return 2 * rows(g, n->out[0]) * numel(g, n->in[1]);
    case ZS_OP_CONV2D_DX:
    case ZS_OP_LINEAR_DX: return 2 * rows(g, n->in[0]) * numel(g, n->in[1]);
    case ZS_OP_CONV2D_DW:
    case ZS_OP_LINEAR_DW: return 2 * rows(g, n->in[1]) * numel(g, n->out[0]);
    case ZS_OP_ATTENTION:
        return attention(g, n->in[0], (double)zs_shape_last(&g->t[n->in[0]].shape) / 3);
    case ZS_OP_ATTENTION_BWD:
        return 2.5 * attention(g, n->in[0], (double)zs_shape_last(&g->t[n->in[0]].shape) / 3);
    default: return 0;
    }
}

double zs_graph_flops(const zs_graph *g)
{
    double sum = 0;
    for (size_t i = 0; i < g->nn; i++)
        sum += node_flops(g, &g->n[i]);
    return sum;
}
