/* SPDX-License-Identifier: MIT */
/* What an encoding that is under way has written down: one file for each rank that takes part in
 * it, "<path>.part" of one alone or "<path>.part-2-of-4", with a header and the rows of that rank
 * in order. Who goes on with it may be another number of ranks. */
#ifndef ZS_TRAIN_CODEPARTS_H
#define ZS_TRAIN_CODEPARTS_H

#include "comm/comm.h"

/* Bytes of the header; the first ones say that it is one. */
enum { ZS_CODEPART_HEADER = 64 };
#define ZS_CODEPART_MAGIC "zsem codes part "

typedef struct zs_codeparts {
    const char *path;    /* of the finished codes */
    const char *header;  /* what they are made from: parts of others are left alone */
    int64_t rows, block; /* rows are made and taken over in whole blocks of so many */
    size_t row;          /* bytes */
} zs_codeparts;

/* The file of one rank; owned, NULL when out of memory. */
char *zs_codepart_name(const char *path, int rank, int size);

/* Reads what any parts have of `range`, which begins with a block, into z (all rows): have[i] is
 * set where block i of the range is there. Whole blocks only: rows of a batch of another size
 * differ by rounding. How many rows were read; what cannot be read is not there. */
int64_t zs_codeparts_take(const zs_codeparts *p, zs_part range, float *z, bool *have);

/* Deletes all parts of a finished encoding, whoever began them. */
void zs_codeparts_remove(const char *path);

#endif
