/* SPDX-License-Identifier: MIT */
/* Element types that checkpoints hold, and conversion to and from f32. */
#ifndef ZS_BASE_DTYPE_H
#define ZS_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

typedef enum zs_dtype {
    ZS_F32,
    ZS_F64,
    ZS_F16,
    ZS_BF16,
    ZS_I64,
    ZS_I32,
    ZS_I16,
    ZS_I8,
    ZS_U8,
    ZS_BOOL,
    ZS_DTYPE_COUNT
} zs_dtype;

size_t zs_dtype_size(zs_dtype t);
const char *zs_dtype_name(zs_dtype t); /* the safetensors name: "F32", "BF16", ... */

float zs_f16_to_f32(uint16_t h);
uint16_t zs_f32_to_f16(float f); /* round to nearest even; overflow to infinity */
float zs_bf16_to_f32(uint16_t h);
uint16_t zs_f32_to_bf16(float f);

/* n elements of type t at src (any alignment) to f32; and back. Integers round toward
 * zero and saturate; BOOL is x != 0. */
void zs_dtype_to_f32(float *dst, const void *src, zs_dtype t, size_t n);
void zs_dtype_from_f32(void *dst, zs_dtype t, const float *src, size_t n);
/* The same to int64, for tensors such as timesteps and labels (floats truncate). */
void zs_dtype_to_i64(int64_t *dst, const void *src, zs_dtype t, size_t n);

#endif
