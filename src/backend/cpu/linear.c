/* SPDX-License-Identifier: MIT */
#include "backend/cpu/fast.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/norm.h"

enum { PACKED_ROWS = 64 }; /* most rows for which packing the weights shows */

/* x[...,K] w[O,K] [b[O]] -> y[...,O]. */
static zs_gemm product_fwd(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), k = c->in[1].s.d[1], o = c->in[1].s.d[0];
    return (zs_gemm){.a = c->in[0].p,
                     .b = c->in[1].p,
                     .bias = c->in[2].p,
                     .y = c->out[0].p,
                     .m = m,
                     .n = o,
                     .depth = k,
                     .a_row = k,
                     .a_k = 1,
                     .b_row = 1,
                     .b_col = k,
                     .ld = o,
                     .packed = c->packed};
}

static size_t linear_ws(const zs_call *c)
{
    zs_gemm g = product_fwd(c);
    return zs_gemm_ws(&g, c->threads);
}

static void linear(const zs_call *c)
{
    zs_gemm g = product_fwd(c);
    zs_gemm_run(&g, c->threads, c->ws);
}

const zs_kernel zs_fast_linear = {linear, linear_ws};

static zs_packing packing(const zs_call *c)
{
    zs_gemm g = product_fwd(c);
    if (g.m > PACKED_ROWS)
        return (zs_packing){0};
    return (zs_packing){(size_t)zs_gemm_packed(g.depth, g.n) * sizeof(float), 1};
}

static void pack(const zs_call *c, void *dst)
{
    zs_gemm g = product_fwd(c);
    zs_gemm_pack_all(dst, &g);
}

const zs_packer zs_fast_linear_packer = {packing, pack};

/* dy[...,O] w[O,K] -> dx[...,K]. */
static zs_gemm product_dx(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), k = c->in[1].s.d[1], o = c->in[1].s.d[0];
    return (zs_gemm){.a = c->in[0].p,
                     .b = c->in[1].p,
                     .y = c->out[0].p,
                     .m = m,
                     .n = k,
                     .depth = o,
                     .a_row = o,
                     .a_k = 1,
                     .b_row = k,
                     .b_col = 1,
                     .ld = k};
}

static size_t linear_dx_ws(const zs_call *c)
{
    zs_gemm g = product_dx(c);
    return zs_gemm_ws(&g, c->threads);
}

static void linear_dx(const zs_call *c)
{
    zs_gemm g = product_dx(c);
    zs_gemm_run(&g, c->threads, c->ws);
}

const zs_kernel zs_fast_linear_dx = {linear_dx, linear_dx_ws};

/* x[...,K] dy[...,O] -> dw[O,K] +=. */
static zs_gemm product_dw(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), k = zs_shape_last(&c->in[0].s);
    int64_t o = zs_shape_last(&c->in[1].s);
    return (zs_gemm){.a = c->in[1].p,
                     .b = c->in[0].p,
                     .y = c->out[0].p,
                     .m = o,
                     .n = k,
                     .depth = m,
                     .a_row = 1,
                     .a_k = o,
                     .b_row = k,
                     .b_col = 1,
                     .ld = k,
                     .add = true};
}

enum { COLUMNS = 64 };

/* db[O] += column sums of dy[M,O], columns [begin, end). */
static void bias_columns(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    double sum[COLUMNS];
    int64_t m = zs_shape_rows(&c->in[1].s), o = zs_shape_last(&c->in[1].s);
    (void)thread;
    zs_norm_get()->fold(sum, c->in[1].p + begin, m, o, end - begin);
    for (int64_t j = begin; j < end; j++)
        c->out[1].p[j] += (float)sum[j - begin];
}

static size_t linear_dw_ws(const zs_call *c)
{
    zs_gemm g = product_dw(c);
    return zs_gemm_ws(&g, c->threads);
}

static void linear_dw(const zs_call *c)
{
    zs_gemm g = product_dw(c);
    zs_gemm_run(&g, c->threads, c->ws);
    if (c->out[1].p)
        zs_cpu_for(c, zs_shape_last(&c->in[1].s), COLUMNS, bias_columns);
}

const zs_kernel zs_fast_linear_dw = {linear_dw, linear_dw_ws};
