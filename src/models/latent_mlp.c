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
