/* SPDX-License-Identifier: MIT */
#ifndef ZS_IO_MAPFILE_H
#define ZS_IO_MAPFILE_H

#include "base/base.h"

/* A regular file mapped read-only. Zero-initialise; zs_mapfile_close is idempotent.
 * A file that shrinks while it is mapped raises SIGBUS like everywhere else; zsem maps only
 * files that the user named. */
typedef struct zs_mapfile {
    const uint8_t *p; /* NULL for an empty file */
    size_t n;
} zs_mapfile;

/* ZS_E_IO (missing, unreadable, a directory, not a regular file). An empty file succeeds with
 * n = 0: whether that is an error is for the parser to say. */
int zs_mapfile_open(zs_mapfile *m, const char *path, zs_error *err);
void zs_mapfile_close(zs_mapfile *m);

/* n bytes at p, inside m or not, have been read and need not stay in memory: a large file that is
 * read once would otherwise count twice, as itself and as what was made of it. */
void zs_mapfile_drop(const zs_mapfile *m, const uint8_t *p, size_t n);

#endif
