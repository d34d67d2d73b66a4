/* SPDX-License-Identifier: MIT */
/* The latent prior on its own: what training it needs beside the models that hold it. */
#ifndef ZS_MODELS_PRIOR_H
#define ZS_MODELS_PRIOR_H

#include "models/model.h"

/* The parameters of c's prior alone, sealed, under the names that they have in the whole layout
 * ("latent_net.*"). ZS_E_INVALID when c has no prior. */
int zs_prior_layout(zs_params **out, const zs_model_config *c, zs_error *err);

/* The differentiated graph of the prior's loss: inputs "x_t" [n,z_dim], "t" [n], "y" [n] of a
 * prior that takes classes; output "loss" [1]. Of one that predicts noise, input "noise" [n,z_dim]
 * and mean |eps(x_t, t) - noise| (Diffusion Autoencoders, section 4 and appendix A); of one that
 * predicts x0, input "x0" [n,z_dim] and mean (x0(x_t, t, y) - x0)^2 (RCG). Dropout as given.
 * ps: zs_prior_layout(c). */
int zs_prior_graph_build(zs_graph **out, zs_params *ps, const zs_model_config *c, int64_t n,
                         double dropout, zs_error *err);

#endif
