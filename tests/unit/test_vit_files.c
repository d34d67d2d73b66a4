/* SPDX-License-Identifier: MIT */
/* Files of vision transformers under the names of each maker: what is read, what is repaired, and
 * what is refused with which words. */
#include "models/infer_vit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "models/rep.h"
#include "tests/unit/model_kit.h"
#include "tests/unit/must.h"

static const char PREFIX[] = "pretrained_encoder.";
enum { MOST = 400, NAME = 160 };

/* 15 blocks: two of those that some files misname. */
static zs_model_config small(zs_vit_head head, int64_t width)
{
    zs_model_config c = {.image_size = 8, .channels = 3, .fit = "crop"};
    bool deep = head == ZS_VIT_HEAD_MOCO || head == ZS_VIT_HEAD_DINO;
    c.vit = (zs_vit_config){.depth = 15,
                            .in_channels = 3,
                            .side = 8,
                            .patch = 2,
                            .width = width,
                            .heads = (int)(width / 16),
                            .hidden = 8,
                            .eps = 1e-6,
                            .head_hidden = deep ? 12 : 0,
                            .head_dim = head ? 6 : 0,
                            .project = head != ZS_VIT_HEAD_NONE,
                            .standardise = true};
    zs_vit_head_set(&c.vit, head);
    return c;
}

/* A file in the making. */
typedef struct content {
    zs_params *ps;
    float *weights; /* flat, and what the tensors hold, one after the other */
    float *data;
    char names[MOST][NAME];
    zs_tensorout t[MOST];
    size_t n;
} content;

/* "<body><name>", or "<head><name>" for those of the head. */
static content *content_new(const zs_model_config *c, const char *body, const char *head)
{
    zs_error err = {0};
    content *k = zs_calloc(1, sizeof *k);
    assert_non_null(k);
    must(zs_model_layout(&k->ps, c, &err), &err);
    size_t numel = (size_t)zs_params_numel(k->ps), used = 0;
    k->weights = zs_alloc(numel, sizeof(float));
    k->data = zs_alloc(numel, sizeof(float));
    assert_true(k->weights && k->data);
    zs_params_init(k->ps, k->weights, 3);
    for (k->n = 0; k->n < zs_params_count(k->ps); k->n++) {
        const zs_param *p = zs_params_at(k->ps, k->n);
        const char *name = p->name + strlen(PREFIX);
        assert_true(zs_str_starts(p->name, PREFIX) && k->n < MOST);
        (void)snprintf(k->names[k->n], NAME, "%s%s", zs_str_starts(name, "head.") ? head : body,
                       name);
        zs_params_export(k->ps, k->n, k->weights, k->data + used);
        k->t[k->n] = (zs_tensorout){
            .name = k->names[k->n], .dtype = ZS_F32, .nd = p->nd, .data = k->data + used};
        for (int d = 0; d < p->nd; d++)
            k->t[k->n].shape[d] = p->shape[d];
        used += (size_t)p->numel;
    }
    return k;
}

static void content_free(content *k)
{
    zs_params_free(&k->ps);
    zs_free(k->weights);
    zs_free(k->data);
    zs_free(k);
}

static zs_tensorout *find(content *k, const char *name)
{
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->names[i], name) == 0)
            return &k->t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void add(content *k, const char *name)
{
    static const float four[4] = {1, 2, 3, 4};
    (void)snprintf(k->names[k->n], NAME, "%s", name);
    k->t[k->n] = (zs_tensorout){
        .name = k->names[k->n], .dtype = ZS_F32, .nd = 1, .shape = {4}, .data = four};
    k->n++;
}

static void rename_tensor(content *k, const char *from, const char *to)
{
    zs_tensorout *t = find(k, from);
    (void)snprintf(k->names[t - k->t], NAME, "%s", to);
}

static void write_file(const content *k, const char *path)
{
    zs_error err = {0};
    must(zs_safetensors_write(path, k->t, k->n, NULL, &err), &err);
}

/* Opens what was written and compares the weights. */
static void opens(const content *k, const char *set)
{
    char path[64];
    zs_error err = {0};
    zs_model *m = NULL;
    const char *const list[] = {set, NULL};
    write_file(k, kit_scratch(path));
    must(zs_model_open(&m, path, &(zs_model_options){.set = list}, &err), &err);
    assert_memory_equal(zs_model_weights(m), k->weights,
                        (size_t)zs_params_numel(k->ps) * sizeof(float));
    zs_model_close(&m);
    (void)remove(path);
}

/* One sentence that holds these words, and no model. */
static void refuses(const content *k, const char *set, const char *words)
{
    char path[64];
    zs_error err = {0};
    zs_model *m = NULL;
    const char *const list[] = {set, NULL};
    write_file(k, kit_scratch(path));
    assert_true(zs_model_open(&m, path, &(zs_model_options){.set = list}, &err) < 0);
    assert_null(m);
    print_message("%s\n", err.message);
    if (!strstr(err.message, words) || !strstr(err.message, path))
        fail_msg("\"%s\" does not name the file and \"%s\"", err.message, words);
    (void)remove(path);
}

static const char moco[] = "state_dict.module.base_encoder.";

static void reads_every_maker(void **state)
{
    (void)state;
    static const struct {
        zs_vit_head head;
        const char *body, *prefix;
    } makers[] = {{ZS_VIT_HEAD_MOCO, moco, moco},
                  {ZS_VIT_HEAD_MOCO, "module.base_encoder.", "module.base_encoder."},
                  {ZS_VIT_HEAD_DINO, "teacher.backbone.", "teacher."},
                  {ZS_VIT_HEAD_LINEAR, "model.", "model."},
                  {ZS_VIT_HEAD_NONE, "", ""}};
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        zs_model_config c = small(makers[i].head, 64);
        content *k = content_new(&c, makers[i].body, makers[i].prefix);
        if (makers[i].head == ZS_VIT_HEAD_MOCO) {
            char name[NAME];
            (void)snprintf(name, sizeof name, "%shead.1.num_batches_tracked", makers[i].body);
            add(k, name);
            add(k, "state_dict.module.momentum_encoder.norm.weight");
        }
        if (makers[i].head == ZS_VIT_HEAD_DINO) {
            add(k, "teacher.head.last_layer.weight");
            add(k, "teacher.head.last_layer2.weight_g");
            add(k, "student.module.backbone.cls_token");
        }
        opens(k, "encoder.heads=4");
        content_free(k);
    }
}

static void repairs_names(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"blocks.13.norm1.weight", "blocks.13.norm13.weight"},
        {"blocks.13.norm1.bias", "blocks.13.norm13.bias"},
        {"blocks.13.mlp.fc1.weight", "blocks.13.mlp.fc13.weight"},
        {"blocks.14.norm2.bias", "blocks.14.norm14.bias"},
        {"blocks.14.mlp.fc2.weight", "blocks.14.mlp.fc14.weight"}};
    zs_model_config c = small(ZS_VIT_HEAD_MOCO, 64);
    content *k = content_new(&c, moco, moco);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char from[NAME], to[NAME];
        (void)snprintf(from, sizeof from, "%s%s", moco, names[i][0]);
        (void)snprintf(to, sizeof to, "%s%s", moco, names[i][1]);
        rename_tensor(k, from, to);
    }
    opens(k, "encoder.heads=4");
    content_free(k);
}

static void refuses_damage(void **state)
{
    (void)state;
    zs_model_config c = small(ZS_VIT_HEAD_LINEAR, 64);
    content *k = content_new(&c, "model.", "model.");
    rename_tensor(k, "model.blocks.3.norm2.bias", "other");
    refuses(k, NULL, "model.blocks.3.norm2.bias");
    rename_tensor(k, "other", "model.blocks.3.norm2.bias");
    add(k, "model.dist_token");
    refuses(k, NULL, "tensor model.dist_token has no place");
    k->n--;
    zs_tensorout *t = find(k, "model.pos_embed");
    t->shape[1] = 16; /* of 17 */
    refuses(k, NULL, "pos_embed is not a square of positions");
    t->shape[1] = 17;
    t = find(k, "model.blocks.2.attn.qkv.weight");
    t->shape[0] = 191;
    refuses(k, NULL, "model.blocks.2.attn.qkv.weight");
    t->shape[0] = 192;
    t = find(k, "model.patch_embed.proj.weight");
    t->shape[2] = 1;
    t->shape[3] = 4;
    refuses(k, NULL, "no square patches");
    content_free(k);
}

static void refuses_settings(void **state)
{
    (void)state;
    zs_model_config c = small(ZS_VIT_HEAD_LINEAR, 64), odd = small(ZS_VIT_HEAD_NONE, 48);
    content *k = content_new(&c, "model.", "model.");
    refuses(k, "encoder.heads=5", "encoder.heads is 5; it must divide the width, 64");
    refuses(k, "encoder.side=9", "encoder.side is 9; it must be a multiple of the patch, 2");
    refuses(k, "encoder.depth=14", "has no place");
    refuses(k, "encoder.head=mean", "use none, moco, dino or linear");
    content_free(k);
    k = content_new(&odd, "", "");
    refuses(k, NULL, "add --set encoder.heads=N");
    opens(k, "encoder.heads=3");
    content_free(k);
    c = small(ZS_VIT_HEAD_NONE, 64);
    k = content_new(&c, "", "");
    refuses(k, "encoder.project=true", "outputs of a head, but there is none");
    content_free(k);
}

/* Another size takes a table of its own; the rest of the weights are those of the file. */
static void resizes_positions(void **state)
{
    (void)state;
    char path[64];
    zs_error err = {0};
    zs_model *m = NULL;
    const char *const set[] = {"encoder.side=12", "encoder.heads=4", NULL};
    zs_model_config c = small(ZS_VIT_HEAD_NONE, 64);
    content *k = content_new(&c, "", "");
    float *pos = zs_calloc(17 * 64, sizeof *pos);
    for (int i = 0; i < 17 * 64; i++)
        pos[i] = i < 64 ? 5.0f : 2.0f;
    find(k, "pos_embed")->data = pos;
    write_file(k, kit_scratch(path));
    must(zs_model_open(&m, path, &(zs_model_options){.set = set}, &err), &err);
    const zs_params *ps = zs_model_params(m);
    const zs_param *p =
        zs_params_at(ps, (size_t)zs_params_find(ps, "pretrained_encoder.pos_embed"));
    assert_int_equal(p->numel, 37 * 64);
    for (int i = 0; i < 37 * 64; i++) {
        float v = zs_model_weights(m)[p->offset + i];
        assert_true(i < 64 ? v == 5.0f : v > 1.999999f && v < 2.000001f);
    }
    zs_model_close(&m);
    (void)remove(path);
    zs_free(pos);
    content_free(k);
}

/* What identifies an encoder does not depend on the images of the model that it is in. */
static void is_one_encoder_anywhere(void **state)
{
    (void)state;
    char path[64], print[2][ZS_REP_FINGERPRINT];
    zs_model_config c = small(ZS_VIT_HEAD_NONE, 64);
    content *k = content_new(&c, "", "");
    write_file(k, kit_scratch(path));
    for (int i = 0; i < 2; i++) {
        zs_error err = {0};
        zs_model *m = NULL;
        const char *const set[] = {i ? "image_size=20" : "image_size=8", "encoder.heads=4", NULL};
        must(zs_model_open(&m, path, &(zs_model_options){.set = set}, &err), &err);
        assert_int_equal(zs_model_configuration(m)->image_size, i ? 20 : 8);
        assert_int_equal(zs_rep_fingerprint(print[i], m, ZS_BOX_ENCODER, &err), ZS_OK);
        zs_model_close(&m);
    }
    assert_true(strlen(print[0]) > 20);
    assert_string_equal(print[0], print[1]);
    (void)remove(path);
    content_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_maker),       cmocka_unit_test(repairs_names),
        cmocka_unit_test(refuses_damage),          cmocka_unit_test(refuses_settings),
        cmocka_unit_test(is_one_encoder_anywhere), cmocka_unit_test(resizes_positions),
    };
    return cmocka_run_group_tests_name("vit_files", tests, NULL, NULL);
}
