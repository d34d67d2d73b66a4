/* SPDX-License-Identifier: MIT */
/* Attributes of the images of a data set: which image is smiling, which is of class 7. */
#ifndef ZS_DATA_LABELS_H
#define ZS_DATA_LABELS_H

#include "data/source.h"

enum { ZS_LABEL_UNKNOWN = -1, ZS_LABEL_NO = 0, ZS_LABEL_YES = 1 };

/* Zero-initialise; release with zs_labels_close. */
typedef struct zs_labels {
    int64_t images;  /* zs_source_count of the data set */
    int attrs;       /* attributes, >= 1 */
    bool exclusive;  /* the attributes are classes: of each labelled image exactly one is YES */
    char **names;    /* [attrs] no two alike; owned */
    int8_t *value;   /* [images][attrs] ZS_LABEL_YES, _NO, or _UNKNOWN; owned */
    int64_t *yes;    /* [attrs] images for which the attribute is YES; owned */
    int64_t *no;     /* [attrs] images for which it is NO; the rest is unknown; owned */
    int64_t matched; /* images that the file names, >= 1 */
    int64_t missing; /* rows of the file whose image is not in the data set */
} zs_labels;

/* Reads a label file and joins it with the images of s, by name. Two forms, told apart by content:
 *
 * - CSV with a header (RFC 4180: quotes, any line ends, UTF-8 mark allowed). The first column is
 *   the image's name, the others are attributes with values 1 for yes, 0 or -1 for no, and empty
 *   for unknown. A single column that holds anything else is a class name per image: it becomes
 *   one attribute per class, and `exclusive` is set.
 * - The text of CelebA and CelebA-HQ: optionally a line with the count of images, a line with the
 *   attribute names, then "NAME v v v ..." with 1 or -1, all separated by spaces.
 *
 * A row belongs to the image of the same relative path; else to the one of the same base name;
 * else to the one of the same base name without extension ("000001.jpg" finds "000001.png"). In a
 * data set whose images have numbers instead of names (IDX, CIFAR, LMDB), a row "17", "#17" or
 * "00017.jpg" is image 17. A name that fits several images is refused. In a part of a data set
 * (SRC:test, SRC:val=...), rows of the other parts count as missing.
 *
 * ui (may be NULL) is told in one sentence each of rows without an image, images without a row, and
 * attributes that are the same for all images. Such constant attributes are kept: who trains on
 * them looks at yes[] and no[]. Failures, each naming file and line:
 * ZS_E_IO; ZS_E_FORMAT (no header, wrong number of columns, a value that is no label, two rows for
 * one image, two attributes of one name); ZS_E_INVALID when no row matches any image;
 * ZS_E_NOMEM. */
int zs_labels_read(zs_labels *out, const char *path, const zs_source *s, const zs_ui *ui,
                   zs_error *err);

/* The same from bytes; label starts every message. */
int zs_labels_parse(zs_labels *out, const char *label, const void *p, size_t n, const zs_source *s,
                    const zs_ui *ui, zs_error *err);

/* The classes of the data set itself as attributes (`exclusive`). ZS_E_INVALID when it has none. */
int zs_labels_from_classes(zs_labels *out, const zs_source *s, zs_error *err);

/* The attribute of that name (exactly, or failing that, in any case), or -1. */
int zs_labels_find(const zs_labels *l, const char *name);

/* Label of image i: YES, NO or UNKNOWN. */
static inline int zs_labels_at(const zs_labels *l, int64_t i, int attr)
{
    return l->value[i * l->attrs + attr];
}

void zs_labels_close(zs_labels *l); /* idempotent */

#endif
