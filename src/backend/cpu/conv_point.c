/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv_point.h"
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/tile.h"

enum {
    BLOCK_FLOATS = 16 << 10, /* of a block of x: with a packed panel, of the L2 cache */
    BLOCK_TILES = 16,        /* at most */
    TILES_MIN = 4,           /* of a block, at least: a panel is read once for so many */
    UNITS = 16               /* pieces of work wanted, where the limits above leave a choice */
};

/* y[m,n] = x[m,depth] b + bias + residual. How it is cut is no part of the result. */
typedef struct plan {
    const zs_tile_fns *tile;
    zs_gemm g;             /* b as it lies, and y */
    const float *residual; /* laid out as y, or NULL */
    const float *packed;   /* b: all panels */
    int64_t panels, panel_floats;
    int64_t rows, blocks; /* of a block; blocks of m */
    int64_t groups;       /* parts that the panels are dealt out in */
} plan;

static void plan_cut(plan *p, const zs_call *c)
{
    p->tile = zs_tile_get();
    p->packed = c->packed ? c->packed : c->ws;
    p->panels = zs_div_up(p->g.n, p->tile->nr);
    p->panel_floats = zs_gemm_packed(p->g.depth, 1);
    int64_t mr = p->tile->mr, tiles = zs_div_up(p->g.m, mr);
    int64_t fit = zs_min64(BLOCK_FLOATS / (p->g.depth * mr), BLOCK_TILES);
    p->rows = zs_min64(zs_max64(fit, TILES_MIN), zs_div_up(tiles, UNITS)) * mr;
    p->blocks = zs_div_up(p->g.m, p->rows);
    p->groups = zs_min64(p->panels, zs_div_up(UNITS, p->blocks));
}

static plan plan_fwd(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    plan p = {.g = {.a = c->in[0].p,
                    .b = c->in[1].p,
                    .bias = c->in[2].p,
                    .y = c->out[0].p,
                    .m = s.n * s.h * s.w,
                    .n = s.o,
                    .depth = s.c,
                    .a_row = s.c,
                    .a_k = 1,
                    .b_row = s.o,
                    .b_col = 1,
                    .ld = s.o},
              .residual = c->in[3].p};
    plan_cut(&p, c);
    return p;
}

static plan plan_dx(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    plan p = {.g = {.a = c->in[0].p,
                    .b = c->in[1].p,
                    .y = c->out[0].p,
                    .m = s.n * s.h * s.w,
                    .n = s.c,
                    .depth = s.o,
                    .a_row = s.o,
                    .a_k = 1,
                    .b_row = 1,
                    .b_col = s.o,
                    .ld = s.c}};
    plan_cut(&p, c);
    return p;
}

/* Reads one element of every line of 64 bytes, in their order, which the hardware sees coming. */
static void touch(const float *p, int64_t n)
{
    const volatile float *v = p;
    for (int64_t i = 0; i < n; i += 16)
        (void)v[i];
}

/* Rows [r, r+rows) against panels [p0, p1). */
static void run_block(const plan *p, int64_t r, int64_t rows, int64_t p0, int64_t p1)
{
    _Alignas(64) float tile[ZS_TILE_MR_MAX * ZS_TILE_NR_MAX];
    const zs_gemm *g = &p->g;
    int64_t tiles = zs_div_up(rows, p->tile->mr);
    touch(g->a + r * g->depth, rows * g->depth);
    if (p->residual)
        touch(p->residual + r * g->n, rows * g->n);
    for (int64_t i = p0; i < p1; i++) {
        int64_t o = i * p->tile->nr;
        zs_tile_in in = {.b = p->packed + i * p->panel_floats,
                         .a_row = g->depth,
                         .a_k = 1,
                         .len = g->depth,
                         .runs = 1,
                         .groups = 1};
        zs_tile_out out = {.bias = g->bias ? g->bias + o : NULL,
                           .ld = g->n,
                           .cols = (int)zs_min64(p->tile->nr, g->n - o)};
        for (int64_t t = 0; t < tiles; t++) {
            int64_t r0 = r + t * rows / tiles, r1 = r + (t + 1) * rows / tiles;
            in.a = g->a + r0 * g->depth;
            out.y = g->y + r0 * g->n + o;
            out.residual = p->residual ? p->residual + r0 * g->n + o : NULL;
            p->tile->product(tile, &in, (int)(r1 - r0), out.cols);
            p->tile->store(&out, tile, (int)(r1 - r0));
        }
    }
}

/* Units [begin, end) of groups x blocks. */
static void run_units(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    (void)thread;
    for (int64_t u = begin; u < end; u++) {
        int64_t group = u / p->blocks, r = u % p->blocks * p->rows;
        run_block(p, r, zs_min64(p->rows, p->g.m - r), group * p->panels / p->groups,
                  (group + 1) * p->panels / p->groups);
    }
}

static size_t packed_bytes(const plan *p)
{
    return (size_t)(p->panels * p->panel_floats) * sizeof(float);
}

static void run(plan *p, const zs_call *c)
{
    if (!c->packed)
        zs_gemm_pack_all(c->ws, &p->g);
    zs_parallel_for(p->blocks * p->groups, zs_max64(1, p->blocks / 32), run_units, p);
}

static bool can(const zs_conv *s)
{
    return s->k == 1 && s->stride == 1 && s->pad == 0;
}

bool zs_conv_point_can(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    return can(&s);
}

size_t zs_conv_point_ws(const zs_call *c)
{
    plan p = plan_fwd(c);
    return packed_bytes(&p);
}

void zs_conv_point(const zs_call *c)
{
    plan p = plan_fwd(c);
    run(&p, c);
}

static zs_packing packing(const zs_call *c)
{
    plan p = plan_fwd(c);
    return (zs_packing){packed_bytes(&p), ZS_CONV_POINT};
}

static void pack(const zs_call *c, void *dst)
{
    plan p = plan_fwd(c);
    zs_gemm_pack_all(dst, &p.g);
}

const zs_packer zs_conv_point_packer = {packing, pack};

bool zs_conv_point_dx_can(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    return can(&s);
}

size_t zs_conv_point_dx_ws(const zs_call *c)
{
    plan p = plan_dx(c);
    return packed_bytes(&p);
}

void zs_conv_point_dx(const zs_call *c)
{
    plan p = plan_dx(c);
    run(&p, c);
}
