/* SPDX-License-Identifier: MIT */
/* The gradient of the weights by Winograd's tiles, F(4x4,3x3) (wino.h). With
 *     V[k][tile][c] = (B' patch B)[k]      of x, as in the forward pass,
 *     D[k][tile][o] = (A dY A')[k]         of the tile's 4 x 4 pixels of dy,
 * the gradient of the transformed weights is one product over the tiles for each point k,
 *     dU[k][c][o] = sum over the tiles of V[k][tile][c] * D[k][tile][o],
 * and dw += G' dU G. The bias gradient is the sum of D at the point (1,1), where each tile has the
 * sum of its pixels.
 *
 * V and D of a useful number of tiles are many times larger than the second-level cache, so a
 * thread makes them for a few of the six rows of points at a time, keeps them to itself, and reads
 * the images again for the next rows: that costs less than passing V and D between cores. Within
 * a row dU G needs no other row, which leaves three sums to keep of six:
 *     T[row][s][c][o] = sum over j of dU[row*6 + j] G[j][s].
 *
 * F(6x6,3x3) has 1.27 times less to multiply, but 64 points to transform and fold; the two were
 * equally fast, and this one is twice as accurate and wastes less at the edges. */
#ifndef ZS_BACKEND_CPU_WINO_DW_H
#define ZS_BACKEND_CPU_WINO_DW_H

#include "backend/cpu/wino.h"

#include <stdbool.h>

/* How many rows are made at once: one, two, half of them, or all. */
typedef enum zs_wino_cut {
    ZS_WINO_ROW,
    ZS_WINO_PAIR,
    ZS_WINO_HALF,
    ZS_WINO_ALL,
    ZS_WINO_CUTS
} zs_wino_cut;

enum { ZS_WINO_DW_P = 6 }; /* rows of points */

/* Rows of a set; 6 over this is the number of sets. */
static inline int zs_wino_cut_rows(zs_wino_cut cut)
{
    return cut == ZS_WINO_ROW ? 1 : cut == ZS_WINO_PAIR ? 2 : cut == ZS_WINO_HALF ? 3 : 6;
}

/* Row i of a set. Pairs are of points that differ in sign: they share most of the work. */
static inline int zs_wino_cut_row(zs_wino_cut cut, int set, int i)
{
    return (set * zs_wino_cut_rows(cut) + (cut == ZS_WINO_PAIR) + i) % ZS_WINO_DW_P;
}

/* Images and which of their channels; c0 a multiple of 16, c1 too unless it is the last. */
typedef struct zs_wino_x {
    const float *x;
    int64_t c0, c1;
} zs_wino_x;

/* V of tiles [first, first+count): point j of row i of the set goes to
 * v[(i*6 + j)*ks + tile*g->ld + c - c0], tile < count. As zs_wino_in_fn for the rest. */
typedef void (*zs_wino_rows_fn)(float *v, int64_t ks, const zs_wino *g, const zs_wino_x *x,
                                int64_t first, int64_t count);

/* dy[n,oh,ow,o] and where D of it goes: panels of nr outputs, point j of row i of the set at
 * d[(i*6 + j)*ks + panel*step + tile*nr + o%nr]. Outputs beyond o up to the end of the panel are
 * 0. */
typedef struct zs_wino_dy {
    const zs_wino *g;
    const float *dy;
    int64_t o, ks, step;
    int nr;
} zs_wino_dy;

/* D of tiles [first, first+count), outputs of panels [begin, end); d stands at the first panel. */
typedef void (*zs_wino_dy_fn)(float *d, const zs_wino_dy *t, int64_t first, int64_t count,
                              int64_t begin, int64_t end);

/* The last step: dw[3][3][c][o] += G' T for `rows` channels and `cols` outputs. T of row i, column
 * s and part n is t[n*part + (i*3 + s)*ts + channel*nr + output]; the parts are added up. */
typedef struct zs_wino_unpack {
    float *dw;
    const float *t;
    int64_t part, parts, ts;
    int64_t ld, plane; /* floats from a channel of dw to the next, from a tap to the next */
    int rows, cols, nr;
} zs_wino_unpack;

typedef struct zs_wino_dw_fns {
    zs_wino_rows_fn rows[ZS_WINO_CUTS][ZS_WINO_DW_P]; /* NULL from the number of sets on */
    zs_wino_dy_fn dy[ZS_WINO_CUTS][ZS_WINO_DW_P];
    /* t[s*ts + i] = (or +=, if not fresh) sum over j of u[j*us + i] G[j][s]; i < n, a multiple of
     * nr. */
    void (*fold)(float *t, int64_t ts, const float *u, int64_t us, int64_t n, bool fresh);
    void (*unpack)(const zs_wino_unpack *t);
    void (*sum)(double *y, const float *x, int64_t count, int nr); /* y[nr] += x[count][nr] */
} zs_wino_dw_fns;

ZS_SIMD_TABLES(zs_wino_dw_fns, zs_wino_dw);

static inline const zs_wino_dw_fns *zs_wino_dw_get(void)
{
    return ZS_SIMD_PICK(zs_wino_dw);
}

bool zs_conv_wino_dw_can(const zs_call *c); /* 3x3, stride 1, pad <= 2, worth while */
void zs_conv_wino_dw(const zs_call *c);
size_t zs_conv_wino_dw_ws(const zs_call *c);

#endif
