/* SPDX-License-Identifier: MIT */
/* The first failure of queued work, which stays. */
#include "backend/cuda/check.h"
#include "backend/cuda/device.h"

#include <pthread.h>
#include <stdarg.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static zs_error first;
static zs_error unrecorded; /* the first while something is recorded, which costs the recording */
static bool recording;

void zs_cuda_refuse(int status, const char *fmt, ...)
{
    char text[sizeof first.message];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)pthread_mutex_lock(&lock);
    (void)zs_fail(recording ? &unrecorded : &first, status, "%s", text);
    (void)pthread_mutex_unlock(&lock);
}

void zs_cuda_recording(bool begins)
{
    (void)pthread_mutex_lock(&lock);
    recording = begins;
    if (begins)
        unrecorded = (zs_error){0};
    (void)pthread_mutex_unlock(&lock);
}

bool zs_cuda_recorded(char *why, size_t n)
{
    (void)pthread_mutex_lock(&lock);
    bool all = unrecorded.status == ZS_OK;
    if (!all)
        (void)snprintf(why, n, "%s", unrecorded.message);
    (void)pthread_mutex_unlock(&lock);
    return all;
}

void zs_cuda_check(int status, const char *what)
{
    cudaError_t e = (cudaError_t)status;
    switch (e) {
    case cudaSuccess: return;
    case cudaErrorMemoryAllocation:
        zs_cuda_refuse(ZS_E_NOMEM,
                       "the CUDA device is out of memory (%s); a smaller --batch or "
                       "--micro-batch lowers what is needed",
                       what);
        return;
    case cudaErrorDeviceUninitialized:
    case cudaErrorECCUncorrectable:
    case cudaErrorLaunchFailure:
    case cudaErrorHardwareStackError:
    case cudaErrorUnknown:
        zs_cuda_refuse(ZS_E_IO,
                       "the CUDA device was lost (%s: %s); what is on it is gone, so start "
                       "again from the last checkpoint",
                       what, cudaGetErrorString(e));
        return;
    default:
        zs_cuda_refuse(ZS_E_INTERNAL, "CUDA failed: %s: %s", what, cudaGetErrorString(e));
        return;
    }
}

int zs_cuda_status(zs_error *err)
{
    (void)pthread_mutex_lock(&lock);
    int status = first.status ? zs_fail(err, first.status, "%s", first.message) : ZS_OK;
    (void)pthread_mutex_unlock(&lock);
    return status;
}
