/* SPDX-License-Identifier: MIT */
/* Parameter layouts: offsets, aliases, layout conversion, initial values, files. */
#include "io/io.h"
#include "nn/nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/must.h"

static zs_param want(const char *name, int nd, int64_t a, int64_t b, int64_t k, zs_layout layout)
{
    return (zs_param){.name = name,
                      .nd = nd,
                      .shape = {a, b, k, k},
                      .layout = layout,
                      .init = ZS_INIT_UNIFORM,
                      .fan_in = 1,
                      .alias = -1,
                      .trainable = true};
}

/* Where they are in a buffer: 6 and 72 floats before, rounded up to 16. */
enum { CONV = 16, CONV1D = 96, ALL = CONV1D + 12 };

/* a [2,3], conv [4,2,3,3], conv1d [6,2,1], tied = a. */
static zs_params *small(void)
{
    zs_params *ps = NULL;
    zs_error err = {0};
    zs_param p[] = {
        want("a", 2, 2, 3, 1, ZS_LAYOUT_PLAIN), want("conv", 4, 4, 2, 3, ZS_LAYOUT_CONV),
        want("conv1d", 3, 6, 2, 1, ZS_LAYOUT_CONV), want("tied", 2, 2, 3, 1, ZS_LAYOUT_PLAIN)};
    p[3].alias = 0;
    assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
    for (long i = 0; i < 4; i++)
        assert_int_equal(zs_params_add(ps, &p[i], &err), i);
    return ps;
}

static void places_in_order(void **state)
{
    zs_error err = {0};
    zs_params *ps = small();
    (void)state;
    assert_int_equal(zs_params_count(ps), 4);
    assert_int_equal(zs_params_weights(ps), 6 + 72 + 12);
    assert_int_equal(zs_params_numel(ps), ALL);
    assert_int_equal(zs_params_at(ps, 1)->offset, CONV);
    assert_int_equal(zs_params_at(ps, 2)->offset, CONV1D);
    assert_int_equal(zs_params_at(ps, 3)->offset, 0);
    assert_int_equal(zs_params_find(ps, "conv1d"), 2);
    assert_int_equal(zs_params_find(ps, "nothing"), -1);
    zs_param again = want("conv", 4, 4, 2, 3, ZS_LAYOUT_CONV);
    assert_int_equal(zs_params_add(ps, &again, &err), 1);
    zs_param other = want("conv", 4, 4, 2, 5, ZS_LAYOUT_CONV);
    assert_int_equal(zs_params_add(ps, &other, &err), -1);
    assert_int_equal(err.status, ZS_E_INVALID);
    assert_string_equal(err.message, "parameter conv has shape [4,2,3,3], not [4,2,5,5]");
    zs_params_free(&ps);
}

static void refuses_strangers(void **state)
{
    zs_error err = {0}, huge_err = {0};
    zs_params *ps = small();
    (void)state;
    zs_param huge = want("huge", 4, INT64_MAX / 2, INT64_MAX / 2, 1, ZS_LAYOUT_PLAIN);
    assert_int_equal(zs_params_add(ps, &huge, &huge_err), -1);
    assert_int_equal(huge_err.status, ZS_E_INVALID);
    zs_params_seal(ps);
    zs_param late = want("late", 1, 2, 1, 1, ZS_LAYOUT_PLAIN);
    assert_int_equal(zs_params_add(ps, &late, &err), -1);
    assert_int_equal(err.status, ZS_E_INTERNAL);
    zs_params_free(&ps);
}

/* Two graphs of different batch size share one layout; a builder that disagrees fails its graph. */
static void graphs_share_offsets(void **state)
{
    zs_error err = {0};
    zs_params *ps = NULL;
    (void)state;
    assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
    for (int64_t n = 1; n <= 2; n++) {
        zs_graph *g = NULL;
        assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
        zs_nn nn = {.g = g, .ps = ps};
        zs_tid x = zs_graph_input(g, "x", zs_shape2(n, 5));
        zs_nn_push(&nn, "net.%d", 7);
        x = zs_nn_linear_tied(&nn, "emb", "twin", x, 3, ZS_INIT_KAIMING_NORMAL);
        x = zs_nn_layernorm(&nn, "norm", x, ZS_NN_EPS);
        zs_nn_pop(&nn);
        assert_int_equal(zs_graph_status(g), ZS_OK);
        assert_string_equal(nn.prefix, "");
        assert_int_equal(zs_params_count(ps), 6);
        assert_int_equal(zs_params_weights(ps), 15 + 3 + 3 + 3);
        assert_int_equal(zs_params_numel(ps), 3 * 16 + 3);
        zs_graph_free(&g);
    }
    assert_string_equal(zs_params_at(ps, 2)->name, "net.7.twin.weight");
    assert_int_equal(zs_params_at(ps, 2)->alias, 0);
    assert_int_equal(zs_params_at(ps, 4)->offset, 32);

    zs_graph *g = NULL;
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_nn nn = {.g = g, .ps = ps};
    zs_nn_push(&nn, "net.7");
    zs_tid y = zs_nn_linear(&nn, "emb", zs_graph_input(g, "x", zs_shape2(1, 4)), 3, ZS_INIT_ZERO);
    assert_int_equal(y, ZS_NONE);
    assert_int_equal(zs_graph_status(g), ZS_E_INVALID);
    zs_graph_free(&g);
    zs_params_free(&ps);
}

static void nesting_too_deep_fails_the_graph(void **state)
{
    zs_error err = {0};
    zs_graph *g = NULL;
    zs_params *ps = NULL;
    (void)state;
    assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
    assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
    zs_nn nn = {.g = g, .ps = ps};
    for (int i = 0; i < ZS_NN_DEPTH + 3; i++)
        zs_nn_push(&nn, "level");
    for (int i = 0; i < ZS_NN_DEPTH + 3; i++)
        zs_nn_pop(&nn);
    assert_int_equal(zs_graph_status(g), ZS_E_INTERNAL);
    assert_string_equal(nn.prefix, "");
    zs_graph_free(&g);
    zs_params_free(&ps);
}

static void initial_values(void **state)
{
    zs_error err = {0};
    zs_params *ps = NULL;
    enum { N = 40000 };
    static float flat[4 * N], again[4 * N];
    static const zs_init inits[] = {ZS_INIT_ZERO, ZS_INIT_ONE, ZS_INIT_UNIFORM,
                                    ZS_INIT_KAIMING_NORMAL};
    static const double mean[] = {0, 1, 0, 0}, variance[] = {0, 0, 1.0 / 3 / 50, 2.0 / 50};
    (void)state;
    assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
    for (int i = 0; i < 4; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "p%d", i);
        zs_param p = want(name, 2, N / 50, 50, 1, ZS_LAYOUT_PLAIN);
        p.init = inits[i];
        p.fan_in = 50;
        assert_int_equal(zs_params_add(ps, &p, &err), i);
    }
    zs_params_init(ps, flat, 3);
    zs_params_init(ps, again, 3);
    assert_memory_equal(flat, again, sizeof flat);
    for (int i = 0; i < 4; i++) {
        double s = 0, s2 = 0, largest = 0;
        for (int k = 0; k < N; k++) {
            double v = (double)flat[i * N + k] - mean[i];
            s += v;
            s2 += v * v;
            largest = fmax(largest, fabs(v));
        }
        assert_true(fabs(s / N) < 5 * sqrt(variance[i] / N) + 1e-12);
        assert_true(fabs(s2 / N - variance[i]) <= 0.03 * variance[i]);
        assert_true(inits[i] != ZS_INIT_UNIFORM || largest <= 1 / sqrt(50.0) + 1e-7);
    }
    zs_params_init(ps, again, 4);
    assert_memory_not_equal(flat, again, sizeof flat);
    zs_params_free(&ps);
}

/* ---- files ---- */

static void write_file(const char *path, const char *conv_name, int64_t k)
{
    static float v[6 + 4 * 2 * 25 + 12 + 6];
    zs_error err = {0};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        v[i] = (float)i;
    size_t conv = (size_t)(8 * k * k);
    zs_tensorout t[] = {{"x.a", ZS_F32, 2, {2, 3}, v},
                        {conv_name, ZS_F32, 4, {4, 2, k, k}, v + 6},
                        {"x.conv1d", ZS_F32, 3, {6, 2, 1}, v + 6 + conv},
                        {"x.tied", ZS_F32, 2, {2, 3}, v + 18 + conv}};
    must(zs_safetensors_write(path, t, 4, NULL, &err), &err);
}

static int import(float *flat, const char *path, zs_error *err)
{
    zs_tensorfile *f = NULL;
    zs_params *ps = small();
    int status = zs_tensorfile_open(&f, path, err);
    if (status == ZS_OK)
        status = zs_params_import(ps, flat, f, "x.", err);
    zs_tensorfile_close(&f);
    zs_params_free(&ps);
    return status;
}

static bool zeros(const float *v, int begin, int end)
{
    for (int i = begin; i < end; i++)
        if (!(fabsf(v[i]) <= 0.0f))
            return false;
    return end > begin;
}

static void reads_and_writes_torch_layouts(void **state)
{
    char path[] = "/tmp/zsem-params-XXXXXX";
    zs_error err = {0};
    float flat[ALL], file[72];
    (void)state;
    memset(flat, 0xFF, sizeof flat); /* NaN */
    assert_true(close(mkstemp(path)) == 0);
    write_file(path, "x.conv", 3);
    assert_int_equal(import(flat, path, &err), ZS_OK);
    assert_true(flat[0] >= 90 && flat[0] <= 90); /* "tied" is read last and wins */
    /* engine [ky][kx][c][o] = file [o][c][ky][kx] */
    for (int o = 0; o < 4; o++)
        for (int c = 0; c < 2; c++)
            for (int s = 0; s < 9; s++)
                assert_int_equal((int)flat[CONV + (s * 2 + c) * 4 + o], 6 + (o * 2 + c) * 9 + s);
    for (int o = 0; o < 6; o++)
        for (int c = 0; c < 2; c++)
            assert_int_equal((int)flat[CONV1D + c * 6 + o], 78 + o * 2 + c);
    assert_true(zeros(flat, 6, CONV) && zeros(flat, CONV + 72, CONV1D));
    zs_params *ps = small();
    zs_params_export(ps, 1, flat, file);
    for (int i = 0; i < 72; i++)
        assert_int_equal((int)file[i], 6 + i);
    zs_params_export(ps, 2, flat, file);
    for (int i = 0; i < 12; i++)
        assert_int_equal((int)file[i], 78 + i);
    zs_params_free(&ps);
    (void)remove(path);
}

/* More outputs than fit a line of the engine's layout; numbers that are used where they lie in the
 * file, and numbers that are converted first. */
static void reads_wide_convolutions(void **state)
{
    enum { O = 37, C = 5, S = 9, N = O * C * S };
    static const zs_dtype types[] = {ZS_F32, ZS_F16};
    static float v[N], flat[N];
    static uint8_t data[N * sizeof(float)];
    (void)state;
    for (int i = 0; i < N; i++)
        v[i] = (float)i;
    for (int k = 0; k < 2; k++) {
        char path[] = "/tmp/zsem-params-XXXXXX";
        zs_error err = {0};
        zs_params *ps = NULL;
        zs_tensorfile *f = NULL;
        zs_param p = want("w", 4, O, C, 3, ZS_LAYOUT_CONV);
        assert_true(close(mkstemp(path)) == 0);
        zs_dtype_from_f32(data, types[k], v, N);
        zs_tensorout t = {"w", types[k], 4, {O, C, 3, 3}, data};
        assert_int_equal(zs_safetensors_write(path, &t, 1, NULL, &err), ZS_OK);
        assert_int_equal(zs_params_new(&ps, &err), ZS_OK);
        assert_int_equal(zs_params_add(ps, &p, &err), 0);
        assert_int_equal(zs_tensorfile_open(&f, path, &err), ZS_OK);
        assert_true((zs_tensorfile_peek_f32(f, 0) != NULL) == (types[k] == ZS_F32));
        memset(flat, 0, sizeof flat);
        assert_int_equal(zs_params_read(ps, 0, flat, f, "w", &err), ZS_OK);
        for (int o = 0; o < O; o++)
            for (int c = 0; c < C; c++)
                for (int s = 0; s < S; s++)
                    assert_int_equal((int)flat[(s * C + c) * O + o], (o * C + c) * S + s);
        zs_tensorfile_close(&f);
        zs_params_free(&ps);
        (void)remove(path);
    }
}

static void names_what_does_not_fit(void **state)
{
    char path[] = "/tmp/zsem-params-XXXXXX";
    zs_error missing = {0}, shape = {0};
    float flat[ALL];
    (void)state;
    assert_true(close(mkstemp(path)) == 0);
    write_file(path, "x.other", 3);
    assert_int_equal(import(flat, path, &missing), ZS_E_FORMAT);
    assert_non_null(strstr(missing.message, path));
    assert_non_null(strstr(missing.message, "tensor x.conv is missing (expected shape [4,2,3,3])"));
    write_file(path, "x.conv", 5);
    assert_int_equal(import(flat, path, &shape), ZS_E_FORMAT);
    assert_non_null(
        strstr(shape.message, "tensor x.conv has shape [4,2,5,5] where the model needs [4,2,3,3]"));
    (void)remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_in_order),
        cmocka_unit_test(refuses_strangers),
        cmocka_unit_test(graphs_share_offsets),
        cmocka_unit_test(nesting_too_deep_fails_the_graph),
        cmocka_unit_test(initial_values),
        cmocka_unit_test(reads_and_writes_torch_layouts),
        cmocka_unit_test(reads_wide_convolutions),
        cmocka_unit_test(names_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
