/* SPDX-License-Identifier: MIT */
/* The authors' ADM checkpoint as a model: what is read from it, every function of `zsem apply`
 * against their numbers, the bundle that it becomes, and what is refused. */
#include "tests/golden/applykit.h"
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "rcg-adm", RDM[] = "rcg-rdm";
static char model_path[512];

/* ---- calls ---- */

static const apply_tensor fwd[] = {{"fwd.x", "x_t"}, {"fwd.t", "t"}, {"rep", "rep"}, {NULL, NULL}};
static const apply_tensor start[] = {{"x_T", "x_T"}, {"rep", "rep"}, {NULL, NULL}};

static void input(const apply_tensor *r)
{
    apply_input_of(SET, "golden.safetensors", r);
}

static void compare(const char *name, const char *want, double tolerance)
{
    apply_compare(name, SET, "golden.safetensors", want, golden_norm_error, tolerance);
}

/* ---- tests ---- */

static void knows_what_it_is(void **state)
{
    (void)state;
    golden_need(SET);
    zs_model *m = NULL;
    zs_error err = {0};
    must(zs_model_open(&m, model_path, NULL, &err), &err);
    const zs_model_config *c = zs_model_configuration(m);
    assert_int_equal(c->image_size, 16);
    assert_memory_equal(&c->adm, &net_adm, sizeof net_adm);
    assert_string_equal(c->diffusion.variance, "learned");
    assert_true(c->diffusion.clip);
    assert_string_equal(c->reps.name, "mocov3_vit_base");
    zs_model_close(&m);
}

static void predicts(void **state)
{
    (void)state;
    golden_need(SET);
    input(fwd);
    apply_run("eps", model_path, NULL);
    compare("eps", "fwd.out", 1e-5);
    apply_run("eps", model_path, TASK_OPTIONS({"raw", NULL}));
    compare("eps", "fwd.out_raw_weights", 1e-5);
}

static void samples(void **state)
{
    static const apply_tensor ddpm[] = {
        {"x_T", "x_T"}, {"rep", "rep"}, {"p25.noises", "noise"}, {NULL, NULL}};
    static const apply_tensor eta1[] = {
        {"x_T", "x_T"}, {"rep", "rep"}, {"ddim25.eta1.noises", "noise"}, {NULL, NULL}};
    (void)state;
    golden_need(SET);
    input(ddpm);
    apply_run("sample", model_path, TASK_OPTIONS({"sampler", "ddpm"}, {"steps", "25"}));
    compare("x0", "p25.sample", 1e-3);
    input(start);
    apply_run("sample", model_path, TASK_OPTIONS({"sampler", "ddim"}, {"steps", "25"}));
    compare("x0", "ddim25.eta0.sample", 1e-3);
    apply_run("decode", model_path, TASK_OPTIONS({"steps", "25"}));
    compare("x0", "ddim25.eta0.sample", 1e-3);
    input(eta1);
    apply_run("sample", model_path,
              TASK_OPTIONS({"sampler", "ddim"}, {"steps", "25"}, {"eta", "1"}));
    compare("x0", "ddim25.eta1.sample", 1e-3);
}

static void differentiates(void **state)
{
    static const apply_tensor batch[] = {{"loss.image01", "x0"},
                                         {"loss.t", "t"},
                                         {"loss.noise", "noise"},
                                         {"loss.rep", "rep"},
                                         {NULL, NULL}};
    (void)state;
    golden_need(SET);
    input(batch);
    apply_run("grad", model_path, NULL);
    zs_tensorfile *out = apply_output(), *g = golden_open(SET, "golden.safetensors"),
                  *want = golden_gradients(SET);
    size_t n, count;
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
    const char *bundle = scratch_path("bundle.safetensors");
    must(zs_model_open(&m, model_path, NULL, &err), &err);
    must(zs_model_save(m, bundle, ZS_F32, &err), &err);
    zs_model_close(&m);
    input(fwd);
    apply_run("eps", scratch_path("bundle.safetensors"), NULL);
    compare("eps", "fwd.out", 1e-5);
    input(start);
    apply_run("sample", scratch_path("bundle.safetensors"), TASK_OPTIONS({"steps", "25"}));
    compare("x0", "ddim25.eta0.sample", 1e-3);
}

static void refuses(void **state)
{
    static const apply_tensor no_rep[] = {{"x_T", "x_T"}, {NULL, NULL}};
    static const apply_tensor other_rep[] = {{"x_T", "x_T"}, {"loss.rep", "rep"}, {NULL, NULL}};
    static const apply_tensor noise[] = {
        {"x_T", "x_T"}, {"rep", "rep"}, {"p25.noises", "noise"}, {NULL, NULL}};
    (void)state;
    golden_need(SET);
    input(start);
    apply_refused("sample", model_path, TASK_OPTIONS({"steps", "25"}, {"guidance", "1.5"}),
                  "leave the guidance out");
    apply_refused("sample", model_path, TASK_OPTIONS({"sampler", "euler"}), "ddim, ddpm");
    apply_refused("sample", model_path, TASK_OPTIONS({"spacing", "odd"}), "auto, even or stride");
    apply_refused("sample", model_path, TASK_OPTIONS({"steps", "300"}), "300 steps");
    input(no_rep);
    apply_refused("sample", model_path, NULL, "needs a tensor 'rep'");
    input(other_rep);
    apply_refused("sample", model_path, NULL, "'rep' is 4x32 and must be 2x32");
    input(noise);
    apply_refused("sample", model_path, TASK_OPTIONS({"steps", "20"}),
                  "'noise' must hold 20 times");
}

/* zsem sample of the ADM joined with a prior of the same representations. */
static const char *joined(const char *prior)
{
    static char both[1100];
    char path[512];
    assert_true(golden_path(path, RDM, prior));
    (void)snprintf(both, sizeof both, "%s,%s", model_path, path);
    return both;
}

static void draw(const char *prior, const task_option *options)
{
    json_decref(task_must("sample", TASK_ARGS(joined(prior)), options));
    static const char *const names[] = {"000000.png", "000001.png", "grid.png"};
    const char *folder = scratch_path("new");
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (remove(path) != 0)
            fail_msg("%s was not written", path);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* Noise -> representation -> image, with and without a class. */
static void draws_new_images(void **state)
{
    (void)state;
    golden_need(SET);
    if (!golden_has_file(RDM, "uncond.pth") || !golden_has_file(RDM, "classcond.pth"))
        skip();
    const task_option out = {"out", scratch_path("new")}, n = {"n", "2"};
    const task_option steps = {"steps", "5"}, prior_steps = {"prior-steps", "5"};
    draw("uncond.pth", TASK_OPTIONS(out, n, steps, prior_steps));
    draw("classcond.pth",
         TASK_OPTIONS(out, n, steps, prior_steps, {"sampler", "ddpm"}, {"class", "3"}));
    task_refused("sample", TASK_ARGS(joined("classcond.pth")),
                 TASK_OPTIONS(out, n, {"class", "10"}), "knows 10 classes");
    task_refused("sample", TASK_ARGS(joined("uncond.pth")), TASK_OPTIONS(out, n, {"guidance", "2"}),
                 "leave the guidance out");
}

static int setup(void **state)
{
    (void)golden_path(model_path, SET, "checkpoint-last.pth");
    return apply_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_it_is), cmocka_unit_test(predicts),
        cmocka_unit_test(samples),          cmocka_unit_test(differentiates),
        cmocka_unit_test(becomes_a_bundle), cmocka_unit_test(refuses),
        cmocka_unit_test(draws_new_images),
    };
    return cmocka_run_group_tests(tests, setup, apply_teardown);
}
