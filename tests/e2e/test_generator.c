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
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { PER_CLASS = 6, SIZE = TINY, BATCH = 4, STEPS = 12, CLASSES = 2, DIM = 6 };

/* The representation diffusion model draws codes as they are, where its file has no statistics. */
static zs_model_config rdm_config(void)
{
    return (zs_model_config){.name = "tiny-rdm",
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
}

static void write_rdm(const char *name)
{
    const zs_model_config c = rdm_config();
    tiny_bundle(name, &c, 7, NULL, ZS_F32);
}

static zs_train_config tiny_run(const char *out, zs_model *encoder, int64_t classes)
{
    zs_train_config c = zs_train_defaults();
    zs_error err = {0};
    c.model = tiny_adm(SIZE);
    c.encoder = encoder;
    if (encoder) {
        (void)snprintf(c.model.reps.name, sizeof c.model.reps.name, "tiny");
        must(zs_rep_fingerprint(c.model.reps.fingerprint, encoder, ZS_BOX_ENCODER, &err), &err);
    }
    assert_int_equal(zs_model_config_condition(&c.model, encoder ? DIM : 0, classes, &err), ZS_OK);
    c.optim.lr = 1e-2;
    c.optim.ema = 0.5;
    c.batch = BATCH;
    c.flip = 0.5;
    c.seed = 5;
    c.images = BATCH * STEPS;
    c.data = scratch_path("data");
    c.out = scratch_path("%s", out);
    c.log_steps = 1;
    c.checkpoint_minutes = 0.0;
    c.preview_images = BATCH * STEPS;
    return c;
}

static const double half = BATCH * STEPS / 2;

static void resumes(void **state)
{
    (void)state;
    const zs_ui stop = tiny_stop_at(&half);
    zs_model *e = tiny_open(scratch_path("ae.safetensors"));
    zs_train_config c = tiny_run("whole", e, 0);
    tiny_train(&c, NULL, ZS_OK, NULL);
    c.out = scratch_path("halves");
    tiny_train(&c, &stop, ZS_E_CANCELLED, NULL);
    tiny_train(&c, NULL, ZS_OK, NULL);
    tiny_same_weights("whole", "halves");
    assert_true(tiny_exists(scratch_path("whole/samples/step-00000012.png")));
    zs_model_close(&e);
}

/* What is drawn from noise depends on the representation. */
static void generates_from_representations(void **state)
{
    (void)state;
    zs_model *m = tiny_open(tiny_joined("ae.safetensors:encoder", "whole"));
    zs_error err = {0};
    float x[2 * SIZE * SIZE], z[2 * DIM];
    zs_shape xs = zs_shape4(2, SIZE, SIZE, 1);
    zs_source *s = NULL;
    assert_int_equal(zs_source_open(&s, scratch_path("data"), &err), ZS_OK);
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

static void joins_with_its_encoder_alone(void **state)
{
    (void)state;
    zs_model *m = tiny_open(tiny_joined("half.safetensors:encoder", "whole")); /* rounded weights */
    assert_true(zs_model_has(m, ZS_BOX_ENCODER) && zs_model_has(m, ZS_BOX_GENERATOR));
    zs_model_close(&m);
    tiny_open_refused(tiny_joined("other.safetensors:encoder", "whole"), "another encoder, tiny");
    tiny_open_refused(tiny_joined("whole", "other.safetensors:encoder"), "representations of tiny");
    tiny_open_refused(tiny_joined("ae.safetensors", "whole"), "FILE:encoder+prior");
    tiny_open_refused(tiny_joined("ae.safetensors:prior", "whole"),
                      "has no prior; its parts are generator, encoder");
    m = tiny_open(scratch_path("ae.safetensors:generator"));
    assert_false(zs_model_has(m, ZS_BOX_ENCODER));
    assert_true(zs_model_configuration(m)->reps.fingerprint[0] != 0);
    zs_model_close(&m);
}

/* "a,b,c" of the folder. */
static const char *three(const char *a, const char *b, const char *c)
{
    return scratch_path("%s,%s/%s,%s/%s", a, scratch_dir(), b, scratch_dir(), c);
}

static void must_open(const char *spec, const char *set)
{
    const char *const sets[] = {set, NULL};
    zs_model *m = NULL;
    zs_error err = {0};
    must(zs_model_open(&m, spec, &(zs_model_options){.set = set ? sets : NULL}, &err), &err);
    assert_true(zs_model_has(m, ZS_BOX_ENCODER));
    must(zs_model_save(m, scratch_path("joint.safetensors"), ZS_F32, &err), &err);
    zs_model_close(&m);
}

/* An encoder of images of any size is the same one beside a generator of larger ones. */
static void joins_encoders_of_another_size(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_model *e = tiny_open(scratch_path("ae.safetensors:encoder"));
    zs_model_config g = tiny_adm(2 * SIZE), p = {0};
    must(zs_rep_fingerprint(g.reps.fingerprint, e, ZS_BOX_ENCODER, &err), &err);
    (void)snprintf(g.reps.name, sizeof g.reps.name, "tiny");
    zs_model_close(&e);
    must(zs_model_config_condition(&g, DIM, 0, &err), &err);
    p = rdm_config();
    p.reps = g.reps;
    tiny_bundle("large.safetensors", &g, 5, NULL, ZS_F32);
    tiny_bundle("made.safetensors", &p, 6, NULL, ZS_F32);
    const char *const f[] = {"ae.safetensors:encoder", "large.safetensors", "made.safetensors"};
    for (int i = 0; i < 6; i++) {
        int a = i / 2, b = (a + 1 + i % 2) % 3;
        must_open(three(f[a], f[b], f[3 - a - b]), NULL);
    }
    must_open(three(f[0], f[2], f[1]), "image_size=32");
    must_open(tiny_joined(f[1], f[0]), NULL); /* and it stays so in a file */
    must_open(tiny_joined("joint.safetensors", f[2]), NULL);
    tiny_open_refused(three("other.safetensors:encoder", f[1], f[2]), "another encoder");
}

/* While the first stage is not there the images of the generator are latents, which are smaller
 * than anything that the encoder sees. */
static void joins_latents_with_an_encoder(void **state)
{
    (void)state;
    zs_model_config g = tiny_adm(SIZE / 2), e = tiny_autoencoder(DIM);
    g.channels = g.adm.in_channels = 4;
    zs_model_config_clear(&e, ZS_BOX_GENERATOR);
    e.sem_encoder.levels = 4; /* takes multiples of 8 pixels */
    e.sem_encoder.ch[2] = e.sem_encoder.ch[3] = 8;
    const zs_vae_config v = {.levels = 2,
                             .channels = 1,
                             .latent_channels = 4,
                             .z_channels = 4,
                             .ch = {8, 8},
                             .num_res_blocks = 1,
                             .scale = 1.0};
    const zs_model_config f = {.image_size = SIZE, .channels = 1, .fit = "crop", .vae = v};
    zs_error err = {0};
    must(zs_model_config_condition(&g, DIM, 0, &err), &err);
    tiny_bundle("latents.safetensors", &g, 5, NULL, ZS_F32);
    tiny_bundle("deep.safetensors", &e, 6, NULL, ZS_F32);
    tiny_bundle("stage.safetensors", &f, 7, NULL, ZS_F32);
    must_open(three("latents.safetensors", "deep.safetensors", "stage.safetensors"), NULL);
    must_open(three("deep.safetensors", "latents.safetensors", "stage.safetensors"), NULL);
    must_open(three("latents.safetensors", "stage.safetensors", "deep.safetensors"), NULL);
}

/* --set of a box is for the file that brings the box. What is left of the other file has nothing to
 * do with its encoder, in which two heads would not fit. */
static void sets_boxes_of_their_file(void **state)
{
    (void)state;
    zs_model_config odd = tiny_autoencoder(DIM);
    zs_model_config_clear(&odd, ZS_BOX_GENERATOR);
    odd.sem_encoder.ch[1] = 9;
    odd.vae = (zs_vae_config){.levels = 1,
                              .channels = 1,
                              .latent_channels = 1,
                              .z_channels = 4,
                              .ch = {8},
                              .num_res_blocks = 1,
                              .scale = 1.0};
    tiny_bundle("odd.safetensors", &odd, 5, NULL, ZS_F32);
    must_open(tiny_joined("odd.safetensors:first_stage", "ae.safetensors:encoder"),
              "encoder.heads=2");
    zs_model *m = tiny_open(scratch_path("joint.safetensors"));
    assert_int_equal(zs_model_configuration(m)->sem_encoder.heads, 2);
    zs_model_close(&m);
}

/* Parts that a file does not have, and one that is no model: what to take instead. */
static void names_the_parts_of_a_file(void **state)
{
    (void)state;
    static const char parts[] = "its parts are generator, encoder";
    zs_model *m = NULL;
    zs_error err = {0};
    tiny_open_refused(scratch_path("ae.safetensors:bogus"), parts);
    tiny_open_refused(scratch_path("ae.safetensors:bogus"), "ae.safetensors has no bogus");
    tiny_open_refused(scratch_path("ae.safetensors:encoder+bogus"), "has no encoder+bogus");
    tiny_open_refused(scratch_path("ae.safetensors:encoder+prior"), parts);
    tiny_open_refused(scratch_path("ae.safetensors:probe"), "has no probe");
    tiny_open_refused(scratch_path("ae.safetensors:encoder+probe"), "has no probe");
    tiny_open_refused(scratch_path("whole:bogus"), "model.safetensors has no bogus");
    assert_int_equal(zs_model_open(&m, scratch_path("nothing:bogus"), NULL, &err), ZS_E_IO);
    assert_non_null(strstr(err.message, "nothing:bogus"));
    const zs_model_config c = tiny_autoencoder(DIM);
    tiny_bundle("with:colon.safetensors", &c, 3, NULL, ZS_F32);
    m = tiny_open(scratch_path("with:colon.safetensors")); /* part of the name */
    zs_model_close(&m);
}

/* Statistics of codes come with a prior or a probe, and never to a prior trained without. */
static void statistics_stay_with_their_prior(void **state)
{
    (void)state;
    static const float ones[DIM] = {1, 1, 1, 1, 1, 1};
    zs_model *m = tiny_open(scratch_path("ae.safetensors"));
    const zs_model_config c = *zs_model_configuration(m);
    zs_model_close(&m);
    tiny_bundle("stats.safetensors", &c, 3, ones, ZS_F32);
    write_rdm("rdm.safetensors");
    m = tiny_open(scratch_path("stats.safetensors"));
    assert_non_null(zs_model_z_mean(m));
    zs_model_close(&m);
    tiny_open_refused(tiny_joined("stats.safetensors", "rdm.safetensors"), "statistics of codes");
    tiny_open_refused(tiny_joined("rdm.safetensors", "stats.safetensors"), "statistics of codes");
    m = tiny_open(tiny_joined("stats.safetensors:encoder", "rdm.safetensors"));
    assert_null(zs_model_z_mean(m));
    zs_model_close(&m);
}

static void learns_from_classes(void **state)
{
    (void)state;
    const zs_ui stop = tiny_stop_at(&half);
    zs_train_config c = tiny_run("classes", NULL, CLASSES);
    zs_error err = {0};
    tiny_train(&c, NULL, ZS_OK, NULL);
    c.out = scratch_path("classes-halves");
    tiny_train(&c, &stop, ZS_E_CANCELLED, NULL);
    tiny_train(&c, NULL, ZS_OK, NULL);
    tiny_same_weights("classes", "classes-halves");
    zs_model *m = tiny_open(scratch_path("classes"));
    float x[SIZE * SIZE], eps[2 * SIZE * SIZE];
    const int64_t t = 3, past = CLASSES;
    zs_shape xs = zs_shape4(1, SIZE, SIZE, 1);
    zs_draw_xt(x, xs, 1, 0);
    assert_int_equal(zs_model_eps(m, eps, x, xs, &t, &(zs_cond){.y = &past}, &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "class 2 is outside 0..1"));
    zs_model_close(&m);
    zs_train_config wrong = tiny_run("wrong", NULL, CLASSES + 1);
    tiny_train(&wrong, NULL, ZS_E_INVALID, NULL);
}

static void needs_its_conditions(void **state)
{
    (void)state;
    zs_model *e = tiny_open(scratch_path("ae.safetensors"));
    zs_train_config c = tiny_run("none", e, 0);
    c.encoder = NULL;
    tiny_train(&c, NULL, ZS_E_INVALID, NULL);
    zs_model_close(&e);
}

static int set_up(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    const zs_model_config ae = tiny_autoencoder(DIM);
    tiny_halves("data", CLASSES * PER_CLASS, true);
    tiny_bundle("ae.safetensors", &ae, 3, NULL, ZS_F32);
    tiny_bundle("half.safetensors", &ae, 3, NULL, ZS_F16);
    tiny_bundle("other.safetensors", &ae, 4, NULL, ZS_F32);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes),
        cmocka_unit_test(generates_from_representations),
        cmocka_unit_test(joins_with_its_encoder_alone),
        cmocka_unit_test(joins_encoders_of_another_size),
        cmocka_unit_test(joins_latents_with_an_encoder),
        cmocka_unit_test(sets_boxes_of_their_file),
        cmocka_unit_test(names_the_parts_of_a_file),
        cmocka_unit_test(statistics_stay_with_their_prior),
        cmocka_unit_test(learns_from_classes),
        cmocka_unit_test(needs_its_conditions),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
