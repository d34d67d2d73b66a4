/* SPDX-License-Identifier: MIT */
#ifndef ZS_TRAIN_FIT_H
#define ZS_TRAIN_FIT_H

#include "train/gradient.h"

/* zs_gradient_new on a backend with a memory of its own, where c leaves open (micro 0) how many
 * samples run at a time: as many as fit. Halves them, down to a handful, which costs next to
 * nothing; only then computes activations again instead of keeping them, from the whole batch on.
 * *c says what was taken. Elsewhere, or where c says it, there is one try. ZS_E_NOMEM of the last
 * try. */
int zs_gradient_fit(zs_gradient **out, zs_gradient_config *c, zs_error *err);

#endif
