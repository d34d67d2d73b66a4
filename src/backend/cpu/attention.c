/* SPDX-License-Identifier: MIT */
/* Attention in blocks of query rows: the weights of one block, not of all of them, are held, few
 * enough for the L2 cache. For the layout of qkv see attention_ref.c. */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"
#include "backend/cpu/gemm.h"

#include <math.h>

enum {
    WEIGHTS = 1 << 15, /* of a block, unless one row has more */
    ROWS_MIN = 8,
    UNITS_PER_THREAD = 4 /* pieces of the forward pass that are worth packing keys again for */
};

/* A (sample, head) pair: T positions of d channels, `in` floats apart in qkv, `c` in y; its keys
 * lie `part` behind its queries, and its values behind its keys. */
typedef struct dims {
    int64_t pairs, t, c, d, heads, rows, blocks, in, head, part;
    int64_t keys, values; /* floats of [d,T] and [T,d] packed */
    float scale;
} dims;

static dims dims_of(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    int64_t n = s->d[0], in = zs_shape_last(s), t = zs_shape_rows(s) / n, d = in / 3 / c->a->heads;
    int64_t rows = WEIGHTS / t / ROWS_MIN * ROWS_MIN;
    bool by_head = c->a->kind == ZS_QKV_BY_HEAD;
    rows = rows < ROWS_MIN ? ROWS_MIN : rows;
    rows = rows > t ? t : rows;
    return (dims){.pairs = n * c->a->heads,
                  .t = t,
                  .c = in / 3,
                  .d = d,
                  .heads = c->a->heads,
                  .rows = rows,
                  .blocks = (t + rows - 1) / rows,
                  .in = in,
                  .head = by_head ? 3 * d : d,
                  .part = by_head ? d : in / 3,
                  .keys = zs_gemm_packed(d, t),
                  .values = zs_gemm_packed(t, d),
                  .scale = (float)(1 / sqrt((double)d))};
}

/* First float of a pair in qkv, in y. */
static int64_t qkv_at(const dims *s, int64_t pair)
{
    return pair / s->heads * s->t * s->in + pair % s->heads * s->head;
}

static int64_t y_at(const dims *s, int64_t pair)
{
    return pair / s->heads * s->t * s->c + pair % s->heads * s->d;
}

static int64_t rows_of(const dims *s, int64_t block)
{
    return s->t - block * s->rows < s->rows ? s->t - block * s->rows : s->rows;
}

static int64_t align16(int64_t n)
{
    return (n + 15) / 16 * 16;
}

/* Packs b[depth,n]; element (k,j) at b[k*b_row + j*b_col]. */
static void pack(float *dst, const float *b, int64_t b_row, int64_t b_col, int64_t depth, int64_t n)
{
    zs_gemm g = {.b = b, .b_row = b_row, .b_col = b_col, .depth = depth, .n = n};
    int64_t panel = zs_gemm_packed(depth, 1), panels = zs_gemm_packed(depth, n) / panel;
    for (int64_t i = 0; i < panels; i++)
        zs_gemm_pack(dst + i * panel, &g, i);
}

/* g->y = g->a b with b packed, on this thread. */
static void product(const zs_gemm *g, const float *packed)
{
    int64_t panel = zs_gemm_packed(g->depth, 1), panels = zs_gemm_packed(g->depth, g->n) / panel;
    for (int64_t i = 0; i < panels; i++)
        zs_gemm_panel(g, packed + i * panel, i, 0, g->m);
}

/* y[m,n] = a[m,depth] b, rows of a and y contiguous. */
static void rows_product(float *y, int64_t ld, const float *a, int64_t a_row, const float *packed,
                         int64_t m, int64_t depth, int64_t n)
{
    zs_gemm g = {
        .a = a, .y = y, .m = m, .n = n, .depth = depth, .a_row = a_row, .a_k = 1, .ld = ld};
    product(&g, packed);
}

/* y[T,n] = or += transpose of a[depth,T] times b, rows of a contiguous. */
static void columns_product(float *y, int64_t ld, const float *a, const float *packed,
                            const dims *s, int64_t depth, bool add)
{
    zs_gemm g = {.a = a,
                 .y = y,
                 .m = s->t,
                 .n = s->d,
                 .depth = depth,
                 .a_row = 1,
                 .a_k = s->t,
                 .ld = ld,
                 .add = add};
    product(&g, packed);
}

/* w[rows,T] = softmax of the block's queries against all keys. */
static void block_weights(float *w, const dims *s, const float *q, const float *keys, int64_t block)
{
    int64_t rows = rows_of(s, block);
    rows_product(w, s->t, q + block * s->rows * s->in, s->in, keys, rows, s->d, s->t);
    zs_elem_get()->softmax(w, s->scale, rows, s->t);
}

/* ---- forward ---- */

/* Parts that the blocks of a pair are dealt out in: more than one when there are few pairs. */
static int64_t parts_of(const dims *s, int threads)
{
    int64_t parts = (UNITS_PER_THREAD * threads + s->pairs - 1) / s->pairs;
    return parts < s->blocks ? parts : s->blocks;
}

static int64_t fwd_floats(const dims *s)
{
    return s->keys + s->values + align16(s->rows * s->t);
}

/* qkv[N,...,3C] -> y[N,...,C], units [begin, end) of pairs x parts. */
static void fwd_units(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c);
    int64_t parts = parts_of(&s, c->threads);
    float *keys = (float *)c->ws + thread * fwd_floats(&s), *values = keys + s.keys;
    float *w = values + s.values;
    for (int64_t u = begin; u < end; u++) {
        int64_t pair = u / parts, part = u % parts;
        const float *q = c->in[0].p + qkv_at(&s, pair);
        pack(keys, q + s.part, 1, s.in, s.d, s.t);
        pack(values, q + 2 * s.part, s.in, 1, s.t, s.d);
        for (int64_t b = part * s.blocks / parts; b < (part + 1) * s.blocks / parts; b++) {
            block_weights(w, &s, q, keys, b);
            rows_product(c->out[0].p + y_at(&s, pair) + b * s.rows * s.c, s.c, w, s.t, values,
                         rows_of(&s, b), s.t, s.d);
        }
    }
}

static size_t attention_ws(const zs_call *c)
{
    dims s = dims_of(c);
    return (size_t)(c->threads * fwd_floats(&s)) * sizeof(float);
}

static void attention(const zs_call *c)
{
    dims s = dims_of(c);
    zs_cpu_for(c, s.pairs * parts_of(&s, c->threads), 1, fwd_units);
}

const zs_kernel zs_fast_attention = {attention, attention_ws};

/* ---- backward ---- */

/* Scratch of one thread: packed [d,T] keys and values, packed [T,d] keys, a packed block of
 * queries or of dy, and the block's weights and their gradients. */
typedef struct scratch {
    float *keys, *values, *key_rows, *block, *w, *dw;
} scratch;

static int64_t bwd_floats(const dims *s)
{
    return 2 * s->keys + s->values + zs_gemm_packed(s->rows, s->d) + 2 * align16(s->rows * s->t);
}

static scratch scratch_of(const dims *s, const zs_call *c, int thread)
{
    scratch x = {.keys = (float *)c->ws + thread * bwd_floats(s)};
    x.values = x.keys + s->keys;
    x.key_rows = x.values + s->keys;
    x.block = x.key_rows + s->values;
    x.w = x.block + zs_gemm_packed(s->rows, s->d);
    x.dw = x.w + align16(s->rows * s->t);
    return x;
}

/* What one block of queries contributes to dqkv: its rows of dq, and sums for dk and dv, which
 * block 0 overwrites. q, dy and dq are the pair's. */
static void block_bwd(const scratch *x, const dims *s, const float *q, const float *dy, float *dq,
                      int64_t block)
{
    int64_t rows = rows_of(s, block), at = block * s->rows;
    block_weights(x->w, s, q, x->keys, block);
    dy += at * s->c;
    rows_product(x->dw, s->t, dy, s->c, x->values, rows, s->d, s->t);
    zs_elem_get()->softmax_bwd(x->dw, x->w, s->scale, rows, s->t);
    rows_product(dq + at * s->in, s->in, x->dw, s->t, x->key_rows, rows, s->t, s->d);
    pack(x->block, q + at * s->in, s->in, 1, rows, s->d);
    columns_product(dq + s->part, s->in, x->dw, x->block, s, rows, block > 0);
    pack(x->block, dy, s->c, 1, rows, s->d);
    columns_product(dq + 2 * s->part, s->in, x->w, x->block, s, rows, block > 0);
}

/* qkv[N,...,3C] dy[N,...,C] -> dqkv[N,...,3C], pairs [begin, end). */
static void bwd_pairs(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c);
    scratch x = scratch_of(&s, c, thread);
    for (int64_t pair = begin; pair < end; pair++) {
        const float *q = c->in[0].p + qkv_at(&s, pair);
        pack(x.keys, q + s.part, 1, s.in, s.d, s.t);
        pack(x.values, q + 2 * s.part, 1, s.in, s.d, s.t);
        pack(x.key_rows, q + s.part, s.in, 1, s.t, s.d);
        for (int64_t block = 0; block < s.blocks; block++)
            block_bwd(&x, &s, q, c->in[1].p + y_at(&s, pair), c->out[0].p + qkv_at(&s, pair),
                      block);
    }
}

static size_t attention_bwd_ws(const zs_call *c)
{
    dims s = dims_of(c);
    return (size_t)(c->threads * bwd_floats(&s)) * sizeof(float);
}

static void attention_bwd(const zs_call *c)
{
    dims s = dims_of(c);
    zs_cpu_for(c, s.pairs, 1, bwd_pairs);
}

const zs_kernel zs_fast_attention_bwd = {attention_bwd, attention_bwd_ws};
