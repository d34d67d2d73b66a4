/* SPDX-License-Identifier: MIT */
/* The DDIM ODE from the image to the noise (Diffusion Autoencoders, eq. 8): at step i the network
 * is asked about level i and the state moves to level i+1. The level above the last step is pure
 * noise (abar 0), so the result is the last predicted eps. */
#include "diffusion/sampler.h"

#include <math.h>

static int invert_step(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err)
{
    (void)err;
    double next = s->schedule->abar_next[i];
    float to_x0 = (float)sqrt(next), to_eps = (float)sqrt(1.0 - next);
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        w->x[j] = to_x0 * w->x0[j] + to_eps * w->eps[j];
    return ZS_OK;
}

const zs_sampler zs_sampler_ddim_invert = {
    .name = "ddim-invert", .upward = true, .step = invert_step};
