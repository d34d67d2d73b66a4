/* SPDX-License-Identifier: MIT */
/* Whole training steps: drawing noise, forward, backward, clipping, Adam and the moving average. */
#include "models/prior.h"
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
    zs_train_batch b; /* of the next step, if ahead */
    bool ahead;
    const int64_t *t; /* of the last step */
    const float *noise;
    zs_model_config c;
    zs_gradient *gradient;
} step;

static void step_close(void **state)
{
    step *k = *state;
    if (!k)
        return;
    zs_gradient_free(&k->gradient);
    if (k->s.backend)
        zs_train_state_free(&k->s);
    zs_params_free(&k->ps);
    zs_free(k->x0);
    zs_free(k);
    *state = NULL;
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

/* Without the warm-up: what is compared with others is a step at the full rate. */
static zs_optim_config optim_of(const zs_preset_train *t)
{
    zs_optim_config o = zs_optim_of_preset(t);
    o.warmup = 0;
    return o;
}

static int start_weights(step *k, uint64_t seed, zs_error *err)
{
    float *w = NULL;
    int status = zs_train_state_look(&w, &k->s, k->s.b.param, err);
    if (status == ZS_OK) {
        zs_bench_weights(w, k->ps, seed);
        status = zs_train_state_put(&k->s, k->s.b.param, w, err);
    }
    if (status == ZS_OK)
        status = zs_train_state_put(&k->s, k->s.b.ema, w, err);
    zs_train_state_leave(&k->s, &w);
    return status;
}

/* Weights, moments and data, once the parameters are laid out. */
static int fill_state(step *k, const zs_bench_setting *s, zs_error *err)
{
    int status = zs_train_state_new(&k->s, k->ps, s->backend, err);
    if (status < 0)
        return status;
    status = start_weights(k, s->seed, err);
    if (status < 0)
        return status;
    k->x0 = zs_alloc(k->numel, sizeof(float));
    if (!k->x0)
        return zs_fail_nomem(err, k->numel * sizeof(float), k->row->name);
    zs_bench_fill(k->x0, k->numel, s->seed, 1);
    return ZS_OK;
}

/* With the norm of the gradient begun. */
static int update(step *k, zs_error *err)
{
    int status = zs_train_state_norm_end(&k->grad_norm, &k->s, k->s.b.grad, err);
    k->s.step++;
    k->s.samples += k->row->n;
    if (status == ZS_OK)
        zs_train_state_step(&k->s, &k->optim, k->grad_norm);
    return status;
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

static int put_shift(zs_bench_file *f, const step *k, const float *start, zs_error *err)
{
    float *const buffers[2] = {k->s.b.param, k->s.b.ema}, *now = NULL, v[2] = {0};
    int status = ZS_OK;
    for (int i = 0; status == ZS_OK && i < 2; i++) {
        status = zs_train_state_look(&now, &k->s, buffers[i], err);
        if (status == ZS_OK)
            v[i] = (float)shift(now, start, k->s.b.n);
        zs_train_state_leave(&k->s, &now);
    }
    zs_bench_put(f, "", "squared_shift", 1, (int64_t[]){2}, v);
    return status;
}

static int put_gradients(zs_bench_file *f, const step *k, zs_error *err)
{
    float *g = NULL;
    int status = zs_train_state_look(&g, &k->s, k->s.b.grad, err);
    if (status == ZS_OK)
        zs_bench_put_params(f, "grad.", k->ps, g);
    zs_train_state_leave(&k->s, &g);
    return status;
}

static int copy_weights(float **out, const step *k, zs_error *err)
{
    float *w = NULL;
    int status = zs_train_state_look(&w, &k->s, k->s.b.param, err);
    *out = zs_alloc(k->s.b.n, sizeof **out);
    if (status == ZS_OK && !*out)
        status = zs_fail_nomem(err, k->s.b.n * sizeof **out, "a copy of the weights");
    if (status == ZS_OK)
        memcpy(*out, w, k->s.b.n * sizeof **out);
    zs_train_state_leave(&k->s, &w);
    return status;
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
    float *start = NULL;
    int status = copy_weights(&start, k, err);
    if (xs.nd == 4) {
        zs_bench_put_images(&f, "x0", k->x0, xs);
        if (status == ZS_OK)
            status = zs_bench_write_model(dir, k->row->preset, &k->c, k->ps, start, err);
    } else {
        zs_bench_put(&f, "", "x0", 2, xs.d, k->x0);
        if (status == ZS_OK)
            zs_bench_put_params(&f, "param.", k->ps, start);
    }
    for (int i = 0; status == ZS_OK && i < SAVED_STEPS; i++) {
        status = gradient(k, err);
        put_batch(&f, k, i, &xs);
        if (status == ZS_OK && i == 0)
            status = put_gradients(&f, k, err);
        if (status == ZS_OK)
            status = zs_train_state_norm_begin(&k->s, k->s.b.grad, err);
        if (status == ZS_OK)
            status = update(k, err);
    }
    if (status == ZS_OK)
        status = put_shift(&f, k, start, err);
    zs_free(start);
    snprintf(name, sizeof name, "%s.safetensors", k->row->name);
    int written = zs_bench_write(&f, dir, name, err);
    return status < 0 ? status : written;
}

/* ---- images ---- */

static int count_flops(step *k, const zs_shape *xs, zs_error *err)
{
    zs_graph *g = NULL;
    int status = zs_train_graph_build(&g, k->ps, &k->c, *xs, 0, false, err);
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

static void draw(step *k, int64_t first)
{
    k->b = (zs_train_batch){.first = first, .x = k->x0};
    zs_gradient_draw(k->gradient, &k->b);
    k->t = k->b.t;
    k->noise = k->b.target;
}

static int step_gradient(step *k, zs_error *err)
{
    draw(k, k->s.samples);
    return zs_gradient_run(k->gradient, &k->s, &k->b, &k->loss, err);
}

/* As the trainer does it: a device is not kept waiting for what is drawn. */
static int step_run(void *state, zs_error *err)
{
    step *k = state;
    if (!k->ahead)
        draw(k, k->s.samples);
    int status = zs_gradient_start(k->gradient, &k->s, &k->b, err);
    if (status == ZS_OK)
        status = zs_train_state_norm_begin(&k->s, k->s.b.grad, err);
    k->ahead = k->s.backend->remote != NULL;
    if (k->ahead)
        draw(k, k->s.samples + k->row->n);
    if (status == ZS_OK)
        status = zs_gradient_finish(k->gradient, &k->loss, err);
    return status == ZS_OK ? update(k, err) : status;
}

static int train_save(void *state, const char *dir, zs_error *err)
{
    return save_steps(state, step_gradient, images_of(state), dir, err);
}

const zs_bench_kind zs_bench_train = {open_train, step_run, step_flops, train_save, step_close};

/* ---- codes ---- */

static int count_code_flops(step *k, zs_error *err)
{
    zs_graph *g = NULL;
    int status = zs_prior_graph_build(&g, k->ps, &k->c, k->row->n, 0, err);
    k->flops = status == ZS_OK ? zs_graph_flops(g) : 0;
    zs_graph_free(&g);
    return status;
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
    k->numel = (size_t)(r->n * zs_model_config_z_dim(&k->c));
    status = zs_prior_layout(&k->ps, &k->c, err);
    if (status == ZS_OK)
        status = fill_state(k, s, err);
    if (status == ZS_OK)
        status = count_code_flops(k, err);
    const zs_gradient_config gc = {.model = &k->c,
                                   .objective = ZS_OBJECTIVE_CODES,
                                   .layout = k->ps,
                                   .batch = r->n,
                                   .dropout = s->dropout ? k->c.latent_mlp.dropout : 0,
                                   .seed = s->seed,
                                   .backend = s->backend,
                                   .hook = s->hook,
                                   .hook_ctx = s->hook_ctx};
    return status == ZS_OK ? zs_gradient_new(&k->gradient, &gc, err) : status;
}

static int prior_save(void *state, const char *dir, zs_error *err)
{
    step *k = state;
    return save_steps(k, step_gradient, zs_shape2(k->row->n, zs_model_config_z_dim(&k->c)), dir,
                      err);
}

const zs_bench_kind zs_bench_prior = {open_prior, step_run, step_flops, prior_save, step_close};
