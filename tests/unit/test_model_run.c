/* SPDX-License-Identifier: MIT */
/* The networks of odd architectures: backends, pieces of a batch, refused inputs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/model_kit.h"
#include "tests/unit/must.h"

/* One training gradient with both backends, of freshly initialised weights plus noise. */
static void backends_agree_on(const zs_model_config *c)
{
    zs_error err = {0};
    zs_shape xs = zs_shape4(2, 32, 16, c->channels);
    size_t pixels = (size_t)zs_shape_numel(&xs);
    float *x = kit_normal(pixels, 1, 1), *x_t = kit_normal(pixels, 2, 1),
          *noise = kit_normal(pixels, 3, 1);
    const int64_t t[2] = {3, 998};
    zs_params *ps = NULL;
    float loss[2], *grads[2];
    assert_int_equal(zs_model_layout(&ps, c, &err), ZS_OK);
    size_t n = (size_t)zs_params_numel(ps);
    float *w = zs_alloc(n, sizeof *w), *jitter = kit_normal(n, 4, 1);
    zs_params_init(ps, w, 1);
    for (size_t i = 0; i < n; i++)
        w[i] += 0.02f * jitter[i]; /* layers that start at zero would hide what is before them */
    for (int i = 0; i < 2; i++) {
        zs_model_options o = {.backend = i ? "cpu" : "cpu-ref"};
        zs_model *m = NULL;
        grads[i] = zs_calloc(n, sizeof *grads[i]);
        assert_int_equal(zs_model_wrap(&m, c, w, &o, &err), ZS_OK);
        must(zs_model_grad(m, &loss[i], grads[i], x, x_t, xs, t, noise, NULL, &err), &err);
        zs_model_close(&m);
    }
    assert_true(fabsf(loss[1] - loss[0]) <= 1e-5f * loss[0]);
    assert_true(kit_difference(grads[1], grads[0], n) < 1e-4);
    zs_free(grads[0]);
    zs_free(grads[1]);
    zs_free(x);
    zs_free(x_t);
    zs_free(noise);
    zs_free(w);
    zs_free(jitter);
    zs_params_free(&ps);
}

static void backends_agree(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        zs_model_config c = kit_config(i % 3 != 0);
        if (i % 2) {
            c.unet.heads = 2;
            if (c.sem_encoder.levels)
                c.sem_encoder.heads = 4;
        }
        backends_agree_on(&c);
    }
}

/* The noise that 20 images get in pieces of `batch`; and, after it, their codes. */
static float *in_pieces(const zs_model_config *c, const float *w, const char *backend, int batch,
                        int threads)
{
    enum { N = 20, SIDE = 16 };
    zs_error err = {0};
    zs_model_options o = {.backend = backend, .batch = batch};
    zs_shape xs = zs_shape4(N, SIDE, SIDE, c->channels);
    size_t pixels = (size_t)zs_shape_numel(&xs), codes = (size_t)(N * c->unet.z_dim);
    float *x = kit_normal(pixels, 1, 1), *z = kit_normal(codes, 2, 1);
    float *out = kit_normal(pixels + codes, 3, 1);
    int64_t t[N];
    zs_model *m = NULL;
    for (int i = 0; i < N; i++)
        t[i] = 49 * i;
    zs_threads_set(threads);
    assert_int_equal(zs_model_wrap(&m, c, (float *)(uintptr_t)w, &o, &err), ZS_OK);
    must(zs_model_eps(m, out, x, xs, t, &(zs_cond){.z = z}, &err), &err);
    must(zs_model_encode(m, out + pixels, x, xs, &err), &err);
    zs_model_close(&m);
    zs_threads_set(0);
    zs_free(x);
    zs_free(z);
    return out;
}

static void neighbours_change_nothing_but_rounding(void **state)
{
    zs_error err = {0};
    zs_params *ps = NULL;
    zs_model_config c = kit_config(true);
    (void)state;
    c.unet.levels = c.sem_encoder.levels = 2;
    c.unet.ch[0] = c.unet.ch[1] = c.sem_encoder.ch[0] = c.sem_encoder.ch[1] = 32;
    c.unet.attn_levels = c.sem_encoder.attn_levels = 2;
    assert_int_equal(zs_model_layout(&ps, &c, &err), ZS_OK);
    size_t n = (size_t)zs_params_numel(ps);
    float *w = kit_normal(n, 4, 1);
    for (size_t i = 0; i < n; i++)
        w[i] *= 0.05f;
    size_t count = (size_t)(20 * (16 * 16 * c.channels + c.unet.z_dim));
    static const char *const backends[] = {"cpu-ref", "cpu"};
    for (int b = 0; b < 2; b++) {
        float *want = in_pieces(&c, w, backends[b], 1, 1);
        for (int k = 0; k < 2; k++) {
            float *one = in_pieces(&c, w, backends[b], k ? 16 : 7, 1);
            float *two = in_pieces(&c, w, backends[b], k ? 16 : 7, 3);
            print_message("%s, pieces of %d: %.1e\n", backends[b], k ? 16 : 7,
                          kit_difference(one, want, count));
            assert_memory_equal(two, one, count * sizeof *one);
            assert_true(kit_difference(one, want, count) < 1e-5);
            if (b == 0)
                assert_memory_equal(one, want, count * sizeof *one);
            zs_free(one);
            zs_free(two);
        }
        zs_free(want);
    }
    zs_free(w);
    zs_params_free(&ps);
}

/* A fresh model predicts no noise at all: its last convolution starts at zero (and so does the
 * last one of every block, which makes blocks the identity). */
static void fresh_models_predict_zero(void **state)
{
    zs_error err = {0};
    zs_model_config c = kit_config(true);
    zs_shape xs = zs_shape4(1, 32, 32, c.channels);
    size_t n = (size_t)zs_shape_numel(&xs);
    float *x = kit_normal(n, 1, 1), *eps = kit_normal(n, 2, 1), *z = kit_normal(16, 3, 1);
    const int64_t t = 500;
    zs_params *ps = NULL;
    zs_model *m = NULL;
    (void)state;
    assert_int_equal(zs_model_layout(&ps, &c, &err), ZS_OK);
    float *w = zs_alloc((size_t)zs_params_numel(ps), sizeof *w);
    zs_params_init(ps, w, 1);
    assert_int_equal(zs_model_wrap(&m, &c, w, NULL, &err), ZS_OK);
    assert_int_equal(zs_model_eps(m, eps, x, xs, &t, &(zs_cond){.z = z}, &err), ZS_OK);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(eps[i]) <= 0.0f);
    assert_int_equal(zs_model_encode(m, z, x, xs, &err), ZS_OK);
    double sum = 0;
    for (int64_t i = 0; i < c.sem_encoder.z_dim; i++)
        sum += fabs((double)z[i]);
    assert_true(sum > 1e-3); /* the encoder's do not */
    zs_model_close(&m);
    zs_params_free(&ps);
    zs_free(x);
    zs_free(eps);
    zs_free(z);
    zs_free(w);
}

/* The loss is against what is predicted: a fresh model, which says 0, is off by the mean square. */
static void loss_is_of_the_prediction(void **state)
{
    static const char *const kinds[2] = {"eps", "x0"};
    zs_shape xs = zs_shape4(1, 32, 32, kit_config(true).channels);
    size_t n = (size_t)zs_shape_numel(&xs);
    float *x0 = kit_normal(n, 1, 1), *noise = kit_normal(n, 2, 1);
    const int64_t t = 500;
    (void)state;
    for (size_t i = 0; i < n; i++)
        x0[i] *= 0.5f;
    for (int k = 0; k < 2; k++) {
        zs_error err = {0};
        zs_model_config c = kit_config(true);
        zs_params *ps = NULL;
        zs_model *m = NULL;
        float loss = 0.0f;
        double want = 0.0;
        (void)snprintf(c.diffusion.prediction, sizeof c.diffusion.prediction, "%s", kinds[k]);
        assert_int_equal(zs_model_layout(&ps, &c, &err), ZS_OK);
        float *w = zs_alloc((size_t)zs_params_numel(ps), sizeof *w);
        float *grads = zs_calloc((size_t)zs_params_numel(ps), sizeof *grads);
        zs_params_init(ps, w, 1);
        assert_int_equal(zs_model_wrap(&m, &c, w, NULL, &err), ZS_OK);
        must(zs_model_grad(m, &loss, grads, x0, noise, xs, &t, noise, NULL, &err), &err);
        for (size_t i = 0; i < n; i++)
            want += k ? (double)x0[i] * (double)x0[i] : (double)noise[i] * (double)noise[i];
        want /= (double)n;
        assert_true(fabs((double)loss - want) < 1e-4 * want);
        zs_model_close(&m);
        zs_params_free(&ps);
        zs_free(w);
        zs_free(grads);
    }
    zs_free(x0);
    zs_free(noise);
}

static void refuses_images_that_do_not_fit(void **state)
{
    zs_model_config c = kit_config(true);
    float weights[1] = {0}, x[1] = {0}, z[16];
    zs_model *m = NULL;
    zs_error err = {0}, err2 = {0}, err3 = {0};
    const int64_t late = 1000;
    (void)state;
    c.sem_encoder.levels = 3;
    c.sem_encoder.ch[0] = c.sem_encoder.ch[1] = c.sem_encoder.ch[2] = 8;
    c.sem_encoder.attn_levels = 0;
    c.channels = c.unet.in_channels = c.sem_encoder.in_channels = 3;
    assert_int_equal(zs_model_wrap(&m, &c, weights, NULL, &err), ZS_OK);
    assert_int_equal(zs_model_encode(m, z, x, zs_shape4(1, 30, 32, 3), &err), ZS_E_INVALID);
    assert_int_equal(zs_model_encode(m, z, x, zs_shape4(1, 32, 32, 1), &err2), ZS_E_INVALID);
    assert_non_null(strstr(err2.message, "3 channel(s), not 1"));
    float *image = kit_normal(32 * 32 * 3, 1, 1), *out = kit_normal(32 * 32 * 3, 1, 1);
    assert_int_equal(
        zs_model_eps(m, out, image, zs_shape4(1, 32, 32, 3), &late, &(zs_cond){.z = z}, &err3),
        ZS_E_INVALID);
    assert_non_null(strstr(err3.message, "timestep 1000 is outside 0..999"));
    zs_free(image);
    zs_free(out);
    zs_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backends_agree),
        cmocka_unit_test(neighbours_change_nothing_but_rounding),
        cmocka_unit_test(fresh_models_predict_zero),
        cmocka_unit_test(loss_is_of_the_prediction),
        cmocka_unit_test(refuses_images_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
