/* SPDX-License-Identifier: MIT */
#include "backend/cuda/kernels_fit.h"

#include <cuda_runtime.h>

static __global__ void nothing(void)
{
}

int zs_cuda_kernels_fit(void)
{
    cudaFuncAttributes a;
    return (int)cudaFuncGetAttributes(&a, (const void *)nothing);
}
