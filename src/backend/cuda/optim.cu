/* SPDX-License-Identifier: MIT */
/* On flat buffers: the optimiser, the norm of the gradient, casts, sums into gradients. */
#include "backend/cuda/launch.cuh"

/* ---- casts: x once, y once ---- */

template <class Y, class X, int V> struct cast_each {
    Y *y;
    const X *x;

    __device__ void operator()(int64_t i) const
    {
        float r[V];
        load(r, x + i);
        store(y + i, r);
    }
};

template <class Y, class X> static void cast(void *dst, const void *src, int64_t n, void *queue)
{
    Y *y = static_cast<Y *>(dst);
    const X *x = static_cast<const X *>(src);
    int64_t most = wide(0, dst, src) ? n / WIDE * WIDE : 0;
    flat<WIDE>("cast", queue, most, cast_each<Y, X, WIDE>{y, x});
    flat<1>("cast", queue, n - most, cast_each<Y, X, 1>{y + most, x + most});
}

void zs_launch_cast(void *dst, zs_dtype to, const void *src, zs_dtype from, int64_t n, void *queue)
{
    if (to == ZS_BF16)
        (from == ZS_BF16 ? cast<bf16, bf16> : cast<bf16, float>)(dst, src, n, queue);
    else
        (from == ZS_BF16 ? cast<float, bf16> : cast<float, float>)(dst, src, n, queue);
}

static void run_cast(const zs_call *c)
{
    zs_launch_cast(c->out[0].p, c->out[0].type, c->in[0].p, c->in[0].type,
                   zs_shape_numel(&c->in[0].s), c->queue);
}

struct fill_each {
    float *y, value;

    __device__ void operator()(int64_t i) const
    {
        y[i] = value;
    }
};

void zs_launch_fill(float *dst, float value, int64_t n, void *queue)
{
    flat<1>("fill", queue, n, fill_each{dst, value});
}

/* ---- g += x: g twice, x once ---- */

template <class T, int V> struct accumulate_each {
    float *g;
    const T *x;

    __device__ void operator()(int64_t i) const
    {
        float r[V], s[V];
        load(r, g + i);
        load(s, x + i);
        for (int j = 0; j < V; j++)
            r[j] += s[j];
        store(g + i, r);
    }
};

template <class T, int V> static void accumulate(float *g, const void *x, int64_t n, void *queue)
{
    flat<V>("accumulate", queue, n, accumulate_each<T, V>{g, static_cast<const T *>(x)});
}

void zs_launch_accumulate(float *g, const void *x, zs_dtype type, int64_t n, void *queue)
{
    ZS_INSTANCE(type, wide(n, g, x), accumulate, g, x, n, queue);
}

static void run_accumulate(const zs_call *c)
{
    zs_launch_accumulate(c->out[0].p, c->in[0].p, c->in[0].type, zs_shape_numel(&c->in[0].s),
                         c->queue);
}

/* ---- norm: g once ---- */

static const int64_t NORM_BLOCKS = ZS_NORM_BYTES / sizeof(double);

static __global__ void norm_kernel(double *__restrict__ partial, const float *__restrict__ g,
                                   int64_t n)
{
    ZS_SHARED(double, sh);
    double sum = 0;
    int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
#pragma unroll 4 /* loads under way at once; the order of the sum stays */
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += step)
        sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    sum = block_sum(sum, sh);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

static __global__ void norm_end_kernel(double *norm, const double *__restrict__ partial,
                                       int64_t count)
{
    ZS_SHARED(double, sh);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += THREADS)
        sum += partial[i];
    sum = block_sum(sum, sh);
    if (threadIdx.x == 0)
        *norm = sqrt(sum);
}

void zs_launch_norm(double *norm, const float *g, int64_t n, void *ws, void *queue)
{
    double *partial = static_cast<double *>(ws);
    int64_t blocks = (n + THREADS * 8 - 1) / (THREADS * 8); /* eight numbers a thread at least */
    size_t shared = THREADS / WARP * sizeof(double);
    blocks = blocks < 1 ? 1 : blocks > NORM_BLOCKS ? NORM_BLOCKS : blocks;
    ZS_LAUNCH_SYNC("norm", norm_kernel, static_cast<unsigned>(blocks), THREADS, shared, queue,
                   partial, g, n);
    ZS_LAUNCH_SYNC("norm", norm_end_kernel, 1, THREADS, shared, queue, norm, partial, blocks);
}

/* ---- Adam, moving average, bf16 copy and cleared gradient in one pass: per parameter 5 reads and
 * 5 writes of f32 and 2 bytes more, 42 bytes. Every step is rounded as in train/optim.c, so that
 * the results have its bits ---- */

struct adam_numbers {
    float l2, keep, beta1, one_beta1, beta2, one_beta2, lr, inv_bias2, eps, decay, one_decay;
    double max_norm;
    bool ema_first;
};

static __device__ __forceinline__ float average(float e, float p, const adam_numbers &k)
{
    return __fadd_rn(__fmul_rn(e, k.decay), __fmul_rn(p, k.one_decay));
}

/* w, m, v of one parameter with gradient g. */
static __device__ __forceinline__ void adam_one(float *w, float *m, float *v, float g, float clip,
                                                const adam_numbers &k)
{
    float d = __fadd_rn(__fmul_rn(g, clip), __fmul_rn(*w, k.l2));
    *m = __fadd_rn(__fmul_rn(*m, k.beta1), __fmul_rn(d, k.one_beta1));
    *v = __fadd_rn(__fmul_rn(*v, k.beta2), __fmul_rn(__fmul_rn(d, d), k.one_beta2));
    float denom = __fadd_rn(__fmul_rn(__fsqrt_rn(*v), k.inv_bias2), k.eps);
    *w = __fsub_rn(__fmul_rn(*w, k.keep), __fdiv_rn(__fmul_rn(k.lr, *m), denom));
}

/* Four at a time where everything is aligned to 16 bytes: five streams fill the registers. */
template <int V> struct adam_each {
    zs_adam a;
    adam_numbers k;

    static __device__ void get(float (&r)[V], const float *p)
    {
        if constexpr (V == 4) {
            float4 q = *reinterpret_cast<const float4 *>(p);
            r[0] = q.x, r[1] = q.y, r[2] = q.z, r[3] = q.w;
        } else {
            r[0] = *p;
        }
    }

    static __device__ void set(float *p, const float (&r)[V])
    {
        if constexpr (V == 4)
            *reinterpret_cast<float4 *>(p) = make_float4(r[0], r[1], r[2], r[3]);
        else
            *p = r[0];
    }

    /* torch.nn.utils.clip_grad_norm_; a norm of NaN clips nothing away, as on the processor */
    __device__ float clip(void) const
    {
        if (k.max_norm <= 0.0)
            return 1.0f;
        return static_cast<float>(fmin(1.0, k.max_norm / (*a.norm + 1e-6)));
    }

    __device__ void copy_half(int64_t i, const float (&w)[V]) const
    {
        bf16 *to = reinterpret_cast<bf16 *>(a.shadow + i);
        if constexpr (V == 4)
            *reinterpret_cast<uint2 *>(to) = make_uint2(join(w[0], w[1]), join(w[2], w[3]));
        else
            put(to, w[0]);
    }

    __device__ void operator()(int64_t i) const
    {
        float w[V], g[V], m[V], v[V], e[V], factor = clip();
        get(w, a.param + i);
        get(g, a.grad + i);
        get(m, a.m + i);
        get(v, a.v + i);
        if (a.ema)
            get(e, a.ema + i);
        for (int j = 0; j < V; j++) {
            if (a.ema && k.ema_first)
                e[j] = average(e[j], w[j], k);
            adam_one(&w[j], &m[j], &v[j], g[j], factor, k);
            if (a.ema && !k.ema_first)
                e[j] = average(e[j], w[j], k);
            g[j] = 0.0f;
        }
        set(a.param + i, w);
        set(a.grad + i, g);
        set(a.m + i, m);
        set(a.v + i, v);
        if (a.ema)
            set(a.ema + i, e);
        if (a.shadow)
            copy_half(i, w);
    }
};

static zs_adam moved(zs_adam a, int64_t by)
{
    a.param += by;
    a.grad += by;
    a.m += by;
    a.v += by;
    a.ema = a.ema ? a.ema + by : NULL;
    a.shadow = a.shadow ? a.shadow + by : NULL;
    return a;
}

void zs_launch_adam(const zs_adam *a, void *queue)
{
    adam_numbers k = {a->l2,
                      a->keep,
                      static_cast<float>(a->beta1),
                      static_cast<float>(1.0 - a->beta1),
                      static_cast<float>(a->beta2),
                      static_cast<float>(1.0 - a->beta2),
                      a->lr,
                      a->inv_bias2,
                      a->eps,
                      static_cast<float>(a->decay),
                      static_cast<float>(1.0 - a->decay),
                      a->max_norm,
                      a->ema_first};
    bool aligned = wide(0, a->param, a->grad, a->m, a->v, a->ema, a->shadow);
    int64_t most = aligned ? a->n / 4 * 4 : 0;
    flat<4>("the optimiser", queue, most, adam_each<4>{*a, k});
    flat<1>("the optimiser", queue, a->n - most, adam_each<1>{moved(*a, most), k});
}

extern "C" {
const zs_kernel zs_cuda_cast = {run_cast, NULL};
const zs_kernel zs_cuda_accumulate = {run_accumulate, NULL};
}
