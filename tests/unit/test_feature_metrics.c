/* SPDX-License-Identifier: MIT */
/* Metrics of features where the answer is known: closed forms, sets small enough for paper. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Gaussians with covariance R diag(v) R^T, R a rotation by 0.7 in every pair of neighbours. */
static zs_gaussian rotated(int64_t n, double mean, const double *v)
{
    zs_gaussian g;
    zs_error err = {0};
    double r[8 * 8] = {0}, s[8 * 8], t[8 * 8];
    assert_int_equal(zs_linalg_open(&err), 0);
    assert_int_equal(zs_gaussian_alloc(&g, n, &err), 0);
    for (int64_t i = 0; i < n; i++)
        r[i * n + i] = 1;
    for (int64_t k = 0; k + 1 < n; k++)
        for (int64_t j = 0; j < n; j++) {
            double a = r[k * n + j], b = r[(k + 1) * n + j];
            r[k * n + j] = cos(0.7) * a - sin(0.7) * b;
            r[(k + 1) * n + j] = sin(0.7) * a + cos(0.7) * b;
        }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            s[i * n + j] = r[i * n + j] * v[j];
    zs_linalg_nt(n, n, n, s, r, t);
    memcpy(g.sigma, t, (size_t)(n * n) * sizeof *t);
    for (int64_t i = 0; i < n; i++)
        g.mu[i] = mean * (double)(i + 1);
    return g;
}

/* Covariances that commute: |m|^2 + sum (sqrt a - sqrt b)^2. */
static void frechet_closed_form(void **state)
{
    (void)state;
    const double a[6] = {4, 1, 0.25, 9, 0, 2}, b[6] = {1, 16, 0, 9, 0, 0.5};
    zs_gaussian x = rotated(6, 0.5, a), y = rotated(6, -0.25, b);
    zs_error err = {0};
    double want = 0, got = 0;
    for (int i = 0; i < 6; i++)
        want += pow(sqrt(a[i]) - sqrt(b[i]), 2) + pow(0.75 * (i + 1), 2);
    assert_int_equal(zs_frechet_distance(&got, &x, &y, &err), 0);
    assert_true(fabs(got - want) < 1e-6 * want);
    assert_int_equal(zs_frechet_distance(&got, &x, &x, &err), 0);
    assert_true(fabs(got) < 1e-6);
    zs_gaussian_close(&x);
    zs_gaussian_close(&y);
}

/* Covariances that do not: tr (AB)^1/2 of 2x2 matrices is sqrt(tr AB + 2 sqrt det AB). */
static void frechet_two_dimensions(void **state)
{
    (void)state;
    zs_gaussian x, y;
    zs_error err = {0};
    const double a[4] = {2, 0.9, 0.9, 1}, b[4] = {0.5, -0.3, -0.3, 3};
    assert_int_equal(zs_gaussian_alloc(&x, 2, &err), 0);
    assert_int_equal(zs_gaussian_alloc(&y, 2, &err), 0);
    memcpy(x.sigma, a, sizeof a);
    memcpy(y.sigma, b, sizeof b);
    x.mu[1] = 3;
    double tr = a[0] * b[0] + 2 * a[1] * b[1] + a[3] * b[3];
    double det = (a[0] * a[3] - a[1] * a[2]) * (b[0] * b[3] - b[1] * b[2]);
    double want = 9 + 3 + 3.5 - 2 * sqrt(tr + 2 * sqrt(det)), got = 0;
    assert_int_equal(zs_frechet_distance(&got, &x, &y, &err), 0);
    assert_true(fabs(got - want) < 1e-12);
    y.sigma[0] = HUGE_VAL;
    assert_int_equal(zs_frechet_distance(&got, &x, &y, &err), ZS_E_NUMERIC);
    zs_gaussian_close(&x);
    zs_gaussian_close(&y);
}

/* A mean of 10^4 beside deviations of 1 costs no digits of the covariance. */
static void moments(void **state)
{
    (void)state;
    const float x[4][2] = {{10001, -3}, {9999, -3}, {10001, -1}, {9999, -1}};
    zs_moments m;
    zs_gaussian g;
    zs_error err = {0};
    assert_int_equal(zs_moments_open(&m, 2, &err), 0);
    assert_int_equal(zs_moments_finish(&g, &m, "set", &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "set: "));
    err = (zs_error){0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(zs_moments_add(&m, x[i], 1, "set", &err), 0);
    assert_int_equal(zs_moments_finish(&g, &m, "set", &err), 0);
    assert_true(g.n == 4 && g.mu[0] == 10000.0 && g.mu[1] == -2.0);
    assert_true(fabs(g.sigma[0] - 4.0 / 3) < 1e-12 && fabs(g.sigma[3] - 4.0 / 3) < 1e-12);
    assert_true(fabs(g.sigma[1]) < 1e-12 && g.sigma[1] == g.sigma[2]);
    const float bad[2] = {1, NAN};
    assert_int_equal(zs_moments_add(&m, bad, 1, "set", &err), ZS_E_NUMERIC);
    assert_non_null(strstr(err.message, "feature 1 of sample 4"));
    zs_gaussian_close(&g);
    zs_moments_close(&m);
}

static void eigenvalues(void **state)
{
    (void)state;
    double a[9] = {2, 77, 77, 1, 2, 77, 0, 0, 5}, w[3]; /* only the lower triangle counts */
    zs_error err = {0};
    assert_int_equal(zs_linalg_open(&err), 0);
    assert_int_equal(zs_linalg_eigen(w, a, 3, true, &err), 0);
    assert_true(fabs(w[0] - 1) < 1e-12 && fabs(w[1] - 3) < 1e-12 && fabs(w[2] - 5) < 1e-12);
    assert_true(fabs(fabs(a[8]) - 1) < 1e-12 && fabs(a[6]) < 1e-12);
    assert_true(fabs(a[3] - a[4]) < 1e-12 && fabs(fabs(a[3]) - sqrt(0.5)) < 1e-12);
}

/* Features 0 and 1 of dimension 1: the kernel is 1 with 0 and 8 between ones. */
static void kernel_by_hand(void **state)
{
    (void)state;
    const float a[3] = {0, 1, 1}, b[2] = {0, 0};
    const int64_t swapped[2] = {1, 0};
    zs_rows x = {a, NULL, 3, 1}, y = {b, NULL, 2, 1}, z = {a, swapped, 2, 1};
    zs_error err = {0};
    double d = 0;
    assert_int_equal(zs_kernel_distance(&d, &x, &y, &err), 0);
    /* (1+1+8)/3 + 1 - 2*1 */
    assert_true(fabs(d - (10.0 / 3 + 1 - 2)) < 1e-12);
    assert_int_equal(zs_kernel_distance(&d, &z, &y, &err), 0);
    assert_true(fabs(d) < 1e-12);
    z.n = 1;
    assert_int_equal(zs_kernel_distance(&d, &z, &y, &err), ZS_E_INVALID);
}

/* On a line: reals 0 1 2 10, k = 1, radii 1 1 1 8; fakes 2.5 (in), 3.5 (in the ball of 10), -1 (on
 * the border of 0), 30 (out). */
static void neighbours_by_hand(void **state)
{
    (void)state;
    const float real[4] = {0, 1, 2, 10}, fake[4] = {2.5f, 3.5f, -1, 30};
    double r[4], q[4], share = 0;
    zs_error err = {0};
    assert_int_equal(zs_neighbour_radii(r, real, 4, 1, 1, NULL, &err), 0);
    assert_true(r[0] == 1 && r[1] == 1 && r[2] == 1 && r[3] == 8);
    assert_int_equal(zs_neighbour_radii(q, real, 4, 1, 2, NULL, &err), 0);
    assert_true(q[0] == 2 && q[1] == 1 && q[2] == 2 && q[3] == 9);
    assert_int_equal(zs_neighbour_coverage(&share, fake, 4, real, r, 4, 1, NULL, &err), 0);
    assert_true(share == 0.75);
    assert_int_equal(zs_neighbour_radii(r, real, 4, 1, 4, NULL, &err), ZS_E_INVALID);
}

/* More rows than a block, the same for every number of threads. */
static void neighbours_in_blocks(void **state)
{
    (void)state;
    enum { N = 1500 };
    static float x[N];
    static double r[N], s[N];
    zs_error err = {0};
    for (int i = 0; i < N; i++)
        x[(i * 7) % N] = (float)i; /* 7 and 1500 share no factor: every value once */
    assert_int_equal(zs_neighbour_radii(r, x, N, 1, 3, NULL, &err), 0);
    for (int i = 0; i < N; i++)
        assert_true(r[i] == (x[i] == 0 || x[i] == N - 1 ? 3 : 2));
    zs_threads_set(1);
    assert_int_equal(zs_neighbour_radii(s, x, N, 1, 3, NULL, &err), 0);
    zs_threads_set(0);
    assert_memory_equal(r, s, sizeof r);
}

static void ranking_with_ties(void **state)
{
    (void)state;
    const float s[6] = {3, 2, 2, 2, 1, 9};
    const int8_t l[6] = {1, 0, 1, 0, 0, -1}, all[6] = {1, 1, 1, 1, 1, -1};
    zs_ranking r;
    zs_error err = {0};
    assert_int_equal(zs_ranking_measure(&r, s, l, 6, "smile", &err), 0);
    /* positive 3 beats all three, positive 2 ties two and beats one */
    assert_true(fabs(r.auroc - (3 + 2 * 0.5 + 1) / 6) < 1e-12);
    assert_true(fabs(r.average_precision - (0.5 * 1 + 0.5 * 2 / 4)) < 1e-12);
    assert_int_equal(zs_ranking_measure(&r, s, all, 6, "smile", &err), ZS_E_INVALID);
    assert_string_equal(err.message,
                        "smile: all 5 labels are positive; ranking needs samples of both kinds");
}

/* Two classes, certain and balanced: e^(log 2). All alike: 1. */
static void inception_score_limits(void **state)
{
    (void)state;
    const float x[8] = {100, 0, 0, 100, 100, 0, 0, 100};
    const int64_t edge[3] = {0, 2, 4}, none[3] = {0, 0, 4}, order[4] = {0, 2, 1, 3};
    zs_score s;
    zs_error err = {0};
    assert_int_equal(zs_inception_score(&s, x, 2, NULL, edge, 2, &err), 0);
    assert_true(fabs(s.mean - 2) < 1e-9 && s.std < 1e-9);
    assert_int_equal(zs_inception_score(&s, x, 2, order, edge, 2, &err), 0);
    assert_true(fabs(s.mean - 1) < 1e-9);
    assert_int_equal(zs_inception_score(&s, x, 2, NULL, none, 2, &err), ZS_E_INVALID);
}

static void lpips_layer(void **state)
{
    (void)state;
    const float a[4] = {3, 4, 0, 0}, b[4] = {0, 2, 0, 7}, lin[2] = {10, 1};
    /* (0.6,0.8) against (0,1), and nothing against (0,1) */
    double want = (10 * 0.36 + 0.04 + 1) / 2;
    assert_true(fabs(zs_lpips_layer(a, b, 2, 2, lin) - want) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frechet_closed_form),
        cmocka_unit_test(frechet_two_dimensions),
        cmocka_unit_test(moments),
        cmocka_unit_test(eigenvalues),
        cmocka_unit_test(kernel_by_hand),
        cmocka_unit_test(neighbours_by_hand),
        cmocka_unit_test(neighbours_in_blocks),
        cmocka_unit_test(ranking_with_ties),
        cmocka_unit_test(inception_score_limits),
        cmocka_unit_test(lpips_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
