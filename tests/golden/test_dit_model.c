/* SPDX-License-Identifier: MIT */
/* The diffusion transformer as a model: the authors' file opened, under samplers with guidance,
 * with a first stage, in a bundle. */
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include "io/tensorwrite.h"
#include "train/generate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "rcg-dit";

enum { SIDE = 8, CH = 4, REP = 32, STEPS = 25, IMAGE = SIDE * SIDE * CH };

static const char *const heads[] = {"generator.heads=4", NULL};

static zs_model *open_model(const char *with, bool raw)
{
    char dit[512], spec[1200];
    zs_error err = {0};
    zs_model *m = NULL;
    zs_model_options o = {.set = heads, .raw = raw};
    assert_true(golden_path(dit, SET, "checkpoint-last.pth"));
    (void)snprintf(spec, sizeof spec, "%s%s", dit, with);
    must(zs_model_open(&m, spec, &o, &err), &err);
    return m;
}

static void opens_the_authors_file(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape s;
    size_t n;
    zs_error err = {0};
    float *x = golden_nhwc(f, "fwd.x", &s);
    float *rep = golden_f32(f, "rep", &n), got[4 * IMAGE], absent[REP];
    int64_t *t = golden_i64(f, "fwd.t", &n);
    zs_model *m = open_model("", false);
    const zs_model_config *c = zs_model_configuration(m);
    assert_memory_equal(&c->dit, &net_dit, sizeof net_dit);
    assert_int_equal(c->image_size, SIDE);
    assert_int_equal(c->channels, CH);
    assert_string_equal(c->diffusion.variance, "learned");
    assert_false(c->diffusion.clip);
    assert_string_equal(c->reps.name, "mocov3_vit_base");
    assert_int_equal(zs_model_eps(m, got, x, s, t, &(zs_cond){.z = rep}, &err), ZS_OK);
    golden_agrees(f, "fwd.out", "model", got, 4 * IMAGE, 1e-4);
    float *both = golden_f32(f, "cfg.rep", &n);
    assert_int_equal(zs_model_absent_z(m, absent, &err), ZS_OK);
    assert_memory_equal(absent, both + 2 * REP, sizeof absent);
    zs_model_close(&m);
    zs_free(x);
    zs_free(rep);
    zs_free(both);
    zs_free(t);
    zs_tensorfile_close(&f);
}

/* Sessions, guidance and variances as commands use them. */
static void generates(void **state)
{
    (void)state;
    golden_need(SET);
    static const struct {
        const char *noises, *sample;
        double guidance;
    } runs[] = {{"p25.noises", "p25.sample", 1}, {"p25cfg.noises", "p25cfg.sample", 1.5}};
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_model *m = open_model("", false);
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        zs_shape s, unused;
        size_t n;
        zs_error err = {0};
        float *x = golden_nhwc(f, "z", &s), *rep = golden_f32(f, "rep", &n);
        float *want = golden_nhwc(f, runs[i].sample, &unused);
        float *noise = golden_steps(f, runs[i].noises, 2, &n);
        assert_int_equal(n, STEPS);
        const zs_generation g = {.model = m,
                                 .sampler = &zs_sampler_ddpm,
                                 .steps = STEPS,
                                 .guidance = runs[i].guidance,
                                 .cond = {.z = rep},
                                 .noise = {.recorded = noise}};
        must(zs_generate(&g, x, s, &err), &err);
        golden_within(runs[i].sample, "model", golden_norm_error(x, want, 2 * IMAGE), 1e-3);
        zs_free(x);
        zs_free(rep);
        zs_free(want);
        zs_free(noise);
    }
    zs_model_close(&m);
    zs_tensorfile_close(&f);
}

enum { ROWS = 11 };

/* The authors' file as one of a network of ten classes: the eleventh row stands for none. The
 * original DiT has nothing for representations. */
static void write_classes(const char *path, const float table[ROWS * 64], bool original)
{
    static const char prefix[] = "model_ema.", rows[] = "y_embedder.embedding_table.weight";
    zs_tensorfile *f = golden_open(SET, "checkpoint-last.pth");
    zs_tensorout t[256];
    zs_error err = {0};
    size_t n = 0;
    for (size_t i = 0; i < zs_tensorfile_count(f); i++) {
        const zs_tensorinfo *info = zs_tensorfile_info(f, i);
        const char *name = info->name + strlen(prefix);
        size_t count;
        if (!zs_str_starts(info->name, prefix) || strcmp(name, "fake_latent") == 0 ||
            (original && zs_str_starts(name, "rep_embedder.")))
            continue;
        assert_true(n < sizeof t / sizeof t[0]);
        t[n] = (zs_tensorout){.name = name, .dtype = ZS_F32, .nd = info->nd};
        memcpy(t[n].shape, info->shape, sizeof t[n].shape);
        t[n].data = golden_f32(f, info->name, &count);
        if (strcmp(name, rows) == 0)
            t[n].shape[0] = ROWS;
        n++;
    }
    const void *own = NULL;
    for (size_t i = 0; i < n; i++)
        if (strcmp(t[i].name, rows) == 0) {
            own = t[i].data;
            t[i].data = table;
        }
    must(zs_safetensors_write(path, t, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)(t[i].data == table ? own : t[i].data));
    zs_tensorfile_close(&f);
}

/* What is predicted for class 7 of ten. */
static void open_classes(const char *path, const float table[ROWS * 64], bool original,
                         float eps[2 * IMAGE])
{
    const zs_model_options o = {.set = heads};
    const int64_t y = 7, t = 400;
    zs_error err = {0};
    zs_model *m = NULL;
    zs_ports p;
    float x[IMAGE];
    write_classes(path, table, original);
    must(zs_model_open(&m, path, &o, &err), &err);
    const zs_params *ps = zs_model_params(m);
    long i = zs_params_find(ps, "y_embedder.embedding_table.weight");
    assert_true(i >= 0);
    const zs_param *q = zs_params_at(ps, (size_t)i);
    assert_int_equal(q->numel, ROWS * 64);
    assert_memory_equal(zs_model_weights(m) + q->offset, table, ROWS * 64 * sizeof *table);
    (void)zs_model_config_ports(zs_model_configuration(m), ZS_BOX_GENERATOR, &p);
    assert_int_equal(p.classes, ROWS);
    assert_true(p.y_drop > 0 && p.guided == 3);
    assert_string_equal(zs_model_configuration(m)->dit.gelu, original ? "tanh" : "");
    const zs_generation g = {
        .model = m, .sampler = &zs_sampler_ddpm, .steps = STEPS, .guidance = 4};
    must(zs_generation_check(&g, &err), &err);
    zs_shape xs = zs_shape4(1, SIDE, SIDE, CH);
    zs_draw_xt(x, xs, 1, 0);
    must(zs_model_eps(m, eps, x, xs, &t, &(zs_cond){.y = &y}, &err), &err);
    zs_model_close(&m);
}

/* Files whose networks are told classes, with a row more than there are; RCG's have the exact GELU,
 * the original ones another, which is close. */
static void reads_tables_of_classes(void **state)
{
    (void)state;
    golden_need(SET);
    char path[] = "/tmp/zsem-dit-XXXXXX.safetensors";
    float table[ROWS * 64], eps[2][2 * IMAGE];
    int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    (void)close(fd);
    for (int i = 0; i < ROWS * 64; i++)
        table[i] = 0.3f * (float)((i * 37) % 64 - 32) / 32.0f;
    for (int i = 0; i < 2; i++)
        open_classes(path, table, i, eps[i]);
    double off = golden_norm_error(eps[1], eps[0], 2 * IMAGE);
    print_message("GELU by a tanh moves the prediction by %.2g\n", off);
    assert_true(off > 1e-6 && off < 1e-2);
    (void)unlink(path);
}

static void asks_for_the_heads(void **state)
{
    (void)state;
    golden_need(SET);
    char path[512];
    zs_error err = {0};
    zs_model *m = NULL;
    assert_true(golden_path(path, SET, "checkpoint-last.pth"));
    must_refuse(zs_model_open(&m, path, NULL, &err), &err, ZS_E_INVALID, "--set generator.heads=N");
}

/* Latents of 8x8 and 4 channels; the VQ-f8 of another set makes such of 64x64 pixels. */
static void joins_its_first_stage(void **state)
{
    (void)state;
    golden_need(SET);
    golden_need("rcg-vqf8");
    char vae[520] = ",", bundle[] = "/tmp/zsem-dit-XXXXXX.safetensors";
    zs_error err = {0};
    assert_true(golden_path(vae + 1, "rcg-vqf8", "last.ckpt"));
    zs_model *m = open_model(vae, false), *other = NULL;
    const zs_model_config *c = zs_model_configuration(m);
    assert_int_equal(c->image_size, 64);
    assert_int_equal(c->channels, 3);
    zs_shape states = zs_model_config_states(c, 2);
    assert_int_equal(states.d[1], SIDE);
    assert_int_equal(states.d[3], CH);
    zs_tensorfile *f = golden_open("rcg-vqf8", "golden.safetensors");
    zs_shape xs, zs;
    float *image = golden_nhwc(f, "image", &xs), *want = golden_nhwc(f, "encode", &zs);
    size_t n = (size_t)zs_shape_numel(&xs);
    float *x = zs_alloc(n, sizeof *x), z[2 * IMAGE];
    assert_non_null(x);
    assert_non_null(x);
    assert_int_equal(zs_model_to_latents(m, z, image, xs, NULL, &err), ZS_OK);
    golden_agrees(f, "encode", "model", z, 2 * IMAGE, 1e-4);
    assert_int_equal(zs_model_from_latents(m, x, want, zs, &err), ZS_OK);
    golden_agrees(f, "decode_noquant", "model", x, n, 1e-4);
    int fd = mkstemps(bundle, 12);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(zs_model_save(m, bundle, ZS_F32, &err), ZS_OK);
    must(zs_model_open(&other, bundle, NULL, &err), &err);
    assert_memory_equal(&zs_model_configuration(other)->dit, &c->dit, sizeof c->dit);
    assert_memory_equal(&zs_model_configuration(other)->vae, &c->vae, sizeof c->vae);
    assert_memory_equal(zs_model_weights(other), zs_model_weights(m),
                        (size_t)zs_params_numel(zs_model_params(m)) * sizeof(float));
    zs_model_close(&m);
    zs_model_close(&other);
    (void)unlink(bundle);
    zs_free(image);
    zs_free(want);
    zs_free(x);
    zs_tensorfile_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_authors_file),  cmocka_unit_test(generates),
        cmocka_unit_test(reads_tables_of_classes), cmocka_unit_test(asks_for_the_heads),
        cmocka_unit_test(joins_its_first_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
