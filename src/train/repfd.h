/* SPDX-License-Identifier: MIT */
/* How far generated codes are from real ones. */
#ifndef ZS_TRAIN_REPFD_H
#define ZS_TRAIN_REPFD_H

#include "base/base.h"

/* Mean and covariance (n-1) of n >= 2 codes [n,dim]. Owned; zs_moments_free. */
typedef struct zs_moments {
    int64_t dim;
    double *mean; /* [dim] */
    double *cov;  /* [dim,dim] */
} zs_moments;

int zs_moments_of(zs_moments *out, const float *z, int64_t n, int64_t dim, zs_error *err);
void zs_moments_free(zs_moments *m);

/* Frechet distance of two Gaussians, |m1-m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). The trace of the
 * root is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric.
 * ZS_E_NOMEM. */
int zs_moments_distance(double *out, const zs_moments *a, const zs_moments *b, zs_error *err);

#endif
