/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "data/data.h"
#include "data/idx.h"
#include "tests/unit/scratch.h"
#include "tests/unit/source_kit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* A 2x1 grey image whose first pixel says which one it is, and its folders. */
static void write_image(const char *name, int value)
{
    const char *slash = strrchr(name, '/');
    int folder = slash ? (int)(slash - name) : 0;
    assert_int_equal(zs_mkdirs(scratch_path("%.*s", folder, name), NULL), ZS_OK);
    uint8_t px[2] = {(uint8_t)value, 0};
    zs_image im = {2, 1, 1, px};
    assert_int_equal(zs_image_write_png(scratch_path("%s", name), &im, NULL), ZS_OK);
}

static void folders_are_listed_bytewise_with_classes(void **state)
{
    (void)state;
    /* '.' sorts before '/': the files of a.b come before those of a, the class after it. */
    const char *const names[] = {"a.b/x.png", "a/10.png", "a/9.png",       "a/deep/er/1.PNG",
                                 "b/2.png",   "top.png",  "\xc3\xa9/z.png"};
    const int labels[] = {1, 0, 0, 0, 2, -1, 3};
    for (size_t i = COUNT(names); i-- > 0;)
        write_image(names[i], (int)i);
    kit_put(scratch_path("notes.txt"), "x", 1);
    kit_put(scratch_path("b/.hidden.png"), "x", 1);
    assert_int_equal(zs_mkdirs(scratch_path("empty class"), NULL), ZS_OK);
    zs_source *s = kit_source(scratch_dir());
    char buf[32];
    assert_int_equal(zs_source_count(s), COUNT(names));
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_string_equal(zs_source_name(s, (int64_t)i, buf, sizeof buf), names[i]);
        assert_int_equal(zs_source_label(s, (int64_t)i), labels[i]);
        assert_int_equal(kit_first_byte(s, (int64_t)i), i);
    }
    assert_int_equal(zs_source_class_count(s), 4);
    assert_string_equal(zs_source_class_name(s, 0), "a");
    assert_string_equal(zs_source_class_name(s, 1), "a.b");
    assert_string_equal(zs_source_class_name(s, 3), "\xc3\xa9");
    assert_string_equal(zs_source_class_name(s, 4), "?");
    assert_int_equal(zs_source_label(s, 99), -1);
    zs_source_close(&s);
    zs_source_close(&s); /* idempotent */
}

static void link_loops_end_and_folders_count_once(void **state)
{
    (void)state;
    write_image("a/1.png", 1);
    write_image("c/2.png", 2);
    assert_int_equal(symlink("..", scratch_path("a/loop")), 0);
    assert_int_equal(symlink("a", scratch_path("b")), 0);
    assert_int_equal(symlink("../c", scratch_path("a/c")), 0);
    assert_int_equal(symlink("2.png", scratch_path("c/link.png")), 0);
    assert_int_equal(symlink("nowhere", scratch_path("dangling")), 0);
    zs_source *s = kit_source(scratch_dir());
    assert_int_equal(zs_source_count(s), 3);
    assert_string_equal(zs_source_name(s, 0, NULL, 0), "a/1.png");
    assert_string_equal(zs_source_name(s, 1, NULL, 0), "c/2.png");
    assert_string_equal(zs_source_name(s, 2, NULL, 0), "c/link.png");
    zs_source_close(&s);
    assert_int_equal(symlink("nowhere", scratch_path("dangling.png")), 0);
    kit_source_refused(scratch_dir(), ZS_E_IO, "dangling.png");
}

static void many_folders_are_found(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "%03d/x.png", i);
        write_image(name, i % 256);
    }
    zs_source *s = kit_source(scratch_dir());
    assert_int_equal(zs_source_count(s), 300);
    for (int i = 0; i < 300; i++)
        assert_int_equal(zs_source_label(s, i), i);
    zs_source_close(&s);
}

static void empty_folders_say_what_is_read(void **state)
{
    (void)state;
    kit_put(scratch_path("notes.txt"), "x", 1);
    kit_source_refused(scratch_dir(), ZS_E_INVALID, scratch_dir());
    kit_source_refused(scratch_dir(), ZS_E_INVALID, ".png, .jpg, .jpeg and .webp");
}

static void one_image_file_is_a_source(void **state)
{
    (void)state;
    write_image("only.png", 77);
    zs_source *s = kit_source(scratch_path("only.png"));
    assert_int_equal(zs_source_count(s), 1);
    assert_int_equal(zs_source_class_count(s), 0);
    assert_int_equal(zs_source_label(s, 0), -1);
    assert_string_equal(zs_source_name(s, 0, NULL, 0), "only.png");
    assert_int_equal(kit_first_byte(s, 0), 77);
    zs_source_close(&s);
    kit_put(scratch_path("text.png"), "hello", 5);
    kit_source_refused(scratch_path("text.png"), ZS_E_FORMAT, "text.png");
    kit_put(scratch_path("zero.png"), "", 0);
    kit_source_refused(scratch_path("zero.png"), ZS_E_FORMAT, "is empty");
}

static void unknown_specs_are_explained(void **state)
{
    (void)state;
    kit_source_refused("", ZS_E_INVALID, "a folder of images");
    kit_source_refused("zip:/some/where", ZS_E_INVALID, "\"zip:\"");
    kit_source_refused(scratch_path("none"), ZS_E_IO, "cannot be opened");
    kit_source_refused("fashion-mnist:validation", ZS_E_INVALID, "fashion-mnist:test");
    kit_source_refused("idx:", ZS_E_INVALID, "idx:IMAGES");
    kit_source_refused("idx:a,", ZS_E_INVALID, "idx:IMAGES");
    kit_source_refused("/dev/null", ZS_E_IO, "not a regular file");
}

static void images_that_do_not_exist_are_refused(void **state)
{
    (void)state;
    write_image("only.png", 1);
    zs_source *s = kit_source(scratch_dir());
    zs_image im;
    for (int64_t i = -1; i <= 1; i += 2) {
        zs_error err = {0};
        assert_int_equal(zs_source_read(s, i, 0, &im, &err), ZS_E_INVALID);
        assert_null(im.px);
    }
    assert_int_equal(zs_source_read(s, 0, 2, &im, NULL), ZS_E_INVALID);
    zs_source_close(&s);
}

static uint64_t fingerprint_of(const char *spec)
{
    zs_source *s = kit_source(spec);
    uint64_t h = zs_source_fingerprint(s);
    zs_source_close(&s);
    return h;
}

static void fingerprints_follow_names_and_sizes(void **state)
{
    (void)state;
    write_image("x/a.png", 1);
    write_image("x/b.png", 2);
    write_image("y/a.png", 1);
    write_image("y/b.png", 2);
    uint64_t x = fingerprint_of(scratch_path("x")), y = fingerprint_of(scratch_path("y"));
    assert_true(x == y); /* where the data lies does not matter */
    assert_int_equal(rename(scratch_path("y/b.png"), scratch_path("y/c.png")), 0);
    y = fingerprint_of(scratch_path("y"));
    assert_true(x != y);
    assert_int_equal(rename(scratch_path("y/c.png"), scratch_path("y/b.png")), 0);
    kit_put(scratch_path("y/b.png"), "another size", 12);
    y = fingerprint_of(scratch_path("y"));
    assert_true(x != y);
    unlink(scratch_path("y/b.png"));
    y = fingerprint_of(scratch_path("y"));
    assert_true(x != y);
}

/* IDX: 3 images of 2 rows and 4 columns, value 10*image + position. */
static const uint8_t idx_head[16] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4};
enum { IDX_SIZE = 16 + 24 };
static const uint8_t idx_labels[11] = {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1};

static void make_idx(uint8_t b[IDX_SIZE])
{
    memcpy(b, idx_head, 16);
    for (int i = 0; i < 24; i++)
        b[16 + i] = (uint8_t)(10 * (i / 8) + i % 8);
}

static size_t gzipped(uint8_t *out, size_t cap, const uint8_t *p, size_t n)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (z_const Bytef *)(uintptr_t)p;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t size = z.total_out;
    deflateEnd(&z);
    return size;
}

static void check_idx_source(const char *spec, int classes)
{
    zs_source *s = kit_source(spec);
    char buf[16];
    assert_int_equal(zs_source_count(s), 3);
    assert_int_equal(zs_source_class_count(s), classes);
    assert_string_equal(zs_source_name(s, 2, buf, sizeof buf), "#2");
    for (int i = 0; i < 3; i++) {
        zs_image im;
        assert_int_equal(zs_source_label(s, i), classes ? idx_labels[8 + i] : -1);
        assert_int_equal(zs_source_read(s, i, 3, &im, NULL), ZS_OK);
        assert_true(im.w == 4 && im.h == 2 && im.c == 3);
        for (int k = 0; k < 24; k++)
            assert_int_equal(im.px[k], 10 * i + k / 3);
        zs_image_free(&im);
    }
    zs_source_close(&s);
}

static void idx_files_are_read_plain_and_compressed(void **state)
{
    (void)state;
    uint8_t b[IDX_SIZE], z[256];
    char spec[600];
    make_idx(b);
    kit_put(scratch_path("i,m"), b, sizeof b);
    kit_put(scratch_path("i.gz"), z, gzipped(z, sizeof z, b, sizeof b));
    kit_put(scratch_path("l"), idx_labels, sizeof idx_labels);
    kit_put(scratch_path("l.gz"), z, gzipped(z, sizeof z, idx_labels, sizeof idx_labels));
    snprintf(spec, sizeof spec, "idx:%s/i,m", scratch_dir()); /* the comma belongs to the name */
    check_idx_source(spec, 0);
    uint64_t plain = fingerprint_of(spec);
    snprintf(spec, sizeof spec, "idx:%s/i,m,%s/l", scratch_dir(), scratch_dir());
    check_idx_source(spec, 3);
    snprintf(spec, sizeof spec, "idx:%s/i.gz,%s/l.gz", scratch_dir(), scratch_dir());
    check_idx_source(spec, 3);
    snprintf(spec, sizeof spec, "idx:%s/i.gz", scratch_dir());
    check_idx_source(spec, 0);
    assert_true(fingerprint_of(spec) == plain);
    b[39] ^= 1;
    kit_put(scratch_path("i,m"), b, sizeof b);
    snprintf(spec, sizeof spec, "idx:%s/i,m", scratch_dir());
    assert_true(fingerprint_of(spec) != plain);
}

static int parse(const uint8_t *p, size_t n, zs_error *err)
{
    zs_idx x;
    uint8_t *copy = malloc(n ? n : 1); /* exact, so that over-reads are seen */
    memcpy(copy, p, n);
    *err = (zs_error){0};
    int status = zs_idx_parse(&x, "f.idx", copy, n, err);
    if (status < 0) {
        assert_null(x.px);
        assert_null(x.inflated);
        assert_int_equal(err->status, status);
        assert_true(status == ZS_E_NOMEM || strstr(err->message, "f.idx"));
    }
    zs_idx_close(&x);
    free(copy);
    return status;
}

static void damaged_idx_is_refused(void **state)
{
    (void)state;
    uint8_t b[IDX_SIZE + 1] = {0}, z[256];
    zs_error err;
    make_idx(b);
    size_t n = gzipped(z, sizeof z, b, IDX_SIZE);
    for (size_t k = 0; k < IDX_SIZE; k++)
        assert_int_equal(parse(b, k, &err), ZS_E_FORMAT);
    assert_int_equal(parse(b, IDX_SIZE, &err), ZS_OK);
    assert_int_equal(parse(b, IDX_SIZE + 1, &err), ZS_E_FORMAT);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(parse(z, k, &err), ZS_E_FORMAT);
    assert_int_equal(parse(z, n, &err), ZS_OK);
    z[n - 5] ^= 1; /* the checksum */
    assert_int_equal(parse(z, n, &err), ZS_E_FORMAT);
    n = gzipped(z, sizeof z, b, IDX_SIZE + 1);
    assert_int_equal(parse(z, n, &err), ZS_E_FORMAT);
    assert_non_null(strstr(err.message, "promises 40"));
    n = gzipped(z, sizeof z, b, IDX_SIZE - 1);
    assert_int_equal(parse(z, n, &err), ZS_E_FORMAT);
    assert_non_null(strstr(err.message, "holds 39 bytes"));
}

static void hostile_idx_headers_are_refused(void **state)
{
    (void)state;
    const struct {
        int at, value, status;
    } t[] = {{0, 1, ZS_E_FORMAT},      {1, 1, ZS_E_FORMAT},      {2, 0x0D, ZS_E_UNSUPPORTED},
             {3, 0, ZS_E_UNSUPPORTED}, {3, 4, ZS_E_UNSUPPORTED}, {7, 0, ZS_E_FORMAT},
             {4, 0xFF, ZS_E_FORMAT},   {7, 4, ZS_E_FORMAT}};
    zs_error err;
    uint8_t b[IDX_SIZE], z[256];
    for (size_t i = 0; i < COUNT(t); i++) {
        make_idx(b);
        b[t[i].at] = (uint8_t)t[i].value;
        assert_int_equal(parse(b, sizeof b, &err), t[i].status);
        assert_int_equal(parse(z, gzipped(z, sizeof z, b, sizeof b), &err), t[i].status);
    }
    /* 2^96 elements, and 2^60 that fit a size_t but not this file */
    for (int k = 0; k < 2; k++) {
        make_idx(b);
        for (int d = 0; d < 3; d++)
            memcpy(b + 4 + 4 * d, k ? "\0\x10\0\0" : "\xff\xff\xff\xff", 4);
        assert_int_equal(parse(b, sizeof b, &err), ZS_E_FORMAT);
        assert_int_equal(parse(z, gzipped(z, sizeof z, b, sizeof b), &err), ZS_E_FORMAT);
    }
}

static void labels_must_fit_their_images(void **state)
{
    (void)state;
    uint8_t b[IDX_SIZE];
    char spec[600];
    make_idx(b);
    kit_put(scratch_path("i"), b, sizeof b);
    kit_put(scratch_path("short"), "\0\0\10\1\0\0\0\2\0\1", 10);
    kit_put(scratch_path("l"), idx_labels, sizeof idx_labels);
    snprintf(spec, sizeof spec, "idx:%s/i,%s/short", scratch_dir(), scratch_dir());
    kit_source_refused(spec, ZS_E_FORMAT, "2 labels");
    snprintf(spec, sizeof spec, "idx:%s/i,%s/none", scratch_dir(), scratch_dir());
    kit_source_refused(spec, ZS_E_IO, "none");
    snprintf(spec, sizeof spec, "idx:%s/i,%s/i", scratch_dir(), scratch_dir());
    kit_source_refused(spec, ZS_E_FORMAT, "3 dimensions");
    snprintf(spec, sizeof spec, "idx:%s/l", scratch_dir());
    kit_source_refused(spec, ZS_E_FORMAT, "1-dimensional");
}

/* A stand-in for the data set in $ZSEM_DATASETS, so that the test needs no package. */
static void fashion_mnist_is_found_in_the_environment(void **state)
{
    (void)state;
    uint8_t b[IDX_SIZE], labels[11], z[256];
    make_idx(b);
    memcpy(labels, idx_labels, 11);
    labels[8] = 9;
    assert_int_equal(zs_mkdirs(scratch_path("fashion-mnist"), NULL), ZS_OK);
    kit_put(scratch_path("fashion-mnist/t10k-images-idx3-ubyte"), b, sizeof b);
    size_t n = gzipped(z, sizeof z, labels, sizeof labels);
    kit_put(scratch_path("fashion-mnist/t10k-labels-idx1-ubyte.gz"), z, n);
    setenv("ZSEM_DATASETS", scratch_dir(), 1);
    zs_source *s = kit_source("fashion-mnist:test");
    assert_int_equal(zs_source_count(s), 3);
    assert_int_equal(zs_source_class_count(s), 10);
    assert_int_equal(zs_source_label(s, 0), 9);
    assert_string_equal(zs_source_class_name(s, 0), "T-shirt/top");
    assert_string_equal(zs_source_class_name(s, 9), "Ankle boot");
    zs_source_close(&s);
    labels[8] = 10;
    kit_put(scratch_path("fashion-mnist/t10k-labels-idx1-ubyte.gz"), z,
            gzipped(z, sizeof z, labels, 11));
    kit_source_refused("fashion-mnist:test", ZS_E_FORMAT, "label 10 of image 0");
    unsetenv("ZSEM_DATASETS");
}

static void the_packaged_fashion_mnist_is_complete(void **state)
{
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", R_OK) != 0) {
        kit_source_refused("fashion-mnist", ZS_E_IO, "apt-get install dataset-fashion-mnist");
        print_message("SKIPPED: dataset-fashion-mnist is not installed\n");
        skip();
    }
    const char *const specs[] = {"fashion-mnist", "fashion-mnist:train", "fashion-mnist:test"};
    for (size_t k = 0; k < COUNT(specs); k++) {
        zs_source *s = kit_source(specs[k]);
        int64_t n = zs_source_count(s), seen[10] = {0};
        assert_int_equal(n, k < 2 ? 60000 : 10000);
        for (int64_t i = 0; i < n; i++)
            seen[zs_source_label(s, i)]++;
        for (int c = 0; c < 10; c++)
            assert_int_equal(seen[c], n / 10);
        zs_source_close(&s);
    }
}

/* share/images/NNNN-class.png is image NNNN of the test set. */
static void shipped_images_are_those_of_the_test_set(void **state)
{
    (void)state;
    zs_source *shipped = kit_source(ZSEM_SOURCE_DIR "/share/images");
    assert_int_equal(zs_source_count(shipped), 24);
    if (access("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz", R_OK) != 0) {
        zs_source_close(&shipped);
        print_message("SKIPPED: dataset-fashion-mnist is not installed\n");
        skip();
    }
    zs_source *set = kit_source("fashion-mnist:test");
    int seen[10] = {0};
    for (int64_t i = 0; i < 24; i++) {
        zs_image a, b;
        long at = strtol(zs_source_name(shipped, i, NULL, 0), NULL, 10);
        assert_int_equal(zs_source_read(shipped, i, 0, &a, NULL), ZS_OK);
        assert_int_equal(zs_source_read(set, at, 0, &b, NULL), ZS_OK);
        assert_true(a.w == 28 && a.h == 28 && a.c == 1);
        assert_memory_equal(a.px, b.px, 28 * 28);
        seen[zs_source_label(set, at)]++;
        zs_image_free(&a);
        zs_image_free(&b);
    }
    for (int k = 0; k < 10; k++)
        assert_in_range(seen[k], 2, 3);
    zs_source_close(&shipped);
    zs_source_close(&set);
}

/* Opens, reads one image and closes with the n-th allocation failing, for every n. */
static void sweep(const char *spec)
{
    int status = ZS_E_NOMEM;
    for (long n = 1; status < 0; n++) {
        zs_source *s = NULL;
        zs_image im = {0};
        zs_error err = {0};
        zs_alloc_fail_at(n);
        status = zs_source_open(&s, spec, &err);
        assert_true((s == NULL) == (status < 0));
        if (status == ZS_OK)
            status = zs_source_read(s, 0, 3, &im, &err);
        zs_alloc_fail_at(0);
        if (status != ZS_OK && status != ZS_E_NOMEM)
            fail_msg("%s, allocation %ld: %s", spec, n, err.message);
        assert_int_equal(err.status, status);
        zs_image_free(&im);
        zs_source_close(&s);
        assert_true(n < 2000);
    }
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    uint8_t b[IDX_SIZE], z[256];
    char spec[600];
    make_idx(b);
    kit_put(scratch_path("idx"), z, gzipped(z, sizeof z, b, sizeof b));
    kit_put(scratch_path("labels"), idx_labels, sizeof idx_labels);
    snprintf(spec, sizeof spec, "idx:%s/idx,%s/labels", scratch_dir(), scratch_dir());
    sweep(spec);
    write_image("tree/a/1.png", 1);
    for (char c = 'a'; c < 'z'; c++) {
        char name[32];
        snprintf(name, sizeof name, "tree/%c/2.png", c);
        write_image(name, 1);
    }
    sweep(scratch_path("tree"));
    sweep(scratch_path("tree/a/1.png"));
}

#define FRESH(f) cmocka_unit_test_setup_teardown(f, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(folders_are_listed_bytewise_with_classes),
        FRESH(link_loops_end_and_folders_count_once),
        FRESH(many_folders_are_found),
        FRESH(empty_folders_say_what_is_read),
        FRESH(one_image_file_is_a_source),
        FRESH(unknown_specs_are_explained),
        FRESH(images_that_do_not_exist_are_refused),
        FRESH(fingerprints_follow_names_and_sizes),
        FRESH(idx_files_are_read_plain_and_compressed),
        cmocka_unit_test(damaged_idx_is_refused),
        cmocka_unit_test(hostile_idx_headers_are_refused),
        FRESH(labels_must_fit_their_images),
        FRESH(fashion_mnist_is_found_in_the_environment),
        cmocka_unit_test(the_packaged_fashion_mnist_is_complete),
        cmocka_unit_test(shipped_images_are_those_of_the_test_set),
        FRESH(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
