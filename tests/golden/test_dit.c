/* SPDX-License-Identifier: MIT */
/* The diffusion transformer against the authors' code: one call with its parts, without a
 * representation, guidance, samplers with recorded noise, loss, all gradients, three steps of
 * training, and the published sizes by name. */
#include "tests/golden/golden.h"

#include "diffusion/diffusion.h"
#include "models/dit.h"

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
                                     .out_channels = 2 * CH,
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
    bool by_class;
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
    net m = {.n = n, .by_class = w == WITH_CLASS};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
