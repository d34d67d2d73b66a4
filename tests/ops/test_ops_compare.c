/* SPDX-License-Identifier: MIT */
/* Every case of the table with the fast kernels, for each instruction set that this processor
 * has, against the reference; and the same bits for any number of threads. */
#include "backend/cpu/conv.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/wino_conv.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* What a convolution by tiles may differ by: all of it in the root mean square, and a single
 * element (these come out of sums of larger terms). */
static const double tiles_rms = 2e-5, tiles_element = 1e-4;

static bool is_conv(zs_op op)
{
    return op == ZS_OP_CONV2D || op == ZS_OP_CONV2D_DX || op == ZS_OP_CONV2D_DW ||
           op == ZS_OP_CONV_RELU;
}

/* True if a (got) agrees with r (reference) within the case's tolerance, or that of tiles. */
static bool agrees(const op_case *c, int slot, const float *a, const float *r, bool tiles)
{
    size_t n = (size_t)zs_shape_numel(&c->out[slot]);
    double square = 0, off = 0, tol = tiles ? tiles_element : op_tolerance(c);
    for (size_t i = 0; i < n; i++) {
        square += (double)r[i] * (double)r[i];
        off += ((double)a[i] - (double)r[i]) * ((double)a[i] - (double)r[i]);
    }
    double rms = sqrt(square / (double)n);
    if (tiles && !(sqrt(off / (double)n) <= tiles_rms * rms)) {
        print_error("%s, output %d: off by %.3g of %.3g\n", c->name, slot, sqrt(off / (double)n),
                    rms);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)a[i] - (double)r[i]);
        if (error <= tol * (fabs((double)r[i]) + rms) + c->slack) /* false for NaN */
            continue;
        print_error("%s, output %d, element %zu: %.9g, reference %.9g (rms %.3g)\n", c->name, slot,
                    i, (double)a[i], (double)r[i], rms);
        return false;
    }
    return true;
}

static bool guards_hold(const op_data *d, const char *backend)
{
    const char *g = op_guard(d);
    if (g)
        print_error("%s (%s) wrote outside of %s\n", d->c->name, backend, g);
    return !g;
}

static bool same_bits(const op_data *a, const op_data *b, int threads)
{
    for (int i = 0; i < ZS_MAX_OUT; i++) {
        if (!a->out[i])
            continue;
        size_t bytes = (size_t)zs_shape_numel(&a->c->out[i]) * sizeof(float);
        if (memcmp(a->out[i], b->out[i], bytes) == 0)
            continue;
        print_error("%s, output %d: %d threads give other bits than one\n", a->c->name, i, threads);
        return false;
    }
    return true;
}

static bool compare_one(const op_case *c, op_data *got, op_data *want, zs_conv_path path)
{
    bool ok = guards_hold(got, "cpu") && guards_hold(want, "cpu-ref");
    bool tiles = is_conv(c->op) && path >= ZS_CONV_WINOGRAD;
    for (int i = 0; i < ZS_MAX_OUT; i++)
        if (got->out[i])
            ok = agrees(c, i, got->out[i], want->out[i], tiles) && ok;
    for (int i = 0; i < ZS_MAX_IN; i++)
        if (got->in[i] && memcmp(got->in[i], want->in[i],
                                 (size_t)zs_shape_numel(&c->in[i]) * sizeof(float)) != 0) {
            print_error("%s changed input %d\n", c->name, i);
            ok = false;
        }
    return ok;
}

/* Number of cases that fail on the instruction set in use; convolutions by this path, and nothing
 * else than convolutions unless it is the default. */
static int compare_path(zs_conv_path path)
{
    size_t n;
    const op_case *cases = op_cases(&n);
    int failed = 0;
    zs_conv_path_set(path);
    for (size_t i = 0; i < n; i++) {
        op_data got, want;
        if (cases[i].bench || (path != ZS_CONV_WINOGRAD && !is_conv(cases[i].op)))
            continue;
        assert_true(op_data_new(&got, &cases[i]));
        assert_true(op_data_new(&want, &cases[i]));
        assert_true(op_run(&want, zs_backend_find("cpu-ref")));
        assert_true(op_run(&got, zs_backend_find("cpu")));
        failed += !compare_one(&cases[i], &got, &want, path);
        op_data_free(&got);
        op_data_free(&want);
    }
    zs_conv_path_set(ZS_CONV_WINOGRAD);
    return failed;
}

static void compare_isa(zs_isa isa)
{
    if (!zs_isa_available(isa)) {
        print_message("SKIPPED: this machine has no %s\n", zs_isa_name(isa));
        skip();
    }
    zs_isa before = zs_isa_get();
    zs_isa_set(isa);
    int failed = compare_path(ZS_CONV_WINOGRAD) + compare_path(ZS_CONV_DIRECT);
    zs_wino_kind_set(ZS_WINO_F6);
    failed += compare_path(ZS_CONV_WINOGRAD);
    zs_wino_kind_set(-1);
    zs_isa_set(before);
    assert_int_equal(failed, 0);
}

/* ThreadSanitizer looks for races, which values and instruction sets have no part in, and takes
 * minutes for each. */
#if defined(__SANITIZE_THREAD__)
enum { RACES_ONLY = 1 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { RACES_ONLY = 1 };
#else
enum { RACES_ONLY = 0 };
#endif
#else
enum { RACES_ONLY = 0 };
#endif

static void test_v2(void **state)
{
    (void)state;
    if (RACES_ONLY)
        skip();
    compare_isa(ZS_ISA_V2);
}

static void test_v3(void **state)
{
    (void)state;
    if (RACES_ONLY)
        skip();
    compare_isa(ZS_ISA_V3);
}

static void test_v4(void **state)
{
    (void)state;
    compare_isa(ZS_ISA_V4);
}

static void threads_agree(const char *backend)
{
    static const int threads[] = {2, 3, 7}; /* and one */
    size_t n;
    const op_case *cases = op_cases(&n);
    const zs_backend *b = zs_backend_find(backend);
    op_data *one = zs_calloc(n, sizeof *one);
    int failed = 0;
    assert_non_null(one);
    zs_threads_set(1);
    for (size_t i = 0; i < n; i++)
        if (!cases[i].bench)
            assert_true(op_data_new(&one[i], &cases[i]) && op_run(&one[i], b));
    for (size_t t = RACES_ONLY; t < sizeof threads / sizeof threads[0]; t++) {
        zs_threads_set(threads[t]);
        for (size_t i = 0; i < n; i++) {
            op_data many;
            if (cases[i].bench)
                continue;
            assert_true(op_data_new(&many, &cases[i]) && op_run(&many, b));
            failed += !same_bits(&one[i], &many, threads[t]) || !guards_hold(&many, backend);
            op_data_free(&many);
        }
    }
    for (size_t i = 0; i < n; i++)
        op_data_free(&one[i]);
    zs_free(one);
    zs_threads_set(0);
    assert_int_equal(failed, 0);
}

static void threads_agree_on(zs_isa isa)
{
    zs_isa before = zs_isa_get();
    if (!zs_isa_available(isa))
        return;
    zs_isa_set(isa);
    threads_agree("cpu");
    zs_isa_set(before);
}

static void test_threads(void **state)
{
    (void)state;
    for (zs_isa isa = RACES_ONLY ? ZS_ISA_COUNT - 1 : 0; isa < ZS_ISA_COUNT; isa++)
        threads_agree_on(isa);
    zs_conv_path_set(ZS_CONV_DIRECT);
    threads_agree("cpu");
    zs_conv_path_set(ZS_CONV_WINOGRAD);
}

static void test_threads_reference(void **state)
{
    (void)state;
    if (RACES_ONLY)
        skip();
    threads_agree("cpu-ref");
}

static void test_every_op_has_a_case(void **state)
{
    (void)state;
    size_t n;
    const op_case *cases = op_cases(&n);
    for (zs_op op = 0; op < ZS_OP_COUNT; op++) {
        size_t small = 0;
        for (size_t i = 0; i < n; i++)
            small += cases[i].op == op && !cases[i].bench;
        if (small == 0)
            print_error("no case for %s\n", zs_op_name(op));
        assert_true(small > 0);
    }
}

static void test_registry(void **state)
{
    (void)state;
    assert_string_equal(zs_backend_find(NULL)->name, "cpu");
    assert_string_equal(zs_backend_find("cpu")->name, "cpu");
    assert_string_equal(zs_backend_find("cpu-ref")->name, "cpu-ref");
    assert_null(zs_backend_find("abacus"));
    for (zs_op op = 0; op < ZS_OP_COUNT; op++)
        assert_non_null(zs_backend_find("cpu")->kernel(op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_every_op_has_a_case),
        cmocka_unit_test(test_v2),
        cmocka_unit_test(test_v3),
        cmocka_unit_test(test_v4),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_threads_reference),
    };
    return cmocka_run_group_tests_name("ops_compare", tests, NULL, NULL);
}
