/* SPDX-License-Identifier: MIT */
/* Finds and opens the device, and says what is wrong with it. */
#include "backend/cuda/device.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels_fit.h"

#include <pthread.h>
#include <string.h>

enum { OLDEST_MAJOR = 8 };                            /* Ampere: the first with bf16 */
static const size_t least_memory = (size_t)256 << 20; /* free, for opening to make sense */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static zs_cuda dev;
static bool opened;
static int selected;

const zs_cuda *zs_cuda_get(void)
{
    return opened ? &dev : NULL;
}

void *zs_cuda_scratch(void)
{
    return opened ? dev.scratch : NULL;
}

int zs_cuda_select(int device, zs_error *err)
{
    int status = ZS_OK;
    (void)pthread_mutex_lock(&lock);
    if (device < 0)
        status = zs_fail(err, ZS_E_INVALID, "there is no CUDA device %d", device);
    else if (opened && device != dev.device)
        status = zs_fail(err, ZS_E_INVALID,
                         "CUDA device %d was asked for, but device %d is open already; a process "
                         "uses one",
                         device, dev.device);
    else
        selected = device;
    (void)pthread_mutex_unlock(&lock);
    return status;
}

/* Text in which CUDA packs a version: 13020 is 13.2. */
static void version_text(char out[16], int v)
{
    (void)snprintf(out, 16, "%d.%d", v / 1000, v % 1000 / 10);
}

static int fail_driver(zs_error *err)
{
    int driver = 0;
    char have[16], want[16];
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "this machine has no NVIDIA driver; install one, or use --device cpu");
    version_text(have, driver);
    version_text(want, CUDART_VERSION);
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "the NVIDIA driver is for CUDA %s, but zsem was built with CUDA %s; update the "
                   "driver, or use --device cpu",
                   have, want);
}

/* What went wrong while opening. */
static int fail_open(zs_error *err, cudaError_t e, const char *what)
{
    switch (e) {
    case cudaErrorInsufficientDriver: return fail_driver(err);
    case cudaErrorNoDevice:
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "no CUDA device is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or "
                       "use --device cpu");
    case cudaErrorMemoryAllocation:
        return zs_fail(err, ZS_E_NOMEM,
                       "CUDA device %d has no memory left to open it (%s); end what else uses it, "
                       "or choose another with CUDA_VISIBLE_DEVICES",
                       selected, what);
    case cudaErrorDevicesUnavailable:
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "CUDA device %d is in the exclusive use of another process; choose another "
                       "with CUDA_VISIBLE_DEVICES",
                       selected);
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "zsem was built for other GPUs than CUDA device %d; build it with "
                       "-DCMAKE_CUDA_ARCHITECTURES=native",
                       selected);
    default:
        return zs_fail(err, ZS_E_UNSUPPORTED, "CUDA device %d cannot be used: %s: %s", selected,
                       what, cudaGetErrorString(e));
    }
}

static int count_devices(int *n, zs_error *err)
{
    cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaSuccess && *n == 0)
        e = cudaErrorNoDevice;
    return e == cudaSuccess ? ZS_OK : fail_open(err, e, "counting devices");
}

/* The device exists and is new enough; fills in what is known about it. */
static int inspect(zs_error *err)
{
    int n = 0;
    struct cudaDeviceProp p;
    if (count_devices(&n, err) < 0)
        return err ? err->status : ZS_E_UNSUPPORTED;
    if (selected >= n)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "CUDA device %d was asked for, but %d %s visible; look at "
                       "CUDA_VISIBLE_DEVICES and the number of ranks on this machine",
                       selected, n, n == 1 ? "is" : "are");
    cudaError_t e = cudaGetDeviceProperties(&p, selected);
    if (e != cudaSuccess)
        return fail_open(err, e, "reading its properties");
    if (p.major < OLDEST_MAJOR)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s has compute capability %d.%d; zsem needs 8.0 (Ampere) or newer, so use "
                       "--device cpu",
                       p.name, p.major, p.minor);
    dev.device = selected;
    (void)snprintf(dev.name, sizeof dev.name, "%s", p.name);
    dev.bytes = p.totalGlobalMem;
    dev.multiprocessors = p.multiProcessorCount;
    return ZS_OK;
}

static int check_room(zs_error *err)
{
    size_t room = 0, all = 0;
    cudaError_t e = cudaMemGetInfo(&room, &all);
    if (e != cudaSuccess)
        return fail_open(err, e, "reading its free memory");
    if (room < least_memory)
        return zs_fail(err, ZS_E_NOMEM,
                       "%s has %zu MiB of %zu MiB free; another process fills it, so end that one, "
                       "or choose another device with CUDA_VISIBLE_DEVICES",
                       dev.name, room >> 20, all >> 20);
    return ZS_OK;
}

static int make_context(zs_error *err)
{
    cudaError_t e = cudaSetDevice(dev.device);
    if (e == cudaSuccess)
        e = cudaFree(NULL); /* makes the context, if it is not there */
    if (e != cudaSuccess)
        return fail_open(err, e, "making a context");
    int status = check_room(err);
    if (status < 0)
        return status;
    e = (cudaError_t)zs_cuda_kernels_fit();
    return e == cudaSuccess ? ZS_OK : fail_open(err, e, "looking for its kernels");
}

static int make_handles(zs_error *err)
{
    cudaError_t e = cudaStreamCreateWithFlags(&dev.stream, cudaStreamNonBlocking);
    if (e == cudaSuccess)
        e = cudaMalloc(&dev.scratch, ZS_CUDA_SCRATCH);
    if (e != cudaSuccess)
        return fail_open(err, e, "making a stream");
    cublasStatus_t b = cublasLtCreate(&dev.blas);
    if (b != CUBLAS_STATUS_SUCCESS)
        return zs_fail(err, ZS_E_UNSUPPORTED, "cuBLASLt does not start on %s: %s", dev.name,
                       cublasLtGetStatusString(b));
    cudnnStatus_t d = cudnnCreate(&dev.dnn);
    if (d == CUDNN_STATUS_SUCCESS)
        d = cudnnSetStream(dev.dnn, dev.stream);
    if (d != CUDNN_STATUS_SUCCESS)
        return zs_fail(err, ZS_E_UNSUPPORTED, "cuDNN %d.%d does not start on %s: %s",
                       (int)(cudnnGetVersion() / 10000), (int)(cudnnGetVersion() / 100 % 100),
                       dev.name, cudnnGetErrorString(d));
    return ZS_OK;
}

static void drop_handles(void)
{
    if (dev.dnn)
        (void)cudnnDestroy(dev.dnn);
    if (dev.blas)
        (void)cublasLtDestroy(dev.blas);
    if (dev.scratch)
        (void)cudaFree(dev.scratch);
    if (dev.stream)
        (void)cudaStreamDestroy(dev.stream);
    dev = (zs_cuda){0};
    (void)cudaGetLastError(); /* opening may be tried again */
}

static int open_locked(zs_error *err)
{
    zs_error local = {0};
    int status = inspect(&local);
    if (status == ZS_OK)
        status = make_context(&local);
    if (status == ZS_OK)
        status = make_handles(&local);
    if (status < 0) {
        drop_handles();
        return zs_fail(err, status, "%s", local.message);
    }
    zs_backend_cuda.queue = zs_backend_cuda_f32.queue = dev.stream;
    opened = true;
    return ZS_OK;
}

int zs_cuda_open(zs_error *err)
{
    (void)pthread_mutex_lock(&lock);
    int status = opened ? ZS_OK : open_locked(err);
    (void)pthread_mutex_unlock(&lock);
    return status == ZS_OK ? zs_cuda_enter(err) : status;
}

int zs_cuda_enter(zs_error *err)
{
    if (!opened)
        return zs_fail(err, ZS_E_INTERNAL, "the CUDA device is used before it is opened");
    int status = zs_cuda_status(err);
    if (status == ZS_OK)
        zs_cuda_check((int)cudaSetDevice(dev.device), "choosing the device");
    return status == ZS_OK ? zs_cuda_status(err) : status;
}

int zs_cuda_device(zs_device *out, int index, zs_error *err)
{
    int n = 0;
    struct cudaDeviceProp p;
    char have[16];
    int driver = 0;
    size_t room = 0, all = 0;
    int status = count_devices(&n, err);
    if (status < 0)
        return status;
    if (index < 0 || index >= n)
        return 0;
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (e != cudaSuccess)
        return fail_open(err, e, "reading its properties");
    *out = (zs_device){.units = p.multiProcessorCount, .memory = p.totalGlobalMem};
    (void)cudaDriverGetVersion(&driver);
    version_text(have, driver);
    (void)snprintf(out->name, sizeof out->name, "%.79s", p.name);
    (void)snprintf(out->about, sizeof out->about, "compute capability %d.%d%s, CUDA %s", p.major,
                   p.minor, p.major < OLDEST_MAJOR ? " (too old)" : "", have);
    if (opened && dev.device == index && zs_cuda_enter(NULL) == ZS_OK &&
        cudaMemGetInfo(&room, &all) == cudaSuccess)
        out->available = room;
    return 1;
}

void zs_cuda_versions(char *out, size_t n)
{
    int driver = 0;
    char built[16], have[16];
    (void)cudaDriverGetVersion(&driver);
    version_text(built, CUDART_VERSION);
    version_text(have, driver);
    size_t dnn = cudnnGetVersion(), blas = cublasLtGetVersion();
    (void)snprintf(out, n, "CUDA %s, driver %s, cuDNN %zu.%zu.%zu, cuBLASLt %zu.%zu", built,
                   driver ? have : "none", dnn / 10000, dnn / 100 % 100, dnn % 100, blas / 10000,
                   blas / 100 % 100);
}
