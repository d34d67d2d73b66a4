/* SPDX-License-Identifier: MIT */
/* Vision transformers as frozen encoders: those of MoCo v3, DINO, iBOT and DeiT, with the heads
 * that they were trained with. An image becomes a grid of patches, a class token is put in front,
 * and what the last norm leaves of it is the feature. */
#ifndef ZS_MODELS_VIT_H
#define ZS_MODELS_VIT_H

#include "models/arch.h"

/* What follows the features. */
typedef enum zs_vit_head {
    ZS_VIT_HEAD_NONE,
    ZS_VIT_HEAD_MOCO,  /* Linear-BN-ReLU-Linear-BN-ReLU-Linear-BN, no biases, the last BN without
                          affine map: the projector of MoCo v3 */
    ZS_VIT_HEAD_DINO,  /* Linear-GELU-Linear-GELU-Linear with biases: DINO, iBOT */
    ZS_VIT_HEAD_LINEAR /* one Linear: the classifier of DeiT */
} zs_vit_head;

typedef struct zs_vit_config {
    int depth;           /* 1..128 blocks; 0: there is no such encoder */
    int64_t in_channels; /* 1..64, of images */
    int64_t side;        /* of the images that the network sees: 1..4096, a multiple of the patch */
    int patch;           /* 1..64 pixels, the side of a patch */
    int64_t width;       /* 1..16384 channels of a token */
    int heads;           /* 1..256, divides width */
    int64_t hidden;      /* 1..65536, of the blocks' MLPs */
    double eps;          /* 0 < eps < 1; of all LayerNorms: 1e-6 in timm */
    char head[8];        /* "none", "moco", "dino" or "linear" */
    int64_t head_hidden; /* 1..65536 where the head has several layers, else 0 */
    int64_t head_dim;    /* 1..65536 outputs of the head, 0 without one */
    bool project;        /* representations are the outputs of the head, not the features */
    bool standardise;    /* each representation has mean 0 and deviation 1, as RCG's */
} zs_vit_config;

extern const zs_arch zs_arch_vit;

int zs_vit_head_of(const zs_vit_config *c); /* zs_vit_head, or -1 for another word */
void zs_vit_head_set(zs_vit_config *c, zs_vit_head head);

int64_t zs_vit_tokens(const zs_vit_config *c);  /* class token included */
int64_t zs_vit_rep_dim(const zs_vit_config *c); /* of its representations */

/* The tensors of a forward pass that others ask for. */
typedef struct zs_vit_taps {
    zs_tid tokens_in;  /* [N,T,width]: with the class token and positions */
    zs_tid block0;     /* after the first block */
    zs_tid tokens_out; /* after the last block and the norm */
    zs_tid features;   /* [N,width]: token 0 of these */
    zs_tid head;       /* [N,head_dim], or ZS_NONE */
} zs_vit_taps;

/* x [N,side,side,in_channels], as zs_vit_prepare makes it. Names below the prefix of nn are those
 * of timm: cls_token, pos_embed, patch_embed.proj, blocks.0..., norm, head.*. */
void zs_vit_build(zs_vit_taps *out, zs_nn *nn, const zs_vit_config *c, zs_tid x);

/* ---- around the network ---- */

/* dst [n,side,side,C] = what the network sees of images x, shape xs [n,h,w,C] in [-1,1], of any
 * size: (x-mean)/std of ImageNet where images have three channels, x as it is otherwise, then
 * zs_bicubic (RCG: rdm/models/diffusion/ddpm.py get_input). All threads. */
void zs_vit_prepare(const zs_vit_config *c, float *dst, const float *x, zs_shape xs);

/* z [n][dim] in place: (z-mean)/std of each row, std unbiased (n-1) and nothing added to it; rows
 * of equal numbers become NaN. */
void zs_rep_standardise(float *z, int64_t n, int64_t dim);

#endif
