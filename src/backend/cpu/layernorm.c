/* SPDX-License-Identifier: MIT */
#include "backend/cpu/fast.h"
#include "backend/cpu/norm.h"

#include <string.h>

enum { ROWS = 16, PARTS_MAX = 32, COLUMNS = 64 };

/* x[M,C] -> y[M,C], stats[M,2], rows [begin, end). */
static void rows_fwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const zs_norm_fns *fn = zs_norm_get();
    int64_t ch = zs_shape_last(&c->in[0].s);
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        fn->row(c->out[0].p + r * ch, c->out[1].p + 2 * r, c->in[0].p + r * ch, c->in[1].p,
                c->in[2].p, c->a->eps, ch);
}

static void layernorm(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_rows(&c->in[0].s), ROWS, rows_fwd);
}

const zs_kernel zs_fast_layernorm = {layernorm, NULL};

/* The rows are cut into parts; each sums dgamma and dbeta into ws[part][2][C]. */
static int64_t parts_of(const zs_call *c)
{
    int64_t parts = (zs_shape_rows(&c->in[0].s) + ROWS - 1) / ROWS;
    return parts < PARTS_MAX ? parts : PARTS_MAX;
}

static void parts_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const zs_norm_fns *fn = zs_norm_get();
    int64_t rows = zs_shape_rows(&c->in[0].s), ch = zs_shape_last(&c->in[0].s);
    int64_t parts = parts_of(c);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *dgamma = (float *)c->ws + i * 2 * ch;
        memset(dgamma, 0, (size_t)(2 * ch) * sizeof *dgamma);
        for (int64_t r = i * rows / parts; r < (i + 1) * rows / parts; r++)
            fn->row_bwd(c->out[0].p ? c->out[0].p + r * ch : NULL, dgamma, dgamma + ch,
                        c->in[0].p + r * ch, c->in[1].p + 2 * r, c->in[2].p, c->in[3].p + r * ch,
                        ch);
    }
}

/* to[C] += sum over parts, in their order; which: 0 dgamma, 1 dbeta. */
static void sum_parts(const zs_call *c, int which, float *to)
{
    int64_t ch = zs_shape_last(&c->in[0].s);
    const float *part = (const float *)c->ws + which * ch;
    double sum[COLUMNS];
    for (int64_t j = 0; to && j < ch; j += COLUMNS) {
        int64_t n = ch - j < COLUMNS ? ch - j : COLUMNS;
        zs_norm_get()->fold(sum, part + j, parts_of(c), 2 * ch, n);
        for (int64_t i = 0; i < n; i++)
            to[j + i] += (float)sum[i];
    }
}

static size_t layernorm_bwd_ws(const zs_call *c)
{
    return (size_t)(parts_of(c) * 2 * zs_shape_last(&c->in[0].s)) * sizeof(float);
}

static void layernorm_bwd(const zs_call *c)
{
    zs_cpu_for(c, parts_of(c), 1, parts_bwd);
    sum_parts(c, 0, c->out[1].p);
    sum_parts(c, 1, c->out[2].p);
}

const zs_kernel zs_fast_layernorm_bwd = {layernorm_bwd, layernorm_bwd_ws};
