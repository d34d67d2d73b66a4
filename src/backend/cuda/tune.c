/* SPDX-License-Identifier: MIT */
#include "backend/cuda/tune.h"
#include "backend/cuda/conv_kernels.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256, REPEATS = 4 };

size_t zs_tune_bytes(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static bool wanted(void)
{
    const char *s = getenv("ZSEM_CUDA_TUNE");
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    return zs_cuda_get() && !(s && strcmp(s, "0") == 0) && zs_cuda_enter(NULL) == ZS_OK &&
           cudaStreamIsCapturing(zs_cuda_get()->stream, &capture) == cudaSuccess &&
           capture == cudaStreamCaptureStatusNone;
}

bool zs_tune_open(zs_tune *t, size_t bytes)
{
    *t = (zs_tune){0};
    if (!wanted())
        return false;
    void *p = NULL;
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess ||
        cudaEventCreate(&t->begin) != cudaSuccess || cudaEventCreate(&t->end) != cudaSuccess) {
        t->p = p;
        zs_tune_close(t);
        return false;
    }
    t->p = p;
    t->bytes = bytes;
    zs_launch_noise(p, ZS_BF16, (int64_t)(bytes / 2), zs_cuda_get()->stream);
    if (zs_cuda_status(NULL) == ZS_OK)
        return true;
    zs_tune_close(t);
    return false;
}

void zs_tune_close(zs_tune *t)
{
    if (t->begin)
        (void)cudaEventDestroy(t->begin);
    if (t->end)
        (void)cudaEventDestroy(t->end);
    if (t->p)
        (void)cudaFree(t->p);
    (void)cudaGetLastError(); /* no memory to time in is no failure */
    *t = (zs_tune){0};
}

void *zs_tune_take(zs_tune *t, size_t bytes)
{
    unsigned char *p = t->p + t->used;
    t->used += zs_tune_bytes(bytes);
    return t->used <= t->bytes ? p : NULL;
}

/* Milliseconds that one fn(ctx, k) takes: the best of a few. Gives up, returning what it has, when
 * that is beyond twice `best`. Below 0: it fails. */
static float time_one(const zs_tune *t, zs_tune_fn fn, void *ctx, int k, float best)
{
    cudaStream_t stream = zs_cuda_get()->stream;
    float least = -1;
    if (fn(ctx, k) != cudaSuccess || cudaStreamSynchronize(stream) != cudaSuccess) {
        (void)cudaGetLastError(); /* a lost device shows again in whatever follows */
        return -1;
    }
    for (int i = 0; i < REPEATS; i++) {
        float ms = 0;
        if (cudaEventRecord(t->begin, stream) != cudaSuccess || fn(ctx, k) != cudaSuccess ||
            cudaEventRecord(t->end, stream) != cudaSuccess ||
            cudaEventSynchronize(t->end) != cudaSuccess ||
            cudaEventElapsedTime(&ms, t->begin, t->end) != cudaSuccess) {
            (void)cudaGetLastError();
            return -1;
        }
        least = i == 0 || ms < least ? ms : least;
        if (least > 2 * best)
            break;
    }
    return least;
}

int zs_tune_fastest(const zs_tune *t, zs_tune_fn fn, void *ctx, int n)
{
    int first = -1;
    float best = FLT_MAX / 2;
    for (int k = 0; k < n; k++) {
        float ms = time_one(t, fn, ctx, k, best);
        if (ms >= 0 && ms < best) {
            best = ms;
            first = k;
        }
    }
    return first;
}
