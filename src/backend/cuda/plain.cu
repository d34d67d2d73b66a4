/* SPDX-License-Identifier: MIT */
/* Convolutions and matrix products as their definitions say: a thread per number. They run where a
 * library has no plan, and, with ZSEM_CUDA_PLAIN=1, everywhere, to tell whose fault a wrong number
 * is. */
#include "backend/cuda/conv_kernels.h"
#include "backend/cuda/launch.cuh"

template <class T> struct conv_forward {
    T *y;
    const T *x, *w, *r;
    const float *b;
    bool relu;
    zs_cuda_conv s;

    __device__ float at(int64_t n, int64_t oy, int64_t ox, int64_t o) const
    {
        float sum = 0;
        for (int64_t tap = 0; tap < s.kh * s.kw; tap++) {
            int64_t iy = oy * s.stride + tap / s.kw - s.top;
            int64_t ix = ox * s.stride + tap % s.kw - s.left;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w)
                continue;
            const T *xp = x + ((n * s.h + iy) * s.w + ix) * s.c, *wp = w + tap * s.c * s.o + o;
            for (int64_t c = 0; c < s.c; c++)
                sum += to_float(xp[c]) * to_float(wp[c * s.o]);
        }
        return sum;
    }

    __device__ void operator()(int64_t i) const
    {
        int64_t p = i / s.o, o = i % s.o;
        float v = at(p / (s.yh * s.yw), p / s.yw % s.yh, p % s.yw, o);
        v += b ? b[o] : 0.0f;
        v += r ? to_float(r[i]) : 0.0f;
        put(y + i, relu && v < 0.0f ? 0.0f : v); /* NaN stays */
    }
};

template <class T> struct conv_dx {
    T *dx;
    const T *dy, *w;
    zs_cuda_conv s;

    __device__ void operator()(int64_t i) const
    {
        int64_t p = i / s.c, c = i % s.c, n = p / (s.h * s.w);
        float sum = 0;
        for (int64_t tap = 0; tap < s.kh * s.kw; tap++) {
            int64_t ty = p / s.w % s.h + s.top - tap / s.kw, tx = p % s.w + s.left - tap % s.kw;
            int64_t oy = ty / s.stride, ox = tx / s.stride;
            if (ty < 0 || tx < 0 || ty % s.stride || tx % s.stride || oy >= s.yh || ox >= s.yw)
                continue;
            const T *yp = dy + ((n * s.yh + oy) * s.yw + ox) * s.o;
            const T *wp = w + (tap * s.c + c) * s.o;
            for (int64_t o = 0; o < s.o; o++)
                sum += to_float(yp[o]) * to_float(wp[o]);
        }
        put(dx + i, sum);
    }
};

/* In double: the sum runs over every pixel of the batch. */
template <class T> struct conv_dw {
    float *dw;
    const T *x, *dy;
    zs_cuda_conv s;

    __device__ void operator()(int64_t i) const
    {
        int64_t tap = i / (s.c * s.o), c = i / s.o % s.c, o = i % s.o;
        double sum = 0;
        for (int64_t p = 0; p < s.n * s.yh * s.yw; p++) {
            int64_t iy = p / s.yw % s.yh * s.stride + tap / s.kw - s.top;
            int64_t ix = p % s.yw * s.stride + tap % s.kw - s.left;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w)
                continue;
            int64_t at = ((p / (s.yh * s.yw) * s.h + iy) * s.w + ix) * s.c + c;
            sum += static_cast<double>(to_float(x[at])) *
                   static_cast<double>(to_float(dy[p * s.o + o]));
        }
        dw[i] += static_cast<float>(sum);
    }
};

template <class T>
static void forward(void *y, const void *x, const void *w, const float *b, const void *r, bool relu,
                    const zs_cuda_conv *s, void *queue)
{
    flat<1>("conv2d", queue, s->n * s->yh * s->yw * s->o,
            conv_forward<T>{static_cast<T *>(y), static_cast<const T *>(x),
                            static_cast<const T *>(w), static_cast<const T *>(r), b, relu, *s});
}

void zs_launch_conv(void *y, const void *x, const void *w, const float *b, const void *r, bool relu,
                    const zs_cuda_conv *s, void *queue)
{
    (s->type == ZS_BF16 ? forward<bf16> : forward<float>)(y, x, w, b, r, relu, s, queue);
}

template <class T>
static void input_gradient(void *dx, const void *dy, const void *w, const zs_cuda_conv *s,
                           void *queue)
{
    flat<1>("conv2d_dx", queue, s->n * s->h * s->w * s->c,
            conv_dx<T>{static_cast<T *>(dx), static_cast<const T *>(dy), static_cast<const T *>(w),
                       *s});
}

void zs_launch_conv_dx(void *dx, const void *dy, const void *w, const zs_cuda_conv *s, void *queue)
{
    (s->type == ZS_BF16 ? input_gradient<bf16> : input_gradient<float>)(dx, dy, w, s, queue);
}

template <class T>
static void weight_gradient(float *dw, const void *x, const void *dy, const zs_cuda_conv *s,
                            void *queue)
{
    flat<1>("conv2d_dw", queue, s->kh * s->kw * s->c * s->o,
            conv_dw<T>{dw, static_cast<const T *>(x), static_cast<const T *>(dy), *s});
}

void zs_launch_conv_dw(float *dw, const void *x, const void *dy, const zs_cuda_conv *s, void *queue)
{
    (s->type == ZS_BF16 ? weight_gradient<bf16> : weight_gradient<float>)(dw, x, dy, s, queue);
}

/* ---- matrix products ---- */

template <class Out, class In> struct product {
    Out *c;
    const In *a, *b;
    const Out *c0;
    const float *bias;
    zs_cuda_product s;

    __device__ void operator()(int64_t i) const
    {
        int64_t row = i / s.n, col = i % s.n, z = row / s.m, m = row % s.m;
        int64_t to = z * s.sc + m * s.ldc + col;
        const In *ap = a + z * s.sa + m * s.am, *bp = b + z * s.sb + col * s.bn;
        float sum = 0;
        for (int64_t k = 0; k < s.k; k++)
            sum += to_float(ap[k * s.ak]) * to_float(bp[k * s.bk]);
        sum *= s.alpha;
        sum += s.beta != 0.0f ? s.beta * to_float(c0[to]) : 0.0f;
        put(c + to, sum + (bias ? bias[col] : 0.0f));
    }
};

template <class Out, class In>
static void multiply(void *c, const void *a, const void *b, const void *c0, const float *bias,
                     const zs_cuda_product *s, void *queue)
{
    flat<1>("a matrix product", queue, s->batch * s->m * s->n,
            product<Out, In>{static_cast<Out *>(c), static_cast<const In *>(a),
                             static_cast<const In *>(b), static_cast<const Out *>(c0), bias, *s});
}

void zs_launch_product(void *c, zs_dtype out, const void *a, const void *b, zs_dtype in,
                       const void *c0, const float *bias, const zs_cuda_product *s, void *queue)
{
    if (in == ZS_F32)
        multiply<float, float>(c, a, b, c0, bias, s, queue);
    else if (out == ZS_F32)
        multiply<float, bf16>(c, a, b, c0, bias, s, queue);
    else
        multiply<bf16, bf16>(c, a, b, c0, bias, s, queue);
}
