/* SPDX-License-Identifier: MIT */
/* Samplers: from noise to samples (ddpm, ddim, dpm++2m, heun) and back (ddim-invert).
 *
 *     zs_sampling s = {.schedule = &spaced, .n = 8, .numel = 32 * 32, .net = my_net,
 *                      .net_ctx = m, .clip = true, .noise.seed = 1};
 *     zs_noise_xt(x, &s);
 *     status = zs_sample(zs_sampler_find("ddim"), &s, x, err);
 *
 * Every sample draws its own noise from (seed, image index), so the result of one image does not
 * depend on the batch that it is part of. */
#ifndef ZS_DIFFUSION_SAMPLER_H
#define ZS_DIFFUSION_SAMPLER_H

#include "diffusion/convert.h"
#include "diffusion/schedule.h"

/* The network on a whole batch: x [n, numel] at timestep t of the full process -> out, the same
 * shape, or with more channels (zs_sampling.extra). Conditioning is the business of ctx. A negative
 * status stops the sampler. */
typedef int (*zs_eps_fn)(void *ctx, const float *x, int64_t t, float *out, zs_error *err);

/* Shown what the network predicts at the beginning of each step: x0 [n, numel] at timestep t,
 * `step` counted from 0 in the order of the steps. */
typedef void (*zs_watch_fn)(void *ctx, int64_t step, int64_t t, const float *x0);

/* Where a stochastic sampler's noise comes from. */
typedef struct zs_noise {
    const float *recorded; /* [steps, n, numel] in the order of use, first step first; or NULL: */
    uint64_t seed;         /* Philox, ZS_RNG_STEP, index = first + image, step = timestep */
    uint64_t first;        /* index of the batch's image 0 */
} zs_noise;

/* How much noise an ancestral step adds. */
typedef enum zs_variance {
    ZS_VAR_LARGE,  /* beta */
    ZS_VAR_SMALL,  /* the posterior's */
    ZS_VAR_LEARNED /* between the two, as the network's extra channels v say (Nichol, Dhariwal 2021,
                      eq. 15): log variance = f log beta + (1-f) log posterior, f = (v+1)/2 */
} zs_variance;

typedef struct zs_sampling {
    const zs_schedule *schedule; /* already spaced */
    int64_t n, numel;            /* samples, elements of one */
    zs_eps_fn net;
    void *net_ctx;
    zs_pred pred; /* what net returns */
    /* At each position net returns the `channels` numbers of the prediction and then `extra` more:
     * out is [n, numel/channels, channels+extra]. 0, 0: nothing but the prediction. */
    int64_t channels, extra;
    zs_variance variance; /* ddpm; ZS_VAR_LEARNED needs as many extra channels as channels */
    bool clip;            /* clamp x0 to [-1, 1] at each step; eps follows the clamped x0 */
    double eta;           /* ddim: 0 deterministic .. 1 as noisy as ddpm with small variance */
    zs_noise noise;
    const zs_ui *ui;   /* or NULL; progress counts steps, and may cancel */
    const char *stage; /* name for progress; NULL: the sampler's */
    zs_watch_fn watch; /* or NULL */
    void *watch_ctx;
} zs_sampling;

enum { ZS_SAMPLER_EXTRA = 3 };

/* Buffers of one run, each [n, numel] but for `raw`. */
typedef struct zs_sample_work {
    float *x;                       /* the state: in and out */
    float *x0;                      /* predicted clean sample */
    float *eps;                     /* noise that goes with it */
    float *noise;                   /* fresh noise */
    float *raw;                     /* what the network returned, when it has extra channels */
    float *extra[ZS_SAMPLER_EXTRA]; /* as many as the sampler asks for; kept from step to step */
} zs_sample_work;

typedef struct zs_sampler {
    const char *name;
    bool upward; /* steps run 0 .. n-1 instead of n-1 .. 0 */
    int extra;   /* buffers that it needs beside the usual ones */
    /* Advances w->x over step i; x0 and eps are those predicted at step i. */
    int (*step)(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err);
} zs_sampler;

extern const zs_sampler zs_sampler_ddpm;        /* Ho et al. 2020, ancestral, any zs_variance */
extern const zs_sampler zs_sampler_ddim;        /* Song et al. 2021, any eta */
extern const zs_sampler zs_sampler_ddim_invert; /* its ODE run upward: x0 -> x_T */
extern const zs_sampler zs_sampler_dpmpp2m;     /* Lu et al. 2022, DPM-Solver++(2M): second order */
extern const zs_sampler zs_sampler_heun; /* Karras et al. 2022: second order, 2n-1 network calls */

/* The sampler called "ddpm", "ddim", "ddim-invert", "dpm++2m" or "heun", or NULL. */
const zs_sampler *zs_sampler_find(const char *name);

/* Runs a sampler in place on x [n, numel]. ZS_E_CANCELLED when the progress callback asks,
 * ZS_E_NOMEM, ZS_E_INVALID, or whatever the network returns; x is then undefined. */
int zs_sample(const zs_sampler *k, const zs_sampling *s, float *x, zs_error *err);

/* Starting noise x_T [n, numel]: stream ZS_RNG_XT, index = noise.first + image. */
void zs_noise_xt(float *x, const zs_sampling *s);

/* For samplers: one network call on x at the level of step i -> x0 (clamped if asked for) and the
 * eps that is consistent with it; w->raw is overwritten. */
int zs_sample_predict(const zs_sampling *s, int64_t i, const zs_sample_work *w, const float *x,
                      float *x0, float *eps, zs_error *err);

/* For samplers: fills w->noise for step i. */
void zs_noise_step(const zs_sampling *s, int64_t i, zs_sample_work *w);

#endif
