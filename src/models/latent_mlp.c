/* SPDX-License-Identifier: MIT */
#include "models/latent_mlp.h"

static zs_tid layer(zs_nn *nn, const zs_latent_mlp_config *c, zs_tid h, zs_tid act_t, bool last)
{
    if (last)
        return zs_nn_linear(nn, "linear", h, c->z_dim, ZS_INIT_UNIFORM);
    h = zs_nn_linear(nn, "linear", h, c->hidden, ZS_INIT_KAIMING_NORMAL);
    zs_tid s = zs_nn_linear_tied(nn, "linear_emb", "cond_layers.1", act_t, c->hidden,
                                 ZS_INIT_KAIMING_NORMAL);
    h = zs_nn_layernorm(nn, "norm", zs_scale1p(nn->g, h, s), ZS_NN_EPS);
    return zs_dropout(nn->g, zs_silu(nn->g, h), nn->dropout);
}

zs_tid zs_latent_mlp_build(zs_nn *nn, const zs_latent_mlp_config *c, zs_tid z_t, zs_tid t)
{
    zs_tid h = z_t;
    zs_nn_push(nn, "time_embed");
    zs_tid act_t = zs_silu(nn->g, zs_nn_time_embed(nn, t, c->time_channels, c->z_dim));
    zs_nn_pop(nn);
    for (int i = 0; i < c->layers; i++) {
        if (c->skips >> i & 1)
            h = zs_concat(nn->g, h, z_t);
        zs_nn_push(nn, "layers.%d", i);
        h = layer(nn, c, h, act_t, i == c->layers - 1);
        zs_nn_pop(nn);
    }
    return h;
}

/* ---- the architecture ---- */

static const zs_field fields[] = {
    ZS_FIELD_INT(zs_latent_mlp_config, layers, 2, 64),
    ZS_FIELD_I64(zs_latent_mlp_config, z_dim, 1, 65536),
    ZS_FIELD_I64(zs_latent_mlp_config, hidden, 1, 65536),
    ZS_FIELD_BITS(ZS_TYPE_BITS64, "skips", zs_latent_mlp_config, skips, 64),
    ZS_FIELD_WIDTH(zs_latent_mlp_config, time_channels),
    ZS_FIELD_F64(zs_latent_mlp_config, dropout, 0, 1),
    ZS_FIELDS_END};

static int check(const void *config, zs_error *err)
{
    const zs_latent_mlp_config *c = config;
    if (c->layers < 64 && c->skips >> c->layers)
        return zs_fail(err, ZS_E_INVALID, "prior.skips names a layer beyond the last of %d",
                       c->layers);
    return ZS_OK;
}

static void ports(const void *config, zs_ports *p)
{
    const zs_latent_mlp_config *c = config;
    *p = (zs_ports){.z_dim = c->z_dim, .unit = 1};
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    return zs_latent_mlp_build(nn, config, in->x, in->t);
}

const zs_arch zs_arch_latent_mlp = {
    .name = "latent_mlp",
    .box = ZS_BOX_PRIOR,
    .about = "latent DDIM of Diffusion Autoencoders",
    .module = "latent_net",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
};
