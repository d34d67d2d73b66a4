/* SPDX-License-Identifier: MIT */
/* An encoder trained on the classes of images: it learns them, resumes, and is a model like
 * others. */
#include "data/data.h"
#include "train/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/taskkit.h"
#include "tests/e2e/trainkit.h"

enum { PER_CLASS = 8, SIZE = TINY, BATCH = 8, STEPS = 240, CLASSES = 3 };

/* Horizontal stripes, vertical stripes, a checkerboard; how bright differs from image to image. */
static void write_image(const char *folder, int k, int i)
{
    uint8_t px[SIZE * SIZE];
    char name[96];
    for (int p = 0; p < SIZE * SIZE; p++) {
        int row = p / SIZE, col = p % SIZE, on[CLASSES] = {row % 2, col % 2, (row + col) % 2};
        px[p] = (uint8_t)(on[k] ? 255 - 9 * i : 5 * i);
    }
    (void)snprintf(name, sizeof name, "%s%d/image%d.png", folder, k, i);
    tiny_picture(name, SIZE, px);
}

static zs_train_config tiny_run(const char *out)
{
    zs_train_config c = zs_train_defaults();
    c.model = tiny_autoencoder(12);
    zs_model_config_clear(&c.model, ZS_BOX_GENERATOR);
    c.model.classes = CLASSES;
    c.optim.lr = 1e-2;
    c.optim.ema = 0.9;
    c.optim.warmup = 3;
    c.batch = BATCH;
    c.flip = 0.0;
    c.seed = 5;
    c.images = BATCH * STEPS;
    c.data = c.val = scratch_path("data");
    c.out = scratch_path("%s", out);
    c.log_steps = 0;
    c.checkpoint_minutes = 0.0;
    return c;
}

static void read_images(float *x)
{
    zs_error err = {0};
    zs_source *s = NULL;
    assert_int_equal(zs_source_open(&s, scratch_path("data"), &err), ZS_OK);
    for (int64_t i = 0; i < CLASSES * PER_CLASS; i++)
        assert_int_equal(
            zs_source_read_float(s, i, SIZE, 1, ZS_FIT_CROP, x + i * SIZE * SIZE, &err), ZS_OK);
    zs_source_close(&s);
}

static void test_learns(void **state)
{
    static float x[CLASSES * PER_CLASS * SIZE * SIZE], logits[CLASSES * PER_CLASS][CLASSES];
    (void)state;
    const zs_train_config c = tiny_run("whole");
    zs_error err = {0};
    int right = 0;
    tiny_train(&c, NULL, ZS_OK, NULL);
    zs_model *m = tiny_open(scratch_path("whole"));
    assert_false(zs_model_has(m, ZS_BOX_GENERATOR));
    assert_true(zs_model_has(m, ZS_BOX_ENCODER));
    read_images(x);
    zs_shape xs = zs_shape4(CLASSES * PER_CLASS, SIZE, SIZE, 1);
    assert_int_equal(zs_model_classify(m, logits[0], x, xs, &err), ZS_OK);
    for (int i = 0; i < CLASSES * PER_CLASS; i++) {
        int best = 0;
        for (int k = 1; k < CLASSES; k++)
            best = logits[i][k] > logits[i][best] ? k : best;
        right += best == i / PER_CLASS;
    }
    print_message("%d of %d right\n", right, CLASSES * PER_CLASS);
    assert_int_equal(right, CLASSES * PER_CLASS);
    zs_model_close(&m);
}

/* What needs a generator says so instead of reading one that is not there. */
static void test_has_no_generator(void **state)
{
    static float x[SIZE * SIZE], eps[SIZE * SIZE], z[12], loss;
    (void)state;
    const int64_t t = 5;
    zs_error err = {0};
    zs_model *m = tiny_open(scratch_path("whole"));
    zs_shape xs = zs_shape4(1, SIZE, SIZE, 1);
    assert_int_equal(zs_model_encode(m, z, x, xs, &err), ZS_OK);
    assert_int_equal(zs_model_eps(m, eps, x, xs, &t, &(zs_cond){.z = z}, &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "has no generator"));
    assert_int_equal(zs_model_grad(m, &loss, NULL, x, x, xs, &t, eps, NULL, NULL), ZS_E_INVALID);
    zs_model_close(&m);
}

static void test_resumes(void **state)
{
    (void)state;
    const double half = BATCH * STEPS / 2;
    const zs_ui stop = tiny_stop_at(&half);
    const zs_train_config c = tiny_run("halves");
    tiny_train(&c, &stop, ZS_E_CANCELLED, NULL);
    tiny_train(&c, NULL, ZS_OK, NULL);
    tiny_same_weights("whole", "halves");
}

static void count_warnings(void *ctx, zs_log_level level, const char *message)
{
    *(int *)ctx += level == ZS_LOG_WARN && strstr(message, "has a single image") != NULL;
}

static void test_single_images(void **state)
{
    (void)state;
    int warnings = 0;
    const zs_ui ui = {.ctx = &warnings, .log = count_warnings};
    zs_train_config c = tiny_run("single");
    c.data = scratch_path("renamed");
    c.val = NULL;
    c.images = BATCH;
    tiny_train(&c, &ui, ZS_OK, NULL);
    assert_int_equal(warnings, CLASSES);
    c = tiny_run("many");
    c.images = BATCH;
    tiny_train(&c, &ui, ZS_OK, NULL);
    assert_int_equal(warnings, CLASSES);
}

static void test_refuses(void **state)
{
    (void)state;
    zs_train_config c = tiny_run("refused");
    c.data = scratch_path("data/class0");
    tiny_train_refused(&c, "classes come from first-level folders");
    c = tiny_run("refused");
    c.model.classes = CLASSES + 1;
    tiny_train_refused(&c, "has 3 classes and the encoder 4");
    c.model.classes = 1;
    tiny_train_refused(&c, "classes is 1");
    c = tiny_run("refused");
    c.val = scratch_path("data/class0");
    tiny_train_refused(&c, "class0 has ");
    c.val = scratch_path("renamed");
    tiny_train_refused(&c, "class 1 is called class2");
}

/* What decodes codes needs more than something that makes them. */
static void test_commands_refuse_it(void **state)
{
    (void)state;
    const char *const a = scratch_path("data/class0/image0.png"),
                      *b = scratch_path("data/class1/image0.png");
    const char *const one[] = {scratch_path("whole"), a, NULL}, *const two[] = {one[0], a, b, NULL};
    const task_option out[] = {{"out", scratch_path("no")}, {NULL, NULL}};
    task_refused("vary", one, out, "generator");
    task_refused("interpolate", two, out, "generator");
    task_refused("reconstruct", one, out, "generator");
    task_refused("sample", TASK_ARGS(one[0]), out, "generator");
}

static int setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    for (int k = 0; k < CLASSES; k++) { /* as many classes, but not the same ones */
        write_image(k == 1 ? "renamed/other" : "renamed/class", k, 0);
        for (int i = 0; i < PER_CLASS; i++)
            write_image("data/class", k, i);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_has_no_generator),
        cmocka_unit_test(test_commands_refuse_it),
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_single_images),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
