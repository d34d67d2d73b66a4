/* SPDX-License-Identifier: MIT */
#include "train/state.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { N = 100003, STEPS = 12 }; /* several blocks, not a multiple of one */

static float param[N], grad[N], m[N], v[N], ema[N];

/* PyTorch's Adam and AdamW, clip_grad_norm_ and the moving average, element by element in
 * double. */
typedef struct torch_state {
    double p[8], m[8], v[8], ema[8];
} torch_state;

static void torch_step(torch_state *s, const zs_optim_config *c, const double *g, int n, int step,
                       double lr)
{
    double total = 0.0;
    for (int i = 0; i < n; i++)
        total += g[i] * g[i];
    double decay = c->ema_warmup ? fmin(c->ema, (1.0 + step) / (10.0 + step)) : c->ema;
    double coef = c->clip > 0.0 ? c->clip / (sqrt(total) + 1e-6) : 1.0;
    for (int i = 0; i < n; i++) {
        double d = coef < 1.0 ? g[i] * coef : g[i], before = s->p[i];
        if (c->decoupled)
            s->p[i] *= 1.0 - lr * c->weight_decay;
        else
            d += c->weight_decay * s->p[i];
        s->m[i] = c->beta1 * s->m[i] + (1.0 - c->beta1) * d;
        s->v[i] = c->beta2 * s->v[i] + (1.0 - c->beta2) * d * d;
        double denom = sqrt(s->v[i]) / sqrt(1.0 - pow(c->beta2, step)) + c->eps;
        s->p[i] -= lr / (1.0 - pow(c->beta1, step)) * s->m[i] / denom;
        s->ema[i] -= (1.0 - decay) * (s->ema[i] - (c->ema_first ? before : s->p[i]));
    }
}

static void assert_close(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol))
        fail_msg("got %.9g, want %.9g, tolerance %g", got, want, tol);
}

static double gradient(int step, int i)
{
    return sin(0.7 * step + 1.3 * i) * pow(10.0, i - 4) * (step == 5 ? 50.0 : 1.0);
}

static void compare_with_torch(const zs_optim_config *c)
{
    torch_state s = {0};
    float p8[8], g8[8], m8[8] = {0}, v8[8] = {0}, e8[8];
    double g[8];
    zs_optim_buffers b = {.param = p8, .grad = g8, .m = m8, .v = v8, .ema = e8, .n = 8};
    for (int i = 0; i < 8; i++)
        s.p[i] = s.ema[i] = (double)(p8[i] = e8[i] = 0.25f * (float)(i - 3));
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < 8; i++)
            g[i] = (double)(g8[i] = (float)gradient(step, i));
        double lr = c->warmup && step < c->warmup ? c->lr * step / (double)c->warmup : c->lr;
        torch_step(&s, c, g, 8, step, lr);
        zs_optim_step(c, &b, step, zs_grad_norm(g8, 8));
        for (int i = 0; i < 8; i++) {
            assert_close((double)p8[i], s.p[i], 2e-6);
            assert_close((double)e8[i], s.ema[i], 2e-6);
            assert_close((double)m8[i], s.m[i], 1e-5 * fabs(s.m[i]) + 1e-9);
            assert_close((double)v8[i], s.v[i], 1e-5 * s.v[i] + 1e-12);
            assert_true(g8[i] == 0.0f);
        }
    }
}

static void test_torch(void **state)
{
    (void)state;
    zs_optim_config c = zs_optim_defaults();
    c.lr = 1e-2;
    c.ema = 0.9;
    compare_with_torch(&c);
    c.clip = 0.0;
    compare_with_torch(&c);
    c.weight_decay = 0.1;
    compare_with_torch(&c);
    c.decoupled = true;
    compare_with_torch(&c);
    c.warmup = 7;
    c.clip = 0.5;
    c.beta1 = 0.8;
    c.beta2 = 0.95;
    c.eps = 1e-3;
    compare_with_torch(&c);
    c.ema_warmup = true;
    compare_with_torch(&c);
    c.ema = 0.3;
    c.ema_first = true;
    compare_with_torch(&c);
}

/* Adam's first step is lr * sign(g) whatever the scale: a wrong bias correction shows. */
static void test_first_step(void **state)
{
    (void)state;
    zs_optim_config c = zs_optim_defaults();
    float p[3] = {0}, g[3] = {1e-3f, -5.0f, 0.0f}, m3[3] = {0}, v3[3] = {0};
    zs_optim_buffers b = {.param = p, .grad = g, .m = m3, .v = v3, .n = 3};
    zs_optim_step(&c, &b, 1, zs_grad_norm(g, 3));
    assert_close((double)p[0], -1e-4, 1e-8);
    assert_close((double)p[1], 1e-4, 1e-8);
    assert_true(p[2] == 0.0f);
}

static void test_warmup(void **state)
{
    (void)state;
    zs_optim_config c = zs_optim_defaults();
    c.warmup = 4;
    c.lr = 1.0;
    assert_true(zs_optim_lr(&c, 1) == 0.25 && zs_optim_lr(&c, 3) == 0.75);
    assert_true(zs_optim_lr(&c, 4) == 1.0 && zs_optim_lr(&c, 1000) == 1.0);
    c.warmup = 0;
    assert_true(zs_optim_lr(&c, 1) == 1.0);
}

static void fill(float *x, uint64_t index)
{
    const zs_rng r = {.seed = 1, .purpose = ZS_RNG_TEST, .index = index};
    zs_rng_normal(x, N, &r, 0);
}

static void test_norm(void **state)
{
    (void)state;
    double sum = 0.0;
    fill(grad, 1);
    for (int i = 0; i < N; i++)
        sum += (double)grad[i] * (double)grad[i];
    assert_close(zs_grad_norm(grad, N), sqrt(sum), 1e-10 * sqrt(sum));
    assert_true(zs_grad_norm(grad, 0) == 0.0);
    grad[N - 1] = INFINITY;
    assert_false(isfinite(zs_grad_norm(grad, N)));
    grad[N - 1] = NAN;
    assert_true(isnan(zs_grad_norm(grad, N)));
    for (int i = 0; i < N; i++)
        grad[i] = 1e30f; /* its square overflows float */
    assert_close(zs_grad_norm(grad, N) / 1e30, sqrt(N), 1e-4);
}

static void run(float *out_param, float *out_ema)
{
    zs_optim_config c = zs_optim_defaults();
    zs_optim_buffers b = {.param = param, .grad = grad, .m = m, .v = v, .ema = ema, .n = N};
    fill(param, 0);
    memcpy(ema, param, sizeof ema);
    memset(m, 0, sizeof m);
    memset(v, 0, sizeof v);
    for (int step = 1; step <= 3; step++) {
        fill(grad, (uint64_t)step);
        zs_optim_step(&c, &b, step, zs_grad_norm(grad, N));
    }
    memcpy(out_param, param, sizeof param);
    memcpy(out_ema, ema, sizeof ema);
}

static void test_threads(void **state)
{
    (void)state;
    static float p1[N], e1[N], p2[N], e2[N];
    int before = zs_threads_count();
    zs_threads_set(1);
    run(p1, e1);
    zs_threads_set(3);
    run(p2, e2);
    zs_threads_set(before);
    assert_memory_equal(p1, p2, sizeof p1);
    assert_memory_equal(e1, e2, sizeof e1);
}

/* Frozen parameters keep their values, in spite of weight decay; plain ones are their own average;
 * an alias is no parameter of its own. */
static void test_treatments(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool trainable, plain;
    } want[] = {{"a", true, false}, {"b", false, false}, {"c", true, true}, {"d", true, false}};
    zs_error err = {0};
    zs_params *ps = NULL;
    zs_train_state s;
    zs_optim_config c = zs_optim_defaults();
    assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
    for (int i = 0; i < 4; i++) {
        const zs_param p = {.name = want[i].name,
                            .nd = 1,
                            .shape = {5},
                            .init = ZS_INIT_NORMAL,
                            .fan_in = 1,
                            .alias = -1,
                            .trainable = want[i].trainable,
                            .plain = want[i].plain};
        assert_int_equal(zs_params_add(ps, &p, &err), i);
    }
    zs_param second = *zs_params_at(ps, 0);
    second.name = "e";
    second.alias = 0;
    assert_int_equal(zs_params_add(ps, &second, &err), 4);
    assert_int_equal(zs_train_state_new(&s, ps, zs_backend_find("cpu"), &err), ZS_OK);
    assert_int_equal(zs_train_state_init(&s, 3, &err), ZS_OK);
    c.decoupled = true;
    c.weight_decay = 0.1;
    c.lr = 0.01;
    c.ema_first = true;
    enum { EACH = 16, N4 = 3 * EACH + 5 }; /* numbers from one to the next, and altogether */
    float start[N4];
    assert_int_equal(s.b.n, N4);
    memcpy(start, s.b.param, sizeof start);
    for (s.step = 1; s.step <= 2; s.step++) {
        for (int i = 0; i < N4; i++)
            s.b.grad[i] = i / EACH == 1 || i % EACH >= 5 ? 0.0f : 1.0f;
        zs_train_state_step(&s, &c, 1.0);
    }
    assert_memory_equal(s.b.param + EACH, start + EACH, 5 * sizeof(float));
    assert_memory_equal(s.b.ema + EACH, start + EACH, 5 * sizeof(float));
    assert_memory_equal(s.b.ema + 2 * EACH, s.b.param + 2 * EACH, 5 * sizeof(float));
    for (int i = 0; i < N4; i++) {
        bool moves = i / EACH != 1;
        if (i % EACH >= 5) { /* between parameters */
            const float all[] = {start[i], s.b.param[i], s.b.grad[i],
                                 s.b.m[i], s.b.v[i],     s.b.ema[i]};
            for (size_t k = 0; k < sizeof all / sizeof *all; k++)
                assert_true(fabsf(all[k]) <= 0.0f);
            continue;
        }
        assert_true((s.b.param[i] < start[i]) == moves);
        assert_true((s.b.ema[i] < start[i]) == moves && s.b.grad[i] == 0.0f);
        /* of the others the average has seen one step, and a ten-thousandth of that */
        if (moves && i / EACH != 2)
            assert_close((double)(start[i] - s.b.ema[i]), 0.0, 2e-6);
    }
    zs_train_state_free(&s);
    zs_params_free(&ps);
}

static void refuse(zs_optim_config c, const char *name)
{
    zs_error err = {0};
    assert_int_equal(zs_optim_config_validate(&c, &err), ZS_E_INVALID);
    if (!strstr(err.message, name))
        fail_msg("'%s' does not name %s", err.message, name);
}

static void test_validate(void **state)
{
    (void)state;
    zs_optim_config c = zs_optim_defaults(), bad;
    assert_int_equal(zs_optim_config_validate(&c, NULL), ZS_OK);
    refuse((bad = c, bad.lr = 0.0, bad), "learning rate");
    refuse((bad = c, bad.lr = (double)NAN, bad), "learning rate");
    refuse((bad = c, bad.beta1 = 1.0, bad), "beta1");
    refuse((bad = c, bad.beta2 = -0.1, bad), "beta2");
    refuse((bad = c, bad.eps = 0.0, bad), "epsilon");
    refuse((bad = c, bad.weight_decay = -1.0, bad), "decay");
    refuse((bad = c, bad.clip = (double)INFINITY, bad), "clip");
    refuse((bad = c, bad.ema = 1.0, bad), "EMA");
    refuse((bad = c, bad.warmup = -1, bad), "warm-up");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),      cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_warmup),     cmocka_unit_test(test_norm),
        cmocka_unit_test(test_threads),    cmocka_unit_test(test_validate),
        cmocka_unit_test(test_treatments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
