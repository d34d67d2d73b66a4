/* SPDX-License-Identifier: MIT */
/* Whether cuDNN has a plan for every convolution that training a preset runs, on GPUs that are not
 * here: the plans are made for devices that files describe. And what becomes of plans on disk. */
#include "backend/cuda/conv_plan.h"
#include "graph/graph.h"
#include "models/models.h"
#include "models/presets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Workspaces beyond this would not be worth their memory. */
static const size_t room = (size_t)256 << 20;

/* ---- the convolutions of all presets, met while their graphs are planned ---- */

static zs_cuda_conv *met;
static size_t n_met, cap_met;

static void meet(const zs_cuda_conv *c)
{
    void *items = met;
    for (size_t i = 0; i < n_met; i++)
        if (memcmp(&met[i], c, sizeof *c) == 0)
            return;
    assert_true(zs_grow(&items, &cap_met, n_met, sizeof *met));
    met = items;
    met[n_met++] = *c;
}

/* Every call in both types, whatever the plan of a backend that runs nothing holds. */
static void meet_call(zs_op op, const zs_call *c)
{
    zs_call typed = *c;
    zs_cuda_conv conv;
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < 2; i++)
            typed.in[i].type = typed.out[i].type = t ? ZS_F32 : ZS_BF16;
        if (zs_conv_problem(&conv, op, &typed))
            meet(&conv);
    }
}

#define OP(NAME, name, inputs, outputs, gradient, slots) \
    static size_t meet_##name(const zs_call *c)          \
    {                                                    \
        meet_call(ZS_OP_##NAME, c);                      \
        return 0;                                        \
    }                                                    \
    static const zs_kernel kernel_##name = {NULL, meet_##name};
#include "tensor/ops.def"
#undef OP

static const zs_kernel *kernel(zs_op op)
{
    static const zs_kernel *const table[] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) &kernel_##name,
#include "tensor/ops.def"
#undef OP
    };
    return table[op];
}

/* Nothing is run: any address will do. */
static void *promise(size_t bytes)
{
    static uint64_t nothing[8];
    (void)bytes;
    return nothing;
}

static void forget(void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
}

static const zs_backend planning = {
    .name = "planning", .kernel = kernel, .alloc = promise, .release = forget};

static zs_shape states(const zs_model_config *c, int64_t n)
{
    if (c->classes)
        return zs_shape4(n, c->image_size, c->image_size, c->channels);
    return zs_model_config_states(c, n);
}

static void meet_training(const char *preset, const zs_model_config *c, int64_t batch)
{
    zs_error err = {0};
    zs_params *ps = NULL;
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    if (zs_model_layout(&ps, c, &err) < 0 ||
        zs_train_graph_build(&g, ps, c, states(c, batch), 0.1, false, &err) < 0 ||
        zs_exec_new(&e, &g, &(zs_exec_config){.backend = &planning}, &err) < 0)
        fail_msg("%s: %s", preset, err.message);
    zs_exec_free(&e);
    zs_params_free(&ps);
}

/* At the batch of training, and at that of a single sample. */
static void meet_network(const char *preset, const zs_model_config *c, int64_t batch)
{
    zs_ports ports;
    if (!c->classes && !zs_model_config_ports(c, ZS_BOX_GENERATOR, &ports))
        return;
    meet_training(preset, c, batch);
    meet_training(preset, c, 1);
}

static void meet_presets(void)
{
    for (size_t i = 0; zs_preset_name(i); i++) {
        zs_preset p;
        zs_ports ports;
        assert_int_equal(zs_preset_find(&p, zs_preset_name(i), NULL), ZS_OK);
        meet_network(p.name, &p.autoencoder, p.train_autoencoder.batch);
        meet_network(p.name, &p.ddpm, p.train_ddpm.batch);
        meet_network(p.name, &p.generator, p.train_generator.batch);
        if (!zs_model_config_ports(&p.encoder, ZS_BOX_ENCODER, &ports))
            continue;
        p.encoder.classes = 10;
        meet_network(p.name, &p.encoder, p.train_encoder.batch);
    }
}

static int meet_once(void **state)
{
    (void)state;
    meet_presets();
    return 0;
}

static int forget_all(void **state)
{
    (void)state;
    zs_free(met);
    met = NULL;
    return 0;
}

/* ---- plans for devices that are not here ---- */

static void target_of(zs_dnn_target *t, const char *name)
{
    static char json[4096];
    zs_error err = {0};
    char *path = zs_str_format("%s/tests/cuda/%s.json", ZSEM_SOURCE_DIR, name);
    FILE *f = path ? fopen(path, "r") : NULL;
    assert_non_null(f);
    json[fread(json, 1, sizeof json - 1, f)] = '\0';
    (void)fclose(f);
    zs_free(path);
    if (zs_dnn_target_new(t, json, &err) < 0)
        fail_msg("%s: %s", name, err.message);
}

/* Plans of c, without the bias that another pass can add. */
static int plans_of(const zs_cuda_conv *c, bool bias, const zs_dnn_target *t, zs_dnn_tally *tally)
{
    zs_dnn_plan list[2];
    zs_cuda_conv q = *c;
    q.bias = bias;
    int n = zs_dnn_plans(list, 2, &q, t, room, NULL, tally);
    for (int i = 0; i < n; i++) {
        assert_non_null(list[i].desc);
        assert_true(list[i].workspace <= room && strchr(list[i].tag, ':'));
        zs_dnn_plan_free(&list[i]);
    }
    return n;
}

static void every_convolution_on(const char *device, zs_dtype type)
{
    zs_dnn_target t;
    int missing = 0, seen = 0, biased = 0, fused = 0;
    char key[ZS_PLAN_KEY];
    target_of(&t, device);
    for (size_t i = 0; i < n_met; i++) {
        zs_dnn_tally tally = {0};
        if (met[i].type != (int64_t)type)
            continue;
        seen++;
        if (plans_of(&met[i], false, &t, &tally) == 0) {
            zs_plan_key(key, &met[i]);
            print_error("%s: no plan for %s (offered %d, refused %d, unusable %d, too large %d)\n",
                        device, key, tally.offered, tally.refused, tally.unusable, tally.too_large);
            missing++;
        }
        biased += met[i].bias != 0;
        if (met[i].bias)
            fused += plans_of(&met[i], true, &t, NULL) > 0;
    }
    zs_dnn_target_free(&t);
    print_message("%s, %s: %d convolutions, %d without a plan; of %d with a bias alone %d add it\n",
                  device, zs_dtype_name(type), seen, missing, biased, fused);
    assert_true(seen > 100);
    assert_int_equal(missing, 0);
}

static void test_h100_bf16(void **state)
{
    (void)state;
    every_convolution_on("h100", ZS_BF16);
}

static void test_h100_f32(void **state)
{
    (void)state;
    every_convolution_on("h100", ZS_F32);
}

static void test_a100_bf16(void **state)
{
    (void)state;
    every_convolution_on("a100", ZS_BF16);
}

static zs_cuda_conv plain_conv(void)
{
    zs_cuda_conv c;
    memset(&c, 0, sizeof c);
    c.type = ZS_BF16;
    c.n = 64, c.h = c.w = c.yh = c.yw = 32, c.c = c.o = 128, c.kh = c.kw = 3, c.stride = 1;
    c.top = c.left = c.bottom = c.right = 1;
    return c;
}

/* A tag finds its plan again, and only that one. */
static void test_tags(void **state)
{
    zs_dnn_target t;
    zs_dnn_plan list[4], again[2];
    zs_cuda_conv c = plain_conv();
    (void)state;
    target_of(&t, "h100");
    int n = zs_dnn_plans(list, 4, &c, &t, room, NULL, NULL);
    assert_int_equal(n, 4);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            assert_string_not_equal(list[i].tag, list[k].tag);
        assert_int_equal(zs_dnn_plans(again, 2, &c, &t, room, list[i].tag, NULL), 1);
        assert_string_equal(again[0].tag, list[i].tag);
        assert_int_equal(again[0].workspace, list[i].workspace);
        zs_dnn_plan_free(&again[0]);
        zs_dnn_plan_free(&list[i]);
    }
    assert_int_equal(zs_dnn_plans(again, 2, &c, &t, room, "99:1=2", NULL), 0);
    zs_dnn_target_free(&t);
}

static void test_denied_engines(void **state)
{
    zs_dnn_target t;
    zs_dnn_plan first, other;
    char deny[64];
    zs_cuda_conv c = plain_conv();
    (void)state;
    target_of(&t, "h100");
    assert_int_equal(zs_dnn_plans(&first, 1, &c, &t, room, NULL, NULL), 1);
    (void)snprintf(deny, sizeof deny, "7,%d", atoi(first.tag));
    assert_int_equal(setenv("ZSEM_CUDNN_DENY", deny, 1), 0);
    assert_int_equal(zs_dnn_plans(&other, 1, &c, &t, room, NULL, NULL), 1);
    assert_int_equal(unsetenv("ZSEM_CUDNN_DENY"), 0);
    assert_int_not_equal(atoi(first.tag), atoi(other.tag));
    zs_dnn_plan_free(&first);
    zs_dnn_plan_free(&other);
    zs_dnn_target_free(&t);
}

static void test_bad_description(void **state)
{
    zs_dnn_target t;
    zs_error err = {0};
    (void)state;
    assert_int_equal(zs_dnn_target_new(&t, "{\"deviceVer\": 900", &err), ZS_E_FORMAT);
    assert_true(err.message[0]);
}

/* ---- plans on disk ---- */

static void test_plan_file(void **state)
{
    char dir[] = "/tmp/zsem-plans-XXXXXX", tag[ZS_PLAN_TAG];
    zs_plan_file f = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    char *below = zs_str_format("%s/a/b", dir);
    assert_int_equal(setenv("ZSEM_CACHE", below, 1), 0);
    zs_plan_file_open(&f, "library", 91900, "Some GPU/80");
    assert_non_null(f.path);
    assert_null(strstr(f.path + strlen(below) + 1, "/"));
    assert_false(zs_plan_file_get(tag, &f, "forward x"));
    assert_true(zs_plan_file_add(&f, "forward x", "62:1=2"));
    assert_true(zs_plan_file_add(&f, "forward xy", "7:"));
    assert_true(zs_plan_file_add(&f, "forward x", "+41:3=4"));
    FILE *out = fopen(f.path, "a");
    assert_non_null(out);
    (void)fputs("forward x\t", out); /* half a line */
    (void)fclose(out);
    zs_plan_file_close(&f);
    zs_plan_file_open(&f, "library", 91900, "Some GPU/80");
    assert_true(zs_plan_file_get(tag, &f, "forward x"));
    assert_string_equal(tag, "+41:3=4");
    assert_true(zs_plan_file_get(tag, &f, "forward xy"));
    assert_string_equal(tag, "7:");
    assert_false(zs_plan_file_get(tag, &f, "forward"));
    assert_int_equal(unlink(f.path), 0);
    zs_plan_file_close(&f);
    assert_int_equal(unsetenv("ZSEM_CACHE"), 0);
    assert_int_equal(rmdir(below), 0);
    zs_free(below);
    below = zs_str_format("%s/a", dir);
    assert_int_equal(rmdir(below), 0);
    zs_free(below);
    assert_int_equal(rmdir(dir), 0);
}

/* Nothing can be written there, and nothing is said. */
static void test_plan_file_nowhere(void **state)
{
    char tag[ZS_PLAN_TAG];
    zs_plan_file f = {0};
    (void)state;
    assert_int_equal(setenv("ZSEM_CACHE", "/dev/null/cache", 1), 0);
    zs_plan_file_open(&f, "library", 1, "gpu");
    assert_false(zs_plan_file_add(&f, "forward x", "62:1=2"));
    assert_false(zs_plan_file_get(tag, &f, "forward x"));
    zs_plan_file_close(&f);
    assert_int_equal(unsetenv("ZSEM_CACHE"), 0);
}

/* ---- without a device ---- */

static void test_no_device(void **state)
{
    const zs_backend *b = zs_backend_find("cuda");
    zs_error err = {0};
    (void)state;
    assert_non_null(b);
    assert_non_null(zs_backend_find("cuda-f32"));
    if (b->remote->open(&err) == ZS_OK)
        skip();
    assert_int_equal(err.status, ZS_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--device cpu"));
    assert_null(b->alloc(64));
    err = (zs_error){0};
    assert_int_equal(b->remote->sync(&err), ZS_E_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_h100_bf16),      cmocka_unit_test(test_h100_f32),
        cmocka_unit_test(test_a100_bf16),      cmocka_unit_test(test_tags),
        cmocka_unit_test(test_denied_engines), cmocka_unit_test(test_bad_description),
        cmocka_unit_test(test_plan_file),      cmocka_unit_test(test_plan_file_nowhere),
        cmocka_unit_test(test_no_device),
    };
    return cmocka_run_group_tests_name("cuda_plans", tests, meet_once, forget_all);
}
