/* SPDX-License-Identifier: MIT */
#ifndef ZS_METRICS_KERNEL_DISTANCE_H
#define ZS_METRICS_KERNEL_DISTANCE_H

#include "base/base.h"

/* Rows of a feature matrix x[.,dim]: rows index[0..n-1], or 0..n-1 when index is NULL. */
typedef struct zs_rows {
    const float *x;
    const int64_t *index;
    int64_t n, dim;
} zs_rows;

/* Squared maximum mean discrepancy of two sets under the kernel (x.y/dim + 1)^3, unbiased: pairs of
 * a row with itself do not count (KID; Binkowski et al. 2018, eq. 4). Both need two rows at least.
 * ZS_E_INVALID, ZS_E_NOMEM. */
int zs_kernel_distance(double *out, const zs_rows *a, const zs_rows *b, zs_error *err);

#endif
