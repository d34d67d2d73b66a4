/* SPDX-License-Identifier: MIT */
/* Heun's method (Karras et al. 2022, algorithm 1 without churn) on d(x/sqrt(abar)) = eps d(sigma),
 * sigma = sqrt((1-abar)/abar): the slope is averaged over both ends of a step. The last step, to
 * pure signal, is Euler's. */
#include "diffusion/sampler.h"

#include <math.h>

static int heun_step(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err)
{
    double prev = s->schedule->abar_prev[i];
    float to_x0 = (float)sqrt(prev), to_eps = (float)sqrt(1.0 - prev);
    float *ahead = w->extra[0], *x0 = w->extra[1], *eps = w->extra[2];
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        ahead[j] = to_x0 * w->x0[j] + to_eps * w->eps[j];
    if (i > 0) {
        double a = s->schedule->abar[i];
        float grow = (float)sqrt(prev / a);
        float rise = (float)(0.5 * sqrt(prev) * (sqrt((1.0 - prev) / prev) - sqrt((1.0 - a) / a)));
        int status = zs_sample_predict(s, i - 1, w, ahead, x0, eps, err);
        if (status < 0)
            return status;
        for (size_t j = 0; j < size; j++)
            ahead[j] = grow * w->x[j] + rise * (w->eps[j] + eps[j]);
    }
    for (size_t j = 0; j < size; j++)
        w->x[j] = ahead[j];
    return ZS_OK;
}

const zs_sampler zs_sampler_heun = {.name = "heun", .extra = 3, .step = heun_step};
