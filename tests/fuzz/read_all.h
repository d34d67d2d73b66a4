/* SPDX-License-Identifier: MIT */
/* What the fuzz targets of tensor files do with a file that opens. */
#ifndef TESTS_FUZZ_READ_ALL_H
#define TESTS_FUZZ_READ_ALL_H

#include "io/tensorfile.h"

#include <stdlib.h>
#include <string.h>

/* Bytes read per input: views may repeat their elements, and inputs should stay fast. */
enum { FUZZ_READ_BUDGET = 4 << 20 };

static void fuzz_read_tensor(zs_tensorfile *f, size_t i, size_t *budget)
{
    const zs_tensorinfo *t = zs_tensorfile_info(f, i);
    size_t n = (size_t)t->numel, bytes = n * zs_dtype_size(t->dtype);
    if (zs_tensorfile_find(f, t->name) != (long)i || t->nd < 0 || t->nd > ZS_MAX_DIMS)
        abort();
    if (n > *budget / 8)
        return;
    *budget -= n * 8;
    void *dst = malloc(n * 8 + 1);
    if (!dst)
        abort();
    int raw = zs_tensorfile_read_raw(f, i, dst, bytes, NULL);
    int f32 = zs_tensorfile_read_f32(f, i, dst, n, NULL);
    int i64 = zs_tensorfile_read_i64(f, i, dst, n, NULL);
    if (raw != f32 || raw != i64)
        abort();
    free(dst);
}

static void fuzz_open_and_read(const uint8_t *data, size_t size)
{
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    int status = zs_tensorfile_open_bytes(&f, "fuzz", data, size, &err);
    if (status != err.status || (status < 0) != (f == NULL) || (status < 0 && !err.message[0]))
        abort();
    if (!f)
        return;
    size_t budget = FUZZ_READ_BUDGET;
    for (size_t i = 0; i < zs_tensorfile_count(f); i++)
        fuzz_read_tensor(f, i, &budget);
    char *text = json_dumps(zs_tensorfile_meta(f), JSON_ENCODE_ANY);
    if (!text)
        abort();
    free(text);
    zs_tensorfile_close(&f);
}

#endif
