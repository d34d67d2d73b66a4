/* SPDX-License-Identifier: MIT */
/* The loss of a learned variance, one sample at a time; all arithmetic in double. */
#ifndef ZS_BACKEND_CPU_LOSS_VLB_H
#define ZS_BACKEND_CPU_LOSS_VLB_H

#include "backend/cpu/cpu.h"

/* parts[2] = (mse, vb) of sample n of an operation loss_vlb. */
void zs_vlb_sample(const zs_call *c, int64_t n, double parts[2]);

/* dout of sample n of an operation loss_vlb_bwd. */
void zs_vlb_sample_bwd(const zs_call *c, int64_t n);

#endif
