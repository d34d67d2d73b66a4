/* SPDX-License-Identifier: MIT */
/* SiLU on the device. In f32, for comparing with the processor, to the last bits; between bf16
 * numbers with the hardware's exponential and division, whose errors of 2^-21 no bf16 shows: the
 * exact ones would cost more time than the memory does. */
#ifndef ZS_BACKEND_CUDA_ELEM_CUH
#define ZS_BACKEND_CUDA_ELEM_CUH

#include "backend/cuda/launch.cuh"

/* 1/(1 + exp(-x)); an exponential that overflows gives the right 0. */
template <class T> static __device__ __forceinline__ float sigmoid(float x)
{
    if constexpr (sizeof(T) == sizeof(bf16))
        return __fdividef(1.0f, 1.0f + __expf(-x));
    else
        return 1.0f / (1.0f + expf(-x));
}

template <class T> static __device__ __forceinline__ float silu(float x)
{
    if constexpr (sizeof(T) == sizeof(bf16))
        return __fdividef(x, 1.0f + __expf(-x));
    else
        return x / (1.0f + expf(-x));
}

template <class T> static __device__ __forceinline__ float silu_slope(float x)
{
    float s = sigmoid<T>(x);
    return s * (1.0f + x * (1.0f - s));
}

#endif
