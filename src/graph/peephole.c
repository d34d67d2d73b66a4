/* SPDX-License-Identifier: MIT */
/* Small rewrites of the finished node list, and removal of what nobody reads. */
#include "graph/internal.h"

#include <string.h>

/* Keeps the nodes with keep[i], renumbering the producers of their outputs. */
static void compact(zs_graph *g, const bool *keep)
{
    size_t n = 0;
    for (size_t i = 0; i < g->nn; i++) {
        if (!keep[i])
            continue;
        g->n[n] = g->n[i];
        for (int k = 0; k < ZS_MAX_OUT; k++)
            if (g->n[n].out[k] >= 0 && g->t[g->n[n].out[k]].kind == ZS_KIND_ACT)
                g->t[g->n[n].out[k]].producer = (int32_t)n;
        n++;
    }
    g->nn = n;
}

/* A node is dead when it adds to no gradient and nobody reads its results. */
int zs_pass_dead(zs_graph *g)
{
    bool *live_t = zs_calloc(g->nt, sizeof *live_t), *live_n = zs_calloc(g->nn, sizeof *live_n);
    if (!live_t || !live_n) {
        zs_free(live_t);
        zs_free(live_n);
        return ZS_E_NOMEM;
    }
    for (size_t i = 0; i < g->n_outputs; i++)
        live_t[g->outputs[i].t] = true;
    for (size_t i = g->nn; i-- > 0;) {
        const zs_gnode *n = &g->n[i];
        for (int k = 0; k < ZS_MAX_OUT; k++)
            if (n->out[k] >= 0 && (live_t[n->out[k]] || g->t[n->out[k]].kind == ZS_KIND_GRAD))
                live_n[i] = true;
        for (int k = 0; live_n[i] && k < ZS_MAX_IN; k++)
            if (n->in[k] >= 0)
                live_t[n->in[k]] = true;
    }
    compact(g, live_n);
    zs_free(live_t);
    zs_free(live_n);
    return ZS_OK;
}

static bool made_before(const zs_graph *g, zs_tid t, int32_t node)
{
    return g->t[t].kind != ZS_KIND_ACT || g->t[t].producer < node;
}

/* add(conv(x), r) -> conv(x) + r in the convolution's epilogue, where nobody else reads conv(x) and
 * r exists by then. Gradients are not touched: the gradient of both forms is dy. */
static bool fold_add(zs_graph *g, size_t i, const int32_t *use, int side)
{
    zs_gnode *add = &g->n[i];
    zs_tid y = add->in[side], r = add->in[1 - side];
    if (g->t[y].kind != ZS_KIND_ACT || use[y] != 1 || y == r)
        return false;
    zs_gnode *conv = &g->n[g->t[y].producer];
    if (conv->op != ZS_OP_CONV2D || conv->in[3] >= 0 || conv->phase != add->phase ||
        conv->segment != add->segment || !made_before(g, r, g->t[y].producer))
        return false;
    conv->in[3] = r;
    conv->out[0] = add->out[0];
    g->t[add->out[0]].producer = g->t[y].producer;
    return true;
}

/* dropout(gn_act(x)) -> gn_act with p and the stream id, where nobody else reads gn_act(x). */
static bool fold_dropout(zs_graph *g, size_t i, const int32_t *use)
{
    zs_gnode *drop = &g->n[i];
    zs_tid y = drop->in[0];
    if (drop->op != ZS_OP_DROPOUT || g->t[y].kind != ZS_KIND_ACT || use[y] != 1)
        return false;
    zs_gnode *gn = &g->n[g->t[y].producer];
    if (gn->op != ZS_OP_GN_ACT || gn->out[0] != y || gn->a.p > 0.0f || gn->phase != drop->phase ||
        gn->segment != drop->segment)
        return false;
    gn->a.p = drop->a.p;
    gn->a.rng = drop->a.rng;
    gn->out[0] = drop->out[0];
    g->t[drop->out[0]].producer = g->t[y].producer;
    return true;
}

/* The same in the backward pass: gn_act_bwd of dropout(dy), read by nobody else. The dropout node
 * then has no reader. */
static void fold_dropout_bwd(zs_graph *g, zs_gnode *bwd, const int32_t *use)
{
    zs_tid dy = bwd->in[6];
    if (bwd->op != ZS_OP_GN_ACT_BWD || g->t[dy].kind != ZS_KIND_ACT || use[dy] != 1)
        return;
    const zs_gnode *drop = &g->n[g->t[dy].producer];
    if (drop->op != ZS_OP_DROPOUT || bwd->a.p > 0.0f)
        return;
    bwd->a.p = drop->a.p;
    bwd->a.rng = drop->a.rng;
    bwd->in[6] = drop->in[0];
}

int zs_pass_peephole(zs_graph *g)
{
    int32_t *use = zs_alloc(g->nt, sizeof *use);
    bool *keep = zs_alloc(g->nn, sizeof *keep);
    if (!use || !keep) {
        zs_free(use);
        zs_free(keep);
        return ZS_E_NOMEM;
    }
    zs_graph_count_uses(g, use);
    for (size_t i = 0; i < g->nn; i++) {
        keep[i] = g->n[i].op != ZS_OP_ADD || !(fold_add(g, i, use, 0) || fold_add(g, i, use, 1));
        keep[i] = keep[i] && !fold_dropout(g, i, use);
        fold_dropout_bwd(g, &g->n[i], use);
    }
    compact(g, keep);
    zs_free(use);
    zs_free(keep);
    return ZS_OK;
}
