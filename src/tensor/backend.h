/* SPDX-License-Identifier: MIT */
/* The seam between the graph and the kernels: one struct of functions per backend. */
#ifndef ZS_TENSOR_BACKEND_H
#define ZS_TENSOR_BACKEND_H

#include "base/base.h"
#include "tensor/ops.h"
#include "tensor/shape.h"

/* What changes from one run of a plan to the next. */
typedef struct zs_step {
    uint64_t seed;
    uint64_t step;    /* optimiser step: part of every random counter */
    int64_t sample;   /* index of the first sample of this (micro-)batch within the step's batch */
    float grad_scale; /* factor on the loss gradient: micro-batch size / batch size */
    uint64_t weights; /* names the contents of the parameter buffer: runs with equal numbers promise
                         equal parameters, and share packed forms of them; 0: no promise */
} zs_step;

/* One tensor as a kernel sees it. p is NULL when the slot is absent. Elements are floats wherever
 * the backend does not keep activations in half precision (zs_backend.bf16); there p points to
 * 16-bit numbers where type says ZS_BF16. */
typedef struct zs_view {
    float *p;
    zs_shape s;
    zs_dtype type; /* ZS_F32 or ZS_BF16 */
} zs_view;

/* One call of one kernel. Outputs never overlap inputs or each other. */
typedef struct zs_call {
    const zs_attr *a;
    zs_view in[ZS_MAX_IN], out[ZS_MAX_OUT];
    const void *packed;  /* what the operation's packer made of these weights, 64-byte aligned, or
                            NULL: then the kernel makes what it needs in ws */
    void *ws;            /* 64-byte aligned, as many bytes as `workspace` asked for */
    int threads;         /* threads the plan was made for */
    const zs_step *step; /* in the backend's memory; NULL while planning */
    void *queue;         /* of a backend whose kernels run later: where to put them, in order */
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

/* One optimiser step over slices of flat buffers, n elements each; all pointers are in the
 * backend's memory, ema and shadow may be NULL. Numbers as zs_optim_step makes them. */
typedef struct zs_adam {
    float *param, *grad, *m, *v, *ema;
    uint16_t *shadow; /* bf16 copy of the new param */
    int64_t n;
    const double *norm;       /* of the whole gradient: clip = min(1, max_norm / (norm + 1e-6)) */
    double max_norm;          /* 0: no clipping */
    float l2, keep;           /* weight decay into the gradient; weight left by decoupled decay */
    float lr, inv_bias2, eps; /* lr is that over the first bias correction */
    double beta1, beta2;      /* double, as 1 - beta2 in f32 would be off by 1e-5 of itself */
    double decay;             /* of the moving average */
    bool ema_first;
} zs_adam;

/* A processor or an accelerator, for people. */
typedef struct zs_device {
    char name[80];
    char about[80]; /* what decides what it can do: instruction set, compute capability */
    int units;      /* cores or multiprocessors; 0: not known */
    uint64_t memory, available; /* bytes; 0: not known */
} zs_device;

/* What a backend whose memory the program cannot touch, and whose kernels run later, offers
 * beside kernels. Work is done in the order of the calls. A failure is kept: the next call that
 * returns a status reports it, and everything after it fails likewise. */
typedef struct zs_remote {
    /* Finds the device and makes what kernels need; once per process, again is free.
     * ZS_E_UNSUPPORTED (no driver, no device, one that is too old) and ZS_E_NOMEM name the
     * remedy. */
    int (*open)(zs_error *err);
    /* NULL, or: 1 and what device `index` is, 0 when there are no more, or why they cannot be
     * asked. Needs no open. */
    int (*device)(zs_device *out, int index, zs_error *err);
    /* Memory of the program that copies fast; NULL when out of memory. */
    void *(*alloc_host)(size_t bytes);
    void (*release_host)(void *p, size_t bytes);
    /* dst in the backend's memory; src may be changed once later work has been waited for. */
    int (*upload)(void *dst, const void *src, size_t bytes, zs_error *err);
    /* The program's memory dst holds the bytes when download returns. */
    int (*download)(void *dst, const void *src, size_t bytes, zs_error *err);
    int (*copy)(void *dst, const void *src, size_t bytes, zs_error *err); /* both in its memory */
    int (*zero)(void *dst, size_t bytes, zs_error *err);
    int (*to_bf16)(uint16_t *dst, const float *src, int64_t n, zs_error *err);
    int (*sync)(zs_error *err); /* waits until everything is done */
    /* *norm (its memory) = Euclidean norm of n floats; the same bits each time. */
    int (*norm)(double *norm, const float *g, int64_t n, zs_error *err);
    int (*adam)(const zs_adam *a, zs_error *err); /* gradients are zero afterwards */
    /* Between record and its end kernels are noted down instead of run; *tape then runs them all at
     * once, any number of times, at the addresses they had. ZS_E_UNSUPPORTED: not here. */
    int (*record)(zs_error *err);
    int (*record_end)(void **tape, zs_error *err);
    int (*replay)(void *tape, zs_error *err);
    void (*tape_free)(void *tape);
} zs_remote;

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
    const zs_remote *remote; /* NULL: memory is the program's, and run returns when it is done */
    bool bf16;               /* activations are ZS_BF16 between the casts that planning puts in */
    void *queue;             /* for zs_call.queue */
} zs_backend;

/* The backend of that name, or NULL. NULL names the default, "cpu": the fastest kernels for this
 * processor. "cpu-ref" is the plain reference. */
const zs_backend *zs_backend_find(const char *name);

/* The ith backend of this build, the default first; NULL after the last. */
const zs_backend *zs_backend_at(size_t i);

/* The same as zs_backend_find, ready for work: ZS_E_INVALID when there is none of that name, or
 * this build lacks it, with the remedy; what zs_remote.open returns. */
int zs_backend_open(const zs_backend **out, const char *name, zs_error *err);

/* Makes b findable by its name from now on; false when there is no room. For programs that bring a
 * backend of their own, such as tests. */
bool zs_backend_add(const zs_backend *b);

/* The memory that programs share with b: b itself, or the default where b's is out of reach. */
const zs_backend *zs_backend_host(const zs_backend *b);

#endif
