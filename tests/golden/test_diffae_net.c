/* SPDX-License-Identifier: MIT */
/* The networks of Diffusion Autoencoders against the authors' code: encoder, UNet, latent MLP, the
 * training loss and every parameter gradient, on both CPU backends. */
#include "tests/golden/golden.h"
#include "tests/unit/must.h"

#include "diffusion/diffusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char SET[] = "diffae-tiny32";

static zs_model *open_model(const char *backend_name, unsigned flags, bool raw)
{
    zs_model *m = NULL;
    zs_error err = {0};
    zs_model_options o = {.backend = backend_name, .exec_flags = flags, .raw = raw};
    must(zs_model_open(&m, golden_checkpoint(SET), &o, &err), &err);
    return m;
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
    float *x0 = golden_nhwc(f, "x0", &xs), z[2 * 64];
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        zs_error err = {0};
        zs_model *m = open_model(golden_backends[i].name, 0, false);
        must(zs_model_encode(m, z, x0, xs, &err), &err);
        golden_agrees(f, "z_sem", golden_backends[i].name, z, 2 * 64, golden_backends[i].tolerance);
        zs_model_close(&m);
    }
    zs_free(x0);
    zs_tensorfile_close(&f);
}

static void predicts_noise(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape xs;
    size_t n, nt;
    float *x_t = golden_nhwc(f, "x_t", &xs), *z = golden_f32(f, "z_sem", &n);
    int64_t *t = golden_i64(f, "t", &nt);
    n = (size_t)zs_shape_numel(&xs);
    float *eps = zs_alloc(n, sizeof *eps);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        zs_error err = {0};
        zs_model *m = open_model(golden_backends[i].name, 0, false);
        if (zs_model_eps(m, eps, x_t, xs, t, &(zs_cond){.z = z}, &err) < 0)
            fail_msg("%s", err.message);
        golden_agrees(f, "eps_pred", golden_backends[i].name, eps, n, golden_backends[i].tolerance);
        zs_model_close(&m);
    }
    zs_free(x_t);
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
    float *z_t = golden_f32(f, "latent_noise", &n);
    int64_t *t = golden_i64(f, "latent_t", &nt);
    float *out = zs_alloc(n, sizeof *out);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        zs_error err = {0};
        zs_model *m = open_model(golden_backends[i].name, 0, false);
        must(zs_model_prior_eps(m, out, z_t, (int64_t)nt, t, NULL, &err), &err);
        golden_agrees(f, "latent_eps", golden_backends[i].name, out, n,
                      golden_backends[i].tolerance);
        zs_model_close(&m);
    }
    zs_free(z_t);
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
    must(zs_model_grad(m, loss, g, b->x0, b->x_t, b->xs, b->t, b->noise, NULL, &err), &err);
    zs_model_close(&m);
    return g;
}

static bool of_the_prior(const zs_param *p)
{
    return zs_param_box(p->name) == ZS_BOX_PRIOR;
}

/* A bias in front of a GroupNorm with one channel per group has no gradient at all. */
static void differentiates(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_tensorfile *fg = golden_gradients(SET);
    size_t n;
    float *losses = golden_f32(f, "train.loss", &n), *norm = golden_f32(f, "train.grad_norm.0", &n);
    batch b = first_step(f);
    zs_model *m = open_model("cpu", 0, true);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        float loss;
        float *g = gradients(golden_backends[i].name, 0, &b, &loss, &n);
        double whole = golden_norm(g, n);
        double worst = golden_worst_gradient(fg, zs_model_params(m), g, 1e-3, 1e-7, of_the_prior);
        print_message("%-8s loss %.7f (%.7f), norm %.6f (%.6f), worst of %zu gradients %.2e\n",
                      golden_backends[i].name, (double)loss, (double)losses[0], whole,
                      (double)norm[0], golden_gradient_count(fg), worst);
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
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        float loss, other_loss;
        size_t n;
        float *g = gradients(golden_backends[i].name, 0, &b, &loss, &n);
        /* The slow reference kernels see the first combination only. */
        for (size_t k = 0; k < (i == 0 ? 1 : sizeof flags / sizeof flags[0]); k++) {
            float *other = gradients(golden_backends[i].name, flags[k], &b, &other_loss, &n);
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
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        float loss[2];
        size_t n;
        zs_threads_set(1);
        float *one = gradients(golden_backends[i].name, 0, &b, &loss[0], &n);
        zs_threads_set(3);
        float *three = gradients(golden_backends[i].name, 0, &b, &loss[1], &n);
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
        golden_near("piece", "cpu", z + i * dim, want + (i & 1) * dim, dim, 1e-4);
    zs_model_close(&m);
    zs_free(x0);
    zs_free(want);
    zs_free(many);
    zs_free(z);
    zs_tensorfile_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_it_is),      cmocka_unit_test(encodes),
        cmocka_unit_test(predicts_noise),        cmocka_unit_test(predicts_latent_noise),
        cmocka_unit_test(differentiates),        cmocka_unit_test(plans_do_not_matter),
        cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(batches_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, golden_teardown);
}
