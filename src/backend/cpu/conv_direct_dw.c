/* SPDX-License-Identifier: MIT */
/* The gradient of the weights. The pixels are cut into parts, a part into chunks of a few output
 * rows or of whole small images; each (part, panel of nr outputs) sums its chunks into a block of
 * its own, and the blocks are added to dw in the order of the parts. */
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/tile.h"

#include <string.h>

enum {
    CHUNK_PIXELS = 256, /* at most; one row at least */
    CHUNK_BYTES = 192 << 10,
    PART_PIXELS = 1024, /* at least */
    PARTS_MAX = 16
};

/* Upper limit on the memory of all parts (one part is always allowed). */
static const int64_t parts_bytes = 64 << 20;

typedef struct plan {
    const zs_call *c;
    const zs_tile_fns *tile;
    zs_conv s;
    zs_band_src src;
    int64_t depth;        /* k*k*c: rows of a block */
    int64_t panels;       /* of nr outputs */
    int64_t rows, images; /* of a chunk: images > 1 only when rows is a whole image */
    int64_t bands;        /* chunks of an image (images == 1) */
    int64_t chunks, parts;
    int64_t width; /* pixels of a padded input row */
    bool copy;     /* false: x is read where it lies */
} plan;

static int64_t image_floats(const plan *p)
{
    return ((p->rows - 1) * p->s.stride + p->s.k) * p->width * p->s.c;
}

static int64_t block_floats(const plan *p)
{
    return zs_align16(p->depth * p->tile->nr);
}

static plan plan_of(const zs_call *c)
{
    plan p = {.c = c, .tile = zs_tile_get(), .s = zs_conv_dw(c), .rows = 1, .images = 1};
    const zs_conv *s = &p.s;
    p.src = (zs_band_src){c->in[0].p, s->h, s->w, s->c, 1, s->pad};
    p.depth = s->k * s->k * s->c;
    p.panels = zs_div_up(s->o, p.tile->nr);
    p.width = (s->yw - 1) * s->stride + s->k;
    p.copy = s->k != 1 || s->stride != 1 || s->pad != 0;
    while (p.rows < s->yh && (p.rows + 1) * s->yw <= CHUNK_PIXELS &&
           image_floats(&p) + s->stride * p.width * s->c <= CHUNK_BYTES / 4)
        p.rows++;
    while (p.rows == s->yh && p.images < s->n && (p.images + 1) * p.rows * s->yw <= CHUNK_PIXELS &&
           (p.images + 1) * image_floats(&p) <= CHUNK_BYTES / 4)
        p.images++;
    p.bands = zs_div_up(s->yh, p.rows);
    p.chunks = p.images > 1 ? zs_div_up(s->n, p.images) : s->n * p.bands;
    p.parts =
        zs_min64(zs_min64(p.chunks, PARTS_MAX), zs_max64(1, s->n * s->yh * s->yw / PART_PIXELS));
    int64_t fit = parts_bytes / 4 / (p.panels * block_floats(&p));
    p.parts = zs_max64(1, zs_min64(p.parts, fit));
    return p;
}

/* Floats of a thread's scratch: the chunk's x, then its dy of one panel. */
static int64_t chunk_x_floats(const plan *p)
{
    return p->copy ? zs_align16(p->images * image_floats(p)) : 0;
}

static int64_t chunk_floats(const plan *p)
{
    return chunk_x_floats(p) + zs_align16(p->images * p->rows * p->s.yw * p->tile->nr);
}

/* Workspace: db parts (double[parts][panels][nr]), blocks [parts][panels], scratch [threads]. */
static int64_t db_floats(const plan *p)
{
    return zs_align16(2 * p->parts * p->panels * p->tile->nr);
}

size_t zs_conv_direct_dw_ws(const zs_call *c)
{
    plan p = plan_of(c);
    return (size_t)(db_floats(&p) + p.parts * p.panels * block_floats(&p) +
                    c->threads * chunk_floats(&p)) *
           sizeof(float);
}

/* A chunk: output rows [y0, y0+rows) of images [n, n+images). */
typedef struct chunk {
    int64_t n, images, y0, rows;
} chunk;

static chunk chunk_of(const plan *p, int64_t i)
{
    if (p->images > 1) {
        int64_t n = i * p->images;
        return (chunk){n, zs_min64(p->images, p->s.n - n), 0, p->rows};
    }
    int64_t y0 = i % p->bands * p->rows;
    return (chunk){i / p->bands, 1, y0, zs_min64(p->rows, p->s.yh - y0)};
}

/* dy[..,o..o+nr) of the chunk -> packed[pixels][nr], zeros beyond O; sums into db[nr]. */
static void pack_dy(float *packed, double *db, const plan *p, const chunk *k, int64_t o)
{
    int nr = p->tile->nr;
    int64_t cols = zs_min64(nr, p->s.o - o), pixels = k->images * k->rows * p->s.yw;
    const float *dy = p->c->in[1].p + ((k->n * p->s.yh + k->y0) * p->s.yw) * p->s.o + o;
    float sum[ZS_TILE_NR_MAX] = {0};
    for (int64_t i = 0; i < pixels; i++) {
        for (int64_t j = 0; j < cols; j++) {
            packed[i * nr + j] = dy[i * p->s.o + j];
            sum[j] += dy[i * p->s.o + j];
        }
        for (int64_t j = cols; j < nr; j++)
            packed[i * nr + j] = 0.0f;
    }
    for (int64_t j = 0; j < cols; j++)
        db[j] += (double)sum[j];
}

/* block[k*k*C][nr] += what the chunk contributes; x is its band. */
static void add_chunk(float *block, const plan *p, const chunk *k, const float *x,
                      const float *packed, int cols)
{
    _Alignas(64) float tile[ZS_TILE_MR_MAX * ZS_TILE_NR_MAX];
    const zs_conv *s = &p->s;
    int64_t line = s->k * s->c, tiles = zs_div_up(line, p->tile->mr);
    zs_tile_in in = {.b = packed,
                     .a_row = 1,
                     .a_k = s->stride * s->c,
                     .a_run = s->stride * p->width * s->c,
                     .a_group = p->copy ? ((k->rows - 1) * s->stride + s->k) * p->width * s->c
                                        : s->h * s->w * s->c,
                     .len = s->yw,
                     .runs = k->rows,
                     .groups = k->images};
    zs_tile_out out = {.ld = p->tile->nr, .cols = cols};
    for (int64_t ky = 0; ky < s->k; ky++) {
        for (int64_t t = 0; t < tiles; t++) {
            int64_t i0 = t * line / tiles, i1 = (t + 1) * line / tiles;
            in.a = x + ky * p->width * s->c + i0;
            out.y = block + (ky * line + i0) * p->tile->nr;
            p->tile->product(tile, &in, (int)(i1 - i0), cols);
            p->tile->add(&out, tile, (int)(i1 - i0));
        }
    }
}

/* Where the chunk's x lies: copied into buf, or in place. */
static const float *chunk_x(float *buf, const plan *p, const chunk *k)
{
    const zs_conv *s = &p->s;
    if (!p->copy)
        return p->src.p + (k->n * s->h + k->y0) * s->w * s->c;
    int64_t rows = (k->rows - 1) * s->stride + s->k;
    for (int64_t i = 0; i < k->images; i++)
        zs_band_fill(buf + i * rows * p->width * s->c, &p->src, k->n + i, k->y0 * s->stride, rows,
                     p->width);
    return buf;
}

/* Units [begin, end) of parts x panels. */
static void run_units(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    int nr = p->tile->nr;
    float *blocks = (float *)p->c->ws + db_floats(p);
    float *buf = blocks + p->parts * p->panels * block_floats(p) + thread * chunk_floats(p);
    float *packed = buf + chunk_x_floats(p);
    for (int64_t u = begin; u < end; u++) {
        int64_t part = u / p->panels, o = u % p->panels * nr;
        float *block = blocks + u * block_floats(p);
        double *db = (double *)p->c->ws + u * nr;
        memset(block, 0, (size_t)(p->depth * nr) * sizeof *block);
        memset(db, 0, (size_t)nr * sizeof *db);
        for (int64_t i = part * p->chunks / p->parts; i < (part + 1) * p->chunks / p->parts; i++) {
            chunk k = chunk_of(p, i);
            const float *x = chunk_x(buf, p, &k);
            pack_dy(packed, db, p, &k, o);
            add_chunk(block, p, &k, x, packed, (int)zs_min64(nr, p->s.o - o));
        }
    }
}

/* dw += the blocks, rows [begin, end) of k*k*C. */
static void sum_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    int nr = p->tile->nr;
    const float *blocks = (const float *)p->c->ws + db_floats(p);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t panel = 0; panel < p->panels; panel++) {
            int64_t cols = zs_min64(nr, p->s.o - panel * nr);
            float sum[ZS_TILE_NR_MAX] = {0}, *dw = p->c->out[0].p + i * p->s.o + panel * nr;
            for (int64_t part = 0; part < p->parts; part++) {
                const float *b = blocks + (part * p->panels + panel) * block_floats(p) + i * nr;
                for (int64_t j = 0; j < cols; j++)
                    sum[j] += b[j];
            }
            for (int64_t j = 0; j < cols; j++)
                dw[j] += sum[j];
        }
    }
}

static void sum_db(const plan *p)
{
    const double *parts = p->c->ws;
    int64_t width = p->panels * p->tile->nr;
    for (int64_t j = 0; j < p->s.o; j++) {
        double sum = 0;
        for (int64_t part = 0; part < p->parts; part++)
            sum += parts[part * width + j];
        p->c->out[1].p[j] += (float)sum;
    }
}

bool zs_conv_direct_dw_can(const zs_call *c)
{
    (void)c;
    return true;
}

void zs_conv_direct_dw(const zs_call *c)
{
    plan p = plan_of(c);
    zs_parallel_for(p.parts * p.panels, 1, run_units, &p);
    zs_parallel_for(p.depth, 64, sum_rows, &p);
    if (c->out[1].p)
        sum_db(&p);
}
