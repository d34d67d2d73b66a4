/* SPDX-License-Identifier: MIT */
/* A generator on the latents of a first stage, told nothing: it learns these, not the images. */
#include "train/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { IMAGES = 4, SIZE = 16, LATENTS = 8, BATCH = 2, STEPS = 4 };

static void write_images(void)
{
    for (int i = 0; i < IMAGES; i++) {
        uint8_t px[SIZE * SIZE];
        char name[32];
        for (int p = 0; p < SIZE * SIZE; p++)
            px[p] = (uint8_t)(p * (i + 1));
        (void)snprintf(name, sizeof name, "data/%d.png", i);
        tiny_picture(name, SIZE, px);
    }
}

/* As many channels as the images have, so that nothing but its size tells a latent from one. */
static const zs_model_config first_stage = {.image_size = SIZE,
                                            .channels = 1,
                                            .fit = "crop",
                                            .vae = {.levels = 2,
                                                    .channels = 1,
                                                    .latent_channels = 1,
                                                    .z_channels = 4,
                                                    .ch = {8, 8},
                                                    .num_res_blocks = 1,
                                                    .scale = 1.0}};

/* Loss of the last step of a run on what a first stage of that seed makes. */
static double loss_on(uint64_t seed)
{
    zs_params *ps = NULL;
    zs_model *m = NULL;
    zs_error err = {0};
    zs_train_report report;
    zs_train_config c = zs_train_defaults();
    c.model = tiny_adm(LATENTS);
    float *w = tiny_weights(&ps, &first_stage, seed);
    must(zs_model_wrap(&m, &first_stage, w, NULL, &err), &err);
    c.first_stage = m;
    c.optim.lr = 1e-2;
    c.batch = BATCH;
    c.images = BATCH * STEPS;
    c.data = scratch_path("data");
    c.out = scratch_path("run%d", (int)seed);
    c.preview_images = BATCH * STEPS;
    tiny_train(&c, NULL, ZS_OK, &report);
    zs_model_close(&m);
    zs_free(w);
    zs_params_free(&ps);
    return report.loss;
}

static void learns_latents(void **state)
{
    (void)state;
    double a = loss_on(1), b = loss_on(2), d = a > b ? a - b : b - a;
    print_message("losses on the latents of two first stages: %g and %g\n", a, b);
    assert_true(d > 1e-6 * a);
}

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    write_images();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(learns_latents)};
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
