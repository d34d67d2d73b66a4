/* SPDX-License-Identifier: MIT */
/* The fast kernels: each overrides the reference in the table of cpu.c. */
#ifndef ZS_BACKEND_CPU_FAST_H
#define ZS_BACKEND_CPU_FAST_H

#include "backend/cpu/cpu.h"

extern const zs_kernel zs_fast_conv2d, zs_fast_conv2d_dx, zs_fast_conv2d_dw;

#endif
