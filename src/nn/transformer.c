/* SPDX-License-Identifier: MIT */
/* Blocks of vision transformers, under the names of timm. */
#include "nn/nn.h"

/* A LayerNorm of the block: modulated by columns of `mod` from chunk `chunk` on and without a
 * learned affine map, or with one. */
static zs_tid norm(zs_nn *nn, const char *name, zs_tid x, const zs_nn_block *b, int chunk)
{
    if (b->mod == ZS_NONE)
        return zs_nn_layernorm(nn, name, x, b->eps);
    zs_shape s = zs_graph_shape(nn->g, x);
    int64_t c = s.nd ? zs_shape_last(&s) : 1;
    return zs_layernorm_mod(nn->g, x, ZS_NONE, ZS_NONE, b->mod, chunk * c, b->eps);
}

/* x + f, or x + gate * f. */
static zs_tid join(zs_nn *nn, zs_tid x, zs_tid f, const zs_nn_block *b, int chunk)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    f = zs_dropout(nn->g, f, nn->dropout);
    if (b->mod == ZS_NONE)
        return zs_add(nn->g, x, f);
    return zs_gate(nn->g, x, f, b->mod, chunk * (s.nd ? zs_shape_last(&s) : 1));
}

zs_tid zs_nn_transformer(zs_nn *nn, zs_tid x, const zs_nn_block *b)
{
    zs_shape s = zs_graph_shape(nn->g, x);
    int64_t c = s.nd ? zs_shape_last(&s) : 1;
    zs_graph_segment_begin(nn->g);
    zs_tid h = norm(nn, "norm1", x, b, 0);
    h = zs_nn_linear(nn, "attn.qkv", h, 3 * c, b->init);
    h = zs_attention_by_part(nn->g, h, b->heads);
    x = join(nn, x, zs_nn_linear(nn, "attn.proj", h, c, b->init), b, 2);
    h = norm(nn, "norm2", x, b, 3);
    h = zs_nn_linear(nn, "mlp.fc1", h, b->hidden, b->init);
    h = b->tanh ? zs_gelu_tanh(nn->g, h) : zs_gelu(nn->g, h);
    x = join(nn, x, zs_nn_linear(nn, "mlp.fc2", h, c, b->init), b, 5);
    zs_graph_segment_end(nn->g);
    return x;
}

zs_tid zs_nn_patch_embed(zs_nn *nn, const char *name, zs_tid x, int64_t out, int patch,
                         zs_init init)
{
    char full[ZS_NN_NAME];
    zs_shape s = zs_graph_shape(nn->g, x);
    int64_t c = s.nd ? zs_shape_last(&s) : 1, fan_in = c * patch * patch;
    zs_param w = {.name = full,
                  .nd = 4,
                  .shape = {out, c, patch, patch},
                  .layout = ZS_LAYOUT_CONV,
                  .init = init,
                  .fan_in = fan_in,
                  .alias = -1,
                  .trainable = true};
    zs_param b = {.name = full,
                  .nd = 1,
                  .shape = {out},
                  .init = init == ZS_INIT_UNIFORM ? ZS_INIT_UNIFORM : ZS_INIT_ZERO,
                  .fan_in = fan_in,
                  .alias = -1,
                  .trainable = true};
    if (s.nd == 4 && (s.d[1] % patch || s.d[2] % patch))
        zs_graph_fail(nn->g, ZS_E_INVALID,
                      "%s%s cuts images into squares of %d pixels, which do not fill one of "
                      "%lldx%lld; resize to multiples of %d",
                      nn->prefix, name, patch, (long long)s.d[1], (long long)s.d[2], patch);
    (void)snprintf(full, sizeof full, "%s.weight", name);
    zs_tid weight = zs_nn_param(nn, &w);
    (void)snprintf(full, sizeof full, "%s.bias", name);
    return zs_conv2d(nn->g, x, weight, zs_nn_param(nn, &b), ZS_NONE, patch, 0);
}
