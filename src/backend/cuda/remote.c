/* SPDX-License-Identifier: MIT */
/* Those functions of zs_remote that are kernels. */
#include "backend/cuda/device.h"
#include "backend/cuda/kernels.h"

int zs_cuda_to_bf16(uint16_t *dst, const float *src, int64_t n, zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0)
        return status;
    zs_launch_cast(dst, ZS_BF16, src, ZS_F32, n, zs_cuda_get()->stream);
    return zs_cuda_status(err);
}

int zs_cuda_norm(double *norm, const float *g, int64_t n, zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0)
        return status;
    zs_launch_norm(norm, g, n, zs_cuda_scratch(), zs_cuda_get()->stream);
    return zs_cuda_status(err);
}

int zs_cuda_adam(const zs_adam *a, zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0)
        return status;
    zs_launch_adam(a, zs_cuda_get()->stream);
    return zs_cuda_status(err);
}
