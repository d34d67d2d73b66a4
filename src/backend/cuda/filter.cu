/* SPDX-License-Identifier: MIT */
/* Filters and images in the forms that cuDNN takes: each is read and written once. */
#include "backend/cuda/conv_kernels.h"
#include "backend/cuda/launch.cuh"

enum { TILE = 32 };

/* ---- filters: for each tap, the transpose of a c x o matrix, tile by tile through shared memory
 * so that both sides are read and written along their rows ---- */

template <class T> struct filter_in { /* w[taps,c,o] -> f[op,taps,cp] */
    T *f;
    const T *w;
    zs_cuda_filter s;

    __device__ float get(int64_t tap, int64_t c, int64_t o) const
    {
        return c < s.c && o < s.o ? to_float(w[(tap * s.c + c) * s.o + o]) : 0.0f;
    }

    __device__ void set(int64_t tap, int64_t c, int64_t o, float v) const
    {
        if (c < s.cp && o < s.op)
            put(f + (o * s.taps + tap) * s.cp + c, v);
    }
};

template <class T> struct filter_out { /* dw[taps,c,o] += df[op,taps,cp]; here o is the row */
    float *dw;
    const T *df;
    zs_cuda_filter s;

    __device__ float get(int64_t tap, int64_t o, int64_t c) const
    {
        return c < s.c && o < s.o ? to_float(df[(o * s.taps + tap) * s.cp + c]) : 0.0f;
    }

    __device__ void set(int64_t tap, int64_t o, int64_t c, float v) const
    {
        if (c < s.c && o < s.o)
            dw[(tap * s.c + c) * s.o + o] += v;
    }
};

/* get(tap, row, column) runs along columns, set along rows. */
template <class F> static __global__ void turn_kernel(int64_t across, int64_t down, F f)
{
    ZS_SHARED(float, tile); /* TILE rows of TILE + 1: columns then lie in different banks */
    int64_t block = quotient(blockIdx.x, across), tap = quotient(block, down);
    int64_t col = (blockIdx.x - block * across) * TILE, row = (block - tap * down) * TILE;
    int tx = threadIdx.x % TILE, ty = threadIdx.x / TILE;
    for (int i = ty; i < TILE; i += THREADS / TILE)
        tile[i * (TILE + 1) + tx] = f.get(tap, row + i, col + tx);
    __syncthreads();
    for (int i = ty; i < TILE; i += THREADS / TILE)
        f.set(tap, row + tx, col + i, tile[tx * (TILE + 1) + i]);
}

template <class F>
static void turn(const char *what, void *queue, int64_t taps, int64_t rows, int64_t cols, F f)
{
    int64_t across = (cols + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    ZS_LAUNCH_SYNC(what, (turn_kernel<F>), static_cast<unsigned>(taps * across * down), THREADS,
                   TILE * (TILE + 1) * sizeof(float), queue, across, down, f);
}

void zs_launch_filter(void *f, const void *w, zs_dtype type, const zs_cuda_filter *s, void *queue)
{
    if (type == ZS_BF16)
        turn("filters", queue, s->taps, s->cp, s->op,
             filter_in<bf16>{static_cast<bf16 *>(f), static_cast<const bf16 *>(w), *s});
    else
        turn("filters", queue, s->taps, s->cp, s->op,
             filter_in<float>{static_cast<float *>(f), static_cast<const float *>(w), *s});
}

void zs_launch_filter_add(float *dw, const void *df, zs_dtype type, const zs_cuda_filter *s,
                          void *queue)
{
    if (type == ZS_BF16)
        turn("gradients of filters", queue, s->taps, s->o, s->c,
             filter_out<bf16>{dw, static_cast<const bf16 *>(df), *s});
    else
        turn("gradients of filters", queue, s->taps, s->o, s->c,
             filter_out<float>{dw, static_cast<const float *>(df), *s});
}

/* ---- images with more or fewer channels ---- */

template <class T, class S> struct resize {
    T *dst;
    const S *src;
    int64_t to, from;

    __device__ void operator()(int64_t i) const
    {
        int64_t row = quotient(i, to), col = i - row * to;
        put(dst + i, col < from ? to_float(src[row * from + col]) : 0.0f);
    }
};

void zs_launch_columns(void *dst, int64_t to, const void *src, int64_t from, zs_dtype type,
                       int64_t rows, void *queue)
{
    if (type == ZS_BF16)
        flat<1>(
            "channels", queue, rows * to,
            resize<bf16, bf16>{static_cast<bf16 *>(dst), static_cast<const bf16 *>(src), to, from});
    else
        flat<1>("channels", queue, rows * to,
                resize<float, float>{static_cast<float *>(dst), static_cast<const float *>(src), to,
                                     from});
}

void zs_launch_bias(void *dst, int64_t to, const float *src, int64_t from, void *queue)
{
    flat<1>("bias", queue, to, resize<bf16, float>{static_cast<bf16 *>(dst), src, to, from});
}

/* ---- noise ---- */

template <class T> struct noise {
    T *dst;

    __device__ void operator()(int64_t i) const
    {
        unsigned h = static_cast<unsigned>(i) * 2654435761u;
        h = (h ^ (h >> 15)) * 2246822519u;
        put(dst + i, static_cast<float>(static_cast<int>(h)) * 4.656612873e-10f);
    }
};

void zs_launch_noise(void *dst, zs_dtype type, int64_t n, void *queue)
{
    if (type == ZS_BF16)
        flat<1>("noise", queue, n, noise<bf16>{static_cast<bf16 *>(dst)});
    else
        flat<1>("noise", queue, n, noise<float>{static_cast<float *>(dst)});
}
