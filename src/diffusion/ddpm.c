/* SPDX-License-Identifier: MIT */
/* Ancestral sampling (Ho, Jain, Abbeel 2020): the posterior mean of eq. 7, and the "fixed large"
 * variance beta. In the authors' tables entry 0 of that variance is the posterior's entry 1; it
 * has no effect on samples, since step 0 adds no noise. */
#include "diffusion/sampler.h"

#include <math.h>

static int ddpm_step(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err)
{
    (void)err;
    const zs_schedule *k = s->schedule;
    double a = k->abar[i], prev = k->abar_prev[i], beta = k->beta[i];
    float to_x0 = (float)(beta * sqrt(prev) / (1.0 - a));
    float to_x = (float)((1.0 - prev) * sqrt(1.0 - beta) / (1.0 - a));
    float to_noise = (float)sqrt(beta);
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        w->x[j] = to_x0 * w->x0[j] + to_x * w->x[j];
    if (i == 0)
        return ZS_OK;
    zs_noise_step(s, i, w);
    for (size_t j = 0; j < size; j++)
        w->x[j] += to_noise * w->noise[j];
    return ZS_OK;
}

const zs_sampler zs_sampler_ddpm = {.name = "ddpm", .step = ddpm_step};
