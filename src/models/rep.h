/* SPDX-License-Identifier: MIT */
/* Which representations, and which latents: two encoders, or first stages, are the same when they
 * see the same in one picture. Weights would not do: a file in half precision holds others. */
#ifndef ZS_MODELS_REP_H
#define ZS_MODELS_REP_H

#include "models/model.h"

/* Some numbers of m's representation of a picture that is always the same, as text; in single
 * precision whatever m runs on. ZS_E_INVALID when m has no encoder; errors of zs_model_encode. */
int zs_rep_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_error *err);

/* The same of m's first stage and the means of its latents. ZS_E_INVALID when m has none. */
int zs_latent_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_error *err);

/* Whether two fingerprints are of one encoder or first stage, up to the rounding of its weights. */
bool zs_rep_same(const char *a, const char *b);

#endif
