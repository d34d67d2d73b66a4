/* SPDX-License-Identifier: MIT */
/* What a network believes x0 to be on the way from x_T to the image, as rows of pictures. */
#ifndef ZS_TASKS_STRIP_H
#define ZS_TASKS_STRIP_H

#include "diffusion/diffusion.h"
#include "tensor/tensor.h"

enum { ZS_STRIP_COLS = 12, ZS_STRIP_ROWS = 8 };

/* Watches a sampler (zs_watch_fn) and keeps up to ZS_STRIP_COLS moments of up to ZS_STRIP_ROWS
 * images. Zero-initialise; zs_strip_free. */
typedef struct zs_strip {
    int64_t steps, size; /* of the sampler; floats of one image */
    int64_t n;           /* images kept */
    int cols;
    int64_t at[ZS_STRIP_COLS];   /* step of each column */
    int64_t t[ZS_STRIP_COLS];    /* and its timestep, once seen */
    float *x;                    /* [n,cols,size] */
    const float *truth;          /* [batch,size] borrowed, or NULL */
    int64_t batch;               /* images whose error against `truth` is summed up */
    bool full;                   /* the pictures stay those of an earlier batch */
    double error[ZS_STRIP_COLS]; /* sums over images of the MSE in [0,1] */
} zs_strip;

/* `images` are in the batch that will be watched, over `steps` steps. ZS_E_NOMEM. */
int zs_strip_begin(zs_strip *s, int64_t steps, int64_t size, int64_t images, zs_error *err);
void zs_strip_watch(void *ctx, int64_t step, int64_t t, const float *x0);

/* DIR/predict-x0.png: one row per image, t falling from left to right. xs: the shape of images. */
int zs_strip_write(const zs_strip *s, const char *dir, zs_shape xs, zs_error *err);
void zs_strip_free(zs_strip *s);

#endif
