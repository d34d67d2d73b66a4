/* SPDX-License-Identifier: MIT */
/* The text of a label file cut into cells. Private to data. */
#ifndef ZS_DATA_LABELTABLE_H
#define ZS_DATA_LABELTABLE_H

#include "base/base.h"

/* Zero-initialise; zs_labeltable_free is idempotent. */
typedef struct zs_labeltable {
    char *text;        /* owned copy of the file; the cells point into it */
    char **cell;       /* owned; first the attribute names [attrs], then rows of [1 + attrs] */
    size_t cells, cap; /* used and allocated entries of cell */
    size_t *line;      /* [rows] line in the file, from 1; owned */
    size_t lines_cap;
    size_t attrs, rows;
} zs_labeltable;

/* CSV with a header, or CelebA's text (labels.h says how they look). ZS_E_FORMAT with the line;
 * ZS_E_NOMEM. */
int zs_labeltable_parse(zs_labeltable *t, const char *label, const void *p, size_t n,
                        zs_error *err);
void zs_labeltable_free(zs_labeltable *t);

/* Cell of row r: column 0 is the image's name, 1..attrs are values. */
static inline const char *zs_labeltable_at(const zs_labeltable *t, size_t r, size_t column)
{
    return t->cell[t->attrs + r * (1 + t->attrs) + column];
}

#endif
