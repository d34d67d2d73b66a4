/* SPDX-License-Identifier: MIT */
/* Networks under a sampler: the numbers of plain calls, and always those of today's weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/model_kit.h"
#include "tests/unit/must.h"
#include "train/generate.h"
#include "train/gradient.h"

enum { N = 5, BATCH = 2, SIDE = 4, STEPS = 70 };

/* Images of SIDE x SIDE and channels that the fast kernels like. */
static zs_model_config wide_config(bool conditional, bool prior)
{
    zs_model_config c = kit_config(conditional);
    c.channels = c.unet.in_channels = c.unet.out_channels = 3;
    c.unet.levels = 2;
    c.unet.num_res_blocks = 1;
    c.unet.ch[0] = 32;
    c.unet.ch[1] = 64;
    c.unet.attn_levels = 2;
    if (conditional) {
        c.sem_encoder.in_channels = 3;
        c.sem_encoder.levels = 2;
        c.sem_encoder.attn_levels = 0;
        c.sem_encoder.ch[0] = c.sem_encoder.ch[1] = 16;
    }
    c.latent_mlp = (zs_latent_mlp_config){0};
    if (prior)
        c.latent_mlp = (zs_latent_mlp_config){
            .z_dim = c.unet.z_dim, .hidden = 24, .layers = 4, .time_channels = 16, .skips = 6};
    return c;
}

static float *random_weights(const zs_model_config *c, uint64_t index, size_t *n)
{
    zs_error err = {0};
    zs_params *ps = NULL;
    assert_int_equal(zs_model_layout(&ps, c, &err), ZS_OK);
    *n = (size_t)zs_params_numel(ps);
    zs_params_free(&ps);
    return kit_normal(*n, index, 0.05f);
}

static int plain(zs_model *m, zs_box box, float *out, const float *x, zs_shape xs, int64_t t,
                 const float *z, zs_error *err)
{
    int64_t all[N];
    for (int i = 0; i < N; i++)
        all[i] = t;
    return box == ZS_BOX_PRIOR ? zs_model_prior_eps(m, out, x, N, all, NULL, err)
                               : zs_model_eps(m, out, x, xs, all, &(zs_cond){.z = z}, err);
}

static void compare(zs_model *m, zs_box box, zs_shape xs, const float *z, double tolerance)
{
    zs_error err = {0};
    zs_session *s = NULL;
    size_t n = (size_t)zs_shape_numel(&xs);
    float *x = kit_normal(n, 6, 1.0f), *a = kit_normal(n, 7, 1.0f), *b = kit_normal(n, 8, 1.0f);
    int64_t t[STEPS];
    for (int i = 0; i < STEPS; i++)
        t[i] = 14 * i;
    assert_int_equal(zs_session_new(&s, m, box, xs, &(zs_cond){.z = z}, t, STEPS, &err), ZS_OK);
    /* downwards over the borders of what is prepared at once, upwards, and unannounced */
    static const int64_t asked[] = {69 * 14, 68 * 14, 32 * 14, 31 * 14, 0,       14, 777,
                                    64 * 14, 778,     63 * 14, 777,     65 * 14, 0,  999};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        must(zs_session_run(s, a, x, asked[i], &err), &err);
        must(plain(m, box, b, x, xs, asked[i], z, &err), &err);
        assert_true(kit_difference(a, b, n) <= tolerance);
    }
    assert_int_equal(zs_session_run(s, a, x, 1000, &err), ZS_E_INVALID);
    assert_int_equal(zs_session_run(s, a, x, -1, &err), ZS_E_INVALID);
    assert_int_equal(zs_session_run(s, a, x, 14, &err), ZS_OK);
    zs_session_free(&s);
    zs_free(x);
    zs_free(a);
    zs_free(b);
}

static void as_plain_calls(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        bool fast = i % 2, conditional = i > 1;
        zs_model_config c = wide_config(conditional, conditional);
        zs_model_options o = {
            .backend = fast ? "cpu" : "cpu-ref", .batch = BATCH, .exec_flags = ZS_EXEC_POISON};
        zs_error err = {0};
        zs_model *m = NULL;
        size_t n = 0;
        float *w = random_weights(&c, 4, &n);
        float *z = conditional ? kit_normal((size_t)(N * c.unet.z_dim), 5, 1.0f) : NULL;
        assert_int_equal(zs_model_wrap(&m, &c, w, &o, &err), ZS_OK);
        compare(m, ZS_BOX_GENERATOR, zs_shape4(N, SIDE, SIDE, 3), z, fast ? 2e-6 : 0.0);
        if (conditional)
            compare(m, ZS_BOX_PRIOR, zs_shape2(N, c.latent_mlp.z_dim), NULL, fast ? 2e-6 : 0.0);
        zs_model_close(&m);
        zs_free(w);
        zs_free(z);
    }
}

static void count_linears(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    (void)node;
    (void)c;
    (void)seconds;
    *(int *)ctx += op == ZS_OP_LINEAR;
}

/* The blocks of a conditional rdm look at the class by a product each: once, not at every step. */
static void hears_classes_once(void **state)
{
    (void)state;
    enum { BLOCKS = 3, DIM = 12, PIECES = (N + BATCH - 1) / BATCH };
    const zs_model_config c = {.latent = zs_process_rdm,
                               .rdm = {.blocks = BLOCKS,
                                       .z_dim = DIM,
                                       .width = 16,
                                       .bottleneck = 8,
                                       .time_channels = 8,
                                       .classes = 4,
                                       .class_dim = 6,
                                       .conditional = true}};
    const int64_t y[N] = {3, 0, 2, 1, 3}, t[] = {900, 500, 100};
    int linears = 0;
    const zs_model_options o = {.backend = "cpu-ref",
                                .batch = BATCH,
                                .exec_flags = ZS_EXEC_POISON,
                                .hook = count_linears,
                                .hook_ctx = &linears};
    zs_error err = {0};
    zs_model *m = NULL;
    zs_session *s = NULL;
    size_t n = 0;
    float *w = random_weights(&c, 4, &n), got[N * DIM], want[N * DIM];
    float *x = kit_normal(N * DIM, 6, 1.0f);
    must(zs_model_wrap(&m, &c, w, &o, &err), &err);
    must(zs_session_new(&s, m, ZS_BOX_PRIOR, zs_shape2(N, DIM), &(zs_cond){.y = y}, t, 3, &err),
         &err);
    for (int i = 0; i < 3; i++) {
        const int64_t same[N] = {t[i], t[i], t[i], t[i], t[i]};
        must(zs_model_prior_eps(m, want, x, N, same, y, &err), &err);
        linears = 0;
        must(zs_session_run(s, got, x, t[i], &err), &err);
        assert_true(i == 0 || linears == PIECES * (2 * BLOCKS + 2)); /* times are new at first */
        assert_true(kit_difference(got, want, N * DIM) <= 2e-6);
    }
    zs_session_free(&s);
    zs_model_close(&m);
    zs_free(w);
    zs_free(x);
}

static void refuses(void **state)
{
    (void)state;
    zs_model_config c = wide_config(true, false), ddpm = wide_config(false, false);
    zs_error err = {0};
    zs_model *m = NULL, *d = NULL;
    zs_session *s = NULL;
    size_t n = 0, nd = 0;
    float *w = random_weights(&c, 4, &n), *wd = random_weights(&ddpm, 4, &nd), z[9 * N] = {0};
    const int64_t t[] = {5, 1000};
    const zs_cond cond = {.z = z};
    zs_shape xs = zs_shape4(N, SIDE, SIDE, 3);
    assert_int_equal(zs_model_wrap(&m, &c, w, NULL, &err), ZS_OK);
    assert_int_equal(zs_model_wrap(&d, &ddpm, wd, NULL, &err), ZS_OK);
    assert_int_equal(zs_session_new(&s, m, ZS_BOX_GENERATOR, xs, NULL, t, 1, &err), ZS_E_INVALID);
    assert_int_equal(zs_session_new(&s, d, ZS_BOX_GENERATOR, xs, &cond, t, 1, &err), ZS_E_INVALID);
    assert_int_equal(zs_session_new(&s, m, ZS_BOX_GENERATOR, xs, &cond, t, 2, &err), ZS_E_INVALID);
    assert_int_equal(zs_session_new(&s, m, ZS_BOX_GENERATOR, xs, &cond, t, 0, &err), ZS_E_INVALID);
    assert_int_equal(
        zs_session_new(&s, m, ZS_BOX_PRIOR, zs_shape2(N, c.unet.z_dim), NULL, t, 1, &err),
        ZS_E_INVALID);
    assert_null(s);
    zs_model_close(&m);
    zs_model_close(&d);
    zs_free(w);
    zs_free(wd);
}

static void sample(zs_model *m, float *x, zs_shape xs, const float *z)
{
    zs_error err = {0};
    zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = 4, .cond = {.z = z}};
    zs_draw_xt(x, xs, 3, 0);
    must(zs_generate(&g, x, xs, &err), &err);
}

static void train_once(zs_gradient *g, zs_train_state *s, const float *x0)
{
    const zs_optim_config c = zs_optim_defaults();
    zs_train_batch b = {.x = x0};
    zs_error err = {0};
    double loss = 0;
    zs_gradient_draw(g, &b);
    assert_int_equal(zs_gradient_run(g, s, &b, &loss, &err), ZS_OK);
    s->step++;
    zs_optim_step(&c, &s->b, s->step, zs_grad_norm(s->b.grad, s->b.n));
}

/* A model around a trainer's buffer, sampled before and after a step, gives what a model that was
 * never asked before gives: nothing made of the old weights is left. */
static void follows_training(void **state)
{
    (void)state;
    zs_model_config c = wide_config(true, false);
    zs_model_options o = {.batch = N, .exec_flags = ZS_EXEC_POISON, .packed = 100.0};
    zs_shape xs = zs_shape4(N, SIDE, SIDE, 3);
    size_t n = (size_t)zs_shape_numel(&xs);
    zs_error err = {0};
    zs_params *ps = NULL;
    zs_train_state s;
    zs_gradient *g = NULL;
    zs_model *m = NULL, *fresh = NULL;
    float *before = kit_normal(n, 1, 1.0f), *after = kit_normal(n, 1, 1.0f),
          *want = kit_normal(n, 1, 1.0f);
    float *x0 = kit_normal((size_t)(N * c.image_size * c.image_size * 3), 2, 1.0f);
    float *z = kit_normal((size_t)(N * c.unet.z_dim), 5, 1.0f);
    must(zs_model_layout(&ps, &c, &err), &err);
    assert_int_equal(zs_train_state_new(&s, ps, zs_backend_find(NULL), &err), ZS_OK);
    float *w = kit_normal(s.b.n, 4, 0.05f);
    memcpy(s.b.param, w, s.b.n * sizeof *w);
    const zs_gradient_config gc = {
        .model = &c, .layout = ps, .batch = N, .seed = 1, .backend = zs_backend_find(NULL)};
    assert_int_equal(zs_gradient_new(&g, &gc, &err), ZS_OK);
    assert_int_equal(zs_model_wrap(&m, &c, s.b.param, &o, &err), ZS_OK);
    sample(m, before, xs, z);
    train_once(g, &s, x0);
    sample(m, after, xs, z);
    assert_int_equal(zs_model_wrap(&fresh, &c, s.b.param, &o, &err), ZS_OK);
    sample(fresh, want, xs, z);
    assert_memory_equal(after, want, n * sizeof *want);
    assert_memory_not_equal(after, before, n * sizeof *want);
    memcpy(s.b.param, w, s.b.n * sizeof *w); /* as when a checkpoint is read */
    sample(m, after, xs, z);
    assert_memory_equal(after, before, n * sizeof *want);
    zs_model_close(&m);
    zs_model_close(&fresh);
    zs_gradient_free(&g);
    zs_train_state_free(&s);
    zs_params_free(&ps);
    zs_free(before);
    zs_free(after);
    zs_free(want);
    zs_free(x0);
    zs_free(z);
    zs_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_plain_calls),
        cmocka_unit_test(hears_classes_once),
        cmocka_unit_test(refuses),
        cmocka_unit_test(follows_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
