/* SPDX-License-Identifier: MIT */
/* Commands with --device: one whose memory is out of reach gives what the reference gives, and one
 * that is not there is a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/io.h"
#include "tests/e2e/taskkit.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/far_backend.h"
#include "tests/unit/must.h"
#include "tests/unit/scratch.h"

enum { IMAGES = 6, DIM = 12 };

static void same_pictures(const char *command, const char *file)
{
    static const char *const device[2] = {"cpu-ref", "far"};
    zs_image im[2] = {0};
    for (int k = 0; k < 2; k++) {
        zs_error err = {0};
        must(zs_image_read(&im[k], scratch_path("%s-%s/%s", command, device[k], file), 0, &err),
             &err);
    }
    size_t n = (size_t)(im[0].w * im[0].h * im[0].c);
    assert_int_equal(n, im[1].w * im[1].h * im[1].c);
    assert_memory_equal(im[0].px, im[1].px, n);
    zs_image_free(&im[0]);
    zs_image_free(&im[1]);
}

/* The codes, to the bit. */
static void same_codes(void)
{
    static const char *const device[2] = {"cpu-ref", "far"};
    float z[2][IMAGES * DIM];
    for (int k = 0; k < 2; k++) {
        zs_error err = {0};
        zs_tensorfile *f = NULL;
        must(zs_tensorfile_open(&f, scratch_path("codes-%s.safetensors", device[k]), &err), &err);
        long i = zs_tensorfile_find(f, "z_sem");
        assert_true(i >= 0);
        must(zs_tensorfile_read_f32(f, (size_t)i, z[k], IMAGES * DIM, &err), &err);
        zs_tensorfile_close(&f);
    }
    assert_memory_equal(z[0], z[1], sizeof z[0]);
}

static void run(const char *command, const char *const *args, const char *device)
{
    json_decref(task_must(command, args,
                          TASK_OPTIONS({"device", device}, {"steps", "4"}, {"batch", "4"},
                                       {"out", scratch_path("%s-%s", command, device)})));
    assert_int_equal(far_counted().blocks, 0);
    assert_int_equal(far_counted().tapes, 0);
}

static void gives_what_the_reference_gives(void **state)
{
    (void)state;
    static const char *const device[2] = {"cpu-ref", "far"};
    const char *model = scratch_path("ddpm.safetensors");
    for (int k = 0; k < 2; k++) {
        run("reconstruct", TASK_ARGS(scratch_path("base.safetensors"), scratch_path("data")),
            device[k]);
        json_decref(task_must("sample", TASK_ARGS(model),
                              TASK_OPTIONS({"device", device[k]}, {"n", "6"}, {"steps", "4"},
                                           {"out", scratch_path("sample-%s", device[k])})));
        json_decref(
            task_must("encode", TASK_ARGS(scratch_path("base.safetensors"), scratch_path("data")),
                      TASK_OPTIONS({"device", device[k]}, {"batch", "4"},
                                   {"out", scratch_path("codes-%s.safetensors", device[k])})));
    }
    same_pictures("reconstruct", "grid.png");
    same_pictures("sample", "grid.png");
    same_codes();
    assert_int_equal(far_counted().blocks, 0);
}

/* Every number that the files of a row have in common. */
static void same_row(const char *row)
{
    zs_error err = {0};
    zs_tensorfile *a = NULL, *b = NULL;
    must(zs_tensorfile_open(&a, scratch_path("bench-cpu-ref/%s.safetensors", row), &err), &err);
    must(zs_tensorfile_open(&b, scratch_path("bench-far/%s.safetensors", row), &err), &err);
    assert_int_equal(zs_tensorfile_count(a), zs_tensorfile_count(b));
    for (size_t i = 0; i < zs_tensorfile_count(a); i++) {
        size_t n = (size_t)zs_tensorfile_info(a, i)->numel;
        float *x = zs_alloc(2 * n, sizeof *x);
        assert_non_null(x);
        must(zs_tensorfile_read_f32(a, i, x, n, &err), &err);
        must(zs_tensorfile_read_f32(b, i, x + n, n, &err), &err);
        if (memcmp(x, x + n, n * sizeof *x) != 0)
            fail_msg("%s of %s differs", zs_tensorfile_info(a, i)->name, row);
        zs_free(x);
    }
    zs_tensorfile_close(&a);
    zs_tensorfile_close(&b);
}

/* Single operations, which bench calls itself. */
static void measures_operations(void **state)
{
    (void)state;
    static const char *const device[3] = {"cpu-ref", "far", "far-bf16"};
    for (int k = 0; k < 3; k++)
        json_decref(
            task_must("bench", TASK_ARGS(NULL),
                      TASK_OPTIONS({"device", device[k]}, {"rows", "n8-c32-s32,adagn-n8-c256-s16"},
                                   {"save", scratch_path("bench-%s", device[k])})));
    same_row("conv-dx-n8-c32-s32");
    same_row("conv-dw-n8-c32-s32");
    same_row("adagn-n8-c256-s16");
    assert_true(tiny_exists(scratch_path("bench-far/conv-fwd-n8-c32-s32.safetensors")));
    assert_int_equal(far_counted().blocks, 0);
}

static void lists_what_is_there(void **state)
{
    (void)state;
    json_t *j = task_must("info", TASK_ARGS(NULL), TASK_OPTIONS({"devices", NULL}));
    json_t *list = json_object_get(j, "devices"), *d;
    size_t i, cpu = 0, far = 0;
    json_array_foreach(list, i, d)
    {
        const char *name = json_string_value(json_object_get(d, "device"));
        cpu += strcmp(name, "cpu, cpu-ref") == 0 &&
               json_integer_value(json_object_get(d, "memory_bytes")) > 0;
        far += strcmp(name, "far, far-bf16") == 0 &&
               strcmp(json_string_value(json_object_get(d, "name")), "a device far away") == 0;
    }
    assert_int_equal(cpu, 1);
    assert_int_equal(far, 1);
    json_decref(j);
}

static void a_device_that_is_not_there_is_a_sentence(void **state)
{
    (void)state;
    const char *model = scratch_path("ddpm.safetensors");
    task_refused("sample", TASK_ARGS(model),
                 TASK_OPTIONS({"device", "tpu"}, {"out", scratch_path("no")}),
                 "there is no device \"tpu\"");
    if (!zs_backend_find("cuda"))
        task_refused("sample", TASK_ARGS(model),
                     TASK_OPTIONS({"device", "cuda"}, {"out", scratch_path("no")}),
                     "cmake --preset cuda");
    assert_false(tiny_exists(scratch_path("no")));
}

static int setup(void **state)
{
    int status = scratch_make(state);
    zs_model_config c = tiny_autoencoder(DIM), ddpm = c;
    zs_model_config_clear(&ddpm, ZS_BOX_ENCODER);
    ddpm.unet.z_dim = 0;
    far_install();
    tiny_halves("data", IMAGES, false);
    tiny_bundle("base.safetensors", &c, 3, NULL, ZS_F32);
    tiny_bundle("ddpm.safetensors", &ddpm, 4, NULL, ZS_F32);
    return status;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_what_the_reference_gives),
        cmocka_unit_test(measures_operations),
        cmocka_unit_test(lists_what_is_there),
        cmocka_unit_test(a_device_that_is_not_there_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
