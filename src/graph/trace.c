/* SPDX-License-Identifier: MIT */
/* What each node of a run gave, to find the first at which two backends part. */
#include "graph/graph.h"

#include <math.h>
#include <string.h>

typedef struct record {
    size_t node;
    zs_op op;
    int slot; /* of the outputs */
    size_t n;
    float *v; /* owned */
} record;

struct zs_trace {
    const zs_backend *backend;
    record *r;
    size_t n, cap;
    zs_error why; /* why something is missing */
};

int zs_trace_new(zs_trace **out, const zs_backend *backend, zs_error *err)
{
    *out = zs_calloc(1, sizeof **out);
    if (!*out)
        return zs_fail_nomem(err, sizeof **out, "a trace");
    (*out)->backend = backend;
    return ZS_OK;
}

void zs_trace_free(zs_trace **t)
{
    if (*t) {
        for (size_t i = 0; i < (*t)->n; i++)
            zs_free((*t)->r[i].v);
        zs_free((*t)->r);
    }
    zs_free(*t);
    *t = NULL;
}

int zs_view_read(float *dst, const zs_view *v, const zs_backend *backend, zs_error *err)
{
    size_t n = (size_t)zs_shape_numel(&v->s), bytes = n * zs_dtype_size(v->type);
    void *raw = zs_alloc(bytes, 1);
    int status = raw ? ZS_OK : zs_fail_nomem(err, bytes, "a tensor");
    if (status == ZS_OK && backend->remote)
        status = backend->remote->download(raw, v->p, bytes, err);
    else if (status == ZS_OK)
        memcpy(raw, v->p, bytes);
    if (status == ZS_OK)
        zs_dtype_to_f32(dst, raw, v->type, n);
    zs_free(raw);
    return status;
}

static int keep(zs_trace *t, record r, const zs_view *v, zs_error *err)
{
    void *items = t->r;
    r.n = (size_t)zs_shape_numel(&v->s);
    r.v = zs_alloc(r.n, sizeof *r.v);
    if (!r.v || !zs_grow(&items, &t->cap, t->n, sizeof *t->r)) {
        zs_free(r.v);
        return zs_fail_nomem(err, r.n * sizeof *r.v, "a trace");
    }
    t->r = items;
    t->r[t->n++] = r;
    return zs_view_read(r.v, v, t->backend, err);
}

void zs_trace_node(void *trace, size_t node, zs_op op, const zs_call *c, double seconds)
{
    zs_trace *t = trace;
    (void)seconds;
    for (int k = 0; op != ZS_OP_CAST && k < zs_op_outputs(op); k++)
        if (c->out[k].p && t->why.status == ZS_OK)
            (void)keep(t, (record){.node = node, .op = op, .slot = k}, &c->out[k], &t->why);
}

static double distance(const record *a, const record *b)
{
    double d = 0.0, l = 0.0;
    for (size_t i = 0; i < a->n; i++) {
        d += ((double)a->v[i] - (double)b->v[i]) * ((double)a->v[i] - (double)b->v[i]);
        l += (double)a->v[i] * (double)a->v[i];
    }
    return d == 0.0 ? 0.0 : l > 0.0 ? sqrt(d / l) : HUGE_VAL;
}

int zs_trace_compare(zs_trace_gap *out, const zs_trace *a, const zs_trace *b, double tolerance,
                     zs_error *err)
{
    *out = (zs_trace_gap){0};
    for (int i = 0; i < 2; i++) {
        const zs_trace *t = i ? b : a;
        if (t->why.status < 0)
            return zs_fail(err, t->why.status, "%s", t->why.message);
    }
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        const record *x = &a->r[i], *y = &b->r[i];
        if (x->op != y->op || x->slot != y->slot || x->n != y->n)
            return zs_fail(err, ZS_E_INVALID, "node %zu is %s in one plan and %s in the other",
                           x->node, zs_op_name(x->op), zs_op_name(y->op));
        double d = distance(x, y);
        if (!(d <= out->distance)) /* NaN is far */
            *out = (zs_trace_gap){x->node, x->op, x->slot, d};
        if (!(d <= tolerance))
            return 1;
    }
    if (a->n != b->n)
        return zs_fail(err, ZS_E_INVALID, "one plan has more results (%zu) than the other (%zu)",
                       a->n > b->n ? a->n : b->n, a->n > b->n ? b->n : a->n);
    return ZS_OK;
}
