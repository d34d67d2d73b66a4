/* SPDX-License-Identifier: MIT */
#ifndef ZS_BACKEND_CUDA_KERNELS_FIT_H
#define ZS_BACKEND_CUDA_KERNELS_FIT_H

#ifdef __cplusplus
extern "C" {
#endif

/* A cudaError_t: whether this build's kernels can run on the current device. */
int zs_cuda_kernels_fit(void);

#ifdef __cplusplus
}
#endif

#endif
