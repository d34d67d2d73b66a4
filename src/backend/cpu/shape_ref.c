/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <string.h>

/* a[...,A] b[...,B] -> y[...,A+B]. */
static void concat(const zs_call *c)
{
    int64_t rows = zs_shape_rows(&c->in[0].s);
    size_t a = (size_t)zs_shape_last(&c->in[0].s), b = (size_t)zs_shape_last(&c->in[1].s);
    for (int64_t i = 0; i < rows; i++) {
        float *y = c->out[0].p + (size_t)i * (a + b);
        memcpy(y, c->in[0].p + (size_t)i * a, a * sizeof *y);
        memcpy(y + a, c->in[1].p + (size_t)i * b, b * sizeof *y);
    }
}

/* x[...,C] -> y[...,len]. */
static void slice(const zs_call *c)
{
    int64_t rows = zs_shape_rows(&c->in[0].s), ch = zs_shape_last(&c->in[0].s), len = c->a->len;
    for (int64_t i = 0; i < rows; i++)
        memcpy(c->out[0].p + i * len, c->in[0].p + i * ch + c->a->offset,
               (size_t)len * sizeof(float));
}

const zs_kernel zs_ref_concat = {concat, NULL};
const zs_kernel zs_ref_slice = {slice, NULL};

/* On the CPU everything is f32. */
static void cast(const zs_call *c)
{
    memcpy(c->out[0].p, c->in[0].p, (size_t)zs_shape_numel(&c->in[0].s) * sizeof(float));
}

const zs_kernel zs_ref_cast = {cast, NULL};
