/* SPDX-License-Identifier: MIT */
/* Recompute: tensors that do not leave their segment are dropped after the forward pass and built
 * again by clones of the segment's nodes just before the backward pass first reads one. Clones keep
 * their attributes, the random stream id among them, so they give the same bits.
 *
 * Outside of segments only norms are recomputed: what they read is kept for their gradient in any
 * case, and they cost little more than reading what they would have kept. */
#include "graph/internal.h"

#include <string.h>

typedef struct remat {
    zs_graph *g;   /* its node array is being rebuilt */
    zs_gnode *old; /* the nodes before the pass */
    size_t n_old;
    bool *kept;  /* per old tensor: stays as it is */
    zs_tid *map; /* per old tensor: its recomputed twin, or itself */
    bool *done;  /* per segment: clones exist */
} remat;

/* A tensor is kept when it is no forward activation of a segment, when a forward node outside the
 * segment reads it, or when it is an output of the graph. */
static void mark_kept(remat *r)
{
    zs_graph *g = r->g;
    for (size_t i = 0; i < g->nt; i++) {
        const zs_gtensor *t = &g->t[i];
        const zs_gnode *p = t->kind == ZS_KIND_ACT ? &r->old[t->producer] : NULL;
        r->kept[i] = !p || p->phase != ZS_FWD || p->segment == 0;
        r->map[i] = (zs_tid)i;
    }
    for (size_t i = 0; i < r->n_old; i++)
        for (int k = 0; k < ZS_MAX_IN; k++) {
            zs_tid t = r->old[i].in[k];
            if (t >= 0 && !r->kept[t] && r->old[i].phase == ZS_FWD &&
                r->old[i].segment != r->old[g->t[t].producer].segment)
                r->kept[t] = true;
        }
    for (size_t i = 0; i < g->n_outputs; i++)
        r->kept[g->outputs[i].t] = true;
}

static bool clone_outputs(remat *r, zs_gnode *n)
{
    for (int k = 0; k < ZS_MAX_OUT; k++) {
        zs_tid t = n->out[k];
        if (t < 0)
            continue;
        void *items = r->g->t;
        if (!zs_grow(&items, &r->g->cap_t, r->g->nt, sizeof *r->g->t))
            return false;
        r->g->t = items;
        zs_gtensor twin = r->g->t[t];
        twin.producer = (int32_t)r->g->nn;
        n->out[k] = (zs_tid)r->g->nt;
        r->g->t[r->g->nt++] = twin;
        if (!r->kept[t])
            r->map[t] = n->out[k];
    }
    return true;
}

static bool clone_segment(remat *r, int32_t segment)
{
    r->done[segment] = true;
    for (size_t i = 0; i < r->n_old; i++) {
        if (r->old[i].segment != segment || r->old[i].phase != ZS_FWD)
            continue;
        zs_gnode n = r->old[i];
        n.phase = ZS_RECOMP;
        for (int k = 0; k < ZS_MAX_IN; k++)
            if (n.in[k] >= 0)
                n.in[k] = r->map[n.in[k]];
        if (!clone_outputs(r, &n) || !zs_graph_push(r->g, &n))
            return false;
    }
    return true;
}

static bool rebuild(remat *r)
{
    for (size_t i = 0; i < r->n_old; i++) {
        zs_gnode n = r->old[i];
        for (int k = 0; n.phase == ZS_BWD && k < ZS_MAX_IN; k++) {
            zs_tid t = n.in[k];
            if (t < 0 || r->kept[t])
                continue;
            int32_t s = r->old[r->g->t[t].producer].segment;
            if (!r->done[s] && !clone_segment(r, s))
                return false;
            n.in[k] = r->map[t];
        }
        for (int k = 0; k < ZS_MAX_OUT; k++)
            if (n.out[k] >= 0 && r->g->t[n.out[k]].kind == ZS_KIND_ACT && n.phase != ZS_FWD)
                r->g->t[n.out[k]].producer = (int32_t)r->g->nn;
        if (!zs_graph_push(r->g, &n))
            return false;
    }
    return true;
}

int zs_pass_recompute(zs_graph *g)
{
    remat r = {.g = g, .old = g->n, .n_old = g->nn};
    size_t nt = g->nt;
    r.kept = zs_calloc(nt, sizeof *r.kept);
    r.map = zs_calloc(nt, sizeof *r.map);
    r.done = zs_calloc((size_t)g->segments + 1, sizeof *r.done);
    bool ok = r.kept && r.map && r.done;
    if (ok) {
        mark_kept(&r);
        g->n = NULL;
        g->nn = g->cap_n = 0;
        ok = rebuild(&r);
        zs_free(r.old);
    }
    zs_free(r.kept);
    zs_free(r.map);
    zs_free(r.done);
    return ok ? ZS_OK : ZS_E_NOMEM;
}

/* ---- norms ---- */

typedef struct renorm {
    zs_graph *g;
    zs_tid *twin; /* per old tensor: its recomputed one, or ZS_NONE */
    bool *norm;   /* per old tensor: the result of a forward norm, and no output of the graph */
} renorm;

static void mark_norms(renorm *r, const zs_gnode *old, size_t n_old)
{
    for (size_t i = 0; i < n_old; i++)
        if (old[i].op == ZS_OP_GN_ACT && old[i].phase == ZS_FWD)
            r->norm[old[i].out[0]] = true;
    for (size_t i = 0; i < r->g->n_outputs; i++)
        r->norm[r->g->outputs[i].t] = false;
}

static bool clone_norm(renorm *r, const zs_gnode *norm)
{
    zs_gnode n = *norm;
    n.phase = ZS_RECOMP;
    for (int k = 0; k < ZS_MAX_OUT; k++)
        if (n.out[k] >= 0 && (n.out[k] = zs_graph_twin(r->g, n.out[k])) == ZS_NONE)
            return false;
    r->twin[norm->out[0]] = n.out[0];
    return zs_graph_push(r->g, &n);
}

/* The nodes again, each norm before the first node of the backward pass that reads it. */
static bool rebuild_norms(renorm *r, const zs_gnode *old, size_t n_old)
{
    for (size_t i = 0; i < n_old; i++) {
        zs_gnode n = old[i];
        for (int k = 0; n.phase == ZS_BWD && k < ZS_MAX_IN; k++) {
            zs_tid t = n.in[k];
            if (t < 0 || !r->norm[t])
                continue;
            if (r->twin[t] == ZS_NONE && !clone_norm(r, &old[r->g->t[t].producer]))
                return false;
            n.in[k] = r->twin[t];
        }
        if (!zs_graph_push(r->g, &n))
            return false;
    }
    return true;
}

int zs_pass_renorm(zs_graph *g)
{
    renorm r = {.g = g};
    zs_gnode *old = g->n;
    size_t n_old = g->nn, nt = g->nt;
    r.twin = zs_alloc(nt, sizeof *r.twin);
    r.norm = zs_calloc(nt, sizeof *r.norm);
    bool ok = r.twin && r.norm;
    if (ok) {
        for (size_t i = 0; i < nt; i++)
            r.twin[i] = ZS_NONE;
        mark_norms(&r, old, n_old);
        g->n = NULL;
        g->nn = g->cap_n = 0;
        ok = rebuild_norms(&r, old, n_old);
        zs_graph_set_producers(g);
        zs_free(old);
    }
    zs_free(r.twin);
    zs_free(r.norm);
    return ok ? ZS_OK : ZS_E_NOMEM;
}
