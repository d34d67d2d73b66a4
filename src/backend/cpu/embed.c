/* SPDX-License-Identifier: MIT */
/* Timestep features row by row on all threads, with the frequencies of one table: the same bits as
 * the reference, which takes as long as a linear layer for large batches. */
#include "backend/cpu/fast.h"

#include <math.h>

enum { ROWS = 8 };

static size_t timestep_ws(const zs_call *c)
{
    return (size_t)(zs_shape_last(&c->out[0].s) / 2) * sizeof(float);
}

/* t[N] -> y[N,dim] = [cos | sin], rows [begin, end); ws: frequencies [dim/2]. */
static void timestep_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t dim = zs_shape_last(&c->out[0].s), half = dim / 2;
    const float *frequency = c->ws;
    (void)thread;
    for (int64_t n = begin; n < end; n++) {
        float *y = c->out[0].p + n * dim, t = c->in[0].p[n];
        for (int64_t i = 0; i < half; i++) {
            double arg = (double)(t * frequency[i]);
            y[i] = (float)cos(arg);
            y[half + i] = (float)sin(arg);
        }
    }
}

static void timestep(const zs_call *c)
{
    int64_t half = zs_shape_last(&c->out[0].s) / 2;
    float *frequency = c->ws;
    for (int64_t i = 0; i < half; i++)
        frequency[i] = zs_timestep_frequency(i, half);
    zs_cpu_for(c, c->in[0].s.d[0], ROWS, timestep_rows);
}

const zs_kernel zs_fast_timestep = {timestep, timestep_ws};
