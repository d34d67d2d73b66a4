/* SPDX-License-Identifier: MIT */
/* An encoder trained on the classes of images: it learns them, resumes, and is a model like
 * others. */
#include "data/data.h"
#include "train/train.h"
#include "zsem/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { PER_CLASS = 8, SIZE = 8, BATCH = 8, STEPS = 240, CLASSES = 3 };

static char root[] = "/tmp/zsem-encoder-XXXXXX";
static char data_dir[64];

static const char *path_of(const char *name)
{
    static char buf[4][512];
    static int next;
    char *p = buf[next++ % 4];
    snprintf(p, sizeof buf[0], "%s/%s", root, name);
    return p;
}

/* Horizontal stripes, vertical stripes, a checkerboard; how bright differs from image to image. */
static void write_image(const char *folder, int k, int i)
{
    uint8_t px[SIZE * SIZE];
    zs_error err = {0};
    char name[96];
    for (int p = 0; p < SIZE * SIZE; p++) {
        int row = p / SIZE, col = p % SIZE, on[CLASSES] = {row % 2, col % 2, (row + col) % 2};
        px[p] = (uint8_t)(on[k] ? 255 - 9 * i : 5 * i);
    }
    const zs_image im = {.w = SIZE, .h = SIZE, .c = 1, .px = px};
    snprintf(name, sizeof name, "%s%d/image%d.png", folder, k, i);
    if (zs_image_write_png(path_of(name), &im, &err) < 0)
        fail_msg("%s", err.message);
}

static zs_train_config tiny_run(const char *out)
{
    zs_train_config c = zs_train_defaults();
    c.model = (zs_model_config){.name = "tiny",
                                .image_size = SIZE,
                                .channels = 1,
                                .fit = "crop",
                                .classes = CLASSES,
                                .sem_encoder = {.in_channels = 1,
                                                .levels = 2,
                                                .ch = {8, 16},
                                                .num_res_blocks = 1,
                                                .heads = 1,
                                                .z_dim = 12},
                                .diffusion = zs_process_diffae,
                                .latent = zs_process_diffae_latent};
    c.optim.lr = 1e-2;
    c.optim.ema = 0.9;
    c.optim.warmup = 3;
    c.batch = BATCH;
    c.flip = 0.0;
    c.seed = 5;
    c.images = BATCH * STEPS;
    c.data = c.val = data_dir;
    c.out = out;
    c.log_steps = 0;
    c.checkpoint_minutes = 0.0;
    return c;
}

static int stop_half_way(void *ctx, const zs_progress *p)
{
    (void)ctx;
    return p->done >= (double)(BATCH * STEPS / 2);
}

static void train(const zs_train_config *c, const zs_ui *ui, int want)
{
    zs_error err = {0};
    int status = zs_train_run(c, ui, NULL, &err);
    if (status != want)
        fail_msg("status %d: %s", status, err.message);
}

static void open_model(zs_model **m, const char *run)
{
    zs_error err = {0};
    if (zs_model_open(m, path_of(run), NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void read_images(float *x)
{
    zs_error err = {0};
    zs_source *s = NULL;
    assert_int_equal(zs_source_open(&s, data_dir, &err), ZS_OK);
    for (int64_t i = 0; i < CLASSES * PER_CLASS; i++)
        assert_int_equal(
            zs_source_read_float(s, i, SIZE, 1, ZS_FIT_CROP, x + i * SIZE * SIZE, &err), ZS_OK);
    zs_source_close(&s);
}

static void test_learns(void **state)
{
    static float x[CLASSES * PER_CLASS * SIZE * SIZE], logits[CLASSES * PER_CLASS][CLASSES];
    (void)state;
    const zs_train_config c = tiny_run(path_of("whole"));
    zs_model *m = NULL;
    zs_error err = {0};
    int right = 0;
    train(&c, NULL, ZS_OK);
    open_model(&m, "whole");
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
    zs_model *m = NULL;
    zs_error err = {0};
    open_model(&m, "whole");
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
    const zs_ui stop = {.progress = stop_half_way};
    const zs_train_config c = tiny_run(path_of("halves"));
    zs_model *a = NULL, *b = NULL;
    train(&c, &stop, ZS_E_CANCELLED);
    train(&c, NULL, ZS_OK);
    open_model(&a, "whole");
    open_model(&b, "halves");
    assert_memory_equal(zs_model_weights(a), zs_model_weights(b),
                        (size_t)zs_params_numel(zs_model_params(a)) * sizeof(float));
    zs_model_close(&a);
    zs_model_close(&b);
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
    zs_train_config c = tiny_run(path_of("single"));
    c.data = path_of("renamed");
    c.val = NULL;
    c.images = BATCH;
    train(&c, &ui, ZS_OK);
    assert_int_equal(warnings, CLASSES);
    c = tiny_run(path_of("many"));
    c.images = BATCH;
    train(&c, &ui, ZS_OK);
    assert_int_equal(warnings, CLASSES);
}

static void expect_refusal(const zs_train_config *c, const char *words)
{
    zs_error err = {0};
    assert_int_equal(zs_train_run(c, NULL, NULL, &err), ZS_E_INVALID);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void test_refuses(void **state)
{
    (void)state;
    zs_train_config c = tiny_run(path_of("refused"));
    c.data = path_of("data/class0");
    expect_refusal(&c, "classes come from first-level folders");
    c = tiny_run(path_of("refused"));
    c.model.classes = CLASSES + 1;
    expect_refusal(&c, "has 3 classes and the encoder 4");
    c.model.classes = 1;
    expect_refusal(&c, "classes is 1");
    c = tiny_run(path_of("refused"));
    c.val = path_of("data/class0");
    expect_refusal(&c, "class0 has ");
    c.val = path_of("renamed");
    expect_refusal(&c, "class 1 is called class2");
}

/* What decodes codes needs more than something that makes them. */
static void test_commands_refuse_it(void **state)
{
    (void)state;
    const char *const commands[] = {"vary", "interpolate", "reconstruct", "sample"};
    const char *const images[] = {"data/class0/image0.png", "data/class1/image0.png"};
    const size_t count[] = {1, 2, 1, 0};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        zs_task_call *call = NULL;
        zs_task_result r = {0};
        zs_error err = {0};
        assert_int_equal(zs_task_call_new(&call, commands[i], &err), ZS_OK);
        assert_int_equal(zs_task_call_add(call, path_of("whole"), &err), ZS_OK);
        for (size_t k = 0; k < count[i]; k++)
            assert_int_equal(zs_task_call_add(call, path_of(images[k]), &err), ZS_OK);
        assert_int_equal(zs_task_call_set(call, "out", path_of("no"), &err), ZS_OK);
        assert_int_equal(zs_task_run(call, NULL, &r, &err), ZS_E_INVALID);
        if (!strstr(err.message, "generator"))
            fail_msg("%s says: %s", commands[i], err.message);
        zs_task_call_free(&call);
    }
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(data_dir, sizeof data_dir, "%s/data", root);
    assert_int_equal(mkdir(data_dir, 0777), 0);
    for (int k = 0; k < CLASSES; k++) { /* as many classes, but not the same ones */
        char name[40];
        snprintf(name, sizeof name, "renamed/%s%d", k == 1 ? "other" : "class", k);
        zs_error err = {0};
        assert_int_equal(zs_mkdirs(path_of(name), &err), ZS_OK);
        write_image(k == 1 ? "renamed/other" : "renamed/class", k, 0);
    }
    for (int k = 0; k < CLASSES; k++) {
        char name[32];
        snprintf(name, sizeof name, "data/class%d", k);
        assert_int_equal(mkdir(path_of(name), 0777), 0);
        for (int i = 0; i < PER_CLASS; i++)
            write_image("data/class", k, i);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
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
    return cmocka_run_group_tests(tests, setup, teardown);
}
