/* SPDX-License-Identifier: MIT */
#include "models/adm.h"

#include <inttypes.h>

static int64_t out_channels(const zs_adm_config *c)
{
    return c->learn_sigma ? 2 * c->in_channels : c->in_channels;
}

static zs_unet_config body(const zs_adm_config *c)
{
    zs_unet_config u = {.in_channels = c->in_channels,
                        .out_channels = out_channels(c),
                        .model_channels = c->model_channels,
                        .embed_channels = 4 * c->model_channels,
                        .levels = c->levels,
                        .num_res_blocks = c->num_res_blocks,
                        .attn_levels = c->attn_levels,
                        .head_channels = c->head_channels,
                        .dropout = c->dropout};
    for (int i = 0; i < ZS_MAX_LEVELS; i++)
        u.ch[i] = c->ch[i];
    return u;
}

/* Rows of "label_emb.weight" [classes,E]. */
static zs_tid class_embedding(zs_nn *nn, const zs_adm_config *c, zs_tid y)
{
    const zs_param table = {.name = "label_emb.weight",
                            .nd = 2,
                            .shape = {c->classes, 4 * c->model_channels},
                            .init = ZS_INIT_NORMAL,
                            .fan_in = 1,
                            .alias = -1,
                            .trainable = true};
    return zs_embed(nn->g, y, zs_nn_param(nn, &table));
}

static zs_tid embedding(zs_nn *nn, const zs_adm_config *c, zs_tid t, zs_tid rep, zs_tid y)
{
    int64_t width = 4 * c->model_channels;
    zs_nn_push(nn, "time_embed");
    zs_tid e = zs_nn_time_embed(nn, t, c->model_channels, width);
    zs_nn_pop(nn);
    if (c->classes)
        e = zs_add(nn->g, e, class_embedding(nn, c, y));
    if (c->rep_dim)
        e = zs_add(nn->g, e, zs_nn_linear(nn, "rep_proj", rep, width, ZS_INIT_ZERO));
    return e;
}

zs_tid zs_adm_build(zs_nn *nn, const zs_adm_config *c, zs_tid x, zs_tid t, zs_tid rep, zs_tid y)
{
    zs_unet_config u = body(c);
    zs_shape s = zs_graph_shape(nn->g, rep);
    if ((s.nd ? s.d[1] : 0) != c->rep_dim)
        zs_graph_fail(nn->g, ZS_E_INVALID,
                      "the ADM UNet takes representations of %" PRId64 " dimensions, not %" PRId64,
                      c->rep_dim, s.nd ? s.d[1] : 0);
    if ((y == ZS_NONE) != (c->classes == 0))
        zs_graph_fail(nn->g, ZS_E_INVALID, "the ADM UNet is built for %" PRId64 " classes",
                      c->classes);
    return zs_unet_trunk(nn, &u, x, zs_silu(nn->g, embedding(nn, c, t, rep, y)), ZS_NONE);
}

/* ---- the architecture ---- */

static const zs_field fields[] = {
    ZS_FIELD_LIST("channels", zs_adm_config, ch, levels, 1, 16384, ZS_MAX_LEVELS),
    ZS_FIELD_I64(zs_adm_config, in_channels, 1, 64),
    ZS_FIELD_WIDTH(zs_adm_config, model_channels),
    ZS_FIELD_INT(zs_adm_config, num_res_blocks, 1, ZS_MAX_RES_BLOCKS),
    ZS_FIELD_BITS(ZS_TYPE_BITS32, "attention_levels", zs_adm_config, attn_levels, ZS_MAX_LEVELS),
    ZS_FIELD_I64(zs_adm_config, head_channels, 1, 16384),
    ZS_FIELD_I64(zs_adm_config, rep_dim, 0, 65536),
    ZS_FIELD_I64(zs_adm_config, classes, 0, 1 << 24),
    ZS_FIELD_BOOL(zs_adm_config, learn_sigma),
    ZS_FIELD_F64(zs_adm_config, dropout, 0, 1),
    ZS_FIELDS_END};

static int check(const void *config, zs_error *err)
{
    const zs_adm_config *c = config;
    if (c->attn_levels >> c->levels)
        return zs_fail(err, ZS_E_INVALID,
                       "generator has attention at a level it does not have; set its attention to "
                       "resolutions that it reaches, or to none");
    for (int i = 0; i < c->levels; i++) {
        bool attends = c->attn_levels >> i & 1 || i == c->levels - 1;
        if (attends && c->ch[i] % c->head_channels)
            return zs_fail(err, ZS_E_INVALID,
                           "generator.channels[%d] is %" PRId64
                           ", which are no whole heads of %" PRId64
                           " channels; choose another head_channels",
                           i, c->ch[i], c->head_channels);
    }
    return ZS_OK;
}

static void ports(const void *config, zs_ports *p)
{
    const zs_adm_config *c = config;
    *p = (zs_ports){.in_channels = c->in_channels,
                    .out_channels = out_channels(c),
                    .z_dim = c->rep_dim,
                    .classes = c->classes,
                    .unit = (int64_t)1 << (c->levels - 1)};
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    return zs_adm_build(nn, config, in->x, in->t, in->z, in->y);
}

static int condition(void *config, int64_t z_dim, int64_t classes, zs_error *err)
{
    zs_adm_config *c = config;
    (void)err;
    c->rep_dim = z_dim;
    c->classes = classes;
    return ZS_OK;
}

const zs_arch zs_arch_adm = {
    .name = "adm",
    .box = ZS_BOX_GENERATOR,
    .about = "ADM UNet conditioned on a representation",
    .module = "",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
    .condition = condition,
};
