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

/* The affine map of sample n, as far as it is given: with ss, gamma*(1+scale) and
 * beta*(1+scale) + shift. */
typedef struct affine {
    const float *gamma, *beta, *ss;
    int64_t samples, ld, shift, scale; /* columns of ss */
} affine;

/* Slots gamma, gamma+1 and gamma+2: gamma, beta, ss. */
static affine affine_of(const zs_call *c, int gamma)
{
    int64_t ch = zs_shape_last(&c->in[0].s), at = c->a->offset;
    const zs_view *ss = &c->in[gamma + 2];
    return (affine){c->in[gamma].p,
                    c->in[gamma + 1].p,
                    ss->p,
                    ss->p ? ss->s.d[0] : 1,
                    ss->p ? ss->s.d[1] : 0,
                    at,
                    at + ch};
}

static double gamma_at(const affine *a, int64_t i)
{
    return a->gamma ? (double)a->gamma[i] : 1.0;
}

static double beta_at(const affine *a, int64_t i)
{
    return a->beta ? (double)a->beta[i] : 0.0;
}

static double scale1p_at(const affine *a, int64_t n, int64_t i)
{
    return a->ss ? 1.0 + (double)a->ss[n * a->ld + a->scale + i] : 1.0;
}

/* x[M,C] [gamma[C]] [beta[C]] [ss[N,S]] -> y[M,C], stats[M,2]. */
static void layernorm(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), ch = zs_shape_last(&c->in[0].s);
    affine a = affine_of(c, 1);
    for (int64_t r = 0; r < m; r++) {
        const float *x = c->in[0].p + r * ch;
        float *stats = c->out[1].p + 2 * r;
        int64_t n = r / (m / a.samples);
        moments(stats, x, 1, ch, ch, (double)c->a->eps);
        for (int64_t i = 0; i < ch; i++) {
            double xhat = ((double)x[i] - (double)stats[0]) * (double)stats[1];
            double y = (xhat * gamma_at(&a, i) + beta_at(&a, i)) * scale1p_at(&a, n, i);
            y += a.ss ? (double)a.ss[n * a.ld + a.shift + i] : 0.0;
            c->out[0].p[r * ch + i] = (float)y;
        }
    }
}

const zs_kernel zs_ref_layernorm = {layernorm, NULL};

/* dx of one row: rstd * (g - mean(g) - xhat*mean(g*xhat)), g = dy*gamma*(1+scale). */
static void layernorm_dx(float *dx, const float *x, const float *stats, const affine *a, int64_t n,
                         const float *dy, int64_t ch)
{
    double g = 0, gx = 0, mean = (double)stats[0], rstd = (double)stats[1];
    for (int64_t i = 0; i < ch; i++) {
        double d = (double)dy[i] * gamma_at(a, i) * scale1p_at(a, n, i);
        g += d;
        gx += d * ((double)x[i] - mean) * rstd;
    }
    for (int64_t i = 0; i < ch; i++) {
        double d = (double)dy[i] * gamma_at(a, i) * scale1p_at(a, n, i);
        double xhat = ((double)x[i] - mean) * rstd;
        dx[i] = (float)(rstd * (d - (g + xhat * gx) / (double)ch));
    }
}

/* The gradients of channel i of gamma, beta and, for every sample, shift and scale. */
static void channel_bwd(const zs_call *c, const affine *a, int64_t i)
{
    int64_t ch = zs_shape_last(&c->in[0].s), rows = zs_shape_rows(&c->in[0].s) / a->samples;
    double dgamma = 0, dbeta = 0;
    for (int64_t n = 0; n < a->samples; n++) {
        double one = 0, xhat = 0;
        for (int64_t r = n * rows; r < (n + 1) * rows; r++) {
            const float *stats = c->in[1].p + 2 * r;
            double d = (double)c->in[5].p[r * ch + i];
            one += d;
            xhat += d * ((double)c->in[0].p[r * ch + i] - (double)stats[0]) * (double)stats[1];
        }
        dgamma += xhat * scale1p_at(a, n, i);
        dbeta += one * scale1p_at(a, n, i);
        if (c->out[3].p) {
            c->out[3].p[n * a->ld + a->shift + i] = (float)one;
            c->out[3].p[n * a->ld + a->scale + i] =
                (float)(xhat * gamma_at(a, i) + one * beta_at(a, i));
        }
    }
    if (c->out[1].p)
        c->out[1].p[i] += (float)dgamma;
    if (c->out[2].p)
        c->out[2].p[i] += (float)dbeta;
}

/* x[M,C] stats[M,2] [gamma[C]] [beta[C]] [ss[N,S]] dy[M,C]
 * -> [dx[M,C]] [dgamma[C]+=] [dbeta[C]+=] [dss[N,S]]. */
static void layernorm_bwd(const zs_call *c)
{
    int64_t m = zs_shape_rows(&c->in[0].s), ch = zs_shape_last(&c->in[0].s);
    affine a = affine_of(c, 2);
    for (int64_t r = 0; c->out[0].p && r < m; r++)
        layernorm_dx(c->out[0].p + r * ch, c->in[0].p + r * ch, c->in[1].p + 2 * r, &a,
                     r / (m / a.samples), c->in[5].p + r * ch, ch);
    for (int64_t i = 0; c->out[3].p && i < a.samples * a.ld; i++)
        c->out[3].p[i] = 0.0f;
    for (int64_t i = 0; i < ch; i++)
        channel_bwd(c, &a, i);
}

const zs_kernel zs_ref_layernorm_bwd = {layernorm_bwd, NULL};
