/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "io/io.h"
#include "tests/unit/image_cases.h"
#include "tests/unit/must.h"

#include <jpeglib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define CORPUS ZSEM_SOURCE_DIR "/tests/fuzz/corpus/image/"

/* An owned copy of a file, exactly as large as its content so that over-reads are seen. */
typedef struct bytes {
    uint8_t *p;
    size_t n;
} bytes;

static bytes load(const char *name)
{
    char path[512];
    zs_mapfile m = {0};
    zs_error err = {0};
    snprintf(path, sizeof path, CORPUS "%s", name);
    must(zs_mapfile_open(&m, path, &err), &err);
    bytes b = {malloc(m.n), m.n};
    memcpy(b.p, m.p, m.n);
    zs_mapfile_close(&m);
    return b;
}

static unsigned long crc(const zs_image *im)
{
    return crc32(0, im->px, (uInt)((size_t)im->w * (size_t)im->h * (size_t)im->c));
}

/* A failure must leave no image, and exactly one sentence that names the file. */
static void assert_failed(int status, const zs_image *im, const zs_error *err)
{
    assert_true(status < 0);
    assert_int_equal(err->status, status);
    assert_null(im->px);
    if (status != ZS_E_NOMEM)
        assert_non_null(strstr(err->message, "f.img"));
}

static int read_as(zs_image *im, const bytes *b, int channels, zs_error *err)
{
    *err = (zs_error){0};
    return zs_image_read_bytes(im, "f.img", b->p, b->n, channels, err);
}

static void expect(const bytes *b, int status, const char *words)
{
    zs_image im;
    zs_error err;
    int got = read_as(&im, b, 3, &err);
    assert_failed(got, &im, &err);
    if (got != status || !strstr(err.message, words))
        fail_msg("status %d, \"%s\"; want %d, \"%s\"", got, err.message, status, words);
}

static void every_kind_reads_as_pil_does(void **state)
{
    (void)state;
    (void)resize_cases;
    (void)crop_cases;
    for (size_t i = 0; i < COUNT(file_cases); i++) {
        const struct file_case *t = &file_cases[i];
        bytes b = load(t->name);
        for (int channels = 0; channels <= 3; channels += channels ? 2 : 1) {
            zs_image im;
            zs_error err;
            if (read_as(&im, &b, channels, &err) < 0)
                fail_msg("%s", err.message);
            assert_int_equal(im.c, channels ? channels : t->c);
            assert_true(im.w == t->w && im.h == t->h);
            if (crc(&im) != (im.c == 3 ? t->rgb : t->grey))
                fail_msg("%s as %d channels differs from PIL", t->name, channels);
            zs_image_free(&im);
        }
        free(b.p);
    }
}

static void probe_needs_the_header_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(file_cases); i++) {
        const struct file_case *t = &file_cases[i];
        char path[512];
        zs_image im;
        zs_error err = {0};
        snprintf(path, sizeof path, CORPUS "%s", t->name);
        assert_int_equal(zs_image_probe(&im, path, &err), ZS_OK);
        assert_true(im.w == t->w && im.h == t->h && im.c == t->c);
        assert_null(im.px);
    }
}

static void cut_files_are_refused_at_every_length(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(file_cases); i++) {
        bytes whole = load(file_cases[i].name);
        for (size_t n = 0; n < whole.n; n++) {
            bytes part = {malloc(n ? n : 1), n};
            memcpy(part.p, whole.p, n);
            zs_image im;
            zs_error err;
            int status = read_as(&im, &part, 0, &err);
            if (status != ZS_E_FORMAT)
                fail_msg("%s cut to %zu bytes: status %d", file_cases[i].name, n, status);
            assert_failed(status, &im, &err);
            free(part.p);
        }
        free(whole.p);
    }
}

static void flipped_bits_never_crash(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(file_cases); i++) {
        bytes b = load(file_cases[i].name);
        for (size_t at = 0; at < 2 * b.n; at++) {
            uint8_t mask = at < b.n ? (uint8_t)(1u << at % 8) : 0xFF;
            b.p[at % b.n] ^= mask;
            zs_image im;
            zs_error err;
            int status = read_as(&im, &b, 0, &err);
            if (status < 0)
                assert_failed(status, &im, &err);
            else
                assert_true(im.px && im.w > 0 && im.h > 0 && (im.c == 1 || im.c == 3));
            zs_image_free(&im);
            b.p[at % b.n] ^= mask;
        }
        free(b.p);
    }
}

static void what_is_no_image_is_named(void **state)
{
    (void)state;
    const struct {
        const char *p;
        size_t n;
        const char *words;
    } t[] = {
        {"", 0, "is empty"},
        {"x", 1, "not a PNG, JPEG or WebP"},
        {"hello, world\n", 13, "not a PNG, JPEG or WebP"},
        {"GIF89a......", 12, "a GIF image"},
        {"BM..........", 12, "a BMP image"},
        {"II*\0........", 12, "a TIFF image"},
        {"\0\0\0\x1c"
         "ftypheic",
         12, "HEIC"},
        {"PK\3\4........", 12, "a zip archive"},
        {"\x89PNG\r\n\x1a\n", 8, "PNG image is truncated"},
        {"\xff\xd8\xff\xe0", 4, "JPEG image is"},
        {"RIFF\0\0\0\0WEBP", 12, "WebP image is"},
    };
    for (size_t i = 0; i < COUNT(t); i++) {
        bytes b = {malloc(t[i].n + 1), t[i].n};
        memcpy(b.p, t[i].p, t[i].n);
        expect(&b, ZS_E_FORMAT, t[i].words);
        free(b.p);
    }
}

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* rgb.png with another size and a correct header checksum */
static bytes sized_png(uint32_t w, uint32_t h)
{
    bytes b = load("rgb.png");
    put_be32(b.p + 16, w);
    put_be32(b.p + 20, h);
    put_be32(b.p + 29, (uint32_t)crc32(0, b.p + 12, 17));
    return b;
}

static bytes sized_jpeg(const char *name, unsigned w, unsigned h)
{
    bytes b = load(name);
    for (size_t i = 2; i + 9 < b.n; i += 2 + (size_t)(b.p[i + 2] << 8 | b.p[i + 3]))
        if (b.p[i + 1] == 0xC0 || b.p[i + 1] == 0xC2) {
            b.p[i + 5] = (uint8_t)(h >> 8);
            b.p[i + 6] = (uint8_t)h;
            b.p[i + 7] = (uint8_t)(w >> 8);
            b.p[i + 8] = (uint8_t)w;
            return b;
        }
    fail_msg("%s has no frame header", name);
    return b;
}

static void bombs_are_refused_from_the_header(void **state)
{
    (void)state;
    const uint32_t big[][2] = {{0x7fffffff, 0x7fffffff}, {16385, 16384}, {1, 0x10000001}};
    for (size_t i = 0; i < COUNT(big); i++) {
        bytes b = sized_png(big[i][0], big[i][1]);
        expect(&b, ZS_E_UNSUPPORTED, "scale the image down");
        free(b.p);
    }
    bytes b = sized_jpeg("rgb.jpg", 65535, 65535);
    expect(&b, ZS_E_UNSUPPORTED, "65500 pixels");
    free(b.p);
    b = sized_jpeg("rgb.jpg", 65500, 65500);
    expect(&b, ZS_E_UNSUPPORTED, "scale the image down");
    free(b.p);
}

/* Sizes within the limit that the few bytes cannot possibly fill cost no pixels either. */
static void sizes_beyond_the_data_allocate_nothing(void **state)
{
    (void)state;
    bytes b[3] = {sized_png(16384, 16384), sized_jpeg("rgb.jpg", 16000, 16000),
                  sized_jpeg("progressive.jpg", 16000, 16000)};
    for (size_t i = 0; i < COUNT(b); i++) {
        double t = zs_clock_now();
        expect(&b[i], ZS_E_FORMAT, i == 0 ? "too few bytes" : "is truncated");
        assert_true(zs_clock_now() - t < 1.0);
        free(b[i].p);
    }
    bytes none = sized_png(0, 5);
    expect(&none, ZS_E_FORMAT, "f.img");
    free(none.p);
}

static void ten_thousand_squared_is_fine(void **state)
{
    (void)state;
    zs_image in, out;
    bytes b;
    zs_error err = {0};
    assert_int_equal(zs_image_alloc(&in, 10000, 10000, 1, &err), ZS_OK);
    memset(in.px, 9, (size_t)in.w * (size_t)in.h);
    in.px[12345678] = 200;
    assert_int_equal(zs_image_encode_png(&b.p, &b.n, &in, &err), ZS_OK);
    assert_int_equal(read_as(&out, &b, 0, &err), ZS_OK);
    assert_memory_equal(in.px, out.px, (size_t)in.w * (size_t)in.h);
    zs_image_free(&in);
    zs_image_free(&out);
    zs_free(b.p);
}

static void start_jpeg(struct jpeg_compress_struct *c, struct jpeg_error_mgr *e, bytes *b,
                       unsigned long *n, int components, J_COLOR_SPACE in)
{
    c->err = jpeg_std_error(e);
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &b->p, n);
    c->image_width = 16;
    c->image_height = 16;
    c->input_components = components;
    c->in_color_space = in;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, 100, TRUE);
}

/* One flat colour; Adobe stores four components inverted. */
static bytes flat_jpeg(int components, J_COLOR_SPACE in, J_COLOR_SPACE stored, const uint8_t *px)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr e;
    bytes b = {NULL, 0};
    unsigned long n = 0;
    uint8_t row[16 * 4];
    JSAMPROW rows[1] = {row};
    for (int i = 0; i < 16 * components; i++)
        row[i] = px[i % components];
    start_jpeg(&c, &e, &b, &n, components, in);
    jpeg_set_colorspace(&c, stored);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height)
        jpeg_write_scanlines(&c, rows, 1);
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    b.n = n;
    return b;
}

static void four_component_jpegs_are_adobe_cmyk(void **state)
{
    (void)state;
    const uint8_t ink[4] = {255 - 40, 255 - 90, 255 - 200,
                            255 - 30}; /* c, m, y, k = 40 90 200 30 */
    const J_COLOR_SPACE stored[] = {JCS_CMYK, JCS_YCCK};
    for (size_t i = 0; i < COUNT(stored); i++) {
        bytes b = flat_jpeg(4, JCS_CMYK, stored[i], ink);
        zs_image im;
        zs_error err;
        assert_int_equal(read_as(&im, &b, 0, &err), ZS_OK);
        assert_int_equal(im.c, 3);
        for (int k = 0; k < 3; k++) {
            int want = 225 - ((255 - ink[k]) * 225 + 127) / 255;
            assert_true(abs(im.px[k] - want) <= 2);
        }
        zs_image_free(&im);
        free(b.p);
    }
}

static void two_component_jpegs_are_unsupported(void **state)
{
    (void)state;
    const uint8_t px[2] = {10, 20};
    bytes b = flat_jpeg(2, JCS_UNKNOWN, JCS_UNKNOWN, px);
    expect(&b, ZS_E_UNSUPPORTED, "2 components");
    free(b.p);
}

static void jpegs_stored_as_rgb_are_read(void **state)
{
    (void)state;
    const uint8_t px[3] = {200, 30, 90};
    bytes b = flat_jpeg(3, JCS_RGB, JCS_RGB, px);
    zs_image im;
    zs_error err;
    assert_int_equal(read_as(&im, &b, 0, &err), ZS_OK);
    for (int k = 0; k < 3; k++)
        assert_true(abs(im.px[k] - px[k]) <= 1);
    zs_image_free(&im);
    free(b.p);
}

/* A scan that covers nothing new costs a pass over the whole picture. */
static void endless_progressive_scans_are_refused(void **state)
{
    (void)state;
    bytes b = load("progressive.jpg");
    size_t scan = 0;
    for (size_t i = 0; i + 1 < b.n; i++)
        if (b.p[i] == 0xFF && b.p[i + 1] == 0xDA)
            scan = i; /* the last one */
    assert_true(scan > 0);
    size_t n = b.n - 2 - scan;
    bytes many = {malloc(b.n + 2000 * n), scan};
    memcpy(many.p, b.p, scan);
    for (int i = 0; i < 1000; i++, many.n += n)
        memcpy(many.p + many.n, b.p + scan, n);
    memcpy(many.p + many.n, "\xff\xd9", 2);
    many.n += 2;
    expect(&many, ZS_E_FORMAT, "number of scans");
    free(many.p);
    free(b.p);
}

static void bytes_behind_the_image_do_not_matter(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(file_cases); i++) {
        bytes b = load(file_cases[i].name);
        b.p = realloc(b.p, b.n + 7);
        memcpy(b.p + b.n, "garbage", 7);
        b.n += 7;
        zs_image im;
        zs_error err;
        if (read_as(&im, &b, 3, &err) < 0)
            fail_msg("%s: %s", file_cases[i].name, err.message);
        assert_true(crc(&im) == file_cases[i].rgb);
        zs_image_free(&im);
        free(b.p);
    }
}

static void written_pngs_come_back(void **state)
{
    (void)state;
    for (int c = 1; c <= 3; c += 2)
        for (int w = 1; w <= 9; w += 4) {
            zs_image in, out;
            zs_error err = {0};
            bytes b;
            assert_int_equal(zs_image_alloc(&in, w, 5, c, &err), ZS_OK);
            for (int i = 0; i < w * 5 * c; i++)
                in.px[i] = (uint8_t)(i * 37);
            assert_int_equal(zs_image_encode_png(&b.p, &b.n, &in, &err), ZS_OK);
            assert_int_equal(read_as(&out, &b, 0, &err), ZS_OK);
            assert_true(out.w == w && out.h == 5 && out.c == c);
            assert_memory_equal(in.px, out.px, (size_t)(w * 5 * c));
            zs_image_free(&in);
            zs_image_free(&out);
            zs_free(b.p);
        }
}

static void files_that_cannot_be_opened_or_written_say_why(void **state)
{
    (void)state;
    char dir[] = "/tmp/zsem-image-XXXXXX", path[64];
    zs_image im, one;
    zs_error err = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(zs_image_alloc(&one, 2, 2, 1, NULL), ZS_OK);
    memset(one.px, 1, 4);

    must_refuse(zs_image_read(&im, dir, 0, &err), &err, ZS_E_IO, dir);
    snprintf(path, sizeof path, "%s/f.img", dir);
    err = (zs_error){0};
    assert_failed(zs_image_read(&im, path, 0, &err), &im, &err);
    assert_int_equal(err.status, ZS_E_IO);
    err = (zs_error){0};
    assert_int_equal(zs_image_probe(&im, path, &err), ZS_E_IO);

    assert_int_equal(zs_file_write(path, "", 0, NULL), ZS_OK);
    assert_int_equal(zs_image_read(&im, path, 0, NULL), ZS_E_FORMAT);
    assert_int_equal(zs_image_write_png(path, &one, NULL), ZS_OK);
    assert_int_equal(zs_image_read(&im, path, 0, NULL), ZS_OK);
    zs_image_free(&im);
    assert_int_equal(unlink(path), 0);

    snprintf(path, sizeof path, "%s/none/f.png", dir);
    assert_int_equal(zs_image_write_png(path, &one, NULL), ZS_E_IO);
    zs_image_free(&one);
    assert_int_equal(zs_image_encode_png(&one.px, &(size_t){0}, &one, NULL), ZS_E_INVALID);
    assert_int_equal(rmdir(dir), 0); /* nothing was left behind */
}

static void only_zero_one_or_three_channels_exist(void **state)
{
    (void)state;
    bytes b = load("rgb.png");
    for (int c = -1; c <= 5; c++) {
        zs_image im;
        zs_error err;
        int status = read_as(&im, &b, c, &err);
        assert_int_equal(status, c == 0 || c == 1 || c == 3 ? ZS_OK : ZS_E_INVALID);
        zs_image_free(&im);
    }
    free(b.p);
}

static void names_are_recognised_in_any_case(void **state)
{
    (void)state;
    const char *const yes[] = {"a.png", "a.PNG", "b/c.jpg", "x.JpEg", "d.webp", "a.b.jpeg"};
    const char *const no[] = {"", "png", ".png", "a.gif", "a.png.txt", "ajpg", "a.pn"};
    for (size_t i = 0; i < COUNT(yes); i++)
        assert_true(zs_image_name(yes[i]));
    for (size_t i = 0; i < COUNT(no); i++)
        assert_false(zs_image_name(no[i]));
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(file_cases); i++) {
        bytes b = load(file_cases[i].name);
        int status = ZS_E_NOMEM;
        for (long n = 1; status < 0; n++) {
            zs_image im;
            zs_error err;
            zs_alloc_fail_at(n);
            /* the other number of channels: the conversion allocates too */
            status = read_as(&im, &b, file_cases[i].c == 3 ? 1 : 3, &err);
            zs_alloc_fail_at(0);
            if (status < 0)
                assert_failed(status, &im, &err);
            if (status != ZS_OK && status != ZS_E_NOMEM)
                fail_msg("%s, allocation %ld: %s", file_cases[i].name, n, err.message);
            zs_image_free(&im);
            assert_true(n < 1000);
        }
        free(b.p);
    }
}

static void writing_survives_every_failed_allocation(void **state)
{
    (void)state;
    zs_image im;
    assert_int_equal(zs_image_alloc(&im, 40, 30, 3, NULL), ZS_OK);
    memset(im.px, 5, 40 * 30 * 3);
    int status = ZS_E_NOMEM;
    for (long n = 1; status < 0; n++) {
        bytes b;
        zs_error err = {0};
        zs_alloc_fail_at(n);
        status = zs_image_encode_png(&b.p, &b.n, &im, &err);
        zs_alloc_fail_at(0);
        assert_true(status == ZS_OK || (status == ZS_E_NOMEM && b.p == NULL));
        assert_int_equal(err.status, status);
        zs_free(b.p);
        assert_true(n < 1000);
    }
    zs_image_free(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_reads_as_pil_does),
        cmocka_unit_test(probe_needs_the_header_only),
        cmocka_unit_test(cut_files_are_refused_at_every_length),
        cmocka_unit_test(flipped_bits_never_crash),
        cmocka_unit_test(what_is_no_image_is_named),
        cmocka_unit_test(bombs_are_refused_from_the_header),
        cmocka_unit_test(sizes_beyond_the_data_allocate_nothing),
        cmocka_unit_test(ten_thousand_squared_is_fine),
        cmocka_unit_test(four_component_jpegs_are_adobe_cmyk),
        cmocka_unit_test(two_component_jpegs_are_unsupported),
        cmocka_unit_test(jpegs_stored_as_rgb_are_read),
        cmocka_unit_test(endless_progressive_scans_are_refused),
        cmocka_unit_test(bytes_behind_the_image_do_not_matter),
        cmocka_unit_test(written_pngs_come_back),
        cmocka_unit_test(files_that_cannot_be_opened_or_written_say_why),
        cmocka_unit_test(only_zero_one_or_three_channels_exist),
        cmocka_unit_test(names_are_recognised_in_any_case),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(writing_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
