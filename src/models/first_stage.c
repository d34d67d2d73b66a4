/* SPDX-License-Identifier: MIT */
#include "models/first_stage.h"

#include <math.h>

static const float NORM_EPS = 1e-6f;
static const float LOGVAR_MIN = -30.0f, LOGVAR_MAX = 20.0f;

/* ---- blocks ---- */

/* GN-swish-conv twice, added to x or, where the channels change, to its 1x1 convolution. */
static zs_tid resblock(zs_nn *nn, zs_tid x, int64_t out)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    zs_tid skip = x;
    zs_tid h = zs_nn_groupnorm_eps(nn, "norm1", x, NORM_EPS, ZS_ACT_SILU);
    h = zs_nn_conv(nn, "conv1", h, out, 3, ZS_NONE, ZS_INIT_UNIFORM);
    h = zs_nn_groupnorm_eps(nn, "norm2", h, NORM_EPS, ZS_ACT_SILU);
    if (s.nd && zs_shape_last(&s) != out)
        skip = zs_nn_conv(nn, "nin_shortcut", x, out, 1, ZS_NONE, ZS_INIT_UNIFORM);
    return zs_nn_conv(nn, "conv2", h, out, 3, skip, ZS_INIT_UNIFORM);
}

/* One head over all positions; q, k and v are three convolutions in the files. */
static zs_tid attention(zs_nn *nn, zs_tid x)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    int64_t c = s.nd ? zs_shape_last(&s) : 1;
    zs_tid h = zs_nn_groupnorm_eps(nn, "norm", x, NORM_EPS, ZS_ACT_NONE);
    zs_tid q = zs_nn_conv(nn, "q", h, c, 1, ZS_NONE, ZS_INIT_UNIFORM);
    zs_tid k = zs_nn_conv(nn, "k", h, c, 1, ZS_NONE, ZS_INIT_UNIFORM);
    zs_tid v = zs_nn_conv(nn, "v", h, c, 1, ZS_NONE, ZS_INIT_UNIFORM);
    h = zs_attention(nn->g, zs_concat(nn->g, zs_concat(nn->g, q, k), v), 1);
    return zs_nn_conv(nn, "proj_out", h, c, 1, x, ZS_INIT_UNIFORM);
}

/* The residual blocks of one level, each with its attention where the level has some. */
static zs_tid level_blocks(zs_nn *nn, const zs_vae_config *c, zs_tid h, int level, int blocks)
{
    for (int i = 0; i < blocks; i++) {
        zs_nn_push(nn, "block.%d", i);
        h = resblock(nn, h, c->ch[level]);
        zs_nn_pop(nn);
        if (!(c->attn_levels >> level & 1))
            continue;
        zs_nn_push(nn, "attn.%d", i);
        h = attention(nn, h);
        zs_nn_pop(nn);
    }
    return h;
}

static zs_tid middle(zs_nn *nn, zs_tid h, int64_t ch)
{
    static const char *const name[3] = {"mid.block_1", "mid.attn_1", "mid.block_2"};
    for (int i = 0; i < 3; i++) {
        zs_nn_push(nn, "%s", name[i]);
        h = i == 1 ? attention(nn, h) : resblock(nn, h, ch);
        zs_nn_pop(nn);
    }
    return h;
}

static zs_tid head(zs_nn *nn, zs_tid h, int64_t out)
{
    h = zs_nn_groupnorm_eps(nn, "norm_out", h, NORM_EPS, ZS_ACT_SILU);
    return zs_nn_conv(nn, "conv_out", h, out, 3, ZS_NONE, ZS_INIT_UNIFORM);
}

/* ---- networks ---- */

static bool fits(zs_nn *nn, zs_tid x, int64_t channels, const char *what)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    if (s.nd == 4 && s.d[3] != channels)
        zs_graph_fail(nn->g, ZS_E_INVALID, "the first stage takes %s of %lld channels, not %lld",
                      what, (long long)channels, (long long)s.d[3]);
    return zs_graph_status(nn->g) == ZS_OK;
}

zs_tid zs_vae_encoder_build(zs_nn *nn, const zs_vae_config *c, zs_tid x)
{
    int64_t wide = c->gaussian ? 2 : 1;
    if (!fits(nn, x, c->channels, "images"))
        return ZS_NONE;
    zs_shape s = zs_graph_shape(nn->g, x);
    if ((s.d[1] | s.d[2]) & (((int64_t)1 << (c->levels - 1)) - 1))
        zs_graph_fail(nn->g, ZS_E_INVALID,
                      "the first stage halves images %d times: %lldx%lld is not a multiple of %d",
                      c->levels - 1, (long long)s.d[2], (long long)s.d[1], 1 << (c->levels - 1));
    zs_nn_push(nn, "encoder");
    zs_tid h = zs_nn_conv(nn, "conv_in", x, c->ch[0], 3, ZS_NONE, ZS_INIT_UNIFORM);
    for (int level = 0; level < c->levels; level++) {
        zs_nn_push(nn, "down.%d", level);
        h = level_blocks(nn, c, h, level, c->num_res_blocks);
        if (level < c->levels - 1)
            h = zs_nn_conv_down(nn, "downsample.conv", h, c->ch[level]);
        zs_nn_pop(nn);
    }
    h = head(nn, middle(nn, h, c->ch[c->levels - 1]), wide * c->z_channels);
    zs_nn_pop(nn);
    return zs_nn_conv(nn, "quant_conv", h, wide * c->latent_channels, 1, ZS_NONE, ZS_INIT_UNIFORM);
}

zs_tid zs_vae_decoder_build(zs_nn *nn, const zs_vae_config *c, zs_tid z)
{
    if (!fits(nn, z, c->latent_channels, "latents"))
        return ZS_NONE;
    zs_tid h = zs_nn_conv(nn, "post_quant_conv", z, c->z_channels, 1, ZS_NONE, ZS_INIT_UNIFORM);
    int64_t deepest = c->ch[c->levels - 1];
    zs_nn_push(nn, "decoder");
    h = zs_nn_conv(nn, "conv_in", h, deepest, 3, ZS_NONE, ZS_INIT_UNIFORM);
    h = middle(nn, h, deepest);
    for (int level = c->levels - 1; level >= 0; level--) {
        zs_nn_push(nn, "up.%d", level);
        h = level_blocks(nn, c, h, level, c->num_res_blocks + 1);
        if (level > 0)
            h = zs_nn_conv(nn, "upsample.conv", zs_upsample2(nn->g, h), c->ch[level], 3, ZS_NONE,
                           ZS_INIT_UNIFORM);
        zs_nn_pop(nn);
    }
    h = head(nn, h, c->channels);
    zs_nn_pop(nn);
    return h;
}

/* ---- latents ---- */

void zs_vae_latents(float *z, const zs_vae_config *c, const float *encoded, const float *noise,
                    int64_t pixels)
{
    int64_t n = c->latent_channels, row = c->gaussian ? 2 * n : n;
    float scale = (float)c->scale;
    for (int64_t i = 0; i < pixels; i++) {
        for (int64_t j = 0; j < n; j++) {
            const float *e = encoded + i * row + j;
            float v = e[0];
            if (c->gaussian && noise)
                v += expf(0.5f * fminf(fmaxf(e[n], LOGVAR_MIN), LOGVAR_MAX)) * noise[i * n + j];
            z[i * n + j] = scale * v;
        }
    }
}

/* ---- the architecture ---- */

static const zs_field fields[] = {
    ZS_FIELD_LIST("channels", zs_vae_config, ch, levels, 1, 16384, ZS_MAX_LEVELS),
    {"image_channels", ZS_TYPE_I64, offsetof(zs_vae_config, channels), 1, 64, 0, 0, 0},
    ZS_FIELD_I64(zs_vae_config, latent_channels, 1, 64),
    ZS_FIELD_I64(zs_vae_config, z_channels, 1, 64),
    ZS_FIELD_INT(zs_vae_config, num_res_blocks, 1, ZS_MAX_RES_BLOCKS),
    ZS_FIELD_BITS(ZS_TYPE_BITS32, "attention_levels", zs_vae_config, attn_levels, ZS_MAX_LEVELS),
    ZS_FIELD_BOOL(zs_vae_config, gaussian),
    ZS_FIELD_F64(zs_vae_config, scale, 1e-6, 1e6),
    ZS_FIELDS_END};

static int check(const void *config, zs_error *err)
{
    const zs_vae_config *c = config;
    for (int i = 0; i < c->levels; i++)
        if (c->ch[i] > 32 && c->ch[i] % 32)
            return zs_fail(err, ZS_E_INVALID,
                           "first_stage.channels[%d] is %lld; it must be a multiple of the 32 "
                           "groups of its norms",
                           i, (long long)c->ch[i]);
    if (c->attn_levels >> c->levels)
        return zs_fail(err, ZS_E_INVALID, "first_stage has attention at a level it does not have");
    return ZS_OK;
}

static void ports(const void *config, zs_ports *p)
{
    const zs_vae_config *c = config;
    *p = (zs_ports){.in_channels = c->channels,
                    .out_channels = c->latent_channels,
                    .unit = (int64_t)1 << (c->levels - 1)};
}

/* The way to latents; zs_vae_decoder_build is the way back. */
static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    return zs_vae_encoder_build(nn, config, in->x);
}

const zs_arch zs_arch_vae = {
    .name = "ldm",
    .box = ZS_BOX_FIRST_STAGE,
    .about = "autoencoder of latent diffusion",
    .module = "first_stage_model",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
};
