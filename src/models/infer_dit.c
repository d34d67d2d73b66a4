/* SPDX-License-Identifier: MIT */
/* Checkpoints with a diffusion transformer of representation-conditioned generation: the trained
 * weights, their average, and the arguments of training; and the original ones, which are told
 * classes: a state_dict of averages alone. */
#include "models/infer.h"

#include <string.h>

/* How often representations and classes were left out when there is a row for that; no file says
 * it. */
static const double DROPPED = 0.1;

static bool is_dit(const zs_tensorfile *f, const char *prefix)
{
    return zs_infer_has(f, prefix, "x_embedder.proj.weight") &&
           zs_infer_has(f, prefix, "t_embedder.mlp.0.weight") &&
           zs_infer_has(f, prefix, "blocks.0.adaLN_modulation.1.weight");
}

/* No shape tells how many heads there are; the published sizes are known by their width. */
static int infer_heads(zs_dit_config *c, const zs_infer *x, const zs_model_options *o,
                       zs_error *err)
{
    static const char key[] = "generator.heads=";
    c->heads = zs_dit_heads(c->hidden);
    if (c->heads > 0) {
        zs_facts_addi(x->facts, "heads", c->heads, "those of the published size of that width");
        return ZS_OK;
    }
    c->heads = 1; /* until the override comes */
    if (zs_infer_given(o, key))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "%s does not say how many attention heads its transformer of width %lld has; "
                   "give them with --set %sN",
                   zs_tensorfile_path(x->o->f), (long long)c->hidden, key);
}

/* Tokens along a side of a square image. */
static int64_t side_of(int64_t tokens)
{
    int64_t g = 1;
    while (g * g < tokens && g < 1024)
        g++;
    return g * g == tokens ? g : 0;
}

static void infer_sizes(zs_dit_config *c, const zs_infer *x)
{
    const zs_tensorinfo *patch = zs_infer_tensor(x, "x_embedder.proj.weight");
    *c = (zs_dit_config){
        .hidden = zs_infer_dim(patch, 0),
        .mlp = zs_infer_dim(zs_infer_tensor(x, "blocks.0.mlp.fc1.weight"), 0),
        .patch = (int)(zs_infer_dim(patch, 2) & 127),
        .grid = side_of(zs_infer_dim(zs_infer_tensor(x, "pos_embed"), 1)),
        .in_channels = zs_infer_dim(patch, 1),
        .time_channels = zs_infer_dim(zs_infer_tensor(x, "t_embedder.mlp.0.weight"), 1),
        .classes = zs_infer_dim(zs_infer_tensor(x, "y_embedder.embedding_table.weight"), 0)};
    while (c->depth <= 256 && zs_infer_tensor(x, "blocks.%d.attn.qkv.weight", c->depth))
        c->depth++;
}

/* The row for absent representations is there when, and only when, representations are used. */
static void infer_conditions(zs_dit_config *c, const zs_infer *x)
{
    const zs_tensorinfo *absent = zs_infer_tensor(x, "fake_latent");
    if (absent) {
        c->z_dim = zs_infer_dim(zs_infer_tensor(x, "rep_embedder.weight"), 1);
        c->substitute = true;
        c->z_drop = DROPPED;
    } else if (c->classes > 1) {
        c->class_drop = DROPPED;
    }
    zs_facts_add(x->facts, "condition",
                 absent           ? "representation"
                 : c->classes > 1 ? "class"
                                  : "none",
                 absent ? "fake_latent of %s" : "no fake_latent in %s", x->file);
}

/* RCG's code makes a rep_embedder for all of its transformers, and the original one has none. */
static void infer_gelu(zs_dit_config *c, const zs_infer *x)
{
    bool rcg = zs_infer_tensor(x, "rep_embedder.weight") != NULL;
    (void)snprintf(c->gelu, sizeof c->gelu, "%s", rcg ? "" : "tanh");
    zs_facts_add(x->facts, "GELU", rcg ? "exact" : "by a tanh",
                 rcg ? "%s has a rep_embedder, as RCG's"
                     : "no rep_embedder in %s: the original DiT",
                 x->file);
}

static int infer_network(zs_dit_config *c, const zs_infer *x, const zs_model_options *o,
                         zs_error *err)
{
    infer_sizes(c, x);
    int64_t out = zs_infer_dim(zs_infer_tensor(x, "final_layer.linear.weight"), 0);
    int64_t plain = c->in_channels * c->patch * c->patch;
    if (!c->grid)
        return zs_infer_damaged(x, "pos_embed is not that of a square image", err);
    if (!c->classes)
        return zs_infer_damaged(x, "there is no y_embedder.embedding_table", err);
    if (out != plain && out != 2 * plain)
        return zs_infer_damaged(
            x, "final_layer.linear returns neither noise nor noise and variance", err);
    c->learn_sigma = out == 2 * plain;
    infer_conditions(c, x);
    infer_gelu(c, x);
    return infer_heads(c, x, o, err);
}

static int infer(zs_model_config *c, const zs_infer *x, const zs_model_options *o, zs_error *err)
{
    memset(c, 0, sizeof *c);
    int status = infer_network(&c->dit, x, o, err);
    if (status < 0)
        return status;
    c->diffusion = zs_process_dit;
    if (!c->dit.learn_sigma)
        (void)snprintf(c->diffusion.variance, sizeof c->diffusion.variance, "fixed_large");
    c->image_size = c->dit.grid * c->dit.patch;
    c->channels = c->dit.in_channels;
    (void)snprintf(c->fit, sizeof c->fit, "crop");
    zs_facts_add(x->facts, "weights", x->o->averaged ? "moving average" : "raw", "%s* of %s",
                 x->o->prefix[0] ? x->o->prefix : "names", x->file);
    zs_facts_add(x->facts, "architecture", "dit", "names and shapes of the tensors of %s", x->file);
    zs_facts_addi(x->facts, "image size", c->image_size, "pos_embed and x_embedder");
    if (c->dit.z_dim)
        zs_infer_text(x, "pretrained_enc_arch", c->reps.name, sizeof c->reps.name, "");
    return ZS_OK;
}

int zs_dit_read(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    zs_official net;
    int status = zs_infer_envelope(&net, f, is_dit, o && o->raw, err);
    if (status != ZS_OK)
        return status;
    const zs_infer x = zs_infer_open(&net, "args", &m->facts);
    status = infer(&m->config, &x, o, err);
    if (status == ZS_OK)
        status = zs_model_finish_config(m, o, zs_tensorfile_path(f), err);
    return status == ZS_OK ? zs_official_read(m, &net, err) : status;
}
