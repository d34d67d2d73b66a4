/* SPDX-License-Identifier: MIT */
/* From a configuration to graphs: the layout of all parameters, and one graph per network. */
#include "models/model_impl.h"

#include <string.h>

zs_tid zs_network_build(zs_nn *nn, const zs_model_config *c, zs_box box, const zs_inputs *in)
{
    const void *config = NULL;
    const zs_arch *a = zs_model_config_arch(c, box, &config);
    if (!a) {
        zs_graph_fail(nn->g, ZS_E_INTERNAL, "there is no %s", zs_box_name(box));
        return ZS_NONE;
    }
    if (!a->module[0])
        return a->build(nn, config, in);
    zs_nn_push(nn, "%s", a->module);
    zs_tid out = a->build(nn, config, in);
    zs_nn_pop(nn);
    return out;
}

static zs_tid encoder(zs_nn *nn, const zs_model_config *c, zs_tid x0)
{
    return zs_network_build(nn, c, ZS_BOX_ENCODER,
                            &(zs_inputs){x0, ZS_NONE, ZS_NONE, ZS_NONE, ZS_NONE});
}

zs_inputs zs_network_inputs(zs_graph *g, const zs_model_config *c, zs_box box, zs_tid x)
{
    zs_ports p;
    int64_t n = zs_graph_shape(g, x).d[0];
    zs_inputs in = {x, zs_graph_input(g, "t", zs_shape1(n)), ZS_NONE, ZS_NONE, ZS_NONE};
    (void)zs_model_config_ports(c, box, &p);
    if (p.classes)
        in.y = zs_graph_input(g, "y", zs_shape1(n));
    if (p.guided && p.z_dim)
        in.drop = zs_graph_input(g, "drop", zs_shape1(n));
    return in;
}

/* Input "z" of a generator, or ZS_NONE when it takes no representation. */
static zs_tid representation(zs_graph *g, const zs_model_config *c, int64_t n)
{
    zs_ports p;
    (void)zs_model_config_ports(c, ZS_BOX_GENERATOR, &p);
    return p.z_dim ? zs_graph_input(g, "z", zs_shape2(n, p.z_dim)) : ZS_NONE;
}

static void build_generator(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_inputs in = zs_network_inputs(nn->g, c, ZS_BOX_GENERATOR, zs_graph_input(nn->g, "x", s));
    in.z = representation(nn->g, c, s.d[0]);
    zs_graph_output(nn->g, "out", zs_network_build(nn, c, ZS_BOX_GENERATOR, &in));
}

static void build_encoder(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_graph_output(nn->g, "out", encoder(nn, c, zs_graph_input(nn->g, "x", s)));
}

/* Classes are read off the code by one linear layer, so a code holds what tells them apart. */
static zs_tid classifier(zs_nn *nn, const zs_model_config *c, zs_tid x0)
{
    zs_tid z = zs_silu(nn->g, encoder(nn, c, x0));
    return zs_nn_linear(nn, "encoder.head", z, c->classes, ZS_INIT_UNIFORM);
}

static void build_classes(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_graph_output(nn->g, "out", classifier(nn, c, zs_graph_input(nn->g, "x", s)));
}

static void build_latents(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    const zs_inputs in = {.x = zs_graph_input(nn->g, "x", s)};
    zs_graph_output(nn->g, "out", zs_network_build(nn, c, ZS_BOX_FIRST_STAGE, &in));
}

static void build_pixels(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_nn_push(nn, "%s", zs_arch_vae.module);
    zs_graph_output(nn->g, "out", zs_vae_decoder_build(nn, &c->vae, zs_graph_input(nn->g, "x", s)));
    zs_nn_pop(nn);
}

static void build_prior(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_inputs in = zs_network_inputs(nn->g, c, ZS_BOX_PRIOR, zs_graph_input(nn->g, "x", s));
    zs_graph_output(nn->g, "out", zs_network_build(nn, c, ZS_BOX_PRIOR, &in));
}

static zs_tid classifier_loss(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_tid target = zs_graph_input(nn->g, "target", zs_shape2(s.d[0], c->classes));
    zs_tid logits = classifier(nn, c, zs_graph_input(nn->g, "x0", s));
    return zs_loss_node(nn->g, logits, target, ZS_NONE, ZS_LOSS_XENT);
}

/* An encoder that is trained with the generator sees x0; a frozen one is not in the graph. */
static zs_tid diffusion_loss(zs_nn *nn, const zs_model_config *c, zs_shape s, bool weighted)
{
    zs_graph *g = nn->g;
    bool joint = zs_model_config_joint(c), learned = zs_model_config_learns_variance(c);
    zs_inputs in = zs_network_inputs(g, c, ZS_BOX_GENERATOR, zs_graph_input(g, "x_t", s));
    zs_tid noise = zs_graph_input(g, "noise", s);
    bool images = strcmp(c->diffusion.prediction, "x0") == 0;
    zs_tid x0 = joint || learned || images ? zs_graph_input(g, "x0", s) : ZS_NONE;
    in.z = joint ? encoder(nn, c, x0) : representation(g, c, s.d[0]);
    zs_tid out = zs_network_build(nn, c, ZS_BOX_GENERATOR, &in);
    zs_tid weights =
        weighted && !learned ? zs_graph_input(g, "weights", zs_shape1(s.d[0])) : ZS_NONE;
    if (!learned)
        return zs_loss_node(g, out, images ? x0 : noise, weights, ZS_LOSS_MSE);
    zs_tid steps = zs_graph_input(g, "steps", zs_shape2(s.d[0], ZS_BOUND_NUMBERS));
    return zs_loss_vlb(g, NULL, out, noise, x0, steps);
}

static void build_loss(zs_nn *nn, const zs_model_config *c, zs_shape s, bool weighted)
{
    zs_tid loss = c->classes ? classifier_loss(nn, c, s) : diffusion_loss(nn, c, s, weighted);
    zs_graph_output(nn->g, "loss", loss);
    zs_graph_backward(nn->g, loss);
}

static void build_train(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    nn->train = true;
    build_loss(nn, c, s, false);
}

/* How each network is made: a builder, and what is then cut off. */
typedef struct recipe {
    void (*build)(zs_nn *nn, const zs_model_config *c, zs_shape s);
    const char *compute; /* only what depends on this input */
    const char *take[2]; /* all but what depends on one of these alone */
} recipe;

static const recipe recipes[] = {
    [ZS_NET_GENERATOR] = {.build = build_generator},
    [ZS_NET_GENERATOR_TIME] = {.build = build_generator, .compute = "t"},
    [ZS_NET_GENERATOR_CODE] = {.build = build_generator, .compute = "z"},
    [ZS_NET_GENERATOR_STEP] = {.build = build_generator, .take = {"t", "z"}},
    [ZS_NET_ENCODER] = {.build = build_encoder},
    [ZS_NET_CLASSES] = {.build = build_classes},
    [ZS_NET_PRIOR] = {.build = build_prior},
    [ZS_NET_PRIOR_TIME] = {.build = build_prior, .compute = "t"},
    [ZS_NET_PRIOR_CLASS] = {.build = build_prior, .compute = "y"},
    [ZS_NET_PRIOR_STEP] = {.build = build_prior, .take = {"t", "y"}},
    [ZS_NET_LATENTS] = {.build = build_latents},
    [ZS_NET_PIXELS] = {.build = build_pixels},
    [ZS_NET_TRAIN] = {.build = build_train},
};

int zs_network_graph(zs_graph **out, zs_net net, zs_params *ps, const zs_model_config *c,
                     zs_shape s, zs_error *err)
{
    const recipe *r = &recipes[net];
    zs_graph *g = NULL;
    int status = zs_graph_new(&g, err);
    *out = NULL;
    if (status < 0)
        return status;
    zs_nn nn = {.g = g, .ps = ps};
    r->build(&nn, c, s);
    if (r->compute)
        (void)zs_graph_hoist(g, r->compute, ZS_HOIST_COMPUTE);
    for (int i = 0; i < 2 && r->take[i]; i++)
        (void)zs_graph_hoist(g, r->take[i], ZS_HOIST_TAKE);
    *out = g;
    return ZS_OK;
}

int zs_train_graph_build(zs_graph **out, zs_params *ps, const zs_model_config *c, zs_shape xs,
                         double dropout, bool weighted, zs_error *err)
{
    int status = zs_graph_new(out, err);
    if (status < 0)
        return status;
    zs_nn nn = {.g = *out, .ps = ps, .train = true, .dropout = (float)dropout};
    build_loss(&nn, c, xs, weighted);
    return ZS_OK;
}

/* Names everything a network has by building its smallest graph once. */
static int name_parameters(zs_params *ps, zs_net net, const zs_model_config *c, zs_shape s,
                           zs_error *err)
{
    zs_graph *g = NULL;
    int status = zs_network_graph(&g, net, ps, c, s, err);
    if (status < 0)
        return status;
    /* zs_graph_status has no text; finishing the graph has. */
    zs_exec *e = NULL;
    if (zs_graph_status(g) < 0)
        status = zs_exec_new(&e, &g, &(zs_exec_config){0}, err);
    zs_graph_free(&g);
    return status;
}

/* The network of each box, in the order of the layout. */
static zs_net net_of(const zs_model_config *c, zs_box box)
{
    return box == ZS_BOX_GENERATOR     ? ZS_NET_GENERATOR
           : box == ZS_BOX_PRIOR       ? ZS_NET_PRIOR
           : box == ZS_BOX_FIRST_STAGE ? ZS_NET_LATENTS
           : c->classes                ? ZS_NET_CLASSES
                                       : ZS_NET_ENCODER;
}

/* The smallest input of a box, of one sample. */
static zs_shape smallest(const zs_model_config *c, zs_box box)
{
    zs_ports p;
    (void)zs_model_config_ports(c, box, &p);
    int64_t a = p.side ? p.side : p.unit;
    return box == ZS_BOX_PRIOR ? zs_shape2(1, p.z_dim) : zs_shape4(1, a, a, p.in_channels);
}

int zs_model_layout(zs_params **out, const zs_model_config *c, zs_error *err)
{
    zs_params *ps = NULL;
    *out = NULL;
    int status = zs_model_config_validate(c, err);
    if (status == ZS_OK)
        status = zs_params_new(&ps, err);
    for (int b = 0; status == ZS_OK && b < ZS_BOX_COUNT; b++)
        if (zs_model_config_arch(c, (zs_box)b, NULL))
            status = name_parameters(ps, net_of(c, (zs_box)b), c, smallest(c, (zs_box)b), err);
    if (status == ZS_OK && zs_model_config_arch(c, ZS_BOX_FIRST_STAGE, NULL))
        status =
            name_parameters(ps, ZS_NET_PIXELS, c, zs_shape4(1, 1, 1, c->vae.latent_channels), err);
    if (status < 0)
        zs_params_free(&ps);
    else
        zs_params_seal(ps);
    *out = ps;
    return status;
}

static double flops(zs_net net, zs_params *ps, const zs_model_config *c, zs_shape s, int *status,
                    zs_error *err)
{
    zs_graph *g = NULL;
    if (*status == ZS_OK)
        *status = zs_network_graph(&g, net, ps, c, s, err);
    double f = *status == ZS_OK ? zs_graph_flops(g) : 0;
    zs_graph_free(&g);
    return f;
}

int zs_model_flops(zs_flops *out, const zs_model_config *c, int64_t h, int64_t w, zs_error *err)
{
    zs_params *ps = NULL;
    *out = (zs_flops){{0}};
    int status = zs_model_layout(&ps, c, err);
    for (int b = 0; status == ZS_OK && b < ZS_BOX_COUNT; b++) {
        zs_shape s = smallest(c, (zs_box)b);
        zs_ports p;
        if (!zs_model_config_ports(c, (zs_box)b, &p))
            continue;
        if (s.nd == 4 && !p.side)
            s = zs_shape4(1, h, w, p.in_channels);
        if (b == ZS_BOX_GENERATOR && !p.side && zs_model_config_arch(c, ZS_BOX_FIRST_STAGE, NULL))
            s = zs_shape4(1, h >> (c->vae.levels - 1), w >> (c->vae.levels - 1), p.in_channels);
        out->box[b] = flops(b == ZS_BOX_ENCODER ? ZS_NET_ENCODER : net_of(c, (zs_box)b), ps, c, s,
                            &status, err);
    }
    zs_params_free(&ps);
    return status;
}
