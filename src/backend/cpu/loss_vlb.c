/* SPDX-License-Identifier: MIT */
/* One sample per thread. */
#include "backend/cpu/loss_vlb.h"
#include "backend/cpu/fast.h"

static void parts_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    for (; i < end; i++)
        zs_vlb_sample(c, i, (double *)c->ws + 2 * i);
}

static size_t loss_vlb_ws(const zs_call *c)
{
    return (size_t)c->in[0].s.d[0] * 2 * sizeof(double);
}

static void loss_vlb(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0];
    const double *parts = c->ws;
    double sum = 0;
    zs_cpu_for(c, n, 1, parts_range);
    for (int64_t i = 0; i < n; i++)
        sum += parts[2 * i] + parts[2 * i + 1];
    for (int64_t i = 0; i < 2 * n && c->out[1].p; i++)
        c->out[1].p[i] = (float)parts[i];
    c->out[0].p[0] = (float)(sum / (double)n);
}

const zs_kernel zs_fast_loss_vlb = {loss_vlb, loss_vlb_ws};

static void bwd_range(const zs_call *c, int64_t i, int64_t end, int thread)
{
    (void)thread;
    for (; i < end; i++)
        zs_vlb_sample_bwd(c, i);
}

static void loss_vlb_bwd(const zs_call *c)
{
    zs_cpu_for(c, c->in[0].s.d[0], 1, bwd_range);
}

const zs_kernel zs_fast_loss_vlb_bwd = {loss_vlb_bwd, NULL};
