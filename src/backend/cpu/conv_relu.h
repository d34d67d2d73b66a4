/* SPDX-License-Identifier: MIT */
#ifndef ZS_BACKEND_CPU_CONV_RELU_H
#define ZS_BACKEND_CPU_CONV_RELU_H

#include "backend/cpu/cpu.h"

/* Sizes of x[n,h,w,c] * w[kh,kw,c,o] -> y[n,yh,yw,o], pads in rows (ph) and columns (pw). */
typedef struct zs_conv_rect {
    int64_t h, w, c, o, yh, yw, kh, kw, ph, pw, stride;
} zs_conv_rect;

static inline zs_conv_rect zs_conv_rect_of(const zs_call *call)
{
    const int64_t *x = call->in[0].s.d, *w = call->in[1].s.d, *y = call->out[0].s.d;
    const zs_attr *a = call->a;
    return (zs_conv_rect){x[1], x[2], x[3],   w[3],     y[1],     y[2],
                          w[0], w[1], a->pad, a->pad_w, a->stride};
}

#endif
