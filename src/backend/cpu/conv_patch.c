/* SPDX-License-Identifier: MIT */
#include "backend/cpu/conv_patch.h"
#include "backend/cpu/gemm.h"

#include <string.h>

/* dx[n,h,w,c] from dy[n,yh,yw,o] and w[k,k,c,o]. */
typedef struct plan {
    zs_conv s;
    const float *dy, *w;
    float *dx, *packed; /* [k][panels][panel_floats] */
    int64_t run;        /* floats of a row of a square */
    int64_t panels, panel_floats;
} plan;

static plan plan_of(const zs_call *c)
{
    plan p = {
        .s = zs_conv_dx(c), .dy = c->in[0].p, .w = c->in[1].p, .dx = c->out[0].p, .packed = c->ws};
    p.run = p.s.k * p.s.c;
    p.panel_floats = zs_gemm_packed(p.s.o, 1);
    p.panels = zs_gemm_packed(p.s.o, p.run) / p.panel_floats;
    return p;
}

/* Panels [begin, end) of all rows of a square. */
static void pack(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    (void)thread;
    for (int64_t u = begin; u < end; u++) {
        zs_gemm g = {.b = p->w + u / p->panels * p->run * p->s.o,
                     .n = p->run,
                     .depth = p->s.o,
                     .b_row = 1,
                     .b_col = p->s.o};
        zs_gemm_pack(p->packed + u * p->panel_floats, &g, u % p->panels);
    }
}

/* What is left of a row of pixels beyond the last square. */
static void clear(const plan *p, float *row, int64_t pixels)
{
    memset(row + pixels * p->s.c, 0, (size_t)((p->s.w - pixels) * p->s.c) * sizeof *row);
}

/* Rows of squares [begin, end) of n*yh; the last one of an image clears what is below it. */
static void rows(void *ctx, int64_t begin, int64_t end, int thread)
{
    const plan *p = ctx;
    const zs_conv *s = &p->s;
    (void)thread;
    for (int64_t u = begin; u < end; u++) {
        int64_t i = u % s->yh, y = i * s->k;
        float *row = p->dx + (u / s->yh * s->h + y) * s->w * s->c;
        for (int64_t r = 0; r < s->k; r++, y++, row += s->w * s->c) {
            zs_gemm g = {.a = p->dy + u * s->yw * s->o,
                         .y = row,
                         .m = s->yw,
                         .n = p->run,
                         .depth = s->o,
                         .a_row = s->o,
                         .a_k = 1,
                         .ld = p->run};
            for (int64_t j = 0; j < p->panels; j++)
                zs_gemm_panel(&g, p->packed + (r * p->panels + j) * p->panel_floats, j, 0, s->yw);
            clear(p, row, s->yw * s->k);
        }
        for (; i == s->yh - 1 && y < s->h; y++, row += s->w * s->c)
            clear(p, row, 0);
    }
}

bool zs_conv_patch_dx_can(const zs_call *c)
{
    zs_conv s = zs_conv_dx(c);
    return s.k > 1 && s.stride == s.k && s.pad == 0 && s.yh * s.k <= s.h && s.yw * s.k <= s.w;
}

size_t zs_conv_patch_dx_ws(const zs_call *c)
{
    plan p = plan_of(c);
    return (size_t)(p.s.k * p.panels * p.panel_floats) * sizeof(float);
}

void zs_conv_patch_dx(const zs_call *c)
{
    plan p = plan_of(c);
    zs_parallel_for(p.s.k * p.panels, 1, pack, &p);
    zs_parallel_for(p.s.n * p.s.yh, 1, rows, &p);
}
