/* SPDX-License-Identifier: MIT */
/* Matrix products by cuBLASLt. */
#ifndef ZS_BACKEND_CUDA_BLAS_H
#define ZS_BACKEND_CUDA_BLAS_H

#include "backend/cuda/device.h"

/* Row-major D[m,n] = alpha * A B + beta * C + bias[n], for every matrix of a batch; sums in f32,
 * without TF32. Rows are lda, ldb and ldc elements apart, C and D of one shape and layout. One kind
 * of number without gaps between, so that the bytes are a key. */
typedef struct zs_blas {
    int64_t in, out; /* types of A and B, and of C and D: F32 F32, BF16 BF16 or BF16 F32 */
    int64_t m, n, k;
    int64_t ta, tb; /* A is stored [k,m], B is stored [n,k] */
    int64_t lda, ldb, ldc;
    int64_t batch, sa, sb, sc; /* elements from one matrix to the next */
    int64_t bias;              /* there is one, of the type of D */
    int64_t beta;              /* C is there and counts once */
} zs_blas;

typedef struct zs_blas_args {
    float alpha;
    const void *a, *b, *c; /* c NULL without beta; may be d */
    void *d;
    const void *bias; /* NULL without bias */
    void *ws;         /* ZS_BLAS_WS bytes, 16-byte aligned */
} zs_blas_args;

/* Room that algorithms may take. */
enum { ZS_BLAS_WS = 32 << 20 };

/* Finds the algorithm, by timing a few where the device is open; called while planning. */
void zs_blas_prepare(const zs_blas *g);

/* Queues it. Pointers that are not 16-byte aligned are right, but slower. A failure is kept
 * (check.h). */
void zs_blas_run(const zs_blas *g, const zs_blas_args *a);

/* Whether ZSEM_CUDA_PLAIN=1 asks for our own slow kernels in place of the libraries. */
bool zs_cuda_plain(void);

#endif
