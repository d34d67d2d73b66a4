/* SPDX-License-Identifier: MIT */
#include "tests/ops/cases.h"

#include <math.h>
#include <string.h>

enum { GUARD = 64 }; /* floats before and after each tensor */

static const float guard_value = -7.25e19f;

/* Of the operation's name: a further row of ops.def leaves the numbers of the others alone. */
static zs_rng stream(const op_case *c, int slot)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *p = zs_op_name(c->op); *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    return (zs_rng){
        .seed = 11, .purpose = ZS_RNG_TEST, .index = (hash >> 32) * 16 + (uint64_t)slot};
}

/* n floats between guards, uninitialised, as allocation `slot`. Timed cases get the pages that a
 * plan's arena gets. */
static float *guarded(op_data *d, int slot, size_t n)
{
    size_t floats = n + 2 * GUARD;
    float **base = &d->base[slot];
    if (d->c->bench)
        *base = zs_backend_find("cpu")->alloc(floats * sizeof(float));
    else
        *base = zs_alloc(floats, sizeof(float));
    if (!*base)
        return NULL;
    d->base_bytes[slot] = floats * sizeof(float);
    for (size_t i = 0; i < GUARD; i++)
        (*base)[i] = (*base)[GUARD + n + i] = guard_value;
    return *base + GUARD;
}

static void release(op_data *d, int slot)
{
    if (d->base[slot] && d->c->bench)
        zs_backend_find("cpu")->release(d->base[slot], d->base_bytes[slot]);
    else
        zs_free(d->base[slot]);
    d->base[slot] = NULL;
}

static bool intact(const float *base, size_t n)
{
    for (size_t i = 0; i < GUARD; i++)
        if (base[i] != guard_value || base[GUARD + n + i] != guard_value)
            return false;
    return true;
}

static size_t numel(const zs_shape *s)
{
    return s->nd ? (size_t)zs_shape_numel(s) : 0;
}

/* Whole numbers: timesteps, rows of a table. The last row of a table is not named. */
static void fill_whole(float *x, const op_case *c, size_t n)
{
    int64_t v = c->op == ZS_OP_TIMESTEP ? 1000 : (c->op == ZS_OP_EMBED ? c->in[1] : c->out[0]).d[0];
    for (size_t e = 0; e < n; e++)
        x[e] = (float)((int64_t)e * 237 % (v > 1 && v < 1000 ? v - 1 : v));
}

static bool holds_whole(zs_op op)
{
    return op == ZS_OP_TIMESTEP || op == ZS_OP_EMBED || op == ZS_OP_EMBED_BWD;
}

/* Slot of a mask, or -1. Every other one is set. */
static int mask_slot(zs_op op)
{
    return op == ZS_OP_SUBSTITUTE ? 2 : op == ZS_OP_SUBSTITUTE_BWD ? 0 : -1;
}

/* Slot 1 of the backward norms: the statistics that the reference's forward pass yields. */
static bool fill_stats(op_data *d)
{
    const op_case *c = d->c;
    bool gn = c->op == ZS_OP_GN_ACT_BWD;
    size_t n = numel(&c->in[0]), ch = (size_t)zs_shape_last(&c->in[0]);
    float *y = zs_alloc(n, sizeof(float)), *v = zs_calloc(ch, sizeof(float));
    bool ok = y && v;
    if (ok) {
        zs_attr a = c->a;
        a.p = 0; /* statistics know no dropout */
        zs_call call = {.a = &a, .threads = 1};
        call.in[0] = (zs_view){.p = d->in[0], .s = c->in[0]};
        call.in[1] = call.in[2] = (zs_view){.p = v, .s = zs_shape1((int64_t)ch)};
        call.out[0] = (zs_view){.p = y, .s = c->in[0]};
        call.out[1] = (zs_view){.p = d->in[1], .s = c->in[1]};
        zs_backend_find("cpu-ref")->kernel(gn ? ZS_OP_GN_ACT : ZS_OP_LAYERNORM)->run(&call);
    }
    zs_free(y);
    zs_free(v);
    return ok;
}

/* Every other sample is of step 0; the numbers are those of a process of 25 steps. */
static void fill_steps(float *row, size_t n)
{
    static const float first[] = {-9.21f, -9.215f, 0.01f, 1, 1},
                       later[] = {-2.9f, -3.17f, 0.23f, 0, 3};
    for (size_t i = 0; i < n; i++)
        row[i] = (i / ZS_BOUND_NUMBERS % 2 ? later : first)[i % ZS_BOUND_NUMBERS];
}

static bool fill_inputs(op_data *d)
{
    const op_case *c = d->c;
    for (int i = 0; i < ZS_MAX_IN; i++) {
        size_t n = numel(&c->in[i]);
        if (n == 0)
            continue;
        zs_rng r = stream(c, i);
        zs_rng_normal(d->in[i], n, &r, 0);
        for (size_t e = 0; i == 0 && e < n; e++)
            d->in[0][e] += c->mean;
        if (i == 0 && holds_whole(c->op))
            fill_whole(d->in[0], c, n);
        for (size_t e = 0; i == 2 && c->op == ZS_OP_BATCHNORM && e < n; e++)
            d->in[2][e] = d->in[2][e] * d->in[2][e] + 0.1f; /* a variance */
        for (size_t e = 0; i == mask_slot(c->op) && e < n; e++)
            d->in[i][e] = e % 2 ? 0.0f : 1.0f;
    }
    if (c->op == ZS_OP_LOSS_VLB || c->op == ZS_OP_LOSS_VLB_BWD)
        fill_steps(d->in[3], numel(&c->in[3]));
    if (c->op == ZS_OP_GN_ACT_BWD || c->op == ZS_OP_LAYERNORM_BWD)
        return fill_stats(d);
    return true;
}

bool op_data_new(op_data *d, const op_case *c)
{
    *d = (op_data){.c = c, .step = {.seed = 3, .step = 17, .sample = 4, .grad_scale = 0.5f}};
    for (int i = 0; i < ZS_MAX_IN; i++)
        if (c->in[i].nd && !(d->in[i] = guarded(d, i, numel(&c->in[i]))))
            goto fail;
    for (int i = 0; i < ZS_MAX_OUT; i++)
        if (c->out[i].nd && !(d->out[i] = guarded(d, ZS_MAX_IN + i, numel(&c->out[i]))))
            goto fail;
    if (fill_inputs(d))
        return true;
fail:
    op_data_free(d);
    return false;
}

void op_data_free(op_data *d)
{
    for (int i = 0; i < ZS_MAX_IN + ZS_MAX_OUT + 1; i++)
        release(d, i);
    *d = (op_data){0};
}

/* Outputs that the operation adds to. */
static bool added_to(zs_op op, int slot)
{
    switch (op) {
    case ZS_OP_CONV2D_DW:
    case ZS_OP_LINEAR_DW:
    case ZS_OP_EMBED_BWD:
    case ZS_OP_ACCUMULATE: return true;
    case ZS_OP_SUBSTITUTE_BWD: return slot == 1;
    case ZS_OP_GN_ACT_BWD:
    case ZS_OP_TOKENS_BWD:
    case ZS_OP_LAYERNORM_BWD: return slot == 1 || slot == 2;
    default: return false;
    }
}

static void fill_outputs(op_data *d)
{
    for (int i = 0; i < ZS_MAX_OUT; i++) {
        size_t n = numel(&d->c->out[i]);
        zs_rng r = stream(d->c, ZS_MAX_IN + i);
        if (n && added_to(d->c->op, i))
            zs_rng_normal(d->out[i], n, &r, 0);
        else
            for (size_t e = 0; e < n; e++)
                d->out[i][e] = NAN;
    }
}

bool op_prepare(op_data *d, const zs_backend *b, zs_call *call)
{
    const zs_kernel *k = b->kernel(d->c->op);
    *call = (zs_call){.a = &d->c->a, .threads = zs_threads_count()};
    for (int i = 0; i < ZS_MAX_IN; i++)
        call->in[i] = (zs_view){.p = d->in[i], .s = d->c->in[i]};
    for (int i = 0; i < ZS_MAX_OUT; i++)
        call->out[i] = (zs_view){.p = d->out[i], .s = d->c->out[i]};
    release(d, ZS_MAX_IN + ZS_MAX_OUT);
    d->ws_bytes = k->workspace ? (k->workspace(call) + 3) / 4 * 4 : 0;
    call->ws = d->ws = guarded(d, ZS_MAX_IN + ZS_MAX_OUT, d->ws_bytes / 4);
    if (!d->ws)
        return false;
    for (size_t i = 0; i < d->ws_bytes / 4; i++)
        ((float *)d->ws)[i] = NAN;
    call->step = &d->step;
    return true;
}

bool op_run(op_data *d, const zs_backend *b)
{
    zs_call call;
    fill_outputs(d);
    if (!op_prepare(d, b, &call))
        return false;
    b->kernel(d->c->op)->run(&call);
    return true;
}

const char *op_guard(const op_data *d)
{
    static const char *const names[] = {"input 0",  "input 1",  "input 2",  "input 3",  "input 4",
                                        "input 5",  "input 6",  "output 0", "output 1", "output 2",
                                        "output 3", "output 4", "workspace"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = i < ZS_MAX_IN                ? numel(&d->c->in[i])
                   : i < ZS_MAX_IN + ZS_MAX_OUT ? numel(&d->c->out[i - ZS_MAX_IN])
                                                : d->ws_bytes / 4;
        if (d->base[i] && !intact(d->base[i], n))
            return names[i];
    }
    return NULL;
}
