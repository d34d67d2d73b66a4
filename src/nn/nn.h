/* SPDX-License-Identifier: MIT */
/* Face of the nn layer: layers with official parameter names, on top of the graph.
 *
 *     zs_nn nn = {.g = g, .ps = ps, .train = true};
 *     zs_nn_push(&nn, "input_blocks.%d", 3);
 *     h = zs_nn_conv(&nn, "0", h, 64, 3, ZS_NONE, ZS_INIT_UNIFORM);  // input_blocks.3.0.weight
 *     zs_nn_pop(&nn);
 *
 * Failures are sticky in the graph, so builders chain calls and look once, at the end. */
#ifndef ZS_NN_NN_H
#define ZS_NN_NN_H

#include "graph/graph.h"
#include "nn/params.h"

enum { ZS_NN_NAME = 200, ZS_NN_DEPTH = 8 };

typedef struct zs_nn {
    zs_graph *g;
    zs_params *ps;
    bool train;    /* parameters get gradients */
    float dropout; /* 0 <= p < 1; 0 builds no node */
    char prefix[ZS_NN_NAME];
    int mark[ZS_NN_DEPTH], depth;
} zs_nn;

/* Appends "<text>." to the prefix; pop undoes the last push. */
void zs_nn_push(zs_nn *nn, const char *fmt, ...) ZS_PRINTF(2, 3);
void zs_nn_pop(zs_nn *nn);

/* The parameter "<prefix><name>" as a tensor of the graph, registered when new; its engine shape
 * follows from file shape and layout. ZS_NONE when the graph has failed. */
zs_tid zs_nn_param(zs_nn *nn, const zs_param *want);

/* x[M,K] -> [M,out]; "<name>.weight" [out,K], "<name>.bias" [out]. Weights start as `init`,
 * the bias uniform as PyTorch's, or zero where init is another choice than PyTorch's own. */
zs_tid zs_nn_linear(zs_nn *nn, const char *name, zs_tid x, int64_t out, zs_init init);

/* Registers the parameters of a zs_nn_linear from `in` to `out` channels that is built later, where
 * the authors' order of layers is not that of their use. */
void zs_nn_linear_declare(zs_nn *nn, const char *name, int64_t in, int64_t out, zs_init init);

/* As zs_nn_linear; file weight [out,K,1,1], as the authors' 1x1 convolution of one position. */
zs_tid zs_nn_pointwise(zs_nn *nn, const char *name, zs_tid x, int64_t out, zs_init init);

/* The same Linear under a second name too: "<alias>.weight", "<alias>.bias". */
zs_tid zs_nn_linear_tied(zs_nn *nn, const char *name, const char *alias, zs_tid x, int64_t out,
                         zs_init init);

/* x[N,H,W,C] -> [N,H,W,out], k x k, stride 1, zero padding k/2, k odd; + residual
 * [N,H,W,out] or ZS_NONE. File weight [out,C,k,k]. */
zs_tid zs_nn_conv(zs_nn *nn, const char *name, zs_tid x, int64_t out, int k, zs_tid residual,
                  zs_init init);

/* x[N,H,W,C] -> [N,H/2,W/2,out], H and W even: 3x3, stride 2, zeros below and to the right alone.
 * The Downsample of latent diffusion's autoencoders. */
zs_tid zs_nn_conv_down(zs_nn *nn, const char *name, zs_tid x, int64_t out);

/* As zs_nn_conv with k = 1; file weight [out,C,1], as the authors' Conv1d over positions. */
zs_tid zs_nn_conv1d(zs_nn *nn, const char *name, zs_tid x, int64_t out, zs_tid residual,
                    zs_init init);

/* GroupNorm of min(32,C) groups, eps 1e-5, then the conditions and the activation of zs_gn_act.
 * "<name>.weight", "<name>.bias" [C]. C must be a multiple of its groups. */
zs_tid zs_nn_groupnorm(zs_nn *nn, const char *name, zs_tid x, zs_tid scale_shift, zs_tid cond_scale,
                       zs_act act);

/* As zs_nn_groupnorm without conditions, of another epsilon. */
zs_tid zs_nn_groupnorm_eps(zs_nn *nn, const char *name, zs_tid x, float eps, zs_act act);

/* LayerNorm over the last dimension; eps is ZS_NN_EPS where the authors leave PyTorch's default. */
#define ZS_NN_EPS 1e-5f
zs_tid zs_nn_layernorm(zs_nn *nn, const char *name, zs_tid x, float eps);

/* t[N] -> Linear(SiLU(Linear(timestep features of width dim))) [N,out]; "0" and "2" below the
 * prefix. */
zs_tid zs_nn_time_embed(zs_nn *nn, zs_tid t, int64_t dim, int64_t out);

typedef enum zs_resample { ZS_RESAMPLE_NONE, ZS_RESAMPLE_UP, ZS_RESAMPLE_DOWN } zs_resample;

/* The residual block of Diffusion Autoencoders (blocks.py ResBlock):
 *     h = conv(resample(SiLU(GN(x))))
 *     h = conv(dropout(SiLU((GN(h)(1+t_scale)+t_shift)(1+z_scale))))      only when act_t is there
 *     y = skip(resample(x)) + h
 * x [N,H,W,A], joined with lateral [N,H,W,B] or ZS_NONE -> [N,H',W',out]. act_t = SiLU(time
 * embedding) [N,E] or ZS_NONE: then the block has no out_layers at all, as in the encoder.
 * act_z = SiLU(z_sem) [N,D] or ZS_NONE. `skip` is a 1x1 convolution when A+B != out. One recompute
 * segment. */
zs_tid zs_nn_resblock(zs_nn *nn, zs_tid x, zs_tid lateral, zs_tid act_t, zs_tid act_z, int64_t out,
                      zs_resample resample);

/* x + proj_out(attention(qkv(GN(x)))); x [N,H,W,C], C a multiple of heads. One recompute
 * segment. */
zs_tid zs_nn_attention(zs_nn *nn, zs_tid x, int heads);

/* A block of a vision transformer. */
typedef struct zs_nn_block {
    int heads;      /* divides the channels */
    int64_t hidden; /* width of the MLP */
    float eps;      /* of both LayerNorms */
    zs_init init;   /* of the weights of its Linears */
    bool tanh;      /* GELU by its approximation */
    zs_tid mod;     /* ZS_NONE, or [N,6C]: [shift|scale|gate] of the attention, then of the MLP */
} zs_nn_block;

/* x [N,T,C] -> [N,T,C], by parts of the official timm names below the prefix:
 *     x += gate * attn.proj(attention(attn.qkv(norm1(x))))
 *     x += gate * mlp.fc2(GELU(mlp.fc1(norm2(x))))
 * With mod the norms have no parameters: LN(x)(1+scale)+shift (DiT's adaLN-Zero); without, no gate.
 * Dropout after proj and fc2. One recompute segment. */
zs_tid zs_nn_transformer(zs_nn *nn, zs_tid x, const zs_nn_block *b);

/* x [N,H,W,C] -> [N,H/patch,W/patch,out]: a Linear of each square of `patch` pixels, which must
 * fill the image. "<name>.weight" [out,C,patch,patch], "<name>.bias" [out]. */
zs_tid zs_nn_patch_embed(zs_nn *nn, const char *name, zs_tid x, int64_t out, int patch,
                         zs_init init);

#endif
