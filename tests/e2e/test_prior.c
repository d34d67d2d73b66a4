/* SPDX-License-Identifier: MIT */
/* Codes, prior, probe, new images: everything that is made on top of a trained autoencoder, on a
 * tiny one. */
#include "tasks/drawcodes.h"
#include "train/probefit.h"
#include "train/train.h"
#include "zsem/task.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { IMAGES = 80, SIZE = 8, DIM = 12 };

static char root[] = "/tmp/zsem-prior-XXXXXX";
static char data_dir[64], base[64];

static const char *path_of(const char *name)
{
    static char buf[64][256];
    static int next;
    char *p = buf[next++ % 64];
    (void)snprintf(p, sizeof buf[0], "%s/%s", root, name);
    return p;
}

static zs_model_config tiny_model(void)
{
    return (zs_model_config){.name = "tiny",
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
                             .diffusion = zs_process_diffae,
                             .latent = zs_process_diffae_latent};
}

/* Two classes: bright on the left, bright on the right. */
static void write_image(int k)
{
    uint8_t px[SIZE * SIZE];
    char name[64];
    zs_error err = {0};
    for (int i = 0; i < SIZE * SIZE; i++)
        px[i] = (uint8_t)((i % SIZE < SIZE / 2) == k % 2 ? 200 + k % 7 : 20 + i + k % 11);
    const zs_image im = {.w = SIZE, .h = SIZE, .c = 1, .px = px};
    (void)snprintf(name, sizeof name, "data/%s/%02d.png", k % 2 ? "left" : "right", k);
    if (zs_image_write_png(path_of(name), &im, &err) < 0)
        fail_msg("%s", err.message);
}

static void write_base(void)
{
    zs_error err = {0};
    zs_model_config c = tiny_model();
    zs_params *ps = NULL;
    assert_int_equal(zs_model_layout(&ps, &c, &err), ZS_OK);
    float *w = zs_alloc((size_t)zs_params_numel(ps), sizeof *w);
    zs_params_init(ps, w, 3);
    for (int64_t i = 0; i < zs_params_numel(ps); i++) /* what starts at zero would give nothing */
        w[i] += 0.02f * sinf((float)i);
    const zs_bundle b = {.config = &c, .params = ps, .weights = w};
    if (zs_bundle_write(base, &b, ZS_F32, &err) < 0)
        fail_msg("%s", err.message);
    zs_free(w);
    zs_params_free(&ps);
}

static zs_model *open_base(void)
{
    zs_model *m = NULL;
    zs_error err = {0};
    if (zs_model_open(&m, base, NULL, &err) < 0)
        fail_msg("%s", err.message);
    return m;
}

static int stop_at(void *ctx, const zs_progress *p)
{
    return p->done >= *(const double *)ctx;
}

/* ---- codes ---- */

static void encodes_once(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_model *m = open_base();
    zs_source *s = NULL, *other = NULL;
    zs_codes whole = {0}, cut = {0};
    double at = 1.0;
    const zs_ui stop = {.ctx = &at, .progress = stop_at};
    assert_int_equal(zs_source_open(&s, data_dir, &err), ZS_OK);
    assert_int_equal(zs_codes_load(&whole, path_of("w.safetensors"), m, s, 3, NULL, &err), ZS_OK);
    assert_int_equal(zs_codes_load(&cut, path_of("c.safetensors"), m, s, 3, &stop, &err),
                     ZS_E_CANCELLED);
    assert_int_equal(access(path_of("c.safetensors.part"), F_OK), 0);
    err = (zs_error){0};
    /* a row that a killed process left behind its last whole batch is made again, with the batch */
    assert_int_equal(truncate(path_of("c.safetensors.part"), 64 + 5 * DIM * sizeof(float)), 0);
    assert_int_equal(zs_codes_load(&cut, path_of("c.safetensors"), m, s, 3, NULL, &err), ZS_OK);
    assert_int_not_equal(access(path_of("c.safetensors.part"), F_OK), 0);
    assert_int_equal(cut.n, IMAGES);
    assert_memory_equal(cut.z, whole.z, 3 * IMAGES * DIM * sizeof(float));
    for (int64_t k = 0; k < DIM; k++) /* z-normalised over everything */
        assert_true(whole.std[k] > 0.0f && isfinite(whole.mean[k]));
    assert_true(memcmp(whole.z, whole.z + IMAGES * DIM, IMAGES * DIM * sizeof(float)) != 0);
    zs_codes_free(&cut);
    assert_int_equal(zs_source_open(&other, path_of("data/left"), &err), ZS_OK);
    assert_int_equal(zs_codes_load(&cut, path_of("w.safetensors"), m, other, 3, NULL, &err),
                     ZS_E_INVALID);
    assert_non_null(strstr(err.message, "w.safetensors"));
    zs_codes_free(&whole);
    zs_source_close(&s);
    zs_source_close(&other);
    zs_model_close(&m);
}

/* ---- prior ---- */

static zs_train_config prior_run(zs_model *m, const char *out)
{
    zs_train_config c = zs_train_defaults();
    c.model = tiny_model();
    c.model.latent_mlp = (zs_latent_mlp_config){
        .z_dim = DIM, .hidden = 24, .layers = 3, .skips = 6, .time_channels = 8};
    c.base = m;
    c.views = 2;
    c.batch = 32;
    c.dropout = 0.0;
    c.optim.lr = 3e-3;
    c.optim.ema = 0.9;
    c.images = 32 * 60;
    c.data = data_dir;
    c.out = out;
    c.log_steps = 10;
    c.checkpoint_steps = 20;
    c.preview_images = 32 * 60;
    return c;
}

static float *weights_of(const char *run, size_t *n)
{
    zs_model *m = NULL;
    zs_error err = {0};
    if (zs_model_open(&m, run, NULL, &err) < 0)
        fail_msg("%s", err.message);

    *n = (size_t)zs_params_numel(zs_model_params(m));
    float *w = zs_alloc(*n, sizeof *w);
    memcpy(w, zs_model_weights(m), *n * sizeof *w);
    assert_true(zs_model_has(m, ZS_BOX_PRIOR) && zs_model_z_mean(m));
    zs_model_close(&m);
    return w;
}

static void prior_resumes(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_train_report r;
    zs_model *m = open_base();
    double at = 32 * 33;
    const zs_ui stop = {.ctx = &at, .progress = stop_at};
    zs_train_config c = prior_run(m, path_of("whole"));
    if (zs_train_run(&c, NULL, &r, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(r.rep_fd >= 0.0 && isfinite(r.rep_fd));
    assert_true(r.loss < 0.8); /* E|eps| of a guess of 0 */
    c.out = path_of("cut");
    assert_int_equal(zs_train_run(&c, &stop, &r, &err), ZS_E_CANCELLED);
    err = (zs_error){0};
    if (zs_train_run(&c, NULL, &r, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(r.step, 60);
    size_t n, k;
    float *a = weights_of(path_of("whole"), &n), *b = weights_of(path_of("cut"), &k);
    assert_int_equal(n, k);
    assert_memory_equal(a, b, n * sizeof *a);
    c.views = 1; /* another run than the folder's */
    assert_int_equal(zs_train_run(&c, NULL, &r, &err), ZS_E_INVALID);
    zs_free(a);
    zs_free(b);
    zs_model_close(&m);
}

/* ---- tasks ---- */

typedef struct option {
    const char *name, *value;
} option;

/* Runs a task; the JSON of its result (owned), or NULL with *err set. */
static json_t *task(const char *name, const char *const *args, const option *options, zs_error *err)
{
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    json_t *j = NULL;
    *err = (zs_error){0};
    int status = zs_task_call_new(&c, name, err);
    for (; status == ZS_OK && *args; args++)
        status = zs_task_call_add(c, *args, err);
    for (; status == ZS_OK && options->name; options++)
        status = zs_task_call_set(c, options->name, options->value, err);
    if (status == ZS_OK)
        status = zs_task_run(c, NULL, &r, err);
    if (status == ZS_OK)
        j = json_loads(r.json, 0, NULL);
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
    return j;
}

static json_t *must(json_t *j, const zs_error *err)
{
    if (!j)
        fail_msg("%s", err->message);
    return j;
}

static void same_file(const char *a, const char *b)
{
    char x[4096], y[4096];
    FILE *f = fopen(path_of(a), "rb"), *g = fopen(path_of(b), "rb");
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
    zs_error err;
    const char *whole = path_of("whole"), *probe = path_of("probe");
    json_t *j = must(task("train", (const char *const[]){"probe", whole, NULL},
                          (const option[]){{"data", data_dir},
                                           {"out", probe},
                                           {"images", "6400"},
                                           {"set", "lr=0.02"},
                                           {NULL, NULL}},
                          &err),
                     &err);
    assert_true(json_number_value(json_object_get(j, "mean_auroc")) > 0.95);
    json_decref(j);
    /* the number of an image decides what it is, not how many there are */
    j = must(task("sample", (const char *const[]){probe, NULL},
                  (const option[]){{"n", "5"},
                                   {"steps", "5"},
                                   {"device", "cpu-ref"},
                                   {"out", path_of("s5")},
                                   {NULL, NULL}},
                  &err),
             &err);
    json_decref(j);
    j = must(task("sample", (const char *const[]){probe, NULL},
                  (const option[]){{"n", "3"},
                                   {"steps", "5"},
                                   {"batch", "2"},
                                   {"device", "cpu-ref"},
                                   {"predict-x0", NULL},
                                   {"out", path_of("s3")},
                                   {NULL, NULL}},
                  &err),
             &err);
    json_decref(j);
    same_file("s5/000002.png", "s3/000002.png");
    assert_int_equal(access(path_of("s3/predict-x0.png"), F_OK), 0);
    j = must(
        task(
            "sample", (const char *const[]){probe, NULL},
            (const option[]){
                {"n", "4"}, {"steps", "2"}, {"attr", "left"}, {"out", path_of("sl")}, {NULL, NULL}},
            &err),
        &err);
    double rate = json_number_value(json_object_get(j, "acceptance_rate"));
    assert_true(rate > 0.02 && rate <= 1.0);
    json_decref(j);
    j = must(task("edit", (const char *const[]){probe, path_of("data/left/01.png"), NULL},
                  (const option[]){{"attr", "right=0.5"},
                                   {"strip", "3"},
                                   {"steps", "5"},
                                   {"out", path_of("e")},
                                   {NULL, NULL}},
                  &err),
             &err);
    json_decref(j);
    assert_int_equal(access(path_of("e/edit-000-02.png"), F_OK), 0);
}

/* One clear sentence each, and nothing written. */
static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model;
        option o;
        const char *says;
    } cases[] = {{"sample", "base.safetensors", {"n", "1"}, "zsem train prior"},
                 {"sample", "probe", {"attr", "top"}, "left"},
                 {"sample", "probe", {"class", "2"}, "2 classes"},
                 {"sample", "probe", {"prior-steps", "999"}, "steps"},
                 {"sample", "probe", {"sampler", "ddim-invert"}, "dpm++2m"},
                 {"sample", "whole", {"attr", "left"}, "zsem train probe"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zs_error err;
        json_t *j = task(cases[i].name, (const char *const[]){path_of(cases[i].model), NULL},
                         (const option[]){cases[i].o, {"out", path_of("no")}, {NULL, NULL}}, &err);
        assert_null(j);
        if (!strstr(err.message, cases[i].says))
            fail_msg("case %zu says: %s", i, err.message);
    }
    zs_error err;
    assert_null(
        task("train", (const char *const[]){"probe", base, NULL},
             (const option[]){
                 {"data", data_dir}, {"out", path_of("few")}, {"shots", "1000"}, {NULL, NULL}},
             &err));
    assert_non_null(strstr(err.message, "1000 are needed"));
    assert_null(task("train", (const char *const[]){"probe", base, NULL},
                     (const option[]){{"data", data_dir}, {"out", path_of("whole")}, {NULL, NULL}},
                     &err)); /* a run of its own */
    assert_non_null(strstr(err.message, "is the folder of a training run"));
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
        if (zs_probe_train(p, &c, &l, use, &fit, NULL, &err) < 0)
            fail_msg("%s", err.message);
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
    zs_probe_free(&p);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    (void)snprintf(data_dir, sizeof data_dir, "%s/data", root);
    (void)snprintf(base, sizeof base, "%s/base.safetensors", root);
    if (mkdir(data_dir, 0755) != 0 || mkdir(path_of("data/left"), 0755) != 0 ||
        mkdir(path_of("data/right"), 0755) != 0)
        return -1;
    for (int k = 0; k < IMAGES; k++)
        write_image(k);
    write_base();
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves),
        cmocka_unit_test(finds_directions),
        cmocka_unit_test(encodes_once),
        cmocka_unit_test(prior_resumes),
        cmocka_unit_test(probes_and_samples),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
