/* SPDX-License-Identifier: MIT */
/* The tiles are cut into parts, the points into sets of rows; a unit of work is the product of one
 * set over one part, block by block of as many tiles as a core's cache holds V and D of. With
 * more threads than that gives work to, units are cut by panels of outputs, too. A unit owns its
 * T, and the parts are added in order, so no sum depends on the threads. Where T of all outputs is
 * large it is made and used up in rounds of some panels each.
 *
 * With few tiles and many channels T would be most of the traffic. There a unit takes all tiles
 * and all rows of some channels and outputs, and adds its T to dw panel by panel; that V and D are
 * made several times costs less. */
#include "backend/cpu/wino_dw.h"
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/tile.h"

#include <string.h>

enum {
    BLOCK_BYTES = 768 << 10, /* of V and D of a block */
    BLOCK_TILES = 56,        /* fewer only if one row of points has no room for them ... */
    BLOCK_TILES_MIN = 32,    /* ... but never less */
    BLOCK_TILES_MAX = 192,   /* of one float sum */
    PART_TILES = 192,        /* at least */
    UNITS = 12,              /* that parts are made for */
    T_BYTES = 6 << 20,       /* of a round, unless it is a single panel */
    SLICE = 64,              /* channels whose dU is in the cache before it is folded into T */
    UNPACK_ROWS = 16,
    FEW_TILES = 128,
    FEW_T = 64 * 128,  /* channels times outputs from which T is large for few tiles */
    FEW_CHANNELS = 64, /* of a unit */
    FEW_OUTPUTS = 128,
    /* Below these the direct product is faster. */
    CHANNELS_MIN = 4,
    TILES_MIN = 8,
    TILE_PIXELS_MIN = 6 /* of the tile's 16, on average */
};

typedef struct plan {
    const zs_call *c;
    const zs_tile_fns *tile;
    const zs_wino_dw_fns *fns;
    zs_wino g;
    zs_wino_dy dy;
    zs_wino_cut cut;
    int rows; /* of points in a set */
    int64_t sets, parts, groups;
    int64_t panels, round;     /* of nr outputs: all of them, and of a round at most */
    int64_t begin, end;        /* panels of this round */
    bool few;                  /* tiles: T is of one panel and some channels, and in the scratch */
    int64_t slices;            /* of the channels, when few */
    int64_t block;             /* tiles, at most */
    int64_t vks, us, ts, part; /* floats from a point to the next in V, dU; see zs_wino_unpack */
    int64_t shared;            /* floats of db and t */
    double *db;                /* [parts][round][nr] */
    float *t;
    float *scratch;            /* of thread 0; the next is `per_thread` floats on */
    int64_t per_thread, few_t; /* floats to T in it */
} plan;

/* Tiles of which V and D of `rows` rows of points fill the cache. */
static int64_t fitting(const plan *p, int rows)
{
    int64_t width = p->g.ld + p->round * p->tile->nr;
    return BLOCK_BYTES / (int64_t)sizeof(float) / (rows * p->g.p * width);
}

/* As many rows at once as there is room for with blocks of a fair size. */
static void choose_cut(plan *p)
{
    int64_t enough = zs_min64(BLOCK_TILES, p->g.tiles);
    p->cut = ZS_WINO_ALL;
    while (p->cut > ZS_WINO_ROW && fitting(p, zs_wino_cut_rows(p->cut)) < enough)
        p->cut--;
    p->rows = zs_wino_cut_rows(p->cut);
    p->sets = p->g.p / p->rows;
}

/* Floats of T for that many panels. */
static int64_t t_floats(const plan *p, int64_t panels)
{
    return zs_align16(p->g.p * 3 * (panels * p->g.c * p->tile->nr + 16));
}

static void choose_round(plan *p)
{
    int64_t fit = zs_max64(1, T_BYTES / (int64_t)sizeof(float) / t_floats(p, 1));
    p->round = zs_div_up(p->panels, zs_div_up(p->panels, fit));
    p->ts = p->round * p->g.c * p->tile->nr + 16;
    p->part = t_floats(p, p->round);
}

static void choose_parts(plan *p)
{
    int64_t fit = T_BYTES / (int64_t)sizeof(float) / p->part;
    p->parts = zs_min64(zs_div_up(UNITS, p->sets), zs_min64(p->g.tiles / PART_TILES, fit));
    p->parts = zs_max64(p->parts, 1);
    int64_t most = zs_div_up(p->g.tiles, p->parts);
    int64_t block = zs_max64(zs_min64(fitting(p, p->rows), BLOCK_TILES_MAX), BLOCK_TILES_MIN);
    p->block = zs_div_up(most, zs_div_up(most, block));
}

/* Units of all tiles and rows. */
static void choose_few(plan *p)
{
    int nr = p->tile->nr;
    p->few = true;
    p->cut = ZS_WINO_ALL;
    p->rows = p->g.p;
    p->sets = p->parts = 1;
    p->block = p->g.tiles;
    p->round = p->panels;
    p->groups = zs_div_up(p->panels, FEW_OUTPUTS / nr);
    p->slices = zs_div_up(p->g.c, FEW_CHANNELS);
    while (p->slices * p->groups < p->c->threads && p->groups < p->panels)
        p->groups++;
    p->g.ld = FEW_CHANNELS + 16;
    p->ts = FEW_CHANNELS * nr + 16;
    p->part = 0;
}

static void choose_many(plan *p)
{
    choose_round(p);
    choose_cut(p);
    choose_parts(p);
    while (p->sets * p->parts * p->groups < p->c->threads && p->groups < p->round)
        p->groups++;
}

static plan plan_of(const zs_call *c)
{
    zs_conv s = zs_conv_dw(c);
    plan p = {.c = c, .tile = zs_tile_get(), .fns = zs_wino_dw_get(), .groups = 1, .slices = 1};
    int nr = p.tile->nr;
    p.g = zs_wino_of(ZS_WINO_F4, &c->in[0], s.yh, s.yw, s.pad);
    p.g.ld = zs_align16(s.c);
    if (p.g.ld % 32 == 0) /* an odd number of lines uses all sets of the cache */
        p.g.ld += 16;
    p.panels = zs_div_up(s.o, nr);
    if (p.g.tiles <= FEW_TILES && s.c * s.o >= FEW_T)
        choose_few(&p);
    else
        choose_many(&p);
    p.vks = p.block * p.g.ld + 16;
    p.us = zs_align16(zs_min64(s.c, SLICE) * nr) + 16;
    p.dy =
        (zs_wino_dy){.dy = c->in[1].p, .o = s.o, .nr = nr, .step = zs_align16(p.block * nr) + 16};
    p.dy.ks = zs_div_up(p.round, p.groups) * p.dy.step + 16;
    p.per_thread = zs_align16(p.rows * p.g.p * (p.vks + p.dy.ks) + p.g.p * p.us);
    p.few_t = p.per_thread;
    p.per_thread += p.few ? zs_align16(p.g.p * 3 * p.ts) : 0;
    int64_t db = zs_align16(2 * p.parts * p.round * nr);
    p.shared = db + p.parts * p.part;
    if (c->ws) { /* else it is the size of it that is asked for */
        p.db = c->ws;
        p.t = (float *)c->ws + db;
        p.scratch = (float *)c->ws + p.shared;
    }
    return p;
}

/* dU of one point for channels [c0, c1) and one panel. */
static void product(float *u, const plan *p, const float *v, const float *d, int64_t tiles,
                    int64_t c0, int64_t c1, int cols)
{
    zs_tile_in in = {.b = d, .a_row = 1, .a_k = p->g.ld, .len = tiles, .runs = 1, .groups = 1};
    int64_t n = zs_div_up(c1 - c0, p->tile->mr);
    for (int64_t i = 0; i < n; i++) {
        int64_t from = c0 + i * (c1 - c0) / n, to = c0 + (i + 1) * (c1 - c0) / n;
        in.a = v + from;
        p->tile->product(u + (from - c0) * p->tile->nr, &in, (int)(to - from), cols);
    }
}

/* A block of tiles of a unit, transformed. */
typedef struct block {
    const plan *p;
    float *v, *d, *u, *t; /* scratch, and T of the unit's first row, panel and channel */
    int64_t tiles;
    int64_t part, set, panel0, panel1, c0, c1;
    bool fresh; /* the first of its part */
} block;

/* T += what a row of points contributes to one panel; d is that row's D of the panel. */
static void add_row(const block *b, const float *v, const float *d, float *t, int cols)
{
    const plan *p = b->p;
    int64_t n = b->c1 - b->c0, slices = zs_div_up(n, SLICE);
    for (int64_t i = 0; i < slices; i++) {
        int64_t c0 = i * n / slices, c1 = (i + 1) * n / slices;
        for (int64_t j = 0; j < p->g.p; j++)
            product(b->u + j * p->us, p, v + j * p->vks, d + j * p->dy.ks, b->tiles, c0, c1, cols);
        p->fns->fold(t + c0 * p->tile->nr, p->ts, b->u, p->us, (c1 - c0) * p->tile->nr, b->fresh);
    }
}

/* dw += T of channels [c0, c1) and a panel. */
static void unpack(const plan *p, const float *t, int64_t panel, int64_t c0, int64_t c1)
{
    const int nr = p->tile->nr;
    zs_wino_unpack u = {.dw = p->c->out[0].p + c0 * p->dy.o + panel * nr,
                        .t = t,
                        .part = p->part,
                        .parts = p->parts,
                        .ts = p->ts,
                        .ld = p->dy.o,
                        .plane = p->g.c * p->dy.o,
                        .rows = (int)(c1 - c0),
                        .cols = (int)zs_min64(nr, p->dy.o - panel * nr),
                        .nr = nr};
    p->fns->unpack(&u);
}

/* Bias gradient of a panel; d is its D at the point (1,1). */
static void sum_bias(const block *b, const float *d, int64_t panel)
{
    const plan *p = b->p;
    const int nr = p->tile->nr;
    double *db = p->db + (b->part * p->round + panel - p->begin) * nr;
    if (b->fresh)
        memset(db, 0, (size_t)nr * sizeof *db);
    p->fns->sum(db, d, b->tiles, nr);
}

/* Panel by panel, so that one point's D of it stays in the first-level cache. */
static void add_block(const block *b)
{
    const plan *p = b->p;
    const int nr = p->tile->nr, side = p->g.p;
    for (int64_t panel = b->panel0; panel < b->panel1; panel++) {
        float *t = b->t + (p->few ? 0 : (panel - b->panel0) * p->g.c * nr);
        const float *d = b->d + (panel - b->panel0) * p->dy.step;
        for (int i = 0; i < p->rows; i++, d += side * p->dy.ks) {
            int row = zs_wino_cut_row(p->cut, (int)b->set, i);
            if (row == 1 && b->c0 == 0)
                sum_bias(b, d + p->dy.ks, panel);
            add_row(b, b->v + i * side * p->vks, d, t + row * 3 * p->ts,
                    (int)zs_min64(nr, p->dy.o - panel * nr));
        }
        if (p->few)
            unpack(p, t, panel, b->c0, b->c1);
    }
}

/* The blocks of a unit. */
static void run_unit(block *b, const zs_wino_dy *dy)
{
    const plan *p = b->p;
    zs_wino_x x = {p->c->in[0].p, b->c0, b->c1};
    int64_t first = b->part * p->g.tiles / p->parts, last = (b->part + 1) * p->g.tiles / p->parts;
    for (int64_t at = first; at < last; at += b->tiles) {
        b->tiles = zs_min64(p->block, last - at);
        b->fresh = at == first;
        p->fns->rows[p->cut][b->set](b->v, p->vks, &p->g, &x, at, b->tiles);
        p->fns->dy[p->cut][b->set](b->d, dy, at, b->tiles, b->panel0, b->panel1);
        add_block(b);
    }
}

/* Units [begin, end) of parts x sets x groups x slices. */
static void run_units(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    zs_wino_dy dy = p->dy;
    dy.g = &p->g;
    block b = {.p = p, .v = p->scratch + thread * p->per_thread};
    b.d = b.v + p->rows * p->g.p * p->vks;
    b.u = b.d + p->rows * p->g.p * dy.ks;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t slice = unit % p->slices, group = unit / p->slices % p->groups;
        int64_t rest = unit / p->slices / p->groups, panels = p->end - p->begin;
        b.set = rest % p->sets;
        b.part = rest / p->sets;
        b.panel0 = p->begin + group * panels / p->groups;
        b.panel1 = p->begin + (group + 1) * panels / p->groups;
        b.c0 = p->few ? slice * FEW_CHANNELS : 0;
        b.c1 = p->few ? zs_min64(b.c0 + FEW_CHANNELS, p->g.c) : p->g.c;
        b.t = p->few ? b.v + p->few_t
                     : p->t + b.part * p->part + (b.panel0 - p->begin) * p->g.c * p->tile->nr;
        run_unit(&b, &dy);
    }
}

/* A panel and some channels at a time. */
static void unpack_units(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    int64_t slices = zs_div_up(p->g.c, UNPACK_ROWS);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t panel = i / slices, c = i % slices * UNPACK_ROWS;
        unpack(p, p->t + (panel * p->g.c + c) * p->tile->nr, p->begin + panel, c,
               zs_min64(c + UNPACK_ROWS, p->g.c));
    }
}

static void add_bias(const plan *p)
{
    const int nr = p->tile->nr;
    int64_t first = p->begin * nr, n = zs_min64(p->dy.o, p->end * nr) - first;
    for (int64_t o = 0; o < n; o++) {
        double sum = 0;
        for (int64_t i = 0; i < p->parts; i++)
            sum += p->db[i * p->round * nr + o];
        p->c->out[1].p[first + o] += (float)sum;
    }
}

bool zs_conv_wino_dw_can(const zs_call *c)
{
    zs_conv s = zs_conv_dw(c);
    int64_t pixels = s.yh * s.yw, tiles = zs_div_up(s.yh, 4) * zs_div_up(s.yw, 4);
    return s.k == 3 && s.stride == 1 && s.pad <= 2 && s.c >= CHANNELS_MIN &&
           s.n * tiles >= TILES_MIN && pixels >= TILE_PIXELS_MIN * tiles;
}

size_t zs_conv_wino_dw_ws(const zs_call *c)
{
    plan p = plan_of(c);
    return (size_t)(p.shared + c->threads * p.per_thread) * sizeof(float);
}

void zs_conv_wino_dw(const zs_call *c)
{
    plan p = plan_of(c);
    for (p.begin = 0; p.begin < p.panels; p.begin = p.end) {
        p.end = zs_min64(p.begin + p.round, p.panels);
        zs_parallel_for(p.parts * p.sets * p.groups * p.slices, 1, run_units, &p);
        if (!p.few)
            zs_parallel_for((p.end - p.begin) * zs_div_up(p.g.c, UNPACK_ROWS), 1, unpack_units, &p);
        if (c->out[1].p)
            add_bias(&p);
    }
}
