/* SPDX-License-Identifier: MIT */
/* Gradients of all ranks added up, in buckets: each is on its way as soon as nothing more is added
 * to it, while the backward pass goes on with the others. Private to train. */
#ifndef ZS_TRAIN_REDUCE_H
#define ZS_TRAIN_REDUCE_H

#include "comm/comm.h"
#include "graph/graph.h"
#include "nn/params.h"

typedef struct zs_reduce zs_reduce;

/* Buckets of about so many bytes, cut between parameters of the layout; a parameter that is larger
 * is a bucket of its own. *out is NULL for a single rank, which needs none of this. ZS_E_NOMEM. */
int zs_reduce_new(zs_reduce **out, zs_comm *comm, const zs_backend *backend,
                  const zs_params *layout, int64_t bucket_bytes, zs_error *err);
void zs_reduce_free(zs_reduce **r);

/* Listens to the plan whose gradients these are. */
int zs_reduce_watch(zs_reduce *r, zs_exec *e, zs_error *err);

/* Around the last run that adds to grad, all of it: begin before the run; end, after it, with what
 * became of it, waits until grad holds the sums over ranks. A rank whose run failed takes part as
 * well, so that nobody waits for it; what the others get is of no use then, which zs_comm_agree
 * tells them. Both do nothing for NULL. */
void zs_reduce_begin(zs_reduce *r, float *grad);
int zs_reduce_end(zs_reduce *r, float *grad, int status, zs_error *err);

/* The n buckets alone (owned, zs_free; also on failure). */
int zs_reduce_cut(zs_grad_range **out, size_t *n, const zs_params *layout, int64_t bytes,
                  zs_error *err);

#endif
