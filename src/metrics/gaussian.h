/* SPDX-License-Identifier: MIT */
/* Mean and covariance of features, and the Frechet distance of two Gaussians: FID (Heusel et al.
 * 2017, eq. 6) when the features are Inception's, rep-FD when they are codes. */
#ifndef ZS_METRICS_GAUSSIAN_H
#define ZS_METRICS_GAUSSIAN_H

#include "base/base.h"

/* Zero-initialise; release with zs_gaussian_close. */
typedef struct zs_gaussian {
    int64_t n; /* samples it was made of; 0: unknown */
    int64_t dim;
    double *mu;    /* [dim] */
    double *sigma; /* [dim,dim], unbiased (divided by n-1), symmetric */
} zs_gaussian;

/* Room for dim features, zero-filled. ZS_E_NOMEM. */
int zs_gaussian_alloc(zs_gaussian *g, int64_t dim, zs_error *err);
void zs_gaussian_close(zs_gaussian *g); /* idempotent */

/* Collects samples in any number of calls. Sums are of differences from the first sample, in
 * double, so that large means cost no digits. Zero-initialise; close with zs_moments_close. */
typedef struct zs_moments {
    int64_t n, dim;
    double *shift, *sum, *gram; /* [dim], [dim], [dim,dim]: lower triangle */
    double *block;              /* rows on their way into gram */
} zs_moments;

int zs_moments_open(zs_moments *m, int64_t dim, zs_error *err);
void zs_moments_close(zs_moments *m);

/* x[n,dim]. ZS_E_NUMERIC at a value that is not finite; the message starts with label. */
int zs_moments_add(zs_moments *m, const float *x, int64_t n, const char *label, zs_error *err);

/* Mean and covariance of all samples. ZS_E_INVALID with fewer than two; starts with label. */
int zs_moments_finish(zs_gaussian *g, const zs_moments *m, const char *label, zs_error *err);

/* |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((AB)^1/2). The last trace is that of the square root of
 * the similar symmetric matrix A^1/2 B A^1/2, whose eigenvalues are not negative but for rounding:
 * nothing needs to be added to the diagonal when covariances are singular. ZS_E_INVALID when the
 * dimensions differ, ZS_E_NUMERIC, ZS_E_NOMEM. */
int zs_frechet_distance(double *out, const zs_gaussian *a, const zs_gaussian *b, zs_error *err);

#endif
