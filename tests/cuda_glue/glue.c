/* SPDX-License-Identifier: MIT */
#include "tests/cuda_glue/glue.h"
#include "backend/cuda/blas.h"
#include "backend/cuda/conv_kernels.h"
#include "backend/cuda/conv_plan.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/sdpa.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELD = 1 << 16, EDGE = 1024 /* bytes at either end of a large workspace */ };

static glue_plans mode;
static int failures;
static void *held[HELD]; /* until the queue has run */
static size_t n_held;

void glue_set(glue_plans plans)
{
    mode = plans;
}

int glue_failures(void)
{
    int n = failures;
    failures = 0;
    return n;
}

void glue_free(void)
{
    while (n_held > 0)
        free(held[--n_held]);
}

static void *hold(size_t bytes)
{
    void *p = n_held < HELD ? calloc(1, bytes ? bytes : 1) : NULL;
    if (!p)
        abort();
    held[n_held++] = p;
    return p;
}

/* ---- the device ---- */

const zs_cuda *zs_cuda_get(void)
{
    static zs_cuda here;
    return &here;
}

int zs_cuda_enter(zs_error *err)
{
    (void)err;
    return ZS_OK;
}

void zs_cuda_refuse(int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "refused (%d): ", status);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    failures++;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

const char *cudnnGetErrorString(cudnnStatus_t s)
{
    (void)s;
    return "";
}

/* Whatever a library does to its workspace: done before it reads its tensors, so that tensors in
 * the same place show. */
static void scribble(void *ws, size_t bytes)
{
    size_t edge = bytes < EDGE ? bytes : EDGE;
    zs_launch_fill(ws, NAN, (int64_t)(edge / 4), NULL);
    zs_launch_fill((float *)(void *)((char *)ws + (bytes - edge) / 4 * 4), NAN, (int64_t)(edge / 4),
                   NULL);
}

/* ---- cuDNN: a plan's descriptor is the convolution itself ---- */

const zs_conv_choice *zs_conv_choose(const zs_cuda_conv *c)
{
    zs_conv_choice *choice = hold(sizeof *choice);
    if (mode == GLUE_NO_PLANS)
        return choice;
    zs_cuda_conv *copy = hold(sizeof *copy);
    *copy = *c;
    choice->plan.desc = (cudnnBackendDescriptor_t)(void *)copy;
    choice->plan.workspace = 1000;
    choice->fused = c->bias && mode == GLUE_FUSED_PLANS;
    copy->bias = choice->fused;
    return choice;
}

static void *filter_of(const zs_cuda_conv *c, const void *f)
{
    size_t size = zs_dtype_size((zs_dtype)c->type);
    int64_t taps = c->kh * c->kw;
    void *w = hold((size_t)(taps * c->c * c->o) * size);
    glue_unturn(w, f, size, taps, c->c, c->o);
    return w;
}

static void filter_gradient(const zs_cuda_conv *c, void *x, void *df, void *dy)
{
    size_t size = zs_dtype_size((zs_dtype)c->type);
    int64_t taps = c->kh * c->kw, n = taps * c->c * c->o;
    float *sum = hold((size_t)n * sizeof(float));
    void *typed = hold((size_t)n * size);
    zs_launch_conv_dw(sum, x, dy, c, NULL);
    zs_launch_cast(typed, (zs_dtype)c->type, sum, ZS_F32, n, NULL);
    glue_turn(df, typed, size, taps, c->c, c->o);
}

cudnnStatus_t zs_dnn_run(const zs_dnn_plan *p, cudnnHandle_t handle, void *x, void *w, void *y,
                         const void *b, void *ws)
{
    const zs_cuda_conv *c = (const zs_cuda_conv *)(void *)p->desc;
    uintptr_t all = (uintptr_t)x | (uintptr_t)w | (uintptr_t)y | (uintptr_t)b;
    (void)handle;
    if ((c->bias != 0) != (b != NULL) || all & 15 || (uintptr_t)ws & 63)
        return CUDNN_STATUS_BAD_PARAM;
    if (c->type == ZS_BF16 && (c->c % 8 || c->o % 8))
        return CUDNN_STATUS_NOT_SUPPORTED_LAYOUT;
    scribble(ws, p->workspace);
    if (c->kind == ZS_CONV_FORWARD) {
        float *bias = b ? hold((size_t)c->o * sizeof(float)) : NULL;
        if (b)
            zs_launch_cast(bias, ZS_F32, b, (zs_dtype)c->type, c->o, NULL);
        zs_launch_conv(y, x, filter_of(c, w), bias, NULL, false, c, NULL);
    } else if (c->kind == ZS_CONV_DX) {
        zs_launch_conv_dx(x, y, filter_of(c, w), c, NULL);
    } else {
        filter_gradient(c, x, w, y);
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- attention in one kernel, head by head ---- */

const zs_sdpa_choice *zs_sdpa_choose(const zs_sdpa *s, const zs_call *c,
                                     void (*products)(const zs_call *c), size_t bytes)
{
    static zs_sdpa_choice choice = {.forward = {.workspace = 1000}};
    (void)s, (void)c, (void)products, (void)bytes;
    return mode == GLUE_FUSED_PLANS ? &choice : NULL;
}

size_t zs_sdpa_workspace(const zs_sdpa *s, const zs_sdpa_choice *c)
{
    return c->forward.workspace + (size_t)s->t;
}

/* One head of one sample. */
typedef struct head {
    const uint16_t *q, *k, *v, *dy;
    uint16_t *y, *dq, *dk, *dv;
    float *scores;
    uint16_t *p, *ds;
} head;

static head head_of(const zs_sdpa *s, int64_t i, const void *qkv, void *dqkv, void *y,
                    const void *dy)
{
    int64_t n = i / s->heads, h = i % s->heads, ch = s->heads * s->d;
    int64_t from = n * s->t * 3 * ch + h * s->head, to = n * s->t * ch + h * s->d;
    size_t each = (size_t)(s->t * s->t);
    head k = {.q = (const uint16_t *)qkv + from, .scores = hold(each * sizeof(float))};
    k.k = k.q + s->part, k.v = k.k + s->part;
    k.p = hold(each * sizeof *k.p), k.ds = hold(each * sizeof *k.ds);
    k.y = y ? (uint16_t *)y + to : NULL;
    k.dy = dy ? (const uint16_t *)dy + to : NULL;
    k.dq = dqkv ? (uint16_t *)dqkv + from : NULL;
    k.dk = dqkv ? k.dq + s->part : NULL, k.dv = dqkv ? k.dk + s->part : NULL;
    return k;
}

/* scores = a b', of rows `lda` and `ldb` apart. */
static void scores_of(const zs_sdpa *s, float *to, const void *a, int64_t lda, const void *b,
                      int64_t ldb)
{
    const zs_cuda_product p = {.m = s->t,
                               .n = s->t,
                               .k = s->d,
                               .batch = 1,
                               .am = lda,
                               .ak = 1,
                               .bk = 1,
                               .bn = ldb,
                               .ldc = s->t,
                               .alpha = 1};
    zs_launch_product(to, ZS_F32, a, b, ZS_BF16, NULL, NULL, &p, NULL);
}

/* to = weights b, or weights' b. */
static void mix(const zs_sdpa *s, void *to, int64_t ldc, const void *weights, bool turned,
                const void *b, int64_t ldb)
{
    const zs_cuda_product p = {.m = s->t,
                               .n = s->d,
                               .k = s->t,
                               .batch = 1,
                               .am = turned ? 1 : s->t,
                               .ak = turned ? s->t : 1,
                               .bk = ldb,
                               .bn = 1,
                               .ldc = ldc,
                               .alpha = 1};
    zs_launch_product(to, ZS_BF16, weights, b, ZS_BF16, NULL, NULL, &p, NULL);
}

static void weights_of(const zs_sdpa *s, const head *k)
{
    int64_t row = 3 * s->heads * s->d;
    scores_of(s, k->scores, k->q, row, k->k, row);
    zs_launch_softmax(k->p, ZS_BF16, k->scores, s->t, s->t, 1.0f / sqrtf((float)s->d), NULL);
}

void zs_sdpa_forward(const zs_sdpa *s, const zs_sdpa_choice *c, void *y, const void *qkv, void *ws)
{
    int64_t ch = s->heads * s->d;
    scribble(ws, zs_sdpa_workspace(s, c));
    for (int64_t i = 0; i < s->n * s->heads; i++) {
        head k = head_of(s, i, qkv, NULL, y, NULL);
        weights_of(s, &k);
        mix(s, k.y, ch, k.p, false, k.v, 3 * ch);
    }
}

void zs_sdpa_backward(const zs_sdpa *s, const zs_sdpa_choice *c, void *dqkv, const void *qkv,
                      const void *dy, void *ws)
{
    int64_t ch = s->heads * s->d;
    scribble(ws, zs_sdpa_workspace(s, c));
    for (int64_t i = 0; i < s->n * s->heads; i++) {
        head k = head_of(s, i, qkv, dqkv, NULL, dy);
        weights_of(s, &k);
        mix(s, k.dv, 3 * ch, k.p, true, k.dy, ch);
        scores_of(s, k.scores, k.dy, ch, k.v, 3 * ch);
        zs_launch_softmax_bwd(k.ds, k.p, ZS_BF16, k.scores, s->t, s->t, 1.0f / sqrtf((float)s->d),
                              NULL);
        mix(s, k.dq, 3 * ch, k.ds, false, k.k, 3 * ch);
        mix(s, k.dk, 3 * ch, k.ds, true, k.q, 3 * ch);
    }
}

/* ---- cuBLASLt ---- */

void zs_blas_prepare(const zs_blas *g)
{
    if (g->m < 1 || g->n < 1 || g->k < 1 || g->batch < 1)
        zs_cuda_refuse(ZS_E_INTERNAL, "an empty product");
}

void zs_blas_run(const zs_blas *g, const zs_blas_args *a)
{
    zs_cuda_product s = {.m = g->m, .n = g->n, .k = g->k, .batch = g->batch, .ldc = g->ldc};
    float *bias = g->bias ? hold((size_t)g->n * sizeof(float)) : NULL;
    if ((g->bias != 0) != (a->bias != NULL) || (g->beta != 0) != (a->c != NULL))
        zs_cuda_refuse(ZS_E_INTERNAL, "bias or c where none was planned, or none");
    if ((uintptr_t)a->ws & 15)
        zs_cuda_refuse(ZS_E_INTERNAL, "a product with an unaligned workspace");
    s.am = g->ta ? 1 : g->lda, s.ak = g->ta ? g->lda : 1;
    s.bk = g->tb ? 1 : g->ldb, s.bn = g->tb ? g->ldb : 1;
    s.sa = g->sa, s.sb = g->sb, s.sc = g->sc;
    s.alpha = a->alpha, s.beta = g->beta ? 1.0f : 0.0f;
    scribble(a->ws, ZS_BLAS_WS);
    if (bias)
        zs_launch_cast(bias, ZS_F32, a->bias, (zs_dtype)g->out, g->n, NULL);
    zs_launch_product(a->d, (zs_dtype)g->out, a->a, a->b, (zs_dtype)g->in, a->c, bias, &s, NULL);
}
