/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <math.h>

/* The gradient of |d| at 0 is 0; NaN stays NaN. */
static double sign(double d)
{
    return d > 0 ? 1 : d < 0 ? -1 : d;
}

/* One element of a loss that has a term for each, and its derivative. */
static double term(int kind, double p, double y)
{
    double d = p - y;
    if (kind == ZS_LOSS_MSE)
        return d * d;
    if (kind == ZS_LOSS_L1)
        return fabs(d);
    return fmax(p, 0) - p * y + log1p(exp(-fabs(p)));
}

static double slope(int kind, double p, double y)
{
    if (kind == ZS_LOSS_MSE)
        return 2 * (p - y);
    if (kind == ZS_LOSS_L1)
        return sign(p - y);
    return 1 / (1 + exp(-p)) - y;
}

/* log(sum exp p[k]), without overflow. */
static double log_sum_exp(const float *p, int64_t n)
{
    double top = (double)p[0], sum = 0;
    for (int64_t k = 1; k < n; k++)
        top = fmax(top, (double)p[k]);
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)p[k] - top);
    return top + log(sum);
}

/* One row of n classes. */
static double xent(const float *p, const float *y, int64_t n)
{
    double sum = 0, all = log_sum_exp(p, n);
    for (int64_t k = 0; k < n; k++)
        sum += (double)y[k] * (all - (double)p[k]);
    return sum;
}

/* How often element i counts, of a sample of `each` elements. */
static double weight(const zs_call *c, int64_t i, int64_t each)
{
    return c->in[2].p ? (double)c->in[2].p[i / each] : 1.0;
}

/* pred target [w] -> y[1]; pred and target of one shape. */
static void loss(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    const float *p = c->in[0].p, *y = c->in[1].p;
    int64_t n = zs_shape_numel(s), last = s->d[s->nd - 1], each = n / s->d[0];
    bool rows = c->a->kind == ZS_LOSS_XENT;
    double sum = 0;
    for (int64_t i = 0; rows && i < n; i += last)
        sum += weight(c, i, each) * xent(p + i, y + i, last);
    for (int64_t i = 0; !rows && i < n; i++)
        sum += weight(c, i, each) * term(c->a->kind, (double)p[i], (double)y[i]);
    c->out[0].p[0] = (float)(sum / (double)(rows ? n / last : n));
}

static void xent_bwd(float *dp, const float *p, const float *y, int64_t n, double f)
{
    double all = log_sum_exp(p, n), mass = 0;
    for (int64_t k = 0; k < n; k++)
        mass += (double)y[k];
    for (int64_t k = 0; k < n; k++)
        dp[k] = (float)(f * (mass * exp((double)p[k] - all) - (double)y[k]));
}

/* pred target [w] -> dpred. */
static void loss_bwd(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    const float *p = c->in[0].p, *y = c->in[1].p;
    float *dp = c->out[0].p;
    int64_t n = zs_shape_numel(s), last = s->d[s->nd - 1], each = n / s->d[0];
    bool rows = c->a->kind == ZS_LOSS_XENT;
    double f = (double)c->step->grad_scale / (double)(rows ? n / last : n);
    for (int64_t i = 0; rows && i < n; i += last)
        xent_bwd(dp + i, p + i, y + i, last, f * weight(c, i, each));
    for (int64_t i = 0; !rows && i < n; i++)
        dp[i] = (float)(f * weight(c, i, each) * slope(c->a->kind, (double)p[i], (double)y[i]));
}

const zs_kernel zs_ref_loss = {.run = loss};
const zs_kernel zs_ref_loss_bwd = {.run = loss_bwd};
