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

void zs_train_state_free(zs_train_state *s)
{
    float *const buffers[] = {s->b.param, s->b.grad, s->b.m, s->b.v, s->b.ema};
    size_t bytes = s->b.n * sizeof(float);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (buffers[i])
            s->backend->release(buffers[i], bytes ? bytes : 1);
    *s = (zs_train_state){0};
}
