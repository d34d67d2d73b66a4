/* SPDX-License-Identifier: MIT */
/* Batches of images, as every subject that learns from images has them. Private to train. */
#ifndef ZS_TRAIN_IMAGESET_H
#define ZS_TRAIN_IMAGESET_H

#include "data/data.h"
#include "train/subject.h"

/* `self` of these subjects, or its first member. */
typedef struct zs_imageset {
    zs_source *source;
    zs_loader *loader;
    zs_batch batch; /* the newest */
} zs_imageset;

/* Opens the images of c and allocates self, of `bytes` >= sizeof(zs_imageset), zero beyond it. */
int zs_imageset_new(zs_subject *s, size_t bytes, const zs_train_config *c, zs_error *err);

/* As the members of zs_subject_kind. */
int zs_imageset_open(zs_subject *s, const zs_train_config *c, zs_error *err);
int zs_imageset_start(zs_subject *s, const zs_train_config *c, int64_t first, zs_error *err);
int zs_imageset_next(zs_subject *s, const zs_train_config *c, zs_train_batch *b, zs_error *err);
const char *zs_imageset_name(const zs_subject *s, int64_t i, char *buf, size_t cap);
int zs_imageset_bundle(zs_subject *s, const zs_train_config *c, const char *path,
                       const zs_train_state *state, const json_t *extra, zs_error *err);
void zs_imageset_close(zs_subject *s);

/* Whether every image of s, opened from spec, has one of n classes; `what` has n. ZS_E_INVALID
 * names the number, or an image without a class. */
int zs_imageset_check_labels(const zs_source *s, const char *spec, const char *what, int64_t n,
                             zs_error *err);

#endif
