/* SPDX-License-Identifier: MIT */
/* The inner loop of the direct convolutions: a small matrix product with one packed operand. */
#ifndef ZS_BACKEND_CPU_TILE_H
#define ZS_BACKEND_CPU_TILE_H

#include "backend/cpu/simd.h"

#include <stdbool.h>
#include <stdint.h>

enum { ZS_TILE_MR_MAX = 8, ZS_TILE_NR_MAX = 32 };

/* tile[i][j] = sum over g < groups, r < runs, k < len of
 *     a[g*a_group + r*a_run + k*a_k + i*a_row] * b[(g*runs + r)*len + k][j].
 * b is packed, `nr` floats a row, 64-byte aligned. The sum runs in that order; with `more` it goes
 * on from what tile holds, to the same bits as one sum over both. */
typedef struct zs_tile_in {
    const float *a, *b;
    int64_t a_row, a_k, a_run, a_group;
    int64_t len, runs, groups;
    bool more;
} zs_tile_in;

/* Where a tile goes: rows `ld` floats apart, the first `cols` of nr columns. */
typedef struct zs_tile_out {
    float *y;
    const float *bias;     /* [cols] or NULL */
    const float *residual; /* laid out as y, or NULL */
    int64_t ld;
    int cols;
} zs_tile_out;

typedef struct zs_tile_fns {
    int mr, nr;
    /* tile[rows][nr]; rows <= mr. Only the first `cols` columns are sure to be written. */
    void (*product)(float *tile, const zs_tile_in *in, int rows, int cols);
    /* y = tile + bias + residual. */
    void (*store)(const zs_tile_out *out, const float *tile, int rows);
    /* y += tile; bias and residual are not read. */
    void (*add)(const zs_tile_out *out, const float *tile, int rows);
} zs_tile_fns;

ZS_SIMD_TABLES(zs_tile_fns, zs_tile);

static inline const zs_tile_fns *zs_tile_get(void)
{
    return ZS_SIMD_PICK(zs_tile);
}

#endif
