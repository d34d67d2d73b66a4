/* SPDX-License-Identifier: MIT */
/* Private to presets*.c. */
#ifndef ZS_MODELS_PRESETS_IMPL_H
#define ZS_MODELS_PRESETS_IMPL_H

#include "models/presets.h"

/* Of generators on representations: false when there is none of that name; the i-th name or
 * NULL. */
bool zs_preset_rep_find(zs_preset *out, const char *name);
const char *zs_preset_rep_name(size_t i);

/* Likewise of representation diffusion models. */
bool zs_preset_rdm_find(zs_preset *out, const char *name);
const char *zs_preset_rdm_name(size_t i);

/* Likewise of small ones, for one modest machine. */
bool zs_preset_small_find(zs_preset *out, const char *name);
const char *zs_preset_small_name(size_t i);

#endif
