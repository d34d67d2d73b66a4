/* SPDX-License-Identifier: MIT */
#include "backend/cpu/gemm.h"

#include "backend/cpu/tile.h"
#include "base/base.h"

#include <string.h>

enum {
    SPLIT_ROWS = 32, /* fewest rows that are worth a panel of their own */
    PACK_STEPS = 16,
    BLOCK_TILES = 4,         /* rows of a block, in tiles */
    GROUP_FLOATS = 96 << 10, /* of a group of packed panels: stays in L2 beside a block */
    PIECE = 128              /* of the depth, for few rows */
};

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* n floats, of which there are few, or as many as a tile has rows or columns. */
static void copy(float *restrict dst, const float *restrict src, int64_t n)
{
    switch (n) {
    case 4: memcpy(dst, src, 4 * sizeof *dst); break;
    case 6: memcpy(dst, src, 6 * sizeof *dst); break;
    case 8: memcpy(dst, src, 8 * sizeof *dst); break;
    case 16: memcpy(dst, src, 16 * sizeof *dst); break;
    case 32: memcpy(dst, src, 32 * sizeof *dst); break;
    default: memcpy(dst, src, (size_t)n * sizeof *dst);
    }
}

int64_t zs_gemm_packed(int64_t depth, int64_t n)
{
    int nr = zs_tile_get()->nr;
    return div_up(n, nr) * nr * depth;
}

void zs_gemm_pack(float *dst, const zs_gemm *g, int64_t panel)
{
    int nr = zs_tile_get()->nr;
    int64_t j = panel * nr, cols = min64(nr, g->n - j);
    const float *src = g->b + j * g->b_col;
    if (g->b_col != 1) {
        zs_gemm_fns_get()->transpose(dst, src, g->b_col, g->depth, nr, (int)cols);
        return;
    }
    for (int64_t k = 0; k < g->depth; k++, dst += nr, src += g->b_row) {
        copy(dst, src, cols);
        if (cols < nr)
            memset(dst + cols, 0, (size_t)(nr - cols) * sizeof *dst);
    }
}

/* Asks for what a tile will be added to. */
static void ahead(const zs_tile_out *out, int64_t rows)
{
#ifdef __GNUC__
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < out->cols; j += 16)
            __builtin_prefetch(out->y + i * out->ld + j, 1);
#else
    (void)out, (void)rows;
#endif
}

void zs_gemm_panel(const zs_gemm *g, const float *packed, int64_t panel, int64_t i0, int64_t i1)
{
    _Alignas(64) float tile[ZS_TILE_MR_MAX * ZS_TILE_NR_MAX];
    const zs_tile_fns *fn = zs_tile_get();
    int64_t j = panel * fn->nr, tiles = div_up(i1 - i0, fn->mr);
    zs_tile_in in = {
        .b = packed, .a_row = g->a_row, .a_k = g->a_k, .len = g->depth, .runs = 1, .groups = 1};
    zs_tile_out out = {
        .bias = g->bias ? g->bias + j : NULL, .ld = g->ld, .cols = (int)min64(fn->nr, g->n - j)};
    for (int64_t t = 0; t < tiles; t++) {
        int64_t r0 = i0 + t * (i1 - i0) / tiles, r1 = i0 + (t + 1) * (i1 - i0) / tiles;
        in.a = g->a + r0 * g->a_row;
        out.y = g->y + r0 * g->ld + j;
        if (g->add)
            ahead(&out, r1 - r0);
        fn->product(tile, &in, (int)(r1 - r0), out.cols);
        if (g->add)
            fn->add(&out, tile, (int)(r1 - r0));
        else
            fn->store(&out, tile, (int)(r1 - r0));
    }
}

/* A product cut into panels of columns and, when these are few, parts of the rows. */
typedef struct cut {
    zs_gemm g;
    int64_t panels, group, parts; /* group: panels that a part of the rows meets in one go */
    int64_t panel_floats;
    float *panel; /* [threads][group][panel_floats] */
    float *rows;  /* a packed: [m/mr][depth][mr], when its columns are contiguous */
} cut;

static bool packs_a(const zs_gemm *g)
{
    return g->a_k != 1;
}

static int64_t rows_floats(const zs_gemm *g)
{
    int mr = zs_tile_get()->mr;
    return packs_a(g) ? div_up(div_up(g->m, mr) * mr * g->depth, 16) * 16 : 0;
}

static cut cut_of(const zs_gemm *g, int threads, void *ws)
{
    cut c = {.g = *g};
    c.panels = div_up(g->n, zs_tile_get()->nr);
    c.panel_floats = zs_gemm_packed(g->depth, 1);
    c.group = min64(GROUP_FLOATS / c.panel_floats, c.panels / (4 * threads));
    c.group = c.group < 1 ? 1 : c.group;
    c.parts = min64(div_up(4 * threads, c.panels), div_up(g->m, SPLIT_ROWS));
    c.rows = ws;
    c.panel = ws ? c.rows + rows_floats(g) : NULL;
    return c;
}

/* Steps [begin, end) of the depth, for all rows of a: a piece of every tile at a time, so that the
 * lines of a are read once. */
static void pack_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
    const cut *c = ctx;
    const zs_gemm *g = &c->g;
    int64_t mr = zs_tile_get()->mr;
    (void)thread;
    for (int64_t i = 0; i < g->m; i += mr) {
        float *dst = c->rows + i * g->depth;
        for (int64_t k = begin; k < end; k++)
            copy(dst + k * mr, g->a + i + k * g->a_k, min64(mr, g->m - i));
    }
}

/* Rows [i0, i1) of one panel from a packed a; i0 is a multiple of mr. */
static void packed_panel(const cut *c, const float *packed, int64_t panel, int64_t i0, int64_t i1)
{
    int mr = zs_tile_get()->mr;
    zs_gemm g = c->g;
    g.a_row = 1;
    g.a_k = mr;
    for (int64_t i = i0; i < i1; i += mr) {
        g.a = c->rows + i * g.depth;
        g.y = c->g.y + i * g.ld;
        zs_gemm_panel(&g, packed, panel, 0, min64(mr, i1 - i));
    }
}

/* All rows, when they are one tile, straight from b: a piece of the panel that fits the L1 cache at
 * a time. The sum goes on from piece to piece. */
static void thin_panel(const zs_gemm *g, float *packed, int64_t panel)
{
    _Alignas(64) float tile[ZS_TILE_MR_MAX * ZS_TILE_NR_MAX];
    const zs_tile_fns *fn = zs_tile_get();
    int64_t j = panel * fn->nr;
    zs_tile_out out = {.y = g->y + j,
                       .bias = g->bias ? g->bias + j : NULL,
                       .ld = g->ld,
                       .cols = (int)min64(fn->nr, g->n - j)};
    for (int64_t k = 0; k < g->depth; k += PIECE) {
        zs_gemm part = *g;
        part.b += k * g->b_row;
        part.depth = min64(PIECE, g->depth - k);
        zs_gemm_pack(packed, &part, panel);
        zs_tile_in in = {.a = g->a + k * g->a_k,
                         .b = packed,
                         .a_row = g->a_row,
                         .a_k = g->a_k,
                         .len = part.depth,
                         .runs = 1,
                         .groups = 1,
                         .more = k > 0};
        fn->product(tile, &in, (int)g->m, out.cols);
    }
    if (g->add)
        fn->add(&out, tile, (int)g->m);
    else
        fn->store(&out, tile, (int)g->m);
}

/* Rows [i0, i1) and panels [p0, p1), whose packed form begins at `packed`. */
static void run_block(const cut *c, const float *packed, int64_t p0, int64_t p1, int64_t i0,
                      int64_t i1)
{
    for (int64_t p = p0; p < p1; p++, packed += c->panel_floats) {
        if (packs_a(&c->g))
            packed_panel(c, packed, p, i0, i1);
        else
            zs_gemm_panel(&c->g, packed, p, i0, i1);
    }
}

/* Units [begin, end) of groups x parts. A block of rows meets all panels of the group while it is
 * in the cache. */
static void run_units(void *ctx, int64_t begin, int64_t end, int thread)
{
    const cut *c = ctx;
    float *own = c->g.packed ? NULL : c->panel + thread * c->group * c->panel_floats;
    int64_t mr = zs_tile_get()->mr, tiles = div_up(c->g.m, mr);
    for (int64_t u = begin; u < end; u++) {
        int64_t p0 = u / c->parts * c->group, p1 = min64(p0 + c->group, c->panels);
        int64_t part = u % c->parts, i0 = part * tiles / c->parts * mr;
        int64_t i1 = min64((part + 1) * tiles / c->parts * mr, c->g.m);
        const float *packed = c->g.packed ? c->g.packed + p0 * c->panel_floats : own;
        bool thin = !c->g.packed && tiles == 1 && !packs_a(&c->g);
        for (int64_t p = p0; !c->g.packed && p < p1; p++) {
            if (thin)
                thin_panel(&c->g, own, p);
            else
                zs_gemm_pack(own + (p - p0) * c->panel_floats, &c->g, p);
        }
        for (int64_t i = i0; !thin && i < i1; i += BLOCK_TILES * mr)
            run_block(c, packed, p0, p1, i, min64(i + BLOCK_TILES * mr, i1));
    }
}

static void pack_panels(void *ctx, int64_t begin, int64_t end, int thread)
{
    const cut *c = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        zs_gemm_pack(c->panel + i * c->panel_floats, &c->g, i);
}

void zs_gemm_pack_all(float *dst, const zs_gemm *g)
{
    cut c = cut_of(g, 1, NULL);
    c.panel = dst;
    zs_parallel_for(c.panels, 1, pack_panels, &c);
}

size_t zs_gemm_ws(const zs_gemm *g, int threads)
{
    cut c = cut_of(g, threads, NULL);
    return (size_t)(rows_floats(g) + threads * c.group * c.panel_floats) * sizeof(float);
}

void zs_gemm_run(const zs_gemm *g, int threads, void *ws)
{
    cut c = cut_of(g, threads, ws);
    if (packs_a(g))
        zs_parallel_for(g->depth, PACK_STEPS, pack_rows, &c);
    zs_parallel_for(div_up(c.panels, c.group) * c.parts, 1, run_units, &c);
}
