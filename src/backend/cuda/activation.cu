/* SPDX-License-Identifier: MIT */
/* Element-wise operations. Bytes moved: each tensor once. */
#include "backend/cuda/elem.cuh"
#include "backend/cuda/launch.cuh"

/* y[i] = Op::at<T>(x[i]) */
template <class T, int V, class Op> struct map1 {
    T *y;
    const T *x;

    __device__ void operator()(int64_t i) const
    {
        float r[V];
        load(r, x + i);
        for (int j = 0; j < V; j++)
            r[j] = Op::template at<T>(r[j]);
        store(y + i, r);
    }
};

/* y[i] = Op::at<T>(a[i], b[i]) */
template <class T, int V, class Op> struct map2 {
    T *y;
    const T *a, *b;

    __device__ void operator()(int64_t i) const
    {
        float r[V], s[V];
        load(r, a + i);
        load(s, b + i);
        for (int j = 0; j < V; j++)
            r[j] = Op::template at<T>(r[j], s[j]);
        store(y + i, r);
    }
};

template <class Op> struct map1_launch {
    template <class T, int V>
    static void run(const char *what, void *queue, int64_t n, const zs_view *y, const zs_view *x)
    {
        flat<V>(what, queue, n, map1<T, V, Op>{at<T>(y), at<T>(x)});
    }
};

template <class Op> struct map2_launch {
    template <class T, int V>
    static void run(const char *what, void *queue, int64_t n, const zs_view *y, const zs_view *a,
                    const zs_view *b)
    {
        flat<V>(what, queue, n, map2<T, V, Op>{at<T>(y), at<T>(a), at<T>(b)});
    }
};

template <class Op> static void unary(const char *what, const zs_call *c)
{
    const zs_view *x = &c->in[0], *y = &c->out[0];
    int64_t n = zs_shape_numel(&x->s);
    ZS_INSTANCE(x->type, wide(n, x->p, y->p), map1_launch<Op>::template run, what, c->queue, n, y,
                x);
}

template <class Op>
static void binary(const char *what, const zs_call *c, const zs_view *y, const zs_view *a,
                   const zs_view *b)
{
    int64_t n = zs_shape_numel(&a->s);
    ZS_INSTANCE(a->type, wide(n, a->p, b->p, y->p), map2_launch<Op>::template run, what, c->queue,
                n, y, a, b);
}

struct silu_op {
    template <class T> static __device__ float at(float x)
    {
        return silu<T>(x);
    }
};

struct silu_bwd_op {
    template <class T> static __device__ float at(float x, float dy)
    {
        return dy * silu_slope<T>(x);
    }
};

/* Phi(x); erfcf keeps the lower tail, where erff would have cancelled to nothing. */
static __device__ float normal_cdf(float x)
{
    return 0.5f * erfcf(-0.70710678118654752f * x);
}

struct gelu_op {
    template <class T> static __device__ float at(float x)
    {
        return x * normal_cdf(x);
    }
};

struct gelu_bwd_op {
    template <class T> static __device__ float at(float x, float dy)
    {
        return dy * (normal_cdf(x) + x * expf(-0.5f * x * x) * 0.39894228040143267794f);
    }
};

/* 1/(1 + exp(-2u)), by which the approximation with a tanh replaces Phi; *rest is 1 minus it,
 * *slope the derivative of 2u. */
static __device__ float tanh_cdf(float *rest, float *slope, float x)
{
    float v = 1.5957691216057308f * x * (1.0f + 0.044715f * x * x);
    *rest = 1.0f / (1.0f + expf(v));
    *slope = 1.5957691216057308f * (1.0f + 0.134145f * x * x);
    return 1.0f / (1.0f + expf(-v));
}

struct gelu_tanh_op {
    template <class T> static __device__ float at(float x)
    {
        float rest, slope;
        return x * tanh_cdf(&rest, &slope, x);
    }
};

struct gelu_tanh_bwd_op {
    template <class T> static __device__ float at(float x, float dy)
    {
        float rest, slope, s = tanh_cdf(&rest, &slope, x);
        return dy * (s + x * s * rest * slope);
    }
};

struct add_op {
    template <class T> static __device__ float at(float a, float b)
    {
        return a + b;
    }
};

struct scale1p_op {
    template <class T> static __device__ float at(float x, float s)
    {
        return x * (1.0f + s);
    }
};

struct mul_op {
    template <class T> static __device__ float at(float a, float b)
    {
        return a * b;
    }
};

static void run_silu(const zs_call *c)
{
    unary<silu_op>("silu", c);
}

static void run_silu_bwd(const zs_call *c)
{
    binary<silu_bwd_op>("silu_bwd", c, &c->out[0], &c->in[0], &c->in[1]);
}

static void run_gelu(const zs_call *c)
{
    if (c->a->kind == ZS_GELU_TANH)
        unary<gelu_tanh_op>("gelu", c);
    else
        unary<gelu_op>("gelu", c);
}

static void run_gelu_bwd(const zs_call *c)
{
    if (c->a->kind == ZS_GELU_TANH)
        binary<gelu_tanh_bwd_op>("gelu_bwd", c, &c->out[0], &c->in[0], &c->in[1]);
    else
        binary<gelu_bwd_op>("gelu_bwd", c, &c->out[0], &c->in[0], &c->in[1]);
}

static void run_add(const zs_call *c)
{
    binary<add_op>("add", c, &c->out[0], &c->in[0], &c->in[1]);
}

static void run_scale1p(const zs_call *c)
{
    binary<scale1p_op>("scale1p", c, &c->out[0], &c->in[0], &c->in[1]);
}

static void run_scale1p_bwd(const zs_call *c)
{
    const zs_view *x = &c->in[0], *s = &c->in[1], *dy = &c->in[2];
    if (c->out[0].p)
        binary<scale1p_op>("scale1p_bwd", c, &c->out[0], dy, s);
    if (c->out[1].p)
        binary<mul_op>("scale1p_bwd", c, &c->out[1], dy, x);
}

extern "C" {
const zs_kernel zs_cuda_silu = {run_silu, NULL};
const zs_kernel zs_cuda_silu_bwd = {run_silu_bwd, NULL};
const zs_kernel zs_cuda_gelu = {run_gelu, NULL};
const zs_kernel zs_cuda_gelu_bwd = {run_gelu_bwd, NULL};
const zs_kernel zs_cuda_add = {run_add, NULL};
const zs_kernel zs_cuda_scale1p = {run_scale1p, NULL};
const zs_kernel zs_cuda_scale1p_bwd = {run_scale1p_bwd, NULL};
}
