/* SPDX-License-Identifier: MIT */
#include "train/state.h"

#include <string.h>

static size_t shadow_bytes(const zs_train_state *s)
{
    return (s->b.n ? s->b.n : 1) * sizeof *s->shadow;
}

int zs_train_state_new(zs_train_state *s, const zs_params *layout, const zs_backend *backend,
                       zs_error *err)
{
    size_t n = (size_t)zs_params_numel(layout), bytes = n * sizeof(float);
    *s = (zs_train_state){.layout = layout, .backend = backend, .b = {.n = n}};
    float **const buffers[] = {&s->b.param, &s->b.grad, &s->b.m, &s->b.v, &s->b.ema};
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof buffers / sizeof *buffers; i++) {
        *buffers[i] = backend->alloc(bytes ? bytes : 1);
        ok = *buffers[i] != NULL;
    }
    if (ok && backend->bf16)
        ok = (s->shadow = backend->alloc(shadow_bytes(s))) != NULL;
    if (ok && backend->remote)
        ok = (s->norm = backend->alloc(sizeof *s->norm)) != NULL;
    if (ok)
        return ZS_OK;
    zs_train_state_free(s);
    return zs_fail(err, ZS_E_NOMEM,
                   "out of memory%s%s: weights, gradients, moments and moving average take "
                   "5 x %.1f MiB; train a smaller model (--set model_channels=...)",
                   backend->remote ? " on " : "", backend->remote ? backend->name : "",
                   (double)bytes / 1048576.0);
}

/* ---- the program's view ---- */

int zs_train_state_look(float **out, const zs_train_state *s, float *buffer, zs_error *err)
{
    const zs_remote *r = s->backend->remote;
    size_t bytes = s->b.n * sizeof *buffer;
    *out = r ? zs_alloc(s->b.n, sizeof *buffer) : buffer;
    if (!*out)
        return zs_fail_nomem(err, bytes, "a copy of what is trained");
    return r ? r->download(*out, buffer, bytes, err) : ZS_OK;
}

void zs_train_state_leave(const zs_train_state *s, float **out)
{
    if (s->backend->remote)
        zs_free(*out);
    *out = NULL;
}

int zs_train_state_put(const zs_train_state *s, float *buffer, const float *from, zs_error *err)
{
    const zs_remote *r = s->backend->remote;
    size_t bytes = s->b.n * sizeof *buffer;
    int status = ZS_OK;
    if (r)
        status = r->upload(buffer, from, bytes, err);
    else if (buffer != from)
        memcpy(buffer, from, bytes);
    if (status == ZS_OK && s->shadow && buffer == s->b.param)
        status = r->to_bf16(s->shadow, buffer, (int64_t)s->b.n, err);
    return status == ZS_OK && r ? r->sync(err) : status; /* `from` may go away */
}

zs_buffers zs_train_state_buffers(const zs_train_state *s)
{
    return (zs_buffers){.params = s->b.param, .grads = s->b.grad, .shadow = s->shadow};
}

int zs_train_state_init(zs_train_state *s, uint64_t seed, zs_error *err)
{
    float *w = NULL;
    int status = zs_train_state_look(&w, s, s->b.param, err);
    if (status == ZS_OK) {
        zs_params_init(s->layout, w, seed);
        status = zs_train_state_put(s, s->b.param, w, err);
    }
    if (status == ZS_OK)
        status = zs_train_state_put(s, s->b.ema, w, err);
    zs_train_state_leave(s, &w);
    return status;
}

/* ---- norms ---- */

int zs_train_state_norm_begin(const zs_train_state *s, const float *buffer, zs_error *err)
{
    const zs_remote *r = s->backend->remote;
    return r ? r->norm(s->norm, buffer, (int64_t)s->b.n, err) : ZS_OK;
}

int zs_train_state_norm_end(double *out, const zs_train_state *s, const float *buffer,
                            zs_error *err)
{
    const zs_remote *r = s->backend->remote;
    if (r)
        return r->download(out, s->norm, sizeof *out, err);
    *out = zs_grad_norm(buffer, s->b.n);
    return ZS_OK;
}

/* ---- steps ---- */

/* How a parameter is treated; runs of equal ones make one step together. */
typedef enum treatment { TRAINED, PLAIN, FROZEN } treatment;

static treatment treatment_of(const zs_param *p)
{
    return !p->trainable ? FROZEN : p->plain ? PLAIN : TRAINED;
}

/* A failure is kept by the backend, and reported by the next call that asks. */
static void step_remote(const zs_train_state *s, const zs_optim_config *c,
                        const zs_optim_buffers *b, int64_t begin)
{
    zs_error later = {0};
    zs_adam a = zs_optim_numbers(c, s->step);
    a.param = b->param;
    a.grad = b->grad;
    a.m = b->m;
    a.v = b->v;
    a.ema = b->ema;
    a.shadow = s->shadow ? s->shadow + begin : NULL;
    a.n = (int64_t)b->n;
    a.norm = s->norm;
    (void)s->backend->remote->adam(&a, &later);
}

static void step_range(zs_train_state *s, const zs_optim_config *c, int64_t begin, int64_t end,
                       treatment how, double grad_norm)
{
    zs_optim_config mine = *c;
    zs_optim_buffers b = s->b;
    float **const at[] = {&b.param, &b.grad, &b.m, &b.v, &b.ema};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        *at[i] += begin;
    b.n = (size_t)(end - begin);
    if (how == PLAIN) {
        mine.ema = 0.0;
        mine.ema_first = false;
    }
    if (how == FROZEN || b.n == 0)
        return;
    if (s->backend->remote)
        step_remote(s, &mine, &b, begin);
    else
        zs_optim_step(&mine, &b, s->step, grad_norm);
}

void zs_train_state_step(zs_train_state *s, const zs_optim_config *c, double grad_norm)
{
    int64_t begin = 0;
    treatment how = TRAINED;
    for (size_t i = 0; i < zs_params_count(s->layout); i++) {
        const zs_param *p = zs_params_at(s->layout, i);
        if (p->alias >= 0 || treatment_of(p) == how)
            continue;
        step_range(s, c, begin, p->offset, how, grad_norm);
        begin = p->offset;
        how = treatment_of(p);
    }
    step_range(s, c, begin, zs_params_numel(s->layout), how, grad_norm);
}

void zs_train_state_free(zs_train_state *s)
{
    float *const buffers[] = {s->b.param, s->b.grad, s->b.m, s->b.v, s->b.ema};
    size_t bytes = s->b.n * sizeof(float);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (buffers[i])
            s->backend->release(buffers[i], bytes ? bytes : 1);
    if (s->shadow)
        s->backend->release(s->shadow, shadow_bytes(s));
    if (s->norm)
        s->backend->release(s->norm, sizeof *s->norm);
    *s = (zs_train_state){0};
}
