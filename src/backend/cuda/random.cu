/* SPDX-License-Identifier: MIT */
/* Normals, uniforms and dropout. Normals take the steps of base/rng.c one by one, each rounded as
 * there: no multiply and add may be joined, so they are spelled out. */
#include "backend/cuda/rng.cuh"

static __device__ __forceinline__ float mul(float a, float b)
{
    return __fmul_rn(a, b);
}

static __device__ __forceinline__ float sum(float a, float b)
{
    return __fadd_rn(a, b);
}

/* a*b + c in two roundings */
static __device__ __forceinline__ float step(float a, float b, float c)
{
    return sum(mul(a, b), c);
}

static __device__ float log_unit(float u)
{
    uint32_t b = __float_as_uint(u);
    int e = static_cast<int>(b >> 23) - 126;
    float x = __uint_as_float((b & 0x007FFFFFu) | 0x3F000000u);
    if (x < 0.707106781f) {
        e--;
        x = sum(x, x);
    }
    x = __fsub_rn(x, 1.0f);
    float z = mul(x, x), y = 7.0376836292e-2f;
    y = step(y, x, -1.1514610310e-1f);
    y = step(y, x, 1.1676998740e-1f);
    y = step(y, x, -1.2420140846e-1f);
    y = step(y, x, 1.4249322787e-1f);
    y = step(y, x, -1.6668057665e-1f);
    y = step(y, x, 2.0000714765e-1f);
    y = step(y, x, -2.4999993993e-1f);
    y = step(y, x, 3.3333331174e-1f);
    y = mul(mul(y, x), z);
    y = sum(y, mul(static_cast<float>(e), -2.12194440e-4f));
    y = __fsub_rn(y, mul(0.5f, z));
    return sum(sum(x, y), mul(static_cast<float>(e), 0.693359375f));
}

static __device__ void sincos_turn(float v, float *s, float *c)
{
    int q = static_cast<int>(sum(mul(4.0f, v), 0.5f));
    float x = mul(__fsub_rn(v, mul(0.25f, static_cast<float>(q))), 6.28318530717958648f);
    float z = mul(x, x);
    float sn = step(step(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f);
    sn = sum(mul(mul(sn, z), x), x);
    float cs =
        step(step(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
    cs = sum(__fsub_rn(mul(mul(cs, z), z), mul(0.5f, z)), 1.0f);
    switch (q & 3) {
    case 0: *s = sn, *c = cs; break;
    case 1: *s = cs, *c = -sn; break;
    case 2: *s = -sn, *c = -cs; break;
    default: *s = -cs, *c = sn; break;
    }
}

static __device__ void normal_block(const uint32_t (&w)[4], float (&z)[4])
{
    for (int i = 0; i < 4; i += 2) {
        float u = mul(static_cast<float>((w[i] >> 8) + 1u), 0x1p-24f); /* (0,1] */
        float r = __fsqrt_rn(mul(-2.0f, log_unit(u))), s, c;
        sincos_turn(uniform_of(w[i + 1]), &s, &c);
        z[i] = mul(r, c);
        z[i + 1] = mul(r, s);
    }
}

/* A thread per block of four: elements first .. first+n-1 of the stream go to out. */
template <bool NORMAL>
static __global__ void random_kernel(float *out, int64_t n, stream_words s, int64_t first)
{
    int64_t block = first / 4 + static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (block * 4 >= first + n)
        return;
    uint32_t w[4];
    float v[4];
    philox(w, s, static_cast<uint32_t>(block));
    if (NORMAL)
        normal_block(w, v);
    else
        for (int j = 0; j < 4; j++)
            v[j] = uniform_of(w[j]);
    for (int j = 0; j < 4; j++) {
        int64_t i = block * 4 + j - first;
        if (i >= 0 && i < n)
            out[i] = v[j];
    }
}

static unsigned random_blocks(int64_t n, int64_t first)
{
    return blocks_of((first + n + 3) / 4 - first / 4, THREADS);
}

void zs_launch_normal(float *out, int64_t n, const zs_rng *r, int64_t first, void *queue)
{
    if (n > 0)
        ZS_LAUNCH("normals", random_kernel<true>, random_blocks(n, first), THREADS, 0, queue, out,
                  n, words_of(r->seed, r->purpose, r->index, r->step), first);
}

void zs_launch_uniform(float *out, int64_t n, const zs_rng *r, int64_t first, void *queue)
{
    if (n > 0)
        ZS_LAUNCH("uniforms", random_kernel<false>, random_blocks(n, first), THREADS, 0, queue, out,
                  n, words_of(r->seed, r->purpose, r->index, r->step), first);
}

/* ---- dropout: x once, y once ---- */

template <class T, int V> struct dropout_each {
    T *y;
    const T *x;
    dropping d;

    __device__ void operator()(int64_t i) const
    {
        float r[V];
        load(r, x + i);
        drop(r, d, i);
        store(y + i, r);
    }
};

template <class T, int V> static void dropout(const zs_call *c)
{
    flat<V>("dropout", c->queue, zs_shape_numel(&c->in[0].s),
            dropout_each<T, V>{at<T>(&c->out[0]), at<T>(&c->in[0]), dropping_of(c)});
}

static void run_dropout(const zs_call *c)
{
    int64_t each = zs_shape_numel(&c->in[0].s) / c->in[0].s.d[0];
    ZS_INSTANCE(c->in[0].type, wide(each, c->in[0].p, c->out[0].p), dropout, c);
}

extern "C" const zs_kernel zs_cuda_dropout = {run_dropout, NULL};
