/* SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static atomic_long alloc_count;
static atomic_long alloc_fail_at; /* 0: never */

bool zs_alloc_fails(void)
{
    long n = atomic_fetch_add(&alloc_count, 1) + 1;
    long at = atomic_load(&alloc_fail_at);
    return at > 0 && n >= at;
}

long zs_alloc_fail_at(long n)
{
    atomic_store(&alloc_fail_at, n > 0 ? n : 0);
    return atomic_exchange(&alloc_count, 0);
}

bool zs_mul_size(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool zs_add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

void *zs_alloc(size_t n, size_t size)
{
    size_t bytes = 0;
    if (!zs_mul_size(n, size, &bytes) || bytes > SIZE_MAX - 2 * ALIGN || zs_alloc_fails())
        return NULL;
    /* aligned_alloc wants a multiple of the alignment */
    bytes = (bytes + ALIGN) / ALIGN * ALIGN;
    return aligned_alloc(ALIGN, bytes);
}

void *zs_calloc(size_t n, size_t size)
{
    void *p = zs_alloc(n, size);
    if (p)
        memset(p, 0, n * size);
    return p;
}

void *zs_realloc(void *p, size_t old_n, size_t n, size_t size)
{
    void *q = zs_alloc(n, size);
    if (!q)
        return NULL;
    if (p)
        memcpy(q, p, (old_n < n ? old_n : n) * size);
    zs_free(p);
    return q;
}

void zs_free(void *p)
{
    free(p);
}

bool zs_grow(void **items, size_t *cap, size_t count, size_t size)
{
    if (count < *cap)
        return true;
    size_t want = *cap < 8 ? 8 : *cap;
    if (*cap >= 8 && !zs_mul_size(*cap, 2, &want))
        return false;
    void *p = zs_realloc(*items, count, want, size);
    if (!p)
        return false;
    *items = p;
    *cap = want;
    return true;
}
