/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_LATENT_MLP_H
#define ZS_MODELS_LATENT_MLP_H

#include "models/arch.h"

/* The latent network (latentnet.py MLPSkipNet): layer i sees [h, x] when bit i of skips is set;
 * y = Linear(h); y *= 1 + Linear(SiLU(temb)); LayerNorm; SiLU. The last layer is only Linear. */
typedef struct zs_latent_mlp_config {
    int64_t z_dim;         /* 1..65536 */
    int64_t hidden;        /* 1..65536 */
    int layers;            /* 2..64; 0: the model has no prior */
    uint64_t skips;        /* bit i: layer i takes the input again */
    int64_t time_channels; /* 2..4096, even: width of the timestep features */
    double dropout;        /* 0 <= p < 1; training only */
} zs_latent_mlp_config;

/* z_t [N,z_dim] (normalised), t [N] -> eps [N,z_dim]. Names start at the prefix of nn
 * ("latent_net." in official files).
 * Trap: linear_emb and cond_layers.1 are one Linear under two names, and the authors' EMA walks
 * the state_dict, so it decays that one twice per step. */
zs_tid zs_latent_mlp_build(zs_nn *nn, const zs_latent_mlp_config *c, zs_tid z_t, zs_tid t);

extern const zs_arch zs_arch_latent_mlp;

#endif
