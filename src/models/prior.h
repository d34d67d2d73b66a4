/* SPDX-License-Identifier: MIT */
/* The latent prior on its own: what training it needs beside the models that hold it. */
#ifndef ZS_MODELS_PRIOR_H
#define ZS_MODELS_PRIOR_H

#include "models/model.h"

/* The parameters of c's prior alone, sealed, under the names that they have in the whole layout
 * ("latent_net.*"). ZS_E_INVALID when c has no prior. */
int zs_prior_layout(zs_params **out, const zs_model_config *c, zs_error *err);

/* The differentiated graph of the prior's loss (Diffusion Autoencoders, section 4 and appendix A):
 * inputs "x_t", "noise" [n,z_dim], "t" [n]; output "loss" [1] = mean |eps(x_t, t) - noise|.
 * Dropout as given. ps: zs_prior_layout(c). */
int zs_prior_graph_build(zs_graph **out, zs_params *ps, const zs_model_config *c, int64_t n,
                         double dropout, zs_error *err);

#endif
