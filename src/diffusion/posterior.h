/* SPDX-License-Identifier: MIT */
/* The posterior q(x_{i-1} | x_i, x0) of one step, what a learned variance lies between, and the
 * numbers that the variational bound takes from it. All float64. */
#ifndef ZS_DIFFUSION_POSTERIOR_H
#define ZS_DIFFUSION_POSTERIOR_H

#include "diffusion/schedule.h"
#include "tensor/ops.h"

typedef struct zs_posterior {
    double to_x0, to_x; /* mean = to_x0 x0 + to_x x_i (Ho et al. 2020, eq. 7) */
    double log_small;   /* log variance; that of step 0 would be -inf and repeats step 1's, or is
                           log beta where there is no step 1 */
    double log_large;   /* log beta */
} zs_posterior;

/* Of step i in 0..s->n-1. */
zs_posterior zs_posterior_at(const zs_schedule *s, int64_t i);

/* One row of the input `steps` of the operation loss_vlb, of step i: log_large, log_small, the
 * factor from an error of eps to one of the posterior's mean, 1 for step 0, else 0, and how often
 * the mean square of eps counts, which is once. */
void zs_bound_row(float row[ZS_BOUND_NUMBERS], const zs_schedule *s, int64_t i);

#endif
