/* SPDX-License-Identifier: MIT */
/* The seam between the graph and the kernels: one struct of functions per backend. */
#ifndef ZS_TENSOR_BACKEND_H
#define ZS_TENSOR_BACKEND_H

#include "tensor/ops.h"
#include "tensor/shape.h"

#include <stddef.h>
#include <stdint.h>

/* What changes from one run of a plan to the next. */
typedef struct zs_step {
    uint64_t seed;
    uint64_t step;    /* optimiser step: part of every random counter */
    int64_t sample;   /* index of the first sample of this (micro-)batch within the step's batch */
    float grad_scale; /* factor on the loss gradient: micro-batch size / batch size */
} zs_step;

/* One tensor as a kernel sees it. p is NULL when the slot is absent. */
typedef struct zs_view {
    float *p;
    zs_shape s;
} zs_view;

/* One call of one kernel. Outputs never overlap inputs or each other. */
typedef struct zs_call {
    const zs_attr *a;
    zs_view in[ZS_MAX_IN], out[ZS_MAX_OUT];
    void *ws;            /* 64-byte aligned, as many bytes as `workspace` asked for */
    int threads;         /* threads the plan was made for */
    const zs_step *step; /* NULL while planning */
} zs_call;

typedef struct zs_kernel {
    void (*run)(const zs_call *c);
    /* Bytes of workspace for these shapes and c->threads; may be NULL for none. View pointers
     * are only meaningful as present (non-NULL) or absent. */
    size_t (*workspace)(const zs_call *c);
} zs_kernel;

typedef struct zs_backend {
    const char *name; /* "cpu", "cpu-ref", "cuda" */
    /* Required: a kernel for every operation. */
    const zs_kernel *(*kernel)(zs_op op);
    /* Required: memory the kernels can read and write, zero-filled; NULL when out of memory. */
    void *(*alloc)(size_t bytes);
    void (*release)(void *p, size_t bytes);
} zs_backend;

/* The backend of that name, or NULL. NULL names the default, "cpu": the fastest kernels for this
 * processor. "cpu-ref" is the plain reference. */
const zs_backend *zs_backend_find(const char *name);

#endif
