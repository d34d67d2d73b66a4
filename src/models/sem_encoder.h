/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_SEM_ENCODER_H
#define ZS_MODELS_SEM_ENCODER_H

#include "models/unet.h"

/* The semantic encoder (unet.py BeatGANsEncoderModel, pool "adaptivenonzero"): the UNet's way
 * down without conditioning, a middle block, GroupNorm-SiLU-average-1x1 convolution. */
typedef struct zs_sem_encoder_config {
    int64_t in_channels;       /* 1..64 */
    int levels;                /* 1..ZS_MAX_LEVELS */
    int64_t ch[ZS_MAX_LEVELS]; /* channels of each level */
    int num_res_blocks;        /* 1..ZS_MAX_RES_BLOCKS */
    uint32_t attn_levels;      /* bit i: attention after the blocks of level i */
    int heads;                 /* 1..64 */
    int64_t z_dim;             /* 1..65536 */
} zs_sem_encoder_config;

/* x [N,H,W,in] in [-1,1] -> z_sem [N,z_dim]; H and W multiples of 2^(levels-1). Names start at
 * the prefix of nn ("encoder." in official files). */
zs_tid zs_sem_encoder_build(zs_nn *nn, const zs_sem_encoder_config *c, zs_tid x);

extern const zs_arch zs_arch_sem_encoder;

#endif
