/* SPDX-License-Identifier: MIT */
/* PNG, JPEG and WebP files <-> 8-bit pixels. */
#ifndef ZS_IO_IMAGEFILE_H
#define ZS_IO_IMAGEFILE_H

#include "base/base.h"

/* Interleaved 8-bit pixels [h][w][c], c = 1 (grey) or 3 (RGB). Owned; zs_image_free. */
typedef struct zs_image {
    int w, h, c;
    uint8_t *px;
} zs_image;

/* Pixels a file may hold before it is refused as a decompression bomb: 2^28. */
#define ZS_IMAGE_MAX_PIXELS ((int64_t)1 << 28)

/* Reads any PNG, JPEG or WebP as `channels` 1, 3, or 0 for what the file has (palette becomes
 * RGB; grey stays grey). As PIL's convert("RGB")/convert("L"), which the authors use: 16-bit is
 * reduced to 8 by its high byte, alpha is dropped (not composited), Adobe CMYK is inverted,
 * grey = (299 R + 587 G + 114 B) / 1000 as PIL rounds it, EXIF orientation is ignored. The
 * format is probed from the bytes. ZS_E_IO, ZS_E_FORMAT (not an image, damaged, truncated),
 * ZS_E_UNSUPPORTED (too large), ZS_E_NOMEM. */
int zs_image_read(zs_image *out, const char *path, int channels, zs_error *err);
int zs_image_read_bytes(zs_image *out, const char *label, const void *p, size_t n, int channels,
                        zs_error *err);

/* Size and channel count from the header alone; same errors. */
int zs_image_probe(zs_image *out_without_px, const char *path, zs_error *err);

/* True when the name ends in .png .jpg .jpeg .webp, any case. */
bool zs_image_name(const char *path);

/* Writes an 8-bit PNG whole or not at all. */
int zs_image_write_png(const char *path, const zs_image *im, zs_error *err);

/* PNG into memory: *bytes is owned by the caller (zs_free). */
int zs_image_encode_png(uint8_t **bytes, size_t *n, const zs_image *im, zs_error *err);

/* Uninitialised pixels; w, h >= 1, at most ZS_IMAGE_MAX_PIXELS, c = 1 or 3. */
int zs_image_alloc(zs_image *out, int w, int h, int c, zs_error *err);

/* In place to `channels` as zs_image_read; on failure the image is untouched. */
int zs_image_convert(zs_image *im, int channels, zs_error *err);

void zs_image_free(zs_image *im);

#endif
