/* SPDX-License-Identifier: MIT */
/* Row-major matrix products on the calling thread. Sizes and strides fit int; larger ones are the
 * caller's to cut. */
#ifndef ZS_BACKEND_CPU_BLAS_H
#define ZS_BACKEND_CPU_BLAS_H

#include <stdint.h>

/* c[m,n] = alpha * a * b + beta * c; beta 0 ignores what was in c. Leading dimensions follow
 * their matrices.  nn: a[m,k] b[k,n].  nt: a[m,k] b[n,k].  tn: a[k,m] b[k,n]. */
void zs_blas_nn(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void zs_blas_nt(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void zs_blas_tn(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
