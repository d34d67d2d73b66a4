/* SPDX-License-Identifier: MIT */
/* t_weight: where there is almost only noise, the square of an error counts more; a bound that
 * comes with it does not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/model_kit.h"
#include "tests/unit/must.h"
#include "train/gradient.h"

enum { IMAGE = KIT_DIT_SIDE * KIT_DIT_SIDE * KIT_DIT_SIDE };

static zs_model_config dit_config(bool learn_sigma)
{
    zs_error err = {0};
    zs_model_config c = kit_dit();
    c.dit.learn_sigma = learn_sigma;
    if (!learn_sigma)
        (void)strcpy(c.diffusion.variance, "fixed_large");
    must(zs_model_config_condition(&c, 0, 0, &err), &err);
    return c;
}

/* The loss of one image at timestep t, by random weights. */
static double loss_at(bool learn_sigma, double t_weight, int64_t t)
{
    const zs_model_config c = dit_config(learn_sigma);
    zs_error err = {0};
    zs_params *ps = NULL;
    zs_gradient *g = NULL;
    zs_train_state s = {0};
    double loss = 0;
    must(zs_model_layout(&ps, &c, &err), &err);
    const zs_gradient_config gc = {.model = &c,
                                   .layout = ps,
                                   .batch = 1,
                                   .t_weight = t_weight,
                                   .seed = 1,
                                   .backend = zs_backend_find("cpu-ref")};
    must(zs_train_state_new(&s, ps, gc.backend, &err), &err);
    float *w = kit_normal(s.b.n, 3, 0.3f), *x = kit_normal(2 * IMAGE, 5, 1);
    must(zs_train_state_put(&s, s.b.param, w, &err), &err);
    must(zs_gradient_new(&g, &gc, &err), &err);
    const zs_train_batch b = {.x = x, .target = x + IMAGE, .t = &t};
    must(zs_gradient_run(g, &s, &b, &loss, &err), &err);
    zs_gradient_free(&g);
    zs_train_state_free(&s);
    zs_params_free(&ps);
    zs_free(w);
    zs_free(x);
    return loss;
}

static void counts_noise_more(void **state)
{
    (void)state;
    /* (1-abar)/abar at t = 400 of the linear schedule of 1000 steps */
    double abar = 1;
    for (int i = 0; i <= 400; i++)
        abar *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999);
    double ratio = (1 - abar) / abar;
    assert_true(ratio > 3 && ratio < 50);
    double once = loss_at(false, 0, 400), most = loss_at(false, 3, 400);
    assert_true(fabs(loss_at(false, 100, 400) / once - ratio) < 1e-4 * ratio);
    assert_true(fabs(most / once - 3) < 1e-5);
    assert_true(loss_at(false, 100, 10) == loss_at(false, 1, 10));
}

/* The bound is what is left when the weighted squares are taken off twice. */
static void leaves_the_bound(void **state)
{
    (void)state;
    double once = loss_at(true, 0, 400), twice = loss_at(true, 2, 400),
           thrice = loss_at(true, 3, 400);
    double square = twice - once;
    assert_true(square > 0 && once - square > 1e-6); /* of the bound something is left */
    assert_true(fabs(thrice - twice - square) < 1e-5 * once);
    assert_true(loss_at(true, 100, 10) == loss_at(true, 1, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_noise_more),
        cmocka_unit_test(leaves_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
