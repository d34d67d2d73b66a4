/* SPDX-License-Identifier: MIT */
/* Ranges of every field; overrides. */
#include "models/config.h"

#include <string.h>

static int range(zs_error *err, const char *field, int64_t v, int64_t lo, int64_t hi)
{
    if (v >= lo && v <= hi)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "%s is %lld, outside %lld..%lld", field, (long long)v,
                   (long long)lo, (long long)hi);
}

static int even(zs_error *err, const char *field, int64_t v)
{
    int status = range(err, field, v, 2, 4096);
    if (status == ZS_OK && v % 2)
        return zs_fail(err, ZS_E_INVALID, "%s is %lld; it must be even", field, (long long)v);
    return status;
}

static int dropout(zs_error *err, const char *field, double p)
{
    if (p >= 0 && p < 1)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "%s is %g, outside 0 <= p < 1", field, p);
}

/* What UNet and encoder share. */
static int check_levels(zs_error *err, const char *what, int levels, const int64_t *ch, int blocks,
                        uint32_t attn, int heads)
{
    char field[64];
    (void)snprintf(field, sizeof field, "%s.levels", what);
    int status = range(err, field, levels, 1, ZS_MAX_LEVELS);
    (void)snprintf(field, sizeof field, "%s.num_res_blocks", what);
    if (status == ZS_OK)
        status = range(err, field, blocks, 1, ZS_MAX_RES_BLOCKS);
    (void)snprintf(field, sizeof field, "%s.heads", what);
    if (status == ZS_OK)
        status = range(err, field, heads, 1, 64);
    if (status == ZS_OK && attn >> levels)
        return zs_fail(err, ZS_E_INVALID, "%s has attention at a level it does not have", what);
    for (int i = 0; status == ZS_OK && i < levels; i++) {
        (void)snprintf(field, sizeof field, "%s.channels[%d]", what, i);
        status = range(err, field, ch[i], 1, 16384);
        bool attends = attn >> i & 1 || i == levels - 1;
        if (status == ZS_OK && attends && ch[i] % heads)
            return zs_fail(err, ZS_E_INVALID, "%s is %lld, which %d attention heads do not divide",
                           field, (long long)ch[i], heads);
    }
    return status;
}

static int check_unet(const zs_unet_config *c, zs_error *err)
{
    int status = check_levels(err, "generator", c->levels, c->ch, c->num_res_blocks, c->attn_levels,
                              c->heads);
    if (status == ZS_OK)
        status = range(err, "generator.in_channels", c->in_channels, 1, 64);
    if (status == ZS_OK)
        status = range(err, "generator.out_channels", c->out_channels, 1, 64);
    if (status == ZS_OK)
        status = even(err, "generator.model_channels", c->model_channels);
    if (status == ZS_OK)
        status = range(err, "generator.embed_channels", c->embed_channels, 1, 16384);
    if (status == ZS_OK)
        status = range(err, "generator.z_dim", c->z_dim, 0, 65536);
    return status == ZS_OK ? dropout(err, "generator.dropout", c->dropout) : status;
}

static int check_encoder(const zs_sem_encoder_config *c, zs_error *err)
{
    int status =
        check_levels(err, "encoder", c->levels, c->ch, c->num_res_blocks, c->attn_levels, c->heads);
    if (status == ZS_OK)
        status = range(err, "encoder.in_channels", c->in_channels, 1, 64);
    return status == ZS_OK ? range(err, "encoder.z_dim", c->z_dim, 1, 65536) : status;
}

static int check_prior(const zs_latent_mlp_config *c, zs_error *err)
{
    int status = range(err, "prior.layers", c->layers, 2, 64);
    if (status == ZS_OK)
        status = range(err, "prior.z_dim", c->z_dim, 1, 65536);
    if (status == ZS_OK)
        status = range(err, "prior.hidden", c->hidden, 1, 65536);
    if (status == ZS_OK)
        status = even(err, "prior.time_channels", c->time_channels);
    if (status == ZS_OK && c->layers < 64 && c->skips >> c->layers)
        return zs_fail(err, ZS_E_INVALID, "prior.skips names a layer beyond the last of %d",
                       c->layers);
    return status == ZS_OK ? dropout(err, "prior.dropout", c->dropout) : status;
}

static bool schedule_name(const char *s)
{
    double beta;
    if (strcmp(s, "linear") == 0 || strcmp(s, "cosine") == 0)
        return true;
    return zs_str_starts(s, "const") && zs_str_to_f64(s + 5, &beta) && beta > 0 && beta < 1;
}

static int check_diffusion(const zs_diffusion_config *c, zs_error *err)
{
    const char *bad = !schedule_name(c->beta_schedule)          ? c->beta_schedule
                      : !schedule_name(c->latent_beta_schedule) ? c->latent_beta_schedule
                                                                : NULL;
    if (bad)
        return zs_fail(err, ZS_E_INVALID,
                       "the beta schedule \"%s\" is unknown; use linear, cosine or const<beta> "
                       "such as const0.008",
                       bad);
    return range(err, "diffusion.T", c->T, 1, 1000000);
}

static int check_image(const zs_model_config *c, zs_error *err)
{
    int deepest = c->unet.levels > c->encoder.levels ? c->unet.levels : c->encoder.levels;
    int64_t unit = (int64_t)1 << (deepest - 1);
    if (c->channels != 1 && c->channels != 3)
        return zs_fail(err, ZS_E_INVALID, "channels is %lld; images have 1 or 3",
                       (long long)c->channels);
    if ((c->unet.levels && c->channels != c->unet.in_channels) ||
        (c->encoder.levels && c->channels != c->encoder.in_channels))
        return zs_fail(err, ZS_E_INVALID,
                       "channels is %lld, but the generator takes %lld and the encoder %lld",
                       (long long)c->channels, (long long)c->unet.in_channels,
                       (long long)c->encoder.in_channels);
    if (strcmp(c->fit, "crop") != 0 && strcmp(c->fit, "pad") != 0)
        return zs_fail(err, ZS_E_INVALID, "fit is \"%s\"; use crop or pad", c->fit);
    if (c->image_size % unit)
        return zs_fail(err, ZS_E_INVALID,
                       "image_size is %lld; a network of %d levels needs a multiple of %lld",
                       (long long)c->image_size, deepest, (long long)unit);
    return range(err, "image_size", c->image_size, 0, 65536);
}

/* Codes mean the same thing in every box. */
static int check_codes(const zs_model_config *c, zs_error *err)
{
    if (c->kind == ZS_MODEL_ENCODER) {
        if (c->unet.levels || c->prior.layers)
            return zs_fail(err, ZS_E_INVALID, "an encoder has neither generator nor prior");
        return range(err, "classes", c->classes, 2, 1 << 24);
    }
    if (c->classes)
        return zs_fail(err, ZS_E_INVALID, "only an encoder has classes, and this model has %lld",
                       (long long)c->classes);
    if (c->kind == ZS_MODEL_DDPM) {
        if (c->unet.z_dim || c->encoder.levels || c->prior.layers)
            return zs_fail(err, ZS_E_INVALID, "a ddpm has neither codes nor encoder nor prior");
        return ZS_OK;
    }
    if (c->unet.z_dim != c->encoder.z_dim || (c->prior.layers && c->prior.z_dim != c->unet.z_dim))
        return zs_fail(err, ZS_E_INVALID, "z_dim differs: generator %lld, encoder %lld, prior %lld",
                       (long long)c->unet.z_dim, (long long)c->encoder.z_dim,
                       (long long)c->prior.z_dim);
    return ZS_OK;
}

int zs_model_config_validate(const zs_model_config *c, zs_error *err)
{
    int status = c->kind == ZS_MODEL_ENCODER ? ZS_OK : check_unet(&c->unet, err);
    if (status == ZS_OK && c->kind != ZS_MODEL_DDPM)
        status = check_encoder(&c->encoder, err);
    if (status == ZS_OK && c->prior.layers)
        status = check_prior(&c->prior, err);
    if (status == ZS_OK)
        status = check_codes(c, err);
    if (status == ZS_OK)
        status = check_diffusion(&c->diffusion, err);
    return status == ZS_OK ? check_image(c, err) : status;
}

uint32_t zs_attn_levels(int64_t image_size, int levels, const int64_t *res, size_t n)
{
    uint32_t bits = 0;
    for (int i = 0; i < levels; i++)
        for (size_t k = 0; k < n; k++)
            if (image_size >> i == res[k])
                bits |= 1u << i;
    return bits;
}
