/* SPDX-License-Identifier: MIT */
/* Convolutions around cuDNN's plans. Its tensor cores want filters as [o][kh][kw][c] and, in bf16,
 * channels in eights. Filters are turned into that form for each call, which moves as many bytes as
 * they have, or once, as packed weights, while sampling; images whose channels are no multiple of
 * eight (pictures have 3 or 1) are copied with zeros beside them. cuDNN's filters may have other
 * strides in its descriptors, but whether its kernels for tensor cores heed them is not said.
 *
 * 1x1 convolutions are matrix products. Bias alone is added by the plan where that is faster; bias
 * and residual together, and ReLU, by one pass over y. */
#include "backend/cuda/conv_kernels.h"
#include "backend/cuda/conv_plan.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/point.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256, LANES = 8 };

/* One convolution: its shape as the graph has it, and with channels filled up as the plan has it.
 * */
typedef struct conv {
    zs_cuda_conv s, p;
    zs_cuda_filter filter;
    zs_dtype type;
} conv;

static int64_t filled(int64_t channels, zs_dtype type)
{
    return type == ZS_BF16 ? (channels + LANES - 1) / LANES * LANES : channels;
}

static conv conv_of(zs_cuda_conv_kind kind, const zs_attr *a, zs_dtype type, const zs_shape *x,
                    const zs_shape *w, const zs_shape *y)
{
    conv v;
    memset(&v, 0, sizeof v); /* the bytes of shapes are keys */
    v.type = type;
    v.s.kind = kind, v.s.type = type;
    v.s.n = x->d[0], v.s.h = x->d[1], v.s.w = x->d[2], v.s.c = w->d[2];
    v.s.o = w->d[3], v.s.yh = y->d[1], v.s.yw = y->d[2];
    v.s.kh = w->d[0], v.s.kw = w->d[1], v.s.stride = a->stride;
    v.s.top = v.s.left = a->pad;
    v.s.bottom = v.s.right = a->pad + a->tail;
    v.p = v.s;
    v.p.c = filled(v.s.c, type);
    v.p.o = filled(v.s.o, type);
    v.filter = (zs_cuda_filter){v.s.kh * v.s.kw, v.s.c, v.s.o, v.p.c, v.p.o};
    return v;
}

static size_t rounded(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes of n numbers of the convolution's type, rounded up to where the next may begin. */
static size_t room(const conv *v, int64_t n)
{
    return rounded((size_t)n * zs_dtype_size(v->type));
}

static size_t filter_room(const conv *v)
{
    return room(v, v->p.o * v->filter.taps * v->p.c);
}

static int64_t x_pixels(const conv *v)
{
    return v->s.n * v->s.h * v->s.w;
}

static int64_t y_pixels(const conv *v)
{
    return v->s.n * v->s.yh * v->s.yw;
}

/* 0 where the image needs no copy. */
static size_t x_room(const conv *v)
{
    return v->p.c == v->s.c ? 0 : room(v, x_pixels(v) * v->p.c);
}

static size_t y_room(const conv *v)
{
    return v->p.o == v->s.o ? 0 : room(v, y_pixels(v) * v->p.o);
}

/* Takes bytes off the front of a workspace. */
static void *take(unsigned char **ws, size_t bytes)
{
    unsigned char *p = *ws;
    *ws += bytes;
    return p;
}

/* An image with `to` channels: itself, or a copy in the workspace. */
static void *widened(const conv *v, void *image, int64_t to, int64_t from, int64_t pixels,
                     unsigned char **ws, void *queue)
{
    if (to == from)
        return image;
    void *copy = take(ws, room(v, pixels * to));
    zs_launch_columns(copy, to, image, from, v->type, pixels, queue);
    return copy;
}

static bool has_plan(const zs_conv_choice *c)
{
    return c && c->plan.desc;
}

static void execute(const zs_conv_choice *c, void *x, void *w, void *y, const void *b, void *ws)
{
    cudnnStatus_t s = zs_dnn_run(&c->plan, zs_cuda_get()->dnn, x, w, y, b, ws);
    if (s == CUDNN_STATUS_SUCCESS)
        return;
    zs_cuda_check((int)cudaGetLastError(), "a convolution");
    zs_cuda_refuse(ZS_E_INTERNAL,
                   "cuDNN failed on a convolution by its engine %s: %s; ZSEM_CUDNN_DENY=%d leaves "
                   "that engine out",
                   c->plan.tag, cudnnGetErrorString(s), atoi(c->plan.tag));
}

/* ---- 1x1 ---- */

/* In bf16 rows of other than eights are cut badly by matrix products; cuDNN has them filled up. */
static bool is_point(const conv *v)
{
    const zs_cuda_conv *s = &v->s;
    return s->kh == 1 && s->kw == 1 && s->stride == 1 && s->top == 0 && s->left == 0 &&
           s->bottom == 0 && s->right == 0 && v->p.c == s->c && v->p.o == s->o;
}

static zs_point point_of(const conv *v)
{
    return (zs_point){.type = v->type, .rows = x_pixels(v), .in = v->s.c, .out = v->s.o};
}

/* ---- conv2d, conv_relu ---- */

/* What is done after x * w. */
typedef struct after {
    const float *b;
    const void *r;
    bool relu;
} after;

static after after_of(const zs_call *c, bool relu)
{
    return (after){c->in[2].p, relu ? NULL : c->in[3].p, relu};
}

static conv forward_of(const zs_call *c, bool relu)
{
    conv v = conv_of(ZS_CONV_FORWARD, c->a, c->in[0].type, &c->in[0].s, &c->in[1].s, &c->out[0].s);
    after f = after_of(c, relu);
    if (relu) { /* pads rows and columns apart, and has no tail */
        v.s.left = v.s.right = v.p.left = v.p.right = c->a->pad_w;
        v.s.bottom = v.p.bottom = c->a->pad;
    }
    v.p.bias = f.b && !f.r && !relu;
    return v;
}

static size_t forward_workspace(const zs_call *c, bool relu)
{
    conv v = forward_of(c, relu);
    after f = after_of(c, relu);
    if (is_point(&v)) {
        zs_point p = point_of(&v);
        return zs_point_workspace(&p, ZS_POINT_FORWARD, f.b != NULL, f.r != NULL);
    }
    const zs_conv_choice *plan = zs_conv_choose(&v.p);
    if (!has_plan(plan))
        return 0;
    return filter_room(&v) + x_room(&v) + y_room(&v) + room(&v, v.p.o) +
           rounded(plan->plan.workspace);
}

static void run_point(const conv *v, const zs_call *c, const after *f)
{
    zs_point p = point_of(v);
    zs_point_forward(&p, c->out[0].p, c->in[0].p, c->in[1].p, f->b, f->r, c->ws);
    if (f->relu)
        zs_launch_bias_residual(c->out[0].p, c->out[0].p, NULL, NULL, v->type, p.rows, p.out, true,
                                c->queue);
}

/* The filter as the plan takes it. */
static void *turned(const conv *v, const zs_call *c, unsigned char **ws)
{
    if (c->packed) {
        union {
            const void *from;
            void *to;
        } same = {.from = c->packed}; /* plans take all tensors by one kind of pointer */
        return same.to;
    }
    void *f = take(ws, filter_room(v));
    zs_launch_filter(f, c->in[1].p, v->type, &v->filter, c->queue);
    return f;
}

static void *bias_of(const conv *v, const float *b, unsigned char **ws, void *queue)
{
    void *copy = take(ws, room(v, v->p.o));
    if (v->type == ZS_BF16)
        zs_launch_bias(copy, v->p.o, b, v->s.o, queue);
    else
        zs_launch_cast(copy, ZS_F32, b, ZS_F32, v->s.o, queue);
    return copy;
}

static void run_forward(const zs_call *c, bool relu)
{
    conv v = forward_of(c, relu);
    after f = after_of(c, relu);
    unsigned char *ws = c->ws;
    if (is_point(&v)) {
        run_point(&v, c, &f);
        return;
    }
    const zs_conv_choice *plan = zs_conv_choose(&v.p);
    if (!has_plan(plan)) {
        zs_launch_conv(c->out[0].p, c->in[0].p, c->in[1].p, f.b, f.r, f.relu, &v.s, c->queue);
        return;
    }
    void *w = turned(&v, c, &ws);
    void *x = widened(&v, c->in[0].p, v.p.c, v.s.c, x_pixels(&v), &ws, c->queue);
    void *y = y_room(&v) ? take(&ws, y_room(&v)) : c->out[0].p;
    const void *b = plan->fused ? bias_of(&v, f.b, &ws, c->queue) : NULL;
    execute(plan, x, w, y, b, ws);
    if (y_room(&v))
        zs_launch_columns(c->out[0].p, v.s.o, y, v.p.o, v.type, y_pixels(&v), c->queue);
    if ((f.b && !plan->fused) || f.r || f.relu)
        zs_launch_bias_residual(c->out[0].p, c->out[0].p, plan->fused ? NULL : f.b, f.r, v.type,
                                y_pixels(&v), v.s.o, f.relu, c->queue);
}

static void conv2d(const zs_call *c)
{
    run_forward(c, false);
}

static size_t conv2d_ws(const zs_call *c)
{
    return forward_workspace(c, false);
}

static void conv_relu(const zs_call *c)
{
    run_forward(c, true);
}

static size_t conv_relu_ws(const zs_call *c)
{
    return forward_workspace(c, true);
}

const zs_kernel zs_cuda_conv2d = {conv2d, conv2d_ws};
const zs_kernel zs_cuda_conv_relu = {conv_relu, conv_relu_ws};

/* ---- packed filters ---- */

static zs_packing packing(const zs_call *c)
{
    conv v = forward_of(c, false);
    if (is_point(&v) || !has_plan(zs_conv_choose(&v.p)))
        return (zs_packing){0};
    return (zs_packing){.bytes = filter_room(&v), .layout = (uint64_t)v.type + 1};
}

static void pack(const zs_call *c, void *dst)
{
    conv v = forward_of(c, false);
    if (zs_cuda_enter(NULL) == ZS_OK) /* forms are made before the run does anything else */
        zs_launch_filter(dst, c->in[1].p, v.type, &v.filter, c->queue);
}

const zs_packer zs_cuda_conv2d_packer = {packing, pack};

/* ---- conv2d_dx ---- */

static conv dx_of(const zs_call *c)
{
    return conv_of(ZS_CONV_DX, c->a, c->in[0].type, &c->out[0].s, &c->in[1].s, &c->in[0].s);
}

static size_t conv2d_dx_ws(const zs_call *c)
{
    conv v = dx_of(c);
    if (is_point(&v)) {
        zs_point p = point_of(&v);
        return zs_point_workspace(&p, ZS_POINT_DX, false, false);
    }
    const zs_conv_choice *plan = zs_conv_choose(&v.p);
    return has_plan(plan)
               ? filter_room(&v) + x_room(&v) + y_room(&v) + rounded(plan->plan.workspace)
               : 0;
}

static void conv2d_dx(const zs_call *c)
{
    conv v = dx_of(c);
    unsigned char *ws = c->ws;
    if (is_point(&v)) {
        zs_point p = point_of(&v);
        zs_point_dx(&p, c->out[0].p, c->in[0].p, c->in[1].p, c->ws);
        return;
    }
    const zs_conv_choice *plan = zs_conv_choose(&v.p);
    if (!has_plan(plan)) {
        zs_launch_conv_dx(c->out[0].p, c->in[0].p, c->in[1].p, &v.s, c->queue);
        return;
    }
    void *w = turned(&v, c, &ws);
    void *dy = widened(&v, c->in[0].p, v.p.o, v.s.o, y_pixels(&v), &ws, c->queue);
    void *dx = x_room(&v) ? take(&ws, x_room(&v)) : c->out[0].p;
    execute(plan, dx, w, dy, NULL, ws);
    if (x_room(&v))
        zs_launch_columns(c->out[0].p, v.s.c, dx, v.p.c, v.type, x_pixels(&v), c->queue);
}

const zs_kernel zs_cuda_conv2d_dx = {conv2d_dx, conv2d_dx_ws};

/* ---- conv2d_dw ---- */

static conv dw_of(const zs_call *c)
{
    return conv_of(ZS_CONV_DW, c->a, c->in[0].type, &c->in[0].s, &c->out[0].s, &c->in[1].s);
}

static size_t sum_room(const conv *v)
{
    return rounded(zs_column_sum_bytes(y_pixels(v), v->s.o));
}

static size_t conv2d_dw_ws(const zs_call *c)
{
    conv v = dw_of(c);
    if (is_point(&v)) {
        zs_point p = point_of(&v);
        return zs_point_workspace(&p, ZS_POINT_DW, false, false);
    }
    const zs_conv_choice *plan = zs_conv_choose(&v.p);
    if (!has_plan(plan))
        return sum_room(&v);
    return sum_room(&v) + filter_room(&v) + x_room(&v) + y_room(&v) + rounded(plan->plan.workspace);
}

static void conv2d_dw(const zs_call *c)
{
    conv v = dw_of(c);
    unsigned char *ws = c->ws;
    if (is_point(&v)) {
        zs_point p = point_of(&v);
        zs_point_dw(&p, c->out[0].p, c->out[1].p, c->in[0].p, c->in[1].p, c->ws);
        return;
    }
    void *sums = take(&ws, sum_room(&v));
    if (c->out[1].p)
        zs_launch_column_sum(c->out[1].p, c->in[1].p, v.type, y_pixels(&v), v.s.o, true, sums,
                             c->queue);
    const zs_conv_choice *plan = zs_conv_choose(&v.p);
    if (!has_plan(plan)) {
        zs_launch_conv_dw(c->out[0].p, c->in[0].p, c->in[1].p, &v.s, c->queue);
        return;
    }
    void *dw = take(&ws, filter_room(&v));
    void *x = widened(&v, c->in[0].p, v.p.c, v.s.c, x_pixels(&v), &ws, c->queue);
    void *dy = widened(&v, c->in[1].p, v.p.o, v.s.o, y_pixels(&v), &ws, c->queue);
    execute(plan, x, dw, dy, NULL, ws);
    zs_launch_filter_add(c->out[0].p, dw, v.type, &v.filter, c->queue);
}

const zs_kernel zs_cuda_conv2d_dw = {conv2d_dw, conv2d_dw_ws};

bool zs_conv_problem(zs_cuda_conv *out, zs_op op, const zs_call *c)
{
    conv v;
    switch (op) {
    case ZS_OP_CONV2D: v = forward_of(c, false); break;
    case ZS_OP_CONV_RELU: v = forward_of(c, true); break;
    case ZS_OP_CONV2D_DX: v = dx_of(c); break;
    case ZS_OP_CONV2D_DW: v = dw_of(c); break;
    default: return false;
    }
    *out = v.p;
    return !is_point(&v);
}
