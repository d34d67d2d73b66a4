/* SPDX-License-Identifier: MIT */
/* Tensors and nodes: the only file that grows a graph's arrays. */
#include "graph/internal.h"

#include <stdarg.h>
#include <string.h>

int zs_graph_new(zs_graph **out, zs_error *err)
{
    *out = zs_calloc(1, sizeof **out);
    if (!*out)
        return zs_fail_nomem(err, sizeof **out, "a graph");
    return ZS_OK;
}

void zs_graph_free(zs_graph **g)
{
    if (!*g)
        return;
    for (size_t i = 0; i < (*g)->nt; i++)
        zs_free((*g)->t[i].name);
    for (size_t i = 0; i < (*g)->n_outputs; i++)
        zs_free((*g)->outputs[i].name);
    zs_free((*g)->t);
    zs_free((*g)->n);
    zs_free((*g)->outputs);
    zs_free(*g);
    *g = NULL;
}

void zs_graph_fail(zs_graph *g, int status, const char *fmt, ...)
{
    char text[sizeof g->err.message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)zs_fail(&g->err, status, "%s", text);
}

int zs_graph_status(const zs_graph *g)
{
    return g->err.status;
}

static bool valid_shape(const zs_shape *s)
{
    if (s->nd < 1 || s->nd > 4)
        return false;
    int64_t n = 1;
    for (int i = 0; i < s->nd; i++) {
        if (s->d[i] < 1 || n > (INT64_MAX >> 3) / s->d[i])
            return false;
        n *= s->d[i];
    }
    return true;
}

static zs_tid add_tensor(zs_graph *g, zs_gtensor t)
{
    void *items = g->t;
    if (g->err.status)
        return ZS_NONE;
    if (!valid_shape(&t.shape)) {
        zs_graph_fail(g, ZS_E_INVALID, "a tensor of the graph has an empty or overflowing shape");
        return ZS_NONE;
    }
    if (!zs_grow(&items, &g->cap_t, g->nt, sizeof *g->t)) {
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
        return ZS_NONE;
    }
    g->t = items;
    t.grad = ZS_NONE;
    g->t[g->nt] = t;
    return (zs_tid)g->nt++;
}

zs_tid zs_graph_input(zs_graph *g, const char *name, zs_shape s)
{
    char *copy = zs_str_dup(name);
    if (!copy)
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
    zs_tid t = add_tensor(
        g, (zs_gtensor){.shape = s, .kind = ZS_KIND_INPUT, .producer = -1, .name = copy});
    if (t == ZS_NONE)
        zs_free(copy);
    return t;
}

zs_tid zs_graph_param(zs_graph *g, int64_t offset, zs_shape s, bool trainable)
{
    for (size_t i = 0; i < g->nt; i++)
        if (g->t[i].kind == ZS_KIND_PARAM && g->t[i].offset == offset &&
            zs_shape_equal(&g->t[i].shape, &s))
            return (zs_tid)i;
    return add_tensor(g, (zs_gtensor){.shape = s,
                                      .kind = ZS_KIND_PARAM,
                                      .trainable = trainable,
                                      .offset = offset,
                                      .producer = -1});
}

void zs_graph_output(zs_graph *g, const char *name, zs_tid t)
{
    if (g->err.status)
        return;
    if (t < 0 || g->t[t].kind != ZS_KIND_ACT) {
        zs_graph_fail(g, ZS_E_INTERNAL, "graph output %s is not a computed tensor", name);
        return;
    }
    void *items = g->outputs;
    char *copy = zs_str_dup(name);
    if (!copy || !zs_grow(&items, &g->cap_outputs, g->n_outputs, sizeof *g->outputs)) {
        zs_free(copy);
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
        return;
    }
    g->outputs = items;
    g->outputs[g->n_outputs++] = (zs_named){copy, t};
}

zs_shape zs_graph_shape(const zs_graph *g, zs_tid t)
{
    return t < 0 ? (zs_shape){0} : g->t[t].shape;
}

size_t zs_graph_node_count(const zs_graph *g)
{
    return g->nn;
}

void zs_graph_segment_begin(zs_graph *g)
{
    if (g->segment)
        zs_graph_fail(g, ZS_E_INTERNAL, "recompute segments cannot be nested");
    g->segment = ++g->segments;
}

void zs_graph_segment_end(zs_graph *g)
{
    g->segment = 0;
}

static bool place_outputs(zs_graph *g, zs_gnode *n, const zs_shape *shapes, int32_t index)
{
    for (int i = 0; i < zs_op_outputs(n->op); i++) {
        if (n->out[i] == ZS_NEW)
            n->out[i] = add_tensor(
                g, (zs_gtensor){.shape = shapes[i], .kind = ZS_KIND_ACT, .producer = index});
        else if (n->out[i] >= 0 &&
                 zs_shape_numel(&g->t[n->out[i]].shape) != zs_shape_numel(&shapes[i]))
            zs_graph_fail(g, ZS_E_INTERNAL, "%s: output %d has the wrong size", zs_op_name(n->op),
                          i);
    }
    return g->err.status == ZS_OK;
}

int32_t zs_graph_append(zs_graph *g, zs_op op, const zs_tid *in, const zs_tid *out,
                        const zs_attr *a)
{
    zs_gnode n = {.op = op, .phase = g->phase, .segment = g->segment, .a = *a};
    zs_shape_ctx c = {.g = g, .a = a};
    if (g->err.status)
        return -1;
    for (int i = 0; i < ZS_MAX_IN; i++)
        n.in[i] = i < zs_op_inputs(op) ? in[i] : ZS_NONE;
    for (int i = 0; i < ZS_MAX_OUT; i++)
        n.out[i] = i < zs_op_outputs(op) ? out[i] : ZS_NONE;
    for (int i = 0; i < zs_op_inputs(op); i++)
        c.in[i] = n.in[i] < 0 ? NULL : &g->t[n.in[i]].shape;
    void *items = g->n;
    if (!zs_graph_infer(op, &c) || !place_outputs(g, &n, c.out, (int32_t)g->nn))
        return -1;
    if (!zs_grow(&items, &g->cap_n, g->nn, sizeof *g->n)) {
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
        return -1;
    }
    g->n = items;
    g->n[g->nn] = n;
    return (int32_t)g->nn++;
}

bool zs_graph_push(zs_graph *g, const zs_gnode *n)
{
    void *items = g->n;
    if (!zs_grow(&items, &g->cap_n, g->nn, sizeof *g->n))
        return false;
    g->n = items;
    g->n[g->nn++] = *n;
    return true;
}

zs_tid zs_graph_twin(zs_graph *g, zs_tid t)
{
    void *items = g->t;
    if (!zs_grow(&items, &g->cap_t, g->nt, sizeof *g->t))
        return ZS_NONE;
    g->t = items;
    g->t[g->nt] = g->t[t];
    return (zs_tid)g->nt++;
}

void zs_graph_set_producers(zs_graph *g)
{
    for (size_t i = 0; i < g->nn; i++)
        for (int k = 0; k < ZS_MAX_OUT; k++)
            if (g->n[i].out[k] >= 0 && g->t[g->n[i].out[k]].kind == ZS_KIND_ACT)
                g->t[g->n[i].out[k]].producer = (int32_t)i;
}

void zs_graph_count_uses(const zs_graph *g, int32_t *use)
{
    memset(use, 0, g->nt * sizeof *use);
    for (size_t i = 0; i < g->nn; i++)
        for (int k = 0; k < ZS_MAX_IN; k++)
            if (g->n[i].in[k] >= 0)
                use[g->n[i].in[k]]++;
    for (size_t i = 0; i < g->n_outputs; i++)
        use[g->outputs[i].t]++;
}
