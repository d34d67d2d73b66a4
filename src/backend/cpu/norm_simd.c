/* SPDX-License-Identifier: MIT */
#include "backend/cpu/norm.h"
#include "backend/cpu/vexp.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

enum { LANES = 16, BLOCK = 32 /* channels summed at a time: their sums stay in registers */ };

/* Channels [0, BLOCK) of rows that are ch apart. */
static void moments_block(float *restrict s, float *restrict q, const float *restrict x,
                          const float *restrict shift, int64_t pixels, int64_t ch)
{
    float sum[BLOCK] = {0}, square[BLOCK] = {0}, at[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        at[i] = shift[i];
    for (int64_t p = 0; p < pixels; p++) {
        for (int i = 0; i < BLOCK; i++) {
            float d = x[p * ch + i] - at[i];
            sum[i] += d;
            square[i] += d * d;
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        s[i] = sum[i];
        q[i] = square[i];
    }
}

static void moments(float *restrict s, float *restrict q, const float *restrict x,
                    const float *restrict shift, int64_t pixels, int64_t ch)
{
    int64_t c = 0;
    for (; c + BLOCK <= ch; c += BLOCK)
        moments_block(s + c, q + c, x + c, shift + c, pixels, ch);
    for (; c < ch; c++) {
        float sum = 0.0f, square = 0.0f;
        for (int64_t p = 0; p < pixels; p++) {
            float d = x[p * ch + c] - shift[c];
            sum += d;
            square += d * d;
        }
        s[c] = sum;
        q[c] = square;
    }
}

static void affine(float *restrict y, const float *restrict x, const float *restrict a,
                   const float *restrict b, int64_t pixels, int64_t ch)
{
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t i = 0; i < ch; i++)
            y[p * ch + i] = a[i] * x[p * ch + i] + b[i];
}

static void affine_silu(float *restrict y, const float *restrict x, const float *restrict a,
                        const float *restrict b, int64_t pixels, int64_t ch)
{
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t i = 0; i < ch; i++)
            y[p * ch + i] = zs_siluf(a[i] * x[p * ch + i] + b[i]);
}

/* One pixel of sums_bwd; `silu` and `store` are constants wherever this is expanded. */
static inline void pixel_bwd(float *restrict dz, float *restrict s, float *restrict q,
                             const float *restrict x, const float *restrict dy,
                             const float *const coef[4], int64_t ch, bool silu, bool store)
{
    const float *restrict a = coef[0], *restrict b = coef[1], *restrict h = coef[2],
                          *restrict k = coef[3];
    for (int64_t i = 0; i < ch; i++) {
        float d = silu ? dy[i] * zs_dsiluf(a[i] * x[i] + b[i]) : dy[i];
        s[i] += d;
        q[i] += d * (x[i] * h[i] + k[i]);
        if (store)
            dz[i] = d;
    }
}

static void clear(float *s, float *q, int64_t ch)
{
    for (int64_t i = 0; i < ch; i++)
        s[i] = q[i] = 0.0f;
}

static void sums_bwd(float *dz, float *s, float *q, const float *x, const float *dy,
                     const float *const coef[4], int64_t pixels, int64_t ch)
{
    clear(s, q, ch);
    for (int64_t e = 0; e < pixels * ch; e += ch) {
        if (dz)
            pixel_bwd(dz + e, s, q, x + e, dy + e, coef, ch, false, true);
        else
            pixel_bwd(NULL, s, q, x + e, dy + e, coef, ch, false, false);
    }
}

static void sums_bwd_silu(float *dz, float *s, float *q, const float *x, const float *dy,
                          const float *const coef[4], int64_t pixels, int64_t ch)
{
    clear(s, q, ch);
    for (int64_t e = 0; e < pixels * ch; e += ch) {
        if (dz)
            pixel_bwd(dz + e, s, q, x + e, dy + e, coef, ch, true, true);
        else
            pixel_bwd(NULL, s, q, x + e, dy + e, coef, ch, true, false);
    }
}

static void combine(float *restrict dx, const float *restrict x, const float *const coef[3],
                    int64_t pixels, int64_t ch)
{
    const float *restrict p = coef[0], *restrict q = coef[1], *restrict r = coef[2];
    for (int64_t e = 0; e < pixels * ch; e += ch)
        for (int64_t i = 0; i < ch; i++)
            dx[e + i] = p[i] * dx[e + i] + (q[i] * x[e + i] + r[i]);
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
    .combine = combine,
    .row = row,
    .row_bwd = row_bwd,
};
