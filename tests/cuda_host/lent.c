/* SPDX-License-Identifier: MIT */
#include "tests/cuda_host/lent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { GUARD = 64, BYTE = 0xFF };

static void poison(const lent *l)
{
    ASAN_POISON_MEMORY_REGION(l->base, GUARD + l->shift);
    ASAN_POISON_MEMORY_REGION((unsigned char *)l->p + l->bytes, GUARD);
}

static void unpoison(const lent *l)
{
    ASAN_UNPOISON_MEMORY_REGION(l->base, 2 * GUARD + l->shift + l->bytes);
}

void *lent_new(lent *l, size_t bytes, size_t shift)
{
    size_t all = 2 * GUARD + shift + bytes;
    l->base = aligned_alloc(64, (all + 63) / 64 * 64);
    assert_non_null(l->base);
    l->p = l->base + GUARD + shift;
    l->bytes = bytes;
    l->shift = shift;
    memset(l->base, BYTE, all);
    poison(l);
    return l->p;
}

void *lent_copy(lent *l, const void *from, size_t bytes, size_t shift)
{
    return memcpy(lent_new(l, bytes, shift), from, bytes);
}

bool lent_intact(const lent *l)
{
    bool ok = true;
    unpoison(l);
    for (size_t i = 0; i < GUARD + l->shift; i++)
        ok = ok && l->base[i] == BYTE;
    for (size_t i = 0; i < GUARD; i++)
        ok = ok && ((unsigned char *)l->p)[l->bytes + i] == BYTE;
    poison(l);
    return ok;
}

void lent_free(lent *l)
{
    if (l->base)
        unpoison(l);
    free(l->base);
    *l = (lent){0};
}
