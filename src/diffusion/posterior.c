/* SPDX-License-Identifier: MIT */
#include "diffusion/posterior.h"

#include <math.h>

static double small_variance(const zs_schedule *s, int64_t i)
{
    return s->beta[i] * (1.0 - s->abar_prev[i]) / (1.0 - s->abar[i]);
}

zs_posterior zs_posterior_at(const zs_schedule *s, int64_t i)
{
    double a = s->abar[i], prev = s->abar_prev[i], beta = s->beta[i];
    int64_t at = i ? i : 1;
    return (zs_posterior){
        .to_x0 = beta * sqrt(prev) / (1.0 - a),
        .to_x = (1.0 - prev) * sqrt(1.0 - beta) / (1.0 - a),
        .log_small = log(at < s->n ? small_variance(s, at) : beta),
        .log_large = log(beta),
    };
}

void zs_bound_row(float row[ZS_BOUND_NUMBERS], const zs_schedule *s, int64_t i)
{
    zs_posterior p = zs_posterior_at(s, i);
    row[0] = (float)p.log_large;
    row[1] = (float)p.log_small;
    row[2] = (float)(p.to_x0 * sqrt(1.0 / s->abar[i] - 1.0));
    row[3] = i == 0 ? 1.0f : 0.0f;
    row[4] = 1.0f;
}
