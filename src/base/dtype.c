/* SPDX-License-Identifier: MIT */
#include "base/dtype.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[ZS_DTYPE_COUNT] = {
    [ZS_F32] = {"F32", 4}, [ZS_F64] = {"F64", 8},   [ZS_F16] = {"F16", 2}, [ZS_BF16] = {"BF16", 2},
    [ZS_I64] = {"I64", 8}, [ZS_I32] = {"I32", 4},   [ZS_I16] = {"I16", 2}, [ZS_I8] = {"I8", 1},
    [ZS_U8] = {"U8", 1},   [ZS_BOOL] = {"BOOL", 1},
};

size_t zs_dtype_size(zs_dtype t)
{
    return dtypes[t].size;
}

const char *zs_dtype_name(zs_dtype t)
{
    return dtypes[t].name;
}

static float bits_to_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t f32_to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float zs_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3FFu;
    if (e == 31)
        return bits_to_f32(sign | 0x7F800000u | (m << 13));
    if (e == 0) { /* zero or subnormal: m * 2^-24 exactly */
        float v = (float)m * 0x1p-24f;
        return sign ? -v : v;
    }
    return bits_to_f32(sign | ((e + 112) << 23) | (m << 13));
}

uint16_t zs_f32_to_f16(float f)
{
    uint32_t u = f32_to_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u);
    if (a >= 0x477FF000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7C00u);
    if (a < 0x38800000u) { /* subnormal half: adding 0.5 lets the FPU round at 2^-24 */
        float v = bits_to_f32(a) + 0.5f;
        return (uint16_t)(sign | (f32_to_bits(v) - 0x3F000000u));
    }
    uint32_t r = a + 0xFFFu + ((a >> 13) & 1u);
    return (uint16_t)(sign | ((r - 0x38000000u) >> 13));
}

float zs_bf16_to_f32(uint16_t h)
{
    return bits_to_f32((uint32_t)h << 16);
}

uint16_t zs_f32_to_bf16(float f)
{
    uint32_t u = f32_to_bits(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

/* Expands to a loop that loads T from unaligned memory as `v` and stores EXPR. */
#define CONVERT(T, EXPR)                          \
    for (size_t i = 0; i < n; i++) {              \
        T v;                                      \
        memcpy(&v, s + i * sizeof(T), sizeof(T)); \
        dst[i] = (EXPR);                          \
    }                                             \
    break

void zs_dtype_to_f32(float *dst, const void *src, zs_dtype t, size_t n)
{
    const unsigned char *s = src;
    switch (t) {
    case ZS_F32: memcpy(dst, src, n * sizeof(float)); break;
    case ZS_F64: CONVERT(double, (float)v);
    case ZS_F16: CONVERT(uint16_t, zs_f16_to_f32(v));
    case ZS_BF16: CONVERT(uint16_t, zs_bf16_to_f32(v));
    case ZS_I64: CONVERT(int64_t, (float)v);
    case ZS_I32: CONVERT(int32_t, (float)v);
    case ZS_I16: CONVERT(int16_t, (float)v);
    case ZS_I8: CONVERT(int8_t, (float)v);
    case ZS_U8: CONVERT(uint8_t, (float)v);
    case ZS_BOOL: CONVERT(uint8_t, v ? 1.0f : 0.0f);
    case ZS_DTYPE_COUNT: break;
    }
}

static int64_t clamp_i64(double v, double lo, double hi)
{
    if (isnan(v))
        return 0;
    if (v <= lo)
        return (int64_t)lo;
    /* (double)INT64_MAX rounds up to 2^63, which does not fit */
    if (v >= hi)
        return hi >= 0x1p63 ? INT64_MAX : (int64_t)hi;
    return (int64_t)v;
}

void zs_dtype_to_i64(int64_t *dst, const void *src, zs_dtype t, size_t n)
{
    const unsigned char *s = src;
    switch (t) {
    case ZS_F32: CONVERT(float, clamp_i64((double)v, -0x1p63, 0x1p63));
    case ZS_F64: CONVERT(double, clamp_i64(v, -0x1p63, 0x1p63));
    case ZS_F16: CONVERT(uint16_t, clamp_i64((double)zs_f16_to_f32(v), -0x1p63, 0x1p63));
    case ZS_BF16: CONVERT(uint16_t, clamp_i64((double)zs_bf16_to_f32(v), -0x1p63, 0x1p63));
    case ZS_I64: memcpy(dst, src, n * sizeof(int64_t)); break;
    case ZS_I32: CONVERT(int32_t, v);
    case ZS_I16: CONVERT(int16_t, v);
    case ZS_I8: CONVERT(int8_t, v);
    case ZS_U8: CONVERT(uint8_t, v);
    case ZS_BOOL: CONVERT(uint8_t, v != 0);
    case ZS_DTYPE_COUNT: break;
    }
}

static void store_int(unsigned char *d, zs_dtype t, size_t i, float v)
{
    switch (t) {
    case ZS_I64: ((int64_t *)(void *)d)[i] = clamp_i64((double)v, -0x1p63, 0x1p63); break;
    case ZS_I32:
        ((int32_t *)(void *)d)[i] = (int32_t)clamp_i64((double)v, INT32_MIN, INT32_MAX);
        break;
    case ZS_I16:
        ((int16_t *)(void *)d)[i] = (int16_t)clamp_i64((double)v, INT16_MIN, INT16_MAX);
        break;
    case ZS_I8: ((int8_t *)(void *)d)[i] = (int8_t)clamp_i64((double)v, INT8_MIN, INT8_MAX); break;
    case ZS_U8: d[i] = (uint8_t)clamp_i64((double)v, 0, UINT8_MAX); break;
    case ZS_BOOL: d[i] = v != 0.0f; break;
    default: break;
    }
}

void zs_dtype_from_f32(void *dst, zs_dtype t, const float *src, size_t n)
{
    switch (t) {
    case ZS_F32: memcpy(dst, src, n * sizeof(float)); return;
    case ZS_F64:
        for (size_t i = 0; i < n; i++)
            ((double *)dst)[i] = (double)src[i];
        return;
    case ZS_F16:
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)dst)[i] = zs_f32_to_f16(src[i]);
        return;
    case ZS_BF16:
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)dst)[i] = zs_f32_to_bf16(src[i]);
        return;
    default:
        for (size_t i = 0; i < n; i++)
            store_int(dst, t, i, src[i]);
    }
}
