/* SPDX-License-Identifier: MIT */
#include "models/prior.h"
#include "models/model_impl.h"

#include <string.h>

int zs_prior_graph_build(zs_graph **out, zs_params *ps, const zs_model_config *c, int64_t n,
                         double dropout, zs_error *err)
{
    zs_graph *g = NULL;
    int status = zs_graph_new(&g, err);
    *out = NULL;
    if (status < 0)
        return status;
    zs_nn nn = {.g = g, .ps = ps, .train = true, .dropout = (float)dropout};
    zs_shape s = zs_shape2(n, zs_model_config_z_dim(c));
    zs_inputs in = zs_network_inputs(g, c, ZS_BOX_PRIOR, zs_graph_input(g, "x_t", s));
    bool x0 = strcmp(c->latent.prediction, "x0") == 0;
    zs_tid target = zs_graph_input(g, x0 ? "x0" : "noise", s);
    zs_tid predicted = zs_network_build(&nn, c, ZS_BOX_PRIOR, &in);
    zs_tid loss = zs_loss_node(g, predicted, target, ZS_NONE, x0 ? ZS_LOSS_MSE : ZS_LOSS_L1);
    zs_graph_output(g, "loss", loss);
    zs_graph_backward(g, loss);
    *out = g;
    return ZS_OK;
}

/* Building the graph once names everything that it has; finishing it has the message of a
 * failure. */
static int name_all(zs_params *ps, const zs_model_config *c, zs_error *err)
{
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    int status = zs_prior_graph_build(&g, ps, c, 1, 0, err);
    if (status == ZS_OK && zs_graph_status(g) < 0)
        status = zs_exec_new(&e, &g, &(zs_exec_config){0}, err);
    zs_graph_free(&g);
    return status;
}

int zs_prior_layout(zs_params **out, const zs_model_config *c, zs_error *err)
{
    zs_params *ps = NULL;
    *out = NULL;
    int status = zs_model_config_validate(c, err);
    if (status == ZS_OK && !zs_model_config_arch(c, ZS_BOX_PRIOR, NULL))
        status = zs_fail(err, ZS_E_INVALID, "the configuration describes no prior");
    if (status == ZS_OK)
        status = zs_params_new(&ps, err);
    if (status == ZS_OK)
        status = name_all(ps, c, err);
    if (status < 0)
        zs_params_free(&ps);
    else
        zs_params_seal(ps);
    *out = ps;
    return status;
}
