/* SPDX-License-Identifier: MIT */
/* One process-wide pool for data-parallel loops.
 *
 * Work is cut into chunks of a size that the caller fixes from the problem alone; which thread
 * runs a chunk is left open. A loop whose chunks write disjoint results (or separate partial
 * sums that are added in chunk order) therefore gives the same bits for any thread count. */
#ifndef ZS_BASE_PARALLEL_H
#define ZS_BASE_PARALLEL_H

#include <stdint.h>

enum { ZS_THREADS_MAX = 256 };

/* Handles elements [begin, end). `thread` < zs_threads_count() indexes per-thread scratch. */
typedef void (*zs_range_fn)(void *ctx, int64_t begin, int64_t end, int thread);

/* Calls fn on every chunk [i*grain, min(n, (i+1)*grain)) and returns when all are done.
 * grain >= 1. Nested or concurrent calls run on the calling thread alone (as thread 0). */
void zs_parallel_for(int64_t n, int64_t grain, zs_range_fn fn, void *ctx);

/* Threads a loop may use, the caller included. 0 means one per available core. Waits for
 * running loops, so never call it from inside one. Values are clamped to 1..ZS_THREADS_MAX; if
 * the system refuses threads, the loops run on fewer. */
void zs_threads_set(int n);
/* Never waits for a loop. */
int zs_threads_count(void);

#endif
