/* SPDX-License-Identifier: MIT */
/* Overrides "key=value": one row per key. */
#include "models/config.h"

#include <string.h>

enum { LIST_MAX = 64 };

static bool one(int64_t *out, const char *v)
{
    return zs_str_to_i64(v, out);
}

static bool small(int *out, const char *v)
{
    int64_t x;
    if (!one(&x, v) || x < -1000000 || x > 1000000)
        return false;
    *out = (int)x;
    return true;
}

static bool text(char *out, size_t cap, const char *v)
{
    if (strlen(v) >= cap)
        return false;
    memcpy(out, v, strlen(v) + 1);
    return true;
}

static bool mult(int64_t *ch, int *levels, int64_t model_channels, const char *v)
{
    int64_t m[LIST_MAX];
    size_t n = zs_list_parse(m, LIST_MAX, v);
    if (n < 1 || n > ZS_MAX_LEVELS || model_channels < 1 || model_channels > 4096)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (m[i] < 1 || m[i] > 4096)
            return false;
        ch[i] = m[i] * model_channels;
    }
    *levels = (int)n;
    return true;
}

static bool set_image_size(zs_model_config *c, const char *v)
{
    return one(&c->image_size, v);
}

static bool set_channels(zs_model_config *c, const char *v)
{
    if (!one(&c->channels, v))
        return false;
    if (c->adm.levels)
        c->adm.in_channels = c->channels;
    else if (c->dit.depth)
        c->dit.in_channels = c->channels;
    else
        c->unet.in_channels = c->unet.out_channels = c->channels;
    if (c->sem_encoder.levels)
        c->sem_encoder.in_channels = c->channels;
    return true;
}

static bool set_fit(zs_model_config *c, const char *v)
{
    return text(c->fit, sizeof c->fit, v);
}

static bool rescale(int64_t *ch, int levels, int64_t old, int64_t now)
{
    for (int i = 0; i < levels; i++) {
        if (ch[i] % old || ch[i] / old > 16384)
            return false;
        ch[i] = ch[i] / old * now;
    }
    return true;
}

static bool set_model_channels(zs_model_config *c, const char *v)
{
    int64_t *at = c->adm.levels ? &c->adm.model_channels : &c->unet.model_channels;
    int64_t old = *at, now;
    if (!one(&now, v) || now < 1 || now > 4096 || old < 1)
        return false;
    *at = now;
    return rescale(c->adm.ch, c->adm.levels, old, now) &&
           rescale(c->unet.ch, c->unet.levels, old, now) &&
           rescale(c->sem_encoder.ch, c->sem_encoder.levels, old, now);
}

static bool set_channel_mult(zs_model_config *c, const char *v)
{
    if (c->adm.levels)
        return mult(c->adm.ch, &c->adm.levels, c->adm.model_channels, v);
    return mult(c->unet.ch, &c->unet.levels, c->unet.model_channels, v);
}

static bool set_enc_channel_mult(zs_model_config *c, const char *v)
{
    return mult(c->sem_encoder.ch, &c->sem_encoder.levels, c->unet.model_channels, v);
}

static bool set_attention(zs_model_config *c, const char *v)
{
    int64_t res[LIST_MAX];
    size_t n = strcmp(v, "none") == 0 ? 0 : zs_list_parse(res, LIST_MAX, v);
    if (n == 0 && strcmp(v, "none") != 0)
        return false;
    c->unet.attn_levels = zs_attn_levels(c->image_size, c->unet.levels, res, n);
    c->adm.attn_levels = zs_attn_levels(c->image_size, c->adm.levels, res, n);
    c->sem_encoder.attn_levels = zs_attn_levels(c->image_size, c->sem_encoder.levels, res, n);
    return true;
}

static bool set_res_blocks(zs_model_config *c, const char *v)
{
    return small(c->adm.levels ? &c->adm.num_res_blocks : &c->unet.num_res_blocks, v);
}

static bool set_enc_res_blocks(zs_model_config *c, const char *v)
{
    return small(&c->sem_encoder.num_res_blocks, v);
}

static bool set_heads(zs_model_config *c, const char *v)
{
    bool ok = small(&c->unet.heads, v);
    c->sem_encoder.heads = c->unet.heads;
    return ok;
}

static bool set_embed_channels(zs_model_config *c, const char *v)
{
    return one(&c->unet.embed_channels, v);
}

static bool set_z_dim(zs_model_config *c, const char *v)
{
    if (!c->sem_encoder.levels || !one(&c->unet.z_dim, v))
        return false;
    c->sem_encoder.z_dim = c->unet.z_dim;
    if (c->latent_mlp.layers)
        c->latent_mlp.z_dim = c->unet.z_dim;
    return true;
}

static bool set_dropout(zs_model_config *c, const char *v)
{
    return zs_str_to_f64(v, c->adm.levels ? &c->adm.dropout : &c->unet.dropout);
}

static bool set_T(zs_model_config *c, const char *v)
{
    if (!one(&c->diffusion.T, v))
        return false;
    c->latent.T = c->diffusion.T;
    return true;
}

static bool set_beta_schedule(zs_model_config *c, const char *v)
{
    return text(c->diffusion.beta_schedule, sizeof c->diffusion.beta_schedule, v);
}

static bool set_latent_beta_schedule(zs_model_config *c, const char *v)
{
    return text(c->latent.beta_schedule, sizeof c->latent.beta_schedule, v);
}

static const struct {
    const char *key;
    bool (*set)(zs_model_config *c, const char *value);
} rows[] = {
    {"image_size", set_image_size},
    {"channels", set_channels},
    {"fit", set_fit},
    {"model_channels", set_model_channels},
    {"channel_mult", set_channel_mult},
    {"enc_channel_mult", set_enc_channel_mult},
    {"attention", set_attention},
    {"num_res_blocks", set_res_blocks},
    {"enc_num_res_blocks", set_enc_res_blocks},
    {"heads", set_heads},
    {"embed_channels", set_embed_channels},
    {"z_dim", set_z_dim},
    {"dropout", set_dropout},
    {"T", set_T},
    {"beta_schedule", set_beta_schedule},
    {"latent_beta_schedule", set_latent_beta_schedule},
};

const char *const zs_model_config_keys[][2] = {
    {"image_size", "height and width of the images, in pixels"},
    {"channels", "channels of the images: 1 or 3"},
    {"fit", "how images are brought to that size: crop or pad"},
    {"model_channels", "base number of channels; the levels scale with it"},
    {"channel_mult", "channels of each level in model_channels, such as 1,2,4"},
    {"enc_channel_mult", "the same for the encoder"},
    {"attention", "resolutions with attention, such as 16,8, or none; after image_size"},
    {"num_res_blocks", "residual blocks per level"},
    {"enc_num_res_blocks", "residual blocks per level of the encoder"},
    {"heads", "attention heads"},
    {"embed_channels", "width of the time embedding"},
    {"z_dim", "dimensions of the semantic code"},
    {"dropout", "dropout inside the residual blocks while training"},
    {"T", "training timesteps"},
    {"beta_schedule", "linear, cosine or const<beta>"},
    {"latent_beta_schedule", "the same for the prior"},
    {NULL, NULL},
};

/* "<box>.<field>": 1 when it begins with no box that is there. */
static int set_field(zs_model_config *c, const char *key, size_t n, const char *value,
                     zs_error *err)
{
    const char *dot = memchr(key, '.', n);
    for (int b = 0; dot && b < ZS_BOX_COUNT; b++) {
        const zs_arch *a = zs_model_config_arch(c, (zs_box)b, NULL);
        const char *box = zs_box_name((zs_box)b);
        if (!a || strlen(box) != (size_t)(dot - key) || memcmp(box, key, strlen(box)) != 0)
            continue;
        int status = zs_fields_set(a->fields, zs_model_config_slot(c, a), dot + 1,
                                   n - (size_t)(dot + 1 - key), value, err);
        if (status == 1)
            return zs_fail(err, ZS_E_INVALID, "\"%.*s\": a %s %s has no such field", (int)n, key,
                           box, a->name);
        return status;
    }
    return 1;
}

/* Keys of UNets, of which an ADM has the latter and a DiT none. A file without a generator may be a
 * part of a model that has one. */
static bool has_key(const zs_model_config *c, const char *key)
{
    static const char *const keys[] = {"heads",        "embed_channels", "model_channels",
                                       "channel_mult", "num_res_blocks", "dropout"};
    size_t n = c->sem_encoder.levels ? 0 : c->dit.depth ? 6 : c->adm.levels ? 2 : 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i], key) == 0)
            return false;
    return true;
}

int zs_model_config_set(zs_model_config *c, const char *key_value, zs_error *err)
{
    const char *eq = strchr(key_value, '=');
    if (!eq)
        return zs_fail(err, ZS_E_INVALID, "\"%s\" is not key=value", key_value);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = strlen(rows[i].key);
        if (n != (size_t)(eq - key_value) || memcmp(rows[i].key, key_value, n) != 0)
            continue;
        if (!has_key(c, rows[i].key))
            return zs_fail(err, ZS_E_INVALID,
                           "%s: a generator %s has no such key; its fields are set as in --set "
                           "generator.head_channels=32",
                           rows[i].key, c->dit.depth ? "dit" : "adm");
        if (rows[i].set(c, eq + 1))
            return ZS_OK;
        return zs_fail(err, ZS_E_INVALID, "%s: \"%s\" is not a value it can have; it is the %s",
                       rows[i].key, eq + 1, zs_model_config_keys[i][1]);
    }
    return set_field(c, key_value, (size_t)(eq - key_value), eq + 1, err);
}
