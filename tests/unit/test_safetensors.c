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

/* Header size, header, data. Static buffer. */
static const uint8_t *build(size_t *n, const char *header, size_t data)
{
    static uint8_t file[8192];
    size_t len = strlen(header);
    assert_true(8 + len + data <= sizeof file);
    memset(file, 0, 8);
    file[0] = (uint8_t)len;
    file[1] = (uint8_t)(len >> 8);
    memcpy(file + 8, header, len);
    memset(file + 8 + len, 1, data);
    *n = 8 + len + data;
    return file;
}

static const float f32[6] = {0, 1, -2, 3.5f, 1e30f, -0.0f};
static const double f64[2] = {0.5, -1e300};
static const uint16_t bf16[3] = {0x3F80, 0x4000, 0xBF80}, f16[2] = {0x3C00, 0xC000};
static const int64_t i64[1] = {INT64_MIN};
static const int32_t i32[2] = {-5, 6};
static const int16_t i16[2] = {-7, 8};
static const int8_t i8[2] = {-9, 10};
static const uint8_t u8[2] = {0, 255}, yes[3] = {1, 0, 1};

static const zs_tensorout all[] = {
    {"odd", ZS_U8, 1, {2}, u8}, /* misaligns everything behind it */
    {"flag", ZS_BOOL, 2, {3, 1}, yes},
    {"f32", ZS_F32, 2, {2, 3}, f32},
    {"f64", ZS_F64, 1, {2}, f64},
    {"f16", ZS_F16, 1, {2}, f16},
    {"bf16", ZS_BF16, 3, {1, 3, 1}, bf16},
    {"scalar", ZS_I64, 0, {0}, i64},
    {"i32", ZS_I32, 1, {2}, i32},
    {"i16", ZS_I16, 1, {2}, i16},
    {"i8", ZS_I8, 1, {2}, i8},
    {"empty", ZS_F32, 3, {2, 0, 5}, NULL},
    {"name \"quoted\" Gr\xC3\xB6\xC3\x9F"
     "e",
     ZS_F32,
     8,
     {1, 1, 1, 1, 1, 1, 1, 1},
     f32},
};

static zs_tensorfile *write_all(const json_t *meta)
{
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    must(zs_safetensors_write(path, all, COUNT(all), meta, &err), &err);
    must(zs_tensorfile_open(&f, path, &err), &err);
    return f;
}

static void test_round_trip(void **state)
{
    (void)state;
    json_t *meta = json_pack("{s:s}", "zsem.config", "{\"a\": 1}");
    zs_tensorfile *f = write_all(meta);
    zs_error err = {0};
    assert_string_equal(zs_tensorfile_format(f), "safetensors");
    assert_string_equal(zs_tensorfile_path(f), path);
    assert_int_equal(zs_tensorfile_count(f), COUNT(all));
    assert_true(json_equal(zs_tensorfile_meta(f), meta));
    for (size_t i = 0; i < COUNT(all); i++) {
        const zs_tensorinfo *t = zs_tensorfile_info(f, i); /* in the order given */
        uint8_t bytes[64];
        size_t n = (size_t)t->numel * zs_dtype_size(t->dtype);
        assert_string_equal(t->name, all[i].name);
        assert_int_equal(t->dtype, all[i].dtype);
        assert_int_equal(t->nd, all[i].nd);
        assert_memory_equal(t->shape, all[i].shape, (size_t)t->nd * sizeof t->shape[0]);
        assert_int_equal(zs_tensorfile_read_raw(f, i, bytes, n, &err), ZS_OK);
        if (n > 0)
            assert_memory_equal(bytes, all[i].data, n);
    }
    assert_int_equal(kit_read_all(f, &err), ZS_OK);
    assert_int_equal(zs_tensorfile_find(f, "f64"), 3);
    assert_int_equal(zs_tensorfile_find(f, "f6"), -1);
    zs_tensorfile_close(&f);
    zs_tensorfile_close(&f); /* idempotent */
    json_decref(meta);
}

static void test_conversion(void **state)
{
    (void)state;
    zs_tensorfile *f = write_all(NULL);
    zs_error err = {0};
    int64_t n64[3];
    assert_int_equal(json_object_size(zs_tensorfile_meta(f)), 0);
    assert_true(kit_values(f, "bf16", 3)[1] == 2.0f && kit_values(f, "f16", 2)[1] == -2.0f);
    assert_true(kit_values(f, "scalar", 1)[0] == -0x1p63f && kit_values(f, "odd", 2)[1] == 255.0f);
    assert_true(kit_values(f, "i8", 2)[0] == -9.0f && kit_values(f, "flag", 3)[2] == 1.0f);
    assert_int_equal(zs_tensorfile_read_i64(f, 6, n64, 1, &err), ZS_OK);
    assert_true(n64[0] == INT64_MIN);
    assert_int_equal(zs_tensorfile_read_i64(f, 5, n64, 3, &err), ZS_OK);
    assert_true(n64[2] == -1);
    assert_int_equal(zs_tensorfile_read_f32(f, 2, (float[7]){0}, 7, &err), ZS_E_INVALID);
    err = (zs_error){0};
    must_refuse(zs_tensorfile_read_raw(f, COUNT(all), n64, 8, &err), &err, ZS_E_INVALID, path);
    zs_tensorfile_close(&f);
}

static void test_data_section_is_aligned(void **state)
{
    (void)state;
    zs_tensorfile *f = write_all(NULL);
    zs_tensorfile_close(&f);
    FILE *file = fopen(path, "rb");
    uint8_t size[8];
    assert_int_equal(fread(size, 1, 8, file), 8);
    fclose(file);
    assert_int_equal((8 + size[0] + size[1] * 256) % 64, 0);
}

static void test_write_refusals(void **state)
{
    (void)state;
    const zs_tensorout twice[] = {all[0], all[0]};
    const zs_tensorout minus = {"x", ZS_F32, 1, {-1}, f32},
                       huge = {"x", ZS_F32, 2, {INT64_MAX, INT64_MAX}, f32},
                       bad_name = {"\xFF", ZS_F32, 1, {1}, f32};
    const zs_tensorout reserved = {"__metadata__", ZS_F32, 1, {1}, f32};
    json_t *number = json_pack("{s:i}", "a", 1);
    zs_error err = {0};
    assert_int_equal(zs_safetensors_write(path, twice, 2, NULL, &err), ZS_E_INVALID);
    assert_int_equal(zs_safetensors_write(path, &minus, 1, NULL, NULL), ZS_E_INVALID);
    assert_int_equal(zs_safetensors_write(path, &huge, 1, NULL, NULL), ZS_E_INVALID);
    assert_int_equal(zs_safetensors_write(path, &bad_name, 1, NULL, NULL), ZS_E_INVALID);
    assert_int_equal(zs_safetensors_write(path, &reserved, 1, NULL, NULL), ZS_E_INVALID);
    assert_int_equal(zs_safetensors_write(path, all, 1, number, NULL), ZS_E_INVALID);
    assert_int_equal(zs_safetensors_write("/nowhere/x", all, 1, NULL, NULL), ZS_E_IO);
    json_decref(number);
}

#define T(dtype, shape, offsets) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        int status;
        const char *says;
    } cases[] = {
        {"{\"a\":" T("F32", "[1]", "[0,4]") "}", 4, ZS_OK, NULL},
        {"{}", 0, ZS_OK, NULL},
        {"{}", 1, ZS_E_FORMAT, "holds 1 bytes"},
        {"{", 0, ZS_E_FORMAT, "not valid JSON"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[0,4]") "}", 4, ZS_E_FORMAT,
         "not valid JSON (duplicate"},
        {"{\"a\":[]}", 0, ZS_E_FORMAT, "no dtype"},
        {"{\"a\":" T("F8_E4M3", "[4]", "[0,4]") "}", 4, ZS_E_UNSUPPORTED, "F8_E4M3"},
        {"{\"a\":" T("F32", "1", "[0,4]") "}", 4, ZS_E_FORMAT, "no shape"},
        {"{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, ZS_E_FORMAT, "list of sizes"},
        {"{\"a\":" T("F32", "[1.5]", "[0,4]") "}", 4, ZS_E_FORMAT, "list of sizes"},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, ZS_E_UNSUPPORTED,
         "more than 8"},
        {"{\"a\":" T("F32", "[4611686018427387904,4]", "[0,0]") "}", 0, ZS_E_FORMAT, "do not fit"},
        {"{\"a\":" T("F32", "[99999999999999999999]", "[0,4]") "}", 4, ZS_E_FORMAT, "JSON"},
        {"{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, ZS_E_FORMAT, "do not fit its shape"},
        {"{\"a\":" T("F32", "[1]", "[0,8]") "}", 8, ZS_E_FORMAT, "do not fit its shape"},
        {"{\"a\":" T("F32", "[1]", "[4,8]") "}", 4, ZS_E_FORMAT, "outside the file"},
        {"{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, ZS_E_FORMAT, "outside the file"},
        {"{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, ZS_E_FORMAT, "outside the file"},
        {"{\"a\":" T("F32", "[1]", "[9223372036854775803,9223372036854775807]") "}", 4, ZS_E_FORMAT,
         "outside the file"},
        {"{\"a\":" T("F32", "[1]", "[0]") "}", 4, ZS_E_FORMAT, "no data_offsets"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[0,4]") "}", 4, ZS_E_FORMAT,
         "overlaps"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[4,8]") "}", 8, ZS_E_FORMAT,
         "overlaps"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[8,12]") "}", 12,
         ZS_E_FORMAT, "hole"},
        {"{\"a\":" T("F32", "[1]", "[4,8]") ",\"b\":" T("F32", "[1]", "[0,4]") "}", 8, ZS_OK, NULL},
        {"{\"__metadata__\":[]}", 0, ZS_E_FORMAT, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, ZS_E_FORMAT, "\"a\" is not a string"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = 0;
        zs_error err;
        const uint8_t *p = build(&n, cases[i].header, cases[i].data);
        int status = kit_try(p, n, &err);
        if (status != cases[i].status || (cases[i].says && !strstr(err.message, cases[i].says)))
            fail_msg("%s: status %d: %s", cases[i].header, status, err.message);
    }
}

static void test_huge_header_size(void **state)
{
    (void)state;
    zs_error err;
    const uint8_t most[] = {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'};
    const uint8_t more[] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    assert_int_equal(kit_try(most, sizeof most, &err), ZS_E_FORMAT);
    assert_non_null(strstr(err.message, "header of 18446744073709551615 bytes"));
    assert_int_equal(kit_try(more, sizeof more, &err), ZS_E_FORMAT);
}

static void test_deep_header(void **state)
{
    (void)state;
    char header[4096];
    size_t n = 0;
    zs_error err;
    memset(header, '[', sizeof header);
    memcpy(header, "{\"a\":", 5);
    header[sizeof header - 1] = '\0';
    const uint8_t *p = build(&n, header, 0);
    assert_int_equal(kit_try(p, n, &err), ZS_E_FORMAT);
}

static const char small[] = "{\"__metadata__\":{\"k\":\"v\"},\"a\":" T(
    "F32", "[2,1]", "[0,8]") ",\"b\":" T("I64", "[]", "[8,16]") "}";

static void test_damage(void **state)
{
    (void)state;
    size_t n = 0;
    const uint8_t *p = build(&n, small, 16);
    kit_truncate(p, n);
    assert_true(kit_flip(p, n) > 8 * strlen(small) / 2);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    size_t n = 0;
    const uint8_t *p = build(&n, small, 16);
    kit_alloc_sweep(p, n);
}

/* Writing: a failed allocation leaves the old file as it was. */
static void test_failed_writes(void **state)
{
    (void)state;
    zs_tensorfile *f = write_all(NULL);
    zs_tensorfile_close(&f);
    long k = 1;
    for (int status = -1; status < 0; k++) {
        zs_error err = {0};
        zs_alloc_fail_at(k);
        status = zs_safetensors_write(path, all, 1, NULL, &err);
        zs_alloc_fail_at(0);
        assert_true(status == ZS_OK || status == ZS_E_NOMEM);
        f = NULL;
        err = (zs_error){0};
        must(zs_tensorfile_open(&f, path, &err), &err);
        assert_int_equal(zs_tensorfile_count(f), status < 0 ? COUNT(all) : 1);
        zs_tensorfile_close(&f);
    }
    assert_true(k > 2);
}

static void test_not_a_tensor_file(void **state)
{
    (void)state;
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    assert_int_equal(zs_tensorfile_open(&f, "/nowhere/x.ckpt", &err), ZS_E_IO);
    assert_null(f);
    assert_int_equal(zs_tensorfile_open(&f, "/tmp", NULL), ZS_E_IO);
    FILE *file = fopen(path, "wb");
    fclose(file);
    err = (zs_error){0};
    must_refuse(zs_tensorfile_open(&f, path, &err), &err, ZS_E_FORMAT, "is empty");
    assert_int_equal(kit_try((const uint8_t *)"hello world", 11, &err), ZS_E_FORMAT);
    static uint8_t tar[512];
    memcpy(tar + 257, "ustar", 5);
    assert_int_equal(kit_try(tar, sizeof tar, &err), ZS_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tar archive"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_conversion),
        cmocka_unit_test(test_data_section_is_aligned),
        cmocka_unit_test(test_write_refusals),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_huge_header_size),
        cmocka_unit_test(test_deep_header),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_failed_writes),
        cmocka_unit_test(test_not_a_tensor_file),
    };
    return cmocka_run_group_tests(tests, make_path, scratch_remove);
}
