/* SPDX-License-Identifier: MIT */
/* Convolutions of any kernel shape with bias and ReLU. 3x3 kernels of stride 1 are those of conv2d
 * with a second look at the result. For the rest, patches of a run of output pixels are laid out
 * as rows of a matrix, which is multiplied with packed weights (tile.h); of 1x1 convolutions the
 * image is that matrix already. */
#include "backend/cpu/conv_relu.h"
#include "backend/cpu/fast.h"
#include "backend/cpu/tile.h"

#include <string.h>

enum {
    RUN_STEP = 24,         /* whole tiles of every instruction set */
    RUN_PIXELS = 192,      /* output pixels of a run, at most */
    RUN_FLOATS = 192 << 10 /* of its patches: beside a panel in the second-level cache */
};

/* Everything here follows from the shapes (and the instruction set) alone. */
typedef struct plan {
    const zs_call *c;
    const zs_tile_fns *tile;
    zs_conv_rect s;
    int64_t pixels, run;          /* of all images; of a run */
    int64_t depth, panels, panel; /* rows of a panel of nr outputs; their number; floats of one */
    bool copy;
} plan;

static int64_t align16(int64_t n)
{
    return (n + 15) / 16 * 16;
}

static plan make_plan(const zs_call *c)
{
    plan p = {.c = c, .tile = zs_tile_get(), .s = zs_conv_rect_of(c)};
    const zs_conv_rect *s = &p.s;
    p.pixels = zs_shape_rows(&c->out[0].s);
    p.depth = s->kh * s->kw * s->c;
    p.panels = (s->o + p.tile->nr - 1) / p.tile->nr;
    p.panel = align16(p.depth * p.tile->nr);
    p.copy = s->kh != 1 || s->kw != 1 || s->stride != 1 || s->ph != 0 || s->pw != 0;
    p.run = RUN_FLOATS / p.depth / RUN_STEP * RUN_STEP;
    p.run = p.run > RUN_PIXELS ? RUN_PIXELS : p.run < RUN_STEP ? RUN_STEP : p.run;
    return p;
}

/* The same without ReLU as a call of conv2d, where that has something better (Winograd). */
static bool as_conv2d(zs_call *call, zs_attr *a, const zs_call *c)
{
    const int64_t *w = c->in[1].s.d;
    *a = *c->a;
    a->k = 3;
    *call = *c;
    call->a = a;
    call->in[3] = (zs_view){0};
    return w[0] == 3 && w[1] == 3 && a->stride == 1 && a->pad == a->pad_w;
}

/* Workspace: the panels, then the patches of one run per thread. */
static size_t workspace(const zs_call *c)
{
    zs_call call;
    zs_attr a;
    if (as_conv2d(&call, &a, c))
        return zs_fast_conv2d.workspace(&call);
    plan p = make_plan(c);
    int64_t floats = p.panels * p.panel + (p.copy ? c->threads * align16(p.run * p.depth) : 0);
    return (size_t)floats * sizeof(float);
}

/* w[depth][O] -> panel[depth][nr], zeros beyond O. */
static void pack(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    int nr = p->tile->nr;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *dst = (float *)p->c->ws + i * p->panel;
        const float *w = p->c->in[1].p + i * nr;
        int64_t left = p->s.o - i * nr, cols = left < nr ? left : nr;
        for (int64_t k = 0; k < p->depth; k++, dst += nr, w += p->s.o) {
            memset(dst, 0, (size_t)nr * sizeof *dst);
            memcpy(dst, w, (size_t)cols * sizeof *dst);
        }
    }
}

/* One row of the patch: the pixels iy, ix .. ix+kw-1, zeros where there are none. */
static void patch_row(float *dst, const plan *p, const float *image, int64_t iy, int64_t ix)
{
    const zs_conv_rect *s = &p->s;
    int64_t x0 = ix < 0 ? 0 : ix, x1 = ix + s->kw < s->w ? ix + s->kw : s->w;
    if (iy < 0 || iy >= s->h || x0 >= x1) {
        memset(dst, 0, (size_t)(s->kw * s->c) * sizeof *dst);
        return;
    }
    memset(dst, 0, (size_t)((x0 - ix) * s->c) * sizeof *dst);
    memcpy(dst + (x0 - ix) * s->c, image + (iy * s->w + x0) * s->c,
           (size_t)((x1 - x0) * s->c) * sizeof *dst);
    memset(dst + (x1 - ix) * s->c, 0, (size_t)((ix + s->kw - x1) * s->c) * sizeof *dst);
}

static void patches(float *dst, const plan *p, int64_t begin, int64_t end)
{
    const zs_conv_rect *s = &p->s;
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / (s->yh * s->yw), y = i / s->yw % s->yh, x = i % s->yw;
        const float *image = p->c->in[0].p + n * s->h * s->w * s->c;
        for (int64_t ky = 0; ky < s->kh; ky++, dst += s->kw * s->c)
            patch_row(dst, p, image, y * s->stride + ky - s->ph, x * s->stride - s->pw);
    }
}

static void clamp(float *y, int64_t rows, int64_t ld, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            y[i * ld + j] = y[i * ld + j] < 0.0f ? 0.0f : y[i * ld + j];
}

/* Output pixels from `begin` on, whose patches are `rows` rows of a, against one panel. */
static void run_panel(const plan *p, const float *a, int64_t begin, int64_t rows, int64_t panel)
{
    _Alignas(64) float tile[ZS_TILE_MR_MAX * ZS_TILE_NR_MAX];
    int64_t o = panel * p->tile->nr, left = p->s.o - o;
    zs_tile_in in = {.b = (const float *)p->c->ws + panel * p->panel,
                     .a_row = p->depth,
                     .a_k = 1,
                     .len = p->depth,
                     .runs = 1,
                     .groups = 1};
    zs_tile_out out = {.bias = p->c->in[2].p ? p->c->in[2].p + o : NULL,
                       .ld = p->s.o,
                       .cols = (int)(left < p->tile->nr ? left : p->tile->nr)};
    for (int64_t i = 0; i < rows; i += p->tile->mr) {
        int m = (int)(rows - i < p->tile->mr ? rows - i : p->tile->mr);
        in.a = a + i * p->depth;
        out.y = p->c->out[0].p + (begin + i) * p->s.o + o;
        p->tile->product(tile, &in, m, out.cols);
        p->tile->store(&out, tile, m);
        clamp(out.y, m, out.ld, out.cols);
    }
}

static void run_pixels(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    const float *a = p->c->in[0].p + begin * p->depth;
    if (p->copy) {
        float *buf = (float *)p->c->ws + p->panels * p->panel + thread * align16(p->run * p->depth);
        patches(buf, p, begin, end);
        a = buf;
    }
    for (int64_t i = 0; i < p->panels; i++)
        run_panel(p, a, begin, end - begin, i);
}

enum { CHUNK = 1 << 14 };

static void relu(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    clamp(c->out[0].p + begin, 1, 0, end - begin);
}

static void conv_relu(const zs_call *c)
{
    zs_call call;
    zs_attr a;
    if (as_conv2d(&call, &a, c)) {
        zs_fast_conv2d.run(&call);
        zs_cpu_for(c, zs_shape_numel(&c->out[0].s), CHUNK, relu);
        return;
    }
    plan p = make_plan(c);
    zs_parallel_for(p.panels, 1, pack, &p);
    zs_parallel_for(p.pixels, p.run, run_pixels, &p);
}

const zs_kernel zs_fast_conv_relu = {conv_relu, workspace};
