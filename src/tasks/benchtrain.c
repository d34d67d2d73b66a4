/* SPDX-License-Identifier: MIT */
/* Whole training steps: drawing noise, forward, backward, clipping, Adam and the moving average. */
#include "tasks/benchrow.h"
#include "train/train.h"

#include <stdio.h>
#include <string.h>

enum { SAVED_STEPS = 3 };

typedef struct step {
    const zs_bench_row *row;
    zs_params *ps;
    zs_train_state s;
    zs_optim_config optim;
    double flops, loss, grad_norm;
    float *x0; /* images [n,h,w,c], or codes [n,z_dim] */
    size_t numel;
    const int64_t *t; /* of the last step */
    const float *noise;
    /* of images */
    zs_model_config c;
    zs_gradient *gradient;
    /* of codes */
    zs_schedule schedule;
    zs_exec *exec;
    int64_t *own_t;
    float *own_noise;
} step;

static void step_close(void **state)
{
    step *k = *state;
    if (!k)
        return;
    zs_gradient_free(&k->gradient);
    zs_exec_free(&k->exec);
    zs_schedule_free(&k->schedule);
    if (k->s.backend)
        zs_train_state_free(&k->s);
    zs_params_free(&k->ps);
    zs_free(k->x0);
    zs_free(k->own_t);
    zs_free(k->own_noise);
    zs_free(k);
    *state = NULL;
}

static zs_optim_config optim_of(const zs_preset_train *t)
{
    zs_optim_config o = zs_optim_defaults();
    o.lr = t->lr;
    o.weight_decay = t->weight_decay;
    o.decoupled = strcmp(t->optimizer, "adamw") == 0;
    o.clip = t->clip;
    o.ema = t->ema;
    return o;
}

static int step_new(void **state, const zs_bench_row *r, zs_preset *p, zs_error *err)
{
    step *k = zs_calloc(1, sizeof *k);
    *state = k;
    if (!k)
        return zs_fail_nomem(err, sizeof *k, "a training step");
    k->row = r;
    return zs_preset_find(p, r->preset, err);
}

/* Weights, moments and data, once the parameters are laid out. */
static int fill_state(step *k, const zs_bench_setting *s, zs_error *err)
{
    int status = zs_train_state_new(&k->s, k->ps, s->backend, err);
    if (status < 0)
        return status;
    zs_bench_weights(k->s.b.param, k->ps, s->seed);
    memcpy(k->s.b.ema, k->s.b.param, k->s.b.n * sizeof(float));
    k->x0 = zs_alloc(k->numel, sizeof(float));
    if (!k->x0)
        return zs_fail_nomem(err, k->numel * sizeof(float), k->row->name);
    zs_bench_fill(k->x0, k->numel, s->seed, 1);
    return ZS_OK;
}

static void update(step *k)
{
    k->grad_norm = zs_grad_norm(k->s.b.grad, k->s.b.n);
    k->s.step++;
    k->s.samples += k->row->n;
    zs_train_state_step(&k->s, &k->optim, k->grad_norm);
}

static double step_flops(const void *state)
{
    return ((const step *)state)->flops;
}

/* The shift of weights and of their average is what clipping, Adam and decay come to. */
static double shift(const float *now, const float *start, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)now[i] - (double)start[i]) * ((double)now[i] - (double)start[i]);
    return sum;
}

static void put_shift(zs_bench_file *f, const step *k, const float *start)
{
    float v[2] = {(float)shift(k->s.b.param, start, k->s.b.n),
                  (float)shift(k->s.b.ema, start, k->s.b.n)};
    zs_bench_put(f, "", "squared_shift", 1, (int64_t[]){2}, v);
}

/* One batch with its gradient, without the update. */
typedef int (*gradient_fn)(step *k, zs_error *err);

static void put_batch(zs_bench_file *f, const step *k, int i, const zs_shape *xs)
{
    char name[32];
    int64_t one = 1;
    float loss = (float)k->loss;
    snprintf(name, sizeof name, "t.%d", i);
    zs_bench_put_times(f, name, k->t, k->row->n);
    snprintf(name, sizeof name, "noise.%d", i);
    if (xs->nd == 4)
        zs_bench_put_images(f, name, k->noise, *xs);
    else
        zs_bench_put(f, "", name, 2, xs->d, k->noise);
    snprintf(name, sizeof name, "loss.%d", i);
    zs_bench_put(f, "", name, 1, &one, &loss);
}

/* Weights, then a few steps with their losses, the first one's gradients, and the shift. */
static int save_steps(step *k, gradient_fn gradient, zs_shape xs, const char *dir, zs_error *err)
{
    zs_bench_file f = {0};
    char name[64];
    size_t bytes = k->s.b.n * sizeof(float);
    float *start = zs_alloc(k->s.b.n, sizeof *start);
    int status = start ? ZS_OK : zs_fail_nomem(err, bytes, "a copy of the weights");
    if (status == ZS_OK)
        memcpy(start, k->s.b.param, bytes);
    if (xs.nd == 4) {
        zs_bench_put_images(&f, "x0", k->x0, xs);
        if (status == ZS_OK)
            status = zs_bench_write_model(dir, k->row->preset, &k->c, k->ps, start, err);
    } else {
        zs_bench_put(&f, "", "x0", 2, xs.d, k->x0);
        zs_bench_put_params(&f, "param.", k->ps, k->s.b.param);
    }
    for (int i = 0; status == ZS_OK && i < SAVED_STEPS; i++) {
        status = gradient(k, err);
        put_batch(&f, k, i, &xs);
        if (i == 0)
            zs_bench_put_params(&f, "grad.", k->ps, k->s.b.grad);
        update(k);
    }
    if (status == ZS_OK)
        put_shift(&f, k, start);
    zs_free(start);
    snprintf(name, sizeof name, "%s.safetensors", k->row->name);
    int written = zs_bench_write(&f, dir, name, err);
    return status < 0 ? status : written;
}

/* ---- images ---- */

static int count_flops(step *k, const zs_shape *xs, zs_error *err)
{
    zs_graph *g = NULL;
    int status = zs_train_graph_build(&g, k->ps, &k->c, *xs, 0, err);
    k->flops = status == ZS_OK ? zs_graph_flops(g) : 0;
    zs_graph_free(&g);
    return status;
}

static zs_shape images_of(const step *k)
{
    return zs_shape4(k->row->n, k->c.image_size, k->c.image_size, k->c.channels);
}

static int open_train(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    zs_preset p;
    int status = step_new(state, r, &p, err);
    if (status < 0)
        return status;
    step *k = *state;
    k->c = p.autoencoder;
    k->optim = optim_of(&p.train_autoencoder);
    zs_shape xs = images_of(k);
    k->numel = (size_t)zs_shape_numel(&xs);
    status = zs_model_layout(&k->ps, &k->c, err);
    if (status == ZS_OK)
        status = fill_state(k, s, err);
    if (status == ZS_OK)
        status = count_flops(k, &xs, err);
    const zs_gradient_config gc = {.model = &k->c,
                                   .layout = k->ps,
                                   .batch = r->n,
                                   .dropout = s->dropout ? k->c.unet.dropout : 0,
                                   .seed = s->seed,
                                   .backend = s->backend,
                                   .hook = s->hook,
                                   .hook_ctx = s->hook_ctx};
    return status == ZS_OK ? zs_gradient_new(&k->gradient, &gc, err) : status;
}

static int image_gradient(step *k, zs_error *err)
{
    zs_train_batch b = {.first = k->s.samples, .x = k->x0};
    zs_gradient_draw(k->gradient, &b);
    k->t = b.t;
    k->noise = b.target;
    return zs_gradient_run(k->gradient, &k->s, &b, &k->loss, err);
}

static int train_run(void *state, zs_error *err)
{
    int status = image_gradient(state, err);
    if (status == ZS_OK)
        update(state);
    return status;
}

static int train_save(void *state, const char *dir, zs_error *err)
{
    return save_steps(state, image_gradient, images_of(state), dir, err);
}

const zs_bench_kind zs_bench_train = {open_train, train_run, step_flops, train_save, step_close};

/* ---- codes: the latent network, L1 loss ---- */

static zs_tid latent_graph(zs_graph *g, zs_params *ps, const zs_latent_mlp_config *c, int64_t n)
{
    zs_nn nn = {.g = g, .ps = ps, .train = true, .dropout = (float)c->dropout};
    zs_tid z = zs_graph_input(g, "z_t", zs_shape2(n, c->z_dim));
    zs_tid t = zs_graph_input(g, "t", zs_shape1(n));
    zs_tid noise = zs_graph_input(g, "noise", zs_shape2(n, c->z_dim));
    zs_nn_push(&nn, "latent_net");
    zs_tid out = zs_latent_mlp_build(&nn, c, z, t);
    zs_nn_pop(&nn);
    zs_tid loss = zs_loss_node(g, out, noise, ZS_LOSS_L1);
    zs_graph_output(g, "loss", loss);
    zs_graph_backward(g, loss);
    return loss;
}

static int plan_latent(step *k, const zs_latent_mlp_config *c, const zs_bench_setting *s,
                       zs_error *err)
{
    zs_graph *g = NULL;
    zs_exec_config ec = {.backend = s->backend, .hook = s->hook, .hook_ctx = s->hook_ctx};
    int status = zs_params_new(&k->ps, err);
    if (status == ZS_OK)
        status = zs_graph_new(&g, err);
    if (status < 0)
        return status;
    latent_graph(g, k->ps, c, k->row->n);
    zs_params_seal(k->ps);
    k->flops = zs_graph_flops(g);
    return zs_exec_new(&k->exec, &g, &ec, err);
}

static int open_prior(void **state, const zs_bench_row *r, const zs_bench_setting *s, zs_error *err)
{
    zs_preset p;
    int status = step_new(state, r, &p, err);
    if (status < 0)
        return status;
    step *k = *state;
    k->c = p.prior;
    k->optim = optim_of(&p.train_prior);
    k->numel = (size_t)(r->n * zs_model_config_z_dim(&p.prior));
    status = plan_latent(k, &p.prior.latent_mlp, s, err);
    if (status == ZS_OK)
        status = fill_state(k, s, err);
    if (status == ZS_OK)
        status =
            zs_schedule_make(&k->schedule, p.prior.latent.beta_schedule, p.prior.latent.T, err);
    k->own_t = zs_alloc((size_t)r->n, sizeof *k->own_t);
    k->own_noise = zs_alloc(k->numel, sizeof(float));
    k->t = k->own_t;
    k->noise = k->own_noise;
    if (status == ZS_OK && (!k->own_t || !k->own_noise))
        status = zs_fail_nomem(err, k->numel * sizeof(float), r->name);
    return status;
}

static void draw_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    step *k = ctx;
    size_t dim = (size_t)zs_model_config_z_dim(&k->c);
    float *z_t = zs_exec_input(k->exec, "z_t"), *t = zs_exec_input(k->exec, "t");
    for (int64_t i = begin; i < end; i++) {
        size_t at = (size_t)i * dim;
        zs_rng r = {0, ZS_RNG_TIMESTEP, (uint64_t)(k->s.samples + i), 0};
        k->own_t[i] = (int64_t)zs_rng_below(&r, (uint64_t)k->schedule.n);
        r.purpose = ZS_RNG_NOISE;
        zs_rng_normal(k->own_noise + at, dim, &r, 0);
        t[i] = (float)k->own_t[i];
        zs_q_sample(z_t + at, k->x0 + at, k->noise + at, k->schedule.abar[k->t[i]], dim);
    }
}

static int code_gradient(step *k, zs_error *err)
{
    const zs_step at = {.step = (uint64_t)k->s.step, .grad_scale = 1};
    zs_parallel_for(k->row->n, 16, draw_range, k);
    memcpy(zs_exec_input(k->exec, "noise"), k->noise, k->numel * sizeof(float));
    int status = zs_exec_run(k->exec, k->s.b.param, k->s.b.grad, &at, err);
    if (status == ZS_OK)
        k->loss = (double)zs_exec_output(k->exec, "loss")[0];
    return status;
}

static int prior_run(void *state, zs_error *err)
{
    int status = code_gradient(state, err);
    if (status == ZS_OK)
        update(state);
    return status;
}

static int prior_save(void *state, const char *dir, zs_error *err)
{
    step *k = state;
    return save_steps(k, code_gradient, zs_shape2(k->row->n, zs_model_config_z_dim(&k->c)), dir,
                      err);
}

const zs_bench_kind zs_bench_prior = {open_prior, prior_run, step_flops, prior_save, step_close};
