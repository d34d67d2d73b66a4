/* SPDX-License-Identifier: MIT */
#include "backend/cpu/wino_conv.h"
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/tile.h"

#include <stdatomic.h>

enum {
    BLOCK_BYTES = 600 << 10,  /* of V, when each thread has its own: with a panel of U, of L2 */
    BLOCK_TILES = 24,         /* of such a block: more gain nothing */
    SHARED_TILES = 64,        /* up to which a block is shared, U being small */
    SHARED_BLOCK = 128,       /* tiles of such a block: their M stays in L2 */
    SHARED_WEIGHTS = 1 << 16, /* C*O from which U is too large to be read for each block */
    WEIGHTS_DEPTH = 64,       /* channels of U made at once: with their M they stay in L2 */
    DEEP_TILES = 32,          /* tiles of a shared block that pay for twice as many */
    F6_SIDE = 192,            /* sides of images and numbers of channels for F(6x6,3x3) */
    F6_CHANNELS = 64,
    F6_WEIGHTS = 1 << 14 /* C*O at most */
};

/* Everything here follows from the shapes, the instruction set and the number of threads that the
 * workspace is for. */
typedef struct plan {
    const zs_call *c;
    const zs_tile_fns *tile;
    zs_wino g;
    zs_wino_w w;
    zs_wino_out out; /* of output 0 */
    int64_t panels;  /* of nr outputs */
    int64_t block;   /* tiles that are handled together */
    bool shared;     /* the threads share a block and deal out its panels; else a block each */
    int64_t depth;   /* channels of U that are there at once; not shared: all */
    int64_t u_ks, v_ks, m_ks; /* floats from a point to the next */
} plan;

/* Tiles of a block that one thread handles: what its cache holds of V, whole steps of the inner
 * loop, and enough blocks for all threads. */
static int64_t own_block(const plan *p)
{
    int64_t mr = p->tile->mr, tile_bytes = p->g.points * p->g.ld * (int64_t)sizeof(float);
    int64_t most = zs_min64(BLOCK_BYTES / tile_bytes, BLOCK_TILES);
    most = zs_min64(most, zs_div_up(p->g.tiles, 4 * p->c->threads));
    return zs_max64(most / mr, 1) * mr;
}

/* How the work is cut, which is no part of the result: tiles are handled in any blocks to the same
 * bits. */
static void plan_cut(plan *p)
{
    const zs_wino *g = &p->g;
    p->tile = zs_tile_get();
    p->panels = zs_div_up(p->w.o, p->tile->nr);
    p->shared = p->panels >= p->c->threads &&
                (g->tiles <= SHARED_TILES || p->w.c * p->w.o >= SHARED_WEIGHTS);
    p->block = p->shared ? zs_div_up(g->tiles, zs_div_up(g->tiles, SHARED_BLOCK)) : own_block(p);
    p->block = zs_min64(p->block, g->tiles);
    p->depth = !p->shared               ? p->w.c
               : p->block >= DEEP_TILES ? zs_min64(2 * WEIGHTS_DEPTH, p->w.c)
                                        : zs_min64(WEIGHTS_DEPTH, p->w.c);
    p->u_ks = p->depth * p->tile->nr + 16;
    p->v_ks = zs_wino_ks(g, p->block);
    p->m_ks = p->block * p->tile->nr + 16;
}

static atomic_int forced = -1;

void zs_wino_kind_set(int kind)
{
    atomic_store(&forced, kind);
}

/* For images of oh x ow. The larger tiles pay where their borders are few and U stays in cache. */
static zs_wino_kind choose(int64_t oh, int64_t ow, int64_t c, int64_t o)
{
    int kind = atomic_load(&forced);
    if (kind >= 0)
        return (zs_wino_kind)kind;
    bool large = oh >= F6_SIDE && ow >= F6_SIDE && zs_min64(c, o) >= F6_CHANNELS;
    return large && c * o <= F6_WEIGHTS ? ZS_WINO_F6 : ZS_WINO_F4;
}

static plan plan_fwd(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    plan p = {.c = c,
              .g = zs_wino_of(choose(s.yh, s.yw, s.c, s.o), &c->in[0], s.yh, s.yw, s.pad),
              .w = {c->in[1].p, s.c, s.o, false},
              .out = {c->out[0].p, c->in[2].p, c->in[3].p, s.o, 0, 0}};
    plan_cut(&p);
    return p;
}

static plan plan_dx(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    plan p = {.c = c,
              .g = zs_wino_of(choose(s.h, s.w, s.c, s.o), &c->in[0], s.h, s.w, 2 - s.pad),
              .w = {c->in[1].p, s.o, s.c, true},
              .out = {c->out[0].p, NULL, NULL, s.c, 0, 0}};
    plan_cut(&p);
    return p;
}

static int64_t u_floats(const plan *p)
{
    return p->g.points * p->u_ks;
}

static int64_t v_floats(const plan *p)
{
    return p->g.points * p->v_ks;
}

static int64_t m_floats(const plan *p)
{
    return p->g.points * p->m_ks;
}

/* Workspace: V (one for all threads when shared), M of each thread, and U: all panels, or when
 * shared a scratch for each thread, which transforms the weights as it comes to them. */
static int64_t u_count(const plan *p)
{
    return p->shared ? p->c->threads : p->panels;
}

static size_t plan_ws(const plan *p)
{
    int64_t floats = u_count(p) * u_floats(p) + (p->shared ? 1 : p->c->threads) * v_floats(p) +
                     p->c->threads * m_floats(p);
    return (size_t)floats * sizeof(float);
}

static float *u_of(const plan *p, int64_t i)
{
    return (float *)p->c->ws + i * u_floats(p);
}

/* A panel of U for a thread that has a block to itself. */
static const float *panel_of(const plan *p, int64_t i)
{
    return p->c->packed ? (const float *)p->c->packed + i * u_floats(p) : u_of(p, i);
}

static float *v_of(const plan *p, int thread)
{
    return u_of(p, u_count(p)) + (p->shared ? 0 : thread) * v_floats(p);
}

static float *m_of(const plan *p, int thread)
{
    return v_of(p, p->c->threads) + (p->shared ? v_floats(p) : 0) + thread * m_floats(p);
}

static zs_wino_out panel_out(const plan *p, int64_t panel)
{
    zs_wino_out out = p->out;
    out.o = panel * p->tile->nr;
    out.cols = (int)zs_min64(p->tile->nr, p->w.o - out.o);
    return out;
}

/* A panel of outputs of tiles [first, first+count): M, then y. */
typedef struct piece {
    const plan *p;
    zs_wino_out out;
    int64_t first, count;
    const float *v;
    float *mm;
} piece;

/* Asks for `rows` rows of V that the next product reads: too short runs for the hardware to see. */
static void ahead(const float *v, int64_t ld, int64_t rows, int64_t len)
{
#ifdef __GNUC__
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < len; j += 16)
            __builtin_prefetch(v + i * ld + j);
#else
    (void)v, (void)ld, (void)rows, (void)len;
#endif
}

/* The weights that a thread comes to next, most likely: a part of them is asked for with each
 * point, since memory is idle while the products of a panel run. */
typedef struct coming {
    int64_t panel, c;
} coming;

static coming after(const plan *p, int64_t panel, int64_t c)
{
    return c + p->depth < p->w.c ? (coming){panel, c + p->depth}
                                 : (coming){panel + p->c->threads, 0};
}

static void ahead_weights(const plan *p, const coming *next, int64_t point)
{
    if (next->panel < p->panels)
        zs_wino_w_get()->ahead(&p->w, next->panel * p->tile->nr, next->c,
                               zs_min64(p->w.c, next->c + p->depth), point, p->g.points);
}

/* mm[k][tile][nr] = V[k] U[k] over channels [c, c+depth); c > 0: +=. The memory of y is asked for
 * during the last of these. */
static void products(const piece *t, const float *u, int64_t c, const coming *next)
{
    const plan *p = t->p;
    int64_t steps = zs_div_up(t->count, p->tile->mr), points = p->g.points;
    zs_tile_in in = {.a_row = p->g.ld,
                     .a_k = 1,
                     .len = zs_min64(p->depth, p->w.c - c),
                     .runs = 1,
                     .groups = 1,
                     .more = c > 0};
    for (int64_t k = 0; k < points; k++) {
        in.b = u + k * p->u_ks;
        if (next)
            ahead_weights(p, next, k);
        for (int64_t s = 0; s < steps; s++) {
            int64_t i0 = s * t->count / steps, i1 = (s + 1) * t->count / steps;
            in.a = t->v + k * p->v_ks + i0 * p->g.ld + c;
            if (p->shared && s + 1 < steps)
                ahead(in.a + (i1 - i0) * p->g.ld, p->g.ld, p->tile->mr, in.len);
            else if (p->shared && k + 1 < points)
                ahead(t->v + (k + 1) * p->v_ks + c, p->g.ld, i1 - i0, in.len);
            p->tile->product(t->mm + k * p->m_ks + i0 * p->tile->nr, &in, (int)(i1 - i0),
                             t->out.cols);
        }
        for (int64_t i = k * t->count / points;
             c + p->depth >= p->w.c && i < (k + 1) * t->count / points; i++)
            zs_wino_out_get()->ahead(&t->out, &p->g, t->first + i);
    }
}

/* Up to `depth` channels of a panel of U, from c on. */
static void weights(const plan *p, float *u, int64_t panel, int64_t c, int64_t depth)
{
    zs_wino_w_get()->panel[p->g.kind](u, p->u_ks, &p->w, panel * p->tile->nr, c,
                                      zs_min64(p->w.c, c + depth));
}

static void finish(const piece *t)
{
    const plan *p = t->p;
    zs_wino_out_get()->tiles[p->g.kind](&t->out, t->mm, p->m_ks, &p->g, t->first, t->count);
}

/* All panels of U, one after the other; units of WEIGHTS_DEPTH channels of a panel. */
typedef struct all_weights {
    const plan *p;
    float *u;
    int64_t parts; /* of a panel */
} all_weights;

static void run_weights(void *ctx, int64_t begin, int64_t end, int thread)
{
    const all_weights *a = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t panel = i / a->parts, c = i % a->parts * WEIGHTS_DEPTH;
        weights(a->p, a->u + panel * u_floats(a->p) + c * a->p->tile->nr, panel, c, WEIGHTS_DEPTH);
    }
}

static void make_weights(const plan *p, float *u)
{
    all_weights a = {p, u, zs_div_up(p->w.c, WEIGHTS_DEPTH)};
    zs_parallel_for(p->panels * a.parts, 1, run_weights, &a);
}

/* Blocks [begin, end), each handled by one thread from input to output. */
static void run_blocks(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    float *v = v_of(p, thread), *mm = m_of(p, thread);
    for (int64_t b = begin; b < end; b++) {
        int64_t first = b * p->block, count = zs_min64(p->block, p->g.tiles - first);
        zs_wino_in_get()->tiles[p->g.kind](v, p->v_ks, &p->g, p->c->in[0].p, first, count);
        for (int64_t i = 0; i < p->panels; i++) {
            piece t = {p, panel_out(p, i), first, count, v, mm};
            products(&t, panel_of(p, i), 0, NULL);
            finish(&t);
        }
    }
}

/* A block that the threads share. */
typedef struct share {
    const plan *p;
    int64_t first, count;
} share;

static void share_input(void *ctx, int64_t begin, int64_t end, int thread)
{
    const share *s = ctx;
    const plan *p = s->p;
    zs_wino_in_get()->tiles[p->g.kind](v_of(p, 0) + begin * p->g.ld, p->v_ks, &p->g, p->c->in[0].p,
                                       s->first + begin, end - begin);
    (void)thread;
}

static void share_panels(void *ctx, int64_t begin, int64_t end, int thread)
{
    const share *s = ctx;
    const plan *p = s->p;
    float *u = u_of(p, thread), *mm = m_of(p, thread);
    for (int64_t i = begin; i < end; i++) {
        piece t = {p, panel_out(p, i), s->first, s->count, v_of(p, 0), mm};
        for (int64_t c = 0; c < p->w.c; c += p->depth) {
            coming next = after(p, i, c);
            weights(p, u, i, c, p->depth);
            products(&t, u, c, &next);
        }
        finish(&t);
    }
}

static void run_shared(const plan *p)
{
    for (int64_t first = 0; first < p->g.tiles; first += p->block) {
        share s = {p, first, zs_min64(p->block, p->g.tiles - first)};
        zs_parallel_for(s.count, 4, share_input, &s);
        zs_parallel_for(p->panels, 1, share_panels, &s);
    }
}

static void run(plan *p)
{
    if (p->shared) {
        run_shared(p);
        return;
    }
    if (!p->c->packed)
        make_weights(p, u_of(p, 0));
    zs_parallel_for(zs_div_up(p->g.tiles, p->block), 1, run_blocks, p);
}

/* To images of oh x ow. Few channels leave the transforms without products to pay for them, and
 * tiles that are mostly outside of the image need as many products as direct sums. */
static bool can(const zs_conv *s, int64_t oh, int64_t ow)
{
    return s->k == 3 && s->stride == 1 && s->pad <= 2 && s->c >= 8 && s->o >= 8 &&
           oh * ow >= 6 * zs_div_up(oh, 4) * zs_div_up(ow, 4);
}

bool zs_conv_wino_can(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    return can(&s, s.yh, s.yw);
}

size_t zs_conv_wino_ws(const zs_call *c)
{
    plan p = plan_fwd(c);
    return plan_ws(&p);
}

void zs_conv_wino(const zs_call *c)
{
    plan p = plan_fwd(c);
    run(&p);
}

/* Where the threads share a block, making U anew takes less time than reading it from memory: it
 * is four times as large as the weights, or more. */
static zs_packing packing(const zs_call *c)
{
    plan p = plan_fwd(c);
    if (p.shared)
        return (zs_packing){0};
    size_t bytes = (size_t)(p.panels * u_floats(&p)) * sizeof(float);
    return (zs_packing){bytes, (uint64_t)(ZS_CONV_WINOGRAD * 1000 + p.g.points)};
}

static void pack(const zs_call *c, void *dst)
{
    plan p = plan_fwd(c);
    make_weights(&p, dst);
}

const zs_packer zs_conv_wino_packer = {packing, pack};

bool zs_conv_wino_dx_can(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    return can(&s, s.h, s.w);
}

size_t zs_conv_wino_dx_ws(const zs_call *c)
{
    plan p = plan_dx(c);
    return plan_ws(&p);
}

void zs_conv_wino_dx(const zs_call *c)
{
    plan p = plan_dx(c);
    run(&p);
}
