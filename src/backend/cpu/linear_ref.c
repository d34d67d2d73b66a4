/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

/* x[...,K] w[O,K] [b[O]] -> y[...,O], rows [begin, end) of M. */
static void linear_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const float *x = c->in[0].p, *w = c->in[1].p, *b = c->in[2].p;
    int64_t k = c->in[1].s.d[1], o = c->in[1].s.d[0];
    for (int64_t m = begin; m < end; m++) {
        for (int64_t j = 0; j < o; j++) {
            double sum = b ? (double)b[j] : 0.0;
            for (int64_t i = 0; i < k; i++)
                sum += (double)x[m * k + i] * (double)w[j * k + i];
            c->out[0].p[m * o + j] = (float)sum;
        }
    }
}

static void linear(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->in[0].s), 1, linear_rows);
}

const zs_kernel zs_ref_linear = {linear, NULL};

/* dy[...,O] w[O,K] -> dx[...,K], rows [begin, end) of M. */
static void linear_dx_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const float *dy = c->in[0].p, *w = c->in[1].p;
    int64_t k = c->in[1].s.d[1], o = c->in[1].s.d[0];
    for (int64_t m = begin; m < end; m++) {
        for (int64_t i = 0; i < k; i++) {
            double sum = 0;
            for (int64_t j = 0; j < o; j++)
                sum += (double)dy[m * o + j] * (double)w[j * k + i];
            c->out[0].p[m * k + i] = (float)sum;
        }
    }
}

static void linear_dx(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->in[0].s), 1, linear_dx_rows);
}

const zs_kernel zs_ref_linear_dx = {linear_dx, NULL};

/* x[...,K] dy[...,O] -> dw[O,K] += [db[O] +=], rows [begin, end) of O. */
static void linear_dw_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const float *x = c->in[0].p, *dy = c->in[1].p;
    int64_t m = zs_shape_rows(&c->in[0].s), k = zs_shape_last(&c->in[0].s);
    int64_t o = zs_shape_last(&c->in[1].s);
    for (int64_t j = begin; j < end; j++) {
        for (int64_t i = 0; i < k; i++) {
            double sum = 0;
            for (int64_t r = 0; r < m; r++)
                sum += (double)dy[r * o + j] * (double)x[r * k + i];
            c->out[0].p[j * k + i] += (float)sum;
        }
        double bias = 0;
        for (int64_t r = 0; r < m; r++)
            bias += (double)dy[r * o + j];
        if (c->out[1].p)
            c->out[1].p[j] += (float)bias;
    }
}

static void linear_dw(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_last(&c->in[1].s), 1, linear_dw_rows);
}

const zs_kernel zs_ref_linear_dw = {linear_dw, NULL};
