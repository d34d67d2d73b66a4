/* SPDX-License-Identifier: MIT */
/* gn_act in one affine map per (sample, channel): with A = gamma*rstd and B = beta - mean*A,
 * z = a*x + b where a = A(1+scale)(1+cond) and b = (B(1+scale) + shift)(1+cond).
 *
 * Sums are taken over fixed blocks of pixels in f32 and added over blocks in double. Those of the
 * forward pass are of x - x[n,0,0,:], so that a mean far above the deviation costs nothing. The
 * same blocks are used whether one thread does a whole sample (its data then stays in cache
 * between the passes) or all threads share one. */
#include "backend/cpu/fast.h"
#include "backend/cpu/norm.h"

#include <math.h>

enum {
    BLOCK_ELEMENTS = 1 << 14,
    BLOCK_PIXELS = 512,
    SAMPLE_BYTES = 512 << 10 /* of a tensor: beyond it threads share a sample */
};

typedef struct dims {
    const zs_norm_fns *fn;
    int64_t n, hw, ch, groups, block, blocks;
    bool whole; /* one thread per sample */
} dims;

static dims dims_of(const zs_call *c)
{
    const int64_t *s = c->in[0].s.d;
    dims d = {zs_norm_get(), s[0], s[1] * s[2], s[3], c->a->groups, 0, 0, false};
    d.block = BLOCK_ELEMENTS / d.ch;
    d.block = d.block < 1 ? 1 : d.block > BLOCK_PIXELS ? BLOCK_PIXELS : d.block;
    d.blocks = (d.hw + d.block - 1) / d.block;
    d.whole = d.n >= 2 * c->threads && d.hw * d.ch * 4 <= SAMPLE_BYTES;
    return d;
}

static int64_t block_pixels(const dims *d, int64_t k)
{
    return k + 1 < d->blocks ? d->block : d->hw - k * d->block;
}

/* First element of block k of sample n. */
static int64_t block_at(const dims *d, int64_t n, int64_t k)
{
    return (n * d->hw + k * d->block) * d->ch;
}

/* Workspace of both directions, floats: sums[N][blocks][2][C], then `vectors` of [N][C]. */
static float *sums_of(const dims *d, const zs_call *c, int64_t n, int64_t k)
{
    return (float *)c->ws + (n * d->blocks + k) * 2 * d->ch;
}

static float *vector_of(const dims *d, const zs_call *c, int64_t i, int64_t n)
{
    return (float *)c->ws + d->n * d->blocks * 2 * d->ch + (i * d->n + n) * d->ch;
}

static size_t floats_ws(const dims *d, int64_t vectors)
{
    return (size_t)(d->n * d->ch * (2 * d->blocks + vectors)) * sizeof(float);
}

/* Sum of one channel over the blocks; which: 0 or 1. */
static double block_sum(const dims *d, const zs_call *c, int64_t n, int64_t i, int which)
{
    double sum = 0;
    for (int64_t k = 0; k < d->blocks; k++)
        sum += (double)sums_of(d, c, n, k)[which * d->ch + i];
    return sum;
}

/* Runs fn on every block, then finish on every sample, then last on every block. */
typedef void (*block_fn)(const dims *d, const zs_call *c, int64_t n, int64_t k);
typedef void (*sample_fn)(const dims *d, const zs_call *c, int64_t n);

typedef struct stages {
    dims d;
    const zs_call *c;
    block_fn first, last; /* last may be NULL */
    sample_fn finish;
} stages;

static void run_samples(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    (void)thread;
    for (int64_t n = begin; n < end; n++) {
        for (int64_t k = 0; k < s->d.blocks; k++)
            s->first(&s->d, s->c, n, k);
        s->finish(&s->d, s->c, n);
        for (int64_t k = 0; s->last && k < s->d.blocks; k++)
            s->last(&s->d, s->c, n, k);
    }
}

static void run_first(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        s->first(&s->d, s->c, i / s->d.blocks, i % s->d.blocks);
}

static void run_finish(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    (void)thread;
    for (int64_t n = begin; n < end; n++)
        s->finish(&s->d, s->c, n);
}

static void run_last(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        s->last(&s->d, s->c, i / s->d.blocks, i % s->d.blocks);
}

static void run_stages(stages *s)
{
    if (s->d.whole) {
        zs_parallel_for(s->d.n, 1, run_samples, s);
        return;
    }
    zs_parallel_for(s->d.n * s->d.blocks, 1, run_first, s);
    zs_parallel_for(s->d.n, 1, run_finish, s);
    if (s->last)
        zs_parallel_for(s->d.n * s->d.blocks, 1, run_last, s);
}

/* 1 + scale, shift and 1 + cond of one channel. */
typedef struct modulation {
    double scale, shift, cond;
} modulation;

static modulation modulation_of(const dims *d, const float *ss, const float *cs, int64_t n,
                                int64_t i)
{
    return (modulation){ss ? 1 + (double)ss[n * 2 * d->ch + i] : 1,
                        ss ? (double)ss[n * 2 * d->ch + d->ch + i] : 0,
                        cs ? 1 + (double)cs[n * d->ch + i] : 1};
}

/* a and b of channel i (see the top) from its group's mean and rstd. */
static void affine_of(float *a, float *b, const float stats[2], double gamma, double beta,
                      const modulation *m)
{
    double slope = gamma * (double)stats[1], at = beta - (double)stats[0] * slope;
    *a = (float)(slope * m->scale * m->cond);
    *b = (float)((at * m->scale + m->shift) * m->cond);
}

/* ---- forward: vectors 0 a, 1 b ---- */

static void fwd_sums(const dims *d, const zs_call *c, int64_t n, int64_t k)
{
    float *s = sums_of(d, c, n, k);
    const float *x = c->in[0].p;
    d->fn->moments(s, s + d->ch, x + block_at(d, n, k), x + n * d->hw * d->ch, block_pixels(d, k),
                   d->ch);
}

/* stats[2] of channels [i0, i1) from their sums, by the parallel form of the variance. */
static void group_stats(float stats[2], const dims *d, const zs_call *c, int64_t n, int64_t i0,
                        int64_t i1)
{
    const float *shift = c->in[0].p + n * d->hw * d->ch;
    double hw = (double)d->hw, mean = 0, m2 = 0;
    for (int64_t i = i0; i < i1; i++)
        mean += (double)shift[i] + block_sum(d, c, n, i, 0) / hw;
    mean /= (double)(i1 - i0);
    for (int64_t i = i0; i < i1; i++) {
        double s = block_sum(d, c, n, i, 0), off = (double)shift[i] + s / hw - mean;
        m2 += block_sum(d, c, n, i, 1) - s * s / hw + hw * off * off;
    }
    double var = m2 / (hw * (double)(i1 - i0));
    stats[0] = (float)mean;
    stats[1] = (float)(1 / sqrt((var > 0 ? var : var - var) + (double)c->a->eps));
}

static void fwd_finish(const dims *d, const zs_call *c, int64_t n)
{
    float *a = vector_of(d, c, 0, n), *b = vector_of(d, c, 1, n);
    int64_t width = d->ch / d->groups;
    for (int64_t g = 0; g < d->groups; g++) {
        float *stats = c->out[1].p + 2 * (n * d->groups + g);
        group_stats(stats, d, c, n, g * width, (g + 1) * width);
        for (int64_t i = g * width; i < (g + 1) * width; i++) {
            modulation m = modulation_of(d, c->in[3].p, c->in[4].p, n, i);
            affine_of(a + i, b + i, stats, (double)c->in[1].p[i], (double)c->in[2].p[i], &m);
        }
    }
}

static void fwd_apply(const dims *d, const zs_call *c, int64_t n, int64_t k)
{
    int64_t at = block_at(d, n, k);
    const float *a = vector_of(d, c, 0, n), *b = vector_of(d, c, 1, n);
    if (c->a->act == ZS_ACT_SILU)
        d->fn->affine_silu(c->out[0].p + at, c->in[0].p + at, a, b, block_pixels(d, k), d->ch);
    else
        d->fn->affine(c->out[0].p + at, c->in[0].p + at, a, b, block_pixels(d, k), d->ch);
}

static size_t gn_act_ws(const zs_call *c)
{
    dims d = dims_of(c);
    return floats_ws(&d, 2);
}

static void gn_act(const zs_call *c)
{
    stages s = {dims_of(c), c, fwd_sums, fwd_apply, fwd_finish};
    run_stages(&s);
}

const zs_kernel zs_fast_gn_act = {gn_act, gn_act_ws};

/* ---- backward: vectors 0 a, 1 b, 2 rstd, 3 -mean*rstd, 4-6 p q r, 7 dgamma, 8 dbeta ---- */

enum { BWD_VECTORS = 9 };

static void bwd_prepare(const dims *d, const zs_call *c, int64_t n)
{
    int64_t width = d->ch / d->groups;
    for (int64_t i = 0; i < d->ch; i++) {
        const float *stats = c->in[1].p + 2 * (n * d->groups + i / width);
        modulation m = modulation_of(d, c->in[4].p, c->in[5].p, n, i);
        affine_of(vector_of(d, c, 0, n) + i, vector_of(d, c, 1, n) + i, stats,
                  (double)c->in[2].p[i], (double)c->in[3].p[i], &m);
        vector_of(d, c, 2, n)[i] = stats[1];
        vector_of(d, c, 3, n)[i] = (float)(-(double)stats[0] * (double)stats[1]);
    }
}

static void bwd_sums(const dims *d, const zs_call *c, int64_t n, int64_t k)
{
    const float *coef[4];
    int64_t at = block_at(d, n, k);
    float *s = sums_of(d, c, n, k), *dx = c->out[0].p ? c->out[0].p + at : NULL;
    for (int i = 0; i < 4; i++)
        coef[i] = vector_of(d, c, i, n);
    if (c->a->act == ZS_ACT_SILU)
        d->fn->sums_bwd_silu(dx, s, s + d->ch, c->in[0].p + at, c->in[6].p + at, coef,
                             block_pixels(d, k), d->ch);
    else
        d->fn->sums_bwd(dx, s, s + d->ch, c->in[0].p + at, c->in[6].p + at, coef,
                        block_pixels(d, k), d->ch);
}

/* Gradients of one channel from the sums s of dz and q of dz*xhat. */
static void channel_grads(const dims *d, const zs_call *c, int64_t n, int64_t i, double s, double q)
{
    modulation m = modulation_of(d, c->in[4].p, c->in[5].p, n, i);
    double gamma = (double)c->in[2].p[i], beta = (double)c->in[3].p[i];
    double dn1 = gamma * q + beta * s; /* sum of dz times the normalised, affine value */
    if (c->out[3].p) {
        c->out[3].p[n * 2 * d->ch + i] = (float)(m.cond * dn1);
        c->out[3].p[n * 2 * d->ch + d->ch + i] = (float)(m.cond * s);
    }
    if (c->out[4].p)
        c->out[4].p[n * d->ch + i] = (float)(m.scale * dn1 + m.shift * s);
    vector_of(d, c, 7, n)[i] = (float)(m.scale * m.cond * q);
    vector_of(d, c, 8, n)[i] = (float)(m.scale * m.cond * s);
}

/* p, q, r of dx = p*dz + q*x + r for channels [i0, i1): one group. With d the gradient at xhat,
 * dx = rstd*(d - mean(d) - xhat*mean(d*xhat)). */
static void group_coefs(const dims *d, const zs_call *c, int64_t n, int64_t i0, int64_t i1,
                        const float stats[2])
{
    double sum = 0, sumx = 0, count = (double)d->hw * (double)(i1 - i0);
    double mean = (double)stats[0], rstd = (double)stats[1];
    for (int64_t i = i0; i < i1; i++) {
        modulation m = modulation_of(d, c->in[4].p, c->in[5].p, n, i);
        double f = m.scale * m.cond * (double)c->in[2].p[i];
        double s = block_sum(d, c, n, i, 0), q = block_sum(d, c, n, i, 1);
        sum += f * s;
        sumx += f * q;
        channel_grads(d, c, n, i, s, q);
        vector_of(d, c, 4, n)[i] = (float)(rstd * f);
    }
    for (int64_t i = i0; i < i1; i++) {
        vector_of(d, c, 5, n)[i] = (float)(-rstd * rstd * sumx / count);
        vector_of(d, c, 6, n)[i] = (float)(rstd * (mean * rstd * sumx - sum) / count);
    }
}

static void bwd_finish(const dims *d, const zs_call *c, int64_t n)
{
    int64_t width = d->ch / d->groups;
    for (int64_t g = 0; g < d->groups; g++)
        group_coefs(d, c, n, g * width, (g + 1) * width, c->in[1].p + 2 * (n * d->groups + g));
}

static void bwd_apply(const dims *d, const zs_call *c, int64_t n, int64_t k)
{
    int64_t at = block_at(d, n, k);
    const float *const coef[3] = {vector_of(d, c, 4, n), vector_of(d, c, 5, n),
                                  vector_of(d, c, 6, n)};
    d->fn->combine(c->out[0].p + at, c->in[0].p + at, coef, block_pixels(d, k), d->ch);
}

/* to[C] += sum over samples of vector i. */
static void sum_samples(const dims *d, const zs_call *c, int64_t i, float *to)
{
    for (int64_t j = 0; to && j < d->ch; j++) {
        double sum = 0;
        for (int64_t n = 0; n < d->n; n++)
            sum += (double)vector_of(d, c, i, n)[j];
        to[j] += (float)sum;
    }
}

static size_t gn_act_bwd_ws(const zs_call *c)
{
    dims d = dims_of(c);
    return floats_ws(&d, BWD_VECTORS);
}

static void gn_act_bwd(const zs_call *c)
{
    stages s = {dims_of(c), c, bwd_sums, c->out[0].p ? bwd_apply : NULL, bwd_finish};
    for (int64_t n = 0; n < s.d.n; n++)
        bwd_prepare(&s.d, c, n);
    run_stages(&s);
    sum_samples(&s.d, c, 7, c->out[1].p);
    sum_samples(&s.d, c, 8, c->out[2].p);
}

const zs_kernel zs_fast_gn_act_bwd = {gn_act_bwd, gn_act_bwd_ws};
