/* SPDX-License-Identifier: MIT */
#ifndef ZS_DIFFUSION_SCHEDULE_H
#define ZS_DIFFUSION_SCHEDULE_H

#include "base/base.h"

enum { ZS_SCHEDULE_MAX = 1000000 };

/* A discrete diffusion process of n steps, in float64. Step i takes a sample of signal level
 * abar_prev[i] to abar[i]; abar = cumulative product of 1 - beta. Owned; zs_schedule_free. */
typedef struct zs_schedule {
    int64_t n;
    int64_t *t;   /* timestep the network is told at step i: ascending, from the full process */
    double *beta; /* in (0, 1) */
    double *abar; /* decreasing, in (0, 1) */
    double *abar_prev; /* abar of the step below; 1 for step 0, unless a spacing ends above it */
    double *abar_next; /* abar of the step above; 0 for the last */
} zs_schedule;

/* The full process of `steps` steps by name:
 *   "linear"   linspace(1e-4, 0.02), times 1000/steps
 *   "cosine"   abar(u) = cos^2((u + 0.008)/1.008 * pi/2), betas at most 0.999
 *   "constX"   every beta is X * 1000/steps, such as "const0.008"
 *   "sqrtA:B"  linspace(sqrt(A), sqrt(B))^2, for any number of steps; abar is rounded to float32,
 *              since the authors' samplers read tables of that, such as "sqrt0.0015:0.0195"
 * as guided-diffusion, Diffusion Autoencoders (diffusion/base.py) and, for the last one, latent
 * diffusion (ldm/modules/diffusionmodules/util.py) define them.
 * ZS_E_INVALID: unknown name, betas outside (0, 1), steps outside 1..ZS_SCHEDULE_MAX. */
int zs_schedule_make(zs_schedule *out, const char *name, int64_t steps, zs_error *err);

/* Empty process of n steps with only n set and the arrays allocated. */
int zs_schedule_alloc(zs_schedule *out, int64_t n, zs_error *err);

/* Sets abar_prev and abar_next from abar. */
void zs_schedule_link(zs_schedule *s);

/* Idempotent. */
void zs_schedule_free(zs_schedule *s);

#endif
