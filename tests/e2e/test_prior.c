/* SPDX-License-Identifier: MIT */
/* Codes, prior, probe, new images: everything that is made on top of a trained autoencoder, on a
 * tiny one. */
#include "tasks/drawcodes.h"
#include "train/probefit.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/e2e/taskkit.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { IMAGES = 80, DIM = 12 };

/* ---- codes ---- */

static void encodes_once(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_model *m = tiny_open(scratch_path("base.safetensors"));
    zs_source *s = NULL, *other = NULL;
    zs_codes whole = {0}, cut = {0};
    const double at = 1.0;
    const zs_ui stop = tiny_stop_at(&at);
    assert_int_equal(zs_source_open(&s, scratch_path("data"), &err), ZS_OK);
    assert_int_equal(zs_codes_load(&whole, scratch_path("w.safetensors"), m, s, 3, NULL, &err),
                     ZS_OK);
    assert_int_equal(zs_codes_load(&cut, scratch_path("c.safetensors"), m, s, 3, &stop, &err),
                     ZS_E_CANCELLED);
    assert_true(tiny_exists(scratch_path("c.safetensors.part")));
    err = (zs_error){0};
    /* a row that a killed process left behind its last whole batch is made again, with the batch */
    assert_int_equal(truncate(scratch_path("c.safetensors.part"), 64 + 5 * DIM * sizeof(float)), 0);
    assert_int_equal(zs_codes_load(&cut, scratch_path("c.safetensors"), m, s, 3, NULL, &err),
                     ZS_OK);
    assert_false(tiny_exists(scratch_path("c.safetensors.part")));
    assert_int_equal(cut.n, IMAGES);
    assert_memory_equal(cut.z, whole.z, 3 * IMAGES * DIM * sizeof(float));
    for (int64_t k = 0; k < DIM; k++) /* z-normalised over everything */
        assert_true(whole.std[k] > 0.0f && isfinite(whole.mean[k]));
    assert_true(memcmp(whole.z, whole.z + IMAGES * DIM, IMAGES * DIM * sizeof(float)) != 0);
    zs_codes_free(&cut);
    assert_int_equal(zs_source_open(&other, scratch_path("data/left"), &err), ZS_OK);
    must_refuse(zs_codes_load(&cut, scratch_path("w.safetensors"), m, other, 3, NULL, &err), &err,
                ZS_E_INVALID, "w.safetensors");
    zs_codes_free(&whole);
    zs_source_close(&s);
    zs_source_close(&other);
    zs_model_close(&m);
}

/* The same encoder makes other codes of images that are twice as large. */
static void codes_are_of_one_size(void **state)
{
    (void)state;
    zs_error err = {0};
    const char *const sets[] = {"image_size=16", NULL};
    const zs_model_options o = {.set = sets};
    zs_model *m = NULL;
    zs_source *s = NULL;
    zs_codes c = {0};
    must(zs_model_open(&m, scratch_path("base.safetensors"), &o, &err), &err);
    assert_int_equal(zs_model_configuration(m)->encoder_size, TINY);
    must(zs_source_open(&s, scratch_path("data"), &err), &err);
    must_refuse(zs_codes_load(&c, scratch_path("w.safetensors"), m, s, 3, NULL, &err), &err,
                ZS_E_INVALID, "does not hold the codes");
    must(zs_codes_load(&c, scratch_path("twice.safetensors"), m, s, 3, NULL, &err), &err);
    zs_codes_free(&c);
    zs_source_close(&s);
    zs_model_close(&m);
}

/* A part as one of several ranks leaves it behind: codes that nobody would encode like that. */
static void leave_part(const char *name, const char *header, int64_t rows, float value)
{
    FILE *f = fopen(scratch_path("%s", name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(header, 1, 64, f), 64);
    for (int64_t i = 0; i < rows * DIM; i++)
        assert_int_equal(fwrite(&value, sizeof value, 1, f), 1);
    fclose(f);
}

/* Codes of 240 rows, four batches: of two ranks the second has those from row 128 on. */
static void takes_over_from_other_ranks(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_model *m = tiny_open(scratch_path("base.safetensors"));
    zs_source *s = NULL;
    zs_codes whole = {0}, rest = {0};
    const double at = 1.0;
    const zs_ui stop = tiny_stop_at(&at);
    char header[65] = "";
    must(zs_source_open(&s, scratch_path("data"), &err), &err);
    must(zs_codes_load(&whole, scratch_path("w.safetensors"), m, s, 3, NULL, &err), &err);
    assert_int_equal(zs_codes_load(&rest, scratch_path("r.safetensors"), m, s, 3, &stop, &err),
                     ZS_E_CANCELLED);
    err = (zs_error){0};
    FILE *f = fopen(scratch_path("r.safetensors.part"), "rb");
    assert_non_null(f);
    assert_int_equal(fread(header, 1, 64, f), 64);
    fclose(f);
    leave_part("r.safetensors.part-2-of-2", header, 64 + 7, 5.0f); /* one batch and a bit */
    leave_part("r.safetensors.part-1-of-2", header, 64, 7.0f);     /* its own part comes first */
    leave_part("r.safetensors.part-9-of-2", header, 1, 9.0f);      /* nobody's */
    header[20] ^= 1;
    leave_part("r.safetensors.part-2-of-3", header, 64, 9.0f); /* of other codes */
    must(zs_codes_load(&rest, scratch_path("r.safetensors"), m, s, 3, NULL, &err), &err);
    for (int64_t i = 0; i < 3 * IMAGES * DIM; i++) {
        int64_t row = i / DIM;
        float want = row >= 128 && row < 192 ? 5.0f : whole.z[i];
        assert_true(rest.z[i] >= want && rest.z[i] <= want);
    }
    assert_false(tiny_exists(scratch_path("r.safetensors.part")));
    assert_false(tiny_exists(scratch_path("r.safetensors.part-1-of-2")));
    assert_false(tiny_exists(scratch_path("r.safetensors.part-2-of-2")));
    assert_false(tiny_exists(scratch_path("r.safetensors.part-2-of-3")));
    assert_true(tiny_exists(scratch_path("r.safetensors.part-9-of-2")));
    zs_codes_free(&whole);
    zs_codes_free(&rest);
    zs_source_close(&s);
    zs_model_close(&m);
}

/* ---- prior ---- */

static zs_train_config prior_run(zs_model *m, const char *out)
{
    zs_train_config c = zs_train_defaults();
    c.model = tiny_autoencoder(DIM);
    c.model.latent_mlp = (zs_latent_mlp_config){
        .z_dim = DIM, .hidden = 24, .layers = 3, .skips = 6, .time_channels = 8};
    c.base = m;
    c.views = 2;
    c.batch = 32;
    c.dropout = 0.0;
    c.optim.lr = 3e-3;
    c.optim.ema = 0.9;
    c.images = 32 * 60;
    c.data = scratch_path("data");
    c.out = scratch_path("%s", out);
    c.log_steps = 10;
    c.checkpoint_steps = 20;
    c.preview_images = 32 * 60;
    return c;
}

static void prior_resumes(void **state)
{
    (void)state;
    zs_train_report r;
    zs_model *m = tiny_open(scratch_path("base.safetensors"));
    const double at = 32 * 33;
    const zs_ui stop = tiny_stop_at(&at);
    zs_train_config c = prior_run(m, "whole");
    tiny_train(&c, NULL, ZS_OK, &r);
    assert_true(r.rep_fd >= 0.0 && isfinite(r.rep_fd));
    assert_true(r.loss < 0.8); /* E|eps| of a guess of 0 */
    c.out = scratch_path("cut");
    tiny_train(&c, &stop, ZS_E_CANCELLED, &r);
    tiny_train(&c, NULL, ZS_OK, &r);
    assert_int_equal(r.step, 60);
    tiny_same_weights("whole", "cut");
    zs_model *cut = tiny_open(scratch_path("cut"));
    assert_true(zs_model_has(cut, ZS_BOX_PRIOR) && zs_model_z_mean(cut));
    zs_model_close(&cut);
    c.views = 1; /* another run than the folder's */
    tiny_train(&c, NULL, ZS_E_INVALID, &r);
    zs_model_close(&m);
}

/* ---- tasks ---- */

static void same_file(const char *a, const char *b)
{
    char x[4096], y[4096];
    FILE *f = fopen(scratch_path("%s", a), "rb"), *g = fopen(scratch_path("%s", b), "rb");
    assert_non_null(f);
    assert_non_null(g);
    size_t n = fread(x, 1, sizeof x, f), m = fread(y, 1, sizeof y, g);
    fclose(f);
    fclose(g);
    assert_true(n > 0 && n == m);
    assert_memory_equal(x, y, n);
}

static void probes_and_samples(void **state)
{
    (void)state;
    const char *const whole[] = {"probe", scratch_path("whole"), NULL};
    const char *const probe[] = {scratch_path("probe"), NULL};
    const task_option steps = {"steps", "5"}, plain = {"device", "cpu-ref"};
    json_t *j = task_must("train", whole,
                          TASK_OPTIONS({"data", scratch_path("data")}, {"out", probe[0]},
                                       {"images", "6400"}, {"set", "lr=0.02"}));
    assert_true(json_number_value(json_object_get(j, "mean_auroc")) > 0.95);
    json_decref(j);
    /* the number of an image decides what it is, not how many there are */
    json_decref(task_must("sample", probe,
                          TASK_OPTIONS({"n", "5"}, steps, plain, {"out", scratch_path("s5")})));
    json_decref(task_must("sample", probe,
                          TASK_OPTIONS({"n", "3"}, steps, {"batch", "2"}, plain,
                                       {"predict-x0", NULL}, {"out", scratch_path("s3")})));
    same_file("s5/000002.png", "s3/000002.png");
    assert_true(tiny_exists(scratch_path("s3/predict-x0.png")));
    j = task_must(
        "sample", probe,
        TASK_OPTIONS({"n", "4"}, {"steps", "2"}, {"attr", "left"}, {"out", scratch_path("sl")}));
    double rate = json_number_value(json_object_get(j, "acceptance_rate"));
    assert_true(rate > 0.02 && rate <= 1.0);
    json_decref(j);
    json_decref(task_must(
        "edit", TASK_ARGS(probe[0], scratch_path("data/left/01.png")),
        TASK_OPTIONS({"attr", "right=0.5"}, {"strip", "3"}, steps, {"out", scratch_path("e")})));
    assert_true(tiny_exists(scratch_path("e/edit-000-02.png")));
}

/* One clear sentence each, and no folder of samples. */
static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        task_option o;
        const char *says;
    } cases[] = {{"base.safetensors", {"n", "1"}, "zsem train prior"},
                 {"probe", {"attr", "top"}, "left"},
                 {"probe", {"class", "2"}, "2 classes"},
                 {"probe", {"prior-steps", "999"}, "steps"},
                 {"probe", {"sampler", "ddim-invert"}, "dpm++2m"},
                 {"whole", {"attr", "left"}, "zsem train probe"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        task_refused("sample", TASK_ARGS(scratch_path("%s", cases[i].model)),
                     TASK_OPTIONS(cases[i].o, {"out", scratch_path("no")}), cases[i].says);
    const char *const train[] = {"probe", scratch_path("base.safetensors"), NULL};
    const task_option data = {"data", scratch_path("data")};
    task_refused("train", train,
                 TASK_OPTIONS(data, {"out", scratch_path("few")}, {"shots", "1000"}),
                 "1000 are needed");
    task_refused("train", train, TASK_OPTIONS(data, {"out", scratch_path("whole")}),
                 "is the folder of a training run"); /* a run of its own */
    assert_false(tiny_exists(scratch_path("no")));
}

/* ---- probes on codes that are made up ---- */

enum { CODES = 2000 };

/* Standard normal codes; attribute 0 is the sign of their first number, attribute 1 is unknown for
 * most and follows the second. */
static void make_codes(zs_codes *c, zs_labels *l)
{
    *c = (zs_codes){.n = CODES, .dim = DIM, .views = 1};
    c->z = zs_alloc(CODES * DIM, sizeof(float));
    c->mean = zs_calloc(DIM, sizeof(float));
    c->std = zs_alloc(DIM, sizeof(float));
    for (int k = 0; k < DIM; k++)
        c->std[k] = 1.0f;
    zs_draw_code(c->z, CODES, DIM, 5, 0);
    *l = (zs_labels){.images = CODES, .attrs = 2};
    l->names = zs_calloc(2, sizeof *l->names);
    l->names[0] = zs_str_dup("first");
    l->names[1] = zs_str_dup("second");
    l->value = zs_alloc(2 * CODES, 1);
    l->yes = zs_calloc(2, sizeof *l->yes);
    l->no = zs_calloc(2, sizeof *l->no);
    for (int i = 0; i < CODES; i++) {
        l->value[2 * i] = c->z[i * DIM] > 0.0f;
        l->value[2 * i + 1] = (int8_t)(i % 8 ? ZS_LABEL_UNKNOWN : c->z[i * DIM + 1] > 0.0f);
    }
}

/* Cosine between the trained row of an attribute and axis `k`. */
static double cosine(const zs_probe *p, int attr, int k)
{
    double square = 0.0;
    for (int i = 0; i < DIM; i++)
        square += pow((double)p->w[attr * DIM + i], 2.0);
    return (double)p->w[attr * DIM + k] / sqrt(square);
}

static void finds_directions(void **state)
{
    static const struct {
        int64_t shots;
        bool unlabelled;
        double least;
    } cases[] = {{0, false, 0.99}, {50, false, 0.8}, {100, true, 0.6}};
    (void)state;
    zs_codes c;
    zs_labels l;
    zs_error err = {0};
    bool use[CODES];
    make_codes(&c, &l);
    memset(use, 1, sizeof use);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zs_probe *p = NULL;
        zs_probe_fit fit = zs_probe_fit_defaults();
        fit.samples = 32 * 1500;
        fit.shots = cases[i].shots;
        fit.unlabelled = cases[i].unlabelled;
        assert_int_equal(zs_probe_new(&p, (const char *const *)l.names, 2, DIM, &err), ZS_OK);
        must(zs_probe_train(p, &c, &l, use, &fit, NULL, &err), &err);
        double cos0 = cosine(p, 0, 0), cos1 = cosine(p, 1, 1);
        print_message("shots %lld: cosines %.3f %.3f\n", (long long)fit.shots, cos0, cos1);
        assert_true(cos0 > cases[i].least && cos1 > (i == 0 ? 0.9 : cases[i].least));
        zs_probe_free(&p);
    }
    zs_codes_free(&c);
    zs_labels_close(&l);
}

/* Moving by 1/sqrt(dim) is one unit along the row, and only along it. */
static void moves(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_probe *p = NULL;
    float z[4] = {1, 2, 3, 4};
    assert_int_equal(zs_probe_new(&p, (const char *const[]){"Smiling", "smiling"}, 2, 4, &err),
                     ZS_OK);
    p->w[0] = 3.0f;
    p->w[1] = 4.0f;
    p->avg_w[0] = 1.0f;
    p->avg_b[0] = -1.0f;
    assert_int_equal(zs_probe_find(p, "Smiling", &err), 0);
    assert_int_equal(zs_probe_find(p, "smiling", &err), 1);
    assert_int_equal(zs_probe_find(p, "SMILING", &err), 0);
    zs_probe_move(p, 0, 0.5, z); /* 0.5 * sqrt(4) = 1 along (0.6, 0.8) */
    assert_true(fabsf(z[0] - 1.6f) < 1e-6f && fabsf(z[1] - 2.8f) < 1e-6f && z[2] >= 3.0f);
    z[0] = 1.0f;
    assert_true(fabs(zs_probe_probability(p, 0, z) - 0.5) < 1e-9);
    zs_probe_move(p, 1, 0.5, z); /* a row of zeroes has no direction */
    assert_true(fabsf(z[1] - 2.8f) < 1e-6f);
    assert_true(zs_probe_find(p, "frown", &err) < 0);
    zs_probe_take_directions(p, p); /* those of the average: 1 along the first axis */
    zs_probe_move(p, 0, 0.5, z);
    assert_true(fabsf(z[0] - 2.0f) < 1e-6f && fabsf(z[1] - 2.8f) < 1e-6f);
    assert_true(p->b[0] < -0.5f && p->avg_b[0] < -0.5f);
    zs_probe_free(&p);
}

static int setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    const zs_model_config c = tiny_autoencoder(DIM);
    tiny_halves("data", IMAGES, true);
    tiny_bundle("base.safetensors", &c, 3, NULL, ZS_F32);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves),
        cmocka_unit_test(finds_directions),
        cmocka_unit_test(encodes_once),
        cmocka_unit_test(codes_are_of_one_size),
        cmocka_unit_test(takes_over_from_other_ranks),
        cmocka_unit_test(prior_resumes),
        cmocka_unit_test(probes_and_samples),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
