/* SPDX-License-Identifier: MIT */
/* `zsem apply` against the authors' numbers, through files, for every function that it has. */
#include "tests/golden/applykit.h"
#include "tests/unit/must.h"

#include "io/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char SET[] = "diffae-tiny32", PLAIN[] = "ddpm-tiny32";

static void input(const char *set, const apply_tensor *r)
{
    apply_input_of(set, "golden.safetensors", r);
}

static void apply(const char *function, const char *set, const char *steps)
{
    apply_run(function, golden_checkpoint(set), TASK_OPTIONS({"steps", steps}));
}

static void compare(const char *name, const char *set, const char *want, double tolerance)
{
    apply_compare(name, set, "golden.safetensors", want, golden_norm_error, tolerance);
}

static void one_network_call(void **state)
{
    (void)state;
    golden_need(SET);
    input(SET, (apply_tensor[]){{"x0", "x0"}, {NULL, NULL}});
    apply("encode", SET, "1");
    compare("z_sem", SET, "z_sem", 1e-4);
    input(SET, (apply_tensor[]){{"x_t", "x_t"}, {"t", "t"}, {"z_sem", "z_sem"}, {NULL, NULL}});
    apply("eps", SET, "1");
    compare("eps", SET, "eps_pred", 1e-4);
    input(SET, (apply_tensor[]){{"latent_noise", "z_t"}, {"latent_t", "t"}, {NULL, NULL}});
    apply("prior-eps", SET, "1");
    compare("out", SET, "latent_eps", 1e-4);
}

static void samplers(void **state)
{
    (void)state;
    golden_need(SET);
    input(SET, (apply_tensor[]){{"noise", "x_T"}, {"z_sem", "z_sem"}, {NULL, NULL}});
    apply("decode", SET, "10");
    compare("x0", SET, "ddim10.decode", 1e-3);
    input(SET, (apply_tensor[]){{"x0", "x0"}, {"z_sem", "z_sem"}, {NULL, NULL}});
    apply("invert", SET, "10");
    compare("x_T", SET, "ddim10.x_T", 1e-3);
}

/* noise -> prior -> code -> image, each step through files. */
static void draws_images(void **state)
{
    (void)state;
    golden_need(SET);
    input(SET, (apply_tensor[]){{"latent_noise", "z_T"}, {NULL, NULL}});
    apply("prior-sample", SET, "10");
    compare("z", SET, "latent_ddim10", 1e-3);
    compare("z_sem", SET, "latent_denorm", 1e-3);
    input(SET, (apply_tensor[]){{"noise", "x_T"}, {"latent_denorm", "z_sem"}, {NULL, NULL}});
    apply("decode", SET, "10");
    compare("x0", SET, "uncond_sample", 1e-3);
}

/* x_T of the golden file, and the code that came out last. */
static void make_moved_input(void)
{
    zs_error err = {0};
    zs_tensorfile *g = golden_open(SET, "golden.safetensors"), *out = apply_output();
    size_t n;
    float *x = golden_f32(g, "ddim10.x_T", &n), *z = golden_f32(out, "z_sem", &n);
    const zs_tensorout t[] = {
        {.name = "x_T", .dtype = ZS_F32, .nd = 4, .shape = {2, 3, 32, 32}, .data = x},
        {.name = "z_sem", .dtype = ZS_F32, .nd = 2, .shape = {2, 64}, .data = z}};
    must(zs_safetensors_write(scratch_path("in.safetensors"), t, 2, NULL, &err), &err);
    zs_free(x);
    zs_free(z);
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
}

/* The authors' classifier beside their checkpoint: probabilities by its average, edits along its
 * trained rows. */
static void edits(void **state)
{
    static const char MOVED[] = "manipulate.safetensors";
    size_t n;
    (void)state;
    golden_need(SET);
    if (!golden_has_file(SET, "cls.ckpt") || !golden_has_file(SET, MOVED)) {
        print_message("SKIPPED: %s/cls.ckpt is not there\n", SET);
        skip();
    }
    zs_tensorfile *f = golden_open(SET, MOVED);
    zs_tensorfile *cls = golden_open(SET, "cls.ckpt");
    char *model = zs_str_format("%s,%s", golden_checkpoint(SET), zs_tensorfile_path(cls));
    float *amount = golden_f32(f, "amount", &n);
    int64_t *id = golden_i64(f, "cls_id", &n);
    static const char *const names[] = {"Male", "Smiling"};
    char attr[64];
    assert_true(*id == 20 || *id == 31); /* rows of the CelebA header */
    snprintf(attr, sizeof attr, "%s=%.9g", names[*id == 31], (double)*amount);
    input(SET, (apply_tensor[]){{"z_sem", "z_sem"}, {NULL, NULL}});
    apply_run("probe", model, NULL);
    apply_compare("logits", SET, MOVED, "logits", golden_norm_error, 1e-4);
    apply_run("edit", model, TASK_OPTIONS({"attr", attr}));
    apply_compare("z_sem", SET, MOVED, "z_manipulated", golden_norm_error, 1e-4);
    make_moved_input();
    apply("decode", SET, "10");
    apply_compare("x0", SET, MOVED, "image", golden_norm_error, 1e-3);
    zs_free(amount);
    zs_free(id);
    zs_free(model);
    zs_tensorfile_close(&cls);
    zs_tensorfile_close(&f);
}

static void gradients(void **state)
{
    (void)state;
    golden_need(SET);
    input(SET, (apply_tensor[]){
                   {"x0", "x0"}, {"train.t.0", "t"}, {"train.noise.0", "noise"}, {NULL, NULL}});
    apply("grad", SET, "1");
    zs_tensorfile *out = apply_output(), *g = golden_gradients(SET);
    size_t count = golden_gradient_count(g), n;
    assert_true(count > 300);
    for (size_t i = 0; i < count; i += 13) { /* all of them are compared in test_diffae_net.c */
        const char *want = zs_tensorfile_info(g, i)->name;
        char *name = zs_str_format("grad.%s", want);
        double norm;
        float *got = golden_f32(out, name, &n);
        double e = golden_gradient_error(g, want, got, n, &norm);
        if (!(e <= 1e-3))
            fail_msg("%s: error %g is above 1e-3", name, e);
        zs_free(got);
        zs_free(name);
    }
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
}

static void without_codes(void **state)
{
    (void)state;
    golden_need(PLAIN);
    input(PLAIN, (apply_tensor[]){{"x_T", "x_t"}, {"t", "t"}, {NULL, NULL}});
    apply("eps", PLAIN, "1");
    compare("eps", PLAIN, "eps_pred", 1e-4);
    input(PLAIN, (apply_tensor[]){{"x_T", "x_T"}, {NULL, NULL}});
    apply("decode", PLAIN, "10");
    compare("x0", PLAIN, "ddim10.sample", 1e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_network_call), cmocka_unit_test(samplers),
        cmocka_unit_test(draws_images),     cmocka_unit_test(edits),
        cmocka_unit_test(gradients),        cmocka_unit_test(without_codes),
    };
    return cmocka_run_group_tests(tests, apply_setup, apply_teardown);
}
