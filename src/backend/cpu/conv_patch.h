/* SPDX-License-Identifier: MIT */
/* The gradient of images that are cut into squares (stride k, no padding): no pixel belongs to two
 * of them, so it is one product of the squares' gradients with the weights, row by row of a square.
 * Forward and for the weights the direct convolutions are as good. */
#ifndef ZS_BACKEND_CPU_CONV_PATCH_H
#define ZS_BACKEND_CPU_CONV_PATCH_H

#include "backend/cpu/conv.h"

#include <stdbool.h>

bool zs_conv_patch_dx_can(const zs_call *c);
void zs_conv_patch_dx(const zs_call *c);
size_t zs_conv_patch_dx_ws(const zs_call *c);

#endif
