/* SPDX-License-Identifier: MIT */
#include "diffusion/diffusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/must.h"

static void assert_close(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol))
        fail_msg("got %.17g, want %.17g, tolerance %g", got, want, tol);
}

static void make(zs_schedule *s, const char *name, int64_t steps)
{
    zs_error err = {0};
    must(zs_schedule_make(s, name, steps, &err), &err);
}

static void respace(zs_schedule *s, const zs_schedule *full, const char *spec)
{
    zs_error err = {0};
    must(zs_schedule_respace(s, full, spec, &err), &err);
}

static void check_links(const zs_schedule *s)
{
    double product = 1.0;
    for (int64_t i = 0; i < s->n; i++) {
        assert_true(s->abar_prev[i] == (i ? s->abar[i - 1] : 1.0));
        assert_true(s->abar_next[i] == (i + 1 < s->n ? s->abar[i + 1] : 0.0));
        assert_true(s->beta[i] > 0.0 && s->beta[i] < 1.0);
        product *= 1.0 - s->beta[i];
        assert_close(s->abar[i], product, 1e-12);
    }
}

static void test_linear(void **state)
{
    (void)state;
    zs_schedule s;
    make(&s, "linear", 1000);
    assert_int_equal(s.n, 1000);
    assert_close(s.beta[0], 1e-4, 1e-18);
    assert_close(s.beta[999], 0.02, 1e-17);
    assert_close(s.beta[333], 1e-4 + 0.0199 / 3.0, 1e-16);
    check_links(&s);
    zs_schedule_free(&s);
    make(&s, "linear", 250); /* fewer steps, larger betas: the ends agree */
    assert_close(s.beta[0], 4e-4, 1e-17);
    assert_close(s.beta[249], 0.08, 1e-16);
    zs_schedule_free(&s);
    zs_schedule_free(&s);
}

static void test_cosine(void **state)
{
    (void)state;
    const double half_pi = 1.57079632679489661923;
    zs_schedule s;
    make(&s, "cosine", 1000);
    double zero = cos(0.008 / 1.008 * half_pi);
    for (int64_t i = 0; i < 990; i += 97) { /* the betas telescope until the cap at 0.999 */
        double c = cos(((double)(i + 1) / 1000.0 + 0.008) / 1.008 * half_pi) / zero;
        assert_close(s.abar[i], c * c, 1e-12);
    }
    assert_close(s.beta[999], 0.999, 0.0);
    check_links(&s);
    zs_schedule_free(&s);
}

static void test_const(void **state)
{
    (void)state;
    zs_schedule s;
    make(&s, "const0.008", 1000);
    for (int64_t i = 0; i < 1000; i += 111)
        assert_close(s.abar[i], pow(0.992, (double)(i + 1)), 1e-13);
    check_links(&s);
    zs_schedule_free(&s);
}

/* Values of the authors' code (10 steps of "linear", float32). */
static void test_ddim10(void **state)
{
    (void)state;
    static const double abar[10] = {
        0.9998999834060669,    0.8951416015625,       0.6563469767570496,   0.39401111006736755,
        0.1935720145702362,    0.07779666036367416,   0.025567492470145226, 0.006868279073387384,
        0.0015075210249051452, 0.00027024451992474496};
    zs_schedule full, s;
    make(&full, "linear", 1000);
    respace(&s, &full, "ddim10");
    assert_int_equal(s.n, 10);
    for (int64_t i = 0; i < 10; i++) {
        assert_int_equal(s.t[i], 100 * i);
        assert_close(s.abar[i], abar[i], 1e-6 * abar[i]);
    }
    check_links(&s);
    zs_schedule_free(&s);
    zs_schedule_free(&full);
}

static void test_strides(void **state)
{
    (void)state;
    zs_schedule full, s;
    make(&full, "linear", 1000);
    respace(&s, &full, "ddim1000");
    assert_int_equal(s.t[999], 999);
    zs_schedule_free(&s);
    respace(&s, &full, "ddim143"); /* stride 7: ceil(1000/7) = 143 */
    assert_int_equal(s.t[142], 994);
    check_links(&s);
    zs_schedule_free(&s);
    respace(&s, &full, "ddim112"); /* strides 8 gives 125 and 9 gives 112 */
    assert_int_equal(s.t[1], 9);
    zs_schedule_free(&s);
    respace(&s, &full, "ddim20");
    assert_int_equal(s.t[1], 50);
    zs_schedule_free(&s);
    zs_schedule_free(&full);
}

static void test_even(void **state)
{
    (void)state;
    static const int64_t ten[10] = {0, 111, 222, 333, 444, 555, 666, 777, 888, 999};
    /* 250 + 250 + 250 + 250: two even steps in each quarter */
    static const int64_t parts[8] = {0, 249, 250, 499, 500, 749, 750, 999};
    zs_schedule full, s;
    make(&full, "linear", 1000);
    respace(&s, &full, "10");
    assert_int_equal(s.n, 10);
    assert_memory_equal(s.t, ten, sizeof ten);
    zs_schedule_free(&s);
    respace(&s, &full, "2,2,2,2");
    assert_int_equal(s.n, 8);
    assert_memory_equal(s.t, parts, sizeof parts);
    check_links(&s);
    zs_schedule_free(&s);
    respace(&s, &full, "1");
    assert_int_equal(s.n, 1);
    assert_int_equal(s.t[0], 0);
    zs_schedule_free(&s);
    zs_schedule_free(&full);
    make(&full, "const0.001", 7); /* 7 = 4 + 3 */
    respace(&s, &full, "1,3");
    assert_int_equal(s.t[0], 0);
    assert_int_equal(s.t[1], 4);
    assert_int_equal(s.t[3], 6);
    zs_schedule_free(&s);
    respace(&s, &full, "3"); /* stride 3 exactly */
    assert_int_equal(s.t[1], 3);
    zs_schedule_free(&s);
    respace(&s, &full, "5"); /* 0 1.5 3 4.5 6: halves go to the even neighbour */
    assert_int_equal(s.t[1], 2);
    assert_int_equal(s.t[3], 4);
    zs_schedule_free(&s);
    zs_schedule_free(&full);
}

/* Values of the authors' code: float32 tables of linspace(sqrt(a), sqrt(b), 1000)^2 in float64. */
static void test_sqrt(void **state)
{
    (void)state;
    zs_schedule s;
    make(&s, "sqrt0.0015:0.0195", 1000);
    assert_close(s.beta[0], 0.0015, 1e-18);
    assert_close(s.beta[999], 0.0195, 1e-17);
    assert_close(sqrt(s.beta[333]), (2 * sqrt(0.0015) + sqrt(0.0195)) / 3, 1e-15);
    assert_true(s.abar[0] == (double)0.9985f);
    double product = 1.0;
    for (int64_t i = 0; i < s.n; i++) {
        product *= 1.0 - s.beta[i];
        assert_true(s.abar[i] == (double)(float)product);
    }
    zs_schedule_free(&s);
    make(&s, "sqrt1e-4:0.02", 1);
    assert_close(s.beta[0], 1e-4, 1e-18);
    zs_schedule_free(&s);
}

static void test_ldm(void **state)
{
    (void)state;
    zs_schedule full, s;
    make(&full, "sqrt0.0015:0.0195", 1000);
    respace(&s, &full, "ldm250");
    assert_int_equal(s.n, 250);
    assert_int_equal(s.t[0], 1);
    assert_int_equal(s.t[249], 997);
    assert_true(s.abar[0] == full.abar[1] && s.abar_prev[0] == full.abar[0]);
    assert_true(s.abar_prev[1] == s.abar[0]);
    for (int64_t i = 0; i < s.n; i++)
        assert_close(s.abar_prev[i] * (1 - s.beta[i]), s.abar[i], 1e-15);
    zs_schedule_free(&s);
    respace(&s, &full, "ldm30"); /* stride 33: 1, 34, ..., 991 */
    assert_int_equal(s.n, 31);
    assert_int_equal(s.t[30], 991);
    zs_schedule_free(&s);
    respace(&s, &full, "ldm1");
    assert_int_equal(s.n, 1);
    zs_schedule_free(&s);
    zs_schedule_free(&full);
}

static void refuse_spec(const zs_schedule *full, const char *spec)
{
    zs_error err = {0};
    zs_schedule s;
    if (zs_schedule_respace(&s, full, spec, &err) != ZS_E_INVALID)
        fail_msg("'%s' was accepted", spec);
    assert_null(s.beta);
    assert_true(err.message[0] != '\0');
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const specs[] = {"",
                                        "0",
                                        "-3",
                                        "1001",
                                        "ddim",
                                        "ddim0",
                                        "ddim1",
                                        "600,1",
                                        "10,",
                                        ",10",
                                        "ddim300",
                                        "ddim-1",
                                        "1x",
                                        "10;20",
                                        " 10",
                                        "ddim1001",
                                        "ldm",
                                        "ldm0",
                                        "ldm-5",
                                        "ldm1001",
                                        "ldm1000",
                                        "ldm300", /* both reach timestep 1000 */
                                        "99999999999999999999999"};
    zs_schedule full, s;
    make(&full, "linear", 1000);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        refuse_spec(&full, specs[i]);
    zs_schedule_free(&full);
    static const char
        *const names[] = {"",         "Linear",       "const",       "const2",
                          "const0",   "const-1",      "cosin",       "linear1",
                          "sqrt",     "sqrt0.1",      "sqrt0.1:",    "sqrt0.1:0.2:0.3",
                          "sqrt:0.1", "sqrt-0.1:0.1", "sqrt0.1:1.1", "const0.1:0.2",
                          "const0.5"}; /* abar would underflow */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        zs_error err = {0};
        assert_int_equal(zs_schedule_make(&s, names[i], 1000, &err), ZS_E_INVALID);
        assert_null(s.beta);
    }
    assert_int_equal(zs_schedule_make(&s, "linear", 0, NULL), ZS_E_INVALID);
    assert_int_equal(zs_schedule_make(&s, "linear", -1, NULL), ZS_E_INVALID);
    assert_int_equal(zs_schedule_make(&s, "linear", INT64_MAX, NULL), ZS_E_INVALID);
    assert_int_equal(zs_schedule_make(&s, "linear", 10, NULL), ZS_E_INVALID); /* beta 2 */
}

static void test_out_of_memory(void **state)
{
    (void)state;
    zs_schedule full, s;
    make(&full, "linear", 1000);
    for (long n = 1; n <= 2; n++) {
        zs_error err = {0};
        zs_alloc_fail_at(n);
        int status = zs_schedule_respace(&s, &full, "ddim10", &err);
        zs_alloc_fail_at(0);
        assert_int_equal(status, ZS_E_NOMEM);
        assert_null(s.beta);
    }
    zs_schedule_free(&full);
}

static void test_conversions(void **state)
{
    (void)state;
    float x0[3] = {0.5f, -0.25f, 1.5f}, eps[3] = {-1.0f, 2.0f, 0.125f}, xt[3], back[3];
    zs_q_sample(xt, x0, eps, 0.64, 3);
    for (int i = 0; i < 3; i++)
        assert_close((double)xt[i], 0.8 * (double)x0[i] + 0.6 * (double)eps[i], 1e-6);
    zs_eps_to_x0(back, xt, eps, 0.64, 3);
    for (int i = 0; i < 3; i++)
        assert_close((double)back[i], (double)x0[i], 1e-6);
    zs_x0_to_eps(xt, xt, x0, 0.64, 3); /* in place */
    for (int i = 0; i < 3; i++)
        assert_close((double)xt[i], (double)eps[i], 2e-6);
    zs_clamp_unit(x0, 3);
    assert_true(x0[0] == 0.5f && x0[1] == -0.25f && x0[2] == 1.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),      cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_const),       cmocka_unit_test(test_ddim10),
        cmocka_unit_test(test_strides),     cmocka_unit_test(test_even),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_conversions), cmocka_unit_test(test_sqrt),
        cmocka_unit_test(test_ldm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
