/* SPDX-License-Identifier: MIT */
/* Element-wise operations in chunks of a fixed size. */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

enum { CHUNK = 1 << 14 };

static void run(const zs_call *c, zs_cpu_range fn)
{
    zs_cpu_for(c, zs_shape_numel(&c->in[0].s), CHUNK, fn);
}

static void silu_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    zs_elem_get()->silu(c->out[0].p + i, c->in[0].p + i, end - i);
}

static void silu_bwd_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    zs_elem_get()->silu_bwd(c->out[0].p + i, c->in[0].p + i, c->in[1].p + i, end - i);
}

static void gelu_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    const zs_elem_fns *f = zs_elem_get();
    (c->a->kind == ZS_GELU_TANH ? f->gelu_tanh : f->gelu)(c->out[0].p + i, c->in[0].p + i, end - i);
}

static void gelu_bwd_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    const zs_elem_fns *f = zs_elem_get();
    (c->a->kind == ZS_GELU_TANH ? f->gelu_tanh_bwd : f->gelu_bwd)(c->out[0].p + i, c->in[0].p + i,
                                                                  c->in[1].p + i, end - i);
}

static void add_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    zs_elem_get()->add(c->out[0].p + i, c->in[0].p + i, c->in[1].p + i, end - i);
}

static void accumulate_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    zs_elem_get()->accumulate(c->out[0].p + i, c->in[0].p + i, end - i);
}

static void scale1p_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    zs_elem_get()->mul1p(c->out[0].p + i, c->in[0].p + i, c->in[1].p + i, end - i);
}

static void scale1p_bwd_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    const float *x = c->in[0].p + i, *s = c->in[1].p + i, *dy = c->in[2].p + i;
    (void)thread;
    if (c->out[0].p)
        zs_elem_get()->mul1p(c->out[0].p + i, dy, s, end - i);
    if (c->out[1].p)
        zs_elem_get()->mul(c->out[1].p + i, dy, x, end - i);
}

static void silu(const zs_call *c)
{
    run(c, silu_range);
}

static void silu_bwd(const zs_call *c)
{
    run(c, silu_bwd_range);
}

static void gelu(const zs_call *c)
{
    run(c, gelu_range);
}

static void gelu_bwd(const zs_call *c)
{
    run(c, gelu_bwd_range);
}

static void add(const zs_call *c)
{
    run(c, add_range);
}

static void accumulate(const zs_call *c)
{
    run(c, accumulate_range);
}

static void scale1p(const zs_call *c)
{
    run(c, scale1p_range);
}

static void scale1p_bwd(const zs_call *c)
{
    run(c, scale1p_bwd_range);
}

const zs_kernel zs_fast_silu = {silu, NULL};
const zs_kernel zs_fast_silu_bwd = {silu_bwd, NULL};
const zs_kernel zs_fast_gelu = {gelu, NULL};
const zs_kernel zs_fast_gelu_bwd = {gelu_bwd, NULL};
const zs_kernel zs_fast_add = {add, NULL};
const zs_kernel zs_fast_accumulate = {accumulate, NULL};
const zs_kernel zs_fast_scale1p = {scale1p, NULL};
const zs_kernel zs_fast_scale1p_bwd = {scale1p_bwd, NULL};
