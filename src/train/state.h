/* SPDX-License-Identifier: MIT */
#ifndef ZS_TRAIN_STATE_H
#define ZS_TRAIN_STATE_H

#include "nn/params.h"
#include "train/optim.h"

/* Everything that changes while a model is trained, and that a checkpoint therefore holds. */
typedef struct zs_train_state {
    const zs_params *layout; /* borrowed */
    const zs_backend *backend;
    zs_optim_buffers b; /* in the backend's memory */
    uint16_t *shadow;   /* b.param in half precision, where the backend reads it so; else NULL */
    double *norm;    /* a place for norms where the backend's memory is out of reach; else NULL */
    int64_t step;    /* optimiser steps done */
    int64_t samples; /* images seen = position of the loader */
    double seconds;  /* spent training, over all sessions */
    double loss_sum; /* of the steps since the last line of the log */
    int64_t loss_count;
} zs_train_state;

/* Allocates zeroed buffers for the layout. ZS_E_NOMEM says how much. */
int zs_train_state_new(zs_train_state *s, const zs_params *layout, const zs_backend *backend,
                       zs_error *err);

/* Initial weights from the seed; the moving average starts as a copy of them. */
int zs_train_state_init(zs_train_state *s, uint64_t seed, zs_error *err);

/* What plans run on. */
zs_buffers zs_train_state_buffers(const zs_train_state *s);

/* *out = the numbers of a buffer of s->b for the program: the buffer itself, or a copy where it is
 * out of reach, which zs_train_state_leave frees (out stays NULL or valid, also on failure). */
int zs_train_state_look(float **out, const zs_train_state *s, float *buffer, zs_error *err);
void zs_train_state_leave(const zs_train_state *s, float **out);

/* Makes the numbers that `from` points at, which are those of zs_train_state_look or n others,
 * those of the buffer; of the weights the shadow follows. */
int zs_train_state_put(const zs_train_state *s, float *buffer, const float *from, zs_error *err);

/* Norm (zs_grad_norm) of a buffer, in two halves: a remote backend works in between. */
int zs_train_state_norm_begin(const zs_train_state *s, const float *buffer, zs_error *err);
int zs_train_state_norm_end(double *out, const zs_train_state *s, const float *buffer,
                            zs_error *err);

/* Weights of the MODEL `spec` (zs_model_open; its moving average), and a fresh average that starts
 * there. Boxes that the layout lacks are left out. ZS_E_INVALID names the first parameter that the
 * model lacks or holds in another shape; also whatever zs_model_open returns. */
int zs_train_state_take(zs_train_state *s, const char *spec, zs_error *err);

/* One optimiser step with the gradients in s->b, of norm grad_norm (zs_optim_step; a remote backend
 * takes the last zs_train_state_norm_begin's, and reports a failure later); s->step is the number
 * of this step. Parameters that are not trainable stay as they are, and are not decayed
 * either; the average of plain ones is the weight itself. */
void zs_train_state_step(zs_train_state *s, const zs_optim_config *c, double grad_norm);

/* Idempotent. */
void zs_train_state_free(zs_train_state *s);

#endif
