/* SPDX-License-Identifier: MIT */
/* What an image format implements; one file and one entry in imagefile.c each. Private to io. */
#ifndef ZS_IO_IMAGEREADER_H
#define ZS_IO_IMAGEREADER_H

#include "io/imagefile.h"

/* An encoded image in memory; label is the file name that messages start with. Borrowed. */
typedef struct zs_image_bytes {
    const char *label;
    const uint8_t *p;
    size_t n;
} zs_image_bytes;

typedef struct zs_image_reader {
    const char *name;
    /* True when the first bytes are this format's signature. */
    bool (*probe)(const uint8_t *p, size_t n);
    /* Decodes as 8-bit grey or RGB, whichever is closer to the file; with header_only, w, h and
     * c are filled and px stays NULL. On failure nothing is left allocated by the reader but
     * im->px, which the caller frees. */
    int (*read)(zs_image *im, const zs_image_bytes *in, bool header_only, zs_error *err);
} zs_image_reader;

extern const zs_image_reader zs_png_reader, zs_jpeg_reader, zs_webp_reader;

/* Refuses sizes that are empty (ZS_E_FORMAT) or beyond ZS_IMAGE_MAX_PIXELS
 * (ZS_E_UNSUPPORTED); otherwise sets im->w, h and c. Called before anything is allocated. */
int zs_image_set_size(zs_image *im, const char *label, int64_t w, int64_t h, int c, zs_error *err);

#endif
