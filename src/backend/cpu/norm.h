/* SPDX-License-Identifier: MIT */
/* Inner loops of the norms over channels-last data, compiled per instruction set. */
#ifndef ZS_BACKEND_CPU_NORM_H
#define ZS_BACKEND_CPU_NORM_H

#include "backend/cpu/simd.h"

#include <stdbool.h>
#include <stdint.h>

/* Pixels of ch channels; vectors have ch elements. */
typedef struct zs_norm_fns {
    /* s = sum of x - shift, q = sum of its square, per channel. */
    void (*moments)(float *s, float *q, const float *x, const float *shift, int64_t pixels,
                    int64_t ch);
    /* y = act(a*x + b). `stream`: the results are too many to stay in a cache. */
    void (*affine)(float *y, const float *x, const float *a, const float *b, int64_t pixels,
                   int64_t ch);
    void (*affine_silu)(float *y, const float *x, const float *a, const float *b, int64_t pixels,
                        int64_t ch, bool stream);
    /* With dz = dy * act'(a*x + b): s = sum of dz, q = sum of dz*(h*x + k), per channel; coef:
     * a b h k, where h and k are rstd and -mean*rstd. dz is stored unless it is NULL; it may be
     * dy. */
    void (*sums_bwd)(float *s, float *q, const float *x, const float *dy,
                     const float *const coef[4], int64_t pixels, int64_t ch);
    void (*sums_bwd_silu)(float *dz, float *s, float *q, const float *x, const float *dy,
                          const float *const coef[4], int64_t pixels, int64_t ch);
    /* dx = p*dz + q*x + r; coef: a b p q r. dx may be dy. */
    void (*dx_bwd)(float *dx, const float *x, const float *dy, const float *const coef[5],
                   int64_t pixels, int64_t ch);
    void (*dx_bwd_silu)(float *dx, const float *x, const float *dy, const float *const coef[5],
                        int64_t pixels, int64_t ch, bool stream);
    /* to[n] = sum over rows, in their order, of from[r*stride + i]. */
    void (*fold)(double *to, const float *from, int64_t rows, int64_t stride, int64_t n);
    /* One row of layernorm: y = (x - mean)*rstd*gamma + beta, stats = mean, rstd. */
    void (*row)(float *y, float *stats, const float *x, const float *gamma, const float *beta,
                float eps, int64_t ch);
    /* Its gradient; dgamma and dbeta (sums over rows) are added to; dx may be NULL. */
    void (*row_bwd)(float *dx, float *dgamma, float *dbeta, const float *x, const float *stats,
                    const float *gamma, const float *dy, int64_t ch);
} zs_norm_fns;

ZS_SIMD_TABLES(zs_norm_fns, zs_norm);

static inline const zs_norm_fns *zs_norm_get(void)
{
    return ZS_SIMD_PICK(zs_norm);
}

#endif
