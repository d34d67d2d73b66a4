/* SPDX-License-Identifier: MIT */
#include "models/infer_vit.h"
#include "models/bicubic.h"
#include "models/infer.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { NAME = 256, HEAD_CHANNELS = 64 };
#define PREFIX "pretrained_encoder."

/* The pickier ones first. */
static const zs_vit_file places[] = {
    {"MoCo v3", "state_dict.module.base_encoder.", "state_dict.module.base_encoder."},
    {"MoCo v3", "module.base_encoder.", "module.base_encoder."},
    {"DINO or iBOT", "teacher.backbone.", "teacher."},
    {"DeiT", "model.", "model."},
    {"timm", "", ""},
};

/* Some files of MoCo v3's ViT-L came out of a renaming that hit too much. */
static const struct {
    const char *name, *historical;
} misnamed[] = {
    {"blocks.13.norm1.", "blocks.13.norm13."},
    {"blocks.13.mlp.fc1.", "blocks.13.mlp.fc13."},
    {"blocks.14.norm2.", "blocks.14.norm14."},
    {"blocks.14.mlp.fc2.", "blocks.14.mlp.fc14."},
};
enum { MISNAMED = sizeof misnamed / sizeof misnamed[0] };

static const zs_tensorinfo *tensor(const zs_tensorfile *f, const char *prefix, const char *name)
{
    char full[NAME];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    long i = zs_tensorfile_find(f, full);
    return i < 0 ? NULL : zs_tensorfile_info(f, (size_t)i);
}

static int64_t dim(const zs_tensorinfo *t, int i)
{
    return t && i < t->nd ? t->shape[i] : 0;
}

/* The first block may be the last; MAGE has the names of a ViT and a decoder. */
int zs_vit_find(zs_vit_file *out, const zs_tensorfile *f)
{
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *body = places[i].body;
        if (!tensor(f, body, "cls_token") || !tensor(f, body, "patch_embed.proj.weight") ||
            !tensor(f, body, "blocks.0.attn.qkv.weight") || tensor(f, body, "decoder_embed.weight"))
            continue;
        *out = places[i];
        return ZS_OK;
    }
    return 1;
}

/* ---- names ---- */

static bool is_head(const char *name)
{
    return strncmp(name, "head.", 5) == 0;
}

/* The tensor of f that holds parameter `name`, into buf; false when there is none. */
static bool find_name(char buf[NAME], const zs_tensorfile *f, const zs_vit_file *at,
                      const char *name)
{
    const char *prefix = is_head(name) ? at->head : at->body;
    (void)snprintf(buf, NAME, "%s%s", prefix, name);
    for (size_t i = 0; i < MISNAMED && zs_tensorfile_find(f, buf) < 0; i++)
        if (zs_str_starts(name, misnamed[i].name))
            (void)snprintf(buf, NAME, "%s%s%s", prefix, misnamed[i].historical,
                           name + strlen(misnamed[i].name));
    return zs_tensorfile_find(f, buf) >= 0;
}

/* What a tensor of the file is called in the network; NULL: it belongs to somebody else. */
static const char *local_name(char buf[NAME], const zs_vit_file *at, const char *full)
{
    const char *name = NULL;
    if (zs_str_starts(full, at->body))
        name = full + strlen(at->body);
    else if (zs_str_starts(full, at->head) && is_head(full + strlen(at->head)))
        name = full + strlen(at->head);
    for (size_t i = 0; name && i < MISNAMED; i++)
        if (zs_str_starts(name, misnamed[i].historical)) {
            (void)snprintf(buf, NAME, "%s%s", misnamed[i].name,
                           name + strlen(misnamed[i].historical));
            return buf;
        }
    return name;
}

/* Used in training alone: the prototypes of DINO and iBOT, the token of masked patches, how many
 * batches a batch norm has seen. */
static bool of_training(const char *name)
{
    const char *last = strrchr(name, '.');
    return zs_str_starts(name, "head.last_layer") || strcmp(name, "masked_embed") == 0 ||
           (last && strcmp(last, ".num_batches_tracked") == 0);
}

/* ---- inference ---- */

static int damaged(const zs_tensorfile *f, const zs_vit_file *at, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: the tensors %s* do not form a vision transformer: %s",
                   zs_tensorfile_path(f), at->body, what);
}

static int64_t root(int64_t n)
{
    int64_t r = (int64_t)(sqrt((double)n) + 0.5);
    return r * r == n ? r : 0;
}

static int count_blocks(const zs_tensorfile *f, const zs_vit_file *at)
{
    char name[64];
    int n = 0;
    do
        (void)snprintf(name, sizeof name, "blocks.%d.attn.qkv.weight", n++);
    while (n < 1000 && tensor(f, at->body, name));
    return n - 1;
}

static void infer_head(zs_vit_config *c, const zs_tensorfile *f, const zs_vit_file *at)
{
    static const struct {
        zs_vit_head head;
        const char *first, *last;
    } heads[] = {{ZS_VIT_HEAD_MOCO, "head.0.weight", "head.6.weight"},
                 {ZS_VIT_HEAD_DINO, "head.mlp.0.weight", "head.mlp.4.weight"},
                 {ZS_VIT_HEAD_LINEAR, NULL, "head.weight"}};
    zs_vit_head_set(c, ZS_VIT_HEAD_NONE);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0] && !c->head_dim; i++) {
        if (!tensor(f, at->head, heads[i].last))
            continue;
        zs_vit_head_set(c, heads[i].head);
        c->head_dim = dim(tensor(f, at->head, heads[i].last), 0);
        c->head_hidden = heads[i].first ? dim(tensor(f, at->head, heads[i].first), 0) : 0;
    }
    c->project = c->head_dim > 0;
}

static bool is_moco_small(const zs_vit_config *c, const zs_vit_file *at)
{
    return strcmp(at->make, "MoCo v3") == 0 && c->width == 384;
}

static int heads_of(const zs_vit_config *c, const zs_vit_file *at)
{
    if (is_moco_small(c, at))
        return 12;
    return c->width % HEAD_CHANNELS ? 0 : (int)(c->width / HEAD_CHANNELS);
}

static void add_facts(const zs_vit_config *c, zs_facts *facts, const zs_tensorfile *f,
                      const zs_vit_file *at)
{
    static const char *const heads[] = {"none", "projector with batch norms", "MLP", "classifier"};
    const char *path = zs_tensorfile_path(f);
    char text[80];
    if (!facts)
        return;
    (void)snprintf(text, sizeof text, "%s, %d blocks of %lld channels, patches of %d", at->make,
                   c->depth, (long long)c->width, c->patch);
    zs_facts_add(facts, "architecture", text, "names and shapes of %s", path);
    (void)snprintf(text, sizeof text, "%lldx%lld", (long long)c->side, (long long)c->side);
    zs_facts_add(facts, "encoder sees", text, "pos_embed of %s", path);
    (void)snprintf(text, sizeof text, "%s, %lld outputs", heads[zs_vit_head_of(c)],
                   (long long)c->head_dim);
    zs_facts_add(facts, "encoder head", c->head_dim ? text : heads[0], "names of %s", path);
    zs_facts_add(facts, "representation", c->project ? "outputs of the head" : "features",
                 "default (RCG's)");
}

int zs_vit_infer(zs_vit_config *out, zs_facts *facts, const zs_tensorfile *f, const zs_vit_file *at,
                 zs_error *err)
{
    const zs_tensorinfo *patch = tensor(f, at->body, "patch_embed.proj.weight");
    const zs_tensorinfo *pos = tensor(f, at->body, "pos_embed");
    int64_t grid = root(dim(pos, 1) - 1), k = dim(patch, 2);
    if (!patch || patch->nd != 4 || k != dim(patch, 3) || k < 1 || k > 64)
        return damaged(f, at, "patch_embed.proj.weight has no square patches of at most 64 pixels",
                       err);
    if (!pos || pos->nd != 3 || grid < 1 || grid > 4096)
        return damaged(f, at, "pos_embed is not a square of positions and one for the class token",
                       err);
    *out = (zs_vit_config){.depth = count_blocks(f, at),
                           .in_channels = dim(patch, 1),
                           .side = grid * k,
                           .patch = (int)k,
                           .width = dim(patch, 0),
                           .hidden = dim(tensor(f, at->body, "blocks.0.mlp.fc1.weight"), 0),
                           .eps = 1e-6,
                           .standardise = true};
    infer_head(out, f, at);
    out->heads = heads_of(out, at);
    add_facts(out, facts, f, at);
    return ZS_OK;
}

/* ---- weights ---- */

/* The network's name of parameter i, or NULL when it is not a ViT's. */
static const char *name_of(const zs_params *ps, size_t i, const char *prefix)
{
    const char *name = zs_params_at(ps, i)->name;
    return zs_str_starts(name, prefix) ? name + strlen(prefix) : NULL;
}

/* A table of positions that fits after resizing. */
static bool can_resize(const zs_param *p, const char *name, const zs_tensorinfo *t)
{
    return strcmp(name, "pos_embed") == 0 && t->nd == 3 && t->shape[0] == 1 &&
           t->shape[2] == p->shape[2] && t->shape[1] != p->shape[1] && root(t->shape[1] - 1) > 0;
}

static int match_one(const zs_params *ps, size_t i, const char *name, const zs_tensorfile *f,
                     const zs_vit_file *at, zs_error *err)
{
    char full[NAME];
    if (find_name(full, f, at, name) && can_resize(zs_params_at(ps, i), name, tensor(f, "", full)))
        return ZS_OK;
    return zs_params_match(ps, i, f, full, err);
}

int zs_vit_match(const zs_params *ps, const char *prefix, const zs_tensorfile *f,
                 const zs_vit_file *at, zs_error *err)
{
    char buf[NAME], full[NAME];
    int status = ZS_OK;
    for (size_t i = 0; i < zs_params_count(ps) && status == ZS_OK; i++)
        if (name_of(ps, i, prefix))
            status = match_one(ps, i, name_of(ps, i, prefix), f, at, err);
    for (size_t i = 0; i < zs_tensorfile_count(f) && status == ZS_OK; i++) {
        const char *theirs = zs_tensorfile_info(f, i)->name, *name = local_name(buf, at, theirs);
        if (!name || of_training(name))
            continue;
        (void)snprintf(full, sizeof full, "%s%s", prefix, name);
        if (zs_params_find(ps, full) < 0)
            status = zs_fail(err, ZS_E_UNSUPPORTED,
                             "%s: tensor %s has no place in the vision transformer that the other "
                             "tensors describe",
                             zs_tensorfile_path(f), theirs);
    }
    return status;
}

void zs_vit_resize_positions(float *out, int64_t to, const float *pos, int64_t rows, int64_t width)
{
    int64_t grid = root(rows - 1);
    double step = (double)grid / ((double)to + 0.1);
    memcpy(out, pos, (size_t)width * sizeof *out);
    zs_bicubic(out + width, to, to, pos + width, 1, grid, grid, width, step, step);
}

static int read_positions(const zs_param *p, float *dst, zs_tensorfile *f, size_t i, zs_error *err)
{
    const zs_tensorinfo *t = zs_tensorfile_info(f, i);
    size_t n = (size_t)t->numel;
    float *pos = zs_alloc(n, sizeof *pos);
    int status = pos ? zs_tensorfile_read_f32(f, i, pos, n, err)
                     : zs_fail_nomem(err, n * sizeof *pos, "a table of positions");
    if (status == ZS_OK)
        zs_vit_resize_positions(dst, root(p->shape[1] - 1), pos, t->shape[1], t->shape[2]);
    zs_free(pos);
    return status;
}

int zs_vit_import(const zs_params *ps, float *flat, const char *prefix, zs_tensorfile *f,
                  const zs_vit_file *at, zs_error *err)
{
    char full[NAME];
    int status = ZS_OK;
    for (size_t i = 0; i < zs_params_count(ps) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(ps, i);
        const char *name = name_of(ps, i, prefix);
        if (!name)
            continue;
        bool there = find_name(full, f, at, name);
        if (there && can_resize(p, name, tensor(f, "", full)))
            status =
                read_positions(p, flat + p->offset, f, (size_t)zs_tensorfile_find(f, full), err);
        else
            status = zs_params_read(ps, i, flat, f, full, err);
    }
    return status;
}

/* ---- models ---- */

/* RCG crops photographs to 256 pixels, of which the encoder then sees 224. */
static void set_images(zs_model *m, const zs_model_options *o, const char *path)
{
    enum { RCG_IMAGE = 256, RCG_SIDE = 224 };
    const zs_vit_config *c = &m->config.vit;
    m->config.channels = c->in_channels;
    m->config.image_size = c->side == RCG_SIDE ? RCG_IMAGE : c->side;
    (void)snprintf(m->config.fit, sizeof m->config.fit, "crop");
    if (!zs_infer_given(o, "image_size="))
        zs_facts_addi(&m->facts, "image size", m->config.image_size,
                      c->side == RCG_SIDE ? "default (RCG's)" : path);
}

/* No file says how many heads there are. */
static int settle_heads(zs_model *m, const zs_model_options *o, const char *path,
                        const zs_vit_file *at, zs_error *err)
{
    const zs_vit_config *c = &m->config.vit;
    char text[32];
    if (zs_infer_given(o, "encoder.heads="))
        return ZS_OK;
    if (!c->heads)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s does not say how many heads the attention of its encoder has, and %lld "
                       "channels are no multiple of 64; add --set encoder.heads=N",
                       path, (long long)c->width);
    (void)snprintf(text, sizeof text, "%d", c->heads);
    zs_facts_add(&m->facts, "encoder heads", text,
                 is_moco_small(c, at) ? "those of MoCo v3's ViT-S; %s does not say"
                                      : "one for each 64 channels; %s does not say",
                 path);
    return ZS_OK;
}

int zs_vit_configure(zs_model *m, const zs_tensorfile *f, const zs_vit_file *at,
                     const zs_model_options *o, zs_error *err)
{
    const char *path = zs_tensorfile_path(f);
    int status = zs_vit_infer(&m->config.vit, &m->facts, f, at, err);
    if (status == ZS_OK)
        status = settle_heads(m, o, path, at, err);
    if (status == ZS_OK)
        set_images(m, o, path);
    return status;
}

int zs_vit_read(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    const char *path = zs_tensorfile_path(f);
    zs_vit_file at;
    if (zs_vit_find(&at, f) != ZS_OK)
        return 1;
    int status = zs_vit_configure(m, f, &at, o, err);
    if (status == ZS_OK)
        status = zs_model_finish_config(m, o, path, err);
    if (status == ZS_OK)
        status = zs_model_check_size(m, f, at.head, err);
    if (status == ZS_OK)
        status = zs_vit_match(m->params, PREFIX, f, &at, err);
    if (status == ZS_OK)
        status = zs_model_alloc(m, err);
    return status == ZS_OK ? zs_vit_import(m->params, m->weights, PREFIX, f, &at, err) : status;
}
