/* SPDX-License-Identifier: MIT */
/* 3x3 convolutions to very few channels, such as the last layer of a network. Lanes over outputs
 * would be mostly empty: instead each pixel of x is multiplied by all 9*O weights at once, and the
 * nine products of each result are then added up, tap by tap. */
#ifndef ZS_BACKEND_CPU_CONV_FEW_H
#define ZS_BACKEND_CPU_CONV_FEW_H

#include "backend/cpu/conv.h"

#include <stdbool.h>

bool zs_conv_few_can(const zs_call *c); /* 3x3, stride 1, at most 4 outputs */
void zs_conv_few(const zs_call *c);
size_t zs_conv_few_ws(const zs_call *c);

bool zs_conv_few_dx_can(const zs_call *c); /* as above, of the channels of dx */
void zs_conv_few_dx(const zs_call *c);
size_t zs_conv_few_dx_ws(const zs_call *c);

#endif
