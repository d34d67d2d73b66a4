/* SPDX-License-Identifier: MIT */
/* Byte strings -> numbers, by hashing. */
#ifndef ZS_IO_NAMEINDEX_H
#define ZS_IO_NAMEINDEX_H

#include "base/base.h"

typedef struct zs_nameslot {
    const char *name; /* borrowed; NULL in an empty slot */
    size_t n, value;
    uint64_t hash;
} zs_nameslot;

/* Zero-initialise; release with zs_nameindex_free. Names must outlive the index. */
typedef struct zs_nameindex {
    zs_nameslot *slots;
    size_t cap, count;
    uint64_t seed; /* differs from run to run, so that no file can aim at collisions */
} zs_nameindex;

/* True and *value when the name is there. */
bool zs_nameindex_get(const zs_nameindex *ix, size_t *value, const char *name, size_t n);

/* Adds a name, or changes the value of one that is there; false when out of memory. */
bool zs_nameindex_add(zs_nameindex *ix, const char *name, size_t n, size_t value);

void zs_nameindex_free(zs_nameindex *ix);

#endif
