/* SPDX-License-Identifier: MIT */
/* Output files that are written whole or not at all. */
#ifndef ZS_IO_OUTFILE_H
#define ZS_IO_OUTFILE_H

#include "base/base.h"

#include <stdio.h>

/* Between open and commit the bytes live under a temporary name in the target's folder; the
 * target appears, or is replaced, atomically at commit. Zero-initialise. */
typedef struct zs_outfile {
    FILE *f;    /* write here; errors are collected by commit */
    char *path; /* target */
    char *tmp;  /* temporary name, "<path>.tmp-XXXXXX" */
} zs_outfile;

/* ZS_E_IO when the folder is missing, read-only or full. */
int zs_outfile_open(zs_outfile *o, const char *path, zs_error *err);

/* Flushes, fsyncs file and folder, renames over the target. On failure nothing of the new
 * content remains and the old target is untouched. Closes o either way. */
int zs_outfile_commit(zs_outfile *o, zs_error *err);

/* Removes the temporary file; a no-op after commit. */
void zs_outfile_abort(zs_outfile *o);

/* Whole small file in one call. */
int zs_file_write(const char *path, const void *bytes, size_t n, zs_error *err);

/* Creates a folder and its missing parents; existing ones are fine. */
int zs_mkdirs(const char *path, zs_error *err);

#endif
