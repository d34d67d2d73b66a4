/* SPDX-License-Identifier: MIT */
/* The one allocation seam: sizes are checked, and tests can fail the n-th allocation. */
#ifndef ZS_BASE_MEM_H
#define ZS_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* n*size bytes, 64-byte aligned, uninitialised. NULL when out of memory or when n*size
 * overflows. A zero-sized request yields a unique pointer. Free with zs_free. */
void *zs_alloc(size_t n, size_t size);

/* As zs_alloc, zero-filled. */
void *zs_calloc(size_t n, size_t size);

/* Grows or shrinks p (from any zs_ allocator, or NULL) from old_n to n elements of `size`
 * bytes. NULL on failure, and p stays valid. */
void *zs_realloc(void *p, size_t old_n, size_t n, size_t size);

/* NULL is allowed. */
void zs_free(void *p);

/* *out = a*b; false (and *out untouched) when it overflows size_t. */
bool zs_mul_size(size_t a, size_t b, size_t *out);
bool zs_add_size(size_t a, size_t b, size_t *out);

/* Makes room for one more element in a growing array: on success *items holds at least
 * count+1 elements and *cap says how many. Returns false when out of memory. */
bool zs_grow(void **items, size_t *cap, size_t count, size_t size);

/* Test hook: the n-th allocation from now on (1 = the next) returns NULL, and so does
 * every later one until the hook is cleared with n <= 0. Returns how many allocations
 * were made since the last call. Not thread-safe against running allocations. */
long zs_alloc_fail_at(long n);

/* For allocators: counts one, and tells whether it must fail. */
bool zs_alloc_fails(void);

/* Zeroed whole pages for large buffers, 64-byte aligned at least, huge pages where the system gives
 * them. Memory is taken when a page is first written; what the machine has not got is refused here,
 * since it would end the process there. NULL when out of memory. */
void *zs_pages_alloc(size_t bytes);
void zs_pages_free(void *p, size_t bytes);

#endif
