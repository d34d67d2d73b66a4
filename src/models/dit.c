/* SPDX-License-Identifier: MIT */
#include "models/dit.h"

#include <string.h>

static const float NORM_EPS = 1e-6f;

/* ---- configuration ---- */

static int outside(zs_error *err, const char *field, int64_t value, int64_t low, int64_t high)
{
    return zs_fail(err, ZS_E_INVALID, "DiT: %s = %lld is outside %lld..%lld", field,
                   (long long)value, (long long)low, (long long)high);
}

static int check_ranges(const zs_dit_config *c, zs_error *err)
{
    const struct {
        const char *field;
        int64_t value, low, high;
    } ranges[] = {
        {"depth", c->depth, 1, 256},
        {"heads", c->heads, 1, 256},
        {"hidden", c->hidden, 4, 16384},
        {"mlp", c->mlp, 1, 65536},
        {"patch", c->patch, 1, 64},
        {"grid", c->grid, 1, 1024},
        {"in_channels", c->in_channels, 1, 64},
        {"time_channels", c->time_channels, 2, 4096},
        {"z_dim", c->z_dim, 0, 65536},
        {"classes", c->classes, 1, 1 << 24},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i].value < ranges[i].low || ranges[i].value > ranges[i].high)
            return outside(err, ranges[i].field, ranges[i].value, ranges[i].low, ranges[i].high);
    return ZS_OK;
}

int zs_dit_config_validate(const zs_dit_config *c, zs_error *err)
{
    int status = check_ranges(c, err);
    if (status < 0)
        return status;
    if (c->hidden % c->heads || c->hidden % 4)
        return zs_fail(err, ZS_E_INVALID,
                       "DiT: hidden = %lld must be a multiple of 4 and of its %d heads",
                       (long long)c->hidden, c->heads);
    if (c->time_channels % 2)
        return zs_fail(err, ZS_E_INVALID, "DiT: time_channels = %lld must be even",
                       (long long)c->time_channels);
    if (c->out_channels != c->in_channels && c->out_channels != 2 * c->in_channels)
        return zs_fail(err, ZS_E_INVALID,
                       "DiT: out_channels = %lld must be in_channels = %lld, or twice as many",
                       (long long)c->out_channels, (long long)c->in_channels);
    if (!(c->z_drop >= 0 && c->z_drop < 1) || !(c->class_drop >= 0 && c->class_drop < 1))
        return zs_fail(err, ZS_E_INVALID, "DiT: z_drop = %g or class_drop = %g is outside [0,1)",
                       c->z_drop, c->class_drop);
    if (c->substitute && !c->z_dim)
        return zs_fail(err, ZS_E_INVALID,
                       "DiT: a row for absent representations needs representations (z_dim)");
    if (c->z_drop > 0 && !c->substitute)
        return zs_fail(err, ZS_E_INVALID,
                       "DiT: z_drop = %g needs a learned row for absent representations",
                       c->z_drop);
    return ZS_OK;
}

int zs_dit_heads(int64_t hidden)
{
    static const struct {
        int64_t hidden;
        int heads;
    } sizes[] = {{384, 6}, {768, 12}, {1024, 16}, {1152, 16}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].hidden == hidden)
            return sizes[i].heads;
    return 0;
}

/* ---- network ---- */

typedef struct ctx {
    zs_nn *nn;
    const zs_dit_config *c;
    zs_tid act; /* SiLU of time and condition [N,hidden] */
} ctx;

/* A parameter that no layer owns, of nd dimensions. */
static zs_tid table(ctx *x, const char *name, const int64_t *shape, int nd, zs_init init,
                    bool trainable)
{
    zs_param p = {.name = name,
                  .nd = nd,
                  .init = init,
                  .fan_in = shape[nd - 1],
                  .alias = -1,
                  .trainable = trainable};
    memcpy(p.shape, shape, (size_t)nd * sizeof *shape);
    return zs_nn_param(x->nn, &p);
}

static zs_tid time_embed(ctx *x, zs_tid t)
{
    zs_tid h = zs_timestep(x->nn->g, t, x->c->time_channels);
    h = zs_nn_linear(x->nn, "t_embedder.mlp.0", h, x->c->hidden, ZS_INIT_NORMAL_02);
    h = zs_silu(x->nn->g, h);
    return zs_nn_linear(x->nn, "t_embedder.mlp.2", h, x->c->hidden, ZS_INIT_NORMAL_02);
}

/* Modulation of a block or the last layer: `parts` times hidden numbers per sample. */
static zs_tid modulation(ctx *x, int parts)
{
    return zs_nn_linear(x->nn, "adaLN_modulation.1", x->act, parts * x->c->hidden, ZS_INIT_ZERO);
}

/* The files list the modulation of a block last, and it is used first. */
static void declare_block(ctx *x)
{
    int64_t d = x->c->hidden;
    zs_nn_linear_declare(x->nn, "attn.qkv", d, 3 * d, ZS_INIT_XAVIER);
    zs_nn_linear_declare(x->nn, "attn.proj", d, d, ZS_INIT_XAVIER);
    zs_nn_linear_declare(x->nn, "mlp.fc1", d, x->c->mlp, ZS_INIT_XAVIER);
    zs_nn_linear_declare(x->nn, "mlp.fc2", x->c->mlp, d, ZS_INIT_XAVIER);
}

static zs_tid block(ctx *x, zs_tid h)
{
    declare_block(x);
    const zs_nn_block b = {.heads = x->c->heads,
                           .hidden = x->c->mlp,
                           .eps = NORM_EPS,
                           .init = ZS_INIT_XAVIER,
                           .mod = modulation(x, 6)};
    return zs_nn_transformer(x->nn, h, &b);
}

static zs_tid last_layer(ctx *x, zs_tid h)
{
    zs_nn *nn = x->nn;
    int64_t out = x->c->patch * x->c->patch * x->c->out_channels;
    zs_nn_push(nn, "final_layer");
    zs_nn_linear_declare(nn, "linear", x->c->hidden, out, ZS_INIT_ZERO);
    h = zs_layernorm_mod(nn->g, h, ZS_NONE, ZS_NONE, modulation(x, 2), 0, NORM_EPS);
    h = zs_nn_linear(nn, "linear", h, out, ZS_INIT_ZERO);
    zs_nn_pop(nn);
    return zs_unpatch(nn->g, h, x->c->patch, x->c->grid, x->c->grid);
}

/* Time plus representation, or class. `absent`: fake_latent. */
static zs_tid condition(ctx *x, const zs_dit_inputs *in, zs_tid absent)
{
    const zs_dit_config *c = x->c;
    zs_tid e = time_embed(x, in->t), z = in->z;
    const int64_t rows[2] = {c->classes, c->hidden};
    zs_tid classes =
        table(x, "y_embedder.embedding_table.weight", rows, 2, ZS_INIT_NORMAL_02, z == ZS_NONE);
    if (c->z_dim)
        zs_nn_linear_declare(x->nn, "rep_embedder", c->z_dim, c->hidden, ZS_INIT_XAVIER);
    if (z == ZS_NONE)
        return zs_add(x->nn->g, e, zs_embed(x->nn->g, in->y, classes));
    if (in->drop != ZS_NONE)
        z = zs_substitute(x->nn->g, z, absent, in->drop);
    z = zs_nn_linear(x->nn, "rep_embedder", z, c->hidden, ZS_INIT_XAVIER);
    return zs_add(x->nn->g, e, z);
}

static bool fits(zs_graph *g, const zs_dit_config *c, const zs_dit_inputs *in)
{
    zs_shape s = zs_graph_shape(g, in->x), z = zs_graph_shape(g, in->z);
    zs_error err = {0};
    int64_t side = c->grid * c->patch;
    if (zs_dit_config_validate(c, &err) < 0)
        zs_graph_fail(g, err.status, "%s", err.message);
    else if (s.nd == 4 && (s.d[1] != side || s.d[2] != side || s.d[3] != c->in_channels))
        zs_graph_fail(
            g, ZS_E_INVALID,
            "the DiT takes images of %lldx%lld with %lld channels, not %lldx%lld with %lld",
            (long long)side, (long long)side, (long long)c->in_channels, (long long)s.d[2],
            (long long)s.d[1], (long long)s.d[3]);
    else if (z.nd && z.d[1] != c->z_dim)
        zs_graph_fail(g, ZS_E_INVALID, "the DiT takes codes of %lld dimensions, not %lld",
                      (long long)c->z_dim, (long long)z.d[1]);
    return zs_graph_status(g) == ZS_OK;
}

zs_tid zs_dit_build(zs_nn *nn, const zs_dit_config *c, const zs_dit_inputs *in)
{
    ctx x = {.nn = nn, .c = c};
    zs_tid absent = ZS_NONE;
    if (!fits(nn->g, c, in))
        return ZS_NONE;
    if (c->substitute)
        absent =
            table(&x, "fake_latent", (const int64_t[]){1, c->z_dim}, 2, ZS_INIT_NORMAL_02, true);
    const int64_t grid[3] = {1, c->grid * c->grid, c->hidden};
    zs_tid positions = table(&x, "pos_embed", grid, 3, ZS_INIT_POSITIONS, false);
    zs_tid h = zs_nn_patch_embed(nn, "x_embedder.proj", in->x, c->hidden, c->patch, ZS_INIT_XAVIER);
    h = zs_tokens(nn->g, h, ZS_NONE, positions);
    x.act = zs_silu(nn->g, condition(&x, in, absent));
    for (int i = 0; i < c->depth; i++) {
        zs_nn_push(nn, "blocks.%d", i);
        h = block(&x, h);
        zs_nn_pop(nn);
    }
    return last_layer(&x, h);
}
