/* SPDX-License-Identifier: MIT */
/* Private to the graph layer. */
#ifndef ZS_GRAPH_INTERNAL_H
#define ZS_GRAPH_INTERNAL_H

#include "graph/graph.h"

typedef enum zs_kind {
    ZS_KIND_INPUT, /* arena, filled by the caller, alive for the whole run */
    ZS_KIND_PARAM, /* flat parameter buffer */
    ZS_KIND_GRAD,  /* flat gradient buffer: written with += only */
    ZS_KIND_ACT    /* arena, alive from its producer to its last reader */
} zs_kind;

typedef enum zs_phase { ZS_FWD, ZS_RECOMP, ZS_BWD } zs_phase;

typedef struct zs_gtensor {
    zs_shape shape;
    zs_kind kind;
    zs_dtype type;    /* of ACT: ZS_F32, or ZS_BF16 once zs_pass_lower has said so */
    bool trainable;   /* PARAM */
    zs_tid grad;      /* PARAM: its GRAD tensor once one exists */
    int64_t offset;   /* PARAM and GRAD: elements into the flat buffer */
    int32_t producer; /* ACT: index of its node */
    char *name;       /* INPUT; owned */
} zs_gtensor;

typedef struct zs_gnode {
    zs_op op;
    zs_phase phase;
    int32_t segment; /* 0: none */
    zs_tid in[ZS_MAX_IN], out[ZS_MAX_OUT];
    zs_attr a;
} zs_gnode;

typedef struct zs_named {
    char *name; /* owned */
    zs_tid t;
} zs_named;

struct zs_graph {
    zs_gtensor *t;
    size_t nt, cap_t;
    zs_gnode *n;
    size_t nn, cap_n;
    zs_named *outputs;
    size_t n_outputs, cap_outputs;
    zs_phase phase;  /* of nodes appended now */
    int32_t segment; /* of nodes appended now */
    int32_t segments;
    uint32_t next_rng;
    zs_error err;
};

/* A given output slot: ZS_NEW makes a fresh ACT tensor, ZS_NONE leaves it absent, any other value
 * is a GRAD tensor to add to. */
enum { ZS_NEW = -2 };

/* Appends a node after checking arity and shapes; returns its index or -1 (graph failed). */
int32_t zs_graph_append(zs_graph *g, zs_op op, const zs_tid *in, const zs_tid *out,
                        const zs_attr *a);

/* For passes that rebuild the list of nodes: appends a node as it is, false when out of memory; a
 * copy of tensor t, ZS_NONE when out of memory; and, when all are in their new places (until then
 * producers are places among the old ones), who makes what. */
bool zs_graph_push(zs_graph *g, const zs_gnode *n);
zs_tid zs_graph_twin(zs_graph *g, zs_tid t);
void zs_graph_set_producers(zs_graph *g);

/* Shape rules read `in` (NULL: absent) and fill out[i]; returning false after zs_graph_fail. */
typedef struct zs_shape_ctx {
    zs_graph *g;
    const zs_attr *a;
    const zs_shape *in[ZS_MAX_IN];
    zs_shape out[ZS_MAX_OUT];
} zs_shape_ctx;

bool zs_graph_infer(zs_op op, zs_shape_ctx *c);

/* Gradient rules: node `n` (a copy) has the gradients dy of its outputs (ZS_NONE: not needed). */
typedef struct zs_grad_ctx {
    zs_graph *g;
    zs_tid *grad_of; /* tensor -> its gradient so far; covers the forward tensors */
    const bool *needs;
    bool done; /* set by a rule that ran */
} zs_grad_ctx;

bool zs_grad_needed(const zs_grad_ctx *c, zs_tid t);
void zs_grad_add(zs_grad_ctx *c, zs_tid t, zs_tid gradient);
/* The GRAD slice of a trainable parameter, ZS_NONE for an absent tensor; anything else fails. */
zs_tid zs_grad_slot(zs_grad_ctx *c, zs_tid param);
void zs_grad_rule(zs_grad_ctx *c, const zs_gnode *n, zs_tid dy);

/* Passes over a finished graph; ZS_E_NOMEM only. */
int zs_pass_recompute(zs_graph *g);
int zs_pass_renorm(zs_graph *g); /* after the peephole, which may change norms */
int zs_pass_peephole(zs_graph *g);
int zs_pass_dead(zs_graph *g);
int zs_pass_lower(zs_graph *g); /* last, for backends that keep activations in half precision */

/* The type that slot k of an operation wants where activations are in half precision. */
zs_dtype zs_slot_type(zs_op op, int k);

/* ---- packed parameters (packs.c) ---- */

typedef struct zs_pack zs_pack;

/* The entry for a parameter at `offset`, made when it is new and fits below the limit; NULL
 * otherwise. One user more. */
zs_pack *zs_packs_take(zs_packs *s, zs_op op, int64_t offset, zs_packing k);
/* One user less; the last one frees it. */
void zs_packs_drop(zs_packs *s, zs_pack *p);

/* The packed form for a run on `params` of this version (zs_step.weights), made by now; NULL when
 * the run promises nothing about its weights, or memory has run out. */
const void *zs_packs_get(zs_packs *s, zs_pack *p, const zs_packer *packer, const zs_call *c,
                         const float *params, uint64_t version);

/* Whether packing again gives the same bytes: false shows a broken promise. */
bool zs_packs_fresh(const zs_packs *s, const zs_pack *p, const zs_packer *packer, const zs_call *c);

/* ---- when gradients are final (ready.c) ---- */

typedef struct zs_ready zs_ready;
int zs_ready_new(zs_ready **out, const zs_graph *g, const zs_ready_config *c, zs_error *err);
void zs_ready_free(zs_ready **r);
void zs_ready_after(zs_ready *r, size_t node);

/* use[t] = number of readers, outputs of the graph counted as one. `use` has g->nt entries. */
void zs_graph_count_uses(const zs_graph *g, int32_t *use);

#endif
