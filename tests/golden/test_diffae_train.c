/* SPDX-License-Identifier: MIT */
/* Five optimiser steps of the authors' training loop, with recorded timesteps and noise: losses,
 * gradient norms, weights and moving average. */
#include "tests/golden/golden.h"
#include "tests/unit/must.h"

#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "diffae-tiny32";
enum { STEPS = 5, BATCH = 2 };

typedef struct bench {
    zs_tensorfile *f;
    zs_model *raw; /* where training starts, the moving average as well */
    zs_params *layout;
    zs_model_config config;
    zs_train_state s;
    zs_gradient *g;
    float *x0;
} bench;

static void open_bench(bench *b, const char *backend, int64_t micro, unsigned flags)
{
    zs_error err = {0};
    zs_shape xs;
    const zs_model_options o = {.raw = true};
    memset(b, 0, sizeof *b);
    b->f = golden_open(SET, "golden.safetensors");
    b->x0 = golden_nhwc(b->f, "x0", &xs);
    must(zs_model_open(&b->raw, golden_checkpoint(SET), &o, &err), &err);
    b->config = *zs_model_configuration(b->raw);
    must(zs_model_layout(&b->layout, &b->config, &err), &err);
    must(zs_train_state_new(&b->s, b->layout, zs_backend_find(backend), &err), &err);
    assert_int_equal(b->s.b.n, zs_params_numel(zs_model_params(b->raw)));
    memcpy(b->s.b.param, zs_model_weights(b->raw), b->s.b.n * sizeof(float));
    memcpy(b->s.b.ema, zs_model_weights(b->raw), b->s.b.n * sizeof(float));
    const zs_gradient_config gc = {.model = &b->config,
                                   .layout = b->layout,
                                   .batch = BATCH,
                                   .micro = micro,
                                   .backend = zs_backend_find(backend),
                                   .exec_flags = flags};
    must(zs_gradient_new(&b->g, &gc, &err), &err);
}

static void close_bench(bench *b)
{
    zs_gradient_free(&b->g);
    zs_train_state_free(&b->s);
    zs_params_free(&b->layout);
    zs_model_close(&b->raw);
    zs_free(b->x0);
    zs_tensorfile_close(&b->f);
}

static void close_to(const char *what, int k, double got, double want, double tolerance)
{
    double e = fabs(got - want) / fabs(want);
    if (!(e <= tolerance))
        fail_msg("step %d: %s %.9g, want %.9g: error %g is above %g", k, what, got, want, e,
                 tolerance);
}

static void step(bench *b, const zs_optim_config *c, int k, double want_loss)
{
    zs_error err = {0};
    zs_shape xs;
    size_t n;
    char name[32];
    double loss;
    snprintf(name, sizeof name, "train.noise.%d", k);
    float *noise = golden_nhwc(b->f, name, &xs);
    snprintf(name, sizeof name, "train.t.%d", k);
    int64_t *t = golden_i64(b->f, name, &n);
    snprintf(name, sizeof name, "train.grad_norm.%d", k);
    float *want_norm = golden_f32(b->f, name, &n);
    const zs_train_batch batch = {.x = b->x0, .target = noise, .t = t};
    must(zs_gradient_run(b->g, &b->s, &batch, &loss, &err), &err);
    double norm = zs_grad_norm(b->s.b.grad, b->s.b.n);
    zs_optim_step(c, &b->s.b, ++b->s.step, norm);
    print_message("step %d: loss %.7f (%.7f), gradient norm %.6f (%.6f)\n", k, loss, want_loss,
                  norm, (double)want_norm[0]);
    close_to("loss", k, loss, want_loss, 1e-4);
    close_to("gradient norm", k, norm, (double)want_norm[0], 1e-3);
    zs_free(noise);
    zs_free(t);
    zs_free(want_norm);
}

/* What training did to the weight, not where the weight happens to be. */
static void compare_change(const bench *b, const float *flat, const float *start,
                           const char *tensor, const char *param)
{
    size_t n;
    float *want = golden_f32(b->f, tensor, &n), *got = zs_alloc(n, sizeof *got),
          *before = zs_alloc(n, sizeof *before);
    long i = zs_params_find(b->layout, param);
    assert_true(i >= 0);
    zs_params_export(b->layout, (size_t)i, flat, got);
    zs_params_export(b->layout, (size_t)i, start, before);
    double whole = golden_norm_error(got, want, n), change = 0.0, d2 = 0.0;
    for (size_t j = 0; j < n; j++) {
        d2 += pow((double)got[j] - (double)want[j], 2.0);
        change += pow((double)before[j] - (double)want[j], 2.0);
    }
    print_message("%-36s error %.1e, of the change %.1e\n", tensor, whole, sqrt(d2 / change));
    const double slack = golden_slack(SET);
    if (!(whole <= 1e-5 * slack && sqrt(d2 / change) <= 1e-3 * slack))
        fail_msg("%s: error %g", tensor, whole);
    zs_free(want);
    zs_free(got);
    zs_free(before);
}

static void train(const char *backend, int64_t micro, unsigned flags)
{
    bench b;
    size_t n;
    const zs_optim_config c = zs_optim_defaults(); /* the authors' */
    print_message("%s, micro-batches of %d\n", backend, (int)micro);
    open_bench(&b, backend, micro, flags);
    float *losses = golden_f32(b.f, "train.loss", &n);
    assert_int_equal(n, STEPS);
    for (int k = 0; k < STEPS; k++)
        step(&b, &c, k, (double)losses[k]);
    const float *raw = zs_model_weights(b.raw);
    compare_change(&b, b.s.b.param, raw, "train.final.out.2.weight", "out.2.weight");
    compare_change(&b, b.s.b.param, raw, "train.final.encoder.out.3.weight",
                   "encoder.out.3.weight");
    compare_change(&b, b.s.b.ema, raw, "train.ema.out.2.weight", "out.2.weight");
    zs_free(losses);
    close_bench(&b);
}

static void five_steps(void **state)
{
    (void)state;
    golden_need(SET);
    train("cpu", 2, 0);
}

static void in_pieces(void **state)
{
    (void)state;
    golden_need(SET);
    train("cpu", 1, ZS_EXEC_RECOMPUTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_steps),
        cmocka_unit_test(in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, golden_teardown);
}
