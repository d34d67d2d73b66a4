/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_ADM_H
#define ZS_MODELS_ADM_H

#include "models/unet.h"

/* The UNet of ADM (Dhariwal, Nichol 2021; guided_diffusion/unet.py) as representation-conditioned
 * generation uses it: scale-shift norms, residual blocks that resample, heads of a fixed width, and
 * a variance that is learned beside eps. The representation is one more term of the time embedding
 * (rep_proj, which starts at zero); so is the class (label_emb). The time embedding is 4 times as
 * wide as model_channels. */
typedef struct zs_adm_config {
    int levels;                /* 1..ZS_MAX_LEVELS; 0: there is no such network */
    int64_t in_channels;       /* 1..64, of the images */
    int64_t model_channels;    /* 2..4096, even: width of the timestep features */
    int64_t ch[ZS_MAX_LEVELS]; /* channels of each level, 1..16384, multiples of the groups */
    int num_res_blocks; /* 1..ZS_MAX_RES_BLOCKS per level on the way down; one more on the way up */
    uint32_t attn_levels;  /* bit i: attention after the blocks of level i; always in the middle */
    int64_t head_channels; /* 1..16384, dividing the channels where there is attention */
    int64_t rep_dim;       /* 0..65536; 0: no representation */
    int64_t classes;       /* 0..2^24; 0: no classes */
    bool learn_sigma;      /* out has a second number for each channel: v of zs_variance */
    double dropout;        /* 0 <= p < 1; training only */
} zs_adm_config;

/* x [N,H,W,in], t [N], rep [N,rep_dim] or ZS_NONE (rep_dim 0), y [N] class indices or ZS_NONE
 * (classes 0) -> [N,H,W,in], or [N,H,W,2 in] = [eps | v] with learn_sigma. H and W must be
 * multiples of 2^(levels-1). Names start at the prefix of nn, in the official order. */
zs_tid zs_adm_build(zs_nn *nn, const zs_adm_config *c, zs_tid x, zs_tid t, zs_tid rep, zs_tid y);

extern const zs_arch zs_arch_adm;

#endif
