/* SPDX-License-Identifier: MIT */
/* What a kind of data set implements: one file and one entry in source.c each. Private to data. */
#ifndef ZS_DATA_SOURCEKIND_H
#define ZS_DATA_SOURCEKIND_H

#include "data/source.h"

typedef struct zs_source_kind {
    const char *syntax; /* as messages show it */
    /* True when this kind answers for the spec, be it right or wrong. */
    bool (*claims)(const char *spec);
    /* Fills self, count, class_names, class_count and fingerprint. On failure the caller closes
     * the source, so whatever is in *s must be consistent. */
    int (*open)(zs_source *s, const char *spec, zs_error *err);
    void (*close)(void *self); /* never NULL; accepts NULL */
    int (*read)(const void *self, int64_t i, int channels, zs_image *out, zs_error *err);
    const char *(*name)(const void *self, int64_t i, char *buf, size_t cap);
    int (*label)(const void *self, int64_t i);
    const char *title; /* "image folder": what it is, for people */
    /* Image i as a file in memory that the caller frees, as it was stored; NULL where images are
     * stored as pixels. */
    int (*encoded)(const void *self, int64_t i, uint8_t **bytes, size_t *n, zs_error *err);
    bool has_parts; /* ":train" and ":test" are the set's own, not shares of a whole */
} zs_source_kind;

struct zs_source {
    const zs_source_kind *kind;
    void *self;
    int64_t count;
    char **class_names; /* owned; freed by source.c */
    int class_count;
    uint64_t fingerprint;
};

extern const zs_source_kind zs_source_fashion, zs_source_idx, zs_source_folder, zs_source_lmdb,
    zs_source_tar, zs_source_cifar, zs_source_split;

/* The kind that answers for the spec, or NULL. */
const zs_source_kind *zs_source_kind_of(const char *spec);

/* Appends the syntax of all kinds, for messages. */
void zs_source_list_syntax(zs_strbuf *b);

/* Owned copy of n bytes, for `encoded`. */
int zs_source_copy_bytes(uint8_t **bytes, size_t *n, const void *p, size_t size, zs_error *err);

/* FNV-1a over n bytes, continuing from h; start with ZS_SOURCE_HASH. */
#define ZS_SOURCE_HASH 0xCBF29CE484222325u
uint64_t zs_source_hash(uint64_t h, const void *p, size_t n);
uint64_t zs_source_hash_i64(uint64_t h, int64_t v); /* the same on every byte order */

#endif
