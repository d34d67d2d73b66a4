/* SPDX-License-Identifier: MIT */
/* Endless shuffled batches, decoded ahead of time by loader threads.
 *
 * What sample k of a run is (which image, flipped or not) depends on (seed, k) alone, so a saved
 * position resumes bit for bit with any number of threads. */
#ifndef ZS_DATA_LOADER_H
#define ZS_DATA_LOADER_H

#include "data/source.h"
#include "data/transform.h"

typedef struct zs_loader_config {
    int batch;    /* samples per batch, >= 1 */
    int size;     /* square side */
    int channels; /* 1 or 3 */
    zs_fit fit;
    double flip; /* probability of a left-right flip, 0..1 */
    uint64_t seed;
    int64_t start;  /* index of the first sample to deliver (the saved position) */
    int64_t stride; /* from the first sample of a batch to that of the next: more than `batch` where
                       these are parts of larger batches, the rest of which others read; 0: batch */
    int threads;    /* loader threads, 1..ZS_THREADS_MAX */
    int prefetch;   /* batches kept ready, 1..4096 */
} zs_loader_config;

typedef struct zs_batch {
    float *x;       /* [batch,size,size,channels] in [-1,1]; valid until the next call */
    int64_t *index; /* [batch] image index within the source */
    int64_t first;  /* sample counter of element 0 */
} zs_batch;

typedef struct zs_loader zs_loader;

/* The source is borrowed and must outlive the loader. */
int zs_loader_open(zs_loader **out, const zs_source *s, const zs_loader_config *c, zs_error *err);

/* Blocks for the next batch, in order. A sample that cannot be decoded ends the run with the
 * error that names the file. */
int zs_loader_next(zs_loader *l, zs_batch *b, zs_error *err);
void zs_loader_close(zs_loader **l);

/* The image shown as sample k: epoch k/count is one permutation of all images. Exposed for
 * tests; O(1) (a keyed bijection, no stored permutation). */
int64_t zs_loader_sample_index(uint64_t seed, int64_t count, int64_t k);

#endif
