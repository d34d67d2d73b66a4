/* SPDX-License-Identifier: MIT */
/* Every kind of network on backends whose memory is out of reach: the bits of the reference in
 * single precision, near them in half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/alexnet.h"
#include "models/rep.h"
#include "models/session.h"
#include "tests/golden/golden.h"
#include "tests/unit/far_backend.h"
#include "tests/unit/must.h"

enum { N = 3, BATCH = 2, SIDE = 16, BACKENDS = 3, STEPS = 4 };

/* ZSEM_TEST_DEVICE=cuda puts a device in the place of the backends that imitate one. */
static const char *backends[BACKENDS] = {"cpu-ref", "far", "far-bf16"};
static bool device;

/* A model of the authors. */
typedef struct subject {
    const char *set, *file;
    const char *option; /* of --set, or NULL */
} subject;

static const subject subjects[] = {
    {"ddpm-tiny32", "last.ckpt", NULL},
    {"diffae-tiny32", "last.ckpt", NULL},
    {"rcg-adm", "checkpoint-last.pth", NULL},
    {"rcg-dit", "checkpoint-last.pth", "generator.heads=4"},
    {"rcg-rdm", "classcond.pth", NULL},
    {"rcg-rdm", "uncond.pth", NULL},
    {"rcg-mocov3", "moco.pth.tar", NULL},
    {"rcg-vqf8", "last.ckpt", NULL},
};

static float *normal(size_t n, uint64_t index)
{
    float *v = zs_alloc(n, sizeof *v);
    zs_rng r = {.seed = 8, .purpose = ZS_RNG_TEST, .index = index};
    assert_non_null(v);
    zs_rng_normal(v, n, &r, 0);
    return v;
}

static zs_model *open_model(const char *path, const subject *s, const char *backend)
{
    const char *set[] = {s->option, NULL};
    const zs_model_options o = {
        .backend = backend, .batch = BATCH, .set = set, .exec_flags = device ? 0 : ZS_EXEC_POISON};
    zs_error err = {0};
    zs_model *m = NULL;
    must(zs_model_open(&m, path, &o, &err), &err);
    return m;
}

/* Results of one network: `each` numbers for each of N samples. */
typedef struct result {
    float *v[BACKENDS];
    size_t n;
} result;

static float *room(result *r, int b, int64_t each)
{
    r->n = (size_t)(N * each);
    r->v[b] = zs_calloc(r->n, sizeof(float));
    assert_non_null(r->v[b]);
    return r->v[b];
}

/* A device adds in another order than the reference. */
static void same(const float *got, const float *want, size_t n)
{
    if (device)
        assert_true(golden_norm_error(got, want, n) < 1e-3);
    else
        assert_memory_equal(want, got, n * sizeof(float));
}

static void check(result *r, const char *set, const char *what)
{
    if (!r->n)
        return;
    double half = golden_norm_error(r->v[2], r->v[0], r->n);
    printf("  %-14s %-10s half precision %.2g\n", set, what, half);
    same(r->v[1], r->v[0], r->n);
    assert_true(half < 0.03);
    assert_true(half > 1e-6); /* it is */
    for (int b = 0; b < BACKENDS; b++)
        zs_free(r->v[b]);
    *r = (result){0};
}

enum { EPS, SAMPLED, CODE, PRIOR, LATENTS, PIXELS, RESULTS };
static const char *const names[RESULTS] = {"eps", "sampled", "code", "prior", "latents", "pixels"};

/* Three steps of a sampler would do; here its network alone at falling timesteps. */
static void run_session(zs_model *m, float *out, const float *x, zs_shape xs, const zs_cond *cond)
{
    static const int64_t t[STEPS] = {900, 600, 300, 0};
    zs_error err = {0};
    zs_session *s = NULL;
    must(zs_session_new(&s, m, ZS_BOX_GENERATOR, xs, cond, t, STEPS, &err), &err);
    for (int i = 0; i < STEPS; i++)
        must(zs_session_run(s, out, x, t[i], &err), &err);
    zs_session_free(&s);
}

static void run_generator(zs_model *m, int b, result *r)
{
    static const int64_t t[N] = {10, 400, 900}, y[N] = {0, 1, 0};
    const zs_model_config *c = zs_model_configuration(m);
    zs_ports p;
    zs_error err = {0};
    if (!zs_model_config_ports(c, ZS_BOX_GENERATOR, &p))
        return;
    int64_t side = p.side ? p.side : SIDE;
    zs_shape xs = zs_shape4(N, side, side, p.in_channels);
    float *x = normal((size_t)zs_shape_numel(&xs), 1), *z = normal((size_t)(N * p.z_dim) + 1, 2);
    const zs_cond cond = {.z = p.z_dim ? z : NULL, .y = p.classes ? y : NULL};
    int64_t each = side * side * p.out_channels;
    must(zs_model_eps(m, room(&r[EPS], b, each), x, xs, t, &cond, &err), &err);
    run_session(m, room(&r[SAMPLED], b, each), x, xs, &cond);
    zs_free(x);
    zs_free(z);
}

static void run_others(zs_model *m, int b, result *r)
{
    static const int64_t t[N] = {10, 400, 900}, y[N] = {0, 1, 0};
    const zs_model_config *c = zs_model_configuration(m);
    zs_ports p;
    zs_error err = {0};
    zs_shape xs = zs_shape4(N, SIDE, SIDE, 3);
    float *x = normal((size_t)zs_shape_numel(&xs), 1);
    if (zs_model_config_ports(c, ZS_BOX_ENCODER, &p))
        must(zs_model_encode(m, room(&r[CODE], b, p.z_dim), x, xs, &err), &err);
    if (zs_model_config_ports(c, ZS_BOX_PRIOR, &p))
        must(
            zs_model_prior_eps(m, room(&r[PRIOR], b, p.z_dim), x, N, t, p.classes ? y : NULL, &err),
            &err);
    if (zs_model_has(m, ZS_BOX_FIRST_STAGE)) {
        int64_t side = SIDE >> (c->vae.levels - 1), each = side * side * c->vae.latent_channels;
        float *z = room(&r[LATENTS], b, each);
        must(zs_model_to_latents(m, z, x, xs, NULL, &err), &err);
        must(zs_model_from_latents(m, room(&r[PIXELS], b, SIDE * SIDE * c->vae.channels), x,
                                   zs_shape4(N, side, side, c->vae.latent_channels), &err),
             &err);
    }
    zs_free(x);
}

static void networks_agree(void **state)
{
    (void)state;
    char path[512];
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        const subject *s = &subjects[i];
        result r[RESULTS] = {0};
        if (!golden_has_file(s->set, s->file) || !golden_path(path, s->set, s->file)) {
            printf("SKIPPED: %s/%s is not there\n", s->set, s->file);
            continue;
        }
        for (int b = 0; b < BACKENDS; b++) {
            zs_model *m = open_model(path, s, backends[b]);
            run_generator(m, b, r);
            run_others(m, b, r);
            zs_model_close(&m);
        }
        for (int k = 0; k < RESULTS; k++)
            check(&r[k], s->set, names[k]);
        assert_int_equal(far_counted().blocks, 0);
    }
}

/* Half precision makes no other encoder, and no other first stage, of a model. */
static void are_known_on_any_device(void **state)
{
    (void)state;
    static const subject who[] = {{"diffae-tiny32", "last.ckpt", NULL},
                                  {"rcg-mocov3", "moco.pth.tar", NULL},
                                  {"rcg-vqf8", "last.ckpt", NULL}};
    char path[512], print[2][ZS_REP_FINGERPRINT];
    for (size_t i = 0; i < sizeof who / sizeof who[0]; i++) {
        if (!golden_has_file(who[i].set, who[i].file) ||
            !golden_path(path, who[i].set, who[i].file)) {
            printf("SKIPPED: %s/%s is not there\n", who[i].set, who[i].file);
            continue;
        }
        for (int k = 0; k < 2; k++) {
            zs_error err = {0};
            zs_model *m = open_model(path, &who[i], backends[k ? 2 : 0]);
            zs_box box = zs_model_has(m, ZS_BOX_ENCODER) ? ZS_BOX_ENCODER : ZS_BOX_FIRST_STAGE;
            must(zs_rep_fingerprint(print[k], m, box, &err), &err);
            zs_model_close(&m);
        }
        printf("  %-14s %s\n  %-14s %s\n", who[i].set, print[0], "", print[1]);
        assert_true(zs_rep_same(print[0], print[1]));
    }
    assert_int_equal(far_counted().blocks, 0);
}

/* Loss and gradient of a diffusion autoencoder. */
static void gradients_agree(void **state)
{
    (void)state;
    static const int64_t t[N] = {10, 400, 900};
    char path[512];
    float loss[BACKENDS], *g[BACKENDS];
    size_t n = 0;
    golden_need_file("diffae-tiny32", "last.ckpt");
    assert_true(golden_path(path, "diffae-tiny32", "last.ckpt"));
    for (int b = 0; b < BACKENDS; b++) {
        zs_error err = {0};
        zs_model *m = open_model(path, &subjects[1], backends[b]);
        zs_shape xs = zs_shape4(N, SIDE, SIDE, 3);
        size_t pixels = (size_t)zs_shape_numel(&xs);
        float *x0 = normal(pixels, 1), *x_t = normal(pixels, 2), *noise = normal(pixels, 3);
        n = (size_t)zs_params_numel(zs_model_params(m));
        g[b] = zs_calloc(n, sizeof(float));
        assert_non_null(g[b]);
        must(zs_model_grad(m, &loss[b], g[b], x0, x_t, xs, t, noise, NULL, &err), &err);
        zs_free(x0);
        zs_free(x_t);
        zs_free(noise);
        zs_model_close(&m);
    }
    double half = golden_norm_error(g[2], g[0], n);
    printf("  gradient: half precision %.2g, losses %.6f %.6f\n", half, (double)loss[0],
           (double)loss[2]);
    same(g[1], g[0], n);
    same(&loss[1], &loss[0], 1);
    assert_true(half < 0.05);
    assert_float_equal(loss[2], loss[0], 0.01f * loss[0]);
    for (int b = 0; b < BACKENDS; b++)
        zs_free(g[b]);
    assert_int_equal(far_counted().blocks, 0);
}

/* Networks of metrics round nothing, whatever device they are opened on. */
static void metrics_stay_in_single_precision(void **state)
{
    (void)state;
    char path[512];
    zs_shape xs = zs_shape4(2, 64, 64, 3), s;
    size_t pixels = (size_t)zs_shape_numel(&xs);
    float *x = normal(pixels, 4), *y[BACKENDS];
    size_t n = 0;
    golden_need_file("metrics", "alexnet_features.pth");
    assert_true(golden_path(path, "metrics", "alexnet_features.pth"));
    for (int b = 0; b < BACKENDS; b++) {
        zs_error err = {0};
        zs_frozen *net = NULL;
        must(zs_alexnet_open(&net, path, backends[b], &err), &err);
        for (int run = 0; run < 3; run++)
            must(zs_frozen_run(net, x, xs, &err), &err);
        const float *out = zs_frozen_output(net, "relu4", &s);
        n = (size_t)zs_shape_numel(&s);
        y[b] = zs_alloc(n, sizeof(float));
        assert_non_null(y[b]);
        memcpy(y[b], out, n * sizeof *out);
        zs_frozen_close(&net);
    }
    for (int b = 1; b < BACKENDS; b++)
        assert_memory_equal(y[0], y[b], n * sizeof(float));
    for (int b = 0; b < BACKENDS; b++)
        zs_free(y[b]);
    zs_free(x);
    assert_int_equal(far_counted().blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_agree),
        cmocka_unit_test(gradients_agree),
        cmocka_unit_test(are_known_on_any_device),
        cmocka_unit_test(metrics_stay_in_single_precision),
    };
    const char *name = getenv("ZSEM_TEST_DEVICE");
    device = name && strcmp(name, "cuda") == 0;
    if (device) {
        backends[1] = "cuda-f32";
        backends[2] = "cuda";
    }
    far_install();
    return cmocka_run_group_tests(tests, NULL, golden_teardown);
}
