/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <string.h>

/* Small blocks come from the heap, where sanitizers watch their ends. */
enum { PAGES_FROM = 1 << 20, PAGE = 4096, CHUNK = 4 << 20 };

void *zs_cpu_alloc(size_t bytes)
{
    return bytes < PAGES_FROM ? zs_calloc(bytes, 1) : zs_pages_alloc(bytes);
}

void zs_cpu_release(void *p, size_t bytes)
{
    if (bytes < PAGES_FROM)
        zs_free(p);
    else
        zs_pages_free(p, bytes);
}

static void touch(void *ctx, int64_t begin, int64_t end, int thread)
{
    volatile uint8_t *p = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i += PAGE)
        p[i] = 0;
}

void zs_cpu_touch(void *p, size_t bytes)
{
    zs_parallel_for((int64_t)bytes, CHUNK, touch, p);
}
