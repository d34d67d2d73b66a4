/* SPDX-License-Identifier: MIT */
/* Guidance by classes: what is predicted for the class is moved away from what is predicted for the
 * row of the table that stands for none. */
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

enum {
    N = 3,
    SIDE = KIT_DIT_SIDE,
    CH = KIT_DIT_SIDE,
    CLASSES = 5,
    STEPS = 4,
    IMAGE = SIDE * SIDE * CH
};

static const int64_t classes_of[N] = {4, 0, 2};

/* A DiT as its preset would have it, and told CLASSES classes, or fewer than two: none. */
static zs_model_config dit_config(double class_drop, int64_t classes)
{
    zs_error err = {0};
    zs_model_config c = kit_dit();
    c.dit.class_drop = class_drop;
    must(zs_model_config_condition(&c, 0, classes, &err), &err);
    return c;
}

static zs_model *wrap(const zs_model_config *c, float **w)
{
    zs_params *ps = NULL;
    zs_model *m = NULL;
    zs_error err = {0};
    must(zs_model_layout(&ps, c, &err), &err);
    *w = kit_normal((size_t)zs_params_numel(ps), 3, 0.3f);
    zs_params_free(&ps);
    const zs_model_options o = {.backend = "cpu-ref", .batch = 2};
    must(zs_model_wrap(&m, c, *w, &o, &err), &err);
    return m;
}

/* ---- by hand ---- */

typedef struct by_hand {
    zs_model *m;
    double scale;
} by_hand;

static int guided_net(void *ctx, const float *x, int64_t t, float *out, zs_error *err)
{
    const by_hand *h = ctx;
    const zs_shape xs = zs_shape4(N, SIDE, SIDE, CH);
    const int64_t at[N] = {t, t, t}, none[N] = {CLASSES, CLASSES, CLASSES};
    float without[2 * N * IMAGE];
    must(zs_model_eps(h->m, out, x, xs, at, &(zs_cond){.y = classes_of}, err), err);
    must(zs_model_eps(h->m, without, x, xs, at, &(zs_cond){.y = none}, err), err);
    for (int i = 0; i < 2 * N * IMAGE; i++)
        if (i % (2 * CH) < 3) /* neither the fourth channel nor the variances */
            out[i] = without[i] + (float)h->scale * (out[i] - without[i]);
    return ZS_OK;
}

static void generate(zs_model *m, double guidance, float *x)
{
    zs_error err = {0};
    const zs_shape xs = zs_shape4(N, SIDE, SIDE, CH);
    const zs_generation g = {.model = m,
                             .sampler = &zs_sampler_ddim,
                             .steps = STEPS,
                             .guidance = guidance,
                             .cond = {.y = classes_of}};
    zs_draw_xt(x, xs, 1, 0);
    must(zs_generate(&g, x, xs, &err), &err);
}

static void generate_by_hand(zs_model *m, double guidance, float *x)
{
    zs_error err = {0};
    zs_schedule full, s;
    by_hand h = {m, guidance};
    must(zs_schedule_make(&full, "linear", 1000, &err), &err);
    must(zs_schedule_respace(&s, &full, "ddim4", &err), &err);
    const zs_sampling c = {.schedule = &s,
                           .n = N,
                           .numel = IMAGE,
                           .net = guided_net,
                           .net_ctx = &h,
                           .channels = CH,
                           .extra = CH,
                           .variance = ZS_VAR_LEARNED};
    zs_draw_xt(x, zs_shape4(N, SIDE, SIDE, CH), 1, 0);
    must(zs_sample(&zs_sampler_ddim, &c, x, &err), &err);
    zs_schedule_free(&full);
    zs_schedule_free(&s);
}

static void moves_away_from_no_class(void **state)
{
    (void)state;
    static const double scales[] = {1, 2.5, -1};
    const zs_model_config c = dit_config(0.1, CLASSES);
    float *w, got[N * IMAGE], want[N * IMAGE], plain[N * IMAGE];
    zs_model *m = wrap(&c, &w);
    assert_int_equal(c.dit.classes, CLASSES + 1);
    generate(m, 1, plain);
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        generate(m, scales[i], got);
        generate_by_hand(m, scales[i], want);
        assert_true(kit_difference(got, want, N * IMAGE) < 1e-4);
        assert_true(i == 0 || kit_difference(got, plain, N * IMAGE) > 1e-2);
    }
    zs_model_close(&m);
    zs_free(w);
}

/* Without dropout there is no row for no class, and without classes nothing to be guided by. */
static void refuses_what_was_not_trained_for_it(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const zs_model_config c = dit_config(i ? 0.1 : 0, i ? 0 : CLASSES);
        const zs_generation g = {.sampler = &zs_sampler_ddim, .steps = STEPS, .guidance = 2};
        zs_generation mine = g;
        zs_error err = {0};
        float *w;
        zs_model *m = wrap(&c, &w);
        assert_int_equal(c.dit.classes, i ? 1 : CLASSES);
        mine.model = m;
        must_refuse(zs_generation_check(&mine, &err), &err, ZS_E_INVALID,
                    "classes left out now and then, and this one was not; leave the guidance out");
        zs_model_close(&m);
        zs_free(w);
    }
}

/* ---- training ---- */

/* How many of many samples are told no class. */
static int64_t count_absent(double class_drop)
{
    enum { BATCH = 400 };
    const zs_model_config c = dit_config(class_drop, CLASSES);
    zs_error err = {0};
    zs_params *ps = NULL;
    zs_gradient *g = NULL;
    int64_t y[BATCH], absent = 0;
    must(zs_model_layout(&ps, &c, &err), &err);
    const zs_gradient_config gc = {.model = &c,
                                   .layout = ps,
                                   .batch = BATCH,
                                   .micro = 1,
                                   .seed = 1,
                                   .backend = zs_backend_find("cpu-ref")};
    must(zs_gradient_new(&g, &gc, &err), &err);
    for (int i = 0; i < BATCH; i++)
        y[i] = i % CLASSES;
    zs_train_batch b = {.cond = {.y = y}};
    zs_gradient_draw(g, &b);
    for (int i = 0; i < BATCH; i++) {
        assert_true(b.cond.y[i] == y[i] || b.cond.y[i] == CLASSES);
        absent += b.cond.y[i] == CLASSES;
    }
    zs_gradient_free(&g);
    zs_params_free(&ps);
    return absent;
}

static void leaves_classes_out(void **state)
{
    (void)state;
    assert_int_equal(count_absent(0), 0);
    assert_in_range(count_absent(0.1), 20, 65); /* four deviations about 40 */
    assert_in_range(count_absent(0.5), 160, 240);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_away_from_no_class),
        cmocka_unit_test(refuses_what_was_not_trained_for_it),
        cmocka_unit_test(leaves_classes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
