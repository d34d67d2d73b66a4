/* SPDX-License-Identifier: MIT */
/* Where images come from. One syntax for all: "PATH" (folder, or one image file), or
 * "fashion-mnist[:train|:test]" (Debian's dataset-fashion-mnist), or "idx:IMAGES[,LABELS]"
 * (IDX files, gzip or not). */
#ifndef ZS_DATA_SOURCE_H
#define ZS_DATA_SOURCE_H

#include "data/transform.h"

typedef struct zs_source zs_source;

/* Opens a data set. Images are listed in a stable order (folders recursively, bytewise by
 * relative path; classes are the first-level sub-folders, bytewise). ZS_E_IO, ZS_E_FORMAT,
 * ZS_E_INVALID (empty folder, unknown scheme); the message names the remedy. */
int zs_source_open(zs_source **out, const char *spec, zs_error *err);
void zs_source_close(zs_source **s);

int64_t zs_source_count(const zs_source *s); /* >= 1 */

/* Image i decoded; thread-safe; *out is owned by the caller. channels as zs_image_read. */
int zs_source_read(const zs_source *s, int64_t i, int channels, zs_image *out, zs_error *err);

/* Image i fitted to size x size as x [size,size,channels] in [-1,1]; thread-safe. */
int zs_source_read_float(const zs_source *s, int64_t i, int size, int channels, zs_fit fit,
                         float *x, zs_error *err);

/* A stable human name of image i ("sub/dir/a.png", "#17"); borrowed. buf is scratch. */
const char *zs_source_name(const zs_source *s, int64_t i, char *buf, size_t cap);

/* Class index of image i, or -1 when the set has no classes; class count and names. */
int zs_source_label(const zs_source *s, int64_t i);
int zs_source_class_count(const zs_source *s);
const char *zs_source_class_name(const zs_source *s, int k);

/* A hash of what the source is (kind, names, sizes), so that resuming on other data is
 * noticed. */
uint64_t zs_source_fingerprint(const zs_source *s);

#endif
