/* SPDX-License-Identifier: MIT */
/* Improved precision and recall (Kynkaanniemi et al. 2019): a set of samples stands for the union
 * of balls around them that reach to their k-th neighbour. */
#ifndef ZS_METRICS_NEIGHBOURS_H
#define ZS_METRICS_NEIGHBOURS_H

#include "base/base.h"

enum { ZS_NEIGHBOURS_MAX = 64 };

/* radius[n] = distance of each row of x[n,dim] to its k-th nearest other row. 1 <= k < n, k at most
 * ZS_NEIGHBOURS_MAX. Progress through ui (may be NULL). ZS_E_INVALID, ZS_E_NOMEM,
 * ZS_E_CANCELLED. */
int zs_neighbour_radii(double *radius, const float *x, int64_t n, int64_t dim, int k,
                       const zs_ui *ui, zs_error *err);

/* *share = the part of the rows of x[n,dim] that lie in a ball (borders included) around one of
 * y[m,dim] with radius[m]. */
int zs_neighbour_coverage(double *share, const float *x, int64_t n, const float *y,
                          const double *radius, int64_t m, int64_t dim, const zs_ui *ui,
                          zs_error *err);

#endif
