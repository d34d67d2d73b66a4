/* SPDX-License-Identifier: MIT */
/* Single operations: the convolutions of a residual block, and its conditioned normalisation. */
#include "tasks/benchrow.h"

#include <stdio.h>
#include <string.h>

enum { TENSORS = 13, SLOTS = 2 };

/* One or two kernel calls over tensors of their own. */
typedef struct op {
    const zs_bench_row *row;
    const zs_backend *backend;
    zs_exec *exec;  /* of a forward convolution: kept weights count as they do in a network */
    float *weights; /* the program's, as `host` */
    zs_weights placed;
    zs_op ops[SLOTS];
    zs_call calls[SLOTS];
    zs_attr attr;
    size_t ws_bytes[SLOTS];
    zs_view v[TENSORS];   /* in the backend's memory */
    float *host[TENSORS]; /* f32, for people; NULL before it is asked for */
    zs_step *step;        /* in the backend's memory */
    int n_tensors, n_calls;
} op;

static size_t bytes_of(const zs_view *v)
{
    return (size_t)zs_shape_numel(&v->s) * zs_dtype_size(v->type);
}

static zs_shape image_shape(const op *o)
{
    return zs_shape4(o->row->n, o->row->size, o->row->size, o->row->channels);
}

static void op_close(void **state)
{
    op *o = *state;
    if (!o)
        return;
    for (int i = 0; i < o->n_tensors; i++) {
        if (o->v[i].p)
            o->backend->release(o->v[i].p, bytes_of(&o->v[i]));
        zs_free(o->host[i]);
    }
    if (o->step)
        o->backend->release(o->step, sizeof *o->step);
    for (int i = 0; i < o->n_calls; i++)
        if (o->calls[i].ws)
            o->backend->release(o->calls[i].ws, o->ws_bytes[i]);
    zs_exec_free(&o->exec);
    zs_weights_clear(&o->placed);
    zs_free(o->weights);
    zs_free(o);
    *state = NULL;
}

static int op_new(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
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
        o->calls[i] =
            (zs_call){.a = &o->attr, .threads = zs_threads_count(), .queue = o->backend->queue};
    return ZS_OK;
}

/* n numbers for the backend's memory, in the type of the view there. */
static int place(const op *o, const zs_view *v, const float *x, zs_error *err)
{
    const zs_remote *r = o->backend->remote;
    size_t n = (size_t)zs_shape_numel(&v->s), bytes = bytes_of(v);
    void *as = v->type == ZS_F32 ? NULL : zs_alloc(bytes, 1);
    if (v->type != ZS_F32 && !as)
        return zs_fail_nomem(err, bytes, o->row->name);
    if (as)
        zs_dtype_from_f32(as, v->type, x, n);
    int status = ZS_OK;
    if (!r)
        memcpy(v->p, x, bytes);
    else
        status = r->upload(v->p, as ? as : x, bytes, err);
    if (status == ZS_OK && r)
        status = r->sync(err);
    zs_free(as);
    return status;
}

/* The numbers of tensor i; NULL when out of memory, or when the device failed. */
static const float *numbers(op *o, int i)
{
    const zs_remote *r = o->backend->remote;
    const zs_view *v = &o->v[i];
    size_t n = (size_t)zs_shape_numel(&v->s);
    zs_error ignored = {0};
    if (!r)
        return v->p;
    zs_free(o->host[i]);
    o->host[i] = zs_alloc(n, sizeof(float));
    void *as = zs_alloc(bytes_of(v), 1);
    if (o->host[i] && as && r->download(as, v->p, bytes_of(v), &ignored) == ZS_OK)
        zs_dtype_to_f32(o->host[i], as, v->type, n);
    zs_free(as);
    return o->host[i];
}

/* A tensor of random numbers in the next place of o->v; p is NULL when out of memory. */
static zs_view tensor(op *o, zs_shape s, zs_slot slot, const zs_bench_setting *setting)
{
    size_t n = (size_t)zs_shape_numel(&s);
    int i = o->n_tensors++;
    zs_view *v = &o->v[i];
    zs_error ignored = {0}; /* a device that failed says so again when it runs */
    float *x = zs_alloc(n, sizeof *x);
    *v = (zs_view){.s = s, .type = o->backend->bf16 && slot != ZS_SLOT_F32 ? ZS_BF16 : ZS_F32};
    v->p = x ? o->backend->alloc(bytes_of(v)) : NULL;
    if (v->p) {
        zs_bench_fill(x, n, setting->seed, (uint64_t)i);
        (void)place(o, v, x, &ignored);
    }
    zs_free(x);
    return *v;
}

static int zero(const op *o, int i, zs_error *err)
{
    const zs_remote *r = o->backend->remote;
    if (r)
        return r->zero(o->v[i].p, bytes_of(&o->v[i]), err);
    memset(o->v[i].p, 0, bytes_of(&o->v[i]));
    return ZS_OK;
}

static int make_step(op *o, zs_error *err)
{
    static const zs_step step = {.grad_scale = 1};
    const zs_remote *r = o->backend->remote;
    o->step = o->backend->alloc(sizeof *o->step);
    if (!o->step)
        return zs_fail_nomem(err, sizeof *o->step, o->row->name);
    if (r)
        return r->upload(o->step, &step, sizeof step, err);
    *o->step = step;
    return ZS_OK;
}

/* Workspaces, once all tensors are there. */
static int prepare(op *o, zs_error *err)
{
    for (int i = 0; i < o->n_tensors; i++)
        if (!o->v[i].p)
            return zs_fail_nomem(err, bytes_of(&o->v[i]), o->row->name);
    int status = make_step(o, err);
    for (int i = 0; status == ZS_OK && i < o->n_calls; i++) {
        const zs_kernel *k = o->backend->kernel(o->ops[i]);
        size_t bytes = k->workspace ? k->workspace(&o->calls[i]) : 0;
        o->calls[i].step = o->step;
        o->ws_bytes[i] = bytes ? bytes : 64;
        o->calls[i].ws = o->backend->alloc(o->ws_bytes[i]);
        if (!o->calls[i].ws)
            status = zs_fail_nomem(err, bytes, o->row->name);
    }
    return status;
}

static int op_run(void *state, zs_error *err)
{
    static const zs_step step = {.grad_scale = 1};
    op *o = state;
    zs_buffers b;
    if (o->exec) {
        int status = zs_weights_get(&b, &o->placed, 1, err);
        return status == ZS_OK ? zs_exec_run_with(o->exec, &b, &step, err) : status;
    }
    for (int i = 0; i < o->n_calls; i++)
        o->backend->kernel(o->ops[i])->run(&o->calls[i]);
    return o->backend->remote ? o->backend->remote->sync(err) : ZS_OK;
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
    o->placed = zs_weights_of_host(s->backend, o->weights, (size_t)(w_numel + c));
    zs_tid x = zs_graph_input(g, "x", xs);
    zs_tid w = zs_graph_param(g, 0, weight_shape(o), false);
    zs_tid b = zs_graph_param(g, w_numel, zs_shape1(c), false);
    zs_graph_output(g, "y", zs_conv2d(g, x, w, b, ZS_NONE, 1, 1));
    status = zs_exec_new(&o->exec, &g, &ec, err);
    if (status == ZS_OK)
        zs_bench_fill(zs_exec_input(o->exec, "x"), (size_t)zs_shape_numel(&xs), s->seed, 0);
    return status;
}

/* On a device the kernel alone: a plan would also fetch its result. */
static int call_forward(op *o, const zs_bench_setting *s, zs_error *err)
{
    zs_call *c = &o->calls[0];
    o->ops[0] = ZS_OP_CONV2D;
    o->n_calls = 1;
    c->in[0] = tensor(o, image_shape(o), ZS_SLOT_ACT, s);
    c->in[1] = tensor(o, weight_shape(o), ZS_SLOT_WEIGHT, s);
    c->in[2] = tensor(o, zs_shape1(o->row->channels), ZS_SLOT_F32, s);
    c->out[0] = tensor(o, image_shape(o), ZS_SLOT_ACT, s);
    return prepare(o, err);
}

static int open_forward(void **state, const zs_bench_row *r, const zs_bench_setting *s,
                        zs_error *err)
{
    int status = op_new(state, r, s, err);
    if (status < 0)
        return status;
    return s->backend->remote ? call_forward(*state, s, err) : plan_forward(*state, s, err);
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
    c->in[0] = tensor(o, image_shape(o), ZS_SLOT_ACT, s);
    c->in[1] = tensor(o, weight_shape(o), ZS_SLOT_WEIGHT, s);
    c->out[0] = tensor(o, image_shape(o), ZS_SLOT_ACT, s);
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
    c->in[0] = tensor(o, image_shape(o), ZS_SLOT_ACT, s);
    c->in[1] = tensor(o, image_shape(o), ZS_SLOT_ACT, s);
    c->out[0] = tensor(o, weight_shape(o), ZS_SLOT_F32, s);
    return prepare(o, err);
}

/* [3,3,C,O] as [O,C,3,3]. */
static void put_weight(zs_bench_file *f, const char *name, const float *w, int64_t c)
{
    float *p = zs_alloc((size_t)(9 * c * c), sizeof *p);
    f->failed = f->failed || !p || !w;
    for (int64_t i = 0; p && w && i < 9 * c * c; i++)
        p[(i % c * c + i / c % c) * 9 + i / (c * c)] = w[i];
    if (p && w)
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
    zs_exec *e = o->exec;
    int64_t c = o->row->channels;
    zs_bench_put_images(&f, "x", e ? zs_exec_input(e, "x") : numbers(o, 0), image_shape(o));
    int status = op_run(o, err);
    zs_bench_put_images(&f, "y", e ? zs_exec_output(e, "y") : numbers(o, 3), image_shape(o));
    put_weight(&f, "w", e ? o->weights : numbers(o, 1), c);
    zs_bench_put(&f, "", "b", 1, &c, e ? o->weights + 9 * c * c : numbers(o, 2));
    int written = write_op(&f, o, dir, err);
    return status < 0 ? status : written;
}

static int save_dx(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    zs_bench_file f = {0};
    (void)op_run(o, err);
    zs_bench_put_images(&f, "dy", numbers(o, 0), image_shape(o));
    put_weight(&f, "w", numbers(o, 1), o->row->channels);
    zs_bench_put_images(&f, "dx", numbers(o, 2), image_shape(o));
    return write_op(&f, o, dir, err);
}

/* dw is added to. */
static int save_dw(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    zs_bench_file f = {0};
    int status = zero(o, 2, err);
    if (status == ZS_OK)
        status = op_run(o, err);
    if (status < 0)
        return status;
    zs_bench_put_images(&f, "x", numbers(o, 0), image_shape(o));
    zs_bench_put_images(&f, "dy", numbers(o, 1), image_shape(o));
    put_weight(&f, "dw", numbers(o, 2), o->row->channels);
    return write_op(&f, o, dir, err);
}

const zs_bench_kind zs_bench_conv_fwd = {open_forward, op_run, conv_flops, save_forward, op_close};
const zs_bench_kind zs_bench_conv_dx = {open_dx, op_run, conv_flops, save_dx, op_close};
const zs_bench_kind zs_bench_conv_dw = {open_dw, op_run, conv_flops, save_dw, op_close};

/* ---- GroupNorm, both conditions, SiLU: forward, then backward with all gradients ---- */

/* Tensors of o->v. */
enum { X, GAMMA, BETA, SCALE_SHIFT, COND, DY, Y, STATS, DX, DGAMMA, DBETA, DSS, DCS };

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
    const zs_slot act = ZS_SLOT_ACT, f32 = ZS_SLOT_F32;
    fwd->in[0] = tensor(o, xs, act, s);
    fwd->in[1] = tensor(o, c, f32, s);
    fwd->in[2] = tensor(o, c, f32, s);
    fwd->in[3] = tensor(o, zs_shape2(r->n, 2 * r->channels), act, s);
    fwd->in[4] = tensor(o, nc, act, s);
    zs_view dy = tensor(o, xs, act, s);
    fwd->out[0] = tensor(o, xs, act, s);
    fwd->out[1] = tensor(o, (zs_shape){3, {r->n, o->attr.groups, 2, 1}}, f32, s);
    zs_view bwd_in[ZS_MAX_IN] = {fwd->in[0], fwd->out[1], fwd->in[1], fwd->in[2],
                                 fwd->in[3], fwd->in[4],  dy};
    memcpy(bwd->in, bwd_in, sizeof bwd_in);
    bwd->out[0] = tensor(o, xs, act, s);
    bwd->out[1] = tensor(o, c, f32, s);
    bwd->out[2] = tensor(o, c, f32, s);
    bwd->out[3] = tensor(o, zs_shape2(r->n, 2 * r->channels), act, s);
    bwd->out[4] = tensor(o, nc, act, s);
    return prepare(o, err);
}

static int save_adagn(void *state, const char *dir, zs_error *err)
{
    op *o = state;
    const zs_bench_row *r = o->row;
    zs_bench_file f = {0};
    int64_t c = r->channels, ss[] = {r->n, 2 * c}, cs[] = {r->n, c};
    int status = zero(o, DGAMMA, err);
    if (status == ZS_OK)
        status = zero(o, DBETA, err);
    if (status == ZS_OK)
        status = op_run(o, err);
    if (status < 0)
        return status;
    zs_bench_put_images(&f, "x", numbers(o, X), image_shape(o));
    zs_bench_put_images(&f, "dy", numbers(o, DY), image_shape(o));
    zs_bench_put_images(&f, "y", numbers(o, Y), image_shape(o));
    zs_bench_put_images(&f, "dx", numbers(o, DX), image_shape(o));
    zs_bench_put(&f, "", "gamma", 1, &c, numbers(o, GAMMA));
    zs_bench_put(&f, "", "beta", 1, &c, numbers(o, BETA));
    zs_bench_put(&f, "", "ss", 2, ss, numbers(o, SCALE_SHIFT));
    zs_bench_put(&f, "", "cs", 2, cs, numbers(o, COND));
    zs_bench_put(&f, "", "dgamma", 1, &c, numbers(o, DGAMMA));
    zs_bench_put(&f, "", "dbeta", 1, &c, numbers(o, DBETA));
    zs_bench_put(&f, "", "dss", 2, ss, numbers(o, DSS));
    zs_bench_put(&f, "", "dcs", 2, cs, numbers(o, DCS));
    return write_op(&f, o, dir, err);
}

const zs_bench_kind zs_bench_adagn = {open_adagn, op_run, no_flops, save_adagn, op_close};
