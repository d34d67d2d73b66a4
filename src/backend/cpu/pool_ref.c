/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

/* The pixels [*from, *to) along one axis that window `at` sees. */
static void window(int64_t *from, int64_t *to, const zs_attr *a, int64_t at, int64_t size)
{
    int64_t i = at * a->stride - a->pad;
    *from = i < 0 ? 0 : i;
    *to = i + a->k < size ? i + a->k : size;
}

static float pool_one(const zs_call *call, const int64_t at[3], int64_t c)
{
    const int64_t *d = call->in[0].s.d;
    int64_t y0, y1, x0, x1;
    window(&y0, &y1, call->a, at[1], d[1]);
    window(&x0, &x1, call->a, at[2], d[2]);
    double sum = 0, most = -HUGE_VAL;
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++) {
            double v = (double)call->in[0].p[((at[0] * d[1] + y) * d[2] + x) * d[3] + c];
            sum += v;
            most = v > most || isnan(v) ? v : most;
        }
    return (float)(call->a->kind == ZS_POOL_MAX ? most : sum / (double)((y1 - y0) * (x1 - x0)));
}

/* Rows [begin, end) of N*H'*W'. */
static void pool_rows(const zs_call *call, int64_t begin, int64_t end, int thread)
{
    const int64_t *d = call->out[0].s.d;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        const int64_t at[3] = {p / (d[1] * d[2]), p / d[2] % d[1], p % d[2]};
        for (int64_t c = 0; c < d[3]; c++)
            call->out[0].p[p * d[3] + c] = pool_one(call, at, c);
    }
}

static void pool(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), 64, pool_rows);
}

const zs_kernel zs_ref_pool = {pool, NULL};
