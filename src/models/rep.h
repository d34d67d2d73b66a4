/* SPDX-License-Identifier: MIT */
/* Which representations, and which latents: two encoders, or first stages, are the same when they
 * see the same in one picture. Weights would not do: a file in half precision holds others. */
#ifndef ZS_MODELS_REP_H
#define ZS_MODELS_REP_H

#include "models/model.h"

/* Some numbers of what m makes of a picture that is always the same, as text: its encoder a
 * representation, its first stage the means of latents. In single precision whatever m runs on.
 * ZS_E_INVALID when m has no such box; errors of zs_model_encode and zs_model_to_latents. */
int zs_rep_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_box box, zs_error *err);

/* Whether two fingerprints are of one encoder or first stage, up to the rounding of its weights. */
bool zs_rep_same(const char *a, const char *b);

#endif
