/* SPDX-License-Identifier: MIT */
/* Sizes of a convolution, read from the views of any of its three operations. */
#ifndef ZS_BACKEND_CPU_CONV_H
#define ZS_BACKEND_CPU_CONV_H

#include "backend/cpu/cpu.h"

/* x[n,h,w,c] * w[k,k,c,o] -> y[n,yh,yw,o], `pad` zeros above and to the left of x, and as many as
 * y asks for below and to the right. */
typedef struct zs_conv {
    int64_t n, h, w, c, o, yh, yw;
    int k, stride, pad;
} zs_conv;

/* The fastest kind of algorithm that may be used, for tests and comparisons. Like the instruction
 * set, it must not change between planning and running. */
typedef enum zs_conv_path {
    ZS_CONV_REFERENCE,
    ZS_CONV_DIRECT,
    ZS_CONV_POINT,
    ZS_CONV_FEW,
    ZS_CONV_WINOGRAD
} zs_conv_path;
void zs_conv_path_set(zs_conv_path path);

/* Of images x, weights or their gradient w, and images y. */
static inline zs_conv zs_conv_of(const zs_attr *a, const zs_shape *x, const zs_shape *w,
                                 const zs_shape *y)
{
    return (zs_conv){.n = x->d[0],
                     .h = x->d[1],
                     .w = x->d[2],
                     .c = w->d[2],
                     .o = w->d[3],
                     .yh = y->d[1],
                     .yw = y->d[2],
                     .k = (int)w->d[0],
                     .stride = a->stride,
                     .pad = a->pad};
}

static inline zs_conv zs_conv_fwd(const zs_call *c)
{
    return zs_conv_of(c->a, &c->in[0].s, &c->in[1].s, &c->out[0].s);
}

static inline zs_conv zs_conv_dx(const zs_call *c)
{
    return zs_conv_of(c->a, &c->out[0].s, &c->in[1].s, &c->in[0].s);
}

static inline zs_conv zs_conv_dw(const zs_call *c)
{
    return zs_conv_of(c->a, &c->in[0].s, &c->out[0].s, &c->in[1].s);
}

#endif
