/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#include "backend/cpu/fast.h"

/* What has no entry here is done by the reference. */
static const zs_kernel *const fast[ZS_OP_COUNT] = {
    [ZS_OP_CONV2D] = &zs_fast_conv2d,
    [ZS_OP_CONV2D_DX] = &zs_fast_conv2d_dx,
    [ZS_OP_CONV2D_DW] = &zs_fast_conv2d_dw,
};

static const zs_kernel *kernel(zs_op op)
{
    return fast[op] ? fast[op] : zs_backend_cpu_ref.kernel(op);
}

const zs_backend zs_backend_cpu = {"cpu", kernel, zs_cpu_alloc, zs_cpu_release};
