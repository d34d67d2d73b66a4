/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

float zs_timestep_frequency(int64_t i, int64_t half)
{
    float exponent = -9.210340371976184f * (float)i / (float)half;
    return (float)exp((double)exponent);
}

/* t[N] -> y[N,dim] = [cos | sin]. Frequencies and arguments are rounded to f32 as in the authors'
 * code: at t = 1000 the rounding of a frequency moves an argument by up to 3e-5, so an exact
 * table would differ from theirs by more than one network call may. */
static void timestep(const zs_call *c)
{
    int64_t dim = zs_shape_last(&c->out[0].s), half = dim / 2;
    for (int64_t n = 0; n < c->in[0].s.d[0]; n++) {
        float *y = c->out[0].p + n * dim;
        for (int64_t i = 0; i < half; i++) {
            float arg = c->in[0].p[n] * zs_timestep_frequency(i, half);
            y[i] = (float)cos((double)arg);
            y[half + i] = (float)sin((double)arg);
        }
        if (dim % 2)
            y[dim - 1] = 0.0f;
    }
}

/* The row of a table of v rows that index i names, or -1. */
static int64_t row_of(float i, int64_t v)
{
    return i >= 0.0f && i < (float)v && i - (float)(int64_t)i == 0.0f ? (int64_t)i : -1;
}

/* i[N] table[V,C] -> y[N,C]. */
static void embed(const zs_call *c)
{
    int64_t v = c->in[1].s.d[0], ch = c->in[1].s.d[1];
    for (int64_t n = 0; n < c->in[0].s.d[0]; n++) {
        float *y = c->out[0].p + n * ch;
        int64_t row = row_of(c->in[0].p[n], v);
        for (int64_t j = 0; j < ch; j++)
            y[j] = row < 0 ? NAN : c->in[1].p[row * ch + j];
    }
}

/* i[N] dy[N,C] -> dtable[V,C] +=, each element in the order of the rows of dy. */
static void embed_bwd(const zs_call *c)
{
    int64_t v = c->out[0].s.d[0], ch = c->out[0].s.d[1];
    for (int64_t n = 0; n < c->in[0].s.d[0]; n++) {
        int64_t row = row_of(c->in[0].p[n], v);
        for (int64_t j = 0; row >= 0 && j < ch; j++)
            c->out[0].p[row * ch + j] += c->in[1].p[n * ch + j];
    }
}

const zs_kernel zs_ref_embed = {embed, NULL};
const zs_kernel zs_ref_embed_bwd = {embed_bwd, NULL};
const zs_kernel zs_ref_timestep = {timestep, NULL};
