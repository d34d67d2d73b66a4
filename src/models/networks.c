/* SPDX-License-Identifier: MIT */
/* From a configuration to graphs: the layout of all parameters, and one graph per network. */
#include "models/model_impl.h"

static zs_nn context(zs_graph *g, zs_params *ps, bool train, double dropout)
{
    return (zs_nn){.g = g, .ps = ps, .train = train, .dropout = (float)dropout};
}

static zs_tid encoder(zs_nn *nn, const zs_model_config *c, zs_tid x0)
{
    zs_nn_push(nn, "encoder");
    zs_tid z = zs_sem_encoder_build(nn, &c->encoder, x0);
    zs_nn_pop(nn);
    return z;
}

static zs_tid prior(zs_nn *nn, const zs_model_config *c, zs_tid z, zs_tid t)
{
    zs_nn_push(nn, "latent_net");
    zs_tid out = zs_latent_mlp_build(nn, &c->prior, z, t);
    zs_nn_pop(nn);
    return out;
}

static zs_tid timesteps(zs_graph *g, int64_t n)
{
    return zs_graph_input(g, "t", zs_shape1(n));
}

static void build_unet(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_tid x = zs_graph_input(nn->g, "x", s), t = timesteps(nn->g, s.d[0]), z = ZS_NONE;
    if (c->unet.z_dim)
        z = zs_graph_input(nn->g, "z", zs_shape2(s.d[0], c->unet.z_dim));
    zs_graph_output(nn->g, "out", zs_unet_build(nn, &c->unet, x, t, z));
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

static void build_prior(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_tid z = zs_graph_input(nn->g, "x", s);
    zs_graph_output(nn->g, "out", prior(nn, c, z, timesteps(nn->g, s.d[0])));
}

static zs_tid classifier_loss(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_tid target = zs_graph_input(nn->g, "target", zs_shape2(s.d[0], c->classes));
    zs_tid logits = classifier(nn, c, zs_graph_input(nn->g, "x0", s));
    return zs_loss_node(nn->g, logits, target, ZS_LOSS_XENT);
}

static zs_tid diffusion_loss(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_graph *g = nn->g;
    zs_tid x_t = zs_graph_input(g, "x_t", s), t = timesteps(g, s.d[0]), z = ZS_NONE;
    zs_tid noise = zs_graph_input(g, "noise", s);
    if (c->kind == ZS_MODEL_DIFFAE)
        z = encoder(nn, c, zs_graph_input(g, "x0", s));
    return zs_loss_node(g, zs_unet_build(nn, &c->unet, x_t, t, z), noise, ZS_LOSS_MSE);
}

static void build_train(zs_nn *nn, const zs_model_config *c, zs_shape s)
{
    zs_tid loss =
        c->kind == ZS_MODEL_ENCODER ? classifier_loss(nn, c, s) : diffusion_loss(nn, c, s);
    zs_graph_output(nn->g, "loss", loss);
    zs_graph_backward(nn->g, loss);
}

/* How each network is made: a builder, and what is then cut off. */
typedef struct recipe {
    void (*build)(zs_nn *nn, const zs_model_config *c, zs_shape s);
    const char *compute; /* only what depends on this input */
    bool take;           /* all but what depends on "t" or "z" alone */
} recipe;

static const recipe recipes[] = {
    [ZS_NET_UNET] = {build_unet, NULL, false},
    [ZS_NET_UNET_TIME] = {build_unet, "t", false},
    [ZS_NET_UNET_CODE] = {build_unet, "z", false},
    [ZS_NET_UNET_STEP] = {build_unet, NULL, true},
    [ZS_NET_ENCODER] = {build_encoder, NULL, false},
    [ZS_NET_CLASSES] = {build_classes, NULL, false},
    [ZS_NET_PRIOR] = {build_prior, NULL, false},
    [ZS_NET_PRIOR_TIME] = {build_prior, "t", false},
    [ZS_NET_PRIOR_STEP] = {build_prior, NULL, true},
    [ZS_NET_TRAIN] = {build_train, NULL, false},
};

int zs_network_graph(zs_graph **out, zs_net net, zs_params *ps, const zs_model_config *c,
                     zs_shape s, double dropout, zs_error *err)
{
    const recipe *r = &recipes[net];
    zs_graph *g = NULL;
    int status = zs_graph_new(&g, err);
    *out = NULL;
    if (status < 0)
        return status;
    zs_nn nn = context(g, ps, net == ZS_NET_TRAIN, dropout);
    r->build(&nn, c, s);
    if (r->compute)
        (void)zs_graph_hoist(g, r->compute, ZS_HOIST_COMPUTE);
    if (r->take) {
        (void)zs_graph_hoist(g, "t", ZS_HOIST_TAKE);
        (void)zs_graph_hoist(g, "z", ZS_HOIST_TAKE);
    }
    *out = g;
    return ZS_OK;
}

int zs_train_graph_build(zs_graph **out, zs_params *ps, const zs_model_config *c, zs_shape xs,
                         double dropout, zs_error *err)
{
    return zs_network_graph(out, ZS_NET_TRAIN, ps, c, xs, dropout, err);
}

/* Names everything a network has by building its smallest graph once. */
static int name_parameters(zs_params *ps, zs_net net, const zs_model_config *c, zs_shape s,
                           zs_error *err)
{
    zs_graph *g = NULL;
    int status = zs_network_graph(&g, net, ps, c, s, 0, err);
    if (status < 0)
        return status;
    /* zs_graph_status has no text; finishing the graph has. */
    zs_exec *e = NULL;
    if (zs_graph_status(g) < 0)
        status = zs_exec_new(&e, &g, &(zs_exec_config){0}, err);
    zs_graph_free(&g);
    return status;
}

/* The smallest image that so many levels can halve. */
static zs_shape smallest(const zs_model_config *c, int levels)
{
    int64_t a = (int64_t)1 << (levels - 1);
    return zs_shape4(1, a, a, c->channels);
}

int zs_model_layout(zs_params **out, const zs_model_config *c, zs_error *err)
{
    zs_params *ps = NULL;
    *out = NULL;
    int status = zs_model_config_validate(c, err);
    if (status == ZS_OK)
        status = zs_params_new(&ps, err);
    if (status < 0)
        return status;
    zs_net encoder_net = c->classes ? ZS_NET_CLASSES : ZS_NET_ENCODER;
    if (c->unet.levels)
        status = name_parameters(ps, ZS_NET_UNET, c, smallest(c, c->unet.levels), err);
    if (status == ZS_OK && c->encoder.levels)
        status = name_parameters(ps, encoder_net, c, smallest(c, c->encoder.levels), err);
    if (status == ZS_OK && c->prior.layers)
        status = name_parameters(ps, ZS_NET_PRIOR, c, zs_shape2(1, c->prior.z_dim), err);
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
        *status = zs_network_graph(&g, net, ps, c, s, 0, err);
    double f = *status == ZS_OK ? zs_graph_flops(g) : 0;
    zs_graph_free(&g);
    return f;
}

int zs_model_flops(zs_flops *out, const zs_model_config *c, int64_t h, int64_t w, zs_error *err)
{
    zs_params *ps = NULL;
    zs_shape x = zs_shape4(1, h, w, c->channels);
    *out = (zs_flops){0};
    int status = zs_model_layout(&ps, c, err);
    if (c->unet.levels)
        out->generator = flops(ZS_NET_UNET, ps, c, x, &status, err);
    if (c->encoder.levels)
        out->encoder = flops(ZS_NET_ENCODER, ps, c, x, &status, err);
    if (c->prior.layers)
        out->prior = flops(ZS_NET_PRIOR, ps, c, zs_shape2(1, c->prior.z_dim), &status, err);
    zs_params_free(&ps);
    return status;
}
