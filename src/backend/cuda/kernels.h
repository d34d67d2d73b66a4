/* SPDX-License-Identifier: MIT */
/* What the kernels of *.cu offer to C: one zs_kernel per operation, and launchers for the rest.
 *
 * All of them queue work and return. Pointers are device memory; `queue` is a cudaStream_t.
 * Results have the same bits each time: sums are cut by shape alone and added in a fixed order. */
#ifndef ZS_BACKEND_CUDA_KERNELS_H
#define ZS_BACKEND_CUDA_KERNELS_H

#include "tensor/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* zs_cuda_<name> for every row of ops.def. Convolutions, matrix products and attention are not
 * in *.cu files. */
#define OP(NAME, name, inputs, outputs, gradient, slots) extern const zs_kernel zs_cuda_##name;
#include "tensor/ops.def"
#undef OP

/* sum[cols] (f32) = or, with `add`, += the sums over `rows` rows of x[rows, cols] (f32 or bf16).
 * ws: zs_column_sum_bytes, 8-byte aligned. For the gradients of biases. */
size_t zs_column_sum_bytes(int64_t rows, int64_t cols);
void zs_launch_column_sum(float *sum, const void *x, zs_dtype type, int64_t rows, int64_t cols,
                          bool add, void *ws, void *queue);

/* y[rows, cols] = x + bias[cols] + r, then max(0, .) with `relu`; bias (f32) and r may be NULL.
 * y and x and r are of one type; y may be x or r. */
void zs_launch_bias_residual(void *y, const void *x, const float *bias, const void *r,
                             zs_dtype type, int64_t rows, int64_t cols, bool relu, void *queue);

/* y[rows, cols] (f32 or bf16) = softmax over each row of scale*x (f32). */
void zs_launch_softmax(void *y, zs_dtype type, const float *x, int64_t rows, int64_t cols,
                       float scale, void *queue);

/* Its gradient at x from y as above and dy (f32): dx = scale * y * (dy - sum(y*dy)), of y's type.
 * */
void zs_launch_softmax_bwd(void *dx, const void *y, zs_dtype type, const float *dy, int64_t rows,
                           int64_t cols, float scale, void *queue);

/* n elements between f32 and bf16, rounded to nearest even; to == from copies. */
void zs_launch_cast(void *dst, zs_dtype to, const void *src, zs_dtype from, int64_t n, void *queue);

/* g[n] (f32) += x[n] (f32 or bf16): gradients of weights that a library leaves in bf16. */
void zs_launch_accumulate(float *g, const void *x, zs_dtype type, int64_t n, void *queue);

void zs_launch_fill(float *dst, float value, int64_t n, void *queue);

/* *norm = Euclidean norm of g[n], in double. ws: ZS_NORM_BYTES, 8-byte aligned. */
enum { ZS_NORM_BYTES = 1024 * 8 };
void zs_launch_norm(double *norm, const float *g, int64_t n, void *ws, void *queue);

/* One optimiser step, as zs_remote.adam says. */
void zs_launch_adam(const zs_adam *a, void *queue);

/* What zs_rng_normal and zs_rng_uniform give, bit for bit. */
void zs_launch_normal(float *out, int64_t n, const zs_rng *r, int64_t first, void *queue);
void zs_launch_uniform(float *out, int64_t n, const zs_rng *r, int64_t first, void *queue);

#ifdef __cplusplus
}
#endif

#endif
