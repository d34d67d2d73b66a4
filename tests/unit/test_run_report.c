/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "io/io.h"
#include "metrics/plot.h"
#include "tests/unit/scratch.h"
#include "train/report.h"
#include "train/tbevents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static zs_rundir run;

static int open_run(void **state)
{
    return scratch_make(state) == 0 ? zs_rundir_open(&run, scratch_dir(), NULL) : -1;
}

static int remove_run(void **state)
{
    zs_rundir_close(&run);
    return scratch_remove(state);
}

static void log_steps(int first, int last)
{
    for (int i = first; i <= last; i++) {
        json_t *line = json_pack("{s:i, s:i, s:f, s:f}", "step", 10 * i, "samples", 320 * i, "loss",
                                 1.0 / i, "time", 0.5 * i);
        assert_int_equal(zs_rundir_log_append(&run, line, NULL), ZS_OK);
        json_decref(line);
    }
}

static void log_picture(int64_t step)
{
    uint8_t px[12] = {0};
    const zs_image im = {2, 2, 3, px};
    char *path = zs_rundir_step_file(&run, "samples", step, ".png");
    assert_int_equal(zs_image_write_png(path, &im, NULL), ZS_OK);
    assert_int_equal(zs_rundir_log_picture(&run, step, path, NULL), ZS_OK);
    zs_free(path);
}

static char *read_file(const char *name, size_t *n)
{
    char path[128];
    zs_mapfile m;
    snprintf(path, sizeof path, "%s/%s", scratch_dir(), name);
    assert_int_equal(zs_mapfile_open(&m, path, NULL), ZS_OK);
    char *s = zs_alloc(m.n + 1, 1);
    memcpy(s, m.p, m.n);
    s[m.n] = '\0';
    *n = m.n;
    zs_mapfile_close(&m);
    return s;
}

static uint64_t little(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t crc = zs_crc32c(p, n);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* Counts the records of the event file; each must be whole and its sums right. */
static int count_records(void)
{
    size_t n, at = 0;
    int count = 0;
    char *s = read_file("tensorboard/events.out.tfevents.zsem", &n);
    const uint8_t *p = (const uint8_t *)s;
    for (; at < n; count++) {
        assert_true(n - at >= 16);
        uint64_t size = little(p + at, 8);
        assert_int_equal(little(p + at + 8, 4), masked(p + at, 8));
        assert_true(size <= n - at - 16);
        assert_int_equal(little(p + at + 12 + size, 4), masked(p + at + 12, (size_t)size));
        assert_int_equal(p[at + 12], 0x09); /* wall_time comes first */
        at += (size_t)size + 16;
    }
    zs_free(s);
    return count;
}

static void crc_of_the_standard_text(void **state)
{
    (void)state;
    assert_int_equal(zs_crc32c("123456789", 9), 0xE3069283u);
    assert_int_equal(zs_crc32c("", 0), 0);
}

/* The bytes that tensorboard's own Event(step=300, ...) serialises to. */
static void a_scalar_is_the_known_bytes(void **state)
{
    (void)state;
    static const uint8_t want[] = {0x09, 0,    0,    0,    0,    0,    0,    0xF8, 0x3F,
                                   0x10, 0xAC, 0x02, 0x2A, 0x0D, 0x0A, 0x0B, 0x0A, 0x04,
                                   'l',  'o',  's',  's',  0x15, 0,    0,    0,    0x3F};
    zs_strbuf b = {0};
    json_t *line = json_pack("{s:i, s:f}", "step", 300, "loss", 0.5);
    zs_tbevents_scalars(&b, 1.5, 300, line);
    assert_int_equal(b.n, sizeof want + 16);
    assert_memory_equal(b.s + 12, want, sizeof want);
    json_decref(line);
    zs_strbuf_free(&b);
}

static void events_follow_the_log_and_a_resumed_run(void **state)
{
    (void)state;
    assert_int_equal(zs_rundir_log_truncate(&run, 0, NULL), ZS_OK);
    assert_int_equal(count_records(), 1);
    log_steps(1, 6);
    log_picture(20);
    log_picture(60);
    assert_int_equal(count_records(), 1 + 6 + 2);
    assert_int_equal(zs_rundir_log_truncate(&run, 40, NULL), ZS_OK);
    assert_int_equal(count_records(), 1 + 4 + 1);
    log_steps(5, 5);
    assert_int_equal(count_records(), 1 + 5 + 1);
}

static void report_holds_curves_samples_and_settings(void **state)
{
    (void)state;
    size_t n;
    json_t *config = json_pack("{s:{s:s}}", "run", "data", "a<b>&c");
    assert_int_equal(zs_rundir_log_truncate(&run, 0, NULL), ZS_OK);
    assert_int_equal(zs_run_report(&run, NULL), ZS_OK); /* of a run that has just begun */
    assert_int_equal(zs_rundir_write_config(&run, config, NULL), ZS_OK);
    json_decref(config);
    log_steps(1, 60);
    log_picture(20);
    assert_int_equal(zs_run_report(&run, NULL), ZS_OK);
    char *html = read_file("report.html", &n), *svg = read_file("plots/loss.svg", &(size_t){0});
    assert_non_null(strstr(html, "<svg "));
    assert_non_null(strstr(html, "data:image/png;base64,iVBOR"));
    assert_non_null(strstr(html, "<td>run.data</td><td>a&lt;b&gt;&amp;c</td>"));
    assert_non_null(strstr(html, "<td>images seen</td><td>19200</td>"));
    assert_null(strstr(html, "nan"));
    assert_null(strstr(html, "src=\"/"));
    assert_true(zs_str_starts(svg, "<svg "));
    assert_non_null(strstr(svg, ">loss</text>"));
    zs_free(html);
    zs_free(svg);
}

static void a_plot_leaves_out_what_cannot_be_drawn(void **state)
{
    (void)state;
    const double x[] = {0, 1, 2, 3}, y[] = {(double)NAN, -1, 5, (double)INFINITY};
    const zs_plot_line line = {"a & b", x, y, 4, true, false};
    const zs_plot plot = {
        .title = "t", .x_label = "x", .y_label = "y", .log_y = true, .lines = &line, .count = 1};
    const zs_plot empty = {0};
    zs_strbuf b = {0};
    zs_plot_svg(&b, &plot);
    zs_plot_svg(&b, &empty);
    assert_false(b.failed);
    assert_null(strstr(b.s, "nan"));
    assert_null(strstr(b.s, "inf"));
    assert_non_null(strstr(b.s, "a &#38; b"));
    const char *circle = strstr(b.s, "<circle");
    assert_non_null(circle);
    assert_null(strstr(circle + 1, "<circle"));
    zs_strbuf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_the_standard_text),
        cmocka_unit_test(a_scalar_is_the_known_bytes),
        cmocka_unit_test_setup_teardown(events_follow_the_log_and_a_resumed_run, open_run,
                                        remove_run),
        cmocka_unit_test_setup_teardown(report_holds_curves_samples_and_settings, open_run,
                                        remove_run),
        cmocka_unit_test(a_plot_leaves_out_what_cannot_be_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
