/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/tensorwrite.h"
#include "tests/unit/must.h"
#include "tests/unit/scratch.h"
#include "tests/unit/tensor_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const char *path;

static int make_path(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    path = scratch_path("tensors");
    return 0;
}

/* Version 1 (2-byte size) or more (4-byte size). Data bytes are 0, 1, 2, ... Static buffer. */
static const uint8_t *build(size_t *n, uint8_t version, const char *header, size_t data)
{
    static uint8_t file[4096];
    size_t len = strlen(header), at = version == 1 ? 10 : 12;
    memcpy(file, "\x93NUMPY", 6);
    memset(file + 6, 0, 6);
    file[6] = version;
    file[8] = (uint8_t)len;
    file[9] = (uint8_t)(len >> 8);
    memcpy(file + at, header, len);
    for (size_t i = 0; i < data; i++)
        file[at + len + i] = (uint8_t)i;
    *n = at + len + data;
    return file;
}

static zs_tensorfile *open_ok(const uint8_t *p, size_t n)
{
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    must(zs_tensorfile_open_bytes(&f, "label", p, n, &err), &err);
    return f;
}

static void test_orders(void **state)
{
    (void)state;
    size_t n = 0;
    static const uint8_t c[6] = {0, 1, 2, 3, 4, 5}, fortran[6] = {0, 2, 4, 1, 3, 5};
    uint8_t got[6];
    const uint8_t *p =
        build(&n, 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", 6);
    zs_tensorfile *f = open_ok(p, n);
    assert_string_equal(zs_tensorfile_format(f), "npy");
    assert_int_equal(zs_tensorfile_find(f, "array"), 0);
    assert_int_equal(zs_tensorfile_info(f, 0)->nd, 2);
    assert_int_equal(zs_tensorfile_info(f, 0)->shape[1], 3);
    assert_int_equal(zs_tensorfile_read_raw(f, 0, got, 6, NULL), ZS_OK);
    assert_memory_equal(got, c, 6);
    zs_tensorfile_close(&f);
    p = build(&n, 2, "{\"shape\":(2L,3L),'fortran_order':True,'descr':'|u1'}\n", 6);
    f = open_ok(p, n);
    assert_int_equal(zs_tensorfile_read_raw(f, 0, got, 6, NULL), ZS_OK);
    assert_memory_equal(got, fortran, 6);
    zs_tensorfile_close(&f);
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *code;
        zs_dtype dtype;
    } types[] = {{"<f8", ZS_F64},  {"<f4", ZS_F32}, {"<f2", ZS_F16}, {"<i8", ZS_I64},
                 {"<i4", ZS_I32},  {"<i2", ZS_I16}, {"|i1", ZS_I8},  {"|u1", ZS_U8},
                 {"|b1", ZS_BOOL}, {"=f4", ZS_F32}, {">u1", ZS_U8}};
    for (size_t i = 0; i < COUNT(types); i++) {
        char header[128];
        size_t n = 0;
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (2,)}",
                 types[i].code);
        const uint8_t *p = build(&n, 3, header, 2 * zs_dtype_size(types[i].dtype));
        zs_tensorfile *f = open_ok(p, n);
        assert_int_equal(zs_tensorfile_info(f, 0)->dtype, types[i].dtype);
        zs_tensorfile_close(&f);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const float data[6] = {0, 1, 2, 3, 4, -5.5f};
    const zs_tensorout shapes[] = {{NULL, ZS_F32, 2, {2, 3}, data},
                                   {NULL, ZS_F32, 1, {6}, data},
                                   {NULL, ZS_F32, 0, {0}, data},
                                   {NULL, ZS_F32, 3, {3, 0, 2}, NULL},
                                   {NULL, ZS_F32, 8, {1, 1, 1, 2, 1, 1, 3, 1}, data}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        zs_tensorout t = shapes[i];
        zs_tensorfile *f = NULL;
        zs_error err = {0};
        float got[6];
        t.name = "array";
        must(zs_npy_write(path, &t, &err), &err);
        must(zs_tensorfile_open(&f, path, &err), &err);
        const zs_tensorinfo *info = zs_tensorfile_info(f, 0);
        assert_int_equal(info->nd, t.nd);
        assert_memory_equal(info->shape, t.shape, (size_t)t.nd * sizeof t.shape[0]);
        assert_int_equal(zs_tensorfile_read_f32(f, 0, got, (size_t)info->numel, &err), ZS_OK);
        assert_memory_equal(got, data, (size_t)info->numel * sizeof(float));
        zs_tensorfile_close(&f);
    }
    zs_tensorout half = {"array", ZS_BF16, 1, {2}, data};
    assert_int_equal(zs_npy_write(path, &half, NULL), ZS_E_UNSUPPORTED);
    assert_int_equal(zs_npy_write("/nowhere/x", &shapes[0], NULL), ZS_E_INVALID); /* no name */
    half.dtype = ZS_F32;
    assert_int_equal(zs_npy_write("/nowhere/x", &half, NULL), ZS_E_IO);
}

static void test_npz_round_trip(void **state)
{
    (void)state;
    static const double mu[3] = {1.5, -2, 1e300};
    static const int64_t count[1] = {50000};
    const zs_tensorout t[] = {{"mu", ZS_F64, 1, {3}, mu},
                              {"empty", ZS_F32, 2, {0, 4}, NULL},
                              {"count", ZS_I64, 0, {0}, count}};
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    double got[3];
    int64_t n = 0;
    must(zs_npz_write(path, t, 3, &err), &err);
    must(zs_tensorfile_open(&f, path, &err), &err);
    assert_string_equal(zs_tensorfile_format(f), "npz");
    assert_int_equal(zs_tensorfile_count(f), 3);
    size_t i = (size_t)zs_tensorfile_find(f, "mu"), k = (size_t)zs_tensorfile_find(f, "count");
    assert_int_equal(zs_tensorfile_read_raw(f, i, got, sizeof got, &err), ZS_OK);
    assert_memory_equal(got, mu, sizeof mu);
    assert_int_equal(zs_tensorfile_read_i64(f, k, &n, 1, &err), ZS_OK);
    assert_int_equal(n, 50000);
    zs_tensorfile_close(&f);
    assert_int_equal(zs_npz_write("/nowhere/x", t, 3, NULL), ZS_E_IO);
}

#define H(descr, fortran, shape) \
    "{'descr': " descr ", 'fortran_order': " fortran ", 'shape': " shape ", }"

static void test_bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        int status;
        const char *says;
    } cases[] = {
        {H("'<f4'", "False", "(1,)"), 4, ZS_OK, NULL},
        {H("'<f4'", "False", "()"), 4, ZS_OK, NULL},
        {H("'<f4'", "False", "(1,)"), 3, ZS_E_FORMAT, "3 bytes of array where its shape needs 4"},
        {H("'<f4'", "False", "(1,)"), 5, ZS_E_FORMAT, "5 bytes"},
        {H("'>f4'", "False", "(1,)"), 4, ZS_E_UNSUPPORTED, "big-endian"},
        {H("'|O'", "False", "(1,)"), 8, ZS_E_UNSUPPORTED, "\"O\""},
        {H("'<c8'", "False", "(1,)"), 8, ZS_E_UNSUPPORTED, "\"c8\""},
        {H("[('a', '<f4')]", "False", "(1,)"), 4, ZS_E_UNSUPPORTED, "records"},
        {H("'<f4'", "Maybe", "(1,)"), 4, ZS_E_FORMAT, "fortran_order"},
        {H("'<f4'", "False", "(-1,)"), 4, ZS_E_FORMAT, "tuple of sizes"},
        {H("'<f4'", "False", "(1 1)"), 4, ZS_E_FORMAT, "tuple of sizes"},
        {H("'<f4'", "False", "1"), 4, ZS_E_FORMAT, "no shape"},
        {H("'<f4'", "False", "(99999999999999999999,)"), 4, ZS_E_FORMAT, "tuple of sizes"},
        {H("'<f4'", "False", "(4611686018427387904, 4)"), 0, ZS_E_FORMAT, "impossibly large"},
        {H("'<f4'", "True", "(4611686018427387904, 4611686018427387904, 0)"), 0, ZS_OK, NULL},
        {H("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), 4, ZS_E_UNSUPPORTED, "more than 8"},
        {"{'descr': '<f4', 'shape': (1,)}", 4, ZS_E_FORMAT, "lacks"},
        {"{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", 4, ZS_E_FORMAT, "repeated"},
        {"{'evil': '<f4'}", 4, ZS_E_FORMAT, "unknown"},
        {"{'descr': '<f4' 'shape': (1,)}", 4, ZS_E_FORMAT, "not a dictionary"},
        {"{'descr", 4, ZS_E_FORMAT, "not a dictionary"},
        {"", 4, ZS_E_FORMAT, "not a dictionary"},
        {H("'<f4'", "False", "(1,)") "import os", 4, ZS_E_FORMAT, "after its dictionary"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = 0;
        zs_error err;
        const uint8_t *p = build(&n, 1, cases[i].header, cases[i].data);
        int status = kit_try(p, n, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("%s: status %d: %s", cases[i].header, status, err.message);
    }
}

static void test_damage(void **state)
{
    (void)state;
    size_t n = 0;
    zs_error err;
    const uint8_t *p = build(&n, 1, H("'<f4'", "True", "(2, 3)"), 24);
    kit_truncate(p, n);
    assert_true(kit_flip(p, n) > 0);
    p = build(&n, 4, H("'<f4'", "True", "(2, 3)"), 24);
    assert_int_equal(kit_try(p, n, &err), ZS_E_UNSUPPORTED);
}

static void check_npz(const char *name)
{
    static const float c[6] = {0, 1, 2, 3, 4, 5}, fortran[6] = {0, 2, 4, 1, 3, 5};
    zs_tensorfile *f = kit_open(name);
    assert_string_equal(zs_tensorfile_format(f), "npz");
    assert_int_equal(zs_tensorfile_count(f), 5);
    assert_memory_equal(kit_values(f, "c", 6), c, sizeof c);
    assert_memory_equal(kit_values(f, "f", 6), fortran, sizeof fortran);
    assert_true(kit_values(f, "scalar", 1)[0] == -7.0f);
    assert_true(kit_values(f, "flags", 3)[1] == 0.0f);
    assert_int_equal(zs_tensorfile_info(f, 4)->numel, 0);
    zs_tensorfile_close(&f);
}

static void test_npz(void **state)
{
    (void)state;
    check_npz("stored.npz");
    check_npz("packed.npz");
}

static void test_npz_damage(void **state)
{
    (void)state;
    size_t n = 0;
    uint8_t *p = kit_load(&n, "packed.npz");
    kit_truncate(p, n);
    assert_true(kit_flip(p, n) > n);
    zs_free(p);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    size_t n = 0;
    const uint8_t *q = build(&n, 1, H("'<f4'", "True", "(2, 3)"), 24);
    kit_alloc_sweep(q, n);
    uint8_t *p = kit_load(&n, "packed.npz");
    kit_alloc_sweep(p, n);
    zs_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_npz_round_trip),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_npz),
        cmocka_unit_test(test_npz_damage),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, make_path, scratch_remove);
}
