/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

/* x[N,H,W,C] -> y[N,2H,2W,C], each pixel repeated as a 2x2 square, times scale. */
static void upsample2(const zs_call *c)
{
    const int64_t *d = c->out[0].s.d;
    for (int64_t p = 0; p < d[0] * d[1] * d[2]; p++) {
        int64_t n = p / (d[1] * d[2]), y = p / d[2] % d[1], x = p % d[2];
        const float *src = c->in[0].p + ((n * (d[1] / 2) + y / 2) * (d[2] / 2) + x / 2) * d[3];
        for (int64_t j = 0; j < d[3]; j++)
            c->out[0].p[p * d[3] + j] = src[j] * c->a->scale;
    }
}

/* x[N,2H,2W,C] -> y[N,H,W,C], sum of each 2x2 square, times scale. */
static void downsample2(const zs_call *c)
{
    const int64_t *d = c->out[0].s.d;
    int64_t row = 2 * d[2] * d[3];
    for (int64_t p = 0; p < d[0] * d[1] * d[2]; p++) {
        int64_t ny = p / d[2], x = p % d[2];
        const float *a = c->in[0].p + 2 * ny * row + 2 * x * d[3], *b = a + row;
        for (int64_t j = 0; j < d[3]; j++) {
            double sum = (double)a[j] + (double)a[d[3] + j] + (double)b[j] + (double)b[d[3] + j];
            c->out[0].p[p * d[3] + j] = (float)(sum * (double)c->a->scale);
        }
    }
}

/* x[N,H,W,C] -> y[N,C]. */
static void mean_hw(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    int64_t hw = d[1] * d[2], ch = d[3];
    for (int64_t n = 0; n < d[0]; n++) {
        for (int64_t j = 0; j < ch; j++) {
            double sum = 0;
            for (int64_t p = 0; p < hw; p++)
                sum += (double)c->in[0].p[(n * hw + p) * ch + j];
            c->out[0].p[n * ch + j] = (float)(sum / (double)hw);
        }
    }
}

/* x[N,C] -> y[N,h,w,C], times scale. */
static void broadcast_hw(const zs_call *c)
{
    const int64_t *d = c->out[0].s.d;
    int64_t hw = d[1] * d[2];
    for (int64_t p = 0; p < d[0] * hw; p++)
        for (int64_t j = 0; j < d[3]; j++)
            c->out[0].p[p * d[3] + j] = c->in[0].p[p / hw * d[3] + j] * c->a->scale;
}

const zs_kernel zs_ref_upsample2 = {upsample2, NULL};
const zs_kernel zs_ref_downsample2 = {downsample2, NULL};
const zs_kernel zs_ref_mean_hw = {mean_hw, NULL};
const zs_kernel zs_ref_broadcast_hw = {broadcast_hw, NULL};
