/* SPDX-License-Identifier: MIT */
/* zsem train prior --arch rdm and what is drawn from it, on a tiny autoencoder and on the encoder
 * of one alone. */
#include "tasks/drawcodes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/e2e/taskkit.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { IMAGES = 40, DIM = 12 };

/* An autoencoder and the encoder of it alone; pictures of two classes, and without a class. */
static int setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    zs_model_config c = tiny_autoencoder(DIM);
    tiny_bundle("base.safetensors", &c, 3, NULL, ZS_F32);
    zs_model_config_clear(&c, ZS_BOX_GENERATOR);
    tiny_bundle("encoder.safetensors", &c, 3, NULL, ZS_F32);
    tiny_halves("data", IMAGES, true);
    tiny_halves("plain", IMAGES, false);
    return 0;
}

static int train(const char *base, const char *data, const char *out, const char *steps,
                 bool classes, zs_error *err)
{
    const task_option o[] = {{"data", scratch_path("%s", data)},
                             {"out", scratch_path("%s", out)},
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
    return task_run(NULL, "train", TASK_ARGS("prior", scratch_path("%s", base)), o, err);
}

/* Stopped after four steps and gone on with: the same bits as eight at once. */
static void resumes(void **state)
{
    (void)state;
    zs_error err = {0};
    must(train("base.safetensors", "data", "whole", "8", true, &err), &err);
    must(train("base.safetensors", "data", "cut", "4", true, &err), &err);
    must(train("base.safetensors", "data", "cut", "8", true, &err), &err);
    tiny_same_weights("whole", "cut");
    zs_model *a = tiny_open(scratch_path("whole"));
    const zs_model_config *c = zs_model_configuration(a);
    assert_true(zs_model_has(a, ZS_BOX_GENERATOR) && zs_model_has(a, ZS_BOX_ENCODER));
    assert_int_equal(c->rdm.blocks, 2);
    assert_int_equal(c->rdm.z_dim, DIM);
    assert_int_equal(c->rdm.classes, 2);
    assert_string_equal(c->latent.spacing, "ldm");
    zs_model_close(&a);
}

/* The prior of a frozen encoder is a model of its own, and says which encoder. */
static void stands_alone(void **state)
{
    (void)state;
    zs_error err = {0};
    must(train("encoder.safetensors", "plain", "alone", "3", false, &err), &err);
    zs_model *m = tiny_open(scratch_path("alone"));
    const zs_model_config *c = zs_model_configuration(m);
    assert_true(zs_model_has(m, ZS_BOX_PRIOR) && !zs_model_has(m, ZS_BOX_ENCODER));
    assert_int_equal(c->rdm.classes, 1);
    assert_false(c->rdm.conditional);
    assert_string_equal(c->reps.name, "tiny");
    assert_true(c->reps.fingerprint[0]);
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
    zs_model *m = tiny_open(scratch_path("whole"));
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
    const char *const whole[] = {scratch_path("whole"), NULL};
    json_decref(task_must("sample", whole,
                          TASK_OPTIONS({"n", "3"}, {"steps", "5"}, {"prior-steps", "10"},
                                       {"class", "1"}, {"out", scratch_path("s1")})));
    json_decref(task_must("sample", whole,
                          TASK_OPTIONS({"n", "2"}, {"steps", "5"}, {"out", scratch_path("s")})));
}

static void refuses(void **state)
{
    (void)state;
    zs_error err = {0};
    must_refuse(train("base.safetensors", "plain", "x", "2", true, &err), &err, ZS_E_INVALID,
                "no classes");
    const task_option data = {"data", scratch_path("data")}, out = {"out", scratch_path("x")};
    const struct {
        const char *words;
        task_option o;
    } bad[] = {{"--arch foo", {"arch", "foo"}},
               {"only an rdm", {"class-cond", NULL}},
               {"do not go together", {"preset", "rdm-small"}},
               {"a prior has the keys", {"set", "width=4"}}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const task_option o[] = {
            data, out, bad[i].o, {i == 0 ? NULL : "arch", "latent_mlp"}, {NULL, NULL}};
        task_refused("train", TASK_ARGS("prior", scratch_path("base.safetensors")), o,
                     bad[i].words);
    }
    task_refused("sample", TASK_ARGS(scratch_path("whole")), TASK_OPTIONS(out, {"class", "2"}),
                 "knows 2 classes");
    task_refused("sample", TASK_ARGS(scratch_path("whole")),
                 TASK_OPTIONS(out, {"prior-steps", "1000"}), "past the end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumes),
        cmocka_unit_test(stands_alone),
        cmocka_unit_test(draws),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
