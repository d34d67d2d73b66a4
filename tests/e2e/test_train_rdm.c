/* SPDX-License-Identifier: MIT */
/* zsem train prior --arch rdm and what is drawn from it, on a tiny autoencoder and on the encoder
 * of one alone. */
#include "io/io.h"
#include "models/models.h"
#include "tasks/drawcodes.h"
#include "zsem/task.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { IMAGES = 40, SIZE = 8, DIM = 12 };

static char root[] = "/tmp/zsem-rdm-XXXXXX";

static const char *path_of(const char *name)
{
    static char buf[32][256];
    static int next;
    char *p = buf[next++ % 32];
    (void)snprintf(p, sizeof buf[0], "%s/%s", root, name);
    return p;
}

static void must(int status, const zs_error *err)
{
    if (status < 0)
        fail_msg("%s", err->message);
}

/* Weights of a tiny autoencoder, or of its encoder alone. */
static void write_base(const char *path, bool alone)
{
    zs_error err = {0};
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
                         .diffusion = zs_process_diffae,
                         .latent = zs_process_diffae_latent};
    zs_params *ps = NULL;
    if (alone)
        zs_model_config_clear(&c, ZS_BOX_GENERATOR);
    must(zs_model_layout(&ps, &c, &err), &err);
    float *w = zs_alloc((size_t)zs_params_numel(ps), sizeof *w);
    zs_params_init(ps, w, 3);
    for (int64_t i = 0; i < zs_params_numel(ps); i++) /* what starts at zero would give nothing */
        w[i] += 0.02f * sinf((float)i);
    const zs_bundle b = {.config = &c, .params = ps, .weights = w};
    must(zs_bundle_write(path, &b, ZS_F32, &err), &err);
    zs_free(w);
    zs_params_free(&ps);
}

/* Two classes: bright on the left, bright on the right; and images without a class. */
static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    const char *const dirs[] = {"data", "data/left", "data/right", "plain"};
    for (int i = 0; i < 4; i++)
        if (mkdir(path_of(dirs[i]), 0700) != 0)
            return -1;
    for (int k = 0; k < IMAGES; k++) {
        uint8_t px[SIZE * SIZE];
        char name[64];
        zs_error err = {0};
        for (int i = 0; i < SIZE * SIZE; i++)
            px[i] = (uint8_t)((i % SIZE < SIZE / 2) == k % 2 ? 200 + k % 7 : 20 + i + k % 11);
        const zs_image im = {.w = SIZE, .h = SIZE, .c = 1, .px = px};
        (void)snprintf(name, sizeof name, "data/%s/%02d.png", k % 2 ? "left" : "right", k);
        must(zs_image_write_png(path_of(name), &im, &err), &err);
        (void)snprintf(name, sizeof name, "plain/%02d.png", k);
        must(zs_image_write_png(path_of(name), &im, &err), &err);
    }
    write_base(path_of("base.safetensors"), false);
    write_base(path_of("encoder.safetensors"), true);
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    (void)snprintf(cmd, sizeof cmd, "rm -rf %s", root);
    return system(cmd);
}

typedef struct option {
    const char *name, *value; /* value NULL: a flag */
} option;

static int call(const char *task, const char *first, const char *second, const option *o,
                zs_error *err)
{
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    must(zs_task_call_new(&c, task, err), err);
    must(zs_task_call_add(c, first, err), err);
    if (second)
        must(zs_task_call_add(c, second, err), err);
    for (; o->name; o++)
        must(zs_task_call_set(c, o->name, o->value, err), err);
    int status = zs_task_run(c, NULL, &r, err);
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
    return status;
}

static int train(const char *base, const char *data, const char *out, const char *steps,
                 bool classes, zs_error *err)
{
    const option o[] = {{"data", path_of(data)},
                        {"out", path_of(out)},
                        {"arch", "rdm"},
                        {"set", "width=16"},
                        {"set", "blocks=2"},
                        {"set", "bottleneck=24"},
                        {"set", "time_channels=8"},
                        {"set", "class_dim=6"},
                        {"batch", "16"},
                        {"steps", steps},
                        {"checkpoint-every", "3"},
                        {classes ? "class-cond" : NULL, NULL},
                        {NULL, NULL}};
    return call("train", "prior", path_of(base), o, err);
}

static zs_model *open_run(const char *name)
{
    zs_model *m = NULL;
    zs_error err = {0};
    must(zs_model_open(&m, path_of(name), NULL, &err), &err);
    return m;
}

/* Stopped after four steps and gone on with: the same bits as eight at once. */
static void resumes(void **state)
{
    (void)state;
    zs_error err = {0};
    must(train("base.safetensors", "data", "whole", "8", true, &err), &err);
    must(train("base.safetensors", "data", "cut", "4", true, &err), &err);
    must(train("base.safetensors", "data", "cut", "8", true, &err), &err);
    zs_model *a = open_run("whole"), *b = open_run("cut");
    const zs_model_config *c = zs_model_configuration(a);
    assert_true(zs_model_has(a, ZS_BOX_GENERATOR) && zs_model_has(a, ZS_BOX_ENCODER));
    assert_int_equal(c->rdm.blocks, 2);
    assert_int_equal(c->rdm.z_dim, DIM);
    assert_int_equal(c->rdm.classes, 2);
    assert_string_equal(c->latent.spacing, "ldm");
    assert_memory_equal(zs_model_weights(a), zs_model_weights(b),
                        (size_t)zs_params_numel(zs_model_params(a)) * sizeof(float));
    zs_model_close(&a);
    zs_model_close(&b);
}

/* The prior of a frozen encoder is a model of its own, and says which encoder. */
static void stands_alone(void **state)
{
    (void)state;
    zs_error err = {0};
    must(train("encoder.safetensors", "plain", "alone", "3", false, &err), &err);
    zs_model *m = open_run("alone");
    const zs_model_config *c = zs_model_configuration(m);
    assert_true(zs_model_has(m, ZS_BOX_PRIOR) && !zs_model_has(m, ZS_BOX_ENCODER));
    assert_int_equal(c->rdm.classes, 1);
    assert_false(c->rdm.conditional);
    assert_string_equal(c->rep_name, "tiny");
    assert_true(c->rep_fingerprint[0]);
    zs_model_close(&m);
}

/* Codes depend on the class, and not on how many are drawn at once. */
static void draws(void **state)
{
    (void)state;
    zs_error err = {0};
    float z[4][6 * DIM];
    int64_t tried;
    const int64_t cls[] = {0, 1, -1, -1}, batch[] = {6, 6, 6, 2};
    zs_model *m = open_run("whole");
    for (int i = 0; i < 4; i++) {
        const zs_code_draw d = {
            .model = m, .steps = 10, .eta = 1.0, .seed = 5, .batch = batch[i], .cls = cls[i]};
        must(zs_draw_codes(z[i], &tried, 6, &d, &err), &err);
    }
    assert_memory_not_equal(z[0], z[1], sizeof z[0]);
    int64_t y[6];
    zs_draw_classes(y, 6, -1, zs_class_count(m, ZS_BOX_PRIOR), 5, 0);
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < DIM; k++) {
            float got = z[2][i * DIM + k];
            assert_true(fabsf(got - z[y[i]][i * DIM + k]) <= 1e-4f * fabsf(got) + 1e-5f);
            assert_true(fabsf(got - z[3][i * DIM + k]) <= 1e-4f * fabsf(got) + 1e-5f);
        }
    zs_model_close(&m);
    const option o[] = {{"n", "3"},     {"steps", "5"},         {"prior-steps", "10"},
                        {"class", "1"}, {"out", path_of("s1")}, {NULL, NULL}};
    const option any[] = {{"n", "2"}, {"steps", "5"}, {"out", path_of("s")}, {NULL, NULL}};
    must(call("sample", path_of("whole"), NULL, o, &err), &err);
    must(call("sample", path_of("whole"), NULL, any, &err), &err);
}

static void refuse(int status, const zs_error *err, const char *text)
{
    assert_int_equal(status, ZS_E_INVALID);
    if (!strstr(err->message, text))
        fail_msg("'%s' does not say '%s'", err->message, text);
}

static void refuses(void **state)
{
    (void)state;
    zs_error err = {0};
    refuse(train("base.safetensors", "plain", "x", "2", true, &err), &err, "no classes");
    const struct {
        const char *text;
        option o;
    } bad[] = {{"--arch foo", {"arch", "foo"}},
               {"only an rdm", {"class-cond", NULL}},
               {"do not go together", {"preset", "rdm-small"}},
               {"a prior has the keys", {"set", "width=4"}}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const option o[] = {{"data", path_of("data")},
                            {"out", path_of("x")},
                            bad[i].o,
                            {i == 0 ? NULL : "arch", "latent_mlp"},
                            {NULL, NULL}};
        err = (zs_error){0};
        refuse(call("train", "prior", path_of("base.safetensors"), o, &err), &err, bad[i].text);
    }
    const struct {
        const char *text, *name, *value;
    } draw[] = {{"knows 2 classes", "class", "2"}, {"past the end", "prior-steps", "1000"}};
    for (size_t i = 0; i < 2; i++) {
        const option o[] = {{"out", path_of("x")}, {draw[i].name, draw[i].value}, {NULL, NULL}};
        err = (zs_error){0};
        refuse(call("sample", path_of("whole"), NULL, o, &err), &err, draw[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes),
        cmocka_unit_test(stands_alone),
        cmocka_unit_test(draws),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
