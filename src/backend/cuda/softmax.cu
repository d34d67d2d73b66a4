/* SPDX-License-Identifier: MIT */
/* Softmax over rows, for attention whose products a library computes. A warp takes a row, which
 * stays in the L1 cache between its passes. Bytes moved: each tensor once. */
#include "backend/cuda/launch.cuh"

enum { ROWS = THREADS / WARP };

static __device__ __forceinline__ int64_t row_of_warp(void)
{
    return static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.x / WARP;
}

template <class T, int V>
static __global__ void softmax_kernel(T *__restrict__ y, const float *__restrict__ x, int64_t rows,
                                      int64_t cols, float scale)
{
    int64_t row = row_of_warp(), first = threadIdx.x % WARP * V;
    if (row >= rows)
        return;
    float top = -INFINITY, sum = 0.0f, r[V];
    for (int64_t i = first; i < cols; i += WARP * V) {
        load(r, x + row * cols + i);
        for (int j = 0; j < V; j++)
            top = scale * r[j] > top || isnan(r[j]) ? scale * r[j] : top;
    }
    top = warp_max(top);
    for (int64_t i = first; i < cols; i += WARP * V) {
        load(r, x + row * cols + i);
        for (int j = 0; j < V; j++)
            sum += expf(scale * r[j] - top);
    }
    float inv = 1.0f / warp_sum(sum);
    for (int64_t i = first; i < cols; i += WARP * V) {
        load(r, x + row * cols + i);
        for (int j = 0; j < V; j++)
            r[j] = expf(scale * r[j] - top) * inv;
        store(y + row * cols + i, r);
    }
}

template <class T, int V>
static void softmax(void *y, const float *x, int64_t rows, int64_t cols, float scale, void *queue)
{
    ZS_LAUNCH_SYNC("softmax", (softmax_kernel<T, V>), blocks_of(rows, ROWS), THREADS, 0, queue,
                   static_cast<T *>(y), x, rows, cols, scale);
}

void zs_launch_softmax(void *y, zs_dtype type, const float *x, int64_t rows, int64_t cols,
                       float scale, void *queue)
{
    ZS_INSTANCE(type, wide(cols, y, x), softmax, y, x, rows, cols, scale, queue);
}

template <class T, int V>
static __global__ void softmax_bwd_kernel(T *__restrict__ dx, const T *__restrict__ y,
                                          const float *__restrict__ dy, int64_t rows, int64_t cols,
                                          float scale)
{
    int64_t row = row_of_warp(), first = threadIdx.x % WARP * V;
    if (row >= rows)
        return;
    float sum = 0.0f, r[V], g[V];
    for (int64_t i = first; i < cols; i += WARP * V) {
        load(r, y + row * cols + i);
        load(g, dy + row * cols + i);
        for (int j = 0; j < V; j++)
            sum += r[j] * g[j];
    }
    sum = warp_sum(sum);
    for (int64_t i = first; i < cols; i += WARP * V) {
        load(r, y + row * cols + i);
        load(g, dy + row * cols + i);
        for (int j = 0; j < V; j++)
            r[j] = scale * r[j] * (g[j] - sum);
        store(dx + row * cols + i, r);
    }
}

template <class T, int V>
static void softmax_bwd(void *dx, const void *y, const float *dy, int64_t rows, int64_t cols,
                        float scale, void *queue)
{
    ZS_LAUNCH_SYNC("softmax", (softmax_bwd_kernel<T, V>), blocks_of(rows, ROWS), THREADS, 0, queue,
                   static_cast<T *>(dx), static_cast<const T *>(y), dy, rows, cols, scale);
}

void zs_launch_softmax_bwd(void *dx, const void *y, zs_dtype type, const float *dy, int64_t rows,
                           int64_t cols, float scale, void *queue)
{
    ZS_INSTANCE(type, wide(cols, dx, y, dy), softmax_bwd, dx, y, dy, rows, cols, scale, queue);
}
