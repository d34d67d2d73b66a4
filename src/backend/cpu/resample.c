/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

#include <string.h>

enum { CHUNK = 1 << 14, SUM_ROWS = 256 };

/* Rows of w elements that make up about one chunk. */
static int64_t rows_per_chunk(int64_t w)
{
    return w < CHUNK ? CHUNK / w : 1;
}

/* x[N,H,W,C] -> y[N,2H,2W,C], input rows [begin, end) of N*H: two output rows each. */
static void upsample2_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const int64_t *d = c->in[0].s.d;
    int64_t w = d[2], ch = d[3];
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *x = c->in[0].p + r * w * ch;
        float *y = c->out[0].p + r * 4 * w * ch;
        zs_elem_get()->twice(y, y + 2 * w * ch, x, c->a->scale, w, ch);
    }
}

static void upsample2(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    zs_cpu_for(c, d[0] * d[1], rows_per_chunk(4 * d[2] * d[3]), upsample2_rows);
}

const zs_kernel zs_fast_upsample2 = {upsample2, NULL};

/* x[N,2H,2W,C] -> y[N,H,W,C], output rows [begin, end) of N*H. */
static void downsample2_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const int64_t *d = c->out[0].s.d;
    int64_t w = d[2], ch = d[3];
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *a = c->in[0].p + r * 4 * w * ch, *b = a + 2 * w * ch;
        for (int64_t i = 0; i < w; i++)
            zs_elem_get()->square_sum(c->out[0].p + (r * w + i) * ch, a + 2 * i * ch,
                                      b + 2 * i * ch, c->a->scale, ch);
    }
}

static void downsample2(const zs_call *c)
{
    const int64_t *d = c->out[0].s.d;
    zs_cpu_for(c, d[0] * d[1], rows_per_chunk(4 * d[2] * d[3]), downsample2_rows);
}

const zs_kernel zs_fast_downsample2 = {downsample2, NULL};

/* x[N,H,W,C] -> y[N,C], samples [begin, end). Blocks of SUM_ROWS pixels are summed in f32 into
 * ws[thread][C] and added up in y, of which there are few. */
static void mean_hw_samples(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const int64_t *d = c->in[0].s.d;
    int64_t hw = d[1] * d[2], ch = d[3];
    double *sum = (double *)c->ws + thread * 2 * ch;
    float *part = (float *)(sum + ch);
    for (int64_t n = begin; n < end; n++) {
        memset(sum, 0, (size_t)ch * sizeof *sum);
        for (int64_t p = 0; p < hw; p += SUM_ROWS) {
            int64_t rows = hw - p < SUM_ROWS ? hw - p : SUM_ROWS;
            memset(part, 0, (size_t)ch * sizeof *part);
            zs_elem_get()->column_sums(part, c->in[0].p + (n * hw + p) * ch, rows, ch);
            for (int64_t j = 0; j < ch; j++)
                sum[j] += (double)part[j];
        }
        for (int64_t j = 0; j < ch; j++)
            c->out[0].p[n * ch + j] = (float)(sum[j] / (double)hw);
    }
}

static size_t mean_hw_ws(const zs_call *c)
{
    return (size_t)c->threads * 2 * (size_t)zs_shape_last(&c->in[0].s) * sizeof(double);
}

static void mean_hw(const zs_call *c)
{
    zs_cpu_for(c, c->in[0].s.d[0], 1, mean_hw_samples);
}

const zs_kernel zs_fast_mean_hw = {mean_hw, mean_hw_ws};

/* x[N,C] -> y[N,h,w,C], pixels [begin, end) of N*h*w. */
static void broadcast_hw_pixels(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const int64_t *d = c->out[0].s.d;
    int64_t hw = d[1] * d[2], ch = d[3];
    (void)thread;
    for (int64_t p = begin; p < end; p++)
        zs_elem_get()->scale(c->out[0].p + p * ch, c->in[0].p + p / hw * ch, c->a->scale, ch);
}

static void broadcast_hw(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), rows_per_chunk(c->out[0].s.d[3]),
               broadcast_hw_pixels);
}

const zs_kernel zs_fast_broadcast_hw = {broadcast_hw, NULL};
