/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

#include <string.h>

enum { CHUNK = 1 << 14, COLUMNS = 128 };

/* Rows of a sample, channels, and where the first gate of a sample lies. */
typedef struct dims {
    int64_t samples, rows, ch, ld, at;
} dims;

static dims dims_of(const zs_call *c, int gates)
{
    const zs_shape *x = &c->in[0].s, *g = &c->in[gates].s;
    return (dims){g->d[0], zs_shape_rows(x) / g->d[0], zs_shape_last(x), g->d[1], c->a->offset};
}

/* x f g -> y, rows [begin, end). */
static void rows_fwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c, 2);
    (void)thread;
    for (int64_t r = begin; r < end; r++)
        zs_elem_get()->gate(c->out[0].p + r * s.ch, c->in[0].p + r * s.ch, c->in[1].p + r * s.ch,
                            c->in[2].p + r / s.rows * s.ld + s.at, s.ch);
}

static void gate(const zs_call *c)
{
    int64_t ch = zs_shape_last(&c->in[0].s);
    zs_cpu_for(c, zs_shape_rows(&c->in[0].s), ch < CHUNK ? CHUNK / ch : 1, rows_fwd);
}

const zs_kernel zs_fast_gate = {gate, NULL};

/* f g dy -> [df] [dg], units [begin, end) of samples x pieces of COLUMNS channels. */
static void units_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c, 1);
    int64_t pieces = (s.ch + COLUMNS - 1) / COLUMNS;
    (void)thread;
    for (int64_t u = begin; u < end; u++) {
        float sum[COLUMNS] = {0};
        int64_t n = u / pieces, j = u % pieces * COLUMNS, at = n * s.rows * s.ch + j;
        int64_t cols = s.ch - j < COLUMNS ? s.ch - j : COLUMNS, g = n * s.ld + s.at + j;
        zs_elem_get()->gate_bwd(c->out[0].p ? c->out[0].p + at : NULL, sum, c->in[0].p + at,
                                c->in[1].p + g, c->in[2].p + at, s.rows, s.ch, cols);
        if (c->out[1].p)
            memcpy(c->out[1].p + g, sum, (size_t)cols * sizeof *sum);
    }
}

static void gate_bwd(const zs_call *c)
{
    dims s = dims_of(c, 1);
    if (c->out[1].p)
        memset(c->out[1].p, 0, (size_t)(s.samples * s.ld) * sizeof(float));
    zs_cpu_for(c, s.samples * ((s.ch + COLUMNS - 1) / COLUMNS), 1, units_bwd);
}

const zs_kernel zs_fast_gate_bwd = {gate_bwd, NULL};
