/* SPDX-License-Identifier: MIT */
/* Winograd forward convolution and gradient of its input, which is the same thing with flipped,
 * transposed weights. */
#ifndef ZS_BACKEND_CPU_WINO_CONV_H
#define ZS_BACKEND_CPU_WINO_CONV_H

#include "backend/cpu/wino.h"

/* For tests: this zs_wino_kind for all sizes; -1: the rule. It must not change between planning
 * and running. */
void zs_wino_kind_set(int kind);

bool zs_conv_wino_can(const zs_call *c); /* 3x3, stride 1, pad <= 2, where it pays */
void zs_conv_wino(const zs_call *c);
size_t zs_conv_wino_ws(const zs_call *c);
extern const zs_packer zs_conv_wino_packer;

bool zs_conv_wino_dx_can(const zs_call *c);
void zs_conv_wino_dx(const zs_call *c);
size_t zs_conv_wino_dx_ws(const zs_call *c);

#endif
