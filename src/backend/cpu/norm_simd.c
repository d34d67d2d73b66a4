/* SPDX-License-Identifier: MIT */
#include "backend/cpu/norm.h"
#include "backend/cpu/vmath.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    LANES = 16,
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

static double lane_sum(const double *lane)
{
    double sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

/* Sum of (x - shift)^power, power 1 or 2. */
static inline double power_sum(const float *x, double shift, int64_t n, int power)
{
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            double d = (double)x[i + j] - shift;
            lane[j] += power == 2 ? d * d : d;
        }
    }
    for (; i < n; i++) {
        double d = (double)x[i] - shift;
        lane[0] += power == 2 ? d * d : d;
    }
    return lane_sum(lane);
}

static void row(float *restrict y, float *restrict stats, const float *restrict x,
                const float *restrict gamma, const float *restrict beta, float eps, int64_t ch)
{
    double mean = power_sum(x, 0, ch, 1) / (double)ch;
    double var = power_sum(x, mean, ch, 2) / (double)ch;
    float m = (float)mean, rstd = (float)(1.0 / sqrt(var + (double)eps));
    stats[0] = m;
    stats[1] = rstd;
    for (int64_t i = 0; i < ch; i++)
        y[i] = (x[i] - m) * rstd * gamma[i] + beta[i];
}

static void row_dx(float *restrict dx, const float *restrict x, const float *restrict stats,
                   const float *restrict gamma, const float *restrict dy, int64_t ch)
{
    double g[LANES] = {0}, gx[LANES] = {0};
    float m = stats[0], rstd = stats[1];
    int64_t i = 0;
    for (; i + LANES <= ch; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            float d = dy[i + j] * gamma[i + j];
            g[j] += (double)d;
            gx[j] += (double)(d * ((x[i + j] - m) * rstd));
        }
    }
    for (; i < ch; i++) {
        float d = dy[i] * gamma[i];
        g[0] += (double)d;
        gx[0] += (double)(d * ((x[i] - m) * rstd));
    }
    float a = (float)(lane_sum(g) / (double)ch), b = (float)(lane_sum(gx) / (double)ch);
    for (i = 0; i < ch; i++)
        dx[i] = rstd * (dy[i] * gamma[i] - (a + (x[i] - m) * rstd * b));
}

static void row_bwd(float *restrict dx, float *restrict dgamma, float *restrict dbeta,
                    const float *restrict x, const float *restrict stats,
                    const float *restrict gamma, const float *restrict dy, int64_t ch)
{
    if (dx)
        row_dx(dx, x, stats, gamma, dy, ch);
    float m = stats[0], rstd = stats[1];
    for (int64_t i = 0; i < ch; i++) {
        dbeta[i] += dy[i];
        dgamma[i] += dy[i] * ((x[i] - m) * rstd);
    }
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
