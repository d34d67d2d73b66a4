/* SPDX-License-Identifier: MIT */
/* A generator on the latents of a first stage, told nothing: it learns these, not the images. */
#include "data/data.h"
#include "train/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { IMAGES = 4, SIZE = 16, LATENTS = 8, BATCH = 2, STEPS = 4 };

static char root[] = "/tmp/zsem-latents-XXXXXX";
static char data_dir[64];

static void write_images(void)
{
    for (int i = 0; i < IMAGES; i++) {
        uint8_t px[SIZE * SIZE];
        char path[96];
        zs_error err = {0};
        for (int p = 0; p < SIZE * SIZE; p++)
            px[p] = (uint8_t)(p * (i + 1));
        const zs_image im = {.w = SIZE, .h = SIZE, .c = 1, .px = px};
        (void)snprintf(path, sizeof path, "%s/%d.png", data_dir, i);
        if (zs_image_write_png(path, &im, &err) < 0)
            fail_msg("%s", err.message);
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
    char out[64];
    (void)snprintf(out, sizeof out, "%s/run%d", root, (int)seed);
    zs_train_config c = zs_train_defaults();
    c.model = (zs_model_config){.image_size = LATENTS,
                                .channels = 1,
                                .fit = "crop",
                                .adm = {.levels = 2,
                                        .in_channels = 1,
                                        .model_channels = 8,
                                        .ch = {8, 16},
                                        .num_res_blocks = 1,
                                        .head_channels = 8,
                                        .learn_sigma = true},
                                .diffusion = zs_process_adm};
    assert_int_equal(zs_model_layout(&ps, &first_stage, &err), ZS_OK);
    float *w = zs_alloc((size_t)zs_params_numel(ps), sizeof *w);
    zs_params_init(ps, w, seed);
    assert_int_equal(zs_model_wrap(&m, &first_stage, w, NULL, &err), ZS_OK);
    c.first_stage = m;
    c.optim.lr = 1e-2;
    c.batch = BATCH;
    c.images = BATCH * STEPS;
    c.data = data_dir;
    c.out = out;
    c.preview_images = BATCH * STEPS;
    if (zs_train_run(&c, NULL, &report, &err) < 0)
        fail_msg("%s", err.message);
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
    (void)state;
    assert_non_null(mkdtemp(root));
    (void)snprintf(data_dir, sizeof data_dir, "%s/data", root);
    assert_int_equal(mkdir(data_dir, 0700), 0);
    write_images();
    return 0;
}

static int tear_down(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(learns_latents)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
