/* SPDX-License-Identifier: MIT */
/* Ancestral sampling (Ho, Jain, Abbeel 2020): the posterior mean of eq. 7 and noise of the variance
 * that is asked for. Step 0 adds none, so what the tables hold for it has no effect. */
#include "diffusion/posterior.h"
#include "diffusion/sampler.h"

#include <math.h>

static void add_noise(const zs_sampling *s, zs_sample_work *w, double log_variance)
{
    float to_noise = (float)exp(0.5 * log_variance);
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        w->x[j] += to_noise * w->noise[j];
}

/* v follows the prediction at each position. */
static void add_learned_noise(const zs_sampling *s, zs_sample_work *w, const zs_posterior *p)
{
    int64_t c = s->channels, positions = s->n * s->numel / c;
    float large = (float)p->log_large, small = (float)p->log_small;
    for (int64_t j = 0; j < positions; j++) {
        const float *v = w->raw + j * (c + s->extra) + c, *noise = w->noise + j * c;
        float *x = w->x + j * c;
        for (int64_t k = 0; k < c; k++) {
            float f = 0.5f * (v[k] + 1.0f);
            x[k] += expf(0.5f * (f * large + (1.0f - f) * small)) * noise[k];
        }
    }
}

static int ddpm_step(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err)
{
    (void)err;
    zs_posterior p = zs_posterior_at(s->schedule, i);
    float to_x0 = (float)p.to_x0, to_x = (float)p.to_x;
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        w->x[j] = to_x0 * w->x0[j] + to_x * w->x[j];
    if (i == 0)
        return ZS_OK;
    zs_noise_step(s, i, w);
    if (s->variance == ZS_VAR_LEARNED)
        add_learned_noise(s, w, &p);
    else
        add_noise(s, w, s->variance == ZS_VAR_SMALL ? p.log_small : p.log_large);
    return ZS_OK;
}

const zs_sampler zs_sampler_ddpm = {.name = "ddpm", .step = ddpm_step};
