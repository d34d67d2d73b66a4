/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv_direct.h"

#include <string.h>

static void zero(float *p, int64_t n)
{
    if (n > 0)
        memset(p, 0, (size_t)n * sizeof *p);
}

/* One row of the image, spread out and padded on both sides: dst[width][c]. */
static void fill_row(float *dst, const zs_band_src *s, const float *row, int64_t width)
{
    int64_t left = zs_min64(s->pad, width);
    int64_t last = s->pad + (s->w - 1) * s->dilate + 1; /* one past the last pixel */
    int64_t right = zs_min64(last, width);
    zero(dst, left * s->c);
    if (s->dilate == 1) {
        if (right > left)
            memcpy(dst + left * s->c, row, (size_t)((right - left) * s->c) * sizeof *dst);
    } else {
        zero(dst + left * s->c, (right - left) * s->c);
        for (int64_t x = 0; s->pad + x * s->dilate < right; x++)
            memcpy(dst + (s->pad + x * s->dilate) * s->c, row + x * s->c,
                   (size_t)s->c * sizeof *dst);
    }
    zero(dst + zs_max64(right, left) * s->c, (width - zs_max64(right, left)) * s->c);
}

void zs_band_fill(float *buf, const zs_band_src *s, int64_t n, int64_t first, int64_t rows,
                  int64_t width)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t y = first + r - s->pad;
        float *dst = buf + r * width * s->c;
        if (y < 0 || y % s->dilate != 0 || y / s->dilate >= s->h)
            zero(dst, width * s->c);
        else
            fill_row(dst, s, s->p + (n * s->h + y / s->dilate) * s->w * s->c, width);
    }
}
