/* SPDX-License-Identifier: MIT */
/* The CUDA backend, as the registry and programs see it. Compiled with -DZSEM_CUDA=ON only. */
#ifndef ZS_BACKEND_CUDA_CUDA_H
#define ZS_BACKEND_CUDA_CUDA_H

#include "tensor/tensor.h"

/* "cuda" keeps activations and weights in bf16, "cuda-f32" everything in f32 without TF32, for
 * comparing with the CPU. Not const: opening the device fills in the queue. */
extern zs_backend zs_backend_cuda, zs_backend_cuda_f32;

/* zs_cuda_<name> for every row of ops.def. */
#define OP(NAME, name, inputs, outputs, gradient, slots) extern const zs_kernel zs_cuda_##name;
#include "tensor/ops.def"
#undef OP

extern const zs_packer zs_cuda_conv2d_packer;

/* The device that opening takes, counted over those that CUDA_VISIBLE_DEVICES leaves: 0 unless a
 * rank of several on this machine picks its own. ZS_E_INVALID once another is open. */
int zs_cuda_select(int device, zs_error *err);

/* "CUDA 13.0, driver 13.1, cuDNN 9.19.0, cuBLASLt 13.1" */
void zs_cuda_versions(char *out, size_t n);

#endif
