/* SPDX-License-Identifier: MIT */
#ifndef ZS_TRAIN_PREVIEW_H
#define ZS_TRAIN_PREVIEW_H

#include "data/data.h"
#include "models/model.h"

enum { ZS_PREVIEW_IMAGES = 8, ZS_PREVIEW_STEPS = 20 };

/* A PNG of what the weights can do, always for the same images and noise (flat buffer in the
 * memory of the backend, read only).
 * Autoencoder, one row each: the first images of the source; decoded from their z_sem and inverted
 * x_T; decoded from their z_sem and random x_T. DDPM: 4 rows of samples. DDIM with
 * ZS_PREVIEW_STEPS steps throughout. */
int zs_preview_write(const char *path, const zs_model_config *c, float *weights,
                     const zs_backend *backend, const zs_source *source, zs_error *err);

/* The same of a generator that is conditioned on cond, n columns: a row of the images `real`
 * [n,h,w,c] unless it is NULL, and two rows of samples. Latents become images through first_stage,
 * unless it is NULL. */
int zs_preview_conditional(const char *path, const zs_model_config *c, zs_model *first_stage,
                           float *weights, const zs_backend *backend, const float *real,
                           const zs_cond *cond, int64_t n, zs_error *err);

/* The first n images of the source as the model takes them, into x [n,h,w,c]. */
int zs_preview_read(const zs_source *source, const zs_model_config *c, float *x, int64_t n,
                    zs_error *err);

#endif
