/* SPDX-License-Identifier: MIT */
/* 1x1 convolutions of stride 1 without padding: one product of all pixels with the weights. Where
 * there are many pixels and few channels the images come from memory and are the larger part of
 * the time: every block of pixels meets all weights at once, which are packed and stay in the
 * cache, while the next block is asked for. */
#ifndef ZS_BACKEND_CPU_CONV_POINT_H
#define ZS_BACKEND_CPU_CONV_POINT_H

#include "backend/cpu/conv.h"

#include <stdbool.h>

bool zs_conv_point_can(const zs_call *c);
void zs_conv_point(const zs_call *c);
size_t zs_conv_point_ws(const zs_call *c);
extern const zs_packer zs_conv_point_packer;

bool zs_conv_point_dx_can(const zs_call *c);
void zs_conv_point_dx(const zs_call *c);
size_t zs_conv_point_dx_ws(const zs_call *c);

#endif
