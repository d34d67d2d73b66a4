/* SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"
#include "backend/cuda/device.h"

static const zs_kernel *const table[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) &zs_cuda_##name,
#include "tensor/ops.def"
#undef OP
};

static const zs_kernel *kernel(zs_op op)
{
    return table[op];
}

static const zs_packer *packer(zs_op op)
{
    return op == ZS_OP_CONV2D ? &zs_cuda_conv2d_packer : NULL;
}

static const zs_remote remote = {
    .open = zs_cuda_open,
    .device = zs_cuda_device,
    .alloc_host = zs_cuda_alloc_host,
    .release_host = zs_cuda_release_host,
    .upload = zs_cuda_upload,
    .download = zs_cuda_download,
    .copy = zs_cuda_copy,
    .zero = zs_cuda_zero,
    .to_bf16 = zs_cuda_to_bf16,
    .sync = zs_cuda_sync,
    .norm = zs_cuda_norm,
    .adam = zs_cuda_adam,
    .record = zs_cuda_record,
    .record_end = zs_cuda_record_end,
    .replay = zs_cuda_replay,
    .tape_free = zs_cuda_tape_free,
};

#define SHARED                                                                              \
    .kernel = kernel, .alloc = zs_cuda_alloc, .release = zs_cuda_release, .packer = packer, \
    .remote = &remote

zs_backend zs_backend_cuda = {SHARED, .name = "cuda", .bf16 = true};
zs_backend zs_backend_cuda_f32 = {SHARED, .name = "cuda-f32"};
