/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

/* x[M,C] f[M,C] g[N,S] -> y = x + f * g[:, offset:offset+C], rows of a sample share its g. */
static void gate(const zs_call *c)
{
    int64_t ch = zs_shape_last(&c->in[0].s), rows = zs_shape_rows(&c->in[0].s);
    int64_t per = rows / c->in[2].s.d[0], ld = c->in[2].s.d[1];
    for (int64_t r = 0; r < rows; r++) {
        const float *g = c->in[2].p + r / per * ld + c->a->offset;
        for (int64_t i = r * ch; i < (r + 1) * ch; i++)
            c->out[0].p[i] =
                (float)((double)c->in[0].p[i] + (double)c->in[1].p[i] * (double)g[i - r * ch]);
    }
}

const zs_kernel zs_ref_gate = {gate, NULL};

/* dg[n, offset+i] of one sample; f and dy are the sample's. */
static double column(const float *f, const float *dy, int64_t rows, int64_t ch)
{
    double sum = 0;
    for (int64_t r = 0; r < rows; r++)
        sum += (double)f[r * ch] * (double)dy[r * ch];
    return sum;
}

/* f[M,C] g[N,S] dy[M,C] -> [df[M,C]] [dg[N,S]]. */
static void gate_bwd(const zs_call *c)
{
    int64_t ch = zs_shape_last(&c->in[0].s), rows = zs_shape_rows(&c->in[0].s);
    int64_t n = c->in[1].s.d[0], ld = c->in[1].s.d[1], per = rows / n, at = c->a->offset;
    const float *f = c->in[0].p, *dy = c->in[2].p;
    for (int64_t i = 0; c->out[0].p && i < rows * ch; i++)
        c->out[0].p[i] =
            (float)((double)dy[i] * (double)c->in[1].p[i / (per * ch) * ld + at + i % ch]);
    for (int64_t i = 0; c->out[1].p && i < n * ld; i++) {
        int64_t first = i / ld * per * ch + i % ld - at; /* of the sample's column */
        bool inside = i % ld >= at && i % ld < at + ch;
        c->out[1].p[i] = inside ? (float)column(f + first, dy + first, per, ch) : 0.0f;
    }
}

const zs_kernel zs_ref_gate_bwd = {gate_bwd, NULL};
