/* SPDX-License-Identifier: MIT */
/* Class lists made from one text per image. Private to data. */
#ifndef ZS_DATA_CLASSES_H
#define ZS_DATA_CLASSES_H

#include "base/base.h"

/* The different texts become classes, ordered as numbers when all of them are and bytewise
 * otherwise. text[i] == NULL: image i has none. *names [*count] is owned by the caller, each entry
 * as well; label [n] is the class of each image or -1. No text at all: *count = 0, *names = NULL.
 * ZS_E_NOMEM; ZS_E_UNSUPPORTED beyond 2^24 classes. */
int zs_classes_make(char ***names, int *count, int *label, const char *const *text, int64_t n,
                    zs_error *err);

void zs_classes_free(char **names, int count);

#endif
