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
    uint64_t weights; /* names the contents of the parameter buffer: runs with equal numbers promise
                         equal parameters, and share packed forms of them; 0: no promise */
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
    const void *packed;  /* what the operation's packer made of these weights, 64-byte aligned, or
                            NULL: then the kernel makes what it needs in ws */
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

/* A form of the weights in slot 1 that a kernel would otherwise make anew in each call, such as
 * transformed filters. Sampling keeps it while the weights stay the same. */
typedef struct zs_packing {
    size_t bytes; /* 0: this call has no such form, or gains nothing by it */
    /* Calls of one operation on one parameter with equal bytes and layout share it; a number for
     * the algorithm is enough where the rest follows from shapes. */
    uint64_t layout;
} zs_packing;

typedef struct zs_packer {
    /* For these shapes and c->threads, as `workspace`. The workspace is there in any case. */
    zs_packing (*packing)(const zs_call *c);
    /* Writes the form of c->in[1] to dst, 64-byte aligned; may use all threads and c->ws. */
    void (*pack)(const zs_call *c, void *dst);
} zs_packer;

typedef struct zs_backend {
    const char *name; /* "cpu", "cpu-ref", "cuda" */
    /* Required: a kernel for every operation. */
    const zs_kernel *(*kernel)(zs_op op);
    /* Required: memory the kernels can read and write, zero-filled; NULL when out of memory. */
    void *(*alloc)(size_t bytes);
    void (*release)(void *p, size_t bytes);
    /* NULL, or takes fresh memory at once that would otherwise be taken when it is first written:
     * for what every run writes. */
    void (*touch)(void *p, size_t bytes);
    /* NULL, or the packer of an operation, or NULL for one that has none. */
    const zs_packer *(*packer)(zs_op op);
} zs_backend;

/* The backend of that name, or NULL. NULL names the default, "cpu": the fastest kernels for this
 * processor. "cpu-ref" is the plain reference. */
const zs_backend *zs_backend_find(const char *name);

#endif
