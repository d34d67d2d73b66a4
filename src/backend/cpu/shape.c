/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

enum { CHUNK = 1 << 14, ROWS = 8 };

static int64_t grain(int64_t width)
{
    return width < CHUNK ? CHUNK / width : 1;
}

/* a[...,A] b[...,B] -> y[...,A+B], rows [begin, end). */
static void concat_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t a = zs_shape_last(&c->in[0].s), b = zs_shape_last(&c->in[1].s);
    (void)thread;
    for (int64_t i = begin; i < end; i += ROWS) { /* both halves of a line are written at once */
        int64_t rows = end - i < ROWS ? end - i : ROWS;
        float *y = c->out[0].p + i * (a + b);
        zs_elem_get()->copy_rows(y, a + b, c->in[0].p + i * a, a, rows, a);
        zs_elem_get()->copy_rows(y + a, a + b, c->in[1].p + i * b, b, rows, b);
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
    zs_elem_get()->copy_rows(c->out[0].p + begin * len, len, c->in[0].p + begin * ch + c->a->offset,
                             ch, end - begin, len);
}

static void slice(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->in[0].s), grain(c->a->len), slice_rows);
}

const zs_kernel zs_fast_slice = {slice, NULL};
