/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* MAP_ANONYMOUS, MADV_HUGEPAGE */
#endif
#include "base/mem.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

/* Bytes that can still be taken without ending somebody's process; SIZE_MAX when nobody says. */
static size_t available(void)
{
    char line[128];
    unsigned long long kib = 0, sum = 0;
    bool found = false;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1 ||
            sscanf(line, "SwapFree: %llu", &kib) == 1) {
            found = true;
            sum += kib;
        }
    if (f)
        fclose(f);
    return found && sum < SIZE_MAX / 1024 ? (size_t)sum * 1024 : SIZE_MAX;
}

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

void *zs_pages_alloc(size_t bytes)
{
    size_t whole = 0;
    if (!zs_add_size(bytes, (size_t)2 * HUGE_PAGE, &whole) || zs_alloc_fails() ||
        bytes > available())
        return NULL;
    uint8_t *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* Huge pages start at multiples of their size: what is before the first one, and behind the
     * block, is given back. */
    size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE, used = whole_pages(bytes);
    if (head > 0)
        (void)munmap(p, head);
    (void)munmap(p + head + used, whole - head - used);
#ifdef MADV_HUGEPAGE
    (void)madvise(p + head, used, MADV_HUGEPAGE); /* a refusal costs speed, nothing else */
#endif
    return p + head;
}

void zs_pages_free(void *p, size_t bytes)
{
    if (p)
        (void)munmap(p, whole_pages(bytes));
}
