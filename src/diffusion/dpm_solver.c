/* SPDX-License-Identifier: MIT */
/* DPM-Solver++(2M), Lu et al. 2022, algorithm 2: x_t = (sigma_t/sigma_s) x_s - alpha_t (e^-h - 1)
 * D, with alpha = sqrt(abar), sigma = sqrt(1-abar), lambda = log(alpha/sigma), h = lambda_t -
 * lambda_s, and D the x0 extrapolated from this prediction and the last one. The first step has no
 * last one, and the one to pure signal has h infinite: both take D = x0, which makes them steps of
 * DDIM. */
#include "diffusion/sampler.h"

#include <math.h>
#include <string.h>

static double lambda(double abar)
{
    return 0.5 * (log(abar) - log1p(-abar));
}

/* Share of the last prediction that is taken away in D: h / (2 h_last). Timesteps that are evenly
 * spread make h grow several times from step to step near the image, where a line through two
 * predictions says nothing that far ahead; the share stays at that of equal steps. On Gaussians
 * this is what makes the method second order at 20 steps already. */
static double extrapolation(const zs_schedule *k, int64_t i)
{
    if (i == k->n - 1 || i == 0)
        return 0.0;
    double now = lambda(k->abar[i]), h = lambda(k->abar_prev[i]) - now;
    return 0.5 * fmin(h / (now - lambda(k->abar[i + 1])), 1.0);
}

static int dpmpp2m_step(const zs_sampling *s, int64_t i, zs_sample_work *w, zs_error *err)
{
    (void)err;
    const zs_schedule *k = s->schedule;
    double a = k->abar[i], prev = k->abar_prev[i], keep = sqrt((1.0 - prev) / (1.0 - a));
    /* -alpha_t (e^-h - 1), with alpha_t e^-h = sigma_t alpha_s / sigma_s */
    double to_d = sqrt(prev) - keep * sqrt(a), back = extrapolation(k, i);
    float to_x = (float)keep, to_x0 = (float)(to_d * (1.0 + back)), to_last = (float)(-to_d * back);
    float *last = w->extra[0];
    size_t size = (size_t)(s->n * s->numel);
    for (size_t j = 0; j < size; j++)
        w->x[j] = to_x * w->x[j] + to_x0 * w->x0[j];
    for (size_t j = 0; back > 0.0 && j < size; j++)
        w->x[j] += to_last * last[j];
    memcpy(last, w->x0, size * sizeof *last);
    return ZS_OK;
}

const zs_sampler zs_sampler_dpmpp2m = {.name = "dpm++2m", .extra = 1, .step = dpmpp2m_step};
