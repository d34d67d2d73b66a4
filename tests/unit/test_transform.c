/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/data.h"
#include "tests/unit/image_cases.h"

#include <math.h>
#include <string.h>
#include <zlib.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* The pattern of scripts/make-image-fixtures.py. */
static zs_image pattern(int w, int h, int c, uint32_t seed)
{
    zs_image im;
    assert_int_equal(zs_image_alloc(&im, w, h, c, NULL), ZS_OK);
    for (size_t i = 0; i < (size_t)w * (size_t)h * (size_t)c; i++) {
        seed = seed * 1664525u + 1013904223u;
        im.px[i] = (uint8_t)(seed >> 24);
    }
    return im;
}

static unsigned long crc(const zs_image *im)
{
    return crc32(0, im->px, (uInt)((size_t)im->w * (size_t)im->h * (size_t)im->c));
}

static void resize_is_bit_exact_with_pil(void **state)
{
    (void)state;
    (void)file_cases;
    for (size_t i = 0; i < COUNT(resize_cases); i++) {
        const struct resize_case *t = &resize_cases[i];
        zs_image in = pattern(t->w, t->h, t->c, (uint32_t)t->seed), out;
        zs_error err = {0};
        assert_int_equal(zs_image_resize(&out, &in, t->out_w, t->out_h, &err), ZS_OK);
        assert_int_equal(out.w, t->out_w);
        assert_int_equal(out.h, t->out_h);
        if (crc(&out) != t->crc)
            fail_msg("%d x %d x %d to %d x %d differs from PIL", t->w, t->h, t->c, t->out_w,
                     t->out_h);
        zs_image_free(&out);
        zs_image_free(&in);
    }
}

static void resize_crop_is_bit_exact_with_torchvision(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(crop_cases); i++) {
        const struct resize_case *t = &crop_cases[i];
        zs_image in = pattern(t->w, t->h, t->c, (uint32_t)t->seed), out;
        zs_error err = {0};
        assert_int_equal(zs_image_resize_crop(&out, &in, t->out_w, &err), ZS_OK);
        assert_int_equal(out.w, t->out_w);
        assert_int_equal(out.h, t->out_w);
        if (crc(&out) != t->crc)
            fail_msg("%d x %d x %d cropped to %d differs from PIL", t->w, t->h, t->c, t->out_w);
        zs_image_free(&out);
        zs_image_free(&in);
    }
}

/* Only the window that is kept may cost memory: 64 x 6.4 million pixels would not. */
static void very_long_images_crop_cheaply(void **state)
{
    (void)state;
    zs_image in = pattern(1, 100000, 1, 1), out;
    zs_error err = {0};
    assert_int_equal(zs_image_resize_crop(&out, &in, 64, &err), ZS_OK);
    /* The middle 64 of the 6.4 million rows lie between two input rows. */
    int a = in.px[49999], b = in.px[50000];
    for (int y = 0; y < 64; y++) {
        double u = ((double)y + 0.5) / 64.0;
        assert_true(fabs(out.px[y * 64 + 5] - ((1.0 - u) * a + u * b)) <= 0.75);
    }
    zs_image_free(&out);
    zs_image_free(&in);
}

static void a_constant_image_stays_constant(void **state)
{
    (void)state;
    for (int v = 0; v < 256; v += 51) {
        zs_image in = pattern(37, 23, 3, 1), out;
        memset(in.px, v, 37 * 23 * 3);
        assert_int_equal(zs_image_resize(&out, &in, 11, 40, NULL), ZS_OK);
        for (int i = 0; i < 11 * 40 * 3; i++)
            assert_int_equal(out.px[i], v);
        zs_image_free(&out);
        zs_image_free(&in);
    }
}

static void pad_centres_without_scaling(void **state)
{
    (void)state;
    zs_image in = pattern(28, 27, 3, 4), out;
    assert_int_equal(zs_image_fit(&out, &in, 32, ZS_FIT_PAD, NULL), ZS_OK);
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 32; x++)
            for (int k = 0; k < 3; k++) {
                bool inside = x >= 2 && x < 30 && y >= 2 && y < 29;
                int want = inside ? in.px[((y - 2) * 28 + x - 2) * 3 + k] : 0;
                assert_int_equal(out.px[(y * 32 + x) * 3 + k], want);
            }
    zs_image_free(&out);
    zs_image_free(&in);
}

static void pad_crops_what_is_larger(void **state)
{
    (void)state;
    zs_image in = pattern(40, 20, 1, 4), a, b;
    assert_int_equal(zs_image_fit(&a, &in, 32, ZS_FIT_PAD, NULL), ZS_OK);
    assert_int_equal(zs_image_resize_crop(&b, &in, 32, NULL), ZS_OK);
    assert_memory_equal(a.px, b.px, 32 * 32);
    zs_image_free(&a);
    zs_image_free(&b);
    zs_image_free(&in);
}

static void flip_mirrors_and_undoes_itself(void **state)
{
    (void)state;
    for (int w = 1; w <= 5; w++) {
        zs_image a = pattern(w, 3, 3, 1), b = pattern(w, 3, 3, 1);
        zs_image_flip(&b);
        for (int y = 0; y < 3; y++)
            for (int x = 0; x < w; x++)
                assert_memory_equal(a.px + (y * w + x) * 3, b.px + (y * w + w - 1 - x) * 3, 3);
        zs_image_flip(&b);
        assert_memory_equal(a.px, b.px, (size_t)w * 9);
        zs_image_free(&a);
        zs_image_free(&b);
    }
}

static void floats_are_those_of_torchvision_and_come_back(void **state)
{
    (void)state;
    zs_image in, out;
    float x[256];
    assert_int_equal(zs_image_alloc(&in, 256, 1, 1, NULL), ZS_OK);
    for (int i = 0; i < 256; i++)
        in.px[i] = (uint8_t)i;
    zs_image_to_float(x, &in);
    assert_true(x[0] == -1.0f && x[255] == 1.0f);
    /* ToTensor and Normalize(0.5, 0.5) of 1, 100 and 254 in torch */
    assert_true(x[1] == -0x1.fbfbfcp-1f && x[100] == -0x1.b9b9b8p-3f && x[254] == 0x1.fbfbfcp-1f);
    assert_int_equal(zs_image_from_float(&out, x, 1, 256, 1, NULL), ZS_OK);
    assert_memory_equal(in.px, out.px, 256);
    zs_image_free(&in);
    zs_image_free(&out);
}

static void floats_outside_the_range_are_clamped(void **state)
{
    (void)state;
    const float x[6] = {-2.0f, 2.0f, NAN, INFINITY, -INFINITY, 0.0f};
    const uint8_t want[6] = {0, 255, 0, 255, 0, 128};
    zs_image out;
    assert_int_equal(zs_image_from_float(&out, x, 2, 1, 3, NULL), ZS_OK);
    assert_memory_equal(out.px, want, 6);
    zs_image_free(&out);
}

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    zs_image in = pattern(4, 4, 1, 1), out;
    zs_error err = {0};
    assert_int_equal(zs_image_resize(&out, &in, 0, 4, &err), ZS_E_FORMAT);
    assert_null(out.px);
    assert_int_equal(zs_image_resize(&out, &in, 1 << 20, 1 << 20, NULL), ZS_E_UNSUPPORTED);
    assert_int_equal(zs_image_resize_crop(&out, &in, 0, NULL), ZS_E_INVALID);
    assert_int_equal(zs_image_resize_crop(&out, &in, 1 << 20, NULL), ZS_E_INVALID);
    zs_image_free(&in);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    zs_image in = pattern(9, 7, 3, 1), out;
    int status = ZS_E_NOMEM;
    for (long n = 1; status == ZS_E_NOMEM; n++) {
        zs_error err = {0};
        zs_alloc_fail_at(n);
        status = zs_image_resize_crop(&out, &in, 5, &err);
        zs_alloc_fail_at(0);
        assert_int_equal(err.status, status);
        assert_true((out.px == NULL) == (status < 0));
        assert_true(n < 100);
    }
    assert_int_equal(status, ZS_OK);
    zs_image_free(&out);
    zs_image_free(&in);
}

static void grids_place_pad_and_zoom(void **state)
{
    (void)state;
    zs_image im[3], g;
    for (int i = 0; i < 3; i++)
        im[i] = pattern(2, 3, 3, (uint32_t)i + 1);
    assert_int_equal(zs_grid_make(&g, im, 3, 2, 1, 2, NULL), ZS_OK);
    assert_int_equal(g.w, 2 * (2 * 2 + 1) + 1);
    assert_int_equal(g.h, 2 * (3 * 2 + 1) + 1);
    for (int y = 0; y < g.h; y++)
        for (int x = 0; x < g.w; x++) {
            int tx = (x - 1) / 5, ty = (y - 1) / 7, ix = (x - 1) % 5, iy = (y - 1) % 7;
            bool pad = x == 0 || y == 0 || ix == 4 || iy == 6 || ty * 2 + tx > 2;
            for (int k = 0; k < 3; k++) {
                int want = pad ? 128 : im[ty * 2 + tx].px[((iy / 2) * 2 + ix / 2) * 3 + k];
                assert_int_equal(g.px[(y * g.w + x) * 3 + k], want);
            }
        }
    zs_image_free(&g);
    /* Fewer images than columns make no empty columns. */
    assert_int_equal(zs_grid_make(&g, im, 2, 8, 0, 1, NULL), ZS_OK);
    assert_int_equal(g.w, 4);
    zs_image_free(&g);
    for (int i = 0; i < 3; i++)
        zs_image_free(&im[i]);
}

static void bad_grids_are_refused(void **state)
{
    (void)state;
    zs_image im[2] = {pattern(2, 2, 1, 1), pattern(2, 3, 1, 1)}, g;
    assert_int_equal(zs_grid_make(&g, im, 2, 2, 1, 1, NULL), ZS_E_INVALID); /* unequal */
    assert_int_equal(zs_grid_make(&g, im, 0, 2, 1, 1, NULL), ZS_E_INVALID);
    assert_int_equal(zs_grid_make(&g, im, 1, 0, 1, 1, NULL), ZS_E_INVALID);
    assert_int_equal(zs_grid_make(&g, im, 1, 1, -1, 1, NULL), ZS_E_INVALID);
    assert_int_equal(zs_grid_make(&g, im, 1, 1, 1, 0, NULL), ZS_E_INVALID);
    assert_true(zs_grid_make(&g, im, 1, 1, 1 << 30, 1 << 30, NULL) < 0);
    assert_int_equal(zs_grid_zoom(8), 4);
    assert_int_equal(zs_grid_zoom(64), 2);
    assert_int_equal(zs_grid_zoom(256), 1);
    assert_null(g.px);
    zs_image_free(&im[0]);
    zs_image_free(&im[1]);
}

static void a_grid_of_floats_is_the_grid_of_their_images(void **state)
{
    (void)state;
    zs_image im[4], a, b;
    float x[4 * 5 * 6 * 3];
    for (int i = 0; i < 4; i++) {
        im[i] = pattern(6, 5, 3, (uint32_t)i + 9);
        zs_image_to_float(x + i * 5 * 6 * 3, &im[i]);
    }
    assert_int_equal(zs_grid_from_float(&a, x, 4, 5, 6, 3, 3, 2, NULL), ZS_OK);
    assert_int_equal(zs_grid_make(&b, im, 4, 3, 2, 2, NULL), ZS_OK);
    assert_int_equal(a.w, b.w);
    assert_int_equal(a.h, b.h);
    assert_memory_equal(a.px, b.px, (size_t)a.w * (size_t)a.h * 3);
    zs_image_free(&a);
    zs_image_free(&b);
    for (int i = 0; i < 4; i++)
        zs_image_free(&im[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize_is_bit_exact_with_pil),
        cmocka_unit_test(resize_crop_is_bit_exact_with_torchvision),
        cmocka_unit_test(very_long_images_crop_cheaply),
        cmocka_unit_test(a_constant_image_stays_constant),
        cmocka_unit_test(pad_centres_without_scaling),
        cmocka_unit_test(pad_crops_what_is_larger),
        cmocka_unit_test(flip_mirrors_and_undoes_itself),
        cmocka_unit_test(floats_are_those_of_torchvision_and_come_back),
        cmocka_unit_test(floats_outside_the_range_are_clamped),
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(grids_place_pad_and_zoom),
        cmocka_unit_test(bad_grids_are_refused),
        cmocka_unit_test(a_grid_of_floats_is_the_grid_of_their_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
