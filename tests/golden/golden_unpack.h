/* SPDX-License-Identifier: MIT */
#ifndef ZS_TESTS_GOLDEN_UNPACK_H
#define ZS_TESTS_GOLDEN_UNPACK_H

#include "base/base.h"

/* Writes the checkpoint that scripts/pack-goldens.py packed into `packed` as safetensors with the
 * names of an official state_dict. */
int golden_unpack(const char *path, const char *packed, zs_error *err);

#endif
