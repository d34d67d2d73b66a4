/* SPDX-License-Identifier: MIT */
#include "models/adm.h"

#include <inttypes.h>

static int64_t out_channels(const zs_adm_config *c)
{
    return c->learn_sigma ? 2 * c->channels : c->channels;
}

static zs_unet_config body(const zs_adm_config *c)
{
    zs_unet_config u = {.in_channels = c->channels,
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

/* ---- ranges ---- */

static int out_of_range(const char *field, int64_t got, int64_t lo, int64_t hi, zs_error *err)
{
    return zs_fail(err, ZS_E_INVALID,
                   "adm.%s is %" PRId64 ", which is outside %" PRId64 "..%" PRId64, field, got, lo,
                   hi);
}

static int check_level(const zs_adm_config *c, int i, zs_error *err)
{
    int64_t ch = c->ch[i], groups = ch < 32 ? ch : 32;
    bool attention = c->attn_levels >> i & 1 || i == c->levels - 1;
    if (ch < 1 || ch > 16384)
        return out_of_range("channels of a level", ch, 1, 16384, err);
    if (ch % groups)
        return zs_fail(err, ZS_E_INVALID,
                       "adm level %d has %" PRId64 " channels, which are no multiple of 32", i, ch);
    if (attention && ch % c->head_channels)
        return zs_fail(err, ZS_E_INVALID,
                       "adm level %d has %" PRId64
                       " channels, which are not whole heads of %" PRId64
                       ": choose another head_channels",
                       i, ch, c->head_channels);
    return ZS_OK;
}

int zs_adm_validate(const zs_adm_config *c, zs_error *err)
{
    const struct {
        const char *field;
        int64_t value, lo, hi;
    } ranges[] = {
        {"levels", c->levels, 1, ZS_MAX_LEVELS},
        {"channels", c->channels, 1, 64},
        {"model_channels", c->model_channels, 2, 4096},
        {"num_res_blocks", c->num_res_blocks, 1, ZS_MAX_RES_BLOCKS},
        {"head_channels", c->head_channels, 1, 16384},
        {"rep_dim", c->rep_dim, 0, 65536},
        {"classes", c->classes, 0, 1 << 24},
    };
    int status = ZS_OK;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i].value < ranges[i].lo || ranges[i].value > ranges[i].hi)
            return out_of_range(ranges[i].field, ranges[i].value, ranges[i].lo, ranges[i].hi, err);
    if (c->model_channels % 2)
        return zs_fail(err, ZS_E_INVALID, "adm.model_channels is %" PRId64 "; it must be even",
                       c->model_channels);
    if (c->attn_levels >> c->levels)
        return zs_fail(err, ZS_E_INVALID, "adm has attention at a level that it does not have");
    if (!(c->dropout >= 0.0 && c->dropout < 1.0))
        return zs_fail(err, ZS_E_INVALID, "adm.dropout is %g, which is outside [0,1)", c->dropout);
    for (int i = 0; i < c->levels && status == ZS_OK; i++)
        status = check_level(c, i, err);
    return status;
}
