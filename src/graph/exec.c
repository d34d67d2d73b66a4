/* SPDX-License-Identifier: MIT */
/* The immutable plan of one graph: offsets once, then runs. */
#include "graph/exec_impl.h"

#include <stdlib.h>
#include <string.h>

void zs_exec_free(zs_exec **e)
{
    if (!*e)
        return;
    zs_far_free(*e);
    if ((*e)->arena)
        (*e)->backend->release((*e)->arena, (*e)->arena_bytes);
    for (size_t i = 0; (*e)->pack && i < (*e)->g->nn; i++)
        if ((*e)->pack[i])
            zs_packs_drop((*e)->packs, (*e)->pack[i]);
    zs_ready_free(&(*e)->ready);
    zs_free((*e)->pack);
    zs_free((*e)->inputs);
    zs_free((*e)->calls);
    zs_free((*e)->pl);
    zs_graph_free(&(*e)->g);
    zs_free(*e);
    *e = NULL;
}

size_t zs_exec_tensor_bytes(const zs_gtensor *t)
{
    return (size_t)zs_shape_numel(&t->shape) * zs_dtype_size(t->type);
}

static int finish_graph(zs_graph *g, unsigned flags, bool bf16, zs_error *err)
{
    int status = g->err.status;
    if (status)
        return zs_fail(err, status, "%s", g->err.message);
    if (flags & ZS_EXEC_RECOMPUTE)
        status = zs_pass_recompute(g);
    if (status == ZS_OK && !(flags & ZS_EXEC_NO_PEEPHOLE))
        status = zs_pass_peephole(g);
    if (status == ZS_OK)
        status = zs_pass_dead(g);
    if (status == ZS_OK && !(flags & ZS_EXEC_KEEP_NORMS))
        status = zs_pass_renorm(g);
    if (status == ZS_OK && bf16)
        status = zs_pass_lower(g);
    return status ? zs_fail(err, status, "out of memory while finishing the graph") : ZS_OK;
}

/* Live intervals in node positions. Inputs live for the whole run, since the caller may leave them
 * as they are for the next one; outputs until its end. Tensors of removed nodes get no bytes. */
static void live_intervals(zs_exec *e)
{
    const zs_graph *g = e->g;
    int32_t end = (int32_t)g->nn;
    for (size_t i = 0; i < g->nt; i++) {
        bool input = g->t[i].kind == ZS_KIND_INPUT;
        e->pl[i] = (zs_placement){.first = 0,
                                  .last = input ? end : -1,
                                  .bytes = input ? zs_exec_tensor_bytes(&g->t[i]) : 0};
    }
    for (int32_t i = 0; i < end; i++) {
        for (int k = 0; k < ZS_MAX_OUT; k++) {
            zs_tid t = g->n[i].out[k];
            if (t >= 0 && g->t[t].kind == ZS_KIND_ACT)
                e->pl[t] =
                    (zs_placement){.first = i, .last = i, .bytes = zs_exec_tensor_bytes(&g->t[t])};
        }
        for (int k = 0; k < ZS_MAX_IN; k++) {
            zs_tid t = g->n[i].in[k];
            if (t >= 0 && e->pl[t].last < i)
                e->pl[t].last = i;
        }
    }
    for (size_t i = 0; i < g->n_outputs; i++)
        e->pl[g->outputs[i].t].last = end;
}

/* Parameters are read in the type that the slot wants. */
static zs_dtype input_type(const zs_exec *e, const zs_gnode *n, int k)
{
    const zs_gtensor *t = &e->g->t[n->in[k]];
    return t->kind == ZS_KIND_PARAM && e->backend->bf16 ? zs_slot_type(n->op, k) : t->type;
}

/* Fills shapes and types and marks present views; pointers other than "absent" are set by a run. */
static void prepare_call(zs_exec *e, size_t i)
{
    static float present; /* any address: workspace() may only test for NULL */
    const zs_gnode *n = &e->g->n[i];
    zs_call *c = &e->calls[i];
    *c = (zs_call){.a = &n->a, .threads = e->threads, .queue = e->backend->queue};
    for (int k = 0; k < ZS_MAX_IN; k++)
        if (n->in[k] >= 0)
            c->in[k] =
                (zs_view){.p = &present, .s = e->g->t[n->in[k]].shape, .type = input_type(e, n, k)};
    for (int k = 0; k < ZS_MAX_OUT; k++)
        if (n->out[k] >= 0)
            c->out[k] = (zs_view){
                .p = &present, .s = e->g->t[n->out[k]].shape, .type = e->g->t[n->out[k]].type};
    const zs_kernel *kernel = e->backend->kernel(n->op);
    size_t bytes = kernel->workspace ? kernel->workspace(c) : 0;
    e->pl[e->g->nt + i] = (zs_placement){.first = (int32_t)i, .last = (int32_t)i, .bytes = bytes};
}

/* Offsets are multiples of this: kernels of accelerators read wide words. */
static size_t alignment(const zs_exec *e)
{
    return e->backend->remote ? 256 : 64;
}

/* Every tensor its own bytes, one after the other. */
static void offsets_without_reuse(zs_exec *e, size_t n)
{
    size_t at = 0, align = alignment(e);
    for (size_t i = 0; i < n; i++) {
        e->pl[i].offset = at;
        at += (e->pl[i].bytes + align - 1) / align * align;
    }
    e->arena_bytes = at;
}

static int plan_arena(zs_exec *e, zs_error *err)
{
    size_t n = e->g->nt + e->g->nn;
    int status = ZS_OK;
    if (e->flags & ZS_EXEC_NO_REUSE)
        offsets_without_reuse(e, n);
    else
        status = zs_plan_offsets(e->pl, n, alignment(e), &e->arena_bytes, err);
    if (status == ZS_OK)
        status = zs_plan_verify(e->pl, n, err);
    if (status < 0)
        return status;
    if (e->arena_bytes == 0)
        e->arena_bytes = 64;
    e->arena = e->backend->alloc(e->arena_bytes);
    if (!e->arena)
        return zs_fail(err, ZS_E_NOMEM,
                       "out of memory: %.1f MiB for activations could not be allocated%s%s; a "
                       "smaller batch (--batch, --micro-batch) or --recompute lowers this",
                       (double)e->arena_bytes / 1048576.0, e->backend->remote ? " on " : "",
                       e->backend->remote ? e->backend->name : "");
    if (e->backend->touch)
        e->backend->touch(e->arena, e->arena_bytes);
    return ZS_OK;
}

/* ---- packed parameters ---- */

static const zs_packer *packer_of(const zs_exec *e, zs_op op)
{
    return e->backend->packer ? e->backend->packer(op) : NULL;
}

/* A node whose weights could be kept packed. */
typedef struct candidate {
    size_t node;
    int64_t positions; /* of its output */
    zs_packing k;
} candidate;

static int fewest_positions_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->positions != y->positions)
        return x->positions < y->positions ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static size_t find_candidates(const zs_exec *e, candidate *list)
{
    size_t n = 0;
    for (size_t i = 0; i < e->g->nn; i++) {
        const zs_gnode *node = &e->g->n[i];
        const zs_packer *packer = packer_of(e, node->op);
        if (!packer || node->in[1] < 0 || e->g->t[node->in[1]].kind != ZS_KIND_PARAM)
            continue;
        zs_packing k = packer->packing(&e->calls[i]);
        if (k.bytes)
            list[n++] = (candidate){i, zs_shape_rows(&e->calls[i].out[0].s), k};
    }
    return n;
}

static int take_packs(zs_exec *e, zs_packs *packs, zs_error *err)
{
    if (!packs)
        return ZS_OK;
    candidate *list = zs_alloc(e->g->nn + 1, sizeof *list);
    e->packs = packs;
    e->pack = zs_calloc(e->g->nn + 1, sizeof(zs_pack *));
    if (!list || !e->pack) {
        zs_free(list);
        return zs_fail_nomem(err, e->g->nn * sizeof *list, "an executor");
    }
    size_t n = find_candidates(e, list);
    qsort(list, n, sizeof *list, fewest_positions_first);
    for (size_t i = 0; i < n; i++) {
        const zs_gnode *node = &e->g->n[list[i].node];
        e->pack[list[i].node] =
            zs_packs_take(packs, node->op, e->g->t[node->in[1]].offset, list[i].k);
    }
    zs_free(list);
    return ZS_OK;
}

static void list_inputs(zs_exec *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->g->nt; i++)
        if (e->g->t[i].kind == ZS_KIND_INPUT)
            e->inputs[n++] = (zs_tid)i;
    e->inputs[n] = ZS_NONE;
}

int zs_exec_new(zs_exec **out, zs_graph **g, const zs_exec_config *c, zs_error *err)
{
    const zs_backend *backend = c->backend ? c->backend : zs_backend_find(NULL);
    int status = finish_graph(*g, c->flags, backend->bf16, err);
    zs_exec *e = status < 0 ? NULL : zs_calloc(1, sizeof *e);
    *out = NULL;
    if (!e) {
        zs_graph_free(g);
        return status < 0 ? status : zs_fail_nomem(err, sizeof *e, "an executor");
    }
    e->g = *g;
    *g = NULL;
    e->backend = backend;
    e->flags = c->flags;
    e->hook = c->hook;
    e->hook_ctx = c->hook_ctx;
    e->threads = zs_threads_count();
    e->calls = zs_calloc(e->g->nn + 1, sizeof *e->calls);
    e->pl = zs_calloc(e->g->nt + e->g->nn + 1, sizeof *e->pl);
    e->inputs = zs_alloc(e->g->nt + 1, sizeof *e->inputs);
    if (!e->calls || !e->pl || !e->inputs) {
        status = zs_fail_nomem(err, e->g->nn * sizeof *e->calls, "an executor");
        goto fail;
    }
    list_inputs(e);
    live_intervals(e);
    for (size_t i = 0; i < e->g->nn; i++)
        prepare_call(e, i);
    status = take_packs(e, c->packs, err);
    if (status == ZS_OK)
        status = plan_arena(e, err);
    if (status == ZS_OK && backend->remote)
        status = zs_far_new(e, err);
    if (status < 0)
        goto fail;
    *out = e;
    return ZS_OK;
fail:
    zs_exec_free(&e);
    return status;
}
