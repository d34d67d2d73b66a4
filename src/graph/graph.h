/* SPDX-License-Identifier: MIT */
/* Face of the graph layer: build a static graph, differentiate it, plan its memory, run it.
 *
 *     zs_graph *g = NULL;
 *     zs_graph_new(&g, err);
 *     zs_tid x = zs_graph_input(g, "x", zs_shape2(8, 64));
 *     zs_tid w = zs_graph_param(g, 0, zs_shape2(32, 64), true);
 *     zs_tid y = zs_linear(g, x, w, ZS_NONE);
 *     zs_tid l = zs_loss_mse(g, y, zs_graph_input(g, "target", zs_shape2(8, 32)));
 *     zs_graph_output(g, "loss", l);
 *     zs_graph_backward(g, l);
 *     zs_exec *e = NULL;
 *     zs_exec_new(&e, &g, &(zs_exec_config){0}, err);   // takes the graph over
 *     zs_exec_run(e, params, grads, &step, err);
 *
 * Errors while building are sticky: after the first, every builder returns ZS_NONE and
 * zs_exec_new reports it. */
#ifndef ZS_GRAPH_GRAPH_H
#define ZS_GRAPH_GRAPH_H

#include "tensor/tensor.h"

#include <stdio.h>

typedef struct zs_graph zs_graph;
typedef struct zs_exec zs_exec;

/* A tensor of a graph. ZS_NONE: absent (or the graph has failed). */
typedef int32_t zs_tid;
enum { ZS_NONE = -1 };

/* ---- build ---- */

int zs_graph_new(zs_graph **out, zs_error *err);
void zs_graph_free(zs_graph **g);

/* A tensor that the caller fills before each run (zs_exec_input). Names are unique. */
zs_tid zs_graph_input(zs_graph *g, const char *name, zs_shape s);

/* A slice of the flat parameter buffer, `offset` in elements. Only trainable ones get a gradient,
 * at the same offset of the gradient buffer. The same offset may be named again. */
zs_tid zs_graph_param(zs_graph *g, int64_t offset, zs_shape s, bool trainable);

/* Keeps t readable after a run under this name (zs_exec_output). */
void zs_graph_output(zs_graph *g, const char *name, zs_tid t);

zs_shape zs_graph_shape(const zs_graph *g, zs_tid t); /* {0} for ZS_NONE */

/* Records a failure found by a model builder; the first one wins. */
void zs_graph_fail(zs_graph *g, int status, const char *fmt, ...) ZS_PRINTF(3, 4);
int zs_graph_status(const zs_graph *g);

/* Operations: see tensor/ops.def for what each computes. Optional tensors take ZS_NONE. */
zs_tid zs_conv2d(zs_graph *g, zs_tid x, zs_tid w, zs_tid b, zs_tid residual, int stride, int pad);
/* `tail` zeros below and to the right, none above and to the left. */
zs_tid zs_conv2d_tail(zs_graph *g, zs_tid x, zs_tid w, zs_tid b, int stride, int tail);
zs_tid zs_linear(zs_graph *g, zs_tid x, zs_tid w, zs_tid b);
zs_tid zs_conv_relu(zs_graph *g, zs_tid x, zs_tid w, zs_tid b, int stride, int pad_h, int pad_w);
zs_tid zs_pool(zs_graph *g, zs_tid x, zs_pool_kind kind, int k, int stride, int pad);
zs_tid zs_gn_act(zs_graph *g, zs_tid x, zs_tid gamma, zs_tid beta, zs_tid scale_shift,
                 zs_tid cond_scale, int groups, float eps, zs_act act);
zs_tid zs_layernorm(zs_graph *g, zs_tid x, zs_tid gamma, zs_tid beta, float eps);
/* With [shift|scale] in the columns of ss from `offset` on. */
zs_tid zs_layernorm_mod(zs_graph *g, zs_tid x, zs_tid gamma, zs_tid beta, zs_tid ss, int64_t offset,
                        float eps);
/* x + f * (columns of `gates` from `offset` on). */
zs_tid zs_gate(zs_graph *g, zs_tid x, zs_tid f, zs_tid gates, int64_t offset);
zs_tid zs_silu(zs_graph *g, zs_tid x);
zs_tid zs_gelu(zs_graph *g, zs_tid x);
zs_tid zs_gelu_tanh(zs_graph *g, zs_tid x); /* its approximation */
zs_tid zs_add(zs_graph *g, zs_tid a, zs_tid b);
zs_tid zs_scale1p(zs_graph *g, zs_tid x, zs_tid s);
zs_tid zs_attention(zs_graph *g, zs_tid qkv, int heads);             /* ZS_QKV_BY_HEAD */
zs_tid zs_attention_by_part(zs_graph *g, zs_tid qkv, int heads);     /* ZS_QKV_BY_PART */
zs_tid zs_tokens(zs_graph *g, zs_tid x, zs_tid first, zs_tid table); /* x[N,...,C] -> [N,T,C] */
zs_tid zs_take_row(zs_graph *g, zs_tid x, int64_t row);              /* x[N,T,C] -> [N,C] */
zs_tid zs_batchnorm(zs_graph *g, zs_tid x, zs_tid mean, zs_tid var, zs_tid gamma, zs_tid beta,
                    float eps, zs_act act);
zs_tid zs_upsample2(zs_graph *g, zs_tid x);   /* nearest */
zs_tid zs_downsample2(zs_graph *g, zs_tid x); /* 2x2 average; H and W must be even */
zs_tid zs_concat(zs_graph *g, zs_tid a, zs_tid b);
zs_tid zs_mean_hw(zs_graph *g, zs_tid x);
zs_tid zs_timestep(zs_graph *g, zs_tid t, int64_t dim);
zs_tid zs_embed(zs_graph *g, zs_tid index, zs_tid table); /* the table is a parameter */
zs_tid zs_patches(zs_graph *g, zs_tid x, int k);          /* [N,H,W,C] -> [N,T,k*k*C] */
zs_tid zs_unpatch(zs_graph *g, zs_tid x, int k, int64_t h, int64_t w); /* h*w tokens */
/* The row, a parameter, in place of x[n] where mask[n] is not 0. */
zs_tid zs_substitute(zs_graph *g, zs_tid x, zs_tid row, zs_tid mask);
zs_tid zs_dropout(zs_graph *g, zs_tid x, float p); /* p = 0 returns x */
/* weights [N]: how often each sample counts, or ZS_NONE: once. */
zs_tid zs_loss_node(zs_graph *g, zs_tid pred, zs_tid target, zs_tid weights, zs_loss kind);

/* *parts [N,2], unless NULL: mean square and bound of each sample. */
zs_tid zs_loss_vlb(zs_graph *g, zs_tid *parts, zs_tid out, zs_tid noise, zs_tid x0, zs_tid steps);

/* Loop invariants. Where the same graph is run again and again with one input the same, what
 * depends on that input alone need not be computed each time: of a finished forward graph without
 * random nodes, ZS_HOIST_COMPUTE keeps just that, as outputs "<input>/0", "<input>/1", ..., and
 * ZS_HOIST_TAKE the rest, with inputs of those names and shapes in its place. Two graphs that were
 * built alike are cut alike. Returns the number of tensors cut through. */
typedef enum zs_hoist { ZS_HOIST_COMPUTE, ZS_HOIST_TAKE } zs_hoist;
int zs_graph_hoist(zs_graph *g, const char *input, zs_hoist side);

/* Nodes built between begin and end are one recompute segment: with ZS_EXEC_RECOMPUTE only the
 * tensors that leave it are kept for the backward pass and the rest is computed again there.
 * Segments do not nest. */
void zs_graph_segment_begin(zs_graph *g);
void zs_graph_segment_end(zs_graph *g);

/* Appends the gradient of `loss` (a loss node) with respect to every trainable parameter.
 * Call once, after the forward graph is complete. */
void zs_graph_backward(zs_graph *g, zs_tid loss);

/* One line per node: for people and for tests. */
void zs_graph_dump(const zs_graph *g, FILE *f);
size_t zs_graph_node_count(const zs_graph *g);

/* Multiply-adds times two of every convolution, linear and attention node, as direct algorithms
 * count them. */
double zs_graph_flops(const zs_graph *g);

/* The same of one call, from the shapes of its views; 0 for operations that are not products. */
double zs_call_flops(zs_op op, const zs_call *c);

/* ---- weights ---- */

/* Flat buffers that plans share, in the backend's memory. */
typedef struct zs_buffers {
    float *params;
    float *grads;     /* added to; may be NULL for graphs without backward */
    uint16_t *shadow; /* params in ZS_BF16, element by element; only of backends with bf16 */
} zs_buffers;

/* One flat buffer of weights as plans of a backend read it: the buffer itself, or copies where the
 * program's memory is out of the backend's reach, or half precision is asked for. */
typedef struct zs_weights {
    const zs_backend *backend;
    const float *host; /* the program's, borrowed; NULL: params is borrowed */
    float *params;     /* in the backend's memory */
    uint16_t *shadow;  /* or NULL before it is needed */
    size_t n;
    uint64_t version; /* of the contents of the copies; 0: none */
} zs_weights;

/* n weights in the program's memory, or in the backend's; nothing is copied yet. */
zs_weights zs_weights_of_host(const zs_backend *b, float *host, size_t n);
zs_weights zs_weights_of_backend(const zs_backend *b, float *params, size_t n);

/* The buffers of a run (grads NULL) on weights of this version (zs_step.weights; 0: they may have
 * changed): copies are made and renewed as needed. ZS_E_NOMEM and what the backend reports. */
int zs_weights_get(zs_buffers *out, zs_weights *w, uint64_t version, zs_error *err);

/* Frees the copies. Idempotent. */
void zs_weights_clear(zs_weights *w);

/* ---- run ---- */

typedef enum zs_exec_flag {
    ZS_EXEC_RECOMPUTE = 1, /* trade time for memory in segments */
    ZS_EXEC_NO_REUSE = 2,  /* every tensor has its own bytes: to bisect planner bugs */
    ZS_EXEC_POISON = 4,    /* fill each range with NaN before its first and after its last use, and
                              fail when a kept packed form is not that of the weights */
    ZS_EXEC_NO_PEEPHOLE = 8,
    ZS_EXEC_KEEP_NORMS = 16 /* results of norms stay until the backward pass, where they are
                               computed again otherwise: 2 % of the time, a third of the memory */
} zs_exec_flag;

/* Called after each node has run; op, its call, and seconds it took. For comparing backends node
 * by node and for profiling. */
typedef void (*zs_node_hook)(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds);

/* Two plans of one graph, node by node. A trace keeps all that the nodes of a run gave, so it is
 * for small ones; zs_trace_node is the hook and the trace its ctx, one for each run. */
typedef struct zs_trace zs_trace;
int zs_trace_new(zs_trace **out, const zs_backend *backend, zs_error *err);
void zs_trace_free(zs_trace **t); /* idempotent */
void zs_trace_node(void *trace, size_t node, zs_op op, const zs_call *c, double seconds);

/* A result that differs: |a-b|/|a| as Euclidean norms. */
typedef struct zs_trace_gap {
    size_t node;
    zs_op op;
    int slot; /* of the node's outputs */
    double distance;
} zs_trace_gap;

/* 1 and the first result that differs by more than the tolerance, in the order of the nodes; else
 * ZS_OK and the worst. Casts are passed over. ZS_E_INVALID when the plans have other nodes. */
int zs_trace_compare(zs_trace_gap *out, const zs_trace *a, const zs_trace *b, double tolerance,
                     zs_error *err);

/* The numbers of a view that a hook was given, as floats in the program's memory. */
int zs_view_read(float *dst, const zs_view *v, const zs_backend *backend, zs_error *err);

/* Packed forms of parameters (tensor/backend.h), which plans for several batch shapes share. They
 * are made by the first run that promises something about its weights (zs_step.weights), and made
 * again when the promise, or the buffer, is another one. So they cannot be older than the weights
 * unless somebody writes weights and keeps their number. `limit`: bytes of all of them together;
 * nodes with the fewest output positions come first, since making the form is the largest part of
 * their work. Without room or memory a kernel does without, at the same result. */
typedef struct zs_packs zs_packs;
int zs_packs_new(zs_packs **out, const zs_backend *backend, size_t limit, zs_error *err);
void zs_packs_free(zs_packs **s); /* after every plan that uses it */
size_t zs_packs_bytes(const zs_packs *s);

/* A number that no other call in this process returns: for zs_step.weights. */
uint64_t zs_weights_version(void);

typedef struct zs_exec_config {
    const zs_backend *backend; /* NULL: the default */
    unsigned flags;            /* zs_exec_flag */
    zs_node_hook hook;         /* or NULL */
    void *hook_ctx;
    zs_packs *packs; /* borrowed; NULL: no packed forms are kept */
} zs_exec_config;

/* Finishes the graph (recompute, peephole, removal of dead nodes), plans offsets, verifies that no
 * two live tensors overlap, and allocates one arena. Takes *g over and sets it to NULL, also on
 * failure. ZS_E_NOMEM names the bytes and the options that lower them. */
int zs_exec_new(zs_exec **out, zs_graph **g, const zs_exec_config *c, zs_error *err);
void zs_exec_free(zs_exec **e);

/* The buffer behind an input or output, f32 and in the program's memory in any case; NULL when
 * there is none of that name. Inputs keep their contents from run to run.
 *
 * On a remote backend (zs_backend.remote) these are copies: a run uploads the inputs that were
 * asked for since the run before, so ask again before you write to one, and downloads all outputs.
 */
float *zs_exec_input(zs_exec *e, const char *name);
const float *zs_exec_output(const zs_exec *e, const char *name);
zs_shape zs_exec_shape(const zs_exec *e,
                       const char *name); /* of an input or output; nd 0 if none */

/* Runs every node; outputs are there when it returns. */
int zs_exec_run_with(zs_exec *e, const zs_buffers *b, const zs_step *step, zs_error *err);

/* The same in two halves: in between a remote backend works, and inputs and outputs of e may not be
 * touched. A second run at the same buffers is recorded where the backend can do that, and replayed
 * from then on; hooks and ZS_EXEC_POISON prevent it. */
int zs_exec_start(zs_exec *e, const zs_buffers *b, const zs_step *step, zs_error *err);
int zs_exec_wait(zs_exec *e, zs_error *err);

/* How many runs of this process were replays of a recorded one. */
uint64_t zs_exec_replays(void);

/* Warns, once per process, when a backend that records could not record a run, and says why. Such
 * runs are queued node by node, at the same results. For whoever runs plans and has a ui. */
void zs_exec_warn(const zs_ui *ui);

/* zs_exec_run_with for backends without bf16. */
int zs_exec_run(zs_exec *e, float *params, float *grads, const zs_step *step, zs_error *err);

size_t zs_exec_arena_bytes(const zs_exec *e);

/* Elements [begin,end) of the gradient buffer. */
typedef struct zs_grad_range {
    int64_t begin, end;
} zs_grad_range;

typedef struct zs_ready_config {
    const zs_grad_range *ranges; /* read by zs_exec_watch alone */
    size_t n;
    void (*ready)(void *ctx, size_t range); /* nothing more is added to it in this run */
    void (*tick)(void *ctx);                /* after each node; or NULL */
    void *ctx;
} zs_ready_config;

/* From now on each run says when gradients are final, in the order of the nodes, which is the same
 * for equal graphs. Of a range that no node adds to nothing is said. On a backend whose kernels run
 * later "final" means queued, and of a recorded run only the recording speaks. */
int zs_exec_watch(zs_exec *e, const zs_ready_config *c, zs_error *err);

/* Checks an arena plan: no two tensors whose live intervals and byte ranges both intersect.
 * zs_exec_new calls it; exposed so that a test can feed it a broken plan. */
typedef struct zs_placement {
    int32_t first, last; /* schedule positions, inclusive */
    size_t offset, bytes;
} zs_placement;
int zs_plan_verify(const zs_placement *p, size_t n, zs_error *err);

/* Greedy by size: fills in p[i].offset, multiples of `align`, and the arena's size. */
int zs_plan_offsets(zs_placement *p, size_t n, size_t align, size_t *arena, zs_error *err);

#endif
