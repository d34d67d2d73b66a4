/* SPDX-License-Identifier: MIT */
/* Classifier-free guidance (Ho, Salimans 2022) as a network made of two: what is predicted with the
 * condition is moved away from what is predicted without it. No sampler knows of it.
 *
 *     zs_guidance g = {.cond = net, .cond_ctx = a, .uncond = net, .uncond_ctx = b, .scale = 1.5,
 *                      .positions = n * h * w, .pitch = 2 * c, .guided = c};
 *     sampling.net = zs_guidance_net, sampling.net_ctx = &g;
 *     status = zs_sample(k, &sampling, x, err);
 *     zs_guidance_free(&g); */
#ifndef ZS_DIFFUSION_GUIDANCE_H
#define ZS_DIFFUSION_GUIDANCE_H

#include "diffusion/sampler.h"

typedef struct zs_guidance {
    zs_eps_fn cond, uncond; /* both see the same x */
    void *cond_ctx, *uncond_ctx;
    double scale;      /* 1: as without guidance; 0: without the condition */
    int64_t positions; /* of all samples together */
    int64_t pitch;     /* numbers that both return at each position */
    int64_t guided;    /* only the first so many are: uncond + scale (cond - uncond); the others
                          come from cond. DiT guides 3 of its 4 latent channels, and no variance */
    float *other;      /* what uncond returned; made by the first call */
} zs_guidance;

/* A zs_eps_fn; ctx is a zs_guidance. ZS_E_NOMEM, or what one of the two returns. */
int zs_guidance_net(void *ctx, const float *x, int64_t t, float *out, zs_error *err);

/* Idempotent. */
void zs_guidance_free(zs_guidance *g);

#endif
