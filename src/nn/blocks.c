/* SPDX-License-Identifier: MIT */
/* Blocks of the diffusion UNets (blocks.py of Diffusion Autoencoders). */
#include "nn/nn.h"

zs_tid zs_nn_time_embed(zs_nn *nn, zs_tid t, int64_t dim, int64_t out)
{
    zs_tid h = zs_timestep(nn->g, t, dim);
    h = zs_nn_linear(nn, "0", h, out, ZS_INIT_UNIFORM);
    return zs_nn_linear(nn, "2", zs_silu(nn->g, h), out, ZS_INIT_UNIFORM);
}

static zs_tid resample(zs_graph *g, zs_tid x, zs_resample how)
{
    if (how == ZS_RESAMPLE_UP)
        return zs_upsample2(g, x);
    return how == ZS_RESAMPLE_DOWN ? zs_downsample2(g, x) : x;
}

/* GN, both conditions, SiLU, dropout: what the second convolution of a block sees. */
static zs_tid conditioned(zs_nn *nn, zs_tid h, zs_tid act_t, zs_tid act_z, int64_t out)
{
    zs_tid z = ZS_NONE, t = zs_nn_linear(nn, "emb_layers.1", act_t, 2 * out, ZS_INIT_UNIFORM);
    if (act_z != ZS_NONE)
        z = zs_nn_linear(nn, "cond_emb_layers.1", act_z, out, ZS_INIT_UNIFORM);
    h = zs_nn_groupnorm(nn, "out_layers.0", h, t, z, ZS_ACT_SILU);
    return zs_dropout(nn->g, h, nn->dropout);
}

zs_tid zs_nn_resblock(zs_nn *nn, zs_tid x, zs_tid lateral, zs_tid act_t, zs_tid act_z, int64_t out,
                      zs_resample how)
{
    zs_graph_segment_begin(nn->g);
    if (lateral != ZS_NONE)
        x = zs_concat(nn->g, x, lateral);
    zs_shape s = zs_graph_shape(nn->g, x);
    bool same = s.nd && zs_shape_last(&s) == out;
    zs_tid h = zs_nn_groupnorm(nn, "in_layers.0", x, ZS_NONE, ZS_NONE, ZS_ACT_SILU);
    h = resample(nn->g, h, how);
    x = resample(nn->g, x, how);
    /* The last convolution of the block adds the residual: x itself, or, when the channels
     * change, h to the 1x1 convolution of x. */
    if (act_t == ZS_NONE) {
        h = zs_nn_conv(nn, "in_layers.2", h, out, 3, same ? x : ZS_NONE, ZS_INIT_UNIFORM);
    } else {
        h = zs_nn_conv(nn, "in_layers.2", h, out, 3, ZS_NONE, ZS_INIT_UNIFORM);
        h = conditioned(nn, h, act_t, act_z, out);
        h = zs_nn_conv(nn, "out_layers.3", h, out, 3, same ? x : ZS_NONE, ZS_INIT_ZERO);
    }
    if (!same)
        h = zs_nn_conv(nn, "skip_connection", x, out, 1, h, ZS_INIT_UNIFORM);
    zs_graph_segment_end(nn->g);
    return h;
}

zs_tid zs_nn_attention(zs_nn *nn, zs_tid x, int heads)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    int64_t c = s.nd ? zs_shape_last(&s) : 1;
    zs_graph_segment_begin(nn->g);
    zs_tid h = zs_nn_groupnorm(nn, "norm", x, ZS_NONE, ZS_NONE, ZS_ACT_NONE);
    h = zs_nn_conv1d(nn, "qkv", h, 3 * c, ZS_NONE, ZS_INIT_UNIFORM);
    h = zs_attention(nn->g, h, heads);
    h = zs_nn_conv1d(nn, "proj_out", h, c, x, ZS_INIT_ZERO);
    zs_graph_segment_end(nn->g);
    return h;
}
