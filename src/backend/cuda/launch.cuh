/* SPDX-License-Identifier: MIT */
/* Launching, shared memory, elements of either type, and the two plain grids: a flat one and one
 * of rows.
 *
 * tests/cuda_host compiles every *.cu file as C++ for the processor, with headers of its own in
 * place of the toolkit's; what differs there stands between this and the kernels: ZS_LAUNCH,
 * ZS_LAUNCH_SYNC and ZS_SHARED. */
#ifndef ZS_BACKEND_CUDA_LAUNCH_CUH
#define ZS_BACKEND_CUDA_LAUNCH_CUH

#include "backend/cuda/check.h"
#include "backend/cuda/kernels.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#ifndef ZS_LAUNCH
/* Queues kernel<<<grid, block, shared>>>(...); `what` names it in messages. A kernel whose name has
 * commas stands in parentheses. */
#define ZS_LAUNCH(what, kernel, grid, block, shared, queue, ...)                   \
    do {                                                                           \
        kernel<<<(grid), (block), (shared), (cudaStream_t)(queue)>>>(__VA_ARGS__); \
        zs_cuda_check((int)cudaGetLastError(), what);                              \
    } while (0)
/* For kernels whose threads wait for each other. The same here, not where threads are imitated. */
#define ZS_LAUNCH_SYNC ZS_LAUNCH
/* The block's shared memory, as many bytes as the launch gave it. */
#define ZS_SHARED(type, name)                                      \
    extern __shared__ __align__(16) unsigned char zs_shared_mem[]; \
    type *name = reinterpret_cast<type *>(zs_shared_mem)
#endif

typedef __nv_bfloat16 bf16;

enum { THREADS = 256, WARP = 32, WIDE = 8 /* elements of a vector access: 16 bytes of bf16 */ };

/* ---- elements ---- */

static __device__ __forceinline__ float to_float(float v)
{
    return v;
}

static __device__ __forceinline__ float to_float(bf16 v)
{
    return __bfloat162float(v);
}

static __device__ __forceinline__ void put(float *p, float v)
{
    *p = v;
}

static __device__ __forceinline__ void put(bf16 *p, float v)
{
    *p = __float2bfloat16_rn(v);
}

/* V elements as they lie in memory, so that several loads can be under way before the first is
 * used. p is 16-byte aligned unless V is 1. */
template <class T, int V> struct taken {
    T v;

    __device__ __forceinline__ explicit taken(const T *p) : v(*p)
    {
    }

    __device__ __forceinline__ void unpack(float (&r)[1]) const
    {
        r[0] = to_float(v);
    }
};

template <> struct taken<float, WIDE> {
    float4 a, b;

    __device__ __forceinline__ explicit taken(const float *p)
        : a(reinterpret_cast<const float4 *>(p)[0]), b(reinterpret_cast<const float4 *>(p)[1])
    {
    }

    __device__ __forceinline__ void unpack(float (&r)[WIDE]) const
    {
        r[0] = a.x, r[1] = a.y, r[2] = a.z, r[3] = a.w;
        r[4] = b.x, r[5] = b.y, r[6] = b.z, r[7] = b.w;
    }
};

template <> struct taken<bf16, WIDE> {
    uint4 u;

    __device__ __forceinline__ explicit taken(const bf16 *p)
        : u(*reinterpret_cast<const uint4 *>(p))
    {
    }

    static __device__ __forceinline__ void split(float &low, float &high, unsigned two)
    {
        low = __uint_as_float(two << 16);
        high = __uint_as_float(two & 0xFFFF0000u);
    }

    __device__ __forceinline__ void unpack(float (&r)[WIDE]) const
    {
        split(r[0], r[1], u.x);
        split(r[2], r[3], u.y);
        split(r[4], r[5], u.z);
        split(r[6], r[7], u.w);
    }
};

/* V elements from p, 16-byte aligned unless V is 1. */
template <int V, class T> static __device__ __forceinline__ void load(float (&r)[V], const T *p)
{
    taken<T, V>(p).unpack(r);
}

template <int V> static __device__ __forceinline__ void store(float *p, const float (&r)[V])
{
    if constexpr (V == WIDE) {
        reinterpret_cast<float4 *>(p)[0] = make_float4(r[0], r[1], r[2], r[3]);
        reinterpret_cast<float4 *>(p)[1] = make_float4(r[4], r[5], r[6], r[7]);
    } else {
        *p = r[0];
    }
}

static __device__ __forceinline__ unsigned join(float low, float high)
{
    __nv_bfloat162 two = __floats2bfloat162_rn(low, high);
    unsigned u;
    memcpy(&u, &two, sizeof u);
    return u;
}

template <int V> static __device__ __forceinline__ void store(bf16 *p, const float (&r)[V])
{
    if constexpr (V == WIDE)
        *reinterpret_cast<uint4 *>(p) =
            make_uint4(join(r[0], r[1]), join(r[2], r[3]), join(r[4], r[5]), join(r[6], r[7]));
    else
        put(p, r[0]);
}

/* V elements from p, which is only as aligned as its type where `vector` is false. */
template <int V, class T>
static __device__ __forceinline__ void load_any(float (&r)[V], const T *p, bool vector)
{
    if (V == 1 || vector)
        load(r, p);
    else
        for (int j = 0; j < V; j++)
            r[j] = to_float(p[j]);
}

/* ---- which instance of a kernel ---- */

template <class T> static inline T *at(const zs_view *v)
{
    return reinterpret_cast<T *>(v->p);
}

/* Whether vector accesses are possible: n elements on the fast axis, all pointers aligned. */
template <class... P> static inline bool wide(int64_t n, P... pointers)
{
    return n % WIDE == 0 && ((reinterpret_cast<uintptr_t>(pointers) | ...) & 15) == 0;
}

/* Calls fn<element type, elements per access>(...). */
#define ZS_INSTANCE(type, is_wide, fn, ...)                                                   \
    ((type) == ZS_BF16 ? ((is_wide) ? fn<bf16, WIDE>(__VA_ARGS__) : fn<bf16, 1>(__VA_ARGS__)) \
                       : ((is_wide) ? fn<float, WIDE>(__VA_ARGS__) : fn<float, 1>(__VA_ARGS__)))

/* ---- grids: a functor per V elements. Blocks go into the first dimension, which holds 2^31 - 1,
 * and indices are 64 bits wide ---- */

/* n of the order of 2^43 and more would not fit into a grid; memory ends long before. */
static inline unsigned blocks_of(int64_t n, int64_t each)
{
    return (unsigned)((n + each - 1) / each);
}

/* Quotient of what usually fits into 32 bits, where dividing is several times cheaper. */
static __device__ __forceinline__ int64_t quotient(int64_t a, int64_t b)
{
    if ((static_cast<uint64_t>(a | b) >> 32) == 0)
        return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
    return a / b;
}

template <int V, class F> static __global__ void flat_kernel(int64_t n, F f)
{
    int64_t i = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * V;
    if (i < n)
        f(i);
}

/* f(i) for i = 0, V, 2V, ... below n, a multiple of V. */
template <int V, class F> static void flat(const char *what, void *queue, int64_t n, F f)
{
    if (n > 0)
        ZS_LAUNCH(what, (flat_kernel<V, F>), blocks_of(n, THREADS * V), THREADS, 0, queue, n, f);
}

/* How a block of THREADS covers rows of vectors: tx vectors side by side, THREADS/tx rows. */
typedef struct tiles {
    int tx;
    int slabs; /* of tx vectors, to a row */
} tiles;

/* tx is a power of two up to 32: of those from 8 on that waste no thread the largest. */
static inline tiles tiles_of(int64_t vectors)
{
    tiles t = {1, 1};
    while (t.tx < WARP && t.tx < vectors)
        t.tx *= 2;
    for (int tx = WARP; tx >= 8 && vectors >= 8; tx /= 2)
        if (vectors % tx == 0) {
            t.tx = tx;
            break;
        }
    t.slabs = static_cast<int>((vectors + t.tx - 1) / t.tx);
    return t;
}

template <int V, class F>
static __global__ void rows_kernel(int64_t rows, int64_t cols, int tx, int slabs, F f)
{
    int64_t block = quotient(blockIdx.x, slabs), slab = blockIdx.x - block * slabs;
    int64_t row = block * (THREADS / tx) + threadIdx.x / tx;
    int64_t col = (slab * tx + threadIdx.x % tx) * V;
    if (row < rows && col < cols)
        f(row, col);
}

/* f(row, col) for every row and every V-th column; V divides cols. */
template <int V, class F>
static void rows(const char *what, void *queue, int64_t rows, int64_t cols, F f)
{
    tiles t = tiles_of(cols / V);
    unsigned blocks = blocks_of(rows, THREADS / t.tx) * static_cast<unsigned>(t.slabs);
    ZS_LAUNCH(what, (rows_kernel<V, F>), blocks, THREADS, 0, queue, rows, cols, t.tx, t.slabs, f);
}

/* ---- sums over the threads of a warp and of a block, in a fixed order ---- */

template <class T> static __device__ __forceinline__ T warp_sum(T v)
{
    for (int m = WARP / 2; m > 0; m /= 2)
        v += __shfl_xor_sync(0xFFFFFFFFu, v, m);
    return v;
}

static __device__ __forceinline__ float warp_max(float v)
{
    for (int m = WARP / 2; m > 0; m /= 2) {
        float other = __shfl_xor_sync(0xFFFFFFFFu, v, m);
        v = v > other || isnan(v) ? v : other; /* NaN stays */
    }
    return v;
}

/* The sum over the block, in all threads; sh holds a number per warp. */
template <class T> static __device__ T block_sum(T v, T *sh)
{
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0)
        sh[threadIdx.x / WARP] = v;
    __syncthreads();
    T sum = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x) / WARP; w++)
        sum += sh[w];
    __syncthreads(); /* sh may be used again */
    return sum;
}

#endif
