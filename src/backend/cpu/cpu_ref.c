/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

static const zs_kernel *const table[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) &zs_ref_##name,
#include "tensor/ops.def"
#undef OP
};

static const zs_kernel *kernel(zs_op op)
{
    return table[op];
}

const zs_backend zs_backend_cpu_ref = {
    .name = "cpu-ref",
    .kernel = kernel,
    .alloc = zs_cpu_alloc,
    .release = zs_cpu_release,
    .touch = zs_cpu_touch,
};
