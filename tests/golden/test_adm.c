/* SPDX-License-Identifier: MIT */
/* The ADM UNet and the Gaussian diffusion with a learned variance against the authors' code: one
 * call with every tap, both samplers with recorded noise, tables, loss and all gradients. */
#include "tests/golden/golden.h"

#include "diffusion/diffusion.h"
#include "models/models.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "rcg-adm", DIT[] = "rcg-dit";

enum { SIDE = 16, REP = 32, STEPS = 25 };

static const zs_adm_config config = {.levels = 2,
                                     .in_channels = 3,
                                     .model_channels = 32,
                                     .ch = {32, 64},
                                     .num_res_blocks = 1,
                                     .attn_levels = 1u << 1,
                                     .head_channels = 16,
                                     .rep_dim = REP,
                                     .learn_sigma = true};

/* One network call to 1e-5 with the reference kernels, 1e-4 with the fast ones. */
typedef struct backend {
    const char *name;
    double tolerance;
} backend;
static const backend backends[] = {{"cpu-ref", 1e-5}, {"cpu", 1e-4}};

/* ---- the network ---- */

typedef struct net {
    zs_params *ps;
    float *weights;
    zs_exec *e;
    int64_t n;
    const float *rep;
    /* every x that it was asked about, in order, NHWC */
    float *seen;
    int64_t calls;
} net;

typedef struct tap {
    const char *name;
    float *want;
    size_t n;
    double error;
} tap;

/* What the authors' modules return is the result of one node each. */
static void find_taps(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    (void)node;
    (void)op;
    (void)seconds;
    for (tap *t = ctx; t->name; t++)
        if ((size_t)zs_shape_numel(&c->out[0].s) == t->n)
            t->error = fmin(t->error, golden_max_error(c->out[0].p, t->want, t->n));
}

static zs_tid build(zs_nn *nn, int64_t n)
{
    zs_tid x = zs_graph_input(nn->g, "x", zs_shape4(n, SIDE, SIDE, 3));
    zs_tid t = zs_graph_input(nn->g, "t", zs_shape1(n));
    zs_tid rep = zs_graph_input(nn->g, "rep", zs_shape2(n, REP));
    zs_tid out = zs_adm_build(nn, &config, x, t, rep, ZS_NONE);
    zs_graph_output(nn->g, "out", out);
    return out;
}

static void add_loss(zs_graph *g, zs_tid out, int64_t n)
{
    zs_shape s = zs_shape4(n, SIDE, SIDE, 3);
    zs_tid noise = zs_graph_input(g, "noise", s), x0 = zs_graph_input(g, "x0", s), parts;
    zs_tid steps = zs_graph_input(g, "steps", zs_shape2(n, ZS_BOUND_NUMBERS));
    zs_tid loss = zs_loss_vlb(g, &parts, out, noise, x0, steps);
    zs_graph_output(g, "loss", loss);
    zs_graph_output(g, "parts", parts);
    zs_graph_backward(g, loss);
}

/* Weights below `prefix` of the checkpoint; with the loss when train. */
static net open_net(const char *prefix, int64_t n, bool train, const char *backend_name, tap *taps)
{
    net m = {.n = n};
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_tensorfile *f = golden_open(SET, "checkpoint-last.pth");
    assert_int_equal(zs_params_new(&m.ps, &err), ZS_OK);
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_nn nn = {.g = g, .ps = m.ps, .train = train};
    zs_tid out = build(&nn, n);
    if (train)
        add_loss(g, out, n);
    m.weights = zs_alloc((size_t)zs_params_numel(m.ps), sizeof *m.weights);
    if (zs_params_import(m.ps, m.weights, f, prefix, &err) < 0)
        fail_msg("%s", err.message);
    const zs_exec_config c = {.backend = zs_backend_find(backend_name),
                              .hook = taps ? find_taps : NULL,
                              .hook_ctx = taps};
    if (zs_exec_new(&m.e, &g, &c, &err) < 0)
        fail_msg("%s", err.message);
    zs_tensorfile_close(&f);
    return m;
}

static void close_net(net *m)
{
    zs_exec_free(&m->e);
    zs_params_free(&m->ps);
    zs_free(m->weights);
    zs_free(m->seen);
}

static void feed(net *m, const char *name, const float *v)
{
    zs_shape s = zs_exec_shape(m->e, name);
    memcpy(zs_exec_input(m->e, name), v, (size_t)zs_shape_numel(&s) * sizeof *v);
}

static const float *run(net *m, const float *x, const int64_t *t, const float *rep, float *grads)
{
    zs_error err = {0};
    const zs_step step = {.grad_scale = 1};
    feed(m, "x", x);
    feed(m, "rep", rep);
    for (int64_t i = 0; i < m->n; i++)
        zs_exec_input(m->e, "t")[i] = (float)t[i];
    if (zs_exec_run(m->e, m->weights, grads, &step, &err) < 0)
        fail_msg("%s", err.message);
    return zs_exec_output(m->e, "out");
}

static void check(const char *what, const char *name, double error, double tolerance)
{
    print_message("%-8s %-14s error %.1e\n", name, what, error);
    if (!(error <= tolerance))
        fail_msg("%s with %s: error %g is above %g", what, name, error, tolerance);
}

/* ---- one call ---- */

static tap *read_taps(zs_tensorfile *f)
{
    static const char *const names[] = {"in0", "in1", "in2", "mid", "out0"};
    tap *t = zs_calloc(7, sizeof *t);
    assert_non_null(t);
    t[0] = (tap){.name = "emb", .error = 1e9};
    t[0].want = golden_f32(f, "fwd.tap.emb", &t[0].n);
    for (int i = 0; i < 5; i++) {
        char key[32];
        zs_shape s;
        (void)snprintf(key, sizeof key, "fwd.tap.%s", names[i]);
        t[i + 1] = (tap){.name = names[i], .want = golden_nhwc(f, key, &s), .error = 1e9};
        t[i + 1].n = (size_t)zs_shape_numel(&s);
    }
    return t;
}

static void free_taps(tap *taps)
{
    for (tap *t = taps; t->name; t++)
        zs_free(t->want);
    zs_free(taps);
}

static void predicts(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape s;
    size_t n;
    float *x = golden_nhwc(f, "fwd.x", &s), *rep = golden_f32(f, "rep", &n);
    float *want = golden_nhwc(f, "fwd.out", &s), *raw = golden_nhwc(f, "fwd.out_raw_weights", &s);
    int64_t *t = golden_i64(f, "fwd.t", &n);
    size_t numel = (size_t)zs_shape_numel(&s);
    for (int i = 0; i < 2; i++) {
        const backend *b = &backends[i];
        tap *taps = read_taps(f);
        net ema = open_net("model_ema.", 2, false, b->name, taps);
        check("fwd.out", b->name, golden_max_error(run(&ema, x, t, rep, NULL), want, numel),
              b->tolerance);
        for (tap *k = taps; k->name; k++)
            check(k->name, b->name, k->error, b->tolerance);
        close_net(&ema);
        net trained = open_net("model.", 2, false, b->name, NULL);
        check("raw weights", b->name, golden_max_error(run(&trained, x, t, rep, NULL), raw, numel),
              b->tolerance);
        close_net(&trained);
        free_taps(taps);
    }
    zs_free(x);
    zs_free(rep);
    zs_free(want);
    zs_free(raw);
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

static zs_schedule spaced(const char *spec)
{
    zs_schedule full, s;
    zs_error err = {0};
    assert_int_equal(zs_schedule_make(&full, "linear", 1000, &err), ZS_OK);
    if (zs_schedule_respace(&s, &full, spec, &err) < 0)
        fail_msg("%s", err.message);
    zs_schedule_free(&full);
    return s;
}

static void check_loop_tables(const char *set, const char *loop, const char *spec)
{
    zs_tensorfile *f = golden_open(set, "golden.safetensors");
    zs_schedule s = spaced(spec);
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

static int ask(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    net *m = ctx;
    (void)err;
    int64_t *all = zs_alloc((size_t)m->n, sizeof *all);
    size_t size = (size_t)(m->n * SIDE * SIDE * 3);
    assert_non_null(all);
    memcpy(m->seen + (size_t)m->calls++ * size, x, size * sizeof *x);
    for (int64_t i = 0; i < m->n; i++)
        all[i] = t;
    memcpy(out, run(m, x, all, m->rep, NULL), 2 * size * sizeof *out);
    zs_free(all);
    return ZS_OK;
}

/* [steps,n,c,h,w] of the file -> [steps,n,h,w,c]; *n floats. */
static float *steps_nhwc(zs_tensorfile *f, const char *name, size_t *n)
{
    float *nchw = golden_f32(f, name, n), *nhwc = zs_alloc(*n, sizeof *nhwc);
    assert_non_null(nhwc);
    zs_nhwc_from_nchw(nhwc, nchw, (int64_t)*n / (SIDE * SIDE * 3), SIDE, SIDE, 3);
    zs_free(nchw);
    return nhwc;
}

typedef struct loop {
    const char *name, *spec;
    const zs_sampler *sampler;
    double eta;
    const char *noises; /* or NULL */
    int every;          /* steps between the recorded states */
} loop;

static void check_states(zs_tensorfile *f, const loop *l, const net *m)
{
    char key[64];
    size_t n, size = (size_t)(m->n * SIDE * SIDE * 3);
    (void)snprintf(key, sizeof key, "%s.x_in", l->name);
    float *want = steps_nhwc(f, key, &n);
    double worst = 0;
    for (size_t i = 0; i < n / size; i++)
        worst = fmax(
            worst, golden_norm_error(m->seen + i * (size_t)l->every * size, want + i * size, size));
    check(key, "cpu", worst, 1e-3);
    zs_free(want);
}

static void check_loop(zs_tensorfile *f, const loop *l)
{
    net m = open_net("model_ema.", 2, false, "cpu", NULL);
    zs_schedule schedule = spaced(l->spec);
    zs_shape s;
    zs_error err = {0};
    char key[64];
    size_t n;
    float *x = golden_nhwc(f, "x_T", &s), *rep = golden_f32(f, "rep", &n);
    float *noise = l->noises ? steps_nhwc(f, l->noises, &n) : NULL;
    const zs_sampling c = {.schedule = &schedule,
                           .n = 2,
                           .numel = SIDE * SIDE * 3,
                           .net = ask,
                           .net_ctx = &m,
                           .channels = 3,
                           .extra = 3,
                           .variance = ZS_VAR_LEARNED,
                           .clip = true,
                           .eta = l->eta,
                           .noise = {.recorded = noise}};
    m.rep = rep;
    m.seen = zs_alloc((size_t)zs_shape_numel(&s) * STEPS, sizeof *m.seen);
    assert_non_null(m.seen);
    if (zs_sample(l->sampler, &c, x, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(m.calls, STEPS);
    (void)snprintf(key, sizeof key, "%s.sample", l->name);
    float *want = golden_nhwc(f, key, &s);
    check(key, "cpu", golden_norm_error(x, want, (size_t)zs_shape_numel(&s)), 1e-3);
    check_states(f, l, &m);
    zs_free(x);
    zs_free(rep);
    zs_free(noise);
    zs_free(want);
    zs_schedule_free(&schedule);
    close_net(&m);
}

static void samples(void **state)
{
    static const loop loops[] = {
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

static double norm_of(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

/* Each tensor to 1e-3 of its norm; one without gradient must be tiny beside the whole. */
static double worst_gradient(const net *m, const float *g)
{
    zs_tensorfile *f = golden_gradients(SET);
    double worst = 0, whole = norm_of(g, (size_t)zs_params_numel(m->ps));
    assert_int_equal(zs_params_count(m->ps), golden_gradient_count(f));
    for (size_t i = 0; i < zs_params_count(m->ps); i++) {
        const zs_param *p = zs_params_at(m->ps, i);
        double norm;
        float *got = zs_alloc((size_t)p->numel, sizeof *got);
        assert_non_null(got);
        zs_params_export(m->ps, i, g, got);
        double e = golden_gradient_error(f, p->name, got, (size_t)p->numel, &norm);
        bool none = norm < 1e-6 * whole;
        if (none)
            e = norm_of(got, (size_t)p->numel) / whole;
        if (!(e <= (none ? 1e-6 : 1e-3)))
            fail_msg("gradient of %s: error %g is above 1e-3", p->name, e);
        worst = fmax(worst, e);
        zs_free(got);
    }
    zs_tensorfile_close(&f);
    return worst;
}

static void feed_batch(net *m, zs_tensorfile *f, const int64_t *t, float *x_t, float *x0)
{
    zs_schedule s = spaced("1000");
    zs_shape shape;
    float *noise = golden_nhwc(f, "loss.noise", &shape);
    size_t each = (size_t)zs_shape_numel(&shape) / 4;
    for (size_t i = 0; i < 4 * each; i++)
        x0[i] = 2 * x0[i] - 1;
    for (size_t i = 0; i < 4; i++) {
        zs_q_sample(x_t + i * each, x0 + i * each, noise + i * each, s.abar[t[i]], each);
        zs_bound_row(zs_exec_input(m->e, "steps") + i * ZS_BOUND_NUMBERS, &s, t[i]);
    }
    feed(m, "noise", noise);
    feed(m, "x0", x0);
    zs_schedule_free(&s);
    zs_free(noise);
}

static void check_losses(zs_tensorfile *f, const net *m, const backend *b)
{
    static const char *const names[] = {"loss.mse", "loss.vb"};
    size_t n;
    float *loss = golden_f32(f, "loss.loss", &n);
    double mean = 0;
    for (int k = 0; k < 2; k++) {
        float got[4], *want = golden_f32(f, names[k], &n);
        assert_int_equal(n, 4);
        for (size_t i = 0; i < n; i++) {
            got[i] = zs_exec_output(m->e, "parts")[2 * i + (size_t)k];
            check(names[k], b->name, fabs((double)(got[i] - want[i])) / (double)want[i], 1e-4);
        }
        zs_free(want);
    }
    for (size_t i = 0; i < n; i++)
        mean += (double)loss[i] / (double)n;
    check("loss", b->name, fabs((double)*zs_exec_output(m->e, "loss") - mean) / mean, 1e-5);
    zs_free(loss);
}

static void differentiates(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    size_t n;
    zs_shape s;
    int64_t *t = golden_i64(f, "loss.t", &n);
    float *rep = golden_f32(f, "loss.rep", &n);
    for (int i = 0; i < 2; i++) {
        net m = open_net("model.", 4, true, backends[i].name, NULL);
        float *x0 = golden_nhwc(f, "loss.image01", &s);
        float *x_t = zs_alloc((size_t)zs_shape_numel(&s), sizeof *x_t);
        float *g = zs_calloc((size_t)zs_params_numel(m.ps), sizeof *g);
        assert_true(x_t && g);
        feed_batch(&m, f, t, x_t, x0);
        (void)run(&m, x_t, t, rep, g);
        check_losses(f, &m, &backends[i]);
        check("gradients", backends[i].name, worst_gradient(&m, g), 1e-3);
        zs_free(x0);
        zs_free(x_t);
        zs_free(g);
        close_net(&m);
    }
    zs_free(t);
    zs_free(rep);
    zs_tensorfile_close(&f);
}

/* ---- the published model ---- */

static void shape_text(char *buf, size_t cap, const zs_param *p)
{
    size_t n = 0;
    for (int i = 0; i < p->nd; i++)
        n += (size_t)snprintf(buf + n, cap - n, i ? "x%lld" : "%lld", (long long)p->shape[i]);
}

/* Every parameter's name, shape and place in the order. */
static void has_the_official_names(void **state)
{
    (void)state;
    zs_preset preset;
    char path[512], line[512], want[512], shape[96];
    zs_params *ps = NULL;
    zs_error err = {0};
    size_t i = 0;
    if (!golden_path(path, "keys", "adm_256_repcond.tsv")) {
        print_message("SKIPPED: no listing of the published ADM UNet\n");
        skip();
    }
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(zs_preset_find(&preset, "adm256-rep", &err), ZS_OK);
    if (zs_model_layout(&ps, &preset.generator, &err) < 0)
        fail_msg("%s", err.message);
    for (; fgets(line, sizeof line, f); i++) {
        if (i >= zs_params_count(ps))
            fail_msg("the network ends before %s", line);
        shape_text(shape, sizeof shape, zs_params_at(ps, i));
        (void)snprintf(want, sizeof want, "%s\t%s\n", zs_params_at(ps, i)->name, shape);
        assert_string_equal(want, line);
    }
    assert_int_equal(i, zs_params_count(ps));
    assert_true(i > 400);
    (void)fclose(f);
    zs_params_free(&ps);
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
