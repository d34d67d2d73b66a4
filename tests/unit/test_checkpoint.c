/* SPDX-License-Identifier: MIT */
/* Checkpoint files and the folder of a run, without a model. */
#include "io/tensorwrite.h"
#include "train/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/zsem-checkpoint-XXXXXX";
static zs_params *layout;
static json_t *config;

static zs_train_state new_state(float first)
{
    zs_train_state s;
    zs_error err = {0};
    if (zs_train_state_new(&s, layout, zs_backend_find("cpu-ref"), &err) < 0)
        fail_msg("%s", err.message);
    int n = 0;
    for (size_t i = 0; i < zs_params_count(layout); i++) {
        const zs_param *p = zs_params_at(layout, i);
        for (int64_t k = p->offset; k < p->offset + p->numel; k++, n++) {
            s.b.param[k] = first + (float)n;
            s.b.ema[k] = first + 0.25f * (float)n;
            s.b.m[k] = first - 0.125f * (float)n;
            s.b.v[k] = 1e-30f * (float)n;
        }
    }
    return s;
}

static void assert_same_state(const zs_train_state *a, const zs_train_state *b)
{
    size_t bytes = a->b.n * sizeof(float);
    assert_memory_equal(a->b.param, b->b.param, bytes);
    assert_memory_equal(a->b.ema, b->b.ema, bytes);
    assert_memory_equal(a->b.m, b->b.m, bytes);
    assert_memory_equal(a->b.v, b->b.v, bytes);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->samples, b->samples);
    assert_int_equal(a->loss_count, b->loss_count);
    assert_true(a->loss_sum == b->loss_sum && a->seconds == b->seconds);
}

static const char *file(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void test_round_trip(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_train_state s = new_state(3.0f), back = new_state(0.0f);
    s.step = 123456789;
    s.samples = (int64_t)1 << 40;
    s.seconds = 0.1 + 0.2; /* not a short decimal */
    s.loss_sum = 1.0 / 3.0;
    s.loss_count = 7;
    assert_int_equal(zs_checkpoint_write(file("a.safetensors"), &s, config, &err), ZS_OK);
    if (zs_checkpoint_read(&back, file("a.safetensors"), config, &err) < 0)
        fail_msg("%s", err.message);
    assert_same_state(&s, &back);
    zs_train_state_free(&s);
    zs_train_state_free(&back);
    zs_train_state_free(&back);
}

/* The sum of a file is that of its weights alone, one after the other, as files have it that were
 * written when memory had no gaps between parameters. */
static void test_sum_without_gaps(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_train_state s = new_state(3.0f);
    zs_tensorfile *f = NULL;
    assert_true(s.b.n > (size_t)zs_params_weights(layout));
    s.b.param[56] = s.b.m[57] = 7.0f; /* between parameters; in no file */
    assert_int_equal(zs_checkpoint_write(file("e.safetensors"), &s, config, &err), ZS_OK);
    assert_int_equal(zs_tensorfile_open(&f, file("e.safetensors"), &err), ZS_OK);
    const json_t *sum = json_object_get(zs_tensorfile_meta(f), "sum_weights");
    assert_string_equal(json_string_value(sum), "c191af507ca03e73");
    zs_tensorfile_close(&f);
    zs_train_state_free(&s);
}

/* Other programs find PyTorch's names and layouts. */
static void test_names(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_train_state s = new_state(0.0f);
    zs_tensorfile *f = NULL;
    assert_int_equal(zs_checkpoint_write(file("b.safetensors"), &s, config, &err), ZS_OK);
    assert_int_equal(zs_tensorfile_open(&f, file("b.safetensors"), &err), ZS_OK);
    static const char *const names[] = {"model.conv.weight",  "ema_model.conv.weight",
                                        "adam_m.conv.weight", "adam_v.conv.weight",
                                        "model.conv.bias",    "adam_v.linear.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(zs_tensorfile_find(f, names[i]) >= 0);
    assert_int_equal(zs_tensorfile_count(f), 12);
    size_t i = (size_t)zs_tensorfile_find(f, "model.conv.weight");
    const zs_tensorinfo *t = zs_tensorfile_info(f, i);
    assert_int_equal(t->nd, 4);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[3], 3);
    float w[54];
    assert_int_equal(zs_tensorfile_read_f32(f, i, w, 54, &err), ZS_OK);
    /* file [o][c][y][x], engine [y][x][c][o] */
    for (int o = 0; o < 2; o++)
        for (int c = 0; c < 3; c++)
            for (int yx = 0; yx < 9; yx++)
                assert_true(w[(o * 3 + c) * 9 + yx] == (float)((yx * 3 + c) * 2 + o));
    zs_tensorfile_close(&f);
    zs_train_state_free(&s);
}

/* Every flipped byte is noticed: as damage, or (in the tail of names and paddings that carry no
 * meaning) by giving back exactly what was written. */
static void test_flipped_bytes(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_train_state s = new_state(1.0f), back = new_state(0.0f);
    char *path = strdup(file("c.safetensors")), *broken = strdup(file("d.safetensors"));
    assert_int_equal(zs_checkpoint_write(path, &s, config, &err), ZS_OK);
    static uint8_t bytes[1 << 16];
    FILE *f = fopen(path, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f), noticed = 0;
    fclose(f);
    assert_true(n > 1000 && n < sizeof bytes);
    for (size_t i = 0; i < n; i += 7) {
        bytes[i] ^= 0x04;
        f = fopen(broken, "wb");
        assert_int_equal(fwrite(bytes, 1, n, f), n);
        fclose(f);
        bytes[i] ^= 0x04;
        memset(&err, 0, sizeof err);
        int status = zs_checkpoint_read(&back, broken, config, &err);
        if (status == ZS_OK)
            assert_same_state(&s, &back);
        else
            assert_true(status == ZS_E_FORMAT || status == ZS_E_UNSUPPORTED); /* a new dtype */
        noticed += status != ZS_OK;
    }
    assert_true(noticed > n / 7 * 9 / 10);
    for (size_t cut = 0; cut < n; cut += 101) {
        f = fopen(broken, "wb");
        assert_int_equal(fwrite(bytes, 1, cut, f), cut);
        fclose(f);
        assert_int_equal(zs_checkpoint_read(&back, broken, config, NULL), ZS_E_FORMAT);
    }
    free(path);
    free(broken);
    zs_train_state_free(&s);
    zs_train_state_free(&back);
}

static void test_other_config(void **state)
{
    (void)state;
    json_t *other = json_deep_copy(config);
    zs_error err = {0};
    assert_int_equal(zs_checkpoint_same_config(config, other, "run", &err), ZS_OK);
    json_object_set_new(json_object_get(other, "run"), "images", json_integer(5));
    assert_int_equal(zs_checkpoint_same_config(config, other, "run", &err), ZS_OK);
    json_t *unet = json_object_get(json_object_get(other, "model"), "unet");
    json_object_set_new(unet, "channels", json_pack("[i, i]", 8, 32));
    assert_int_equal(zs_checkpoint_same_config(config, other, "run", &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "unet.channels [8,16], not [8,32]"));
    memset(&err, 0, sizeof err);
    json_object_set_new(unet, "channels", json_pack("[i, i]", 8, 16));
    json_object_set_new(json_object_get(other, "train"), "new", json_true());
    assert_int_equal(zs_checkpoint_same_config(config, other, "run", &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "new unset, not true"));
    memset(&err, 0, sizeof err);
    assert_int_equal(zs_checkpoint_same_config(other, config, "run", &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "new true, not unset"));
    json_decref(other);
}

/* What a run has, what it is now given, and what goes on with it. */
static void test_names_the_option(void **state)
{
    static const struct {
        const char *have, *want, *says;
    } rows[] = {
        {"{\"train\":{}}", "{\"train\":{\"t_weight\":100.0}}",
         "t_weight 1, not 100.0: go on with --set t_weight=1, or"},
        {"{\"train\":{\"t_weight\":5.5}}", "{\"train\":{}}",
         "t_weight 5.5, not 1: go on with --set t_weight=5.5, or"},
        {"{\"train\":{\"lr\":0.1}}", "{\"train\":{\"lr\":0.10000000000000002}}",
         "go on with --set lr=0.1, or"},
        {"{\"train\":{\"lr\":0.10000000000000002}}", "{\"train\":{\"lr\":0.1}}",
         "go on with --set lr=0.10000000000000002, or"},
        {"{\"train\":{\"seed\":\"7\"}}", "{\"train\":{\"seed\":\"8\"}}",
         "seed \"7\", not \"8\": go on with --seed 7, or"},
        {"{\"train\":{\"optimizer\":\"adam\"}}", "{\"train\":{\"optimizer\":\"adamw\"}}",
         "go on with the --preset that it was begun with, or"},
        {"{\"model\":{\"generator\":{\"channels\":[8,16]}}}",
         "{\"model\":{\"generator\":{\"channels\":[8]}}}",
         "generator.channels [8,16], not [8]: go on with --set generator.channels=8,16, or"},
        {"{\"model\":{\"encoder\":{\"attention_levels\":[]}}}",
         "{\"model\":{\"encoder\":{\"attention_levels\":[1]}}}",
         "go on with --set encoder.attention_levels=none, or"},
        {"{\"model\":{\"prior\":{\"width\":16,\"arch\":\"rdm\"}}}",
         "{\"model\":{\"prior\":{\"width\":24,\"arch\":\"latent_mlp\"}}}",
         "prior.arch \"rdm\", not \"latent_mlp\": go on with --arch rdm, or"},
        {"{\"model\":{\"prior\":{\"width\":16}}}", "{\"model\":{\"prior\":{\"width\":24}}}",
         "go on with --set width=16, or"},
        {"{\"model\":{}}", "{\"model\":{\"later\":1}}",
         "later unset, not 1: go on with the same options, or"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        zs_error err = {0};
        json_t *have = json_loads(rows[i].have, 0, NULL), *want = json_loads(rows[i].want, 0, NULL);
        assert_true(have && want);
        assert_int_equal(zs_checkpoint_same_config(have, want, "run", &err), ZS_E_INVALID);
        if (!strstr(err.message, rows[i].says))
            fail_msg("no \"%s\" in: %s", rows[i].says, err.message);
        json_decref(have);
        json_decref(want);
    }
}

/* An encoder computes other last digits on another machine; another encoder, other numbers. */
static void test_same_encoder(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
    } now[] = {{"-0.53442 0.989105 1.15987", ZS_OK}, {"-0.53442 0.999105 1.15987", ZS_E_INVALID}};
    json_t *was = json_pack("{s:{s:s}, s:{}}", "model", "rep_fingerprint",
                            "-0.534421 0.989105 1.15986", "train");
    for (size_t i = 0; i < sizeof now / sizeof *now; i++) {
        zs_error err = {0};
        json_t *is = json_pack("{s:{s:s}, s:{}}", "model", "rep_fingerprint", now[i].text, "train");
        assert_int_equal(zs_checkpoint_same_config(was, is, "run", &err), now[i].status);
        json_decref(is);
    }
    json_decref(was);
}

static void test_not_a_checkpoint(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_train_state s = new_state(0.0f);
    float x = 1.0f;
    const zs_tensorout t = {.name = "x", .nd = 1, .shape = {1}, .data = &x};
    assert_int_equal(zs_safetensors_write(file("e.safetensors"), &t, 1, NULL, &err), ZS_OK);
    assert_int_equal(zs_checkpoint_read(&s, file("e.safetensors"), config, &err), ZS_E_FORMAT);
    assert_non_null(strstr(err.message, "not a checkpoint"));
    assert_int_equal(zs_checkpoint_read(&s, file("missing"), config, NULL), ZS_E_IO);
    assert_int_equal(zs_checkpoint_write(file("no/such/folder"), &s, config, NULL), ZS_E_IO);
    zs_train_state_free(&s);
}

/* Each allocation fails once: an error, no leak, and no file. */
static void test_out_of_memory(void **state)
{
    (void)state;
    zs_train_state s = new_state(0.0f);
    char *path = strdup(file("f.safetensors"));
    int status = ZS_E_NOMEM;
    long n = 0;
    while (status != ZS_OK) {
        zs_error err = {0};
        zs_alloc_fail_at(++n);
        status = zs_checkpoint_write(path, &s, config, &err);
        zs_alloc_fail_at(0);
        assert_true(status == ZS_OK || status == ZS_E_NOMEM);
        assert_int_equal(access(path, F_OK) == 0, status == ZS_OK);
    }
    assert_true(n > 3);
    for (status = ZS_E_NOMEM, n = 0; status != ZS_OK;) {
        zs_error err = {0};
        zs_alloc_fail_at(++n);
        status = zs_checkpoint_read(&s, path, config, &err);
        zs_alloc_fail_at(0);
        assert_true(status == ZS_OK || status == ZS_E_NOMEM);
    }
    assert_true(n > 3);
    free(path);
    zs_train_state_free(&s);
}

static void touch(const zs_rundir *d, const char *name)
{
    char *path = zs_rundir_file(d, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    zs_free(path);
}

static void test_rundir(void **state)
{
    (void)state;
    zs_rundir d = {0}, second = {0};
    zs_error err = {0};
    char *path = strdup(file("deep/er/run"));
    if (zs_rundir_open(&d, path, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(zs_rundir_open(&second, path, &err), ZS_E_INVALID);
    static const char *const names[] = {
        "checkpoints/step-00000020.safetensors",  "checkpoints/step-00000003.safetensors",
        "checkpoints/step-00000100.safetensors",  "checkpoints/step-00000007.damaged",
        "checkpoints/step-123456789.safetensors", "checkpoints/step-1.safetensors",
        "checkpoints/step--0000001.safetensors",  "checkpoints/notes.txt",
        "checkpoints/step-.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        touch(&d, names[i]);
    int64_t *steps;
    size_t n;
    assert_int_equal(zs_rundir_checkpoints(&d, &steps, &n, NULL), ZS_OK);
    assert_int_equal(n, 4);
    assert_true(steps[0] == 3 && steps[1] == 20 && steps[2] == 100 && steps[3] == 123456789);
    zs_free(steps);
    assert_int_equal(zs_rundir_prune(&d, 2, NULL), ZS_OK);
    assert_int_equal(zs_rundir_checkpoints(&d, &steps, &n, NULL), ZS_OK);
    assert_int_equal(n, 2);
    assert_true(steps[0] == 100);
    zs_free(steps);
    char *kept = zs_rundir_file(&d, "checkpoints/notes.txt");
    assert_int_equal(access(kept, F_OK), 0);
    zs_free(kept);
    zs_rundir_close(&d);
    zs_rundir_close(&d);
    assert_int_equal(zs_rundir_open(&second, path, NULL), ZS_OK); /* the lock is free again */
    zs_rundir_close(&second);
    touch(&(zs_rundir){.path = root}, "plain");
    memset(&err, 0, sizeof err);
    assert_int_equal(zs_rundir_open(&second, file("plain/run"), &err), ZS_E_IO);
    free(path);
}

static size_t log_size(const zs_rundir *d)
{
    struct stat st;
    char *path = zs_rundir_file(d, "log.jsonl");
    assert_int_equal(stat(path, &st), 0);
    zs_free(path);
    return (size_t)st.st_size;
}

static void test_log(void **state)
{
    (void)state;
    zs_rundir d = {0};
    assert_int_equal(zs_rundir_open(&d, file("log-run"), NULL), ZS_OK);
    assert_int_equal(zs_rundir_log_truncate(&d, 9, NULL), ZS_OK); /* no log yet */
    size_t size[6] = {0};
    for (int k = 1; k <= 5; k++) {
        json_t *line = json_pack("{s:i, s:f}", "step", 10 * k, "loss", 0.5);
        assert_int_equal(zs_rundir_log_append(&d, line, NULL), ZS_OK);
        json_decref(line);
        size[k] = log_size(&d);
    }
    assert_int_equal(zs_rundir_log_truncate(&d, 50, NULL), ZS_OK);
    assert_int_equal(log_size(&d), size[5]);
    assert_int_equal(zs_rundir_log_truncate(&d, 39, NULL), ZS_OK);
    assert_int_equal(log_size(&d), size[3]);
    assert_int_equal(zs_rundir_log_truncate(&d, 20, NULL), ZS_OK);
    assert_int_equal(log_size(&d), size[2]);
    assert_int_equal(zs_rundir_log_truncate(&d, 0, NULL), ZS_OK);
    assert_int_equal(log_size(&d), 0);
    zs_rundir_close(&d);
}

static int setup(void **state)
{
    static const zs_param params[] = {
        {.name = "conv.weight", .nd = 4, .shape = {2, 3, 3, 3}, .layout = ZS_LAYOUT_CONV},
        {.name = "conv.bias", .nd = 1, .shape = {3}}, /* of odd length */
        {.name = "linear.weight", .nd = 2, .shape = {5, 3}}};
    (void)state;
    assert_non_null(mkdtemp(root));
    assert_int_equal(zs_params_new(&layout, NULL), ZS_OK);
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        zs_param p = params[i];
        p.fan_in = 1;
        p.alias = -1;
        p.trainable = true;
        assert_true(zs_params_add(layout, &p, NULL) >= 0);
    }
    config = json_pack("{s:{s:i, s:{s:[i, i]}}, s:{s:f}, s:{s:i}}", "model", "size", 8, "unet",
                       "channels", 8, 16, "train", "lr", 1e-4, "run", "images", 100);
    return config ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    json_decref(config);
    zs_params_free(&layout);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_sum_without_gaps),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_other_config),  cmocka_unit_test(test_names_the_option),
        cmocka_unit_test(test_same_encoder),  cmocka_unit_test(test_not_a_checkpoint),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_rundir),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
