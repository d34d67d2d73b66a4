/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/must.h"
#include "tests/unit/tensor_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *kit_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/unit/data/tensor/%s", ZSEM_SOURCE_DIR, name);
    return path;
}

uint8_t *kit_load(size_t *n, const char *name)
{
    FILE *f = fopen(kit_path(name), "rb");
    if (!f)
        fail_msg("%s cannot be opened", kit_path(name));
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = zs_alloc(*n, 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static int read_one(zs_tensorfile *f, size_t i, zs_error *err)
{
    const zs_tensorinfo *t = zs_tensorfile_info(f, i);
    size_t n = (size_t)t->numel, bytes = n * zs_dtype_size(t->dtype);
    assert_int_equal(zs_tensorfile_find(f, t->name), (long)i);
    assert_true(bytes <= (size_t)64 << 20); /* small files hold small tensors */
    void *dst = zs_alloc(n, 8);
    if (!dst)
        return zs_fail_nomem(err, n * 8, "a test tensor");
    int status = zs_tensorfile_read_f32(f, i, dst, n, err);
    if (status >= 0)
        status = zs_tensorfile_read_i64(f, i, dst, n, err);
    if (status >= 0)
        status = zs_tensorfile_read_raw(f, i, dst, bytes, err);
    zs_free(dst);
    return status;
}

int kit_read_all(zs_tensorfile *f, zs_error *err)
{
    int status = ZS_OK;
    for (size_t i = 0; i < zs_tensorfile_count(f) && status >= 0; i++)
        status = read_one(f, i, err);
    assert_non_null(zs_tensorfile_format(f));
    assert_non_null(zs_tensorfile_meta(f));
    return status;
}

int kit_try(const uint8_t *p, size_t n, zs_error *err)
{
    zs_tensorfile *f = NULL;
    uint8_t *exact = malloc(n ? n : 1); /* malloc: the sanitizer sees a read past the last byte */
    assert_non_null(exact);
    memcpy(exact, p, n);
    *err = (zs_error){0};
    int status = zs_tensorfile_open_bytes(&f, "label", exact, n, err);
    if (status >= 0)
        status = kit_read_all(f, err);
    else
        assert_null(f);
    if (status < 0) {
        assert_int_equal(status, err->status);
        assert_true(status == ZS_E_FORMAT || status == ZS_E_UNSUPPORTED);
        assert_memory_equal(err->message, "label: ", 7);
    }
    zs_tensorfile_close(&f);
    free(exact);
    return status;
}

void kit_truncate(const uint8_t *p, size_t n)
{
    zs_error err;
    for (size_t k = 0; k < n; k++)
        if (kit_try(p, k, &err) >= 0)
            fail_msg("the first %zu of %zu bytes are taken for a whole file", k, n);
}

size_t kit_flip(const uint8_t *p, size_t n)
{
    zs_error err;
    size_t refused = 0;
    uint8_t *q = malloc(n);
    assert_non_null(q);
    memcpy(q, p, n);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        q[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused += kit_try(q, n, &err) < 0;
        q[bit / 8] = p[bit / 8];
    }
    free(q);
    return refused;
}

static void *json_take(size_t n)
{
    return zs_alloc(n, 1);
}

/* One open and read in which allocation k fails; the status. */
static int open_failing_at(const uint8_t *p, size_t n, long k, zs_error *err)
{
    zs_tensorfile *f = NULL;
    *err = (zs_error){0};
    zs_alloc_fail_at(k);
    int status = zs_tensorfile_open_bytes(&f, "label", p, n, err);
    if (status >= 0)
        status = kit_read_all(f, err);
    long made = zs_alloc_fail_at(0);
    zs_tensorfile_close(&f);
    assert_true(status < 0 || made < k); /* success only when nothing failed */
    assert_int_equal(status, err->status);
    return status;
}

void kit_alloc_sweep(const uint8_t *p, size_t n)
{
    zs_error err;
    long k = 1;
    for (int status; (status = open_failing_at(p, n, k, &err)) < 0; k++)
        if (status != ZS_E_NOMEM)
            fail_msg("allocation %ld failed, and the message is: %s", k, err.message);
    assert_true(k > 3);
    /* jansson too, whose parser calls a failed allocation a syntax error */
    json_set_alloc_funcs(json_take, zs_free);
    for (k = 1; open_failing_at(p, n, k, &err) < 0;)
        k++;
    json_set_alloc_funcs(malloc, free);
}

zs_tensorfile *kit_open(const char *name)
{
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    must(zs_tensorfile_open(&f, kit_path(name), &err), &err);
    must(kit_read_all(f, &err), &err);
    return f;
}

const float *kit_values(zs_tensorfile *f, const char *name, size_t n)
{
    static float values[64];
    zs_error err = {0};
    long i = zs_tensorfile_find(f, name);
    if (i < 0)
        fail_msg("%s is not in %s", name, zs_tensorfile_path(f));
    assert_true(n <= sizeof values / sizeof values[0]);
    must(zs_tensorfile_read_f32(f, (size_t)i, values, n, &err), &err);
    return values;
}
