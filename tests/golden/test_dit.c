/* SPDX-License-Identifier: MIT */
/* The diffusion transformer against the authors' code: one call with its parts, without a
 * representation, guidance, samplers with recorded noise, loss, all gradients, three steps of
 * training, and the published sizes by name. */
#include "tests/golden/golden.h"

#include "diffusion/diffusion.h"
#include "models/dit.h"
#include "train/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "rcg-dit";

enum { SIDE = 8, CH = 4, REP = 32, STEPS = 25, TRAINED = 5, IMAGE = SIDE * SIDE * CH };

static const zs_dit_config config = {.depth = 3,
                                     .heads = 4,
                                     .hidden = 64,
                                     .mlp = 256,
                                     .patch = 2,
                                     .grid = 4,
                                     .in_channels = CH,
                                     .learn_sigma = true,
                                     .time_channels = 256,
                                     .z_dim = REP,
                                     .classes = 1,
                                     .substitute = true,
                                     .z_drop = 0.1};

/* One network call to 1e-5 with the reference kernels, 1e-4 with the fast ones. */
typedef struct backend {
    const char *name;
    double tolerance;
} backend;
static const backend backends[] = {{"cpu-ref", 1e-5}, {"cpu", 1e-4}};

/* ---- the network ---- */

typedef struct tap {
    const char *name;
    float *want;
    size_t n;
    double error;
} tap;

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

typedef enum use { WITH_REP, WITH_CLASS, TRAINING } use;

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

static zs_tid build(zs_nn *nn, int64_t n, use w)
{
    zs_graph *g = nn->g;
    zs_dit_inputs in = {.x = zs_graph_input(g, "x", zs_shape4(n, SIDE, SIDE, CH)),
                        .t = zs_graph_input(g, "t", zs_shape1(n)),
                        .z = ZS_NONE,
                        .drop = ZS_NONE,
                        .y = ZS_NONE};
    if (w == WITH_CLASS)
        in.y = zs_graph_input(g, "y", zs_shape1(n));
    else
        in.z = zs_graph_input(g, "rep", zs_shape2(n, REP));
    if (w == TRAINING)
        in.drop = zs_graph_input(g, "drop", zs_shape1(n));
    zs_tid out = zs_dit_build(nn, &config, &in);
    zs_graph_output(g, "out", out);
    return out;
}

static void add_loss(zs_graph *g, zs_tid out, int64_t n)
{
    zs_shape s = zs_shape4(n, SIDE, SIDE, CH);
    zs_tid noise = zs_graph_input(g, "noise", s), x0 = zs_graph_input(g, "x0", s), parts;
    zs_tid steps = zs_graph_input(g, "steps", zs_shape2(n, ZS_BOUND_NUMBERS));
    zs_tid loss = zs_loss_vlb(g, &parts, out, noise, x0, steps);
    zs_graph_output(g, "loss", loss);
    zs_graph_output(g, "parts", parts);
    zs_graph_backward(g, loss);
}

static net open_net(const char *file, const char *prefix, int64_t n, use w,
                    const char *backend_name, tap *taps)
{
    net m = {.n = n};
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_tensorfile *f = golden_open(SET, file);
    assert_int_equal(zs_params_new(&m.ps, &err), ZS_OK);
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_nn nn = {.g = g, .ps = m.ps, .train = w == TRAINING};
    zs_tid out = build(&nn, n, w);
    if (w == TRAINING)
        add_loss(g, out, n);
    m.weights = zs_alloc((size_t)zs_params_numel(m.ps), sizeof *m.weights);
    assert_non_null(m.weights);
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

static void feed_whole(net *m, const char *name, const int64_t *v)
{
    for (int64_t i = 0; i < m->n; i++)
        zs_exec_input(m->e, name)[i] = (float)v[i];
}

/* rep NULL: class 0. */
static const float *run(net *m, const float *x, const int64_t *t, const float *rep, float *grads)
{
    zs_error err = {0};
    const zs_step step = {.grad_scale = 1};
    feed(m, "x", x);
    feed_whole(m, "t", t);
    if (rep)
        feed(m, "rep", rep);
    else
        memset(zs_exec_input(m->e, "y"), 0, (size_t)m->n * sizeof(float));
    if (zs_exec_run(m->e, m->weights, grads, &step, &err) < 0)
        fail_msg("%s", err.message);
    return zs_exec_output(m->e, "out");
}

static void check(const char *what, const char *name, double error, double tolerance)
{
    print_message("%-8s %-16s error %.1e\n", name, what, error);
    if (!(error <= tolerance))
        fail_msg("%s with %s: error %g is above %g", what, name, error, tolerance);
}

/* ---- one call ---- */

static tap *read_taps(zs_tensorfile *f)
{
    static const char *const names[] = {"fwd.patches", "fwd.t_emb", "fwd.block0"};
    tap *t = zs_calloc(4, sizeof *t);
    assert_non_null(t);
    for (int i = 0; i < 3; i++) {
        t[i] = (tap){.name = names[i], .error = 1e9};
        t[i].want = golden_f32(f, names[i], &t[i].n);
    }
    return t;
}

/* The output of a call named in the file, from the named inputs. */
static void check_call(zs_tensorfile *f, net *m, const backend *b, const char *const names[4])
{
    zs_shape s;
    size_t n;
    float *x = golden_nhwc(f, names[0], &s), *want = golden_nhwc(f, names[3], &s);
    float *rep = names[2] ? golden_f32(f, names[2], &n) : NULL;
    int64_t *t = golden_i64(f, names[1], &n);
    const float *got = run(m, x, t, rep, NULL);
    check(names[3], b->name, golden_max_error(got, want, (size_t)zs_shape_numel(&s)), b->tolerance);
    zs_free(x);
    zs_free(want);
    zs_free(rep);
    zs_free(t);
}

static void predicts(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_tensorfile *fe = golden_open(SET, "golden-eps.safetensors");
    static const struct {
        const char *file, *prefix, *names[4];
        use w;
    } calls[] = {
        {"checkpoint-last.pth", "model_ema.", {"fwd.x", "fwd.t", "rep", "fwd.out"}, WITH_REP},
        {"checkpoint-last.pth",
         "model.",
         {"fwd.x", "fwd.t", "rep", "fwd.out_raw_weights"},
         WITH_REP},
        {"checkpoint-last.pth",
         "model_ema.",
         {"fwd.x", "fwd.t", NULL, "fwd.out_no_rep"},
         WITH_CLASS},
        {"eps_probe.pth", "model.", {"x", "t", "rep", "out"}, WITH_REP},
    };
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof calls / sizeof calls[0]; k++) {
            tap *taps = k == 0 ? read_taps(f) : NULL;
            net m = open_net(calls[k].file, calls[k].prefix, 2, calls[k].w, backends[i].name, taps);
            check_call(k == 3 ? fe : f, &m, &backends[i], calls[k].names);
            for (tap *t = taps; t && t->name; t++) {
                check(t->name, backends[i].name, t->error, backends[i].tolerance);
                zs_free(t->want);
            }
            zs_free(taps);
            close_net(&m);
        }
    }
    zs_tensorfile_close(&f);
    zs_tensorfile_close(&fe);
}

/* The table that training starts with is the stored one. */
static void starts_with_their_positions(void **state)
{
    (void)state;
    golden_need(SET);
    net m = open_net("checkpoint-last.pth", "model.", 1, WITH_REP, "cpu", NULL);
    long i = zs_params_find(m.ps, "pos_embed");
    assert_true(i >= 0);
    const zs_param *p = zs_params_at(m.ps, (size_t)i);
    float *fresh = zs_alloc((size_t)zs_params_numel(m.ps), sizeof *fresh);
    assert_non_null(fresh);
    zs_params_init(m.ps, fresh, 1);
    check("pos_embed", "init",
          golden_max_error(fresh + p->offset, m.weights + p->offset, (size_t)p->numel), 1e-6);
    zs_free(fresh);
    close_net(&m);
}

/* ---- guidance and samplers ---- */

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

static int ask(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    net *m = ctx;
    const int64_t all[2] = {t, t};
    size_t size = (size_t)m->n * IMAGE;
    (void)err;
    if (m->seen)
        memcpy(m->seen + (size_t)m->calls * size, x, size * sizeof *x);
    m->calls++;
    memcpy(out, run(m, x, all, m->rep, NULL), 2 * size * sizeof *out);
    return ZS_OK;
}

/* The halves of the authors' doubled batch: conditions, and the row that stands for none. */
static zs_guidance guidance_of(net *with, net *without, const float *rep, double scale)
{
    with->rep = rep;
    without->rep = rep + 2 * REP;
    return (zs_guidance){.cond = ask,
                         .cond_ctx = with,
                         .uncond = ask,
                         .uncond_ctx = without,
                         .scale = scale,
                         .positions = 2 * SIDE * SIDE,
                         .pitch = 2 * CH,
                         .guided = 3};
}

static void guides(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape s;
    size_t n;
    float *z = golden_nhwc(f, "z", &s), *rep = golden_f32(f, "cfg.rep", &n);
    float *want = golden_nhwc(f, "cfg.out", &s), *scale = golden_f32(f, "cfg.scale", &n);
    int64_t *t = golden_i64(f, "cfg.t", &n);
    float got[4 * IMAGE];
    for (int i = 0; i < 2; i++) {
        const backend *b = &backends[i];
        zs_error err = {0};
        net m[2];
        for (int k = 0; k < 2; k++)
            m[k] = open_net("checkpoint-last.pth", "model_ema.", 2, WITH_REP, b->name, NULL);
        zs_guidance g = guidance_of(&m[0], &m[1], rep, (double)scale[0]);
        const zs_param *p = zs_params_at(m[0].ps, (size_t)zs_params_find(m[0].ps, "fake_latent"));
        assert_memory_equal(m[0].weights + p->offset, rep + 2 * REP, REP * sizeof *rep);
        assert_int_equal(zs_guidance_net(&g, z, t[0], got, &err), ZS_OK);
        check("cfg.out", b->name, golden_max_error(got, want, 4 * IMAGE), b->tolerance);
        zs_guidance_free(&g);
        close_net(&m[0]);
        close_net(&m[1]);
    }
    zs_free(z);
    zs_free(rep);
    zs_free(want);
    zs_free(scale);
    zs_free(t);
    zs_tensorfile_close(&f);
}

/* [steps,n,c,h,w] of the file -> the first two of each n, [steps,2,h,w,c]; NULL for no name. */
static float *steps_nhwc(zs_tensorfile *f, const char *name, size_t per)
{
    size_t n;
    if (!name)
        return NULL;
    float *nchw = golden_f32(f, name, &n), *nhwc = zs_alloc(STEPS * 2 * IMAGE, sizeof *nhwc);
    assert_non_null(nhwc);
    assert_int_equal(n, STEPS * per * IMAGE);
    for (size_t i = 0; i < STEPS; i++)
        zs_nhwc_from_nchw(nhwc + i * 2 * IMAGE, nchw + i * per * IMAGE, 2, SIDE, SIDE, CH);
    zs_free(nchw);
    return nhwc;
}

typedef struct loop {
    const char *name, *spec;
    const zs_sampler *sampler;
    double eta;
    const char *noises; /* or NULL */
    bool guided;
} loop;

static void check_states(zs_tensorfile *f, const loop *l, const net *m)
{
    char key[64];
    (void)snprintf(key, sizeof key, "%s.x_in", l->name);
    float *want = steps_nhwc(f, key, l->guided ? 4 : 2);
    double worst = 0;
    for (size_t i = 0; i < STEPS; i++)
        worst = fmax(worst,
                     golden_norm_error(m->seen + i * 2 * IMAGE, want + i * 2 * IMAGE, 2 * IMAGE));
    check(key, "cpu", worst, 1e-3);
    zs_free(want);
}

static void run_loop(const loop *l, net m[2], const float *rep, const float *noise, float *x)
{
    zs_schedule schedule = spaced(l->spec);
    zs_error err = {0};
    zs_guidance g = guidance_of(&m[0], &m[1], rep, 1.5);
    const zs_sampling c = {.schedule = &schedule,
                           .n = 2,
                           .numel = IMAGE,
                           .net = l->guided ? zs_guidance_net : ask,
                           .net_ctx = l->guided ? (void *)&g : (void *)&m[0],
                           .channels = CH,
                           .extra = CH,
                           .variance = ZS_VAR_LEARNED,
                           .eta = l->eta,
                           .noise = {.recorded = noise}};
    m[0].seen = zs_alloc(STEPS * 2 * IMAGE, sizeof *m[0].seen);
    assert_non_null(m[0].seen);
    if (zs_sample(l->sampler, &c, x, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(m[0].calls, STEPS);
    zs_guidance_free(&g);
    zs_schedule_free(&schedule);
}

static void check_loop(zs_tensorfile *f, const loop *l)
{
    net m[2];
    char key[64];
    zs_shape s;
    size_t n;
    float *x = golden_nhwc(f, "z", &s), *rep = golden_f32(f, "cfg.rep", &n);
    float *noise = steps_nhwc(f, l->noises, l->guided ? 4 : 2);
    for (int k = 0; k < 2; k++)
        m[k] = open_net("checkpoint-last.pth", "model_ema.", 2, WITH_REP, "cpu", NULL);
    run_loop(l, m, rep, noise, x);
    (void)snprintf(key, sizeof key, "%s.sample", l->name);
    float *want = golden_nhwc(f, key, &s);
    check(key, "cpu", golden_norm_error(x, want, 2 * IMAGE), 1e-3);
    check_states(f, l, &m[0]);
    zs_free(x);
    zs_free(rep);
    zs_free(noise);
    zs_free(want);
    close_net(&m[0]);
    close_net(&m[1]);
}

/* The authors sample ancestrally also over the timesteps that they call ddim25. */
static void samples(void **state)
{
    static const loop loops[] = {
        {"p25", "25", &zs_sampler_ddpm, 0, "p25.noises", false},
        {"p25cfg", "25", &zs_sampler_ddpm, 0, "p25cfg.noises", true},
        {"ddim25.ancestral", "ddim25", &zs_sampler_ddpm, 0, "ddim25.ancestral.noises", false},
        {"ddim25.eta0", "ddim25", &zs_sampler_ddim, 0, NULL, false},
        {"ddim25.eta1", "ddim25", &zs_sampler_ddim, 1, "ddim25.eta1.noises", false},
    };
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        check_loop(f, &loops[i]);
    zs_tensorfile_close(&f);
}

/* ---- loss, gradients, training ---- */

/* Names of one batch: loss.*, or those of a step of training. */
typedef struct batch {
    char t[40], noise[40], drop[40];
} batch;

/* Feeds a batch of the recorded images and representations and runs it. */
static float loss_of(net *m, zs_tensorfile *f, const batch *b, float *grads)
{
    zs_schedule s = spaced("1000");
    zs_shape shape;
    size_t n;
    float *x0 = golden_nhwc(f, "loss.x_start", &shape), *noise = golden_nhwc(f, b->noise, &shape);
    float *rep = golden_f32(f, "loss.rep", &n), *uniform = golden_f32(f, b->drop, &n);
    float x_t[TRAINED * IMAGE];
    int64_t *t = golden_i64(f, b->t, &n);
    assert_int_equal(n, TRAINED);
    for (size_t i = 0; i < TRAINED; i++) {
        size_t at = i * IMAGE;
        zs_q_sample(x_t + at, x0 + at, noise + at, s.abar[t[i]], IMAGE);
        zs_bound_row(zs_exec_input(m->e, "steps") + i * ZS_BOUND_NUMBERS, &s, t[i]);
        zs_exec_input(m->e, "drop")[i] = (double)uniform[i] < config.z_drop ? 1.0f : 0.0f;
    }
    feed(m, "noise", noise);
    feed(m, "x0", x0);
    (void)run(m, x_t, t, rep, grads);
    zs_free(x0);
    zs_free(noise);
    zs_free(rep);
    zs_free(uniform);
    zs_free(t);
    zs_schedule_free(&s);
    return *zs_exec_output(m->e, "loss");
}

static double norm_of(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

/* Each tensor to 1e-3 of its norm; those that the authors have no gradient of are zero. */
static double worst_gradient(const net *m, const float *g)
{
    zs_tensorfile *f = golden_gradients(SET);
    double worst = 0;
    size_t count = 0;
    for (size_t i = 0; i < zs_params_count(m->ps); i++) {
        const zs_param *p = zs_params_at(m->ps, i);
        double norm;
        float *got = zs_alloc((size_t)p->numel, sizeof *got);
        assert_non_null(got);
        zs_params_export(m->ps, i, g, got);
        if (strcmp(p->name, "pos_embed") == 0 || zs_str_starts(p->name, "y_embedder.")) {
            assert_true(norm_of(got, (size_t)p->numel) == 0);
        } else {
            double e = golden_gradient_error(f, p->name, got, (size_t)p->numel, &norm);
            if (!(e <= 1e-3))
                fail_msg("gradient of %s: error %g is above 1e-3", p->name, e);
            worst = fmax(worst, e);
            count++;
        }
        zs_free(got);
    }
    assert_int_equal(count, golden_gradient_count(f));
    zs_tensorfile_close(&f);
    return worst;
}

static void check_losses(zs_tensorfile *f, const net *m, const backend *b, float got)
{
    static const char *const names[] = {"loss.mse", "loss.vb"};
    size_t n;
    float *loss = golden_f32(f, "loss.loss", &n);
    double mean = 0;
    for (int k = 0; k < 2; k++) {
        float *want = golden_f32(f, names[k], &n);
        assert_int_equal(n, TRAINED);
        for (size_t i = 0; i < n; i++) {
            float part = zs_exec_output(m->e, "parts")[2 * i + (size_t)k];
            /* a bound near 0 is the difference of two logarithms in f32 */
            double size = fmax((double)want[i], 1e-3);
            check(names[k], b->name, fabs((double)(part - want[i])) / size, 1e-4);
        }
        zs_free(want);
    }
    for (size_t i = 0; i < n; i++)
        mean += (double)loss[i] / (double)n;
    check("loss", b->name, fabs((double)got - mean) / mean, 1e-5);
    zs_free(loss);
}

static void differentiates(void **state)
{
    (void)state;
    golden_need(SET);
    static const batch first = {"loss.t", "loss.noise", "loss.drop_uniform"};
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    for (int i = 0; i < 2; i++) {
        net m =
            open_net("checkpoint-last.pth", "model.", TRAINED, TRAINING, backends[i].name, NULL);
        float *g = zs_calloc((size_t)zs_params_numel(m.ps), sizeof *g);
        assert_non_null(g);
        check_losses(f, &m, &backends[i], loss_of(&m, f, &first, g));
        check("gradients", backends[i].name, worst_gradient(&m, g), 1e-3);
        zs_free(g);
        close_net(&m);
    }
    zs_tensorfile_close(&f);
}

/* Weights and their average after training, as far as they are recorded. */
static void check_weights(zs_tensorfile *f, const net *m, const char *what, const float *flat)
{
    static const char *const names[] = {"final_layer.linear.weight",
                                        "blocks.0.adaLN_modulation.1.bias", "rep_embedder.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char key[96];
        size_t n;
        (void)snprintf(key, sizeof key, "train.%s.%s", what, names[i]);
        float *want = golden_f32(f, key, &n), *got = zs_alloc(n, sizeof *got);
        assert_non_null(got);
        zs_params_export(m->ps, (size_t)zs_params_find(m->ps, names[i]), flat, got);
        check(key, "cpu", golden_norm_error(got, want, n), 1e-5);
        zs_free(got);
        zs_free(want);
    }
}

/* Moments of AdamW at step 500 from the checkpoint, where parameters are counted in the order of
 * the network. */
static void read_moments(const net *m, const zs_optim_buffers *b)
{
    zs_error err = {0};
    zs_tensorfile *f = golden_open(SET, "checkpoint-last.pth");
    for (size_t i = 0; i < zs_params_count(m->ps); i++) {
        char name[64];
        for (int k = 0; k < 2; k++) {
            (void)snprintf(name, sizeof name, "optimizer.state.%zu.exp_avg%s", i, k ? "_sq" : "");
            if (zs_tensorfile_find(f, name) >= 0)
                assert_int_equal(zs_params_read(m->ps, i, k ? b->v : b->m, f, name, &err), ZS_OK);
        }
    }
    if (zs_params_import(m->ps, b->ema, f, "model_ema.", &err) < 0)
        fail_msg("%s", err.message);
    zs_tensorfile_close(&f);
}

/* The checkpoint goes on for three steps of AdamW: weights, moments and average. */
static void trains(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    net m = open_net("checkpoint-last.pth", "model.", TRAINED, TRAINING, "cpu", NULL);
    size_t n = (size_t)zs_params_numel(m.ps), steps;
    float *want = golden_f32(f, "train.loss", &steps), *work = zs_calloc(n, 4 * sizeof *work);
    assert_non_null(work);
    const zs_optim_config c = {
        .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decoupled = true, .ema = 0.9999};
    const zs_optim_buffers b = {m.weights, work, work + n, work + 2 * n, work + 3 * n, n};
    read_moments(&m, &b);
    for (size_t i = 0; i < steps; i++) {
        batch step;
        (void)snprintf(step.t, sizeof step.t, "train.t.%zu", i);
        (void)snprintf(step.noise, sizeof step.noise, "train.noise.%zu", i);
        (void)snprintf(step.drop, sizeof step.drop, "train.drop_uniform.%zu", i);
        float loss = loss_of(&m, f, &step, b.grad);
        check("train.loss", "cpu", fabs((double)(loss - want[i])) / (double)want[i], 1e-4);
        zs_optim_step(&c, &b, (int64_t)i + 501, zs_grad_norm(b.grad, n));
    }
    check_weights(f, &m, "final", m.weights);
    check_weights(f, &m, "ema", b.ema);
    zs_free(want);
    zs_free(work);
    close_net(&m);
    zs_tensorfile_close(&f);
}

/* ---- the published models ---- */

static void shape_text(char *buf, size_t cap, const zs_param *p)
{
    size_t n = 0;
    for (int i = 0; i < p->nd; i++)
        n += (size_t)snprintf(buf + n, cap - n, i ? "x%lld" : "%lld", (long long)p->shape[i]);
}

/* Every parameter's name, shape and place in the order. */
static void check_names(const char *path, const zs_dit_config *c)
{
    char line[512], want[512], shape[96];
    zs_params *ps = NULL;
    zs_graph *g = NULL;
    zs_error err = {0};
    size_t i = 0;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_nn nn = {.g = g, .ps = ps};
    const zs_dit_inputs in = {.x = zs_graph_input(g, "x", zs_shape4(1, 32, 32, 4)),
                              .t = zs_graph_input(g, "t", zs_shape1(1)),
                              .z = zs_graph_input(g, "rep", zs_shape2(1, 256)),
                              .drop = ZS_NONE,
                              .y = ZS_NONE};
    (void)zs_dit_build(&nn, c, &in);
    assert_int_equal(zs_graph_status(g), ZS_OK);
    for (; fgets(line, sizeof line, f); i++) {
        if (i >= zs_params_count(ps))
            fail_msg("the network ends before %s", line);
        shape_text(shape, sizeof shape, zs_params_at(ps, i));
        (void)snprintf(want, sizeof want, "%s\t%s\n", zs_params_at(ps, i)->name, shape);
        assert_string_equal(want, line);
    }
    assert_int_equal(i, zs_params_count(ps));
    (void)fclose(f);
    zs_graph_free(&g);
    zs_params_free(&ps);
}

static void has_the_official_names(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int depth;
        int64_t hidden;
    } models[] = {{"dit_l_2_repcond.tsv", 24, 1024}, {"dit_xl_2_repcond.tsv", 28, 1152}};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char path[512];
        zs_dit_config c = config;
        c.depth = models[i].depth;
        c.hidden = models[i].hidden;
        c.mlp = 4 * c.hidden;
        c.heads = zs_dit_heads(c.hidden);
        c.grid = 16;
        c.z_dim = 256;
        if (golden_path(path, "keys", models[i].file))
            check_names(path, &c);
        else
            print_message("SKIPPED: no keys/%s\n", models[i].file);
    }
}

static void refuses_other_images(void **state)
{
    (void)state;
    static const struct {
        zs_shape x;
        int64_t rep;
        const char *why;
    } cases[] = {
        {{4, {1, 8, 8, 4}}, 31, "takes codes of 32 dimensions, not 31"},
        {{4, {1, 8, 8, 3}}, 32, "8x8 with 4 channels, not 8x8 with 3"},
        {{4, {1, 16, 8, 4}}, 32, "8x8 with 4 channels, not 8x16 with 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zs_error err = {0};
        zs_params *ps = NULL;
        zs_graph *g = NULL;
        zs_exec *e = NULL;
        assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
        assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
        zs_nn nn = {.g = g, .ps = ps};
        const zs_dit_inputs in = {.x = zs_graph_input(g, "x", cases[i].x),
                                  .t = zs_graph_input(g, "t", zs_shape1(1)),
                                  .z = zs_graph_input(g, "rep", zs_shape2(1, cases[i].rep)),
                                  .drop = ZS_NONE,
                                  .y = ZS_NONE};
        (void)zs_dit_build(&nn, &config, &in);
        assert_int_equal(zs_exec_new(&e, &g, &(zs_exec_config){0}, &err), ZS_E_INVALID);
        assert_non_null(strstr(err.message, cases[i].why));
        zs_params_free(&ps);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predicts),
        cmocka_unit_test(starts_with_their_positions),
        cmocka_unit_test(guides),
        cmocka_unit_test(samples),
        cmocka_unit_test(differentiates),
        cmocka_unit_test(trains),
        cmocka_unit_test(has_the_official_names),
        cmocka_unit_test(refuses_other_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
