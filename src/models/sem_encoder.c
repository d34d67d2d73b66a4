/* SPDX-License-Identifier: MIT */
#include "models/sem_encoder.h"

static zs_tid resblock(zs_nn *nn, int index, zs_tid h, int64_t out, zs_resample how)
{
    zs_nn_push(nn, "%d", index);
    h = zs_nn_resblock(nn, h, ZS_NONE, ZS_NONE, ZS_NONE, out, how);
    zs_nn_pop(nn);
    return h;
}

static zs_tid attention(zs_nn *nn, zs_tid h, int heads)
{
    zs_nn_push(nn, "1");
    h = zs_nn_attention(nn, h, heads);
    zs_nn_pop(nn);
    return h;
}

static zs_tid way_down(zs_nn *nn, const zs_sem_encoder_config *c, zs_tid h)
{
    int block = 1;
    h = zs_nn_conv(nn, "input_blocks.0.0", h, c->ch[0], 3, ZS_NONE, ZS_INIT_UNIFORM);
    for (int level = 0; level < c->levels; level++) {
        for (int i = 0; i < c->num_res_blocks; i++) {
            zs_nn_push(nn, "input_blocks.%d", block++);
            h = resblock(nn, 0, h, c->ch[level], ZS_RESAMPLE_NONE);
            if (c->attn_levels >> level & 1)
                h = attention(nn, h, c->heads);
            zs_nn_pop(nn);
        }
        if (level == c->levels - 1)
            break;
        zs_nn_push(nn, "input_blocks.%d", block++);
        h = resblock(nn, 0, h, c->ch[level], ZS_RESAMPLE_DOWN);
        zs_nn_pop(nn);
    }
    return h;
}

zs_tid zs_sem_encoder_build(zs_nn *nn, const zs_sem_encoder_config *c, zs_tid x)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    if (s.nd == 4 && s.d[3] != c->in_channels)
        zs_graph_fail(nn->g, ZS_E_INVALID, "the encoder takes images of %lld channels, not %lld",
                      (long long)c->in_channels, (long long)s.d[3]);
    zs_tid h = way_down(nn, c, x);
    zs_nn_push(nn, "middle_block");
    h = resblock(nn, 0, h, c->ch[c->levels - 1], ZS_RESAMPLE_NONE);
    h = attention(nn, h, c->heads);
    h = resblock(nn, 2, h, c->ch[c->levels - 1], ZS_RESAMPLE_NONE);
    zs_nn_pop(nn);
    h = zs_nn_groupnorm(nn, "out.0", h, ZS_NONE, ZS_NONE, ZS_ACT_SILU);
    return zs_nn_pointwise(nn, "out.3", zs_mean_hw(nn->g, h), c->z_dim, ZS_INIT_UNIFORM);
}

/* ---- the architecture ---- */

static const zs_field fields[] = {
    ZS_FIELD_LIST("channels", zs_sem_encoder_config, ch, levels, 1, 16384, ZS_MAX_LEVELS),
    ZS_FIELD_I64(zs_sem_encoder_config, in_channels, 1, 64),
    ZS_FIELD_INT(zs_sem_encoder_config, num_res_blocks, 1, ZS_MAX_RES_BLOCKS),
    ZS_FIELD_BITS(ZS_TYPE_BITS32, "attention_levels", zs_sem_encoder_config, attn_levels,
                  ZS_MAX_LEVELS),
    ZS_FIELD_INT(zs_sem_encoder_config, heads, 1, 64),
    ZS_FIELD_I64(zs_sem_encoder_config, z_dim, 1, 65536),
    ZS_FIELDS_END};

static int check(const void *config, zs_error *err)
{
    const zs_sem_encoder_config *c = config;
    return zs_levels_check("encoder", c->levels, c->ch, c->attn_levels, c->heads, err);
}

static void ports(const void *config, zs_ports *p)
{
    const zs_sem_encoder_config *c = config;
    *p = (zs_ports){
        .in_channels = c->in_channels, .z_dim = c->z_dim, .unit = (int64_t)1 << (c->levels - 1)};
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    return zs_sem_encoder_build(nn, config, in->x);
}

const zs_arch zs_arch_sem_encoder = {
    .name = "sem_encoder",
    .box = ZS_BOX_ENCODER,
    .about = "semantic encoder of Diffusion Autoencoders",
    .module = "encoder",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
};
