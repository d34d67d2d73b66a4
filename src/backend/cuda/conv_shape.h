/* SPDX-License-Identifier: MIT */
/* A convolution as cuDNN and our own kernels see it; C and CUDA C++ alike. */
#ifndef ZS_BACKEND_CUDA_CONV_SHAPE_H
#define ZS_BACKEND_CUDA_CONV_SHAPE_H

#include <stdint.h>

typedef enum zs_cuda_conv_kind { ZS_CONV_FORWARD, ZS_CONV_DX, ZS_CONV_DW } zs_cuda_conv_kind;

/* x[n,h,w,c] * w -> y[n,yh,yw,o], all of one type, channels fastest. One kind of number without
 * gaps between, so that the bytes are a key. */
typedef struct zs_cuda_conv {
    int64_t kind; /* zs_cuda_conv_kind: which of y, x, w is computed from the other two */
    int64_t type; /* ZS_F32 or ZS_BF16; products are added in f32 */
    int64_t bias; /* forward: y = conv + b is wanted, and nothing else added */
    int64_t n, h, w, c, o, yh, yw, kh, kw, stride;
    int64_t top, left, bottom, right; /* zeros around x */
} zs_cuda_conv;

#endif
