/* SPDX-License-Identifier: MIT */
/* "a-{000..012}.tar", "a-*.tar" -> file names. Private to data. */
#ifndef ZS_DATA_SHARDS_H
#define ZS_DATA_SHARDS_H

#include "base/base.h"

typedef struct zs_shards {
    char **paths; /* owned */
    size_t count, cap;
} zs_shards;

/* A pattern that names an existing file is that file. Else {A..B} counts (with the leading zeros of
 * A), {x,y} lists, and * ? [ ] match names, sorted bytewise; braces before wildcards. ZS_E_IO when
 * a wildcard matches nothing, ZS_E_INVALID for wrong braces and over a million names,
 * ZS_E_NOMEM. */
int zs_shards_open(zs_shards *s, const char *pattern, zs_error *err);
void zs_shards_close(zs_shards *s);

#endif
