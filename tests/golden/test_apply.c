/* SPDX-License-Identifier: MIT */
/* `zsem apply` against the authors' numbers, through files, for every function that it has. */
#include "tests/golden/golden.h"

#include "zsem/task.h"

#include "io/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "diffae-tiny32", PLAIN[] = "ddpm-tiny32";
static char in_path[64], out_path[64];

/* One tensor of the golden file under the name that apply wants. */
typedef struct renamed {
    const char *golden, *name;
} renamed;

/* Writes the renamed tensors of SET/FILE to in_path, timesteps as int64. */
static void make_input(const char *set, const renamed *r, size_t n)
{
    zs_tensorfile *f = golden_open(set, "golden.safetensors");
    zs_tensorout t[8];
    zs_error err = {0};
    for (size_t i = 0; i < n; i++) {
        size_t count;
        const zs_tensorinfo *info =
            zs_tensorfile_info(f, (size_t)zs_tensorfile_find(f, r[i].golden));
        bool steps = strcmp(r[i].name, "t") == 0;
        t[i] = (zs_tensorout){.name = r[i].name, .dtype = steps ? ZS_I64 : ZS_F32, .nd = info->nd};
        memcpy(t[i].shape, info->shape, sizeof t[i].shape);
        t[i].data = steps ? (void *)golden_i64(f, r[i].golden, &count)
                          : (void *)golden_f32(f, r[i].golden, &count);
    }
    zs_tensorfile_close(&f);
    if (zs_safetensors_write(in_path, t, n, NULL, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
}

static void apply_to(const char *function, const char *model, const char *steps, const char *attr)
{
    zs_error err = {0};
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    if (zs_task_call_new(&c, "apply", &err) < 0 || zs_task_call_add(c, function, &err) < 0 ||
        zs_task_call_set(c, "model", model, &err) < 0 ||
        (attr && zs_task_call_set(c, "attr", attr, &err) < 0) ||
        zs_task_call_set(c, "in", in_path, &err) < 0 ||
        zs_task_call_set(c, "out", out_path, &err) < 0 ||
        zs_task_call_set(c, "steps", steps, &err) < 0 || zs_task_run(c, NULL, &r, &err) < 0)
        fail_msg("apply %s: %s", function, err.message);
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
}

static void apply(const char *function, const char *set, const char *steps)
{
    apply_to(function, golden_checkpoint(set), steps, NULL);
}

/* Output `name` against tensor `want` of a golden file; shapes must agree too. */
static void compare(const char *name, const char *set, const char *file, const char *want,
                    double tolerance)
{
    zs_error err = {0};
    size_t n, m;
    zs_tensorfile *out = NULL, *g = golden_open(set, file);
    if (zs_tensorfile_open(&out, out_path, &err) < 0)
        fail_msg("%s", err.message);
    long i = zs_tensorfile_find(out, name), j = zs_tensorfile_find(g, want);
    assert_true(i >= 0 && j >= 0);
    const zs_tensorinfo *a = zs_tensorfile_info(out, (size_t)i),
                        *b = zs_tensorfile_info(g, (size_t)j);
    assert_int_equal(a->nd, b->nd);
    assert_memory_equal(a->shape, b->shape, (size_t)a->nd * sizeof a->shape[0]);
    float *x = golden_f32(out, name, &n), *y = golden_f32(g, want, &m);
    double e = golden_norm_error(x, y, n);
    if (!(e <= tolerance))
        fail_msg("%s: error %g is above %g", name, e, tolerance);
    zs_free(x);
    zs_free(y);
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
}

static void one_network_call(void **state)
{
    (void)state;
    golden_need(SET);
    make_input(SET, (renamed[]){{"x0", "x0"}}, 1);
    apply("encode", SET, "1");
    compare("z_sem", SET, "golden.safetensors", "z_sem", 1e-4);
    make_input(SET, (renamed[]){{"x_t", "x_t"}, {"t", "t"}, {"z_sem", "z_sem"}}, 3);
    apply("eps", SET, "1");
    compare("eps", SET, "golden.safetensors", "eps_pred", 1e-4);
    make_input(SET, (renamed[]){{"latent_noise", "z_t"}, {"latent_t", "t"}}, 2);
    apply("prior-eps", SET, "1");
    compare("out", SET, "golden.safetensors", "latent_eps", 1e-4);
}

static void samplers(void **state)
{
    (void)state;
    golden_need(SET);
    make_input(SET, (renamed[]){{"noise", "x_T"}, {"z_sem", "z_sem"}}, 2);
    apply("decode", SET, "10");
    compare("x0", SET, "golden.safetensors", "ddim10.decode", 1e-3);
    make_input(SET, (renamed[]){{"x0", "x0"}, {"z_sem", "z_sem"}}, 2);
    apply("invert", SET, "10");
    compare("x_T", SET, "golden.safetensors", "ddim10.x_T", 1e-3);
}

/* noise -> prior -> code -> image, each step through files. */
static void draws_images(void **state)
{
    (void)state;
    golden_need(SET);
    make_input(SET, (renamed[]){{"latent_noise", "z_T"}}, 1);
    apply("prior-sample", SET, "10");
    compare("z", SET, "golden.safetensors", "latent_ddim10", 1e-3);
    compare("z_sem", SET, "golden.safetensors", "latent_denorm", 1e-3);
    make_input(SET, (renamed[]){{"noise", "x_T"}, {"latent_denorm", "z_sem"}}, 2);
    apply("decode", SET, "10");
    compare("x0", SET, "golden.safetensors", "uncond_sample", 1e-3);
}

/* in_path: x_T of the golden file, and the code that is now in out_path. */
static void make_moved_input(void)
{
    zs_error err = {0};
    zs_tensorfile *g = golden_open(SET, "golden.safetensors"), *out = NULL;
    size_t n;
    if (zs_tensorfile_open(&out, out_path, &err) < 0)
        fail_msg("%s", err.message);
    float *x = golden_f32(g, "ddim10.x_T", &n), *z = golden_f32(out, "z_sem", &n);
    const zs_tensorout t[] = {
        {.name = "x_T", .dtype = ZS_F32, .nd = 4, .shape = {2, 3, 32, 32}, .data = x},
        {.name = "z_sem", .dtype = ZS_F32, .nd = 2, .shape = {2, 64}, .data = z}};
    if (zs_safetensors_write(in_path, t, 2, NULL, &err) < 0)
        fail_msg("%s", err.message);
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
    make_input(SET, (renamed[]){{"z_sem", "z_sem"}}, 1);
    apply_to("probe", model, "1", NULL);
    compare("logits", SET, MOVED, "logits", 1e-4);
    apply_to("edit", model, "1", attr);
    compare("z_sem", SET, MOVED, "z_manipulated", 1e-4);
    make_moved_input();
    apply("decode", SET, "10");
    compare("x0", SET, MOVED, "image", 1e-3);
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
    make_input(SET, (renamed[]){{"x0", "x0"}, {"train.t.0", "t"}, {"train.noise.0", "noise"}}, 3);
    apply("grad", SET, "1");
    zs_error err = {0};
    zs_tensorfile *out = NULL, *g = golden_gradients(SET);
    size_t count = golden_gradient_count(g), n;
    assert_true(count > 300);
    if (zs_tensorfile_open(&out, out_path, &err) < 0)
        fail_msg("%s", err.message);
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
    make_input(PLAIN, (renamed[]){{"x_T", "x_t"}, {"t", "t"}}, 2);
    apply("eps", PLAIN, "1");
    compare("eps", PLAIN, "golden.safetensors", "eps_pred", 1e-4);
    make_input(PLAIN, (renamed[]){{"x_T", "x_T"}}, 1);
    apply("decode", PLAIN, "10");
    compare("x0", PLAIN, "golden.safetensors", "ddim10.sample", 1e-3);
}

static int setup(void **state)
{
    (void)state;
    snprintf(in_path, sizeof in_path, "/tmp/zsem-apply-%ld-in.safetensors", (long)getpid());
    snprintf(out_path, sizeof out_path, "/tmp/zsem-apply-%ld-out.safetensors", (long)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove(in_path);
    remove(out_path);
    golden_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_network_call), cmocka_unit_test(samplers),
        cmocka_unit_test(draws_images),     cmocka_unit_test(edits),
        cmocka_unit_test(gradients),        cmocka_unit_test(without_codes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
