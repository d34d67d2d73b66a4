/* SPDX-License-Identifier: MIT */
/* The authors' configurations (templates.py, templates_latent.py) and two of ours. */
#include "models/presets_impl.h"

#include <string.h>

/* What differs from preset to preset; the rest is the same in all of the authors' templates and
 * set by the fill_ functions. */
typedef struct row {
    const char *name, *about, *data, *fit;
    int64_t image_size, channels;
    int64_t model_channels, embed, z_dim;
    int64_t mult[ZS_MAX_LEVELS + 1], enc_mult[ZS_MAX_LEVELS + 1]; /* ended by 0 */
    int res_blocks;
    int64_t attention; /* resolution */
    double dropout;
    int64_t batch, images; /* for training the generator */
    int64_t warmup;
    double lr, ema, t_weight;
    int64_t prior_batch, prior_codes, prior_hidden;
    int prior_layers;
    double prior_weight_decay; /* 0: Adam, else AdamW */
} row;

#define OFFICIAL                                                                           \
    .data = "", .fit = "crop", .channels = 3, .embed = 512, .z_dim = 512, .res_blocks = 2, \
    .attention = 16, .dropout = 0.1, .lr = 1e-4, .ema = 0.9999, .prior_hidden = 2048
#define OFFICIAL128                                                              \
    OFFICIAL, .image_size = 128, .model_channels = 128, .mult = {1, 1, 2, 3, 4}, \
              .enc_mult = {1, 1, 2, 3, 4, 4}
#define OFFICIAL64                                                          \
    OFFICIAL, .image_size = 64, .model_channels = 64, .mult = {1, 2, 4, 8}, \
              .enc_mult = {1, 2, 4, 8, 8}

#define SMALL                                                                                \
    .model_channels = 32, .embed = 128, .z_dim = 128, .mult = {1, 1, 2, 4}, .res_blocks = 1, \
    .attention = 8, .batch = 64, .warmup = 500, .lr = 4e-4, .ema = 0.999, .t_weight = 100,   \
    .prior_batch = 256, .prior_codes = 6000000, .prior_hidden = 512, .prior_layers = 6,      \
    .prior_weight_decay = 0.01

static const row rows[] = {
    {SMALL, .name = "fashion32",
     .about = "28x28 grey pictures padded to 32x32; trains on two CPU cores",
     .data = "fashion-mnist:train", .fit = "pad", .image_size = 32, .channels = 1,
     .enc_mult = {1, 2, 4, 4}, .images = 1200000},
    {SMALL, .name = "emoji64",
     .about = "small colour pictures such as scripts/make-emoji draws, at 64x64", .data = "",
     .fit = "crop", .image_size = 64, .channels = 3, .enc_mult = {1, 1, 2, 4, 4},
     .images = 2000000},
    {OFFICIAL64, .name = "ffhq64", .about = "FFHQ at 64x64", .batch = 128, .images = 72000000,
     .prior_batch = 256, .prior_layers = 10, .prior_codes = 101000000, .prior_weight_decay = 0.01},
    {OFFICIAL64, .name = "celeba64", .about = "CelebA at 64x64, d2c crop", .batch = 128,
     .images = 72000000, .prior_batch = 512, .prior_layers = 10, .prior_codes = 301000000,
     .prior_weight_decay = 0.01},
    {OFFICIAL128, .name = "ffhq128", .about = "FFHQ at 128x128", .batch = 128, .images = 130000000,
     .prior_batch = 256, .prior_layers = 10, .prior_codes = 101000000, .prior_weight_decay = 0.01},
    {OFFICIAL128, .name = "horse128", .about = "LSUN horses at 128x128", .batch = 128,
     .images = 130000000, .prior_batch = 2048, .prior_layers = 20, .prior_codes = 2001000000},
    {OFFICIAL128, .name = "bedroom128", .about = "LSUN bedrooms at 128x128", .batch = 128,
     .images = 120000000, .prior_batch = 2048, .prior_layers = 20, .prior_codes = 2001000000},
    {OFFICIAL, .name = "ffhq256", .about = "FFHQ at 256x256", .image_size = 256,
     .model_channels = 128, .mult = {1, 1, 2, 2, 4, 4}, .enc_mult = {1, 1, 2, 2, 4, 4, 4},
     .batch = 64, .images = 200000000, .prior_batch = 256, .prior_layers = 10,
     .prior_codes = 101000000, .prior_weight_decay = 0.01},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static int fill_levels(int64_t *ch, const int64_t *mult, int64_t model_channels)
{
    int n = 0;
    for (; mult[n]; n++)
        ch[n] = mult[n] * model_channels;
    return n;
}

static void fill_unet(zs_unet_config *u, const row *r)
{
    *u = (zs_unet_config){.in_channels = r->channels,
                          .out_channels = r->channels,
                          .model_channels = r->model_channels,
                          .embed_channels = r->embed,
                          .num_res_blocks = r->res_blocks,
                          .heads = 1,
                          .z_dim = r->z_dim,
                          .dropout = r->dropout};
    u->levels = fill_levels(u->ch, r->mult, r->model_channels);
    u->attn_levels = zs_attn_levels(r->image_size, u->levels, &r->attention, 1);
}

static void fill_encoder(zs_sem_encoder_config *e, const row *r)
{
    *e = (zs_sem_encoder_config){
        .in_channels = r->channels, .num_res_blocks = r->res_blocks, .heads = 1, .z_dim = r->z_dim};
    e->levels = fill_levels(e->ch, r->enc_mult, r->model_channels);
    e->attn_levels = zs_attn_levels(r->image_size, e->levels, &r->attention, 1);
}

/* Every layer but the first sees the input again. */
static void fill_prior(zs_model_config *c, const row *r)
{
    *c = (zs_model_config){.latent = zs_process_diffae_latent};
    (void)snprintf(c->name, sizeof c->name, "%s", r->name);
    (void)snprintf(c->fit, sizeof c->fit, "%s", r->fit);
    c->latent_mlp = (zs_latent_mlp_config){.z_dim = r->z_dim,
                                           .hidden = r->prior_hidden,
                                           .layers = r->prior_layers,
                                           .skips = ((uint64_t)1 << r->prior_layers) - 2,
                                           .time_channels = 64};
}

static zs_preset_train train_images(const row *r)
{
    return (zs_preset_train){.batch = r->batch,
                             .total_images = r->images,
                             .warmup = r->warmup,
                             .lr = r->lr,
                             .clip = 1,
                             .ema = r->ema,
                             .optimizer = "adam",
                             .loss = "mse",
                             .flip = r->channels == 3,
                             .t_weight = r->t_weight};
}

static zs_preset_train train_classes(const row *r)
{
    return (zs_preset_train){.batch = 128,
                             .total_images = 600000,
                             .warmup = 200,
                             .lr = 1e-3,
                             .weight_decay = 0.05,
                             .clip = 1,
                             .ema = 0.998,
                             .optimizer = "adamw",
                             .loss = "xent",
                             .flip = r->channels == 3};
}

static zs_preset_train train_codes(const row *r)
{
    return (zs_preset_train){.batch = r->prior_batch,
                             .total_images = r->prior_codes,
                             .lr = 1e-4,
                             .weight_decay = r->prior_weight_decay,
                             .clip = 1,
                             .ema = r->ema,
                             .optimizer = r->prior_weight_decay > 0 ? "adamw" : "adam",
                             .loss = "l1"};
}

static void fill_autoencoder(zs_model_config *c, const row *r)
{
    *c = (zs_model_config){.image_size = r->image_size,
                           .channels = r->channels,
                           .diffusion = zs_process_diffae,
                           .latent = zs_process_diffae_latent};
    (void)snprintf(c->name, sizeof c->name, "%s", r->name);
    (void)snprintf(c->fit, sizeof c->fit, "%s", r->fit);
    fill_unet(&c->unet, r);
    fill_encoder(&c->sem_encoder, r);
}

/* The baseline: the same generator without codes. */
static void fill_ddpm(zs_model_config *c, const zs_model_config *autoencoder)
{
    *c = *autoencoder;
    c->unet.z_dim = 0;
    zs_model_config_clear(c, ZS_BOX_ENCODER);
}

/* The encoder alone; model_channels stays, since channel_mult counts in it. */
static void fill_classifier(zs_model_config *c, const zs_model_config *autoencoder)
{
    *c = *autoencoder;
    c->unet = (zs_unet_config){.model_channels = autoencoder->unet.model_channels};
}

static const char *own_name(size_t i)
{
    return i < ROWS ? rows[i].name : NULL;
}

static bool own_find(zs_preset *out, const char *name);

/* A file each. */
static const struct {
    bool (*find)(zs_preset *out, const char *name);
    const char *(*name)(size_t i);
} families[] = {{own_find, own_name},
                {zs_preset_rep_find, zs_preset_rep_name},
                {zs_preset_rdm_find, zs_preset_rdm_name},
                {zs_preset_small_find, zs_preset_small_name}};
enum { FAMILIES = sizeof families / sizeof families[0] };

const char *zs_preset_name(size_t i)
{
    for (size_t f = 0; f < FAMILIES; f++)
        for (size_t k = 0; families[f].name(k); k++)
            if (i-- == 0)
                return families[f].name(k);
    return NULL;
}

static int unknown(const char *name, zs_error *err)
{
    zs_strbuf known = {0};
    for (size_t i = 0; zs_preset_name(i); i++)
        zs_strbuf_addf(&known, "%s%s", i ? ", " : "", zs_preset_name(i));
    int status = zs_fail(err, ZS_E_INVALID, "there is no preset \"%s\"; choose one of %s", name,
                         known.s ? known.s : "");
    zs_strbuf_free(&known);
    return status;
}

static bool own_find(zs_preset *out, const char *name)
{
    for (size_t i = 0; i < ROWS; i++) {
        const row *r = &rows[i];
        if (strcmp(r->name, name) != 0)
            continue;
        *out = (zs_preset){.name = r->name,
                           .about = r->about,
                           .data = r->data,
                           .train_autoencoder = train_images(r),
                           .train_ddpm = train_images(r),
                           .train_encoder = train_classes(r),
                           .train_prior = train_codes(r),
                           .train_generator = train_images(r)};
        fill_prior(&out->prior, r);
        fill_autoencoder(&out->autoencoder, r);
        fill_ddpm(&out->ddpm, &out->autoencoder);
        fill_classifier(&out->encoder, &out->autoencoder);
        out->generator = out->ddpm;
        return true;
    }
    return false;
}

int zs_preset_find(zs_preset *out, const char *name, zs_error *err)
{
    for (size_t f = 0; f < FAMILIES; f++)
        if (families[f].find(out, name))
            return ZS_OK;
    return unknown(name, err);
}
