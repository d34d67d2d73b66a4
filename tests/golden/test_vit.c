/* SPDX-License-Identifier: MIT */
/* Frozen vision transformers against RCG's own encoders: MoCo v3 with its projector, DINO, iBOT and
 * DeiT; preprocessing, positions at another resolution, and the layouts of the full-size models. */
#include "models/infer_vit.h"
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A ViT of a golden set, with its weights. */
typedef struct vit {
    zs_vit_config c;
    zs_params *ps;
    float *weights;
} vit;

typedef struct wanted {
    const zs_vit_config *c;
    int64_t n;
} wanted;

static void add_outputs(zs_graph *g, const zs_vit_taps *t)
{
    zs_graph_output(g, "tokens_in", t->tokens_in);
    zs_graph_output(g, "block0", t->block0);
    zs_graph_output(g, "tokens_out", t->tokens_out);
    zs_graph_output(g, "features", t->features);
    if (t->head != ZS_NONE)
        zs_graph_output(g, "head", t->head);
}

static void build(zs_nn *nn, const void *ctx)
{
    const wanted *w = ctx;
    zs_vit_taps taps;
    zs_shape s = zs_shape4(w->n, w->c->side, w->c->side, w->c->in_channels);
    zs_vit_build(&taps, nn, w->c, zs_graph_input(nn->g, "x", s));
    add_outputs(nn->g, &taps);
}

static zs_exec *plan(const vit *m, const char *backend, int64_t n)
{
    const wanted w = {&m->c, n};
    return net_plan(m->ps, &(net_recipe){build, &w, .backend = backend, .flags = ZS_EXEC_POISON});
}

/* side 0: that of the file. */
static void vit_open(vit *m, const char *set, const char *file, int heads, int64_t side)
{
    zs_error err = {0};
    zs_vit_file at;
    zs_tensorfile *f = golden_open(set, file);
    *m = (vit){0};
    assert_int_equal(zs_vit_find(&at, f), ZS_OK);
    must(zs_vit_infer(&m->c, NULL, f, &at, &err), &err);
    m->c.heads = heads;
    m->c.side = side ? side : m->c.side;
    must(zs_arch_vit.check(&m->c, &err), &err);
    must(zs_params_new(&m->ps, &err), &err);
    net_layout(m->ps, build, &(wanted){&m->c, 1});
    must(zs_vit_match(m->ps, "", f, &at, &err), &err);
    m->weights = zs_backend_find("cpu")->alloc((size_t)zs_params_numel(m->ps) * sizeof(float));
    assert_non_null(m->weights);
    must(zs_vit_import(m->ps, m->weights, "", f, &at, &err), &err);
    zs_tensorfile_close(&f);
}

static void vit_close(vit *m)
{
    if (m->weights)
        zs_backend_find("cpu")->release(m->weights, (size_t)zs_params_numel(m->ps) * sizeof(float));
    zs_params_free(&m->ps);
}

/* ---- a forward pass ---- */

static void compare(zs_exec *e, const golden_backend *b, zs_tensorfile *f, const char *prefix,
                    const char *name)
{
    char full[96];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    zs_shape s = zs_exec_shape(e, name);
    golden_agrees(f, full, b->name, zs_exec_output(e, name), (size_t)zs_shape_numel(&s),
                  b->tolerance);
}

/* The representation from one of the outputs. */
static void compare_rep(zs_exec *e, const golden_backend *b, zs_tensorfile *f, const char *prefix,
                        const char *name, const char *of)
{
    char full[64];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    zs_shape s = zs_exec_shape(e, of);
    size_t n = (size_t)zs_shape_numel(&s);
    float *rep = zs_alloc(n, sizeof *rep);
    assert_non_null(rep);
    memcpy(rep, zs_exec_output(e, of), n * sizeof *rep);
    zs_rep_standardise(rep, s.d[0], s.d[1]);
    golden_agrees(f, full, b->name, rep, n, b->tolerance);
    zs_free(rep);
}

static void compare_all(const vit *m, const char *set, const char *prefix)
{
    static const char *const names[] = {"tokens_in", "block0", "tokens_out", "features", "head"};
    zs_tensorfile *f = golden_open(set, "golden.safetensors");
    zs_shape xs;
    float *x = golden_nhwc(f, "preprocessed", &xs);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        zs_exec *e = plan(m, b->name, xs.d[0]);
        net_feed(e, "x", x);
        net_run(e, m->weights, NULL);
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
            compare(e, b, f, prefix, names[k]);
        compare_rep(e, b, f, prefix, "rep", "head");
        if (zs_vit_head_of(&m->c) != ZS_VIT_HEAD_DINO)
            compare_rep(e, b, f, prefix, "rep_noproj", "features");
        zs_exec_free(&e);
    }
    zs_free(x);
    zs_tensorfile_close(&f);
}

static void moco(void **state)
{
    (void)state;
    golden_need("rcg-mocov3");
    vit m;
    vit_open(&m, "rcg-mocov3", "moco.pth.tar", 4, 0);
    assert_int_equal(zs_vit_head_of(&m.c), ZS_VIT_HEAD_MOCO);
    assert_int_equal(m.c.side, 32);
    compare_all(&m, "rcg-mocov3", "");
    vit_close(&m);
}

static void others(void **state)
{
    (void)state;
    static const struct {
        const char *file, *prefix;
        int head;
    } nets[] = {{"dino.pth", "dino.", ZS_VIT_HEAD_DINO},
                {"ibot.pth", "ibot.", ZS_VIT_HEAD_DINO},
                {"deit.pth", "deit.", ZS_VIT_HEAD_LINEAR}};
    golden_need("rcg-vits");
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        vit m;
        vit_open(&m, "rcg-vits", nets[i].file, 3, 0);
        assert_int_equal(zs_vit_head_of(&m.c), nets[i].head);
        compare_all(&m, "rcg-vits", nets[i].prefix);
        vit_close(&m);
    }
}

/* ---- another resolution ---- */

static void compare_other(const char *file, const char *prefix)
{
    char name[64];
    zs_shape xs;
    vit m;
    zs_tensorfile *f = golden_open("rcg-vits", "golden.safetensors");
    (void)snprintf(name, sizeof name, "%s.other.image", prefix);
    float *x = golden_nhwc(f, name, &xs);
    vit_open(&m, "rcg-vits", file, 3, xs.d[1]);
    (void)snprintf(name, sizeof name, "%s.other.pos_embed", prefix);
    const zs_param *p = zs_params_at(m.ps, (size_t)zs_params_find(m.ps, "pos_embed"));
    golden_agrees(f, name, "", m.weights + p->offset, (size_t)p->numel, 1e-6);
    (void)snprintf(name, sizeof name, "%s.other.", prefix);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        zs_exec *e = plan(&m, b->name, xs.d[0]);
        net_feed(e, "x", x);
        net_run(e, m.weights, NULL);
        compare(e, b, f, name, "features");
        zs_exec_free(&e);
    }
    zs_free(x);
    vit_close(&m);
    zs_tensorfile_close(&f);
}

static void other_resolution(void **state)
{
    (void)state;
    golden_need("rcg-vits");
    compare_other("dino.pth", "dino");
    compare_other("ibot.pth", "ibot");
}

/* ---- preprocessing ---- */

static void preprocesses(void **state)
{
    (void)state;
    static const char *const sets[] = {"rcg-mocov3", "rcg-vits"};
    zs_vit_config c = {.side = 32};
    for (int i = 0; i < 2; i++) {
        golden_need(sets[i]);
        zs_tensorfile *f = golden_open(sets[i], "golden.safetensors");
        zs_shape xs;
        float *x = golden_nhwc(f, "image", &xs);
        size_t n = (size_t)(xs.d[0] * 32 * 32 * 3);
        float *got = zs_alloc(n, sizeof *got);
        assert_non_null(got);
        for (int64_t k = 0; k < zs_shape_numel(&xs); k++)
            x[k] = 2 * x[k] - 1;
        zs_vit_prepare(&c, got, x, xs);
        golden_agrees(f, "preprocessed", sets[i], got, n, 2e-6);
        zs_free(x);
        zs_free(got);
        zs_tensorfile_close(&f);
    }
}

/* ---- models ---- */

/* From images to representations through an opened model, of any batch. */
static void encodes_as(const char *spec, const char *const *set, const char *of, const char *prefix)
{
    zs_error err = {0};
    zs_model *m = NULL;
    zs_tensorfile *f = golden_open(of, "golden.safetensors");
    char name[64];
    size_t n, n_features;
    zs_shape xs;
    float *x = golden_nhwc(f, "image", &xs);
    (void)snprintf(name, sizeof name, "%srep", prefix);
    float *want = golden_f32(f, name, &n);
    (void)snprintf(name, sizeof name, "%sfeatures", prefix);
    float *want_features = golden_f32(f, name, &n_features);
    float *z = zs_alloc(n, sizeof *z), *features = zs_alloc(n_features, sizeof *features);
    for (int64_t i = 0; i < zs_shape_numel(&xs); i++)
        x[i] = 2 * x[i] - 1;
    must(zs_model_open(&m, spec, &(zs_model_options){.batch = 1, .set = set}, &err), &err);
    zs_encoder_taps taps = {.features = features};
    must(zs_model_encode_taps(m, z, &taps, x, xs, &err), &err);
    golden_near("rep", of, z, want, n, 1e-4);
    golden_near("features", of, features, want_features, n_features, 1e-4);
    zs_model_close(&m);
    zs_free(x);
    zs_free(want);
    zs_free(want_features);
    zs_free(z);
    zs_free(features);
    zs_tensorfile_close(&f);
}

/* Official files, and the bundles made from them. */
static void models_encode(void **state)
{
    (void)state;
    static const struct {
        const char *set, *file, *prefix, *heads;
    } models[] = {{"rcg-mocov3", "moco.pth.tar", "", "encoder.heads=4"},
                  {"rcg-vits", "dino.pth", "dino.", "encoder.heads=3"},
                  {"rcg-vits", "ibot.pth", "ibot.", "encoder.heads=3"},
                  {"rcg-vits", "deit.pth", "deit.", "encoder.heads=3"}};
    char path[512], bundle[] = "/tmp/zsem-vit-XXXXXX";
    int fd = mkstemp(bundle);
    assert_true(fd >= 0);
    (void)close(fd);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        zs_error err = {0};
        zs_model *m = NULL;
        const char *const set[] = {models[i].heads, NULL};
        golden_need(models[i].set);
        assert_true(golden_path(path, models[i].set, models[i].file));
        encodes_as(path, set, models[i].set, models[i].prefix);
        must(zs_model_open(&m, path, &(zs_model_options){.set = set}, &err), &err);
        must(zs_model_save(m, bundle, ZS_F32, &err), &err);
        zs_model_close(&m);
        encodes_as(bundle, NULL, models[i].set, models[i].prefix);
    }
    (void)remove(bundle);
}

/* ---- full-size models ---- */

static zs_vit_config full_size(int64_t width, int depth, int heads, zs_vit_head head)
{
    static const int64_t dims[] = {0, 256, 256, 1000}, hidden[] = {0, 4096, 2048, 0};
    zs_vit_config c = {.depth = depth,
                       .in_channels = 3,
                       .side = 224,
                       .patch = 16,
                       .width = width,
                       .heads = heads,
                       .hidden = 4 * width,
                       .eps = 1e-6,
                       .head_hidden = hidden[head],
                       .head_dim = dims[head],
                       .project = true,
                       .standardise = true};
    zs_vit_head_set(&c, head);
    return c;
}

/* "name<TAB>2x3x4" against the layout; numbers of batches are no parameters. */
static bool listed(const zs_params *ps, char *line, const char *prefix)
{
    char *tab = strchr(line, '\t'), shape[96];
    assert_non_null(tab);
    *tab++ = '\0';
    tab[strcspn(tab, "\r\n")] = '\0';
    if (!zs_str_starts(line, prefix) || strstr(line, "num_batches_tracked"))
        return false;
    line += strlen(prefix);
    long i = zs_params_find(ps, line);
    if (i < 0)
        fail_msg("no parameter %s", line);
    const zs_param *p = zs_params_at(ps, (size_t)i);
    if (strcmp(golden_shape_text(shape, p), tab) != 0)
        fail_msg("%s is %s, not %s", line, shape, tab);
    return true;
}

static void compare_layout(const char *file, const zs_vit_config *c, const char *prefix)
{
    zs_error err = {0};
    vit m = {.c = *c};
    char path[512], line[256];
    size_t n = 0;
    assert_true(golden_path(path, "keys", file));
    must(zs_fields_check(zs_arch_vit.fields, c, "encoder", &err), &err);
    must(zs_arch_vit.check(c, &err), &err);
    must(zs_params_new(&m.ps, &err), &err);
    zs_exec *e = plan(&m, "cpu", 1);
    zs_exec_free(&e);
    FILE *t = fopen(path, "r");
    assert_non_null(t);
    while (fgets(line, sizeof line, t))
        n += listed(m.ps, line, prefix);
    (void)fclose(t);
    assert_int_equal(n, zs_params_count(m.ps));
    zs_params_free(&m.ps);
}

static void layouts(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int64_t width;
        int depth, heads;
        zs_vit_head head;
        const char *prefix;
    } models[] = {
        {"mocov3_vit_small.tsv", 384, 12, 12, ZS_VIT_HEAD_MOCO, ""},
        {"mocov3_vit_base.tsv", 768, 12, 12, ZS_VIT_HEAD_MOCO, ""},
        {"mocov3_vit_large.tsv", 1024, 24, 16, ZS_VIT_HEAD_MOCO, ""},
        {"mocov3_vit_base_checkpoint.tsv", 768, 12, 12, ZS_VIT_HEAD_MOCO, "module.base_encoder."},
        {"dino_vit_base.tsv", 768, 12, 12, ZS_VIT_HEAD_DINO, ""},
        {"ibot_vit_base.tsv", 768, 12, 12, ZS_VIT_HEAD_DINO, ""},
        {"deit_vit_base.tsv", 768, 12, 12, ZS_VIT_HEAD_LINEAR, ""}};
    if (!golden_has_file("keys", models[0].file)) {
        print_message("SKIPPED: no key lists; set ZSEM_GOLDENS to the folder that has keys/\n");
        skip();
    }
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        zs_vit_config c =
            full_size(models[i].width, models[i].depth, models[i].heads, models[i].head);
        compare_layout(models[i].file, &c, models[i].prefix);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moco),
        cmocka_unit_test(others),
        cmocka_unit_test(other_resolution),
        cmocka_unit_test(preprocesses),
        cmocka_unit_test(models_encode),
        cmocka_unit_test(layouts),
    };
    return cmocka_run_group_tests_name("vit", tests, NULL, golden_teardown);
}
