/* SPDX-License-Identifier: MIT */
/* Loss and gradient of one batch, in micro-batches. */
#ifndef ZS_TRAIN_GRADIENT_H
#define ZS_TRAIN_GRADIENT_H

#include "diffusion/diffusion.h"
#include "models/model.h"
#include "train/state.h"

/* What a loss is made from. */
typedef enum zs_objective {
    ZS_OBJECTIVE_IMAGES, /* noise in images: the generator and, of an autoencoder, its encoder */
    ZS_OBJECTIVE_CODES,  /* noise in normalised codes: the prior */
    ZS_OBJECTIVE_CLASSES /* classes of images: an encoder with a classifier */
} zs_objective;

typedef struct zs_gradient_config {
    const zs_model_config *model;
    zs_objective objective;
    zs_params *layout; /* zs_model_layout(model), or zs_prior_layout(model) */
    int64_t batch;     /* samples per optimiser step */
    int64_t micro;     /* samples at a time, dividing batch; 0: all */
    double dropout;
    uint64_t seed; /* of dropout, timesteps and noise */
    const zs_backend *backend;
    unsigned exec_flags; /* zs_exec_flag */
    zs_node_hook hook;   /* called after every node, or NULL */
    void *hook_ctx;
} zs_gradient_config;

typedef struct zs_gradient zs_gradient;

/* Builds and plans the training graph. ZS_E_INVALID (batch and micro-batch), ZS_E_NOMEM. */
int zs_gradient_new(zs_gradient **out, const zs_gradient_config *c, zs_error *err);
void zs_gradient_free(zs_gradient **g);

/* Not for classes: timesteps [batch] and noise [batch,h,w,c] or [batch,z_dim] of samples first ..
 * first+batch-1, each drawn from its own counter; valid until the next call. */
void zs_gradient_draw(zs_gradient *g, int64_t first, const int64_t **t, const float **noise);

/* What the next batches are conditioned on, of a network that takes it as an input: z
 * [batch,z_dim], y [batch]. Borrowed until the last run with it. */
void zs_gradient_condition(zs_gradient *g, const zs_cond *cond);

/* Adds the gradient of the batch's loss to s->b.grad; s->step is the number of steps done so far.
 *
 *   images   the simple loss of Diffusion Autoencoders, eq. 6: mean((eps(x_t, t, z) - noise)^2),
 *            with x_t from x0 [batch,h,w,c] in [-1,1] and target = noise; of a network that
 *            learns its variance the bound too (loss_vlb)
 *   codes    x0 [batch,z_dim] normalised codes, target = noise: mean |eps(x_t, t) - noise|, or,
 *            of a prior that predicts x0, mean((x0(x_t, t) - x0)^2)
 *   classes  cross-entropy of the classifier on x0 [batch,h,w,c] against target [batch,classes],
 *            probabilities; t is not used */
int zs_gradient_run(zs_gradient *g, const zs_train_state *s, const float *x0, const int64_t *t,
                    const float *target, double *loss, zs_error *err);

size_t zs_gradient_arena_bytes(const zs_gradient *g);

#endif
