/* SPDX-License-Identifier: MIT */
/* The architecture of an official checkpoint from the names and shapes of its tensors; what they
 * leave open from the stored hyper-parameters. Nothing is assumed about sizes: zs_official_read
 * compares every name and shape afterwards. */
#include "models/infer.h"

#include <string.h>

/* ---- UNet ---- */

static int infer_heads(int *heads, const zs_infer *x, zs_error *err)
{
    int64_t n = zs_infer_int(x, "net_beatgans_attn_head", 1);
    if (n < 1 || n > 64)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: hyper_parameters.net_beatgans_attn_head is %lld, outside 1..64",
                       zs_tensorfile_path(x->o->f), (long long)n);
    *heads = (int)n;
    return ZS_OK;
}

static int infer_unet(zs_model_config *c, const zs_infer *x, zs_error *err)
{
    zs_unet_config *u = &c->unet;
    const zs_tensorinfo *first = zs_infer_tensor(x, "input_blocks.0.0.weight");
    bool wrapped = zs_infer_tensor(x, "time_embed.time_embed.0.weight") != NULL;
    const zs_tensorinfo *embed =
        zs_infer_tensor(x, "time_embed.%s0.weight", wrapped ? "time_embed." : "");
    u->in_channels = zs_infer_dim(first, 1);
    u->out_channels = zs_infer_dim(zs_infer_tensor(x, "out.2.weight"), 0);
    u->embed_channels = zs_infer_dim(embed, 0);
    u->model_channels = zs_infer_dim(embed, 1);
    u->z_dim = zs_infer_dim(zs_infer_tensor(x, "input_blocks.1.0.cond_emb_layers.1.weight"), 1);
    u->dropout = zs_infer_real(x, "dropout", 0.1);
    if (!embed || u->in_channels < 1)
        return zs_infer_damaged(x, "it has no time embedding or no first convolution", err);
    if (wrapped != (u->z_dim > 0))
        return zs_infer_damaged(x, "it is neither the conditional nor the unconditional UNet", err);
    c->channels = u->in_channels;
    int status = infer_heads(&u->heads, x, err);
    return status == ZS_OK ? zs_infer_unet_levels(u, x, err) : status;
}

/* ---- encoder ---- */

/* Blocks per level when something says so; 0 when the tensors must. */
static int64_t stated_enc_blocks(const zs_infer *x, int n, int64_t given)
{
    size_t levels = json_array_size(json_object_get(x->hyper, "net_enc_channel_mult"));
    if (given)
        return given;
    if (levels && (size_t)n % levels == 0)
        return n / (int64_t)levels - 1;
    return zs_infer_int(x, "net_enc_num_res_blocks", 0);
}

static int infer_encoder(zs_model_config *c, const zs_infer *x, int64_t enc_blocks, zs_error *err)
{
    zs_sem_encoder_config *e = &c->sem_encoder;
    int n = zs_infer_count_blocks(x, "encoder.");
    int r = zs_infer_res_blocks(x, "encoder.", n, stated_enc_blocks(x, n, enc_blocks));
    if (n < 2)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: the UNet is conditioned on codes, but there is no encoder.* that makes "
                       "them; use the checkpoint that holds both",
                       zs_tensorfile_path(x->o->f));
    if (r < 0)
        return zs_fail(err, ZS_E_INVALID,
                       "%s does not say how many residual blocks a level of its encoder has; give "
                       "it with --set enc_num_res_blocks=N",
                       zs_tensorfile_path(x->o->f));
    if (r == 0)
        return zs_infer_damaged(x, "the encoder's blocks are not whole levels of that many", err);
    e->num_res_blocks = r;
    e->in_channels = zs_infer_dim(zs_infer_tensor(x, "encoder.input_blocks.0.0.weight"), 1);
    e->z_dim = zs_infer_dim(zs_infer_tensor(x, "encoder.out.3.weight"), 0);
    e->heads = c->unet.heads;
    zs_infer_read_levels(x, "encoder.", n, r, &e->levels, e->ch, &e->attn_levels);
    return ZS_OK;
}

/* ---- prior ---- */

static int infer_prior(zs_model_config *c, const zs_infer *x, zs_error *err)
{
    zs_latent_mlp_config *p = &c->latent_mlp;
    int n = 0;
    while (n <= 64 && zs_infer_tensor(x, "latent_net.layers.%d.linear.weight", n))
        n++;
    if (n == 0)
        return ZS_OK;
    if (n < 2 || n > 64)
        return zs_infer_damaged(x, "latent_net has fewer than 2 or more than 64 layers", err);
    p->layers = n;
    p->hidden = zs_infer_dim(zs_infer_tensor(x, "latent_net.layers.0.linear.weight"), 0);
    p->z_dim = zs_infer_dim(zs_infer_tensor(x, "latent_net.layers.%d.linear.weight", n - 1), 0);
    p->time_channels = zs_infer_dim(zs_infer_tensor(x, "latent_net.time_embed.0.weight"), 1);
    p->dropout = zs_infer_real(x, "net_latent_dropout", 0);
    for (int i = 0; i < n; i++) {
        int64_t in = zs_infer_dim(zs_infer_tensor(x, "latent_net.layers.%d.linear.weight", i), 1);
        if (in - p->z_dim == (i ? p->hidden : p->z_dim))
            p->skips |= (uint64_t)1 << i;
    }
    return ZS_OK;
}

/* ---- what shapes do not say ---- */

/* Settings of the authors' configuration that change the arithmetic, with the value that the
 * published models have. */
static int check_variant(const zs_infer *x, zs_error *err)
{
    static const struct {
        const char *key;
        double value;
    } fixed[] = {{"net_beatgans_resnet_condition_scale_bias", 1},
                 {"net_latent_condition_bias", 1},
                 {"net_latent_residual", 0}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        double v = zs_infer_real(x, fixed[i].key, fixed[i].value);
        if (v < fixed[i].value || v > fixed[i].value)
            return zs_fail(err, ZS_E_UNSUPPORTED,
                           "%s: the model was built with %s = %g; zsem knows the published variant "
                           "(%g) only",
                           zs_tensorfile_path(x->o->f), fixed[i].key, v, fixed[i].value);
    }
    return ZS_OK;
}

/* Lightning checkpoints also keep the noise x_T that their sample grids start from. */
static int64_t size_of_noise(const zs_infer *x)
{
    static const char *const names[] = {"state_dict.x_T", "x_T"};
    for (int i = 0; i < 2; i++) {
        long at = zs_tensorfile_find(x->o->f, names[i]);
        const zs_tensorinfo *t = at < 0 ? NULL : zs_tensorfile_info(x->o->f, (size_t)at);
        if (t && t->nd == 4 && t->shape[2] == t->shape[3])
            return t->shape[2];
    }
    return 0;
}

static void infer_image_size(zs_model_config *c, const zs_infer *x)
{
    char text[48];
    int64_t stored = zs_infer_int(x, "img_size", 0);
    c->image_size = stored > 0 ? stored : size_of_noise(x);
    (void)snprintf(text, sizeof text, "%lldx%lld", (long long)c->image_size,
                   (long long)c->image_size);
    if (c->image_size == 0)
        zs_facts_add(x->facts, "image size", "unknown", "%s does not say; --set image_size=N",
                     x->file);
    else if (stored > 0)
        zs_facts_add(x->facts, "image size", text, "hyper_parameters.img_size of %s", x->file);
    else
        zs_facts_add(x->facts, "image size", text, "shape of x_T in %s", x->file);
}

static void infer_diffusion(zs_model_config *c, const zs_infer *x)
{
    bool stored = json_is_integer(json_object_get(x->hyper, "T"));
    c->diffusion = zs_process_diffae;
    c->latent = zs_process_diffae_latent;
    c->diffusion.T = c->latent.T = zs_infer_int(x, "T", 1000);
    zs_facts_addi(x->facts, "T", c->diffusion.T, stored ? "hyper_parameters.T" : "default");
    zs_infer_text(x, "beta_scheduler", c->diffusion.beta_schedule,
                  sizeof c->diffusion.beta_schedule, "linear");
    if (c->latent_mlp.layers)
        zs_infer_text(x, "latent_beta_scheduler", c->latent.beta_schedule,
                      sizeof c->latent.beta_schedule, "const0.008");
}

static void add_progress(const zs_infer *x)
{
    static const char *const keys[] = {"epoch", "global_step"};
    const json_t *meta = zs_tensorfile_meta(x->o->f);
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(meta, keys[i]);
        if (json_is_integer(v))
            zs_facts_addi(x->facts, keys[i], json_integer_value(v), x->file);
    }
}

int zs_official_infer(zs_model_config *c, zs_facts *facts, const zs_official *o, int64_t enc_blocks,
                      zs_error *err)
{
    const zs_infer x = zs_infer_open(o, "hyper_parameters", facts);
    memset(c, 0, sizeof *c);
    (void)snprintf(c->fit, sizeof c->fit, "crop");
    const char *name = json_string_value(json_object_get(x.hyper, "name"));
    (void)snprintf(c->name, sizeof c->name, "%s", name ? name : "");
    int status = check_variant(&x, err);
    if (status == ZS_OK)
        status = infer_unet(c, &x, err);
    if (status == ZS_OK && c->unet.z_dim)
        status = infer_encoder(c, &x, enc_blocks, err);
    if (status == ZS_OK)
        status = infer_prior(c, &x, err);
    if (status < 0)
        return status;
    zs_facts_add(facts, "weights", o->averaged ? "moving average" : "raw", "%s* of %s",
                 o->prefix[0] ? o->prefix : "names", x.file);
    zs_facts_add(facts, "architecture", c->unet.z_dim ? "diffae" : "ddpm",
                 "names and shapes of the tensors of %s", x.file);
    zs_facts_addi(facts, "attention heads", c->unet.heads,
                  json_object_get(x.hyper, "net_beatgans_attn_head")
                      ? "hyper_parameters.net_beatgans_attn_head"
                      : "default of the authors");
    infer_image_size(c, &x);
    infer_diffusion(c, &x);
    add_progress(&x);
    return ZS_OK;
}
