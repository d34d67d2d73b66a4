/* SPDX-License-Identifier: MIT */
#include "tests/ops/cases.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CASES = 1000 };

static op_case table[MAX_CASES];
static size_t count;

/* A new row: op and slots without names of their own. */
static op_case *row(zs_op op, bool bench)
{
    assert(count < MAX_CASES);
    op_case *c = &table[count++];
    c->op = op;
    c->bench = bench;
    c->a = (zs_attr){.stride = 1, .scale = 1, .eps = 1e-5f, .groups = 1, .heads = 1};
    return c;
}

static void shape_name(char *s, size_t n, const zs_shape *d)
{
    size_t at = strlen(s);
    for (int i = 0; i < d->nd && at < n; i++)
        at += (size_t)snprintf(s + at, n - at, "%s%lld", i ? "x" : " ", (long long)d->d[i]);
}

/* Name: the operation, the shapes of its first two inputs, which of the others are there. */
static void name_cases(void)
{
    for (size_t i = 0; i < count; i++) {
        op_case *c = &table[i];
        snprintf(c->name, sizeof c->name, "%s", zs_op_name(c->op));
        shape_name(c->name, sizeof c->name, &c->in[0]);
        shape_name(c->name, sizeof c->name, &c->in[1]);
        size_t at = strlen(c->name);
        for (int j = 0; j < ZS_MAX_IN && at + 2 < sizeof c->name; j++)
            c->name[at++] = c->in[j].nd ? '+' : '-';
        c->name[at] = 0;
    }
}

/* ---- convolution: three operations from one geometry ---- */

typedef struct conv_geometry {
    int n, h, w, c, o, k, stride, pad;
    bool bias, residual, bench;
} conv_geometry;

static const conv_geometry convs[] = {
    {1, 1, 1, 1, 1, 3, 1, 1, 0, 0, 0},
    {1, 1, 1, 70, 33, 3, 1, 1, 1, 0, 0},
    {2, 5, 7, 3, 1, 3, 1, 1, 1, 0, 0},
    {1, 8, 8, 1, 32, 3, 1, 1, 1, 0, 0},
    {2, 9, 6, 17, 33, 3, 1, 1, 1, 1, 0},
    {3, 4, 4, 32, 32, 3, 1, 1, 0, 1, 0},
    {2, 16, 16, 32, 64, 3, 1, 1, 1, 0, 0},
    {70, 4, 4, 8, 20, 3, 1, 1, 1, 1, 0},
    {5, 13, 21, 6, 10, 3, 1, 1, 1, 0, 0},
    {1, 40, 50, 12, 16, 3, 1, 1, 0, 0, 0},
    {1, 3, 300, 5, 8, 3, 1, 1, 1, 0, 0},
    {1, 7, 9, 8, 16, 3, 2, 1, 1, 0, 0},
    {2, 8, 8, 9, 5, 3, 2, 1, 0, 0, 0},
    {1, 10, 10, 4, 6, 4, 2, 1, 1, 0, 0},
    {2, 6, 8, 7, 9, 2, 2, 0, 0, 0, 0},
    {2, 9, 11, 5, 40, 4, 4, 0, 1, 0, 0}, /* squares, and pixels that belong to none */
    {3, 6, 3, 17, 33, 3, 3, 0, 0, 0, 0},
    {1, 9, 9, 3, 4, 5, 1, 2, 0, 0, 0},
    {1, 9, 9, 3, 4, 3, 1, 0, 1, 0, 0},
    {1, 9, 8, 3, 4, 3, 3, 1, 1, 0, 0},
    {2, 8, 8, 5, 7, 1, 1, 0, 1, 0, 0},
    {1, 6, 6, 40, 24, 1, 1, 0, 1, 1, 0},
    {3, 1, 1, 12, 130, 1, 1, 0, 0, 0, 0},
    {1, 5, 6, 4, 3, 1, 2, 0, 1, 0, 0},
    {1, 5, 4, 3, 2, 1, 1, 1, 1, 0, 0}, /* a border of bias alone */
    /* products of pixels: blocks that end early, panels that are shared out, one row */
    {3, 13, 17, 37, 70, 1, 1, 0, 1, 1, 0},
    {2, 31, 33, 96, 33, 1, 1, 0, 1, 1, 0},
    {1, 2, 3, 300, 200, 1, 1, 0, 1, 1, 0},
    {1, 1, 1, 64, 64, 1, 1, 0, 0, 1, 0},
    {5, 16, 16, 1, 32, 1, 1, 0, 1, 0, 0},
    {2, 16, 16, 32, 1, 1, 1, 0, 1, 0, 0},
    /* few outputs, few inputs: every border, bands that end early, a residual */
    {3, 13, 17, 37, 3, 3, 1, 1, 1, 1, 0},
    {2, 40, 61, 16, 1, 3, 1, 0, 1, 0, 0},
    {2, 3, 5, 20, 4, 3, 1, 2, 0, 0, 0},
    {1, 21, 30, 3, 33, 3, 1, 1, 1, 0, 0},
    {2, 5, 4, 1, 16, 3, 1, 0, 1, 0, 0},
    /* tiles: cut off, many in a block, images of one tile, several blocks of several depths */
    {3, 2, 5, 17, 32, 3, 1, 1, 1, 1, 0},
    {2, 2, 5, 32, 17, 3, 1, 1, 0, 1, 0},
    {1, 1, 1, 33, 128, 3, 1, 1, 1, 1, 0},
    {9, 4, 4, 128, 17, 3, 1, 1, 0, 0, 0},
    {2, 13, 9, 24, 40, 3, 1, 0, 1, 0, 0},
    {2, 6, 7, 40, 24, 3, 1, 2, 1, 1, 0},
    {1, 3, 3, 70, 9, 3, 1, 0, 0, 1, 0},
    {2, 25, 38, 16, 100, 3, 1, 1, 1, 1, 0},
    {2, 50, 51, 12, 33, 3, 1, 1, 1, 0, 0},
    {1, 61, 70, 9, 8, 3, 1, 2, 0, 0, 0},
    {1, 7, 10, 150, 70, 3, 1, 1, 1, 0, 0},
    {300, 3, 2, 8, 36, 3, 1, 1, 1, 0, 0},
    /* gradients of weights: three, two and one rows of points at once, several parts; few tiles */
    {4, 15, 14, 4, 100, 3, 1, 1, 1, 0, 0},
    {4, 15, 14, 5, 200, 3, 1, 1, 0, 0, 0},
    {4, 15, 14, 4, 300, 3, 1, 1, 1, 0, 0},
    {6, 33, 34, 5, 20, 3, 1, 0, 1, 0, 0},
    {12, 5, 4, 100, 90, 3, 1, 1, 1, 0, 0},
    {2, 9, 11, 70, 150, 3, 1, 2, 1, 0, 0},
    {32, 32, 32, 32, 32, 3, 1, 1, 1, 0, 1},
    {32, 16, 16, 64, 64, 3, 1, 1, 1, 0, 1},
    {32, 8, 8, 128, 128, 3, 1, 1, 1, 0, 1},
    {32, 16, 16, 96, 64, 3, 1, 1, 1, 0, 1},
    {32, 4, 4, 128, 128, 3, 1, 1, 1, 0, 1},
    {32, 32, 32, 1, 32, 3, 1, 1, 1, 0, 1},
    {32, 32, 32, 32, 1, 3, 1, 1, 1, 0, 1},
    {32, 16, 16, 96, 64, 1, 1, 0, 1, 0, 1},
    {8, 64, 64, 128, 64, 1, 1, 0, 1, 1, 1},
    {8, 16, 16, 256, 768, 1, 1, 0, 1, 0, 1},
    {8, 8, 8, 1024, 512, 1, 1, 0, 1, 1, 1},
    {1, 256, 256, 256, 128, 1, 1, 0, 1, 1, 1},
    {8, 64, 64, 3, 64, 3, 1, 1, 1, 0, 1},
    {8, 64, 64, 64, 3, 3, 1, 1, 1, 0, 1},
    {1, 256, 256, 128, 3, 3, 1, 1, 1, 0, 1},
    {1, 64, 64, 128, 128, 3, 1, 1, 1, 0, 1},
    {1, 8, 8, 512, 512, 3, 1, 1, 1, 0, 1},
    {8, 64, 64, 128, 128, 3, 1, 1, 1, 0, 1},
    {8, 64, 64, 64, 64, 3, 1, 1, 1, 0, 1},
    {8, 32, 32, 128, 128, 3, 1, 1, 1, 0, 1},
    {8, 16, 16, 256, 256, 3, 1, 1, 1, 0, 1},
    {8, 8, 8, 512, 512, 3, 1, 1, 1, 0, 1},
    {1, 256, 256, 128, 128, 3, 1, 1, 1, 0, 1},
    {8, 32, 32, 32, 32, 3, 1, 1, 1, 0, 1},
    {4, 32, 32, 256, 256, 3, 1, 1, 1, 0, 1},
    {8, 32, 32, 4, 384, 2, 2, 0, 1, 0, 1}, /* squares as tokens */
    {8, 224, 224, 3, 768, 16, 16, 0, 1, 0, 1},
};

/* With further zeros below and to the right. */
static const conv_geometry tailed_convs[] = {
    {1, 2, 2, 3, 4, 3, 2, 0, 1, 0, 0},         {2, 8, 6, 5, 33, 3, 2, 0, 1, 0, 0},
    {3, 16, 18, 40, 24, 3, 2, 0, 0, 0, 0},     {1, 7, 9, 8, 16, 3, 2, 0, 1, 0, 0},
    {2, 9, 11, 16, 12, 3, 1, 0, 1, 0, 0},      {2, 6, 5, 20, 2, 3, 1, 0, 1, 0, 0},
    {1, 256, 256, 128, 128, 3, 2, 0, 1, 0, 1}, {4, 64, 64, 512, 512, 3, 2, 0, 1, 0, 1},
};

static void add_conv(const conv_geometry *g, int tail)
{
    zs_shape x = zs_shape4(g->n, g->h, g->w, g->c), w = zs_shape4(g->k, g->k, g->c, g->o);
    zs_shape y = zs_shape4(g->n, (g->h + 2 * g->pad + tail - g->k) / g->stride + 1,
                           (g->w + 2 * g->pad + tail - g->k) / g->stride + 1, g->o);
    zs_attr a = {.k = g->k, .stride = g->stride, .pad = g->pad, .tail = tail, .h = g->h, .w = g->w};
    op_case *f = row(ZS_OP_CONV2D, g->bench);
    f->a = a;
    f->in[0] = x;
    f->in[1] = w;
    if (g->bias)
        f->in[2] = zs_shape1(g->o);
    if (g->residual)
        f->in[3] = y;
    f->out[0] = y;
    op_case *dx = row(ZS_OP_CONV2D_DX, g->bench);
    dx->a = a;
    dx->in[0] = y;
    dx->in[1] = w;
    dx->out[0] = x;
    op_case *dw = row(ZS_OP_CONV2D_DW, g->bench);
    dw->a = a;
    dw->in[0] = x;
    dw->in[1] = y;
    dw->out[0] = w;
    if (g->bias)
        dw->out[1] = zs_shape1(g->o);
}

/* ---- linear ---- */

typedef struct linear_geometry {
    int m, k, o;
    bool bias, bench;
} linear_geometry;

static const linear_geometry linears[] = {
    {1, 1, 1, 1, 0},         {3, 5, 7, 1, 0},          {1, 128, 40, 0, 0},
    {2, 33, 500, 1, 0},      {130, 17, 19, 1, 0},      {40, 300, 257, 0, 0},
    {700, 9, 3, 1, 0},       {32, 128, 512, 1, 1},     {1, 512, 2048, 1, 1},
    {256, 512, 512, 1, 1},   {32, 4096, 128, 1, 1},    {9, 64, 96, 1, 0},
    {17, 31, 33, 1, 0},      {257, 40, 48, 1, 0},      {256, 512, 2048, 1, 1},
    {256, 2048, 2048, 1, 1}, {2048, 1024, 1024, 1, 1}, {1, 128, 512, 1, 1},
    {1, 2048, 8192, 1, 1},
};

static void add_linear(const linear_geometry *g)
{
    zs_shape x = zs_shape2(g->m, g->k), w = zs_shape2(g->o, g->k), y = zs_shape2(g->m, g->o);
    op_case *f = row(ZS_OP_LINEAR, g->bench);
    f->in[0] = x;
    f->in[1] = w;
    f->out[0] = y;
    op_case *dx = row(ZS_OP_LINEAR_DX, g->bench);
    dx->in[0] = y;
    dx->in[1] = w;
    dx->out[0] = x;
    op_case *dw = row(ZS_OP_LINEAR_DW, g->bench);
    dw->in[0] = x;
    dw->in[1] = y;
    dw->out[0] = w;
    if (g->bias)
        f->in[2] = dw->out[1] = zs_shape1(g->o);
}

/* ---- norms ---- */

typedef struct gn_geometry {
    int n, h, w, c, groups, act;
    bool ss, cs, dx;
    float mean;
    bool bench;
} gn_geometry;

static const gn_geometry gns[] = {
    {1, 1, 1, 2, 1, ZS_ACT_SILU, 0, 0, 1, 0, 0},
    {1, 4, 4, 1, 1, ZS_ACT_NONE, 1, 0, 1, 0, 0},
    {2, 3, 5, 3, 3, ZS_ACT_SILU, 1, 1, 1, 0, 0},
    {3, 6, 4, 32, 32, ZS_ACT_SILU, 1, 1, 1, 0.3f, 0},
    {2, 8, 8, 48, 16, ZS_ACT_NONE, 0, 1, 1, 0, 0},
    {1, 5, 5, 96, 32, ZS_ACT_SILU, 0, 0, 1, 0, 0},
    {2, 33, 31, 20, 4, ZS_ACT_SILU, 1, 1, 1, 0, 0},
    {1, 9, 7, 17, 17, ZS_ACT_SILU, 1, 1, 1, 0, 0}, /* groups of one channel, odd everything */
    {7, 3, 3, 17, 1, ZS_ACT_NONE, 1, 0, 1, 0, 0},
    {1, 64, 64, 96, 32, ZS_ACT_SILU, 1, 1, 1, 0, 0}, /* sample by sample */
    {1, 8, 8, 64, 8, ZS_ACT_SILU, 1, 0, 0, 0, 0},
    {2, 16, 16, 32, 32, ZS_ACT_SILU, 0, 0, 1, 300, 0}, /* mean far above the deviation */
    {32, 32, 32, 32, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {32, 16, 16, 64, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {32, 8, 8, 128, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {8, 64, 64, 128, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {8, 64, 64, 64, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {8, 16, 16, 256, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {8, 8, 8, 512, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {1, 256, 256, 128, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
    {8, 32, 32, 128, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
};

static const gn_geometry dropped_gns[] = {
    {3, 5, 5, 17, 17, ZS_ACT_SILU, 1, 1, 1, 0, 0},
    {2, 9, 9, 32, 32, ZS_ACT_SILU, 1, 0, 0, 0, 0},
    {1, 65, 65, 128, 32, ZS_ACT_SILU, 1, 1, 1, 0, 0}, /* the gradient at z is not stored */
    {1, 7, 5, 64, 8, ZS_ACT_NONE, 0, 0, 1, 0, 0},
    {8, 32, 32, 128, 32, ZS_ACT_SILU, 1, 1, 1, 0, 1},
};

static void add_gn(const gn_geometry *g, float p)
{
    zs_shape x = zs_shape4(g->n, g->h, g->w, g->c), v = zs_shape1(g->c);
    zs_shape stats = {3, {g->n, g->groups, 2, 1}};
    zs_attr a = {.groups = g->groups, .eps = 1e-5f, .act = g->act, .p = p, .rng = 3};
    op_case *f = row(ZS_OP_GN_ACT, g->bench), *b = row(ZS_OP_GN_ACT_BWD, g->bench);
    f->a = b->a = a;
    f->mean = b->mean = g->mean;
    f->in[0] = b->in[0] = b->in[6] = f->out[0] = x;
    f->in[1] = f->in[2] = b->in[2] = b->in[3] = b->out[1] = b->out[2] = v;
    f->out[1] = b->in[1] = stats;
    if (g->ss)
        f->in[3] = b->in[4] = b->out[3] = zs_shape2(g->n, 2 * g->c);
    if (g->cs)
        f->in[4] = b->in[5] = b->out[4] = zs_shape2(g->n, g->c);
    if (g->dx)
        b->out[0] = x;
    if (g->h * g->w * g->c / g->groups <= 2) /* dx is 0 but for eps, and rstd up to 316 */
        b->slack = 1e-4;
    if (g->mean > 100) /* x itself has lost eight bits: what f32 statistics leave of the rest */
        f->tolerance = b->tolerance = 1e-3;
}

static void add_layernorm(int m, int ch, bool dx, bool bench)
{
    op_case *f = row(ZS_OP_LAYERNORM, bench), *b = row(ZS_OP_LAYERNORM_BWD, bench);
    f->in[0] = f->out[0] = b->in[0] = b->in[5] = zs_shape2(m, ch);
    f->in[1] = f->in[2] = b->in[2] = b->in[3] = b->out[1] = b->out[2] = zs_shape1(ch);
    f->out[1] = b->in[1] = zs_shape2(m, 2);
    if (dx)
        b->out[0] = zs_shape2(m, ch);
    if (ch == 1) /* as for groups of one element */
        b->slack = 1e-4;
}

typedef struct modulated_geometry {
    int n, rows, ch; /* samples, rows of each */
    int width, at;   /* columns of the modulation (0: none), and the first of them */
    bool gamma, beta, dx, bench;
} modulated_geometry;

static const modulated_geometry modulated[] = {
    {1, 1, 2, 4, 0, 0, 0, 1, 0},        {3, 5, 7, 42, 21, 0, 0, 1, 0},
    {2, 65, 48, 96, 0, 1, 1, 1, 0},     {4, 33, 17, 70, 3, 1, 0, 0, 0},
    {1, 130, 20, 0, 0, 0, 0, 1, 0},     {5, 4, 130, 0, 0, 0, 1, 1, 0},
    {3, 7, 33, 0, 0, 1, 0, 1, 0},       {2, 200, 40, 240, 160, 0, 0, 1, 0},
    {8, 256, 384, 2304, 0, 0, 0, 1, 1},
};

static void add_modulated(const modulated_geometry *g)
{
    op_case *f = row(ZS_OP_LAYERNORM, g->bench), *b = row(ZS_OP_LAYERNORM_BWD, g->bench);
    zs_shape x = {3, {g->n, g->rows, g->ch, 1}};
    f->a.offset = b->a.offset = g->at;
    f->in[0] = f->out[0] = b->in[0] = b->in[5] = x;
    f->out[1] = b->in[1] = zs_shape2(g->n * g->rows, 2);
    if (g->gamma)
        f->in[1] = b->in[2] = b->out[1] = zs_shape1(g->ch);
    if (g->beta)
        f->in[2] = b->in[3] = b->out[2] = zs_shape1(g->ch);
    if (g->width)
        f->in[3] = b->in[4] = b->out[3] = zs_shape2(g->n, g->width);
    if (g->dx)
        b->out[0] = x;
    if (g->ch <= 2)
        b->slack = 1e-4;
    if (!g->width || g->at + 2 * g->ch > g->width) /* a gate needs half of the columns */
        return;
    op_case *y = row(ZS_OP_GATE, g->bench), *d = row(ZS_OP_GATE_BWD, g->bench);
    y->a.offset = d->a.offset = g->at + g->ch;
    y->in[0] = y->in[1] = y->out[0] = d->in[0] = d->in[2] = x;
    y->in[2] = d->in[1] = d->out[1] = f->in[3];
    if (g->dx)
        d->out[0] = x;
}

static void add_batchnorm(int m, int ch, bool affine, int act)
{
    op_case *c = row(ZS_OP_BATCHNORM, false);
    c->a.act = act;
    c->in[0] = c->out[0] = zs_shape2(m, ch);
    c->in[1] = c->in[2] = zs_shape1(ch);
    if (affine)
        c->in[3] = c->in[4] = zs_shape1(ch);
}

/* ---- element-wise ---- */

static void add_elementwise(zs_shape s, bool bench)
{
    static const struct {
        zs_op op;
        int in, out;
    } ops[] = {
        {ZS_OP_SILU, 1, 1},        {ZS_OP_SILU_BWD, 2, 1},   {ZS_OP_ADD, 2, 1},
        {ZS_OP_GELU, 1, 1},        {ZS_OP_GELU_BWD, 2, 1},   {ZS_OP_SCALE1P, 2, 1},
        {ZS_OP_SCALE1P_BWD, 3, 2}, {ZS_OP_ACCUMULATE, 1, 1}, {ZS_OP_LOSS_BWD, 2, 1},
        {ZS_OP_CAST, 1, 1},
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        op_case *c = row(ops[i].op, bench);
        for (int j = 0; j < ops[i].in; j++)
            c->in[j] = s;
        for (int j = 0; j < ops[i].out; j++)
            c->out[j] = s;
    }
    op_case *d = row(ZS_OP_DROPOUT, bench);
    d->a.p = 0.3f;
    d->a.rng = 5;
    d->in[0] = d->out[0] = s;
    op_case *y = row(ZS_OP_GELU, bench), *dx = row(ZS_OP_GELU_BWD, bench);
    y->a.kind = dx->a.kind = ZS_GELU_TANH;
    y->in[0] = y->out[0] = dx->in[0] = dx->in[1] = dx->out[0] = s;
    for (int kind = 0; kind < ZS_LOSS_COUNT; kind++) {
        op_case *c = row(ZS_OP_LOSS, bench), *b = row(ZS_OP_LOSS_BWD, bench);
        c->a.kind = b->a.kind = kind;
        c->in[0] = c->in[1] = b->in[0] = b->in[1] = b->out[0] = s;
        c->out[0] = zs_shape1(1);
        if (bench)
            continue;
        op_case *wc = row(ZS_OP_LOSS, false), *wb = row(ZS_OP_LOSS_BWD, false);
        *wc = *c;
        *wb = *b;
        wc->in[2] = wb->in[2] = zs_shape1(s.d[0]);
    }
}

static void add_absent_outputs(void)
{
    for (int i = 0; i < 2; i++) {
        op_case *c = row(ZS_OP_SCALE1P_BWD, false);
        c->in[0] = c->in[1] = c->in[2] = c->out[i] = zs_shape2(3, 5);
    }
}

static void add_bound(zs_shape x, bool bench)
{
    op_case *f = row(ZS_OP_LOSS_VLB, bench), *b = row(ZS_OP_LOSS_VLB_BWD, bench);
    zs_shape both = x;
    both.d[x.nd - 1] *= 2;
    f->in[0] = b->in[0] = b->out[0] = both;
    f->in[1] = f->in[2] = b->in[1] = b->in[2] = x;
    f->in[3] = b->in[3] = zs_shape2(x.d[0], ZS_BOUND_NUMBERS);
    f->out[0] = zs_shape1(1);
    f->out[1] = zs_shape2(x.d[0], 2);
}

/* ---- attention ---- */

static void add_attention(int n, int h, int w, int c, int heads, bool bench)
{
    op_case *f = row(ZS_OP_ATTENTION, bench), *b = row(ZS_OP_ATTENTION_BWD, bench);
    f->a.heads = b->a.heads = heads;
    f->in[0] = b->in[0] = b->out[0] = zs_shape4(n, h, w, 3 * c);
    f->out[0] = b->in[1] = zs_shape4(n, h, w, c);
    if (h * w >= 1000) /* one f32 sum over all of them */
        b->tolerance = 1e-5;
}

/* Of tokens, in the order of vision transformers. */
static void add_token_attention(int n, int t, int c, int heads, bool bench)
{
    op_case *f = row(ZS_OP_ATTENTION, bench), *b = row(ZS_OP_ATTENTION_BWD, bench);
    f->a.heads = b->a.heads = heads;
    f->a.kind = b->a.kind = ZS_QKV_BY_PART;
    f->in[0] = b->in[0] = b->out[0] = (zs_shape){3, {n, t, 3 * c, 1}};
    f->out[0] = b->in[1] = (zs_shape){3, {n, t, c, 1}};
}

static void add_tokens(int n, int h, int w, int c, bool first, bool positions)
{
    op_case *f = row(ZS_OP_TOKENS, false), *b = row(ZS_OP_TOKENS_BWD, false);
    int len = h * w, t = len + first;
    f->in[0] = zs_shape4(n, h, w, c);
    f->out[0] = b->in[0] = (zs_shape){3, {n, t, c, 1}};
    b->a.len = len;
    if (first)
        f->in[1] = b->out[1] = zs_shape1(c);
    if (positions)
        f->in[2] = b->out[2] = zs_shape2(t, c);
    if (n > 1)
        b->out[0] = zs_shape4(n, b->a.h = h, b->a.w = w, c);
    op_case *y = row(ZS_OP_TAKE_ROW, false), *d = row(ZS_OP_TAKE_ROW_BWD, false);
    y->in[0] = d->out[0] = f->out[0];
    y->out[0] = d->in[0] = zs_shape2(n, c);
    y->a.offset = d->a.offset = t / 2;
    d->a.len = t;
}

/* ---- moving things about ---- */

static void add_resample(int n, int h, int w, int c, bool bench)
{
    zs_shape small = zs_shape4(n, h, w, c), large = zs_shape4(n, 2 * h, 2 * w, c);
    zs_shape flat = zs_shape2(n, c);
    op_case *up = row(ZS_OP_UPSAMPLE2, bench), *down = row(ZS_OP_DOWNSAMPLE2, bench);
    op_case *mean = row(ZS_OP_MEAN_HW, bench), *cast = row(ZS_OP_BROADCAST_HW, bench);
    up->in[0] = down->out[0] = mean->in[0] = cast->out[0] = small;
    up->out[0] = down->in[0] = large;
    mean->out[0] = cast->in[0] = flat;
    down->a.scale = 0.25f;
    cast->a.scale = 1.0f / (float)(h * w);
    cast->a.h = h;
    cast->a.w = w;
}

static void add_concat(zs_shape a, int b, bool bench)
{
    op_case *j = row(ZS_OP_CONCAT, bench), *s = row(ZS_OP_SLICE, bench);
    zs_shape both = a, other = a;
    int64_t ca = zs_shape_last(&a);
    other.d[a.nd - 1] = b;
    both.d[a.nd - 1] = ca + b;
    j->in[0] = a;
    j->in[1] = other;
    j->out[0] = s->in[0] = both;
    s->a.offset = ca;
    s->a.len = b;
    s->out[0] = other;
}

/* ---- frozen networks ---- */

typedef struct rect_geometry {
    int n, h, w, c, o, kh, kw, stride, ph, pw;
    bool bias, bench;
} rect_geometry;

static const rect_geometry rects[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},       {2, 9, 10, 8, 5, 1, 7, 1, 0, 3, 1, 0},
    {2, 9, 10, 5, 7, 7, 1, 1, 3, 0, 1, 0},      {1, 11, 8, 6, 33, 3, 3, 2, 0, 0, 1, 0},
    {3, 8, 8, 20, 40, 1, 3, 1, 0, 1, 1, 0},     {3, 8, 8, 20, 40, 3, 1, 1, 1, 0, 0, 0},
    {1, 35, 30, 3, 10, 11, 11, 4, 2, 2, 1, 0},  {2, 17, 13, 4, 70, 5, 5, 1, 2, 2, 1, 0},
    {5, 13, 9, 40, 16, 1, 1, 1, 0, 0, 1, 0},    {1, 4, 5, 450, 9, 3, 3, 1, 1, 1, 1, 0},
    {1, 6, 7, 3, 4, 2, 3, 3, 1, 2, 1, 0}, /* uneven everything */
    {8, 17, 17, 160, 160, 1, 7, 1, 0, 3, 1, 1}, {8, 17, 17, 768, 192, 1, 1, 1, 0, 0, 1, 1},
    {8, 149, 149, 32, 32, 3, 3, 1, 0, 0, 1, 1}, {8, 35, 35, 64, 96, 3, 3, 1, 1, 1, 1, 1},
    {8, 8, 8, 448, 384, 3, 3, 1, 1, 1, 1, 1},   {8, 299, 299, 3, 32, 3, 3, 2, 0, 0, 1, 1},
};

static void add_rect(const rect_geometry *g)
{
    op_case *c = row(ZS_OP_CONV_RELU, g->bench);
    c->a = (zs_attr){.stride = g->stride, .pad = g->ph, .pad_w = g->pw};
    c->in[0] = zs_shape4(g->n, g->h, g->w, g->c);
    c->in[1] = zs_shape4(g->kh, g->kw, g->c, g->o);
    if (g->bias)
        c->in[2] = zs_shape1(g->o);
    c->out[0] = zs_shape4(g->n, (g->h + 2 * g->ph - g->kh) / g->stride + 1,
                          (g->w + 2 * g->pw - g->kw) / g->stride + 1, g->o);
}

static void add_pool(int h, int w, int c, zs_attr a)
{
    op_case *p = row(ZS_OP_POOL, false);
    p->a = a;
    p->in[0] = zs_shape4(2, h, w, c);
    p->out[0] =
        zs_shape4(2, (h + 2 * a.pad - a.k) / a.stride + 1, (w + 2 * a.pad - a.k) / a.stride + 1, c);
}

static void add_pools(void)
{
    for (int kind = ZS_POOL_MAX; kind <= ZS_POOL_MEAN; kind++) {
        add_pool(9, 12, 7, (zs_attr){.kind = kind, .k = 3, .stride = 2});
        add_pool(8, 5, 33, (zs_attr){.kind = kind, .k = 3, .stride = 1, .pad = 1});
        add_pool(1, 2, 3, (zs_attr){.kind = kind, .k = 3, .stride = 1, .pad = 2});
        add_pool(70, 60, 20, (zs_attr){.kind = kind, .k = 2, .stride = 2});
    }
}

static void add_timestep(int n, int dim)
{
    op_case *c = row(ZS_OP_TIMESTEP, false);
    c->a.len = dim;
    c->in[0] = zs_shape1(n);
    c->out[0] = zs_shape2(n, dim);
}

/* More indices than rows, so that some rows add up several gradients, and rows that none names. */
static void add_embed(int n, int v, int ch)
{
    op_case *f = row(ZS_OP_EMBED, false), *b = row(ZS_OP_EMBED_BWD, false);
    f->in[0] = b->in[0] = zs_shape1(n);
    f->in[1] = b->out[0] = zs_shape2(v, ch);
    f->out[0] = b->in[1] = zs_shape2(n, ch);
    b->a.len = v;
}

/* ---- patches, rows in place of others ---- */

static void add_patches(int n, int h, int w, int k, int ch)
{
    op_case *p = row(ZS_OP_PATCHES, false), *u = row(ZS_OP_UNPATCH, false);
    p->a.k = u->a.k = k;
    p->a.h = u->a.h = h;
    p->a.w = u->a.w = w;
    p->in[0] = u->out[0] = zs_shape4(n, h * k, w * k, ch);
    p->out[0] = u->in[0] = (zs_shape){3, {n, h * w, k * k * ch}};
}

static void add_substitute(int n, int ch, bool dx)
{
    op_case *f = row(ZS_OP_SUBSTITUTE, false), *b = row(ZS_OP_SUBSTITUTE_BWD, false);
    f->in[0] = f->out[0] = b->in[1] = zs_shape2(n, ch);
    f->in[1] = b->out[1] = zs_shape2(1, ch);
    f->in[2] = b->in[0] = zs_shape1(n);
    if (dx)
        b->out[0] = zs_shape2(n, ch);
}

static void make_table(void)
{
    for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
        add_conv(&convs[i], 0);
    for (size_t i = 0; i < sizeof tailed_convs / sizeof tailed_convs[0]; i++)
        add_conv(&tailed_convs[i], 1);
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++)
        add_linear(&linears[i]);
    for (size_t i = 0; i < sizeof gns / sizeof gns[0]; i++)
        add_gn(&gns[i], 0);
    for (size_t i = 0; i < sizeof dropped_gns / sizeof dropped_gns[0]; i++)
        add_gn(&dropped_gns[i], 0.3f);
    add_layernorm(1, 1, true, false);
    add_layernorm(5, 7, true, false);
    add_layernorm(130, 64, true, false);
    add_layernorm(3, 513, false, false);
    add_layernorm(256, 1024, true, true);
    for (size_t i = 0; i < sizeof modulated / sizeof modulated[0]; i++)
        add_modulated(&modulated[i]);
    add_batchnorm(1, 1, true, ZS_ACT_RELU);
    add_batchnorm(5, 33, true, ZS_ACT_RELU);
    add_batchnorm(7, 20, false, ZS_ACT_NONE);
    add_elementwise(zs_shape1(1), false);
    add_elementwise(zs_shape2(3, 7), false);
    add_elementwise(zs_shape4(2, 5, 3, 3), false);
    add_elementwise(zs_shape4(3, 40, 61, 5), false); /* several chunks, none full */
    add_elementwise(zs_shape4(32, 32, 32, 32), true);
    add_absent_outputs();
    add_bound(zs_shape2(1, 1), false);
    add_bound(zs_shape4(5, 3, 7, 3), false);
    add_bound(zs_shape4(8, 64, 64, 3), true);
    add_attention(1, 1, 1, 1, 1, false);
    add_attention(2, 3, 5, 6, 2, false);
    add_attention(1, 8, 8, 32, 1, false);
    add_attention(3, 4, 4, 24, 3, false);
    add_attention(1, 13, 11, 20, 4, false);
    add_attention(2, 17, 33, 17, 1, false); /* several blocks of queries */
    add_attention(1, 40, 25, 16, 2, false);
    add_attention(32, 8, 8, 128, 1, true);
    add_attention(8, 16, 16, 512, 1, true);
    add_attention(8, 14, 14, 768, 12, true);
    add_attention(8, 16, 16, 1152, 16, true);
    add_attention(1, 32, 32, 256, 1, true);
    add_attention(8, 16, 16, 256, 1, true);
    add_attention(8, 16, 16, 256, 4, true);
    add_token_attention(1, 1, 2, 1, false);
    add_token_attention(2, 5, 24, 3, false);
    add_token_attention(2, 65, 48, 3, false);
    add_token_attention(1, 197, 40, 2, false);
    add_token_attention(1, 257, 128, 2, false);
    add_token_attention(1, 197, 768, 12, true);
    add_token_attention(8, 197, 768, 12, true);
    add_tokens(1, 1, 1, 1, true, true);
    add_tokens(3, 2, 5, 7, true, true);
    add_tokens(2, 4, 4, 33, false, true);
    add_tokens(5, 3, 1, 130, true, false);
    add_tokens(2, 14, 14, 48, true, true);
    add_resample(1, 1, 1, 1, false);
    add_resample(2, 3, 5, 7, false);
    add_resample(3, 16, 9, 33, false);
    add_resample(32, 16, 16, 64, true);
    add_concat(zs_shape2(3, 4), 1, false);
    add_concat(zs_shape4(2, 3, 5, 7), 9, false);
    add_concat(zs_shape4(3, 40, 20, 5), 16, false);
    add_concat(zs_shape4(32, 32, 32, 32), 32, true);
    add_timestep(1, 2);
    add_timestep(5, 64);
    add_timestep(33, 30); /* several chunks */
    add_embed(1, 1, 1);
    add_embed(3, 10, 7);
    add_embed(40, 9, 33);
    add_embed(300, 70, 130);
    add_patches(1, 1, 1, 1, 1);
    add_patches(2, 3, 4, 2, 5);
    add_patches(3, 2, 1, 3, 1);
    add_patches(2, 16, 16, 2, 8);
    add_substitute(1, 1, true);
    add_substitute(5, 7, true);
    add_substitute(70, 33, false);
    for (size_t i = 0; i < sizeof rects / sizeof rects[0]; i++)
        add_rect(&rects[i]);
    add_pools();
    name_cases();
}

const op_case *op_cases(size_t *n)
{
    if (count == 0)
        make_table();
    *n = count;
    return table;
}

double op_tolerance(const op_case *c)
{
    return c->tolerance > 0 ? c->tolerance : 4e-6;
}

static double numel(const zs_shape *s)
{
    return s->nd ? (double)zs_shape_numel(s) : 0;
}

/* Of a sample. */
static int64_t positions(const zs_shape *x)
{
    return zs_shape_rows(x) / x->d[0];
}

double op_flops(const op_case *c)
{
    const zs_shape *x = &c->in[0];
    switch (c->op) {
    case ZS_OP_CONV_RELU:
    case ZS_OP_CONV2D: return 2 * numel(&c->in[1]) * numel(&c->out[0]) / (double)c->out[0].d[3];
    case ZS_OP_CONV2D_DX: return 2 * numel(&c->in[1]) * numel(x) / (double)x->d[3];
    case ZS_OP_CONV2D_DW: return 2 * numel(&c->out[0]) * numel(&c->in[1]) / (double)c->in[1].d[3];
    case ZS_OP_LINEAR:
    case ZS_OP_LINEAR_DX: return 2 * (double)x->d[0] * numel(&c->in[1]);
    case ZS_OP_LINEAR_DW: return 2 * (double)x->d[0] * numel(&c->out[0]);
    case ZS_OP_ATTENTION: return 4 * numel(&c->out[0]) * (double)positions(x);
    case ZS_OP_ATTENTION_BWD: return 10 * numel(&c->in[1]) * (double)positions(x);
    default: return 0;
    }
}

double op_bytes(const op_case *c)
{
    double n = 0;
    for (int i = 0; i < ZS_MAX_IN; i++)
        n += numel(&c->in[i]);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        n += numel(&c->out[i]);
    return 4 * n;
}
