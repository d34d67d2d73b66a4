/* SPDX-License-Identifier: MIT */
/* Checkpoints with an ADM UNet: those of representation-conditioned generation, which hold the
 * trained weights, their average and the arguments of training, and bare state_dicts of
 * guided-diffusion. */
#include "models/infer.h"

#include <string.h>

static int64_t dim_of(const zs_tensorfile *f, const char *prefix, const char *name, int i)
{
    char full[96];
    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    long at = zs_tensorfile_find(f, full);
    return at < 0 ? 0 : zs_infer_dim(zs_tensorfile_info(f, (size_t)at), i);
}

/* The UNet of Diffusion Autoencoders has the same blocks under the same names; only this one
 * learns its variance, or knows classes or a representation. */
static bool is_adm(const zs_tensorfile *f, const char *prefix)
{
    int64_t in = dim_of(f, prefix, "input_blocks.0.0.weight", 1);
    return in > 0 && zs_infer_has(f, prefix, "time_embed.0.weight") &&
           zs_infer_has(f, prefix, "input_blocks.1.0.in_layers.2.weight") &&
           (zs_infer_has(f, prefix, "rep_proj.weight") ||
            zs_infer_has(f, prefix, "label_emb.weight") ||
            dim_of(f, prefix, "out.2.weight", 0) == 2 * in);
}

/* Arguments of training that change the arithmetic, with the value that zsem knows. */
static int check_variant(const zs_infer *x, zs_error *err)
{
    static const struct {
        const char *key;
        bool value;
    } fixed[] = {{"use_scale_shift_norm", true},
                 {"resblock_updown", true},
                 {"use_new_attention_order", false},
                 {"rescale_timesteps", false}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        const json_t *v = json_object_get(x->hyper, fixed[i].key);
        if (json_is_boolean(v) && json_is_true(v) != fixed[i].value)
            return zs_fail(err, ZS_E_UNSUPPORTED,
                           "%s: the network was trained with %s %s; zsem knows it only as %s",
                           zs_tensorfile_path(x->o->f), fixed[i].key, fixed[i].value ? "off" : "on",
                           fixed[i].value ? "on" : "off");
    }
    if (zs_infer_tensor(x, "input_blocks.2.0.op.weight") ||
        zs_infer_tensor(x, "input_blocks.3.0.op.weight"))
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: the network halves images by plain convolutions; zsem knows residual "
                       "blocks that do it only",
                       zs_tensorfile_path(x->o->f));
    return ZS_OK;
}

/* No shape tells how wide a head is. */
static int infer_heads(zs_adm_config *c, const zs_infer *x, const zs_model_options *o,
                       zs_error *err)
{
    static const char key[] = "generator.head_channels=";
    c->head_channels = zs_infer_int(x, "num_head_channels", 0);
    if (c->head_channels > 0) {
        zs_facts_addi(x->facts, "channels of a head", c->head_channels, "args.num_head_channels");
        return ZS_OK;
    }
    c->head_channels = 1; /* until the override comes */
    if (zs_infer_given(o, key))
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID,
                   "%s does not say how many channels an attention head has; give it with --set "
                   "%sN, such as 64",
                   zs_tensorfile_path(x->o->f), key);
}

static int infer_network(zs_adm_config *c, const zs_infer *x, const zs_model_options *o,
                         zs_error *err)
{
    zs_unet_config u = {0};
    const zs_tensorinfo *embed = zs_infer_tensor(x, "time_embed.0.weight");
    int status = check_variant(x, err);
    if (status == ZS_OK)
        status = zs_infer_unet_levels(&u, x, err);
    if (status < 0)
        return status;
    *c = (zs_adm_config){.levels = u.levels,
                         .in_channels =
                             zs_infer_dim(zs_infer_tensor(x, "input_blocks.0.0.weight"), 1),
                         .model_channels = zs_infer_dim(embed, 1),
                         .num_res_blocks = u.num_res_blocks,
                         .attn_levels = u.attn_levels,
                         .rep_dim = zs_infer_dim(zs_infer_tensor(x, "rep_proj.weight"), 1),
                         .classes = zs_infer_dim(zs_infer_tensor(x, "label_emb.weight"), 0),
                         .dropout = zs_infer_real(x, "dropout", 0)};
    memcpy(c->ch, u.ch, sizeof c->ch);
    c->learn_sigma = zs_infer_dim(zs_infer_tensor(x, "out.2.weight"), 0) == 2 * c->in_channels;
    if (zs_infer_dim(embed, 0) != 4 * c->model_channels)
        return zs_infer_damaged(x, "its time embedding is not 4 times as wide as its features",
                                err);
    return infer_heads(c, x, o, err);
}

static int infer_process(zs_process_config *p, const zs_infer *x, bool learned, zs_error *err)
{
    bool x0 = json_is_true(json_object_get(x->hyper, "predict_xstart"));
    *p = zs_process_adm;
    p->T = zs_infer_int(x, "diffusion_steps", 1000);
    zs_infer_text(x, "noise_schedule", p->beta_schedule, sizeof p->beta_schedule, "linear");
    if (!learned)
        (void)snprintf(p->variance, sizeof p->variance, "fixed_large");
    if (x0 && learned)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: the network predicts images and learns a variance; zsem knows such "
                       "networks only when they predict noise",
                       zs_tensorfile_path(x->o->f));
    if (x0)
        (void)snprintf(p->prediction, sizeof p->prediction, "x0");
    return ZS_OK;
}

static void infer_images(zs_model_config *c, const zs_infer *x)
{
    c->image_size = zs_infer_int(x, "image_size", 0);
    c->channels = c->adm.in_channels;
    (void)snprintf(c->fit, sizeof c->fit, "crop");
    if (c->image_size)
        zs_facts_addi(x->facts, "image size", c->image_size, "args.image_size");
    else
        zs_facts_add(x->facts, "image size", "unknown", "%s does not say; --set image_size=N",
                     x->file);
}

static int infer(zs_model_config *c, const zs_infer *x, const zs_model_options *o, zs_error *err)
{
    memset(c, 0, sizeof *c);
    int status = infer_network(&c->adm, x, o, err);
    if (status == ZS_OK)
        status = infer_process(&c->diffusion, x, c->adm.learn_sigma, err);
    if (status < 0)
        return status;
    zs_facts_add(x->facts, "weights", x->o->averaged ? "moving average" : "raw", "%s* of %s",
                 x->o->prefix[0] ? x->o->prefix : "names", x->file);
    zs_facts_add(x->facts, "architecture", "adm", "names and shapes of the tensors of %s", x->file);
    infer_images(c, x);
    if (c->adm.rep_dim)
        zs_infer_text(x, "pretrained_enc_arch", c->reps.name, sizeof c->reps.name, "");
    return ZS_OK;
}

int zs_adm_read(zs_model *m, zs_tensorfile *f, const zs_model_options *o, zs_error *err)
{
    zs_official net;
    int status = zs_infer_envelope(&net, f, is_adm, o && o->raw, err);
    if (status != ZS_OK)
        return status;
    const zs_infer x = zs_infer_open(&net, "args", &m->facts);
    status = infer(&m->config, &x, o, err);
    if (status == ZS_OK)
        status = zs_model_finish_config(m, o, zs_tensorfile_path(f), err);
    return status == ZS_OK ? zs_official_read(m, &net, err) : status;
}
