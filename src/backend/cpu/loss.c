/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

enum { CHUNK = 1 << 14 };

static int64_t count(const zs_call *c)
{
    return zs_shape_numel(&c->in[0].s);
}

/* The others are of a few classes or attributes, not of images; weights are rare. */
static bool fast(const zs_call *c)
{
    return (c->a->kind == ZS_LOSS_MSE || c->a->kind == ZS_LOSS_L1) && !c->in[2].p;
}

/* One double per chunk, added in order. */
static void loss_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    const float *a = c->in[0].p + i, *b = c->in[1].p + i;
    double *part = (double *)c->ws + i / CHUNK;
    (void)thread;
    *part = c->a->kind == ZS_LOSS_MSE ? zs_elem_get()->sum_square_diff(a, b, end - i)
                                      : zs_elem_get()->sum_abs_diff(a, b, end - i);
}

static size_t loss_ws(const zs_call *c)
{
    return (size_t)((count(c) + CHUNK - 1) / CHUNK) * sizeof(double);
}

static void loss(const zs_call *c)
{
    double sum = 0;
    if (!fast(c)) {
        zs_ref_loss.run(c);
        return;
    }
    zs_cpu_for(c, count(c), CHUNK, loss_range);
    for (size_t i = 0; i < loss_ws(c) / sizeof(double); i++)
        sum += ((const double *)c->ws)[i];
    c->out[0].p[0] = (float)(sum / (double)count(c));
}

const zs_kernel zs_fast_loss = {loss, loss_ws};

static void loss_bwd_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    const float *a = c->in[0].p + i, *b = c->in[1].p + i;
    float *d = c->out[0].p + i, f = (float)((double)c->step->grad_scale / (double)count(c));
    (void)thread;
    if (c->a->kind == ZS_LOSS_MSE)
        zs_elem_get()->square_diff_bwd(d, a, b, f, end - i);
    else
        zs_elem_get()->abs_diff_bwd(d, a, b, f, end - i);
}

static void loss_bwd(const zs_call *c)
{
    if (fast(c))
        zs_cpu_for(c, count(c), CHUNK, loss_bwd_range);
    else
        zs_ref_loss_bwd.run(c);
}

const zs_kernel zs_fast_loss_bwd = {loss_bwd, NULL};
