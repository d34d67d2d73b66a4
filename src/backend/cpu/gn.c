/* SPDX-License-Identifier: MIT */
/* gn_act in one affine map per (sample, channel): with A = gamma*rstd and B = beta - mean*A,
 * z = a*x + b where a = A(1+scale)(1+cond) and b = (B(1+scale) + shift)(1+cond).
 *
 * Two passes over a sample in either direction: sums, then results. The backward pass stores the
 * gradient at z in dx where a sample stays in the cache; elsewhere computing it twice is cheaper
 * than the traffic. Sums are taken over
 * fixed blocks of pixels in f32 and added over blocks in double; those of the forward pass are of
 * x - x[n,0,0,:], so that a mean far above the deviation costs nothing. The second pass walks the
 * blocks backwards: it begins with what the first one left in the cache. */
#include "backend/cpu/fast.h"
#include "backend/cpu/norm.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK_ELEMENTS = 1 << 14,
    BLOCK_PIXELS = 512,
    CHUNK_ELEMENTS = 1 << 12, /* between activation and dropout: stays in the L1 cache */
    STORE_BYTES = 1 << 20,    /* of a tensor: up to here the gradient at z is stored */
    STREAM_BYTES = 24 << 20,  /* of all samples: beyond it no cache holds the result */
    WHOLE_BYTES = 4 << 20,    /* of a tensor: up to here a thread takes whole samples, if it can */
    JOINT_BYTES = 1 << 20     /* of a tensor: below, all samples share one parallel loop */
};

typedef struct dims {
    const zs_norm_fns *fn;
    int64_t n, hw, ch, groups, block, blocks;
} dims;

static dims dims_of(const zs_call *c)
{
    const int64_t *s = c->in[0].s.d;
    dims d = {zs_norm_get(), s[0], s[1] * s[2], s[3], c->a->groups, 0, 0};
    d.block = BLOCK_ELEMENTS / d.ch;
    d.block = d.block < 1 ? 1 : d.block > BLOCK_PIXELS ? BLOCK_PIXELS : d.block;
    d.blocks = (d.hw + d.block - 1) / d.block;
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

/* ---- workspace of both directions: doubles totals[N][2][C], then floats sums[N][blocks][2][C],
 * zeros[2C], vectors[][N][C], and where they are needed blocks[threads][block*C] ---- */

static double *totals_of(const dims *d, const zs_call *c, int64_t n)
{
    return (double *)c->ws + n * 2 * d->ch;
}

static float *sums_of(const dims *d, const zs_call *c, int64_t n, int64_t k)
{
    return (float *)totals_of(d, c, d->n) + (n * d->blocks + k) * 2 * d->ch;
}

static float *zeros_of(const dims *d, const zs_call *c)
{
    return sums_of(d, c, d->n, 0);
}

static float *vector_of(const dims *d, const zs_call *c, int64_t i, int64_t n)
{
    return zeros_of(d, c) + 2 * d->ch + (i * d->n + n) * d->ch;
}

static size_t workspace(const dims *d, int64_t vectors, int64_t blocks)
{
    int64_t vector = 2 * d->n * d->blocks + 2 + vectors * d->n + blocks * d->block;
    return (size_t)(2 * d->n * d->ch) * sizeof(double) + (size_t)(vector * d->ch) * sizeof(float);
}

static bool streams(const dims *d)
{
    return d->n * d->hw * d->ch * (int64_t)sizeof(float) >= STREAM_BYTES;
}

/* ---- the order of work ---- */

typedef void (*block_fn)(const dims *d, const zs_call *c, int64_t n, int64_t k, int thread);
typedef void (*sample_fn)(const dims *d, const zs_call *c, int64_t n);

/* Per sample: begin, first on every block, finish, last on every block. begin and last may be
 * NULL. */
typedef struct stages {
    dims d;
    const zs_call *c;
    sample_fn begin, finish;
    block_fn first, last;
    int64_t at; /* first sample of a shared loop */
} stages;

static void run_samples(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    for (int64_t n = begin; n < end; n++) {
        if (s->begin)
            s->begin(&s->d, s->c, n);
        for (int64_t k = 0; k < s->d.blocks; k++)
            s->first(&s->d, s->c, n, k, thread);
        s->finish(&s->d, s->c, n);
        for (int64_t k = s->d.blocks; s->last && k-- > 0;)
            s->last(&s->d, s->c, n, k, thread);
    }
}

static void run_begin(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    (void)thread;
    for (int64_t n = begin; n < end; n++)
        s->begin(&s->d, s->c, s->at + n);
}

static void run_first(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    for (int64_t i = begin; i < end; i++)
        s->first(&s->d, s->c, s->at + i / s->d.blocks, i % s->d.blocks, thread);
}

static void run_finish(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    (void)thread;
    for (int64_t n = begin; n < end; n++)
        s->finish(&s->d, s->c, s->at + n);
}

static void run_last(void *ctx, int64_t begin, int64_t end, int thread)
{
    const stages *s = ctx;
    for (int64_t i = begin; i < end; i++)
        s->last(&s->d, s->c, s->at + i / s->d.blocks, s->d.blocks - 1 - i % s->d.blocks, thread);
}

/* `samples` samples from s->at on, all threads together. */
static void run_shared(stages *s, int64_t samples)
{
    if (s->begin)
        zs_parallel_for(samples, 1, run_begin, s);
    zs_parallel_for(samples * s->d.blocks, 1, run_first, s);
    zs_parallel_for(samples, 1, run_finish, s);
    if (s->last)
        zs_parallel_for(samples * s->d.blocks, 1, run_last, s);
}

static void run_stages(stages *s)
{
    int64_t bytes = s->d.hw * s->d.ch * (int64_t)sizeof(float), n = s->d.n;
    memset(zeros_of(&s->d, s->c), 0, (size_t)(2 * s->d.ch) * sizeof(float));
    if (n >= 2 * s->c->threads && bytes <= WHOLE_BYTES)
        zs_parallel_for(n, 1, run_samples, s);
    else if (bytes < JOINT_BYTES)
        run_shared(s, n);
    else
        for (; s->at < n; s->at++)
            run_shared(s, 1);
}

/* Totals of the blocks' sums of sample n: two vectors of C. */
static const double *add_blocks(const dims *d, const zs_call *c, int64_t n)
{
    double *to = totals_of(d, c, n);
    d->fn->fold(to, sums_of(d, c, n, 0), d->blocks, 2 * d->ch, 2 * d->ch);
    return to;
}

/* ---- what a channel is put through ---- */

/* Vectors of C: absent conditions are zeros. */
typedef struct channels {
    const float *gamma, *beta, *scale, *shift, *cond;
} channels;

static channels channels_of(const dims *d, const zs_call *c, int64_t n, const float *gamma,
                            const float *beta, const float *ss, const float *cs)
{
    const float *zeros = zeros_of(d, c), *s = ss ? ss + n * 2 * d->ch : zeros;
    return (channels){gamma, beta, s, s + d->ch, cs ? cs + n * d->ch : zeros};
}

/* One value of stats per channel: which 0 mean, 1 rstd. */
static void spread(float *to, const float *stats, int which, const dims *d)
{
    int64_t width = d->ch / d->groups;
    for (int64_t g = 0; g < d->groups; g++)
        for (int64_t i = 0; i < width; i++)
            to[g * width + i] = stats[2 * g + which];
}

/* a and b (see the top) from the channels' mean and rstd; they may overwrite these. */
static void affine_of(float *a, float *b, const float *mean, const float *rstd, const channels *v,
                      int64_t ch)
{
    for (int64_t i = 0; i < ch; i++) {
        double slope = (double)v->gamma[i] * (double)rstd[i];
        double at = (double)v->beta[i] - (double)mean[i] * slope;
        double scale = 1 + (double)v->scale[i], cond = 1 + (double)v->cond[i];
        a[i] = (float)(slope * scale * cond);
        b[i] = (float)((at * scale + (double)v->shift[i]) * cond);
    }
}

/* ---- forward: vectors 0 a, 1 b ---- */

static void fwd_sums(const dims *d, const zs_call *c, int64_t n, int64_t k, int thread)
{
    float *s = sums_of(d, c, n, k);
    const float *x = c->in[0].p;
    (void)thread;
    d->fn->moments(s, s + d->ch, x + block_at(d, n, k), x + n * d->hw * d->ch, block_pixels(d, k),
                   d->ch);
}

/* stats[2] of a group of `width` channels from their sums s and sums of squares q about `shift`,
 * by the parallel form of the variance. */
static void group_stats(float stats[2], const double *s, const double *q, const float *shift,
                        int64_t width, double hw, double eps)
{
    double mean = 0, m2 = 0, inv = 1 / hw;
    for (int64_t i = 0; i < width; i++)
        mean += (double)shift[i] + s[i] * inv;
    mean /= (double)width;
    for (int64_t i = 0; i < width; i++) {
        double off = (double)shift[i] + s[i] * inv - mean;
        m2 += q[i] - s[i] * s[i] * inv + hw * off * off;
    }
    double var = m2 / (hw * (double)width);
    stats[0] = (float)mean;
    stats[1] = (float)(1 / sqrt((var > 0 ? var : var - var) + eps));
}

static void fwd_finish(const dims *d, const zs_call *c, int64_t n)
{
    const double *s = add_blocks(d, c, n);
    const float *shift = c->in[0].p + n * d->hw * d->ch;
    float *a = vector_of(d, c, 0, n), *b = vector_of(d, c, 1, n);
    float *stats = c->out[1].p + 2 * n * d->groups;
    int64_t width = d->ch / d->groups;
    for (int64_t g = 0; g < d->groups; g++)
        group_stats(stats + 2 * g, s + g * width, s + d->ch + g * width, shift + g * width, width,
                    (double)d->hw, (double)c->a->eps);
    channels v = channels_of(d, c, n, c->in[1].p, c->in[2].p, c->in[3].p, c->in[4].p);
    spread(a, stats, 0, d);
    spread(b, stats, 1, d);
    affine_of(a, b, a, b, &v, d->ch);
}

static void fwd_pixels(const dims *d, const zs_call *c, int64_t n, int64_t at, int64_t pixels)
{
    const float *a = vector_of(d, c, 0, n), *b = vector_of(d, c, 1, n);
    float *y = c->out[0].p + at;
    if (c->a->act == ZS_ACT_SILU)
        d->fn->affine_silu(y, c->in[0].p + at, a, b, pixels, d->ch, streams(d) && c->a->p <= 0);
    else
        d->fn->affine(y, c->in[0].p + at, a, b, pixels, d->ch);
    if (c->a->p > 0)
        zs_dropout_range(y, y, c, at, pixels * d->ch);
}

static void fwd_apply(const dims *d, const zs_call *c, int64_t n, int64_t k, int thread)
{
    int64_t at = block_at(d, n, k), left = block_pixels(d, k), chunk = left;
    (void)thread;
    if (c->a->p > 0)
        chunk = d->ch < CHUNK_ELEMENTS ? CHUNK_ELEMENTS / d->ch : 1;
    for (; left > 0; left -= chunk, at += chunk * d->ch)
        fwd_pixels(d, c, n, at, left < chunk ? left : chunk);
}

static size_t gn_act_ws(const zs_call *c)
{
    dims d = dims_of(c);
    return workspace(&d, 2, 0);
}

static void gn_act(const zs_call *c)
{
    stages s = {
        .d = dims_of(c), .c = c, .first = fwd_sums, .finish = fwd_finish, .last = fwd_apply};
    run_stages(&s);
}

const zs_kernel zs_fast_gn_act = {gn_act, gn_act_ws};

/* ---- backward: vectors 0 a, 1 b, 2 p, 3 q, 4 r, 5 rstd, 6 -mean*rstd, 7 dgamma, 8 dbeta ---- */

enum { BWD_VECTORS = 9 };

static channels bwd_channels(const dims *d, const zs_call *c, int64_t n)
{
    return channels_of(d, c, n, c->in[2].p, c->in[3].p, c->in[4].p, c->in[5].p);
}

static void bwd_begin(const dims *d, const zs_call *c, int64_t n)
{
    const float *stats = c->in[1].p + 2 * n * d->groups;
    float *mean = vector_of(d, c, 6, n), *rstd = vector_of(d, c, 5, n);
    channels v = bwd_channels(d, c, n);
    spread(mean, stats, 0, d);
    spread(rstd, stats, 1, d);
    affine_of(vector_of(d, c, 0, n), vector_of(d, c, 1, n), mean, rstd, &v, d->ch);
    for (int64_t i = 0; i < d->ch; i++)
        mean[i] = (float)(-(double)mean[i] * (double)rstd[i]);
}

/* Whether the sums leave the gradient at z in dx. */
static bool stores_dz(const dims *d, const zs_call *c)
{
    return c->out[0].p && c->a->act == ZS_ACT_SILU &&
           d->hw * d->ch * (int64_t)sizeof(float) <= STORE_BYTES;
}

/* The gradient at the activation of block k: dy, or dropout's gradient of it, which then lies in
 * dx or, without dx, in a block of this thread. */
static const float *dropped(const dims *d, const zs_call *c, int64_t n, int64_t k, int thread)
{
    int64_t at = block_at(d, n, k);
    const float *dy = c->in[6].p + at;
    if (c->a->p <= 0)
        return dy;
    float *to = c->out[0].p ? c->out[0].p + at
                            : vector_of(d, c, BWD_VECTORS, 0) + thread * d->block * d->ch;
    zs_dropout_range(to, dy, c, at, block_pixels(d, k) * d->ch);
    return to;
}

static void bwd_sums(const dims *d, const zs_call *c, int64_t n, int64_t k, int thread)
{
    static const int vectors[4] = {0, 1, 5, 6};
    const float *coef[4], *dy = dropped(d, c, n, k, thread);
    int64_t at = block_at(d, n, k);
    float *s = sums_of(d, c, n, k);
    for (int i = 0; i < 4; i++)
        coef[i] = vector_of(d, c, vectors[i], n);
    if (c->a->act == ZS_ACT_SILU)
        d->fn->sums_bwd_silu(stores_dz(d, c) ? c->out[0].p + at : NULL, s, s + d->ch,
                             c->in[0].p + at, dy, coef, block_pixels(d, k), d->ch);
    else
        d->fn->sums_bwd(s, s + d->ch, c->in[0].p + at, dy, coef, block_pixels(d, k), d->ch);
}

/* Gradients of all vectors of sample n from the sums s of dz and q of dz*xhat; p becomes the
 * factor from dz to the gradient at xhat. */
static void channel_grads(const dims *d, const zs_call *c, int64_t n, const double *s,
                          const double *q)
{
    channels v = bwd_channels(d, c, n);
    float *p = vector_of(d, c, 2, n), *dgamma = vector_of(d, c, 7, n);
    float *dbeta = vector_of(d, c, 8, n);
    float *dss = c->out[3].p ? c->out[3].p + n * 2 * d->ch : NULL;
    float *dcs = c->out[4].p ? c->out[4].p + n * d->ch : NULL;
    for (int64_t i = 0; i < d->ch; i++) {
        double scale = 1 + (double)v.scale[i], cond = 1 + (double)v.cond[i];
        double gamma = (double)v.gamma[i];
        double dn1 =
            gamma * q[i] + (double)v.beta[i] * s[i]; /* dz times the affine value, summed */
        if (dss) {
            dss[i] = (float)(cond * dn1);
            dss[d->ch + i] = (float)(cond * s[i]);
        }
        if (dcs)
            dcs[i] = (float)(scale * dn1 + (double)v.shift[i] * s[i]);
        p[i] = (float)(scale * cond * gamma);
        dgamma[i] = (float)(scale * cond * q[i]);
        dbeta[i] = (float)(scale * cond * s[i]);
    }
}

/* p, q, r of dx = p*dz + q*x + r for one group. With d = p*dz the gradient at xhat,
 * dx = rstd*(d - mean(d) - xhat*mean(d*xhat)). */
static void group_coefs(float *const v[3], const double *s, const double *q, const float stats[2],
                        int64_t width, double hw)
{
    double sum = 0, sumx = 0, count = hw * (double)width;
    double mean = (double)stats[0], rstd = (double)stats[1];
    for (int64_t i = 0; i < width; i++) {
        sum += (double)v[0][i] * s[i];
        sumx += (double)v[0][i] * q[i];
        v[0][i] = (float)(rstd * (double)v[0][i]);
    }
    float slope = (float)(-rstd * rstd * sumx / count);
    float at = (float)(rstd * (mean * rstd * sumx - sum) / count);
    for (int64_t i = 0; i < width; i++) {
        v[1][i] = slope;
        v[2][i] = at;
    }
}

static void bwd_finish(const dims *d, const zs_call *c, int64_t n)
{
    const double *s = add_blocks(d, c, n), *q = s + d->ch;
    int64_t width = d->ch / d->groups;
    channel_grads(d, c, n, s, q);
    for (int64_t g = 0; g < d->groups; g++) {
        int64_t i = g * width;
        float *const v[3] = {vector_of(d, c, 2, n) + i, vector_of(d, c, 3, n) + i,
                             vector_of(d, c, 4, n) + i};
        group_coefs(v, s + i, q + i, c->in[1].p + 2 * (n * d->groups + g), width, (double)d->hw);
    }
}

static void bwd_apply(const dims *d, const zs_call *c, int64_t n, int64_t k, int thread)
{
    int64_t at = block_at(d, n, k);
    const float *coef[5], *x = c->in[0].p + at;
    float *dx = c->out[0].p + at;
    bool stored = stores_dz(d, c);
    const float *dy = stored || c->a->p > 0 ? dx : c->in[6].p + at;
    (void)thread;
    for (int i = 0; i < 5; i++)
        coef[i] = vector_of(d, c, i, n);
    if (c->a->act == ZS_ACT_SILU && !stored)
        d->fn->dx_bwd_silu(dx, x, dy, coef, block_pixels(d, k), d->ch, streams(d));
    else
        d->fn->dx_bwd(dx, x, dy, coef, block_pixels(d, k), d->ch);
}

/* to[C] += sum over samples of vector i. */
static void sum_samples(const dims *d, const zs_call *c, int64_t i, float *to)
{
    double *sum = totals_of(d, c, 0);
    if (!to)
        return;
    d->fn->fold(sum, vector_of(d, c, i, 0), d->n, d->ch, d->ch);
    for (int64_t j = 0; j < d->ch; j++)
        to[j] += (float)sum[j];
}

static size_t gn_act_bwd_ws(const zs_call *c)
{
    dims d = dims_of(c);
    return workspace(&d, BWD_VECTORS, c->a->p > 0 && !c->out[0].p ? c->threads : 0);
}

static void gn_act_bwd(const zs_call *c)
{
    stages s = {.d = dims_of(c),
                .c = c,
                .begin = bwd_begin,
                .first = bwd_sums,
                .finish = bwd_finish,
                .last = c->out[0].p ? bwd_apply : NULL};
    run_stages(&s);
    sum_samples(&s.d, c, 7, c->out[1].p);
    sum_samples(&s.d, c, 8, c->out[2].p);
}

const zs_kernel zs_fast_gn_act_bwd = {gn_act_bwd, gn_act_bwd_ws};
