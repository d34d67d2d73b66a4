/* SPDX-License-Identifier: MIT */
/* The authors' ADM checkpoint as a model: what is read from it, every function of `zsem apply`
 * against their numbers, the bundle that it becomes, and what is refused. */
#include "tests/golden/golden.h"

#include "zsem/task.h"

#include "io/io.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "rcg-adm", RDM[] = "rcg-rdm";
static char folder[] = "/tmp/zsem-adm-XXXXXX";
static char model_path[512], in_path[64], out_path[64], bundle_path[64], images_path[64];

/* ---- calls ---- */

/* One tensor of the golden file under the name that apply wants. */
typedef struct renamed {
    const char *golden, *name;
} renamed;

static const renamed fwd[] = {{"fwd.x", "x_t"}, {"fwd.t", "t"}, {"rep", "rep"}, {NULL, NULL}};
static const renamed start[] = {{"x_T", "x_T"}, {"rep", "rep"}, {NULL, NULL}};

static void make_input(const renamed *r)
{
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_tensorout t[8];
    zs_error err = {0};
    size_t n = 0, count;
    for (; r[n].golden; n++) {
        const zs_tensorinfo *info =
            zs_tensorfile_info(f, (size_t)zs_tensorfile_find(f, r[n].golden));
        bool steps = strcmp(r[n].name, "t") == 0;
        t[n] = (zs_tensorout){.name = r[n].name, .dtype = steps ? ZS_I64 : ZS_F32, .nd = info->nd};
        memcpy(t[n].shape, info->shape, sizeof t[n].shape);
        t[n].data = steps ? (void *)golden_i64(f, r[n].golden, &count)
                          : (void *)golden_f32(f, r[n].golden, &count);
        if (strcmp(r[n].golden, "loss.image01") == 0)
            for (size_t i = 0; i < count; i++)
                ((float *)(uintptr_t)t[n].data)[i] = 2 * ((const float *)t[n].data)[i] - 1;
    }
    zs_tensorfile_close(&f);
    if (zs_safetensors_write(in_path, t, n, NULL, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
}

/* zsem apply FUNCTION with {option, value, ..., NULL}; the status. */
static int call(zs_error *err, const char *function, const char *model, const char *const *options)
{
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    int status = zs_task_call_new(&c, "apply", err);
    if (status == ZS_OK)
        status = zs_task_call_add(c, function, err);
    if (status == ZS_OK)
        status = zs_task_call_set(c, "model", model, err);
    if (status == ZS_OK)
        status = zs_task_call_set(c, "in", in_path, err);
    if (status == ZS_OK)
        status = zs_task_call_set(c, "out", out_path, err);
    for (; status == ZS_OK && options && *options; options += 2)
        status = zs_task_call_set(c, options[0], options[1], err);
    if (status == ZS_OK)
        status = zs_task_run(c, NULL, &r, err);
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
    return status;
}

static void apply(const char *function, const char *model, const char *const *options)
{
    zs_error err = {0};
    if (call(&err, function, model, options) < 0)
        fail_msg("apply %s: %s", function, err.message);
}

static void refused(const char *function, const char *const *options, const char *part)
{
    zs_error err = {0};
    assert_int_equal(call(&err, function, model_path, options), ZS_E_INVALID);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

/* Output `name` against tensor `want` of the golden file; shapes must agree too. */
static void compare(const char *name, const char *want, double tolerance)
{
    zs_error err = {0};
    size_t n, m;
    zs_tensorfile *out = NULL, *g = golden_open(SET, "golden.safetensors");
    if (zs_tensorfile_open(&out, out_path, &err) < 0)
        fail_msg("%s", err.message);
    const zs_tensorinfo *a = zs_tensorfile_info(out, (size_t)zs_tensorfile_find(out, name));
    const zs_tensorinfo *b = zs_tensorfile_info(g, (size_t)zs_tensorfile_find(g, want));
    assert_int_equal(a->nd, b->nd);
    assert_memory_equal(a->shape, b->shape, (size_t)a->nd * sizeof a->shape[0]);
    float *x = golden_f32(out, name, &n), *y = golden_f32(g, want, &m);
    double e = golden_norm_error(x, y, n);
    print_message("%-20s error %.1e\n", want, e);
    if (!(e <= tolerance))
        fail_msg("%s: error %g is above %g", want, e, tolerance);
    zs_free(x);
    zs_free(y);
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
}

/* ---- tests ---- */

static void knows_what_it_is(void **state)
{
    (void)state;
    golden_need(SET);
    zs_model *m = NULL;
    zs_error err = {0};
    if (zs_model_open(&m, model_path, NULL, &err) < 0)
        fail_msg("%s", err.message);
    const zs_model_config *c = zs_model_configuration(m);
    assert_int_equal(c->image_size, 16);
    assert_int_equal(c->adm.levels, 2);
    assert_int_equal(c->adm.ch[1], 64);
    assert_int_equal(c->adm.attn_levels, 1u << 1);
    assert_int_equal(c->adm.head_channels, 16);
    assert_int_equal(c->adm.rep_dim, 32);
    assert_int_equal(c->adm.num_res_blocks, 1);
    assert_true(c->adm.learn_sigma);
    assert_string_equal(c->diffusion.variance, "learned");
    assert_true(c->diffusion.clip);
    assert_string_equal(c->rep_name, "mocov3_vit_base");
    zs_model_close(&m);
}

static void predicts(void **state)
{
    static const char *const raw[] = {"raw", NULL, NULL};
    (void)state;
    golden_need(SET);
    make_input(fwd);
    apply("eps", model_path, NULL);
    compare("eps", "fwd.out", 1e-5);
    apply("eps", model_path, raw);
    compare("eps", "fwd.out_raw_weights", 1e-5);
}

static void samples(void **state)
{
    static const renamed ddpm[] = {
        {"x_T", "x_T"}, {"rep", "rep"}, {"p25.noises", "noise"}, {NULL, NULL}};
    static const renamed eta1[] = {
        {"x_T", "x_T"}, {"rep", "rep"}, {"ddim25.eta1.noises", "noise"}, {NULL, NULL}};
    (void)state;
    golden_need(SET);
    make_input(ddpm);
    apply("sample", model_path, (const char *[]){"sampler", "ddpm", "steps", "25", NULL});
    compare("x0", "p25.sample", 1e-3);
    make_input(start);
    apply("sample", model_path, (const char *[]){"sampler", "ddim", "steps", "25", NULL});
    compare("x0", "ddim25.eta0.sample", 1e-3);
    apply("decode", model_path, (const char *[]){"steps", "25", NULL});
    compare("x0", "ddim25.eta0.sample", 1e-3);
    make_input(eta1);
    apply("sample", model_path,
          (const char *[]){"sampler", "ddim", "steps", "25", "eta", "1", NULL});
    compare("x0", "ddim25.eta1.sample", 1e-3);
}

static void differentiates(void **state)
{
    static const renamed batch[] = {{"loss.image01", "x0"},
                                    {"loss.t", "t"},
                                    {"loss.noise", "noise"},
                                    {"loss.rep", "rep"},
                                    {NULL, NULL}};
    (void)state;
    golden_need(SET);
    make_input(batch);
    apply("grad", model_path, NULL);
    zs_tensorfile *out = NULL, *g = golden_open(SET, "golden.safetensors"),
                  *want = golden_gradients(SET);
    size_t n, count;
    assert_int_equal(zs_tensorfile_open(&out, out_path, NULL), ZS_OK);
    float *loss = golden_f32(out, "loss", &n), *each = golden_f32(g, "loss.loss", &count);
    double mean = 0;
    for (size_t i = 0; i < count; i++)
        mean += (double)each[i] / (double)count;
    assert_true(fabs((double)loss[0] - mean) < 1e-5 * mean);
    assert_int_equal(zs_tensorfile_count(out), golden_gradient_count(want) + 1);
    float *grad = golden_f32(out, "grad.rep_proj.weight", &n);
    double norm, e = golden_gradient_error(want, "rep_proj.weight", grad, n, &norm);
    assert_true(e < 1e-3);
    zs_free(loss);
    zs_free(each);
    zs_free(grad);
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
    zs_tensorfile_close(&want);
}

/* The bundle holds everything: no --set, no arguments of training. */
static void becomes_a_bundle(void **state)
{
    (void)state;
    golden_need(SET);
    zs_model *m = NULL;
    zs_error err = {0};
    assert_int_equal(zs_model_open(&m, model_path, NULL, &err), ZS_OK);
    if (zs_model_save(m, bundle_path, ZS_F32, &err) < 0)
        fail_msg("%s", err.message);
    zs_model_close(&m);
    make_input(fwd);
    apply("eps", bundle_path, NULL);
    compare("eps", "fwd.out", 1e-5);
    make_input(start);
    apply("sample", bundle_path, (const char *[]){"steps", "25", NULL});
    compare("x0", "ddim25.eta0.sample", 1e-3);
}

static void refuses(void **state)
{
    static const renamed no_rep[] = {{"x_T", "x_T"}, {NULL, NULL}};
    static const renamed other_rep[] = {{"x_T", "x_T"}, {"loss.rep", "rep"}, {NULL, NULL}};
    static const renamed noise[] = {
        {"x_T", "x_T"}, {"rep", "rep"}, {"p25.noises", "noise"}, {NULL, NULL}};
    (void)state;
    golden_need(SET);
    make_input(start);
    refused("sample", (const char *[]){"steps", "25", "guidance", "1.5", NULL},
            "leave the guidance out");
    refused("sample", (const char *[]){"sampler", "euler", NULL}, "ddim, ddpm");
    refused("sample", (const char *[]){"spacing", "odd", NULL}, "auto, even or stride");
    refused("sample", (const char *[]){"steps", "300", NULL}, "300 steps");
    make_input(no_rep);
    refused("sample", NULL, "needs a tensor 'rep'");
    make_input(other_rep);
    refused("sample", NULL, "'rep' is 4x32 and must be 2x32");
    make_input(noise);
    refused("sample", (const char *[]){"steps", "20", NULL}, "'noise' must hold 20 times");
}

/* zsem sample of the ADM joined with a prior of the same representations. */
static int draw(zs_error *err, const char *prior, const char *const *options)
{
    char both[1100], path[512];
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    assert_true(golden_path(path, RDM, prior));
    (void)snprintf(both, sizeof both, "%s,%s", model_path, path);
    int status = zs_task_call_new(&c, "sample", err);
    if (status == ZS_OK)
        status = zs_task_call_add(c, both, err);
    if (status == ZS_OK)
        status = zs_task_call_set(c, "out", images_path, err);
    for (; status == ZS_OK && *options; options += 2)
        status = zs_task_call_set(c, options[0], options[1], err);
    if (status == ZS_OK)
        status = zs_task_run(c, NULL, &r, err);
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
    return status;
}

static void remove_images(void)
{
    static const char *const names[] = {"000000.png", "000001.png", "grid.png"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", images_path, names[i]);
        if (remove(path) != 0)
            fail_msg("%s was not written", path);
    }
    assert_int_equal(rmdir(images_path), 0);
}

/* Noise -> representation -> image, with and without a class. */
static void draws_new_images(void **state)
{
    static const char *const any[] = {"n", "2", "steps", "5", "prior-steps", "5", NULL};
    static const char *const third[] = {"n",       "2",    "steps", "5", "prior-steps", "5",
                                        "sampler", "ddpm", "class", "3", NULL};
    static const char *const none[] = {"n", "2", "class", "10", NULL};
    static const char *const guided[] = {"n", "2", "guidance", "2", NULL};
    zs_error err = {0};
    (void)state;
    golden_need(SET);
    if (!golden_has_file(RDM, "uncond.pth") || !golden_has_file(RDM, "classcond.pth"))
        skip();
    if (draw(&err, "uncond.pth", any) < 0)
        fail_msg("%s", err.message);
    remove_images();
    if (draw(&err, "classcond.pth", third) < 0)
        fail_msg("%s", err.message);
    remove_images();
    assert_int_equal(draw(&err, "classcond.pth", none), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "knows 10 classes"));
    memset(&err, 0, sizeof err);
    assert_int_equal(draw(&err, "uncond.pth", guided), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "leave the guidance out"));
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(in_path, sizeof in_path, "%s/in.safetensors", folder);
    (void)snprintf(out_path, sizeof out_path, "%s/out.safetensors", folder);
    (void)snprintf(bundle_path, sizeof bundle_path, "%s/bundle.safetensors", folder);
    (void)snprintf(images_path, sizeof images_path, "%s/new", folder);
    (void)golden_path(model_path, SET, "checkpoint-last.pth");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)remove(in_path);
    (void)remove(out_path);
    (void)remove(bundle_path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_it_is), cmocka_unit_test(predicts),
        cmocka_unit_test(samples),          cmocka_unit_test(differentiates),
        cmocka_unit_test(becomes_a_bundle), cmocka_unit_test(refuses),
        cmocka_unit_test(draws_new_images),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
