/* SPDX-License-Identifier: MIT */
#include "models/unet.h"

typedef struct ctx {
    zs_nn *nn;
    const zs_unet_config *c;
    zs_tid act_t, act_z;
    /* Skips of each level, pushed on the way down, popped on the way up: one per block and one
     * from the input or the down-sampling above. */
    zs_tid skip[ZS_MAX_LEVELS][ZS_MAX_RES_BLOCKS + 2];
    int n_skips[ZS_MAX_LEVELS];
} ctx;

static void keep(ctx *x, int level, zs_tid h)
{
    x->skip[level][x->n_skips[level]++] = h;
}

static zs_tid resblock(ctx *x, int index, zs_tid h, zs_tid lateral, int64_t out, zs_resample how)
{
    zs_nn_push(x->nn, "%d", index);
    h = zs_nn_resblock(x->nn, h, lateral, x->act_t, x->act_z, out, how);
    zs_nn_pop(x->nn);
    return h;
}

static zs_tid attention(ctx *x, int index, int level, zs_tid h)
{
    const zs_unet_config *c = x->c;
    zs_nn_push(x->nn, "%d", index);
    h = zs_nn_attention(x->nn, h,
                        c->head_channels ? (int)(c->ch[level] / c->head_channels) : c->heads);
    zs_nn_pop(x->nn);
    return h;
}

static zs_tid way_down(ctx *x, zs_tid h)
{
    const zs_unet_config *c = x->c;
    int block = 1;
    h = zs_nn_conv(x->nn, "input_blocks.0.0", h, c->ch[0], 3, ZS_NONE, ZS_INIT_UNIFORM);
    keep(x, 0, h);
    for (int level = 0; level < c->levels; level++) {
        for (int i = 0; i < c->num_res_blocks; i++) {
            zs_nn_push(x->nn, "input_blocks.%d", block++);
            h = resblock(x, 0, h, ZS_NONE, c->ch[level], ZS_RESAMPLE_NONE);
            if (c->attn_levels >> level & 1)
                h = attention(x, 1, level, h);
            zs_nn_pop(x->nn);
            keep(x, level, h);
        }
        if (level == c->levels - 1)
            break;
        zs_nn_push(x->nn, "input_blocks.%d", block++);
        h = resblock(x, 0, h, ZS_NONE, c->ch[level], ZS_RESAMPLE_DOWN);
        zs_nn_pop(x->nn);
        keep(x, level + 1, h);
    }
    return h;
}

static zs_tid middle(ctx *x, zs_tid h)
{
    int last = x->c->levels - 1;
    int64_t ch = x->c->ch[last];
    zs_nn_push(x->nn, "middle_block");
    h = resblock(x, 0, h, ZS_NONE, ch, ZS_RESAMPLE_NONE);
    h = attention(x, 1, last, h);
    h = resblock(x, 2, h, ZS_NONE, ch, ZS_RESAMPLE_NONE);
    zs_nn_pop(x->nn);
    return h;
}

static zs_tid way_up(ctx *x, zs_tid h)
{
    const zs_unet_config *c = x->c;
    int block = 0;
    for (int level = c->levels - 1; level >= 0; level--) {
        for (int i = 0; i <= c->num_res_blocks; i++) {
            int layer = 0;
            zs_tid lateral = x->skip[level][--x->n_skips[level]];
            zs_nn_push(x->nn, "output_blocks.%d", block++);
            h = resblock(x, layer++, h, lateral, c->ch[level], ZS_RESAMPLE_NONE);
            if (c->attn_levels >> level & 1)
                h = attention(x, layer++, level, h);
            if (level > 0 && i == c->num_res_blocks)
                h = resblock(x, layer, h, ZS_NONE, c->ch[level], ZS_RESAMPLE_UP);
            zs_nn_pop(x->nn);
        }
    }
    return h;
}

/* The autoencoder wraps its time embedding in one more module than the DDPM. */
static zs_tid time_embed(zs_nn *nn, const zs_unet_config *c, zs_tid t)
{
    zs_nn_push(nn, c->z_dim ? "time_embed.time_embed" : "time_embed");
    zs_tid e = zs_nn_time_embed(nn, t, c->model_channels, c->embed_channels);
    zs_nn_pop(nn);
    return e;
}

static void check_images(zs_nn *nn, const zs_unet_config *c, zs_tid x)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    if (s.nd == 4 && s.d[3] != c->in_channels)
        zs_graph_fail(nn->g, ZS_E_INVALID, "the UNet takes images of %lld channels, not %lld",
                      (long long)c->in_channels, (long long)s.d[3]);
}

zs_tid zs_unet_trunk(zs_nn *nn, const zs_unet_config *c, zs_tid x, zs_tid act_t, zs_tid act_z)
{
    ctx k = {.nn = nn, .c = c, .act_t = act_t, .act_z = act_z};
    if (c->levels < 1 || c->levels > ZS_MAX_LEVELS || c->num_res_blocks < 1 ||
        c->num_res_blocks > ZS_MAX_RES_BLOCKS) {
        zs_graph_fail(nn->g, ZS_E_INVALID,
                      "the UNet has %d levels of %d blocks, outside 1..%d "
                      "and 1..%d",
                      c->levels, c->num_res_blocks, ZS_MAX_LEVELS, ZS_MAX_RES_BLOCKS);
        return ZS_NONE;
    }
    check_images(nn, c, x);
    zs_tid h = way_up(&k, middle(&k, way_down(&k, x)));
    h = zs_nn_groupnorm(nn, "out.0", h, ZS_NONE, ZS_NONE, ZS_ACT_SILU);
    return zs_nn_conv(nn, "out.2", h, c->out_channels, 3, ZS_NONE, ZS_INIT_ZERO);
}

zs_tid zs_unet_build(zs_nn *nn, const zs_unet_config *c, zs_tid x, zs_tid t, zs_tid z)
{
    zs_shape sz = zs_graph_shape(nn->g, z);
    if ((sz.nd ? sz.d[1] : 0) != c->z_dim)
        zs_graph_fail(nn->g, ZS_E_INVALID, "the UNet takes codes of %lld dimensions, not %lld",
                      (long long)c->z_dim, (long long)(sz.nd ? sz.d[1] : 0));
    zs_tid act_t = zs_silu(nn->g, time_embed(nn, c, t));
    return zs_unet_trunk(nn, c, x, act_t, c->z_dim ? zs_silu(nn->g, z) : ZS_NONE);
}

/* ---- the architecture ---- */

int zs_levels_check(const char *what, int levels, const int64_t *ch, uint32_t attn_levels,
                    int heads, zs_error *err)
{
    if (attn_levels >> levels)
        return zs_fail(err, ZS_E_INVALID,
                       "%s has attention at a level it does not have; set its attention to "
                       "resolutions that it reaches, or to none",
                       what);
    for (int i = 0; i < levels; i++) {
        bool attends = attn_levels >> i & 1 || i == levels - 1;
        if (attends && ch[i] % heads)
            return zs_fail(err, ZS_E_INVALID,
                           "%s.channels[%d] is %lld, which %d attention heads do not divide", what,
                           i, (long long)ch[i], heads);
    }
    return ZS_OK;
}

static const zs_field fields[] = {
    ZS_FIELD_LIST("channels", zs_unet_config, ch, levels, 1, 16384, ZS_MAX_LEVELS),
    ZS_FIELD_I64(zs_unet_config, in_channels, 1, 64),
    ZS_FIELD_I64(zs_unet_config, out_channels, 1, 64),
    ZS_FIELD_WIDTH(zs_unet_config, model_channels),
    ZS_FIELD_I64(zs_unet_config, embed_channels, 1, 16384),
    ZS_FIELD_INT(zs_unet_config, num_res_blocks, 1, ZS_MAX_RES_BLOCKS),
    ZS_FIELD_BITS(ZS_TYPE_BITS32, "attention_levels", zs_unet_config, attn_levels, ZS_MAX_LEVELS),
    ZS_FIELD_INT(zs_unet_config, heads, 1, 64),
    ZS_FIELD_I64(zs_unet_config, z_dim, 0, 65536),
    ZS_FIELD_F64(zs_unet_config, dropout, 0, 1),
    ZS_FIELDS_END};

static int check(const void *config, zs_error *err)
{
    const zs_unet_config *c = config;
    return zs_levels_check("generator", c->levels, c->ch, c->attn_levels, c->heads, err);
}

static void ports(const void *config, zs_ports *p)
{
    const zs_unet_config *c = config;
    *p = (zs_ports){.in_channels = c->in_channels,
                    .out_channels = c->out_channels,
                    .z_dim = c->z_dim,
                    .unit = (int64_t)1 << (c->levels - 1)};
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    return zs_unet_build(nn, config, in->x, in->t, in->z);
}

static int condition(void *config, int64_t z_dim, int64_t classes, zs_error *err)
{
    zs_unet_config *c = config;
    if (classes)
        return zs_fail(
            err, ZS_E_INVALID,
            "the UNet of Diffusion Autoencoders takes no classes; choose another preset, "
            "such as fashion32-adm");
    c->z_dim = z_dim;
    return ZS_OK;
}

const zs_arch zs_arch_unet = {
    .name = "unet",
    .box = ZS_BOX_GENERATOR,
    .about = "AdaGN UNet of Diffusion Autoencoders",
    .module = "",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
    .condition = condition,
};
