/* SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"
#include "backend/cuda/point.h"

/* x[...,in] and w[out,in], both of one type. */
static zs_point point(const zs_view *x, int64_t in, int64_t out)
{
    return (zs_point){
        .type = x->type, .rows = zs_shape_rows(&x->s), .in = in, .out = out, .turned = true};
}

static zs_point forward_point(const zs_call *c)
{
    return point(&c->in[0], c->in[1].s.d[1], c->in[1].s.d[0]);
}

static void linear(const zs_call *c)
{
    zs_point p = forward_point(c);
    zs_point_forward(&p, c->out[0].p, c->in[0].p, c->in[1].p, c->in[2].p, NULL, c->ws);
}

static size_t linear_ws(const zs_call *c)
{
    zs_point p = forward_point(c);
    return zs_point_workspace(&p, ZS_POINT_FORWARD, c->in[2].p != NULL, false);
}

const zs_kernel zs_cuda_linear = {linear, linear_ws};

static void linear_dx(const zs_call *c)
{
    zs_point p = forward_point(c); /* slot 0 is dy, of as many rows */
    zs_point_dx(&p, c->out[0].p, c->in[0].p, c->in[1].p, c->ws);
}

static size_t linear_dx_ws(const zs_call *c)
{
    zs_point p = forward_point(c);
    return zs_point_workspace(&p, ZS_POINT_DX, false, false);
}

const zs_kernel zs_cuda_linear_dx = {linear_dx, linear_dx_ws};

static zs_point dw_point(const zs_call *c)
{
    return point(&c->in[0], zs_shape_last(&c->in[0].s), zs_shape_last(&c->in[1].s));
}

static void linear_dw(const zs_call *c)
{
    zs_point p = dw_point(c);
    zs_point_dw(&p, c->out[0].p, c->out[1].p, c->in[0].p, c->in[1].p, c->ws);
}

static size_t linear_dw_ws(const zs_call *c)
{
    zs_point p = dw_point(c);
    return zs_point_workspace(&p, ZS_POINT_DW, false, false);
}

const zs_kernel zs_cuda_linear_dw = {linear_dw, linear_dw_ws};
