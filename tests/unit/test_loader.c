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

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { IMAGES = 23, SIDE = 4, PIXELS = SIDE * SIDE };

static const char *many, *single, *broken;

/* IDX of n images of 4x4; pixel 0 of image i is i, the others grow from left to right. */
static const char *write_idx(const char *name, uint8_t n)
{
    uint8_t b[16 + 255 * PIXELS] = {0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    for (int i = 0; i < n * PIXELS; i++)
        b[16 + i] = (uint8_t)(i % PIXELS ? i % SIDE * 50 : i / PIXELS);
    const char *path = scratch_path("%s", name);
    kit_put(path, b, 16 + (size_t)n * PIXELS);
    return path;
}

/* A folder of ten images, of which 3.png is damaged. */
static void write_broken(void)
{
    uint8_t px[PIXELS] = {0};
    zs_image im = {SIDE, SIDE, 1, px};
    broken = scratch_path("broken");
    assert_int_equal(zs_mkdirs(broken, NULL), ZS_OK);
    for (int i = 0; i < 10; i++) {
        const char *path = scratch_path("broken/%d.png", i);
        assert_int_equal(i == 3 ? zs_file_write(path, "damaged", 7, NULL)
                                : zs_image_write_png(path, &im, NULL),
                         ZS_OK);
    }
}

static int make_data(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    many = write_idx("many", IMAGES);
    single = write_idx("single", 1);
    write_broken();
    return 0;
}

static zs_source *source_of(const char *path, bool idx)
{
    char spec[600];
    snprintf(spec, sizeof spec, "%s%s", idx ? "idx:" : "", path);
    return kit_source(spec);
}

static zs_loader_config config(int batch, int threads, int prefetch)
{
    return (zs_loader_config){.batch = batch,
                              .size = SIDE + 1,
                              .channels = 1,
                              .fit = ZS_FIT_PAD,
                              .flip = 0.5,
                              .seed = 42,
                              .threads = threads,
                              .prefetch = prefetch};
}

enum { OUT = (SIDE + 1) * (SIDE + 1) };

/* Samples start .. start+n-1 as the loader delivers them: pixels and indices. */
static void collect(const zs_source *s, zs_loader_config c, int n, float *x, int64_t *index)
{
    zs_loader *l = NULL;
    zs_error err = {0};
    must(zs_loader_open(&l, s, &c, &err), &err);
    for (int done = 0; done < n; done += c.batch) {
        zs_batch b;
        must(zs_loader_next(l, &b, &err), &err);
        assert_int_equal(b.first, c.start + done);
        size_t m = (size_t)(n - done < c.batch ? n - done : c.batch);
        memcpy(x + (size_t)done * OUT, b.x, m * OUT * sizeof *x);
        memcpy(index + done, b.index, m * sizeof *index);
    }
    zs_loader_close(&l);
    zs_loader_close(&l); /* idempotent */
}

enum { N = 130 };

static void threads_prefetch_and_batches_change_nothing(void **state)
{
    (void)state;
    static float want[N * OUT], got[N * OUT];
    int64_t want_index[N], got_index[N];
    zs_source *s = source_of(many, true);
    collect(s, config(1, 1, 1), N, want, want_index);
    const int t[][3] = {{8, 1, 1}, {8, 4, 1}, {8, 4, 7}, {5, 2, 3}, {64, 4, 2}, {7, 16, 2}};
    for (size_t i = 0; i < COUNT(t); i++) {
        collect(s, config(t[i][0], t[i][1], t[i][2]), N, got, got_index);
        assert_memory_equal(want, got, sizeof want);
        assert_memory_equal(want_index, got_index, sizeof want_index);
    }
    zs_source_close(&s);
}

static void a_saved_position_resumes_exactly(void **state)
{
    (void)state;
    static float want[N * OUT], got[N * OUT];
    int64_t want_index[N], got_index[N];
    zs_source *s = source_of(many, true);
    collect(s, config(10, 2, 2), N, want, want_index);
    for (int start = 1; start < N; start += 37) {
        zs_loader_config c = config(9, 3, 2);
        c.start = start;
        collect(s, c, N - start, got, got_index);
        assert_memory_equal(want + start * OUT, got, (size_t)(N - start) * OUT * sizeof *want);
        assert_memory_equal(want_index + start, got_index,
                            (size_t)(N - start) * sizeof *want_index);
    }
    zs_source_close(&s);
}

static void samples_are_the_images_flipped_or_not(void **state)
{
    (void)state;
    static float x[N * OUT];
    int64_t index[N];
    int flips = 0;
    zs_source *s = source_of(many, true);
    collect(s, config(13, 2, 2), N, x, index);
    for (int k = 0; k < N; k++) {
        zs_image raw, fit;
        float plain[OUT], mirrored[OUT];
        assert_int_equal(index[k], zs_loader_sample_index(42, IMAGES, k));
        assert_int_equal(zs_source_read(s, index[k], 1, &raw, NULL), ZS_OK);
        assert_int_equal(zs_image_fit(&fit, &raw, SIDE + 1, ZS_FIT_PAD, NULL), ZS_OK);
        zs_image_to_float(plain, &fit);
        zs_image_flip(&fit);
        zs_image_to_float(mirrored, &fit);
        bool flipped = memcmp(x + k * OUT, mirrored, sizeof mirrored) == 0;
        assert_true(flipped || memcmp(x + k * OUT, plain, sizeof plain) == 0);
        flips += flipped;
        zs_image_free(&raw);
        zs_image_free(&fit);
    }
    assert_in_range(flips, N / 3, 2 * N / 3);
    zs_source_close(&s);
}

static int count_flips(const zs_source *s, double probability)
{
    static float x[N * OUT];
    int64_t index[N];
    int flips = 0;
    zs_loader_config c = config(10, 1, 1);
    c.flip = probability;
    collect(s, c, N, x, index);
    for (int k = 0; k < N; k++) { /* rows grow to the right unless they are flipped */
        const float *row = x + k * OUT + 2 * (SIDE + 1);
        flips += row[1] > row[3];
    }
    return flips;
}

static void flips_of_probability_zero_and_one_are_certain(void **state)
{
    (void)state;
    zs_source *s = source_of(many, true);
    assert_int_equal(count_flips(s, 0.0), 0);
    assert_int_equal(count_flips(s, 1.0), N);
    zs_source_close(&s);
}

static void every_epoch_is_a_permutation(void **state)
{
    (void)state;
    const int64_t counts[] = {1, 2, 3, 4, 5, 15, 16, 17, 100, 1000, 4096, 4097};
    for (size_t i = 0; i < COUNT(counts); i++) {
        int64_t n = counts[i], moved = 0;
        uint8_t *seen = calloc((size_t)n, 1);
        for (int64_t epoch = 0; epoch < 5; epoch++)
            for (int64_t k = 0; k < n; k++) {
                int64_t v = zs_loader_sample_index(7, n, epoch * n + k);
                assert_in_range(v, 0, n - 1);
                assert_int_equal(seen[v], epoch);
                seen[v]++;
                moved += v != k;
            }
        assert_true(n < 15 || moved > 5 * n / 2); /* shuffled at all */
        free(seen);
    }
}

static void epochs_and_seeds_differ(void **state)
{
    (void)state;
    int same_epoch = 0, same_seed = 0;
    for (int64_t k = 0; k < 1000; k++) {
        int64_t v = zs_loader_sample_index(7, 1000, k);
        same_epoch += v == zs_loader_sample_index(7, 1000, 1000 + k);
        same_seed += v == zs_loader_sample_index(8, 1000, k);
    }
    assert_in_range(same_epoch, 0, 10);
    assert_in_range(same_seed, 0, 10);
}

/* All n! orders of tiny sets, 24000/n! of each expected: chi-squared far beyond chance fails. */
static void tiny_sets_come_in_every_order(void **state)
{
    (void)state;
    enum { EPOCHS = 24000 };
    for (int64_t n = 2, orders = 2; n <= 4; n++, orders *= n) {
        int seen[256] = {0};
        for (int64_t e = 0; e < EPOCHS; e++) {
            int64_t code = 0;
            for (int64_t k = 0; k < n; k++)
                code = code * n + zs_loader_sample_index(99, n, e * n + k);
            seen[code]++;
        }
        int different = 0;
        double expected = (double)EPOCHS / (double)orders, chi2 = 0.0;
        for (int i = 0; i < 256; i++)
            if (seen[i]) {
                different++;
                chi2 += (seen[i] - expected) * (seen[i] - expected) / expected;
            }
        assert_int_equal(different, orders);
        if (chi2 > 3.0 * (double)orders + 15.0)
            fail_msg("%d images: chi-squared %g over %d orders", (int)n, chi2, (int)orders);
    }
}

static void sources_smaller_than_a_batch_repeat(void **state)
{
    (void)state;
    float x[20 * OUT];
    int64_t index[20];
    zs_source *s = source_of(single, true);
    collect(s, config(10, 4, 2), 20, x, index);
    for (int i = 0; i < 20; i++)
        assert_int_equal(index[i], 0);
    zs_source_close(&s);
}

/* The damaged image is reached in order: every batch before it is delivered, and then the same
 * error again and again. */
static void errors_come_in_order_and_stay(void **state)
{
    (void)state;
    zs_source *s = source_of(broken, false);
    int64_t bad = 0;
    while (zs_loader_sample_index(42, 10, bad) != 3)
        bad++;
    for (int threads = 1; threads <= 4; threads += 3)
        for (int batch = 1; batch <= 4; batch++) {
            zs_loader *l = NULL;
            zs_loader_config c = config(batch, threads, 3);
            assert_int_equal(zs_loader_open(&l, s, &c, NULL), ZS_OK);
            zs_batch b;
            for (int64_t k = 0; k + batch <= bad; k += batch)
                assert_int_equal(zs_loader_next(l, &b, NULL), ZS_OK);
            for (int again = 0; again < 2; again++) {
                zs_error err = {0};
                must_refuse(zs_loader_next(l, &b, &err), &err, ZS_E_FORMAT, "/3.png");
                assert_null(b.x);
            }
            zs_loader_close(&l);
        }
    zs_source_close(&s);
}

static void closing_at_any_time_is_clean(void **state)
{
    (void)state;
    zs_source *s = source_of(many, true);
    for (int i = 0; i < 60; i++) {
        zs_loader *l = NULL;
        zs_loader_config c = config(1 + i % 5, 1 + i % 4, 1 + i % 3);
        assert_int_equal(zs_loader_open(&l, s, &c, NULL), ZS_OK);
        for (int k = 0; k < i % 7; k++) {
            zs_batch b;
            assert_int_equal(zs_loader_next(l, &b, NULL), ZS_OK);
        }
        zs_loader_close(&l);
        assert_null(l);
    }
    zs_source_close(&s);
}

/* A batch belongs to the caller until the next call, however far ahead the threads are. */
static void a_batch_stays_until_the_next_call(void **state)
{
    (void)state;
    zs_source *s = source_of(many, true);
    zs_loader *l = NULL;
    zs_loader_config c = config(4, 4, 1);
    assert_int_equal(zs_loader_open(&l, s, &c, NULL), ZS_OK);
    for (int i = 0; i < 20; i++) {
        zs_batch b;
        float copy[4 * OUT];
        assert_int_equal(zs_loader_next(l, &b, NULL), ZS_OK);
        memcpy(copy, b.x, sizeof copy);
        usleep(2000);
        assert_memory_equal(copy, b.x, sizeof copy);
    }
    zs_loader_close(&l);
    zs_source_close(&s);
}

static void bad_settings_are_refused(void **state)
{
    (void)state;
    zs_source *s = source_of(many, true);
    for (int i = 0; i < 10; i++) {
        zs_loader_config c = config(4, 2, 2);
        switch (i) {
        case 0: c.batch = 0; break;
        case 1: c.size = 0; break;
        case 2: c.threads = 0; break;
        case 3: c.prefetch = 0; break;
        case 4: c.channels = 2; break;
        case 5: c.flip = 1.5; break;
        case 6: c.flip = -0.1; break;
        case 7: c.start = -1; break;
        case 8: c.start = INT64_MAX; break;
        default: c.prefetch = INT32_MAX; break;
        }
        zs_loader *l = (zs_loader *)(uintptr_t)1;
        zs_error err = {0};
        assert_int_equal(zs_loader_open(&l, s, &c, &err), ZS_E_INVALID);
        assert_int_equal(err.status, ZS_E_INVALID);
        assert_null(l);
    }
    zs_source_close(&s);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    zs_source *s = source_of(many, true);
    int status = ZS_E_NOMEM;
    for (long n = 1; status < 0; n++) {
        zs_loader *l = NULL;
        zs_loader_config c = config(2, 2, 2);
        zs_batch b;
        zs_error err = {0};
        zs_alloc_fail_at(n);
        status = zs_loader_open(&l, s, &c, &err);
        if (status == ZS_OK)
            status = zs_loader_next(l, &b, &err);
        zs_loader_close(&l); /* before the hook changes: threads allocate */
        zs_alloc_fail_at(0);
        assert_true(status == ZS_OK || status == ZS_E_NOMEM);
        assert_int_equal(err.status, status);
        assert_true(n < 200);
    }
    zs_source_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_prefetch_and_batches_change_nothing),
        cmocka_unit_test(a_saved_position_resumes_exactly),
        cmocka_unit_test(samples_are_the_images_flipped_or_not),
        cmocka_unit_test(flips_of_probability_zero_and_one_are_certain),
        cmocka_unit_test(every_epoch_is_a_permutation),
        cmocka_unit_test(epochs_and_seeds_differ),
        cmocka_unit_test(tiny_sets_come_in_every_order),
        cmocka_unit_test(sources_smaller_than_a_batch_repeat),
        cmocka_unit_test(errors_come_in_order_and_stay),
        cmocka_unit_test(closing_at_any_time_is_clean),
        cmocka_unit_test(a_batch_stays_until_the_next_call),
        cmocka_unit_test(bad_settings_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, make_data, scratch_remove);
}
