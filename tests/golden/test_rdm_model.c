/* SPDX-License-Identifier: MIT */
/* The authors' files of representation diffusion models as models: what they hold, apply through
 * files, bundles, and files that are not what they seem. */
#include "tests/golden/golden.h"

#include "zsem/task.h"

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
static char in_path[64], out_path[64];

static void must(int status, const zs_error *err)
{
    if (status < 0)
        fail_msg("%s", err->message);
}

static void need(void)
{
    if (golden_has_file(SET, "golden-uncond.safetensors"))
        return;
    print_message("SKIPPED: no golden files for %s; set ZSEM_GOLDENS to the folder that has them\n",
                  SET);
    skip();
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

static void refuse(const char *path, int status, const char *text)
{
    zs_model *m = NULL;
    zs_error err = {0};
    assert_int_equal(zs_model_open(&m, path, NULL, &err), status);
    if (!strstr(err.message, text))
        fail_msg("'%s' does not say '%s'", err.message, text);
}

static void check(const char *what, const float *got, const float *want, size_t n, double tolerance)
{
    double e = golden_max_error(got, want, n);
    print_message("%-28s error %.1e\n", what, e);
    if (!(e <= tolerance))
        fail_msg("%s: error %g above %g", what, e, tolerance);
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
    size_t n;
    float *x = golden_nhwc(f, "image", &xs), *want = golden_f32(f, "rep", &n), z[BATCH * DIM];
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
        check("representation", z, want, n, 1e-4);
        zs_model_close(&m);
    }
    zs_free(x);
    zs_free(want);
    zs_tensorfile_close(&f);
}

/* ---- apply ---- */

typedef struct renamed {
    const char *golden, *name;
} renamed;

static void make_input(const char *variant, const renamed *r, size_t n)
{
    char name[64];
    zs_tensorout t[8];
    zs_error err = {0};
    size_t count;
    (void)snprintf(name, sizeof name, "golden-%s.safetensors", variant);
    zs_tensorfile *f = golden_open(SET, name);
    for (size_t i = 0; i < n; i++) {
        const zs_tensorinfo *info =
            zs_tensorfile_info(f, (size_t)zs_tensorfile_find(f, r[i].golden));
        bool whole = strlen(r[i].name) == 1; /* t, y */
        t[i] = (zs_tensorout){.name = r[i].name, .dtype = whole ? ZS_I64 : ZS_F32, .nd = info->nd};
        memcpy(t[i].shape, info->shape, sizeof t[i].shape);
        t[i].data = whole ? (void *)golden_i64(f, r[i].golden, &count)
                          : (void *)golden_f32(f, r[i].golden, &count);
    }
    zs_tensorfile_close(&f);
    must(zs_safetensors_write(in_path, t, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
}

static int apply(const char *function, const char *model, const char *steps, const char *eta,
                 zs_error *err)
{
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    const char *const options[][2] = {
        {"model", model}, {"in", in_path}, {"out", out_path}, {"steps", steps}, {"eta", eta}};
    must(zs_task_call_new(&c, "apply", err), err);
    must(zs_task_call_add(c, function, err), err);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        must(zs_task_call_set(c, options[i][0], options[i][1], err), err);
    int status = zs_task_run(c, NULL, &r, err);
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
    return status;
}

static void compare(const char *variant, const char *output, const char *want, double tolerance)
{
    char name[64];
    size_t n, m;
    zs_error err = {0};
    zs_tensorfile *out = NULL;
    (void)snprintf(name, sizeof name, "golden-%s.safetensors", variant);
    zs_tensorfile *g = golden_open(SET, name);
    must(zs_tensorfile_open(&out, out_path, &err), &err);
    float *a = golden_f32(out, output, &n), *b = golden_f32(g, want, &m);
    assert_int_equal(n, m);
    check(want, a, b, n, tolerance);
    zs_free(a);
    zs_free(b);
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
}

static void apply_all(const char *variant, const char *model)
{
    bool classes = strcmp(variant, "classcond") == 0;
    zs_error err = {0};
    make_input(variant, (renamed[]){{"fwd.x", "z_t"}, {"fwd.t", "t"}, {"label", "y"}},
               classes ? 3 : 2);
    must(apply("prior-eps", model, "1", "0", &err), &err);
    compare(variant, "out", "fwd.out_ema", 1e-5);
    make_input(variant,
               (renamed[]){{"x_T", "z_T"}, {"ddim25.eta0.noises", "noise"}, {"label", "y"}},
               classes ? 3 : 2);
    must(apply("prior-sample", model, "25", "0", &err), &err);
    compare(variant, "rep", "ddim25.eta0.sample", 1e-4);
    make_input(variant,
               (renamed[]){{"x_T", "z_T"}, {"ddim25.eta1.noises", "noise"}, {"label", "y"}},
               classes ? 3 : 2);
    must(apply("prior-sample", model, "25", "1", &err), &err);
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
    char path[64];
    zs_error err = {0};
    (void)snprintf(path, sizeof path, "/tmp/zsem-rdm-%ld.safetensors", (long)getpid());
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
        apply_all(variants[i], path);
    }
    (void)remove(path);
}

/* ---- what is refused ---- */

static void refuses_calls(void **state)
{
    (void)state;
    need();
    static const struct {
        const char *variant, *function, *steps, *text;
        renamed in[3];
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
        zs_error err = {0};
        size_t n = 0;
        while (n < 3 && bad[i].in[n].golden)
            n++;
        make_input(bad[i].variant, bad[i].in, n);
        assert_int_equal(
            apply(bad[i].function, checkpoint(bad[i].variant), bad[i].steps, "0", &err),
            ZS_E_INVALID);
        if (!strstr(err.message, bad[i].text))
            fail_msg("'%s' does not say '%s'", err.message, bad[i].text);
    }
}

/* The state dict of uncond.pth alone, as safetensors, with one tensor left out, renamed, or
 * changed. */
typedef struct edit {
    const char *drop, *rename, *to, *scale;
} edit;

static const char *edited(const edit *e)
{
    static char path[64];
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
    (void)snprintf(path, sizeof path, "/tmp/zsem-rdm-%ld-edited.safetensors", (long)getpid());
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

static int setup(void **state)
{
    (void)state;
    (void)snprintf(in_path, sizeof in_path, "/tmp/zsem-rdm-%ld-in.safetensors", (long)getpid());
    (void)snprintf(out_path, sizeof out_path, "/tmp/zsem-rdm-%ld-out.safetensors", (long)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)remove(in_path);
    (void)remove(out_path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds),         cmocka_unit_test(brings_its_encoder),
        cmocka_unit_test(applies),       cmocka_unit_test(bundles),
        cmocka_unit_test(refuses_calls), cmocka_unit_test(refuses_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
