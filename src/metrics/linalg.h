/* SPDX-License-Identifier: MIT */
/* The little of linear algebra that the metrics need, in double precision: BLAS, and LAPACK for
 * eigenvalues. Matrices are row-major. */
#ifndef ZS_METRICS_LINALG_H
#define ZS_METRICS_LINALG_H

#include "base/base.h"

/* c[m,n] = a[m,k] b[n,k]^T. */
void zs_linalg_nt(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);

/* c[m,n] = a[m,k] b[k,n]. */
void zs_linalg_nn(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c);

/* c[dim,dim] += x[n,dim]^T x[n,dim]; only the lower triangle is written. */
void zs_linalg_add_gram(int64_t n, int64_t dim, const double *x, double *c);

/* Eigenvalues of the symmetric a[n,n], of which the lower triangle counts, ascending in w[n]; a is
 * overwritten, with `vectors` by the eigenvector of w[i] in row i. ZS_E_NOMEM; ZS_E_NUMERIC when
 * LAPACK does not converge (entries that are not finite). */
int zs_linalg_eigen(double *w, double *a, int64_t n, bool vectors, zs_error *err);

#endif
