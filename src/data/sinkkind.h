/* SPDX-License-Identifier: MIT */
/* What a kind of sink implements: one file and one entry in sink.c each. Private to data. */
#ifndef ZS_DATA_SINKKIND_H
#define ZS_DATA_SINKKIND_H

#include "data/sink.h"
#include "io/nameindex.h"
#include "io/outfolder.h"

typedef struct zs_sink_kind {
    const char *name;
    int (*open)(zs_sink *s, const char *path, zs_error *err);
    /* name: unique, relative, with extension; "CLASS/image.png" where the item has a class. */
    int (*add)(zs_sink *s, const char *name, const zs_sink_item *item, zs_error *err);
    int (*commit)(zs_sink *s, zs_error *err);
    void (*close)(void *self); /* drops what was not committed; accepts NULL */
    bool no_dots; /* the first dot of a base name ends the image's key: others become '_' */
} zs_sink_kind;

struct zs_sink {
    const zs_sink_kind *kind;
    void *self;
    zs_sink_config c;
    int64_t added;
    char **class_folders; /* [classes of c.set] class names that can be folders; owned */
    int class_count;
    char **names, **from; /* [added] names given, and what they were made from; owned */
    size_t names_cap, from_cap;
    zs_nameindex index; /* of names without extension */
};

extern const zs_sink_kind zs_sink_folder, zs_sink_tar, zs_sink_lmdb;

#endif
