/* SPDX-License-Identifier: MIT */
/* A table that only grows: entries found by the bytes of their key, at addresses that stay. */
#ifndef ZS_BACKEND_CUDA_MEMO_H
#define ZS_BACKEND_CUDA_MEMO_H

#include <stdbool.h>
#include <stddef.h>

typedef struct zs_memo {
    size_t key_bytes, value_bytes; /* set when it is made; the rest is zero then */
    struct zs_memo_entry **slots;
    size_t n, cap;
} zs_memo;

/* The value of a key; where there is none, a new one full of zeros, and *fresh says so. NULL when
 * out of memory. For one thread at a time. */
void *zs_memo_get(zs_memo *m, const void *key, bool *fresh);

#endif
