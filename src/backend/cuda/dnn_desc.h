/* SPDX-License-Identifier: MIT */
/* Descriptors of cuDNN's backend API: made, filled and finished, where the first failure stays. */
#ifndef ZS_BACKEND_CUDA_DNN_DESC_H
#define ZS_BACKEND_CUDA_DNN_DESC_H

#include "backend/cuda/dnn.h"

enum { ZS_DNN_DESCS = 96 };

/* Descriptors of one graph. Whether a plan refers to those that it was made from is not said, so
 * they live as long as it does. */
typedef struct zs_dnn_graph {
    cudnnBackendDescriptor_t d[ZS_DNN_DESCS];
    int n;
    int users;            /* plans, and whoever makes them */
    cudnnStatus_t status; /* the first failure */
} zs_dnn_graph;

/* A new descriptor that the graph owns, or NULL after a failure. */
cudnnBackendDescriptor_t zs_dnn_make(zs_dnn_graph *g, cudnnBackendDescriptorType_t type);
void zs_dnn_graph_free(zs_dnn_graph *g);

/* No-ops after a failure. */
void zs_dnn_set(zs_dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *values);
void zs_dnn_set_desc(zs_dnn_graph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                     cudnnBackendDescriptor_t value);
void zs_dnn_finish(zs_dnn_graph *g, cudnnBackendDescriptor_t d);

/* Tensors of a convolution, by which pointers are given when it is run. */
enum { ZS_DNN_X = 1, ZS_DNN_W, ZS_DNN_Y, ZS_DNN_B, ZS_DNN_CONV };

/* The operation graph of operations ops[n], or NULL. */
cudnnBackendDescriptor_t zs_dnn_graph_of(zs_dnn_graph *g, const cudnnBackendDescriptor_t *ops,
                                         int64_t n, const zs_dnn_target *t);

/* zs_dnn_problem.graph of a zs_cuda_conv. */
cudnnBackendDescriptor_t zs_dnn_conv_graph(zs_dnn_graph *g, const void *conv,
                                           const zs_dnn_target *t);

#endif
