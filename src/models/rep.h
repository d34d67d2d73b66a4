/* SPDX-License-Identifier: MIT */
/* Which representations: two encoders are the same when they see the same in one picture. Weights
 * would not do, since a file in half precision holds others. */
#ifndef ZS_MODELS_REP_H
#define ZS_MODELS_REP_H

#include "models/model.h"

/* Some numbers of m's representation of a picture that is always the same, as text. ZS_E_INVALID
 * when m has no encoder; errors of zs_model_encode. */
int zs_rep_fingerprint(char out[ZS_REP_FINGERPRINT], zs_model *m, zs_error *err);

/* Whether two fingerprints are of one encoder, up to the rounding of its weights. */
bool zs_rep_same(const char *a, const char *b);

#endif
