/* SPDX-License-Identifier: MIT */
/* Rows of a sample as tokens: joining a learned first one and a table of positions, taking one. */
#include "backend/cpu/cpu.h"

#include <string.h>

/* x[N,...,C] [first: C] [table: T*C] -> y[N,T,C]. */
static void tokens(const zs_call *c)
{
    int64_t n = c->out[0].s.d[0], t = c->out[0].s.d[1], ch = c->out[0].s.d[2];
    const float *x = c->in[0].p, *first = c->in[1].p, *table = c->in[2].p;
    for (int64_t r = 0; r < n * t; r++) {
        const float *from = first && r % t == 0 ? first : x;
        float *y = c->out[0].p + r * ch;
        for (int64_t i = 0; i < ch; i++)
            y[i] = from[i] + (table ? table[r % t * ch + i] : 0.0f);
        x += from == x ? ch : 0;
    }
}

const zs_kernel zs_ref_tokens = {tokens, NULL};

/* Sum over the samples of dy[.,i], t*ch apart. */
static float batch_sum(const float *dy, int64_t n, int64_t step)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += (double)dy[k * step];
    return (float)sum;
}

/* dy[N,T,C] -> [dx[N,L,C]] [dfirst: C +=] [dtable: T*C +=]; attr len = L. */
static void tokens_bwd(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0], t = c->in[0].s.d[1], ch = c->in[0].s.d[2], skip = t - c->a->len;
    const float *dy = c->in[0].p;
    for (int64_t k = 0; c->out[0].p && k < n; k++)
        memcpy(c->out[0].p + k * (t - skip) * ch, dy + (k * t + skip) * ch,
               (size_t)((t - skip) * ch) * sizeof *dy);
    for (int64_t i = 0; c->out[1].p && i < ch; i++)
        c->out[1].p[i] += batch_sum(dy + i, n, t * ch);
    for (int64_t i = 0; c->out[2].p && i < t * ch; i++)
        c->out[2].p[i] += batch_sum(dy + i, n, t * ch);
}

const zs_kernel zs_ref_tokens_bwd = {tokens_bwd, NULL};

/* x[N,T,C] -> y[N,C] = x[:,offset]. */
static void take_row(const zs_call *c)
{
    int64_t t = c->in[0].s.d[1], ch = c->in[0].s.d[2];
    for (int64_t k = 0; k < c->in[0].s.d[0]; k++)
        memcpy(c->out[0].p + k * ch, c->in[0].p + (k * t + c->a->offset) * ch,
               (size_t)ch * sizeof(float));
}

const zs_kernel zs_ref_take_row = {take_row, NULL};

/* dy[N,C] -> dx[N,T,C], zero but for row `offset`; attr len = T. */
static void take_row_bwd(const zs_call *c)
{
    int64_t t = c->a->len, ch = c->in[0].s.d[1];
    memset(c->out[0].p, 0, (size_t)zs_shape_numel(&c->out[0].s) * sizeof(float));
    for (int64_t k = 0; k < c->in[0].s.d[0]; k++)
        memcpy(c->out[0].p + (k * t + c->a->offset) * ch, c->in[0].p + k * ch,
               (size_t)ch * sizeof(float));
}

const zs_kernel zs_ref_take_row_bwd = {take_row_bwd, NULL};
