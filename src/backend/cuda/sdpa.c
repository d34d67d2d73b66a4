/* SPDX-License-Identifier: MIT */
/* Workspaces: attention has room for its lse, then what the plan takes; the gradient first y and
 * lse, which its forward plan makes again, then room for sums, then what the larger plan takes. */
#include "backend/cuda/sdpa.h"
#include "backend/cuda/blas.h"
#include "backend/cuda/memo.h"
#include "backend/cuda/plan_file.h"
#include "backend/cuda/tune.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* PLANS: each takes about a second to compile. */
enum { ALIGN = 256, PLANS = 2, EIGHTS = 8, LARGEST_HEAD = 128 };
static const size_t most_workspace = (size_t)512 << 20;
static const double agreement = 0.03; /* of results in bf16, as Euclidean norms */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static zs_memo choices = {.key_bytes = sizeof(zs_sdpa), .value_bytes = sizeof(zs_sdpa_choice)};
static zs_plan_file file;
static int met, taken, wrong;

static size_t rounded(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- sizes ---- */

static size_t y_bytes(const zs_sdpa *s)
{
    return rounded((size_t)(s->n * s->t * s->heads * s->d) * sizeof(uint16_t));
}

static size_t qkv_bytes(const zs_sdpa *s)
{
    return rounded((size_t)(s->n * s->t * 3 * s->heads * s->d) * sizeof(uint16_t));
}

static size_t row_bytes(const zs_sdpa *s)
{
    return rounded((size_t)(s->n * s->heads * s->t) * sizeof(float));
}

size_t zs_sdpa_workspace(const zs_sdpa *s, const zs_sdpa_choice *c)
{
    size_t f = c->forward.workspace, b = c->backward.workspace;
    return s->back ? y_bytes(s) + 2 * row_bytes(s) + (b > f ? b : f) : row_bytes(s) + f;
}

/* ---- running ---- */

/* Every tensor of either graph, by its id. */
typedef struct tensors {
    const void *at[ZS_SDPA_ONE + 1]; /* NULL: not of this graph */
    float scale, one;
} tensors;

static cudnnStatus_t execute(const zs_dnn_plan *p, const tensors *t, void *ws)
{
    int64_t ids[ZS_DNN_TENSORS];
    const void *pointers[ZS_DNN_TENSORS];
    int n = 0;
    for (int i = 0; i <= ZS_SDPA_ONE; i++)
        if (t->at[i]) {
            ids[n] = i;
            pointers[n++] = t->at[i];
        }
    return zs_dnn_execute(p, zs_cuda_get()->dnn, n, ids, pointers, ws);
}

static void set_parts(tensors *t, const zs_sdpa *s, int first, const void *qkv)
{
    const uint16_t *q = qkv;
    for (int i = 0; i < 3; i++)
        t->at[first + i] = q + i * s->part;
}

static cudnnStatus_t forward(const zs_sdpa *s, const zs_sdpa_choice *c, void *y, const void *qkv,
                             void *lse, void *ws)
{
    tensors t = {.scale = 1.0f / sqrtf((float)s->d)};
    set_parts(&t, s, ZS_SDPA_Q, qkv);
    t.at[ZS_SDPA_Y] = y;
    t.at[ZS_SDPA_LSE] = lse;
    t.at[ZS_SDPA_SCALE] = &t.scale;
    return execute(&c->forward, &t, ws);
}

static cudnnStatus_t backward(const zs_sdpa *s, const zs_sdpa_choice *c, void *dqkv,
                              const void *qkv, const void *dy, unsigned char *ws)
{
    tensors t = {.scale = 1.0f / sqrtf((float)s->d), .one = 1.0f};
    unsigned char *lse = ws + y_bytes(s), *sum = lse + row_bytes(s), *rest = sum + row_bytes(s);
    cudnnStatus_t status = forward(s, c, ws, qkv, lse, rest);
    set_parts(&t, s, ZS_SDPA_Q, qkv);
    set_parts(&t, s, ZS_SDPA_DQ, dqkv);
    t.at[ZS_SDPA_Y] = ws;
    t.at[ZS_SDPA_LSE] = lse;
    t.at[ZS_SDPA_SUM] = sum;
    t.at[ZS_SDPA_DY] = dy;
    t.at[ZS_SDPA_SCALE] = &t.scale;
    t.at[ZS_SDPA_ONE] = &t.one;
    return status == CUDNN_STATUS_SUCCESS ? execute(&c->backward, &t, rest) : status;
}

static void report(const zs_dnn_plan *p, cudnnStatus_t s)
{
    if (s == CUDNN_STATUS_SUCCESS)
        return;
    zs_cuda_check((int)cudaGetLastError(), "attention");
    zs_cuda_refuse(ZS_E_INTERNAL,
                   "cuDNN failed on attention by its engine %s: %s; ZSEM_CUDNN_DENY=%d leaves that "
                   "engine out",
                   p->tag, cudnnGetErrorString(s), atoi(p->tag));
}

void zs_sdpa_forward(const zs_sdpa *s, const zs_sdpa_choice *c, void *y, const void *qkv, void *ws)
{
    unsigned char *lse = ws;
    report(&c->forward, forward(s, c, y, qkv, lse, lse + row_bytes(s)));
}

void zs_sdpa_backward(const zs_sdpa *s, const zs_sdpa_choice *c, void *dqkv, const void *qkv,
                      const void *dy, void *ws)
{
    report(&c->backward, backward(s, c, dqkv, qkv, dy, ws));
}

/* ---- plans: of the gradient one of each kind, of which the forward one is the first ---- */

static int search(zs_dnn_plan *out, int max, const zs_sdpa *s, bool back, const char *tag)
{
    zs_sdpa what = *s;
    zs_dnn_target here = {.handle = zs_cuda_get()->dnn};
    zs_dnn_problem p = {.graph = zs_sdpa_graph, .what = &what, .compiled = true};
    what.back = back;
    return zs_dnn_search(out, max, &p, &here, most_workspace, tag, NULL);
}

static void drop(zs_sdpa_choice *c)
{
    zs_dnn_plan_free(&c->forward);
    zs_dnn_plan_free(&c->backward);
}

/* Appends a choice for each plan of the wanted kind; the gradient's need a forward plan as well. */
static int gather(zs_sdpa_choice out[PLANS], const zs_sdpa *s)
{
    zs_dnn_plan plans[PLANS];
    int n = search(plans, PLANS, s, s->back, NULL), have = 0;
    for (int i = 0; i < n; i++) {
        zs_sdpa_choice c = {.forward = {.desc = NULL}};
        *(s->back ? &c.backward : &c.forward) = plans[i];
        if (s->back && search(&c.forward, 1, s, false, NULL) == 0)
            drop(&c);
        else
            out[have++] = c;
    }
    return have;
}

/* ---- what the disk remembers: "products", or the tags of the plans ---- */

static void key_text(char out[ZS_PLAN_TAG], const zs_sdpa *s)
{
    (void)snprintf(out, ZS_PLAN_TAG, "%s n%lld t%lld heads%lld d%lld head%lld part%lld",
                   s->back ? "gradient" : "attention", (long long)s->n, (long long)s->t,
                   (long long)s->heads, (long long)s->d, (long long)s->head, (long long)s->part);
}

static bool note(const zs_sdpa_choice *c, const char *key)
{
    char tag[2 * ZS_DNN_TAG + 2];
    int n = snprintf(tag, sizeof tag, "%s%s%s", c->forward.desc ? c->forward.tag : "products",
                     c->backward.desc ? " " : "", c->backward.desc ? c->backward.tag : "");
    return n < ZS_PLAN_TAG && zs_plan_file_add(&file, key, tag);
}

/* True: *out is what it says. */
static bool recall(zs_sdpa_choice *out, const zs_sdpa *s, const char *key)
{
    char tag[ZS_PLAN_TAG];
    if (!zs_plan_file_get(tag, &file, key))
        return false;
    if (strcmp(tag, "products") == 0)
        return true;
    char *second = strchr(tag, ' ');
    if (second)
        *second++ = '\0';
    if ((second != NULL) != (s->back != 0) || search(&out->forward, 1, s, false, tag) == 0)
        return false;
    if (!second || search(&out->backward, 1, s, true, second) == 1)
        return true;
    drop(out);
    return false;
}

/* ---- timing, and comparing: a graph that was drawn wrongly, or a kernel that is wrong, must not
 * show in results ---- */

typedef struct trial {
    const zs_sdpa *s;
    const zs_sdpa_choice *list; /* candidate k + 1; 0 is the products */
    void (*products)(const zs_call *c);
    zs_call call;
    void *qkv, *dy, *ws, *out[2]; /* of products, of a plan */
    cudnnStatus_t status;
} trial;

static cudaError_t try_it(void *ctx, int candidate)
{
    trial *t = ctx;
    const zs_sdpa_choice *c = &t->list[candidate > 0 ? candidate - 1 : 0];
    cudnnStatus_t s = CUDNN_STATUS_SUCCESS;
    if (candidate == 0)
        t->products(&t->call);
    else if (t->s->back)
        s = backward(t->s, c, t->out[1], t->qkv, t->dy, t->ws);
    else
        s = forward(t->s, c, t->out[1], t->qkv, t->ws, (unsigned char *)t->ws + row_bytes(t->s));
    return s == CUDNN_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown;
}

static bool close_enough(const uint16_t *a, const uint16_t *b, size_t n)
{
    double square = 0, off = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)zs_bf16_to_f32(a[i]), y = (double)zs_bf16_to_f32(b[i]);
        square += x * x;
        off += (x - y) * (x - y);
    }
    return off <= agreement * agreement * square; /* false of NaN */
}

/* What candidate k gives, in the program's memory. */
static bool fetch(uint16_t *to, trial *t, int k, size_t bytes)
{
    cudaStream_t queue = zs_cuda_get()->stream;
    return try_it(t, k) == cudaSuccess &&
           cudaMemcpyAsync(to, t->out[k > 0], bytes, cudaMemcpyDeviceToHost, queue) ==
               cudaSuccess &&
           cudaStreamSynchronize(queue) == cudaSuccess;
}

/* Whether candidate k gives what the products give, and the same bits when it is run again. */
static bool agrees(trial *t, int k)
{
    size_t n = (size_t)(t->s->n * t->s->t * t->s->heads * t->s->d) * (t->s->back ? 3 : 1);
    size_t bytes = n * sizeof(uint16_t);
    uint16_t *a = zs_alloc(n, 3 * sizeof *a), *b = a ? a + n : NULL, *again = a ? b + n : NULL;
    bool same = a && fetch(a, t, 0, bytes) && fetch(b, t, k, bytes) && fetch(again, t, k, bytes) &&
                memcmp(b, again, bytes) == 0 && close_enough(a, b, n);
    zs_free(a);
    return same;
}

/* The candidate to take, 0 being the products; -1: nothing can be timed. */
static int fastest(const zs_sdpa_choice *list, int n, const zs_sdpa *s, const zs_call *c,
                   void (*products)(const zs_call *c), size_t ws)
{
    zs_tune tune;
    size_t out = s->back ? qkv_bytes(s) : y_bytes(s);
    for (int i = 0; i < n; i++)
        ws = zs_sdpa_workspace(s, &list[i]) > ws ? zs_sdpa_workspace(s, &list[i]) : ws;
    if (!zs_tune_open(&tune, zs_tune_bytes(qkv_bytes(s)) + zs_tune_bytes(y_bytes(s)) +
                                 2 * zs_tune_bytes(out) + zs_tune_bytes(ws)))
        return -1;
    trial t = {.s = s, .list = list, .products = products, .call = *c};
    t.qkv = zs_tune_take(&tune, qkv_bytes(s));
    t.dy = zs_tune_take(&tune, y_bytes(s));
    t.out[0] = zs_tune_take(&tune, out);
    t.out[1] = zs_tune_take(&tune, out);
    t.ws = zs_tune_take(&tune, ws);
    t.call.in[0].p = t.qkv;
    t.call.in[1].p = s->back ? t.dy : NULL;
    t.call.out[0].p = t.out[0];
    t.call.ws = t.ws;
    t.call.queue = zs_cuda_get()->stream;
    int first = zs_tune_fastest(&tune, try_it, &t, n + 1);
    if (first > 0 && !agrees(&t, first)) {
        wrong++;
        first = 0;
    }
    zs_tune_close(&tune);
    return first;
}

/* ---- choosing ---- */

static bool suits(const zs_sdpa *s)
{
    return s->t > 1 && s->d % EIGHTS == 0 && s->d <= LARGEST_HEAD && !zs_cuda_plain() &&
           zs_cuda_get() && zs_cuda_enter(NULL) == ZS_OK;
}

static void choose(zs_sdpa_choice *out, const zs_sdpa *s, const zs_call *c,
                   void (*products)(const zs_call *c), size_t bytes)
{
    static const zs_sdpa_choice none;
    zs_sdpa_choice list[PLANS];
    char key[ZS_PLAN_TAG];
    if (!suits(s) || !products)
        return;
    met++;
    key_text(key, s);
    zs_plan_file_open(&file, "cudnn-attention", cudnnGetVersion(), zs_cuda_get()->name);
    if (recall(out, s, key))
        return;
    int n = gather(list, s), best = n > 0 ? fastest(list, n, s, c, products, bytes) : 0;
    /* a choice that nobody remembers would be another one the next time, with other bits */
    if (best > 0 && !note(&list[best - 1], key))
        best = -1;
    if (best == 0)
        (void)note(&none, key);
    for (int i = 0; i < n; i++)
        if (i + 1 == best)
            *out = list[i];
        else
            drop(&list[i]);
}

const zs_sdpa_choice *zs_sdpa_choose(const zs_sdpa *s, const zs_call *c,
                                     void (*products)(const zs_call *c), size_t bytes)
{
    bool fresh;
    (void)pthread_mutex_lock(&lock);
    zs_sdpa_choice *choice = zs_memo_get(&choices, s, &fresh);
    if (choice && fresh) {
        choose(choice, s, c, products, bytes);
        taken += choice->forward.desc != NULL;
    }
    (void)pthread_mutex_unlock(&lock);
    if (!choice) /* and not another answer, with another workspace, the next time */
        zs_cuda_refuse(ZS_E_NOMEM, "out of memory while attention was planned");
    return choice && choice->forward.desc ? choice : NULL;
}

void zs_sdpa_counts(int *all, int *used, int *disagreed)
{
    (void)pthread_mutex_lock(&lock);
    *all = met;
    *used = taken;
    *disagreed = wrong;
    (void)pthread_mutex_unlock(&lock);
}
