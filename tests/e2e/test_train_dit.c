/* SPDX-License-Identifier: MIT */
/* zsem train generator --class-cond with a DiT of pixels, and zsem sample --guidance by the classes
 * that it was now and then not told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/taskkit.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { IMAGES = 12, CLASSES = 2 };

static int train(const char *out, const char *steps, const char *class_drop, zs_error *err)
{
    const task_option o[] = {{"data", scratch_path("data")},
                             {"out", scratch_path("%s", out)},
                             {"preset", "dit-s2-rep"},
                             {"class-cond", NULL},
                             {"set", "channels=1"},
                             {"set", "image_size=8"},
                             {"set", "generator.grid=4"},
                             {"set", "generator.depth=1"},
                             {"set", "generator.hidden=16"},
                             {"set", "generator.heads=2"},
                             {"set", "generator.mlp=32"},
                             {"set", "lr=1e-2"},
                             {"set", "ema=0.5"},
                             {"batch", "8"},
                             {"steps", steps},
                             {"sample-every", "0"},
                             {class_drop ? "set" : NULL, class_drop},
                             {NULL, NULL}};
    return task_run(NULL, "train", TASK_ARGS("generator"), o, err);
}

static zs_dit_config trained(const char *run)
{
    zs_model *m = tiny_open(scratch_path("%s", run));
    const zs_dit_config c = zs_model_configuration(m)->dit;
    zs_model_close(&m);
    return c;
}

static void sample(const char *run, const char *guidance, const char *out)
{
    json_decref(task_must("sample", TASK_ARGS(scratch_path("%s", run)),
                          TASK_OPTIONS({"n", "1"}, {"steps", "4"}, {"class", "1"},
                                       {"guidance", guidance}, {"out", scratch_path("%s", out)})));
}

static void read_image(const char *folder, char bytes[4096], size_t *n)
{
    FILE *f = fopen(scratch_path("%s/000000.png", folder), "rb");
    assert_non_null(f);
    *n = fread(bytes, 1, 4096, f);
    fclose(f);
}

/* The preset leaves out a tenth of the classes, for which the table has a row more. */
static void is_guided(void **state)
{
    (void)state;
    zs_error err = {0};
    char plain[4096], guided[4096];
    size_t n, m;
    must(train("run", "20", NULL, &err), &err);
    must(train("run", "40", NULL, &err), &err); /* it goes on */
    const zs_dit_config c = trained("run");
    assert_int_equal(c.classes, CLASSES + 1);
    assert_true(c.class_drop > 0.09 && c.class_drop < 0.11);
    assert_int_equal(c.in_channels, 1);
    sample("run", "1", "plain");
    sample("run", "20", "guided");
    read_image("plain", plain, &n);
    read_image("guided", guided, &m);
    assert_false(n == m && memcmp(plain, guided, n) == 0);
    must(train("often", "2", "generator.class_drop=0.5", &err), &err);
    assert_true(trained("often").class_drop > 0.49);
    must_refuse(train("run", "50", "generator.class_drop=0.5", &err), &err, ZS_E_INVALID,
                "go on with --set generator.class_drop=0.1, or");
}

/* One that was always told its class has no row for none. */
static void is_not_guided_without_dropout(void **state)
{
    (void)state;
    zs_error err = {0};
    must(train("always", "2", "generator.class_drop=0", &err), &err);
    assert_int_equal(trained("always").classes, CLASSES);
    sample("always", "1", "told");
    task_refused("sample", TASK_ARGS(scratch_path("always")),
                 TASK_OPTIONS({"guidance", "3"}, {"out", scratch_path("never")}),
                 "classes left out now and then, and this one was not");
    assert_false(tiny_exists(scratch_path("never")));
}

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    tiny_halves("data", IMAGES, true);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(is_guided),
                                       cmocka_unit_test(is_not_guided_without_dropout)};
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
