/* SPDX-License-Identifier: MIT */
#include "data/grid.h"

#include "data/transform.h"

#include <string.h>

enum { MID_GREY = 128, FLOAT_PAD = 2 };

/* Where tiles lie: tile i at ((i % cols), (i / cols)) times (w, h) plus padding. */
typedef struct layout {
    int cols, pad, zoom;
} layout;

static int check(const layout *l, const zs_image *images, size_t n, zs_error *err)
{
    if (n < 1 || l->cols < 1 || l->pad < 0 || l->zoom < 1)
        return zs_fail(err, ZS_E_INVALID,
                       "an image grid needs images, columns >= 1, padding >= 0 and zoom >= 1 "
                       "(not %zu, %d, %d, %d)",
                       n, l->cols, l->pad, l->zoom);
    for (size_t i = 1; i < n; i++)
        if (images[i].w != images[0].w || images[i].h != images[0].h || images[i].c != images[0].c)
            return zs_fail(err, ZS_E_INVALID,
                           "an image grid needs equal sizes, but image %zu is %d x %d x %d and the "
                           "first %d x %d x %d",
                           i, images[i].w, images[i].h, images[i].c, images[0].w, images[0].h,
                           images[0].c);
    return ZS_OK;
}

/* Pixels along an axis of `count` tiles; more than fits an image when too long. */
static int64_t extent(int64_t count, int size, const layout *l)
{
    int64_t tile = (int64_t)size * l->zoom + l->pad;
    if (tile > ZS_IMAGE_MAX_PIXELS || count > ZS_IMAGE_MAX_PIXELS / tile)
        return ZS_IMAGE_MAX_PIXELS + 1;
    return count * tile + l->pad;
}

static void zoom_row(uint8_t *dst, const uint8_t *src, int w, int c, int zoom)
{
    for (int x = 0; x < w; x++, src += c)
        for (int z = 0; z < zoom; z++, dst += c)
            memcpy(dst, src, (size_t)c);
}

static void put_tile(zs_image *out, const zs_image *im, size_t i, const layout *l)
{
    size_t c = (size_t)im->c, zoom = (size_t)l->zoom, pad = (size_t)l->pad;
    size_t stride = (size_t)out->w * c, cols = (size_t)l->cols;
    size_t x0 = pad + (i % cols) * ((size_t)im->w * zoom + pad);
    size_t y0 = pad + (i / cols) * ((size_t)im->h * zoom + pad);
    for (size_t y = 0; y < (size_t)im->h; y++) {
        uint8_t *row = out->px + (y0 + y * zoom) * stride + x0 * c;
        zoom_row(row, im->px + y * (size_t)im->w * c, im->w, im->c, l->zoom);
        for (size_t z = 1; z < zoom; z++)
            memcpy(row + z * stride, row, (size_t)im->w * zoom * c);
    }
}

int zs_grid_make(zs_image *out, const zs_image *images, size_t n, int cols, int pad, int zoom,
                 zs_error *err)
{
    *out = (zs_image){0};
    layout l = {cols, pad, zoom};
    int status = check(&l, images, n, err);
    if (status < 0)
        return status;
    int64_t used = n < (size_t)cols ? (int64_t)n : cols;
    int64_t rows = (int64_t)((n - 1) / (size_t)cols + 1);
    int64_t w = extent(used, images->w, &l), h = extent(rows, images->h, &l);
    if (w > ZS_IMAGE_MAX_PIXELS || h > ZS_IMAGE_MAX_PIXELS)
        return zs_fail(err, ZS_E_INVALID, "a grid of %zu images is too large for one PNG", n);
    if ((status = zs_image_alloc(out, (int)w, (int)h, images->c, err)) < 0)
        return status;
    memset(out->px, MID_GREY, (size_t)w * (size_t)h * (size_t)out->c);
    for (size_t i = 0; i < n; i++)
        put_tile(out, &images[i], i, &l);
    return ZS_OK;
}

int zs_grid_zoom(int64_t size)
{
    int64_t z = 128 / size;
    return z < 1 ? 1 : z > 4 ? 4 : (int)z;
}

int zs_grid_from_float(zs_image *out, const float *x, size_t n, int h, int w, int c, int cols,
                       int zoom, zs_error *err)
{
    *out = (zs_image){0};
    zs_image *im = zs_calloc(n, sizeof *im);
    if (!im)
        return zs_fail_nomem(err, n * sizeof *im, "a grid");
    int status = ZS_OK;
    for (size_t i = 0; i < n && status == ZS_OK; i++)
        status = zs_image_from_float(&im[i], x, h, w, c, err),
        x += (size_t)h * (size_t)w * (size_t)c;
    if (status == ZS_OK)
        status = zs_grid_make(out, im, n, cols, FLOAT_PAD, zoom, err);
    for (size_t i = 0; i < n; i++)
        zs_image_free(&im[i]);
    zs_free(im);
    return status;
}
