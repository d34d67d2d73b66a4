/* SPDX-License-Identifier: MIT */
/* Element-wise operations: silu, gelu, add, scale1p, accumulate. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/silu_ref.h"

static int64_t count(const zs_call *c)
{
    return zs_shape_numel(&c->in[0].s);
}

/* x -> y, any shape. */
static void silu(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] = (float)ref_silu((double)c->in[0].p[i]);
}

/* x dy -> dx, any shape. */
static void silu_bwd(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] = (float)((double)c->in[1].p[i] * ref_dsilu((double)c->in[0].p[i]));
}

/* x Phi(x); erfc keeps the lower tail, where erf would have cancelled to nothing. */
static double phi(double x)
{
    return 0.5 * erfc(-x * sqrt(0.5));
}

/* Its approximation, (1 + tanh(u))/2 = 1/(1 + exp(-2u)), and 2u. */
static double phi_tanh(double *u2, double x)
{
    *u2 = 1.59576912160573071176 * (x + 0.044715 * x * x * x);
    return 1.0 / (1.0 + exp(-*u2));
}

static double gelu_of(double x, int kind)
{
    double u2;
    return x * (kind == ZS_GELU_TANH ? phi_tanh(&u2, x) : phi(x));
}

/* Phi(x) + x exp(-x^2/2)/sqrt(2 pi), or, with s the approximation of Phi, s + x s (1-s) (2u)'. */
static double gelu_slope(double x, int kind)
{
    double u2;
    if (kind != ZS_GELU_TANH)
        return phi(x) + x * exp(-0.5 * x * x) * 0.39894228040143267794;
    double s = phi_tanh(&u2, x), rest = 1.0 / (1.0 + exp(u2));
    return s + x * s * rest * 1.59576912160573071176 * (1.0 + 3.0 * 0.044715 * x * x);
}

/* x -> y, any shape. */
static void gelu(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] = (float)gelu_of((double)c->in[0].p[i], c->a->kind);
}

/* x dy -> dx, any shape. */
static void gelu_bwd(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] =
            (float)((double)c->in[1].p[i] * gelu_slope((double)c->in[0].p[i], c->a->kind));
}

/* a b -> y, one shape. */
static void add(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] = c->in[0].p[i] + c->in[1].p[i];
}

/* x s -> y = x*(1+s), one shape. */
static void scale1p(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] = (float)((double)c->in[0].p[i] * (1.0 + (double)c->in[1].p[i]));
}

/* x s dy -> [dx = dy*(1+s)] [ds = dy*x], one shape. */
static void scale1p_bwd(const zs_call *c)
{
    const float *x = c->in[0].p, *s = c->in[1].p, *dy = c->in[2].p;
    for (int64_t i = 0; i < count(c); i++) {
        if (c->out[0].p)
            c->out[0].p[i] = (float)((double)dy[i] * (1.0 + (double)s[i]));
        if (c->out[1].p)
            c->out[1].p[i] = dy[i] * x[i];
    }
}

/* x -> g +=, as many elements. */
static void accumulate(const zs_call *c)
{
    for (int64_t i = 0; i < count(c); i++)
        c->out[0].p[i] += c->in[0].p[i];
}

const zs_kernel zs_ref_silu = {silu, NULL};
const zs_kernel zs_ref_silu_bwd = {silu_bwd, NULL};
const zs_kernel zs_ref_gelu = {gelu, NULL};
const zs_kernel zs_ref_gelu_bwd = {gelu_bwd, NULL};
const zs_kernel zs_ref_add = {add, NULL};
const zs_kernel zs_ref_scale1p = {scale1p, NULL};
const zs_kernel zs_ref_scale1p_bwd = {scale1p_bwd, NULL};
const zs_kernel zs_ref_accumulate = {accumulate, NULL};
