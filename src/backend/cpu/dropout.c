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

void zs_dropout_range(float *y, const float *x, const zs_call *c, int64_t at, int64_t n)
{
    float f = 1.0f / (1.0f - c->a->p);
    int64_t e = zs_dropout_first(c) + at, end = e + n;
    while (e < end) {
        int64_t left = stream_elements - e % stream_elements;
        int64_t take = e % 4 ? 1 : end - e < left ? end - e : left;
        if (e % 4) { /* one by one up to the next block */
            float u;
            zs_dropout_uniform(&u, c, e, 1);
            *y = u >= c->a->p ? *x * f : 0.0f;
        } else {
            uint32_t ctr[4], key[2];
            zs_rng r = stream_of(c, e / stream_elements);
            zs_rng_counter(&r, ctr, key);
            zs_elem_get()->dropout(y, x, take, c->a->p, f, (uint32_t)(e % stream_elements / 4), ctr,
                                   key);
        }
        e += take;
        y += take;
        x += take;
    }
}

static void dropout_chunk(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    zs_dropout_range(c->out[0].p + begin, c->in[0].p + begin, c, begin, end - begin);
}

static void dropout(const zs_call *c)
{
    zs_cpu_for(c, zs_shape_numel(&c->in[0].s), CHUNK, dropout_chunk);
}

const zs_kernel zs_fast_dropout = {dropout, NULL};
