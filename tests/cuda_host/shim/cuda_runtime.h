/* SPDX-License-Identifier: MIT */
/* The part of CUDA C++ that the kernels use, on the processor: stands in for the toolkit's header
 * when *.cu files are compiled as C++17. Launches wait in a queue until zs_host_run (host.h).
 *
 * Blocks run one after the other. Threads of a kernel that is launched with ZS_LAUNCH run one after
 * the other too, and may not wait for each other; those of ZS_LAUNCH_SYNC are fibers, which take
 * turns at __syncthreads and at shuffles. The shared memory of each block is fresh and full of
 * NaN. What is not imitated: speed, memory ordering, limits of registers, and the last bits of
 * approximate functions (__expf and __fdividef are exact here). */
#ifndef ZS_TESTS_CUDA_HOST_RUNTIME_H
#define ZS_TESTS_CUDA_HOST_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __launch_bounds__(...)
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct alignas(8) uint2 {
    unsigned x, y;
};

static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

extern "C" {
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads(void);
void __syncwarp(void);
/* The value that lane `lane` of this warp hands in; every lane takes part. */
uint64_t zs_host_shuffle(uint64_t value, unsigned lane);
/* Shared memory of the running block. */
void *zs_host_shared(void);

/* Puts a launch into the queue: body runs once per thread with a copy of `bytes` bytes at args. */
void zs_host_launch(const char *what, dim3 grid, dim3 block, size_t shared, bool sync,
                    void (*body)(const void *), const void *args, size_t bytes);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int m)
{
    uint64_t bits = 0;
    static_assert(sizeof v <= sizeof bits, "one word");
    if (mask != 0xFFFFFFFFu)
        abort(); /* nothing here leaves lanes out */
    memcpy(&bits, &v, sizeof v);
    bits = zs_host_shuffle(bits, (threadIdx.x % 32) ^ static_cast<unsigned>(m));
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <class F> static void zs_host_body(const void *f)
{
    (*static_cast<const F *>(f))();
}

template <class F>
static void zs_host_submit(const char *what, dim3 grid, dim3 block, size_t shared, bool sync, F f)
{
    zs_host_launch(what, grid, block, shared, sync, zs_host_body<F>, &f, sizeof f);
}

#define ZS_HOST_LAUNCH(sync, what, kernel, grid, block, shared, queue, ...)            \
    do {                                                                               \
        (void)(queue);                                                                 \
        zs_host_submit(what, grid, block, shared, sync, [=] { kernel(__VA_ARGS__); }); \
    } while (0)
#define ZS_LAUNCH(...) ZS_HOST_LAUNCH(false, __VA_ARGS__)
#define ZS_LAUNCH_SYNC(...) ZS_HOST_LAUNCH(true, __VA_ARGS__)
#define ZS_SHARED(type, name) type *name = static_cast<type *>(zs_host_shared())

/* ---- arithmetic ---- */

#define __expf expf /* a name that the C library has already */

static inline float __fdividef(float a, float b)
{
    return a / b;
}

/* The tests are compiled with -ffp-contract=off, so these are what they say. */
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline float __fsub_rn(float a, float b)
{
    return a - b;
}

static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}

static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}

static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}

#endif
