/* SPDX-License-Identifier: MIT */
/* What stands around the convolutions of cuDNN, and plain kernels for what it has no plan for. As
 * in kernels.h, all of them queue work and return. */
#ifndef ZS_BACKEND_CUDA_CONV_KERNELS_H
#define ZS_BACKEND_CUDA_CONV_KERNELS_H

#include "backend/cuda/conv_shape.h"
#include "tensor/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Filters: w[taps,c,o] as the graph has them and f[op,taps,cp] as cuDNN takes them, of one type,
 * where op >= o and cp >= c, and the difference is zeros. */
typedef struct zs_cuda_filter {
    int64_t taps, c, o, cp, op;
} zs_cuda_filter;

void zs_launch_filter(void *f, const void *w, zs_dtype type, const zs_cuda_filter *s, void *queue);

/* dw[taps,c,o] (f32) += df[op,taps,cp]. */
void zs_launch_filter_add(float *dw, const void *df, zs_dtype type, const zs_cuda_filter *s,
                          void *queue);

/* dst[rows,to] = src[rows,from], cut off or filled up with zeros. */
void zs_launch_columns(void *dst, int64_t to, const void *src, int64_t from, zs_dtype type,
                       int64_t rows, void *queue);

/* b in bf16, filled up with zeros: dst[to] of src[from]. */
void zs_launch_bias(void *dst, int64_t to, const float *src, int64_t from, void *queue);

/* Numbers in [-1, 1) of either sign, the same each time: to measure with. */
void zs_launch_noise(void *dst, zs_dtype type, int64_t n, void *queue);

/* The convolution itself, without filters in another order and without a workspace. b and r may be
 * NULL; w[kh,kw,c,o]. Slow. */
void zs_launch_conv(void *y, const void *x, const void *w, const float *b, const void *r, bool relu,
                    const zs_cuda_conv *s, void *queue);
void zs_launch_conv_dx(void *dx, const void *dy, const void *w, const zs_cuda_conv *s, void *queue);
void zs_launch_conv_dw(float *dw, const void *x, const void *dy, const zs_cuda_conv *s,
                       void *queue); /* adds to dw */

/* C[m,n] = alpha * A B + beta * C0 + bias[n] for every matrix of a batch, where A[m,k] and B[k,n]
 * have any two steps; C and C0 have rows of ldc. Types as in zs_blas. Slow. */
typedef struct zs_cuda_product {
    int64_t m, n, k, batch;
    int64_t am, ak, bk, bn, ldc; /* steps of a row of A, a column of A, ... */
    int64_t sa, sb, sc;          /* from one matrix of the batch to the next */
    float alpha, beta;
} zs_cuda_product;

void zs_launch_product(void *c, zs_dtype out, const void *a, const void *b, zs_dtype in,
                       const void *c0, const float *bias, const zs_cuda_product *s, void *queue);

#ifdef __cplusplus
}
#endif

#endif
