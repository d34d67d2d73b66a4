/* SPDX-License-Identifier: MIT */
/* Writes an LMDB database in one pass, from entries in key order. Private to data. */
#ifndef ZS_DATA_LMDBWRITE_H
#define ZS_DATA_LMDBWRITE_H

#include "io/io.h"

typedef struct zs_lmdbwrite zs_lmdbwrite;

/* data.mdb at `path`, whole or not at all: the file appears with zs_lmdbwrite_commit. */
int zs_lmdbwrite_open(zs_lmdbwrite **out, const char *path, zs_error *err);

/* Keys of 1 to 511 bytes, each bytewise above the one before it (ZS_E_INTERNAL otherwise); values
 * below 4 GB. */
int zs_lmdbwrite_put(zs_lmdbwrite *w, const char *key, const void *p, size_t n, zs_error *err);

int zs_lmdbwrite_commit(zs_lmdbwrite **w, zs_error *err); /* frees *w either way */
void zs_lmdbwrite_abort(zs_lmdbwrite **w);

#endif
