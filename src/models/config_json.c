/* SPDX-License-Identifier: MIT */
/* A configuration as JSON: what the metadata of a bundle holds. */
#include "models/config.h"

#include <limits.h>
#include <string.h>

static const char *const kind_names[ZS_MODEL_KINDS] = {"diffae", "ddpm", "encoder"};

static json_t *list(const int64_t *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; a && i < n; i++)
        if (json_array_append_new(a, json_integer(v[i])) < 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static json_t *bits(uint64_t set)
{
    int64_t v[64];
    int n = 0;
    for (int i = 0; i < 64; i++)
        if (set >> i & 1)
            v[n++] = i;
    return list(v, n);
}

static json_t *unet_to_json(const zs_unet_config *c)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:o,s:i,s:o,s:i,s:I,s:f}", "in_channels",
                     (json_int_t)c->in_channels, "out_channels", (json_int_t)c->out_channels,
                     "model_channels", (json_int_t)c->model_channels, "embed_channels",
                     (json_int_t)c->embed_channels, "channels", list(c->ch, c->levels),
                     "num_res_blocks", c->num_res_blocks, "attention_levels", bits(c->attn_levels),
                     "heads", c->heads, "z_dim", (json_int_t)c->z_dim, "dropout", c->dropout);
}

static json_t *encoder_to_json(const zs_sem_encoder_config *c)
{
    return json_pack("{s:I,s:o,s:i,s:o,s:i,s:I}", "in_channels", (json_int_t)c->in_channels,
                     "channels", list(c->ch, c->levels), "num_res_blocks", c->num_res_blocks,
                     "attention_levels", bits(c->attn_levels), "heads", c->heads, "z_dim",
                     (json_int_t)c->z_dim);
}

static json_t *prior_to_json(const zs_latent_mlp_config *c)
{
    return json_pack("{s:I,s:I,s:i,s:o,s:I,s:f}", "z_dim", (json_int_t)c->z_dim, "hidden",
                     (json_int_t)c->hidden, "layers", c->layers, "skips", bits(c->skips),
                     "time_channels", (json_int_t)c->time_channels, "dropout", c->dropout);
}

json_t *zs_model_config_to_json(const zs_model_config *c)
{
    json_t *j = json_pack("{s:i,s:s,s:s,s:I,s:I,s:s,s:{s:I,s:s,s:s}}", "format", 1, "name", c->name,
                          "kind", kind_names[c->kind], "image_size", (json_int_t)c->image_size,
                          "channels", (json_int_t)c->channels, "fit", c->fit, "diffusion", "T",
                          (json_int_t)c->diffusion.T, "beta_schedule", c->diffusion.beta_schedule,
                          "latent_beta_schedule", c->diffusion.latent_beta_schedule);
    bool ok = j != NULL;
    if (ok && c->unet.levels)
        ok = json_object_set_new(j, "generator", unet_to_json(&c->unet)) == 0;
    if (ok && c->classes)
        ok = json_object_set_new(j, "classes", json_integer(c->classes)) == 0;
    if (ok && c->encoder.levels)
        ok = json_object_set_new(j, "encoder", encoder_to_json(&c->encoder)) == 0;
    if (ok && c->prior.layers)
        ok = json_object_set_new(j, "prior", prior_to_json(&c->prior)) == 0;
    if (!ok)
        json_decref(j);
    return ok ? j : NULL;
}

/* ---- and back ---- */

static int bad(zs_error *err, const char *where, const char *part, const char *why)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: the model configuration is damaged: %s: %s", where, part,
                   why);
}

/* A member that is an int here and any 64-bit integer in the file. */
static int int_from(int *out, json_int_t v, const char *part, const char *member, const char *where,
                    zs_error *err)
{
    char why[96];
    *out = 0;
    if (v < INT_MIN || v > INT_MAX) {
        (void)snprintf(why, sizeof why, "%s is %lld, which no model has", member, (long long)v);
        return bad(err, where, part, why);
    }
    *out = (int)v;
    return ZS_OK;
}

static int list_from(int64_t *out, int *n, int cap, const json_t *a)
{
    *n = (int)json_array_size(a);
    if (!json_is_array(a) || json_array_size(a) > (size_t)cap)
        return -1;
    for (int i = 0; i < *n; i++) {
        const json_t *x = json_array_get(a, (size_t)i);
        if (!json_is_integer(x))
            return -1;
        out[i] = json_integer_value(x);
    }
    return 0;
}

static int bits_from(uint64_t *out, int limit, const json_t *a)
{
    int64_t v[64];
    int n;
    *out = 0;
    if (list_from(v, &n, 64, a) < 0)
        return -1;
    for (int i = 0; i < n; i++) {
        if (v[i] < 0 || v[i] >= limit)
            return -1;
        *out |= (uint64_t)1 << v[i];
    }
    return 0;
}

/* Channels and attention levels, common to generator and encoder. */
static int levels_from(int64_t *ch, int *levels, uint32_t *attn, const json_t *channels,
                       const json_t *attention)
{
    uint64_t set;
    if (list_from(ch, levels, ZS_MAX_LEVELS, channels) < 0 ||
        bits_from(&set, ZS_MAX_LEVELS, attention) < 0)
        return -1;
    *attn = (uint32_t)set;
    return 0;
}

static int unet_from_json(zs_unet_config *c, json_t *j, const char *where, zs_error *err)
{
    json_error_t e;
    json_int_t in, out, model, embed, blocks, heads, z;
    json_t *channels, *attention;
    if (json_unpack_ex(j, &e, 0, "{s:I,s:I,s:I,s:I,s:o,s:I,s:o,s:I,s:I,s:F}", "in_channels", &in,
                       "out_channels", &out, "model_channels", &model, "embed_channels", &embed,
                       "channels", &channels, "num_res_blocks", &blocks, "attention_levels",
                       &attention, "heads", &heads, "z_dim", &z, "dropout", &c->dropout) < 0)
        return bad(err, where, "generator", e.text);
    int status = int_from(&c->num_res_blocks, blocks, "generator", "num_res_blocks", where, err);
    if (status == ZS_OK)
        status = int_from(&c->heads, heads, "generator", "heads", where, err);
    if (status < 0)
        return status;
    c->in_channels = in;
    c->out_channels = out;
    c->model_channels = model;
    c->embed_channels = embed;
    c->z_dim = z;
    if (levels_from(c->ch, &c->levels, &c->attn_levels, channels, attention) < 0)
        return bad(err, where, "generator", "channels or attention_levels");
    return ZS_OK;
}

static int encoder_from_json(zs_sem_encoder_config *c, json_t *j, const char *where, zs_error *err)
{
    json_error_t e;
    json_int_t in, blocks, heads, z;
    json_t *channels, *attention;
    if (json_unpack_ex(j, &e, 0, "{s:I,s:o,s:I,s:o,s:I,s:I}", "in_channels", &in, "channels",
                       &channels, "num_res_blocks", &blocks, "attention_levels", &attention,
                       "heads", &heads, "z_dim", &z) < 0)
        return bad(err, where, "encoder", e.text);
    int status = int_from(&c->num_res_blocks, blocks, "encoder", "num_res_blocks", where, err);
    if (status == ZS_OK)
        status = int_from(&c->heads, heads, "encoder", "heads", where, err);
    if (status < 0)
        return status;
    c->in_channels = in;
    c->z_dim = z;
    if (levels_from(c->ch, &c->levels, &c->attn_levels, channels, attention) < 0)
        return bad(err, where, "encoder", "channels or attention_levels");
    return ZS_OK;
}

static int prior_from_json(zs_latent_mlp_config *c, json_t *j, const char *where, zs_error *err)
{
    json_error_t e;
    json_int_t z, hidden, layers, time_channels;
    json_t *skips;
    if (json_unpack_ex(j, &e, 0, "{s:I,s:I,s:I,s:o,s:I,s:F}", "z_dim", &z, "hidden", &hidden,
                       "layers", &layers, "skips", &skips, "time_channels", &time_channels,
                       "dropout", &c->dropout) < 0)
        return bad(err, where, "prior", e.text);
    int status = int_from(&c->layers, layers, "prior", "layers", where, err);
    if (status < 0)
        return status;
    c->z_dim = z;
    c->hidden = hidden;
    c->time_channels = time_channels;
    if (bits_from(&c->skips, 64, skips) < 0)
        return bad(err, where, "prior", "skips");
    return ZS_OK;
}

static int copy_text(char *dst, size_t cap, const char *s)
{
    if (strlen(s) >= cap)
        return -1;
    memcpy(dst, s, strlen(s) + 1);
    return 0;
}

static int kind_from(zs_model_kind *kind, const char *name)
{
    for (int i = 0; i < ZS_MODEL_KINDS; i++)
        if (strcmp(name, kind_names[i]) == 0) {
            *kind = (zs_model_kind)i;
            return 0;
        }
    return -1;
}

static int top_from_json(zs_model_config *c, const json_t *j, const char *where, zs_error *err)
{
    json_error_t e;
    json_int_t format, size, channels, T;
    const char *name, *kind, *fit, *beta, *latent_beta;
    if (json_unpack_ex((json_t *)(uintptr_t)j, &e, 0, "{s:I,s:s,s:s,s:I,s:I,s:s,s:{s:I,s:s,s:s}}",
                       "format", &format, "name", &name, "kind", &kind, "image_size", &size,
                       "channels", &channels, "fit", &fit, "diffusion", "T", &T, "beta_schedule",
                       &beta, "latent_beta_schedule", &latent_beta) < 0)
        return bad(err, where, "zsem", e.text);
    if (format != 1)
        return zs_fail(
            err, ZS_E_UNSUPPORTED,
            "%s: the model configuration has format %lld, this zsem reads format 1; use a newer "
            "zsem",
            where, (long long)format);
    c->image_size = size;
    c->channels = channels;
    c->diffusion.T = T;
    if (kind_from(&c->kind, kind) < 0)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: models of kind \"%s\" are unknown", where, kind);
    if (copy_text(c->name, sizeof c->name, name) < 0 || copy_text(c->fit, sizeof c->fit, fit) < 0 ||
        copy_text(c->diffusion.beta_schedule, sizeof c->diffusion.beta_schedule, beta) < 0 ||
        copy_text(c->diffusion.latent_beta_schedule, sizeof c->diffusion.latent_beta_schedule,
                  latent_beta) < 0)
        return bad(err, where, "zsem", "a text is too long");
    return ZS_OK;
}

int zs_model_config_from_json(zs_model_config *c, const json_t *j, const char *where, zs_error *err)
{
    json_t *encoder = json_object_get(j, "encoder"), *prior = json_object_get(j, "prior");
    zs_error why = {0};
    memset(c, 0, sizeof *c);
    int status = top_from_json(c, j, where, err);
    if (status == ZS_OK && c->kind != ZS_MODEL_ENCODER)
        status = unet_from_json(&c->unet, json_object_get(j, "generator"), where, err);
    if (status == ZS_OK && c->kind == ZS_MODEL_ENCODER)
        c->classes = json_integer_value(json_object_get(j, "classes"));
    if (status == ZS_OK && c->kind != ZS_MODEL_DDPM)
        status = encoder_from_json(&c->encoder, encoder, where, err);
    if (status == ZS_OK && prior)
        status = prior_from_json(&c->prior, prior, where, err);
    if (status == ZS_OK && zs_model_config_validate(c, &why) < 0)
        status = bad(err, where, "zsem", why.message);
    return status;
}
