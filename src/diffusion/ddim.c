/* SPDX-License-Identifier: MIT */
/* Song, Meng, Ermon: Denoising Diffusion Implicit Models, eq. 12. */
#include "diffusion/sampler.h"

#include <math.h>

static int ddim_step(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err)
{
    (void)err;
    double a = s->schedule->abar[i], prev = s->schedule->abar_prev[i];
    double sigma = s->eta * sqrt((1.0 - prev) / (1.0 - a)) * sqrt(1.0 - a / prev);
    /* rounding may leave the difference a hair below 0 when eta is 1 */
    float to_x0 = (float)sqrt(prev), to_eps = (float)sqrt(fmax(1.0 - prev - sigma * sigma, 0.0));
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        w->x[j] = to_x0 * w->x0[j] + to_eps * w->eps[j];
    if (sigma <= 0.0)
        return ZS_OK;
    float to_noise = (float)sigma;
    zs_noise_step(s, i, w);
    for (size_t j = 0; j < size; j++)
        w->x[j] += to_noise * w->noise[j];
    return ZS_OK;
}

const zs_sampler zs_sampler_ddim = {.name = "ddim", .step = ddim_step};
