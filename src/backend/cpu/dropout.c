/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

static const int64_t stream_elements = (int64_t)1 << 34; /* 2^32 blocks of four */

int64_t zs_dropout_first(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    return c->step->sample * (zs_shape_numel(s) / s->d[0]);
}

void zs_dropout_uniform(float *u, const zs_call *c, int64_t first, int64_t n)
{
    while (n > 0) {
        int64_t stream = first / stream_elements, at = first % stream_elements;
        int64_t take = stream_elements - at < n ? stream_elements - at : n;
        zs_rng r = {.seed = c->step->seed,
                    .purpose = ZS_RNG_DROPOUT,
                    .index = (uint64_t)stream << 32 | c->a->rng,
                    .step = c->step->step};
        zs_rng_uniform(u, (size_t)take, &r, (size_t)at);
        u += take;
        first += take;
        n -= take;
    }
}
