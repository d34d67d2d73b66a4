/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/fast.h"

enum { CHUNK = 1 << 13 };

static const int64_t stream_elements = (int64_t)1 << 34; /* 2^32 blocks of four */

int64_t zs_dropout_first(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    return c->step->sample * (zs_shape_numel(s) / s->d[0]);
}

static zs_rng stream_of(const zs_call *c, int64_t high)
{
    return (zs_rng){.seed = c->step->seed,
                    .purpose = ZS_RNG_DROPOUT,
                    .index = (uint64_t)high << 32 | c->a->rng,
                    .step = c->step->step};
}

void zs_dropout_uniform(float *u, const zs_call *c, int64_t first, int64_t n)
{
    while (n > 0) {
        int64_t stream = first / stream_elements, at = first % stream_elements;
        int64_t take = stream_elements - at < n ? stream_elements - at : n;
        zs_rng r = stream_of(c, stream);
        zs_rng_uniform(u, (size_t)take, &r, (size_t)at);
        u += take;
        first += take;
        n -= take;
    }
}

/* y = x/(1-p) or 0 for elements [begin, end) of x; `first` is the number of element 0 of x in the
 * step batch. Elements before the next block boundary are done one by one. */
static void dropout_range(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    float f = 1.0f / (1.0f - c->a->p);
    int64_t first = zs_dropout_first(c);
    (void)thread;
    for (int64_t i = begin; i < end;) {
        int64_t e = first + i, left = stream_elements - e % stream_elements;
        int64_t n = end - i < left ? end - i : left;
        if (e % 4 != 0) {
            float u;
            zs_dropout_uniform(&u, c, e, 1);
            c->out[0].p[i] = u >= c->a->p ? c->in[0].p[i] * f : 0.0f;
            i++;
            continue;
        }
        uint32_t ctr[4], key[2];
        zs_rng r = stream_of(c, e / stream_elements);
        zs_rng_counter(&r, ctr, key);
        zs_elem_get()->dropout(c->out[0].p + i, c->in[0].p + i, n, c->a->p, f,
                               (uint32_t)(e % stream_elements / 4), ctr, key);
        i += n;
    }
}

static void dropout(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_numel(&c->in[0].s), CHUNK, dropout_range);
}

const zs_kernel zs_fast_dropout = {dropout, NULL};
