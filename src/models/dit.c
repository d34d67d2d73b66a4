/* SPDX-License-Identifier: MIT */
#include "models/dit.h"

#include <string.h>

static const float NORM_EPS = 1e-6f;

/* Guidance moves the first three channels alone, as the authors do for exact reproducibility. */
enum { GUIDED = 3 };

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

static int64_t out_channels(const zs_dit_config *c)
{
    return c->learn_sigma ? 2 * c->in_channels : c->in_channels;
}

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
                           .tanh = x->c->gelu[0] != 0,
                           .mod = modulation(x, 6)};
    return zs_nn_transformer(x->nn, h, &b);
}

static zs_tid last_layer(ctx *x, zs_tid h)
{
    zs_nn *nn = x->nn;
    int64_t out = x->c->patch * x->c->patch * out_channels(x->c);
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
    int64_t side = c->grid * c->patch;
    if (s.nd == 4 && (s.d[1] != side || s.d[2] != side || s.d[3] != c->in_channels))
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

/* ---- the architecture ---- */

static const zs_field fields[] = {
    ZS_FIELD_INT(zs_dit_config, depth, 1, 256),
    ZS_FIELD_INT(zs_dit_config, heads, 1, 256),
    ZS_FIELD_I64(zs_dit_config, hidden, 4, 16384),
    ZS_FIELD_I64(zs_dit_config, mlp, 1, 65536),
    ZS_FIELD_INT(zs_dit_config, patch, 1, 64),
    ZS_FIELD_I64(zs_dit_config, grid, 1, 1024),
    ZS_FIELD_I64(zs_dit_config, in_channels, 1, 64),
    ZS_FIELD_BOOL(zs_dit_config, learn_sigma),
    ZS_FIELD_WIDTH(zs_dit_config, time_channels),
    ZS_FIELD_I64(zs_dit_config, z_dim, 0, 65536),
    ZS_FIELD_I64(zs_dit_config, classes, 1, 1 << 24),
    ZS_FIELD_F64(zs_dit_config, class_drop, 0, 1),
    ZS_FIELD_BOOL(zs_dit_config, substitute),
    ZS_FIELD_F64(zs_dit_config, z_drop, 0, 1),
    {"gelu", ZS_TYPE_TEXT, offsetof(zs_dit_config, gelu), 0, 0, 8, 0, ZS_FIELD_OPTIONAL},
    ZS_FIELDS_END};

static int check(const void *config, zs_error *err)
{
    const zs_dit_config *c = config;
    if (c->hidden % c->heads || c->hidden % 4)
        return zs_fail(err, ZS_E_INVALID,
                       "generator.hidden is %lld; it must be a multiple of 4 and of its %d heads",
                       (long long)c->hidden, c->heads);
    if (c->gelu[0] && strcmp(c->gelu, "tanh") != 0)
        return zs_fail(err, ZS_E_INVALID,
                       "generator.gelu is \"%s\"; it is tanh, or nothing: the exact one", c->gelu);
    if (c->substitute && !c->z_dim)
        return zs_fail(err, ZS_E_INVALID,
                       "generator.substitute needs representations: generator.z_dim is 0");
    if (c->z_drop > 0 && !c->substitute)
        return zs_fail(err, ZS_E_INVALID,
                       "generator.z_drop is %g; it needs a learned row for absent representations "
                       "(generator.substitute)",
                       c->z_drop);
    return ZS_OK;
}

static void ports(const void *config, zs_ports *p)
{
    const zs_dit_config *c = config;
    bool by_class = !c->z_dim && c->classes > 1;
    *p = (zs_ports){.in_channels = c->in_channels,
                    .out_channels = out_channels(c),
                    .z_dim = c->z_dim,
                    .classes = c->z_dim ? 0 : c->classes,
                    .unit = c->patch,
                    .side = c->grid * c->patch,
                    .z_drop = c->z_drop,
                    .y_drop = by_class ? c->class_drop : 0};
    if (p->z_drop > 0 || p->y_drop > 0)
        p->guided = c->in_channels < GUIDED ? c->in_channels : GUIDED;
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    const zs_dit_inputs inputs = {in->x, in->t, in->z, in->drop, in->y};
    return zs_dit_build(nn, config, &inputs);
}

/* Presets leave out a tenth of the conditions, as the authors do. A table of classes has a row more
 * where some are left out. */
static int set_condition(void *config, int64_t z_dim, int64_t classes, zs_error *err)
{
    zs_dit_config *c = config;
    if (z_dim && classes)
        return zs_fail(err, ZS_E_INVALID,
                       "a DiT is conditioned on representations or on classes, not on both");
    c->z_dim = z_dim;
    c->substitute = z_dim > 0;
    c->z_drop = z_dim ? c->z_drop : 0;
    c->class_drop = classes ? c->class_drop : 0;
    c->classes = classes ? classes + (c->class_drop > 0) : 1;
    return ZS_OK;
}

const zs_arch zs_arch_dit = {
    .name = "dit",
    .box = ZS_BOX_GENERATOR,
    .about = "diffusion transformer",
    .module = "",
    .fields = fields,
    .check = check,
    .ports = ports,
    .build = build,
    .condition = set_condition,
};
