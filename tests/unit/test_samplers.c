/* SPDX-License-Identifier: MIT */
/* Samplers on Gaussian mixtures, whose score is known in closed form: data x0 ~ sum_k w_k
 * N(mu_k, s^2 I) has x_t ~ sum_k w_k N(sqrt(a) mu_k, (a s^2 + 1 - a) I). */
#include "diffusion/diffusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/must.h"

enum { DIM = 2, MAX_N = 4000 };

typedef struct mixture {
    int modes;
    double weight[2], mu[2][DIM], sd;
    const zs_schedule *full;
    int64_t n;
    zs_pred pred;
    int calls, fail_at;
} mixture;

static zs_schedule full;
static float buf_a[MAX_N * DIM], buf_b[MAX_N * DIM];

static const mixture two_modes = {
    .modes = 2, .weight = {0.3, 0.7}, .mu = {{-0.6, 0.2}, {0.6, -0.2}}, .sd = 0.15, .full = &full};
static const mixture one_mode = {
    .modes = 1, .weight = {1.0}, .mu = {{0.4, -0.3}}, .sd = 0.5, .full = &full};

/* E[x0 | x_t] for one point. */
static void posterior_mean(double x0[DIM], const mixture *m, const float *x, double a)
{
    double var = a * m->sd * m->sd + 1.0 - a, r[2] = {0}, top = -1e300, sum = 0.0;
    for (int k = 0; k < m->modes; k++) {
        double d2 = 0.0;
        for (int i = 0; i < DIM; i++) {
            double d = (double)x[i] - sqrt(a) * m->mu[k][i];
            d2 += d * d;
        }
        r[k] = log(m->weight[k]) - 0.5 * d2 / var;
        top = fmax(top, r[k]);
    }
    for (int k = 0; k < m->modes; k++)
        sum += r[k] = exp(r[k] - top);
    for (int i = 0; i < DIM; i++) {
        x0[i] = 0.0;
        for (int k = 0; k < m->modes; k++) {
            double shift = sqrt(a) * m->sd * m->sd / var * ((double)x[i] - sqrt(a) * m->mu[k][i]);
            x0[i] += r[k] / sum * (m->mu[k][i] + shift);
        }
    }
}

static int mixture_net(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    mixture *m = ctx;
    if (++m->calls == m->fail_at)
        return zs_fail(err, ZS_E_NUMERIC, "the network failed");
    double a = m->full->abar[t];
    for (int64_t b = 0; b < m->n; b++) {
        double x0[DIM];
        posterior_mean(x0, m, x + b * DIM, a);
        for (int i = 0; i < DIM; i++) {
            double eps = ((double)x[b * DIM + i] - sqrt(a) * x0[i]) / sqrt(1.0 - a);
            out[b * DIM + i] = (float)(m->pred == ZS_PRED_EPS ? eps : x0[i]);
        }
    }
    return ZS_OK;
}

static zs_sampling sampling(const zs_schedule *s, mixture *m, int64_t n)
{
    m->n = n;
    return (zs_sampling){.schedule = s,
                         .n = n,
                         .numel = DIM,
                         .net = mixture_net,
                         .net_ctx = m,
                         .pred = m->pred,
                         .noise = {.seed = 7}};
}

static void respace(zs_schedule *s, const char *spec)
{
    zs_error err = {0};
    must(zs_schedule_respace(s, &full, spec, &err), &err);
}

static void sample(const char *name, const zs_sampling *s, float *x)
{
    zs_error err = {0};
    const zs_sampler *k = zs_sampler_find(name);
    assert_non_null(k);
    must(zs_sample(k, s, x, &err), &err);
}

static void assert_near(double got, double want, double tol, const char *what)
{
    if (!(fabs(got - want) <= tol))
        fail_msg("%s: got %g, want %g +- %g", what, got, want, tol);
}

/* Share, mean and deviation of the samples nearer to each mode. */
static void check_two_modes(const float *x, int64_t n, double sd_tol)
{
    const mixture *m = &two_modes;
    double count[2] = {0}, sum[2][DIM] = {{0}}, square[2] = {0};
    for (int64_t b = 0; b < n; b++) {
        double d[2] = {0};
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < DIM; i++)
                d[k] += pow((double)x[b * DIM + i] - m->mu[k][i], 2.0);
        int k = d[1] < d[0];
        count[k]++;
        square[k] += d[k];
        for (int i = 0; i < DIM; i++)
            sum[k][i] += (double)x[b * DIM + i];
    }
    for (int k = 0; k < 2; k++) {
        assert_near(count[k] / (double)n, m->weight[k], 0.03, "share of a mode");
        for (int i = 0; i < DIM; i++)
            assert_near(sum[k][i] / count[k], m->mu[k][i], 0.015, "mean of a mode");
        assert_near(sqrt(square[k] / (DIM * count[k])), m->sd, sd_tol, "deviation of a mode");
    }
}

static void run_two_modes(const char *name, const char *spec, double eta, zs_pred pred,
                          double sd_tol)
{
    zs_schedule s;
    respace(&s, spec);
    mixture m = two_modes;
    m.pred = pred;
    zs_sampling c = sampling(&s, &m, MAX_N);
    c.eta = eta;
    zs_noise_xt(buf_a, &c);
    sample(name, &c, buf_a);
    check_two_modes(buf_a, MAX_N, sd_tol);
    zs_schedule_free(&s);
}

static void test_moments(void **state)
{
    (void)state;
    run_two_modes("ddim", "ddim500", 0.0, ZS_PRED_EPS, 0.01);
    run_two_modes("ddim", "ddim500", 0.0, ZS_PRED_X0, 0.01);
    run_two_modes("ddim", "ddim500", 1.0, ZS_PRED_EPS, 0.01);
    run_two_modes("ddim", "ddim500", 0.5, ZS_PRED_X0, 0.01);
    run_two_modes("ddpm", "1000", 0.0, ZS_PRED_EPS, 0.01);
    run_two_modes("dpm++2m", "ddim50", 0.0, ZS_PRED_EPS, 0.01);
    run_two_modes("dpm++2m", "ddim50", 0.0, ZS_PRED_X0, 0.01);
    run_two_modes("heun", "ddim50", 0.0, ZS_PRED_EPS, 0.01);
    run_two_modes("ddpm", "1000", 0.0, ZS_PRED_X0, 0.01);
}

/* The steps of latent diffusion end at timestep 0 instead of at a clean sample: what comes out has
 * the noise of that level, with any eta. */
static void end_at_level_0(const char *spec, double eta, double tolerance)
{
    zs_schedule whole, s;
    zs_error err = {0};
    assert_int_equal(zs_schedule_make(&whole, "sqrt0.0015:0.0195", 1000, &err), ZS_OK);
    assert_int_equal(zs_schedule_respace(&s, &whole, spec, &err), ZS_OK);
    mixture m = one_mode;
    m.full = &whole;
    m.pred = ZS_PRED_X0;
    m.sd = 0.05;
    zs_sampling c = sampling(&s, &m, MAX_N);
    c.eta = eta;
    zs_noise_xt(buf_a, &c);
    sample("ddim", &c, buf_a);
    double a = s.abar_prev[0], sum = 0.0, square = 0.0;
    for (int j = 0; j < MAX_N * DIM; j++) {
        double d = (double)buf_a[j] - sqrt(a) * m.mu[0][j % DIM];
        sum += d;
        square += d * d;
    }
    double sd = sqrt(square / (MAX_N * DIM));
    print_message("ddim, %s, eta %g: deviation %.4f\n", spec, eta, sd);
    assert_near(sum / (MAX_N * DIM), 0.0, 0.003, "mean of samples");
    assert_near(sd, sqrt(a * m.sd * m.sd + 1.0 - a), tolerance, "deviation of samples");
    zs_schedule_free(&s);
    zs_schedule_free(&whole);
}

static void test_latent_diffusion(void **state)
{
    (void)state;
    end_at_level_0("ldm250", 0.0, 0.005); /* 0.0632; that of the data is 0.05 */
    end_at_level_0("ldm250", 1.0, 0.008);
}

/* The ODE from level a to level 1 moves each quantile of a Gaussian onto the same quantile. */
static double gaussian_ode_error(const char *name, const char *spec)
{
    zs_schedule s;
    respace(&s, spec);
    mixture m = one_mode;
    zs_sampling c = sampling(&s, &m, 64);
    zs_noise_xt(buf_a, &c);
    memcpy(buf_b, buf_a, sizeof buf_a);
    sample(name, &c, buf_a);
    double a = s.abar[s.n - 1], worst = 0.0;
    for (int j = 0; j < 64 * DIM; j++) {
        double mu = m.mu[0][j % DIM];
        double z = ((double)buf_b[j] - sqrt(a) * mu) / sqrt(a * m.sd * m.sd + 1.0 - a);
        worst = fmax(worst, fabs((double)buf_a[j] - (mu + m.sd * z)));
    }
    zs_schedule_free(&s);
    return worst;
}

static double order_between(const char *name, int steps_a, int steps_b)
{
    char a[16], b[16];
    snprintf(a, sizeof a, "ddim%d", steps_a);
    snprintf(b, sizeof b, "ddim%d", steps_b);
    double ea = gaussian_ode_error(name, a), eb = gaussian_ode_error(name, b);
    print_message("%s: largest error %.3g in %d steps, %.3g in %d\n", name, ea, steps_a, eb,
                  steps_b);
    return log(ea / eb) / log((double)steps_b / steps_a);
}

static void test_order(void **state)
{
    (void)state;
    static const int steps[] = {20, 40, 100, 200, 500};
    for (int i = 0; i < 4; i++)
        assert_near(order_between("ddim", steps[i], steps[i + 1]), 1.0, 0.2, "order of ddim");
    assert_near(order_between("dpm++2m", 20, 100), 2.0, 0.5, "order of dpm++2m");
    assert_near(order_between("dpm++2m", 20, 200), 2.0, 0.5, "order of dpm++2m");
    assert_near(order_between("heun", 20, 40), 2.0, 0.5, "order of heun");
    assert_near(order_between("heun", 20, 100), 2.0, 0.5, "order of heun");
    assert_true(gaussian_ode_error("dpm++2m", "ddim20") < gaussian_ode_error("ddim", "ddim20") / 5);
    /* 39 network calls against 40 */
    assert_true(gaussian_ode_error("heun", "ddim20") < gaussian_ode_error("ddim", "ddim40") / 2);
    assert_true(gaussian_ode_error("ddim", "ddim500") < 1e-2);
}

static double round_trip_error(const char *spec)
{
    zs_schedule s;
    respace(&s, spec);
    mixture m = two_modes;
    zs_sampling c = sampling(&s, &m, 64);
    c.clip = true;
    for (int j = 0; j < 64 * DIM; j++)
        buf_a[j] = buf_b[j] = (float)(two_modes.mu[j / DIM % 2][j % DIM] + 0.002 * (j - 64));
    sample("ddim-invert", &c, buf_a);
    sample("ddim", &c, buf_a);
    double sum = 0.0;
    for (int j = 0; j < 64 * DIM; j++)
        sum += pow((double)buf_a[j] - (double)buf_b[j], 2.0);
    zs_schedule_free(&s);
    return sqrt(sum / (64 * DIM));
}

static void test_inversion(void **state)
{
    (void)state;
    static const char *const specs[] = {"ddim20", "ddim50", "ddim100", "ddim250", "ddim1000"};
    double last = 1.0;
    for (int i = 0; i < 5; i++) {
        double e = round_trip_error(specs[i]);
        print_message("invert and decode, %s: rms error %.3g\n", specs[i], e);
        assert_true(e < last);
        last = e;
    }
    assert_true(last < 2e-3);
}

/* The inverted noise of data is a standard normal. */
static void test_inverted_noise(void **state)
{
    (void)state;
    zs_schedule s;
    respace(&s, "ddim1000");
    mixture m = two_modes;
    zs_sampling c = sampling(&s, &m, MAX_N);
    zs_noise_xt(buf_a, &c);
    for (int b = 0; b < MAX_N; b++)
        for (int i = 0; i < DIM; i++) {
            int k = b >= (int)(0.3 * MAX_N);
            buf_a[b * DIM + i] =
                (float)(two_modes.mu[k][i] + two_modes.sd * (double)buf_a[b * DIM + i]);
        }
    sample("ddim-invert", &c, buf_a);
    double sum = 0.0, square = 0.0;
    for (int j = 0; j < MAX_N * DIM; j++) {
        sum += (double)buf_a[j];
        square += (double)buf_a[j] * (double)buf_a[j];
    }
    assert_near(sum / (MAX_N * DIM), 0.0, 0.04, "mean of inverted data");
    assert_near(square / (MAX_N * DIM), 1.0, 0.05, "variance of inverted data");
    zs_schedule_free(&s);
}

/* With eta 1 and no noise drawn, the ddim step is the posterior mean that ddpm uses. */
static void test_eta1_is_posterior(void **state)
{
    (void)state;
    static const float zero[50 * 16 * DIM];
    zs_schedule s;
    respace(&s, "50");
    mixture m = two_modes;
    zs_sampling c = sampling(&s, &m, 16);
    c.eta = 1.0;
    c.noise.recorded = zero;
    zs_noise_xt(buf_a, &c);
    memcpy(buf_b, buf_a, sizeof buf_a);
    sample("ddim", &c, buf_a);
    sample("ddpm", &c, buf_b);
    for (int j = 0; j < 16 * DIM; j++)
        assert_near((double)buf_a[j], (double)buf_b[j], 1e-4, "ddim eta 1 against ddpm");
    zs_schedule_free(&s);
}

/* Noise is per image: neither batch size nor what else is in the batch changes a sample. */
static void test_batch_independent(void **state)
{
    (void)state;
    static const char *const names[] = {"ddpm", "ddim", "dpm++2m", "heun"};
    zs_schedule s;
    respace(&s, "20");
    for (int k = 0; k < 4; k++) {
        mixture m = two_modes;
        zs_sampling c = sampling(&s, &m, 5);
        c.eta = 0.7;
        c.noise.first = 10;
        zs_noise_xt(buf_a, &c);
        sample(names[k], &c, buf_a);
        for (int b = 0; b < 5; b++) {
            c = sampling(&s, &m, 1);
            c.eta = 0.7;
            c.noise.first = (uint64_t)(10 + b);
            zs_noise_xt(buf_b, &c);
            sample(names[k], &c, buf_b);
            assert_memory_equal(buf_b, buf_a + b * DIM, DIM * sizeof(float));
        }
    }
    zs_schedule_free(&s);
}

/* Recorded noise is taken in the order of use. */
static void test_recorded_noise(void **state)
{
    (void)state;
    enum { STEPS = 20, N = 3 };
    static float noise[STEPS * N * DIM];
    zs_schedule s;
    respace(&s, "20");
    mixture m = two_modes;
    zs_sampling c = sampling(&s, &m, N);
    for (int j = 0; j < STEPS; j++) {
        zs_sample_work w = {.noise = noise + j * N * DIM};
        zs_noise_step(&c, STEPS - 1 - j, &w);
    }
    zs_noise_xt(buf_a, &c);
    memcpy(buf_b, buf_a, sizeof buf_a);
    sample("ddpm", &c, buf_a);
    c.noise.recorded = noise;
    sample("ddpm", &c, buf_b);
    assert_memory_equal(buf_a, buf_b, N * DIM * sizeof(float));
    zs_schedule_free(&s);
}

static void test_clip(void **state)
{
    (void)state;
    zs_schedule s;
    respace(&s, "ddim10");
    mixture m = two_modes;
    m.mu[0][0] = -3.0; /* out of range */
    zs_sampling c = sampling(&s, &m, 200);
    c.clip = true;
    zs_noise_xt(buf_a, &c);
    sample("ddim", &c, buf_a);
    double low = 0.0;
    for (int j = 0; j < 200 * DIM; j++) {
        low = fmin(low, (double)buf_a[j]);
        assert_true(buf_a[j] >= -1.0f && buf_a[j] <= 1.0f);
    }
    assert_true(low == -1.0);
    zs_schedule_free(&s);
}

static int stop_at(void *ctx, const zs_progress *p)
{
    assert_string_equal(p->stage, "invert");
    return p->done >= (double)*(int *)ctx;
}

static void test_stops(void **state)
{
    (void)state;
    zs_schedule s;
    respace(&s, "ddim10");
    int at = 4;
    const zs_ui ui = {.ctx = &at, .progress = stop_at};
    mixture m = two_modes;
    zs_sampling c = sampling(&s, &m, 1);
    c.ui = &ui;
    c.stage = "invert";
    zs_error err = {0};
    assert_int_equal(zs_sample(&zs_sampler_ddim_invert, &c, buf_a, &err), ZS_E_CANCELLED);
    assert_int_equal(m.calls, 4);
    c.ui = NULL;
    m.fail_at = 7;
    memset(&err, 0, sizeof err);
    assert_int_equal(zs_sample(&zs_sampler_ddim, &c, buf_a, &err), ZS_E_NUMERIC);
    assert_string_equal(err.message, "the network failed");
    zs_alloc_fail_at(1);
    assert_int_equal(zs_sample(&zs_sampler_ddim, &c, buf_a, NULL), ZS_E_NOMEM);
    zs_alloc_fail_at(0);
    c.n = INT64_MAX / 2;
    assert_int_equal(zs_sample(&zs_sampler_ddim, &c, buf_a, NULL), ZS_E_INVALID);
    assert_null(zs_sampler_find("euler"));
    zs_schedule_free(&s);
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
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_latent_diffusion),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_inversion),
        cmocka_unit_test(test_inverted_noise),
        cmocka_unit_test(test_eta1_is_posterior),
        cmocka_unit_test(test_batch_independent),
        cmocka_unit_test(test_recorded_noise),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
