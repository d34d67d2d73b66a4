/* SPDX-License-Identifier: MIT */
/* The CUDA launchers that are no operations, on the processor: optimiser, norm, randomness, casts,
 * column sums, epilogues, softmax. */
#include "backend/cuda/kernels.h"
#include "tests/cuda_host/host.h"
#include "tests/cuda_host/lent.h"
#include "train/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* n normals of stream `index`, as floats. */
static float *normals(size_t n, uint64_t index)
{
    float *x = zs_alloc(n ? n : 1, sizeof *x);
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_TEST, .index = index};
    assert_non_null(x);
    zs_rng_normal(x, n, &r, 0);
    return x;
}

static float number(const void *p, zs_dtype type, size_t i)
{
    return type == ZS_F32 ? ((const float *)p)[i] : zs_bf16_to_f32(((const uint16_t *)p)[i]);
}

/* n normals of a type, on the device; *host are their values. */
static void *lent_normals(lent *l, float **host, size_t n, zs_dtype type, size_t shift,
                          uint64_t index)
{
    size_t size = zs_dtype_size(type);
    *host = normals(n, index);
    lent_new(l, n * size, shift * size);
    zs_dtype_from_f32(l->p, type, *host, n);
    for (size_t i = 0; i < n; i++)
        (*host)[i] = number(l->p, type, i);
    return l->p;
}

static void run_all(void)
{
    assert_true(zs_host_run(ZS_HOST_ALL_BACKWARD) > 0);
}

/* |a - r| within tolerance of |r| + rms; bf16 rounds once more. */
static void close_to(const void *a, zs_dtype type, const double *r, size_t n, double tolerance)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += r[i] * r[i];
    double rms = sqrt(square / (double)n), last = type == ZS_BF16 ? 0x1p-8 : 0;
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)number(a, type, i) - r[i]);
        if (!(error <= (tolerance + last) * fabs(r[i]) + tolerance * rms))
            print_error("element %zu: %.9g instead of %.9g\n", i, (double)number(a, type, i), r[i]);
        assert_true(error <= (tolerance + last) * fabs(r[i]) + tolerance * rms);
    }
}

/* ---- randomness ---- */

static void test_random(void **state)
{
    static const int64_t firsts[] = {0, 1, 3, 4, ((int64_t)1 << 34) - 1100};
    static const int64_t counts[] = {1, 2, 5, 1000, 4096};
    (void)state;
    for (size_t k = 0; k < 25; k++) {
        int64_t first = firsts[k / 5], n = counts[k % 5];
        zs_rng r = {.seed = 0x123456789ABCDEFu + k,
                    .purpose = ZS_RNG_NOISE,
                    .index = ((uint64_t)1 << 40) + k,
                    .step = ((uint64_t)3 << 33) + k};
        float *want = zs_alloc((size_t)n, sizeof *want);
        lent got = {0};
        if (first + n > (int64_t)1 << 34) /* a stream holds so many */
            n = ((int64_t)1 << 34) - first;
        for (int normal = 0; normal < 2; normal++) {
            lent_new(&got, (size_t)n * sizeof(float), sizeof(float));
            (normal ? zs_launch_normal : zs_launch_uniform)(got.p, n, &r, first, NULL);
            run_all();
            (normal ? zs_rng_normal : zs_rng_uniform)(want, (size_t)n, &r, (size_t)first);
            assert_memory_equal(got.p, want, (size_t)n * sizeof(float));
            assert_true(lent_intact(&got));
            lent_free(&got);
        }
        zs_free(want);
    }
}

/* Many, since every branch of the logarithm and of the sine has to be seen. */
static void test_random_many(void **state)
{
    enum { N = 1 << 20 };
    zs_rng r = {.seed = 9, .purpose = ZS_RNG_XT, .index = 7};
    lent got = {0};
    float *want = zs_alloc(N, sizeof *want);
    (void)state;
    lent_new(&got, N * sizeof(float), 0);
    zs_launch_normal(got.p, N, &r, 0, NULL);
    run_all();
    zs_rng_normal(want, N, &r, 0);
    assert_memory_equal(got.p, want, N * sizeof(float));
    lent_free(&got);
    zs_free(want);
}

/* ---- optimiser ---- */

enum { STREAMS = 5 }; /* param, grad, m, v, ema */

typedef struct adam_case {
    int64_t n;
    size_t shift;
    bool ema, shadow, ema_first;
    double clip, decay, keep_decay; /* l2, and decoupled */
} adam_case;

static void adam_agrees(const adam_case *k)
{
    static const zs_optim_config defaults = {
        .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .ema = 0.9999};
    lent l[STREAMS] = {{0}}, shadow = {0}, norm = {0};
    float *host[STREAMS];
    size_t n = (size_t)k->n, bytes = n * sizeof(float);
    zs_optim_config c = defaults;
    c.clip = k->clip;
    c.decoupled = k->keep_decay > 0;
    c.weight_decay = c.decoupled ? k->keep_decay : k->decay;
    c.ema_first = k->ema_first;
    for (int i = 0; i < STREAMS; i++) {
        host[i] = normals(n, (uint64_t)i);
        for (size_t e = 0; i == 3 && e < n; e++)
            host[i][e] *= host[i][e];
        lent_copy(&l[i], host[i], bytes, k->shift * sizeof(float));
    }
    lent_new(&shadow, n * 2, k->shift * 2);
    double g = zs_grad_norm(host[1], n), t = 7;
    zs_adam a = {.param = l[0].p,
                 .grad = l[1].p,
                 .m = l[2].p,
                 .v = l[3].p,
                 .ema = k->ema ? l[4].p : NULL,
                 .shadow = k->shadow ? shadow.p : NULL,
                 .n = k->n,
                 .norm = lent_copy(&norm, &g, sizeof g, 0),
                 .max_norm = k->clip,
                 .l2 = c.decoupled ? 0.0f : (float)c.weight_decay,
                 .keep = c.decoupled ? (float)(1.0 - c.lr * c.weight_decay) : 1.0f,
                 .lr = (float)(c.lr / (1.0 - pow(c.beta1, t))),
                 .inv_bias2 = (float)(1.0 / sqrt(1.0 - pow(c.beta2, t))),
                 .eps = (float)c.eps,
                 .beta1 = c.beta1,
                 .beta2 = c.beta2,
                 .decay = c.ema,
                 .ema_first = k->ema_first};
    zs_launch_adam(&a, NULL);
    run_all();
    zs_optim_buffers b = {host[0], host[1], host[2], host[3], k->ema ? host[4] : NULL, n};
    zs_optim_step(&c, &b, (int64_t)t, g);
    for (int i = 0; i < STREAMS; i++) {
        assert_memory_equal(l[i].p, host[i], bytes);
        assert_true(lent_intact(&l[i]));
    }
    for (size_t e = 0; e < n; e++) {
        uint16_t want = k->shadow ? zs_f32_to_bf16(host[0][e]) : 0xFFFF;
        assert_int_equal(((const uint16_t *)shadow.p)[e], want);
    }
    assert_true(lent_intact(&shadow) && lent_intact(&norm));
    for (int i = 0; i < STREAMS; i++) {
        zs_free(host[i]);
        lent_free(&l[i]);
    }
    lent_free(&shadow);
    lent_free(&norm);
}

static void test_adam(void **state)
{
    static const adam_case cases[] = {
        {1, 0, false, false, false, 0, 0, 0},   {3, 0, true, true, false, 1, 0, 0},
        {4, 0, true, true, true, 1, 0.01, 0},   {5000, 0, true, true, true, 1, 0, 0},
        {5003, 0, true, false, false, 1, 0, 0}, {5003, 1, true, true, false, 1e6, 0, 0},
        {1027, 0, false, true, false, 1, 0, 1}, {1024, 3, true, true, true, 0.5, 0, 0.1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        adam_agrees(&cases[i]);
}

static void test_norm(void **state)
{
    static const int64_t counts[] = {1, 255, 2049, 1000003};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        lent g = {0}, ws = {0}, norm = {0};
        float *host;
        double first = 0;
        lent_normals(&g, &host, (size_t)counts[i], ZS_F32, 1, i);
        lent_new(&ws, ZS_NORM_BYTES, 0);
        lent_new(&norm, sizeof(double), 0);
        for (int order = 0; order < ZS_HOST_ORDERS; order++) {
            zs_launch_norm(norm.p, g.p, counts[i], ws.p, NULL);
            assert_true(zs_host_run((zs_host_order)order) > 0);
            double got = *(const double *)norm.p, want = zs_grad_norm(host, (size_t)counts[i]);
            assert_true(fabs(got - want) <= 1e-13 * want);
            assert_true(order == 0 || got == first);
            first = got;
        }
        assert_true(lent_intact(&g) && lent_intact(&ws) && lent_intact(&norm));
        lent_free(&g);
        lent_free(&ws);
        lent_free(&norm);
        zs_free(host);
    }
}

/* ---- casts ---- */

/* Every bf16 number, and what lies between two of them. */
static void test_cast(void **state)
{
    enum { N = 1 << 18 };
    lent x = {0}, y = {0}, z = {0};
    float *from = lent_new(&x, N * sizeof *from, 0);
    const uint16_t *half = lent_new(&y, N * sizeof *half, 0);
    const float *back = lent_new(&z, N * sizeof *back, sizeof *back);
    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t u = i << 14; /* quarters of the distance: ties, and both sides of them */
        memcpy(&from[i], &u, sizeof u);
    }
    zs_launch_cast(y.p, ZS_BF16, from, ZS_F32, N, NULL);
    zs_launch_cast(z.p, ZS_F32, y.p, ZS_BF16, N - 1, NULL); /* unaligned, odd */
    run_all();
    for (uint32_t i = 0; i < N; i++) {
        float want = zs_bf16_to_f32(zs_f32_to_bf16(from[i]));
        assert_int_equal(half[i], zs_f32_to_bf16(from[i]));
        assert_true(i == N - 1 || memcmp(&back[i], &want, sizeof want) == 0);
    }
    assert_true(lent_intact(&x) && lent_intact(&y) && lent_intact(&z));
    lent_free(&x);
    lent_free(&y);
    lent_free(&z);
}

/* The operation: types are those of its tensors. */
static void test_cast_op(void **state)
{
    lent x = {0}, y = {0};
    float *host;
    zs_call c = {.threads = 1};
    zs_attr a = {.kind = ZS_BF16};
    (void)state;
    c.a = &a;
    c.in[0] = (zs_view){lent_normals(&x, &host, 50, ZS_F32, 0, 1), zs_shape2(5, 10), ZS_F32};
    c.out[0] = (zs_view){lent_new(&y, 50 * 2, 0), zs_shape2(5, 10), ZS_BF16};
    zs_cuda_cast.run(&c);
    run_all();
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(((const uint16_t *)y.p)[i], zs_f32_to_bf16(host[i]));
    assert_true(lent_intact(&x) && lent_intact(&y));
    lent_free(&x);
    lent_free(&y);
    zs_free(host);
}

/* ---- sums, epilogues, softmax; each in both types, aligned or not ---- */

typedef struct table_case {
    int64_t rows, cols;
    zs_dtype type;
    size_t shift;
} table_case;

static const table_case tables[] = {
    {1, 1, ZS_F32, 0},     {3, 7, ZS_BF16, 0},    {700, 8, ZS_F32, 0},  {5000, 24, ZS_BF16, 0},
    {129, 520, ZS_F32, 0}, {40, 264, ZS_BF16, 1}, {9, 1000, ZS_F32, 1}, {70000, 3, ZS_BF16, 0},
    {33, 256, ZS_BF16, 0}, {5, 1031, ZS_F32, 0},
};
enum { TABLES = sizeof tables / sizeof tables[0] };

static void column_sum_agrees(const table_case *k, bool add)
{
    size_t rows = (size_t)k->rows, cols = (size_t)k->cols;
    lent x = {0}, sum = {0}, ws = {0};
    float *host, *before;
    double *want = zs_calloc(cols, sizeof *want);
    lent_normals(&x, &host, rows * cols, k->type, k->shift, 2);
    lent_normals(&sum, &before, cols, ZS_F32, 1, 3);
    lent_new(&ws, zs_column_sum_bytes(k->rows, k->cols), 0);
    zs_launch_column_sum(sum.p, x.p, k->type, k->rows, k->cols, add, ws.p, NULL);
    run_all();
    for (size_t i = 0; i < rows * cols; i++)
        want[i % cols] += (double)host[i];
    for (size_t i = 0; i < cols && add; i++)
        want[i] += (double)before[i];
    close_to(sum.p, ZS_F32, want, cols, 4e-6);
    assert_true(lent_intact(&x) && lent_intact(&sum) && lent_intact(&ws));
    lent_free(&x);
    lent_free(&sum);
    lent_free(&ws);
    zs_free(host);
    zs_free(before);
    zs_free(want);
}

static void test_column_sum(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * TABLES; i++)
        column_sum_agrees(&tables[i / 2], i % 2);
}

static void bias_residual_agrees(const table_case *k, bool bias, bool residual, bool relu)
{
    size_t n = (size_t)(k->rows * k->cols), cols = (size_t)k->cols;
    lent x = {0}, b = {0}, r = {0}, y = {0};
    float *xs, *bs, *rs;
    double *want = zs_calloc(n, sizeof *want);
    lent_normals(&x, &xs, n, k->type, k->shift, 2);
    lent_normals(&b, &bs, cols, ZS_F32, 1, 3);
    lent_normals(&r, &rs, n, k->type, k->shift, 4);
    lent_new(&y, n * zs_dtype_size(k->type), k->shift * zs_dtype_size(k->type));
    zs_launch_bias_residual(y.p, x.p, bias ? b.p : NULL, residual ? r.p : NULL, k->type, k->rows,
                            k->cols, relu, NULL);
    run_all();
    for (size_t i = 0; i < n; i++) {
        want[i] = (double)xs[i] + (bias ? (double)bs[i % cols] : 0);
        want[i] += residual ? (double)rs[i] : 0;
        want[i] = relu ? fmax(want[i], 0) : want[i];
    }
    close_to(y.p, k->type, want, n, 1e-6);
    assert_true(lent_intact(&x) && lent_intact(&b) && lent_intact(&r) && lent_intact(&y));
    lent_free(&x);
    lent_free(&b);
    lent_free(&r);
    lent_free(&y);
    zs_free(xs);
    zs_free(bs);
    zs_free(rs);
    zs_free(want);
}

static void test_bias_residual(void **state)
{
    (void)state;
    for (size_t i = 0; i < TABLES; i++) {
        bias_residual_agrees(&tables[i], true, true, false);
        bias_residual_agrees(&tables[i], true, false, true);
        bias_residual_agrees(&tables[i], false, true, false);
    }
}

static void softmax_agrees(const table_case *k, float scale)
{
    size_t n = (size_t)(k->rows * k->cols), cols = (size_t)k->cols;
    lent x = {0}, y = {0}, dy = {0}, dx = {0};
    float *xs, *dys;
    double *want = zs_calloc(n, sizeof *want), *slope = zs_calloc(n, sizeof *slope);
    size_t size = zs_dtype_size(k->type);
    lent_normals(&x, &xs, n, ZS_F32, k->shift, 2);
    lent_normals(&dy, &dys, n, ZS_F32, k->shift, 3);
    lent_new(&y, n * size, k->shift * size);
    lent_new(&dx, n * size, k->shift * size);
    zs_launch_softmax(y.p, k->type, x.p, k->rows, k->cols, scale, NULL);
    zs_launch_softmax_bwd(dx.p, y.p, k->type, dy.p, k->rows, k->cols, scale, NULL);
    run_all();
    for (size_t row = 0; row < n; row += cols) {
        double sum = 0, mean = 0;
        for (size_t i = row; i < row + cols; i++)
            sum += want[i] = exp((double)scale * (double)xs[i]);
        for (size_t i = row; i < row + cols; i++) {
            want[i] /= sum;
            mean += (double)number(y.p, k->type, i) * (double)dys[i]; /* as rounded */
        }
        for (size_t i = row; i < row + cols; i++)
            slope[i] = (double)scale * (double)number(y.p, k->type, i) * ((double)dys[i] - mean);
    }
    close_to(y.p, k->type, want, n, 4e-6);
    close_to(dx.p, k->type, slope, n, 4e-6);
    assert_true(lent_intact(&x) && lent_intact(&y) && lent_intact(&dy) && lent_intact(&dx));
    lent_free(&x);
    lent_free(&y);
    lent_free(&dy);
    lent_free(&dx);
    zs_free(xs);
    zs_free(dys);
    zs_free(want);
    zs_free(slope);
}

static void test_softmax(void **state)
{
    (void)state;
    for (size_t i = 0; i < TABLES; i++)
        if (tables[i].rows <= 1000) /* a warp each: shuffles take their time here */
            softmax_agrees(&tables[i], i % 2 ? 0.125f : 3.0f);
}

static void test_fill(void **state)
{
    lent y = {0};
    const float *p = lent_new(&y, 1001 * sizeof *p, 4);
    (void)state;
    zs_launch_fill(y.p, 2.5f, 1001, NULL);
    run_all();
    for (int i = 0; i < 1001; i++)
        assert_true(p[i] == 2.5f);
    assert_true(lent_intact(&y));
    lent_free(&y);
}

/* Nothing to do queues nothing. */
static void test_empty(void **state)
{
    zs_rng r = {.seed = 1};
    zs_adam a = {.n = 0};
    (void)state;
    zs_launch_fill(NULL, 0, 0, NULL);
    zs_launch_cast(NULL, ZS_BF16, NULL, ZS_F32, 0, NULL);
    zs_launch_normal(NULL, 0, &r, 5, NULL);
    zs_launch_adam(&a, NULL);
    assert_int_equal(zs_host_run(ZS_HOST_FORWARD), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),     cmocka_unit_test(test_random_many),
        cmocka_unit_test(test_adam),       cmocka_unit_test(test_norm),
        cmocka_unit_test(test_cast),       cmocka_unit_test(test_cast_op),
        cmocka_unit_test(test_column_sum), cmocka_unit_test(test_bias_residual),
        cmocka_unit_test(test_softmax),    cmocka_unit_test(test_fill),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests_name("cuda_launch", tests, NULL, NULL);
}
