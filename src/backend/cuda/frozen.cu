/* SPDX-License-Identifier: MIT */
/* What only frozen networks have: batch norm with running statistics, pooling. Bytes moved: each
 * tensor once, of overlapping windows the rest from caches. */
#include "backend/cuda/launch.cuh"

template <class T, int V> struct batchnorm_each {
    T *y;
    const T *x;
    const float *mean, *var, *gamma, *beta; /* the last two may be NULL */
    int64_t ch;
    float eps;
    bool relu;

    __device__ void operator()(int64_t row, int64_t col) const
    {
        float r[V];
        load(r, x + row * ch + col);
        for (int j = 0; j < V; j++) {
            float slope = 1.0f / sqrtf(var[col + j] + eps) * (gamma ? gamma[col + j] : 1.0f);
            r[j] = (r[j] - mean[col + j]) * slope + (beta ? beta[col + j] : 0.0f);
            r[j] = relu && r[j] < 0.0f ? 0.0f : r[j]; /* NaN stays */
        }
        store(y + row * ch + col, r);
    }
};

template <class T, int V> static void batchnorm(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    int64_t ch = zs_shape_last(&x->s);
    batchnorm_each<T, V> each = {at<T>(&c->out[0]),
                                 at<T>(x),
                                 c->in[1].p,
                                 c->in[2].p,
                                 c->in[3].p,
                                 c->in[4].p,
                                 ch,
                                 c->a->eps,
                                 c->a->act == ZS_ACT_RELU};
    rows<V>("batchnorm", c->queue, zs_shape_rows(&x->s), ch, each);
}

static void run_batchnorm(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    ZS_INSTANCE(x->type, wide(zs_shape_last(&x->s), x->p, c->out[0].p), batchnorm, c);
}

/* ---- pooling ---- */

template <class T, int V> struct pool_each {
    T *y;
    const T *x;
    int64_t h, w, ch, yh, yw; /* of x, of y */
    int k, stride, pad;
    bool most; /* the largest of a window, else the mean */

    /* The pixels [*from, *to) along one axis that window i sees. */
    __device__ void window(int64_t *from, int64_t *to, int64_t i, int64_t size) const
    {
        i = i * stride - pad;
        *from = i < 0 ? 0 : i;
        *to = i + k < size ? i + k : size;
    }

    __device__ void add(float (&sum)[V], const T *p) const
    {
        float r[V];
        load(r, p);
        for (int j = 0; j < V; j++)
            if (!most)
                sum[j] += r[j];
            else if (r[j] > sum[j] || isnan(r[j])) /* NaN stays, unless another follows */
                sum[j] = r[j];
    }

    __device__ void operator()(int64_t p, int64_t col) const
    {
        int64_t line = quotient(p, yw), n = quotient(line, yh), y0, y1, x0, x1;
        float sum[V];
        window(&y0, &y1, line - n * yh, h);
        window(&x0, &x1, p - line * yw, w);
        for (int j = 0; j < V; j++)
            sum[j] = most ? -INFINITY : 0.0f;
        for (int64_t iy = y0; iy < y1; iy++)
            for (int64_t ix = x0; ix < x1; ix++)
                add(sum, x + ((n * h + iy) * w + ix) * ch + col);
        float count = static_cast<float>((y1 - y0) * (x1 - x0));
        for (int j = 0; j < V && !most; j++)
            sum[j] /= count;
        store(y + p * ch + col, sum);
    }
};

template <class T, int V> static void pool(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d, *o = c->out[0].s.d;
    pool_each<T, V> each = {at<T>(&c->out[0]),
                            at<T>(&c->in[0]),
                            d[1],
                            d[2],
                            d[3],
                            o[1],
                            o[2],
                            c->a->k,
                            c->a->stride,
                            c->a->pad,
                            c->a->kind == ZS_POOL_MAX};
    rows<V>("pool", c->queue, o[0] * o[1] * o[2], o[3], each);
}

static void run_pool(const zs_call *c)
{
    ZS_INSTANCE(c->in[0].type, wide(c->in[0].s.d[3], c->in[0].p, c->out[0].p), pool, c);
}

extern "C" {
const zs_kernel zs_cuda_batchnorm = {run_batchnorm, NULL};
const zs_kernel zs_cuda_pool = {run_pool, NULL};
}
