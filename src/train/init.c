/* SPDX-License-Identifier: MIT */
#include "models/model.h"
#include "train/state.h"

#include <string.h>

static bool same_shape(const zs_param *a, const zs_param *b)
{
    return a->nd == b->nd && memcmp(a->shape, b->shape, (size_t)a->nd * sizeof a->shape[0]) == 0;
}

/* The weights of m at their places in w. */
static int take_all(float *w, const zs_params *layout, zs_model *m, const char *spec, zs_error *err)
{
    const zs_params *have = zs_model_params(m);
    for (size_t i = 0; i < zs_params_count(layout); i++) {
        const zs_param *want = zs_params_at(layout, i);
        long k = zs_params_find(have, want->name);
        const zs_param *p = k < 0 ? NULL : zs_params_at(have, (size_t)k);
        if (!p || !same_shape(p, want))
            return zs_fail(err, ZS_E_INVALID,
                           "%s: %s %s; train with the preset and --set values of that model", spec,
                           want->name, p ? "has another shape than in this run" : "is missing");
        memcpy(w + want->offset, zs_model_weights(m) + p->offset,
               (size_t)want->numel * sizeof(float));
    }
    return ZS_OK;
}

int zs_train_state_take(zs_train_state *s, const char *spec, zs_error *err)
{
    zs_model *m = NULL;
    float *w = NULL;
    int status = zs_model_open(&m, spec, NULL, err);
    if (status == ZS_OK)
        status = zs_train_state_look(&w, s, s->b.param, err);
    if (status == ZS_OK)
        status = take_all(w, s->layout, m, spec, err);
    if (status == ZS_OK)
        status = zs_train_state_put(s, s->b.param, w, err);
    if (status == ZS_OK)
        status = zs_train_state_put(s, s->b.ema, w, err);
    zs_train_state_leave(s, &w);
    zs_model_close(&m);
    return status;
}
