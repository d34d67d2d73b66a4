/* SPDX-License-Identifier: MIT */
/* Names as people write them -> images of a source. Private to data. */
#ifndef ZS_DATA_IMAGEINDEX_H
#define ZS_DATA_IMAGEINDEX_H

#include "data/source.h"
#include "io/nameindex.h"

enum { ZS_IMAGE_MISSING = -1, ZS_IMAGE_AMBIGUOUS = -2 };

/* Ways to name an image, tried in this order. */
enum { ZS_NAME_PATH, ZS_NAME_BASE, ZS_NAME_STEM, ZS_NAME_NUMBER, ZS_NAME_WAYS };

/* Zero-initialise; zs_imageindex_close is idempotent. */
typedef struct zs_imageindex {
    char **names; /* [count] owned */
    int64_t count;
    zs_nameindex by[ZS_NAME_WAYS];
    bool numbered; /* the images have numbers instead of names */
} zs_imageindex;

int zs_imageindex_open(zs_imageindex *ix, const zs_source *s, zs_error *err);
void zs_imageindex_close(zs_imageindex *ix);

/* The image of that path, base name, base name without extension, or number; else
 * ZS_IMAGE_MISSING, or ZS_IMAGE_AMBIGUOUS when the first of these that fits fits several. */
int64_t zs_imageindex_find(const zs_imageindex *ix, const char *name);

#endif
