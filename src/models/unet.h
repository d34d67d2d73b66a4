/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_UNET_H
#define ZS_MODELS_UNET_H

#include "models/arch.h"

enum { ZS_MAX_LEVELS = 8, ZS_MAX_RES_BLOCKS = 16 };

/* The AdaGN UNet of Diffusion Autoencoders (unet.py) and, with z_dim 0, of its DDPM baseline.
 * Level 0 is the full resolution; each further level halves it. */
typedef struct zs_unet_config {
    int64_t in_channels, out_channels; /* 1..64 */
    int64_t model_channels;            /* 2..4096, even: width of the timestep features */
    int64_t embed_channels;            /* 1..16384: width of the time embedding */
    int levels;                        /* 1..ZS_MAX_LEVELS */
    int64_t ch[ZS_MAX_LEVELS]; /* channels of each level, 1..16384, multiples of the groups */
    int num_res_blocks; /* 1..ZS_MAX_RES_BLOCKS per level on the way down; one more on the way up */
    uint32_t attn_levels;  /* bit i: attention after the blocks of level i */
    int heads;             /* 1..64, dividing the channels where there is attention */
    int64_t head_channels; /* 0, or `heads` says nothing and every head is so wide */
    int64_t z_dim;         /* 0..65536; 0: no z_sem */
    double dropout;        /* 0 <= p < 1; training only */
} zs_unet_config;

/* x [N,H,W,in], t [N], z [N,z_dim] or ZS_NONE (z_dim 0) -> eps [N,H,W,out]. H and W must be
 * multiples of 2^(levels-1). Names start at the prefix of nn, in the official order. */
zs_tid zs_unet_build(zs_nn *nn, const zs_unet_config *c, zs_tid x, zs_tid t, zs_tid z);

/* The same below its embeddings: act_t [N,E] is the SiLU of the time embedding, act_z that of z_sem
 * or ZS_NONE. Checks x and the ranges that building relies on. */
zs_tid zs_unet_trunk(zs_nn *nn, const zs_unet_config *c, zs_tid x, zs_tid act_t, zs_tid act_z);

extern const zs_arch zs_arch_unet;

/* What networks of levels have in common: attention only where there are levels, and heads that
 * divide the channels there and in the middle. `what` is the box, for messages. */
int zs_levels_check(const char *what, int levels, const int64_t *ch, uint32_t attn_levels,
                    int heads, zs_error *err);

#endif
