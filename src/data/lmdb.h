/* SPDX-License-Identifier: MIT */
/* The keys and values of an LMDB database, read from its file without the library: a database that
 * is cut short or hostile is refused with a sentence instead of a SIGBUS. Private to data. */
#ifndef ZS_DATA_LMDB_H
#define ZS_DATA_LMDB_H

#include "base/base.h"

typedef struct zs_lmdb_entry {
    zs_span key, value; /* within the file */
} zs_lmdb_entry;

/* Called for each entry in key order; a status < 0 ends the walk. */
typedef int (*zs_lmdb_fn)(void *ctx, const zs_lmdb_entry *e, zs_error *err);

/* Walks the main database of the newest transaction of a 64-bit little-endian LMDB file (data.mdb).
 * Every value passed lies within the n bytes. label starts every message. Named sub-databases and
 * duplicate keys are left out. ZS_E_FORMAT (not LMDB, damaged, cut short), ZS_E_UNSUPPORTED (other
 * versions and architectures), or what fn returns. */
int zs_lmdb_each(const char *label, const void *p, size_t n, zs_lmdb_fn fn, void *ctx,
                 zs_error *err);

#endif
