/* SPDX-License-Identifier: MIT */
#ifndef ZS_TENSOR_OPS_H
#define ZS_TENSOR_OPS_H

#include <stdint.h>

/* What each operation computes is said in ops.def. */
typedef enum zs_op {
#define OP(NAME, name, inputs, outputs, gradient, slots) ZS_OP_##NAME,
#include "tensor/ops.def"
#undef OP
    ZS_OP_COUNT
} zs_op;

enum { ZS_MAX_IN = 7, ZS_MAX_OUT = 5 };

enum { ZS_BOUND_NUMBERS = 5 }; /* per sample, of the steps that loss_vlb is about */

typedef enum zs_pool_kind { ZS_POOL_MAX, ZS_POOL_MEAN } zs_pool_kind;
typedef enum zs_act { ZS_ACT_NONE, ZS_ACT_SILU, ZS_ACT_RELU } zs_act;
/* Channels of qkv: [head][q|k|v][dim] as in the diffusion UNets, [q|k|v][head][dim] as in vision
 * transformers. */
typedef enum zs_qkv { ZS_QKV_BY_HEAD, ZS_QKV_BY_PART } zs_qkv;
/* x Phi(x), or the approximation of Phi by a tanh. */
typedef enum zs_gelu_kind { ZS_GELU_EXACT, ZS_GELU_TANH } zs_gelu_kind;
/* XENT: cross-entropy of softmax(pred) over the last axis against target probabilities, mean over
 * the rows. BCE: binary cross-entropy of sigmoid(pred), mean over all elements. */
typedef enum zs_loss { ZS_LOSS_MSE, ZS_LOSS_L1, ZS_LOSS_BCE, ZS_LOSS_XENT, ZS_LOSS_COUNT } zs_loss;

/* Attributes of a node; an operation reads those that ops.def names for it. */
typedef struct zs_attr {
    int k, stride, pad; /* convolution, pooling */
    int pad_w;          /* conv_relu: padding of columns; `pad` is that of rows */
    int tail;           /* conv2d: further zeros below and to the right, beyond `pad` */
    int64_t h, w;       /* spatial size of an output that the inputs do not determine; of patches:
                           how many there are */
    int groups, heads;
    int act;             /* zs_act */
    int kind;            /* zs_loss, zs_pool_kind, zs_qkv, zs_gelu_kind, zs_dtype of a cast */
    int64_t offset, len; /* channel range; len is also the width of timestep features, and the
                            number of rows of a table */
    float eps, p, scale;
    uint32_t rng; /* stream id of a random node; a recomputed clone keeps it */
} zs_attr;

const char *zs_op_name(zs_op op);
int zs_op_inputs(zs_op op);  /* slots, absent ones included; <= ZS_MAX_IN */
int zs_op_outputs(zs_op op); /* <= ZS_MAX_OUT */

/* What a slot holds, where activations are kept in half precision (zs_backend.bf16): ACT and WEIGHT
 * are bf16 there, WEIGHT a parameter's half copy; F32 is f32 always (statistics, losses, affine
 * parameters, biases, tables, gradients of parameters, positions and masks). */
typedef enum zs_slot { ZS_SLOT_ACT, ZS_SLOT_WEIGHT, ZS_SLOT_F32 } zs_slot;
zs_slot zs_op_in(zs_op op, int k); /* 0 <= k < zs_op_inputs(op) */
zs_slot zs_op_out(zs_op op, int k);

#endif
