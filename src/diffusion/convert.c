/* SPDX-License-Identifier: MIT */
#include "diffusion/convert.h"

#include <math.h>

void zs_q_sample(float *xt, const float *x0, const float *eps, double abar, size_t n)
{
    float a = (float)sqrt(abar), b = (float)sqrt(1.0 - abar);
    for (size_t i = 0; i < n; i++)
        xt[i] = a * x0[i] + b * eps[i];
}

void zs_eps_to_x0(float *x0, const float *xt, const float *eps, double abar, size_t n)
{
    float a = (float)sqrt(1.0 / abar), b = (float)sqrt(1.0 / abar - 1.0);
    for (size_t i = 0; i < n; i++)
        x0[i] = a * xt[i] - b * eps[i];
}

void zs_x0_to_eps(float *eps, const float *xt, const float *x0, double abar, size_t n)
{
    float a = (float)sqrt(1.0 / abar), b = (float)sqrt(1.0 / abar - 1.0);
    for (size_t i = 0; i < n; i++)
        eps[i] = (a * xt[i] - x0[i]) / b;
}

void zs_clamp_unit(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i];
        v = v < -1.0f ? -1.0f : v;
        x[i] = v > 1.0f ? 1.0f : v;
    }
}
