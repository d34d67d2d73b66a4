/* SPDX-License-Identifier: MIT */
#include "models/rdm.h"

static const float OUT_EPS = 1e-6f;

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

/* ---- the architecture ---- */

static const zs_field fields[] = {
    ZS_FIELD_INT(zs_rdm_config, blocks, 1, ZS_RDM_MAX_BLOCKS),
    ZS_FIELD_I64(zs_rdm_config, z_dim, 1, 65536),
    ZS_FIELD_ROW(ZS_TYPE_I64, zs_rdm_config, width, 2, 65536, ZS_FIELD_EVEN),
    ZS_FIELD_I64(zs_rdm_config, bottleneck, 1, 65536),
    ZS_FIELD_I64(zs_rdm_config, time_channels, 1, 65536),
    ZS_FIELD_I64(zs_rdm_config, classes, 1, 1 << 24),
    ZS_FIELD_I64(zs_rdm_config, class_dim, 1, 65536),
    ZS_FIELD_BOOL(zs_rdm_config, conditional),
    ZS_FIELDS_END};

static void ports(const void *config, zs_ports *p)
{
    const zs_rdm_config *c = config;
    *p = (zs_ports){.z_dim = c->z_dim, .classes = c->conditional ? c->classes : 0, .unit = 1};
}

static zs_tid build(zs_nn *nn, const void *config, const zs_inputs *in)
{
    return zs_rdm_build(nn, config, in->x, in->t, in->y);
}

const zs_arch zs_arch_rdm = {
    .name = "rdm",
    .box = ZS_BOX_PRIOR,
    .about = "representation diffusion model of RCG",
    .module = "",
    .fields = fields,
    .ports = ports,
    .build = build,
};
