/* SPDX-License-Identifier: MIT */
/* Products through CBLAS, one single-threaded call per chunk of rows or, when there are few rows,
 * of columns of the result. */
#include "backend/cpu/blas.h"
#include "backend/cpu/fast.h"

#include <string.h>

enum { ROWS = 64, COLUMNS = 64 };

/* y[M,O]: chunks of rows when these are at least two chunks, else of columns. */
static bool by_rows(int64_t m)
{
    return m >= 2 * ROWS;
}

static void run(const zs_call *c, int64_t m, int64_t columns, zs_cpu_range fn)
{
    if (by_rows(m))
        zs_cpu_for(c, m, ROWS, fn);
    else
        zs_cpu_for(c, columns, COLUMNS, fn);
}

/* x[M,K] w[O,K] [b[O]] -> y[M,O], rows or columns [begin, end). */
static void linear_part(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t m = c->in[0].s.d[0], k = c->in[1].s.d[1], o = c->in[1].s.d[0];
    int64_t r0 = by_rows(m) ? begin : 0, r1 = by_rows(m) ? end : m;
    int64_t o0 = by_rows(m) ? 0 : begin, o1 = by_rows(m) ? o : end;
    const float *b = c->in[2].p;
    float *y = c->out[0].p;
    (void)thread;
    for (int64_t r = r0; b && r < r1; r++)
        memcpy(y + r * o + o0, b + o0, (size_t)(o1 - o0) * sizeof *y);
    zs_blas_nt(r1 - r0, o1 - o0, k, 1.0f, c->in[0].p + r0 * k, k, c->in[1].p + o0 * k, k,
               b ? 1.0f : 0.0f, y + r0 * o + o0, o);
}

static void linear(const zs_call *c)
{
    run(c, c->in[0].s.d[0], c->in[1].s.d[0], linear_part);
}

const zs_kernel zs_fast_linear = {linear, NULL};

/* dy[M,O] w[O,K] -> dx[M,K], rows or columns [begin, end). */
static void linear_dx_part(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t m = c->in[0].s.d[0], k = c->in[1].s.d[1], o = c->in[1].s.d[0];
    int64_t r0 = by_rows(m) ? begin : 0, r1 = by_rows(m) ? end : m;
    int64_t k0 = by_rows(m) ? 0 : begin, k1 = by_rows(m) ? k : end;
    (void)thread;
    zs_blas_nn(r1 - r0, k1 - k0, o, 1.0f, c->in[0].p + r0 * o, o, c->in[1].p + k0, k, 0.0f,
               c->out[0].p + r0 * k + k0, k);
}

static void linear_dx(const zs_call *c)
{
    run(c, c->in[0].s.d[0], c->in[1].s.d[1], linear_dx_part);
}

const zs_kernel zs_fast_linear_dx = {linear_dx, NULL};

/* x[M,K] dy[M,O] -> dw[O,K] += [db[O] +=], rows [begin, end) of O. */
static void linear_dw_rows(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    int64_t m = c->in[0].s.d[0], k = c->in[0].s.d[1], o = c->in[1].s.d[1];
    const float *dy = c->in[1].p;
    (void)thread;
    zs_blas_tn(end - begin, k, m, 1.0f, dy + begin, o, c->in[0].p, k, 1.0f, c->out[0].p + begin * k,
               k);
    for (int64_t j = begin; c->out[1].p && j < end; j++) {
        double sum = 0;
        for (int64_t r = 0; r < m; r++)
            sum += (double)dy[r * o + j];
        c->out[1].p[j] += (float)sum;
    }
}

static void linear_dw(const zs_call *c)
{
    zs_cpu_for(c, c->in[1].s.d[1], 32, linear_dw_rows);
}

const zs_kernel zs_fast_linear_dw = {linear_dw, NULL};
