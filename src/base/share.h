/* SPDX-License-Identifier: MIT */
/* The files that ship with the program: models and sample images. */
#ifndef ZS_BASE_SHARE_H
#define ZS_BASE_SHARE_H

#include "base/status.h"

/* *out = path of `name`, which is relative to share/ and may be a folder, in the first of
 * $ZSEM_SHARE (if set, the only place), the installed data folder and the source tree that holds
 * it. Owned by the caller: zs_free. ZS_E_IO when it is nowhere. */
int zs_share_find(char **out, const char *name, zs_error *err);

#endif
