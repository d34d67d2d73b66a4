/* SPDX-License-Identifier: MIT */
/* Choices that were made by timing, on disk: the next process makes the same ones, so that its
 * results have the same bits. */
#ifndef ZS_BACKEND_CUDA_PLAN_FILE_H
#define ZS_BACKEND_CUDA_PLAN_FILE_H

#include <stdbool.h>
#include <stddef.h>

enum { ZS_PLAN_TAG = 160 };

/* The choices on one device among what one version of a library offers, in $ZSEM_CACHE,
 * $XDG_CACHE_HOME/zsem or ~/.cache/zsem: a line each, key, tag and their check sum with tabs
 * between; the last line of a key holds. A file that cannot be read, and lines that make no sense
 * or are damaged, are as if they were not there. Keys and tags have no tab and no end of a line. */
typedef struct zs_plan_file {
    char *path; /* NULL: nowhere */
    char *text;
    bool read;
} zs_plan_file;

/* Reads it, the first time. */
void zs_plan_file_open(zs_plan_file *f, const char *library, size_t version, const char *device);
/* False: it is not there. */
bool zs_plan_file_get(char tag[ZS_PLAN_TAG], const zs_plan_file *f, const char *key);
/* False: it could not be written, so that another process may choose otherwise. */
bool zs_plan_file_add(const zs_plan_file *f, const char *key, const char *tag);
void zs_plan_file_close(zs_plan_file *f);

#endif
