/* SPDX-License-Identifier: MIT */
/* Loops over contiguous elements, compiled per instruction set (elem_simd.c). */
#ifndef ZS_BACKEND_CPU_ELEM_H
#define ZS_BACKEND_CPU_ELEM_H

#include "backend/cpu/simd.h"

#include <stdint.h>

/* All arrays have n elements unless said otherwise; outputs never overlap inputs, except that the
 * y of dropout may be its x. */
typedef struct zs_elem_fns {
    void (*silu)(float *y, const float *x, int64_t n);
    void (*silu_bwd)(float *dx, const float *x, const float *dy, int64_t n);
    void (*gelu)(float *y, const float *x, int64_t n);
    void (*gelu_bwd)(float *dx, const float *x, const float *dy, int64_t n);
    void (*gelu_tanh)(float *y, const float *x, int64_t n);
    void (*gelu_tanh_bwd)(float *dx, const float *x, const float *dy, int64_t n);
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    void (*accumulate)(float *y, const float *x, int64_t n);
    void (*mul)(float *y, const float *a, const float *b, int64_t n);
    void (*mul1p)(float *y, const float *x, const float *s, int64_t n);                /* x*(1+s) */
    void (*gate)(float *y, const float *x, const float *f, const float *g, int64_t n); /* x+f*g */
    /* df = g*dy for `rows` rows of n elements, ld apart, with one g[n]; dg[n] += sum over them of
     * f*dy. df may be NULL. */
    void (*gate_bwd)(float *df, float *dg, const float *f, const float *g, const float *dy,
                     int64_t rows, int64_t ld, int64_t n);
    void (*scale)(float *y, const float *x, float f, int64_t n);
    /* y[ch] = f * (a[0] + a[1] + b[0] + b[1]), each of them a pixel of ch channels. */
    void (*square_sum)(float *y, const float *a, const float *b, float f, int64_t ch);
    /* y[2*i] = y[2*i+1] = f*x[i] for pixels i < w of ch channels, in each of two rows of y. */
    void (*twice)(float *y, float *second, const float *x, float f, int64_t w, int64_t ch);
    /* rows of n floats, y_ld and x_ld apart. */
    void (*copy_rows)(float *y, int64_t y_ld, const float *x, int64_t x_ld, int64_t rows,
                      int64_t n);
    /* s[ch] += sum over rows of x[rows][ch]. */
    void (*column_sums)(float *s, const float *x, int64_t rows, int64_t ch);
    double (*sum_square_diff)(const float *a, const float *b, int64_t n);
    double (*sum_abs_diff)(const float *a, const float *b, int64_t n);
    void (*square_diff_bwd)(float *d, const float *a, const float *b, float f, int64_t n);
    void (*abs_diff_bwd)(float *d, const float *a, const float *b, float f, int64_t n);
    /* x[n] -> y = x*f where the uniform is >= p, else 0. Elements 4*block ... of the Philox
     * stream with this key and counter words 1..3; n is a multiple of 4 except in a last call. */
    void (*dropout)(float *y, const float *x, int64_t n, float p, float f, uint32_t block,
                    const uint32_t ctr[4], const uint32_t key[2]);
    /* In place: each row of s[rows][n] becomes the softmax of scale*s, scale > 0. */
    void (*softmax)(float *s, float scale, int64_t rows, int64_t n);
    /* dp[rows][n] becomes f * p * (dp - sum of p*dp over the row). */
    void (*softmax_bwd)(float *dp, const float *p, float f, int64_t rows, int64_t n);
} zs_elem_fns;

ZS_SIMD_TABLES(zs_elem_fns, zs_elem);

static inline const zs_elem_fns *zs_elem_get(void)
{
    return ZS_SIMD_PICK(zs_elem);
}

#endif
