/* SPDX-License-Identifier: MIT */
/* The plan of each convolution of this process: chosen once, by timing, and remembered on disk. */
#ifndef ZS_BACKEND_CUDA_CONV_PLAN_H
#define ZS_BACKEND_CUDA_CONV_PLAN_H

#include "backend/cuda/dnn.h"
#include "backend/cuda/plan_file.h"

typedef struct zs_conv_choice {
    zs_dnn_plan plan; /* desc NULL: cuDNN has none, our own kernel computes it */
    bool fused;       /* it adds the bias that zs_cuda_conv.bias asks for */
} zs_conv_choice;

/* Stays where it is. NULL when the program is out of memory. The first call for a convolution takes
 * tens of milliseconds, unless the disk remembers it. */
const zs_conv_choice *zs_conv_choose(const zs_cuda_conv *c);

/* How many convolutions this process has met, and how many of them have no plan. */
void zs_conv_counts(int *all, int *without);

/* What conv2d, conv2d_dx, conv2d_dw or conv_relu of these shapes asks cuDNN for. False: it is a
 * matrix product, or another operation. */
bool zs_conv_problem(zs_cuda_conv *out, zs_op op, const zs_call *c);

/* Text that names a convolution among those on disk. */
enum { ZS_PLAN_KEY = 200 };
void zs_plan_key(char out[ZS_PLAN_KEY], const zs_cuda_conv *c);

#endif
