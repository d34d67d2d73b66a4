/* SPDX-License-Identifier: MIT */
/* The randomness of base/rng.h on the device, bit for bit. */
#ifndef ZS_BACKEND_CUDA_RNG_CUH
#define ZS_BACKEND_CUDA_RNG_CUH

#include "backend/cuda/launch.cuh"

/* What zs_rng_counter makes of a stream; word 0 of the counter is the block. */
typedef struct stream_words {
    uint32_t c1, c2, c3, k0, k1;
} stream_words;

static __host__ __device__ __forceinline__ stream_words words_of(uint64_t seed, uint32_t purpose,
                                                                 uint64_t index, uint64_t step)
{
    stream_words s;
    s.c1 = static_cast<uint32_t>(index);
    s.c2 = static_cast<uint32_t>(step);
    s.c3 = (purpose & 0xFFFu) | (static_cast<uint32_t>(index >> 32) & 0x3FFu) << 12 |
           (static_cast<uint32_t>(step >> 32) & 0x3FFu) << 22;
    s.k0 = static_cast<uint32_t>(seed);
    s.k1 = static_cast<uint32_t>(seed >> 32);
    return s;
}

/* One Philox4x32-10 block. */
static __device__ __forceinline__ void philox(uint32_t (&w)[4], const stream_words &s,
                                              uint32_t block)
{
    uint32_t c0 = block, c1 = s.c1, c2 = s.c2, c3 = s.c3, k0 = s.k0, k1 = s.k1;
    for (int i = 0; i < 10; i++) {
        uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0, w[1] = c1, w[2] = c2, w[3] = c3;
}

/* In [0,1) with 24 bits: exact, so no rounding can differ. */
static __device__ __forceinline__ float uniform_of(uint32_t w)
{
    return static_cast<float>(w >> 8) * 0x1p-24f;
}

/* ---- dropout ---- */

/* The stream of a node with attribute rng at what *step says; p 0: no dropout. */
typedef struct dropping {
    const zs_step *step; /* device memory */
    int64_t each;        /* elements of a sample */
    float p, keep;       /* 1/(1-p), rounded as the processor does */
    uint32_t rng;
} dropping;

static inline dropping dropping_of(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    dropping d = {c->step, zs_shape_numel(s) / s->d[0], c->a->p, 1.0f / (1.0f - c->a->p),
                  c->a->rng};
    return d;
}

/* The numbers that decide about elements e .. e+3 of the step batch, e a multiple of four. A stream
 * holds 2^34 elements; the bits above are in its index from bit 32 on. */
static __device__ __forceinline__ void drop_words(uint32_t (&w)[4], const dropping &d, int64_t e)
{
    uint64_t index = (static_cast<uint64_t>(e) >> 34) << 32 | d.rng;
    philox(w, words_of(d.step->seed, ZS_RNG_DROPOUT, index, d.step->step),
           static_cast<uint32_t>(e >> 2));
}

static __device__ __forceinline__ float kept(float v, uint32_t w, const dropping &d)
{
    return uniform_of(w) >= d.p ? __fmul_rn(v, d.keep) : 0.0f;
}

/* r[j] times mask/(1-p) for elements at+j, counted from the first sample of this call. With wide
 * accesses `each` is a multiple of 8, so that they begin with a block. */
template <int V>
static __device__ __forceinline__ void drop(float (&r)[V], const dropping &d, int64_t at)
{
    int64_t e = d.step->sample * d.each + at;
    uint32_t w[4];
    if constexpr (V == 1) {
        int k = static_cast<int>(e & 3);
        drop_words(w, d, e - k);
        r[0] = kept(r[0], k == 0 ? w[0] : k == 1 ? w[1] : k == 2 ? w[2] : w[3], d);
    } else {
#pragma unroll
        for (int j = 0; j < V; j += 4) {
            drop_words(w, d, e + j);
#pragma unroll
            for (int k = 0; k < 4; k++)
                r[j + k] = kept(r[j + k], w[k], d);
        }
    }
}

#endif
