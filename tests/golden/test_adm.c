/* SPDX-License-Identifier: MIT */
/* The ADM UNet and the Gaussian diffusion with a learned variance against the authors' code: one
 * call with every tap, both samplers with recorded noise, tables, loss and all gradients. */
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char SET[] = "rcg-adm", DIT[] = "rcg-dit";

enum { SIDE = 16, REP = 32, STEPS = 25, IMAGE = SIDE * SIDE * 3, TRAINED = 4 };

/* ---- the network ---- */

typedef struct wanted {
    int64_t n;
    bool train;
} wanted;

static void build(zs_nn *nn, const void *ctx)
{
    const wanted *w = ctx;
    zs_tid x = zs_graph_input(nn->g, "x", zs_shape4(w->n, SIDE, SIDE, 3));
    zs_tid t = zs_graph_input(nn->g, "t", zs_shape1(w->n));
    zs_tid rep = zs_graph_input(nn->g, "rep", zs_shape2(w->n, REP));
    zs_tid out = zs_adm_build(nn, &net_adm, x, t, rep, ZS_NONE);
    zs_graph_output(nn->g, "out", out);
    if (w->train)
        net_add_loss(nn->g, out);
}

/* Weights below `prefix` of the checkpoint; with the loss when train. */
static net open_net(const char *prefix, bool train, const char *backend, net_tap *taps)
{
    const wanted w = {train ? TRAINED : 2, train};
    return net_open(
        SET, "checkpoint-last.pth", prefix,
        &(net_recipe){.build = build, .ctx = &w, .train = train, .backend = backend, .taps = taps});
}

/* ---- one call ---- */

static void predicts(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    static const char *const taps_of[] = {"emb", "in0", "in1", "in2", "mid", "out0", NULL};
    zs_shape s;
    size_t n;
    float *x = golden_nhwc(f, "fwd.x", &s), *rep = golden_f32(f, "rep", &n);
    int64_t *t = golden_i64(f, "fwd.t", &n);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        net_tap *taps = net_taps(f, "fwd.tap.", taps_of);
        net ema = open_net("model_ema.", false, b->name, taps);
        net raw = open_net("model.", false, b->name, NULL);
        golden_agrees(f, "fwd.out", b->name, net_call(&ema, x, t, rep, NULL), 4 * IMAGE,
                      b->tolerance);
        net_taps_check(taps, b);
        golden_agrees(f, "fwd.out_raw_weights", b->name, net_call(&raw, x, t, rep, NULL), 4 * IMAGE,
                      b->tolerance);
        net_close(&ema);
        net_close(&raw);
        net_taps_free(taps);
    }
    zs_free(x);
    zs_free(rep);
    zs_free(t);
    zs_tensorfile_close(&f);
}

/* ---- tables ---- */

static void check_table(zs_tensorfile *f, const char *loop, const char *name, const double *got)
{
    char key[64];
    size_t n;
    (void)snprintf(key, sizeof key, "%s.%s", loop, name);
    float *want = golden_f32(f, key, &n);
    assert_int_equal(n, STEPS);
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - (double)want[i]) <= 1e-6 * fabs((double)want[i])))
            fail_msg("%s, step %zu: %.9g, not %.9g", key, i, got[i], (double)want[i]);
    zs_free(want);
}

static void check_loop_tables(const char *set, const char *loop, const char *spec)
{
    zs_tensorfile *f = golden_open(set, "golden.safetensors");
    zs_schedule s = golden_schedule("linear", 1000, spec);
    double log_var[STEPS], to_x0[STEPS], to_x[STEPS];
    char key[64];
    size_t n;
    (void)snprintf(key, sizeof key, "%s.timestep_map", loop);
    int64_t *t = golden_i64(f, key, &n);
    assert_int_equal(s.n, STEPS);
    assert_memory_equal(s.t, t, sizeof *t * STEPS);
    for (int i = 0; i < STEPS; i++) {
        zs_posterior p = zs_posterior_at(&s, i);
        log_var[i] = p.log_small;
        to_x0[i] = p.to_x0;
        to_x[i] = p.to_x;
    }
    check_table(f, loop, "alphas_cumprod", s.abar);
    check_table(f, loop, "betas", s.beta);
    check_table(f, loop, "posterior_log_variance_clipped", log_var);
    check_table(f, loop, "posterior_mean_coef1", to_x0);
    check_table(f, loop, "posterior_mean_coef2", to_x);
    zs_free(t);
    zs_schedule_free(&s);
    zs_tensorfile_close(&f);
}

static void tables(void **state)
{
    (void)state;
    golden_need(SET);
    golden_need(DIT);
    check_loop_tables(SET, "p25", "25");
    check_loop_tables(SET, "ddim25", "ddim25");
    check_loop_tables(DIT, "p25", "25");
    check_loop_tables(DIT, "ddim25", "ddim25");
}

/* ---- samplers ---- */

static void check_loop(zs_tensorfile *f, const net_loop *l)
{
    net m = open_net("model_ema.", false, "cpu", NULL);
    size_t n;
    float *rep = golden_f32(f, "rep", &n);
    const zs_sampling c = {.n = 2,
                           .numel = IMAGE,
                           .net = net_ask,
                           .net_ctx = &m,
                           .channels = 3,
                           .extra = 3,
                           .variance = ZS_VAR_LEARNED,
                           .clip = true};
    m.rep = rep;
    net_check_loop(&m, f, l, &c, "x_T");
    assert_int_equal(m.calls, STEPS);
    zs_free(rep);
    net_close(&m);
}

static void samples(void **state)
{
    static const net_loop loops[] = {
        {"p25", "25", &zs_sampler_ddpm, 0, "p25.noises", 1},
        {"ddim25.eta0", "ddim25", &zs_sampler_ddim, 0, NULL, 8},
        {"ddim25.eta1", "ddim25", &zs_sampler_ddim, 1, "ddim25.eta1.noises", 8},
    };
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        check_loop(f, &loops[i]);
    zs_tensorfile_close(&f);
}

/* ---- loss and gradients ---- */

static void differentiates(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors"), *fg = golden_gradients(SET);
    size_t n;
    zs_shape s;
    int64_t *t = golden_i64(f, "loss.t", &n);
    assert_int_equal(n, TRAINED);
    float *rep = golden_f32(f, "loss.rep", &n), *x0 = golden_nhwc(f, "loss.image01", &s);
    float *noise = golden_nhwc(f, "loss.noise", &s), x_t[TRAINED * IMAGE];
    for (size_t i = 0; i < TRAINED * IMAGE; i++)
        x0[i] = 2 * x0[i] - 1;
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        net m = open_net("model.", true, b->name, NULL);
        float *g = zs_calloc((size_t)zs_params_numel(m.ps), sizeof *g);
        assert_non_null(g);
        net_feed_loss(&m, x_t, x0, noise, t);
        (void)net_call(&m, x_t, t, rep, g);
        net_check_losses(&m, f, b, 0);
        golden_within("gradients", b->name, golden_worst_gradient(fg, m.ps, g, 1e-3, 1e-6, NULL),
                      1e-3);
        zs_free(g);
        net_close(&m);
    }
    zs_free(x0);
    zs_free(noise);
    zs_free(t);
    zs_free(rep);
    zs_tensorfile_close(&f);
    zs_tensorfile_close(&fg);
}

/* ---- the published model ---- */

static void has_the_official_names(void **state)
{
    (void)state;
    zs_preset preset;
    zs_params *ps = NULL;
    zs_error err = {0};
    must(zs_preset_find(&preset, "adm256-rep", &err), &err);
    must(zs_model_layout(&ps, &preset.generator, &err), &err);
    assert_true(zs_params_count(ps) > 400);
    bool there = golden_same_keys("adm_256_repcond.tsv", ps);
    zs_params_free(&ps);
    if (!there)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predicts),
        cmocka_unit_test(tables),
        cmocka_unit_test(samples),
        cmocka_unit_test(differentiates),
        cmocka_unit_test(has_the_official_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
