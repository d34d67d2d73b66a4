/* SPDX-License-Identifier: MIT */
/* The representation diffusion model against the authors' code: the network, every gradient, the
 * process, sampling with recorded noise, and training steps. */
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include "models/infer_rdm.h"
#include "train/state.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "rcg-rdm";
static const char *const variants[] = {"uncond", "classcond"};
enum { BATCH = 3, DIM = 32, STEPS = 3, LATENT_STEPS = 25 };

/* One variant: its golden file, and its checkpoint's weights. */
typedef struct bench {
    zs_tensorfile *f, *checkpoint;
    zs_rdm_file file;
    zs_params *ps;
    float *weights;
    zs_exec *e; /* x_t, t, label, target -> out, loss */
    float label[BATCH];
} bench;

static void need(void)
{
    golden_need_file(SET, "golden-uncond.safetensors");
}

static void build(zs_nn *nn, const void *ctx)
{
    const bench *b = ctx;
    zs_graph *g = nn->g;
    zs_shape s = zs_shape2(BATCH, DIM), one = zs_shape1(BATCH);
    zs_tid x = zs_graph_input(g, "x_t", s), t = zs_graph_input(g, "t", one);
    zs_tid label = b->file.net.conditional ? zs_graph_input(g, "label", one) : ZS_NONE;
    zs_tid out = zs_rdm_build(nn, &b->file.net, x, t, label);
    zs_tid loss = zs_loss_node(g, out, zs_graph_input(g, "target", s), ZS_NONE, ZS_LOSS_MSE);
    zs_graph_output(g, "out", out);
    zs_graph_output(g, "loss", loss);
    zs_graph_backward(g, loss);
}

static void read_weights(bench *b, bool raw)
{
    zs_error err = {0};
    b->file.averaged = !raw;
    for (size_t i = 0; i < zs_params_count(b->ps); i++) {
        char name[256];
        zs_rdm_tensor(name, sizeof name, &b->file, zs_params_at(b->ps, i)->name);
        must(zs_params_read(b->ps, i, b->weights, b->checkpoint, name, &err), &err);
    }
}

static void open_bench(bench *b, const char *variant, bool raw, const char *backend)
{
    char name[64];
    size_t n;
    zs_error err = {0};
    zs_facts facts = {0};
    memset(b, 0, sizeof *b);
    (void)snprintf(name, sizeof name, "golden-%s.safetensors", variant);
    b->f = golden_open(SET, name);
    (void)snprintf(name, sizeof name, "%s.pth", variant);
    b->checkpoint = golden_open(SET, name);
    must(zs_rdm_find(&b->file, b->checkpoint, raw, &facts, &err), &err);
    assert_true(b->file.averaged == !raw && b->file.encoder);
    zs_free(facts.f);
    must(zs_params_new(&b->ps, &err), &err);
    b->e = net_plan(b->ps, &(net_recipe){build, b, .train = true, .backend = backend});
    must(zs_rdm_check_leftovers(&b->file, b->ps, "", &err), &err);
    b->weights = zs_calloc((size_t)zs_params_numel(b->ps), sizeof(float));
    assert_non_null(b->weights);
    read_weights(b, raw);
    int64_t *label = golden_i64(b->f, "label", &n);
    for (int i = 0; i < BATCH; i++)
        b->label[i] = (float)label[i];
    zs_free(label);
}

static void close_bench(bench *b)
{
    zs_exec_free(&b->e);
    zs_params_free(&b->ps);
    zs_free(b->weights);
    zs_tensorfile_close(&b->f);
    zs_tensorfile_close(&b->checkpoint);
}

/* ---- the network ---- */

static void run(bench *b, const float *x_t, const float *t, const float *target, float *grads)
{
    net_feed(b->e, "x_t", x_t);
    net_feed(b->e, "t", t);
    net_feed(b->e, "target", target);
    if (zs_exec_input(b->e, "label"))
        net_feed(b->e, "label", b->label);
    net_run(b->e, b->weights, grads);
}

static void compare_forward(const char *variant, bool raw, const char *backend, double tolerance)
{
    bench b;
    size_t n;
    open_bench(&b, variant, raw, backend);
    float *x = golden_f32(b.f, "fwd.x", &n), *t = golden_f32(b.f, "fwd.t", &n);
    float *grads = zs_calloc((size_t)zs_params_numel(b.ps), sizeof *grads);
    run(&b, x, t, x, grads);
    golden_agrees(b.f, raw ? "fwd.out" : "fwd.out_ema", variant, zs_exec_output(b.e, "out"),
                  BATCH * DIM, tolerance);
    zs_free(grads);
    zs_free(x);
    zs_free(t);
    close_bench(&b);
}

static void network(void **state)
{
    (void)state;
    need();
    for (int i = 0; i < 4; i++) {
        compare_forward(variants[i / 2], i % 2, "cpu-ref", 1e-5);
        compare_forward(variants[i / 2], i % 2, "cpu", 1e-5);
    }
}

/* ---- loss and gradients ---- */

static float *noisy(const bench *b, const float *x0, const int64_t *t, const float *noise)
{
    zs_schedule s = golden_schedule(b->file.schedule, b->file.T, NULL);
    float *x_t = zs_alloc(BATCH * DIM, sizeof *x_t);
    assert_non_null(x_t);
    for (int i = 0; i < BATCH; i++)
        zs_q_sample(x_t + i * DIM, x0 + i * DIM, noise + i * DIM, s.abar[t[i]], DIM);
    zs_schedule_free(&s);
    return x_t;
}

static void as_floats(float *out, const int64_t *t)
{
    for (int i = 0; i < BATCH; i++)
        out[i] = (float)t[i];
}

static bool frozen(const zs_param *p)
{
    return !p->trainable;
}

static void compare_gradients(const bench *b, const char *variant, const float *grads)
{
    char name[64];
    (void)snprintf(name, sizeof name, "grads-%s.safetensors", variant);
    zs_tensorfile *f = golden_open(SET, name);
    golden_within("gradients", variant, golden_worst_gradient(f, b->ps, grads, 1e-4, 0, frozen),
                  1e-4);
    zs_tensorfile_close(&f);
}

static void compare_loss(const char *variant, const char *backend)
{
    bench b;
    size_t n;
    float tf[BATCH];
    open_bench(&b, variant, true, backend);
    float *x0 = golden_f32(b.f, "loss.x_start", &n), *noise = golden_f32(b.f, "loss.noise", &n);
    int64_t *t = golden_i64(b.f, "loss.t", &n);
    float *x_t = noisy(&b, x0, t, noise);
    golden_agrees(b.f, "loss.x_noisy", variant, x_t, BATCH * DIM, 1e-5);
    float *grads = zs_calloc((size_t)zs_params_numel(b.ps), sizeof *grads);
    as_floats(tf, t);
    run(&b, x_t, tf, x0, grads);
    golden_agrees(b.f, "loss.loss", variant, zs_exec_output(b.e, "loss"), 1, 1e-5);
    compare_gradients(&b, variant, grads);
    zs_free(grads);
    zs_free(x0);
    zs_free(noise);
    zs_free(t);
    zs_free(x_t);
    close_bench(&b);
}

static void gradients(void **state)
{
    (void)state;
    need();
    for (int i = 0; i < 2; i++) {
        compare_loss(variants[i], "cpu-ref");
        compare_loss(variants[i], "cpu");
    }
}

/* ---- the process and its samplers ---- */

static void tables(void **state)
{
    (void)state;
    need();
    bench b;
    size_t n;
    open_bench(&b, "uncond", false, NULL);
    assert_string_equal(b.file.schedule, "sqrt0.0015:0.0195");
    assert_int_equal(b.file.T, 1000);
    zs_schedule full = golden_schedule(b.file.schedule, b.file.T, NULL);
    zs_schedule s = golden_schedule(b.file.schedule, b.file.T, "ldm25");
    float *betas = golden_f32(b.checkpoint, "model.betas", &n);
    for (int i = 0; i < 1000; i++)
        assert_true(betas[i] == (float)full.beta[i]);
    zs_free(betas);
    betas = golden_f32(b.checkpoint, "model.alphas_cumprod", &n);
    for (int i = 0; i < 1000; i++)
        assert_true(fabs((double)betas[i] - full.abar[i]) <= 1e-7 * full.abar[i]);
    int64_t *t = golden_i64(b.f, "ddim25.timesteps", &n);
    float *a = golden_f32(b.f, "ddim25.alphas", &n);
    float *prev = golden_f32(b.f, "ddim25.alphas_prev", &n);
    assert_int_equal(s.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(s.t[i], t[i]);
        assert_true(fabs((double)a[i] - s.abar[i]) <= 1e-7 * s.abar[i]);
        assert_true(fabs((double)prev[i] - s.abar_prev[i]) <= 1e-7 * s.abar_prev[i]);
    }
    zs_free(betas);
    zs_free(t);
    zs_free(a);
    zs_free(prev);
    zs_schedule_free(&full);
    zs_schedule_free(&s);
    close_bench(&b);
}

static int predict(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    bench *b = ctx;
    float tf[BATCH] = {(float)t, (float)t, (float)t};
    float *grads = zs_calloc((size_t)zs_params_numel(b->ps), sizeof *grads);
    (void)err;
    run(b, x, tf, x, grads);
    memcpy(out, zs_exec_output(b->e, "out"), BATCH * DIM * sizeof *out);
    zs_free(grads);
    return ZS_OK;
}

static void sample(const char *variant, int eta, const char *backend)
{
    bench b;
    char name[64];
    size_t n;
    zs_error err = {0};
    open_bench(&b, variant, false, backend);
    zs_schedule s = golden_schedule(b.file.schedule, b.file.T, "ldm25");
    (void)snprintf(name, sizeof name, "ddim25.eta%d.noises", eta);
    float *noise = golden_f32(b.f, name, &n), *x = golden_f32(b.f, "x_T", &n);
    const zs_sampling k = {.schedule = &s,
                           .n = BATCH,
                           .numel = DIM,
                           .net = predict,
                           .net_ctx = &b,
                           .pred = ZS_PRED_X0,
                           .eta = eta,
                           .noise.recorded = noise};
    must(zs_sample(&zs_sampler_ddim, &k, x, &err), &err);
    (void)snprintf(name, sizeof name, "ddim25.eta%d.sample", eta);
    golden_agrees(b.f, name, variant, x, BATCH * DIM, 1e-4);
    zs_free(noise);
    zs_free(x);
    zs_schedule_free(&s);
    close_bench(&b);
}

static void sampling(void **state)
{
    (void)state;
    need();
    for (int i = 0; i < 4; i++) {
        sample(variants[i / 2], i % 2, "cpu-ref");
        sample(variants[i / 2], i % 2, "cpu");
    }
}

/* One ancestral step from three timesteps, the posterior's own variance (p_sample). */
static void ancestral_step(const char *variant)
{
    bench b;
    size_t n;
    float tf[BATCH];
    open_bench(&b, variant, false, NULL);
    zs_schedule full = golden_schedule(b.file.schedule, b.file.T, NULL);
    int64_t *t = golden_i64(b.f, "p_sample.t", &n);
    float *x = golden_f32(b.f, "p_sample.x", &n), *noise = golden_f32(b.f, "p_sample.noise", &n);
    float got[BATCH * DIM];
    float *grads = zs_calloc((size_t)zs_params_numel(b.ps), sizeof *grads);
    as_floats(tf, t);
    run(&b, x, tf, x, grads);
    for (int i = 0; i < BATCH * DIM; i++) {
        zs_posterior p = zs_posterior_at(&full, t[i / DIM]);
        double mean = p.to_x0 * (double)zs_exec_output(b.e, "out")[i] + p.to_x * (double)x[i];
        double sd = t[i / DIM] > 0 ? exp(0.5 * p.log_small) : 0.0;
        got[i] = (float)(mean + sd * (double)noise[i]);
    }
    golden_agrees(b.f, "p_sample.out", variant, got, BATCH * DIM, 1e-5);
    zs_free(grads);
    zs_free(t);
    zs_free(x);
    zs_free(noise);
    zs_schedule_free(&full);
    close_bench(&b);
}

static void ancestral(void **state)
{
    (void)state;
    need();
    ancestral_step("uncond");
    ancestral_step("classcond");
}

/* ---- training ---- */

/* The optimiser's state of a parameter is found by its place in the state_dict. */
static void read_moments(bench *b, zs_train_state *s)
{
    zs_error err = {0};
    int place = 0;
    for (size_t i = 0; i < zs_tensorfile_count(b->checkpoint); i++) {
        const char *name = zs_tensorfile_info(b->checkpoint, i)->name;
        const char *const parts[] = {"exp_avg", "exp_avg_sq"};
        float *const to[] = {s->b.m, s->b.v};
        if (!zs_str_starts(name, "model.model.") && !zs_str_starts(name, "model.cond_stage_model."))
            continue;
        long at = zs_params_find(b->ps, name + strlen("model."));
        assert_true(at >= 0);
        for (int k = 0; k < 2 && zs_params_at(b->ps, (size_t)at)->trainable; k++) {
            char full[64];
            (void)snprintf(full, sizeof full, "optimizer.state.%d.%s", place, parts[k]);
            must(zs_params_read(b->ps, (size_t)at, to[k], b->checkpoint, full, &err), &err);
        }
        place++;
    }
    assert_true(place > 30);
}

static void start_training(bench *b, zs_train_state *s)
{
    zs_error err = {0};
    size_t n;
    must(zs_train_state_new(s, b->ps, zs_backend_find(NULL), &err), &err);
    memcpy(s->b.param, b->weights, s->b.n * sizeof(float));
    read_weights(b, false);
    memcpy(s->b.ema, b->weights, s->b.n * sizeof(float));
    read_moments(b, s);
    int64_t *updates = golden_i64(b->checkpoint, "model.model_ema.num_updates", &n);
    s->step = updates[0];
    zs_free(updates);
}

static void train_step(bench *b, zs_train_state *s, const float *x0, int k, double want_loss,
                       double want_norm)
{
    /* the optimiser of the authors' main_rdm.py, and LitEma */
    static const zs_optim_config c = {.lr = 1e-3,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .eps = 1e-8,
                                      .weight_decay = 0.01,
                                      .decoupled = true,
                                      .ema = 0.9999,
                                      .ema_warmup = true,
                                      .ema_first = true};
    char name[32];
    float tf[BATCH];
    size_t n;
    (void)snprintf(name, sizeof name, "train.t.%d", k);
    int64_t *t = golden_i64(b->f, name, &n);
    (void)snprintf(name, sizeof name, "train.noise.%d", k);
    float *noise = golden_f32(b->f, name, &n), *x_t = noisy(b, x0, t, noise);
    as_floats(tf, t);
    memcpy(b->weights, s->b.param, s->b.n * sizeof(float));
    run(b, x_t, tf, x0, s->b.grad);
    double norm = zs_grad_norm(s->b.grad, s->b.n);
    double loss = (double)zs_exec_output(b->e, "loss")[0];
    s->step++;
    zs_train_state_step(s, &c, norm);
    print_message("step %d: loss %.7f (%.7f), gradient norm %.6f (%.6f)\n", k, loss, want_loss,
                  norm, want_norm);
    assert_true(fabs(loss - want_loss) <= 1e-5 * want_loss);
    assert_true(fabs(norm - want_norm) <= 1e-4 * want_norm);
    zs_free(t);
    zs_free(noise);
    zs_free(x_t);
}

/* What training did to the weight, not where the weight happens to be. */
static void compare_change(const bench *b, const float *flat, const float *start,
                           const char *tensor, const char *param)
{
    size_t n;
    float *want = golden_f32(b->f, tensor, &n);
    long i = zs_params_find(b->ps, param);
    assert_true(i >= 0);
    int64_t at = zs_params_at(b->ps, (size_t)i)->offset;
    double change = 0.0, off = 0.0;
    for (size_t j = 0; j < n; j++) {
        off += pow((double)flat[at + (int64_t)j] - (double)want[j], 2.0);
        change += pow((double)start[at + (int64_t)j] - (double)want[j], 2.0);
    }
    print_message("%-60s off by %.1e of a change of %.1e\n", tensor, sqrt(off), sqrt(change));
    if (!(sqrt(off) <= 1e-3 * sqrt(change) + 1e-7))
        fail_msg("%s: off by %g", tensor, sqrt(off));
    zs_free(want);
}

static void three_steps(const char *variant)
{
    static const char *const names[][2] = {
        {"model.diffusion_model.out.2.weight", "model_ema.diffusion_modelout2weight"},
        {"model.diffusion_model.input_proj.weight", NULL},
        {"model.diffusion_model.res_blocks.1.in_layers.0.weight",
         "model_ema.diffusion_modelres_blocks1in_layers0weight"},
        {"cond_stage_model.embedding.weight", NULL}};
    bench b;
    zs_train_state s;
    char tensor[128];
    size_t n;
    open_bench(&b, variant, true, NULL);
    start_training(&b, &s);
    float *x0 = golden_f32(b.f, "rep", &n), *loss = golden_f32(b.f, "train.loss", &n);
    float *norm = golden_f32(b.f, "train.grad_norm", &n);
    float *start = zs_alloc(2 * s.b.n, sizeof *start), *start_ema = start + s.b.n;
    memcpy(start, s.b.param, s.b.n * sizeof *start);
    memcpy(start_ema, s.b.ema, s.b.n * sizeof *start);
    for (int k = 0; k < STEPS; k++)
        train_step(&b, &s, x0, k, (double)loss[k], (double)norm[k]);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(tensor, sizeof tensor, "train.final.%s", names[i][0]);
        compare_change(&b, s.b.param, start, tensor, names[i][0]);
        (void)snprintf(tensor, sizeof tensor, "train.final.%s", names[i][1] ? names[i][1] : "");
        if (names[i][1])
            compare_change(&b, s.b.ema, start_ema, tensor, names[i][0]);
    }
    zs_free(x0);
    zs_free(loss);
    zs_free(norm);
    zs_free(start);
    zs_train_state_free(&s);
    close_bench(&b);
}

static void training(void **state)
{
    (void)state;
    need();
    three_steps("uncond");
    three_steps("classcond");
}

/* ---- the official sizes ---- */

static void build_one(zs_nn *nn, const void *ctx)
{
    const zs_rdm_config *c = ctx;
    zs_graph *g = nn->g;
    zs_tid x = zs_graph_input(g, "x", zs_shape2(1, c->z_dim));
    zs_tid t = zs_graph_input(g, "t", zs_shape1(1)), y = zs_graph_input(g, "y", zs_shape1(1));
    assert_true(zs_rdm_build(nn, c, x, t, y) >= 0);
}

/* Is "name\tshape" of the listing a parameter, or the average of one? */
static bool explained(const zs_params *ps, char *line)
{
    static const zs_rdm_file averaged = {.averaged = true};
    char shape[96], name[256], *tab = strchr(line, '\t');
    *tab = '\0';
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *p = zs_params_at(ps, i);
        zs_rdm_tensor(name, sizeof name, &averaged, p->name);
        if (strcmp(line, p->name) == 0 || strcmp(line, name) == 0)
            return strcmp(tab + 1, golden_shape_text(shape, p)) == 0;
    }
    return false;
}

static void compare_names(const char *file, const zs_rdm_config *c)
{
    char path[512], line[512];
    (void)snprintf(line, sizeof line, "%s.tsv", file);
    if (!golden_path(path, "keys", line)) {
        print_message("SKIPPED: no keys/%s.tsv; set ZSEM_GOLDENS to the folder that has it\n",
                      file);
        skip();
    }
    FILE *f = fopen(path, "r");
    zs_params *ps = NULL;
    zs_error err = {0};
    size_t trained = 0, averages = 0;
    assert_non_null(f);
    must(zs_params_new(&ps, &err), &err);
    net_layout(ps, build_one, c);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        bool weight = zs_str_starts(line, "model.") || zs_str_starts(line, "cond_stage_model.");
        bool average = zs_str_starts(line, "model_ema.diffusion_model");
        if ((weight || average) && !explained(ps, line))
            fail_msg("%s: the network has no %s", file, line);
        trained += weight;
        averages += average;
    }
    (void)fclose(f);
    print_message("%s: %zu parameters, %.1f million numbers\n", file, trained,
                  (double)zs_params_weights(ps) / 1e6);
    assert_int_equal(trained, zs_params_count(ps));
    assert_int_equal(averages, zs_params_count(ps) - 1);
    zs_params_free(&ps);
}

static void names(void **state)
{
    (void)state;
    zs_rdm_config c = {.blocks = 12,
                       .z_dim = 256,
                       .width = 1536,
                       .bottleneck = 1536,
                       .time_channels = 256,
                       .classes = 1,
                       .class_dim = 512};
    compare_names("rdm_mocov3vitb", &c);
    c.conditional = true;
    c.classes = 1000;
    compare_names("rdm_mocov3vitb_classcond", &c);
    compare_names("rdm_mocov3vitl_classcond", &c);
    c.conditional = false;
    c.classes = 1;
    compare_names("rdm_mocov3vitl", &c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(network),  cmocka_unit_test(gradients), cmocka_unit_test(tables),
        cmocka_unit_test(sampling), cmocka_unit_test(ancestral), cmocka_unit_test(training),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
