/* SPDX-License-Identifier: MIT */
/* What kernels and their launchers need of the device; C and CUDA C++ alike. */
#ifndef ZS_BACKEND_CUDA_CHECK_H
#define ZS_BACKEND_CUDA_CHECK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The first failure of queued work is kept until the process ends, since nothing can be queued
 * after it; the functions of zs_remote report it. `status` is a cudaError_t, 0 is success. A
 * launcher ends with zs_cuda_check((int)cudaGetLastError(), "gn_act"). */
void zs_cuda_check(int status, const char *what);

/* Keeps a failure in words: for what is no CUDA status. zs_status, then printf. */
void zs_cuda_refuse(int status, const char *fmt, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Device memory for functions that have no workspace of their own, in the order of the queue; NULL
 * before the device is open. */
enum { ZS_CUDA_SCRATCH = 1 << 20 };
void *zs_cuda_scratch(void);

#ifdef __cplusplus
}
#endif

#endif
