/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

/* y[i] over `rows` rows of x, w wide and `step` apart: mean and 1/sqrt(variance + eps). */
static void moments(float stats[2], const float *x, int64_t rows, int64_t w, int64_t step,
                    double eps)
{
    double sum = 0, square = 0, n = (double)(rows * w);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < w; i++)
            sum += (double)x[r * step + i];
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < w; i++) {
            double d = (double)x[r * step + i] - sum / n;
            square += d * d;
        }
    }
    stats[0] = (float)(sum / n);
    stats[1] = (float)(1 / sqrt(square / n + eps));
}

/* x[M,C] gamma[C] beta[C] -> y[M,C], stats[M,2]. */
static void layernorm(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), ch = zs_shape_last(&c->in[0].s);
    const float *gamma = c->in[1].p, *beta = c->in[2].p;
    for (int64_t r = 0; r < m; r++) {
        const float *x = c->in[0].p + r * ch;
        float *stats = c->out[1].p + 2 * r;
        moments(stats, x, 1, ch, ch, (double)c->a->eps);
        for (int64_t i = 0; i < ch; i++) {
            double xhat = ((double)x[i] - (double)stats[0]) * (double)stats[1];
            c->out[0].p[r * ch + i] = (float)(xhat * (double)gamma[i] + (double)beta[i]);
        }
    }
}

const zs_kernel zs_ref_layernorm = {layernorm, NULL};

/* dx of one row: rstd * (g - mean(g) - xhat*mean(g*xhat)), g = dy*gamma. */
static void layernorm_dx(float *dx, const float *x, const float *stats, const float *gamma,
                         const float *dy, int64_t ch)
{
    double g = 0, gx = 0, mean = (double)stats[0], rstd = (double)stats[1];
    for (int64_t i = 0; i < ch; i++) {
        double d = (double)dy[i] * (double)gamma[i];
        g += d;
        gx += d * ((double)x[i] - mean) * rstd;
    }
    for (int64_t i = 0; i < ch; i++) {
        double d = (double)dy[i] * (double)gamma[i], xhat = ((double)x[i] - mean) * rstd;
        dx[i] = (float)(rstd * (d - (g + xhat * gx) / (double)ch));
    }
}

/* x[M,C] stats[M,2] gamma[C] dy[M,C] -> [dx[M,C]] dgamma[C]+= dbeta[C]+=. */
static void layernorm_bwd(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), ch = zs_shape_last(&c->in[0].s);
    const float *x = c->in[0].p, *stats = c->in[1].p, *dy = c->in[3].p;
    for (int64_t r = 0; c->out[0].p && r < m; r++)
        layernorm_dx(c->out[0].p + r * ch, x + r * ch, stats + 2 * r, c->in[2].p, dy + r * ch, ch);
    for (int64_t i = 0; i < ch; i++) {
        double dgamma = 0, dbeta = 0;
        for (int64_t r = 0; r < m; r++) {
            double d = (double)dy[r * ch + i];
            dbeta += d;
            dgamma += d * ((double)x[r * ch + i] - (double)stats[2 * r]) * (double)stats[2 * r + 1];
        }
        if (c->out[1].p)
            c->out[1].p[i] += (float)dgamma;
        if (c->out[2].p)
            c->out[2].p[i] += (float)dbeta;
    }
}

const zs_kernel zs_ref_layernorm_bwd = {layernorm_bwd, NULL};
