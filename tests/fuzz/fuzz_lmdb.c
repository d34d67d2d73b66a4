/* SPDX-License-Identifier: MIT */
/* Any bytes as an LMDB database. */
#include "data/lmdb.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int touch(void *ctx, const zs_lmdb_entry *e, zs_error *err)
{
    unsigned *sum = ctx;
    (void)err;
    for (size_t i = 0; i < e->key.n; i++) /* every byte that is promised exists */
        *sum += e->key.p[i];
    for (size_t i = 0; i < e->value.n; i++)
        *sum += e->value.p[i];
    return ZS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned sum = 0;
    zs_error err = {0};
    if (zs_lmdb_each("fuzz", data, size, touch, &sum, &err) != err.status)
        abort();
    volatile unsigned sink = sum;
    (void)sink;
    return 0;
}
