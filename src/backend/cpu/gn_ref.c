/* SPDX-License-Identifier: MIT */
/* GroupNorm with the adaptive scales and the activation of gn_act, and its gradient. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/silu_ref.h"

#include <math.h>
#include <stdbool.h>

/* What one channel of one sample is put through: xhat = (x - mean)*rstd, n1 = xhat*gamma + beta,
 * n2 = n1*(1+scale) + shift, z = n2*(1+cond), y = act(z). */
typedef struct channel {
    double mean, rstd, gamma, beta, scale, shift, cond;
    bool silu;
} channel;

/* Channel i of sample n, C channels in G groups; ss[N,2C], cs[N,C] or NULL. */
static channel channel_of(const zs_call *c, const float *stats, const float *ss, const float *cs,
                          const float *gamma, const float *beta, int64_t n, int64_t i)
{
    int64_t ch = zs_shape_last(&c->in[0].s), groups = c->a->groups;
    const float *st = stats + 2 * (n * groups + i / (ch / groups));
    return (channel){.mean = (double)st[0],
                     .rstd = (double)st[1],
                     .gamma = (double)gamma[i],
                     .beta = (double)beta[i],
                     .scale = ss ? (double)ss[n * 2 * ch + i] : 0,
                     .shift = ss ? (double)ss[n * 2 * ch + ch + i] : 0,
                     .cond = cs ? (double)cs[n * ch + i] : 0,
                     .silu = c->a->act == ZS_ACT_SILU};
}

static double normalised(const channel *k, double x)
{
    return (x - k->mean) * k->rstd;
}

static double scaled(const channel *k, double x)
{
    return (normalised(k, x) * k->gamma + k->beta) * (1 + k->scale) + k->shift;
}

/* Value v of element e behind dropout, if there is any. */
static float dropped(const zs_call *c, float v, int64_t e)
{
    float u;
    if (c->a->p <= 0)
        return v;
    zs_dropout_uniform(&u, c, zs_dropout_first(c) + e, 1);
    return u >= c->a->p ? v * (1.0f / (1.0f - c->a->p)) : 0.0f;
}

/* stats[2] of one group: x points at its first element, w of every C channels over hw pixels. */
static void group_stats(float stats[2], const float *x, int64_t hw, int64_t ch, int64_t w,
                        double eps)
{
    double sum = 0, square = 0, n = (double)(hw * w);
    for (int64_t p = 0; p < hw; p++)
        for (int64_t i = 0; i < w; i++)
            sum += (double)x[p * ch + i];
    for (int64_t p = 0; p < hw; p++) {
        for (int64_t i = 0; i < w; i++) {
            double d = (double)x[p * ch + i] - sum / n;
            square += d * d;
        }
    }
    stats[0] = (float)(sum / n);
    stats[1] = (float)(1 / sqrt(square / n + eps));
}

/* x[N,H,W,C] gamma[C] beta[C] [ss[N,2C]] [cs[N,C]] -> y[N,H,W,C], stats[N,G,2]. */
static void gn_act(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    int64_t hw = d[1] * d[2], ch = d[3], groups = c->a->groups, w = ch / groups;
    for (int64_t ng = 0; ng < d[0] * groups; ng++)
        group_stats(c->out[1].p + 2 * ng, c->in[0].p + ng / groups * hw * ch + ng % groups * w, hw,
                    ch, w, (double)c->a->eps);
    for (int64_t n = 0; n < d[0]; n++) {
        for (int64_t i = 0; i < ch; i++) {
            channel k =
                channel_of(c, c->out[1].p, c->in[3].p, c->in[4].p, c->in[1].p, c->in[2].p, n, i);
            for (int64_t p = n * hw; p < (n + 1) * hw; p++) {
                double z = scaled(&k, (double)c->in[0].p[p * ch + i]) * (1 + k.cond);
                float y = (float)(k.silu ? ref_silu(z) : z);
                c->out[0].p[p * ch + i] = dropped(c, y, p * ch + i);
            }
        }
    }
}

const zs_kernel zs_ref_gn_act = {gn_act, NULL};

static channel bwd_channel(const zs_call *c, int64_t n, int64_t i)
{
    return channel_of(c, c->in[1].p, c->in[4].p, c->in[5].p, c->in[2].p, c->in[3].p, n, i);
}

/* Gradient at z of element e = (n,p,i). */
static double dz_of(const zs_call *c, const channel *k, int64_t e)
{
    double dy = (double)dropped(c, c->in[6].p[e], e);
    return k->silu ? dy * ref_dsilu(scaled(k, (double)c->in[0].p[e]) * (1 + k->cond)) : dy;
}

/* Gradient at xhat of element e. */
static double dxhat_of(const zs_call *c, const channel *k, int64_t e)
{
    return dz_of(c, k, e) * (1 + k->cond) * (1 + k->scale) * k->gamma;
}

/* dx of group g of sample n: rstd * (d - mean(d) - xhat*mean(d*xhat)), d the gradient at xhat. */
static void group_dx(const zs_call *c, int64_t n, int64_t g)
{
    const int64_t *d = c->in[0].s.d;
    int64_t hw = d[1] * d[2], ch = d[3], w = ch / c->a->groups;
    double sum = 0, sumx = 0, count = (double)(hw * w);
    for (int64_t i = g * w; i < (g + 1) * w; i++) {
        channel k = bwd_channel(c, n, i);
        for (int64_t e = n * hw * ch + i; e < (n + 1) * hw * ch; e += ch) {
            double dx = dxhat_of(c, &k, e);
            sum += dx;
            sumx += dx * normalised(&k, (double)c->in[0].p[e]);
        }
    }
    for (int64_t i = g * w; i < (g + 1) * w; i++) {
        channel k = bwd_channel(c, n, i);
        for (int64_t e = n * hw * ch + i; e < (n + 1) * hw * ch; e += ch) {
            double xhat = normalised(&k, (double)c->in[0].p[e]);
            c->out[0].p[e] = (float)(k.rstd * (dxhat_of(c, &k, e) - (sum + xhat * sumx) / count));
        }
    }
}

/* dss[n,i], dss[n,C+i], dcs[n,i]; *dgamma and *dbeta are added to. */
static void channel_grads(const zs_call *c, int64_t n, int64_t i, double *dgamma, double *dbeta)
{
    const int64_t *d = c->in[0].s.d;
    int64_t hw = d[1] * d[2], ch = d[3];
    channel k = bwd_channel(c, n, i);
    double dscale = 0, dshift = 0, dcond = 0;
    for (int64_t e = n * hw * ch + i; e < (n + 1) * hw * ch; e += ch) {
        double dz = dz_of(c, &k, e), x = (double)c->in[0].p[e], xhat = normalised(&k, x);
        double d2 = dz * (1 + k.cond), d1 = d2 * (1 + k.scale);
        dcond += dz * scaled(&k, x);
        dshift += d2;
        dscale += d2 * (xhat * k.gamma + k.beta);
        *dgamma += d1 * xhat;
        *dbeta += d1;
    }
    if (c->out[3].p) {
        c->out[3].p[n * 2 * ch + i] = (float)dscale;
        c->out[3].p[n * 2 * ch + ch + i] = (float)dshift;
    }
    if (c->out[4].p)
        c->out[4].p[n * ch + i] = (float)dcond;
}

/* x[N,H,W,C] stats[N,G,2] gamma beta [ss] [cs] dy -> [dx] dgamma+= dbeta+= [dss] [dcs]. */
static void gn_act_bwd(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    for (int64_t ng = 0; c->out[0].p && ng < d[0] * c->a->groups; ng++)
        group_dx(c, ng / c->a->groups, ng % c->a->groups);
    for (int64_t i = 0; i < d[3]; i++) {
        double dgamma = 0, dbeta = 0;
        for (int64_t n = 0; n < d[0]; n++)
            channel_grads(c, n, i, &dgamma, &dbeta);
        if (c->out[1].p)
            c->out[1].p[i] += (float)dgamma;
        if (c->out[2].p)
            c->out[2].p[i] += (float)dbeta;
    }
}

const zs_kernel zs_ref_gn_act_bwd = {gn_act_bwd, NULL};
