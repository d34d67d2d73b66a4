/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

/* x -> y = x/(1-p) where the element's uniform is at least p, else 0. Any shape, d[0] samples. */
static void dropout(const zs_call *c)
{
    int64_t first = zs_dropout_first(c), n = zs_shape_numel(&c->in[0].s);
    float keep = 1.0f / (1.0f - c->a->p);
    for (int64_t i = 0; i < n; i++) {
        float u;
        zs_dropout_uniform(&u, c, first + i, 1);
        c->out[0].p[i] = u >= c->a->p ? c->in[0].p[i] * keep : 0.0f;
    }
}

const zs_kernel zs_ref_dropout = {dropout, NULL};
