/* SPDX-License-Identifier: MIT */
/* What an executor is made of. Private to exec.c, run.c and far.c. */
#ifndef ZS_GRAPH_EXEC_IMPL_H
#define ZS_GRAPH_EXEC_IMPL_H

#include "graph/internal.h"

typedef struct zs_far zs_far;

struct zs_exec {
    zs_graph *g;
    const zs_backend *backend;
    unsigned flags;
    zs_node_hook hook;
    void *hook_ctx;
    int threads;      /* workspaces are sized for this many */
    zs_call *calls;   /* one per node */
    zs_placement *pl; /* tensors 0..nt-1, then one workspace per node */
    uint8_t *arena;
    size_t arena_bytes;
    zs_buffers b;     /* what the calls are bound to */
    uint64_t weights; /* zs_step.weights of this run */
    zs_tid *inputs;   /* ZS_NONE at the end */
    zs_packs *packs;
    zs_pack **pack;  /* per node, NULL for none; NULL without packs */
    zs_ready *ready; /* or NULL */
    zs_far *far;     /* of remote backends, else NULL */
};

/* Bytes of a tensor in the arena. */
size_t zs_exec_tensor_bytes(const zs_gtensor *t);

/* The packed form for node i, in its call. */
int zs_exec_fetch_packed(zs_exec *e, size_t i, zs_error *err);

/* Queues (or, of backends in the program's memory, does) the work of every node. step is in the
 * backend's memory. */
int zs_exec_run_nodes(zs_exec *e, const zs_step *step, zs_error *err);

/* ---- remote backends (far.c) ---- */

/* Once the arena is there. */
int zs_far_new(zs_exec *e, zs_error *err);
void zs_far_free(zs_exec *e);

/* The program's copy of an input or output; an input is uploaded again by the next run. */
float *zs_far_input(zs_exec *e, zs_tid t);
const float *zs_far_output(const zs_exec *e, zs_tid t);

/* zs_exec_start and zs_exec_wait; moved: other buffers than last time. */
int zs_far_start(zs_exec *e, const zs_step *step, bool moved, zs_error *err);
int zs_far_wait(zs_exec *e, zs_error *err);

/* Fills a range of the arena with bytes of NaN; waits. */
int zs_far_poison(zs_exec *e, size_t offset, size_t bytes, zs_error *err);

#endif
