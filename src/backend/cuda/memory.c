/* SPDX-License-Identifier: MIT */
/* Device memory, pinned memory of the program, and copies between them, all in the order of the
 * queue. */
#include "backend/cuda/device.h"

void *zs_cuda_alloc(size_t bytes)
{
    const zs_cuda *d = zs_cuda_get();
    void *p = NULL;
    if (zs_cuda_enter(NULL) < 0 || zs_alloc_fails())
        return NULL;
    /* being out of memory is no failure that stays: the caller names what to lower */
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    zs_cuda_check((int)cudaMemsetAsync(p, 0, bytes ? bytes : 1, d->stream), "clearing new memory");
    return p;
}

void zs_cuda_release(void *p, size_t bytes)
{
    (void)bytes;
    if (p &&
        zs_cuda_enter(NULL) == ZS_OK) /* waits for what is queued; a lost device has no memory */
        zs_cuda_check((int)cudaFree(p), "releasing memory");
}

void *zs_cuda_alloc_host(size_t bytes)
{
    void *p = NULL;
    if (zs_cuda_enter(NULL) < 0 || zs_alloc_fails())
        return NULL;
    if (cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocDefault) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    return p;
}

void zs_cuda_release_host(void *p, size_t bytes)
{
    (void)bytes;
    if (!p)
        return;
    (void)zs_cuda_enter(NULL); /* a thread without a device would make a context on the first */
    if (cudaFreeHost(p) != cudaSuccess)
        (void)cudaGetLastError();
}

static int queue_copy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                      const char *what, zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0 || bytes == 0)
        return status;
    zs_cuda_check((int)cudaMemcpyAsync(dst, src, bytes, kind, zs_cuda_get()->stream), what);
    return zs_cuda_status(err);
}

int zs_cuda_upload(void *dst, const void *src, size_t bytes, zs_error *err)
{
    return queue_copy(dst, src, bytes, cudaMemcpyHostToDevice, "copying to the device", err);
}

int zs_cuda_download(void *dst, const void *src, size_t bytes, zs_error *err)
{
    int status =
        queue_copy(dst, src, bytes, cudaMemcpyDeviceToHost, "copying from the device", err);
    return status == ZS_OK ? zs_cuda_sync(err) : status;
}

int zs_cuda_copy(void *dst, const void *src, size_t bytes, zs_error *err)
{
    return queue_copy(dst, src, bytes, cudaMemcpyDeviceToDevice, "copying on the device", err);
}

int zs_cuda_zero(void *dst, size_t bytes, zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0 || bytes == 0)
        return status;
    zs_cuda_check((int)cudaMemsetAsync(dst, 0, bytes, zs_cuda_get()->stream), "clearing memory");
    return zs_cuda_status(err);
}

int zs_cuda_sync(zs_error *err)
{
    int status = zs_cuda_enter(err);
    if (status < 0)
        return status;
    zs_cuda_check((int)cudaStreamSynchronize(zs_cuda_get()->stream), "running what was queued");
    return zs_cuda_status(err);
}
