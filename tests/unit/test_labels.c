/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/must.h"
#include "tests/unit/scratch.h"
#include "tests/unit/source_kit.h"

#include <string.h>
#include <unistd.h>

static zs_source *folder, *numbered;

static void put_image(const char *name)
{
    uint8_t px[1] = {0};
    const zs_image im = {1, 1, 1, px};
    assert_int_equal(zs_image_write_png(scratch_path("images/%s", name), &im, NULL), ZS_OK);
}

/* images/: 000001.png, x/same.png, y/same.png, z.jpg.png; and an IDX file of three. */
static int make_sources(void **state)
{
    static const uint8_t idx[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 7, 8, 9};
    char spec[600];
    if (scratch_make(state) != 0)
        return -1;
    zs_mkdirs(scratch_path("images/x"), NULL);
    zs_mkdirs(scratch_path("images/y"), NULL);
    put_image("000001.png");
    put_image("x/same.png");
    put_image("y/same.png");
    put_image("z.jpg.png");
    kit_put(scratch_path("three"), idx, sizeof idx);
    snprintf(spec, sizeof spec, "idx:%s/three", scratch_dir());
    folder = kit_source(scratch_path("images"));
    numbered = kit_source(spec);
    return 0;
}

static int remove_sources(void **state)
{
    zs_source_close(&folder);
    zs_source_close(&numbered);
    return scratch_remove(state);
}

static char told[2048]; /* all warnings of the last call */

static void on_log(void *ctx, zs_log_level level, const char *message)
{
    (void)ctx;
    (void)level;
    strncat(told, message, sizeof told - strlen(told) - 2);
    strcat(told, "\n");
}

static const zs_ui ui = {.log = on_log};

static zs_labels parse_ok(const char *text, const zs_source *s)
{
    zs_labels l;
    zs_error err = {0};
    told[0] = '\0';
    must(zs_labels_parse(&l, "f.csv", text, strlen(text), s, &ui, &err), &err);
    return l;
}

static void parse_fails(const char *text, int status, const char *words)
{
    zs_labels l;
    zs_error err = {0};
    assert_int_equal(zs_labels_parse(&l, "f.csv", text, strlen(text), folder, NULL, &err), status);
    assert_int_equal(err.status, status);
    assert_true(zs_str_starts(err.message, "f.csv: "));
    if (!strstr(err.message, words))
        fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    assert_null(l.value);
}

static void csv_is_joined_by_path_base_and_stem(void **state)
{
    (void)state;
    zs_labels l = parse_ok("\xEF\xBB\xBF"
                           "file,smile, \"a \"\"b\"\", c\"\r\n"
                           "000001.jpg,1,0\r\n"
                           "x/same.png,-1,\r\n\r\n"
                           "\"z.jpg.png\",0,1",
                           folder);
    assert_int_equal(l.images, 4);
    assert_int_equal(l.attrs, 2);
    assert_string_equal(l.names[1], "a \"b\", c");
    assert_int_equal(l.matched, 3);
    assert_int_equal(l.missing, 0);
    assert_false(l.exclusive);
    assert_int_equal(zs_labels_at(&l, 0, 0), ZS_LABEL_YES);
    assert_int_equal(zs_labels_at(&l, 1, 0), ZS_LABEL_NO);
    assert_int_equal(zs_labels_at(&l, 1, 1), ZS_LABEL_UNKNOWN);
    assert_int_equal(zs_labels_at(&l, 2, 0), ZS_LABEL_UNKNOWN);
    assert_int_equal(zs_labels_at(&l, 3, 1), ZS_LABEL_YES);
    assert_int_equal(l.yes[0], 1);
    assert_int_equal(l.no[0], 2);
    assert_int_equal(zs_labels_find(&l, "SMILE"), 0);
    assert_int_equal(zs_labels_find(&l, "frown"), -1);
    assert_non_null(strstr(told, "1 of 4 images have no labels"));
    zs_labels_close(&l);
    zs_labels_close(&l);
}

static void celeba_text_is_read(void **state)
{
    (void)state;
    zs_labels l = parse_ok("3\nSmiling  Young \n000001.jpg  1 -1\nother.jpg 1 1\n"
                           "y/same.png -1 -1\n",
                           folder);
    assert_int_equal(l.attrs, 2);
    assert_int_equal(l.missing, 1);
    assert_int_equal(zs_labels_at(&l, 0, 0), ZS_LABEL_YES);
    assert_int_equal(zs_labels_at(&l, 2, 0), ZS_LABEL_NO);
    assert_non_null(strstr(told, "1 of 3 rows name images that are not in the data"));
    assert_non_null(strstr(told, "1 of 2 attributes are the same for all images"));
    assert_non_null(strstr(told, "Young"));
    zs_labels_close(&l);
}

static void a_text_column_becomes_classes(void **state)
{
    (void)state;
    zs_labels l = parse_ok("f,kind\nx/same.png,10\ny/same.png,9\nz.jpg.png,\n", folder);
    assert_true(l.exclusive);
    assert_int_equal(l.attrs, 2);
    assert_string_equal(l.names[0], "9"); /* as numbers */
    assert_string_equal(l.names[1], "10");
    assert_int_equal(zs_labels_at(&l, 1, 1), ZS_LABEL_YES);
    assert_int_equal(zs_labels_at(&l, 1, 0), ZS_LABEL_NO);
    assert_int_equal(zs_labels_at(&l, 3, 0), ZS_LABEL_UNKNOWN);
    zs_labels_close(&l);
}

static void numbered_images_are_found_by_number(void **state)
{
    (void)state;
    zs_labels l = parse_ok("f,a\n#0,1\n00001.jpg,0\n2,1\n", numbered);
    assert_int_equal(l.matched, 3);
    assert_int_equal(zs_labels_at(&l, 1, 0), ZS_LABEL_NO);
    assert_string_equal(told, "");
    zs_labels_close(&l);
}

static void folders_are_classes(void **state)
{
    (void)state;
    zs_labels l;
    zs_error err = {0};
    assert_int_equal(zs_labels_from_classes(&l, folder, &err), ZS_OK);
    assert_true(l.exclusive);
    assert_int_equal(l.attrs, 2);
    assert_int_equal(zs_labels_at(&l, 0, 0), ZS_LABEL_UNKNOWN);
    assert_int_equal(zs_labels_at(&l, 1, 0), ZS_LABEL_YES);
    assert_int_equal(zs_labels_at(&l, 2, 0), ZS_LABEL_NO);
    zs_labels_close(&l);
    assert_int_equal(zs_labels_from_classes(&l, numbered, &err), ZS_E_INVALID);
}

static void bad_files_say_what_is_wrong(void **state)
{
    (void)state;
    parse_fails("", ZS_E_FORMAT, "is empty");
    parse_fails("file\na\n", ZS_E_FORMAT, "has no comma");
    parse_fails("f,a\n", ZS_E_FORMAT, "no rows");
    parse_fails("f,a\n000001,1,1\n", ZS_E_FORMAT, "line 2: has 3 columns where the header has 2");
    parse_fails("f,a\n\"x\n", ZS_E_FORMAT, "line 2: a quote is never closed");
    parse_fails("f,a\n\"x\"y,1\n", ZS_E_FORMAT, "line 2: text follows a closing quote");
    parse_fails("f,a,a\n000001,1,1\n", ZS_E_FORMAT, "two attributes are called \"a\"");
    parse_fails("f,a,\n000001,1,1\n", ZS_E_FORMAT, "attribute 2 has no name");
    parse_fails("f,a,b\n000001,nan,1\n", ZS_E_FORMAT, "line 2: \"nan\" is no value of a");
    parse_fails("f,a\nsame,1\n", ZS_E_FORMAT, "name of several images");
    parse_fails("f,a\n000001.png,1\n000001.jpg,1\n", ZS_E_FORMAT, "labelled before, in line 2");
    parse_fails("f,a\nq.png,1\n", ZS_E_INVALID, "none of its 1 rows names an image");
    parse_fails("9\nA B\n000001.png 1 1\n", ZS_E_FORMAT, "1 rows where its first line promises 9");
    parse_fails("1\nA B\n000001.png 1\n", ZS_E_FORMAT, "line 3: has 2 columns");
    parse_fails("f,a\nz.jpg.png,\nq.png,red\n", ZS_E_INVALID, "class of no image");
    zs_labels l;
    zs_error err = {0};
    assert_int_equal(zs_labels_parse(&l, "f", "a,b\0c", 5, folder, NULL, &err), ZS_E_FORMAT);
    zs_error io = {0};
    assert_int_equal(zs_labels_read(&l, "/nowhere.csv", folder, NULL, &io), ZS_E_IO);
}

static void out_of_memory_is_reported(void **state)
{
    (void)state;
    static const char *const texts[] = {"f,a\n000001,1\nx/same.png,0\n", "f,a\n000001,q\n"};
    for (int k = 0; k < 2; k++) {
        int status = ZS_E_NOMEM;
        for (long n = 1; status == ZS_E_NOMEM; n++) {
            zs_labels l;
            zs_error err = {0};
            zs_alloc_fail_at(n);
            status = zs_labels_parse(&l, "f", texts[k], strlen(texts[k]), folder, NULL, &err);
            zs_alloc_fail_at(0);
            assert_int_equal(err.status, status);
            zs_labels_close(&l);
            assert_true(n < 1000);
        }
        assert_int_equal(status, ZS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_is_joined_by_path_base_and_stem),
        cmocka_unit_test(celeba_text_is_read),
        cmocka_unit_test(a_text_column_becomes_classes),
        cmocka_unit_test(numbered_images_are_found_by_number),
        cmocka_unit_test(folders_are_classes),
        cmocka_unit_test(bad_files_say_what_is_wrong),
        cmocka_unit_test(out_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, make_sources, remove_sources);
}
