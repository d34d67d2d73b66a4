/* SPDX-License-Identifier: MIT */
/* A training run that is interrupted, damaged or tampered with, against one that is not. */
#include "data/data.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { IMAGES = 10, SIZE = TINY, BATCH = 6, STEPS = 10 };

static const char whole[] = "whole"; /* the run that nothing interrupts */

static const char *path_of(const char *run, const char *name)
{
    return scratch_path("%s/%s", run, name);
}

static void write_image(int k)
{
    uint8_t px[SIZE * SIZE];
    char name[32];
    for (int i = 0; i < SIZE * SIZE; i++) /* a square that moves over a gradient */
        px[i] =
            (uint8_t)(i % SIZE / 3 == k % 3 && i / SIZE / 3 == k / 3 % 3 ? 230 : 8 * (i % SIZE));
    (void)snprintf(name, sizeof name, "data/image%02d.png", k);
    tiny_picture(name, SIZE, px);
}

static zs_model_config tiny_model(void)
{
    zs_model_config c = tiny_autoencoder(12);
    c.unet.attn_levels = c.sem_encoder.attn_levels = 1u << 1;
    c.unet.dropout = 0.1;
    return c;
}

static zs_train_config tiny_run(const char *run)
{
    zs_train_config c = zs_train_defaults();
    c.model = tiny_model();
    c.optim.lr = 1e-3;
    c.optim.ema = 0.9;
    c.optim.warmup = 3;
    c.batch = BATCH;
    c.micro_batch = 3;
    c.seed = 11;
    c.images = BATCH * STEPS;
    c.data = scratch_path("data");
    c.out = scratch_path("%s", run);
    c.log_steps = 3;
    c.checkpoint_steps = 2;
    c.checkpoint_minutes = 0.0;
    c.preview_images = 0;
    return c;
}

/* Stops when the run has done `stop` steps; collects what is logged. */
typedef struct watch {
    int64_t stop;
    int calls;
    char log[4096];
} watch;

static int on_progress(void *ctx, const zs_progress *p)
{
    watch *w = ctx;
    w->calls++;
    return w->stop > 0 && (int64_t)p->done >= w->stop * BATCH;
}

static void on_log(void *ctx, zs_log_level level, const char *message)
{
    watch *w = ctx;
    size_t n = strlen(w->log);
    if (level == ZS_LOG_WARN)
        snprintf(w->log + n, sizeof w->log - n, "%s\n", message);
}

static int run(const zs_train_config *c, watch *w, zs_train_report *r, zs_error *err)
{
    const zs_ui ui = {.ctx = w, .log = on_log, .progress = on_progress};
    memset(err, 0, sizeof *err);
    return zs_train_run(c, &ui, r, err);
}

static void run_to(const zs_train_config *c, int64_t stop)
{
    watch w = {.stop = stop};
    zs_train_report r;
    zs_error err;
    int status = run(c, &w, &r, &err), want = stop ? ZS_E_CANCELLED : ZS_OK;
    if (status != want)
        fail_msg("status %d (%s), want %d", status, err.message, want);
    assert_int_equal(r.step, stop ? stop : STEPS);
    assert_int_equal(r.samples, r.step * BATCH);
}

static zs_tensorfile *open_checkpoint(const char *dir, int64_t step)
{
    char name[64];
    zs_error err = {0};
    zs_tensorfile *f = NULL;
    snprintf(name, sizeof name, "checkpoints/step-%08lld.safetensors", (long long)step);
    must(zs_tensorfile_open(&f, path_of(dir, name), &err), &err);
    return f;
}

static float *tensor(zs_tensorfile *f, size_t i, size_t *n)
{
    *n = (size_t)zs_tensorfile_info(f, i)->numel;
    float *x = zs_alloc(*n, sizeof *x);
    assert_non_null(x);
    assert_int_equal(zs_tensorfile_read_f32(f, i, x, *n, NULL), ZS_OK);
    return x;
}

/* Parameters, moving average and both moments, bit for bit. */
static void assert_same_checkpoint(const char *a, const char *b, int64_t step)
{
    zs_tensorfile *fa = open_checkpoint(a, step), *fb = open_checkpoint(b, step);
    size_t count = zs_tensorfile_count(fa), na, nb;
    assert_int_equal(count, zs_tensorfile_count(fb));
    assert_true(count > 4 * 50);
    for (size_t i = 0; i < count; i++) {
        float *xa = tensor(fa, i, &na), *xb = tensor(fb, i, &nb);
        const char *name = zs_tensorfile_info(fa, i)->name;
        assert_string_equal(name, zs_tensorfile_info(fb, i)->name);
        assert_int_equal(na, nb);
        if (memcmp(xa, xb, na * sizeof *xa) != 0)
            fail_msg("%s differs between %s and %s", name, a, b);
        zs_free(xa);
        zs_free(xb);
    }
    zs_tensorfile_close(&fa);
    zs_tensorfile_close(&fb);
}

static size_t read_log(const char *dir, double *step, double *loss, size_t cap)
{
    FILE *f = fopen(path_of(dir, "log.jsonl"), "r");
    size_t n = 0;
    char line[1024];
    assert_non_null(f);
    while (n < cap && fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL);
        assert_non_null(j);
        step[n] = json_number_value(json_object_get(j, "step"));
        loss[n++] = json_number_value(json_object_get(j, "loss"));
        json_decref(j);
    }
    fclose(f);
    return n;
}

static void assert_same_log(const char *a, const char *b)
{
    double sa[16], la[16], sb[16], lb[16];
    size_t n = read_log(a, sa, la, 16);
    assert_int_equal(n, STEPS / 3);
    assert_int_equal(read_log(b, sb, lb, 16), n);
    for (size_t i = 0; i < n; i++) {
        assert_true(sa[i] == (double)(3 * (i + 1)) && sa[i] == sb[i]);
        assert_true(la[i] == lb[i] && la[i] > 0.0);
    }
}

static void assert_complete(const char *dir)
{
    zs_model *m = tiny_open(path_of(dir, "model.safetensors"));
    assert_int_equal(zs_model_configuration(m)->image_size, SIZE);
    assert_int_equal(json_integer_value(json_object_get(zs_model_extra(m), "step")), STEPS);
    zs_model_close(&m);
}

static void test_interrupted(void **state)
{
    (void)state;
    const char *const dir = "interrupted";
    zs_train_config c = tiny_run(dir);
    int before = zs_threads_count();
    static const int64_t stops[] = {1, 4, 5, 9, 0};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        zs_threads_set((int)(1 + i % 3));
        c.loader_threads = (int)(1 + i % 2);
        c.checkpoint_steps = (int64_t)i; /* how often it saves changes nothing */
        c.preview_images = i == 2 ? BATCH : 0;
        run_to(&c, stops[i]);
    }
    zs_threads_set(before);
    assert_same_checkpoint(whole, dir, STEPS);
    assert_same_log(whole, dir);
    assert_complete(dir);
    assert_true(tiny_exists(path_of(dir, "samples/step-00000005.png")));
    run_to(&c, 0); /* nothing left to do */
    assert_same_checkpoint(whole, dir, STEPS);
}

/* The last three of steps 2, 4, 6, 8, 10. */
static void test_keeps_the_newest(void **state)
{
    (void)state;
    assert_false(tiny_exists(path_of(whole, "checkpoints/step-00000004.safetensors")));
    assert_true(tiny_exists(path_of(whole, "checkpoints/step-00000006.safetensors")));
    assert_true(tiny_exists(path_of(whole, "checkpoints/step-00000008.safetensors")));
    assert_true(tiny_exists(path_of(whole, "checkpoints/step-00000010.safetensors")));
    assert_true(tiny_exists(path_of(whole, "config.json")));
}

static void flip_byte(const char *path, long offset)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, offset, offset < 0 ? SEEK_END : SEEK_SET);
    int c = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(c ^ 0x10, f);
    fclose(f);
}

/* One newest checkpoint cut short, one with a flipped weight bit, one with a changed header, and
 * one that is empty: each time the one before it is used. */
static void test_damaged(void **state)
{
    (void)state;
    const char *const dir = "damaged";
    zs_train_config c = tiny_run(dir);
    c.checkpoint_steps = 1;
    c.keep = 8;
    run_to(&c, 7);
    struct stat st;
    const char *seven = path_of(dir, "checkpoints/step-00000007.safetensors");
    assert_int_equal(stat(seven, &st), 0);
    assert_int_equal(truncate(seven, st.st_size - 100), 0);
    flip_byte(path_of(dir, "checkpoints/step-00000006.safetensors"), -5000);
    flip_byte(path_of(dir, "checkpoints/step-00000005.safetensors"), 300);
    assert_int_equal(truncate(path_of(dir, "checkpoints/step-00000004.safetensors"), 0), 0);
    watch w = {0};
    zs_train_report r;
    zs_error err;
    must(run(&c, &w, &r, &err), &err);
    assert_int_equal(r.start_step, 3);
    for (int step = 4; step <= 7; step++) {
        char name[32];
        snprintf(name, sizeof name, "step-%08d", step);
        if (!strstr(w.log, name))
            fail_msg("no warning about %s in: %s", name, w.log);
    }
    assert_same_checkpoint(whole, dir, STEPS);
    assert_same_log(whole, dir);
}

static void test_all_damaged(void **state)
{
    (void)state;
    const char *const dir = "ruined";
    zs_train_config c = tiny_run(dir);
    run_to(&c, 2);
    assert_int_equal(truncate(path_of(dir, "checkpoints/step-00000002.safetensors"), 99), 0);
    watch w = {0};
    zs_error err;
    must_refuse(run(&c, &w, NULL, &err), &err, ZS_E_FORMAT, c.out);
}

static void refuse(const zs_train_config *c, const char *field)
{
    watch w = {0};
    zs_error err;
    must_refuse(run(c, &w, NULL, &err), &err, ZS_E_INVALID, field);
    assert_int_equal(w.calls, 0);
}

static void test_changed(void **state)
{
    (void)state;
    const char *const dir = "changed";
    const zs_train_config c = tiny_run(dir);
    zs_train_config d;
    run_to(&c, 3);
    d = c, d.optim.lr = 2e-3, refuse(&d, "lr 0.001, not 0.002: go on with --set lr=0.001, or");
    d = c, d.optim.clip = 2.0, refuse(&d, "go on with --set clip=1, or");
    d = c, d.t_weight = 9.0, refuse(&d, "t_weight 1, not 9.0: go on with --set t_weight=1, or");
    d = c, d.seed = 12, refuse(&d, "seed");
    d = c, d.batch = 12, refuse(&d, "batch 6, not 12");
    d = c, d.dropout = 0.2, refuse(&d, "dropout");
    d = c, d.optim.decoupled = true, refuse(&d, "optimizer");
    d = c, d.model.unet.embed_channels = 32, refuse(&d, "embed_channels 16, not 32");
    write_image(IMAGES); /* one more image */
    refuse(&c, "data_images 10, not 11");
    assert_int_equal(unlink(path_of("data", "image10.png")), 0);
    d = c, d.keep = 1, d.micro_batch = 6, d.log_steps = 1; /* these may change */
    run_to(&d, 0);
}

static void test_lock(void **state)
{
    (void)state;
    const char *const dir = "locked";
    zs_train_config c = tiny_run(dir);
    zs_rundir d = {0};
    zs_error err = {0};
    assert_int_equal(zs_rundir_open(&d, c.out, &err), ZS_OK);
    refuse(&c, "another process is training");
    zs_rundir_close(&d);
    run_to(&c, 1);
}

/* Killed writers' temporary files are neither resumed from nor left behind. */
static void test_leftovers(void **state)
{
    static const char *const names[] = {
        "model.safetensors.tmp-a1b2c3", "checkpoints/step-00000003.safetensors.tmp-a1b2c3",
        "samples/step-00000003.png.tmp-a1b2c3", "plots/loss.svg.tmp-a1b2c3",
        "tensorboard/events.out.tfevents.zsem.tmp-a1b2c3"};
    enum { NAMES = sizeof names / sizeof *names };
    (void)state;
    const char *const dir = "leftovers";
    zs_train_config c = tiny_run(dir);
    run_to(&c, 2);
    for (int i = 0; i < NAMES; i++) {
        FILE *f = fopen(path_of(dir, names[i]), "w");
        assert_non_null(f);
        fputs("half", f);
        fclose(f);
    }
    /* lines of steps that were lost, the last one cut off */
    FILE *f = fopen(path_of(dir, "log.jsonl"), "a");
    assert_non_null(f);
    fputs("{\"step\":3,\"loss\":9}\n{\"step\":6,\"lo", f);
    fclose(f);
    run_to(&c, 0);
    for (int i = 0; i < NAMES; i++)
        assert_false(tiny_exists(path_of(dir, names[i])));
    assert_same_checkpoint(whole, dir, STEPS);
    assert_same_log(whole, dir);
}

static void test_numbers_go_wrong(void **state)
{
    (void)state;
    const char *const dir = "nan";
    zs_train_config c = tiny_run(dir);
    c.optim.lr = 1e30;
    c.optim.warmup = 0;
    c.checkpoint_steps = 1;
    watch w = {0};
    zs_train_report r;
    zs_error err;
    assert_int_equal(run(&c, &w, &r, &err), ZS_E_NUMERIC);
    print_message("%s\n", err.message);
    char text[64];
    snprintf(text, sizeof text, "step %d", (int)r.step + 1);
    assert_non_null(strstr(err.message, text));
    assert_non_null(strstr(err.message, ".png"));
    assert_non_null(strstr(err.message, "and 3 more"));
    snprintf(text, sizeof text, "checkpoint is that of step %d", (int)r.step);
    assert_non_null(strstr(err.message, text));
    assert_true(r.step < STEPS);
    snprintf(text, sizeof text, "checkpoints/step-%08d.safetensors", (int)r.step + 1);
    assert_false(tiny_exists(path_of(dir, text)));
}

/* The same sums in another order: equal to rounding, not to the bit. */
static void test_micro_batches(void **state)
{
    (void)state;
    const char *const dir = "micro";
    zs_train_config c = tiny_run(dir);
    c.micro_batch = 0;
    run_to(&c, 0);
    double sa[16], la[16], sb[16], lb[16];
    size_t n = read_log(whole, sa, la, 16);
    assert_int_equal(read_log(dir, sb, lb, 16), n);
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(la[i] - lb[i]) < 1e-3 * la[i]);
    c.micro_batch = 4;
    watch w = {0};
    zs_error err;
    must_refuse(run(&c, &w, NULL, &err), &err, ZS_E_INVALID, "--micro-batch 3");
}

/* Recomputed activations, dropout masks included, are the ones that were dropped. */
static void test_recompute(void **state)
{
    (void)state;
    const char *const dir = "recompute";
    zs_train_config c = tiny_run(dir);
    c.exec_flags = ZS_EXEC_RECOMPUTE | ZS_EXEC_POISON;
    run_to(&c, 0);
    assert_same_checkpoint(whole, dir, STEPS);
}

static void test_ddpm(void **state)
{
    (void)state;
    const char *const one = "ddpm1", *const two = "ddpm2";
    zs_train_config c = tiny_run(one);
    c.model.unet.z_dim = 0;
    zs_model_config_clear(&c.model, ZS_BOX_ENCODER);
    c.preview_images = BATCH * STEPS;
    run_to(&c, 0);
    assert_true(tiny_exists(path_of(one, "samples/step-00000010.png")));
    c.out = scratch_path("%s", two);
    run_to(&c, 6);
    run_to(&c, 0);
    assert_same_checkpoint(one, two, STEPS);
    assert_complete(one);
}

/* A step actually learns: the loss of the same data falls. */
static void test_learns(void **state)
{
    (void)state;
    const char *const dir = "learns";
    zs_train_config c = tiny_run(dir);
    c.images = BATCH * 150;
    c.log_steps = 25;
    c.checkpoint_steps = 0;
    c.dropout = 0.0;
    watch w = {0};
    zs_error err;
    must(run(&c, &w, NULL, &err), &err);
    double step[16], loss[16];
    assert_int_equal(read_log(dir, step, loss, 16), 6);
    print_message("loss %.3f -> %.3f\n", loss[0], loss[5]);
    assert_true(loss[5] < 0.75 * loss[0]);
}

static void test_bad_options(void **state)
{
    (void)state;
    const char *const dir = "never";
    const zs_train_config c = tiny_run(dir);
    zs_train_config d;
    d = c, d.batch = 0, refuse(&d, "batch");
    d = c, d.dropout = 1.0, refuse(&d, "dropout");
    d = c, d.flip = -0.1, refuse(&d, "flip");
    d = c, d.images = 0, refuse(&d, "images");
    d = c, d.keep = 0, refuse(&d, "keep");
    d = c, d.optim.lr = -1.0, refuse(&d, "learning rate");
    d = c, d.backend = "abacus", refuse(&d, "abacus");
    d = c, d.loader_threads = 0, refuse(&d, "loader");
    assert_false(tiny_exists(c.out)); /* refused before anything was written */
}

static int setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    for (int i = 0; i < IMAGES; i++)
        write_image(i);
    zs_train_config c = tiny_run(whole);
    run_to(&c, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupted),   cmocka_unit_test(test_keeps_the_newest),
        cmocka_unit_test(test_damaged),       cmocka_unit_test(test_all_damaged),
        cmocka_unit_test(test_changed),       cmocka_unit_test(test_lock),
        cmocka_unit_test(test_leftovers),     cmocka_unit_test(test_numbers_go_wrong),
        cmocka_unit_test(test_micro_batches), cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_ddpm),          cmocka_unit_test(test_learns),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
