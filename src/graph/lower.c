/* SPDX-License-Identifier: MIT */
/* Half precision: activations become ZS_BF16 as the slots of their producers say (ops.def), and a
 * cast stands wherever a tensor of one type meets a slot of the other. Inputs and outputs of the
 * graph stay ZS_F32. A tensor is cast at most once; all its readers of the other type share that.
 * Parameters need no cast: their half copy is there anyway (zs_buffers.shadow). */
#include "graph/internal.h"

typedef struct lowering {
    zs_graph *g; /* its node array is being rebuilt */
    zs_gnode *old;
    size_t n_old, nt; /* nodes and tensors before the pass */
    /* per old tensor */
    int32_t *first; /* first reader of the other type, n_old for an output of the graph; -1: none */
    int32_t *last;  /* last reader of its own type; -1: none */
    zs_tid *twin;   /* the tensor in the other type, or ZS_NONE */
    zs_tid *next;   /* the next tensor that is cast at the same place */
    zs_tid *head;   /* per old node, and one for the end: first tensor to be cast before it */
} lowering;

zs_dtype zs_slot_type(zs_op op, int k)
{
    return zs_op_in(op, k) == ZS_SLOT_F32 ? ZS_F32 : ZS_BF16;
}

static bool casts(const zs_gtensor *t)
{
    return t->kind == ZS_KIND_ACT || t->kind == ZS_KIND_INPUT;
}

static void set_types(const lowering *l)
{
    for (size_t i = 0; i < l->n_old; i++)
        for (int k = 0; k < zs_op_outputs(l->old[i].op); k++) {
            zs_tid t = l->old[i].out[k];
            if (t >= 0 && l->g->t[t].kind == ZS_KIND_ACT)
                l->g->t[t].type = zs_op_out(l->old[i].op, k) == ZS_SLOT_F32 ? ZS_F32 : ZS_BF16;
        }
}

static void note_reader(const lowering *l, zs_tid t, zs_dtype wanted, int32_t at)
{
    if (wanted == l->g->t[t].type)
        l->last[t] = at;
    else if (l->first[t] < 0)
        l->first[t] = at;
}

static void find_readers(const lowering *l)
{
    for (size_t i = 0; i < l->n_old; i++)
        for (int k = 0; k < zs_op_inputs(l->old[i].op); k++) {
            zs_tid t = l->old[i].in[k];
            if (t >= 0 && casts(&l->g->t[t]))
                note_reader(l, t, zs_slot_type(l->old[i].op, k), (int32_t)i);
        }
    for (size_t i = 0; i < l->g->n_outputs; i++)
        note_reader(l, l->g->outputs[i].t, ZS_F32, (int32_t)l->n_old);
}

/* Before which node tensor t is cast: right behind its producer, or right before the first reader
 * of the result. Early keeps the result for longer, late keeps t itself, unless it is there anyway;
 * bytes times nodes decide. */
static size_t place_of(const lowering *l, zs_tid t)
{
    const zs_gtensor *x = &l->g->t[t];
    if (x->kind == ZS_KIND_INPUT) /* there during the whole run */
        return (size_t)l->first[t];
    bool half = x->type == ZS_BF16;
    int64_t made = x->producer, read = l->first[t], held = l->last[t] > made ? l->last[t] : made;
    int64_t early = (half ? 4 : 2) * (read - made);
    int64_t late = read > held ? (half ? 2 : 4) * (read - held) : 0;
    return (size_t)(early < late ? made + 1 : read);
}

static bool emit_casts(lowering *l, size_t at, zs_phase phase)
{
    for (zs_tid t = l->head[at]; t != ZS_NONE; t = l->next[t]) {
        zs_tid y = zs_graph_twin(l->g, t);
        if (y == ZS_NONE)
            return false;
        zs_gtensor *twin = &l->g->t[y];
        twin->kind = ZS_KIND_ACT;
        twin->name = NULL; /* an input keeps its own */
        twin->type = l->g->t[t].type == ZS_F32 ? ZS_BF16 : ZS_F32;
        zs_gnode n = {.op = ZS_OP_CAST, .phase = phase, .a = {.kind = (int)twin->type}};
        for (int k = 0; k < ZS_MAX_IN; k++)
            n.in[k] = k ? ZS_NONE : t;
        for (int k = 0; k < ZS_MAX_OUT; k++)
            n.out[k] = k ? ZS_NONE : y;
        l->twin[t] = y;
        if (!zs_graph_push(l->g, &n))
            return false;
    }
    return true;
}

static bool rebuild(lowering *l)
{
    zs_phase phase = ZS_FWD;
    for (size_t i = 0; i < l->n_old; i++) {
        zs_gnode n = l->old[i];
        phase = n.phase;
        if (!emit_casts(l, i, phase))
            return false;
        for (int k = 0; k < zs_op_inputs(n.op); k++) {
            zs_tid t = n.in[k];
            if (t >= 0 && casts(&l->g->t[t]) && l->g->t[t].type != zs_slot_type(n.op, k))
                n.in[k] = l->twin[t];
        }
        if (!zs_graph_push(l->g, &n))
            return false;
    }
    return emit_casts(l, l->n_old, phase);
}

static void plan_casts(lowering *l)
{
    for (size_t i = 0; i <= l->n_old; i++)
        l->head[i] = ZS_NONE;
    for (size_t t = 0; t < l->nt; t++) {
        l->first[t] = l->last[t] = -1;
        l->twin[t] = ZS_NONE;
    }
    set_types(l);
    find_readers(l);
    for (size_t t = l->nt; t-- > 0;) {
        if (l->first[t] < 0)
            continue;
        size_t at = place_of(l, (zs_tid)t);
        l->next[t] = l->head[at];
        l->head[at] = (zs_tid)t;
    }
}

static bool lower(lowering *l)
{
    zs_graph *g = l->g;
    plan_casts(l);
    g->n = NULL;
    g->nn = g->cap_n = 0;
    if (!rebuild(l))
        return false;
    for (size_t i = 0; i < g->n_outputs; i++)
        if (g->t[g->outputs[i].t].type == ZS_BF16)
            g->outputs[i].t = l->twin[g->outputs[i].t];
    zs_graph_set_producers(g);
    return true;
}

int zs_pass_lower(zs_graph *g)
{
    lowering l = {.g = g, .old = g->n, .n_old = g->nn, .nt = g->nt};
    l.first = zs_alloc(g->nt + 1, sizeof *l.first);
    l.last = zs_alloc(g->nt + 1, sizeof *l.last);
    l.twin = zs_alloc(g->nt + 1, sizeof *l.twin);
    l.next = zs_alloc(g->nt + 1, sizeof *l.next);
    l.head = zs_alloc(g->nn + 1, sizeof *l.head);
    bool ok = l.first && l.last && l.twin && l.next && l.head;
    if (ok) {
        ok = lower(&l);
        zs_free(l.old);
    }
    zs_free(l.first);
    zs_free(l.last);
    zs_free(l.twin);
    zs_free(l.next);
    zs_free(l.head);
    return ok ? ZS_OK : ZS_E_NOMEM;
}
