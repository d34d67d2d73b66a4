/* SPDX-License-Identifier: MIT */
/* What the kernels promise beyond agreeing with each other: the error of exp and its edges, the
 * elements that dropout counts, how NaN travels, the choice of the instruction set. */
#include "backend/cpu/conv.h"
#include "backend/cpu/elem.h"
#include "backend/cpu/vexp.h"
#include "tests/ops/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Distance in units of the last place of the exact value. */
static double ulps(float got, double exact)
{
    double unit = ldexp(1.0, ilogb(exact) - 23);
    if (unit < 0x1p-149)
        unit = 0x1p-149;
    return fabs((double)got - exact) / unit;
}

static void exp_error(void **state)
{
    (void)state;
    double worst = 0, at = 0;
    for (int64_t i = -103 * 65536; i <= 88 * 65536; i++) {
        float x = (float)i * 0x1p-16f + (float)(i % 7) * 0x1p-20f;
        double u = ulps(zs_expf(x), exp((double)x));
        if (u > worst) {
            worst = u;
            at = (double)x;
        }
    }
    print_message("exp: at most %.3f ulp off, at %g\n", worst, at);
    assert_true(worst <= 2.0);
}

static void exp_edges(void **state)
{
    (void)state;
    assert_true(zs_expf(0.0f) == 1.0f);
    assert_true(zs_expf(-1000.0f) == 0.0f && zs_expf(-HUGE_VALF) == 0.0f);
    assert_true(zs_expf(1000.0f) == HUGE_VALF && zs_expf(HUGE_VALF) == HUGE_VALF);
    assert_true(ulps(zs_expf(88.7f), exp((double)88.7f)) <= 2);
    assert_true(isnan(zs_expf(NAN)) && isnan(zs_siluf(NAN)) && isnan(zs_dsiluf(NAN)));
    assert_true(zs_siluf(-1e30f) == 0.0f && zs_siluf(1e30f) == 1e30f);
    assert_true(zs_dsiluf(-200.0f) == 0.0f && zs_dsiluf(200.0f) == 1.0f);
}

/* The vectorised loops of every instruction set keep NaN and the limits too. */
static void silu_edges(void **state)
{
    (void)state;
    float x[40], y[40];
    zs_isa before = zs_isa_get();
    for (zs_isa isa = 0; isa < ZS_ISA_COUNT; isa++) {
        if (!zs_isa_available(isa))
            continue;
        zs_isa_set(isa);
        for (int i = 0; i < 40; i++)
            x[i] = i % 4 == 0 ? NAN : i % 4 == 1 ? -1e30f : i % 4 == 2 ? 1e30f : 0.0f;
        zs_elem_get()->silu(y, x, 40);
        for (int i = 0; i < 40; i++)
            assert_true(i % 4 == 0 ? (bool)isnan(y[i]) : y[i] == (x[i] > 0.0f ? x[i] : 0.0f));
        zs_elem_get()->softmax(x, 1.0f, 1, 40);
        for (int i = 0; i < 40; i++)
            assert_true(isnan(x[i]));
    }
    zs_isa_set(before);
}

/* Every instruction set, over all that is not rounded to 0; the derivative against its value. */
static void gelu_error(void **state)
{
    (void)state;
    enum { N = 1 << 12 };
    static float x[N], y[N], d[N], one[N];
    zs_isa before = zs_isa_get();
    for (zs_isa isa = 0; isa < ZS_ISA_COUNT; isa++) {
        double worst = 0, slope = 0;
        if (!zs_isa_available(isa))
            continue;
        zs_isa_set(isa);
        for (int i = 0; i < 22 * 32; i++) {
            for (int j = 0; j < N; j++) {
                x[j] = -13.0f + (float)i * 0x1p-5f + (float)j * 0x1p-17f;
                one[j] = 1.0f;
            }
            zs_elem_get()->gelu(y, x, N);
            zs_elem_get()->gelu_bwd(d, x, one, N);
            for (int j = 0; j < N; j++) {
                double v = (double)x[j], phi = 0.5 * erfc(-v * sqrt(0.5));
                double dv = phi + v * exp(-0.5 * v * v) * 0.3989422804014327;
                worst = fmax(worst, v == 0 ? 0 : fabs((double)y[j] / (v * phi) - 1));
                slope = fmax(slope, fabs((double)d[j] - dv));
            }
        }
        print_message("gelu, %s: at most %.3g relative, its slope %.3g off\n", zs_isa_name(isa),
                      worst, slope);
        assert_true(worst <= 1e-6 && slope <= 5e-7);
    }
    zs_isa_set(before);
}

/* The approximation, and its derivative as PyTorch's autograd gives it. */
static void gelu_by_tanh(void **state)
{
    (void)state;
    enum { N = 1 << 12 };
    static float x[N], y[N], d[N], one[N];
    zs_isa before = zs_isa_get();
    for (zs_isa isa = 0; isa < ZS_ISA_COUNT; isa++) {
        double worst = 0, slope = 0;
        if (!zs_isa_available(isa))
            continue;
        zs_isa_set(isa);
        for (int j = 0; j < N; j++) {
            x[j] = -8.0f + (float)j * 0x1p-8f;
            one[j] = 1.0f;
        }
        zs_elem_get()->gelu_tanh(y, x, N);
        zs_elem_get()->gelu_tanh_bwd(d, x, one, N);
        for (int j = 0; j < N; j++) {
            double v = (double)x[j], u = 0.7978845608028654 * (v + 0.044715 * v * v * v);
            double t = tanh(u), du = 0.7978845608028654 * (1 + 3 * 0.044715 * v * v);
            worst = fmax(worst, fabs((double)y[j] - 0.5 * v * (1 + t)));
            slope = fmax(slope, fabs((double)d[j] - 0.5 * (1 + t) - 0.5 * v * (1 - t * t) * du));
        }
        print_message("gelu by tanh, %s: %.3g off, its slope %.3g\n", zs_isa_name(isa), worst,
                      slope);
        assert_true(worst <= 1e-6 && slope <= 4e-6);
    }
    zs_isa_set(before);
}

static void gelu_edges(void **state)
{
    (void)state;
    const float x[6] = {NAN, -1e30f, 1e30f, 0.0f, -20.0f, 20.0f};
    float y[6], d[6], one[6] = {1, 1, 1, 1, 1, 1};
    zs_isa before = zs_isa_get();
    for (zs_isa isa = 0; isa < ZS_ISA_COUNT; isa++) {
        zs_isa_set(isa);
        zs_elem_get()->gelu(y, x, 6);
        zs_elem_get()->gelu_bwd(d, x, one, 6);
        assert_true(isnan(y[0]) && isnan(d[0]));
        assert_true(y[1] == 0.0f && y[2] == 1e30f && y[3] == 0.0f && y[4] == 0.0f && y[5] == 20.0f);
        assert_true(d[1] == 0.0f && d[2] == 1.0f && d[4] == 0.0f && d[5] == 1.0f);
        zs_elem_get()->gelu_tanh(y, x, 6);
        zs_elem_get()->gelu_tanh_bwd(d, x, one, 6);
        assert_true(isnan(y[0]) && isnan(d[0]));
        assert_true(fabsf(y[1]) <= 1e-15f && y[2] == 1e30f && y[3] == 0.0f && y[5] == 20.0f);
        assert_true(fabsf(d[1]) <= 1e-15f && d[2] == 1.0f && fabsf(d[3] - 0.5f) <= 1e-6f);
    }
    zs_isa_set(before);
}

/* y[n] of dropout on ones, for `samples` samples from `first` on, `per` elements each. */
static void drop(float *y, const char *backend, int64_t first, int64_t samples, int64_t per)
{
    op_case c = {.op = ZS_OP_DROPOUT, .a = {.p = 0.4f, .rng = 77}};
    c.in[0] = c.out[0] = zs_shape2(samples, per);
    op_data d;
    assert_true(op_data_new(&d, &c));
    for (int64_t i = 0; i < samples * per; i++)
        d.in[0][i] = 1.0f;
    d.step.sample = first;
    assert_true(op_run(&d, zs_backend_find(backend)));
    memcpy(y, d.out[0], (size_t)(samples * per) * sizeof *y);
    op_data_free(&d);
}

/* A batch of 6 equals two of 3; rows of 7 make all but the first start inside a block. */
static void dropout_counts_over_the_batch(void **state)
{
    (void)state;
    static const char *const backends[] = {"cpu", "cpu-ref"};
    float whole[42], parts[42];
    for (int b = 0; b < 2; b++) {
        drop(whole, backends[b], 0, 6, 7);
        drop(parts, backends[b], 0, 3, 7);
        drop(parts + 21, backends[b], 3, 3, 7);
        assert_memory_equal(whole, parts, sizeof whole);
    }
}

/* Elements from 2^34 on come from another stream instead of repeating the first ones. */
static void dropout_beyond_one_stream(void **state)
{
    (void)state;
    enum { N = 64 };
    const int64_t samples = ((int64_t)1 << 34) / N; /* N elements a sample */
    float start[N], beyond[2 * N], ref[2 * N];
    drop(start, "cpu", 0, 1, N);
    drop(beyond, "cpu", samples - 1, 2, N);
    drop(ref, "cpu-ref", samples - 1, 2, N);
    assert_memory_equal(beyond, ref, sizeof ref);
    assert_memory_not_equal(beyond + N, start, sizeof start);
}

static void dropout_rate(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    float *y = zs_alloc(N, sizeof *y);
    int kept = 0;
    assert_non_null(y);
    drop(y, "cpu", 0, 1, N);
    for (int i = 0; i < N; i++) {
        assert_true(y[i] == 0.0f || y[i] == 1.0f / (1.0f - 0.4f));
        kept += y[i] != 0.0f;
    }
    zs_free(y);
    assert_in_range(kept, (int)(0.59 * N), (int)(0.61 * N));
}

/* What is no row of a table reads nothing and adds nothing: the result says so. */
static void rows_outside_of_a_table(void **state)
{
    (void)state;
    op_case f = {.op = ZS_OP_EMBED}, b = {.op = ZS_OP_EMBED_BWD, .a = {.len = 3}};
    const float index[6] = {2.0f, 3.0f, -1.0f, 0.5f, NAN, 1e30f};
    op_data d;
    f.in[0] = b.in[0] = zs_shape1(6);
    f.in[1] = b.out[0] = zs_shape2(3, 5);
    f.out[0] = b.in[1] = zs_shape2(6, 5);
    assert_true(op_data_new(&d, &f));
    memcpy(d.in[0], index, sizeof index);
    assert_true(op_run(&d, zs_backend_find("cpu")));
    assert_memory_equal(d.out[0], d.in[1] + 10, 5 * sizeof(float));
    for (int i = 5; i < 30; i++)
        assert_true(isnan(d.out[0][i]));
    op_data_free(&d);
    assert_true(op_data_new(&d, &b));
    memcpy(d.in[0], index, sizeof index);
    assert_true(op_run(&d, zs_backend_find("cpu")));
    float added[5], was[15];
    memcpy(added, d.out[0] + 10, sizeof added);
    memcpy(d.in[0], index + 1, 5 * sizeof *index);
    assert_true(op_run(&d, zs_backend_find("cpu")));
    memcpy(was, d.out[0], sizeof was);
    d.in[0][5] = -0.5f;
    assert_true(op_run(&d, zs_backend_find("cpu")));
    assert_memory_equal(was, d.out[0], sizeof was);
    assert_memory_not_equal(added, was + 10, sizeof added);
    assert_null(op_guard(&d));
    op_data_free(&d);
}

/* A NaN in one sample reaches that sample's result and no other, through every fast kernel of a
 * residual block: skipping zeros or padding with stale values would break this. */
static void nan_stays_in_its_sample(void **state)
{
    (void)state;
    size_t n;
    const op_case *cases = op_cases(&n);
    for (size_t i = 0; i < n; i++) {
        const op_case *c = &cases[i];
        if ((c->op != ZS_OP_CONV2D && c->op != ZS_OP_GN_ACT && c->op != ZS_OP_ATTENTION) ||
            c->bench || c->in[0].d[0] < 2)
            continue;
        op_data d;
        assert_true(op_data_new(&d, c));
        int64_t in = zs_shape_numel(&c->in[0]) / c->in[0].d[0];
        int64_t out = zs_shape_numel(&c->out[0]) / c->out[0].d[0], bad = 0;
        d.in[0][in / 2] = NAN;
        assert_true(op_run(&d, zs_backend_find("cpu")));
        for (int64_t e = 0; e < zs_shape_numel(&c->out[0]); e++) {
            if (e < out)
                bad += isnan(d.out[0][e]);
            else
                assert_false(isnan(d.out[0][e]));
        }
        if (bad == 0)
            print_error("%s swallowed a NaN\n", c->name);
        assert_true(bad > 0 || (c->op == ZS_OP_CONV2D && c->a.stride > 1));
        op_data_free(&d);
    }
}

/* A sample's convolution is the same to the bit in a batch as alone. */
static void conv_samples_are_alone(void **state)
{
    (void)state;
    enum { N = 5, H = 11, W = 14, C = 40, O = 36 };
    const int64_t x = H * W * C, y = H * W * O;
    op_case batch = {.op = ZS_OP_CONV2D, .a = {.k = 3, .stride = 1, .pad = 1}}, one;
    batch.in[0] = zs_shape4(N, H, W, C);
    batch.in[1] = zs_shape4(3, 3, C, O);
    batch.out[0] = zs_shape4(N, H, W, O);
    one = batch;
    one.in[0].d[0] = one.out[0].d[0] = 1;
    op_data all, single;
    assert_true(op_data_new(&all, &batch) && op_run(&all, zs_backend_find("cpu")));
    for (int n = 0; n < N; n++) {
        assert_true(op_data_new(&single, &one));
        memcpy(single.in[0], all.in[0] + n * x, (size_t)x * sizeof(float));
        assert_true(op_run(&single, zs_backend_find("cpu")));
        assert_memory_equal(single.out[0], all.out[0] + n * y, (size_t)y * sizeof(float));
        op_data_free(&single);
    }
    op_data_free(&all);
}

/* True if the case has packed weights on this path; the result must not depend on them. */
static bool packed_is_the_same(const op_case *c, zs_conv_path path)
{
    op_data bare, kept;
    zs_call call;
    const zs_backend *b = zs_backend_find("cpu");
    const zs_packer *packer = b->packer(c->op);
    zs_conv_path_set(path);
    assert_true(op_data_new(&bare, c) && op_data_new(&kept, c));
    assert_true(op_run(&bare, b) && op_prepare(&kept, b, &call));
    size_t bytes = packer->packing(&call).bytes;
    void *packed = zs_alloc(bytes ? bytes : 64, 1);
    assert_non_null(packed);
    if (bytes) {
        packer->pack(&call, packed);
        call.packed = packed;
        b->kernel(c->op)->run(&call);
        assert_memory_equal(kept.out[0], bare.out[0],
                            (size_t)zs_shape_numel(&c->out[0]) * sizeof(float));
        assert_null(op_guard(&kept));
    }
    zs_free(packed);
    op_data_free(&bare);
    op_data_free(&kept);
    zs_conv_path_set(ZS_CONV_WINOGRAD);
    return bytes > 0;
}

static void packed_weights_change_nothing(void **state)
{
    (void)state;
    size_t n;
    int direct = 0, tiles = 0;
    const op_case *cases = op_cases(&n);
    for (size_t i = 0; i < n; i++) {
        if (cases[i].op != ZS_OP_CONV2D || cases[i].bench)
            continue;
        direct += packed_is_the_same(&cases[i], ZS_CONV_DIRECT);
        tiles += packed_is_the_same(&cases[i], ZS_CONV_WINOGRAD);
    }
    assert_true(direct > 0 && tiles > 0);
}

static void conv_reference_can_be_forced(void **state)
{
    (void)state;
    size_t n;
    const op_case *c = op_cases(&n);
    while (c->op != ZS_OP_CONV2D || c->bench || c->in[0].d[3] < 17)
        c++;
    op_data forced, want;
    assert_true(op_data_new(&forced, c) && op_data_new(&want, c));
    zs_conv_path_set(ZS_CONV_REFERENCE);
    assert_true(op_run(&forced, zs_backend_find("cpu")));
    zs_conv_path_set(ZS_CONV_WINOGRAD);
    assert_true(op_run(&want, zs_backend_find("cpu-ref")));
    assert_memory_equal(forced.out[0], want.out[0],
                        (size_t)zs_shape_numel(&c->out[0]) * sizeof(float));
    op_data_free(&forced);
    op_data_free(&want);
}

/* Two patches of 2x2 pixels of two channels: within a token row, column, channel. */
static void tokens_are_row_column_channel(void **state)
{
    (void)state;
    const float want[16] = {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15};
    float image[16], tokens[16], back[16];
    const zs_attr a = {.k = 2, .h = 1, .w = 2};
    zs_shape sx = zs_shape4(1, 2, 4, 2), sy = {3, {1, 2, 8}};
    for (int i = 0; i < 16; i++)
        image[i] = (float)i;
    zs_call p = {
        .in = {{.p = image, .s = sx}}, .out = {{.p = tokens, .s = sy}}, .a = &a, .threads = 1};
    zs_call u = {
        .in = {{.p = tokens, .s = sy}}, .out = {{.p = back, .s = sx}}, .a = &a, .threads = 1};
    zs_backend_find("cpu")->kernel(ZS_OP_PATCHES)->run(&p);
    zs_backend_find("cpu")->kernel(ZS_OP_UNPATCH)->run(&u);
    assert_memory_equal(tokens, want, sizeof want);
    assert_memory_equal(back, image, sizeof image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_error),
        cmocka_unit_test(exp_edges),
        cmocka_unit_test(silu_edges),
        cmocka_unit_test(gelu_error),
        cmocka_unit_test(gelu_by_tanh),
        cmocka_unit_test(gelu_edges),
        cmocka_unit_test(dropout_counts_over_the_batch),
        cmocka_unit_test(dropout_beyond_one_stream),
        cmocka_unit_test(dropout_rate),
        cmocka_unit_test(rows_outside_of_a_table),
        cmocka_unit_test(tokens_are_row_column_channel),
        cmocka_unit_test(nan_stays_in_its_sample),
        cmocka_unit_test(conv_samples_are_alone),
        cmocka_unit_test(packed_weights_change_nothing),
        cmocka_unit_test(conv_reference_can_be_forced),
    };
    return cmocka_run_group_tests_name("ops_exact", tests, NULL, NULL);
}
