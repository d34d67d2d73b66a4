/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv_relu.h"

/* Sum over the patch of x below y[n,oy,ox,o]; at = {n, oy, ox}. */
static double patch_sum(const zs_call *call, const zs_conv_rect *s, const int64_t at[3], int64_t o)
{
    double sum = 0;
    for (int64_t ky = 0; ky < s->kh; ky++) {
        for (int64_t kx = 0; kx < s->kw; kx++) {
            int64_t iy = at[1] * s->stride + ky - s->ph, ix = at[2] * s->stride + kx - s->pw;
            if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w)
                continue;
            const float *x = call->in[0].p + ((at[0] * s->h + iy) * s->w + ix) * s->c;
            const float *w = call->in[1].p + (ky * s->kw + kx) * s->c * s->o + o;
            for (int64_t c = 0; c < s->c; c++)
                sum += (double)x[c] * (double)w[c * s->o];
        }
    }
    return sum;
}

/* Rows [begin, end) of N*H'*W'. */
static void conv_relu_rows(const zs_call *call, int64_t begin, int64_t end, int thread)
{
    zs_conv_rect s = zs_conv_rect_of(call);
    const float *b = call->in[2].p;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        const int64_t at[3] = {p / (s.yh * s.yw), p / s.yw % s.yh, p % s.yw};
        for (int64_t o = 0; o < s.o; o++) {
            double v = patch_sum(call, &s, at, o) + (b ? (double)b[o] : 0.0);
            call->out[0].p[p * s.o + o] = v < 0.0 ? 0.0f : (float)v; /* NaN stays NaN */
        }
    }
}

static void conv_relu(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), 64, conv_relu_rows);
}

const zs_kernel zs_ref_conv_relu = {conv_relu, NULL};
