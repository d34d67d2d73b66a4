/* SPDX-License-Identifier: MIT */
/* A generator on the latents of a first stage, told nothing: it learns these, not the images. */
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "models/rep.h"
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

static const char *const stages[] = {"first.safetensors", "second.safetensors"};

/* A run on what one of the first stages makes. The caller closes c->first_stage. */
static void make_run(zs_train_config *c, const char *stage, const char *out)
{
    zs_error err = {0};
    *c = zs_train_defaults();
    c->model = tiny_adm(LATENTS);
    c->first_stage = tiny_open(scratch_path("%s", stage));
    must(zs_rep_fingerprint(c->model.latents.fingerprint, c->first_stage, ZS_BOX_FIRST_STAGE, &err),
         &err);
    (void)snprintf(c->model.latents.name, sizeof c->model.latents.name, "%s", stage);
    c->optim.lr = 1e-2;
    c->batch = BATCH;
    c->images = BATCH * STEPS;
    c->data = scratch_path("data");
    c->out = scratch_path("%s", out);
    c->preview_images = BATCH * STEPS;
}

/* Loss of the last step. */
static double loss_on(const char *stage, const char *out)
{
    zs_train_report report;
    zs_train_config c;
    make_run(&c, stage, out);
    tiny_train(&c, NULL, ZS_OK, &report);
    zs_model_close(&c.first_stage);
    return report.loss;
}

static void learns_latents(void **state)
{
    (void)state;
    double a = loss_on(stages[0], "run0"), b = loss_on(stages[1], "run1");
    print_message("losses on the latents of two first stages: %g and %g\n", a, b);
    assert_true(fabs(a - b) > 1e-6 * a);
}

/* Neither a run nor its model goes with the latents of another first stage. */
static void knows_its_first_stage(void **state)
{
    (void)state;
    zs_train_config c;
    make_run(&c, stages[0], "mine");
    tiny_train(&c, NULL, ZS_OK, NULL);
    zs_model_close(&c.first_stage);
    make_run(&c, stages[1], "mine");
    tiny_train_refused(&c, "latent_");
    zs_model_close(&c.first_stage);
    zs_model *m = tiny_open(tiny_joined("mine", stages[0]));
    assert_true(zs_model_has(m, ZS_BOX_FIRST_STAGE) && zs_model_has(m, ZS_BOX_GENERATOR));
    zs_model_close(&m);
    tiny_open_refused(tiny_joined("mine", stages[1]), "joined with another first stage, ");
    tiny_open_refused(tiny_joined(stages[1], "mine"), "latents of first.safetensors");
}

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    write_images();
    for (uint64_t i = 0; i < 2; i++)
        tiny_bundle(stages[i], &first_stage, i + 1, NULL, ZS_F32);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(learns_latents),
                                       cmocka_unit_test(knows_its_first_stage)};
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
