/* SPDX-License-Identifier: MIT */
/* A model's networks under a sampler. */
#ifndef ZS_TRAIN_GENERATE_H
#define ZS_TRAIN_GENERATE_H

#include "diffusion/diffusion.h"
#include "models/model.h"

typedef struct zs_generation {
    zs_model *model;
    const zs_sampler
        *sampler;  /* zs_sampler_find: zs_sampler_ddim, zs_sampler_ddim_invert, zs_sampler_ddpm */
    int64_t steps; /* out of the model's T: whole stride for ddim, even for ddpm */
    const char *spacing; /* or NULL; zs_schedule_respace, and `steps` says nothing */
    double eta;          /* ddim only */
    double guidance;   /* 0 and 1: none; else what is predicted with cond.z, or cond.y, is moved so
                        many times as far from what is predicted without it; doubles the work of
                        each step */
    zs_cond cond;      /* what the network is told of each sample */
    zs_noise noise;    /* of stochastic samplers; recorded noise is NHWC as well */
    const zs_ui *ui;   /* or NULL; progress counts steps */
    const char *stage; /* name for progress; NULL: the sampler's */
    zs_watch_fn watch; /* sees x0 as predicted at each step; or NULL */
    void *watch_ctx;
} zs_generation;

/* Runs the generator in place on x, shape xs = [n,h,w,c] NHWC: x_T -> x0 in [-1,1], or, with
 * zs_sampler_ddim_invert, x0 -> x_T. The whole batch advances together; what the network predicts,
 * whether x0 is clamped and how noisy a step of ddpm is are those of the model's process.
 * ZS_E_INVALID when `steps` is impossible, the shape does not fit the model, or it cannot be
 * guided; ZS_E_CANCELLED, ZS_E_NOMEM. */
int zs_generate(const zs_generation *g, float *x, zs_shape xs, zs_error *err);

/* Images x, shape xs = [n,H,W,channels], of fresh noise: x_T from zs_draw_xt with the seed and the
 * first image of g->noise, zs_generate and, where there is one, the first stage. */
int zs_generate_images(const zs_generation *g, float *x, zs_shape xs, zs_error *err);

/* Whether the sampler can make g->steps steps of the model's schedule, and the model be guided; the
 * same ZS_E_INVALID as zs_generate, before any work is done. */
int zs_generation_check(const zs_generation *g, zs_error *err);

/* How many steps the sampler really takes in that box: of "ldm30" 31. Errors as above. */
int zs_generation_steps(int64_t *n, const zs_generation *g, zs_box box, zs_error *err);

/* Samples codes with the latent prior: z [n, z_dim] holds standard normal noise and is replaced
 * by a normalised code (DDIM, no clamping); model, steps, eta, noise and ui of g are used. */
int zs_generate_codes(const zs_generation *g, float *z, int64_t n, zs_error *err);

/* z_sem [n,z_dim] -> normalised codes (z-mean)/std, in place, and back. Without statistics codes of
 * a representation diffusion model stay as they are; those of any other prior are ZS_E_INVALID. */
int zs_normalise_codes(const zs_model *m, float *z, int64_t n, zs_error *err);
int zs_denormalise_codes(const zs_model *m, float *z, int64_t n, zs_error *err);
bool zs_can_denormalise(const zs_model *m); /* whether these would work */

/* Starting noise x_T, shape xs = [n,...], of images first .. first+n-1 of a run: stream ZS_RNG_XT
 * of the seed, in NHWC order. */
void zs_draw_xt(float *x, zs_shape xs, uint64_t seed, uint64_t first);

/* Starting noise z [n,dim] of codes first .. first+n-1: stream ZS_RNG_CODE, so that a code and the
 * x_T of the same number have nothing in common. */
void zs_draw_code(float *z, int64_t n, int64_t dim, uint64_t seed, uint64_t first);

#endif
