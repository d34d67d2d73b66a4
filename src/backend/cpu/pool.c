/* SPDX-License-Identifier: MIT */
#include "backend/cpu/fast.h"

#include <math.h>

enum { CHUNK = 1 << 14 }; /* floats of the result */

static void take_max(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = y[i] > x[i] ? y[i] : x[i];
}

static void take_sum(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* y[C] of one output pixel; x is the image, top and left the first pixel of the window. */
static void pixel(float *y, const zs_call *call, const float *x, int64_t top, int64_t left)
{
    const int64_t *d = call->in[0].s.d;
    bool max = call->a->kind == ZS_POOL_MAX;
    int64_t y0 = top < 0 ? 0 : top, y1 = top + call->a->k < d[1] ? top + call->a->k : d[1];
    int64_t x0 = left < 0 ? 0 : left, x1 = left + call->a->k < d[2] ? left + call->a->k : d[2];
    float scale = 1.0f / (float)((y1 - y0) * (x1 - x0));
    for (int64_t c = 0; c < d[3]; c++)
        y[c] = max ? -INFINITY : 0.0f;
    for (int64_t iy = y0; iy < y1; iy++)
        for (int64_t ix = x0; ix < x1; ix++)
            (max ? take_max : take_sum)(y, x + (iy * d[2] + ix) * d[3], d[3]);
    for (int64_t c = 0; c < d[3] && !max; c++)
        y[c] *= scale;
}

/* Rows [begin, end) of N*H'*W'. */
static void pool_rows(const zs_call *call, int64_t begin, int64_t end, int thread)
{
    const int64_t *d = call->out[0].s.d, *in = call->in[0].s.d;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        int64_t n = p / (d[1] * d[2]), oy = p / d[2] % d[1], ox = p % d[2];
        pixel(call->out[0].p + p * d[3], call, call->in[0].p + n * in[1] * in[2] * in[3],
              oy * call->a->stride - call->a->pad, ox * call->a->stride - call->a->pad);
    }
}

static void pool(const zs_call *c)
{
    int64_t ch = zs_shape_last(&c->out[0].s);
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), ch < CHUNK ? CHUNK / ch : 1, pool_rows);
}

const zs_kernel zs_fast_pool = {pool, NULL};
