/* SPDX-License-Identifier: MIT */
/* The part of the toolkit's cuda_bf16.h that the kernels use, on the processor. */
#ifndef ZS_TESTS_CUDA_HOST_BF16_H
#define ZS_TESTS_CUDA_HOST_BF16_H

#include <stdint.h>

struct __nv_bfloat16 {
    uint16_t bits;
};

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y; /* x in the lower half */
};

static inline float __bfloat162float(__nv_bfloat16 v)
{
    uint32_t u = static_cast<uint32_t>(v.bits) << 16;
    float f;
    __builtin_memcpy(&f, &u, sizeof f);
    return f;
}

/* To nearest, ties to even; NaN stays NaN. */
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    uint32_t u;
    __builtin_memcpy(&u, &f, sizeof u);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
        return {static_cast<uint16_t>(u >> 16 | 0x40u)};
    return {static_cast<uint16_t>((u + 0x7FFFu + (u >> 16 & 1u)) >> 16)};
}

static inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high)
{
    return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
}

#endif
