/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

/* pred target -> y[1], one shape. */
static void loss(const zs_call *c)
{
    int64_t n = zs_shape_numel(&c->in[0].s);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)c->in[0].p[i] - (double)c->in[1].p[i];
        sum += c->a->kind == ZS_LOSS_MSE ? d * d : fabs(d);
    }
    c->out[0].p[0] = (float)(sum / (double)n);
}

/* pred target -> dpred. The gradient of |d| at 0 is 0; NaN stays NaN. */
static void loss_bwd(const zs_call *c)
{
    int64_t n = zs_shape_numel(&c->in[0].s);
    double f = (double)c->step->grad_scale / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)c->in[0].p[i] - (double)c->in[1].p[i];
        double g = c->a->kind == ZS_LOSS_MSE ? 2 * d : d > 0 ? 1 : d < 0 ? -1 : d;
        c->out[0].p[i] = (float)(g * f);
    }
}

const zs_kernel zs_ref_loss = {loss, NULL};
const zs_kernel zs_ref_loss_bwd = {loss_bwd, NULL};
