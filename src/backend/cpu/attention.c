/* SPDX-License-Identifier: MIT */
/* Attention in blocks of query rows: the weights of one block, not of all of them, are held. For
 * the layout of qkv see attention_ref.c. */
#include "backend/cpu/blas.h"
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

#include <math.h>

enum { ROWS = 64 };

typedef struct dims {
    int64_t t, c, d, heads, blocks;
    int64_t in; /* floats from one position of qkv to the next */
    float scale;
} dims;

static dims dims_of(const zs_call *c)
{
    const int64_t *s = c->in[0].s.d;
    int64_t t = s[1] * s[2], d = s[3] / 3 / c->a->heads;
    return (dims){
        t, s[3] / 3, d, c->a->heads, (t + ROWS - 1) / ROWS, s[3], (float)(1 / sqrt((double)d))};
}

/* First float of (n, head) in qkv, of (n, head) in y. */
static int64_t qkv_at(const dims *s, int64_t nh)
{
    return nh / s->heads * s->t * s->in + nh % s->heads * 3 * s->d;
}

static int64_t y_at(const dims *s, int64_t nh)
{
    return nh / s->heads * s->t * s->c + nh % s->heads * s->d;
}

static int64_t rows_of(const dims *s, int64_t block)
{
    return s->t - block * ROWS < ROWS ? s->t - block * ROWS : ROWS;
}

static int64_t weights_floats(const dims *s)
{
    return (s->t < ROWS ? s->t : ROWS) * s->t;
}

/* w[rows,T] = softmax of the block's queries against all keys. */
static void block_weights(float *w, const dims *s, const float *q, int64_t block)
{
    int64_t rows = rows_of(s, block);
    zs_blas_nt(rows, s->t, s->d, s->scale, q + block * ROWS * s->in, s->in, q + s->d, s->in, 0.0f,
               w, s->t);
    zs_elem_get()->softmax(w, rows, s->t);
}

/* qkv[N,H,W,3C] -> y[N,H,W,C], units [begin, end) of N x heads x blocks. */
static void fwd_blocks(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c);
    float *w = (float *)c->ws + thread * weights_floats(&s);
    for (int64_t u = begin; u < end; u++) {
        int64_t nh = u / s.blocks, block = u % s.blocks;
        const float *q = c->in[0].p + qkv_at(&s, nh);
        block_weights(w, &s, q, block);
        zs_blas_nn(rows_of(&s, block), s.d, s.t, 1.0f, w, s.t, q + 2 * s.d, s.in, 0.0f,
                   c->out[0].p + y_at(&s, nh) + block * ROWS * s.c, s.c);
    }
}

static size_t attention_ws(const zs_call *c)
{
    dims s = dims_of(c);
    return (size_t)(c->threads * weights_floats(&s)) * sizeof(float);
}

static void attention(const zs_call *c)
{
    dims s = dims_of(c);
    zs_cpu_for(c, c->in[0].s.d[0] * s.heads * s.blocks, 1, fwd_blocks);
}

const zs_kernel zs_fast_attention = {attention, attention_ws};

/* What one block of queries contributes to dqkv: its rows of dq, and sums for dk and dv, which
 * block 0 overwrites. w and dw hold [rows,T] each. */
static void block_bwd(float *w, float *dw, const dims *s, const float *q, const float *dy,
                      float *dq, int64_t block)
{
    int64_t rows = rows_of(s, block), at = block * ROWS;
    const float *k = q + s->d, *v = k + s->d;
    float keep = block > 0 ? 1.0f : 0.0f;
    block_weights(w, s, q, block);
    dy += at * s->c;
    zs_blas_nt(rows, s->t, s->d, 1.0f, dy, s->c, v, s->in, 0.0f, dw, s->t);
    zs_elem_get()->softmax_bwd(dw, w, s->scale, rows, s->t);
    zs_blas_nn(rows, s->d, s->t, 1.0f, dw, s->t, k, s->in, 0.0f, dq + at * s->in, s->in);
    zs_blas_tn(s->t, s->d, rows, 1.0f, dw, s->t, q + at * s->in, s->in, keep, dq + s->d, s->in);
    zs_blas_tn(s->t, s->d, rows, 1.0f, w, s->t, dy, s->c, keep, dq + 2 * s->d, s->in);
}

/* qkv[N,H,W,3C] dy[N,H,W,C] -> dqkv[N,H,W,3C], (n, head) pairs [begin, end). */
static void bwd_heads(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c);
    float *w = (float *)c->ws + thread * 2 * weights_floats(&s), *dw = w + weights_floats(&s);
    for (int64_t nh = begin; nh < end; nh++)
        for (int64_t block = 0; block < s.blocks; block++)
            block_bwd(w, dw, &s, c->in[0].p + qkv_at(&s, nh), c->in[1].p + y_at(&s, nh),
                      c->out[0].p + qkv_at(&s, nh), block);
}

static size_t attention_bwd_ws(const zs_call *c)
{
    dims s = dims_of(c);
    return (size_t)(c->threads * 2 * weights_floats(&s)) * sizeof(float);
}

static void attention_bwd(const zs_call *c)
{
    zs_cpu_for(c, c->in[0].s.d[0] * c->a->heads, 1, bwd_heads);
}

const zs_kernel zs_fast_attention_bwd = {attention_bwd, attention_bwd_ws};
