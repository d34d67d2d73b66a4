/* SPDX-License-Identifier: MIT */
/* Training runs on backends whose memory is out of reach, against the same on the reference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "data/data.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/far_backend.h"
#include "tests/unit/must.h"
#include "train/fit.h"

enum { IMAGES = 10, DIM = 12, BATCH = 6, STEPS = 6 };

/* Micro-batches, previews, checkpoints, clipping: what touches memory in its own way. */
static zs_train_config tiny_run(const char *out, const char *backend)
{
    zs_train_config c = zs_train_defaults();
    c.model = tiny_autoencoder(DIM);
    c.optim.lr = 1e-3;
    c.optim.ema = 0.9;
    c.optim.clip = 0.3;
    c.batch = BATCH;
    c.micro_batch = 3;
    c.seed = 11;
    c.images = BATCH * STEPS;
    c.data = scratch_path("data");
    c.out = scratch_path("%s", out);
    c.log_steps = 1;
    c.checkpoint_steps = 2;
    c.checkpoint_minutes = 0.0;
    c.preview_images = 3 * BATCH;
    c.backend = backend;
    return c;
}

typedef struct watch {
    bool cut;     /* a batch was said to be cut to fit */
    int64_t stop; /* after so many steps; 0: never */
    char log[4096];
} watch;

static int on_progress(void *ctx, const zs_progress *p)
{
    watch *w = ctx;
    return w->stop > 0 && (int64_t)p->done >= w->stop * BATCH;
}

static void on_log(void *ctx, zs_log_level level, const char *message)
{
    watch *w = ctx;
    size_t n = strlen(w->log);
    w->cut = w->cut || strstr(message, "at a time");
    if (level == ZS_LOG_WARN)
        snprintf(w->log + n, sizeof w->log - n, "%s\n", message);
}

static int run(const zs_train_config *c, watch *w, zs_error *err)
{
    const zs_ui ui = {.ctx = w, .log = on_log, .progress = on_progress};
    *err = (zs_error){0};
    int status = zs_train_run(c, &ui, NULL, err);
    if (w->log[0])
        printf("%s", w->log);
    return status;
}

static void run_whole(const zs_train_config *c)
{
    watch w = {0};
    zs_error err;
    must(run(c, &w, &err), &err);
    assert_string_equal(w.log, "");
    assert_int_equal(far_counted().blocks, 0);
    assert_int_equal(far_counted().tapes, 0);
}

static float *tensor(zs_tensorfile *f, size_t i, size_t *n)
{
    *n = (size_t)zs_tensorfile_info(f, i)->numel;
    float *x = zs_alloc(*n, sizeof *x);
    assert_non_null(x);
    assert_int_equal(zs_tensorfile_read_f32(f, i, x, *n, NULL), ZS_OK);
    return x;
}

static void same_file(const char *a, const char *b, const char *name)
{
    zs_error err = {0};
    zs_tensorfile *fa = NULL, *fb = NULL;
    must(zs_tensorfile_open(&fa, scratch_path("%s/%s", a, name), &err), &err);
    must(zs_tensorfile_open(&fb, scratch_path("%s/%s", b, name), &err), &err);
    assert_int_equal(zs_tensorfile_count(fa), zs_tensorfile_count(fb));
    for (size_t i = 0; i < zs_tensorfile_count(fa); i++) {
        size_t na, nb;
        float *xa = tensor(fa, i, &na), *xb = tensor(fb, i, &nb);
        assert_int_equal(na, nb);
        if (memcmp(xa, xb, na * sizeof *xa) != 0)
            fail_msg("%s of %s differs between %s and %s", zs_tensorfile_info(fa, i)->name, name, a,
                     b);
        zs_free(xa);
        zs_free(xb);
    }
    zs_tensorfile_close(&fa);
    zs_tensorfile_close(&fb);
}

static void same_picture(const char *a, const char *b, const char *name)
{
    zs_error err = {0};
    zs_image x = {0}, y = {0};
    must(zs_image_read(&x, scratch_path("%s/%s", a, name), 0, &err), &err);
    must(zs_image_read(&y, scratch_path("%s/%s", b, name), 0, &err), &err);
    assert_int_equal(x.w * x.h * x.c, y.w * y.h * y.c);
    assert_memory_equal(x.px, y.px, (size_t)(x.w * x.h * x.c));
    zs_image_free(&x);
    zs_image_free(&y);
}

static void same_run(const char *a, const char *b)
{
    same_file(a, b, "checkpoints/step-00000004.safetensors");
    same_file(a, b, "checkpoints/step-00000006.safetensors");
    same_file(a, b, "model.safetensors");
    same_picture(a, b, "samples/step-00000003.png");
    same_picture(a, b, "samples/step-00000006.png");
}

static void losses(double loss[STEPS], const char *dir)
{
    FILE *f = fopen(scratch_path("%s/log.jsonl", dir), "r");
    char line[1024];
    int n = 0;
    assert_non_null(f);
    while (n < STEPS && fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL), *v = json_object_get(j, "loss");
        if (v)
            loss[n++] = json_number_value(v);
        json_decref(j);
    }
    fclose(f);
    assert_int_equal(n, STEPS);
}

static void single_precision_trains_to_the_same_bits(void **state)
{
    (void)state;
    zs_train_config c = tiny_run("reference", "cpu-ref");
    run_whole(&c);
    c = tiny_run("far", "far");
    size_t replays = far_counted().replays;
    run_whole(&c);
    assert_true(far_counted().replays >= replays + 2 * STEPS - 2);
    same_run("reference", "far");
}

static void resumes_to_the_same_bits(void **state)
{
    (void)state;
    static const char *const kinds[] = {"far", "far-bf16"};
    for (int k = 0; k < 2; k++) {
        char name[2][32];
        snprintf(name[0], sizeof name[0], "whole-%s", kinds[k]);
        snprintf(name[1], sizeof name[1], "parts-%s", kinds[k]);
        zs_train_config c = tiny_run(name[0], kinds[k]);
        run_whole(&c);
        c = tiny_run(name[1], kinds[k]);
        for (int64_t stop = 1; stop < STEPS; stop += 2) {
            watch w = {.stop = stop};
            zs_error err;
            assert_int_equal(run(&c, &w, &err), ZS_E_CANCELLED);
            assert_int_equal(far_counted().blocks, 0);
        }
        run_whole(&c);
        same_run(name[0], name[1]);
    }
}

/* One run begins on one device and ends on the other. */
static void devices_read_each_others_checkpoints(void **state)
{
    (void)state;
    zs_train_config c = tiny_run("moved", "far");
    watch w = {.stop = 3};
    zs_error err;
    assert_int_equal(run(&c, &w, &err), ZS_E_CANCELLED);
    c.backend = "cpu-ref";
    run_whole(&c);
    same_run("reference", "moved");
}

static void half_precision_learns_alike(void **state)
{
    (void)state;
    double a[STEPS], b[STEPS];
    losses(a, "reference");
    losses(b, "whole-far-bf16");
    assert_true(a[STEPS - 1] < a[0]);
    for (int i = 0; i < STEPS; i++) {
        printf("  step %d: %.6f %.6f\n", i + 1, a[i], b[i]);
        assert_true(fabs(a[i] - b[i]) < 0.02 * a[i]);
        assert_true(i == 0 || a[i] != b[i]); /* what starts at zero gives zero */
    }
}

/* A model from a file fine-tunes on a device as it does elsewhere. */
static void starts_from_a_model(void **state)
{
    (void)state;
    static const char *const kinds[] = {"cpu-ref", "far"};
    for (int k = 0; k < 2; k++) {
        char name[32];
        snprintf(name, sizeof name, "tuned-%s", kinds[k]);
        zs_train_config c = tiny_run(name, kinds[k]);
        c.init = scratch_path("reference");
        c.images = 4 * BATCH;
        run_whole(&c);
    }
    same_file("tuned-cpu-ref", "tuned-far", "checkpoints/step-00000004.safetensors");
}

static zs_train_config prior_run(const char *out, const char *backend, zs_model *base)
{
    zs_train_config c = tiny_run(out, backend);
    c.model = *zs_model_configuration(base);
    c.model.latent_mlp = (zs_latent_mlp_config){
        .z_dim = DIM, .hidden = 24, .layers = 3, .time_channels = 16, .skips = 2};
    c.base = base;
    c.views = 1;
    c.optim.ema = 0.5;
    return c;
}

/* Codes are encoded there, and the prior's distance is measured there. */
static void priors_train_to_the_same_bits(void **state)
{
    (void)state;
    static const char *const kinds[] = {"cpu-ref", "far"};
    for (int k = 0; k < 2; k++) {
        char name[32];
        zs_error err = {0};
        zs_model *base = NULL;
        const zs_model_options o = {.backend = kinds[k]};
        snprintf(name, sizeof name, "prior-%s", kinds[k]);
        must(zs_model_open(&base, scratch_path("reference"), &o, &err), &err);
        zs_train_config c = prior_run(name, kinds[k], base);
        watch w = {0};
        must(run(&c, &w, &err), &err);
        zs_model_close(&base);
    }
    same_file("prior-cpu-ref", "prior-far", "checkpoints/step-00000006.safetensors");
    same_file("prior-cpu-ref", "prior-far", "model.safetensors");
    assert_int_equal(far_counted().blocks, 0);
}

/* What the device keeps to itself until somebody asks becomes one sentence; nothing leaks, and the
 * last whole checkpoint stays. */
static void failures_end_a_run_with_a_sentence(void **state)
{
    (void)state;
    static const struct {
        far_point point;
        int nth;
    } cases[] = {{FAR_UPLOAD, 1}, {FAR_UPLOAD, 40},  {FAR_DOWNLOAD, 1}, {FAR_DOWNLOAD, 30},
                 {FAR_KERNEL, 1}, {FAR_KERNEL, 300}, {FAR_RECORD, 1},   {FAR_REPLAY, 1},
                 {FAR_REPLAY, 7}, {FAR_ADAM, 1},     {FAR_ADAM, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[32];
        watch w = {0};
        zs_error err;
        snprintf(name, sizeof name, "failed-%zu", i);
        zs_train_config c = tiny_run(name, i % 2 ? "far-bf16" : "far");
        far_fail_at(cases[i].point, cases[i].nth);
        assert_int_equal(run(&c, &w, &err), ZS_E_IO);
        assert_non_null(strstr(err.message, "the far device failed"));
        far_reset();
        assert_int_equal(far_counted().blocks, 0);
        assert_int_equal(far_counted().tapes, 0);
    }
}

static void memory_that_is_not_there_is_named(void **state)
{
    (void)state;
    int named = 0;
    for (int nth = 1; nth < 12; nth++) {
        watch w = {0};
        zs_error err;
        zs_train_config c = tiny_run("nomem", "far-bf16");
        c.preview_images = 0;
        c.images = BATCH;
        far_fail_at(FAR_ALLOC, nth);
        int status = run(&c, &w, &err);
        far_reset();
        assert_int_equal(far_counted().blocks, 0);
        if (status == ZS_OK)
            break;
        assert_int_equal(status, ZS_E_NOMEM);
        assert_non_null(strstr(err.message, "far-bf16"));
        assert_true(strstr(err.message, "--set") || strstr(err.message, "--batch"));
        named++;
    }
    assert_int_equal(named, 9); /* five buffers, shadow, norm, arena, step */
}

static int setup(void **state)
{
    int status = scratch_make(state);
    far_install();
    tiny_halves("data", IMAGES, false);
    return status;
}

/* How a batch is cut when the nth block of memory is not there. */
static void fits(int64_t batch, unsigned flags, int missing, int64_t micro, unsigned taken)
{
    zs_gradient *g = NULL;
    zs_params *layout = NULL;
    zs_error err = {0};
    const zs_model_config model = tiny_autoencoder(DIM);
    must(zs_model_layout(&layout, &model, &err), &err);
    zs_gradient_config c = {.model = &model,
                            .objective = ZS_OBJECTIVE_IMAGES,
                            .layout = layout,
                            .batch = batch,
                            .backend = &far_f32,
                            .exec_flags = flags};
    far_fail_at(FAR_ALLOC, missing);
    must(zs_gradient_fit(&g, &c, &err), &err);
    far_reset();
    assert_int_equal(c.micro, micro);
    assert_int_equal(c.exec_flags, taken);
    zs_gradient_free(&g);
    zs_params_free(&layout);
    assert_int_equal(far_counted().blocks, 0);
}

/* What a run says about it. */
static void says_when_a_batch_is_cut(const char *backend, int missing, bool cut)
{
    watch w = {0};
    zs_error err;
    zs_train_config c = tiny_run("cut", backend);
    c.out = scratch_path("cut-%s-%d", backend, missing);
    c.micro_batch = 0;
    c.preview_images = 0;
    c.images = BATCH;
    far_fail_at(FAR_ALLOC, missing);
    must(run(&c, &w, &err), &err);
    far_reset();
    assert_int_equal(w.cut, cut);
}

static void batches_are_cut_to_fit(void **state)
{
    (void)state;
    says_when_a_batch_is_cut("cpu", 1, false);
    says_when_a_batch_is_cut("far", 1000, false);
    says_when_a_batch_is_cut("far", 7, true); /* five buffers and the norm, then the arena */
    fits(48, 0, 1000, 48, 0);
    fits(48, 0, 1, 24, 0);
    fits(16, 0, 1, 16, ZS_EXEC_RECOMPUTE); /* rather than 8 at a time */
    fits(6, ZS_EXEC_RECOMPUTE, 1, 3, ZS_EXEC_RECOMPUTE);
    zs_gradient *g = NULL;
    zs_error err = {0};
    zs_gradient_config c = {.batch = 1, .exec_flags = ZS_EXEC_RECOMPUTE, .backend = &far_f32};
    const zs_model_config model = tiny_autoencoder(DIM);
    must(zs_model_layout(&c.layout, &model, &err), &err);
    c.model = &model;
    far_fail_at(FAR_ALLOC, 1);
    must_refuse(zs_gradient_fit(&g, &c, &err), &err, ZS_E_NOMEM, "out of memory");
    far_reset();
    zs_params_free(&c.layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_precision_trains_to_the_same_bits),
        cmocka_unit_test(resumes_to_the_same_bits),
        cmocka_unit_test(devices_read_each_others_checkpoints),
        cmocka_unit_test(half_precision_learns_alike),
        cmocka_unit_test(starts_from_a_model),
        cmocka_unit_test(priors_train_to_the_same_bits),
        cmocka_unit_test(failures_end_a_run_with_a_sentence),
        cmocka_unit_test(memory_that_is_not_there_is_named),
        cmocka_unit_test(batches_are_cut_to_fit),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
