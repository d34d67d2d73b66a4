/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_DIT_H
#define ZS_MODELS_DIT_H

#include "models/arch.h"

/* The diffusion transformer (Peebles, Xie 2023), conditioned on a representation as in RCG, or on a
 * class (pixel_generator/dit/models.py). */
typedef struct zs_dit_config {
    int depth;             /* 1..256 blocks; 0: there is none */
    int heads;             /* 1..256 */
    int64_t hidden;        /* 4..16384, a multiple of 4 and of heads */
    int64_t mlp;           /* 1..65536: width within the MLPs; the authors take 4 hidden */
    int patch;             /* 1..64: pixels of a token along a side */
    int64_t grid;          /* 1..1024: tokens along a side of an image */
    int64_t in_channels;   /* 1..64 */
    bool learn_sigma;      /* it returns variances beside the noise: 2 in_channels */
    int64_t time_channels; /* 2..4096, even: width of the timestep features; the authors' 256 */
    int64_t z_dim;         /* 0..65536: of representations; 0: conditioned on classes alone */
    int64_t classes;   /* 1..2^24: rows of the class table. Files have the table also where it is
                              not used */
    double class_drop; /* 0 <= p < 1: so often the last row takes the place of the class in
                              training, which is what guidance by classes needs; 0: that row is a
                              class like the others */
    char gelu[8];      /* "" the exact one, as in RCG; "tanh" its approximation, as in the original
                          DiT (facebookresearch/DiT models.py) */
    bool substitute;   /* there is a learned row for absent representations (fake_latent) */
    double z_drop;     /* 0 <= p < 1: so often it takes their place in training; 0 without it */
} zs_dit_config;

/* Heads of the published sizes (S, B, L, XL) by their width; 0 for other widths. Files do not say
 * how many there are. */
int zs_dit_heads(int64_t hidden);

typedef struct zs_dit_inputs {
    zs_tid x;    /* [N,H,W,in_channels], H = W = grid*patch */
    zs_tid t;    /* [N] timesteps */
    zs_tid z;    /* [N,z_dim] or ZS_NONE: then the class decides */
    zs_tid drop; /* [N], not 0 where the learned row takes the place of z; or ZS_NONE */
    zs_tid y;    /* [N] rows of the class table; used when z is ZS_NONE */
} zs_dit_inputs;

/* -> [N,H,W,in_channels], or [N,H,W,2 in_channels] = [eps | v] with learn_sigma. Parameters are
 * registered in the official order, those of the class table also when it is not used. Names start
 * at the prefix of nn. pos_embed and the unused table get no gradient, as in the authors' code. */
zs_tid zs_dit_build(zs_nn *nn, const zs_dit_config *c, const zs_dit_inputs *in);

extern const zs_arch zs_arch_dit;

#endif
