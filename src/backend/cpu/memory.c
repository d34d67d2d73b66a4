/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 2 << 20 };

/* Advice only, and best taken before the first touch; a refusal costs speed, nothing else. */
static void advise_huge(void *p, size_t bytes)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    uintptr_t begin = ((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t end = ((uintptr_t)p + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (begin < end)
        (void)madvise((char *)p + (begin - (uintptr_t)p), end - begin, MADV_HUGEPAGE);
#else
    (void)p;
    (void)bytes;
#endif
}

void *zs_cpu_alloc(size_t bytes)
{
    void *p = zs_alloc(bytes, 1);
    if (!p)
        return NULL;
    advise_huge(p, bytes);
    memset(p, 0, bytes);
    return p;
}

void zs_cpu_release(void *p, size_t bytes)
{
    (void)bytes;
    zs_free(p);
}
