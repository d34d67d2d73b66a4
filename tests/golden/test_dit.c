/* SPDX-License-Identifier: MIT */
/* The diffusion transformer against the authors' code: one call with its parts, without a
 * representation, guidance, samplers with recorded noise, loss, all gradients, three steps of
 * training, and the published sizes by name. */
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

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

/* ---- the network ---- */

typedef enum use { WITH_REP, WITH_CLASS, TRAINING } use;

typedef struct wanted {
    const zs_dit_config *c;
    int64_t n;
    use use;
} wanted;

static void build(zs_nn *nn, const void *ctx)
{
    const wanted *w = ctx;
    zs_graph *g = nn->g;
    int64_t side = w->c->grid * w->c->patch;
    zs_dit_inputs in = {.x = zs_graph_input(g, "x", zs_shape4(w->n, side, side, CH)),
                        .t = zs_graph_input(g, "t", zs_shape1(w->n)),
                        .z = ZS_NONE,
                        .drop = ZS_NONE,
                        .y = ZS_NONE};
    if (w->use == WITH_CLASS)
        in.y = zs_graph_input(g, "y", zs_shape1(w->n));
    else
        in.z = zs_graph_input(g, "rep", zs_shape2(w->n, w->c->z_dim));
    if (w->use == TRAINING)
        in.drop = zs_graph_input(g, "drop", zs_shape1(w->n));
    zs_tid out = zs_dit_build(nn, w->c, &in);
    zs_graph_output(g, "out", out);
    if (w->use == TRAINING)
        net_add_loss(g, out);
}

static net open_net(const char *file, const char *prefix, use u, const char *backend, net_tap *taps)
{
    const wanted w = {&net_dit, u == TRAINING ? TRAINED : 2, u};
    return net_open(
        SET, file, prefix,
        &(net_recipe){
            .build = build, .ctx = &w, .train = u == TRAINING, .backend = backend, .taps = taps});
}

/* As most tests call it. */
static net open_averaged(const char *backend)
{
    return open_net("checkpoint-last.pth", "model_ema.", WITH_REP, backend, NULL);
}

/* ---- one call ---- */

/* The output of a call named in the file, from the named inputs. */
static void check_call(zs_tensorfile *f, net *m, const golden_backend *b,
                       const char *const names[4])
{
    zs_shape s;
    size_t n;
    float *x = golden_nhwc(f, names[0], &s), *rep = names[2] ? golden_f32(f, names[2], &n) : NULL;
    int64_t *t = golden_i64(f, names[1], &n);
    const float *got = net_call(m, x, t, rep, NULL);
    golden_agrees(f, names[3], b->name, got, 4 * IMAGE, b->tolerance);
    zs_free(x);
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
        use use;
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
    static const char *const taps_of[] = {"fwd.patches", "fwd.t_emb", "fwd.block0", NULL};
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        for (size_t k = 0; k < sizeof calls / sizeof calls[0]; k++) {
            net_tap *taps = k == 0 ? net_taps(f, "", taps_of) : NULL;
            net m = open_net(calls[k].file, calls[k].prefix, calls[k].use, b->name, taps);
            check_call(k == 3 ? fe : f, &m, b, calls[k].names);
            net_taps_check(taps, b);
            net_taps_free(taps);
            net_close(&m);
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
    net m = open_net("checkpoint-last.pth", "model.", WITH_REP, "cpu", NULL);
    long i = zs_params_find(m.ps, "pos_embed");
    assert_true(i >= 0);
    const zs_param *p = zs_params_at(m.ps, (size_t)i);
    float *fresh = zs_alloc((size_t)zs_params_numel(m.ps), sizeof *fresh);
    assert_non_null(fresh);
    zs_params_init(m.ps, fresh, 1);
    golden_near("pos_embed", "init", fresh + p->offset, m.weights + p->offset, (size_t)p->numel,
                1e-6);
    zs_free(fresh);
    net_close(&m);
}

/* ---- guidance and samplers ---- */

/* The halves of the authors' doubled batch: conditions, and the row that stands for none. */
static zs_guidance guidance_of(net *with, net *without, const float *rep, double scale)
{
    with->rep = rep;
    without->rep = rep + 2 * REP;
    return (zs_guidance){.cond = net_ask,
                         .cond_ctx = with,
                         .uncond = net_ask,
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
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        zs_error err = {0};
        net m[] = {open_averaged(b->name), open_averaged(b->name)};
        zs_guidance g = guidance_of(&m[0], &m[1], rep, (double)scale[0]);
        const zs_param *p = zs_params_at(m[0].ps, (size_t)zs_params_find(m[0].ps, "fake_latent"));
        assert_memory_equal(m[0].weights + p->offset, rep + 2 * REP, REP * sizeof *rep);
        assert_int_equal(zs_guidance_net(&g, z, t[0], got, &err), ZS_OK);
        golden_near("cfg.out", b->name, got, want, 4 * IMAGE, b->tolerance);
        zs_guidance_free(&g);
        net_close(&m[0]);
        net_close(&m[1]);
    }
    zs_free(z);
    zs_free(rep);
    zs_free(want);
    zs_free(scale);
    zs_free(t);
    zs_tensorfile_close(&f);
}

static void check_loop(zs_tensorfile *f, const net_loop *l, bool guided)
{
    net m[] = {open_averaged("cpu"), open_averaged("cpu")};
    size_t n;
    float *rep = golden_f32(f, "cfg.rep", &n);
    zs_guidance g = guidance_of(&m[0], &m[1], rep, 1.5);
    const zs_sampling c = {.n = 2,
                           .numel = IMAGE,
                           .net = guided ? zs_guidance_net : net_ask,
                           .net_ctx = guided ? (void *)&g : (void *)&m[0],
                           .channels = CH,
                           .extra = CH,
                           .variance = ZS_VAR_LEARNED};
    net_check_loop(&m[0], f, l, &c, "z");
    assert_int_equal(m[0].calls, STEPS);
    assert_int_equal(m[1].calls, guided ? STEPS : 0);
    zs_guidance_free(&g);
    zs_free(rep);
    net_close(&m[0]);
    net_close(&m[1]);
}

/* The authors sample ancestrally also over the timesteps that they call ddim25. */
static void samples(void **state)
{
    static const net_loop loops[] = {
        {"p25", "25", &zs_sampler_ddpm, 0, "p25.noises", 1},
        {"p25cfg", "25", &zs_sampler_ddpm, 0, "p25cfg.noises", 1},
        {"ddim25.ancestral", "ddim25", &zs_sampler_ddpm, 0, "ddim25.ancestral.noises", 1},
        {"ddim25.eta0", "ddim25", &zs_sampler_ddim, 0, NULL, 1},
        {"ddim25.eta1", "ddim25", &zs_sampler_ddim, 1, "ddim25.eta1.noises", 1},
    };
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        check_loop(f, &loops[i], i == 1);
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
    zs_shape shape;
    size_t n;
    float *x0 = golden_nhwc(f, "loss.x_start", &shape), *noise = golden_nhwc(f, b->noise, &shape);
    float *rep = golden_f32(f, "loss.rep", &n), *uniform = golden_f32(f, b->drop, &n);
    float x_t[TRAINED * IMAGE];
    int64_t *t = golden_i64(f, b->t, &n);
    assert_int_equal(n, TRAINED);
    for (size_t i = 0; i < TRAINED; i++)
        zs_exec_input(m->e, "drop")[i] = (double)uniform[i] < net_dit.z_drop ? 1.0f : 0.0f;
    net_feed_loss(m, x_t, x0, noise, t);
    (void)net_call(m, x_t, t, rep, grads);
    zs_free(x0);
    zs_free(noise);
    zs_free(rep);
    zs_free(uniform);
    zs_free(t);
    return *zs_exec_output(m->e, "loss");
}

/* The authors train neither. */
static bool without_gradient(const zs_param *p)
{
    return strcmp(p->name, "pos_embed") == 0 || zs_str_starts(p->name, "y_embedder.");
}

static void differentiates(void **state)
{
    (void)state;
    golden_need(SET);
    static const batch first = {"loss.t", "loss.noise", "loss.drop_uniform"};
    zs_tensorfile *f = golden_open(SET, "golden.safetensors"), *fg = golden_gradients(SET);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        net m = open_net("checkpoint-last.pth", "model.", TRAINING, b->name, NULL);
        float *g = zs_calloc((size_t)zs_params_numel(m.ps), sizeof *g);
        assert_non_null(g);
        (void)loss_of(&m, f, &first, g);
        /* a bound near 0 is the difference of two logarithms in f32 */
        net_check_losses(&m, f, b, 1e-3);
        double worst = golden_worst_gradient(fg, m.ps, g, 1e-3, 0, without_gradient);
        golden_within("gradients", b->name, worst, 1e-3);
        zs_free(g);
        net_close(&m);
    }
    zs_tensorfile_close(&f);
    zs_tensorfile_close(&fg);
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
        golden_within(key, "cpu", golden_norm_error(got, want, n), 1e-5);
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
    must(zs_params_import(m->ps, b->ema, f, "model_ema.", &err), &err);
    zs_tensorfile_close(&f);
}

/* The checkpoint goes on for three steps of AdamW: weights, moments and average. */
static void trains(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    net m = open_net("checkpoint-last.pth", "model.", TRAINING, "cpu", NULL);
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
        double error = fabs((double)(loss - want[i])) / (double)want[i];
        golden_within("train.loss", "cpu", error, 1e-4);
        zs_optim_step(&c, &b, (int64_t)i + 501, zs_grad_norm(b.grad, n));
    }
    check_weights(f, &m, "final", m.weights);
    check_weights(f, &m, "ema", b.ema);
    zs_free(want);
    zs_free(work);
    net_close(&m);
    zs_tensorfile_close(&f);
}

/* ---- the published models ---- */

static void has_the_official_names(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int depth;
        int64_t hidden;
    } models[] = {{"dit_l_2_repcond.tsv", 24, 1024}, {"dit_xl_2_repcond.tsv", 28, 1152}};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        zs_params *ps = NULL;
        zs_error err = {0};
        zs_dit_config c = net_dit;
        c.depth = models[i].depth;
        c.hidden = models[i].hidden;
        c.mlp = 4 * c.hidden;
        c.heads = zs_dit_heads(c.hidden);
        c.grid = 16;
        c.z_dim = 256;
        must(zs_params_new(&ps, &err), &err);
        net_layout(ps, build, &(wanted){&c, 1, WITH_REP});
        (void)golden_same_keys(models[i].file, ps);
        zs_params_free(&ps);
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
        (void)zs_dit_build(&nn, &net_dit, &in);
        must_refuse(zs_exec_new(&e, &g, &(zs_exec_config){0}, &err), &err, ZS_E_INVALID,
                    cases[i].why);
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
