/* SPDX-License-Identifier: MIT */
/* Opening models: random architectures are written under official names and inferred back; bundles
 * keep everything; what does not fit is refused with a reason. */
#include "models/model_impl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/model_kit.h"
#include "tests/unit/must.h"

static void assert_same_config(const zs_model_config *a, const zs_model_config *b)
{
    char *x = kit_config_text(a), *y = kit_config_text(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* Opens, giving the encoder's blocks per level only when asked for them. */
static zs_model *open_inferred(const char *path, const zs_model_config *c, bool raw, int *asked)
{
    char set[40];
    const char *const list[] = {set, NULL};
    zs_error err = {0}, err2 = {0};
    zs_model *m = NULL;
    zs_model_options o = {.raw = raw};
    if (zs_model_open(&m, path, &o, &err) == ZS_OK)
        return m;
    if (!strstr(err.message, "--set enc_num_res_blocks=N"))
        fail_msg("%s", err.message);
    ++*asked;
    (void)snprintf(set, sizeof set, "enc_num_res_blocks=%d", c->sem_encoder.num_res_blocks);
    o.set = list;
    if (zs_model_open(&m, path, &o, &err2) < 0)
        fail_msg("%s", err2.message);
    return m;
}

static void infers_random_architectures(void **state)
{
    char path[64];
    int asked = 0;
    (void)state;
    (void)kit_scratch(path);
    for (int i = 0; i < 60; i++) {
        zs_model_config c = kit_config(i % 4 != 0);
        kit_sd s = kit_sd_new(&c);
        size_t bytes = (size_t)zs_params_numel(s.ps) * sizeof(float);
        kit_sd_write(&s, path);
        zs_model *m = open_inferred(path, &c, false, &asked);
        assert_same_config(zs_model_configuration(m), &c);
        assert_memory_equal(zs_model_weights(m), s.averaged, bytes);
        zs_model_close(&m);
        m = open_inferred(path, &c, true, &asked);
        assert_memory_equal(zs_model_weights(m), s.raw, bytes);
        zs_model_close(&m);
        kit_sd_free(&s);
    }
    assert_true(asked < 60); /* ambiguity is the exception */
    (void)remove(path);
}

static void refuses_what_it_cannot_explain(void **state)
{
    char path[64];
    float extra[4] = {0};
    zs_error err = {0}, err2 = {0};
    zs_model *m = NULL;
    (void)state;
    (void)kit_scratch(path);
    zs_model_config c = kit_config(true);
    kit_sd s = kit_sd_new(&c);
    zs_tensorout kept = s.t[s.n - 1];
    s.t[s.n - 1] = (zs_tensorout){"ema_model.noise_net.bias", ZS_F32, 1, {4}, extra};
    kit_sd_write(&s, path);
    must_refuse(zs_model_open(&m, path, NULL, &err), &err, ZS_E_UNSUPPORTED,
                "ema_model.noise_net.bias has no place");
    assert_null(m);
    s.t[s.n - 1] = kept;
    s.t[s.n - 2].shape[0]++; /* the last tensor of the average: now of the wrong size */
    s.t[s.n - 2].data = s.data;
    kit_sd_write(&s, path);
    assert_int_equal(zs_model_open(&m, path, NULL, &err2), ZS_E_FORMAT);
    assert_null(m);
    assert_non_null(strstr(err2.message, "where the model needs"));
    kit_sd_free(&s);
    (void)remove(path);
}

static void names_the_missing_encoder(void **state)
{
    char path[64];
    zs_error err = {0};
    zs_model *m = NULL;
    (void)state;
    (void)kit_scratch(path);
    zs_model_config c = kit_config(true);
    kit_sd s = kit_sd_new(&c);
    size_t kept = 0;
    for (size_t i = 0; i < s.n; i++)
        if (!strstr(s.t[i].name, "encoder."))
            s.t[kept++] = s.t[i];
    s.n = kept;
    kit_sd_write(&s, path);
    must_refuse(zs_model_open(&m, path, NULL, &err), &err, ZS_E_UNSUPPORTED, "no encoder.*");
    kit_sd_free(&s);
    (void)remove(path);
}

/* ---- bundles ---- */

static void bundles_keep_everything(void **state)
{
    char a[64], b[64];
    (void)state;
    (void)kit_scratch(a);
    (void)kit_scratch(b);
    for (int i = 0; i < 12; i++) {
        zs_model_config c = kit_config(i % 3 != 0);
        zs_error err = {0};
        zs_model *m = NULL;
        kit_sd s = kit_sd_new(&c);
        size_t n = (size_t)zs_params_numel(s.ps);
        float stats[2][16];
        json_t *extra = json_pack("{s:i}", "step", 77);
        for (int k = 0; k < 16; k++) {
            stats[0][k] = (float)k;
            stats[1][k] = 0.5f + (float)k;
        }
        (void)snprintf(c.name, sizeof c.name, "random%d", i);
        zs_bundle bundle = {.config = &c, .params = s.ps, .weights = s.averaged, .extra = extra};
        if (c.unet.z_dim) {
            bundle.z_mean = stats[0];
            bundle.z_std = stats[1];
        }
        assert_int_equal(zs_bundle_write(a, &bundle, ZS_F32, &err), ZS_OK);
        must(zs_model_open(&m, a, NULL, &err), &err);
        assert_same_config(zs_model_configuration(m), &c);
        assert_memory_equal(zs_model_weights(m), s.averaged, n * sizeof(float));
        assert_int_equal(json_integer_value(json_object_get(zs_model_extra(m), "step")), 77);
        if (c.unet.z_dim)
            assert_memory_equal(zs_model_z_std(m), stats[1], (size_t)c.unet.z_dim * 4);
        else
            assert_null(zs_model_z_mean(m));
        assert_int_equal(zs_model_save(m, b, ZS_F16, &err), ZS_OK);
        zs_model_close(&m);
        assert_int_equal(zs_model_open(&m, b, NULL, &err), ZS_OK);
        for (size_t k = 0; k < n; k++)
            assert_true(fabsf(zs_model_weights(m)[k] -
                              zs_f16_to_f32(zs_f32_to_f16(s.averaged[k]))) <= 0.0f);
        zs_model_close(&m);
        json_decref(extra);
        kit_sd_free(&s);
    }
    (void)remove(a);
    (void)remove(b);
}

static void writes_no_broken_weights(void **state)
{
    char path[64];
    zs_error nan_err = {0}, big_err = {0};
    zs_model_config c = kit_config(true);
    kit_sd s = kit_sd_new(&c);
    zs_bundle b = {.config = &c, .params = s.ps, .weights = s.averaged};
    (void)state;
    (void)kit_scratch(path);
    (void)remove(path);
    s.averaged[3] = 1e6f;
    assert_int_equal(zs_bundle_write(path, &b, ZS_F16, &big_err), ZS_E_NUMERIC);
    s.averaged[3] = NAN;
    assert_int_equal(zs_bundle_write(path, &b, ZS_F32, &nan_err), ZS_E_NUMERIC);
    assert_int_equal(access(path, F_OK), -1);
    const char *const messages[] = {big_err.message, nan_err.message};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(strncmp(messages[i], path, strlen(path)), 0);
        assert_non_null(strstr(messages[i], "entry 3 of tensor generator.time_embed."));
    }
    kit_sd_free(&s);
}

static void reads_no_damaged_configuration(void **state)
{
    static const char *const bad[] = {
        "{", "[]", "{\"format\":2}", "{\"format\":1,\"name\":\"x\"}",
        "{\"format\":1,\"name\":\"x\",\"kind\":\"vae\",\"image_size\":32,\"channels\":1,"
        "\"fit\":\"crop\",\"diffusion\":{\"T\":10,\"beta_schedule\":\"linear\","
        "\"latent_beta_schedule\":\"linear\"}}"};
    char path[64];
    (void)state;
    (void)kit_scratch(path);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        float v = 0;
        zs_error err = {0};
        zs_model *m = NULL;
        zs_tensorout t = {"generator.out.2.bias", ZS_F32, 1, {1}, &v};
        json_t *meta = json_pack("{s:s}", "zsem", bad[i]);
        assert_int_equal(zs_safetensors_write(path, &t, 1, meta, &err), ZS_OK);
        json_decref(meta);
        assert_true(zs_model_open(&m, path, NULL, &err) < 0);
        assert_null(m);
        assert_non_null(strstr(err.message, path));
    }
    (void)remove(path);
}

/* The most memory the process has ever held, in bytes. */
static double peak(void)
{
    struct rusage r;
    assert_int_equal(getrusage(RUSAGE_SELF, &r), 0);
    return (double)r.ru_maxrss * 1024;
}

/* A network of more than 1.5 GB. */
static zs_model_config huge_config(void)
{
    zs_model_config c = kit_config(false);
    c.unet.levels = c.unet.num_res_blocks = 1;
    c.unet.ch[0] = 2048;
    c.unet.attn_levels = 0;
    return c;
}

static void assert_refused_small(const char *path)
{
    zs_error err = {0};
    zs_model *m = NULL;
    double before = peak();
    assert_int_equal(zs_model_open(&m, path, NULL, &err), ZS_E_FORMAT);
    assert_null(m);
    assert_true(peak() - before < 1 << 26);
    if (!strstr(err.message, "million parameters and the file holds 0.00"))
        fail_msg("%s", err.message);
}

static void believes_no_size_that_the_file_does_not_hold(void **state)
{
    zs_model_config c = huge_config();
    char path[64], *text = kit_config_text(&c);
    float v[1] = {0};
    zs_error err = {0};
    zs_tensorout t[] = {{"ema_model.input_blocks.0.0.weight", ZS_F32, 1, {1}, v},
                        {"ema_model.out.2.weight", ZS_F32, 1, {1}, v}};
    json_t *bundle = json_pack("{s:s}", "zsem", text);
    char *run = zs_str_format("{\"model\":%s}", text);
    json_t *checkpoint = json_pack("{s:s, s:s}", "format", "zsem checkpoint 1", "config", run);
    (void)state;
    (void)kit_scratch(path);
    assert_int_equal(zs_safetensors_write(path, t, 2, bundle, &err), ZS_OK);
    assert_refused_small(path);
    assert_int_equal(zs_safetensors_write(path, t, 2, checkpoint, &err), ZS_OK);
    assert_refused_small(path);
    json_decref(bundle);
    json_decref(checkpoint);
    zs_free(run);
    free(text);
    (void)remove(path);
}

/* Empty tensors declare any number of channels for nothing. */
static void believes_no_empty_tensors(void **state)
{
    char path[64];
    zs_model_config c = kit_config(false), huge = huge_config();
    (void)state;
    (void)kit_scratch(path);
    c.unet.levels = c.unet.num_res_blocks = 1;
    c.unet.attn_levels = 0;
    kit_sd s = kit_sd_new(&c);
    for (size_t i = 0; i < s.n; i++) {
        s.t[i].shape[0] = strstr(s.t[i].name, "in_layers.2.weight") ? huge.unet.ch[0] : 1;
        s.t[i].shape[1] = strstr(s.t[i].name, "time_embed.0") ? 2 : 0;
        s.t[i].shape[1] = strstr(s.t[i].name, "input_blocks.0.0") ? 1 : s.t[i].shape[1];
        s.t[i].shape[2] = 1;
        s.t[i].shape[3] = 1;
    }
    s.n--; /* x_T */
    kit_sd_write(&s, path);
    assert_refused_small(path);
    kit_sd_free(&s);
    (void)remove(path);
}

/* 2^32 + k is not k. */
static void narrows_no_integer(void **state)
{
    static const char *const members[][2] = {{"generator", "num_res_blocks"},
                                             {"generator", "heads"},
                                             {"encoder", "num_res_blocks"},
                                             {"encoder", "heads"},
                                             {"prior", "layers"},
                                             {NULL, "format"}};
    const json_int_t wide = (json_int_t)1 << 32;
    zs_model_config c = kit_config(true), back;
    (void)state;
    c.latent_mlp =
        (zs_latent_mlp_config){.z_dim = c.unet.z_dim, .hidden = 8, .layers = 2, .time_channels = 2};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        zs_error err = {0}, low = {0};
        json_t *j = zs_model_config_to_json(&c);
        json_t *part = members[i][0] ? json_object_get(j, members[i][0]) : j;
        json_int_t k = json_integer_value(json_object_get(part, members[i][1]));
        assert_true(k > 0);
        json_object_set_new(part, members[i][1], json_integer(k + wide));
        assert_true(zs_model_config_from_json(&back, j, "FILE", &err) < 0);
        assert_non_null(strstr(err.message, members[i][1]));
        assert_non_null(strstr(err.message, "42949672"));
        json_object_set_new(part, members[i][1], json_integer(k - wide));
        assert_true(zs_model_config_from_json(&back, j, "FILE", &low) < 0);
        json_decref(j);
    }
}

/* Hyper-parameters of safetensors files would be strings, so they are put there afterwards. */
static void narrows_no_hyper_parameter(void **state)
{
    char path[64];
    zs_model_config c = kit_config(false), inferred;
    (void)state;
    (void)kit_scratch(path);
    kit_sd s = kit_sd_new(&c);
    kit_sd_write(&s, path);
    for (int wide = 0; wide < 2; wide++) {
        zs_error err = {0};
        zs_tensorfile *f = NULL;
        zs_official net;
        zs_facts facts = {0};
        assert_int_equal(zs_tensorfile_open(&f, path, &err), ZS_OK);
        assert_int_equal(zs_official_find(&net, f, false, &err), ZS_OK);
        json_object_set_new(
            (json_t *)(uintptr_t)zs_tensorfile_meta(f), "hyper_parameters",
            json_pack("{s:I}", "net_beatgans_attn_head", (json_int_t)2 + ((json_int_t)wide << 32)));
        int status = zs_official_infer(&inferred, &facts, &net, 0, &err);
        assert_int_equal(status, wide ? ZS_E_UNSUPPORTED : ZS_OK);
        if (wide)
            assert_non_null(strstr(err.message, "net_beatgans_attn_head is 4294967298"));
        else
            assert_int_equal(inferred.unet.heads, 2);
        zs_free(facts.f);
        zs_tensorfile_close(&f);
    }
    kit_sd_free(&s);
    (void)remove(path);
}

static const zs_fact *find_fact(const zs_model *m, const char *key)
{
    size_t n = 0;
    const zs_fact *f = zs_model_facts(m, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(f[i].key, key) == 0)
            return &f[i];
    fail_msg("there is no fact \"%s\"", key);
    return NULL;
}

static void says_that_bundles_have_one_kind_of_weights(void **state)
{
    char path[64];
    zs_model_config c = kit_config(false);
    kit_sd s = kit_sd_new(&c);
    zs_bundle b = {.config = &c, .params = s.ps, .weights = s.averaged};
    zs_error err = {0};
    (void)state;
    (void)kit_scratch(path);
    assert_int_equal(zs_bundle_write(path, &b, ZS_F32, &err), ZS_OK);
    for (int raw = 0; raw < 2; raw++) {
        zs_model_options o = {.raw = raw};
        zs_model *m = NULL;
        assert_int_equal(zs_model_open(&m, path, &o, &err), ZS_OK);
        assert_string_equal(find_fact(m, "weights")->value, "as stored in the bundle");
        bool told = strstr(find_fact(m, "weights")->source, "has no others") != NULL;
        assert_int_equal(told, raw);
        zs_model_close(&m);
    }
    kit_sd_free(&s);
    (void)remove(path);
}

/* What is not in the tensors of a checkpoint of a training run is in its metadata. */
static void opens_checkpoints_of_runs(void **state)
{
    char path[64];
    (void)state;
    (void)kit_scratch(path);
    for (int i = 0; i < 8; i++) {
        zs_model_config c = kit_config(i % 2);
        zs_error err = {0}, err2 = {0};
        zs_model *m = NULL;
        kit_sd s = kit_sd_new(&c);
        s.n--; /* x_T */
        (void)snprintf(c.name, sizeof c.name, "run%d", i);
        c.image_size = 64;
        c.diffusion.T = 300;
        (void)snprintf(c.diffusion.beta_schedule, sizeof c.diffusion.beta_schedule, "cosine");
        (void)snprintf(c.fit, sizeof c.fit, "pad");
        char *text = kit_config_text(&c), *run = zs_str_format("{\"model\":%s,\"train\":{}}", text);
        json_t *meta = json_pack("{s:s, s:s, s:s}", "format", "zsem checkpoint 1", "config", run,
                                 "state", "{\"step\":1234}");
        assert_int_equal(zs_safetensors_write(path, s.t, s.n, meta, &err), ZS_OK);
        must(zs_model_open(&m, path, &(zs_model_options){.raw = i / 2 % 2}, &err), &err);
        assert_same_config(zs_model_configuration(m), &c);
        assert_memory_equal(zs_model_weights(m), i / 2 % 2 ? s.raw : s.averaged,
                            (size_t)zs_params_numel(s.ps) * sizeof(float));
        assert_string_equal(find_fact(m, "step")->value, "1234");
        assert_string_equal(find_fact(m, "weights")->value, i / 2 % 2 ? "raw" : "moving average");
        zs_model_close(&m);
        json_object_set_new(meta, "config", json_string("{\"model\":"));
        assert_int_equal(zs_safetensors_write(path, s.t, s.n, meta, &err), ZS_OK);
        assert_int_equal(zs_model_open(&m, path, NULL, &err2), ZS_E_FORMAT);
        assert_int_equal(strncmp(err2.message, path, strlen(path)), 0);
        json_decref(meta);
        zs_free(run);
        free(text);
        kit_sd_free(&s);
    }
    (void)remove(path);
}

static void refuses_statistics_that_are_no_numbers(void **state)
{
    static const struct {
        float mean, std;
        const char *says;
    } rows[] = {{NAN, 1, "conds_mean: entry 1 is nan, not a finite number"},
                {-INFINITY, 1, "conds_mean: entry 1 is -inf"},
                {0, NAN, "conds_std: entry 1 is nan, not a positive finite number"},
                {0, INFINITY, "conds_std: entry 1 is inf"},
                {0, 0, "conds_std: entry 1 is 0"},
                {0, -1, "conds_std: entry 1 is -1"},
                {-3, 2, NULL}};
    char path[64];
    zs_model_config c = kit_config(true);
    (void)state;
    (void)kit_scratch(path);
    c.unet.z_dim = c.sem_encoder.z_dim = c.latent_mlp.z_dim = 2;
    c.latent_mlp.layers = 0;
    c.sem_encoder.levels = 1; /* leaves no doubt about its blocks */
    c.sem_encoder.num_res_blocks = 1;
    c.sem_encoder.attn_levels = 0;
    kit_sd s = kit_sd_new(&c);
    zs_tensorout *t = s.t + s.n - 1; /* x_T and the last tensor of the raw weights' place */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zs_error err = {0};
        zs_model *m = NULL;
        const float mean[2] = {0, rows[i].mean}, std[2] = {1, rows[i].std};
        s.t[0] = (zs_tensorout){"conds_mean", ZS_F32, 1, {2}, mean};
        *t = (zs_tensorout){"conds_std", ZS_F32, 1, {2}, std};
        kit_sd_write(&s, path);
        int status = zs_model_open(&m, path, NULL, &err);
        assert_int_equal(status, rows[i].says ? ZS_E_FORMAT : ZS_OK);
        if (rows[i].says && !strstr(err.message, rows[i].says))
            fail_msg("%s", err.message);
        zs_model_close(&m);
    }
    kit_sd_free(&s);
    (void)remove(path);
}

static void names_the_empty_part(void **state)
{
    static const char *const bad[] = {"", ",", "a.ckpt,", ",a.ckpt", "a.ckpt,,b.pkl"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        zs_error err = {0};
        zs_model *m = NULL;
        must_refuse(zs_model_open(&m, bad[i], NULL, &err), &err, ZS_E_INVALID,
                    i ? "has an empty part" : "the MODEL is empty");
        assert_null(m);
    }
}

/* Whichever allocation fails, opening fails cleanly or (a fact was dropped) succeeds. */
static void survives_every_failed_allocation(void **state)
{
    char path[64];
    zs_model_config c = kit_config(true);
    (void)state;
    (void)kit_scratch(path);
    c.unet.levels = c.sem_encoder.levels = 1;
    c.unet.num_res_blocks = c.sem_encoder.num_res_blocks = 1;
    c.unet.attn_levels = c.sem_encoder.attn_levels = 0;
    kit_sd s = kit_sd_new(&c);
    kit_sd_write(&s, path);
    zs_error none = {0};
    zs_model *m = NULL;
    (void)zs_alloc_fail_at(0);
    assert_int_equal(zs_model_open(&m, path, NULL, &none), ZS_OK);
    zs_model_close(&m);
    long calls = zs_alloc_fail_at(0), failures = 0, tried = 0;
    assert_true(calls > 100);
    for (long n = 1; n <= calls; n += n < 300 ? 1 : 7, tried++) {
        zs_error err = {0};
        (void)zs_alloc_fail_at(n);
        int status = zs_model_open(&m, path, NULL, &err);
        (void)zs_alloc_fail_at(0);
        assert_int_equal(status == ZS_OK, m != NULL);
        assert_int_equal(status, err.status);
        failures += status != ZS_OK;
        zs_model_close(&m);
    }
    print_message("%ld allocations, %ld of %ld failures noticed\n", calls, failures, tried);
    assert_true(failures * 10 > tried * 9);
    kit_sd_free(&s);
    (void)remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(infers_random_architectures),
        cmocka_unit_test(refuses_what_it_cannot_explain),
        cmocka_unit_test(names_the_missing_encoder),
        cmocka_unit_test(bundles_keep_everything),
        cmocka_unit_test(writes_no_broken_weights),
        cmocka_unit_test(reads_no_damaged_configuration),
        cmocka_unit_test(believes_no_size_that_the_file_does_not_hold),
        cmocka_unit_test(believes_no_empty_tensors),
        cmocka_unit_test(narrows_no_integer),
        cmocka_unit_test(narrows_no_hyper_parameter),
        cmocka_unit_test(says_that_bundles_have_one_kind_of_weights),
        cmocka_unit_test(opens_checkpoints_of_runs),
        cmocka_unit_test(refuses_statistics_that_are_no_numbers),
        cmocka_unit_test(names_the_empty_part),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
