/* SPDX-License-Identifier: MIT */
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const zs_dit_config net_dit = {.depth = 3,
                               .heads = 4,
                               .hidden = 64,
                               .mlp = 256,
                               .patch = 2,
                               .grid = 4,
                               .in_channels = 4,
                               .learn_sigma = true,
                               .time_channels = 256,
                               .z_dim = 32,
                               .classes = 1,
                               .substitute = true,
                               .z_drop = 0.1};

const zs_adm_config net_adm = {.levels = 2,
                               .in_channels = 3,
                               .model_channels = 32,
                               .ch = {32, 64},
                               .num_res_blocks = 1,
                               .attn_levels = 1u << 1,
                               .head_channels = 16,
                               .rep_dim = 32,
                               .learn_sigma = true};

/* ---- taps ---- */

net_tap *net_taps(zs_tensorfile *f, const char *prefix, const char *const *names)
{
    size_t n = 0;
    char key[64];
    while (names[n])
        n++;
    net_tap *taps = zs_calloc(n + 1, sizeof *taps);
    assert_non_null(taps);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(key, sizeof key, "%s%s", prefix, names[i]);
        taps[i] = (net_tap){.name = names[i], .error = 1e9};
        taps[i].want = golden_any(f, key, &taps[i].n);
    }
    return taps;
}

void net_taps_check(const net_tap *taps, const golden_backend *b)
{
    for (; taps && taps->name; taps++)
        golden_within(taps->name, b->name, taps->error, b->tolerance);
}

void net_taps_free(net_tap *taps)
{
    for (net_tap *t = taps; t && t->name; t++)
        zs_free(t->want);
    zs_free(taps);
}

static void find_taps(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    (void)node;
    (void)op;
    (void)seconds;
    for (net_tap *t = ctx; t->name; t++)
        if ((size_t)zs_shape_numel(&c->out[0].s) == t->n)
            t->error = fmin(t->error, golden_max_error(c->out[0].p, t->want, t->n));
}

/* ---- plans ---- */

zs_exec *net_plan(zs_params *ps, const net_recipe *r)
{
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    must(zs_graph_new(&g, &err), &err);
    zs_nn nn = {.g = g, .ps = ps, .train = r->train};
    r->build(&nn, r->ctx);
    const zs_exec_config c = {.backend = zs_backend_find(r->backend),
                              .flags = r->flags,
                              .hook = r->taps ? find_taps : NULL,
                              .hook_ctx = r->taps};
    must(zs_exec_new(&e, &g, &c, &err), &err);
    return e;
}

void net_layout(zs_params *ps, net_build build, const void *ctx)
{
    zs_error err = {0};
    zs_graph *g = NULL;
    must(zs_graph_new(&g, &err), &err);
    build(&(zs_nn){.g = g, .ps = ps}, ctx);
    assert_int_equal(zs_graph_status(g), ZS_OK);
    zs_graph_free(&g);
}

void net_feed(zs_exec *e, const char *name, const float *v)
{
    zs_shape s = zs_exec_shape(e, name);
    memcpy(zs_exec_input(e, name), v, (size_t)zs_shape_numel(&s) * sizeof *v);
}

void net_feed_whole(zs_exec *e, const char *name, const int64_t *v)
{
    zs_shape s = zs_exec_shape(e, name);
    for (int64_t i = 0; i < zs_shape_numel(&s); i++)
        zs_exec_input(e, name)[i] = (float)v[i];
}

void net_run(zs_exec *e, float *weights, float *grads)
{
    zs_error err = {0};
    must(zs_exec_run(e, weights, grads, &(zs_step){.grad_scale = 1}, &err), &err);
}

/* ---- networks ---- */

net net_open(const char *set, const char *file, const char *prefix, const net_recipe *r)
{
    net m = {0};
    zs_error err = {0};
    zs_tensorfile *f = golden_open(set, file);
    must(zs_params_new(&m.ps, &err), &err);
    m.e = net_plan(m.ps, r);
    m.weights = zs_alloc((size_t)zs_params_numel(m.ps), sizeof *m.weights);
    assert_non_null(m.weights);
    must(zs_params_import(m.ps, m.weights, f, prefix, &err), &err);
    zs_tensorfile_close(&f);
    return m;
}

void net_close(net *m)
{
    zs_exec_free(&m->e);
    zs_params_free(&m->ps);
    zs_free(m->weights);
    zs_free(m->seen);
}

const float *net_call(net *m, const float *x, const int64_t *t, const float *rep, float *grads)
{
    zs_shape s = zs_exec_shape(m->e, "y");
    net_feed(m->e, "x", x);
    net_feed_whole(m->e, "t", t);
    if (rep)
        net_feed(m->e, "rep", rep);
    else
        memset(zs_exec_input(m->e, "y"), 0, (size_t)zs_shape_numel(&s) * sizeof(float));
    net_run(m->e, m->weights, grads);
    return zs_exec_output(m->e, "out");
}

/* ---- samplers ---- */

int net_ask(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    net *m = ctx;
    zs_shape s = zs_exec_shape(m->e, "x");
    size_t size = (size_t)zs_shape_numel(&s);
    int64_t *all = zs_alloc((size_t)s.d[0], sizeof *all);
    (void)err;
    assert_non_null(all);
    for (int64_t i = 0; i < s.d[0]; i++)
        all[i] = t;
    if (m->seen)
        memcpy(m->seen + m->calls * size, x, size * sizeof *x);
    m->calls++;
    memcpy(out, net_call(m, x, all, m->rep, NULL), 2 * size * sizeof *out);
    zs_free(all);
    return ZS_OK;
}

static void check_states(zs_tensorfile *f, const net_loop *l, const net *m)
{
    char key[64];
    zs_shape s = zs_exec_shape(m->e, "x");
    size_t n, size = (size_t)zs_shape_numel(&s);
    (void)snprintf(key, sizeof key, "%s.x_in", l->name);
    float *want = golden_steps(f, key, s.d[0], &n);
    double worst = 0;
    assert_true(n > 0 && (n - 1) * (size_t)l->every < m->calls && n * (size_t)l->every >= m->calls);
    for (size_t i = 0; i < n; i++)
        worst = fmax(
            worst, golden_norm_error(m->seen + i * (size_t)l->every * size, want + i * size, size));
    golden_within(key, "cpu", worst, 1e-3);
    zs_free(want);
}

void net_check_loop(net *m, zs_tensorfile *f, const net_loop *l, const zs_sampling *c,
                    const char *start)
{
    char key[64];
    zs_error err = {0};
    zs_shape s, ws;
    size_t n = 0;
    zs_schedule schedule = golden_schedule("linear", 1000, l->spec);
    zs_sampling run = *c;
    float *x = golden_nhwc(f, start, &s), *noise = golden_steps(f, l->noises, c->n, &n);
    size_t numel = (size_t)(c->n * c->numel);
    assert_int_equal(zs_shape_numel(&s), numel);
    assert_true(!noise || n == (size_t)schedule.n);
    run.schedule = &schedule;
    run.eta = l->eta;
    run.noise.recorded = noise;
    m->seen = zs_alloc(numel * (size_t)schedule.n, sizeof *m->seen);
    assert_non_null(m->seen);
    must(zs_sample(l->sampler, &run, x, &err), &err);
    (void)snprintf(key, sizeof key, "%s.sample", l->name);
    float *want = golden_nhwc(f, key, &ws);
    assert_true(zs_shape_numel(&ws) >= (int64_t)numel); /* guidance doubles the authors' batch */
    golden_within(key, "cpu", golden_norm_error(x, want, numel), 1e-3);
    check_states(f, l, m);
    zs_free(x);
    zs_free(noise);
    zs_free(want);
    zs_schedule_free(&schedule);
}

/* ---- training ---- */

void net_add_loss(zs_graph *g, zs_tid out)
{
    zs_shape s = zs_graph_shape(g, out);
    s.d[3] /= 2; /* the other half says the variance */
    zs_tid noise = zs_graph_input(g, "noise", s), x0 = zs_graph_input(g, "x0", s), parts;
    zs_tid steps = zs_graph_input(g, "steps", zs_shape2(s.d[0], ZS_BOUND_NUMBERS));
    zs_tid loss = zs_loss_vlb(g, &parts, out, noise, x0, steps);
    zs_graph_output(g, "loss", loss);
    zs_graph_output(g, "parts", parts);
    zs_graph_backward(g, loss);
}

void net_feed_loss(net *m, float *x_t, const float *x0, const float *noise, const int64_t *t)
{
    zs_schedule s = golden_schedule("linear", 1000, NULL);
    zs_shape xs = zs_exec_shape(m->e, "x0");
    size_t each = (size_t)(zs_shape_numel(&xs) / xs.d[0]);
    float *steps = zs_exec_input(m->e, "steps");
    for (size_t i = 0; i < (size_t)xs.d[0]; i++) {
        zs_q_sample(x_t + i * each, x0 + i * each, noise + i * each, s.abar[t[i]], each);
        zs_bound_row(steps + i * ZS_BOUND_NUMBERS, &s, t[i]);
    }
    net_feed(m->e, "noise", noise);
    net_feed(m->e, "x0", x0);
    zs_schedule_free(&s);
}

void net_check_losses(const net *m, zs_tensorfile *f, const golden_backend *b, double smallest)
{
    static const char *const names[] = {"loss.mse", "loss.vb"};
    const float *parts = zs_exec_output(m->e, "parts");
    size_t n, images = (size_t)zs_exec_shape(m->e, "x0").d[0];
    float *loss = golden_f32(f, "loss.loss", &n);
    double mean = 0;
    for (size_t k = 0; k < 2; k++) {
        float *want = golden_f32(f, names[k], &n);
        assert_int_equal(n, images);
        for (size_t i = 0; i < n; i++) {
            double off = fabs((double)(parts[2 * i + k] - want[i]));
            golden_within(names[k], b->name, off / fmax((double)want[i], smallest), 1e-4);
        }
        zs_free(want);
    }
    for (size_t i = 0; i < n; i++)
        mean += (double)loss[i] / (double)n;
    golden_within("loss", b->name, fabs((double)*zs_exec_output(m->e, "loss") - mean) / mean, 1e-5);
    zs_free(loss);
}
