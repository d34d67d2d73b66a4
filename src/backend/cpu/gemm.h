/* SPDX-License-Identifier: MIT */
/* Matrix products on the tiles of tile.h. Every element of a result is one sum over the depth in
 * its order, so it does not depend on how many rows, columns or threads there are. */
#ifndef ZS_BACKEND_CPU_GEMM_H
#define ZS_BACKEND_CPU_GEMM_H

#include "backend/cpu/simd.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y[m,n] = a[m,depth] b[depth,n] + bias, or y += a b. Rows of y are `ld` apart; elements (i,k) of
 * a and (k,j) of b lie at i*a_row + k*a_k and k*b_row + j*b_col, where one of the two factors of
 * each is 1. y overlaps nothing. */
typedef struct zs_gemm {
    const float *a, *b;
    const float *bias; /* [n] or NULL */
    float *y;
    int64_t m, n, depth;
    int64_t a_row, a_k, b_row, b_col, ld;
    bool add;            /* y +=; without bias */
    const float *packed; /* b packed whole by zs_gemm_pack_all, or NULL; b is then not read */
} zs_gemm;

/* All threads; ws has zs_gemm_ws bytes for this many of them and is 64-byte aligned. */
size_t zs_gemm_ws(const zs_gemm *g, int threads);
void zs_gemm_run(const zs_gemm *g, int threads, void *ws);

/* ---- pieces, for kernels that keep packed operands ---- */

/* Floats of b packed: panels of nr columns, depth rows each. */
int64_t zs_gemm_packed(int64_t depth, int64_t n);

/* Packs columns [panel*nr, ...) of g->b to dst[depth][nr], zeros beyond n. */
void zs_gemm_pack(float *dst, const zs_gemm *g, int64_t panel);

/* Packs all panels one after the other, zs_gemm_packed(depth, n) floats, with all threads. */
void zs_gemm_pack_all(float *dst, const zs_gemm *g);

/* y += or = a b for rows [i0, i1) and the columns of one packed panel, on the calling thread. */
void zs_gemm_panel(const zs_gemm *g, const float *packed, int64_t panel, int64_t i0, int64_t i1);

typedef struct zs_gemm_fns {
    /* dst[k*nr + j] = src[j*ld + k] for k < depth, j < cols <= nr; zeros for other j < nr. */
    void (*transpose)(float *dst, const float *src, int64_t ld, int64_t depth, int nr, int cols);
} zs_gemm_fns;

ZS_SIMD_TABLES(zs_gemm_fns, zs_gemm_fns);

static inline const zs_gemm_fns *zs_gemm_fns_get(void)
{
    return ZS_SIMD_PICK(zs_gemm_fns);
}

#endif
