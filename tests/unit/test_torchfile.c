/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/tensor_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static void expect_shape(zs_tensorfile *f, const char *name, zs_dtype dtype, int nd,
                         const int64_t *shape)
{
    long i = zs_tensorfile_find(f, name);
    if (i < 0)
        fail_msg("%s is not in %s", name, zs_tensorfile_path(f));
    const zs_tensorinfo *t = zs_tensorfile_info(f, (size_t)i);
    if (t->dtype != dtype || t->nd != nd ||
        (nd > 0 && memcmp(t->shape, shape, (size_t)nd * sizeof *shape) != 0))
        fail_msg("%s in %s has another dtype or shape", name, zs_tensorfile_path(f));
}

static void expect_values(zs_tensorfile *f, const char *name, size_t n, const float *want)
{
    const float *got = kit_values(f, name, n);
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s[%zu] in %s is %g, not %g", name, i, zs_tensorfile_path(f), (double)got[i],
                     (double)want[i]);
}

static void check_dtypes(zs_tensorfile *f)
{
    static const struct {
        const char *name;
        zs_dtype dtype;
    } dtypes[] = {{"f64", ZS_F64}, {"f32", ZS_F32},  {"f16", ZS_F16}, {"bf16", ZS_BF16},
                  {"i64", ZS_I64}, {"i32", ZS_I32},  {"i16", ZS_I16}, {"i8", ZS_I8},
                  {"u8", ZS_U8},   {"bool", ZS_BOOL}};
    static const float values[3] = {1, 0, 3}, truths[3] = {1, 0, 1};
    for (size_t i = 0; i < COUNT(dtypes); i++) {
        char name[32];
        snprintf(name, sizeof name, "dtypes.%s", dtypes[i].name);
        expect_shape(f, name, dtypes[i].dtype, 1, (const int64_t[]){3});
        expect_values(f, name, 3, dtypes[i].dtype == ZS_BOOL ? truths : values);
    }
}

/* Views of one storage that holds 0..11. */
static void check_views(zs_tensorfile *f)
{
    expect_shape(f, "views.all", ZS_F32, 2, (const int64_t[]){3, 4});
    expect_values(f, "views.all", 12, (const float[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    expect_shape(f, "views.transposed", ZS_F32, 2, (const int64_t[]){4, 3});
    expect_values(f, "views.transposed", 12, (const float[]){0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
    expect_values(f, "views.tail", 4, (const float[]){5, 7, 9, 11});
    expect_values(f, "views.expanded", 6, (const float[]){4, 5, 6, 4, 5, 6});
    expect_shape(f, "views.scalar", ZS_F32, 0, NULL);
    expect_values(f, "views.scalar", 1, (const float[]){7});
    expect_shape(f, "views.empty", ZS_F32, 2, (const int64_t[]){0, 5});
    expect_values(f, "views.old", 2, (const float[]){2, 3});
    expect_shape(f, "views.ones", ZS_F32, 3, (const int64_t[]){1, 12, 1});
    expect_values(f, "views.ones", 12, (const float[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    expect_values(f, "parameter", 2, (const float[]){10, 11});
    expect_values(f, "list.0", 1, (const float[]){1});
    expect_values(f, "list.2.deep", 1, (const float[]){2});
    expect_values(f, "callbacks.lightning.Checkpoint.best", 1, (const float[]){3});
}

static void check_meta(const zs_tensorfile *f)
{
    static const char want[] =
        "{\"dtypes\": {}, \"views\": {}, \"list\": [null, \"text\", {}],"
        " \"callbacks\": {\"lightning.Checkpoint\": {}},"
        " \"device\": {\"__class__\": \"torch.device\", \"args\": [\"cuda\", 0]},"
        " \"size\": [2, 3],"
        " \"numpy\": {\"f64\": -2.5, \"i64\": 5, \"array\": {\"__class__\": \"numpy.ndarray\"}},"
        " \"args\": {\"__class__\": \"argparse.Namespace\", \"lr\": 0.0001, \"name\": \"run\"},"
        " \"step\": 9223372036854775807}";
    json_t *wanted = json_loads(want, 0, NULL);
    assert_non_null(wanted);
    assert_true(json_equal(zs_tensorfile_meta(f), wanted));
    json_decref(wanted);
}

static void check_checkpoint(const char *name, const char *format, size_t count)
{
    zs_tensorfile *f = kit_open(name);
    assert_string_equal(zs_tensorfile_format(f), format);
    assert_int_equal(zs_tensorfile_count(f), count);
    check_dtypes(f);
    check_views(f);
    check_meta(f);
    if (count == 24) { /* what only newer PyTorch writes */
        expect_values(f, "v3", 1, (const float[]){2.5f});
        expect_values(f, "subclass", 1, (const float[]){0});
    } else {
        expect_values(f, "root_view", 2, (const float[]){5, 6});
    }
    zs_tensorfile_close(&f);
}

static void test_checkpoints(void **state)
{
    (void)state;
    check_checkpoint("stored.pt", "torch zip", 24);
    check_checkpoint("packed.pt", "torch zip", 24);
    check_checkpoint("protocol5.pt", "torch zip", 24);
    check_checkpoint("legacy.pt", "torch legacy", 23);
    check_checkpoint("legacy4.pt", "torch legacy", 23);
}

static void test_unusual_but_good(void **state)
{
    (void)state;
    static const struct {
        const char *file, *tensor;
    } cases[] = {{"good-bare.pt", "w"},
                 {"good-little-endian.pt", "w"},
                 {"good-lone.pt", "tensor"},
                 {"good-path-key.pt", "w"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        zs_tensorfile *f = kit_open(cases[i].file);
        expect_values(f, cases[i].tensor, 4, (const float[]){1, 2, 3, 4});
        zs_tensorfile_close(&f);
    }
}

/* os.system stays a name. */
static void test_nothing_runs(void **state)
{
    (void)state;
    unlink("owned");
    zs_tensorfile *f = kit_open("good-evil.pt");
    const json_t *x = json_object_get(zs_tensorfile_meta(f), "x");
    assert_string_equal(json_string_value(json_object_get(x, "__class__")), "posix.system");
    assert_int_equal(json_integer_value(json_object_get(zs_tensorfile_meta(f), "y")), 1);
    assert_int_not_equal(access("owned", F_OK), 0);
    zs_tensorfile_close(&f);
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int status;
        const char *says;
    } cases[] = {
        {"bad-offset.pt", ZS_E_FORMAT, "\"w\" reaches outside its storage of 16 bytes"},
        {"bad-offset-negative.pt", ZS_E_FORMAT, "offset"},
        {"bad-offset-huge.pt", ZS_E_FORMAT, "outside its storage"},
        {"bad-shape-huge.pt", ZS_E_FORMAT, "impossibly large shape"},
        {"bad-shape-overflow.pt", ZS_E_FORMAT, "impossibly large shape"},
        {"bad-shape-negative.pt", ZS_E_FORMAT, "negative or missing size"},
        {"bad-shape-text.pt", ZS_E_FORMAT, "negative or missing size"},
        {"bad-stride.pt", ZS_E_FORMAT, "outside its storage"},
        {"bad-stride-negative.pt", ZS_E_FORMAT, "negative or missing size or stride"},
        {"bad-stride-huge.pt", ZS_E_FORMAT, "outside its storage"},
        {"bad-strides-missing.pt", ZS_E_FORMAT, "unequal numbers"},
        {"bad-expanded-huge.pt", ZS_E_FORMAT, "repeats 16 stored bytes"},
        {"bad-dims.pt", ZS_E_UNSUPPORTED, "9 dimensions"},
        {"bad-numel.pt", ZS_E_FORMAT, "16 bytes in the archive"},
        {"bad-numel-negative.pt", ZS_E_FORMAT, "not described as torch does it"},
        {"bad-numel-huge.pt", ZS_E_FORMAT, "16 bytes in the archive"},
        {"bad-complex.pt", ZS_E_UNSUPPORTED, "ComplexFloatStorage"},
        {"bad-sparse.pt", ZS_E_UNSUPPORTED, "_rebuild_sparse_tensor"},
        {"bad-big-endian.pt", ZS_E_UNSUPPORTED, "big-endian"},
        {"bad-byteorder.pt", ZS_E_FORMAT, "unknown byte order"},
        {"bad-script.pt", ZS_E_UNSUPPORTED, "TorchScript"},
        {"bad-key.pt", ZS_E_FORMAT, "storage \"0\" is not in the archive"},
        {"bad-path-key.pt", ZS_E_FORMAT, "\"/etc/passwd\" is not in the archive"},
        {"bad-duplicate.pt", ZS_E_FORMAT, "two tensors have the name \"a.b\""},
        {"bad-bomb-storage.pt", ZS_E_FORMAT, "4194304 bytes in the archive"},
        {"bad-bomb-pickle.pt", ZS_E_FORMAT, "data.pkl unpacks from"},
        {"bad-laughs.pt", ZS_E_FORMAT, "over and over"},
        {"bad-long-name.pt", ZS_E_FORMAT, "longer than 4096 bytes"},
        {"bad-deep.pt", ZS_E_FORMAT, "200 deep"},
        {"bad-two-pickles.pt", ZS_E_FORMAT, "more than one data.pkl"},
        {"bad-other.zip", ZS_E_FORMAT, "without data.pkl or .npy"},
        {"bad-legacy-numel.pt", ZS_E_FORMAT, "not as large as its tensors say"},
        {"bad-legacy-view.pt", ZS_E_FORMAT, "view reaches outside"},
        {"bad-legacy-past-view.pt", ZS_E_FORMAT, "outside its storage of 8 bytes"},
        {"bad-legacy-unused.pt", ZS_E_FORMAT, "no tensor uses"},
        {"bad-legacy-big-endian.pt", ZS_E_UNSUPPORTED, "big-endian"},
        {"tree2.pkl", ZS_E_UNSUPPORTED, "torch.save did not write"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t n = 0;
        zs_error err;
        uint8_t *p = kit_load(&n, cases[i].file);
        int status = kit_try(p, n, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("%s: status %d: %s", cases[i].file, status, err.message);
        zs_free(p);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    static const char *const files[] = {"stored.pt", "packed.pt", "good-bare.pt", "legacy.pt"};
    for (size_t i = 0; i < COUNT(files); i++) {
        size_t n = 0;
        uint8_t *p = kit_load(&n, files[i]);
        kit_truncate(p, n);
        zs_free(p);
    }
}

static void test_flipped(void **state)
{
    (void)state;
    static const char *const files[] = {"good-little-endian.pt", "packed.npz",
                                        "bad-legacy-view.pt"};
    for (size_t i = 0; i < COUNT(files); i++) {
        size_t n = 0;
        uint8_t *p = kit_load(&n, files[i]);
        assert_true(kit_flip(p, n) > n); /* of 8 n */
        zs_free(p);
    }
}

/* A flipped bit in the numbers themselves fails the archive's checksum. */
static void test_checksum(void **state)
{
    (void)state;
    size_t n = 0, at = 0;
    zs_error err;
    uint8_t *p = kit_load(&n, "good-bare.pt");
    static const uint8_t four[] = {0, 0, 0x80, 0x40}; /* 4.0f */
    while (memcmp(p + at, four, 4) != 0)
        at++;
    p[at + 2] ^= 1;
    assert_int_equal(kit_try(p, n, &err), ZS_E_FORMAT);
    assert_non_null(strstr(err.message, "checksum"));
    zs_free(p);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char *const files[] = {"stored.pt", "legacy.pt"};
    for (size_t i = 0; i < COUNT(files); i++) {
        size_t n = 0;
        uint8_t *p = kit_load(&n, files[i]);
        kit_alloc_sweep(p, n);
        zs_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints),  cmocka_unit_test(test_unusual_but_good),
        cmocka_unit_test(test_nothing_runs), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_truncated),    cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_checksum),     cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
