/* SPDX-License-Identifier: MIT */
#ifndef ZS_DATA_GRID_H
#define ZS_DATA_GRID_H

#include "io/io.h"

/* Lays n same-sized images out row by row, `cols` per row, `pad` pixels of mid grey between and
 * around, each scaled up by the integer `zoom` (nearest) so that 32x32 images can be seen. */
int zs_grid_make(zs_image *out, const zs_image *images, size_t n, int cols, int pad, int zoom,
                 zs_error *err);

/* The zoom at which images of that size can be looked at: 1 from 128 pixels on, 4 at most. */
int zs_grid_zoom(int64_t size);

/* The same from model-range floats x [n,h,w,c], c = 1 or 3. */
int zs_grid_from_float(zs_image *out, const float *x, size_t n, int h, int w, int c, int cols,
                       int zoom, zs_error *err);

#endif
