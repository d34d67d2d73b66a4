/* SPDX-License-Identifier: MIT */
/* The one device of the process and what belongs to it. */
#ifndef ZS_BACKEND_CUDA_DEVICE_H
#define ZS_BACKEND_CUDA_DEVICE_H

#include "backend/cuda/check.h"
#include "tensor/tensor.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn_graph.h>

typedef struct zs_cuda {
    int device;
    char name[256];
    size_t bytes; /* of device memory */
    int multiprocessors;
    cudaStream_t stream; /* every kernel and copy of the process goes here */
    cublasLtHandle_t blas;
    cudnnHandle_t dnn;
    void *scratch; /* ZS_CUDA_SCRATCH bytes */
} zs_cuda;

/* The device, or NULL while none is open. */
const zs_cuda *zs_cuda_get(void);

/* zs_remote.open. */
int zs_cuda_open(zs_error *err);

/* zs_remote.device. Asking a device for its free memory makes a context on it, which takes memory
 * itself; so `available` is that of the open device, and 0 for the others. */
int zs_cuda_device(zs_device *out, int index, zs_error *err);

/* ZS_OK, or the failure that is kept. */
int zs_cuda_status(zs_error *err);

/* Between the two calls nothing that fails has run, and what a recording does not allow may be
 * allowed in a plain run, which shows other failures again: so none of them is kept, and
 * zs_cuda_recorded says whether there was one. */
void zs_cuda_recording(bool begins);
bool zs_cuda_recorded(char *why, size_t n);

/* Makes the device current in the calling thread; what zs_cuda_status says. Every function that
 * the program may call from a thread of its own starts with it. */
int zs_cuda_enter(zs_error *err);

/* ---- memory.c: the memory functions of zs_backend and zs_remote ---- */
void *zs_cuda_alloc(size_t bytes);
void zs_cuda_release(void *p, size_t bytes);
void *zs_cuda_alloc_host(size_t bytes);
void zs_cuda_release_host(void *p, size_t bytes);
int zs_cuda_upload(void *dst, const void *src, size_t bytes, zs_error *err);
int zs_cuda_download(void *dst, const void *src, size_t bytes, zs_error *err);
int zs_cuda_copy(void *dst, const void *src, size_t bytes, zs_error *err);
int zs_cuda_zero(void *dst, size_t bytes, zs_error *err);
int zs_cuda_sync(zs_error *err);

/* ---- tape.c: recording ---- */
int zs_cuda_record(zs_error *err);
int zs_cuda_record_end(void **tape, zs_error *err);
int zs_cuda_replay(void *tape, zs_error *err);
void zs_cuda_tape_free(void *tape);

/* ---- those of zs_remote that are kernels ---- */
int zs_cuda_to_bf16(uint16_t *dst, const float *src, int64_t n, zs_error *err);
int zs_cuda_norm(double *norm, const float *g, int64_t n, zs_error *err);
int zs_cuda_adam(const zs_adam *a, zs_error *err);

#endif
