/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv_few.h"
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/tile.h"

enum {
    K = 3,
    TAPS = K * K,
    OUTPUTS_MAX = 4,
    DEPTH_MIN = 16,     /* channels that pay for adding up the taps */
    BAND_PIXELS = 2048, /* of a band of results, at most (one row at least): its z stays in L2 */
    UNITS = 16          /* bands wanted, where the limit above leaves a choice */
};

/* y[n,oh,ow,o] from x[n,h,w,depth]; weight (tap, k, o) lies at w + tap*w_tap + k*w_k + o*w_o. */
typedef struct plan {
    const zs_call *c;
    int64_t n, h, w, depth, oh, ow, o, pad;
    const float *weights;
    int64_t w_tap, w_k, w_o;
    int64_t panels, ld;  /* of the 9*o columns of z, and columns with those that fill a panel */
    int64_t rows, bands; /* result rows of a band; bands of an image */
} plan;

static void plan_cut(plan *p)
{
    int nr = zs_tile_get()->nr;
    p->panels = zs_div_up(TAPS * p->o, nr);
    p->ld = p->panels * nr;
    int64_t most = zs_div_up(p->n * p->oh, UNITS);
    p->rows = zs_max64(1, zs_min64(zs_min64(BAND_PIXELS / p->w, most), p->oh));
    p->bands = zs_div_up(p->oh, p->rows);
}

static plan plan_fwd(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    plan p = {.c = c, .n = s.n, .h = s.h, .w = s.w, .depth = s.c};
    p.oh = s.yh, p.ow = s.yw, p.o = s.o, p.pad = s.pad;
    p.weights = c->in[1].p;
    p.w_tap = s.c * s.o, p.w_k = s.o, p.w_o = 1;
    plan_cut(&p);
    return p;
}

static plan plan_dx(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    plan p = {.c = c, .n = s.n, .h = s.yh, .w = s.yw, .depth = s.o};
    p.oh = s.h, p.ow = s.w, p.o = s.c, p.pad = K - 1 - s.pad;
    p.w_tap = -s.c * s.o, p.w_k = 1, p.w_o = s.o;
    if (c->in[1].p)
        p.weights = c->in[1].p + (TAPS - 1) * s.c * s.o;
    plan_cut(&p);
    return p;
}

static int64_t packed_floats(const plan *p)
{
    return zs_align16(p->ld * p->depth);
}

static int64_t z_floats(const plan *p)
{
    return (p->rows + K - 1) * p->w * p->ld;
}

static size_t plan_ws(const plan *p)
{
    return (size_t)(packed_floats(p) + p->c->threads * z_floats(p)) * sizeof(float);
}

/* The weights as panels [depth][nr]; column tap*o + j of z, zeros beyond the last. */
static void pack(float *dst, const plan *p)
{
    int nr = zs_tile_get()->nr;
    for (int64_t i = 0; i < p->ld; i++) {
        float *column = dst + i / nr * nr * p->depth + i % nr;
        const float *w = p->weights + i / p->o * p->w_tap + i % p->o * p->w_o;
        for (int64_t k = 0; k < p->depth; k++)
            column[k * nr] = i < TAPS * p->o ? w[k * p->w_k] : 0.0f;
    }
}

/* z[pixel][ld] of rows [y0, y1) of image n. */
static void products(float *z, const plan *p, int64_t n, int64_t y0, int64_t y1)
{
    zs_gemm g = {.a = p->c->in[0].p + (n * p->h + y0) * p->w * p->depth,
                 .y = z,
                 .m = (y1 - y0) * p->w,
                 .n = p->ld,
                 .depth = p->depth,
                 .a_row = p->depth,
                 .a_k = 1,
                 .ld = p->ld};
    const float *packed = p->c->ws;
    for (int64_t i = 0; i < p->panels; i++)
        zs_gemm_panel(&g, packed + i * zs_tile_get()->nr * p->depth, i, 0, g.m);
}

/* The result at (y, x) of image n; z begins at row `first` of the image. */
static void sum_taps(const plan *p, const float *z, int64_t first, int64_t n, int64_t y, int64_t x)
{
    float sum[OUTPUTS_MAX] = {0};
    const float *bias = p->c->in[2].p, *residual = p->c->in[3].p;
    int64_t o = p->o, at = ((n * p->oh + y) * p->ow + x) * o;
    for (int64_t t = 0; t < TAPS; t++) {
        int64_t iy = y + t / K - p->pad, ix = x + t % K - p->pad;
        if (iy < 0 || iy >= p->h || ix < 0 || ix >= p->w)
            continue;
        const float *v = z + ((iy - first) * p->w + ix) * p->ld + t * o;
        for (int64_t j = 0; j < o; j++)
            sum[j] += v[j];
    }
    for (int64_t j = 0; j < o; j++) {
        float v = bias ? sum[j] + bias[j] : sum[j];
        p->c->out[0].p[at + j] = residual ? v + residual[at + j] : v;
    }
}

/* Bands [begin, end) of all images. */
static void run_bands(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    float *z = (float *)p->c->ws + packed_floats(p) + thread * z_floats(p);
    for (int64_t b = begin; b < end; b++) {
        int64_t n = b / p->bands, y0 = b % p->bands * p->rows;
        int64_t y1 = zs_min64(y0 + p->rows, p->oh);
        int64_t first = zs_max64(y0 - p->pad, 0), last = zs_min64(y1 - p->pad + K - 1, p->h);
        if (first < last)
            products(z, p, n, first, last);
        for (int64_t y = y0; y < y1; y++)
            for (int64_t x = 0; x < p->ow; x++)
                sum_taps(p, z, first, n, y, x);
    }
}

static void run(plan *p)
{
    pack(p->c->ws, p);
    zs_parallel_for(p->n * p->bands, 1, run_bands, p);
}

bool zs_conv_few_can(const zs_call *c)
{
    zs_conv s = zs_conv_fwd(c);
    return s.k == K && s.stride == 1 && s.pad < K && s.o <= OUTPUTS_MAX && s.c >= DEPTH_MIN;
}

size_t zs_conv_few_ws(const zs_call *c)
{
    plan p = plan_fwd(c);
    return plan_ws(&p);
}

void zs_conv_few(const zs_call *c)
{
    plan p = plan_fwd(c);
    run(&p);
}

bool zs_conv_few_dx_can(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    return s.k == K && s.stride == 1 && s.pad < K && s.c <= OUTPUTS_MAX && s.o >= DEPTH_MIN;
}

size_t zs_conv_few_dx_ws(const zs_call *c)
{
    plan p = plan_dx(c);
    return plan_ws(&p);
}

void zs_conv_few_dx(const zs_call *c)
{
    plan p = plan_dx(c);
    run(&p);
}
