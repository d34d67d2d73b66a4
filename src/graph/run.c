/* SPDX-License-Identifier: MIT */
/* Runs of a plan: its calls bound to buffers, then one node after the other. */
#include "graph/exec_impl.h"

#include <string.h>

static const zs_packer *packer_of(const zs_exec *e, zs_op op)
{
    return e->backend->packer ? e->backend->packer(op) : NULL;
}

static bool in_arena(const zs_gtensor *t)
{
    return t->kind == ZS_KIND_INPUT || t->kind == ZS_KIND_ACT;
}

/* Where a view of this type finds tensor t. */
static float *address(const zs_exec *e, zs_tid t, zs_dtype type)
{
    const zs_gtensor *x = &e->g->t[t];
    if (in_arena(x))
        return (float *)(void *)(e->arena + e->pl[t].offset);
    if (x->kind == ZS_KIND_GRAD)
        return e->b.grads ? e->b.grads + x->offset : NULL;
    if (type == ZS_BF16)
        return e->b.shadow ? (float *)(void *)(e->b.shadow + x->offset) : NULL;
    return e->b.params ? e->b.params + x->offset : NULL;
}

static void bind(zs_exec *e, const zs_buffers *b)
{
    e->b = *b;
    for (size_t i = 0; i < e->g->nn; i++) {
        const zs_gnode *n = &e->g->n[i];
        zs_call *c = &e->calls[i];
        for (int k = 0; k < ZS_MAX_IN; k++)
            c->in[k].p = n->in[k] >= 0 ? address(e, n->in[k], c->in[k].type) : NULL;
        for (int k = 0; k < ZS_MAX_OUT; k++)
            c->out[k].p = n->out[k] >= 0 ? address(e, n->out[k], c->out[k].type) : NULL;
        c->ws = e->arena + e->pl[e->g->nt + i].offset;
    }
}

/* Poison: bytes of NaN where no live tensor is, so that reading one too early or too late shows. */
static int poison(zs_exec *e, int32_t position, bool before, zs_error *err)
{
    int status = ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < e->g->nt + e->g->nn; i++) {
        const zs_placement *p = &e->pl[i];
        bool input = i < e->g->nt && e->g->t[i].kind == ZS_KIND_INPUT;
        if (input || !p->bytes || (before ? p->first : p->last) != position)
            continue;
        if (e->far)
            status = zs_far_poison(e, p->offset, p->bytes, err);
        else
            memset(e->arena + p->offset, 0xFF, p->bytes);
    }
    return status;
}

static int check_run(const zs_exec *e, zs_error *err)
{
    bool half = e->backend->bf16;
    for (size_t i = 0; i < e->g->nt; i++) {
        const zs_gtensor *t = &e->g->t[i];
        if ((t->kind == ZS_KIND_PARAM && (!e->b.params || (half && !e->b.shadow))) ||
            (t->kind == ZS_KIND_GRAD && !e->b.grads))
            return zs_fail(err, ZS_E_INTERNAL,
                           "a graph was run without its parameter or gradient buffer");
    }
    if (zs_threads_count() > e->threads)
        return zs_fail(
            err, ZS_E_INVALID,
            "the thread count was raised from %d to %d after a plan was made; set it first",
            e->threads, zs_threads_count());
    return ZS_OK;
}

int zs_exec_fetch_packed(zs_exec *e, size_t i, zs_error *err)
{
    zs_call *c = &e->calls[i];
    const zs_packer *packer = packer_of(e, e->g->n[i].op);
    c->packed = NULL; /* while it is being made */
    c->packed = zs_packs_get(e->packs, e->pack[i], packer, c, e->b.params, e->weights);
    if (c->packed && (e->flags & ZS_EXEC_POISON) &&
        !zs_packs_fresh(e->packs, e->pack[i], packer, c))
        return zs_fail(err, ZS_E_INTERNAL,
                       "node %zu: the weights were written after their packed form was made", i);
    return ZS_OK;
}

/* With a hook each node of a remote backend is waited for: its time is its own then, and its
 * results can be looked at. */
static int run_hooked(zs_exec *e, size_t i, zs_error *err)
{
    const zs_remote *r = e->backend->remote;
    zs_op op = e->g->n[i].op;
    int status = r ? r->sync(err) : ZS_OK;
    double start = zs_clock_now();
    e->backend->kernel(op)->run(&e->calls[i]);
    if (r && status == ZS_OK)
        status = r->sync(err);
    if (status == ZS_OK)
        e->hook(e->hook_ctx, i, op, &e->calls[i], zs_clock_now() - start);
    return status;
}

int zs_exec_run_nodes(zs_exec *e, const zs_step *step, zs_error *err)
{
    bool poisons = e->flags & ZS_EXEC_POISON;
    int status = ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < e->g->nn; i++) {
        zs_call *c = &e->calls[i];
        c->step = step;
        if (poisons)
            status = poison(e, (int32_t)i, true, err);
        if (status == ZS_OK && e->pack && e->pack[i] && !e->far)
            status = zs_exec_fetch_packed(e, i, err);
        if (status < 0)
            return status;
        if (e->hook)
            status = run_hooked(e, i, err);
        else
            e->backend->kernel(e->g->n[i].op)->run(c);
        if (e->ready)
            zs_ready_after(e->ready, i);
        if (poisons && status == ZS_OK)
            status = poison(e, (int32_t)i, false, err);
    }
    return status;
}

int zs_exec_start(zs_exec *e, const zs_buffers *b, const zs_step *step, zs_error *err)
{
    bool moved = e->b.params != b->params || e->b.grads != b->grads || e->b.shadow != b->shadow;
    bind(e, b);
    e->weights = step->weights;
    int status = check_run(e, err);
    if (status < 0)
        return status;
    return e->far ? zs_far_start(e, step, moved, err) : zs_exec_run_nodes(e, step, err);
}

int zs_exec_wait(zs_exec *e, zs_error *err)
{
    return e->far ? zs_far_wait(e, err) : ZS_OK;
}

int zs_exec_run_with(zs_exec *e, const zs_buffers *b, const zs_step *step, zs_error *err)
{
    int status = zs_exec_start(e, b, step, err);
    return status == ZS_OK ? zs_exec_wait(e, err) : status;
}

int zs_exec_run(zs_exec *e, float *params, float *grads, const zs_step *step, zs_error *err)
{
    return zs_exec_run_with(e, &(zs_buffers){.params = params, .grads = grads}, step, err);
}

static zs_tid find_named(const zs_exec *e, const char *name, bool input)
{
    const zs_graph *g = e->g;
    for (const zs_tid *t = e->inputs; input && *t >= 0; t++)
        if (strcmp(g->t[*t].name, name) == 0)
            return *t;
    for (size_t i = 0; !input && i < g->n_outputs; i++)
        if (strcmp(g->outputs[i].name, name) == 0)
            return g->outputs[i].t;
    return ZS_NONE;
}

float *zs_exec_input(zs_exec *e, const char *name)
{
    zs_tid t = find_named(e, name, true);
    return t < 0 ? NULL : e->far ? zs_far_input(e, t) : address(e, t, ZS_F32);
}

const float *zs_exec_output(const zs_exec *e, const char *name)
{
    zs_tid t = find_named(e, name, false);
    return t < 0 ? NULL : e->far ? zs_far_output(e, t) : address(e, t, ZS_F32);
}

zs_shape zs_exec_shape(const zs_exec *e, const char *name)
{
    zs_tid t = find_named(e, name, true);
    if (t < 0)
        t = find_named(e, name, false);
    return zs_graph_shape(e->g, t);
}

size_t zs_exec_arena_bytes(const zs_exec *e)
{
    return e->arena_bytes;
}

int zs_exec_watch(zs_exec *e, const zs_ready_config *c, zs_error *err)
{
    zs_ready_free(&e->ready);
    return zs_ready_new(&e->ready, e->g, c, err);
}
