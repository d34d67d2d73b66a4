/* SPDX-License-Identifier: MIT */
/* Attention in one kernel of cuDNN, where it has one that is faster than products with a softmax
 * between and gives the same numbers: no score matrices go through memory. */
#ifndef ZS_BACKEND_CUDA_SDPA_H
#define ZS_BACKEND_CUDA_SDPA_H

#include "backend/cuda/dnn.h"

/* Position p of head h of a sample has q at (p*3*heads*d + h*head), k `part` further and v 2*part;
 * y has d channels of each head side by side. All bf16. One kind of number without gaps between, so
 * that the bytes are a key. */
typedef struct zs_sdpa {
    int64_t back; /* the gradient is wanted */
    int64_t n, t, heads, d, head, part;
} zs_sdpa;

typedef struct zs_sdpa_choice {
    zs_dnn_plan forward, backward; /* both desc NULL: products */
} zs_sdpa_choice;

/* zs_dnn_problem.graph of a zs_sdpa: attention with the logarithm of each row's sum of exponentials
 * beside it, or with `back` its gradient from that. As cuDNN's flash attention is drawn
 * (NVIDIA/cudnn-frontend, scaled_dot_product_flash_attention.h): graphs of other operations have no
 * engine. */
cudnnBackendDescriptor_t zs_sdpa_graph(struct zs_dnn_graph *g, const void *sdpa,
                                       const zs_dnn_target *t);

/* Tensors of both. q, k and v are read, and their gradients written, where they lie. */
enum {
    ZS_SDPA_Q = 1,
    ZS_SDPA_K,
    ZS_SDPA_V,
    ZS_SDPA_Y,
    ZS_SDPA_LSE,   /* f32 [n,heads,t] */
    ZS_SDPA_SCALE, /* f32, by its value; 1/sqrt(d) */
    ZS_SDPA_DY,
    ZS_SDPA_DQ,
    ZS_SDPA_DK,
    ZS_SDPA_DV,
    ZS_SDPA_SUM, /* f32 [n,heads,t]: room for the sums of y*dy */
    ZS_SDPA_ONE, /* f32, by its value; 1 */
    ZS_SDPA_INNER = 100
};

/* What attention or attention_bwd takes, whose products are c's kernel `products` with a workspace
 * of so many bytes. Chosen once by timing and comparing both on the device, and remembered on disk;
 * without either the products are taken. Stays where it is; NULL: products. The first call, which
 * must know them, takes seconds. */
const zs_sdpa_choice *zs_sdpa_choose(const zs_sdpa *s, const zs_call *c,
                                     void (*products)(const zs_call *c), size_t bytes);

/* How many attentions this process has asked cuDNN for, how many of them it computes, and for how
 * many it was faster but gave other numbers than products, or others each time. */
void zs_sdpa_counts(int *all, int *used, int *disagreed);

size_t zs_sdpa_workspace(const zs_sdpa *s, const zs_sdpa_choice *c);

/* Queue it. A failure is kept (check.h). */
void zs_sdpa_forward(const zs_sdpa *s, const zs_sdpa_choice *c, void *y, const void *qkv, void *ws);
void zs_sdpa_backward(const zs_sdpa *s, const zs_sdpa_choice *c, void *dqkv, const void *qkv,
                      const void *dy, void *ws);

#endif
