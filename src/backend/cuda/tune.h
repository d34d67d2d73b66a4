/* SPDX-License-Identifier: MIT */
/* Timing candidates on the device while a plan is made. */
#ifndef ZS_BACKEND_CUDA_TUNE_H
#define ZS_BACKEND_CUDA_TUNE_H

#include "backend/cuda/device.h"

/* Memory full of noise, since zeros run faster than data does, and the clock. */
typedef struct zs_tune {
    unsigned char *p;
    size_t bytes, used;
    cudaEvent_t begin, end;
} zs_tune;

/* False: no device, no memory left for it, something is being recorded, or ZSEM_CUDA_TUNE=0; then
 * the first candidate is taken. */
bool zs_tune_open(zs_tune *t, size_t bytes);
void zs_tune_close(zs_tune *t);

/* The next bytes of the memory, 256-byte aligned; zs_tune_bytes(a) + zs_tune_bytes(b) + ... were
 * asked for when it was opened. */
void *zs_tune_take(zs_tune *t, size_t bytes);
size_t zs_tune_bytes(size_t bytes);

/* Which of n candidates is fastest on the queue, each by the best of a few fn(ctx, candidate); -1
 * when none works. One that fails is passed over, and its failure is not kept. */
typedef cudaError_t (*zs_tune_fn)(void *ctx, int candidate);
int zs_tune_fastest(const zs_tune *t, zs_tune_fn fn, void *ctx, int n);

#endif
