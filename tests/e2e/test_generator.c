/* SPDX-License-Identifier: MIT */
/* Generators on top of a frozen encoder, or of classes: they train, resume, and join with the
 * encoder that they were made for and no other. */
#include "data/data.h"
#include "models/rep.h"
#include "train/generate.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { PER_CLASS = 6, SIZE = 8, BATCH = 4, STEPS = 12, CLASSES = 2, DIM = 6 };

static char root[] = "/tmp/zsem-generator-XXXXXX";
static char data_dir[64], spec_buf[4][512];

static const char *path_of(const char *name)
{
    static char buf[8][256];
    static int next;
    char *p = buf[next++ % 8];
    (void)snprintf(p, sizeof buf[0], "%s/%s", root, name);
    return p;
}

/* Bright on the left, bright on the right. */
static void write_image(int k, int i)
{
    uint8_t px[SIZE * SIZE];
    char name[64];
    zs_error err = {0};
    for (int p = 0; p < SIZE * SIZE; p++)
        px[p] = (uint8_t)((p % SIZE < SIZE / 2) == (k == 0) ? 190 + 9 * i : 7 * i);
    const zs_image im = {.w = SIZE, .h = SIZE, .c = 1, .px = px};
    (void)snprintf(name, sizeof name, "data/%d/%d.png", k, i);
    if (zs_image_write_png(path_of(name), &im, &err) < 0)
        fail_msg("%s", err.message);
}

/* stats [DIM]: both mean and deviation of the codes, or NULL. */
static void write_bundle(const char *name, const zs_model_config *c, const float *stats,
                         uint64_t seed, zs_dtype dtype)
{
    zs_params *ps = NULL;
    zs_error err = {0};
    assert_int_equal(zs_model_layout(&ps, c, &err), ZS_OK);
    float *w = zs_alloc((size_t)zs_params_numel(ps), sizeof *w);
    zs_params_init(ps, w, seed);
    const zs_bundle b = {.config = c, .params = ps, .weights = w, .z_mean = stats, .z_std = stats};
    if (zs_bundle_write(path_of(name), &b, dtype, &err) < 0)
        fail_msg("%s", err.message);
    zs_free(w);
    zs_params_free(&ps);
}

/* An autoencoder that nobody trained: its encoder tells images apart all the same. */
static void write_autoencoder(const char *name, uint64_t seed, zs_dtype dtype)
{
    zs_model_config c = {.name = "tiny",
                         .image_size = SIZE,
                         .channels = 1,
                         .fit = "crop",
                         .unet = {.in_channels = 1,
                                  .out_channels = 1,
                                  .model_channels = 8,
                                  .embed_channels = 16,
                                  .levels = 2,
                                  .ch = {8, 16},
                                  .num_res_blocks = 1,
                                  .heads = 1,
                                  .z_dim = DIM},
                         .sem_encoder = {.in_channels = 1,
                                         .levels = 2,
                                         .ch = {8, 16},
                                         .num_res_blocks = 1,
                                         .heads = 1,
                                         .z_dim = DIM},
                         .diffusion = zs_process_diffae};
    write_bundle(name, &c, NULL, seed, dtype);
}

/* The representation diffusion model draws codes as they are, where its file has no statistics. */
static void write_rdm(const char *name)
{
    zs_model_config c = {.name = "tiny-rdm",
                         .image_size = SIZE,
                         .channels = 1,
                         .fit = "crop",
                         .rdm = {.blocks = 1,
                                 .z_dim = DIM,
                                 .width = 8,
                                 .bottleneck = 8,
                                 .time_channels = 8,
                                 .classes = 1,
                                 .class_dim = 4},
                         .latent = zs_process_rdm};
    write_bundle(name, &c, NULL, 7, ZS_F32);
}

static zs_model *open_spec(const char *spec)
{
    zs_model *m = NULL;
    zs_error err = {0};
    if (zs_model_open(&m, spec, NULL, &err) < 0)
        fail_msg("%s", err.message);
    return m;
}

/* "<root>/<a>,<root>/<b>" */
static const char *joined(const char *a, const char *b)
{
    static int next;
    char *s = spec_buf[next++ % 4];
    (void)snprintf(s, sizeof spec_buf[0], "%s/%s,%s/%s", root, a, root, b);
    return s;
}

static zs_train_config tiny_run(const char *out, zs_model *encoder, int64_t classes)
{
    zs_train_config c = zs_train_defaults();
    zs_error err = {0};
    c.model = (zs_model_config){.name = "tiny-adm",
                                .image_size = SIZE,
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
    c.encoder = encoder;
    if (encoder) {
        (void)snprintf(c.model.rep_name, sizeof c.model.rep_name, "tiny");
        assert_int_equal(zs_rep_fingerprint(c.model.rep_fingerprint, encoder, &err), ZS_OK);
    }
    assert_int_equal(zs_model_config_condition(&c.model, encoder ? DIM : 0, classes, &err), ZS_OK);
    c.optim.lr = 1e-2;
    c.optim.ema = 0.5;
    c.batch = BATCH;
    c.flip = 0.5;
    c.seed = 5;
    c.images = BATCH * STEPS;
    c.data = data_dir;
    c.out = out;
    c.log_steps = 1;
    c.checkpoint_minutes = 0.0;
    c.preview_images = BATCH * STEPS;
    return c;
}

static void train(const zs_train_config *c, const zs_ui *ui, int want)
{
    zs_error err = {0};
    int status = zs_train_run(c, ui, NULL, &err);
    if (status != want)
        fail_msg("status %d: %s", status, err.message);
}

static int stop_half_way(void *ctx, const zs_progress *p)
{
    (void)ctx;
    return p->done >= (double)(BATCH * STEPS / 2);
}

static void same_weights(const char *a, const char *b)
{
    zs_model *m = open_spec(path_of(a)), *n = open_spec(path_of(b));
    size_t bytes = (size_t)zs_params_numel(zs_model_params(m)) * sizeof(float);
    assert_memory_equal(zs_model_weights(m), zs_model_weights(n), bytes);
    zs_model_close(&m);
    zs_model_close(&n);
}

static void resumes(void **state)
{
    (void)state;
    const zs_ui stop = {.progress = stop_half_way};
    zs_model *e = open_spec(path_of("ae.safetensors"));
    zs_train_config c = tiny_run(path_of("whole"), e, 0);
    train(&c, NULL, ZS_OK);
    c.out = path_of("halves");
    train(&c, &stop, ZS_E_CANCELLED);
    train(&c, NULL, ZS_OK);
    same_weights("whole", "halves");
    struct stat st;
    assert_int_equal(stat(path_of("whole/samples/step-00000012.png"), &st), 0);
    zs_model_close(&e);
}

/* What is drawn from noise depends on the representation. */
static void generates_from_representations(void **state)
{
    (void)state;
    zs_model *m = open_spec(joined("ae.safetensors:encoder", "whole"));
    zs_error err = {0};
    float x[2 * SIZE * SIZE], z[2 * DIM];
    zs_shape xs = zs_shape4(2, SIZE, SIZE, 1);
    zs_source *s = NULL;
    assert_int_equal(zs_source_open(&s, data_dir, &err), ZS_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            zs_source_read_float(s, i * PER_CLASS, SIZE, 1, ZS_FIT_CROP, x + i * SIZE * SIZE, &err),
            ZS_OK);
    zs_source_close(&s);
    assert_int_equal(zs_model_encode(m, z, x, xs, &err), ZS_OK);
    for (int i = 0; i < DIM; i++) /* far enough apart for a network of twelve steps */
        z[i] += 3.0f;
    const zs_generation g = {.model = m, .sampler = &zs_sampler_ddim, .steps = 4, .cond = {.z = z}};
    zs_draw_xt(x, zs_shape4(1, SIZE, SIZE, 1), 1, 0);
    memcpy(x + SIZE * SIZE, x, SIZE * SIZE * sizeof *x);
    assert_int_equal(zs_generate(&g, x, xs, &err), ZS_OK);
    float most = 0.0f;
    for (int i = 0; i < SIZE * SIZE; i++)
        most = fmaxf(most, fabsf(x[i] - x[SIZE * SIZE + i]));
    print_message("two representations, one x_T: images differ by %g\n", (double)most);
    assert_true(most > 1e-4f && isfinite(most));
    zs_model_close(&m);
}

static void refuse(const char *spec, const char *says)
{
    zs_model *m = NULL;
    zs_error err = {0};
    assert_int_equal(zs_model_open(&m, spec, NULL, &err), ZS_E_INVALID);
    assert_null(m);
    if (!strstr(err.message, says))
        fail_msg("%s: \"%s\"", spec, err.message);
}

static void joins_with_its_encoder_alone(void **state)
{
    (void)state;
    zs_model *m = open_spec(joined("half.safetensors:encoder", "whole")); /* rounded weights */
    assert_true(zs_model_has(m, ZS_BOX_ENCODER) && zs_model_has(m, ZS_BOX_GENERATOR));
    zs_model_close(&m);
    refuse(joined("other.safetensors:encoder", "whole"), "another encoder, tiny");
    refuse(joined("whole", "other.safetensors:encoder"), "representations of tiny");
    refuse(joined("ae.safetensors", "whole"), "FILE:encoder+prior");
    refuse(joined("ae.safetensors:prior", "whole"), "none of the boxes");
    m = open_spec(path_of("ae.safetensors:generator"));
    assert_false(zs_model_has(m, ZS_BOX_ENCODER));
    assert_true(zs_model_configuration(m)->rep_fingerprint[0] != 0);
    zs_model_close(&m);
}

/* Statistics of codes come with a prior or a probe, and never to a prior trained without. */
static void statistics_stay_with_their_prior(void **state)
{
    (void)state;
    static const float ones[DIM] = {1, 1, 1, 1, 1, 1};
    zs_model *m = open_spec(path_of("ae.safetensors"));
    const zs_model_config c = *zs_model_configuration(m);
    zs_model_close(&m);
    write_bundle("stats.safetensors", &c, ones, 3, ZS_F32);
    write_rdm("rdm.safetensors");
    m = open_spec(path_of("stats.safetensors"));
    assert_non_null(zs_model_z_mean(m));
    zs_model_close(&m);
    refuse(joined("stats.safetensors", "rdm.safetensors"), "statistics of codes");
    refuse(joined("rdm.safetensors", "stats.safetensors"), "statistics of codes");
    m = open_spec(joined("stats.safetensors:encoder", "rdm.safetensors"));
    assert_null(zs_model_z_mean(m));
    zs_model_close(&m);
}

static void learns_from_classes(void **state)
{
    (void)state;
    const zs_ui stop = {.progress = stop_half_way};
    zs_train_config c = tiny_run(path_of("classes"), NULL, CLASSES);
    zs_error err = {0};
    train(&c, NULL, ZS_OK);
    c.out = path_of("classes-halves");
    train(&c, &stop, ZS_E_CANCELLED);
    train(&c, NULL, ZS_OK);
    same_weights("classes", "classes-halves");
    zs_model *m = open_spec(path_of("classes"));
    float x[SIZE * SIZE], eps[2 * SIZE * SIZE];
    const int64_t t = 3, past = CLASSES;
    zs_shape xs = zs_shape4(1, SIZE, SIZE, 1);
    zs_draw_xt(x, xs, 1, 0);
    assert_int_equal(zs_model_eps(m, eps, x, xs, &t, &(zs_cond){.y = &past}, &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "class 2 is outside 0..1"));
    zs_model_close(&m);
    zs_train_config wrong = tiny_run(path_of("wrong"), NULL, CLASSES + 1);
    train(&wrong, NULL, ZS_E_INVALID);
}

static void needs_its_conditions(void **state)
{
    (void)state;
    zs_model *e = open_spec(path_of("ae.safetensors"));
    zs_train_config c = tiny_run(path_of("none"), e, 0);
    c.encoder = NULL;
    train(&c, NULL, ZS_E_INVALID);
    zs_model_close(&e);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(root));
    (void)snprintf(data_dir, sizeof data_dir, "%s/data", root);
    assert_int_equal(mkdir(data_dir, 0700), 0);
    for (int k = 0; k < CLASSES; k++) {
        char name[16];
        (void)snprintf(name, sizeof name, "data/%d", k);
        assert_int_equal(mkdir(path_of(name), 0700), 0);
        for (int i = 0; i < PER_CLASS; i++)
            write_image(k, i);
    }
    write_autoencoder("ae.safetensors", 3, ZS_F32);
    write_autoencoder("half.safetensors", 3, ZS_F16);
    write_autoencoder("other.safetensors", 4, ZS_F32);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes),
        cmocka_unit_test(generates_from_representations),
        cmocka_unit_test(joins_with_its_encoder_alone),
        cmocka_unit_test(statistics_stay_with_their_prior),
        cmocka_unit_test(learns_from_classes),
        cmocka_unit_test(needs_its_conditions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
