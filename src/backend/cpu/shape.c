/* SPDX-License-Identifier: MIT */
#include "backend/cpu/fast.h"

#include <string.h>

enum { CHUNK = 1 << 14 };

static int64_t grain(int64_t width)
{
    return width < CHUNK ? CHUNK / width : 1;
}

/* a[...,A] b[...,B] -> y[...,A+B], rows [begin, end). */
static void concat_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t a = zs_shape_last(&c->in[0].s), b = zs_shape_last(&c->in[1].s);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *y = c->out[0].p + i * (a + b);
        memcpy(y, c->in[0].p + i * a, (size_t)a * sizeof *y);
        memcpy(y + a, c->in[1].p + i * b, (size_t)b * sizeof *y);
    }
}

static void concat(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), grain(zs_shape_last(&c->out[0].s)), concat_rows);
}

const zs_kernel zs_fast_concat = {concat, NULL};

/* x[...,C] -> y[...,len], rows [begin, end). */
static void slice_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t ch = zs_shape_last(&c->in[0].s), len = c->a->len;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        memcpy(c->out[0].p + i * len, c->in[0].p + i * ch + c->a->offset,
               (size_t)len * sizeof(float));
}

static void slice(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->in[0].s), grain(c->a->len), slice_rows);
}

const zs_kernel zs_fast_slice = {slice, NULL};
