/* SPDX-License-Identifier: MIT */
#ifndef ZS_BACKEND_CPU_SILU_REF_H
#define ZS_BACKEND_CPU_SILU_REF_H

#include <math.h>

/* x*sigmoid(x); exp(-x) may overflow to infinity, which gives the right 0. */
static inline double ref_silu(double x)
{
    return x / (1.0 + exp(-x));
}

static inline double ref_dsilu(double x)
{
    double s = 1.0 / (1.0 + exp(-x));
    return s * (1.0 + x * (1.0 - s));
}

#endif
