/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

#include <string.h>

enum { CHUNK = 1 << 14, COLUMNS = 1 << 10 };

/* x [first] [table] -> y[N,T,C], rows [begin, end) of N*T. */
static void rows_fwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t t = c->out[0].s.d[1], ch = c->out[0].s.d[2];
    const float *first = c->in[1].p, *table = c->in[2].p;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        int64_t i = r % t, skipped = first ? r / t + 1 : 0;
        const float *from = first && i == 0 ? first : c->in[0].p + (r - skipped) * ch;
        if (table)
            zs_elem_get()->add(c->out[0].p + r * ch, from, table + i * ch, ch);
        else
            memcpy(c->out[0].p + r * ch, from, (size_t)ch * sizeof *from);
    }
}

static void tokens(const zs_call *c)
{
    int64_t ch = c->out[0].s.d[2];
    zs_cpu_for(c, zs_shape_rows(&c->out[0].s), ch < CHUNK ? CHUNK / ch : 1, rows_fwd);
}

const zs_kernel zs_fast_tokens = {tokens, NULL};

/* dy[N,T,C] -> dx, samples [begin, end). */
static void samples_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t t = c->in[0].s.d[1], ch = c->in[0].s.d[2], len = c->a->len;
    (void)thread;
    for (int64_t n = begin; n < end; n++)
        memcpy(c->out[0].p + n * len * ch, c->in[0].p + (n * t + t - len) * ch,
               (size_t)(len * ch) * sizeof(float));
}

/* to[i] += sum over the samples of dy[., i], elements [begin, end) of T*C. */
static void add_columns(float *to, const zs_call *c, int64_t begin, int64_t end)
{
    int64_t step = c->in[0].s.d[1] * c->in[0].s.d[2];
    double sum[COLUMNS] = {0};
    for (int64_t n = 0; n < c->in[0].s.d[0]; n++)
        for (int64_t i = begin; i < end; i++)
            sum[i - begin] += (double)c->in[0].p[n * step + i];
    for (int64_t i = begin; i < end; i++)
        to[i] += (float)sum[i - begin];
}

static void first_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    add_columns(c->out[1].p, c, begin, end);
}

static void table_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    add_columns(c->out[2].p, c, begin, end);
}

static void tokens_bwd(const zs_call *c)
{
    int64_t t = c->in[0].s.d[1], ch = c->in[0].s.d[2];
    if (c->out[0].p)
        zs_cpu_for(c, c->in[0].s.d[0], 1, samples_bwd);
    if (c->out[1].p)
        zs_cpu_for(c, ch, COLUMNS, first_bwd);
    if (c->out[2].p)
        zs_cpu_for(c, t * ch, COLUMNS, table_bwd);
}

const zs_kernel zs_fast_tokens_bwd = {tokens_bwd, NULL};
