/* SPDX-License-Identifier: MIT */
/* Where images are packed to: a folder, tar shards or an LMDB database, each of which appears whole
 * or not at all and is read back by zs_source_open. */
#ifndef ZS_DATA_SINK_H
#define ZS_DATA_SINK_H

#include "data/source.h"

typedef struct zs_sink zs_sink;

typedef struct zs_sink_config {
    int64_t shard;        /* images per tar shard; 0: one archive. Tar only */
    int64_t size;         /* the number in LMDB keys, >= 1. LMDB only */
    int64_t count;        /* images that will come, at most */
    const zs_source *set; /* whose class names are kept; borrowed */
} zs_sink_config;

/* One image file. */
typedef struct zs_sink_item {
    const char *name; /* as zs_source_name */
    int label;        /* class of the set, or -1 */
    const uint8_t *bytes;
    size_t n;
} zs_sink_item;

/* kind: "folder", "tar" or "lmdb". The target must not exist. ZS_E_INVALID, ZS_E_IO. */
int zs_sink_open(zs_sink **out, const char *kind, const char *path, const zs_sink_config *c,
                 zs_error *err);

/* Images are kept in the order of the calls. Two images whose names come out the same are refused
 * with both names: ZS_E_INVALID. */
int zs_sink_add(zs_sink *s, const zs_sink_item *item, zs_error *err);

/* Makes the target appear; frees *s either way. */
int zs_sink_commit(zs_sink **s, zs_error *err);
void zs_sink_abort(zs_sink **s); /* nothing remains; idempotent */

/* "folder", "tar" or "lmdb" from the end of a path. */
const char *zs_sink_kind_of(const char *path);

#endif
