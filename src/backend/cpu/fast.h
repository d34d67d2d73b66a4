/* SPDX-License-Identifier: MIT */
/* The fast kernels: each overrides the reference in the table of cpu.c. */
#ifndef ZS_BACKEND_CPU_FAST_H
#define ZS_BACKEND_CPU_FAST_H

#include "backend/cpu/cpu.h"

extern const zs_kernel zs_fast_conv2d, zs_fast_conv2d_dx, zs_fast_conv2d_dw;
extern const zs_packer zs_fast_conv2d_packer, zs_fast_linear_packer;
extern const zs_kernel zs_fast_linear, zs_fast_linear_dx, zs_fast_linear_dw;
extern const zs_kernel zs_fast_gn_act, zs_fast_gn_act_bwd;
extern const zs_kernel zs_fast_layernorm, zs_fast_layernorm_bwd;
extern const zs_kernel zs_fast_silu, zs_fast_silu_bwd;
extern const zs_kernel zs_fast_gelu, zs_fast_gelu_bwd;
extern const zs_kernel zs_fast_gate, zs_fast_gate_bwd;
extern const zs_kernel zs_fast_tokens, zs_fast_tokens_bwd;
extern const zs_kernel zs_fast_add, zs_fast_accumulate;
extern const zs_kernel zs_fast_scale1p, zs_fast_scale1p_bwd;
extern const zs_kernel zs_fast_attention, zs_fast_attention_bwd;
extern const zs_kernel zs_fast_upsample2, zs_fast_downsample2;
extern const zs_kernel zs_fast_mean_hw, zs_fast_broadcast_hw;
extern const zs_kernel zs_fast_concat, zs_fast_slice;
extern const zs_kernel zs_fast_timestep;
extern const zs_kernel zs_fast_dropout;
extern const zs_kernel zs_fast_loss, zs_fast_loss_bwd;
extern const zs_kernel zs_fast_loss_vlb, zs_fast_loss_vlb_bwd;
extern const zs_kernel zs_fast_conv_relu, zs_fast_pool;

#endif
