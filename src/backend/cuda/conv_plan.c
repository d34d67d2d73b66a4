/* SPDX-License-Identifier: MIT */
#include "backend/cuda/conv_plan.h"
#include "backend/cuda/blas.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/memo.h"
#include "backend/cuda/tune.h"

#include <pthread.h>
#include <string.h>

enum { EACH = 8, MOST = 2 * EACH };

/* Workspaces that are worth their memory; without a plan among those, any. */
static const size_t workspace_limits[] = {(size_t)256 << 20, (size_t)4 << 30};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static zs_memo choices = {.key_bytes = sizeof(zs_cuda_conv), .value_bytes = sizeof(zs_conv_choice)};
static zs_plan_file file;
static int met, planless;

void zs_plan_key(char out[ZS_PLAN_KEY], const zs_cuda_conv *c)
{
    static const char *const kinds[] = {"forward", "dx", "dw"};
    (void)snprintf(out, ZS_PLAN_KEY,
                   "%s %s%s n%lld x%lldx%lldx%lld y%lldx%lldx%lld k%lldx%lld s%lld p%lld,%lld,%lld,"
                   "%lld",
                   kinds[c->kind], c->type == ZS_BF16 ? "bf16" : "f32", c->bias ? " bias" : "",
                   (long long)c->n, (long long)c->h, (long long)c->w, (long long)c->c,
                   (long long)c->yh, (long long)c->yw, (long long)c->o, (long long)c->kh,
                   (long long)c->kw, (long long)c->stride, (long long)c->top, (long long)c->left,
                   (long long)c->bottom, (long long)c->right);
}

/* Plans of c with and without its bias. */
typedef struct offer {
    zs_conv_choice list[MOST];
    int n;
} offer;

/* Appends up to `max` plans of c, or that of a tag. */
static void add_plans(offer *o, int max, const zs_cuda_conv *c, size_t limit, const char *tag)
{
    zs_dnn_target here = {.handle = zs_cuda_get()->dnn};
    zs_dnn_plan plans[EACH];
    int n = zs_dnn_plans(plans, max, c, &here, limit, tag, NULL);
    /* the same device, told in the way that may come to be the only one */
    if (n == 0 && zs_dnn_target_of(&here, zs_cuda_get()->dnn, NULL) == ZS_OK) {
        n = zs_dnn_plans(plans, max, c, &here, limit, tag, NULL);
        zs_dnn_target_free(&here);
    }
    for (int i = 0; i < n; i++)
        o->list[o->n++] = (zs_conv_choice){plans[i], c->bias != 0};
}

static zs_cuda_conv without_bias(const zs_cuda_conv *c)
{
    zs_cuda_conv bare = *c;
    bare.bias = 0;
    return bare;
}

static void gather(offer *o, const zs_cuda_conv *c)
{
    zs_cuda_conv bare = without_bias(c);
    for (size_t i = 0; i < sizeof workspace_limits / sizeof workspace_limits[0] && o->n == 0; i++) {
        if (c->bias)
            add_plans(o, EACH, c, workspace_limits[i], NULL);
        add_plans(o, EACH, &bare, workspace_limits[i], NULL);
    }
}

static void keep(zs_conv_choice *out, offer *o, int which)
{
    *out = o->list[which];
    for (int i = 0; i < o->n; i++)
        if (i != which)
            zs_dnn_plan_free(&o->list[i].plan);
}

/* ---- what the disk remembers: "+" before the tag of a plan that adds the bias ---- */

static bool recall(zs_conv_choice *out, const zs_cuda_conv *c, const char *key)
{
    char tag[ZS_PLAN_TAG];
    zs_cuda_conv bare = without_bias(c);
    offer o = {.n = 0};
    if (!zs_plan_file_get(tag, &file, key))
        return false;
    bool fused = tag[0] == '+';
    if (!fused || c->bias)
        add_plans(&o, 1, fused ? c : &bare, workspace_limits[1], tag + (fused ? 1 : 0));
    if (o.n > 0)
        keep(out, &o, 0);
    return o.n > 0;
}

static bool note(const zs_conv_choice *c, const char *key)
{
    char tag[ZS_DNN_TAG + 1];
    (void)snprintf(tag, sizeof tag, "%s%s", c->fused ? "+" : "", c->plan.tag);
    return strlen(tag) < ZS_PLAN_TAG && zs_plan_file_add(&file, key, tag);
}

/* ---- timing ---- */

typedef struct trial {
    const zs_cuda_conv *c;
    const zs_conv_choice *list;
    void *x, *w, *y, *ws;
    float *b;
} trial;

/* With the pass over y that adds the bias where the plan does not. */
static cudaError_t try_it(void *ctx, int candidate)
{
    const trial *t = ctx;
    const zs_cuda_conv *c = t->c;
    const zs_conv_choice *choice = &t->list[candidate];
    if (zs_dnn_run(&choice->plan, zs_cuda_get()->dnn, t->x, t->w, t->y, choice->fused ? t->b : NULL,
                   t->ws) != CUDNN_STATUS_SUCCESS)
        return cudaErrorUnknown;
    if (c->bias && !choice->fused)
        zs_launch_bias_residual(t->y, t->y, t->b, NULL, (zs_dtype)c->type, c->n * c->yh * c->yw,
                                c->o, false, zs_cuda_get()->stream);
    return cudaSuccess;
}

/* Index of the fastest, or -1 when nothing can be timed. */
static int fastest(const offer *o, const zs_cuda_conv *c)
{
    size_t each = zs_dtype_size((zs_dtype)c->type), ws = 0;
    size_t x = (size_t)(c->n * c->h * c->w * c->c) * each;
    size_t w = (size_t)(c->o * c->kh * c->kw * c->c) * each;
    size_t y = (size_t)(c->n * c->yh * c->yw * c->o) * each, b = (size_t)c->o * sizeof(float);
    for (int i = 0; i < o->n; i++)
        ws = o->list[i].plan.workspace > ws ? o->list[i].plan.workspace : ws;
    zs_tune t;
    if (!zs_tune_open(&t, zs_tune_bytes(x) + zs_tune_bytes(w) + zs_tune_bytes(y) +
                              zs_tune_bytes(b) + zs_tune_bytes(ws)))
        return -1;
    trial it = {.c = c, .list = o->list};
    it.x = zs_tune_take(&t, x);
    it.w = zs_tune_take(&t, w);
    it.y = zs_tune_take(&t, y);
    it.b = zs_tune_take(&t, b);
    it.ws = zs_tune_take(&t, ws);
    int first = zs_tune_fastest(&t, try_it, &it, o->n);
    zs_tune_close(&t);
    return first;
}

/* ---- choosing ---- */

static void choose(zs_conv_choice *out, const zs_cuda_conv *c)
{
    char key[ZS_PLAN_KEY];
    offer o = {.n = 0};
    met++;
    if (zs_cuda_plain() || !zs_cuda_get() || zs_cuda_enter(NULL) < 0)
        return;
    zs_plan_key(key, c);
    zs_plan_file_open(&file, "cudnn", cudnnGetVersion(), zs_cuda_get()->name);
    if (recall(out, c, key))
        return;
    gather(&o, c);
    if (o.n == 0) {
        planless++;
        return;
    }
    int best = o.n > 1 ? fastest(&o, c) : 0;
    /* a choice that nobody remembers would be another one the next time, with other bits */
    keep(out, &o, best > 0 && note(&o.list[best], key) ? best : 0);
    if (best == 0)
        (void)note(out, key);
}

const zs_conv_choice *zs_conv_choose(const zs_cuda_conv *c)
{
    bool fresh;
    (void)pthread_mutex_lock(&lock);
    zs_conv_choice *choice = zs_memo_get(&choices, c, &fresh);
    if (choice && fresh)
        choose(choice, c);
    (void)pthread_mutex_unlock(&lock);
    if (!choice) /* and not another answer, with another workspace, the next time */
        zs_cuda_refuse(ZS_E_NOMEM, "out of memory while convolutions were planned");
    return choice;
}

void zs_conv_counts(int *all, int *without)
{
    (void)pthread_mutex_lock(&lock);
    *all = met;
    *without = planless;
    (void)pthread_mutex_unlock(&lock);
}
