/* SPDX-License-Identifier: MIT */
/* Reverse walk over the forward nodes; what each operation contributes is in gradients.c. */
#include "graph/internal.h"

bool zs_grad_needed(const zs_grad_ctx *c, zs_tid t)
{
    return t >= 0 && c->needs[t];
}

zs_tid zs_grad_slot(zs_grad_ctx *c, zs_tid param)
{
    zs_graph *g = c->g;
    if (param < 0 || g->err.status)
        return ZS_NONE;
    zs_gtensor p = g->t[param];
    if (p.kind != ZS_KIND_PARAM || !p.trainable) {
        zs_graph_fail(g, ZS_E_INTERNAL,
                      "a weight that needs a gradient is not a trainable parameter");
        return ZS_NONE;
    }
    if (p.grad != ZS_NONE)
        return p.grad;
    void *items = g->t;
    if (!zs_grow(&items, &g->cap_t, g->nt, sizeof *g->t)) {
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
        return ZS_NONE;
    }
    g->t = items;
    g->t[g->nt] = (zs_gtensor){.shape = p.shape,
                               .kind = ZS_KIND_GRAD,
                               .offset = p.offset,
                               .grad = ZS_NONE,
                               .producer = -1};
    g->t[param].grad = (zs_tid)g->nt;
    return (zs_tid)g->nt++;
}

void zs_grad_add(zs_grad_ctx *c, zs_tid t, zs_tid gradient)
{
    if (!zs_grad_needed(c, t) || gradient < 0)
        return;
    if (c->g->t[t].kind == ZS_KIND_PARAM) {
        zs_tid slot = zs_grad_slot(c, t);
        zs_graph_append(c->g, ZS_OP_ACCUMULATE, &gradient, &slot, &(zs_attr){0});
    } else if (c->grad_of[t] == ZS_NONE) {
        c->grad_of[t] = gradient;
    } else {
        c->grad_of[t] = zs_add(c->g, c->grad_of[t], gradient);
    }
}

/* A tensor needs a gradient when a trainable parameter reaches it. */
static void mark_needs(const zs_graph *g, bool *needs)
{
    for (size_t i = 0; i < g->nt; i++)
        needs[i] = g->t[i].kind == ZS_KIND_PARAM && g->t[i].trainable;
    for (size_t i = 0; i < g->nn; i++) {
        bool any = false;
        for (int k = 0; k < ZS_MAX_IN; k++)
            any = any || (g->n[i].in[k] >= 0 && needs[g->n[i].in[k]]);
        for (int k = 0; k < ZS_MAX_OUT; k++)
            if (g->n[i].out[k] >= 0)
                needs[g->n[i].out[k]] = any;
    }
}

static bool is_loss(const zs_graph *g, zs_tid t)
{
    if (t < 0 || g->t[t].producer < 0)
        return false;
    const zs_gnode *n = &g->n[g->t[t].producer];
    return (n->op == ZS_OP_LOSS || n->op == ZS_OP_LOSS_VLB) && n->out[0] == t;
}

void zs_graph_backward(zs_graph *g, zs_tid loss)
{
    if (g->err.status)
        return;
    if (!is_loss(g, loss)) {
        zs_graph_fail(g, ZS_E_INTERNAL, "the root of a backward pass must be a loss");
        return;
    }
    size_t nt = g->nt, nn = g->nn;
    zs_tid *grad_of = zs_alloc(nt, sizeof *grad_of);
    bool *needs = zs_alloc(nt, sizeof *needs);
    if (!grad_of || !needs) {
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while differentiating the graph");
    } else {
        for (size_t i = 0; i < nt; i++)
            grad_of[i] = ZS_NONE;
        mark_needs(g, needs);
        zs_grad_ctx c = {.g = g, .grad_of = grad_of, .needs = needs};
        g->phase = ZS_BWD;
        for (size_t i = nn; i-- > 0 && g->err.status == ZS_OK;) {
            zs_gnode n = g->n[i]; /* a copy: rules grow the array */
            zs_tid dy = grad_of[n.out[0]];
            if (needs[n.out[0]] && (dy != ZS_NONE || n.out[0] == loss))
                zs_grad_rule(&c, &n, dy);
        }
        g->phase = ZS_FWD;
    }
    zs_free(grad_of);
    zs_free(needs);
}
