/* SPDX-License-Identifier: MIT */
/* Single operations: the convolutions of a residual block, and its conditioned normalisation. */
#include "tasks/benchrow.h"

#include <stdio.h>
#include <string.h>

enum { TENSORS = 12, SLOTS = 2 };

/* One or two kernel calls over tensors of their own. */
typedef struct op {
    const zs_bench_row *row;
    const zs_backend *backend;
    zs_exec *exec; /* of a forward convolution: kept weights count as they do in a network */
    float *weights;
    zs_op ops[SLOTS];
    zs_call calls[SLOTS];
    zs_attr attr;
    size_t ws_bytes[SLOTS];
    float *p[TENSORS];
    size_t bytes[TENSORS];
    int n_tensors, n_calls;
} op;

static zs_shape image_shape(const op *o)
{
    return zs_shape4(o->row->n, o->row->size, o->row->size, o->row->channels);
}

static void op_close(void **state)
{
    op *o = *state;
    if (!o)
        return;
    for (int i = 0; i < o->n_tensors; i++)
        if (o->p[i])
            o->backend->release(o->p[i], o->bytes[i]);
    for (int i = 0; i < o->n_calls; i++)
        if (o->calls[i].ws)
            o->backend->release(o->calls[i].ws, o->ws_bytes[i]);
    zs_exec_free(&o->exec);
    zs_free(o->weights);
    zs_free(o);
    *state = NULL;
}

static int op_new(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    static const zs_step step = {.grad_scale = 1};
    op *o = zs_calloc(1, sizeof *o);
    *state = o;
    if (!o)
        return zs_fail_nomem(err, sizeof *o, "an operation");
    o->row = r;
    o->backend = s->backend;
    o->attr = (zs_attr){.k = 3,
                        .stride = 1,
                        .pad = 1,
                        .h = r->size,
                        .w = r->size,
                        .groups = r->channels < 32 ? (int)r->channels : 32,
                        .eps = 1e-5F,
                        .act = ZS_ACT_SILU};
    for (int i = 0; i < SLOTS; i++)
        o->calls[i] = (zs_call){.a = &o->attr, .threads = zs_threads_count(), .step = &step};
    return ZS_OK;
}

/* A tensor of random numbers in the next place of o->p; p is NULL when out of memory. */
static zs_view tensor(op *o, zs_shape s, const zs_bench_setting *setting)
{
    size_t n = (size_t)zs_shape_numel(&s);
    int i = o->n_tensors++;
    o->bytes[i] = n * sizeof(float);
    o->p[i] = o->backend->alloc(o->bytes[i]);
    if (o->p[i])
        zs_bench_fill(o->p[i], n, setting->seed, (uint64_t)i);
    return (zs_view){.p = o->p[i], .s = s};
}

/* Workspaces, once all tensors are there. */
static int prepare(op *o, zs_error *err)
{
    for (int i = 0; i < o->n_tensors; i++)
        if (!o->p[i])
            return zs_fail_nomem(err, o->bytes[i], o->row->name);
    for (int i = 0; i < o->n_calls; i++) {
        const zs_kernel *k = o->backend->kernel(o->ops[i]);
        size_t bytes = k->workspace ? k->workspace(&o->calls[i]) : 0;
        o->ws_bytes[i] = bytes ? bytes : 64;
        o->calls[i].ws = o->backend->alloc(o->ws_bytes[i]);
        if (!o->calls[i].ws)
            return zs_fail_nomem(err, bytes, o->row->name);
    }
    return ZS_OK;
}

static int op_run(void *state, zs_error *err)
{
    static const zs_step step = {.grad_scale = 1};
    op *o = state;
    if (o->exec)
        return zs_exec_run(o->exec, o->weights, NULL, &step, err);
    for (int i = 0; i < o->n_calls; i++)
        o->backend->kernel(o->ops[i])->run(&o->calls[i]);
    return ZS_OK;
}

static double conv_flops(const void *state)
{
    const op *o = state;
    const zs_bench_row *r = o->row;
    return 18.0 * (double)(r->n * r->size * r->size) * (double)(r->channels * r->channels);
}

static double no_flops(const void *state)
{
    (void)state;
    return 0;
}

/* ---- 3x3 convolution ---- */

static zs_shape weight_shape(const op *o)
{
    return zs_shape4(3, 3, o->row->channels, o->row->channels);
}

static int plan_forward(op *o, const zs_bench_setting *s, zs_error *err)
{
    zs_graph *g = NULL;
    zs_shape xs = image_shape(o);
    int64_t c = o->row->channels, w_numel = 9 * c * c;
    zs_exec_config ec = {.backend = s->backend, .hook = s->hook, .hook_ctx = s->hook_ctx};
    o->weights = zs_alloc((size_t)(w_numel + c), sizeof(float));
    int status = o->weights ? zs_graph_new(&g, err)
                            : zs_fail_nomem(err, (unsigned long long)w_numel * 4, "weights");
    if (status < 0)
        return status;
    zs_bench_fill(o->weights, (size_t)(w_numel + c), s->seed, 1);
    zs_tid x = zs_graph_input(g, "x", xs);
    zs_tid w = zs_graph_param(g, 0, weight_shape(o), false);
    zs_tid b = zs_graph_param(g, w_numel, zs_shape1(c), false);
    zs_graph_output(g, "y", zs_conv2d(g, x, w, b, ZS_NONE, 1, 1));
    status = zs_exec_new(&o->exec, &g, &ec, err);
    if (status == ZS_OK)
        zs_bench_fill(zs_exec_input(o->exec, "x"), (size_t)zs_shape_numel(&xs), s->seed, 0);
    return status;
}

static int open_forward(void **state, const zs_bench_row *r, const zs_bench_setting *s,
                        zs_error *err)
{
    int status = op_new(state, r, s, err);
    return status < 0 ? status : plan_forward(*state, s, err);
}

static int open_dx(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    int status = op_new(state, r, s, err);
    if (status < 0)
        return status;
    op *o = *state;
    zs_call *c = &o->calls[0];
    o->ops[0] = ZS_OP_CONV2D_DX;
    o->n_calls = 1;
    c->in[0] = tensor(o, image_shape(o), s);
    c->in[1] = tensor(o, weight_shape(o), s);
    c->out[0] = tensor(o, image_shape(o), s);
    return prepare(o, err);
}

static int open_dw(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    int status = op_new(state, r, s, err);
    if (status < 0)
        return status;
    op *o = *state;
    zs_call *c = &o->calls[0];
    o->ops[0] = ZS_OP_CONV2D_DW;
    o->n_calls = 1;
    c->in[0] = tensor(o, image_shape(o), s);
    c->in[1] = tensor(o, image_shape(o), s);
    c->out[0] = tensor(o, weight_shape(o), s);
    return prepare(o, err);
}

/* [3,3,C,O] as [O,C,3,3]. */
static void put_weight(zs_bench_file *f, const char *name, const float *w, int64_t c)
{
    float *p = zs_alloc((size_t)(9 * c * c), sizeof *p);
    f->failed = f->failed || !p;
    for (int64_t i = 0; p && i < 9 * c * c; i++)
        p[(i % c * c + i / c % c) * 9 + i / (c * c)] = w[i];
    if (p)
        zs_bench_put(f, "", name, 4, (int64_t[]){c, c, 3, 3}, p);
    zs_free(p);
}

static int write_op(zs_bench_file *f, const op *o, const char *dir, zs_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "%s.safetensors", o->row->name);
    return zs_bench_write(f, dir, name, err);
}

static int save_forward(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    zs_bench_file f = {0};
    int64_t c = o->row->channels;
    zs_bench_put_images(&f, "x", zs_exec_input(o->exec, "x"), image_shape(o));
    int status = op_run(o, err);
    zs_bench_put_images(&f, "y", zs_exec_output(o->exec, "y"), image_shape(o));
    put_weight(&f, "w", o->weights, c);
    zs_bench_put(&f, "", "b", 1, &c, o->weights + 9 * c * c);
    int written = write_op(&f, o, dir, err);
    return status < 0 ? status : written;
}

static int save_dx(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    zs_bench_file f = {0};
    (void)op_run(o, err);
    zs_bench_put_images(&f, "dy", o->p[0], image_shape(o));
    put_weight(&f, "w", o->p[1], o->row->channels);
    zs_bench_put_images(&f, "dx", o->p[2], image_shape(o));
    return write_op(&f, o, dir, err);
}

/* dw is added to. */
static int save_dw(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    zs_bench_file f = {0};
    memset(o->p[2], 0, o->bytes[2]);
    (void)op_run(o, err);
    zs_bench_put_images(&f, "x", o->p[0], image_shape(o));
    zs_bench_put_images(&f, "dy", o->p[1], image_shape(o));
    put_weight(&f, "dw", o->p[2], o->row->channels);
    return write_op(&f, o, dir, err);
}

const zs_bench_kind zs_bench_conv_fwd = {open_forward, op_run, conv_flops, save_forward, op_close};
const zs_bench_kind zs_bench_conv_dx = {open_dx, op_run, conv_flops, save_dx, op_close};
const zs_bench_kind zs_bench_conv_dw = {open_dw, op_run, conv_flops, save_dw, op_close};

/* ---- GroupNorm, both conditions, SiLU: forward, then backward with all gradients ---- */

/* Tensors of o->p. */
enum { X, GAMMA, BETA, SCALE_SHIFT, COND, DY, Y, STATS, DX, DGAMMA, DBETA, DSS };

static int open_adagn(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    int status = op_new(state, r, s, err);
    if (status < 0)
        return status;
    op *o = *state;
    zs_call *fwd = &o->calls[0], *bwd = &o->calls[1];
    zs_shape xs = image_shape(o), c = zs_shape1(r->channels), nc = zs_shape2(r->n, r->channels);
    o->ops[0] = ZS_OP_GN_ACT;
    o->ops[1] = ZS_OP_GN_ACT_BWD;
    o->n_calls = 2;
    fwd->in[0] = tensor(o, xs, s);
    fwd->in[1] = tensor(o, c, s);
    fwd->in[2] = tensor(o, c, s);
    fwd->in[3] = tensor(o, zs_shape2(r->n, 2 * r->channels), s);
    fwd->in[4] = tensor(o, nc, s);
    zs_view dy = tensor(o, xs, s);
    fwd->out[0] = tensor(o, xs, s);
    fwd->out[1] = tensor(o, (zs_shape){3, {r->n, o->attr.groups, 2, 1}}, s);
    zs_view bwd_in[ZS_MAX_IN] = {fwd->in[0], fwd->out[1], fwd->in[1], fwd->in[2],
                                 fwd->in[3], fwd->in[4],  dy};
    memcpy(bwd->in, bwd_in, sizeof bwd_in);
    bwd->out[0] = tensor(o, xs, s);
    bwd->out[1] = tensor(o, c, s);
    bwd->out[2] = tensor(o, c, s);
    zs_view both = tensor(o, (zs_shape){2, {r->n, 3 * r->channels, 1, 1}}, s);
    bwd->out[3] = (zs_view){.p = both.p, .s = zs_shape2(r->n, 2 * r->channels)};
    bwd->out[4] = (zs_view){.p = both.p ? both.p + 2 * r->n * r->channels : NULL, .s = nc};
    return prepare(o, err);
}

static int save_adagn(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    const zs_bench_row *r = o->row;
    zs_bench_file f = {0};
    int64_t c = r->channels, ss[] = {r->n, 2 * c}, cs[] = {r->n, c};
    memset(o->p[DGAMMA], 0, o->bytes[DGAMMA]);
    memset(o->p[DBETA], 0, o->bytes[DBETA]);
    (void)op_run(o, err);
    zs_bench_put_images(&f, "x", o->p[X], image_shape(o));
    zs_bench_put_images(&f, "dy", o->p[DY], image_shape(o));
    zs_bench_put_images(&f, "y", o->p[Y], image_shape(o));
    zs_bench_put_images(&f, "dx", o->p[DX], image_shape(o));
    zs_bench_put(&f, "", "gamma", 1, &c, o->p[GAMMA]);
    zs_bench_put(&f, "", "beta", 1, &c, o->p[BETA]);
    zs_bench_put(&f, "", "ss", 2, ss, o->p[SCALE_SHIFT]);
    zs_bench_put(&f, "", "cs", 2, cs, o->p[COND]);
    zs_bench_put(&f, "", "dgamma", 1, &c, o->p[DGAMMA]);
    zs_bench_put(&f, "", "dbeta", 1, &c, o->p[DBETA]);
    zs_bench_put(&f, "", "dss", 2, ss, o->p[DSS]);
    zs_bench_put(&f, "", "dcs", 2, cs, o->p[DSS] + 2 * r->n * c);
    return write_op(&f, o, dir, err);
}

const zs_bench_kind zs_bench_adagn = {open_adagn, op_run, no_flops, save_adagn, op_close};
