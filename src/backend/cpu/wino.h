/* SPDX-License-Identifier: MIT */
/* Winograd convolutions F(m x m, 3x3), m = 4 or 6, for stride 1 (Lavin & Gray, "Fast algorithms
 * for convolutional neural networks", 2015; interpolation points 0, +-1, +-2, [+-1/2,] infinity).
 *
 * The output images are cut into tiles of m x m pixels. A tile depends on a patch of p x p input
 * pixels, p = m + 2, and in the space of p*p "points" the convolution is one product of channels
 * by outputs for each point k:
 *     V[k][tile][c] = (B' patch B)[k]      input transform (zs_wino_in)
 *     M[k][tile][o] = V[k] U[k]            U[k][c][o] = (G w G')[k], the transformed weights
 *     y[tile]       = (A' M A)             output transform
 * V is laid out as v[k*ks + tile*ld + c]; see zs_wino_ks about ks.
 *
 * Tiles are numbered over all images: tile = (n*th + ty)*tw + tx. What becomes of a tile depends
 * on its own patch alone, in value and in rounding, whatever block of tiles it is handled in. */
#ifndef ZS_BACKEND_CPU_WINO_H
#define ZS_BACKEND_CPU_WINO_H

#include "backend/cpu/conv.h"
#include "backend/cpu/simd.h"

#include <stdbool.h>

typedef enum zs_wino_kind { ZS_WINO_F4, ZS_WINO_F6, ZS_WINO_KINDS } zs_wino_kind;

enum { ZS_WINO_POINTS_MAX = 64 };

typedef struct zs_wino {
    zs_wino_kind kind;
    int m, p;           /* sides of a tile and of its patch */
    int points;         /* p*p */
    int64_t n, h, w, c; /* images that are read: x[n,h,w,c] */
    int64_t oh, ow;     /* images that are cut into tiles; of the same batch */
    int64_t pad;        /* zeros before the first pixel of x, 0 .. 2 */
    int64_t th, tw;     /* tiles of an image: down, across */
    int64_t tiles;      /* n*th*tw */
    int64_t ld;         /* floats from a tile to the next in V: c rounded up to 16, at least */
} zs_wino;

/* Geometry of x[n,h,w,c] -> images [n,oh,ow]; oh = h + 2*pad - 2, ow likewise. */
zs_wino zs_wino_of(zs_wino_kind kind, const zs_view *x, int64_t oh, int64_t ow, int64_t pad);

/* Floats from a point to the next in V when a block has this many tiles. Not a multiple of the
 * page size: the p*p stores of a patch would fall into one set of the cache. */
int64_t zs_wino_ks(const zs_wino *g, int64_t tiles);

/* Input transform of tiles [first, first+count): v[k*ks + i*ld + c] for i < count. Lanes c >= g->c
 * of the last vector are 0; those of ld beyond it are not written. v is 64-byte aligned. */
typedef void (*zs_wino_in_fn)(float *v, int64_t ks, const zs_wino *g, const float *x, int64_t first,
                              int64_t count);

typedef struct zs_wino_in_fns {
    zs_wino_in_fn tiles[ZS_WINO_KINDS];
} zs_wino_in_fns;

ZS_SIMD_TABLES(zs_wino_in_fns, zs_wino_in);

static inline const zs_wino_in_fns *zs_wino_in_get(void)
{
    return ZS_SIMD_PICK(zs_wino_in);
}

/* Weights of one of the two products: w[3][3][c][o], or for the gradient of the input
 * (transposed) the taps in reverse of w[3][3][o][c]. */
typedef struct zs_wino_w {
    const float *w;
    int64_t c, o; /* channels summed over, outputs */
    bool transposed;
} zs_wino_w;

/* Weight transform of channels [c0,c1) for the panel of nr outputs from o on (nr: of zs_tile_get):
 * u[k*ks + (c-c0)*nr + j], zeros where o+j is beyond the outputs. u is 64-byte aligned. */
typedef void (*zs_wino_w_fn)(float *u, int64_t ks, const zs_wino_w *w, int64_t o, int64_t c0,
                             int64_t c1);

typedef struct zs_wino_w_fns {
    zs_wino_w_fn panel[ZS_WINO_KINDS];
    /* Asks for part i of n of the weights that `panel` would read. */
    void (*ahead)(const zs_wino_w *w, int64_t o, int64_t c0, int64_t c1, int64_t i, int64_t n);
} zs_wino_w_fns;

ZS_SIMD_TABLES(zs_wino_w_fns, zs_wino_w);

static inline const zs_wino_w_fns *zs_wino_w_get(void)
{
    return ZS_SIMD_PICK(zs_wino_w);
}

/* The images that are written: y[n,oh,ow,channels] from output `o` on, `cols` outputs. */
typedef struct zs_wino_out {
    float *y;
    const float *bias;     /* [channels] or NULL */
    const float *residual; /* laid out as y, or NULL */
    int64_t channels, o;
    int cols;
} zs_wino_out;

/* Output transform of tiles [first, first+count) from mm[k*ks + i*nr + j]: y = tile + bias +
 * residual. */
typedef void (*zs_wino_out_fn)(const zs_wino_out *out, const float *mm, int64_t ks,
                               const zs_wino *g, int64_t first, int64_t count);

typedef struct zs_wino_out_fns {
    zs_wino_out_fn tiles[ZS_WINO_KINDS];
    /* Asks for the memory of y that the tile will be written to. */
    void (*ahead)(const zs_wino_out *out, const zs_wino *g, int64_t tile);
} zs_wino_out_fns;

ZS_SIMD_TABLES(zs_wino_out_fns, zs_wino_out);

static inline const zs_wino_out_fns *zs_wino_out_get(void)
{
    return ZS_SIMD_PICK(zs_wino_out);
}

#endif
