/* SPDX-License-Identifier: MIT */
/* The networks of Diffusion Autoencoders against the authors' code: encoder, UNet, latent MLP, the
 * training loss and every parameter gradient, on both CPU backends. */
#include "tests/golden/golden.h"

#include "diffusion/diffusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "diffae-tiny32";

/* design: one network call to 1e-5 with the reference kernels, 1e-4 with the fast ones. */
typedef struct backend {
    const char *name;
    double tolerance;
} backend;
static const backend backends[] = {{"cpu-ref", 1e-5}, {"cpu", 1e-4}};

static zs_model *open_model(const char *backend_name, unsigned flags, bool raw)
{
    zs_model *m = NULL;
    zs_error err = {0};
    zs_model_options o = {.backend = backend_name, .exec_flags = flags, .raw = raw};
    if (zs_model_open(&m, golden_checkpoint(SET), &o, &err) < 0)
        fail_msg("%s", err.message);
    return m;
}

static void check(const char *what, const backend *b, const float *got, const float *want, size_t n)
{
    double e = golden_max_error(got, want, n);
    print_message("%-8s %-10s error %.2e\n", b->name, what, e);
    if (!(e <= b->tolerance))
        fail_msg("%s with %s: error %g is above %g", what, b->name, e, b->tolerance);
}

/* Nothing is given: sizes, levels, attention, skips and statistics all come from the file. */
static void knows_what_it_is(void **state)
{
    (void)state;
    golden_need(SET);
    zs_model *m = open_model("cpu", 0, false);
    const zs_model_config *c = zs_model_configuration(m);
    static const int64_t ch[] = {32, 64, 64, 64};
    assert_true(zs_model_config_joint(c));
    assert_int_equal(c->image_size, 32);
    assert_int_equal(c->unet.model_channels, 32);
    assert_int_equal(c->unet.levels, 3);
    assert_memory_equal(c->unet.ch, ch, 3 * sizeof *ch);
    assert_int_equal(c->unet.num_res_blocks, 2);
    assert_int_equal(c->unet.attn_levels, 1u << 1);
    assert_int_equal(c->unet.z_dim, 64);
    assert_int_equal(c->sem_encoder.levels, 4);
    assert_memory_equal(c->sem_encoder.ch, ch, sizeof ch);
    assert_int_equal(c->sem_encoder.attn_levels, 1u << 1);
    assert_int_equal(c->latent_mlp.layers, 4);
    assert_int_equal(c->latent_mlp.hidden, 128);
    assert_int_equal(c->latent_mlp.skips, 14);
    assert_string_equal(c->diffusion.beta_schedule, "linear");
    assert_string_equal(c->latent.beta_schedule, "const0.008");
    zs_model_close(&m);
}

static void encodes(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape xs;
    size_t n;
    float *x0 = golden_nhwc(f, "x0", &xs), *want = golden_f32(f, "z_sem", &n);
    float *z = zs_alloc(n, sizeof *z);
    for (int i = 0; i < 2; i++) {
        zs_error err = {0};
        zs_model *m = open_model(backends[i].name, 0, false);
        if (zs_model_encode(m, z, x0, xs, &err) < 0)
            fail_msg("%s", err.message);
        check("z_sem", &backends[i], z, want, n);
        zs_model_close(&m);
    }
    zs_free(x0);
    zs_free(want);
    zs_free(z);
    zs_tensorfile_close(&f);
}

static void predicts_noise(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape xs;
    size_t n, nt;
    float *x_t = golden_nhwc(f, "x_t", &xs), *want = golden_nhwc(f, "eps_pred", &xs);
    float *z = golden_f32(f, "z_sem", &n);
    int64_t *t = golden_i64(f, "t", &nt);
    n = (size_t)zs_shape_numel(&xs);
    float *eps = zs_alloc(n, sizeof *eps);
    for (int i = 0; i < 2; i++) {
        zs_error err = {0};
        zs_model *m = open_model(backends[i].name, 0, false);
        if (zs_model_eps(m, eps, x_t, xs, t, &(zs_cond){.z = z}, &err) < 0)
            fail_msg("%s", err.message);
        check("eps_pred", &backends[i], eps, want, n);
        zs_model_close(&m);
    }
    zs_free(x_t);
    zs_free(want);
    zs_free(z);
    zs_free(t);
    zs_free(eps);
    zs_tensorfile_close(&f);
}

static void predicts_latent_noise(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    size_t n, nt;
    float *z_t = golden_f32(f, "latent_noise", &n), *want = golden_f32(f, "latent_eps", &n);
    int64_t *t = golden_i64(f, "latent_t", &nt);
    float *out = zs_alloc(n, sizeof *out);
    for (int i = 0; i < 2; i++) {
        zs_error err = {0};
        zs_model *m = open_model(backends[i].name, 0, false);
        if (zs_model_prior_eps(m, out, z_t, (int64_t)nt, t, NULL, &err) < 0)
            fail_msg("%s", err.message);
        check("latent_eps", &backends[i], out, want, n);
        zs_model_close(&m);
    }
    zs_free(z_t);
    zs_free(want);
    zs_free(t);
    zs_free(out);
    zs_tensorfile_close(&f);
}

/* ---- gradients ---- */

/* The first training step: x0, t, noise and the noised image. */
typedef struct batch {
    zs_shape xs;
    float *x0, *x_t, *noise;
    int64_t *t;
} batch;

static batch first_step(zs_tensorfile *f)
{
    batch b;
    size_t n;
    zs_error err = {0};
    zs_schedule s = {0};
    b.x0 = golden_nhwc(f, "x0", &b.xs);
    b.noise = golden_nhwc(f, "train.noise.0", &b.xs);
    b.t = golden_i64(f, "train.t.0", &n);
    assert_int_equal(zs_schedule_make(&s, "linear", 1000, &err), ZS_OK);
    size_t numel = (size_t)zs_shape_numel(&b.xs), each = numel / n;
    b.x_t = zs_alloc(numel, sizeof *b.x_t);
    for (size_t i = 0; i < numel; i++) {
        double abar = s.abar[b.t[i / each]];
        b.x_t[i] = (float)(sqrt(abar) * (double)b.x0[i] + sqrt(1 - abar) * (double)b.noise[i]);
    }
    zs_schedule_free(&s);
    return b;
}

static void free_batch(batch *b)
{
    zs_free(b->x0);
    zs_free(b->x_t);
    zs_free(b->noise);
    zs_free(b->t);
}

/* Gradients of the first step as a flat buffer of *n floats (owned). */
static float *gradients(const char *name, unsigned flags, const batch *b, float *loss, size_t *n)
{
    zs_error err = {0};
    zs_model *m = open_model(name, flags, true);
    *n = (size_t)zs_params_numel(zs_model_params(m));
    float *g = zs_calloc(*n, sizeof *g);
    assert_non_null(g);
    if (zs_model_grad(m, loss, g, b->x0, b->x_t, b->xs, b->t, b->noise, NULL, &err) < 0)
        fail_msg("%s", err.message);
    zs_model_close(&m);
    return g;
}

static double norm_of(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

/* Each tensor to 1e-3 of its norm. A bias in front of a GroupNorm with one channel per group has
 * no gradient at all; there both sides hold rounding errors, which must be tiny beside the whole
 * gradient's norm. */
static double worst_gradient(zs_tensorfile *f, const zs_params *ps, const float *g, double whole,
                             size_t *count)
{
    double worst = 0;
    *count = 0;
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *p = zs_params_at(ps, i);
        size_t n = (size_t)p->numel;
        double norm;
        if (zs_param_box(p->name) == ZS_BOX_PRIOR)
            continue;
        float *got = zs_alloc(n, sizeof *got);
        zs_params_export(ps, i, g, got);
        double e = golden_gradient_error(f, p->name, got, n, &norm);
        bool none = norm < 1e-7 * whole;
        if (none)
            e = norm_of(got, n) / whole;
        if (!(e <= (none ? 1e-7 : 1e-3)))
            fail_msg("gradient of %s: error %g is above 1e-3", p->name, e);
        worst = e > worst ? e : worst;
        ++*count;
        zs_free(got);
    }
    return worst;
}

static void differentiates(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_tensorfile *fg = golden_gradients(SET);
    size_t n, count;
    float *losses = golden_f32(f, "train.loss", &n), *norm = golden_f32(f, "train.grad_norm.0", &n);
    batch b = first_step(f);
    zs_model *m = open_model("cpu", 0, true);
    for (int i = 0; i < 2; i++) {
        float loss;
        float *g = gradients(backends[i].name, 0, &b, &loss, &n);
        double whole = norm_of(g, n);
        double worst = worst_gradient(fg, zs_model_params(m), g, whole, &count);
        print_message("%-8s loss %.7f (%.7f), norm %.6f (%.6f), worst of %zu gradients %.2e\n",
                      backends[i].name, (double)loss, (double)losses[0], whole, (double)norm[0],
                      count, worst);
        assert_int_equal(count, golden_gradient_count(fg));
        assert_true(fabs((double)(loss - losses[0])) <= 1e-5 * fabs((double)losses[0]));
        assert_true(fabs(whole - (double)norm[0]) <= 1e-4 * (double)norm[0]);
        zs_free(g);
    }
    zs_model_close(&m);
    free_batch(&b);
    zs_free(losses);
    zs_free(norm);
    zs_tensorfile_close(&f);
    zs_tensorfile_close(&fg);
}

/* Recomputing segments, poisoned memory, no reuse of memory: the same bits. */
static void plans_do_not_matter(void **state)
{
    (void)state;
    golden_need(SET);
    static const unsigned flags[] = {ZS_EXEC_RECOMPUTE | ZS_EXEC_POISON, ZS_EXEC_RECOMPUTE,
                                     ZS_EXEC_POISON, ZS_EXEC_NO_REUSE};
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    batch b = first_step(f);
    for (int i = 0; i < 2; i++) {
        float loss, other_loss;
        size_t n;
        float *g = gradients(backends[i].name, 0, &b, &loss, &n);
        /* The slow reference kernels see the first combination only. */
        for (size_t k = 0; k < (i == 0 ? 1 : sizeof flags / sizeof flags[0]); k++) {
            float *other = gradients(backends[i].name, flags[k], &b, &other_loss, &n);
            assert_memory_equal(&loss, &other_loss, sizeof loss);
            assert_memory_equal(g, other, n * sizeof *g);
            zs_free(other);
        }
        zs_free(g);
    }
    free_batch(&b);
    zs_tensorfile_close(&f);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    batch b = first_step(f);
    for (int i = 0; i < 2; i++) {
        float loss[2];
        size_t n;
        zs_threads_set(1);
        float *one = gradients(backends[i].name, 0, &b, &loss[0], &n);
        zs_threads_set(3);
        float *three = gradients(backends[i].name, 0, &b, &loss[1], &n);
        zs_threads_set(0);
        assert_memory_equal(&loss[0], &loss[1], sizeof loss[0]);
        assert_memory_equal(one, three, n * sizeof *one);
        zs_free(one);
        zs_free(three);
    }
    free_batch(&b);
    zs_tensorfile_close(&f);
}

/* Long batches are cut into pieces; a piece's results are those of the whole. */
static void batches_are_cut(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape xs;
    size_t n;
    zs_error err = {0};
    float *x0 = golden_nhwc(f, "x0", &xs), *want = golden_f32(f, "z_sem", &n);
    size_t image = (size_t)zs_shape_numel(&xs) / 2, dim = n / 2;
    float *many = zs_alloc(5 * image, sizeof *many), *z = zs_alloc(5 * dim, sizeof *z);
    zs_model *m = NULL;
    for (size_t i = 0; i < 5; i++)
        memcpy(many + i * image, x0 + (i & 1) * image, image * sizeof *many);
    xs.d[0] = 5;
    assert_int_equal(
        zs_model_open(&m, golden_checkpoint(SET), &(zs_model_options){.batch = 2}, &err), ZS_OK);
    assert_int_equal(zs_model_encode(m, z, many, xs, &err), ZS_OK);
    for (size_t i = 0; i < 5; i++)
        check("piece", &backends[1], z + i * dim, want + (i & 1) * dim, dim);
    zs_model_close(&m);
    zs_free(x0);
    zs_free(want);
    zs_free(many);
    zs_free(z);
    zs_tensorfile_close(&f);
}

static int cleanup(void **state)
{
    (void)state;
    golden_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_it_is),      cmocka_unit_test(encodes),
        cmocka_unit_test(predicts_noise),        cmocka_unit_test(predicts_latent_noise),
        cmocka_unit_test(differentiates),        cmocka_unit_test(plans_do_not_matter),
        cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(batches_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
