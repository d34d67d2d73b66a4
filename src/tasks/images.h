/* SPDX-License-Identifier: MIT */
/* The IMAGES arguments of a command: files, folders, globs and data sets as one list. */
#ifndef ZS_TASKS_IMAGES_H
#define ZS_TASKS_IMAGES_H

#include "data/data.h"

typedef struct zs_images zs_images;

/* How images become model input. */
typedef struct zs_image_shape {
    int size, channels;
    zs_fit fit;
} zs_image_shape;

/* Collects n arguments; nothing is decoded yet. A name that does not exist is tried as a glob
 * pattern. Errors as zs_source_open. */
int zs_images_open(zs_images **out, const char *const *args, size_t n, zs_image_shape shape,
                   zs_error *err);
void zs_images_close(zs_images **im);
int64_t zs_images_count(const zs_images *im);

/* A display name of image i, valid until the next call with the same buffer. */
const char *zs_images_name(const zs_images *im, int64_t i, char *buf, size_t cap);

/* Images first .. first+n-1 as x [n,size,size,channels] in [-1,1]. */
int zs_images_read(const zs_images *im, int64_t first, int64_t n, float *x, zs_error *err);

/* Floats of one image. */
int64_t zs_images_elements(const zs_images *im);

#endif
