/* SPDX-License-Identifier: MIT */
#include "train/state.h"

#include <string.h>

int zs_train_state_new(zs_train_state *s, const zs_params *layout, const zs_backend *backend,
                       zs_error *err)
{
    size_t n = (size_t)zs_params_numel(layout), bytes = n * sizeof(float);
    *s = (zs_train_state){.layout = layout, .backend = backend, .b = {.n = n}};
    float **const buffers[] = {&s->b.param, &s->b.grad, &s->b.m, &s->b.v, &s->b.ema};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        *buffers[i] = backend->alloc(bytes ? bytes : 1);
        if (!*buffers[i]) {
            zs_train_state_free(s);
            return zs_fail(err, ZS_E_NOMEM,
                           "out of memory: weights, gradients, moments and moving average take "
                           "5 x %.1f MiB; train a smaller model (--set model_channels=...)",
                           (double)bytes / 1048576.0);
        }
    }
    return ZS_OK;
}

void zs_train_state_init(zs_train_state *s, uint64_t seed)
{
    zs_params_init(s->layout, s->b.param, seed);
    memcpy(s->b.ema, s->b.param, s->b.n * sizeof(float));
}

/* How a parameter is treated; runs of equal ones make one step together. */
typedef enum treatment { TRAINED, PLAIN, FROZEN } treatment;

static treatment treatment_of(const zs_param *p)
{
    return !p->trainable ? FROZEN : p->plain ? PLAIN : TRAINED;
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
    if (how != FROZEN && b.n > 0)
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
    *s = (zs_train_state){0};
}
