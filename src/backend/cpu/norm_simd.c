/* SPDX-License-Identifier: MIT */
#include "backend/cpu/norm.h"
#include "backend/cpu/vmath.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    ROWS = 8,     /* pixels whose sums are made in registers before they reach memory */
    ROWS_BWD = 4, /* the same where each needs more registers */
    AHEAD = 8192  /* bytes between a load and its prefetch */
};

static void clear(float *s, float *q, int64_t ch)
{
    for (int64_t i = 0; i < ch; i++)
        s[i] = q[i] = 0.0f;
}

/* Asks for the line AHEAD bytes after p, which need not exist. */
ZS_INLINE void ahead(const float *p)
{
#ifdef __GNUC__
    __builtin_prefetch((const void *)((uintptr_t)p + AHEAD));
#else
    (void)p;
#endif
}

/* In the functions named _at: channels i..i+n of `rows` pixels; n is VL, or less at the end. */
ZS_INLINE void moments_at(float *s, float *q, const float *x, const float *shift, int64_t ch,
                          int rows, int n)
{
    vec at = vec_load_n(shift, n), sum = vec_load_n(s, n), square = vec_load_n(q, n);
    for (int j = 0; j < rows; j++) {
        ahead(x + j * ch);
        vec d = vec_load_n(x + j * ch, n) - at;
        sum += d;
        square += d * d;
    }
    vec_save_n(s, sum, n);
    vec_save_n(q, square, n);
}

ZS_INLINE void moments_rows(float *s, float *q, const float *x, const float *shift, int64_t ch,
                            int rows)
{
    int64_t i = 0;
    for (; i + VL <= ch; i += VL)
        moments_at(s + i, q + i, x + i, shift + i, ch, rows, VL);
    if (i < ch)
        moments_at(s + i, q + i, x + i, shift + i, ch, rows, (int)(ch - i));
}

static void moments(float *s, float *q, const float *x, const float *shift, int64_t pixels,
                    int64_t ch)
{
    int64_t p = 0;
    clear(s, q, ch);
    for (; p + ROWS <= pixels; p += ROWS)
        moments_rows(s, q, x + p * ch, shift, ch, ROWS);
    for (; p < pixels; p++)
        moments_rows(s, q, x + p * ch, shift, ch, 1);
}

/* A store; past the caches if `stream`, which needs p to be a multiple of the vector. */
ZS_INLINE void put(float *p, vec v, int n, bool stream)
{
    if (stream && n == VL)
        vec_stream(p, v);
    else
        vec_save_n(p, v, n);
}

ZS_INLINE void affine_at(float *y, const float *x, const float *a, const float *b, int64_t ch,
                         int rows, bool silu, bool stream, int n)
{
    vec slope = vec_load_n(a, n), at = vec_load_n(b, n);
    for (int j = 0; j < rows; j++) {
        ahead(x + j * ch);
        vec z = slope * vec_load_n(x + j * ch, n) + at;
        put(y + j * ch, silu ? vec_silu(z) : z, n, stream);
    }
}

ZS_INLINE void affine_rows(float *y, const float *x, const float *a, const float *b, int64_t ch,
                           int rows, bool silu, bool stream)
{
    int64_t i = 0;
    for (; i + VL <= ch; i += VL)
        affine_at(y + i, x + i, a + i, b + i, ch, rows, silu, stream, VL);
    if (i < ch)
        affine_at(y + i, x + i, a + i, b + i, ch, rows, silu, stream, (int)(ch - i));
}

ZS_INLINE void affine_all(float *y, const float *x, const float *a, const float *b, int64_t pixels,
                          int64_t ch, bool silu, bool stream)
{
    int64_t p = 0;
    for (; p + ROWS_BWD <= pixels; p += ROWS_BWD)
        affine_rows(y + p * ch, x + p * ch, a, b, ch, ROWS_BWD, silu, stream);
    for (; p < pixels; p++)
        affine_rows(y + p * ch, x + p * ch, a, b, ch, 1, silu, stream);
}

static void affine(float *y, const float *x, const float *a, const float *b, int64_t pixels,
                   int64_t ch)
{
    affine_all(y, x, a, b, pixels, ch, false, false);
}

static bool can_stream(const float *p, int64_t ch)
{
    return ch % VL == 0 && (uintptr_t)p % sizeof(vec) == 0;
}

static void affine_silu(float *y, const float *x, const float *a, const float *b, int64_t pixels,
                        int64_t ch, bool stream)
{
    if (stream && can_stream(y, ch)) {
        affine_all(y, x, a, b, pixels, ch, true, true);
        vec_stream_end();
    } else {
        affine_all(y, x, a, b, pixels, ch, true, false);
    }
}

ZS_INLINE void sums_at(float *dz, float *s, float *q, const float *x, const float *dy,
                       const float *const coef[4], int64_t i, int64_t ch, int rows, bool silu,
                       int n)
{
    vec a = vec_load_n(coef[0] + i, n), b = vec_load_n(coef[1] + i, n);
    vec h = vec_load_n(coef[2] + i, n), k = vec_load_n(coef[3] + i, n);
    vec sum = vec_load_n(s + i, n), dot = vec_load_n(q + i, n);
    for (int j = 0; j < rows; j++) {
        ahead(x + j * ch + i);
        ahead(dy + j * ch + i);
        vec v = vec_load_n(x + j * ch + i, n), d = vec_load_n(dy + j * ch + i, n);
        if (silu)
            d *= vec_dsilu(a * v + b);
        if (dz)
            vec_save_n(dz + j * ch + i, d, n);
        sum += d;
        dot += d * (v * h + k);
    }
    vec_save_n(s + i, sum, n);
    vec_save_n(q + i, dot, n);
}

ZS_INLINE void sums_rows(float *dz, float *s, float *q, const float *x, const float *dy,
                         const float *const coef[4], int64_t ch, int rows, bool silu)
{
    int64_t i = 0;
    for (; i + VL <= ch; i += VL)
        sums_at(dz, s, q, x, dy, coef, i, ch, rows, silu, VL);
    if (i < ch)
        sums_at(dz, s, q, x, dy, coef, i, ch, rows, silu, (int)(ch - i));
}

/* `store` tells the compiler whether dz is there. */
ZS_INLINE void sums_all(float *dz, float *s, float *q, const float *x, const float *dy,
                        const float *const coef[4], int64_t pixels, int64_t ch, bool silu,
                        bool store)
{
    int64_t p = 0;
    clear(s, q, ch);
    for (; p + ROWS_BWD <= pixels; p += ROWS_BWD)
        sums_rows(store ? dz + p * ch : NULL, s, q, x + p * ch, dy + p * ch, coef, ch, ROWS_BWD,
                  silu);
    for (; p < pixels; p++)
        sums_rows(store ? dz + p * ch : NULL, s, q, x + p * ch, dy + p * ch, coef, ch, 1, silu);
}

static void sums_bwd(float *s, float *q, const float *x, const float *dy,
                     const float *const coef[4], int64_t pixels, int64_t ch)
{
    sums_all(NULL, s, q, x, dy, coef, pixels, ch, false, false);
}

static void sums_bwd_silu(float *dz, float *s, float *q, const float *x, const float *dy,
                          const float *const coef[4], int64_t pixels, int64_t ch)
{
    if (dz)
        sums_all(dz, s, q, x, dy, coef, pixels, ch, true, true);
    else
        sums_all(NULL, s, q, x, dy, coef, pixels, ch, true, false);
}

ZS_INLINE void dx_at(float *dx, const float *x, const float *dy, const float *const coef[5],
                     int64_t i, int64_t ch, int rows, bool silu, bool stream, int n)
{
    vec a = vec_load_n(coef[0] + i, n), b = vec_load_n(coef[1] + i, n);
    vec p = vec_load_n(coef[2] + i, n), q = vec_load_n(coef[3] + i, n);
    vec r = vec_load_n(coef[4] + i, n);
    for (int64_t e = i, j = 0; j < rows; e += ch, j++) {
        ahead(x + e);
        ahead(dy + e);
        vec v = vec_load_n(x + e, n), d = vec_load_n(dy + e, n);
        if (silu)
            d *= vec_dsilu(a * v + b);
        put(dx + e, p * d + (q * v + r), n, stream);
    }
}

ZS_INLINE void dx_rows(float *dx, const float *x, const float *dy, const float *const coef[5],
                       int64_t ch, int rows, bool silu, bool stream)
{
    int64_t i = 0;
    for (; i + VL <= ch; i += VL)
        dx_at(dx, x, dy, coef, i, ch, rows, silu, stream, VL);
    if (i < ch)
        dx_at(dx, x, dy, coef, i, ch, rows, silu, stream, (int)(ch - i));
}

ZS_INLINE void dx_all(float *dx, const float *x, const float *dy, const float *const coef[5],
                      int64_t pixels, int64_t ch, bool silu, bool stream)
{
    int64_t p = 0;
    for (; p + ROWS_BWD <= pixels; p += ROWS_BWD)
        dx_rows(dx + p * ch, x + p * ch, dy + p * ch, coef, ch, ROWS_BWD, silu, stream);
    for (; p < pixels; p++)
        dx_rows(dx + p * ch, x + p * ch, dy + p * ch, coef, ch, 1, silu, stream);
}

static void dx_bwd(float *dx, const float *x, const float *dy, const float *const coef[5],
                   int64_t pixels, int64_t ch)
{
    dx_all(dx, x, dy, coef, pixels, ch, false, false);
}

static void dx_bwd_silu(float *dx, const float *x, const float *dy, const float *const coef[5],
                        int64_t pixels, int64_t ch, bool stream)
{
    if (stream && can_stream(dx, ch)) {
        dx_all(dx, x, dy, coef, pixels, ch, true, true);
        vec_stream_end();
    } else {
        dx_all(dx, x, dy, coef, pixels, ch, true, false);
    }
}

static void fold(double *restrict to, const float *restrict from, int64_t rows, int64_t stride,
                 int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            to[i] += (double)from[r * stride + i];
}

/* Sum of (x - shift)^power, power 1 or 2. */
ZS_INLINE double power_sum(const float *x, float shift, int64_t n, int power)
{
    vec a = vec_zero(), b = vec_zero(), at = vec_set(shift);
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        vec d = vec_load(x + i) - at, e = vec_load(x + i + VL) - at;
        a += power == 2 ? d * d : d;
        b += power == 2 ? e * e : e;
    }
    double sum = (double)vec_sum(a + b);
    for (; i < n; i++) {
        double d = (double)x[i] - (double)shift;
        sum += power == 2 ? d * d : d;
    }
    return sum;
}

static void row(float *restrict y, float *restrict stats, const float *restrict x,
                const float *restrict gamma, const float *restrict beta, float eps, int64_t ch)
{
    /* about x[0], so that a mean far above the deviation costs nothing */
    double mean = (double)x[0] + power_sum(x, x[0], ch, 1) / (double)ch;
    float m = (float)mean;
    double off = mean - (double)m, var = power_sum(x, m, ch, 2) / (double)ch - off * off;
    float rstd = (float)(1.0 / sqrt((var > 0 ? var : var - var) + (double)eps));
    stats[0] = m;
    stats[1] = rstd;
    for (int64_t i = 0; i < ch; i++)
        y[i] = (x[i] - m) * rstd * gamma[i] + beta[i];
}

/* Adds to sum[0] the sum of d = dy*gamma and to sum[1] that of d*xhat, and the row to dgamma and
 * dbeta; n as in the functions named _at. */
ZS_INLINE void row_sums_at(vec sum[2], float *dgamma, float *dbeta, const float *x, const float *dy,
                           const float *gamma, vec mean, vec rstd, int n)
{
    vec g = vec_load_n(dy, n), xhat = (vec_load_n(x, n) - mean) * rstd;
    vec d = g * vec_load_n(gamma, n);
    sum[0] += d;
    sum[1] += d * xhat;
    vec_save_n(dbeta, vec_load_n(dbeta, n) + g, n);
    vec_save_n(dgamma, vec_load_n(dgamma, n) + g * xhat, n);
}

static void row_bwd(float *restrict dx, float *restrict dgamma, float *restrict dbeta,
                    const float *restrict x, const float *restrict stats,
                    const float *restrict gamma, const float *restrict dy, int64_t ch)
{
    vec sum[2] = {vec_zero(), vec_zero()}, mean = vec_set(stats[0]), scale = vec_set(stats[1]);
    int64_t i = 0;
    for (; i + VL <= ch; i += VL)
        row_sums_at(sum, dgamma + i, dbeta + i, x + i, dy + i, gamma + i, mean, scale, VL);
    if (i < ch)
        row_sums_at(sum, dgamma + i, dbeta + i, x + i, dy + i, gamma + i, mean, scale,
                    (int)(ch - i));
    float m = stats[0], rstd = stats[1];
    float a = vec_sum(sum[0]) / (float)ch, b = vec_sum(sum[1]) / (float)ch;
    for (i = 0; dx && i < ch; i++)
        dx[i] = rstd * (dy[i] * gamma[i] - (a + (x[i] - m) * rstd * b));
}

const zs_norm_fns ZS_SIMD(zs_norm) = {
    .moments = moments,
    .affine = affine,
    .affine_silu = affine_silu,
    .sums_bwd = sums_bwd,
    .sums_bwd_silu = sums_bwd_silu,
    .dx_bwd = dx_bwd,
    .dx_bwd_silu = dx_bwd_silu,
    .fold = fold,
    .row = row,
    .row_bwd = row_bwd,
};
