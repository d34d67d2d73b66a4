/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

/* t[N] -> y[N,dim] = [cos | sin]. Frequencies and arguments are rounded to f32 as in the authors'
 * code: at t = 1000 the rounding of a frequency moves an argument by up to 3e-5, so an exact
 * table would differ from theirs by more than one network call may. */
static void timestep(const zs_call *c)
{
    int64_t dim = zs_shape_last(&c->out[0].s), half = dim / 2;
    for (int64_t n = 0; n < c->in[0].s.d[0]; n++) {
        float *y = c->out[0].p + n * dim;
        for (int64_t i = 0; i < half; i++) {
            float exponent = -9.210340371976184f * (float)i / (float)half;
            float arg = c->in[0].p[n] * (float)exp((double)exponent);
            y[i] = (float)cos((double)arg);
            y[half + i] = (float)sin((double)arg);
        }
        if (dim % 2)
            y[dim - 1] = 0.0f;
    }
}

const zs_kernel zs_ref_timestep = {timestep, NULL};
