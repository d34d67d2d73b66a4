/* SPDX-License-Identifier: MIT */
/* The exact GELU, x Phi(x), on the vectors of vec.h: below 1e-6 relative, in both tails too. With
 * a = |x|, Phi(-a) = exp(-a^2/2) r(a), where r falls smoothly from 1/2 like 1/a: a polynomial in
 * (a-3)/(a+3), minimax on 0..15 (1.1e-8). Beyond, Phi(-a) is less than any float. */
#ifndef ZS_BACKEND_CPU_VGELU_H
#define ZS_BACKEND_CPU_VGELU_H

#include "backend/cpu/vmath.h"

#if defined(__AVX512F__)

/* min(|x|, 15); NaN stays. */
ZS_INLINE vec gelu_clip(vec x)
{
    return (vec)_mm512_min_ps(_mm512_set1_ps(15.0f), _mm512_abs_ps((__m512)x));
}

/* a*a - s, where s is a*a rounded. */
ZS_INLINE vec gelu_rest(vec a, vec s)
{
    return (vec)_mm512_fmsub_ps((__m512)a, (__m512)a, (__m512)s);
}

/* 1/d to 2^-28, d > 0 */
ZS_INLINE vec gelu_inverse(vec d)
{
    __m512 v = (__m512)d, r = _mm512_rcp14_ps(v);
    return (vec)_mm512_fmadd_ps(r, _mm512_fnmadd_ps(v, r, _mm512_set1_ps(1.0f)), r);
}

ZS_INLINE vec gelu_pick(vec x, vec negative, vec other)
{
    __mmask16 m = _mm512_movepi32_mask(_mm512_castps_si512((__m512)x));
    return (vec)_mm512_mask_blend_ps(m, (__m512)other, (__m512)negative);
}

#elif defined(ZS_HAVE_VEC)

ZS_INLINE vec gelu_clip(vec x)
{
    vec a = (vec)((ivec)x & 0x7FFFFFFFu);
    return vec_pick((ivec)(a > 15.0f), vec_set(15.0f), a);
}

/* By halves of 12 bits, whose products are exact. */
ZS_INLINE vec gelu_rest(vec a, vec s)
{
    vec hi = (vec)((ivec)a & 0xFFFFF000u), lo = a - hi;
    return ((hi * hi - s) + 2.0f * (hi * lo)) + lo * lo;
}

ZS_INLINE vec gelu_inverse(vec d)
{
    return 1.0f / d;
}

ZS_INLINE vec gelu_pick(vec x, vec negative, vec other)
{
    return vec_pick((ivec)(x < 0.0f), negative, other);
}

#else

ZS_INLINE vec gelu_clip(vec x)
{
    float a = x < 0.0f ? -x : x;
    return a > 15.0f ? 15.0f : a;
}

ZS_INLINE vec gelu_rest(vec a, vec s)
{
    return (float)((double)a * (double)a - (double)s);
}

ZS_INLINE vec gelu_inverse(vec d)
{
    return 1.0f / d;
}

ZS_INLINE vec gelu_pick(vec x, vec negative, vec other)
{
    return x < 0.0f ? negative : other;
}

#endif

/* Phi(x); *density = exp(-x^2/2). */
ZS_INLINE vec vec_phi(vec *density, vec x)
{
    vec a = gelu_clip(x), s = a * a;
    vec e = vec_exp(s * -0.5f);
    e = e - e * (gelu_rest(a, s) * 0.5f); /* what rounding s took from the exponent */
    vec q = (a - 3.0f) * gelu_inverse(a + 3.0f);
    vec r = vec_set(5.267643427941948e-05f);
    r = r * q + 0.00011450460442574695f;
    r = r * q + -0.0003385459422133863f;
    r = r * q + -0.000982822384685278f;
    r = r * q + 0.0029042137321084738f;
    r = r * q + 0.0061318110674619675f;
    r = r * q + -0.04621323570609093f;
    r = r * q + 0.12322505563497543f;
    r = r * q + -0.20640261471271515f;
    r = r * q + 0.12151394784450531f;
    r = r * e;
    *density = e;
    return gelu_pick(x, r, 1.0f - r);
}

ZS_INLINE vec vec_gelu(vec x)
{
    vec density;
    return x * vec_phi(&density, x);
}

/* What the tanh in the approximation amounts to. |x| is clipped in the cube, which is enough: the
 * sigmoid has long been 0 or 1. */
ZS_INLINE vec vec_phi_tanh(vec *slope, vec x)
{
    vec a = gelu_clip(x), q = a * a;
    *slope = q * 0.21406444881780076f + 1.5957691216057308f;
    return vec_sigmoid(x * (q * 0.07135481627260025f + 1.5957691216057308f));
}

ZS_INLINE vec vec_gelu_tanh(vec x)
{
    vec slope;
    return x * vec_phi_tanh(&slope, x);
}

ZS_INLINE vec vec_dgelu_tanh(vec x)
{
    vec slope, s = vec_phi_tanh(&slope, x);
    return s + (s - s * s) * (x * slope);
}

/* Derivative of gelu: Phi(x) + x times the density. */
ZS_INLINE vec vec_dgelu(vec x)
{
    vec density, phi = vec_phi(&density, x);
    return phi + x * (density * 0.3989422804014327f);
}

#endif
