/* SPDX-License-Identifier: MIT */
/* exp and sigmoid on the vectors of vec.h, at most 2 and 3 units in the last place off. */
#ifndef ZS_BACKEND_CPU_VMATH_H
#define ZS_BACKEND_CPU_VMATH_H

#include "backend/cpu/vec.h"
#include "backend/cpu/vexp.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#ifdef ZS_HAVE_VEC
typedef uint32_t ivec __attribute__((vector_size(VL * sizeof(uint32_t))));
#endif

ZS_INLINE vec vec_set(float x)
{
    return vec_zero() + x;
}

/* Stores a vector without bringing its line into the cache; p is aligned to it. After the last
 * one vec_stream_end makes them visible to other threads. */
ZS_INLINE void vec_stream(float *p, vec v)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX__)
    _mm256_stream_ps(p, (__m256)v);
#elif defined(__SSE2__) && defined(ZS_HAVE_VEC)
    _mm_stream_ps(p, (__m128)v);
#else
    vec_save(p, v);
#endif
}

ZS_INLINE void vec_stream_end(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

ZS_INLINE float vec_sum(vec v)
{
    float t[VL];
    vec_save(t, v);
    for (int w = VL / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

#if defined(__AVX512F__)

/* 2^(x log2 e) = 2^n 2^r with |r| <= 1/2; log2 e in two parts, so that r is good to the last bit
 * for every x; a minimax polynomial of degree 5 (9e-8) for 2^r. */
ZS_INLINE __m512 vec_exp_core(__m512 x)
{
    const __m512 hi = _mm512_set1_ps(1.44269502162933350f), lo = _mm512_set1_ps(1.925962989e-8f);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, hi), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fmadd_ps(x, lo, _mm512_fmsub_ps(x, hi, n));
    __m512 p = _mm512_set1_ps(1.3264727079997096e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.671512862182843e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550733745645978e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402224208184325e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931469775965878e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* As zs_expf. min and max return their second operand for NaN. */
ZS_INLINE vec vec_exp(vec x)
{
    __m512 t = _mm512_min_ps(_mm512_set1_ps(89.0f), (__m512)x);
    return (vec)vec_exp_core(_mm512_max_ps(_mm512_set1_ps(-105.0f), t));
}

/* 1/(1+exp(-x)) from e = exp(-|x|): e/(1+e) or 1/(1+e), neither of which overflows. */
ZS_INLINE vec vec_sigmoid(vec x)
{
    const __m512 one = _mm512_set1_ps(1.0f), limit = _mm512_set1_ps(-105.0f);
    __m512 v = (__m512)x, sign = _mm512_set1_ps(-0.0f);
    __m512 e = vec_exp_core(_mm512_max_ps(limit, _mm512_or_ps(v, sign)));
    __m512 d = _mm512_add_ps(one, e), r = _mm512_rcp14_ps(d);
    r = _mm512_fmadd_ps(r, _mm512_fnmadd_ps(d, r, one), r); /* one Newton step: 2^-28 */
    __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(v));
    return (vec)_mm512_mul_ps(_mm512_mask_blend_ps(negative, one, e), r);
}

#elif defined(ZS_HAVE_VEC)

/* x where the lane of mask is all ones, else y. */
ZS_INLINE vec vec_pick(ivec mask, vec x, vec y)
{
    return (vec)((mask & (ivec)x) | (~mask & (ivec)y));
}

/* exp(r + n ln 2) without the factor 2^n; *n is an integer. See zs_expf. */
ZS_INLINE vec vec_exp_core(vec *n, ivec *i, vec x)
{
    const vec magic = vec_set(12582912.0f);
    vec shifted = x * 1.44269504088896341f + magic;
    *n = shifted - magic;
    *i = (ivec)shifted - (ivec)magic;
    vec r = x - *n * 0.693359375f;
    r = r - *n * -2.12194440e-4f;
    vec p = vec_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * (r * r) + r + 1.0f;
}

ZS_INLINE vec vec_pow2(ivec n)
{
    return (vec)((n + 127u) << 23);
}

/* As zs_expf. */
ZS_INLINE vec vec_exp(vec x)
{
    vec n;
    ivec i;
    x = vec_pick((ivec)(x > 89.0f), vec_set(89.0f), x);
    x = vec_pick((ivec)(x < -104.0f), vec_set(-104.0f), x);
    vec p = vec_exp_core(&n, &i, x);
    ivec half = ((i + 1024u) >> 1) - 512u;
    return p * vec_pow2(half) * vec_pow2(i - half);
}

/* 1/(1+exp(-x)) from e = exp(-|x|), which is taken as 0 below 1.6e-38. */
ZS_INLINE vec vec_sigmoid(vec x)
{
    vec n, minus = (vec)((ivec)x | 0x80000000u);
    ivec i, tiny = (ivec)(minus < -87.0f);
    vec p = vec_exp_core(&n, &i, minus);
    vec e = (vec)((ivec)(p * vec_pow2(i)) & ~tiny);
    return vec_pick((ivec)(x < 0.0f), e, vec_set(1.0f)) / (1.0f + e);
}

#else

ZS_INLINE vec vec_exp(vec x)
{
    return zs_expf(x);
}

ZS_INLINE vec vec_sigmoid(vec x)
{
    return zs_sigmoidf(x);
}

#endif

/* Silu; the product of an infinity and a vanished sigmoid is NaN, as in silu(-infinity). */
ZS_INLINE vec vec_silu(vec x)
{
    return x * vec_sigmoid(x);
}

ZS_INLINE vec vec_dsilu(vec x)
{
    vec s = vec_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

#endif
