/* SPDX-License-Identifier: MIT */
/* IDX files of unsigned bytes (the MNIST family), gzip or not. Private to data. */
#ifndef ZS_DATA_IDX_H
#define ZS_DATA_IDX_H

#include "io/io.h"

typedef struct zs_idx {
    int dims;          /* 1..ZS_IDX_DIMS */
    int64_t size[3];   /* big-endian u32 in the file; unused ones are 1 */
    const uint8_t *px; /* size[0]*size[1]*size[2] bytes, row-major */
    uint8_t *inflated; /* owned when the file was compressed, else NULL */
    zs_mapfile map;    /* owned when opened by name */
} zs_idx;

enum { ZS_IDX_DIMS = 3 };

/* Parses n bytes, which must outlive *x unless they are gzip. label starts every message.
 * ZS_E_FORMAT (magic, element type, sizes that do not match the file, damaged gzip),
 * ZS_E_UNSUPPORTED (other element types or more dimensions), ZS_E_NOMEM. */
int zs_idx_parse(zs_idx *x, const char *label, const void *p, size_t n, zs_error *err);

/* The same from a file; also ZS_E_IO. Release either with zs_idx_close. */
int zs_idx_open(zs_idx *x, const char *path, zs_error *err);
void zs_idx_close(zs_idx *x);

#endif
