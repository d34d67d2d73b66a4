/* SPDX-License-Identifier: MIT */
/* The authors' files of representation diffusion models as models: what they hold, apply through
 * files, bundles, and files that are not what they seem. */
#include "tests/golden/applykit.h"
#include "tests/unit/must.h"

#include "io/io.h"
#include "train/generate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "rcg-rdm";
static const char *const variants[] = {"uncond", "classcond"};
enum { BATCH = 3, DIM = 32 };

static void need(void)
{
    golden_need_file(SET, "golden-uncond.safetensors");
}

static const char *file_of(const char *name)
{
    static char path[512];
    if (!golden_path(path, SET, name))
        fail_msg("no %s in %s", name, SET);
    return path;
}

static const char *checkpoint(const char *variant)
{
    char name[32];
    (void)snprintf(name, sizeof name, "%s.pth", variant);
    return file_of(name);
}

static zs_model *open_model(const char *path, bool raw)
{
    static const char *const heads[] = {"encoder.heads=4", NULL};
    zs_model *m = NULL;
    zs_error err = {0};
    must(zs_model_open(&m, path, &(zs_model_options){.raw = raw, .set = heads}, &err), &err);
    return m;
}

static void refuse(const char *path, int status, const char *words)
{
    zs_model *m = NULL;
    zs_error err = {0};
    must_refuse(zs_model_open(&m, path, NULL, &err), &err, status, words);
}

/* ---- what a file holds ---- */

static bool has_fact(const zs_model *m, const char *key, const char *value)
{
    size_t n;
    const zs_fact *f = zs_model_facts(m, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(f[i].key, key) == 0 && strstr(f[i].value, value))
            return true;
    return false;
}

static void holds(void **state)
{
    (void)state;
    need();
    zs_model *m = open_model(checkpoint("classcond"), false);
    const zs_model_config *c = zs_model_configuration(m);
    assert_true(zs_model_has(m, ZS_BOX_PRIOR) && zs_model_has(m, ZS_BOX_ENCODER));
    assert_false(zs_model_has(m, ZS_BOX_GENERATOR));
    assert_int_equal(c->rdm.blocks, 3);
    assert_int_equal(c->rdm.bottleneck, 80);
    assert_true(c->rdm.conditional && c->rdm.classes == 10);
    assert_string_equal(c->latent.beta_schedule, "sqrt0.0015:0.0195");
    assert_string_equal(c->latent.prediction, "x0");
    assert_true(has_fact(m, "architecture", "3 blocks of 96 channels"));
    assert_true(has_fact(m, "weights of the prior", "moving average of 300 steps"));
    assert_true(has_fact(m, "prediction of the prior", "x0") && has_fact(m, "epoch", "199"));
    zs_model_close(&m);
    m = open_model(checkpoint("uncond"), true);
    assert_true(has_fact(m, "weights of the prior", "raw") &&
                has_fact(m, "classes of the prior", "none"));
    zs_model_close(&m);
}

/* The encoder of the file is that of its own: one of the same make is welcome, in any order. */
static void brings_its_encoder(void **state)
{
    (void)state;
    need();
    char spec[1200], encoder[512];
    zs_shape xs;
    zs_error err = {0};
    zs_tensorfile *f = golden_open(SET, "golden-uncond.safetensors");
    float *x = golden_nhwc(f, "image", &xs), z[BATCH * DIM];
    (void)snprintf(encoder, sizeof encoder, "%s", file_of("enc.pth.tar"));
    for (int i = 0; i < 3; i++) {
        const char *own = checkpoint("uncond");
        (void)snprintf(spec, sizeof spec, "%s%s%s", i == 1 ? encoder : own, i ? "," : "",
                       i == 0   ? ""
                       : i == 1 ? own
                                : encoder);
        zs_model *m = open_model(spec, false);
        for (int64_t k = 0; i == 0 && k < zs_shape_numel(&xs); k++)
            x[k] = 2.0f * x[k] - 1.0f; /* the file's are in [0,1] */
        must(zs_model_encode(m, z, x, xs, &err), &err);
        golden_agrees(f, "rep", "", z, BATCH * DIM, 1e-4);
        zs_model_close(&m);
    }
    zs_free(x);
    zs_tensorfile_close(&f);
}

/* ---- apply ---- */

static const char *golden_of(const char *variant)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "golden-%s.safetensors", variant);
    return name;
}

static void apply(const char *variant, const char *model, const char *function,
                  const apply_tensor *in, const task_option *options)
{
    apply_input_of(SET, golden_of(variant), in);
    apply_run(function, model, options);
}

static void compare(const char *variant, const char *output, const char *want, double tolerance)
{
    apply_compare(output, SET, golden_of(variant), want, golden_max_error, tolerance);
}

static void apply_all(const char *variant, const char *model)
{
    const char *label = strcmp(variant, "classcond") == 0 ? "label" : NULL;
    const apply_tensor fwd[] = {{"fwd.x", "z_t"}, {"fwd.t", "t"}, {label, "y"}, {NULL, NULL}};
    const apply_tensor eta0[] = {
        {"x_T", "z_T"}, {"ddim25.eta0.noises", "noise"}, {label, "y"}, {NULL, NULL}};
    const apply_tensor eta1[] = {
        {"x_T", "z_T"}, {"ddim25.eta1.noises", "noise"}, {label, "y"}, {NULL, NULL}};
    apply(variant, model, "prior-eps", fwd, NULL);
    compare(variant, "out", "fwd.out_ema", 1e-5);
    apply(variant, model, "prior-sample", eta0, TASK_OPTIONS({"steps", "25"}, {"eta", "0"}));
    compare(variant, "rep", "ddim25.eta0.sample", 1e-4);
    apply(variant, model, "prior-sample", eta1, TASK_OPTIONS({"steps", "25"}, {"eta", "1"}));
    compare(variant, "rep", "ddim25.eta1.sample", 1e-4);
}

static void applies(void **state)
{
    (void)state;
    need();
    for (int i = 0; i < 2; i++)
        apply_all(variants[i], checkpoint(variants[i]));
}

/* A bundle is the same model. */
static void bundles(void **state)
{
    (void)state;
    need();
    const char *path = scratch_path("bundle.safetensors");
    zs_error err = {0};
    for (int i = 0; i < 2; i++) {
        zs_model *m = open_model(checkpoint(variants[i]), false), *again = NULL;
        must(zs_model_save(m, path, ZS_F32, &err), &err);
        must(zs_model_open(&again, path, NULL, &err), &err);
        assert_int_equal(zs_params_numel(zs_model_params(m)),
                         zs_params_numel(zs_model_params(again)));
        assert_memory_equal(zs_model_weights(m), zs_model_weights(again),
                            (size_t)zs_params_numel(zs_model_params(m)) * sizeof(float));
        json_t *a = zs_model_config_to_json(zs_model_configuration(m));
        json_t *b = zs_model_config_to_json(zs_model_configuration(again));
        assert_true(json_equal(a, b));
        json_decref(a);
        json_decref(b);
        zs_model_close(&m);
        zs_model_close(&again);
        apply_all(variants[i], scratch_path("bundle.safetensors"));
    }
}

/* ---- what is refused ---- */

static void refuses_calls(void **state)
{
    (void)state;
    need();
    static const struct {
        const char *variant, *function, *steps, *text;
        apply_tensor in[3];
    } bad[] = {
        {"classcond", "prior-sample", "25", "needs a tensor 'y'", {{"x_T", "z_T"}}},
        {"classcond", "prior-sample", "25", "outside 0..9", {{"x_T", "z_T"}, {"fwd.t", "y"}}},
        {"uncond", "prior-sample", "1000", "past the end", {{"x_T", "z_T"}}},
        {"uncond", "prior-sample", "30", "31 times", {{"x_T", "z_T"}, {"x_T", "noise"}}},
        {"uncond",
         "prior-eps",
         "1",
         "columns",
         {{"train.final.model.diffusion_model.out.2.weight", "z_t"}, {"fwd.t", "t"}}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        apply_input_of(SET, golden_of(bad[i].variant), bad[i].in);
        apply_refused(bad[i].function, checkpoint(bad[i].variant),
                      TASK_OPTIONS({"steps", bad[i].steps}, {"eta", "0"}), bad[i].text);
    }
}

/* The state dict of uncond.pth alone, as safetensors, with one tensor left out, renamed, or
 * changed. */
typedef struct edit {
    const char *drop, *rename, *to, *scale;
} edit;

static const char *edited(const edit *e)
{
    const char *path = scratch_path("edited.safetensors");
    static zs_tensorout t[512];
    zs_error err = {0};
    size_t n = 0;
    zs_tensorfile *f = golden_open(SET, "uncond.pth");
    for (size_t i = 0; i < zs_tensorfile_count(f); i++) {
        const zs_tensorinfo *info = zs_tensorfile_info(f, i);
        const char *name = info->name + strlen("model.");
        size_t count;
        if (!zs_str_starts(info->name, "model.") || (e->drop && strcmp(name, e->drop) == 0))
            continue;
        assert_true(n < 512);
        float *data = golden_f32(f, info->name, &count);
        if (e->scale && strcmp(name, e->scale) == 0)
            data[count / 2] *= 1.5f;
        t[n] = (zs_tensorout){.name = e->rename && strcmp(name, e->rename) == 0 ? e->to : name,
                              .dtype = ZS_F32,
                              .nd = info->nd,
                              .data = data};
        memcpy(t[n++].shape, info->shape, sizeof t[0].shape);
    }
    must(zs_safetensors_write(path, t, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
    zs_tensorfile_close(&f);
    return path;
}

static void refuses_files(void **state)
{
    (void)state;
    need();
    const char *path = edited(&(edit){0});
    zs_model *m = open_model(path, false); /* a bare state dict is fine */
    assert_true(has_fact(m, "weights of the prior", "moving average of 300 steps"));
    zs_model_close(&m);
    edited(&(edit){.drop = "cond_stage_model.embedding.weight"});
    refuse(path, ZS_E_FORMAT, "cond_stage_model.embedding.weight is missing");
    edited(&(edit){.drop = "model_ema.diffusion_modelout0bias"});
    refuse(path, ZS_E_FORMAT, "model_ema.diffusion_modelout0bias");
    edited(&(edit){.rename = "model.diffusion_model.res_blocks.1.in_layers.0.bias",
                   .to = "model.diffusion_model.res_blocks.1.gate"});
    refuse(path, ZS_E_UNSUPPORTED, "res_blocks.1.gate");
    edited(&(edit){.scale = "betas"});
    refuse(path, ZS_E_UNSUPPORTED, "schedule");
    edited(&(edit){.drop = "betas"});
    m = open_model(path, false);
    assert_true(has_fact(m, "latent_beta_schedule", "sqrt0.0015:0.0195"));
    zs_model_close(&m);
    edited(&(edit){.drop = "model.diffusion_model.time_embed.0.weight"});
    refuse(path, ZS_E_FORMAT, "time_embed.0.weight");
    (void)remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds),         cmocka_unit_test(brings_its_encoder),
        cmocka_unit_test(applies),       cmocka_unit_test(bundles),
        cmocka_unit_test(refuses_calls), cmocka_unit_test(refuses_files),
    };
    return cmocka_run_group_tests(tests, apply_setup, apply_teardown);
}
