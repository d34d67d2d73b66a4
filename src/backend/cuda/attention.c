/* SPDX-License-Identifier: MIT */
/* Attention as batched matrix products with a softmax between them, for any size of head: the
 * U-Nets have one head of up to 512 channels, for which no fused kernel exists. Score matrices go
 * through the workspace, a bounded number of them at a time. Where cuDNN has a kernel of its own
 * that is faster (sdpa.h), that is taken.
 *
 * As in backend/cpu/attention_ref.c, position p of head h has q at ((n*T + p)*3C + h*head), k
 * `part` further and v 2*part further. A batch has one step from matrix to matrix, so it runs over
 * the samples of one head, or over the heads of one sample, whichever are more. */
#include "backend/cuda/blas.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/sdpa.h"

#include <math.h>

enum { ALIGN = 256 };
static const size_t most = (size_t)128 << 20; /* bytes of score matrices, unless one has more */

typedef struct shape {
    zs_dtype type;
    int64_t t, c, d, part; /* positions, channels of y, of a head, from q to k */
    int64_t outer, inner;  /* loops, and matrices of a batch altogether */
    int64_t outer_qkv, outer_y, inner_qkv, inner_y; /* steps of both in elements */
    int64_t chunk;                                  /* matrices of a batch at a time */
} shape;

static size_t rounded(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes of scores for one matrix: f32 ones and `typed` ones of the tensors' type. */
static size_t each(const shape *s, int typed)
{
    size_t n = (size_t)s->t * (size_t)s->t;
    return n * (sizeof(float) + (size_t)typed * zs_dtype_size(s->type));
}

static shape shape_of(const zs_call *c, int typed)
{
    const zs_shape *in = &c->in[0].s;
    int64_t n = in->d[0], heads = c->a->heads, ch = zs_shape_last(in) / 3, d = ch / heads;
    bool by_head = c->a->kind == ZS_QKV_BY_HEAD;
    int64_t head = by_head ? 3 * d : d;
    shape s = {.type = c->in[0].type, .t = zs_shape_rows(in) / n, .c = ch, .d = d};
    s.part = by_head ? d : ch;
    int64_t sample_qkv = s.t * 3 * ch, sample_y = s.t * ch;
    bool over_samples = n >= heads;
    s.outer = over_samples ? heads : n;
    s.inner = over_samples ? n : heads;
    s.outer_qkv = over_samples ? head : sample_qkv;
    s.outer_y = over_samples ? d : sample_y;
    s.inner_qkv = over_samples ? sample_qkv : head;
    s.inner_y = over_samples ? sample_y : d;
    size_t fit = most / each(&s, typed);
    s.chunk = fit < 1 ? 1 : fit < (size_t)s.inner ? (int64_t)fit : s.inner;
    return s;
}

/* ---- the products, of `batch` matrices ---- */

/* t x t from two t x d: rows of a against rows of b. */
static zs_blas scores_of(const shape *s, int64_t lda, int64_t sa, int64_t ldb, int64_t sb,
                         int64_t batch)
{
    return (zs_blas){.in = s->type,
                     .out = ZS_F32,
                     .m = s->t,
                     .n = s->t,
                     .k = s->d,
                     .tb = 1,
                     .lda = lda,
                     .ldb = ldb,
                     .ldc = s->t,
                     .batch = batch,
                     .sa = sa,
                     .sb = sb,
                     .sc = s->t * s->t};
}

/* t x d from scores, or their transposes, and t x d. */
static zs_blas mix_of(const shape *s, bool turned, int64_t ldb, int64_t sb, int64_t ldc, int64_t sc,
                      int64_t batch)
{
    return (zs_blas){.in = s->type,
                     .out = s->type,
                     .m = s->t,
                     .n = s->d,
                     .k = s->t,
                     .ta = turned,
                     .lda = s->t,
                     .ldb = ldb,
                     .ldc = ldc,
                     .batch = batch,
                     .sa = s->t * s->t,
                     .sb = sb,
                     .sc = sc};
}

static zs_blas q_k(const shape *s, int64_t batch)
{
    return scores_of(s, 3 * s->c, s->inner_qkv, 3 * s->c, s->inner_qkv, batch);
}

static zs_blas dy_v(const shape *s, int64_t batch)
{
    return scores_of(s, s->c, s->inner_y, 3 * s->c, s->inner_qkv, batch);
}

static zs_blas p_v(const shape *s, int64_t batch)
{
    return mix_of(s, false, 3 * s->c, s->inner_qkv, s->c, s->inner_y, batch);
}

static zs_blas p_dy(const shape *s, int64_t batch)
{
    return mix_of(s, true, s->c, s->inner_y, 3 * s->c, s->inner_qkv, batch);
}

/* dq from ds and k; `turned`: dk from ds and q. */
static zs_blas ds_qk(const shape *s, bool turned, int64_t batch)
{
    return mix_of(s, turned, 3 * s->c, s->inner_qkv, 3 * s->c, s->inner_qkv, batch);
}

static void multiply(const zs_blas *g, void *d, const void *a, const void *b, void *ws)
{
    zs_blas_run(g, &(zs_blas_args){.alpha = 1, .a = a, .b = b, .d = d, .ws = ws});
}

/* ---- memory ---- */

/* One chunk: its first matrices, and its score matrices in the workspace. */
typedef struct part {
    int64_t batch;
    const char *q, *k, *v;
    size_t qkv, y; /* bytes from the start of the tensors */
    void *ws;
    float *scores;
    char *p, *ds;
} part;

static part part_of(const shape *s, const zs_call *c, int64_t outer, int64_t first)
{
    size_t size = zs_dtype_size(s->type), n = (size_t)(s->chunk * s->t * s->t);
    part k = {.batch = s->inner - first < s->chunk ? s->inner - first : s->chunk};
    k.qkv = (size_t)(outer * s->outer_qkv + first * s->inner_qkv) * size;
    k.y = (size_t)(outer * s->outer_y + first * s->inner_y) * size;
    k.q = (const char *)c->in[0].p + k.qkv;
    k.k = k.q + (size_t)s->part * size;
    k.v = k.k + (size_t)s->part * size;
    k.ws = c->ws;
    char *at = (char *)c->ws + ZS_BLAS_WS;
    k.scores = (float *)(void *)at;
    k.p = at + rounded(n * sizeof(float));
    k.ds = k.p + rounded(n * size);
    return k;
}

static size_t workspace(const shape *s, int typed)
{
    size_t n = (size_t)(s->chunk * s->t * s->t);
    return (size_t)ZS_BLAS_WS + rounded(n * sizeof(float)) +
           (size_t)typed * rounded(n * zs_dtype_size(s->type));
}

/* Softmax of q k, in the tensors' type. */
static void weights(const shape *s, const part *k, void *queue)
{
    zs_blas g = q_k(s, k->batch);
    multiply(&g, k->scores, k->q, k->k, k->ws);
    zs_launch_softmax(k->p, s->type, k->scores, k->batch * s->t, s->t, 1.0f / sqrtf((float)s->d),
                      queue);
}

/* ---- in one kernel ---- */

/* NULL: by products, which are c's kernel with so many bytes of workspace; told while planning. */
static const zs_sdpa_choice *fused(zs_sdpa *out, const zs_call *c, bool back,
                                   void (*products)(const zs_call *c), size_t bytes)
{
    const zs_shape *in = &c->in[0].s;
    int64_t ch = zs_shape_last(in) / 3, d = ch / c->a->heads;
    bool by_head = c->a->kind == ZS_QKV_BY_HEAD;
    *out = (zs_sdpa){.back = back,
                     .n = in->d[0],
                     .t = zs_shape_rows(in) / in->d[0],
                     .heads = c->a->heads,
                     .d = d,
                     .head = by_head ? 3 * d : d,
                     .part = by_head ? d : ch};
    return c->in[0].type == ZS_BF16 ? zs_sdpa_choose(out, c, products, bytes) : NULL;
}

/* ---- attention ---- */

static void forward_part(const shape *s, const part *k, const zs_call *c)
{
    zs_blas g = p_v(s, k->batch);
    weights(s, k, c->queue);
    multiply(&g, (char *)c->out[0].p + k->y, k->p, k->v, k->ws);
}

static void forward_products(const zs_call *c)
{
    shape s = shape_of(c, 1);
    for (int64_t i = 0; i < s.outer; i++)
        for (int64_t first = 0; first < s.inner; first += s.chunk) {
            part k = part_of(&s, c, i, first);
            forward_part(&s, &k, c);
        }
}

/* Batches that occur: whole chunks, and what is left. */
static int batches(const shape *s, int64_t out[2])
{
    out[0] = s->chunk;
    out[1] = s->inner % s->chunk;
    return out[1] ? 2 : 1;
}

static size_t forward_bytes(const zs_call *c)
{
    shape s = shape_of(c, 1);
    int64_t batch[2];
    for (int i = batches(&s, batch) - 1; i >= 0; i--) {
        zs_blas list[] = {q_k(&s, batch[i]), p_v(&s, batch[i])};
        for (size_t k = 0; k < sizeof list / sizeof list[0]; k++)
            zs_blas_prepare(&list[k]);
    }
    return workspace(&s, 1);
}

static void attention(const zs_call *c)
{
    zs_sdpa s;
    const zs_sdpa_choice *one = fused(&s, c, false, NULL, 0);
    if (one)
        zs_sdpa_forward(&s, one, c->out[0].p, c->in[0].p, c->ws);
    else
        forward_products(c);
}

static size_t attention_ws(const zs_call *c)
{
    zs_sdpa s;
    size_t bytes = forward_bytes(c);
    const zs_sdpa_choice *one = fused(&s, c, false, forward_products, bytes);
    return one ? zs_sdpa_workspace(&s, one) : bytes;
}

const zs_kernel zs_cuda_attention = {attention, attention_ws};

/* ---- attention_bwd ---- */

/* dv = p' dy; dp = dy v'; ds = scale p (dp - sum p dp); dq = ds k; dk = ds' q. */
static void backward_part(const shape *s, const part *k, const zs_call *c)
{
    size_t step = (size_t)s->part * zs_dtype_size(s->type);
    const char *dy = (const char *)c->in[1].p + k->y;
    char *dq = (char *)c->out[0].p + k->qkv, *dk = dq + step, *dv = dk + step;
    zs_blas to_dv = p_dy(s, k->batch), to_dp = dy_v(s, k->batch);
    zs_blas to_dq = ds_qk(s, false, k->batch), to_dk = ds_qk(s, true, k->batch);
    weights(s, k, c->queue);
    multiply(&to_dv, dv, k->p, dy, k->ws);
    multiply(&to_dp, k->scores, dy, k->v, k->ws);
    zs_launch_softmax_bwd(k->ds, k->p, s->type, k->scores, k->batch * s->t, s->t,
                          1.0f / sqrtf((float)s->d), c->queue);
    multiply(&to_dq, dq, k->ds, k->k, k->ws);
    multiply(&to_dk, dk, k->ds, k->q, k->ws);
}

static void backward_products(const zs_call *c)
{
    shape s = shape_of(c, 2);
    for (int64_t i = 0; i < s.outer; i++)
        for (int64_t first = 0; first < s.inner; first += s.chunk) {
            part k = part_of(&s, c, i, first);
            backward_part(&s, &k, c);
        }
}

static size_t backward_bytes(const zs_call *c)
{
    shape s = shape_of(c, 2);
    int64_t batch[2];
    for (int i = batches(&s, batch) - 1; i >= 0; i--) {
        int64_t b = batch[i];
        zs_blas list[] = {q_k(&s, b), p_dy(&s, b), dy_v(&s, b), ds_qk(&s, false, b),
                          ds_qk(&s, true, b)};
        for (size_t k = 0; k < sizeof list / sizeof list[0]; k++)
            zs_blas_prepare(&list[k]);
    }
    return workspace(&s, 2);
}

static void attention_bwd(const zs_call *c)
{
    zs_sdpa s;
    const zs_sdpa_choice *one = fused(&s, c, true, NULL, 0);
    if (one)
        zs_sdpa_backward(&s, one, c->out[0].p, c->in[0].p, c->in[1].p, c->ws);
    else
        backward_products(c);
}

static size_t attention_bwd_ws(const zs_call *c)
{
    zs_sdpa s;
    size_t bytes = backward_bytes(c);
    const zs_sdpa_choice *one = fused(&s, c, true, backward_products, bytes);
    return one ? zs_sdpa_workspace(&s, one) : bytes;
}

const zs_kernel zs_cuda_attention_bwd = {attention_bwd, attention_bwd_ws};
