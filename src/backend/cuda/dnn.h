/* SPDX-License-Identifier: MIT */
/* Convolutions and attention as execution plans of cuDNN's backend graph API (cudnn_graph.h). A
 * plan can be made with no device at hand, for one that a file describes; running one takes the
 * device. */
#ifndef ZS_BACKEND_CUDA_DNN_H
#define ZS_BACKEND_CUDA_DNN_H

#include "backend/cuda/conv_shape.h"
#include "backend/cuda/device.h"

/* What plans are made for: the device of a handle, or one whose properties are described. */
typedef struct zs_dnn_target {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
} zs_dnn_target;

/* The device that JSON text describes, as cuDNN writes it. */
int zs_dnn_target_new(zs_dnn_target *out, const char *json, zs_error *err);
/* The properties of a handle's device, without the handle itself. */
int zs_dnn_target_of(zs_dnn_target *out, cudnnHandle_t handle, zs_error *err);
void zs_dnn_target_free(zs_dnn_target *t);

/* What identifies a plan among those of one convolution, in any process on the same device and
 * library: its engine and its settings, as "62:2=5,14=3". */
enum { ZS_DNN_TAG = 160 };

typedef struct zs_dnn_plan {
    cudnnBackendDescriptor_t desc;   /* NULL: none */
    cudnnBackendDescriptor_t config; /* what it was made from, which lives as long */
    struct zs_dnn_graph *graph;
    size_t workspace;
    char tag[ZS_DNN_TAG];
} zs_dnn_plan;

enum { ZS_DNN_PLANS = 12 };

/* Why candidates were left out, for tests and messages. */
typedef struct zs_dnn_tally {
    int offered;   /* by the heuristics */
    int refused;   /* by us: other bits each time, less precision, compiled while running, listed */
    int unusable;  /* by cuDNN, when the plan was made */
    int unloaded;  /* of these: compiled, but there is no driver to load them */
    int too_large; /* workspaces */
} zs_dnn_tally;

/* A computation that plans are sought for. */
typedef struct zs_dnn_problem {
    /* The operation graph of *what, or NULL. */
    cudnnBackendDescriptor_t (*graph)(struct zs_dnn_graph *g, const void *what,
                                      const zs_dnn_target *t);
    const void *what;
    bool f32;      /* of f32 tensors, which tensor cores would round */
    bool compiled; /* engines that are compiled when a plan is made, in about a second, will do */
} zs_dnn_problem;

/* The first `max` <= ZS_DNN_PLANS usable plans, best guess first, whose workspaces are at most
 * `limit` bytes; returns how many. All of them give the same bits each time they are run. With
 * `tag`, only the plan of that tag. tally may be NULL. */
int zs_dnn_search(zs_dnn_plan *out, int max, const zs_dnn_problem *p, const zs_dnn_target *t,
                  size_t limit, const char *tag, zs_dnn_tally *tally);
/* That of a convolution. */
int zs_dnn_plans(zs_dnn_plan *out, int max, const zs_cuda_conv *c, const zs_dnn_target *t,
                 size_t limit, const char *tag, zs_dnn_tally *tally);
void zs_dnn_plan_free(zs_dnn_plan *p);

enum { ZS_DNN_TENSORS = 16 };

/* Queues it, on tensors of these unique ids: device memory, or the program's where a graph takes a
 * number by its value. The plan's workspace is 64-byte aligned, tensors 16. */
cudnnStatus_t zs_dnn_execute(const zs_dnn_plan *p, cudnnHandle_t handle, int n, const int64_t *ids,
                             const void *const *pointers, void *ws);
/* That of a convolution; b is NULL without c.bias. */
cudnnStatus_t zs_dnn_run(const zs_dnn_plan *p, cudnnHandle_t handle, void *x, void *w, void *y,
                         const void *b, void *ws);

#endif
