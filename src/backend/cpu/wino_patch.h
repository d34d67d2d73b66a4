/* SPDX-License-Identifier: MIT */
/* A square of pixels that a Winograd transform reads, some of which may be outside of the image. */
#ifndef ZS_BACKEND_CPU_WINO_PATCH_H
#define ZS_BACKEND_CPU_WINO_PATCH_H

#include <stdbool.h>
#include <stdint.h>

typedef struct zs_wino_patch {
    const float *p;     /* images [n,h,w,c] */
    int64_t at;         /* the first pixel's index, which may be outside of p */
    int64_t row, pixel; /* floats from one to the next */
    int y0, y1, x0, x1; /* rows and columns that are inside of the image */
    bool whole;         /* all of them are */
} zs_wino_patch;

static inline int zs_wino_clamp(int64_t v, int most)
{
    return v < 0 ? 0 : v > most ? most : (int)v;
}

/* The square of `side` pixels at (y, x) of image n of p[.., h, w, c]. */
static inline zs_wino_patch zs_wino_patch_of(const float *p, int64_t h, int64_t w, int64_t c,
                                             int64_t n, int64_t y, int64_t x, int side)
{
    zs_wino_patch s = {.p = p,
                       .at = ((n * h + y) * w + x) * c,
                       .row = w * c,
                       .pixel = c,
                       .y0 = zs_wino_clamp(-y, side),
                       .y1 = zs_wino_clamp(h - y, side),
                       .x0 = zs_wino_clamp(-x, side),
                       .x1 = zs_wino_clamp(w - x, side)};
    s.whole = s.y0 == 0 && s.x0 == 0 && s.y1 == side && s.x1 == side;
    return s;
}

#endif
