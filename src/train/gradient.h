/* SPDX-License-Identifier: MIT */
/* Loss and gradient of one batch, in micro-batches. */
#ifndef ZS_TRAIN_GRADIENT_H
#define ZS_TRAIN_GRADIENT_H

#include "diffusion/diffusion.h"
#include "models/model.h"
#include "train/reduce.h"
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
    int64_t batch;     /* samples per optimiser step that are learnt from here */
    int64_t whole;     /* and by all ranks together; 0: batch */
    int64_t part;      /* number of the first sample of these within the whole */
    int64_t micro;     /* samples at a time, dividing batch; 0: all */
    double dropout;
    double t_weight; /* as in zs_train_config; below 1 is 1 */
    uint64_t seed;   /* of dropout, timesteps and noise */
    const zs_backend *backend;
    unsigned exec_flags; /* zs_exec_flag */
    zs_reduce *reduce;   /* borrowed: adds the gradients of all ranks up; NULL: there is one */
    zs_node_hook hook;   /* called after every node, or NULL */
    void *hook_ctx;
} zs_gradient_config;

typedef struct zs_gradient zs_gradient;

/* What one step learns from; all of it belongs to others. */
typedef struct zs_train_batch {
    int64_t first;       /* number of the batch's first sample */
    const float *x;      /* samples: images [batch,h,w,c] in [-1,1], or normalised codes */
    zs_cond cond;        /* what a conditional network is told of each; z is not what is learnt */
    const float *target; /* noise like x, or probabilities [batch,classes]; NULL: to be drawn */
    const int64_t *t;    /* timesteps [batch]; NULL for classes, and before they are drawn */
} zs_train_batch;

/* Builds and plans the training graph. ZS_E_INVALID (batch and micro-batch), ZS_E_NOMEM. */
int zs_gradient_new(zs_gradient **out, const zs_gradient_config *c, zs_error *err);
void zs_gradient_free(zs_gradient **g);

/* Not for classes: draws timesteps, noise (the target) and which conditions are left out for the
 * samples from b->first on, each from its own counter; valid until the next call. Where classes can
 * be left out, b->cond.y becomes a copy with the last class in their place; b->cond.drop
 * likewise. */
void zs_gradient_draw(zs_gradient *g, zs_train_batch *b);

/* Adds the gradient of the batch's loss to s->b.grad (with ranks: of the loss of all their batches,
 * and the gradient must have been zero; *loss stays the share of this one); s->step is the number
 * of steps done so far.
 *
 *   images   the simple loss of Diffusion Autoencoders, eq. 6: mean((eps(x_t, t, z) - noise)^2),
 *            with x_t from x and target = noise; of a network that learns its variance the
 *            bound too (loss_vlb); with t_weight the square of each sample times min(t_weight,
 *            max(1, (1-abar)/abar))
 *   codes    target = noise: mean |eps(x_t, t) - noise|, or, of a prior that predicts x0,
 *            mean((x0(x_t, t) - x)^2)
 *   classes  cross-entropy of the classifier on x against target */
int zs_gradient_run(zs_gradient *g, const zs_train_state *s, const zs_train_batch *b, double *loss,
                    zs_error *err);

/* The same in two halves. In between a remote backend works, and the batch is no longer needed: the
 * next one can be made and drawn. */
int zs_gradient_start(zs_gradient *g, const zs_train_state *s, const zs_train_batch *b,
                      zs_error *err);
int zs_gradient_finish(zs_gradient *g, double *loss, zs_error *err);

size_t zs_gradient_arena_bytes(const zs_gradient *g);

#endif
