/* SPDX-License-Identifier: MIT */
/* ADM UNets in bare state_dicts, as guided-diffusion publishes them: what is inferred, asked for
 * and refused; classes instead of representations; training of a learned variance. */
#include "io/io.h"
#include "models/models.h"
#include "train/gradient.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/must.h"
#include "tests/unit/scratch.h"

enum { SIZE = 8, MAX_TENSORS = 200, CLASSES = 5 };

static const char *path;

static zs_model_config tiny(void)
{
    zs_model_config c = {.name = "tiny",
                         .image_size = SIZE,
                         .channels = 1,
                         .fit = "crop",
                         .diffusion = zs_process_adm};
    c.adm = (zs_adm_config){.levels = 2,
                            .in_channels = 1,
                            .model_channels = 8,
                            .ch = {8, 16},
                            .num_res_blocks = 1,
                            .attn_levels = 1u << 1,
                            .head_channels = 4,
                            .learn_sigma = true};
    return c;
}

static float *random_weights(const zs_params *ps)
{
    size_t n = (size_t)zs_params_numel(ps);
    float *w = zs_alloc(n, sizeof *w);
    assert_non_null(w);
    zs_rng_normal(w, n, &(zs_rng){.seed = 1, .purpose = ZS_RNG_TEST}, 0);
    for (size_t i = 0; i < n; i++)
        w[i] *= 0.1f;
    return w;
}

/* Writes c's network as a state_dict, without the tensor `lack` and with `more` beside it. */
static void write_file(const zs_model_config *c, const char *lack, const char *more)
{
    zs_params *ps = NULL;
    zs_error err = {0};
    zs_tensorout t[MAX_TENSORS];
    size_t n = 0;
    must(zs_model_layout(&ps, c, &err), &err);
    float *w = random_weights(ps);
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *p = zs_params_at(ps, i);
        if (lack && strcmp(p->name, lack) == 0)
            continue;
        float *data = zs_alloc((size_t)p->numel, sizeof *data);
        assert_true(data && n < MAX_TENSORS - 1);
        zs_params_export(ps, i, w, data);
        t[n] = (zs_tensorout){.name = p->name, .dtype = ZS_F32, .nd = p->nd, .data = data};
        memcpy(t[n++].shape, p->shape, sizeof p->shape);
    }
    if (more)
        t[n++] = (zs_tensorout){
            .name = more, .dtype = ZS_F32, .nd = 1, .shape = {1}, .data = zs_calloc(1, 4)};
    must(zs_safetensors_write(path, t, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
    zs_free(w);
    zs_params_free(&ps);
}

static int open_file(zs_model **m, const char *const *set, zs_error *err)
{
    const zs_model_options o = {.backend = "cpu-ref", .set = set};
    memset(err, 0, sizeof *err);
    return zs_model_open(m, path, &o, err);
}

static void refused(const char *const *set, const char *part)
{
    zs_model *m = NULL;
    zs_error err;
    assert_true(open_file(&m, set, &err) < 0);
    assert_null(m);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static const char *const heads4[] = {"generator.head_channels=4", "image_size=8", NULL};

/* Everything but the width of a head is in the shapes. */
static void infers(void **state)
{
    (void)state;
    zs_model_config c = tiny();
    zs_model *m = NULL;
    zs_error err;
    write_file(&c, NULL, NULL);
    must(open_file(&m, heads4, &err), &err);
    const zs_model_config *got = zs_model_configuration(m);
    assert_memory_equal(&got->adm, &c.adm, sizeof c.adm);
    assert_int_equal(got->image_size, SIZE);
    assert_string_equal(got->diffusion.variance, "learned");
    zs_model_close(&m);
    refused(NULL, "--set generator.head_channels=N");
    refused((const char *[]){"generator.head_channels=5", NULL}, "no whole heads of 5 channels");
    refused((const char *[]){"generator.head_channels=0", NULL}, "outside 1..16384");
}

static void refuses_other_networks(void **state)
{
    (void)state;
    zs_model_config c = tiny();
    write_file(&c, "middle_block.1.proj_out.weight", NULL);
    refused(heads4, "middle_block.1.proj_out.weight");
    write_file(&c, NULL, "input_blocks.1.0.gate");
    refused(heads4, "input_blocks.1.0.gate has no place");
    write_file(&c, NULL, "input_blocks.2.0.op.weight");
    refused(heads4, "halves images by plain convolutions");
}

/* ---- classes ---- */

static void takes_classes(void **state)
{
    (void)state;
    zs_model_config c = tiny();
    zs_model *m = NULL;
    zs_error err;
    float x[2 * SIZE * SIZE], a[4 * SIZE * SIZE], b[4 * SIZE * SIZE];
    const int64_t t[] = {10, 500}, y[] = {1, 4}, swapped[] = {4, 1}, wrong[] = {1, CLASSES};
    c.adm.classes = CLASSES;
    write_file(&c, NULL, NULL);
    must(open_file(&m, heads4, &err), &err);
    assert_int_equal(zs_model_configuration(m)->adm.classes, CLASSES);
    zs_rng_normal(x, 2 * SIZE * SIZE, &(zs_rng){.seed = 2, .purpose = ZS_RNG_TEST}, 0);
    zs_shape xs = zs_shape4(2, SIZE, SIZE, 1);
    assert_int_equal(zs_model_eps(m, a, x, xs, t, &(zs_cond){.y = y}, &err), ZS_OK);
    assert_int_equal(zs_model_eps(m, b, x, xs, t, &(zs_cond){.y = swapped}, &err), ZS_OK);
    assert_memory_not_equal(a, b, sizeof a);
    must_refuse(zs_model_eps(m, a, x, xs, t, NULL, &err), &err, ZS_E_INVALID, "needs a class");
    must_refuse(zs_model_eps(m, a, x, xs, t, &(zs_cond){.y = wrong}, &err), &err, ZS_E_INVALID,
                "class 5 is outside 0..4");
    zs_model_close(&m);
}

/* ---- training ---- */

/* A step down the gradient lowers the loss of its batch. */
static void learns_its_variance(void **state)
{
    enum { BATCH = 4 };
    (void)state;
    zs_model_config c = tiny();
    zs_params *ps = NULL;
    zs_error err = {0};
    assert_int_equal(zs_model_layout(&ps, &c, &err), ZS_OK);
    size_t n = (size_t)zs_params_numel(ps);
    float *w = random_weights(ps), *grads = zs_calloc(n, sizeof *grads), loss[2] = {0};
    float x0[BATCH * SIZE * SIZE], noise[BATCH * SIZE * SIZE], x_t[BATCH * SIZE * SIZE];
    float steps[BATCH * ZS_BOUND_NUMBERS];
    const int64_t t[BATCH] = {0, 3, 200, 999};
    zs_schedule s;
    assert_int_equal(zs_schedule_make(&s, "linear", 1000, &err), ZS_OK);
    zs_rng_normal(noise, BATCH * SIZE * SIZE, &(zs_rng){.seed = 3, .purpose = ZS_RNG_TEST}, 0);
    for (int i = 0; i < BATCH * SIZE * SIZE; i++)
        x0[i] = (float)(i % 13) / 6.0f - 1;
    for (size_t i = 0; i < BATCH; i++) {
        const size_t e = SIZE * SIZE;
        zs_q_sample(x_t + i * e, x0 + i * e, noise + i * e, s.abar[t[i]], e);
        zs_bound_row(steps + i * ZS_BOUND_NUMBERS, &s, t[i]);
    }
    zs_model *m = NULL;
    zs_shape xs = zs_shape4(BATCH, SIZE, SIZE, 1);
    const zs_cond cond = {.steps = steps};
    assert_int_equal(zs_model_wrap(&m, &c, w, &(zs_model_options){.backend = "cpu-ref"}, &err),
                     ZS_OK);
    assert_int_equal(zs_model_grad(m, loss, grads, x0, x_t, xs, t, noise, NULL, &err),
                     ZS_E_INVALID);
    memset(&err, 0, sizeof err);
    for (int k = 0; k < 2; k++) {
        memset(grads, 0, n * sizeof *grads);
        must(zs_model_grad(m, &loss[k], grads, x0, x_t, xs, t, noise, &cond, &err), &err);
        for (size_t i = 0; i < n; i++)
            w[i] -= 1e-3f * grads[i];
    }
    assert_true(isfinite(loss[0]) && loss[1] < loss[0]);
    zs_model_close(&m);
    zs_schedule_free(&s);
    zs_params_free(&ps);
    zs_free(w);
    zs_free(grads);
}

/* A configuration whose network and process disagree. */
static void variance_fits(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_model_config c = tiny();
    assert_int_equal(zs_model_config_validate(&c, &err), ZS_OK);
    c.diffusion = zs_process_diffae;
    must_refuse(zs_model_config_validate(&c, &err), &err, ZS_E_INVALID,
                "the generator returns a learned one");
    c = tiny();
    c.adm.learn_sigma = false;
    must_refuse(zs_model_config_validate(&c, &err), &err, ZS_E_INVALID,
                "the generator returns none");
}

static int setup(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    path = scratch_path("adm.safetensors");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(infers),        cmocka_unit_test(refuses_other_networks),
        cmocka_unit_test(takes_classes), cmocka_unit_test(learns_its_variance),
        cmocka_unit_test(variance_fits),
    };
    return cmocka_run_group_tests(tests, setup, scratch_remove);
}
