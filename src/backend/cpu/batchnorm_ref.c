/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

/* x[...,C] mean[C] var[C] [gamma[C]] [beta[C]] -> y = act((x-mean)/sqrt(var+eps)*gamma + beta). */
static void batchnorm(const zs_call *c)
{
    int64_t ch = zs_shape_last(&c->in[0].s), rows = zs_shape_rows(&c->in[0].s);
    const float *gamma = c->in[3].p, *beta = c->in[4].p;
    for (int64_t i = 0; i < ch; i++) {
        double slope = 1 / sqrt((double)c->in[2].p[i] + (double)c->a->eps);
        slope *= gamma ? (double)gamma[i] : 1.0;
        for (int64_t r = 0; r < rows; r++) {
            double y = ((double)c->in[0].p[r * ch + i] - (double)c->in[1].p[i]) * slope;
            y += beta ? (double)beta[i] : 0.0;
            c->out[0].p[r * ch + i] = c->a->act == ZS_ACT_RELU && y < 0 ? 0.0f : (float)y;
        }
    }
}

const zs_kernel zs_ref_batchnorm = {batchnorm, NULL};
