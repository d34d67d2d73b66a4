/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#include "backend/cpu/fast.h"

/* What has no entry here is done by the reference. */
static const zs_kernel *const fast[ZS_OP_COUNT] = {
    [ZS_OP_CONV2D] = &zs_fast_conv2d,
    [ZS_OP_CONV2D_DX] = &zs_fast_conv2d_dx,
    [ZS_OP_CONV2D_DW] = &zs_fast_conv2d_dw,
    [ZS_OP_LINEAR] = &zs_fast_linear,
    [ZS_OP_LINEAR_DX] = &zs_fast_linear_dx,
    [ZS_OP_LINEAR_DW] = &zs_fast_linear_dw,
    [ZS_OP_GN_ACT] = &zs_fast_gn_act,
    [ZS_OP_GN_ACT_BWD] = &zs_fast_gn_act_bwd,
    [ZS_OP_LAYERNORM] = &zs_fast_layernorm,
    [ZS_OP_LAYERNORM_BWD] = &zs_fast_layernorm_bwd,
    [ZS_OP_SILU] = &zs_fast_silu,
    [ZS_OP_SILU_BWD] = &zs_fast_silu_bwd,
    [ZS_OP_GELU] = &zs_fast_gelu,
    [ZS_OP_GELU_BWD] = &zs_fast_gelu_bwd,
    [ZS_OP_GATE] = &zs_fast_gate,
    [ZS_OP_GATE_BWD] = &zs_fast_gate_bwd,
    [ZS_OP_TOKENS] = &zs_fast_tokens,
    [ZS_OP_TOKENS_BWD] = &zs_fast_tokens_bwd,
    [ZS_OP_ADD] = &zs_fast_add,
    [ZS_OP_SCALE1P] = &zs_fast_scale1p,
    [ZS_OP_SCALE1P_BWD] = &zs_fast_scale1p_bwd,
    [ZS_OP_ATTENTION] = &zs_fast_attention,
    [ZS_OP_ATTENTION_BWD] = &zs_fast_attention_bwd,
    [ZS_OP_UPSAMPLE2] = &zs_fast_upsample2,
    [ZS_OP_DOWNSAMPLE2] = &zs_fast_downsample2,
    [ZS_OP_CONCAT] = &zs_fast_concat,
    [ZS_OP_SLICE] = &zs_fast_slice,
    [ZS_OP_MEAN_HW] = &zs_fast_mean_hw,
    [ZS_OP_BROADCAST_HW] = &zs_fast_broadcast_hw,
    [ZS_OP_TIMESTEP] = &zs_fast_timestep,
    [ZS_OP_DROPOUT] = &zs_fast_dropout,
    [ZS_OP_LOSS] = &zs_fast_loss,
    [ZS_OP_LOSS_BWD] = &zs_fast_loss_bwd,
    [ZS_OP_LOSS_VLB] = &zs_fast_loss_vlb,
    [ZS_OP_LOSS_VLB_BWD] = &zs_fast_loss_vlb_bwd,
    [ZS_OP_ACCUMULATE] = &zs_fast_accumulate,
    [ZS_OP_CONV_RELU] = &zs_fast_conv_relu,
    [ZS_OP_POOL] = &zs_fast_pool,
};

static const zs_kernel *kernel(zs_op op)
{
    return fast[op] ? fast[op] : zs_backend_cpu_ref.kernel(op);
}

static const zs_packer *packer(zs_op op)
{
    switch (op) {
    case ZS_OP_CONV2D: return &zs_fast_conv2d_packer;
    case ZS_OP_LINEAR: return &zs_fast_linear_packer;
    default: return NULL;
    }
}

const zs_backend zs_backend_cpu = {
    .name = "cpu",
    .kernel = kernel,
    .alloc = zs_cpu_alloc,
    .release = zs_cpu_release,
    .touch = zs_cpu_touch,
    .packer = packer,
};
