/* SPDX-License-Identifier: MIT */
/* Loss and gradient of one batch, in micro-batches. */
#ifndef ZS_TRAIN_GRADIENT_H
#define ZS_TRAIN_GRADIENT_H

#include "diffusion/diffusion.h"
#include "models/model.h"
#include "train/state.h"

typedef struct zs_gradient_config {
    const zs_model_config *model;
    bool latent;       /* the prior's loss on normalised codes, not the generator's on images */
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

/* Timesteps [batch] and noise [batch,h,w,c] or [batch,z_dim] of samples first .. first+batch-1, each drawn from its
 * own counter; valid until the next call. */
void zs_gradient_draw(zs_gradient *g, int64_t first, const int64_t **t, const float **noise);

/* The simple loss of Diffusion Autoencoders, eq. 6: mean((eps(x_t, t, z) - noise)^2) over the
 * batch, with x_t from x0 [batch,h,w,c] in [-1,1]; of the prior the mean absolute difference, with x0
 * [batch,z_dim] normalised codes. Adds its gradient to s->b.grad; s->step is the
 * number of steps done so far. */
int zs_gradient_run(zs_gradient *g, const zs_train_state *s, const float *x0, const int64_t *t,
                    const float *noise, double *loss, zs_error *err);

size_t zs_gradient_arena_bytes(const zs_gradient *g);

#endif
