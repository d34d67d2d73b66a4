/* SPDX-License-Identifier: MIT */
/* Direct convolution. A band of output rows is made from a copy of its input rows with the zero
 * padding written out; in NHWC a row of the patch is then one run of k*C floats, and so is a row
 * of the weights, which are packed into panels of nr outputs. No edges are left for the inner
 * loop (tile.h). The gradient of the input is the same thing with flipped, transposed weights and
 * an input that is spread out by the stride. */
#ifndef ZS_BACKEND_CPU_CONV_DIRECT_H
#define ZS_BACKEND_CPU_CONV_DIRECT_H

#include "backend/cpu/conv.h"

#include <stdbool.h>

/* The images that a band is cut from: src[n,h,w,c], `dilate` - 1 zeros between pixels and `pad`
 * zeros before the first one; after the last one as many as are asked for. */
typedef struct zs_band_src {
    const float *p;
    int64_t h, w, c, dilate, pad;
} zs_band_src;

/* buf[rows][width][c]: rows from `first` on of image n, counted with the padding. */
void zs_band_fill(float *buf, const zs_band_src *s, int64_t n, int64_t first, int64_t rows,
                  int64_t width);

bool zs_conv_direct_can(const zs_call *c);
void zs_conv_direct(const zs_call *c);
size_t zs_conv_direct_ws(const zs_call *c);
extern const zs_packer zs_conv_direct_packer;

bool zs_conv_direct_dx_can(const zs_call *c); /* pad < k */
void zs_conv_direct_dx(const zs_call *c);
size_t zs_conv_direct_dx_ws(const zs_call *c);

bool zs_conv_direct_dw_can(const zs_call *c);
void zs_conv_direct_dw(const zs_call *c);
size_t zs_conv_direct_dw_ws(const zs_call *c);

static inline int64_t zs_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t zs_min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t zs_max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Floats, rounded up so that what follows is 64-byte aligned. */
static inline int64_t zs_align16(int64_t n)
{
    return (n + 15) / 16 * 16;
}

#endif
