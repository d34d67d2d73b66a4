/* SPDX-License-Identifier: MIT */
#include "models/rdm.h"

static const float OUT_EPS = 1e-6f;

int zs_rdm_config_validate(const zs_rdm_config *c, zs_error *err)
{
    const struct {
        const char *name;
        int64_t value, min, max;
    } ranges[] = {
        {"blocks", c->blocks, 1, ZS_RDM_MAX_BLOCKS},
        {"z_dim", c->z_dim, 1, 65536},
        {"width", c->width, 2, 65536},
        {"bottleneck", c->bottleneck, 1, 65536},
        {"time_channels", c->time_channels, 1, 65536},
        {"classes", c->classes, 1, 1 << 24},
        {"class_dim", c->class_dim, 1, 65536},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max)
            return zs_fail(err, ZS_E_INVALID, "prior %s %lld: must be from %lld to %lld",
                           ranges[i].name, (long long)ranges[i].value, (long long)ranges[i].min,
                           (long long)ranges[i].max);
    if (c->width % 2)
        return zs_fail(err, ZS_E_INVALID,
                       "prior width %lld: must be even, since half of the timestep features are "
                       "cosines",
                       (long long)c->width);
    return ZS_OK;
}

/* Linear(SiLU(LN(x))), names "<first>.<n>.*" as in the authors' Sequential. */
static zs_tid half(zs_nn *nn, const char *norm, const char *linear, zs_tid x, int64_t out,
                   float eps, zs_init init)
{
    zs_tid h = zs_silu(nn->g, zs_nn_layernorm(nn, norm, x, eps));
    return zs_nn_linear(nn, linear, h, out, init);
}

static zs_tid block(zs_nn *nn, const zs_rdm_config *c, zs_tid h, zs_tid act_t, zs_tid act_class)
{
    zs_tid y = half(nn, "in_layers.0", "in_layers.2", h, c->bottleneck, ZS_NN_EPS, ZS_INIT_UNIFORM);
    zs_tid add = zs_nn_linear(nn, "emb_layers.1", act_t, c->bottleneck, ZS_INIT_UNIFORM);
    if (act_class != ZS_NONE)
        add =
            zs_add(nn->g, add,
                   zs_nn_linear(nn, "context_layers.1", act_class, c->bottleneck, ZS_INIT_UNIFORM));
    y = zs_add(nn->g, y, add);
    y = half(nn, "out_layers.0", "out_layers.3", y, c->width, ZS_NN_EPS, ZS_INIT_ZERO);
    return zs_add(nn->g, h, y);
}

/* The rows of the classes, or ZS_NONE when the model does not look at them. The authors' moving
 * average does not cover the table: an average of it is the table itself. */
static zs_tid class_rows(zs_nn *nn, const zs_rdm_config *c, zs_tid label)
{
    const zs_param table = {.name = "cond_stage_model.embedding.weight",
                            .nd = 2,
                            .shape = {c->classes, c->class_dim},
                            .init = ZS_INIT_NORMAL,
                            .fan_in = c->class_dim,
                            .alias = -1,
                            .plain = true,
                            .trainable = c->conditional};
    zs_tid rows = zs_nn_param(nn, &table);
    return c->conditional ? zs_silu(nn->g, zs_embed(nn->g, label, rows)) : ZS_NONE;
}

zs_tid zs_rdm_build(zs_nn *nn, const zs_rdm_config *c, zs_tid z_t, zs_tid t, zs_tid label)
{
    zs_tid act_class = class_rows(nn, c, label);
    zs_nn_push(nn, "model.diffusion_model");
    zs_nn_push(nn, "time_embed");
    zs_tid act_t = zs_silu(nn->g, zs_nn_time_embed(nn, t, c->width, c->time_channels));
    zs_nn_pop(nn);
    zs_tid h = zs_nn_linear(nn, "input_proj", z_t, c->width, ZS_INIT_UNIFORM);
    for (int i = 0; i < c->blocks; i++) {
        zs_nn_push(nn, "res_blocks.%d", i);
        h = block(nn, c, h, act_t, act_class);
        zs_nn_pop(nn);
    }
    h = half(nn, "out.0", "out.2", h, c->z_dim, OUT_EPS, ZS_INIT_ZERO);
    zs_nn_pop(nn);
    return h;
}
