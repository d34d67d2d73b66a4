/* SPDX-License-Identifier: MIT */
/* The loss of a learned variance against the formulas as papers write them, with x_t and the means
 * of both posteriors; and its gradient, which is that of the mean square for eps and that of the
 * bound for v. */
#include "diffusion/posterior.h"
#include "graph/graph.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { N = 4, H = 3, W = 2, C = 3, NUMEL = H * W * C, PITCH = 2 * C };

static const int64_t timesteps[N] = {0, 1, 400, 999};
static const float weights[N] = {1, 2.5f, 1, 100}; /* of the mean square */

/* x0 with edges of the range, noise, predictions whose error shrinks to that of a trained model. */
typedef struct batch {
    float out[N * 2 * NUMEL], noise[N * NUMEL], x0[N * NUMEL], steps[N * ZS_BOUND_NUMBERS];
} batch;

static zs_schedule full;

static void fill(batch *b)
{
    const zs_rng r = {.seed = 3, .purpose = ZS_RNG_TEST};
    zs_rng_normal(b->noise, N * NUMEL, &r, 0);
    zs_rng_normal(b->out, 2 * N * NUMEL, &(zs_rng){.seed = 4, .purpose = ZS_RNG_TEST}, 0);
    zs_rng_uniform(b->x0, N * NUMEL, &(zs_rng){.seed = 5, .purpose = ZS_RNG_TEST}, 0);
    for (int i = 0; i < N * NUMEL; i++) {
        int at = i / C * PITCH + i % C;
        b->x0[i] = i % 5 == 0 ? -1.0f : i % 5 == 1 ? 1.0f : 2 * b->x0[i] - 1;
        b->out[at] = b->noise[i] + 0.3f * b->out[at];
    }
    for (int n = 0; n < N; n++) {
        zs_bound_row(b->steps + n * ZS_BOUND_NUMBERS, &full, timesteps[n]);
        b->steps[n * ZS_BOUND_NUMBERS + 4] = weights[n];
    }
}

/* ---- as written ---- */

static double normal_cdf(double x)
{
    return 0.5 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * pow(x, 3))));
}

static double bits_of_bin(double x, double mean, double log_scale)
{
    double plus = normal_cdf(exp(-log_scale) * (x - mean + 1.0 / 255));
    double minus = normal_cdf(exp(-log_scale) * (x - mean - 1.0 / 255));
    double p = x < -0.999 ? plus : x > 0.999 ? 1 - minus : plus - minus;
    return -log(fmax(p, 1e-12)) / log(2);
}

static double bits_apart(double m1, double lv1, double m2, double lv2)
{
    return 0.5 * (-1 + lv2 - lv1 + exp(lv1 - lv2) + pow(m1 - m2, 2) * exp(-lv2)) / log(2);
}

/* Bits of element i, whose prediction is (eps, v). */
static double bits(const batch *b, int i, double eps, double v)
{
    int64_t t = timesteps[i / NUMEL];
    double a = full.abar[t], x0 = (double)b->x0[i];
    double x_t = sqrt(a) * x0 + sqrt(1 - a) * (double)b->noise[i];
    double guess = (x_t - sqrt(1 - a) * eps) / sqrt(a);
    zs_posterior p = zs_posterior_at(&full, t);
    double lv = (v + 1) / 2 * p.log_large + (1 - (v + 1) / 2) * p.log_small;
    double mean = p.to_x0 * guess + p.to_x * x_t;
    if (t == 0)
        return bits_of_bin(x0, mean, 0.5 * lv);
    return bits_apart(p.to_x0 * x0 + p.to_x * x_t, p.log_small, mean, lv);
}

static void expected(const batch *b, double parts[2 * N])
{
    memset(parts, 0, 2 * N * sizeof *parts);
    for (int i = 0; i < N * NUMEL; i++) {
        double eps = (double)b->out[i / C * PITCH + i % C];
        double v = (double)b->out[i / C * PITCH + C + i % C];
        double w = (double)weights[i / NUMEL];
        parts[i / NUMEL * 2] += w * pow(eps - (double)b->noise[i], 2) / NUMEL;
        parts[i / NUMEL * 2 + 1] += bits(b, i, eps, v) / NUMEL;
    }
}

/* ---- the operation ---- */

typedef struct result {
    float loss, parts[2 * N], grad[2 * N * NUMEL];
} result;

/* The network's output is the only parameter. */
static void run(result *r, const batch *b, const char *backend)
{
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    zs_error err = {0};
    batch copy = *b;
    zs_shape x = zs_shape4(N, H, W, C);
    zs_step step = {.grad_scale = 1};
    memset(r, 0, sizeof *r);
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_tid parts, out = zs_graph_param(g, 0, zs_shape4(N, H, W, 2 * C), true);
    zs_tid noise = zs_graph_input(g, "noise", x), x0 = zs_graph_input(g, "x0", x);
    zs_tid steps = zs_graph_input(g, "steps", zs_shape2(N, ZS_BOUND_NUMBERS));
    zs_tid loss = zs_loss_vlb(g, &parts, out, noise, x0, steps);
    zs_graph_output(g, "loss", loss);
    zs_graph_output(g, "parts", parts);
    zs_graph_backward(g, loss);
    if (zs_exec_new(&e, &g, &(zs_exec_config){.backend = zs_backend_find(backend)}, &err) < 0)
        fail_msg("%s", err.message);
    memcpy(zs_exec_input(e, "noise"), b->noise, sizeof b->noise);
    memcpy(zs_exec_input(e, "x0"), b->x0, sizeof b->x0);
    memcpy(zs_exec_input(e, "steps"), b->steps, sizeof b->steps);
    assert_int_equal(zs_exec_run(e, copy.out, r->grad, &step, &err), ZS_OK);
    r->loss = *zs_exec_output(e, "loss");
    memcpy(r->parts, zs_exec_output(e, "parts"), sizeof r->parts);
    zs_exec_free(&e);
}

static void assert_near(double got, double want, double tol, const char *what, int i)
{
    if (!(fabs(got - want) <= tol * (1e-3 + fabs(want))))
        fail_msg("%s %d: got %.9g, want %.9g", what, i, got, want);
}

static void values(void **state)
{
    (void)state;
    batch b;
    result r;
    double want[2 * N], sum = 0;
    fill(&b);
    expected(&b, want);
    run(&r, &b, "cpu");
    for (int i = 0; i < 2 * N; i++) {
        assert_near((double)r.parts[i], want[i], 1e-5, i % 2 ? "bound" : "mean square", i / 2);
        sum += want[i];
    }
    assert_near((double)r.loss, sum / N, 1e-5, "loss", 0);
}

static void gradients(void **state)
{
    (void)state;
    const double h = 1e-4;
    batch b;
    result r;
    fill(&b);
    run(&r, &b, "cpu");
    for (int i = 0; i < N * NUMEL; i++) {
        int at = i / C * PITCH + i % C;
        double eps = (double)b.out[at], v = (double)b.out[at + C];
        double by_v = (bits(&b, i, eps, v + h) - bits(&b, i, eps, v - h)) / (2 * h);
        assert_near((double)r.grad[at],
                    (double)weights[i / NUMEL] * 2 * (eps - (double)b.noise[i]) / (N * NUMEL), 1e-5,
                    "gradient of eps", i);
        if (i < NUMEL || fabs(by_v) > 1e-6) /* below that the difference has no digits */
            assert_near((double)r.grad[at + C], by_v / (N * NUMEL), 2e-3, "gradient of v", i);
    }
}

static void backends_agree(void **state)
{
    (void)state;
    batch b;
    result fast, plain;
    fill(&b);
    run(&fast, &b, "cpu");
    run(&plain, &b, "cpu-ref");
    assert_memory_equal(&fast, &plain, sizeof fast);
}

/* Only the loss is a root, and what it is compared with is not trained. */
static void refuses(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        zs_graph *g = NULL;
        zs_error err = {0};
        zs_shape x = zs_shape2(2, 3);
        assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
        zs_tid parts, out = zs_graph_param(g, 0, zs_shape2(2, 6), true);
        zs_tid noise = k ? zs_graph_param(g, 12, x, true) : zs_graph_input(g, "noise", x);
        zs_tid steps = zs_graph_input(g, "steps", zs_shape2(2, ZS_BOUND_NUMBERS));
        zs_tid x0 = zs_graph_input(g, "x0", x);
        zs_tid loss = zs_loss_vlb(g, &parts, out, noise, x0, steps);
        assert_int_equal(zs_graph_status(g), ZS_OK);
        zs_graph_backward(g, k ? loss : parts);
        assert_true(zs_graph_status(g) < 0);
        zs_graph_free(&g);
    }
}

static int setup(void **state)
{
    (void)state;
    return zs_schedule_make(&full, "linear", 1000, NULL);
}

static int teardown(void **state)
{
    (void)state;
    zs_schedule_free(&full);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(gradients),
        cmocka_unit_test(backends_agree),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
