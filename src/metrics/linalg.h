/* SPDX-License-Identifier: MIT */
/* The little of linear algebra that the metrics need, in double precision: BLAS, and LAPACK for
 * eigenvalues, from OpenBLAS or the system's LAPACK. Matrices are row-major. */
#ifndef ZS_METRICS_LINALG_H
#define ZS_METRICS_LINALG_H

#include "base/base.h"

/* Loads the library, once in a process; nothing below may be called before it has succeeded. Sets
 * OPENBLAS_NUM_THREADS in the environment the first time. ZS_E_NOMEM when the buffers that OpenBLAS
 * takes for each of our threads cannot be had; ZS_E_UNSUPPORTED when no library is installed. */
int zs_linalg_open(zs_error *err);

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
