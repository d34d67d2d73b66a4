/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/tile.h"

enum {
    BAND_PIXELS = 256,     /* output pixels of a band, at most (one row at least) */
    BAND_BYTES = 96 << 10, /* of its input: stays in L2 beside a panel */
    UNITS = 64             /* pieces of work wanted, where the limits above leave a choice */
};

/* Everything here follows from the shapes (and the instruction set) alone. */
typedef struct plan {
    const zs_call *c;
    const zs_tile_fns *tile;
    zs_band_src src;
    int64_t n, oh, ow, oc; /* images that are written: y[n,oh,ow,oc] */
    int64_t k, stride;
    int64_t depth;         /* k*k*src.c: rows of a panel */
    int64_t panels, rows;  /* panels of nr outputs; output rows of a band */
    int64_t bands, groups; /* bands of an image; parts that the panels are dealt out in */
    int64_t width;         /* pixels of a padded input row */
    bool copy;             /* false: bands are read where they lie */
    const float *packed;   /* the panels: in the workspace, or of an earlier call */
} plan;

static int64_t band_floats(const plan *p, int64_t rows)
{
    return ((rows - 1) * p->stride + p->k) * p->width * p->src.c;
}

static int64_t panel_floats(const plan *p)
{
    return zs_align16(p->depth * p->tile->nr);
}

/* Fills in what follows from src, y's sizes, k and stride. */
static void plan_cut(plan *p)
{
    p->tile = zs_tile_get();
    p->packed = p->c->packed ? p->c->packed : p->c->ws;
    p->depth = p->k * p->k * p->src.c;
    p->width = (p->ow - 1) * p->stride + p->k;
    p->panels = zs_div_up(p->oc, p->tile->nr);
    p->copy = p->k != 1 || p->stride != 1 || p->src.dilate != 1 || p->src.pad != 0;
    int64_t most = zs_min64(p->oh, zs_div_up(p->n * p->oh, UNITS));
    p->rows = 1;
    while (p->rows < most && (p->rows + 1) * p->ow <= BAND_PIXELS &&
           band_floats(p, p->rows + 1) <= BAND_BYTES / 4)
        p->rows++;
    p->bands = zs_div_up(p->oh, p->rows);
    p->groups = zs_min64(p->panels, zs_div_up(UNITS, p->n * p->bands));
}

static plan plan_fwd(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    plan p = {.c = c,
              .src = {c->in[0].p, s.h, s.w, s.c, 1, s.pad},
              .n = s.n,
              .oh = s.yh,
              .ow = s.yw,
              .oc = s.o,
              .k = s.k,
              .stride = s.stride};
    plan_cut(&p);
    return p;
}

static plan plan_dx(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    plan p = {.c = c,
              .src = {c->in[0].p, s.yh, s.yw, s.o, s.stride, s.k - 1 - s.pad},
              .n = s.n,
              .oh = s.h,
              .ow = s.w,
              .oc = s.c,
              .k = s.k,
              .stride = 1};
    plan_cut(&p);
    return p;
}

/* Workspace: the panels, then one band per thread. */
static size_t plan_ws(const plan *p)
{
    int64_t floats = p->panels * panel_floats(p);
    if (p->copy)
        floats += p->c->threads * zs_align16(band_floats(p, p->rows));
    return (size_t)floats * sizeof(float);
}

/* Packs w[k,k,C,O] -> panel[k*k*C][nr] for outputs [o, o+nr), zeros beyond O. */
static void pack_panel(float *panel, const plan *p, int64_t o)
{
    const float *w = p->c->in[1].p + o;
    int nr = p->tile->nr;
    int64_t cols = zs_min64(nr, p->oc - o);
    for (int64_t i = 0; i < p->depth; i++)
        for (int64_t j = 0; j < nr; j++)
            panel[i * nr + j] = j < cols ? w[i * p->oc + j] : 0.0f;
}

/* Packs the weights of dx: panel[(ky,kx,o)][j] = w[k-1-ky, k-1-kx, c+j, o]. */
static void pack_panel_flipped(float *panel, const plan *p, int64_t c)
{
    int nr = p->tile->nr;
    int64_t taps = p->k * p->k, depth = p->src.c;
    for (int64_t t = 0; t < taps; t++) {
        const float *w = p->c->in[1].p + ((taps - 1 - t) * p->oc + c) * depth;
        float *dst = panel + t * depth * nr;
        for (int64_t o = 0; o < depth; o += 16)
            for (int64_t j = 0; j < nr; j++)
                for (int64_t i = o; i < zs_min64(o + 16, depth); i++)
                    dst[i * nr + j] = c + j < p->oc ? w[j * depth + i] : 0.0f;
    }
}

/* The panels of a plan, one after the other. */
typedef struct packing_job {
    const plan *p;
    float *panels;
} packing_job;

static void pack_fwd(void *ctx, int64_t begin, int64_t end, int thread)
{
    const packing_job *j = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        pack_panel(j->panels + i * panel_floats(j->p), j->p, i * j->p->tile->nr);
}

static void pack_dx(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        pack_panel_flipped((float *)p->c->ws + i * panel_floats(p), p, i * p->tile->nr);
}

/* Output row y of image n against one panel; `band` starts at the row's first input row. */
static void row_panel(const plan *p, const float *band, int64_t n, int64_t y, int64_t panel)
{
    _Alignas(64) float tile[ZS_TILE_MR_MAX * ZS_TILE_NR_MAX];
    const zs_call *c = p->c;
    int64_t o = panel * p->tile->nr, tiles = zs_div_up(p->ow, p->tile->mr);
    zs_tile_in in = {.b = p->packed + panel * panel_floats(p),
                     .a_row = p->stride * p->src.c,
                     .a_k = 1,
                     .a_run = p->width * p->src.c,
                     .len = p->k * p->src.c,
                     .runs = p->k,
                     .groups = 1};
    zs_tile_out out = {.bias = c->in[2].p ? c->in[2].p + o : NULL,
                       .ld = p->oc,
                       .cols = (int)zs_min64(p->tile->nr, p->oc - o)};
    for (int64_t t = 0; t < tiles; t++) {
        int64_t x0 = t * p->ow / tiles, x1 = (t + 1) * p->ow / tiles;
        int64_t at = ((n * p->oh + y) * p->ow + x0) * p->oc + o;
        in.a = band + x0 * in.a_row;
        out.y = c->out[0].p + at;
        out.residual = c->in[3].p ? c->in[3].p + at : NULL;
        p->tile->product(tile, &in, (int)(x1 - x0), out.cols);
        p->tile->store(&out, tile, (int)(x1 - x0));
    }
}

/* Units [begin, end) of n x bands x groups. */
static void run_units(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    float *buf = (float *)p->c->ws + p->panels * panel_floats(p) +
                 (p->copy ? thread * zs_align16(band_floats(p, p->rows)) : 0);
    for (int64_t u = begin; u < end; u++) {
        int64_t g = u % p->groups, n = u / p->groups / p->bands;
        int64_t y0 = u / p->groups % p->bands * p->rows, y1 = zs_min64(p->oh, y0 + p->rows);
        const float *band = p->src.p + (n * p->src.h + y0) * p->src.w * p->src.c;
        if (p->copy) {
            zs_band_fill(buf, &p->src, n, y0 * p->stride, (y1 - y0 - 1) * p->stride + p->k,
                         p->width);
            band = buf;
        }
        for (int64_t i = g * p->panels / p->groups; i < (g + 1) * p->panels / p->groups; i++)
            for (int64_t y = y0; y < y1; y++)
                row_panel(p, band + (y - y0) * p->stride * p->width * p->src.c, n, y, i);
    }
}

bool zs_conv_direct_can(const zs_call *c)
{
    (void)c;
    return true;
}

size_t zs_conv_direct_ws(const zs_call *c)
{
    plan p = plan_fwd(c);
    return plan_ws(&p);
}

void zs_conv_direct(const zs_call *c)
{
    plan p = plan_fwd(c);
    packing_job j = {&p, c->ws};
    if (!c->packed)
        zs_parallel_for(p.panels, 1, pack_fwd, &j);
    zs_parallel_for(p.n * p.bands * p.groups, 1, run_units, &p);
}

static zs_packing packing(const zs_call *c)
{
    plan p = plan_fwd(c);
    return (zs_packing){(size_t)(p.panels * panel_floats(&p)) * sizeof(float), ZS_CONV_DIRECT};
}

static void pack(const zs_call *c, void *dst)
{
    plan p = plan_fwd(c);
    packing_job j = {&p, dst};
    zs_parallel_for(p.panels, 1, pack_fwd, &j);
}

const zs_packer zs_conv_direct_packer = {packing, pack};

bool zs_conv_direct_dx_can(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    return s.pad < s.k;
}

size_t zs_conv_direct_dx_ws(const zs_call *c)
{
    plan p = plan_dx(c);
    return plan_ws(&p);
}

void zs_conv_direct_dx(const zs_call *c)
{
    plan p = plan_dx(c);
    zs_parallel_for(p.panels, 1, pack_dx, &p);
    zs_parallel_for(p.n * p.bands * p.groups, 1, run_units, &p);
}
